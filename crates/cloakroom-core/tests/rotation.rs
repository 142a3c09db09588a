//! Scheduled rotation, rule by rule (design section 4.3).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod common;

use cloakroom_core::event::EventKind;
use cloakroom_core::policy::Policy;
use common::mirror::Body;
use common::{Browser, CAFE, Desk, FIREFOX, HOME, Request, mins, secs};

/// Alice after fifteen minutes: the next response hands out a successor.
fn due() -> (Desk, Browser) {
    let mut desk = Desk::default();
    let alice = desk.alice();
    desk.wait(mins(15));
    desk.happened();
    (desk, alice)
}

/// Alice just after her successor was handed out and seen; also the token before it.
fn confirmed() -> (Desk, Browser, String) {
    let (mut desk, mut alice) = due();
    let old = alice.token();
    desk.visit(&mut alice);
    desk.visit(&mut alice);
    (desk, alice, old)
}

#[test]
fn r051_the_first_response_after_the_interval_hands_out_a_successor() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let old = alice.token();
    // The interval counts from the login, which was a second before.
    desk.wait(mins(15) - secs(1) - std::time::Duration::from_millis(1));
    assert_eq!(desk.visit(&mut alice).handed(), None);
    desk.happened();
    desk.wait(std::time::Duration::from_millis(1));
    let new = desk.visit(&mut alice).handed().unwrap();
    assert_ne!(new, old);
    assert_eq!(common::handle_of(&new), common::handle_of(&old));
    assert_eq!(desk.happened(), [EventKind::Renewed]);
    assert_eq!(desk.peek(&alice).unwrap(), "alice");
}

#[test]
fn a_policy_without_rotation_never_hands_out_a_successor() {
    let policy = Policy::default().insecure_without_rotation("a test");
    let mut desk = Desk::with(policy);
    let mut alice = desk.alice();
    for _ in 0..40 {
        assert_eq!(desk.wait(mins(20)).visit(&mut alice).handed(), None);
    }
}

#[test]
fn r053_parallel_requests_with_the_old_secret_receive_the_same_successor() {
    let (mut desk, alice) = due();
    let requests: Vec<_> = (0..100).map(|_| desk.begin(&alice)).collect();
    let replies: Vec<_> = requests.into_iter().map(|request| desk.finish(request)).collect();
    // All of them were resumed before the first one rotated: one wins, the others' rotation is dropped.
    assert_eq!(replies.iter().filter_map(common::Reply::handed).count(), 1);
    let successor = replies.iter().find_map(common::Reply::handed).unwrap();
    for _ in 0..100 {
        let request = desk.begin(&alice);
        assert_eq!(request.subject(), Some("alice"));
        assert_eq!(desk.finish(request).handed().unwrap(), successor);
    }
    assert_eq!(desk.happened(), [EventKind::Renewed]);
}

#[test]
fn r053_a_lost_response_is_recovered_any_number_of_times_with_the_same_successor() {
    let (mut desk, mut alice) = due();
    let lost = desk.visit_in_vain(&alice).handed().unwrap();
    for _ in 0..20 {
        desk.wait(mins(7));
        assert_eq!(desk.visit_in_vain(&alice).handed().unwrap(), lost);
    }
    desk.visit(&mut alice);
    assert_eq!(alice.token(), lost);
    assert_eq!(desk.visit(&mut alice).subject.unwrap(), "alice");
}

#[test]
fn the_old_secret_is_good_until_its_successor_was_seen_and_for_the_grace_after() {
    let (mut desk, mut alice) = due();
    let old = alice.clone();
    desk.visit(&mut alice);
    desk.wait(mins(20));
    assert_eq!(desk.peek(&old).unwrap(), "alice");
    desk.visit(&mut alice);
    // The grace of 60 seconds, longer by the skew of 5.
    desk.wait(secs(64));
    assert_eq!(desk.peek(&old).unwrap(), "alice");
    desk.wait(secs(1));
    assert_eq!(desk.peek(&old), None);
}

#[test]
fn the_first_use_of_the_successor_confirms_it_with_one_event() {
    let (mut desk, mut alice) = due();
    desk.visit(&mut alice);
    desk.happened();
    let before = desk.record(alice.handle());
    assert_eq!(desk.visit(&mut alice).handed(), None);
    assert_eq!(desk.happened(), [EventKind::RotationConfirmed]);
    let after = Body::read(&desk.record(alice.handle()));
    let before = Body::read(&before);
    assert_eq!(after.current, before.next.unwrap().slot);
    assert_eq!(after.previous.unwrap().slot, before.current);
    assert_eq!(after.next, None);
    desk.visit(&mut alice);
    assert_eq!(desk.happened(), []);
}

