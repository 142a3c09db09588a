//! One wrong clock harms nobody else: nothing that it decides is acted upon, and nobody is taken for a stranger because of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::core::store::{BySubject, Figures, StoreError, Sweep};
use cloakroom::{MemoryStore, NotReady, Policy, SessionError};
use cloakroom_testkit::{
    Call, Clocked, Counting, Failing, Hook, Hooked, ManualClock, Moment, Operation, block_on,
};
use http::StatusCode;

use crate::common::{Answer, START, World};

const HOUR: u64 = 3600;

/// An application on a store that has a clock of its own, and that clock.
fn world(store: impl BySubject + Sweep) -> (World, ManualClock) {
    let clock = ManualClock::new(START);
    (World::new(Clocked::new(store, clock.clone())), clock)
}

fn set(world: &World, ahead: i64) {
    let by = Duration::from_secs(ahead.unsigned_abs());
    world.clock.set(if ahead < 0 { START.minus(by) } else { START.plus(by) });
}

fn refused(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.body);
    assert_eq!((answer.set_cookie(), answer.header("retry-after")), (None, Some("2")));
}

#[test]
fn r047_r070_a_clock_that_jumps_ahead_ends_nobodys_session_and_takes_nobody_for_anonymous() {
    let store = Counting::new(MemoryStore::new());
    let (world, _) = world(store.clone());
    let (right, _) = self::world(store);
    let mut alice = world.client();
    alice.ask("/log-in/alice");
    alice.ask("/count");
    world.log.take();
    set(&world, HOUR as i64);
    // The very first look finds it out, before anything was compared.
    for path in ["/who", "/count", "/log-in/alice", "/log-out", "/list"] {
        refused(&alice.ask(path));
        assert_eq!(world.log.names(), ["session_clock_off"], "{path}");
    }
    let swept = block_on(world.layer.sessions().sweep());
    assert!(matches!(swept, Err(SessionError::ClockOff { .. })), "{swept:?}");
    let ended = block_on(world.layer.sessions().end_all("alice"));
    assert!(matches!(ended, Err(SessionError::ClockOff { .. })), "{ended:?}");
    // Elsewhere, where the clock is right, all goes on.
    let mut elsewhere = right.client();
    elsewhere.token = alice.token.clone();
    assert_eq!(elsewhere.ask("/who").who().0, "alice");
    // A visitor who brings no token is one, but nothing can be kept for him, and nobody logs in.
    let mut visitor = world.client();
    assert_eq!(visitor.ask("/who").status, StatusCode::OK);
    refused(&visitor.ask("/count"));
    refused(&visitor.ask("/log-in/bob"));
    refused(&visitor.ask("/begin-login/bob"));
    // Set right, it serves at once.
    set(&world, 0);
    assert_eq!(alice.ask("/who").who().0, "alice");
    assert_eq!(visitor.ask("/log-in/bob").who().0, "bob");
    assert_eq!(block_on(world.layer.sessions().sweep()).unwrap(), 0);
}

#[test]
fn r053_a_clock_that_jumps_ahead_takes_a_tab_that_raced_a_rotation_for_no_thief() {
    let (world, clock) = world(MemoryStore::new());
    let mut browser = world.client();
    browser.ask("/log-in/alice");
    let late = browser.clone();
    for clock in [&world.clock, &clock] {
        clock.advance(Duration::from_secs(901));
    }
    browser.ask("/who");
    browser.ask("/who");
    assert_ne!(browser.token, late.token, "nothing was rotated");
    // Past the grace by this clock alone.
    world.advance(600);
    refused(&late.ask_and_lose("/who"));
    world.clock.set(clock.time());
    assert_eq!(late.ask_and_lose("/who").who().0, "alice");
    assert_eq!(browser.ask("/who").who().0, "alice");
}

#[test]
fn clocks_that_differ_by_no_more_than_the_skew_are_as_good_as_equal_and_one_that_is_behind_is_found_out_by_a_look()
 {
    for (ahead, agree) in [(5, true), (-5, true), (6, false), (-6, false), (-3600, false)] {
        let (world, _) = world(MemoryStore::new());
        let mut alice = world.client();
        alice.ask("/log-in/alice");
        set(&world, ahead);
        let ready = block_on(world.layer.ready());
        match ready {
            Ok(()) => assert!(agree, "{ahead}"),
            Err(NotReady::ClockOff { by, allowed }) => {
                assert_eq!((by.as_secs(), allowed.as_secs(), agree), (ahead.unsigned_abs(), 5, false));
            }
            other => panic!("{other:?}"),
        }
        if agree {
            assert_eq!(alice.ask("/who").who().0, "alice");
        } else {
            refused(&alice.ask("/who"));
        }
    }
}

#[test]
fn what_really_expired_is_over_and_costs_one_look_at_the_stores_clock() {
    let (world, clock) = world(MemoryStore::new());
    let mut alice = world.client();
    alice.ask("/log-in/alice");
    for clock in [&world.clock, &clock] {
        clock.advance(Duration::from_secs(2 * HOUR));
    }
    assert_eq!(alice.ask("/who").who().0, "-");
    assert!(world.log.names().contains(&"session_use_after_expire"));
    assert_eq!(block_on(world.layer.sessions().sweep()).unwrap(), 1);
}

#[test]
fn whoever_says_why_does_without_the_comparison_and_a_store_without_a_clock_has_none() {
    let clock = ManualClock::new(START);
    let unchecked = World::with(Clocked::new(MemoryStore::new(), clock), |builder| {
        builder.insecure_without_clock_check("the store's clock is known to be wrong")
    });
    for world in [unchecked, World::new(MemoryStore::new())] {
        set(&world, HOUR as i64);
        block_on(world.layer.ready()).unwrap();
        let mut alice = world.client();
        assert_eq!(alice.ask("/log-in/alice").who().0, "alice");
        assert_eq!(block_on(world.layer.sessions().sweep()).unwrap(), 0);
    }
}

#[test]
fn ready_asks_the_store_whether_it_takes_sessions() {
    let store = Counting::new(MemoryStore::new());
    let world = World::new(store.clone());
    store.take();
    block_on(world.layer.ready()).unwrap();
    assert_eq!(store.take().of(Operation::Probe), 1);
    let store = Failing::new(MemoryStore::new());
    let world = World::new(store.clone());
    store.fail_all(Moment::Before);
    assert!(matches!(block_on(world.layer.ready()), Err(NotReady::Store(_))));
}

#[test]
fn a_layer_gives_its_store_the_figures_of_its_policy() {
    #[derive(Clone, Default)]
    struct Given(Arc<Mutex<Vec<Figures>>>);
    impl Hook for Given {
        async fn before(&self, _: Call) -> Result<(), StoreError> {
            Ok(())
        }
        async fn after(&self, _: Call) -> Result<(), StoreError> {
            Ok(())
        }
        fn govern(&self, figures: Figures) {
            self.0.lock().unwrap().push(figures);
        }
    }
    let given = Given::default();
    let policy =
        Policy::default().clock_skew(Duration::from_secs(9)).tombstone_ttl(Duration::from_secs(7200));
    let store = Hooked::with(MemoryStore::new(), given.clone());
    let world = World::with(store.clone(), |builder| builder.policy(policy.clone()));
    assert_eq!(*given.0.lock().unwrap(), [policy.figures()]);
    drop(world);
}
