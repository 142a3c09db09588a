//! What is particular to a cluster: slots, slots that move, and primaries that die.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports by panicking"
)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use cloakroom_core::record::{Record, Subject};
use cloakroom_core::store::{
    BySubject as _, EndNotice, Found, Inserted, Reason, Replaced, Store as _, StoreError, StoreErrorKind,
};
use cloakroom_core::token::Handle;
use cloakroom_redis::{RedisOptions, RedisStore};
use cloakroom_testkit::servers::{Redis, RedisCluster, Reply};
use support::{
    NOW, admission, admitted, alice, hear, is_live, is_unavailable, keys, listen, options, patiently, prefix,
    put, runtime, sessions,
};

fn slot_of(cluster: &RedisCluster, prefix: &str, subject: &Subject) -> u16 {
    cluster.slot(format!("{prefix}:{{{:04x}}}:u:{}", Handle::tag_of(subject), subject.as_str()).as_bytes())
}

#[test]
fn all_keys_of_a_subject_lie_in_one_slot_and_those_of_many_everywhere() {
    let cluster = RedisCluster::shared();
    let prefix = prefix();
    runtime().block_on(async {
        let store = options(&cluster.url()).prefix(&*prefix).connect().await.unwrap();
        let records = sessions(Some(&alice()), 5, 1);
        put(&store, &records).await;
        store.remove(records[0].handle(), Reason::LoggedOut, NOW).await.unwrap();
        store.remove_all(&alice(), Some(records[1].handle()), Reason::RevokedAll, NOW).await.unwrap();
    });
    let tag = format!("{prefix}:{{{:04x}}}:", Handle::tag_of(&alice()));
    let of = |node: &Redis| -> Vec<Vec<u8>> {
        keys(node, &prefix).into_iter().filter(|key| key.starts_with(tag.as_bytes())).collect()
    };
    let slot = slot_of(cluster, &prefix, &alice());
    cluster.wait_until_in_step(slot);
    let found = of(cluster.primary_of(slot));
    // Five sessions, an index, an epoch.
    assert_eq!(found.len(), 7, "{found:?}");
    assert!(found.iter().all(|key| cluster.slot(key) == slot));
    let elsewhere = cluster.nodes().iter().filter(|node| !of(node).is_empty()).count();
    assert_eq!(elsewhere, 2, "only the primary and its replica");

    // Different subjects spread over all primaries.
    let subjects = (0..60).map(|n| Subject::new(format!("user {n}")).unwrap());
    let ports: BTreeSet<_> =
        subjects.map(|subject| cluster.primary_of(slot_of(cluster, &prefix, &subject)).port()).collect();
    assert_eq!(ports.len(), 3);
}

#[test]
fn ends_are_heard_at_whichever_node_one_listens() {
    let cluster = RedisCluster::start(&["cluster-node-timeout 60000"]);
    runtime().block_on(async {
        let here = options(&cluster.url()).prefix("p").connect().await.unwrap();
        let there = options(&cluster.url()).prefix("p").connect().await.unwrap();
        let notices = listen(&there);
        hear(&notices, EndNotice::Missed);
        let mut listened_at = BTreeSet::new();
        for seed in 0..30 {
            hear(&notices, EndNotice::Missed);
            let record = &sessions(None, 1, 100 + seed)[0];
            patiently(async || here.insert(record.clone(), admission()).await).await;
            here.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap();
            hear(&notices, EndNotice::Ended(record.handle()));
            let at = cluster
                .nodes()
                .iter()
                .find(|node| node.ask(&["PUBSUB", "NUMSUB", "p:ended"]).list()[1].number() > 0);
            listened_at.insert(at.unwrap().port());
            if listened_at.len() == cluster.nodes().len() {
                return;
            }
            // Whoever has to begin again begins at another node.
            at.unwrap().ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            hear(&notices, EndNotice::Missed);
        }
        panic!("some nodes are never listened at: {listened_at:?}");
    });
}

