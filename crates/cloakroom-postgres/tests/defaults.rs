//! What a role or a database has by default undoes no promise of the store's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking"
)]

mod support;

use cloakroom_core::store::{Found, Reason, Store, StoreErrorKind};
use cloakroom_postgres::PostgresOptions;
use cloakroom_testkit::servers::Postgres;
use support::*;

/// Options for a role of one's own with few rights, whose defaults are these; and its schema.
async fn role_with(defaults: &[(&str, &str)]) -> (PostgresOptions, String) {
    let server = Postgres::shared();
    let (role, schema) = (unique("defaults"), unique("defaults"));
    server.role(&role);
    let (owner, _) = fresh(|options| options.schema(&schema)).await;
    server.sql("postgres", &owner.grants(&role));
    for (name, value) in defaults {
        server.sql("postgres", &format!("ALTER ROLE {role} SET {name} = {value}"));
    }
    let options = PostgresOptions::parse(&server.url_of(&role, "postgres")).unwrap();
    (options.schema(&schema).timeout(PATIENCE).pool_size(1), schema)
}

/// What a setting is in the pool's connections: noted by a trigger on the sessions.
async fn in_use(schema: &str, options: PostgresOptions, names: &[&str]) -> Vec<String> {
    let server = Postgres::shared();
    let noted: Vec<_> = names.iter().map(|name| format!("current_setting('{name}', true)")).collect();
    server.sql(
        "postgres",
        &format!(
            "CREATE TABLE {schema}.noted (value text);
             CREATE FUNCTION {schema}.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
               INSERT INTO {schema}.noted VALUES ({}); RETURN NEW; END $$;
             CREATE TRIGGER note AFTER INSERT ON {schema}.sessions FOR EACH ROW EXECUTE FUNCTION {schema}.note()",
            noted.join("), (")
        ),
    );
    let store = options.connect().await.unwrap();
    store.insert(session(None, 1), admission()).await.unwrap();
    server.sql("postgres", &format!("SELECT value FROM {schema}.noted")).lines().map(str::to_owned).collect()
}

#[test]
fn r054_what_a_role_has_by_default_weakens_nothing() {
    let table = [
        ("client_min_messages", "error", "warning"),
        ("synchronous_commit", "off", "on"),
        ("default_transaction_isolation", "serializable", "read committed"),
        ("transaction_isolation", "serializable", "read committed"),
        ("default_transaction_deferrable", "on", "off"),
        ("row_security", "on", "off"),
        ("standard_conforming_strings", "off", "on"),
        ("statement_timeout", "'1h'", "2min"),
        ("lock_timeout", "'1h'", "2min"),
        ("idle_in_transaction_session_timeout", "'1h'", "2min"),
        ("idle_session_timeout", "'1h'", "0"),
        ("search_path", "nowhere", "\"\""),
        ("enable_seqscan", "on", "off"),
    ];
    runtime().block_on(async {
        // That of a running transaction is no default.
        let defaults = table.iter().filter(|(name, ..)| *name != "transaction_isolation");
        let defaults: Vec<_> = defaults.map(|(name, default, _)| (*name, *default)).collect();
        let (options, schema) = role_with(&defaults).await;
        let names: Vec<_> = table.iter().map(|(name, ..)| *name).collect();
        let found = in_use(&schema, options, &names).await;
        let found: Vec<_> = names.into_iter().zip(found).collect();
        let expected: Vec<_> = table.iter().map(|(name, _, used)| (*name, (*used).to_owned())).collect();
        assert_eq!(found, expected);
    });
}

#[test]
fn a_commit_that_waits_for_more_than_the_disk_goes_on_doing_so() {
    for (default, used) in [("remote_apply", "remote_apply"), ("local", "on"), ("on", "on")] {
        runtime().block_on(async {
            let (options, schema) = role_with(&[("synchronous_commit", default)]).await;
            assert_eq!(in_use(&schema, options, &["synchronous_commit"]).await, [used], "{default}");
        });
    }
}

#[test]
fn a_role_that_only_reads_by_default_is_refused_before_anything_is_asked_of_it() {
    runtime().block_on(async {
        let (options, _) = role_with(&[("default_transaction_read_only", "on")]).await;
        let error = options.connect().await.unwrap_err();
        assert!(error.may_retry(), "{error:?}");
    });
}

#[test]
fn r070_sessions_that_a_policy_on_rows_hides_are_an_error_and_not_absent() {
    let server = Postgres::shared();
    runtime().block_on(async {
        let (options, schema) = role_with(&[("row_security", "on")]).await;
        let store = options.connect().await.unwrap();
        let record = session(None, 1);
        store.insert(record.clone(), admission()).await.unwrap();
        server.sql("postgres", &format!("ALTER TABLE {schema}.sessions ENABLE ROW LEVEL SECURITY"));
        let error = store.find(record.handle()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        store.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap_err();
        server.sql("postgres", &format!("ALTER TABLE {schema}.sessions DISABLE ROW LEVEL SECURITY"));
        assert_eq!(store.find(record.handle()).await.unwrap(), Found::Live(record));
    });
}
