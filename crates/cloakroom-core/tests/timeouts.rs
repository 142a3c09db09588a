//! Limits and activity (design section 4.2), and what no order of events may do to a session.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::event::EventKind;
use cloakroom_core::policy::Policy;
use cloakroom_core::store::Reason;
use common::{Browser, Desk, NOON, mins, secs};
use proptest::prelude::*;

#[test]
fn r036_the_idle_limit_ends_a_session_early_by_the_skew_and_never_late() {
    // Last seen a second after noon; the skew is five seconds.
    let limit = NOON.plus(secs(1) + mins(30) - secs(5));
    for (at, served) in [
        (limit.minus(secs(1)), true),
        (limit.minus(Duration::from_millis(1)), true),
        (limit, false),
        (limit.plus(secs(1)), false),
    ] {
        let mut desk = Desk::default();
        let alice = desk.alice();
        desk.happened();
        desk.now = at;
        assert_eq!(desk.peek(&alice).is_some(), served, "{at}");
        let refused = [EventKind::UsedAfterEnd(Reason::Idle)];
        assert_eq!(desk.happened() == refused, !served, "{at}");
    }
}

#[test]
fn r037_the_absolute_limit_ends_a_session_whatever_the_activity() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let limit = NOON.plus(mins(24 * 60) - secs(5));
    while desk.now < limit.minus(secs(1)) {
        desk.now = desk.now.plus(mins(1)).min(limit.minus(secs(1)));
        assert_eq!(desk.visit(&mut alice).subject.as_deref(), Some("alice"), "{}", desk.now);
    }
    desk.happened();
    desk.now = limit;
    assert_eq!(desk.peek(&alice), None);
    assert_eq!(desk.happened(), [EventKind::UsedAfterEnd(Reason::Absolute)]);
}

#[test]
fn r047_an_expired_session_is_refused_although_nobody_swept_it() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    for wait in [mins(30), mins(60 * 24 * 30)] {
        desk.wait(wait);
        assert_eq!(desk.visit(&mut alice).subject, None);
        assert_eq!(desk.shelf.lives(), 1);
    }
    // A visitor like any other by now.
    let old = alice.handle();
    let request = desk.begin(&alice).set("cart", "1");
    alice.receive(&desk.finish(request));
    assert_ne!(alice.handle(), old);
}

#[test]
fn r041_r047_an_expired_session_stays_so_although_a_slow_handler_ends_later() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    desk.wait(mins(20));
    let (touching, writing) = (desk.begin(&alice), desk.begin(&alice).count("visits"));
    desk.wait(mins(11));
    assert_eq!(desk.peek(&alice), None);
    for slow in [touching, writing] {
        desk.finish(slow);
        assert_eq!(desk.peek(&alice), None);
    }
}

#[test]
fn r045_passive_requests_do_not_move_the_idle_timer() {
    let mut desk = Desk::default();
    let mut polling = desk.alice().passive();
    for _ in 0..29 {
        assert!(desk.wait(mins(1)).visit(&mut polling).subject.is_some());
        desk.count(&mut polling);
    }
    desk.wait(mins(1));
    assert_eq!(desk.visit(&mut polling).subject, None);
}

#[test]
fn r045_a_passive_request_that_rotates_does_not_move_the_idle_timer_either() {
    for (passive, moves) in [(true, false), (false, true)] {
        let mut desk = Desk::default();
        let alice = desk.alice();
        let seen = desk.record(alice.handle()).seen();
        let mut browser = if passive { alice.passive() } else { alice };
        desk.wait(mins(5)).rotate_now(&mut browser);
        assert_eq!(desk.record(browser.handle()).seen() > seen, moves);
    }
}

#[test]
fn a_handler_may_say_that_a_request_was_passive_after_all() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let seen = desk.record(alice.handle()).seen();
    let mut request = desk.wait(mins(5)).begin(&alice);
    request.resumed.set_activity(cloakroom_core::engine::Activity::Passive);
    desk.finish(request);
    assert_eq!(desk.record(alice.handle()).seen(), seen);
}

