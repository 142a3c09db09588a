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
/// What the legitimate client may have at the application beside an attack, the one that is kept included.
const CLIENT: u64 = 3;

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
    assert_eq!((outcome["resets"], outcome["refused"]), (400, 0), "{outcome:?}");
    assert!(outcome["upstream_connections"] <= 256 + CLIENT, "{outcome:?}");
    assert!(outcome["peak_kib"] < 60 * MIB, "{outcome:?}");
}

#[test]
fn connections_that_ask_and_are_reset_keep_nobody_from_being_served() {
    let outcome = attack("aborts");
    assert_eq!((outcome["aborts"], outcome["refused"]), (400, 0), "{outcome:?}");
    assert!(outcome["upstream_connections"] <= 256 + CLIENT, "{outcome:?}");
}

#[test]
fn answers_that_nobody_reads_take_a_bounded_amount_of_memory() {
    let outcome = attack("unread");
    assert_eq!(outcome["refused"], 0, "{outcome:?}");
    assert!(outcome["peak_kib"] < 120 * MIB, "{outcome:?}");
}

#[test]
fn answers_that_are_parked_in_the_gateway_count_until_their_client_has_taken_them() {
    let outcome = attack("parked");
    assert_eq!((outcome["streams"], outcome["refused"]), (1000, 0), "{outcome:?}");
    assert!(outcome["answers"] <= 256, "{outcome:?}");
    assert!(outcome["peak_kib"] < 60 * MIB, "{outcome:?}");
}

#[test]
fn slow_readers_let_go_of_the_application_and_others_are_served() {
    let outcome = attack("readers");
    assert_eq!((outcome["cut_off"], outcome["refused"]), (1, 0), "{outcome:?}");
}

#[test]
fn cookies_that_are_large_only_when_unpacked_are_refused_and_many_small_ones_are_served() {
    let outcome = attack("crumbs");
    assert_eq!((outcome["taken"], outcome["refused"]), (0, 0), "{outcome:?}");
    assert_eq!(outcome["honest_served"], outcome["bombs"], "{outcome:?}");
    assert!(outcome["peak_kib"] < 60 * MIB, "{outcome:?}");
}

#[test]
fn slow_uploads_do_not_reach_the_application_and_others_are_served() {
    let outcome = attack("uploads");
    assert_eq!(outcome["refused"], 0, "{outcome:?}");
    assert!(outcome["upstream_connections"] <= CLIENT, "no upload has reached the application: {outcome:?}");
}

#[test]
fn r111_a_flood_of_guesses_leaves_others_alone() {
    let outcome = attack("guessing");
    assert_eq!(outcome["refused"], 0, "{outcome:?}");
    assert_eq!(outcome["looked_up"] + outcome["throttled"], 500, "each is answered: {outcome:?}");
    assert!(outcome["throttled"] > 0, "{outcome:?}");
}
