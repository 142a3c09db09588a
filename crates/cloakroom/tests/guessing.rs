//! Guessing of tokens from one network is bounded, and signs nobody out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use cloakroom::{GuessingLimits, MemoryStore, SessionLayer};
use cloakroom_testkit::{Counting, Operation};
use http::StatusCode;

use crate::common::{Client, World};

const CAMPUS: &str = "203.0.113.";

/// A client of a network, with an address of its own.
fn client(world: &World, network: &str, host: u64) -> Client {
    let mut client = world.client();
    client.address = Some(format!("{network}{}", host % 250 + 1));
    client
}

/// A token of the right shape that nobody has issued.
fn forged(n: u64) -> String {
    format!("{n:064}")
}

/// Presents so many forged tokens at once that the network is bounded; returns how many of them were looked up.
fn guess(world: &World, network: &str, count: u64) -> u64 {
    let answers = (0..count).map(|n| {
        let mut guesser = client(world, network, n);
        guesser.token = Some(forged(n));
        let answer = guesser.ask("/who");
        assert_eq!(answer.set_cookie(), None, "a cookie is left alone in any case");
        match answer.status {
            StatusCode::OK => assert_eq!(answer.who(), ("-", "-")),
            status => {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                assert_eq!(answer.header("retry-after"), Some("2"));
                assert_eq!(answer.header("cache-control"), Some("no-store"));
            }
        }
        answer.status
    });
    answers.filter(|status| *status == StatusCode::OK).count() as u64
}

#[test]
fn r111_beyond_a_rate_unknown_tokens_of_one_network_share_a_bounded_rate_of_look_ups() {
    let store = Counting::new(MemoryStore::new());
    let world = World::new(store.clone());
    // A hundred and twenty are borne, the next one shows the attack, and fifty more are had at once.
    assert_eq!(guess(&world, CAMPUS, 1000), 121 + 50);
    assert_eq!(store.take().of(Operation::Find), 171, "no other token cost a look-up");
    let events = world.log.names();
    let count = |name: &str| events.iter().filter(|event| **event == name).count();
    assert_eq!((count("session_unknown_token"), count("excess_rate_limit_exceeded")), (171, 829));
    assert_eq!(events.len(), 1000, "one event each");
    world.advance(1);
    assert_eq!(guess(&world, CAMPUS, 1000), 50);
    world.advance(121);
    assert_eq!(guess(&world, CAMPUS, 120), 120, "two minutes later as many are borne as ever");
}

#[test]
fn r111_who_is_signed_in_behind_the_same_address_is_not_signed_out_by_it() {
    let store = Counting::new(MemoryStore::new());
    let world = World::new(store.clone());
    let mut alice = client(&world, CAMPUS, 1);
    alice.ask("/log-in/alice");
    let mut bob = client(&world, CAMPUS, 2);
    bob.ask("/log-in/bob");
    // Another process on the same store: it has seen none of these sessions.
    let other = World::new(store);
    let mut there = client(&other, CAMPUS, 1);
    there.token.clone_from(&alice.token);
    guess(&world, CAMPUS, 1000);
    guess(&other, CAMPUS, 1000);
    for _ in 0..200 {
        assert_eq!(alice.ask("/who").who().0, "alice");
        assert_eq!(bob.ask("/count").status, StatusCode::OK);
    }
    let told = there.ask("/who");
    assert_eq!(
        told.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "not known to be genuine, and not taken for forged"
    );
    assert_eq!(told.set_cookie(), None);
    other.advance(1);
    assert_eq!(there.ask("/who").who().0, "alice", "trying again finds out");
    guess(&other, CAMPUS, 1000);
    assert_eq!(there.ask("/who").who().0, "alice", "and from then on it is known");
    // Whoever has no cookie at all, or signs in, costs no look-up.
    let mut visitor = client(&other, CAMPUS, 9);
    assert_eq!(visitor.ask("/who").status, StatusCode::OK);
    visitor.ask("/log-in/carol");
    assert_eq!(visitor.ask("/who").who().0, "carol");
    let mut counting = client(&other, CAMPUS, 10);
    counting.ask("/count");
    assert_eq!(counting.ask("/count").body, "2");
}

