//! All sessions of a subject: listed, capped, ended; on both stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::future::{Future as _, poll_fn};
use std::pin::pin;

use cloakroom::core::store::{BySubject, Sweep};
use cloakroom::{AtCap, Event, EventKind, MemoryStore, Policy};
use http::StatusCode;

use crate::common::{FIREFOX, World};

macro_rules! on_both_stores {
    ($($check:ident)*) => {
        mod memory {
            $(#[test] fn $check() { super::$check(super::MemoryStore::new()); })*
        }
        mod sqlite {
            $(#[test] fn $check() {
                let folder = tempfile::tempdir().unwrap();
                super::$check(cloakroom_sqlite::SqliteStore::open(folder.path().join("sessions.db")).unwrap());
            })*
        }
    };
}

on_both_stores! {
    r116_a_user_sees_own_sessions_by_handle_client_and_currency
    r116_no_listed_value_is_a_credential
    a_user_cannot_end_somebody_elses_session
    r057_ending_all_others_keeps_this_one
    r058_ending_all_signs_everybody_out
    r058_ending_the_sessions_of_everybody_is_one_event_that_says_how_many
    r054_a_login_that_races_ending_all_loses
    a_requests_own_ending_of_all_renews_its_login
    r069_a_cap_that_denies_refuses_the_login_and_says_so
    r069_a_cap_that_evicts_ends_the_oldest
    r069_who_lost_the_answer_to_a_login_is_not_locked_out_by_a_cap_that_denies
    r069_a_login_refused_by_the_cap_has_still_ended_the_presented_session
    r056_disabling_an_account_ends_its_sessions
    r047_the_sweep_ends_what_has_expired_with_one_event_each
}

fn r116_a_user_sees_own_sessions_by_handle_client_and_currency(store: impl BySubject + Sweep) {
    let world = World::new(store);
    let (mut one, mut two, mut other) = (world.client(), world.client(), world.client());
    two.agent = "curl/8.5.0".to_owned();
    one.ask("/log-in/alice");
    two.ask("/log-in/alice");
    other.ask("/log-in/bob");
    let list = one.ask("/list").body;
    let lines = list.lines().collect::<Vec<_>>();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(lines[0].ends_with(" this Firefox on Linux"), "{list}");
    assert!(lines[1].ends_with(" other curl"), "{list}");
    world.advance(3600);
    other.ask("/log-in/alice");
    assert_eq!(other.ask("/list").body.lines().count(), 1, "expired sessions are not listed");
    assert_eq!(one.agent, FIREFOX);
}

fn r116_no_listed_value_is_a_credential(store: impl BySubject + Sweep) {
    let world = World::new(store);
    let mut one = world.client();
    one.ask("/log-in/alice");
    let list = one.ask("/list").body;
    let token = one.token.clone().unwrap();
    assert!(!list.contains(&token[22..]));
    let mut thief = world.client();
    for value in list.split_whitespace() {
        for guess in [value.to_owned(), format!("{value:A<64}"), format!("{value}{}", &token[..42])] {
            thief.token = Some(guess);
            assert_eq!(thief.ask("/who").who().0, "-");
        }
    }
    assert_eq!(one.ask("/who").who().0, "alice");
}

fn a_user_cannot_end_somebody_elses_session(store: impl BySubject + Sweep) {
    let world = World::new(store);
    let (mut alice, mut bob) = (world.client(), world.client());
    alice.ask("/log-in/alice");
    bob.ask("/log-in/bob");
    let handle = bob.ask("/who").who().1.to_owned();
    assert_eq!(alice.ask(&format!("/end/{handle}")).body, "false");
    assert_eq!(bob.ask("/who").who().0, "bob");
    let mut second = world.client();
    second.ask("/log-in/alice");
    let handle = second.ask("/who").who().1.to_owned();
    assert_eq!(alice.ask(&format!("/end/{handle}")).body, "true");
    assert_eq!(second.ask("/who").who().0, "-");
}

fn r057_ending_all_others_keeps_this_one(store: impl BySubject + Sweep) {
    let world = World::new(store);
    let mut clients = [world.client(), world.client(), world.client()];
    for client in &mut clients {
        client.ask("/log-in/alice");
    }
    world.advance(1);
    assert_eq!(clients[1].ask("/log-out-others").body, "2");
    let who = clients.map(|mut client| client.ask("/who").who().0.to_owned());
    assert_eq!(who, ["-", "alice", "-"]);
}

