//! Other isolation levels, transactions that the server rolls back, callers that go away, and several sweepers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking"
)]

mod support;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use cloakroom_core::record::{Record, Version};
use cloakroom_core::store::{
    Admission, AtCap, BySubject, Cap, Epoch, Found, Inserted, Reason, Replaced, Store, StoreErrorKind, Sweep,
};
use cloakroom_postgres::{PostgresOptions, PostgresStore};
use cloakroom_testkit::servers::Postgres;
use support::*;

fn capped(max: u32, at_cap: AtCap) -> Admission {
    Admission { cap: Some(Cap { max, at_cap }), ..admission() }
}

/// A superuser of one's own, so that its settings concern nobody else.
fn superuser(settings: &[&str]) -> PostgresOptions {
    let (server, role) = (Postgres::shared(), unique("su"));
    server.role(&role);
    server.sql("postgres", &format!("ALTER ROLE {role} SUPERUSER"));
    for setting in settings {
        server.sql("postgres", &format!("ALTER ROLE {role} SET {setting}"));
    }
    let options = PostgresOptions::parse(&server.url_of(&role, "postgres")).unwrap();
    options.schema(unique("races")).timeout(PATIENCE)
}

#[test]
fn r069_a_cap_is_exact_whatever_isolation_level_the_role_has_by_default() {
    for level in ["repeatable read", "serializable"] {
        runtime().block_on(async {
            let options = superuser(&[
                &format!("default_transaction_isolation = '{level}'"),
                "search_path = 'nowhere'",
                "statement_timeout = '1h'",
            ]);
            let (_, store) = prepared(options.pool_size(8)).await;
            let logins: Vec<_> = sessions(Some(&alice()), 40, 1)
                .into_iter()
                .map(|record| {
                    let store = store.clone();
                    // In use, or the next login would take its place.
                    let record = record.replacing(Version::from_number(0), NOW.plus(Duration::from_secs(1)));
                    tokio::spawn(async move { store.insert(record, capped(5, AtCap::Deny)).await.unwrap() })
                })
                .collect();
            let mut came_in = 0;
            for login in logins {
                match login.await.unwrap() {
                    Inserted::Inserted { .. } => came_in += 1,
                    other => assert_eq!(other, Inserted::CapReached),
                }
            }
            assert_eq!(came_in, 5, "{level}");
            assert_eq!(store.list(&alice()).await.unwrap().len(), 5);
        });
    }
}

/// Makes the first `times` changes of sessions fail with an SQL state, as a deadlock or a conflict would.
fn fail(schema: &str, state: &str, times: u32) {
    Postgres::shared().sql(
        "postgres",
        &format!(
            "CREATE SEQUENCE {schema}.failures;
             CREATE OR REPLACE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF nextval('{schema}.failures') <= {times} THEN
                 RAISE EXCEPTION 'made to fail' USING ERRCODE = '{state}';
               END IF;
               RETURN new;
             END $$;
             CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON {schema}.sessions FOR EACH ROW EXECUTE FUNCTION {schema}.fail()"
        ),
    );
}

#[test]
fn what_the_server_rolled_back_is_done_again_a_few_times() {
    runtime().block_on(async {
        for state in ["40P01", "40001"] {
            for (times, works) in [(2, true), (3, false)] {
                let schema = unique("again");
                let (_, store) = fresh(|options| options.schema(&schema)).await;
                fail(&schema, state, times);
                let record = session(Some(&alice()), 1);
                let inserted = store.insert(record.clone(), admission()).await;
                if works {
                    assert_eq!(inserted.unwrap(), admitted(), "{state}");
                    assert_eq!(store.find(record.handle()).await.unwrap(), Found::Live(record));
                } else {
                    let error = inserted.unwrap_err();
                    assert_eq!((error.kind(), error.may_retry()), (StoreErrorKind::Unavailable, true));
                    assert_eq!(store.find(record.handle()).await.unwrap(), Found::Absent);
                }
            }
        }
        // No other write is tried again, because nobody knows what came of it: a lost connection may have been lost after.
        for state in ["58000", "57P01"] {
            let schema = unique("once");
            let (_, store) = fresh(|options| options.schema(&schema)).await;
            fail(&schema, state, 1);
            let record = session(None, 1);
            assert!(store.insert(record.clone(), admission()).await.is_err(), "{state}");
            assert_eq!(store.insert(record, admission()).await.unwrap(), admitted());
        }
    });
}

/// Polls a future at most so many times, each time that it asks for it, and drops it then.
async fn drop_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            // The last poll went in vain, and there will be no other.
            Poll::Pending if left == 0 => Poll::Ready(None),
            answer => answer.map(Some),
        }
    })
    .await
}

/// What can be seen of a store's sessions of alice.
async fn state(store: &PostgresStore, records: &[Record]) -> (Vec<Found>, usize, Epoch) {
    let mut found = Vec::new();
    for record in records {
        found.push(store.find(record.handle()).await.unwrap());
    }
    (found, store.list(&alice()).await.unwrap().len(), store.epoch(&alice()).await.unwrap())
}

