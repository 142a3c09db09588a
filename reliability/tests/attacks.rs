//! Each attack in its small size: what it may cost at most, generously, and that others are served meanwhile.
//! No time is judged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::process::Command;

use cloakroom_reliability::attacks::Outcome;

fn attack(name: &str) -> BTreeMap<String, u64> {
    let run = Command::new(env!("CARGO_BIN_EXE_attacks")).args([name, "--small"]).output().unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&run.stderr));
    let outcome = Outcome::read(&text);
    assert!(outcome["answered"] > 0, "{name}: nobody was served: {text}");
    outcome
}

const MIB: u64 = 1024;

#[test]
fn r111_a_flood_of_visitors_leaves_room_for_logins() {
    let outcome = attack("visitors");
    assert_eq!((outcome["refused"], outcome["given_a_session"]), (0, 1000), "{outcome:?}");
}

#[test]
fn r058_all_of_many_sessions_of_a_user_are_ended() {
    let outcome = attack("end-all");
    assert_eq!(outcome["ended"], outcome["logins"], "{outcome:?}");
}

#[test]
fn parallel_changes_of_one_session_cost_what_they_are_many() {
    let outcome = attack("conflicts");
    assert_eq!(outcome["refused"], 0, "{outcome:?}");
    assert!(outcome["store_operations"] <= 6 * outcome["parallel"], "{outcome:?}");
}

#[test]
fn texts_that_would_become_large_trees_are_refused_and_take_little_memory() {
    let outcome = attack("rich-text");
    assert_eq!((outcome["taken"], outcome["refused"]), (0, 0), "{outcome:?}");
    assert!(outcome["peak_kib"] < 100 * MIB, "{outcome:?}");
}

#[test]
fn an_answer_that_comes_before_the_body_was_read_reaches_the_client() {
    let outcome = attack("early");
    assert_eq!((outcome["passed_on"], outcome["refused"]), (40, 0), "{outcome:?}");
}

#[test]
fn requests_that_are_taken_back_keep_nobody_from_being_served() {
    let outcome = attack("resets");
    assert_eq!((outcome["resets"], outcome["refused"]), (300, 0), "{outcome:?}");
    assert!(outcome["peak_kib"] < 200 * MIB, "{outcome:?}");
}

#[test]
fn answers_that_nobody_reads_take_a_bounded_amount_of_memory() {
    let outcome = attack("unread");
    assert_eq!(outcome["refused"], 0, "{outcome:?}");
    assert!(outcome["peak_kib"] < 300 * MIB, "{outcome:?}");
}

#[test]
fn slow_uploads_end_and_others_are_served() {
    assert_eq!(attack("uploads")["refused"], 0);
}

#[test]
fn r111_a_flood_of_guesses_leaves_others_alone() {
    let outcome = attack("guessing");
    assert_eq!(outcome["refused"], 0, "{outcome:?}");
    assert_eq!(outcome["looked_up"] + outcome["throttled"], 500, "each is answered: {outcome:?}");
}
