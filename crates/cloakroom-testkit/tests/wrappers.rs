//! What the wrappers do to the store inside.

#![allow(clippy::unwrap_used, reason = "a test reports by panicking")]

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use cloakroom_core::client::Client;
use cloakroom_core::clock::Timestamp;
use cloakroom_core::lifecycle::establish::Draft;
use cloakroom_core::record::{Record, Subject};
use cloakroom_core::seal::Pepper;
use cloakroom_core::store::{
    Admission, BySubject, Epoch, Found, Reason, Store, StoreErrorKind, Sweep, SweepLimits,
};
use cloakroom_testkit::{Counting, Failing, Moment, Operation, SeededEntropy, Yielding, block_on};
use support::{Bug, Model};

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn model() -> Model {
    Model::new(Bug::None, 1)
}

fn record() -> Record {
    let draft = Draft {
        subject: None,
        created: NOW,
        idle: Duration::from_secs(60),
        absolute: Duration::from_secs(600),
        client: Client::default(),
        data: Vec::new(),
    };
    draft.seal(&Pepper::new(&[1; 32]).unwrap(), &SeededEntropy::new(1)).unwrap().0
}

fn admission() -> Admission {
    Admission { now: NOW, since: Epoch::default(), cap: None }
}

#[test]
fn each_method_is_counted_under_its_own_name() {
    let store = Counting::new(model());
    let (record, alice) = (record(), Subject::new("alice").unwrap());
    let limits = SweepLimits { batch: 1, tombstone_ttl: Duration::MAX, epoch_ttl: Duration::MAX };
    block_on(async {
        store.insert(record.clone(), admission()).await.unwrap();
        store.find(record.handle()).await.unwrap();
        store.find(record.handle()).await.unwrap();
        store.replace(record.version(), record.clone()).await.unwrap();
        store.touch(record.handle(), NOW).await.unwrap();
        store.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap();
        store.list(&alice).await.unwrap();
        store.epoch(&alice).await.unwrap();
        store.remove_all(&alice, None, Reason::RevokedAll, NOW).await.unwrap();
        store.remove_everybody(Reason::RevokedAll, NOW).await.unwrap();
        store.sweep(NOW, limits).await.unwrap();
    });
    let counts = store.take();
    for (operation, calls) in [
        (Operation::Insert, 1),
        (Operation::Find, 2),
        (Operation::Replace, 1),
        (Operation::Touch, 1),
        (Operation::Remove, 1),
        (Operation::List, 1),
        (Operation::Epoch, 1),
        (Operation::RemoveAll, 1),
        (Operation::RemoveEverybody, 1),
        (Operation::Sweep, 1),
    ] {
        assert_eq!(counts.of(operation), calls, "{operation:?}");
    }
    assert_eq!((counts.total(), counts.reads(), counts.writes()), (11, 4, 7));
    assert_eq!(store.counts().total(), 0);
    assert_eq!(store.calls(), 11);
}

#[test]
fn a_call_that_fails_before_the_store_changes_nothing_and_one_after_it_has_acted() {
    for (moment, acted) in [(Moment::Before, false), (Moment::After, true)] {
        let store = Failing::new(model());
        let record = record();
        block_on(async {
            store.find(record.handle()).await.unwrap();
            store.fail_nth(2, moment);
            store.find(record.handle()).await.unwrap();
            let error = store.insert(record.clone(), admission()).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
            let found = store.find(record.handle()).await.unwrap();
            assert_eq!(found != Found::Absent, acted, "{moment:?}");
        });
    }
}

#[test]
fn a_store_that_is_down_fails_every_call_until_it_is_healed() {
    let store = Failing::new(model());
    let handle = record().handle();
    block_on(async {
        store.fail_all(Moment::Before);
        assert!(store.find(handle).await.is_err());
        assert!(store.touch(handle, NOW).await.is_err());
        store.heal();
        assert!(store.find(handle).await.is_ok());
    });
}

/// The layer asks a store that answers at once in this way, so a wrapper that did not count or fail it would test nothing.
#[test]
fn a_look_up_at_once_passes_the_hooks_like_any_other() {
    let store = Counting::new(Failing::new(model()));
    let record = record();
    block_on(store.insert(record.clone(), admission())).unwrap();
    let found = || store.find_at_once(record.handle()).map(|answer| answer.map_err(|error| error.kind()));
    assert_eq!(found(), Some(Ok(Found::Live(record.clone()))));
    for moment in [Moment::Before, Moment::After] {
        store.inner().fail_nth(1, moment);
        assert_eq!(found(), Some(Err(StoreErrorKind::Unavailable)), "{moment:?}");
        assert_eq!(found(), Some(Ok(Found::Live(record.clone()))));
    }
    assert_eq!(store.take().of(Operation::Find), 5);
    // One that lets others go first cannot answer at once; then it counts as no call.
    let store = Counting::new(Yielding::new(model()));
    assert!(store.find_at_once(record.handle()).is_none());
    assert_eq!(store.take().total(), 0);
}

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_yielding_store_acts_between_its_yields() {
    for (store, yields_after) in [(Yielding::new(model()), 0), (Yielding::both(model()), 1)] {
        let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let record = record();
        let inside = || block_on(store.inner().find(record.handle())).unwrap();
        let mut insert = pin!(store.insert(record.clone(), admission()));
        assert!(insert.as_mut().poll(&mut context).is_pending());
        assert_eq!((inside(), wakes.0.load(Ordering::SeqCst)), (Found::Absent, 1));
        if yields_after == 1 {
            assert!(insert.as_mut().poll(&mut context).is_pending());
            assert_eq!(wakes.0.load(Ordering::SeqCst), 2);
            assert_eq!(inside(), Found::Live(record.clone()));
        }
        assert!(matches!(insert.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    }
}

#[test]
fn a_future_that_is_woken_from_another_thread_is_driven_to_its_end() {
    let mut polls = 0;
    let answer = block_on(std::future::poll_fn(|context| {
        polls += 1;
        if polls == 3 {
            return Poll::Ready("done");
        }
        let waker = context.waker().clone();
        std::thread::spawn(move || waker.wake());
        Poll::Pending
    }));
    assert_eq!(answer, "done");
}
