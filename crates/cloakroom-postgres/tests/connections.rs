//! Which connections are kept and which are not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use cloakroom_core::store::{Admission, AtCap, BySubject, Cap, Found, Reason, Store, StoreErrorKind, Sweep};
use cloakroom_postgres::PostgresOptions;
use cloakroom_testkit::servers::Postgres;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Passes connections on to the server. Those that are open when it is told so fall silent: nothing more comes through, and nobody
/// is told. New ones work.
struct Proxy {
    port: u16,
    silence: Arc<Notify>,
}

impl Proxy {
    async fn before(server: &'static Postgres) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silence = Arc::<Notify>::default();
        let silenced = Arc::clone(&silence);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let silenced = Arc::clone(&silenced);
                tokio::spawn(async move {
                    let mut upstream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut upstream) => {}
                        () = silenced.notified() => std::future::pending::<()>().await,
                    }
                });
            }
        });
        Self { port, silence }
    }
}

#[test]
fn a_connection_that_fell_silent_is_not_used_again() {
    let server = Postgres::shared();
    runtime().block_on(async {
        let proxy = Proxy::before(server).await;
        let url = server.url().replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port));
        let options = PostgresOptions::parse(&url).unwrap().schema(unique("silent")).pool_size(1);
        let (options, _) = prepared(options.timeout(PATIENCE)).await;
        let store = options.timeout(Duration::from_secs(2)).connect().await.unwrap();
        let record = session(None, 1);
        store.insert(record.clone(), admission()).await.unwrap();
        proxy.silence.notify_waiters();
        let error = store.find(record.handle()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        // On a new one; opening that may take longer than the store's patience on a busy machine, but not for ever.
        for _ in 0..200 {
            match store.find(record.handle()).await {
                Ok(found) => return assert_eq!(found, Found::Live(record)),
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable),
            }
        }
        panic!("the silent connection is still in the pool");
    });
}

#[test]
fn a_connection_is_kept_after_a_refusal_that_has_nothing_to_do_with_it() {
    let server = Postgres::shared();
    runtime().block_on(async {
        // A deadlock, a lock that was not to be had, a cancelled statement, no room on the disk; and what a new connection may mend:
        // a table that has changed, a server that has become a standby.
        for (state, kept) in
            [("40P01", true), ("55P03", true), ("57014", true), ("53100", true), ("0A000", false), ("25006", false)]
        {
            let (application, schema) = (unique("kept"), unique("kept"));
            let url = format!("{}?application_name={application}&pool_size=1", server.url());
            let options = PostgresOptions::parse(&url).unwrap().schema(&schema).timeout(PATIENCE);
            let (_, store) = prepared(options).await;
            let record = session(None, 1);
            store.insert(record.clone(), admission()).await.unwrap();
            let process = || {
                let sql = format!("SELECT pid FROM pg_stat_activity WHERE application_name = '{application}' AND query LIKE 'INSERT%' OR application_name = '{application}' AND query LIKE 'SELECT ended%'");
                server.sql("postgres", &sql)
            };
            let before = process();
            assert!(!before.is_empty() && !before.contains('\n'), "{before}");
            server.sql(
                "postgres",
                &format!(
                    "CREATE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                       RAISE EXCEPTION 'made to fail' USING ERRCODE = '{state}'; END $$;
                     CREATE TRIGGER fail BEFORE UPDATE ON {schema}.sessions FOR EACH ROW EXECUTE FUNCTION {schema}.fail()"
                ),
            );
            let later = NOW.plus(Duration::from_secs(1));
            let error = store.touch(record.handle(), later).await.unwrap_err();
            assert_eq!((error.kind(), error.may_retry()), (StoreErrorKind::Unavailable, true), "{state}");
            assert_eq!(store.find(record.handle()).await.unwrap(), Found::Live(record));
            assert_eq!(process() == before, kept, "{state}");
        }
    });
}

/// How often the other side was waited for: each time that something is sent after something was received.
#[derive(Default)]
struct Turns {
    turns: AtomicU32,
    answered: AtomicBool,
}

/// Passes one connection after another on to the server, and counts.
async fn counting(server: &'static Postgres) -> (u16, Arc<Turns>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let turns = Arc::<Turns>::default();
    let counted = Arc::clone(&turns);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), upstream.into_split());
            let (asking, answering) = (Arc::clone(&counted), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
                    if asking.answered.swap(false, Ordering::SeqCst) {
                        asking.turns.fetch_add(1, Ordering::SeqCst);
                    }
                    to_server.write_all(&bytes[..length]).await.unwrap();
                }
            });
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
                    answering.answered.store(true, Ordering::SeqCst);
                    if to_client.write_all(&bytes[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, turns)
}

#[test]
fn operations_take_no_more_round_trips_than_documented() {
    let server = Postgres::shared();
    let (port, turns) = runtime().block_on(counting(server));
    let url = server.url().replace(&format!(":{}/", server.port()), &format!(":{port}/"));
    let options =
        PostgresOptions::parse(&url).unwrap().schema(unique("turns")).pool_size(1).timeout(PATIENCE);
    // On one thread, so that what is sent without waiting is sent together.
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    single.block_on(async {
        let (_, store) = prepared(options).await;
        let capped = Admission { cap: Some(Cap { max: 2, at_cap: AtCap::EvictOldest }), ..admission() };
        let limits = limits(100);
        let late = NOW.plus(Duration::from_secs(7200));
        // The first round prepares the statements.
        for round in 0..2_u64 {
            let mine = sessions(Some(&alice()), 3, 10 * round);
            let (anonymous, idle) = (session(None, 10 * round + 1), session(None, 10 * round + 2));
            let count = |what: &str, limit: u32| {
                let took = turns.turns.swap(0, Ordering::SeqCst);
                assert!(round == 0 || took == limit, "{what} took {took} round trips instead of {limit}");
            };
            count("nothing", 0);
            store.insert(anonymous.clone(), admission()).await.unwrap();
            count("an anonymous insert", 1);
            store.find(anonymous.handle()).await.unwrap();
            count("a find", 1);
            store.touch(anonymous.handle(), NOW.plus(Duration::from_secs(9))).await.unwrap();
            count("a touch", 1);
            store.replace(anonymous.version(), anonymous.clone()).await.unwrap();
            count("a replace", 1);
            store.remove(anonymous.handle(), Reason::LoggedOut, NOW).await.unwrap().unwrap();
            count("a remove", 2);
            let since = store.epoch(&alice()).await.unwrap();
            count("an epoch", 1);
            for record in &mine[..2] {
                store.insert(record.clone(), Admission { since, ..capped }).await.unwrap();
                count("a login", 2);
            }
            store.insert(mine[2].clone(), Admission { since, ..capped }).await.unwrap();
            count("a login that makes room", 4);
            store.list(&alice()).await.unwrap();
            count("a list", 1);
            store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap();
            count("an end of all", 4);
            store.time().await.unwrap();
            count("a time", 1);
            store.probe().await.unwrap();
            count("a probe", 1);
            store.insert(idle, admission()).await.unwrap();
            turns.turns.store(0, Ordering::SeqCst);
            store.sweep(late, limits).await.unwrap();
            count("a sweep", 7);
        }
    });
}
