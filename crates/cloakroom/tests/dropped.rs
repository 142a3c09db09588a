//! A request that is dropped half way leaves the session as it was before or as it is after; a login may also leave the
//! user signed out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use cloakroom::MemoryStore;
use cloakroom_testkit::Yielding;

use crate::common::{Client, World, poll_once};

/// What can be seen of a session from outside: who, and the count; asked for through the old token.
fn seen(client: &mut Client) -> (String, String) {
    let who = client.ask("/who").who().0.to_owned();
    let count = if who == "-" { String::new() } else { client.ask("/count").body };
    (who, count)
}

/// A world in which alice is logged in, has counted to one, and is due for touch and rotation.
fn world() -> (World, Client) {
    let world = World::new(Yielding::both(MemoryStore::new()));
    let mut client = world.client();
    client.ask("/log-in/alice");
    client.ask("/count");
    world.advance(901);
    (world, client)
}

/// Polls the request `k` times, drops it, and returns what is left; `None` if it ended before.
fn dropped_after(path: &str, k: usize) -> Option<(World, Client)> {
    let (world, client) = world();
    let mut request = Box::pin(client.begin(path));
    for _ in 0..k {
        if poll_once(&mut request).is_some() {
            return None;
        }
    }
    drop(request);
    Some((world, client))
}

fn check(path: &str, allowed: &[(&str, &str)]) {
    let mut tried = 0;
    for k in 0.. {
        let Some((world, mut client)) = dropped_after(path, k) else { break };
        let (who, count) = seen(&mut client);
        assert!(
            allowed.contains(&(who.as_str(), count.as_str())),
            "{path} dropped after {k} polls leaves {who:?} {count:?}"
        );
        // The session that is left goes on as ever, or stays ended.
        world.advance(120);
        assert_eq!(seen(&mut client).0, who, "{path} dropped after {k} polls");
        tried = k;
    }
    assert!(tried >= 2, "{path} was never dropped half way");
}

#[test]
fn a_dropped_read_or_change_leaves_before_or_after() {
    check("/who", &[("alice", "2")]);
    check("/count", &[("alice", "2"), ("alice", "3")]);
    check("/word/x", &[("alice", "2")]);
}

#[test]
fn r053_a_dropped_login_leaves_the_old_session_or_nobody() {
    check("/log-in/bob", &[("alice", "2"), ("-", "")]);
    check("/begin-login/bob", &[("alice", "2"), ("-", "")]);
    check("/log-in-and-count/bob", &[("alice", "2"), ("-", "")]);
}

#[test]
fn a_dropped_rotation_on_demand_leaves_the_old_secret_valid_or_refused() {
    check("/step-up", &[("alice", "2"), ("-", "")]);
    check("/rotate", &[("alice", "2"), ("-", "")]);
}

#[test]
fn r054_a_dropped_logout_leaves_the_session_or_none() {
    check("/log-out", &[("alice", "2"), ("-", "")]);
    check("/log-out-everywhere", &[("alice", "2"), ("-", "")]);
}

#[test]
fn a_login_call_dropped_inside_a_handler_leaves_a_response_without_a_new_session() {
    // The handler gives up on its own login call after k polls, and answers all the same.
    for k in 0..12 {
        let layer = cloakroom::SessionLayer::builder(Yielding::both(MemoryStore::new()))
            .clock(cloakroom_testkit::ManualClock::new(common::START))
            .without_sweeping()
            .build()
            .unwrap();
        let give_up = async move |session: cloakroom::Session| {
            let mut login = Box::pin(session.log_in("alice"));
            for _ in 0..k {
                if poll_once(&mut login).is_some() {
                    return "in";
                }
            }
            drop(login);
            "gave up"
        };
        let app = axum::Router::new().route("/", axum::routing::get(give_up)).layer(layer);
        let request = http::Request::new(axum::body::Body::empty());
        let answer = cloakroom_testkit::block_on(common::answer(app, request));
        assert_eq!(answer.set_cookie().is_some(), answer.body == "in", "after {k} polls: {}", answer.body);
    }
}
