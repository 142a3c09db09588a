//! Retired secrets that come back: stale, replayed or junk (design section 4.3).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod common;

use cloakroom_core::cookie::Cookie;
use cloakroom_core::engine::Engine;
use cloakroom_core::event::{EventKind, Severity};
use cloakroom_core::policy::{OnReplay, Policy};
use cloakroom_core::seal::{Pepper, Peppers};
use cloakroom_core::store::Reason;
use common::mirror::Body;
use common::{Browser, Desk, mins, secs};

/// Alice just after her successor was handed out and seen; also the token before it.
fn confirmed() -> (Desk, Browser, String) {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let old = alice.token();
    desk.wait(mins(15)).visit(&mut alice);
    desk.visit(&mut alice);
    (desk, alice, old)
}

#[test]
fn r052_after_the_grace_the_old_secret_ends_the_session_for_thief_and_holder() {
    let (mut desk, mut alice, old) = confirmed();
    desk.wait(secs(65));
    desk.happened();
    let thief = alice.with(&old).stolen_by(&Browser::stranger());
    let mut thief = thief.with(&old);
    let reply = desk.visit(&mut thief);
    assert_eq!((reply.subject, reply.cookie), (None, None));
    assert_eq!(desk.events[0].kind.severity(), Severity::Critical);
    assert_eq!(desk.events[0].subject.as_ref().unwrap().as_str(), "alice");
    assert_eq!(desk.happened(), [EventKind::Replayed { ended: true }]);
    let reply = desk.visit(&mut alice);
    assert_eq!((reply.subject, reply.cookie), (None, None));
    assert_eq!(desk.happened(), [EventKind::UsedAfterEnd(Reason::Replay)]);
    assert_eq!(desk.shelf.lives(), 0);
}

#[test]
fn r052_the_replay_is_found_whether_the_old_secret_was_tidied_away_or_not() {
    for tidied in [false, true] {
        let (mut desk, mut alice, old) = confirmed();
        desk.wait(secs(65));
        if tidied {
            desk.count(&mut alice);
            assert_eq!(Body::read(&desk.record(alice.handle())).previous, None);
        }
        desk.happened();
        assert_eq!(desk.peek(&alice.with(&old)), None);
        assert_eq!(desk.happened(), [EventKind::Replayed { ended: true }], "tidied: {tidied}");
    }
}

#[test]
fn parallel_replays_raise_one_alarm() {
    let (mut desk, alice, old) = confirmed();
    desk.wait(secs(65));
    desk.happened();
    desk.peek(&alice.with(&old));
    desk.peek(&alice.with(&old));
    let replays = [EventKind::Replayed { ended: true }, EventKind::UsedAfterEnd(Reason::Replay)];
    assert_eq!(desk.happened(), replays);
}

#[test]
fn on_replay_refuse_leaves_the_session_to_the_current_secret_and_says_so() {
    let mut desk = Desk::with(Policy::default().on_replay(OnReplay::Refuse));
    let mut alice = desk.alice();
    let old = alice.token();
    desk.wait(mins(15)).visit(&mut alice);
    desk.visit(&mut alice);
    desk.wait(secs(65));
    desk.happened();
    let reply = desk.visit_in_vain(&alice.with(&old));
    assert_eq!((reply.subject, reply.cookie), (None, None));
    assert_eq!(desk.happened(), [EventKind::Replayed { ended: false }]);
    assert_eq!(desk.peek(&alice).unwrap(), "alice");
}

#[test]
fn before_the_successor_is_seen_the_old_secret_is_never_a_replay() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    desk.wait(mins(15)).visit_in_vain(&alice);
    for _ in 0..20 {
        desk.wait(mins(29));
        assert_eq!(desk.visit_in_vain(&alice).subject.unwrap(), "alice");
    }
}

#[test]
fn several_secrets_of_one_session_in_one_request_are_no_replay() {
    let (mut desk, mut alice, old) = confirmed();
    desk.wait(secs(65));
    desk.happened();
    alice.planted = vec![old.clone()];
    assert_eq!(desk.peek(&alice).unwrap(), "alice");
    let mut other_order = alice.with(&old);
    other_order.planted = vec![alice.token()];
    assert_eq!(desk.peek(&other_order).unwrap(), "alice");
    assert_eq!(desk.happened(), []);
}

#[test]
fn sixteen_retired_secrets_are_known_and_the_seventeenth_is_junk() {
    let mut desk = Desk::with(Policy::default().on_replay(OnReplay::Refuse));
    let mut alice = desk.alice();
    let mut tokens = Vec::new();
    for _ in 0..18 {
        tokens.push(alice.token());
        desk.wait(mins(15)).visit(&mut alice);
        desk.wait(secs(1)).visit(&mut alice);
        assert!(!tokens.contains(&alice.token()));
    }
    desk.wait(secs(65));
    desk.count(&mut alice);
    desk.happened();
    let mut judged = |token: &String| {
        desk.peek(&alice.with(token));
        desk.happened().remove(0)
    };
    let replay = EventKind::Replayed { ended: false };
    let verdicts: Vec<_> = tokens.iter().map(&mut judged).collect();
    assert_eq!(verdicts[..2], [EventKind::UnknownToken, EventKind::UnknownToken]);
    assert!(verdicts[2..].iter().all(|kind| *kind == replay), "{verdicts:?}");
}

