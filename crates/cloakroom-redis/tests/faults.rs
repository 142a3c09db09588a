//! What a server's crash, silence, restart and full memory do to the store.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports by panicking"
)]

mod support;

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::policy::Policy;
use cloakroom_core::record::Record;
use cloakroom_core::seal::PepperId;
use cloakroom_core::store::{
    AtCap, BySubject as _, Cap, EndNotice, Found, Inserted, PepperClaim, Reason, Replaced, Shared as _,
    Store as _, StoreErrorKind,
};
use cloakroom_redis::RedisStore;
use cloakroom_testkit::servers::{Redis, Reply};
use support::{
    NOW, admission, admitted, alice, hear, is_live, is_unavailable, listen, options, patiently, put, runtime,
    sessions,
};

fn open(server: &Redis) -> (tokio::runtime::Runtime, RedisStore) {
    let runtime = runtime();
    let store = runtime.block_on(options(&server.url()).connect()).unwrap();
    (runtime, store)
}

/// Whether every logout that was acknowledged is still one after a crash, and every session still one.
async fn remembers_logouts_through_a_crash(server: &Redis, store: &RedisStore) -> bool {
    let records = sessions(Some(&alice()), 40, 1);
    put(store, &records).await;
    let (gone, stay): (Vec<_>, Vec<_>) = records.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    for (_, record) in &gone {
        assert!(store.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap().is_some());
    }
    let bob = cloakroom_core::record::Subject::new("bob").unwrap();
    put(store, &sessions(Some(&bob), 3, 2)).await;
    let epoch = store.remove_all(&bob, None, Reason::RevokedAll, NOW).await.unwrap().epoch;
    server.kill();
    server.start_again();
    let found = async |record: &Record| patiently(async || store.find(record.handle()).await).await;
    let mut remembered = store.epoch(&bob).await.unwrap() == epoch;
    for (_, record) in &gone {
        remembered &=
            matches!(found(record).await, Found::Ended(tombstone) if tombstone.reason() == Reason::LoggedOut);
    }
    for (_, record) in &stay {
        remembered &= found(record).await == Found::Live(record.clone());
    }
    remembered
}

#[test]
fn r054_with_an_appendonly_file_that_is_always_flushed_no_acknowledged_logout_is_forgotten() {
    let server = Redis::start(&["appendonly yes", "appendfsync always"]);
    let (runtime, store) = open(&server);
    assert!(runtime.block_on(remembers_logouts_through_a_crash(&server, &store)));
    assert_eq!(runtime.block_on(store.warnings()).unwrap(), [] as [String; 0]);
}

/// An honest "this setting cannot": the same check fails, and `warnings` says so beforehand.
#[test]
fn without_persistence_a_crash_forgets_everything_and_the_warnings_say_so() {
    let server = Redis::start(&[]);
    let (runtime, store) = open(&server);
    let warnings = runtime.block_on(store.warnings()).unwrap().join("\n");
    assert!(warnings.contains("signs everybody out"), "{warnings}");
    assert!(!runtime.block_on(remembers_logouts_through_a_crash(&server, &store)));
}

/// The worse half of the same: what comes back is not nothing, but a session whose user has logged out.
#[test]
fn with_snapshots_alone_a_crash_undoes_a_logout_and_the_warnings_say_so() {
    let server = Redis::start(&["save 3600 1"]);
    let (runtime, store) = open(&server);
    runtime.block_on(async {
        let record = &sessions(None, 1, 3)[0];
        put(&store, std::slice::from_ref(record)).await;
        server.ask(&["SAVE"]);
        store.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap();
        server.kill();
        server.start_again();
        assert!(is_live(&store, record).await, "this setting should not have been able to keep a logout");
        assert!(
            store.warnings().await.unwrap().join("\n").contains("forgets logouts since the last snapshot")
        );
    });
}

#[test]
fn a_flush_each_second_is_warned_of() {
    let server = Redis::start(&["appendonly yes", "appendfsync everysec"]);
    let (runtime, store) = open(&server);
    let warnings = runtime.block_on(store.warnings()).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("a logout of the last second can be undone"), "{warnings:?}");
}