#[test]
fn within_the_grace_the_old_secret_is_told_the_successor_again() {
    let (mut desk, alice, old) = confirmed();
    desk.wait(secs(59));
    assert_eq!(desk.visit_in_vain(&alice.with(&old)).handed().unwrap(), alice.token());
    // In the skew after the grace it is still served, but told nothing: a newer successor may be under way.
    desk.wait(secs(3));
    let reply = desk.visit_in_vain(&alice.with(&old));
    assert_eq!((reply.subject.as_deref(), reply.handed()), (Some("alice"), None));
}

#[test]
fn no_rotation_begins_while_one_is_unconfirmed() {
    let (mut desk, mut alice) = due();
    let successor = desk.visit_in_vain(&alice).handed().unwrap();
    for _ in 0..10 {
        desk.wait(mins(15));
        assert_eq!(desk.visit_in_vain(&alice).handed().unwrap(), successor);
    }
    assert_eq!(desk.happened(), [EventKind::Renewed]);
    desk.visit(&mut alice);
}

#[test]
fn no_rotation_begins_while_a_grace_runs() {
    // The shortest interval that the policy allows: due again as soon as the grace is over.
    let mut desk = Desk::with(Policy::default().rotation_interval(secs(66)));
    let mut alice = desk.alice();
    desk.wait(secs(66));
    desk.visit(&mut alice);
    desk.visit(&mut alice);
    let seen = desk.now;
    let mut handed = Vec::new();
    for _ in 0..70 {
        desk.wait(secs(1));
        handed.extend(desk.visit_in_vain(&alice).handed().map(|_| desk.now.since(seen)));
    }
    assert_eq!(handed[0], secs(66));
    let rotations = desk.happened().into_iter().filter(|kind| *kind == EventKind::Renewed).count();
    assert_eq!(rotations, 2);
}

#[test]
fn no_rotation_begins_while_the_grace_of_one_on_demand_runs() {
    // On demand late in the interval of the one that is seen late: due, but the grace runs.
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    desk.rotate_now(&mut alice);
    desk.wait(mins(16));
    assert_eq!(desk.visit(&mut alice).handed(), None, "first use confirms");
    desk.wait(secs(64));
    assert_eq!(desk.visit(&mut alice).handed(), None, "the grace runs");
    desk.wait(secs(1));
    assert!(desk.visit(&mut alice).handed().is_some());
}

#[test]
fn r051_a_client_that_looks_different_is_served_without_the_successor_and_noted_once() {
    let (mut desk, mut alice) = due();
    let thief = alice.stolen_by(&Browser::stranger());
    for _ in 0..5 {
        let reply = desk.visit_in_vain(&thief);
        assert_eq!((reply.subject.as_deref(), reply.handed()), (Some("alice"), None));
    }
    assert_eq!(desk.happened(), [EventKind::StrangerNotRenewed]);
    // Another one is another event.
    let other = alice.stolen_by(&Browser::new(FIREFOX, CAFE));
    desk.visit_in_vain(&other);
    assert_eq!(desk.happened(), [EventKind::StrangerNotRenewed]);
    // The owner rotates; now the thief is refused the successor that exists.
    assert!(desk.visit(&mut alice).handed().is_some());
    desk.happened();
    assert_eq!(desk.visit_in_vain(&thief).handed(), None);
    assert_eq!(desk.happened(), [], "once per client and secret");
}

#[test]
fn a_thief_elsewhere_is_cut_off_by_the_owners_rotation() {
    let (mut desk, mut alice) = due();
    let thief = alice.stolen_by(&Browser::stranger());
    desk.visit(&mut alice);
    desk.visit(&mut alice);
    assert_eq!(desk.visit_in_vain(&thief).handed(), None);
    desk.wait(secs(65));
    assert_eq!(desk.peek(&thief), None);
}

#[test]
fn same_family_and_network_or_no_address_at_all_still_gets_the_successor() {
    for (agent, address) in
        [(FIREFOX, "203.0.113.250"), (FIREFOX, "no address"), (&FIREFOX.replace("140.0", "141.0"), HOME)]
    {
        let (mut desk, alice) = due();
        let reply = desk.visit_in_vain(&alice.stolen_by(&Browser::new(agent, address)));
        assert!(reply.handed().is_some(), "{agent} {address}");
    }
}