#[test]
fn junk_never_ends_a_session() {
    let (mut desk, mut alice, _) = confirmed();
    desk.wait(secs(65));
    desk.happened();
    // A neighbour knows the public handle and makes up the secret, then logs in and out with it.
    let forged = format!("{}{}", &alice.token()[..22], "A".repeat(42));
    let mut neighbour = Browser::stranger();
    for _ in 0..3 {
        neighbour.jar = Some(forged.clone());
        desk.logout(&mut neighbour);
        neighbour.jar = Some(forged.clone());
        desk.login(&mut neighbour, "mallory");
    }
    assert_eq!(desk.visit(&mut alice).subject.unwrap(), "alice");
}

#[test]
fn junk_never_ends_a_session_whose_pepper_was_retired_in_part() {
    // The predecessor's pepper is retired; nobody can tell its secret from junk any more.
    let (old, new) = (Pepper::new(&[1; 32]).unwrap(), Pepper::new(&[2; 32]).unwrap());
    let engine = |peppers| Engine::new(Policy::default(), Cookie::default(), peppers).unwrap();
    let mut desk = Desk::of(engine(Peppers::new(old.clone())));
    let mut alice = desk.alice();
    desk.engine = engine(Peppers::new(new.clone()).accept(old.clone()));
    desk.wait(mins(15)).visit(&mut alice);
    desk.engine = engine(Peppers::new(new).retire(old.id()));
    let mut neighbour = Browser::stranger();
    for _ in 0..2 {
        neighbour.jar = Some(format!("{}{}", &alice.token()[..22], "A".repeat(42)));
        desk.logout(&mut neighbour);
        neighbour.jar = Some(format!("{}{}", &alice.token()[..22], "A".repeat(42)));
        desk.login(&mut neighbour, "mallory");
        assert_eq!(desk.visit(&mut alice).subject.unwrap(), "alice");
    }
}

#[test]
fn r003_what_is_no_secret_of_the_session_is_served_like_no_cookie() {
    let (mut desk, alice, _) = confirmed();
    desk.happened();
    let mut forger = alice.with(&format!("{}{}", &alice.token()[..22], "B".repeat(42)));
    let reply = desk.visit_in_vain(&forger);
    assert_eq!((reply.subject, reply.cookie), (None, None));
    assert_eq!(desk.happened(), [EventKind::UnknownToken]);
    // Like no cookie: what it stores is kept, in a session of its own.
    let request = desk.begin(&forger).set("cart", "1");
    let reply = desk.finish(request);
    forger.receive(&reply);
    assert_ne!(forger.handle(), alice.handle());
}

#[test]
fn a_record_that_the_store_confuses_with_another_is_an_error() {
    let mut desk = Desk::default();
    let (alice, mut bob) = (desk.alice(), Browser::firefox());
    desk.login(&mut bob, "bob");
    let fields = [format!("{}={}", desk.engine.cookie().name(), alice.token())];
    let presented = desk.engine.present(fields.iter().map(|field| field.as_bytes()));
    let found = vec![desk.shelf.find(bob.handle())];
    let error = desk.engine.resume(&presented, found, cloakroom_core::engine::Facts::default(), desk.now);
    assert!(matches!(error, Err(cloakroom_core::error::EngineError::Tampered { .. })));
}

#[test]
fn a_replayed_request_gets_no_cookie_and_what_it_stores_is_thrown_away() {
    for on_replay in [OnReplay::Revoke, OnReplay::Refuse] {
        let mut desk = Desk::with(Policy::default().on_replay(on_replay));
        let mut alice = desk.alice();
        let old = alice.with(&alice.token());
        desk.wait(mins(15)).visit(&mut alice);
        desk.visit(&mut alice);
        desk.wait(secs(65));
        let request = desk.begin(&old).set("cart", "1");
        let reply = desk.finish(request);
        assert_eq!((reply.cookie, reply.discarded), (None, true), "{on_replay:?}");
    }
}

#[test]
fn a_retired_secret_of_a_session_whose_time_was_up_is_no_replay() {
    let (mut desk, mut alice, old) = confirmed();
    desk.wait(secs(65));
    desk.count(&mut alice);
    desk.wait(mins(31)).happened();
    assert_eq!(desk.peek(&alice.with(&old)), None);
    assert_eq!(desk.happened(), [EventKind::UsedAfterEnd(Reason::Idle)]);
}