#[test]
fn r070_a_server_that_is_down_is_an_error_and_service_resumes_by_itself() {
    let server = Redis::start(&["appendonly yes", "appendfsync always"]);
    let (runtime, store) = open(&server);
    runtime.block_on(async {
        let records = sessions(Some(&alice()), 2, 4);
        put(&store, &records).await;
        server.kill();
        is_unavailable(store.find(records[0].handle()).await);
        is_unavailable(store.list(&alice()).await);
        is_unavailable(store.epoch(&alice()).await);
        is_unavailable(store.touch(records[0].handle(), NOW).await);
        is_unavailable(store.replace(records[0].version(), records[0].clone()).await);
        is_unavailable(store.remove(records[0].handle(), Reason::LoggedOut, NOW).await);
        is_unavailable(store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await);
        is_unavailable(store.insert(sessions(None, 1, 5)[0].clone(), admission()).await);
        server.start_again();
        // None of them had reached it.
        assert_eq!(patiently(async || store.list(&alice()).await).await.len(), 2);
        assert!(store.remove(records[0].handle(), Reason::LoggedOut, NOW).await.unwrap().is_some());
    });
}

#[test]
fn r070_a_server_that_is_silent_is_an_error_and_service_resumes_by_itself() {
    let server = Redis::start(&[]);
    let runtime = runtime();
    runtime.block_on(async {
        let store = options(&server.url()).connect().await.unwrap();
        let record = &sessions(None, 1, 6)[0];
        put(&store, std::slice::from_ref(record)).await;
        let hasty = options(&server.url())
            .prefix("hasty")
            .timeout(Duration::from_millis(200))
            .connect()
            .await
            .unwrap();
        server.pause();
        for _ in 0..3 {
            is_unavailable(hasty.find(record.handle()).await);
            is_unavailable(hasty.insert(record.clone(), admission()).await);
        }
        server.resume();
        // What was sent in vain may have been carried out by now; an error says so of nothing.
        let found = patiently(async || hasty.find(record.handle()).await).await;
        assert!(matches!(found, Found::Live(_) | Found::Absent));
        assert!(is_live(&store, record).await);
    });
}

/// The full set of what another server hears, through a lost connection and a restart.
#[test]
fn ends_are_announced_to_other_servers_and_silence_is_never_taken_for_quiet() {
    let server = Redis::start(&[]);
    let runtime = runtime();
    runtime.block_on(async {
        let here = options(&server.url()).prefix("shared").connect().await.unwrap();
        let there = options(&server.url()).prefix("shared").connect().await.unwrap();
        let notices = listen(&there);
        // Once at once, and once when the channel is open.
        hear(&notices, EndNotice::Missed);
        hear(&notices, EndNotice::Missed);
        let mine = sessions(Some(&alice()), 4, 7);
        put(&here, &mine[..3]).await;
        here.remove(mine[0].handle(), Reason::LoggedOut, NOW).await.unwrap();
        hear(&notices, EndNotice::Ended(mine[0].handle()));
        let cap = Some(Cap { max: 2, at_cap: AtCap::EvictOldest });
        let answer =
            here.insert(mine[3].clone(), cloakroom_core::store::Admission { cap, ..admission() }).await;
        let Inserted::Inserted { evicted } = answer.unwrap() else { panic!("refused") };
        assert_eq!(evicted.len(), 1);
        hear(&notices, EndNotice::Ended(evicted[0]));
        for handle in here.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap().ended {
            hear(&notices, EndNotice::Ended(handle));
        }
        for cut in [Redis::cut_connections, |server: &Redis| {
            server.kill();
            server.start_again();
        }] {
            cut(&server);
            // Once for the loss, and once when the channel is open again.
            hear(&notices, EndNotice::Missed);
            hear(&notices, EndNotice::Missed);
            let record = &sessions(None, 1, 8)[0];
            patiently(async || here.insert(record.clone(), admission()).await).await;
            here.remove(record.handle(), Reason::Revoked, NOW).await.unwrap();
            hear(&notices, EndNotice::Ended(record.handle()));
            server.ask(&["FLUSHALL"]);
        }
    });
}

#[test]
fn whoever_listens_is_let_go_with_the_store() {
    let (runtime, store) = open(Redis::shared());
    let notices = listen(&store);
    // The second one comes from the task: it listens now.
    hear(&notices, EndNotice::Missed);
    hear(&notices, EndNotice::Missed);
    drop(store);
    // The listener goes, and with it the other end of this channel.
    let end = notices.recv_timeout(Duration::from_secs(120));
    assert_eq!(end, Err(RecvTimeoutError::Disconnected), "the task lives on without its store");
    drop(runtime);
}