fn r058_ending_all_signs_everybody_out(store: impl BySubject + Sweep) {
    let world = World::new(store);
    let (mut one, mut two, mut bob) = (world.client(), world.client(), world.client());
    one.ask("/log-in/alice");
    two.ask("/log-in/alice");
    bob.ask("/log-in/bob");
    let answer = two.ask("/log-out-everywhere");
    assert_eq!(answer.body, "2");
    assert_eq!(answer.token(), Some(None), "the cookie is removed");
    assert_eq!(answer.header("clear-site-data"), Some(r#""cache", "storage""#));
    assert_eq!((one.ask("/who").who().0, bob.ask("/who").who().0), ("-", "bob"));
    assert_eq!(one.ask("/log-out-everywhere").status, StatusCode::UNAUTHORIZED);
}

fn r058_ending_the_sessions_of_everybody_is_one_event_that_says_how_many(store: impl BySubject + Sweep) {
    let world = World::new(store);
    let (mut alice, mut bob, mut visitor) = (world.client(), world.client(), world.client());
    alice.ask("/log-in/alice");
    bob.ask("/log-in/bob");
    visitor.ask("/count");
    world.log.take();
    assert_eq!(cloakroom_testkit::block_on(world.layer.sessions().end_everybody()).unwrap(), 3);
    let events = world.log.take();
    let [event] = &events[..] else { panic!("{events:?}") };
    let Event { kind, handle, subject, .. } = event;
    assert_eq!((kind, handle, subject), (&EventKind::EverybodyEnded(3), &None, &None));
    assert_eq!((alice.ask("/who").who().0, bob.ask("/who").who().0), ("-", "-"));
}

fn r054_a_login_that_races_ending_all_loses(store: impl BySubject + Sweep) {
    // The store yields before every call, so the login stops between its epoch read and its insert.
    let world = World::new(cloakroom_testkit::Yielding::new(store));
    let mut owner = world.client();
    owner.ask("/log-in/alice");
    world.advance(10);
    for path in ["/begin-login/alice", "/log-in/alice"] {
        let thief = world.client();
        let mut login = Box::pin(thief.begin(path));
        assert!(common::poll_once(&mut login).is_none());
        world.advance(1);
        owner.ask("/log-out-others");
        let answer = cloakroom_testkit::block_on(login);
        let begun = path == "/begin-login/alice";
        // The first poll of begin_login stops before it reads the epoch: then the login began after the ending, and is admitted.
        if begun && answer.status == StatusCode::OK {
            let mut login = Box::pin(thief.begin(path));
            assert!(common::poll_once(&mut login).is_none());
            assert!(common::poll_once(&mut login).is_none());
            owner.ask("/log-out-others");
            assert_eq!(cloakroom_testkit::block_on(login).status, StatusCode::CONFLICT, "{path}");
        } else {
            assert_eq!(answer.status, StatusCode::CONFLICT, "{path}");
        }
        assert_eq!(owner.ask("/list").body.lines().count(), 1);
    }
    assert!(world.log.names().contains(&"authn_login_superseded"));
}

fn a_requests_own_ending_of_all_renews_its_login(store: impl BySubject + Sweep) {
    let world = World::new(store);
    let (mut one, mut two) = (world.client(), world.client());
    one.ask("/log-in/alice");
    two.ask("/log-in/alice");
    world.advance(5);
    let answer = one.ask("/change-password/alice");
    assert_eq!(answer.who().0, "alice");
    assert_eq!(answer.header("clear-site-data"), Some(r#""cache", "storage""#), "the new cookie must live");
    assert_eq!((one.ask("/who").who().0, two.ask("/who").who().0), ("alice", "-"));
}

fn r069_a_cap_that_denies_refuses_the_login_and_says_so(store: impl BySubject + Sweep) {
    let world = World::with(store, |builder| builder.policy(Policy::default().max_sessions(2, AtCap::Deny)));
    let mut clients = [world.client(), world.client(), world.client()];
    let statuses = [0, 1, 2].map(|index| {
        let status = clients[index].ask("/log-in/alice").status;
        clients[index].ask("/who");
        status
    });
    assert_eq!(statuses, [StatusCode::OK, StatusCode::OK, StatusCode::FORBIDDEN]);
    assert!(world.log.names().contains(&"excess_sessions_exceeded"));
    clients[0].ask("/log-out");
    assert_eq!(clients[2].ask("/log-in/alice").status, StatusCode::OK);
}

fn r069_who_lost_the_answer_to_a_login_is_not_locked_out_by_a_cap_that_denies(store: impl BySubject + Sweep) {
    let world = World::with(store, |builder| builder.policy(Policy::default().max_sessions(1, AtCap::Deny)));
    let (lost, mut again) = (world.client(), world.client());
    assert_eq!(lost.ask_and_lose("/log-in/alice").status, StatusCode::OK);
    assert_eq!(again.ask("/log-in/alice").status, StatusCode::OK);
    assert_eq!(again.ask("/who").who().0, "alice");
    // It is in use from now on.
    assert_eq!(world.client().ask("/log-in/alice").status, StatusCode::FORBIDDEN);
    assert_eq!(again.ask("/who").who().0, "alice");
}

fn r069_a_cap_that_evicts_ends_the_oldest(store: impl BySubject + Sweep) {
    let policy = Policy::default().max_sessions(2, AtCap::EvictOldest);
    let world = World::with(store, |builder| builder.policy(policy));
    let mut clients = [world.client(), world.client(), world.client()];
    for client in &mut clients {
        client.ask("/log-in/alice");
        world.advance(1);
        client.ask("/who");
    }
    let who = clients.map(|mut client| client.ask("/who").who().0.to_owned());
    assert_eq!(who, ["-", "alice", "alice"]);
    assert!(world.log.names().contains(&"authn_token_revoked"));
}

fn r069_a_login_refused_by_the_cap_has_still_ended_the_presented_session(store: impl BySubject + Sweep) {
    let world = World::with(store, |builder| builder.policy(Policy::default().max_sessions(1, AtCap::Deny)));
    let (mut alice, mut bob) = (world.client(), world.client());
    alice.ask("/log-in/alice");
    alice.ask("/who");
    bob.ask("/log-in/bob");
    let old = bob.clone();
    assert_eq!(bob.ask("/log-in/alice").status, StatusCode::FORBIDDEN);
    assert_eq!(old.ask_and_lose("/who").who().0, "-");
}

fn r056_disabling_an_account_ends_its_sessions(store: impl BySubject + Sweep) {
    let world = World::new(store);
    let (mut one, mut two) = (world.client(), world.client());
    one.ask("/log-in/alice");
    two.ask("/log-in/alice");
    let sessions = world.layer.sessions();
    cloakroom_testkit::block_on(async {
        let list = sessions.list("alice").await.unwrap();
        assert_eq!(list.len(), 2);
        assert!(sessions.end(list[0].handle).await.unwrap());
        assert!(!sessions.end(list[0].handle).await.unwrap());
        assert_eq!(sessions.end_all("alice").await.unwrap(), 1);
        assert_eq!(sessions.list("alice").await.unwrap(), []);
    });
    assert_eq!((one.ask("/who").who().0, two.ask("/who").who().0), ("-", "-"));
}

fn r047_the_sweep_ends_what_has_expired_with_one_event_each(store: impl BySubject + Sweep) {
    let world = World::new(store);
    let (mut idle, mut busy, mut visitor) = (world.client(), world.client(), world.client());
    idle.ask("/log-in/alice");
    busy.ask("/log-in/alice");
    visitor.ask("/count");
    for _ in 0..31 {
        world.advance(60);
        busy.ask("/who");
    }
    assert_eq!(idle.ask("/who").who().0, "-", "refused before any sweep");
    world.log.take();
    assert_eq!(cloakroom_testkit::block_on(world.layer.sessions().sweep()).unwrap(), 2);
    assert_eq!(world.log.names(), ["session_expired", "session_expired"]);
    assert_eq!(cloakroom_testkit::block_on(world.layer.sessions().sweep()).unwrap(), 0);
    assert_eq!(busy.ask("/who").who().0, "alice");
}

/// In memory, where nothing else in a sweep ever waits.
#[test]
fn a_sweep_lets_others_go_first_after_each_batch() {
    let world = World::new(MemoryStore::new());
    for _ in 0..100 {
        world.client().ask("/count");
    }
    world.advance(31 * 60);
    let batch = Policy::default().sweep_limits().batch;
    assert!(batch <= 50, "many at once keep others waiting");
    let sessions = world.layer.sessions();
    let mut sweep = pin!(sessions.sweep());
    let mut waits = 0;
    let swept = cloakroom_testkit::block_on(poll_fn(|context| {
        let state = sweep.as_mut().poll(context);
        waits += usize::from(state.is_pending());
        state
    }));
    assert_eq!(swept.unwrap(), 100);
    assert!(waits >= 100 / batch, "100 were swept in one go");
}
