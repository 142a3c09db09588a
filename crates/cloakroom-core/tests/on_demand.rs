//! Rotation on demand and step-up (design sections 4.3 and 4.4).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod common;

use cloakroom_core::error::EngineError;
use cloakroom_core::event::EventKind;
use cloakroom_core::policy::{OnReplay, Policy};
use cloakroom_core::record::{Level, Proof};
use common::mirror::Body;
use common::{Browser, Desk, mins, secs};

fn replay(ended: bool) -> EventKind {
    EventKind::Replayed { ended }
}

/// What a copy of the browser with this token is judged as.
fn judged(desk: &mut Desk, browser: &Browser, token: &str) -> Vec<EventKind> {
    desk.happened();
    let subject = desk.peek(&browser.with(token));
    assert_eq!(subject, None);
    desk.happened()
}

#[test]
fn r049_a_rotation_on_demand_refuses_the_old_secret_at_once() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let old = alice.token();
    assert!(desk.rotate_now(&mut alice).handed().is_some());
    assert_ne!(alice.token(), old);
    assert_eq!(alice.handle(), common::handle_of(&old));
    assert_eq!(judged(&mut desk, &alice, &old), [EventKind::StalePresented]);
    assert_eq!(desk.visit(&mut alice).subject.unwrap(), "alice");
}

#[test]
fn the_successor_on_demand_cannot_be_derived_from_the_old_secret() {
    // Two desks with the same secret but other randomness afterwards.
    let mut successors = Vec::new();
    for seed in [2, 3] {
        let mut desk = Desk::default();
        let mut alice = desk.alice();
        desk.entropy = common::Seeded::new(seed);
        desk.rotate_now(&mut alice);
        assert_eq!(Body::read(&desk.record(alice.handle())).next, None);
        successors.push(alice.token());
    }
    assert_ne!(successors[0], successors[1]);
}

#[test]
fn the_old_secret_is_stale_until_its_successor_was_seen_for_a_grace_and_a_replay_after() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let old = alice.token();
    desk.rotate_now(&mut alice);
    desk.wait(mins(10));
    assert_eq!(judged(&mut desk, &alice, &old), [EventKind::StalePresented], "not seen");
    desk.visit(&mut alice);
    desk.wait(secs(64));
    assert_eq!(judged(&mut desk, &alice, &old), [EventKind::StalePresented], "grace");
    desk.wait(secs(1));
    assert_eq!(judged(&mut desk, &alice, &old), [replay(true)]);
    assert_eq!(desk.peek(&alice), None);
}

#[test]
fn a_stale_request_moments_after_gets_no_cookie_and_its_data_is_thrown_away() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let old = alice.clone();
    desk.rotate_now(&mut alice);
    desk.wait(secs(64)).happened();
    let request = desk.begin(&old).set("cart", "1");
    assert!(request.resumed.just_ended());
    let reply = desk.finish(request);
    assert_eq!((reply.subject, reply.cookie, reply.discarded), (None, None, true));
    assert_eq!(desk.happened(), [EventKind::StalePresented, EventKind::WriteDiscarded]);
    // Then the client is a visitor like any other.
    desk.wait(secs(1));
    let request = desk.begin(&old).set("cart", "1");
    let reply = desk.finish(request);
    assert!(reply.handed().is_some() && !reply.discarded);
}

#[test]
fn the_first_use_of_a_secret_on_demand_confirms_it() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let mut request = desk.begin(&alice);
    desk.rotate(&mut request).unwrap();
    let reply = desk.finish(request);
    assert_eq!(Body::read(&desk.record(alice.handle())).confirmed, None);
    alice.receive(&reply);
    desk.wait(secs(3)).happened();
    desk.visit(&mut alice);
    assert_eq!(desk.happened(), [EventKind::RotationConfirmed]);
    let confirmed = Body::read(&desk.record(alice.handle())).confirmed;
    assert_eq!(confirmed, Some(desk.now.as_millis()));
}

#[test]
fn a_request_that_rotated_and_met_a_conflict_does_not_confirm_its_own_secret() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let mut request = desk.begin(&alice);
    desk.rotate(&mut request).unwrap();
    // Somebody else writes; the request verifies its secret again and then fails to rotate once more.
    let found = desk.shelf.find(alice.handle());
    desk.engine.reverify(&mut request.resumed, found, desk.now).unwrap();
    let request = request.count("visits");
    let reply = desk.finish(request);
    assert!(reply.handed().is_some());
    assert_eq!(Body::read(&desk.record(alice.handle())).confirmed, None, "nobody has seen it");
}

#[test]
fn data_of_a_request_that_was_accepted_before_the_rotation_is_kept_but_no_secret_is_handed() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    desk.wait(mins(15));
    let slow = desk.begin(&alice).count("visits");
    desk.rotate_now(&mut alice);
    let secrets = Body::read(&desk.record(alice.handle()));
    let reply = desk.finish(slow);
    assert_eq!(reply.cookie, None);
    let after = Body::read(&desk.record(alice.handle()));
    assert_eq!(
        (after.current, after.retired, after.fresh),
        (secrets.current, secrets.retired, secrets.fresh)
    );
    assert_eq!(desk.begin(&alice).resumed.open().unwrap().get("visits"), Some(&b"1"[..]));
}