#[test]
fn a_server_that_has_forgotten_the_scripts_is_told_again() {
    let server = Redis::start(&[]);
    let (runtime, store) = open(&server);
    runtime.block_on(async {
        let flush = || drop(server.ask(&["SCRIPT", "FLUSH"]));
        let records = sessions(Some(&alice()), 2, 9);
        flush();
        put(&store, &records).await;
        flush();
        assert_eq!(
            store.replace(records[0].version(), records[0].clone()).await.unwrap(),
            Replaced::Replaced
        );
        flush();
        store.touch(records[0].handle(), NOW).await.unwrap();
        flush();
        assert_eq!(store.list(&alice()).await.unwrap().len(), 2);
        flush();
        assert!(store.remove(records[0].handle(), Reason::LoggedOut, NOW).await.unwrap().is_some());
        flush();
        assert_eq!(store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap().ended.len(), 1);
    });
}

/// A full server refuses new sessions. Those there are go on, and logging out works: it must not need memory that is not there.
#[test]
fn r054_a_full_server_takes_no_login_and_every_logout() {
    let server = Redis::start(&[]);
    let (runtime, store) = open(&server);
    runtime.block_on(async {
        let records = sessions(Some(&alice()), 4, 10);
        put(&store, &records[..3]).await;
        server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
        let refused = store.insert(records[3].clone(), admission()).await.unwrap_err();
        assert_eq!((refused.kind(), refused.may_retry()), (StoreErrorKind::Full, true));
        assert_eq!(store.probe().await.unwrap_err().kind(), StoreErrorKind::Full);
        assert_eq!(store.list(&alice()).await.unwrap().len(), 3);
        store.touch(records[0].handle(), NOW.plus(Duration::from_secs(1))).await.unwrap();
        assert_eq!(
            store.replace(records[0].version(), records[0].clone()).await.unwrap(),
            Replaced::Replaced
        );
        assert!(store.remove(records[0].handle(), Reason::LoggedOut, NOW).await.unwrap().is_some());
        assert!(matches!(store.find(records[0].handle()).await.unwrap(), Found::Ended(_)));
        assert_eq!(store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap().ended.len(), 2);
        server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
        store.probe().await.unwrap();
        let anonymous = &sessions(None, 1, 11)[0];
        assert_eq!(store.insert(anonymous.clone(), admission()).await.unwrap(), admitted());
    });
}

