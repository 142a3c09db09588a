//! The checker, on histories written by hand: each that breaks the contract is refused, and its legal neighbour is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::{Arc, Mutex};

use cloakroom::MemoryStore;
use cloakroom_core::clock::Timestamp;
use cloakroom_core::store::Reason;
use cloakroom_core::token::Handle;
use cloakroom_reliability::histories::{
    Answer, Call, Capped, Event, History, Life, Load, Recorder, Seen, Settings, check,
};
use cloakroom_reliability::target::block_on;
use cloakroom_testkit::Counting;

const ALICE: &str = "alice";

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

fn handle(number: u8) -> Handle {
    Handle::from_bytes([number; 16])
}

fn life() -> Life {
    Life { created: at(0), idle_ms: 1_000, absolute: at(100_000) }
}

fn live(version: u64, seen: u64, content: u64) -> Seen {
    Seen { version, seen: at(seen), content }
}

fn insert(number: u8, since: u64, cap: Capped) -> Call {
    let (subject, new) = (Some(ALICE.to_owned()), live(1, 0, 1));
    Call::Insert { handle: handle(number), subject, life: life(), new, now: at(10), since, cap }
}

fn put(number: u8) -> Call {
    insert(number, 0, Capped::No)
}

fn replace(expected: u64, content: u64) -> Call {
    Call::Replace { handle: handle(1), expected, life: life(), new: live(expected, 0, content) }
}

fn find() -> Call {
    Call::Find { handle: handle(1) }
}

fn remove() -> Call {
    Call::Remove { handle: handle(1), reason: Reason::LoggedOut, now: at(10) }
}

fn remove_all() -> Call {
    Call::RemoveAll { subject: ALICE.to_owned(), keep: None, reason: Reason::RevokedAll, now: at(10) }
}

fn present(number: u8) -> Call {
    Call::Touch { handle: handle(number), seen: at(5) }
}

fn admitted() -> Answer {
    Answer::Inserted { evicted: Vec::new() }
}

fn ended() -> Answer {
    Answer::Ended { reason: Reason::LoggedOut, at: at(10) }
}

fn removed(version: u64, content: u64) -> Answer {
    Answer::Removed(Some(live(version, 0, content)))
}

fn removed_all(numbers: &[u8]) -> Answer {
    let ended = numbers.iter().copied().map(handle).collect();
    Answer::RemovedAll { ended, epoch: at(10).as_millis() }
}

type Line = (u64, u64, Call, Answer);

/// A number for an end that never came.
const LOST: u64 = u64::MAX;

fn history(lines: Vec<Line>) -> History {
    let event = |(began, ended, call, answer)| {
        let known = ended != LOST;
        let (ended, answer) = (known.then_some(ended), known.then_some(answer));
        Event { client: 0, began, ended, call, answer }
    };
    History(lines.into_iter().map(event).collect())
}

/// Refuses the first and accepts the second; each begins with the session 1.
#[track_caller]
fn tells_apart(wrong: Vec<Line>, right: Vec<Line>) {
    let with_session = |mut lines: Vec<Line>| {
        lines.insert(0, (0, 1, put(1), admitted()));
        history(lines)
    };
    let violation = check(&with_session(wrong)).expect_err("this breaks the contract");
    assert!(!violation.gave_up);
    if let Err(violation) = check(&with_session(right)) {
        panic!("this is in order, but {violation}");
    }
}

#[test]
fn a_lost_update_is_refused() {
    tells_apart(
        vec![(2, 5, replace(1, 7), Answer::Replaced), (3, 6, replace(1, 8), Answer::Replaced)],
        vec![(2, 5, replace(1, 7), Answer::Replaced), (3, 6, replace(1, 8), Answer::Stale)],
    );
}

#[test]
fn a_needless_conflict_is_refused() {
    tells_apart(
        vec![(2, 3, replace(1, 7), Answer::Stale)],
        // Neither of the two was answered before the other began.
        vec![(2, 5, replace(1, 7), Answer::Stale), (3, 4, replace(1, 8), Answer::Replaced)],
    );
}

#[test]
fn a_read_that_misses_an_acknowledged_removal_is_refused() {
    let old = || Answer::Live(live(1, 0, 1));
    tells_apart(
        vec![(2, 3, remove(), removed(1, 1)), (4, 5, find(), old())],
        vec![(2, 4, remove(), removed(1, 1)), (3, 5, find(), old())],
    );
}

#[test]
fn a_session_that_lives_again_is_refused() {
    let old = || Answer::Live(live(1, 0, 1));
    // Whether a removal whose answer was lost took place or not, it did so once.
    tells_apart(
        vec![(2, LOST, remove(), Answer::Gone), (3, 4, find(), ended()), (5, 6, find(), old())],
        vec![(2, LOST, remove(), Answer::Gone), (3, 4, find(), old()), (5, 6, find(), ended())],
    );
    tells_apart(
        vec![(2, 3, remove(), removed(1, 1)), (4, 5, replace(1, 7), Answer::Replaced)],
        vec![(2, 3, remove(), removed(1, 1)), (4, 5, replace(1, 7), Answer::Gone)],
    );
    tells_apart(
        vec![(2, 3, remove(), removed(1, 1)), (4, 5, put(1), admitted())],
        vec![(2, 3, remove(), removed(1, 1)), (4, 5, put(1), Answer::HandleTaken)],
    );
}

#[test]
fn a_session_that_vanishes_without_a_trace_is_refused() {
    tells_apart(
        vec![(2, 3, remove(), removed(1, 1)), (4, 5, find(), Answer::Absent)],
        vec![(2, 3, remove(), removed(1, 1)), (4, 5, find(), ended())],
    );
}