#[test]
fn a_user_who_roamed_is_renewed_once_the_rotation_is_overdue_by_a_second_interval() {
    let (mut desk, alice) = due();
    let mut roamed = alice.stolen_by(&Browser::new(FIREFOX, CAFE));
    // Due since the second before; overdue after another fifteen minutes.
    desk.wait(mins(10)).visit(&mut roamed);
    desk.wait(mins(4) + secs(58));
    let reply = desk.visit(&mut roamed);
    assert_eq!((reply.subject.as_deref(), reply.handed()), (Some("alice"), None));
    desk.wait(secs(1));
    assert!(desk.visit(&mut roamed).handed().is_some());
    desk.visit(&mut roamed);
    assert_eq!(desk.record(roamed.handle()).client(), &roamed.client, "the café is home now");
    desk.wait(mins(15));
    assert!(desk.visit(&mut roamed).handed().is_some());
}

#[test]
fn a_user_who_roamed_between_response_and_next_request_recovers_a_lost_successor() {
    let (mut desk, alice) = due();
    let lost = desk.visit_in_vain(&alice).handed().unwrap();
    let roamed = alice.stolen_by(&Browser::new(FIREFOX, CAFE));
    assert_eq!(desk.visit_in_vain(&roamed).handed(), None);
    desk.wait(mins(15));
    assert_eq!(desk.visit_in_vain(&roamed).handed().unwrap(), lost);
}

#[test]
fn r053_a_rotation_that_meets_a_data_write_is_dropped_and_begun_by_the_next_request() {
    let (mut desk, mut alice) = due();
    let rotating = desk.begin(&alice);
    let stranger = alice.stolen_by(&Browser::stranger());
    let writing = desk.begin(&stranger).count("visits");
    desk.finish(writing);
    desk.happened();
    let Request { resumed, changes } = &rotating;
    let plan = desk.engine.conclude(resumed, changes, desk.now, &desk.entropy).unwrap();
    assert!(plan.cookie.is_some() && !plan.retry, "not worth a second try");
    let reply = desk.finish(rotating);
    assert_eq!((reply.subject.as_deref(), reply.handed()), (Some("alice"), None));
    assert_eq!(desk.happened(), []);
    assert!(desk.visit(&mut alice).handed().is_some());
}

#[test]
fn r053_data_that_meets_a_rotation_is_applied_again_and_keeps_the_stored_secrets() {
    let (mut desk, mut alice) = due();
    let mut requests: Vec<_> = (0..10).map(|_| desk.begin(&alice).count("visits")).collect();
    let first = desk.finish(requests.remove(0));
    let secrets = Body::read(&desk.record(alice.handle()));
    for request in requests {
        assert_eq!(desk.finish(request).cookie, None);
    }
    let after = Body::read(&desk.record(alice.handle()));
    assert_eq!((&after.current, &after.next), (&secrets.current, &secrets.next));
    alice.receive(&first);
    let request = desk.begin(&alice);
    assert_eq!(request.resumed.open().unwrap().get("visits"), Some(&b"10"[..]));
}

#[test]
fn a_response_later_than_a_grace_after_its_resume_hands_out_no_successor_again() {
    for (late, hands) in [(secs(59), true), (secs(60), false)] {
        let (mut desk, alice) = due();
        desk.visit_in_vain(&alice);
        let slow = desk.begin(&alice);
        desk.wait(late);
        assert_eq!(desk.finish(slow).handed().is_some(), hands, "{late:?}");
    }
}

#[test]
fn a_slow_response_sends_no_successor_of_a_session_that_a_login_has_replaced() {
    let (mut desk, alice) = due();
    desk.visit_in_vain(&alice);
    let slow = desk.begin(&alice);
    let mut browser = alice.clone();
    desk.login(&mut browser, "alice");
    let new = browser.token();
    let reply = desk.finish(slow);
    assert_eq!(reply.cookie, None);
    browser.receive(&reply);
    assert_eq!(browser.token(), new);
}