#[test]
fn activity_is_noted_at_most_once_per_interval() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let writes = desk.shelf.writes;
    for _ in 0..59 {
        desk.wait(secs(1)).visit(&mut alice);
    }
    assert_eq!(desk.shelf.writes, writes);
    desk.wait(secs(1)).visit(&mut alice);
    assert_eq!(desk.shelf.writes, writes + 1);
    assert_eq!(desk.record(alice.handle()).seen(), desk.now);
}

#[test]
fn the_first_request_after_a_login_is_noted_even_in_the_same_instant() {
    let mut desk = Desk::default();
    let mut browser = Browser::firefox();
    let mut request = desk.begin(&browser);
    desk.log_in(&mut request, "alice");
    let request = request.count("visits");
    browser.receive(&desk.finish(request));
    assert!(!desk.record(browser.handle()).presented(), "the login itself does not count");
    let writes = desk.shelf.writes;
    desk.visit(&mut browser);
    assert!(desk.record(browser.handle()).presented());
    desk.visit(&mut browser);
    assert_eq!(desk.shelf.writes, writes + 1);
}

#[test]
fn activity_never_goes_back() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let early = desk.wait(mins(2)).begin(&alice);
    desk.wait(mins(2)).visit(&mut alice.clone());
    let noted = desk.record(alice.handle()).seen();
    desk.finish(early.count("visits"));
    assert_eq!(desk.record(alice.handle()).seen(), noted);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    User,
    Passive,
    Write,
    Reauthenticate,
    Rotate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..2_000).prop_map(Step::Wait),
        3 => Just(Step::User),
        1 => Just(Step::Passive),
        1 => Just(Step::Write),
        1 => Just(Step::Reauthenticate),
        1 => Just(Step::Rotate),
    ]
}

proptest! {
    /// In any order: activity moves the idle limit only, authentication both, and nothing else moves either. A session
    /// may idle out one touch interval early, never late.
    #[test]
    fn r039_r040_only_activity_and_authentication_move_the_limits(steps in prop::collection::vec(step(), 1..120)) {
        let mut desk = Desk::with(Policy::default().absolute(mins(120)));
        let mut alice = desk.alice();
        let (skew, touch) = (secs(5), mins(1));
        let (mut active, mut limit) = (desk.now, NOON.plus(mins(120)));
        for step in steps {
            let idle = active.plus(mins(30)).minus(skew);
            let late = desk.now >= idle || desk.now >= limit.minus(skew);
            let early = desk.now < idle.minus(touch) && desk.now < limit.minus(skew);
            let mut passive = alice.clone().passive();
            let served = match step {
                Step::Wait(by) => { desk.wait(secs(by)); continue }
                Step::Passive => desk.visit(&mut passive).subject.is_some(),
                Step::User => desk.visit(&mut alice).subject.is_some(),
                Step::Write => desk.count(&mut alice).subject.is_some(),
                Step::Reauthenticate | Step::Rotate => {
                    let mut request = desk.begin(&alice);
                    let served = request.subject().is_some();
                    if served && matches!(step, Step::Rotate) {
                        desk.rotate(&mut request).unwrap();
                    } else if served {
                        desk.step_up(&mut request, &Default::default()).unwrap();
                        limit = desk.now.plus(mins(120));
                    }
                    alice.receive(&desk.finish(request));
                    served
                }
            };
            if let Step::Passive = step { alice.jar = passive.jar } else if served { active = desk.now }
            prop_assert!(!(served && late), "served {} after {idle} or {limit}", desk.now);
            prop_assert!(served || !early, "refused {} before {idle} and {limit}", desk.now);
            if !served { return Ok(()) }
        }
    }
}

