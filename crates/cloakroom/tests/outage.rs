//! When the store fails: 503, a cookie left alone, and nobody taken for a stranger.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use cloakroom::MemoryStore;
use cloakroom_testkit::{Failing, Moment};
use http::StatusCode;

use crate::common::{Answer, World};

/// Requests that between them make every kind of store call, each from a session that is due for everything.
const PATHS: [&str; 12] = [
    "/who",
    "/count",
    "/word/x",
    "/log-in/bob",
    "/begin-login/bob",
    "/log-in-and-count/bob",
    "/step-up",
    "/rotate",
    "/log-out",
    "/log-out-others",
    "/log-out-everywhere",
    "/list",
];

/// The store calls of these that nobody has asked for, by their place: a scheduled rotation, or the look-up that proves the cookie of a
/// rotation on demand. Their failure spoils no response (`housekeeping.rs`).
const HOUSEKEEPING: [(&str, u64); 5] =
    [("/who", 2), ("/step-up", 3), ("/rotate", 3), ("/log-out-others", 3), ("/list", 3)];

fn refused(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

/// Runs a request with its `n`-th store call failing; `None` if it makes fewer calls.
fn with_failure(path: &str, n: u64, moment: Moment) -> Option<(World, common::Client, Answer)> {
    let store = Failing::new(MemoryStore::new());
    let world = World::new(store.clone());
    let mut client = world.client();
    client.ask("/log-in/alice");
    client.ask("/count");
    // Due: a touch and a rotation.
    world.advance(901);
    world.log.take();
    store.fail_nth(n, moment);
    let before = store.calls();
    let answer = client.ask_and_lose(path);
    store.heal();
    (store.calls() >= before + n).then_some((world, client, answer))
}

#[test]
fn r070_each_store_call_failing_in_turn_is_a_503_with_one_event() {
    let mut tried = 0;
    for path in PATHS {
        for moment in [Moment::Before, Moment::After] {
            for n in 1.. {
                let Some((world, _, answer)) = with_failure(path, n, moment) else { break };
                let expected = if HOUSEKEEPING.contains(&(path, n)) {
                    assert_eq!(answer.status, StatusCode::OK, "{path} call {n} {moment:?}");
                    "session_housekeeping_dropped"
                } else {
                    refused(&answer);
                    "session_store_failed"
                };
                let failures = world.log.names();
                let failed = ["session_housekeeping_dropped", "session_store_failed"];
                assert_eq!(
                    failures.iter().filter(|name| failed.contains(name)).count(),
                    1,
                    "{path} {failures:?}"
                );
                let count = failures.iter().filter(|name| **name == expected).count();
                assert_eq!(count, 1, "{path} call {n} {moment:?}: {failures:?}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 40, "only {tried} failures tried");
}

#[test]
fn r070_a_store_failure_never_touches_the_cookie_but_for_what_the_store_has_acknowledged() {
    for path in PATHS {
        for moment in [Moment::Before, Moment::After] {
            for n in 1.. {
                let Some((world, client, answer)) = with_failure(path, n, moment) else { break };
                match answer.token() {
                    None => {}
                    // A login or rotation that the store has acknowledged before its data write failed.
                    Some(Some(token)) => {
                        let mut after = client.clone();
                        after.token = Some(token);
                        assert_ne!(after.ask("/who").who().0, "-", "{path} call {n} {moment:?}");
                    }
                    Some(None) => panic!("{path} call {n} {moment:?} removed the cookie"),
                }
                drop(world);
            }
        }
    }
}

#[test]
fn r053_after_a_failed_login_nobody_new_is_logged_in() {
    for path in ["/log-in/bob", "/begin-login/bob"] {
        for moment in [Moment::Before, Moment::After] {
            for n in 1.. {
                let Some((_world, mut client, answer)) = with_failure(path, n, moment) else { break };
                refused(&answer);
                let who = client.ask("/who").body;
                assert!(who.starts_with("alice ") || who == "- -", "{path} call {n} {moment:?}: {who}");
            }
        }
    }
}

#[test]
fn r070_while_the_store_is_down_nothing_is_taken_for_no_session_and_service_resumes() {
    let store = Failing::new(MemoryStore::new());
    let world = World::new(store.clone());
    let mut client = world.client();
    client.ask("/log-in/alice");
    let token = client.token.clone();
    store.fail_all(Moment::Before);
    for path in PATHS {
        let answer = client.ask(path);
        refused(&answer);
        assert_eq!(answer.set_cookie(), None, "{path}");
    }
    assert_eq!(client.ask("/authenticated").status, StatusCode::SERVICE_UNAVAILABLE, "not 401");
    assert_eq!(client.ask("/untouched").status, StatusCode::OK, "a route without session goes on");
    assert_eq!(world.client().ask("/who").status, StatusCode::OK, "so does a visitor without token");
    store.heal();
    assert_eq!(client.token, token);
    assert_eq!(client.ask("/who").who().0, "alice");
}

#[test]
fn a_failing_clock_is_a_503_too() {
    struct Broken;
    impl cloakroom::core::clock::Clock for Broken {
        fn now(&self) -> Result<cloakroom::core::clock::Timestamp, cloakroom::core::clock::ClockError> {
            Err(cloakroom::core::clock::ClockError)
        }
    }
    let world = World::with(MemoryStore::new(), |builder| builder.clock(Broken));
    let answer = world.client().ask("/who");
    refused(&answer);
    assert_eq!(world.log.names(), ["session_setup_failed"]);
}

#[test]
fn failing_randomness_issues_nothing() {
    struct Broken;
    impl cloakroom::core::entropy::Entropy for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), cloakroom::core::entropy::EntropyError> {
            Err(cloakroom::core::entropy::EntropyError)
        }
    }
    let world = World::with(MemoryStore::new(), |builder| builder.entropy(Broken));
    for path in ["/count", "/log-in/alice"] {
        let answer = world.client().ask(path);
        refused(&answer);
        assert_eq!(answer.set_cookie(), None);
        assert_eq!(world.log.names(), ["session_setup_failed"]);
    }
}

#[test]
fn a_full_store_refuses_new_sessions_and_serves_the_existing_ones() {
    let world = World::new(MemoryStore::with_capacity(1));
    let mut first = world.client();
    first.ask("/log-in/alice");
    let full = world.client().ask("/log-in/alice");
    refused(&full);
    assert_eq!(first.ask("/count").body, "1");
}

#[test]
fn r107_a_store_failure_says_its_cause_in_the_log_and_not_to_the_client() {
    let store = Failing::new(MemoryStore::new());
    let lines = common::Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let world = World::with(store.clone(), |builder| builder.observer(cloakroom::TracingObserver));
    let mut client = world.client();
    client.ask("/log-in/alice");
    store.fail_nth(1, Moment::Before);
    let answer = tracing::subscriber::with_default(subscriber, || client.ask("/who"));
    refused(&answer);
    let text = lines.text();
    let said = text.contains("session_store_failed")
        && text.contains("kind=Unavailable")
        && text.contains("was made to fail by the test\"");
    assert!(said && text.lines().count() == 1, "{text}");
    assert!(!answer.body.contains("made to fail"), "{}", answer.body);
}
