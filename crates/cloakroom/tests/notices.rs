//! What a shared store tells of ends: it speeds a wait's end up, and decides nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cloakroom::core::clock::Timestamp;
use cloakroom::core::record::{Record, Subject, Version};
use cloakroom::core::store::{
    Admission, BySubject, EndListener, EndNotice, Found, Inserted, RemovedAll, Replaced, Standing, Store,
    StoreError, Sweep, SweepLimits, SweepReport,
};
use cloakroom::{Ended, Handle, MemoryStore, Reason, Session, SessionEnd, SessionLayer};
use cloakroom_testkit::{Counting, Operation};
use tokio::time::Instant;

use crate::common::{Client, World, answer, poll_once};

/// A store that tells what the test makes it tell.
#[derive(Clone)]
struct Telling {
    store: Counting<MemoryStore>,
    listeners: Arc<Mutex<Vec<EndListener>>>,
    /// How long a look-up takes.
    takes: Duration,
}

impl Telling {
    fn new() -> Self {
        Self { store: Counting::new(MemoryStore::new()), listeners: Arc::default(), takes: Duration::ZERO }
    }

    fn tell(&self, notice: EndNotice) {
        for listener in &*self.listeners.lock().unwrap() {
            listener(notice);
        }
    }

    fn listeners(&self) -> usize {
        self.listeners.lock().unwrap().len()
    }
}

impl Store for Telling {
    async fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        tokio::time::sleep(self.takes).await;
        self.store.find(handle).await
    }

    async fn insert(&self, record: Record, admission: Admission) -> Result<Inserted, StoreError> {
        self.store.insert(record, admission).await
    }

    async fn replace(&self, expected: Version, record: Record) -> Result<Replaced, StoreError> {
        self.store.replace(expected, record).await
    }

    async fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        self.store.remove(handle, reason, now).await
    }

    async fn touch(&self, handle: Handle, seen: Timestamp) -> Result<(), StoreError> {
        self.store.touch(handle, seen).await
    }

    fn on_end(&self, listener: EndListener) {
        // As a store would that starts a task to listen in.
        drop(tokio::runtime::Handle::current());
        self.listeners.lock().unwrap().push(listener);
    }
}

impl BySubject for Telling {
    async fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        self.store.list(subject).await
    }

    async fn standing(&self, subject: &Subject) -> Result<Standing, StoreError> {
        self.store.standing(subject).await
    }

    async fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        self.store.remove_all(subject, keep, reason, now).await
    }

    async fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        self.store.remove_everybody(reason, now).await
    }
}

impl Sweep for Telling {
    async fn sweep(&self, now: Timestamp, limits: SweepLimits) -> Result<SweepReport, StoreError> {
        self.store.sweep(now, limits).await
    }
}

async fn watched(world: &World, name: &str) -> (Handle, Ended) {
    let mut client: Client = world.client();
    let login = client.begin(&format!("/log-in/{name}")).await;
    client.receive(&login);
    let held = Arc::new(Mutex::new(None));
    let given = Arc::clone(&held);
    let handler = async move |session: Session| {
        *given.lock().unwrap() = Some((session.handle().unwrap(), session.ended()));
    };
    let app = Router::new().route("/", get(handler)).layer(world.layer.clone());
    answer(app, client.request("/")).await;
    let (handle, mut ended) = held.lock().unwrap().take().unwrap();
    assert_eq!(poll_once(&mut ended), None);
    (handle, ended)
}

fn elsewhere(store: &Telling, world: &World) -> SessionLayer {
    SessionLayer::builder(store.clone()).clock(world.clock.clone()).without_sweeping().build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn r062_an_end_that_the_store_tells_of_is_heard_of_after_one_look_up() {
    let store = Telling::new();
    let world = World::new(store.clone());
    assert_eq!(store.listeners(), 0, "nobody listens before somebody waits");
    let ((handle, alice), (_, mut bob)) = (watched(&world, "alice").await, watched(&world, "bob").await);
    assert_eq!(store.listeners(), 1, "one for the whole layer");
    elsewhere(&store, &world).sessions().end(handle).await.unwrap();
    store.store.take();
    let begun = Instant::now();
    store.tell(EndNotice::Ended(handle));
    assert_eq!(alice.await, SessionEnd::Ended(Reason::Revoked), "with the reason, which no notice has");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let counts = store.store.take();
    assert_eq!((counts.of(Operation::Find), counts.total()), (1, 1));
    assert_eq!(poll_once(&mut bob), None);
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_is_not_true_ends_nothing_and_one_of_a_stranger_costs_nothing() {
    let store = Telling::new();
    let world = World::new(store.clone());
    let (handle, mut ended) = watched(&world, "alice").await;
    store.store.take();
    store.tell(EndNotice::Ended(Handle::from_bytes([9; 16])));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(store.store.take().total(), 0);
    store.tell(EndNotice::Ended(handle));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((poll_once(&mut ended), store.store.take().total()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn r062_after_missed_notices_everything_is_looked_up_at_once() {
    let store = Telling::new();
    let world = World::new(store.clone());
    let other = elsewhere(&store, &world);
    let mut waiting = Vec::new();
    for index in 0..50 {
        waiting.push(watched(&world, &format!("user-{index}")).await.1);
        if index % 2 == 0 {
            other.sessions().end_all(format!("user-{index}")).await.unwrap();
        }
    }
    let begun = Instant::now();
    store.tell(EndNotice::Missed);
    for ended in waiting.iter_mut().step_by(2) {
        assert_eq!(ended.await, SessionEnd::Ended(Reason::RevokedAll));
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(waiting.iter_mut().skip(1).step_by(2).all(|ended| poll_once(ended).is_none()));
}

#[tokio::test(start_paused = true)]
async fn r062_a_flood_of_notices_keeps_no_round_from_its_turn() {
    // Each look-up takes longer than the next notice.
    let store = Telling { takes: Duration::from_millis(2), ..Telling::new() };
    let world = World::new(store.clone());
    let ((noisy, _kept), (quiet, ended)) = (watched(&world, "alice").await, watched(&world, "bob").await);
    elsewhere(&store, &world).sessions().end(quiet).await.unwrap();
    let flood = async {
        loop {
            store.tell(EndNotice::Ended(noisy));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let limit = Duration::from_secs(5) + Duration::from_millis(10);
    tokio::select! {
        end = tokio::time::timeout(limit, ended) => {
            assert_eq!(end, Ok(SessionEnd::Ended(Reason::Revoked)));
        }
        () = flood => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_outlives_its_layer_does_nothing() {
    let store = Telling::new();
    let world = World::new(store.clone());
    let (handle, ended) = watched(&world, "alice").await;
    drop(world);
    assert_eq!(tokio::time::timeout(Duration::from_millis(1), ended).await, Ok(SessionEnd::Unverifiable));
    store.tell(EndNotice::Ended(handle));
    store.tell(EndNotice::Missed);
}