/// What may befall one browser's traffic.
#[derive(Clone, Debug)]
enum Traffic {
    Wait(u64),
    /// A quiet time: everything under way ends first.
    Pause(u64),
    Begin {
        writes: bool,
    },
    Finish(prop::sample::Index),
    Deliver(prop::sample::Index),
    Lose(prop::sample::Index),
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let one = any::<prop::sample::Index>;
    prop_oneof![
        2 => (1_u64..25).prop_map(Traffic::Wait),
        1 => (60_u64..1_700).prop_map(Traffic::Pause),
        4 => any::<bool>().prop_map(|writes| Traffic::Begin { writes }),
        3 => one().prop_map(Traffic::Finish),
        2 => one().prop_map(Traffic::Deliver),
        1 => one().prop_map(Traffic::Lose),
    ]
}

/// Requests under way and responses on the network, each with the time it began.
#[derive(Default)]
struct Wire {
    requests: Vec<(Timestamp, common::Request, bool)>,
    responses: Vec<(Timestamp, common::Reply)>,
    accepted: u64,
}

impl Wire {
    fn finish(&mut self, desk: &mut Desk, index: usize) {
        let (began, request, writes) = self.requests.remove(index);
        let reply = desk.finish(request);
        assert!(!reply.discarded);
        self.accepted += u64::from(writes);
        self.responses.push((began, reply));
    }

    /// Nothing takes longer than a grace from its beginning to its arrival.
    fn settle(&mut self, desk: &mut Desk, browser: &mut Browser, limit: Duration) {
        while let Some(at) = self.requests.iter().position(|(began, ..)| desk.now.since(*began) >= limit) {
            self.finish(desk, at);
        }
        while let Some(at) = self.responses.iter().position(|(began, _)| desk.now.since(*began) >= limit) {
            browser.receive(&self.responses.remove(at).1);
        }
    }
}

proptest! {
    /// With requests in parallel, responses late, lost and out of order, while the secret rotates on schedule: the
    /// holder stays signed in, no alarm is raised, and no update is lost.
    #[test]
    fn r053_no_order_of_parallel_late_and_lost_responses_signs_the_holder_out(
        steps in prop::collection::vec(traffic(), 1..250),
    ) {
        let mut desk = Desk::with(Policy::default().absolute(mins(60 * 24 * 30)).rotation_interval(secs(90)));
        let mut alice = desk.alice();
        let mut wire = Wire::default();
        for step in steps {
            match step {
                Traffic::Wait(by) => {
                    desk.wait(secs(by));
                    wire.settle(&mut desk, &mut alice, secs(35));
                }
                Traffic::Pause(by) => {
                    wire.settle(&mut desk, &mut alice, Duration::ZERO);
                    desk.visit(&mut alice);
                    desk.wait(secs(by));
                }
                Traffic::Begin { writes } => {
                    let request = desk.begin(&alice);
                    prop_assert_eq!(request.subject(), Some("alice"));
                    let request = if writes { request.count("visits") } else { request };
                    wire.requests.push((desk.now, request, writes));
                }
                Traffic::Finish(any) if !wire.requests.is_empty() => {
                    let at = any.index(wire.requests.len());
                    wire.finish(&mut desk, at);
                }
                Traffic::Deliver(any) if !wire.responses.is_empty() => {
                    let at = any.index(wire.responses.len());
                    alice.receive(&wire.responses.remove(at).1);
                }
                Traffic::Lose(any) if !wire.responses.is_empty() => {
                    wire.responses.remove(any.index(wire.responses.len()));
                }
                _ => {}
            }
        }
        wire.settle(&mut desk, &mut alice, Duration::ZERO);
        let data = desk.begin(&alice).resumed.open().unwrap();
        let visits = data.get("visits").map_or(0, |json| str::from_utf8(json).unwrap().parse().unwrap());
        prop_assert_eq!(visits, wire.accepted);
        let alarms = [EventKind::StalePresented, EventKind::Replayed { ended: true }, EventKind::UnknownToken];
        prop_assert!(!desk.happened().iter().any(|kind| alarms.contains(kind)));
    }
}