#[test]
fn r111_other_networks_are_not_concerned_and_a_network_is_a_24_or_a_48() {
    for (guessers, same, other) in
        [("203.0.113.", "203.0.113.", "203.0.114."), ("2001:db8:7:1::", "2001:db8:7:2::", "2001:db8:8:1::")]
    {
        let store = Counting::new(MemoryStore::new());
        let elsewhere = World::new(store.clone());
        let mut owner = elsewhere.client();
        owner.ask("/log-in/alice");
        let world = World::new(store);
        guess(&world, guessers, 1000);
        for (network, expected) in [(same, StatusCode::SERVICE_UNAVAILABLE), (other, StatusCode::OK)] {
            let mut genuine = client(&world, network, 3);
            genuine.token.clone_from(&owner.token);
            assert_eq!(genuine.ask("/who").status, expected, "{network}");
        }
    }
}

#[test]
fn r111_malformed_tokens_count_and_are_told_nothing_new() {
    let store = Counting::new(MemoryStore::new());
    let elsewhere = World::new(store.clone());
    let mut owner = elsewhere.client();
    owner.ask("/log-in/alice");
    let world = World::new(store);
    let mut guesser = client(&world, CAMPUS, 1);
    for _ in 0..200 {
        guesser.token = Some("no token".to_owned());
        // They cost no look-up, so none is saved by refusing them.
        assert_eq!(guesser.ask("/who").status, StatusCode::OK);
    }
    guess(&world, CAMPUS, 50);
    let mut genuine = client(&world, CAMPUS, 3);
    genuine.token.clone_from(&owner.token);
    assert_eq!(genuine.ask("/who").status, StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn r111_without_an_address_and_behind_a_proxy_on_this_machine_nobody_is_bounded() {
    for network in ["", "127.0.0.", "::ffff:127.0.0."] {
        let world = World::new(MemoryStore::new());
        let guessed = if network.is_empty() {
            let mut guesser = world.client();
            let ask = |n| {
                guesser.token = Some(forged(n));
                guesser.ask("/who").status
            };
            (0..300).map(ask).filter(|status| *status == StatusCode::OK).count() as u64
        } else {
            guess(&world, network, 300)
        };
        assert_eq!(guessed, 300, "{network:?}");
    }
}

#[test]
fn the_limits_of_guessing_are_the_applications_to_set_and_are_checked() {
    let limits = GuessingLimits::default().unknown_tokens(10).look_ups(5);
    let world = World::with(MemoryStore::new(), |builder| builder.guessing(limits));
    assert_eq!(guess(&world, CAMPUS, 100), 11 + 5);
    let built = SessionLayer::builder(MemoryStore::new()).guessing(limits.look_ups(0)).build();
    assert_eq!(built.unwrap_err().problems()[0].key, "look_ups");
}

#[tokio::test]
async fn the_address_of_the_connection_is_had_on_axum_by_one_line() {
    use std::net::SocketAddr;

    use axum::extract::ConnectInfo;
    use axum::http::{Request, header};

    let log = common::Log::default();
    let layer = SessionLayer::builder(MemoryStore::new())
        .observer(log.clone())
        .peer_address::<ConnectInfo<SocketAddr>>()
        .without_sweeping()
        .build()
        .unwrap();
    let app = common::app(layer);
    for (peer, expected) in [(Some("203.0.113.9:1234"), Some("203.0.113.0/24")), (None, None)] {
        let mut request = Request::builder().uri("/who").header(header::COOKIE, "__Host-Http-sid=junk");
        if let Some(peer) = peer {
            request = request.extension(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        }
        common::answer(app.clone(), request.body(axum::body::Body::empty()).unwrap()).await;
        let network = log.take()[0].client.network.map(|network| network.to_string());
        assert_eq!(network.as_deref(), expected);
    }
}
