//! A server that is killed, that hangs, that cuts connections, or that is not there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloakroom_core::record::Record;
use cloakroom_core::store::{
    BySubject, Epoch, Fault, Found, Inserted, Reason, Store, StoreError, StoreErrorKind, Sweep,
};
use cloakroom_core::token::Handle;
use cloakroom_postgres::{OpenError, PostgresOptions, PostgresStore};
use cloakroom_testkit::servers::{Postgres, PostgresSettings, free_port};
use support::*;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Short enough for a test to wait for it.
const IMPATIENCE: Duration = Duration::from_millis(300);

fn assert_unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    let error = answer.expect_err("an operation succeeded without a server");
    assert_eq!((error.kind(), error.may_retry()), (StoreErrorKind::Unavailable, true), "{error:?}");
}

/// Asks until there is an answer again; each failure must be one that a retry may mend.
async fn recovers(store: &PostgresStore) {
    let asking = async {
        loop {
            match store.find(Handle::from_bytes([9; 16])).await {
                Ok(found) => {
                    assert_eq!(found, Found::Absent);
                    return;
                }
                Err(error) => assert_unavailable::<()>(Err(error)),
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the store does not recover");
}

/// What the writers were told. Logins are inserted, each logout removes a session that was there before.
#[derive(Default)]
struct Acknowledged {
    inserted: BTreeSet<Handle>,
    removed: BTreeSet<Handle>,
}

/// Writes until told to end; after a failure, once the store has recovered.
async fn write(
    store: PostgresStore,
    mut work: impl Iterator<Item = (Record, Record)>,
    end: Arc<AtomicBool>,
    told: UnboundedSender<()>,
) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    while !end.load(Ordering::SeqCst) {
        let (login, logout) = work.next().expect("the writers have no more work");
        let inserted = store.insert(login.clone(), admission()).await;
        let removed = store.remove(logout.handle(), Reason::LoggedOut, NOW).await;
        let failed = inserted.is_err() || removed.is_err();
        match inserted {
            Ok(answer) => {
                assert_eq!(answer, admitted());
                acknowledged.inserted.insert(login.handle());
            }
            Err(error) => assert_unavailable::<()>(Err(error)),
        }
        match removed {
            Ok(answer) => {
                assert!(answer.is_some());
                acknowledged.removed.insert(logout.handle());
            }
            Err(error) => assert_unavailable::<()>(Err(error)),
        }
        if failed {
            recovers(&store).await;
        } else {
            told.send(()).expect("the test listens");
        }
    }
    acknowledged
}

#[test]
fn r054_what_was_acknowledged_survives_a_kill_of_the_server() {
    const WRITERS: u64 = 4;
    const EACH: usize = 500;
    let server = Postgres::start(PostgresSettings::new());
    runtime().block_on(async {
        let (_, store) = prepared(options_on(&server).timeout(Duration::from_secs(30))).await;
        let end = Arc::<AtomicBool>::default();
        let (sender, mut told) = unbounded_channel();
        let mut work = Vec::new();
        for seed in 0..WRITERS {
            let logins = sessions(Some(&alice()), EACH, 1000 + seed);
            let logouts = sessions(None, EACH, 2000 + seed);
            for record in &logouts {
                assert_eq!(store.insert(record.clone(), admission()).await.unwrap(), admitted());
            }
            work.push(logins.into_iter().zip(logouts));
        }
        let begin = |work| tokio::spawn(write(store.clone(), work, Arc::clone(&end), sender.clone()));
        let writers: Vec<_> = work.into_iter().map(begin).collect();
        for _ in 0..2 {
            // Well on its way, and more to come while the server dies.
            for _ in 0..60 {
                told.recv().await.expect("the writers have ended");
            }
            tokio::task::block_in_place(|| {
                server.kill();
                server.start_again();
            });
            recovers(&store).await;
            while told.try_recv().is_ok() {}
        }
        end.store(true, Ordering::SeqCst);
        let mut acknowledged = Acknowledged::default();
        for writer in writers {
            let Acknowledged { inserted, removed } = writer.await.unwrap();
            acknowledged.inserted.extend(inserted);
            acknowledged.removed.extend(removed);
        }
        for handle in &acknowledged.removed {
            let Found::Ended(tombstone) = store.find(*handle).await.unwrap() else {
                panic!("an acknowledged logout was forgotten")
            };
            assert_eq!(tombstone.reason(), Reason::LoggedOut);
        }
        for handle in &acknowledged.inserted {
            assert!(
                matches!(store.find(*handle).await.unwrap(), Found::Live(_)),
                "an acknowledged login was forgotten"
            );
        }
        // Everything that is there is whole.
        assert!(store.list(&alice()).await.unwrap().len() >= acknowledged.inserted.len());
        assert_eq!(store.epoch(&alice()).await.unwrap(), Epoch::default());
    });
}

#[test]
fn r070_a_server_that_hangs_is_unavailable_and_never_says_that_a_session_is_absent() {
    let server = Postgres::start(PostgresSettings::new().fleeting());
    runtime().block_on(async {
        let options = options_on(&server);
        let (_, patient) = prepared(options.clone()).await;
        let store = options.timeout(IMPATIENCE).pool_size(2).connect().await.unwrap();
        let records = sessions(Some(&alice()), 3, 1);
        for record in &records[..2] {
            assert_eq!(patient.insert(record.clone(), admission()).await.unwrap(), admitted());
        }
        // So that there are connections that hang, and none that is only being opened.
        recovers(&store).await;
        server.pause();
        let whose = alice();
        // More at once than there are connections, so that some wait for one in vain.
        let (a, b, c, d) = tokio::join!(
            store.find(records[0].handle()),
            store.remove(records[0].handle(), Reason::LoggedOut, NOW),
            store.insert(records[2].clone(), admission()),
            store.list(&whose),
        );
        assert_unavailable(a);
        assert_unavailable(b);
        assert_unavailable(c);
        assert_unavailable(d);
        let handle = records[1].handle();
        assert_unavailable(store.touch(handle, NOW).await);
        assert_unavailable(store.replace(records[1].version(), records[1].clone()).await);
        assert_unavailable(store.epoch(&alice()).await);
        assert_unavailable(store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await);
        assert_unavailable(store.sweep(NOW, limits(10)).await);
        assert_unavailable(store.time().await);
        server.resume();
        recovers(&store).await;
        // What was given up may have happened or not; nothing is held up by it, and nothing is half-done.
        let late = NOW.plus(Duration::from_secs(1));
        let removed = patient.remove(records[0].handle(), Reason::Revoked, late).await.unwrap();
        let Found::Ended(tombstone) = patient.find(records[0].handle()).await.unwrap() else {
            panic!("alive")
        };
        let expected = if removed.is_some() { Reason::Revoked } else { Reason::LoggedOut };
        assert!([expected, Reason::RevokedAll].contains(&tombstone.reason()), "{tombstone:?}");
        patient.remove_all(&alice(), None, Reason::RevokedAll, late).await.unwrap();
        assert_eq!(patient.list(&alice()).await.unwrap(), []);
    });
}

/// Whatever the server has been told: neither to keep its warnings to itself, nor not to wait for the standby.
#[test]
fn r054_a_logout_that_the_synchronous_standby_does_not_have_is_not_acknowledged() {
    let quiet = ["client_min_messages=error", "synchronous_commit=local"];
    for settings in [&[][..], &quiet[..1], &quiet] {
        let server = settings.iter().fold(PostgresSettings::new().fleeting(), |all, one| all.parameter(*one));
        unacknowledged(&Postgres::start(server));
    }
}

fn unacknowledged(server: &Postgres) {
    runtime().block_on(async {
        let (options, patient) = prepared(options_on(server)).await;
        let records = sessions(None, 2, 1);
        for record in &records {
            assert_eq!(patient.insert(record.clone(), admission()).await.unwrap(), admitted());
        }
        let store = options.timeout(IMPATIENCE).connect().await.unwrap();
        let standby = |name: &str| {
            server.sql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"));
            server.sql("postgres", "SELECT pg_reload_conf()");
            // It arrives when it arrives.
            for _ in 0..10_000 {
                if server.sql("postgres", "SHOW synchronous_standby_names") == name {
                    return;
                }
            }
            panic!("the setting does not arrive");
        };
        let waiting = || -> bool {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            server.sql("postgres", sql) != "0"
        };
        standby("nobody");
        // The server has timeouts as well, and must not take them for a reason to say that all is well.
        assert_unavailable(store.remove(records[0].handle(), Reason::LoggedOut, NOW).await);
        assert!(waiting());
        // Nor may an operator who loses his patience make it one.
        let removing = tokio::spawn({
            let (patient, handle) = (patient.clone(), records[1].handle());
            async move { patient.remove(handle, Reason::LoggedOut, NOW).await }
        });
        while !removing.is_finished() {
            server.sql(
                "postgres",
                "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
            );
        }
        assert_unavailable(removing.await.unwrap());
        standby("");
        while waiting() {}
        assert!(matches!(patient.find(records[1].handle()).await.unwrap(), Found::Ended(_)));
        // The pool is as good as before.
        assert_eq!(patient.insert(session(None, 9), admission()).await.unwrap(), admitted());
    });
}

#[test]
fn a_lock_that_somebody_keeps_holds_up_its_own_session_only() {
    let server = Postgres::shared();
    runtime().block_on(async {
        let schema = unique("held");
        let (options, _) = fresh(|options| options.schema(&schema)).await;
        let store = options.timeout(IMPATIENCE).pool_size(1).connect().await.unwrap();
        let [locked, free] = <[_; 2]>::try_from(sessions(None, 2, 1)).unwrap();
        for record in [&locked, &free] {
            assert_eq!(store.insert(record.clone(), admission()).await.unwrap(), admitted());
        }
        let (held, driver) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(driver);
        held.batch_execute(&format!(
            "BEGIN; SELECT FROM {schema}.sessions WHERE handle < 'x' OR true FOR UPDATE"
        ))
        .await
        .unwrap();
        assert_unavailable(store.remove(locked.handle(), Reason::LoggedOut, NOW).await);
        // Reading waits for nobody, and the one connection was not lost with the one who gave up.
        assert_eq!(store.find(locked.handle()).await.unwrap(), Found::Live(locked.clone()));
        held.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(store.remove(locked.handle(), Reason::LoggedOut, NOW).await.unwrap(), Some(locked));
    });
}

#[test]
fn connections_that_were_cut_are_replaced_and_reads_do_not_even_notice() {
    let server = Postgres::start(PostgresSettings::new().fleeting());
    runtime().block_on(async {
        let (_, store) = prepared(options_on(&server).pool_size(2)).await;
        let records = sessions(Some(&alice()), 30, 1);
        for (round, record) in records.iter().enumerate() {
            if round % 3 == 0 {
                tokio::task::block_in_place(|| server.cut_connections());
                assert_eq!(store.find(record.handle()).await.unwrap(), Found::Absent);
            }
            // A write is not done again, because nobody knows whether it was done. At most each of the pool's connections is found
            // out by one.
            let mut failures = 0;
            loop {
                match store.insert(record.clone(), admission()).await {
                    Ok(answer) => {
                        assert!([admitted(), Inserted::HandleTaken].contains(&answer), "{answer:?}");
                        break;
                    }
                    Err(error) => assert_unavailable::<()>(Err(error)),
                }
                failures += 1;
                assert!(failures <= 2, "the pool keeps connections that were cut");
            }
        }
        assert_eq!(store.list(&alice()).await.unwrap().len(), records.len());
    });
}

#[test]
fn a_server_that_cannot_be_used_says_why() {
    let server = Postgres::shared();
    runtime().block_on(async {
        let parse = |url: &str| PostgresOptions::parse(url).unwrap();
        // Nobody there.
        let nobody = parse(&format!("postgres://u@127.0.0.1:{}/d", free_port()));
        let error = nobody.connect().await.unwrap_err();
        assert!(matches!(error, OpenError::Unreachable(_)), "{error:?}");
        assert_eq!((error.fault(), error.may_retry()), (Fault::Store, true));
        // Not us, and not that database.
        let wrong_password = server.url().replace("test", "guess");
        let no_password = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
        let wrong_database = format!("{}x", server.url());
        for url in [wrong_password, no_password, wrong_database] {
            let error = parse(&url).connect().await.unwrap_err();
            assert!(matches!(error, OpenError::Refused(_)), "{url}: {error:?}");
            assert_eq!((error.fault(), error.may_retry()), (Fault::Setup, false));
            assert!(!format!("{error:?}").contains("guess"), "{error:?}");
        }
        // The password may be in a file.
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("password"));
        std::fs::write(&folder, format!("{}\n", server.password())).unwrap();
        let with_file = format!(
            "postgres://postgres@127.0.0.1:{}/postgres?password_file={}",
            server.port(),
            folder.display()
        );
        drop(prepared(parse(&with_file).schema(unique("file"))).await);
        let error = parse(&format!("{with_file}.none")).connect().await.unwrap_err();
        assert!(matches!(error, OpenError::File { purpose: "password_file", .. }), "{error:?}");
        std::fs::remove_file(folder).unwrap();
        // Over a socket there is none to give.
        drop(prepared(parse(&server.socket_url()).schema(unique("socket"))).await);
    });
}

#[test]
fn r059_a_server_that_only_reads_is_not_asked() {
    let server = Postgres::shared();
    let role = unique("reader");
    server.role(&role);
    server.sql("postgres", &format!("ALTER ROLE {role} SUPERUSER"));
    runtime().block_on(async {
        let options = PostgresOptions::parse(&server.url_of(&role, "postgres")).unwrap();
        let (options, _) = prepared(options.schema(unique("reads"))).await;
        // As a standby would say of itself.
        server.sql("postgres", &format!("ALTER ROLE {role} SET default_transaction_read_only = on"));
        let error = options.clone().connect().await.unwrap_err();
        assert!(matches!(error, OpenError::Unreachable(_)), "{error:?}");
        // With another that writes beside it, that one is taken.
        let url = server.url_of(&role, "postgres");
        let nobody = format!("127.0.0.1:{},127.0.0.1:", free_port());
        server.sql("postgres", &format!("ALTER ROLE {role} SET default_transaction_read_only = off"));
        let several = PostgresOptions::parse(&url.replace("127.0.0.1:", &nobody)).unwrap();
        several.schema(unique("several")).migrate().await.unwrap();
    });
}

#[test]
fn a_store_needs_a_runtime_to_live_on() {
    let options = PostgresOptions::parse("postgres://u@127.0.0.1/d").unwrap();
    let error = cloakroom_testkit::block_on(options.connect()).unwrap_err();
    assert!(matches!(error, OpenError::NoRuntime), "{error:?}");
}
