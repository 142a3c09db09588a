//! What nobody has asked for, such as a note of activity, never spoils a finished response, and never delays it for long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cloakroom::core::clock::{Clock, ClockError, Timestamp};
use cloakroom::core::entropy::{Entropy, EntropyError};
use cloakroom::core::store::StoreError;
use cloakroom::{MemoryStore, SessionLayer};
use cloakroom_testkit::{Call, Failing, Hook, Hooked, Moment, Operation, SeededEntropy};
use http::StatusCode;
use tokio::time::Instant;

use crate::common::{Client, World};

/// Brings a session to where the next request has some housekeeping to do.
fn bring(world: &World, client: &mut Client, due: &str) {
    client.ask("/log-in/alice");
    client.ask("/count");
    match due {
        "touch" => world.advance(61),
        "rotation" => world.advance(901),
        "confirmation" => {
            world.advance(901);
            client.ask("/who");
        }
        "lost successor" => {
            world.advance(901);
            client.ask_and_lose("/who");
        }
        _ => {}
    }
    world.log.take();
}

#[test]
fn housekeeping_that_the_store_refuses_is_left_out_and_the_response_goes_out() {
    for (due, path, call, body) in [
        ("touch", "/who", 2, "alice "),
        ("rotation", "/who", 2, "alice "),
        ("confirmation", "/who", 2, "alice "),
        ("lost successor", "/who", 2, "alice "),
        ("rotation", "/word", 2, ""),
        ("rotation", "/authenticated", 2, "alice"),
    ] {
        for moment in [Moment::Before, Moment::After] {
            let store = Failing::new(MemoryStore::new());
            let world = World::new(store.clone());
            let mut client = world.client();
            bring(&world, &mut client, due);
            let before = store.calls();
            store.fail_nth(call, moment);
            let answer = client.ask(path);
            assert_eq!(store.calls(), before + call, "{due}: the call that fails is the last");
            assert_eq!((answer.status, answer.set_cookie()), (StatusCode::OK, None), "{due} {moment:?}");
            assert!(answer.body.starts_with(body), "{due} {moment:?}: {}", answer.body);
            assert_eq!(world.log.names(), ["session_housekeeping_dropped"], "{due} {moment:?}");
            store.heal();
            assert_eq!(client.ask("/count").body, "2", "{due} {moment:?}: the session goes on");
            for _ in 0..3 {
                world.advance(901);
                client.ask("/who");
                assert_eq!(client.ask("/who").who().0, "alice", "{due} {moment:?}: and so do its rotations");
            }
        }
    }
}

#[test]
fn a_cookie_that_the_application_asked_for_goes_out_whatever_becomes_of_housekeeping() {
    for path in ["/step-up", "/rotate"] {
        let store = Failing::new(MemoryStore::new());
        let world = World::new(store.clone());
        let mut client = world.client();
        bring(&world, &mut client, "rotation");
        // Look-up, replacement, and the look-up that proves the cookie.
        store.fail_nth(3, Moment::Before);
        let answer = client.ask(path);
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(matches!(answer.token(), Some(Some(_))), "{path}: the old secret is refused already");
        assert!(world.log.names().contains(&"session_housekeeping_dropped"), "{path}");
        store.heal();
        assert_eq!(client.ask("/who").who().0, "alice", "{path}");
    }
}

#[test]
fn a_change_of_the_application_that_the_store_refuses_is_a_503_also_beside_housekeeping() {
    for due in ["nothing", "touch", "rotation", "confirmation"] {
        let store = Failing::new(MemoryStore::new());
        let world = World::new(store.clone());
        let mut client = world.client();
        bring(&world, &mut client, due);
        store.fail_nth(2, Moment::Before);
        let answer = client.ask("/count");
        assert_eq!((answer.status, answer.set_cookie()), (StatusCode::SERVICE_UNAVAILABLE, None), "{due}");
        assert_eq!(world.log.names(), ["session_store_failed"], "{due}");
    }
}