/// A primary that became a replica must not answer with what it held then.
#[test]
fn r059_a_server_that_became_a_replica_answers_nothing() {
    let (server, other) = (Redis::start(&[]), Redis::start(&[]));
    let (runtime, store) = open(&server);
    runtime.block_on(async {
        let record = &sessions(None, 1, 12)[0];
        put(&store, std::slice::from_ref(record)).await;
        server.ask(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
        is_unavailable(store.find(record.handle()).await);
        is_unavailable(store.remove(record.handle(), Reason::LoggedOut, NOW).await);
        is_unavailable(store.list(&alice()).await);
        is_unavailable(store.probe().await);
        server.ask(&["REPLICAOF", "NO", "ONE"]);
        patiently(async || store.find(record.handle()).await).await;
    });
}

#[test]
fn a_clock_that_is_ahead_keeps_no_session_alive() {
    let (runtime, store) = open(Redis::shared());
    runtime.block_on(async {
        let [records, inserted] = [13, 18].map(|seed| sessions(None, 2, seed));
        put(&store, &records).await;
        let skew = Policy::default().figures().clock_skew;
        let allowed = async || store.time().await.unwrap().unwrap().plus(skew);
        let earliest = allowed().await;
        let far = Timestamp::from_secs(10_000_000_000);
        store.touch(records[0].handle(), far).await.unwrap();
        let ahead = records[1].clone().replacing(records[1].version(), far);
        store.replace(records[1].version(), ahead).await.unwrap();
        let new = &inserted[0];
        let ahead = Record::decode(new.handle(), new.version(), far, &new.encode().unwrap()).unwrap();
        assert_eq!(store.insert(ahead, admission()).await.unwrap(), admitted());
        let latest = allowed().await;
        for record in records.iter().chain([new]) {
            let Found::Live(found) = store.find(record.handle()).await.unwrap() else { panic!("gone") };
            assert!((earliest..=latest).contains(&found.seen()), "{}", found.seen());
        }
    });
}

#[test]
fn of_two_servers_with_different_peppers_one_is_told() {
    let server = Redis::shared();
    let runtime = runtime();
    runtime.block_on(async {
        let store = options(&server.url()).connect().await.unwrap();
        let [first, second, third] = [1, 2, 3].map(|n| PepperId::from_bytes([n; 8]));
        assert_eq!(store.claim_pepper(first, &[first]).await.unwrap(), PepperClaim::Accepted);
        let foreign = PepperClaim::Foreign { known: vec![first] };
        assert_eq!(store.claim_pepper(second, &[second, third]).await.unwrap(), foreign);
        // A server that knows the old one brings the new one in.
        assert_eq!(store.claim_pepper(second, &[second, first]).await.unwrap(), PepperClaim::Accepted);
        assert_eq!(store.claim_pepper(second, &[second]).await.unwrap(), PepperClaim::Accepted);
    });
}

/// Its subject's "end all sessions" would look for it elsewhere.
#[test]
fn r054_a_session_under_a_handle_without_its_subjects_tag_is_refused() {
    let (runtime, store) = open(Redis::shared());
    runtime.block_on(async {
        let mine = &sessions(Some(&alice()), 1, 16)[0];
        let tag = mine.handle().tag();
        let stranger =
            sessions(None, 50, 17).into_iter().find(|record| record.handle().tag() != tag).unwrap();
        let body = mine.encode().unwrap();
        let misplaced = Record::decode(stranger.handle(), mine.version(), mine.seen(), &body).unwrap();
        let error = store.insert(misplaced, admission()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert_eq!(store.find(stranger.handle()).await.unwrap(), Found::Absent);
        assert_eq!(store.insert(mine.clone(), admission()).await.unwrap(), admitted());
    });
}

/// Whatever lies under a session's key: an error, and it stays where it is.
#[test]
fn r070_an_entry_of_a_newer_version_is_an_error_and_is_left_as_it_is() {
    let server = Redis::start(&[]);
    let (runtime, store) = open(&server);
    runtime.block_on(async {
        let records = sessions(Some(&alice()), 2, 14);
        put(&store, &records).await;
        let keys = server.ask(&["KEYS", "*:s:*"]);
        let handle = records[0].handle();
        let key = keys.list().iter().map(Reply::bytes).find(|key| key.ends_with(handle.as_bytes())).unwrap();
        server.try_ask(&[b"SETRANGE", key, b"0", b"\x09"]).unwrap();
        let corrupt = |kind: StoreErrorKind| assert_eq!(kind, StoreErrorKind::Corrupt);
        corrupt(store.find(handle).await.unwrap_err().kind());
        corrupt(store.list(&alice()).await.unwrap_err().kind());
        corrupt(store.touch(handle, NOW.plus(Duration::from_secs(1))).await.unwrap_err().kind());
        corrupt(store.replace(records[0].version(), records[0].clone()).await.unwrap_err().kind());
        corrupt(store.remove(handle, Reason::LoggedOut, NOW).await.unwrap_err().kind());
        let cap = Some(Cap { max: 2, at_cap: AtCap::EvictOldest });
        let capped = cloakroom_core::store::Admission { cap, ..admission() };
        corrupt(store.insert(sessions(Some(&alice()), 1, 15)[0].clone(), capped).await.unwrap_err().kind());
        assert_eq!(server.try_ask(&[b"GETRANGE", key, b"0", b"0"]).unwrap(), Reply::Text("\x09".to_owned()));
        // The other is cut off after its first byte.
        let other = records[1].handle();
        let key = keys.list().iter().map(Reply::bytes).find(|key| key.ends_with(other.as_bytes())).unwrap();
        server.try_ask(&[b"SET", key, b"\x01", b"KEEPTTL"]).unwrap();
        corrupt(store.find(other).await.unwrap_err().kind());
        corrupt(store.touch(other, NOW.plus(Duration::from_secs(1))).await.unwrap_err().kind());
        corrupt(store.remove(other, Reason::LoggedOut, NOW).await.unwrap_err().kind());
        // What is damaged must not keep the others alive.
        assert_eq!(store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap().ended.len(), 2);
        for handle in [handle, other] {
            let Found::Ended(tombstone) = store.find(handle).await.unwrap() else { panic!("not ended") };
            assert_eq!((tombstone.reason(), tombstone.at()), (Reason::RevokedAll, NOW));
        }
    });
}