/// Drops an operation at every point where it waits, and checks that it then has happened completely or not at all, that others see
/// the same, and that the only connection is as good as new.
async fn dropped_anywhere<T>(name: &str, operation: impl AsyncFn(&PostgresStore, &[Record]) -> T) {
    let late = NOW.plus(Duration::from_secs(7200));
    for polls in 1..200 {
        let application = unique("dropped");
        let (options, _) = fresh(|options| options).await;
        let one = {
            let url = format!("{}?application_name={application}", Postgres::shared().url());
            let schema = format!("{options:?}");
            let schema = schema.split("schema: \"").nth(1).unwrap().split('"').next().unwrap();
            PostgresOptions::parse(&url).unwrap().schema(schema).pool_size(1).timeout(PATIENCE)
        };
        let (one, other) = (one.connect().await.unwrap(), options.connect().await.unwrap());
        let records = sessions(Some(&alice()), 4, 1);
        for record in &records[..3] {
            other.insert(record.clone(), admission()).await.unwrap();
        }
        if polls % 2 == 0 {
            // On a connection with its statements prepared, so that other points come up.
            one.insert(session(None, 99), admission()).await.unwrap();
            drop(one.insert(records[0].clone(), capped(1, AtCap::EvictOldest)).await.unwrap());
            drop(one.remove(session(None, 98).handle(), Reason::LoggedOut, NOW).await.unwrap());
            drop(one.sweep(NOW, limits(10)).await.unwrap());
        }
        let before = state(&other, &records).await;
        let finished = drop_after(polls, operation(&one, &records)).await.is_some();
        // On the same connection, so after all that was still on its way.
        let own = state(&one, &records).await;
        assert_eq!(state(&other, &records).await, own, "{name} after {polls} polls: seen from outside");
        let idle = Postgres::shared().sql(
            "postgres",
            &format!(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}'
                 AND state LIKE 'idle in transaction%'"
            ),
        );
        assert_eq!(idle, "0", "{name} after {polls} polls: a transaction is open");
        if own != before {
            // It has happened; then doing it again changes nothing that its like would change.
            let count = |found: &[Found], live: bool| {
                found.iter().filter(|found| matches!(found, Found::Live(_)) == live).count()
            };
            let (was, is) = (count(&before.0, true), count(&own.0, true));
            let whole = match name {
                // The new one is there, and exactly one of the others has made room.
                "insert" => matches!(own.0[3], Found::Live(_)) && is == was,
                "remove" => matches!(own.0[0], Found::Ended(_)) && is == was - 1,
                "remove_all" => is == 0 && own.1 == 0 && own.2 != before.2,
                "sweep" => is == 0,
                "replace" | "touch" => is == was,
                _ => panic!("{name}?"),
            };
            assert!(whole, "{name} after {polls} polls is half-done: {own:?}");
            assert_eq!(own.1, is, "{name} after {polls} polls: the list");
        }
        // Nothing is locked.
        for record in &records[..3] {
            drop(other.remove(record.handle(), Reason::Revoked, late).await.unwrap());
        }
        other.remove_all(&alice(), None, Reason::RevokedAll, late).await.unwrap();
        if finished && polls % 2 == 1 {
            return;
        }
    }
    panic!("{name} never finished");
}

#[test]
fn r053_a_dropped_insert_has_happened_completely_or_not_at_all() {
    runtime().block_on(dropped_anywhere("insert", async |store, records| {
        store.insert(records[3].clone(), capped(3, AtCap::EvictOldest)).await.unwrap()
    }));
}

#[test]
fn r053_a_dropped_removal_has_happened_completely_or_not_at_all() {
    runtime().block_on(dropped_anywhere("remove", async |store, records| {
        store.remove(records[0].handle(), Reason::LoggedOut, NOW).await.unwrap()
    }));
}

#[test]
fn r053_a_dropped_end_of_all_sessions_has_happened_completely_or_not_at_all() {
    runtime().block_on(dropped_anywhere("remove_all", async |store, _| {
        store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap()
    }));
}

#[test]
fn r053_a_dropped_replace_or_touch_has_happened_completely_or_not_at_all() {
    runtime().block_on(async {
        dropped_anywhere("replace", async |store, records| {
            store.replace(records[0].version(), records[0].clone()).await.unwrap()
        })
        .await;
        dropped_anywhere("touch", async |store, records| {
            store.touch(records[0].handle(), NOW.plus(Duration::from_secs(1))).await.unwrap();
        })
        .await;
    });
}

#[test]
fn a_dropped_sweep_has_happened_completely_or_not_at_all() {
    runtime().block_on(dropped_anywhere("sweep", async |store, _| {
        store.sweep(NOW.plus(Duration::from_secs(7200)), limits(100)).await.unwrap()
    }));
}