#[test]
fn of_two_parallel_rotations_on_demand_the_second_is_refused() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let (mut first, mut second) = (desk.begin(&alice), desk.begin(&alice));
    desk.rotate(&mut first).unwrap();
    assert!(matches!(desk.rotate(&mut second), Err(EngineError::Superseded)));
    assert!(desk.finish(first).handed().is_some());
    assert_eq!(desk.finish(second).cookie, None);
}

#[test]
fn a_rotation_on_demand_that_meets_a_data_write_is_tried_again() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let mut rotating = desk.begin(&alice);
    let writing = desk.begin(&alice).count("visits");
    desk.finish(writing);
    desk.rotate(&mut rotating).unwrap();
    let mut after = alice.clone();
    after.receive(&desk.finish(rotating));
    assert_eq!(desk.begin(&after).resumed.open().unwrap().get("visits"), Some(&b"1"[..]));
}

#[test]
fn each_of_several_rotations_on_demand_stays_stale_until_the_last_one_was_seen() {
    let mut desk = Desk::with(Policy::default().on_replay(OnReplay::Refuse));
    let mut alice = desk.alice();
    let mut old = Vec::new();
    for _ in 0..5 {
        old.push(alice.token());
        desk.wait(mins(1));
        desk.rotate_now(&mut alice);
    }
    desk.wait(mins(5));
    for token in &old {
        assert_eq!(judged(&mut desk, &alice, token), [EventKind::StalePresented]);
    }
    desk.visit(&mut alice);
    desk.wait(secs(65));
    for token in &old {
        assert_eq!(judged(&mut desk, &alice, token), [replay(false)]);
    }
}

#[test]
fn an_older_secret_is_a_replay_although_a_newer_rotation_on_demand_is_not_seen_yet() {
    for tidied in [false, true] {
        let mut desk = Desk::with(Policy::default().on_replay(OnReplay::Refuse));
        let mut alice = desk.alice();
        let first = alice.token();
        desk.rotate_now(&mut alice);
        let second = alice.token();
        desk.visit(&mut alice);
        desk.wait(secs(65));
        if tidied {
            desk.count(&mut alice);
        }
        desk.rotate_now(&mut alice);
        assert_eq!(judged(&mut desk, &alice, &first), [replay(false)], "its successor was in use");
        assert_eq!(judged(&mut desk, &alice, &second), [EventKind::StalePresented]);
    }
}

#[test]
fn a_secret_retired_on_schedule_is_a_replay_while_one_on_demand_is_only_stale() {
    let mut desk = Desk::with(Policy::default().on_replay(OnReplay::Refuse));
    let mut alice = desk.alice();
    let scheduled = alice.token();
    desk.wait(mins(15)).visit(&mut alice);
    desk.visit(&mut alice);
    desk.wait(secs(65));
    let on_demand = alice.token();
    desk.rotate_now(&mut alice);
    assert_eq!(judged(&mut desk, &alice, &scheduled), [replay(false)]);
    assert_eq!(judged(&mut desk, &alice, &on_demand), [EventKind::StalePresented]);
}

#[test]
fn a_rotation_on_demand_ends_a_scheduled_one_in_every_state() {
    for (seen, retired) in [(None, 1), (Some(false), 2), (Some(true), 2)] {
        let mut desk = Desk::default();
        let mut alice = desk.alice();
        let mut old = vec![alice.token()];
        if let Some(seen) = seen {
            desk.wait(mins(15));
            let lost = desk.visit_in_vain(&alice).handed().unwrap();
            old.push(lost.clone());
            if seen {
                alice = alice.with(&lost);
                desk.visit(&mut alice);
            }
        }
        desk.rotate_now(&mut alice);
        let body = Body::read(&desk.record(alice.handle()));
        assert_eq!((body.next, body.previous), (None, None));
        assert_eq!((body.retired.len(), usize::from(body.fresh)), (retired, retired));
        for token in &old {
            assert_eq!(judged(&mut desk, &alice, token), [EventKind::StalePresented]);
        }
        assert_eq!(desk.visit(&mut alice).subject.unwrap(), "alice");
    }
}

#[test]
fn within_the_grace_the_predecessor_may_rotate_on_demand() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let mut old = alice.clone();
    desk.wait(mins(15)).visit(&mut alice);
    desk.visit(&mut alice);
    desk.rotate_now(&mut old);
    assert_eq!(desk.visit(&mut old).subject.unwrap(), "alice");
    let current = alice.token();
    assert_eq!(judged(&mut desk, &alice, &current), [EventKind::StalePresented]);
}

#[test]
fn forty_rotations_on_demand_in_a_row_keep_sixteen_stale_secrets() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let mut old = Vec::new();
    for _ in 0..40 {
        old.push(alice.token());
        desk.rotate_now(&mut alice);
    }
    let body = Body::read(&desk.record(alice.handle()));
    assert_eq!((body.retired.len(), body.fresh), (16, 16));
    assert_eq!(judged(&mut desk, &alice, &old[23]), [EventKind::UnknownToken]);
    assert_eq!(judged(&mut desk, &alice, &old[24]), [EventKind::StalePresented]);
    assert_eq!(desk.visit(&mut alice).subject.unwrap(), "alice");
}