#[test]
fn a_cap_that_is_overrun_is_refused() {
    let (second, third) = (insert(2, 0, Capped::Deny(2)), insert(3, 0, Capped::Deny(2)));
    tells_apart(
        vec![(2, 6, second.clone(), admitted()), (3, 7, third.clone(), admitted())],
        vec![
            (2, 6, second.clone(), admitted()),
            (3, 7, third.clone(), admitted()),
            // Made room in time.
            (4, 5, remove(), removed(1, 1)),
        ],
    );
    // Nor may one be refused while there is room.
    tells_apart(
        vec![(2, 3, second.clone(), Answer::CapReached)],
        vec![
            (2, 3, second, admitted()),
            (4, 5, present(1), Answer::Touched),
            (6, 7, present(2), Answer::Touched),
            (8, 9, third, Answer::CapReached),
        ],
    );
}

#[test]
fn an_eviction_of_the_wrong_session_is_refused() {
    let cap = Capped::EvictOldest(2);
    let touched = || (2, 3, present(1), Answer::Touched);
    let second = || (4, 5, insert(2, 0, cap), admitted());
    let third = |victim| {
        let evicted = vec![handle(victim)];
        (6, 7, insert(3, 0, cap), Answer::Inserted { evicted })
    };
    // The one that was never presented goes first.
    tells_apart(vec![touched(), second(), third(1)], vec![touched(), second(), third(2)]);
}

#[test]
fn a_login_that_survives_an_end_of_all_sessions_is_refused() {
    let login = insert(2, 0, Capped::No);
    tells_apart(
        vec![(2, 3, remove_all(), removed_all(&[1])), (4, 5, login.clone(), admitted())],
        vec![(2, 3, remove_all(), removed_all(&[1])), (4, 5, login.clone(), Answer::Superseded)],
    );
    // One that raced it was ended by it, or refused; it was not left out.
    tells_apart(
        vec![(2, 5, remove_all(), removed_all(&[1])), (3, 4, login.clone(), admitted())],
        vec![(2, 5, remove_all(), removed_all(&[1, 2])), (3, 4, login, admitted())],
    );
}

#[test]
fn an_end_of_all_sessions_that_leaves_one_is_refused() {
    tells_apart(
        vec![(2, 3, remove_all(), removed_all(&[]))],
        vec![(2, 4, remove_all(), removed_all(&[])), (3, 5, remove(), Answer::Removed(Some(live(1, 0, 1))))],
    );
}

#[test]
fn a_write_whose_answer_was_lost_may_come_late_but_not_be_taken_back() {
    let (old, new) = (|| Answer::Live(live(1, 0, 1)), || Answer::Live(live(2, 0, 7)));
    let lost = || (2, LOST, replace(1, 7), Answer::Gone);
    tells_apart(
        vec![lost(), (3, 4, find(), new()), (5, 6, find(), old())],
        vec![lost(), (3, 4, find(), old()), (5, 6, find(), old()), (7, 8, find(), new())],
    );
    // Nor may it come twice.
    tells_apart(
        vec![lost(), (3, 4, find(), Answer::Live(live(3, 0, 7)))],
        vec![lost(), (3, 4, replace(2, 9), Answer::Replaced), (5, 6, find(), Answer::Live(live(3, 0, 9)))],
    );
}

#[test]
fn a_touch_that_goes_back_or_gets_lost_is_refused() {
    let touch = |millis| Call::Touch { handle: handle(1), seen: at(millis) };
    let seen = |millis| Answer::Live(live(1, millis, 1));
    tells_apart(
        vec![(2, 3, touch(9), Answer::Touched), (4, 5, touch(4), Answer::Touched), (6, 7, find(), seen(4))],
        vec![(2, 3, touch(9), Answer::Touched), (4, 5, touch(4), Answer::Touched), (6, 7, find(), seen(9))],
    );
    tells_apart(
        vec![(2, 3, touch(9), Answer::Touched), (4, 5, find(), seen(0))],
        vec![(2, 4, touch(9), Answer::Touched), (3, 5, find(), seen(0))],
    );
}

#[test]
fn a_sweep_of_what_has_time_left_is_refused() {
    let sweep = |now| Call::Sweep { now: at(now) };
    let swept = |due| Answer::Swept(vec![(handle(1), Reason::Idle, at(due))]);
    tells_apart(
        vec![(2, 3, sweep(999), swept(1_000))],
        // What is due may be left for later, and is judged by the activity that was noted.
        vec![(2, 3, sweep(1_000), Answer::Swept(Vec::new())), (4, 5, sweep(1_000), swept(1_000))],
    );
    let touched = || (2, 3, Call::Touch { handle: handle(1), seen: at(500) }, Answer::Touched);
    tells_apart(
        vec![touched(), (4, 5, sweep(1_000), swept(1_000))],
        vec![touched(), (4, 5, sweep(1_500), swept(1_500))],
    );
}

#[test]
fn a_recorded_history_can_be_written_down_and_read_again() {
    let text = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&text);
    let recorder = Recorder::default().to(move |line| {
        let mut text = sink.lock().unwrap();
        text.push_str(line);
        text.push('\n');
    });
    let recorder = block_on(async {
        let store = Counting::new(MemoryStore::new());
        let load = Load::start_recording(&store, &Settings::default(), recorder);
        load.reached(500).await;
        load.stop().await
    });
    let mut text = text.lock().unwrap().clone();
    assert_eq!(Recorder::read(&text), recorder.history());
    // The last line was cut off, as by a crash: that call has no answer.
    text.truncate(text.len() - 10);
    let cut = Recorder::read(&text);
    assert_eq!((cut.lost(), cut.0.len()), (1, recorder.history().0.len()));
    check(&cut).unwrap();
}