/// A slot on its way from one node to another.
struct Move<'a> {
    cluster: &'a RedisCluster,
    slot: String,
    from: &'a Redis,
    to: &'a Redis,
}

impl<'a> Move<'a> {
    fn begin(cluster: &'a RedisCluster, slot: u16) -> Self {
        let from = cluster.primary_of(slot);
        let to = cluster.primary_of((slot + 16384 / 3) % 16384);
        assert_ne!(from.port(), to.port());
        let slot = slot.to_string();
        let (from_id, to_id) = (from.ask(&["CLUSTER", "MYID"]), to.ask(&["CLUSTER", "MYID"]));
        to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", from_id.text()]);
        from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", to_id.text()]);
        Self { cluster, slot, from, to }
    }

    fn take(&self, key: &[u8]) {
        let port = self.to.port().to_string();
        let answer =
            self.from.try_ask(&[b"MIGRATE", b"127.0.0.1", port.as_bytes(), key, b"0", b"60000"]).unwrap();
        assert_eq!(answer, Reply::Text("OK".to_owned()), "{}", String::from_utf8_lossy(key));
    }

    fn finish(&self) {
        let answer = self.from.ask(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "1000"]);
        answer.list().iter().for_each(|key| self.take(key.bytes()));
        let id = self.to.ask(&["CLUSTER", "MYID"]);
        for node in [self.to, self.from].into_iter().chain(self.cluster.nodes()) {
            let words = [&b"CLUSTER"[..], b"SETSLOT", self.slot.as_bytes(), b"NODE", id.text().as_bytes()];
            // Replicas hear of it from their primaries.
            node.try_ask(&words).unwrap();
        }
    }
}

fn unavailable_or<T: PartialEq + std::fmt::Debug>(answer: Result<T, StoreError>, wanted: &T) {
    match answer {
        Ok(answer) => assert_eq!(answer, *wanted),
        Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}"),
    }
}