#[test]
fn a_slow_response_sends_no_successor_that_a_rotation_on_demand_has_replaced() {
    for seen in [false, true] {
        let (mut desk, mut alice) = due();
        let old = alice.clone();
        desk.visit(&mut alice);
        if seen {
            desk.visit(&mut alice);
        }
        let slow = desk.begin(&old);
        desk.rotate_now(&mut alice);
        assert_eq!(desk.finish(slow).cookie, None, "seen: {seen}");
    }
}

#[test]
fn a_slow_response_still_sends_a_successor_that_was_confirmed_meanwhile() {
    let (mut desk, mut alice) = due();
    let old = alice.clone();
    desk.visit(&mut alice);
    let slow = desk.begin(&old);
    desk.visit(&mut alice);
    assert_eq!(desk.finish(slow).handed().unwrap(), alice.token());
}

#[test]
fn a_session_that_expired_while_the_handler_ran_is_not_rotated() {
    // Its browser may be in a new session by now: the old one's successor would displace that.
    let (mut desk, alice) = due();
    let slow = desk.begin(&alice);
    desk.wait(mins(32));
    let mut browser = alice.clone();
    let request = desk.begin(&browser).set("cart", "1");
    let reply = desk.finish(request);
    browser.receive(&reply);
    assert_ne!(browser.handle(), alice.handle());
    assert_eq!(desk.finish(slow).cookie, None);
}

#[test]
fn the_salt_is_erased_by_the_next_write_after_the_grace() {
    let stranger = |alice: &Browser| alice.stolen_by(&Browser::stranger());
    for by_stranger in [false, true] {
        let (mut desk, mut alice, _) = confirmed();
        desk.wait(secs(64));
        desk.count(&mut alice);
        assert!(Body::read(&desk.record(alice.handle())).previous.is_some());
        desk.wait(mins(15));
        let writes = desk.shelf.writes;
        if by_stranger {
            // Rotation is due; what is written is that a stranger was refused it.
            desk.visit_in_vain(&stranger(&alice));
        } else {
            desk.count(&mut alice);
        }
        assert_eq!(desk.shelf.writes, writes + 1);
        let body = Body::read(&desk.record(alice.handle()));
        assert_eq!((body.previous, body.retired.len()), (None, 1), "stranger: {by_stranger}");
    }
}

#[test]
fn the_pending_successor_wins_beside_its_predecessor() {
    let (mut desk, mut alice) = due();
    let old = alice.token();
    desk.visit(&mut alice);
    desk.happened();
    alice.planted = vec![old];
    assert_eq!(desk.visit(&mut alice).handed(), None);
    assert_eq!(desk.happened(), [EventKind::RotationConfirmed]);
}

#[test]
fn a_stranger_is_noted_anew_under_each_secret() {
    for on_demand in [false, true] {
        let (mut desk, mut alice) = due();
        desk.visit_in_vain(&alice.stolen_by(&Browser::stranger()));
        if on_demand {
            desk.rotate_now(&mut alice);
        } else {
            desk.visit(&mut alice);
        }
        desk.visit(&mut alice);
        desk.wait(mins(15)).happened();
        desk.visit_in_vain(&alice.stolen_by(&Browser::stranger()));
        assert_eq!(desk.happened(), [EventKind::StrangerNotRenewed], "on demand: {on_demand}");
    }
}

#[test]
fn a_successor_that_has_a_successor_of_its_own_is_not_offered_again() {
    // Only clocks that differ by more than the skew let it come to this.
    for seen_at_resume in [false, true] {
        let (mut desk, mut alice) = due();
        let old = alice.clone();
        desk.visit(&mut alice);
        let mut slow = desk.begin(&old);
        desk.visit(&mut alice);
        if seen_at_resume {
            slow = desk.begin(&old);
        }
        assert!(desk.engine.still_offers(&slow.resumed, &desk.shelf.find(alice.handle())));
        desk.wait(mins(15)).visit_in_vain(&alice);
        assert!(!desk.engine.still_offers(&slow.resumed, &desk.shelf.find(alice.handle())));
    }
}

#[test]
fn at_most_four_strangers_are_noted_under_one_secret() {
    let (mut desk, alice) = due();
    for network in 1..=9 {
        let stranger = Browser::new(FIREFOX, &format!("198.51.{network}.1"));
        desk.visit_in_vain(&alice.stolen_by(&stranger));
    }
    assert_eq!(desk.happened(), vec![EventKind::StrangerNotRenewed; 4]);
    assert_eq!(desk.peek(&alice).unwrap(), "alice");
}
