//! Waiting for a session's end: heard of at once where it can be, within the bound where nobody tells, and never kept waiting
//! by a store that is silent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cloakroom::core::store::{BySubject, StoreError, Sweep};
use cloakroom::{AtCap, Ended, Handle, MemoryStore, Policy, Reason, Session, SessionEnd, SessionLayer};
use cloakroom_testkit::{Call, Counting, Failing, Hook, Hooked, Moment, Operation};
use tokio::time::Instant;

use crate::common::{COUNT, Client, World, answer, poll_once};

const INTERVAL: Duration = Duration::from_secs(5);
/// The interval, and the patience with a store that does not answer.
const PATIENCE: Duration = Duration::from_secs(35);
const MOMENT: Duration = Duration::from_millis(1);

/// What a request leaves to a connection that outlives it.
struct Held {
    session: Session,
    ended: Ended,
}

impl Held {
    fn is_over(&mut self) -> Option<SessionEnd> {
        poll_once(&mut self.ended)
    }
}

/// Makes a request whose handler does something, asks for the session's end, and lets go of both.
async fn hold(layer: &SessionLayer, client: &mut Client, act: &'static str) -> Held {
    let held = Arc::new(Mutex::new(None));
    let given = Arc::clone(&held);
    let handler = async move |session: Session| {
        match act {
            "" => {}
            "count" => session.update(COUNT, |count| *count += 1).unwrap(),
            "log out" => session.log_out().await.unwrap(),
            "log in" => session.log_in("alice").await.unwrap(),
            "rotate" => session.rotate().await.unwrap(),
            _ => panic!("{act}"),
        }
        let ended = session.ended();
        *given.lock().unwrap() = Some(Held { session, ended });
    };
    let app = Router::new().route("/", get(handler)).layer(layer.clone());
    let answer = answer(app, client.request("/")).await;
    client.receive(&answer);
    held.lock().unwrap().take().unwrap()
}

/// A user who is logged in, and a connection of theirs, watched.
async fn watched(world: &World, name: &str) -> (Client, Held) {
    let mut client = world.client();
    ask(&mut client, &format!("/log-in/{name}")).await;
    let mut held = hold(&world.layer, &mut client, "").await;
    assert_eq!(held.is_over(), None);
    (client, held)
}

async fn ask(client: &mut Client, path: &str) -> common::Answer {
    let answer = client.begin(path).await;
    client.receive(&answer);
    answer
}

/// The layer of another process on the same store.
fn elsewhere(store: impl BySubject + Sweep, world: &World) -> SessionLayer {
    SessionLayer::builder(store).clock(world.clock.clone()).without_sweeping().build().unwrap()
}

async fn handles(world: &World, name: &str) -> Vec<Handle> {
    world.layer.sessions().list(name).await.unwrap().iter().map(|info| info.handle).collect()
}