#[test]
fn a_rotation_on_schedule_that_gets_no_randomness_is_left_out() {
    #[derive(Clone)]
    struct Dry(Arc<AtomicBool>, Arc<SeededEntropy>);
    impl Entropy for Dry {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
            if self.0.load(Ordering::Relaxed) { Err(EntropyError) } else { self.1.fill(bytes) }
        }
    }
    let dry = Dry(Arc::default(), Arc::new(SeededEntropy::new(3)));
    let world = World::with(MemoryStore::new(), |builder| builder.entropy(dry.clone()));
    let mut client = world.client();
    bring(&world, &mut client, "rotation");
    dry.0.store(true, Ordering::Relaxed);
    let answer = client.ask("/who");
    assert_eq!((answer.status, answer.set_cookie(), answer.who().0), (StatusCode::OK, None, "alice"));
    assert_eq!(world.log.names(), ["session_housekeeping_dropped"]);
    assert_eq!(client.ask("/count").status, StatusCode::SERVICE_UNAVAILABLE, "a change cannot be sealed");
    dry.0.store(false, Ordering::Relaxed);
    assert!(client.ask("/who").set_cookie().is_some(), "the rotation is made up for");
}

#[test]
fn a_clock_that_fails_once_the_handler_has_answered_spoils_no_read() {
    #[derive(Clone)]
    struct Stopping(Arc<AtomicU64>);
    impl Clock for Stopping {
        fn now(&self) -> Result<Timestamp, ClockError> {
            let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.map(|_| common::START).map_err(|_| ClockError)
        }
    }
    let clock = Stopping(Arc::new(AtomicU64::new(100)));
    let world = World::with(MemoryStore::new(), |builder| builder.clock(clock.clone()));
    let mut client = world.client();
    client.ask("/log-in/alice");
    client.ask("/who");
    world.log.take();
    // At arrival, and when the token is judged.
    clock.0.store(2, Ordering::Relaxed);
    let answer = client.ask("/who");
    assert_eq!((answer.status, answer.who().0), (StatusCode::OK, "alice"));
    assert_eq!(world.log.names(), ["session_housekeeping_dropped"]);
    clock.0.store(2, Ordering::Relaxed);
    assert_eq!(client.ask("/count").status, StatusCode::SERVICE_UNAVAILABLE, "a change cannot be dated");
}

/// A store of which some calls are never answered, as of a database that somebody has locked.
struct Stuck(Arc<std::sync::Mutex<Vec<Operation>>>);

impl Hook for Stuck {
    async fn before(&self, call: Call) -> Result<(), StoreError> {
        if self.0.lock().unwrap().contains(&call.operation) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn after(&self, _: Call) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_housekeeping_no_longer_than_it_is_told_and_a_change_for_as_long_as_it_takes() {
    for (setting, expected) in [(None, 100), (Some(250), 250)] {
        for due in ["touch", "rotation", "confirmation"] {
            let stuck = Arc::default();
            let store = Hooked::with(MemoryStore::new(), Stuck(Arc::clone(&stuck)));
            let world = World::with(store, |builder| match setting {
                Some(millis) => builder.housekeeping_timeout(Duration::from_millis(millis)),
                None => builder,
            });
            let mut client = world.client();
            bring(&world, &mut client, due);
            stuck.lock().unwrap().extend([Operation::Touch, Operation::Replace]);
            let begun = Instant::now();
            let answer = client.begin("/who").await;
            assert_eq!(begun.elapsed(), Duration::from_millis(expected), "{due}");
            assert_eq!((answer.status, answer.set_cookie(), answer.who().0), (StatusCode::OK, None, "alice"));
            assert_eq!(world.log.names(), ["session_housekeeping_dropped"], "{due}");
            let change = tokio::time::timeout(Duration::from_secs(3600), client.begin("/count"));
            assert!(change.await.is_err(), "{due}: a change is waited for");
        }
    }
}

#[test]
fn a_patience_that_is_none_is_refused() {
    for (millis, good) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
        let patience = Duration::from_millis(millis);
        let built = SessionLayer::builder(MemoryStore::new()).housekeeping_timeout(patience).build();
        assert_eq!(built.is_ok(), good, "{patience:?}");
        if let Err(errors) = built {
            assert_eq!(errors.problems()[0].key, "housekeeping_timeout");
        }
    }
}
