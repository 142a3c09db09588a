//! Parallel requests of one session, in the orders that matter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use cloakroom::MemoryStore;
use cloakroom_testkit::{Counting, Yielding, block_on};
use http::StatusCode;

use crate::common::{Answer, Client, World, poll_once};

/// A world in which requests stop before every store call, and a client that is logged in.
fn world() -> (World, Client) {
    let world = World::new(Yielding::new(MemoryStore::new()));
    let mut client = world.client();
    client.ask("/log-in/alice");
    client.ask("/who");
    world.log.take();
    (world, client)
}

/// Runs two requests of one client: the first stops before its write, the second runs, the first goes on.
fn overtaken(client: &Client, first: &str, second: &str) -> (Answer, Answer) {
    let mut slow = Box::pin(client.begin(first));
    // Before its look-up, and before its first write.
    assert!(poll_once(&mut slow).is_none());
    assert!(poll_once(&mut slow).is_none());
    let quick = client.ask_and_lose(second);
    (block_on(slow), quick)
}

#[test]
fn r053_of_two_rotations_on_demand_one_succeeds_and_the_other_one_is_told() {
    for (first, second) in [("/rotate", "/step-up"), ("/step-up", "/rotate"), ("/rotate", "/rotate")] {
        let (world, client) = world();
        let (slow, quick) = overtaken(&client, first, second);
        assert_eq!((slow.status, quick.status), (StatusCode::CONFLICT, StatusCode::OK));
        assert_eq!(slow.set_cookie(), None);
        let mut winner = world.client();
        winner.receive(&quick);
        assert_eq!(winner.ask("/who").who().0, "alice");
        assert_eq!(client.ask_and_lose("/who").who().0, "-", "the old secret is refused");
    }
}

#[test]
fn r053_an_update_survives_a_rotation_that_overtook_it_and_carries_no_cookie() {
    for second in ["/rotate", "/step-up", "/count"] {
        let (world, client) = world();
        let (slow, quick) = overtaken(&client, "/count", second);
        assert_eq!((slow.status, slow.set_cookie()), (StatusCode::OK, None), "{second}");
        let mut after = world.client();
        after.token.clone_from(&client.token);
        after.receive(&quick);
        let counted = if second == "/count" { "3" } else { "2" };
        assert_eq!(after.ask("/count").body, counted, "{second}");
    }
}

#[test]
fn what_another_request_wrote_before_a_rotation_on_demand_survives_what_this_one_had_seen() {
    let (world, client) = world();
    // Sets a word, sees all data by that, and meets a conflict when it rotates; then it writes.
    let (slow, quick) = overtaken(&client, "/word-and-rotate/hello", "/count");
    assert_eq!((slow.status, quick.status), (StatusCode::OK, StatusCode::OK));
    let mut after = world.client();
    after.receive(&slow);
    assert_eq!(after.ask("/word").body, "hello");
    assert_eq!(after.ask("/count").body, "2", "the other request's count was overwritten");
}

#[test]
fn r054_r060_an_update_that_a_logout_overtook_is_thrown_away() {
    for second in ["/log-out", "/log-out-everywhere", "/log-in/bob"] {
        let (world, client) = world();
        let (slow, _) = overtaken(&client, "/count", second);
        assert_eq!((slow.status, slow.set_cookie()), (StatusCode::OK, None), "{second}");
        assert!(world.log.names().contains(&"session_write_discarded"), "{second}");
        assert_eq!(client.ask_and_lose("/who").who(), ("-", "-"), "{second}");
    }
}

#[test]
fn a_rotation_on_demand_that_a_login_overtook_leaves_the_logins_cookie_alone() {
    let (world, client) = world();
    let mut rotating = Box::pin(client.begin("/rotate"));
    // Look-up and replacement have happened; the response waits for the look-up that proves the cookie.
    for _ in 0..3 {
        assert!(poll_once(&mut rotating).is_none());
    }
    let login = client.ask_and_lose("/log-in/bob");
    let rotated = block_on(rotating);
    if let Some(Some(token)) = rotated.token() {
        panic!("{token} of an ended session would replace {:?}", login.token());
    }
    let mut after = world.client();
    after.receive(&login);
    assert_eq!(after.ask("/who").who().0, "bob");
}

/// Lets `n` requests change one session at the same moment; returns what that has cost.
fn storm(n: u64, path: &str) -> (u64, Vec<Answer>) {
    let store = Counting::new(Yielding::new(MemoryStore::new()));
    let world = World::new(store.clone());
    let mut client = world.client();
    client.ask("/log-in/alice");
    client.ask("/who");
    store.take();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let answers = runtime.block_on(async {
        let requests = (0..n).map(|_| tokio::spawn(client.begin(path))).collect::<Vec<_>>();
        let mut answers = Vec::new();
        for request in requests {
            answers.push(request.await.unwrap());
        }
        answers
    });
    let cost = store.take().total();
    if path == "/count" {
        assert_eq!(client.ask("/count").body, (n + 1).to_string(), "no update was lost");
    }
    (cost, answers)
}

#[test]
fn a_storm_of_updates_costs_each_of_them_a_few_store_operations_and_refuses_none() {
    for n in [1, 10, 100, 1000] {
        let (cost, answers) = storm(n, "/count");
        assert!(answers.iter().all(|answer| answer.status == StatusCode::OK), "{n}: none refused");
        // A look-up and a write; at most twice more without waiting; once more in one's turn.
        assert!(cost <= 8 * n, "{n} parallel updates cost {cost} store operations");
    }
}

#[test]
fn a_storm_of_rotations_on_demand_costs_each_of_them_a_few_store_operations_too() {
    for n in [10, 300] {
        let (cost, answers) = storm(n, "/rotate");
        let rotated = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        let overtaken = answers.iter().filter(|answer| answer.status == StatusCode::CONFLICT).count();
        assert_eq!((rotated, overtaken as u64), (1, n - 1));
        assert!(cost <= 8 * n, "{n} parallel rotations cost {cost} store operations");
    }
}

#[test]
fn a_rotation_on_demand_gets_through_a_storm_of_updates() {
    let store = Counting::new(Yielding::new(MemoryStore::new()));
    let world = World::new(store.clone());
    let mut client = world.client();
    client.ask("/log-in/alice");
    client.ask("/who");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (rotated, others) = runtime.block_on(async {
        let before = (0..200).map(|_| tokio::spawn(client.begin("/count"))).collect::<Vec<_>>();
        let rotation = tokio::spawn(client.begin("/rotate"));
        let mut others = Vec::new();
        for request in before {
            others.push(request.await.unwrap());
        }
        (rotation.await.unwrap(), others)
    });
    assert_eq!(rotated.status, StatusCode::OK);
    assert!(others.iter().all(|answer| answer.status == StatusCode::OK));
    client.receive(&rotated);
    assert_eq!(client.ask("/count").body, "201");
}
