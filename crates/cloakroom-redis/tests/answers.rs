//! An operation whose answer is lost is repeated only where that does no harm.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports by panicking"
)]

#[path = "support/proxy.rs"]
mod proxy;
mod support;

use cloakroom_core::record::{Subject, Version};
use cloakroom_core::seal::PepperId;
use cloakroom_core::store::{
    BySubject as _, EndNotice, Epoch, Found, Inserted, PepperClaim, Reason, Replaced, Shared as _,
    Store as _, StoreErrorKind,
};
use cloakroom_core::token::Handle;
use cloakroom_redis::RedisStore;
use cloakroom_testkit::servers::Redis;
use proxy::Proxy;
use support::{
    NOW, admission, admitted, alice, hear, is_unavailable, listen, options, prefix, put, runtime, sessions,
};
use tokio::runtime::Runtime;

/// A store behind a proxy, and another one of the same keys that sees what really happened.
fn open() -> (Runtime, Proxy, RedisStore, RedisStore) {
    open_at(&prefix())
}

/// As [`open`], with keys that a test knows.
fn open_at(prefix: &str) -> (Runtime, Proxy, RedisStore, RedisStore) {
    let (runtime, server) = (runtime(), Redis::shared());
    let proxy = Proxy::to(server.port());
    let connect = |url: &str| runtime.block_on(options(url).prefix(prefix).connect()).unwrap();
    let (behind, direct) = (connect(&proxy.url()), connect(&server.url()));
    // The server is to know all scripts: the answer that is lost must be the one that counts.
    runtime.block_on(async {
        let bob = Subject::new("bob").unwrap();
        let record = &sessions(Some(&bob), 1, 99)[0];
        put(&direct, std::slice::from_ref(record)).await;
        direct.replace(record.version(), record.clone()).await.unwrap();
        direct.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap();
        direct.remove_all(&bob, None, Reason::RevokedAll, NOW).await.unwrap();
    });
    (runtime, proxy, behind, direct)
}

#[test]
fn reads_touches_and_claims_are_repeated_and_answered() {
    let (runtime, proxy, store, direct) = open();
    runtime.block_on(async {
        let record = &sessions(Some(&alice()), 1, 1)[0];
        put(&direct, std::slice::from_ref(record)).await;
        proxy.lose_an_answer();
        assert_eq!(store.find(record.handle()).await.unwrap(), Found::Live(record.clone()));
        assert!(proxy.has_lost_it());
        proxy.lose_an_answer();
        assert_eq!(store.list(&alice()).await.unwrap(), std::slice::from_ref(record));
        proxy.lose_an_answer();
        assert_eq!(store.epoch(&alice()).await.unwrap(), Epoch::default());
        proxy.lose_an_answer();
        let later = NOW.plus(std::time::Duration::from_secs(9));
        store.touch(record.handle(), later).await.unwrap();
        let Found::Live(touched) = direct.find(record.handle()).await.unwrap() else { panic!("gone") };
        assert_eq!((touched.seen(), touched.version()), (later, Version::FIRST));
        proxy.lose_an_answer();
        store.time().await.unwrap();
        proxy.lose_an_answer();
        let pepper = PepperId::from_bytes([1; 8]);
        assert_eq!(store.claim_pepper(pepper, &[pepper]).await.unwrap(), PepperClaim::Accepted);
        assert!(proxy.has_lost_it());
    });
}

#[test]
fn an_insert_whose_answer_is_lost_is_an_error_and_not_a_taken_handle() {
    let (runtime, proxy, store, direct) = open();
    runtime.block_on(async {
        let record = &sessions(Some(&alice()), 1, 2)[0];
        proxy.lose_an_answer();
        is_unavailable(store.insert(record.clone(), admission()).await);
        assert_eq!(direct.find(record.handle()).await.unwrap(), Found::Live(record.clone()));
        assert_eq!(store.insert(record.clone(), admission()).await.unwrap(), Inserted::HandleTaken);
    });
}

/// Repeated, the second would find the version of the first, and the layer would apply the request's updates once more.
#[test]
fn r053_a_replace_whose_answer_is_lost_is_an_error_and_not_stale() {
    let (runtime, proxy, store, direct) = open();
    runtime.block_on(async {
        let record = &sessions(None, 1, 3)[0];
        put(&direct, std::slice::from_ref(record)).await;
        proxy.lose_an_answer();
        is_unavailable(store.replace(record.version(), record.clone()).await);
        let Found::Live(stored) = direct.find(record.handle()).await.unwrap() else { panic!("gone") };
        assert_eq!(stored.version(), Version::FIRST.next());
        let next = store.replace(stored.version(), stored.clone()).await.unwrap();
        assert_eq!(next, Replaced::Replaced);
    });
}

/// Repeated, the second would find the tombstone of the first, and the end would never be reported.
#[test]
fn r054_a_removal_whose_answer_is_lost_is_an_error_and_not_nothing() {
    let (runtime, proxy, store, direct) = open();
    runtime.block_on(async {
        let record = &sessions(Some(&alice()), 1, 4)[0];
        put(&direct, std::slice::from_ref(record)).await;
        let notices = listen(&direct);
        hear(&notices, EndNotice::Missed);
        hear(&notices, EndNotice::Missed);
        proxy.lose_an_answer();
        is_unavailable(store.remove(record.handle(), Reason::LoggedOut, NOW).await);
        assert!(matches!(direct.find(record.handle()).await.unwrap(), Found::Ended(_)));
        // Whoever waits for the end hears of it all the same.
        hear(&notices, EndNotice::Ended(record.handle()));
    });
}

/// Repeated, it would end logins that came after the first.
#[test]
fn r054_ending_all_sessions_is_never_done_twice() {
    let prefix = prefix();
    let (runtime, proxy, store, direct) = open_at(&prefix);
    // Later than any clock, so that each end raises it by one.
    let later = 1_u64 << 60;
    let key = format!("{prefix}:{{{:04x}}}:e:{}", Handle::tag_of(&alice()), alice().as_str());
    let value = [later.to_be_bytes(), [0; 8]].concat();
    runtime.block_on(async {
        let records = sessions(Some(&alice()), 3, 5);
        put(&direct, &records).await;
        Redis::shared().try_ask(&[b"SET", key.as_bytes(), value.as_slice()]).unwrap();
        proxy.lose_an_answer();
        is_unavailable(store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await);
        // A second one would have raised it further.
        assert_eq!(direct.epoch(&alice()).await.unwrap().number(), later + 1);
        assert_eq!(direct.list(&alice()).await.unwrap(), []);
    });
}

#[test]
fn operations_share_one_connection_and_make_a_new_one_when_it_breaks() {
    let (runtime, proxy, store, _) = open();
    runtime.block_on(async {
        let before = proxy.connections();
        let record = &sessions(None, 1, 6)[0];
        assert_eq!(store.insert(record.clone(), admission()).await.unwrap(), admitted());
        for _ in 0..10 {
            store.find(record.handle()).await.unwrap();
        }
        assert_eq!(proxy.connections(), before);
        proxy.lose_an_answer();
        let error = store.replace(record.version(), record.clone()).await.unwrap_err();
        assert_eq!((error.kind(), error.may_retry()), (StoreErrorKind::Unavailable, true));
        // The next one need not fail first to find out.
        assert!(store.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap().is_some());
        assert_eq!(proxy.connections(), before + 1);
    });
}