#[test]
fn several_sweepers_do_not_wait_for_one_another() {
    runtime().block_on(async {
        let schema = unique("sweepers");
        let (_, store) = fresh(|options| options.schema(&schema).pool_size(4)).await;
        for record in sessions(None, 60, 1) {
            store.insert(record, admission()).await.unwrap();
        }
        let late = NOW.plus(Duration::from_secs(7200));
        // Another sweeper is in the middle of its work, and stays there.
        let server = Postgres::shared();
        let (held, driver) =
            tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(driver);
        held.batch_execute(&format!(
            "BEGIN; SELECT FROM {schema}.sessions WHERE handle IN (SELECT handle FROM {schema}.sessions LIMIT 20) FOR UPDATE"
        ))
        .await
        .unwrap();
        let report = store.sweep(late, limits(100)).await.unwrap();
        assert_eq!((report.swept.len(), report.more), (40, false));
        held.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(store.sweep(late, limits(100)).await.unwrap().swept.len(), 20);

        // And of several at once, each session is ended by one.
        let records = sessions(None, 60, 2);
        for record in &records {
            store.insert(record.clone(), admission()).await.unwrap();
        }
        let (a, b, c) = tokio::join!(
            store.sweep(late, limits(60)),
            store.sweep(late, limits(60)),
            store.sweep(late, limits(60))
        );
        let mut swept: Vec<_> =
            [a, b, c].into_iter().flat_map(|report| report.unwrap().swept).map(|swept| swept.handle).collect();
        swept.extend(store.sweep(late, limits(60)).await.unwrap().swept.iter().map(|swept| swept.handle));
        swept.sort();
        let mut all: Vec<_> = records.iter().map(Record::handle).collect();
        all.sort();
        assert_eq!(swept, all);
    });
}

#[test]
fn a_replace_that_waited_for_another_write_says_what_came_of_it() {
    runtime().block_on(async {
        let schema = unique("waited");
        let (_, store) = fresh(|options| options.schema(&schema)).await;
        let server = Postgres::shared();
        let (held, driver) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(driver);
        let cases = [
            ("UPDATE {s}.sessions SET version = version + 1", Replaced::Stale),
            ("UPDATE {s}.sessions SET seen = seen + 1", Replaced::Replaced),
            ("UPDATE {s}.sessions SET ended = true", Replaced::Gone),
            ("DELETE FROM {s}.sessions", Replaced::Gone),
        ];
        for (seed, (change, expected)) in (1..).zip(cases) {
            let record = session(None, seed);
            store.insert(record.clone(), admission()).await.unwrap();
            let change = change.replace("{s}", &schema);
            held.batch_execute(&format!("BEGIN; {change}")).await.unwrap();
            let replacing = tokio::spawn({
                let (store, record) = (store.clone(), record.clone());
                async move { store.replace(record.version(), record).await }
            });
            waits_for_a_lock(&schema);
            held.batch_execute("COMMIT").await.unwrap();
            assert_eq!(replacing.await.unwrap().unwrap(), expected, "{change}");
            held.batch_execute(&format!("DELETE FROM {schema}.sessions")).await.unwrap();
        }
    });
}

/// Returns once somebody waits for a lock in a statement on that schema.
fn waits_for_a_lock(schema: &str) {
    for _ in 0..10_000 {
        let waiting = Postgres::shared().sql(
            "postgres",
            &format!(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE wait_event_type = 'Lock' AND query LIKE '%{schema}%' AND pid <> pg_backend_pid()"
            ),
        );
        if waiting != "0" {
            return;
        }
    }
    panic!("nobody waits");
}

#[test]
fn a_login_waits_for_an_end_of_all_sessions_that_came_first_and_then_loses() {
    runtime().block_on(async {
        let schema = unique("superseded");
        let (_, store) = fresh(|options| options.schema(&schema)).await;
        let record = session(Some(&alice()), 1);
        store.insert(record.clone(), admission()).await.unwrap();
        let server = Postgres::shared();
        let (held, driver) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(driver);
        // Holds up the end of all sessions in its middle: it has the subject's lock, and waits for this row.
        held.batch_execute(&format!("BEGIN; SELECT FROM {schema}.sessions FOR UPDATE")).await.unwrap();
        let ending = tokio::spawn({
            let store = store.clone();
            async move { store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await }
        });
        waits_for_a_lock(&schema);
        let login = tokio::spawn({
            let (store, record) = (store.clone(), session(Some(&alice()), 2));
            async move { store.insert(record, admission()).await }
        });
        for _ in 0..10_000 {
            let advisory = server
                .sql("postgres", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
            if advisory != "0" {
                break;
            }
        }
        held.batch_execute("COMMIT").await.unwrap();
        assert_eq!(ending.await.unwrap().unwrap().ended, [record.handle()]);
        assert_eq!(login.await.unwrap().unwrap(), Inserted::Superseded);
        let since = store.epoch(&alice()).await.unwrap();
        let again = store.insert(session(Some(&alice()), 3), Admission { since, ..admission() }).await;
        assert_eq!(again.unwrap(), admitted());
    });
}
