//! Making the tables by command, refusing what does not fit, and the rights of a role that only uses them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking"
)]

mod support;

use cloakroom_core::store::{
    Admission, AtCap, BySubject, Cap, EndNotice, Epoch, Fault, Found, Inserted, PepperClaim, Reason,
    Replaced, Shared, Store, Sweep,
};
use cloakroom_postgres::{OpenError, PostgresOptions};
use cloakroom_testkit::servers::{Postgres, PostgresSettings};
use support::*;

/// Every table, column, constraint and index of a schema, one a line.
fn shape(schema: &str) -> String {
    Postgres::shared().sql(
        "postgres",
        &format!(
            "SELECT format('%s %s %s %s %s', relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull)
               || attstorage::text || coalesce(reloptions::text, '')
             FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
             WHERE relnamespace = '{schema}'::regnamespace AND attnum > 0
             UNION ALL SELECT replace(indexdef, '{schema}.', '') FROM pg_indexes WHERE schemaname = '{schema}'
             UNION ALL SELECT conrelid::regclass::text || pg_get_constraintdef(oid) FROM pg_constraint
             WHERE connamespace = '{schema}'::regnamespace
             ORDER BY 1"
        ),
    )
    .replace(&format!("{schema}."), "")
}

fn name(options: &PostgresOptions) -> String {
    let shown = format!("{options:?}");
    shown.split("schema: \"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[test]
fn a_database_that_was_not_prepared_says_which_command_prepares_it() {
    runtime().block_on(async {
        let options = options();
        let error = options.clone().connect().await.unwrap_err();
        assert!(matches!(error, OpenError::Missing { .. }), "{error:?}");
        assert!(error.to_string().contains("run `cloakroom migrate`"), "{error}");
        assert_eq!((error.fault(), error.may_retry()), (Fault::Setup, false));
        // Nothing was made by the way.
        let schemas = Postgres::shared().sql(
            "postgres",
            &format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{}'", name(&options)),
        );
        assert_eq!(schemas, "0");
    });
}

#[test]
fn a_migration_makes_the_tables_once() {
    runtime().block_on(async {
        let options = options();
        let first = options.migrate().await.unwrap();
        assert_eq!((first.from, first.to), (0, 1));
        options.clone().connect().await.unwrap();
        assert_eq!(options.pending().await.unwrap(), "");
        let before = shape(&name(&options));
        let second = options.migrate().await.unwrap();
        assert_eq!((second.from, second.to), (1, 1));
        assert_eq!(shape(&name(&options)), before);
    });
}

#[test]
fn of_several_migrations_at_once_one_makes_the_tables() {
    runtime().block_on(async {
        let options = options();
        let (a, b, c, d) =
            tokio::join!(options.migrate(), options.migrate(), options.migrate(), options.migrate());
        let mut from = [a, b, c, d].map(|migrated| migrated.unwrap().from);
        from.sort_unstable();
        assert_eq!(from, [0, 1, 1, 1]);
        options.connect().await.unwrap();
    });
}

#[test]
fn what_a_dry_run_prints_is_what_a_migration_does() {
    runtime().block_on(async {
        let (by_hand, by_command) = (options(), options());
        let script = by_hand.pending().await.unwrap();
        // As by `psql -c`, in one go.
        Postgres::shared().sql("postgres", &script);
        assert_eq!(by_hand.pending().await.unwrap(), "");
        by_command.migrate().await.unwrap();
        assert_eq!(shape(&name(&by_hand)), shape(&name(&by_command)));
        assert!(shape(&name(&by_hand)).contains("handle"), "there is something to compare");
        by_hand.connect().await.unwrap();
        // And all or nothing: what was half there stays as it was.
        let half = options();
        let script = half.pending().await.unwrap();
        let schema = name(&half);
        Postgres::shared()
            .sql("postgres", &format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.epochs (x int)"));
        let error = half.migrate().await.unwrap_err();
        assert!(matches!(error, OpenError::Server(_)), "{error:?}");
        assert_eq!(shape(&schema).lines().count(), 1, "only the table that was there");
        assert!(script.starts_with("BEGIN;\n") && script.ends_with("COMMIT;\n"), "{script}");
    });
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    runtime().block_on(async {
        let (options, _) = fresh(|options| options).await;
        let schema = name(&options);
        let meta = || Postgres::shared().sql("postgres", &format!("SELECT value FROM {schema}.meta"));
        Postgres::shared().sql("postgres", &format!("UPDATE {schema}.meta SET value = '7'"));
        let errors = [
            options.clone().connect().await.unwrap_err(),
            options.migrate().await.unwrap_err(),
            options.pending().await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, OpenError::Newer { found: 7, known: 1, .. }), "{error:?}");
            assert!(error.to_string().contains("upgrade the program"), "{error}");
        }
        assert_eq!(meta(), "7");
        // An earlier one says what to do.
        Postgres::shared().sql("postgres", &format!("UPDATE {schema}.meta SET value = '0'"));
        let error = options.clone().connect().await.unwrap_err();
        assert!(matches!(error, OpenError::Older { found: 0, known: 1, .. }), "{error:?}");
        assert!(error.to_string().contains("run `cloakroom migrate`"), "{error}");
        // And what is no version is no reason to go on.
        Postgres::shared().sql("postgres", &format!("UPDATE {schema}.meta SET value = 'one'"));
        assert!(matches!(options.connect().await.unwrap_err(), OpenError::Server(_)));
    });
}

#[test]
fn a_schema_may_have_any_name() {
    runtime().block_on(async {
        for name in ["Über \"alles\"; --", "select"] {
            let (options, store) = fresh(|options| options.schema(unique(name))).await;
            let (heard, listener) = listener();
            store.on_end(listener);
            heard.wait_for(EndNotice::Missed).await;
            let record = session(Some(&alice()), 1);
            assert_eq!(store.insert(record.clone(), admission()).await.unwrap(), admitted());
            store.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap();
            heard.wait_for(EndNotice::Ended(record.handle())).await;
            Postgres::shared().sql("postgres", &options.grants("public").replace("\"public\"", "public"));
        }
    });
}

#[test]
fn a_role_that_may_not_create_schemas_migrates_into_one_that_it_was_given() {
    let server = Postgres::shared();
    let (role, schema) = (unique("owner"), unique("given"));
    server.role(&role);
    server.sql("postgres", &format!("CREATE SCHEMA {schema} AUTHORIZATION {role}"));
    let options = PostgresOptions::parse(&server.url_of(&role, "postgres")).unwrap();
    runtime().block_on(async {
        let error = options.clone().schema(unique("none")).migrate().await.unwrap_err();
        assert!(matches!(error, OpenError::NotGranted { .. }), "{error:?}");
        let options = options.schema(schema);
        options.migrate().await.unwrap();
        options.connect().await.unwrap();
    });
}

/// A role with the documented rights only, on a schema that another owns.
async fn user(server: &Postgres) -> (String, PostgresOptions) {
    let role = unique("app");
    server.role(&role);
    let owner = options_on(server);
    owner.migrate().await.unwrap();
    server.sql("postgres", &owner.grants(&role));
    let schema = name(&owner);
    (schema.clone(), PostgresOptions::parse(&server.url_of(&role, "postgres")).unwrap().schema(schema))
}

#[test]
fn r129_the_documented_rights_are_enough_for_every_operation() {
    runtime().block_on(async {
        let (_, options) = user(Postgres::shared()).await;
        let store = options.connect().await.unwrap();
        let (heard, listener) = listener();
        store.on_end(listener);
        heard.wait_for(EndNotice::Missed).await;
        let anonymous = session(None, 1);
        assert_eq!(store.insert(anonymous.clone(), admission()).await.unwrap(), admitted());
        let [first, second] = <[_; 2]>::try_from(sessions(Some(&alice()), 2, 2)).unwrap();
        let capped = Admission { cap: Some(Cap { max: 1, at_cap: AtCap::EvictOldest }), ..admission() };
        assert_eq!(store.insert(first.clone(), capped).await.unwrap(), admitted());
        let evicted = Inserted::Inserted { evicted: vec![first.handle()] };
        assert_eq!(store.insert(second.clone(), capped).await.unwrap(), evicted);
        let replaced = store.replace(second.version(), second.clone()).await.unwrap();
        assert_eq!(replaced, Replaced::Replaced);
        store.touch(second.handle(), NOW.plus(std::time::Duration::from_secs(1))).await.unwrap();
        assert_eq!(store.list(&alice()).await.unwrap().len(), 1);
        assert_eq!(store.epoch(&alice()).await.unwrap(), Epoch::default());
        let all = store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap();
        assert_eq!(all.ended, [second.handle()]);
        store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap();
        assert!(store.remove(anonymous.handle(), Reason::LoggedOut, NOW).await.unwrap().is_some());
        heard.wait_for(EndNotice::Ended(anonymous.handle())).await;
        let limits = limits(100);
        store.sweep(NOW.plus(limits.epoch_ttl).plus(limits.epoch_ttl), limits).await.unwrap();
        assert_eq!(store.find(second.handle()).await.unwrap(), Found::Absent);
        store.time().await.unwrap();
        let pepper = cloakroom_core::seal::PepperId::from_bytes([1; 8]);
        assert_eq!(store.claim_pepper(pepper, &[]).await.unwrap(), PepperClaim::Accepted);
        assert!(!store.warnings().await.unwrap().iter().any(|warning| warning.contains("superuser")));
        let since = Admission { since: store.epoch(&alice()).await.unwrap(), ..admission() };
        assert_eq!(store.insert(session(Some(&alice()), 9), since).await.unwrap(), admitted());
    });
}

#[test]
fn r129_the_documented_rights_are_no_more_than_needed() {
    let server = Postgres::shared();
    runtime().block_on(async {
        let (schema, options) = user(server).await;
        let debug = format!("{options:?}");
        let role = debug.split("user: Some(\"").nth(1).unwrap().split('"').next().unwrap();
        // Each of the rights is missed when it is gone.
        let rights = [
            ("meta", "SELECT"),
            ("peppers", "SELECT"),
            ("peppers", "INSERT"),
            ("epochs", "SELECT"),
            ("epochs", "INSERT"),
            ("epochs", "UPDATE"),
            ("epochs", "DELETE"),
            ("sessions", "SELECT"),
            ("sessions", "INSERT"),
            ("sessions", "UPDATE"),
            ("sessions", "DELETE"),
        ];
        for (table, right) in rights {
            let change = |verb: &str, link: &str| {
                server.sql("postgres", &format!("{verb} {right} ON {schema}.{table} {link} {role}"))
            };
            change("REVOKE", "FROM");
            let error = options.clone().connect().await.unwrap_err();
            assert!(matches!(error, OpenError::NotGranted { .. }), "{right} on {table}: {error:?}");
            assert!(error.to_string().contains("migrate --grants"), "{error}");
            change("GRANT", "TO");
        }
        options.connect().await.unwrap();
        // And there is no other.
        let all = server.sql(
            "postgres",
            &format!(
                "SELECT count(*) FROM information_schema.role_table_grants WHERE grantee = '{role}'
                 UNION ALL SELECT has_schema_privilege('{role}', '{schema}', 'CREATE')::int"
            ),
        );
        assert_eq!(all, format!("{}\n0", rights.len()));
    });
}

#[test]
fn settings_that_weaken_a_promise_are_named() {
    runtime().block_on(async {
        let (_, store) = fresh(|options| options).await;
        let warnings = store.warnings().await.unwrap().join("\n");
        assert!(warnings.contains("fsync = off") && warnings.contains("superuser"), "{warnings}");
    });
}

#[test]
fn a_server_with_its_defaults_and_a_role_of_few_rights_need_no_warning() {
    let server = Postgres::start(PostgresSettings::new());
    runtime().block_on(async {
        let (_, options) = user(&server).await;
        let store = options.connect().await.unwrap();
        assert_eq!(store.warnings().await.unwrap(), Vec::<String>::new());
    });
    let settings = ["full_page_writes", "autovacuum"];
    for name in settings {
        server.sql("postgres", &format!("ALTER SYSTEM SET {name} = off"));
    }
    server.sql("postgres", "SELECT pg_reload_conf()");
    runtime().block_on(async {
        let (_, options) = user(&server).await;
        // A reload arrives when it arrives; each new connection may be the first that has it.
        for _ in 0..10_000 {
            let warnings = options.clone().connect().await.unwrap().warnings().await.unwrap().join("\n");
            if settings.iter().all(|name| warnings.contains(&format!("{name} = off"))) {
                return;
            }
        }
        panic!("the settings are not named");
    });
}