#[test]
fn three_hundred_rotations_mixed_of_both_kinds_never_sign_the_holder_out() {
    let mut desk = Desk::with(Policy::default().on_replay(OnReplay::Refuse));
    let mut alice = desk.alice();
    for round in 0_u64..300 {
        desk.wait(secs(61 + round % 7 * 60));
        if round % 8 == 0 {
            desk.rotate_now(&mut alice);
        }
        let reply = desk.visit(&mut alice);
        if desk.now.since(desk.record(alice.handle()).created()) > mins(23 * 60) {
            desk.step_up_now(&mut alice);
        }
        assert_eq!(reply.subject.as_deref(), Some("alice"), "round {round}");
        let body = Body::read(&desk.record(alice.handle()));
        assert!(usize::from(body.fresh) <= body.retired.len() && body.retired.len() <= 16);
    }
    let bad = |kind: &EventKind| matches!(kind, EventKind::Replayed { .. } | EventKind::StalePresented);
    let happened = desk.happened();
    assert!(!happened.iter().any(bad));
    assert!(
        happened.iter().filter(|kind| **kind == EventKind::Renewed).count() > 20,
        "both kinds took place"
    );
}

#[test]
fn r039_r049_a_step_up_rotates_and_resets_both_limits() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let old = alice.token();
    for _ in 0..60 {
        desk.wait(mins(20)).visit(&mut alice);
    }
    let before = desk.record(alice.handle());
    let mut request = desk.begin(&alice.clone().passive());
    let proof = Proof::default().level(Level::TWO).methods(["pwd", "otp"]).unwrap();
    desk.wait(secs(2));
    desk.step_up(&mut request, &proof).unwrap();
    alice.receive(&desk.finish(request));
    let after = desk.record(alice.handle());
    assert_ne!(alice.token(), old);
    assert!(after.absolute_limit() > before.absolute_limit());
    assert_eq!(after.absolute_limit().since(desk.now), mins(24 * 60));
    assert_eq!(after.seen(), desk.now);
    assert_eq!(after.created(), before.created());
    let authentication = after.authentication().unwrap();
    assert_eq!((authentication.at(), authentication.level()), (desk.now, Level::TWO));
    assert_eq!(authentication.methods(), ["pwd", "otp"]);
    assert!(desk.happened().contains(&EventKind::SteppedUp));
    assert_eq!(desk.visit(&mut alice).subject.unwrap(), "alice");
}

#[test]
fn r037_r040_nothing_but_a_step_up_moves_the_absolute_limit() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let limit = desk.record(alice.handle()).absolute_limit();
    for round in 0..40 {
        desk.wait(mins(14));
        desk.count(&mut alice);
        desk.visit(&mut alice);
        if round % 5 == 0 {
            desk.rotate_now(&mut alice);
        }
        assert_eq!(desk.record(alice.handle()).absolute_limit(), limit);
    }
    // Nor does a policy that has changed in between.
    desk.engine = cloakroom_core::engine::Engine::new(
        Policy::aal1(),
        cloakroom_core::cookie::Cookie::default(),
        desk.engine.peppers().clone(),
    )
    .unwrap();
    desk.rotate_now(&mut alice);
    assert_eq!(desk.record(alice.handle()).absolute_limit(), limit);
}

#[test]
fn an_expired_session_can_neither_be_rotated_nor_stepped_up() {
    for wait in [mins(30), mins(24 * 60)] {
        let mut desk = Desk::default();
        let alice = desk.alice();
        let mut request = desk.begin(&alice);
        desk.wait(wait);
        assert!(matches!(desk.rotate(&mut request), Err(EngineError::Superseded)));
        assert!(matches!(desk.step_up(&mut request, &Proof::default()), Err(EngineError::Superseded)));
    }
}

#[test]
fn r043_an_anonymous_session_cannot_be_stepped_up() {
    let mut desk = Desk::default();
    let mut visitor = Browser::firefox();
    let request = desk.begin(&visitor).set("cart", "1");
    visitor.receive(&desk.finish(request));
    let mut request = desk.begin(&visitor);
    assert!(request.resumed.record().is_some());
    assert!(matches!(desk.step_up(&mut request, &Proof::default()), Err(EngineError::Superseded)));
    desk.rotate(&mut request).unwrap();
}

#[test]
fn a_rotated_secret_is_not_handed_out_if_its_session_ended_before_the_response() {
    for writes in [false, true] {
        let mut desk = Desk::default();
        let alice = desk.alice();
        let mut request = desk.begin(&alice);
        desk.rotate(&mut request).unwrap();
        let request = if writes { request.count("visits") } else { request };
        // A login in the same browser takes the session's place before the response.
        desk.shelf.remove(alice.handle(), cloakroom_core::store::Reason::Superseded, desk.now);
        let reply = desk.finish(request);
        assert_eq!((reply.cookie, reply.discarded), (None, writes));
    }
}