#[tokio::test(start_paused = true)]
async fn r062_an_end_that_this_process_carries_out_is_heard_of_at_once_and_by_nobody_else() {
    let cases = [
        ("logged out in another tab", Reason::LoggedOut),
        ("another login in the same browser", Reason::Superseded),
        ("ended from another browser", Reason::Revoked),
        ("ended by an administrator", Reason::Revoked),
        ("all others ended", Reason::RevokedAll),
        ("all ended", Reason::RevokedAll),
        ("all ended by an administrator", Reason::RevokedAll),
        ("evicted", Reason::Evicted),
        ("swept when idle", Reason::Idle),
        ("a stolen secret replayed", Reason::Replay),
    ];
    for (how, reason) in cases {
        let policy = Policy::default().max_sessions(2, AtCap::EvictOldest);
        let world = World::with(MemoryStore::new(), |builder| builder.policy(policy));
        let (mut other, mut others) = watched(&world, "bob").await;
        let (mut client, mut held) = watched(&world, "alice").await;
        let handle = handles(&world, "alice").await[0];
        let mut second = world.client();
        world.advance(1);
        ask(&mut second, "/log-in/alice").await;
        let begun = Instant::now();
        match how {
            "logged out in another tab" => drop(ask(&mut client, "/log-out").await),
            "another login in the same browser" => drop(ask(&mut client, "/log-in/alice").await),
            "ended from another browser" => drop(ask(&mut second, &format!("/end/{handle}")).await),
            "ended by an administrator" => drop(world.layer.sessions().end(handle).await.unwrap()),
            "all others ended" => drop(ask(&mut second, "/log-out-others").await),
            "all ended" => drop(ask(&mut second, "/log-out-everywhere").await),
            "all ended by an administrator" => drop(world.layer.sessions().end_all("alice").await.unwrap()),
            "evicted" => {
                ask(&mut second, "/who").await;
                ask(&mut world.client(), "/log-in/alice").await;
            }
            "swept when idle" => {
                world.advance(1500);
                ask(&mut other, "/who").await;
                world.advance(600);
                world.layer.sessions().sweep().await.unwrap();
            }
            _ => {
                let mut thief = client.clone();
                world.advance(901);
                ask(&mut client, "/who").await;
                ask(&mut client, "/who").await;
                world.advance(120);
                ask(&mut thief, "/who").await;
            }
        }
        assert_eq!(held.is_over(), Some(SessionEnd::Ended(reason)), "{how}");
        assert_eq!(held.is_over(), Some(SessionEnd::Ended(reason)), "{how}: and it stays so");
        assert_eq!(others.is_over(), None, "{how}: somebody else's goes on");
        assert_eq!(begun.elapsed(), Duration::ZERO, "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn r062_where_the_store_tells_nobody_an_end_elsewhere_is_heard_of_within_the_interval() {
    for interval in [INTERVAL, Duration::from_millis(100), Duration::from_secs(300)] {
        let store = Counting::new(MemoryStore::new());
        let policy = Policy::default().watch_interval(interval);
        let world = World::with(store.clone(), |builder| builder.policy(policy));
        let other = elsewhere(store.clone(), &world);
        let (_, mut others) = watched(&world, "bob").await;
        let (_, held) = watched(&world, "alice").await;
        // Some way into the third interval.
        tokio::time::sleep(interval * 5 / 2).await;
        assert_eq!(other.sessions().end_all("alice").await.unwrap(), 1);
        let begun = Instant::now();
        let end = tokio::time::timeout(interval, held.ended).await;
        assert_eq!(end, Ok(SessionEnd::Ended(Reason::RevokedAll)), "{interval:?}");
        assert_eq!(begun.elapsed(), interval / 2, "{interval:?}");
        tokio::time::sleep(interval * 10).await;
        assert_eq!(others.is_over(), None, "somebody else's goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn r036_r037_r062_expiry_ends_a_wait_by_the_stored_figures_and_not_before() {
    for (limit, reason) in [(1800, Reason::Idle), (86_400, Reason::Absolute)] {
        let world = World::new(MemoryStore::new());
        let (mut client, mut held) = watched(&world, "alice").await;
        let mut now = 0;
        while reason == Reason::Absolute && now + 1500 < limit {
            world.advance(1500);
            now += 1500;
            ask(&mut client, "/who").await;
        }
        // Limits come early by the skew of 5 seconds.
        world.advance(limit - 6 - now);
        tokio::time::sleep(INTERVAL * 3).await;
        assert_eq!(held.is_over(), None, "{reason:?}");
        world.advance(2);
        let end = tokio::time::timeout(INTERVAL + MOMENT, held.ended).await;
        assert_eq!(end, Ok(SessionEnd::Ended(reason)));
        assert_eq!(
            ask(&mut client, "/who").await.who(),
            ("-", "-"),
            "a request would have been told the same"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn r045_watching_is_no_activity_and_reads_each_session_once_a_round() {
    let store = Counting::new(MemoryStore::new());
    let world = World::new(store.clone());
    let (client, held) = watched(&world, "alice").await;
    let seen = world.layer.sessions().list("alice").await.unwrap()[0].seen;
    let mut tabs = vec![held];
    for _ in 0..50 {
        let mut held = hold(&world.layer, &mut client.clone(), "").await;
        assert_eq!(held.is_over(), None);
        tabs.push(held);
    }
    store.take();
    for round in 1..=20 {
        world.advance(61);
        tokio::time::sleep(INTERVAL).await;
        tokio::time::sleep(MOMENT).await;
        let counts = store.take();
        assert_eq!((counts.of(Operation::Find), counts.total()), (1, 1), "round {round}");
    }
    assert_eq!(world.layer.sessions().list("alice").await.unwrap()[0].seen, seen);
    assert!(tabs.iter_mut().all(|held| held.is_over().is_none()));
    world.layer.sessions().end_all("alice").await.unwrap();
    assert!(tabs.iter_mut().all(|held| held.is_over() == Some(SessionEnd::Ended(Reason::RevokedAll))));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_or_a_step_up_does_not_end_a_wait() {
    let world = World::new(MemoryStore::new());
    let (mut client, mut held) = watched(&world, "alice").await;
    for path in ["/rotate", "/step-up", "/rotate"] {
        ask(&mut client, path).await;
        tokio::time::sleep(INTERVAL * 2).await;
        assert_eq!(held.is_over(), None, "{path}");
    }
    let mut again = hold(&world.layer, &mut client, "rotate").await;
    tokio::time::sleep(INTERVAL * 2).await;
    assert_eq!(again.is_over(), None);
    ask(&mut client, "/log-out").await;
    assert_eq!(held.is_over(), Some(SessionEnd::Ended(Reason::LoggedOut)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_belongs_to_the_session_that_its_request_has_in_the_end() {
    let world = World::new(MemoryStore::new());
    let forever = Duration::from_secs(86_400);
    let visitor = hold(&world.layer, &mut world.client(), "").await;
    assert!(tokio::time::timeout(forever, visitor.ended).await.is_err(), "no session, no end");

    let mut client = world.client();
    let made = hold(&world.layer, &mut client, "count").await;
    assert!(client.token.is_some());
    let mut late = made.session.ended();
    assert_eq!(poll_once(&mut late), None);
    ask(&mut client, "/log-out").await;
    assert_eq!(poll_once(&mut late), Some(SessionEnd::Ended(Reason::LoggedOut)), "made by the response");

    let (mut client, mut before) = watched(&world, "alice").await;
    let mut after = hold(&world.layer, &mut client, "log in").await;
    assert_eq!(before.is_over(), Some(SessionEnd::Ended(Reason::Superseded)));
    assert_eq!(after.is_over(), None);
    tokio::time::sleep(INTERVAL * 2).await;
    assert_eq!(after.is_over(), None, "the one that the login has made");

    // Not when a round is due anyway.
    tokio::time::sleep(MOMENT).await;
    let begun = Instant::now();
    let out = hold(&world.layer, &mut client, "log out").await;
    assert_eq!(out.ended.await, SessionEnd::Ended(Reason::LoggedOut), "ended by the request itself");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_begins_long_after_the_end_is_over_within_the_interval() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    ask(&mut client, "/log-in/alice").await;
    let held = hold(&world.layer, &mut client, "").await;
    ask(&mut client, "/log-out").await;
    tokio::time::sleep(INTERVAL * 10).await;
    let end = tokio::time::timeout(INTERVAL + MOMENT, held.session.ended()).await;
    assert_eq!(end, Ok(SessionEnd::Ended(Reason::LoggedOut)));
    let end = tokio::time::timeout(INTERVAL + MOMENT, held.ended).await;
    assert_eq!(end, Ok(SessionEnd::Ended(Reason::LoggedOut)));
}

#[tokio::test(start_paused = true)]
async fn r070_a_store_that_fails_ends_a_wait_only_when_it_has_failed_for_too_long() {
    let store = Failing::new(MemoryStore::new());
    let world = World::new(store.clone());
    let (_, mut held) = watched(&world, "alice").await;
    let begun = Instant::now();
    for _ in 0..3 {
        // Unreachable for less than the patience, again and again.
        store.fail_all(Moment::Before);
        tokio::time::sleep(PATIENCE - INTERVAL - MOMENT).await;
        assert_eq!(held.is_over(), None, "{:?}", begun.elapsed());
        store.heal();
        tokio::time::sleep(INTERVAL * 2).await;
    }
    world.log.take();
    store.fail_all(Moment::Before);
    let failed = Instant::now();
    let end = tokio::time::timeout(PATIENCE * 2, held.ended).await;
    assert_eq!(end, Ok(SessionEnd::Unverifiable));
    assert!(failed.elapsed() > PATIENCE - INTERVAL && failed.elapsed() <= PATIENCE + INTERVAL);
    let events = world.log.names();
    assert!(events.iter().all(|name| *name == "session_store_failed"), "{events:?}");
    assert!((6..=9).contains(&events.len()), "one event for each round: {events:?}");
}

#[tokio::test(start_paused = true)]
async fn r062_an_end_during_an_outage_is_heard_of_when_the_store_is_back() {
    let inner = Counting::new(MemoryStore::new());
    let store = Failing::new(inner.clone());
    let world = World::new(store.clone());
    let (_, mut held) = watched(&world, "alice").await;
    store.fail_all(Moment::Before);
    elsewhere(inner, &world).sessions().end_all("alice").await.unwrap();
    tokio::time::sleep(INTERVAL * 4).await;
    assert_eq!(held.is_over(), None);
    store.heal();
    let end = tokio::time::timeout(INTERVAL + MOMENT, held.ended).await;
    assert_eq!(end, Ok(SessionEnd::Ended(Reason::RevokedAll)));
}

/// Lets calls hang while it is shut, and counts how many are under way at once.
#[derive(Default)]
struct Gate {
    shut: AtomicBool,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Hook for Gate {
    async fn before(&self, _: Call) -> Result<(), StoreError> {
        if self.shut.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        tokio::time::sleep(MOMENT).await;
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    async fn after(&self, _: Call) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn r070_a_store_that_hangs_ends_every_wait_in_the_end_however_many_there_are() {
    let store = Hooked::with(MemoryStore::new(), Gate::default());
    let world = World::new(store.clone());
    let mut all = Vec::new();
    for index in 0..100 {
        all.push(watched(&world, &format!("user-{index}")).await.1);
    }
    tokio::time::sleep(INTERVAL * 2).await;
    assert!(all.iter_mut().all(|held| held.is_over().is_none()));
    let most = store.hook().most.load(Ordering::SeqCst);
    assert!((2..=16).contains(&most), "look-ups go in bounded batches: {most} at once");
    store.hook().shut.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    for held in all {
        let left = (PATIENCE + INTERVAL).saturating_sub(begun.elapsed());
        assert_eq!(tokio::time::timeout(left, held.ended).await, Ok(SessionEnd::Unverifiable));
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_waits_nobody_watches() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let store = Counting::new(MemoryStore::new());
    let world = World::new(store.clone());
    let (_, held) = watched(&world, "alice").await;
    let (_, other) = watched(&world, "bob").await;
    // The task that compares clocks finds that there is one only.
    tokio::time::sleep(MOMENT).await;
    assert_eq!(alive(), 1, "one task for all");
    drop((held, other));
    tokio::time::sleep(INTERVAL + MOMENT).await;
    assert_eq!(alive(), 0);
    store.take();
    tokio::time::sleep(INTERVAL * 10).await;
    assert_eq!(store.take().total(), 0);
    let (_, held) = watched(&world, "alice").await;
    assert_eq!(alive(), 1, "and it begins again");
    let Held { session, ended } = held;
    drop((session, world));
    assert_eq!(ended.await, SessionEnd::Unverifiable, "without a layer nobody can tell");
    tokio::time::sleep(MOMENT).await;
    assert_eq!(alive(), 0);
}

#[test]
fn where_nobody_can_watch_a_wait_is_over() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    client.ask("/log-in/alice");
    let mut held = cloakroom_testkit::block_on(hold(&world.layer, &mut client, ""));
    assert_eq!(held.is_over(), Some(SessionEnd::Unverifiable), "no runtime");

    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let (_, mut held) = first.block_on(watched(&world, "alice"));
    let (_, mut other) = second.block_on(watched(&world, "bob"));
    drop(first);
    assert_eq!(held.is_over(), Some(SessionEnd::Unverifiable), "the runtime that watched is gone");
    assert_eq!(other.is_over(), Some(SessionEnd::Unverifiable), "for all that it watched for");
    let (_, mut again) = second.block_on(watched(&world, "alice"));
    assert_eq!(again.is_over(), None, "and another one takes over");
}

#[test]
fn a_wait_can_be_sent_to_a_task_and_says_nothing_secret() {
    fn check<T: Send + Sync + Unpin + 'static>(_: &T) {}
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    client.ask("/log-in/alice");
    let held = cloakroom_testkit::block_on(hold(&world.layer, &mut client, ""));
    check(&held.ended);
    assert_eq!(format!("{:?}", held.ended), "Ended(\"waiting\")");
    assert_eq!(SessionEnd::Ended(Reason::RevokedAll).to_string(), "revoked_all");
    assert_eq!(SessionEnd::Ended(Reason::Idle).reason(), Some(Reason::Idle));
    assert_eq!((SessionEnd::Gone.reason(), SessionEnd::Unverifiable.reason()), (None, None));
}