/// The keys of a subject are moved one after another, in every order that matters. In between, operations on all of them are refused
/// rather than done on one half.
#[test]
fn r054_a_slot_that_moves_loses_no_session_and_no_end() {
    // As a user who may do no more than the operator's guide says.
    let user = support::documented_user("p");
    let cluster = RedisCluster::start(&["cluster-node-timeout 60000", &user]);
    runtime().block_on(async {
        let url = cluster.url_of("cloakroom", support::PASSWORD);
        let store = options(&url).prefix("p").connect().await.unwrap();
        for (n, index_first) in [true, false].into_iter().enumerate() {
            let whose = Subject::new(format!("user {n}")).unwrap();
            let records = sessions(Some(&whose), 6, 30);
            put(&store, &records).await;
            store.remove(records[5].handle(), Reason::LoggedOut, NOW).await.unwrap();
            let epoch = store
                .remove_all(&whose, Some(records[0].handle()), Reason::RevokedAll, NOW)
                .await
                .unwrap()
                .epoch;
            let since = epoch;
            let admission = cloakroom_core::store::Admission { since, ..admission() };
            let mine = sessions(Some(&whose), 5, 31);
            for record in &mine {
                assert_eq!(store.insert(record.clone(), admission).await.unwrap(), admitted());
            }
            let slot = slot_of(&cluster, "p", &whose);
            let moving = Move::begin(&cluster, slot);
            let tag = Handle::tag_of(&whose);
            let name = |kind: &str| format!("p:{{{tag:04x}}}:{kind}:").into_bytes();
            let session = |record: &Record| [name("s").as_slice(), record.handle().as_bytes()].concat();
            let of_subject = |kind: &str| [name(kind).as_slice(), whose.as_str().as_bytes()].concat();
            // All keys are still here; whatever finds them all is done here.
            assert_eq!(store.list(&whose).await.unwrap().len(), 6);
            assert_eq!(store.replace(mine[0].version(), mine[0].clone()).await.unwrap(), Replaced::Replaced);
            if index_first {
                moving.take(&of_subject("u"));
                moving.take(&of_subject("e"));
            }
            moving.take(&session(&mine[1]));
            moving.take(&session(&records[5]));

            // Single keys are found wherever they are.
            for record in mine.iter().chain([&records[0]]) {
                assert!(matches!(store.find(record.handle()).await.unwrap(), Found::Live(_)));
            }
            assert!(matches!(store.find(records[5].handle()).await.unwrap(), Found::Ended(_)));
            unavailable_or(store.epoch(&whose).await, &epoch);
            let unknown = &sessions(Some(&whose), 1, 32)[0];
            assert_eq!(store.find(unknown.handle()).await.unwrap(), Found::Absent);
            // What needs all of them is refused, and nothing of it happens.
            is_unavailable(store.list(&whose).await);
            is_unavailable(store.remove_all(&whose, None, Reason::RevokedAll, NOW).await);
            let capped = cloakroom_core::store::Admission {
                cap: Some(cloakroom_core::store::Cap { max: 1, at_cap: cloakroom_core::store::AtCap::Deny }),
                ..admission
            };
            is_unavailable(store.insert(unknown.clone(), capped).await);
            is_unavailable(store.remove(mine[1].handle(), Reason::LoggedOut, NOW).await);
            unavailable_or(store.touch(mine[2].handle(), NOW.plus(Duration::from_secs(1))).await, &());
            unavailable_or(store.replace(mine[3].version(), mine[3].clone()).await, &Replaced::Replaced);

            moving.finish();
            let after = patiently(async || store.epoch(&whose).await).await;
            assert_eq!(after, epoch, "nothing was done by halves");
            let mut listed: Vec<_> =
                patiently(async || store.list(&whose).await).await.iter().map(Record::handle).collect();
            let mut all: Vec<_> = mine.iter().chain([&records[0]]).map(Record::handle).collect();
            listed.sort();
            all.sort();
            assert_eq!(listed, all);
            // Who never came back would make room.
            for record in mine.iter().chain([&records[0]]) {
                patiently(async || store.touch(record.handle(), NOW.plus(Duration::from_secs(2))).await)
                    .await;
            }
            assert_eq!(store.insert(unknown.clone(), capped).await.unwrap(), Inserted::CapReached);
            let mut ended = store.remove_all(&whose, None, Reason::RevokedAll, NOW).await.unwrap().ended;
            ended.sort();
            assert_eq!(ended, all);
            for record in mine.iter().chain(&records) {
                assert!(matches!(store.find(record.handle()).await.unwrap(), Found::Ended(_)));
            }
        }
    });
}

async fn tries(store: &RedisStore, record: &Record) -> Result<Inserted, StoreError> {
    match store.insert(record.clone(), admission()).await {
        // An answer that was lost; the session is there.
        Ok(Inserted::HandleTaken) => Ok(admitted()),
        answer => answer,
    }
}

#[test]
fn r070_when_a_primary_dies_its_replica_takes_over_and_service_resumes_by_itself() {
    let cluster = RedisCluster::start(&[]);
    runtime().block_on(async {
        let store = options(&cluster.url()).prefix("p").connect().await.unwrap();
        let notices = listen(&store);
        let records = sessions(Some(&alice()), 3, 40);
        put(&store, &records).await;
        store.remove(records[0].handle(), Reason::LoggedOut, NOW).await.unwrap();
        let slot = slot_of(&cluster, "p", &alice());
        cluster.wait_until_in_step(slot);
        let dead = cluster.kill_primary_of(slot);
        // At no time is anybody taken for somebody without a session.
        for _ in 0..3 {
            match store.find(records[1].handle()).await {
                Ok(found) => assert_eq!(found, Found::Live(records[1].clone())),
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable),
            }
        }
        cluster.wait_until_taken_over(slot, dead);
        assert!(is_live(&store, &records[1]).await);
        assert!(matches!(store.find(records[0].handle()).await.unwrap(), Found::Ended(_)));
        let new = &sessions(Some(&alice()), 1, 41)[0];
        patiently(async || tries(&store, new).await).await;
        assert_eq!(store.list(&alice()).await.unwrap().len(), 3);
        // The dead one comes back as a replica, and is not asked.
        dead.start_again();
        cluster.wait_until_whole();
        assert!(store.remove(new.handle(), Reason::LoggedOut, NOW).await.unwrap().is_some());
        hear(&notices, EndNotice::Ended(new.handle()));
        assert_eq!(store.list(&alice()).await.unwrap().len(), 2);
    });
}

