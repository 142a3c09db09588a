//! The budget: how many store operations each kind of request costs, exactly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use cloakroom::{MemoryStore, Policy};
use cloakroom_testkit::{Counting, Operation};

use crate::common::{Client, World};
use Operation::{Epoch, Find, Insert, Remove, Replace, Touch};

type Store = Counting<MemoryStore>;

#[track_caller]
fn costs(store: &Store, client: &mut Client, path: &str, expected: &[(Operation, u64)]) {
    store.take();
    client.ask(path);
    let counts = store.take();
    for &(operation, times) in expected {
        assert_eq!(counts.of(operation), times, "{path}: {operation:?} of {counts:?}");
    }
    assert_eq!(counts.total(), expected.iter().map(|(_, times)| times).sum::<u64>(), "{path}: {counts:?}");
}

fn world() -> (Store, World) {
    let store = Counting::new(MemoryStore::new());
    let world = World::new(store.clone());
    (store, world)
}

#[test]
fn no_cookie_a_malformed_cookie_or_an_unused_session_cost_nothing() {
    let (store, world) = world();
    let mut client = world.client();
    costs(&store, &mut client, "/who", &[]);
    client.ask("/log-in/alice");
    costs(&store, &mut client, "/untouched", &[]);
    client.token = Some("junk".to_owned());
    costs(&store, &mut client, "/who", &[]);
}

#[test]
fn a_read_costs_a_read_and_a_touch_at_most_once_per_interval() {
    let (store, world) = world();
    let mut client = world.client();
    client.ask("/log-in/alice");
    // The token's first return after a login is noted.
    costs(&store, &mut client, "/who", &[(Find, 1), (Touch, 1)]);
    for _ in 0..3 {
        world.advance(19);
        costs(&store, &mut client, "/who", &[(Find, 1)]);
    }
    world.advance(4);
    costs(&store, &mut client, "/who", &[(Find, 1), (Touch, 1)]);
    costs(&store, &mut client, "/who", &[(Find, 1)]);
}

#[test]
fn a_change_costs_a_read_and_a_compare_and_swap() {
    let (store, world) = world();
    let mut client = world.client();
    costs(&store, &mut client, "/count", &[(Insert, 1)]);
    world.advance(61);
    costs(&store, &mut client, "/count", &[(Find, 1), (Replace, 1)]);
    costs(&store, &mut client, "/word/x", &[(Find, 1), (Replace, 1)]);
    // A change that changes nothing is none.
    costs(&store, &mut client, "/word/x", &[(Find, 1)]);
}

#[test]
fn a_rotation_shares_its_compare_and_swap_with_a_change_and_so_does_its_confirmation() {
    let (store, world) = world();
    let mut client = world.client();
    client.ask("/count");
    client.ask("/who");
    world.advance(900);
    costs(&store, &mut client, "/who", &[(Find, 1), (Replace, 1)]);
    costs(&store, &mut client, "/who", &[(Find, 1), (Replace, 1)]);
    costs(&store, &mut client, "/who", &[(Find, 1)]);
    world.advance(900);
    costs(&store, &mut client, "/count", &[(Find, 1), (Replace, 1)]);
    costs(&store, &mut client, "/count", &[(Find, 1), (Replace, 1)]);
    costs(&store, &mut client, "/who", &[(Find, 1)]);
}

#[test]
fn a_successor_that_is_handed_out_again_costs_one_more_read() {
    let (store, world) = world();
    let mut client = world.client();
    client.ask("/count");
    client.ask("/who");
    world.advance(900);
    client.ask_and_lose("/who");
    costs(&store, &mut client, "/who", &[(Find, 2)]);
}

#[test]
fn logins_and_logouts_cost_what_the_design_says() {
    let (store, world) = world();
    let mut client = world.client();
    costs(&store, &mut client, "/log-in/alice", &[(Epoch, 1), (Insert, 1)]);
    costs(&store, &mut client, "/log-in/alice", &[(Find, 1), (Epoch, 1), (Remove, 1), (Insert, 1)]);
    costs(&store, &mut client, "/begin-login/alice", &[(Find, 1), (Epoch, 1), (Remove, 1), (Insert, 1)]);
    costs(
        &store,
        &mut client,
        "/log-in-and-count/alice",
        &[(Find, 1), (Epoch, 1), (Remove, 1), (Insert, 1), (Replace, 1)],
    );
    costs(&store, &mut client, "/log-out", &[(Find, 1), (Remove, 1)]);
}

#[test]
fn each_further_handle_costs_a_read_and_several_secrets_of_one_handle_cost_one() {
    let (store, world) = world();
    let mut client = world.client();
    client.ask("/count");
    client.ask("/who");
    let old = client.token.clone().unwrap();
    world.advance(900);
    client.ask("/who");
    let new = client.token.clone().unwrap();
    client.token = Some(format!("{old}; __Host-Http-sid={new}"));
    costs(&store, &mut client, "/who", &[(Find, 1), (Replace, 1)]);
    client.token = Some(format!("{}; __Host-Http-sid={new}", "A".repeat(64)));
    costs(&store, &mut client, "/who", &[(Find, 2)]);
}

#[test]
fn a_policy_without_touching_more_often_writes_less() {
    let store = Counting::new(MemoryStore::new());
    let policy = Policy::default().touch_interval(std::time::Duration::from_secs(600));
    let world = World::with(store.clone(), |builder| builder.policy(policy));
    let mut client = world.client();
    client.ask("/count");
    // A visitor's session ends early unless the token comes back: that it has is noted.
    costs(&store, &mut client, "/who", &[(Find, 1), (Touch, 1)]);
    for _ in 0..9 {
        world.advance(60);
        costs(&store, &mut client, "/who", &[(Find, 1)]);
    }
    world.advance(61);
    costs(&store, &mut client, "/who", &[(Find, 1), (Touch, 1)]);
}