/// A primary that does not answer, but is not dead either, while another took its place.
#[test]
fn r070_when_a_primary_falls_silent_service_resumes_by_itself() {
    let cluster = RedisCluster::start(&[]);
    runtime().block_on(async {
        let hasty =
            options(&cluster.url()).prefix("p").timeout(Duration::from_secs(2)).connect().await.unwrap();
        let record = &sessions(Some(&alice()), 1, 42)[0];
        put(&hasty, std::slice::from_ref(record)).await;
        let slot = slot_of(&cluster, "p", &alice());
        cluster.wait_until_in_step(slot);
        let silent = cluster.primary_of(slot);
        silent.pause();
        match hasty.find(record.handle()).await {
            Ok(found) => assert_eq!(found, Found::Live(record.clone())),
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable),
        }
        cluster.wait_until_taken_over(slot, silent);
        assert!(is_live(&hasty, record).await);
        let removed = patiently(async || hasty.remove(record.handle(), Reason::LoggedOut, NOW).await).await;
        assert_eq!(removed, Some(record.clone()));
        silent.resume();
        cluster.wait_until_whole();
        assert!(matches!(patiently(async || hasty.find(record.handle()).await).await, Found::Ended(_)));
    });
}

/// An honest "this setting cannot": the primary acknowledges a logout that its replica has not, dies, and the replica knows nothing.
#[test]
fn a_failover_can_forget_an_acknowledged_logout_and_the_warnings_say_so() {
    let cluster = RedisCluster::start(&[]);
    runtime().block_on(async {
        let store = options(&cluster.url()).prefix("p").connect().await.unwrap();
        let record = &sessions(Some(&alice()), 1, 43)[0];
        lose_the_last_writes(&cluster, &store, record, async || {
            assert_eq!(
                store.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap(),
                Some(record.clone())
            );
        })
        .await;
        assert!(
            is_live(&store, record).await,
            "asynchronous replication should not have been able to keep the logout"
        );
        assert!(store.warnings().await.unwrap().join("\n").contains("replication is asynchronous"));
    });
}

/// The same with replicas to wait for: what may be forgotten is not acknowledged.
#[test]
fn r054_with_replicas_to_wait_for_a_logout_that_may_be_forgotten_is_not_acknowledged() {
    let cluster = RedisCluster::start(&[]);
    runtime().block_on(async {
        let options =
            RedisOptions::parse(&cluster.url()).unwrap().prefix("p").timeout(Duration::from_secs(20));
        let store = options.replicas(1).connect().await.unwrap();
        let record = &sessions(Some(&alice()), 1, 44)[0];
        lose_the_last_writes(&cluster, &store, record, async || {
            let error = store.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
            let why = std::error::Error::source(&error).unwrap().to_string();
            assert!(why.contains("fewer replicas than demanded"), "{why}");
        })
        .await;
        assert!(is_live(&store, record).await);
        // With the replica back, the same is acknowledged.
        cluster.wait_until_whole();
    });
}

/// Lets a primary do something that its replica does not hear of, and then die.
async fn lose_the_last_writes(
    cluster: &RedisCluster,
    store: &RedisStore,
    record: &Record,
    write: impl AsyncFnOnce(),
) {
    patiently(async || tries(store, record).await).await;
    let slot = slot_of(cluster, "p", &alice());
    cluster.wait_until_in_step(slot);
    let (primary, replica) = (cluster.primary_of(slot), cluster.replica_of(slot));
    replica.pause();
    // What is under way to it would reach it after all.
    primary.ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    write().await;
    primary.kill();
    replica.resume();
    cluster.wait_until_taken_over(slot, primary);
}
