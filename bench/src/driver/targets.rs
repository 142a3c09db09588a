//! The goals that the project has set itself, and whether they are met.

use std::fmt::Write as _;

use super::measure::{Live, Results};
use super::stats::number;

const OURS: &str = "cloakroom";
const THEIRS: &str = "tower-sessions";

struct Target {
    what: String,
    must: f64,
    aim: f64,
    is: Option<f64>,
    digits: usize,
}

/// The goals that need no socket.
pub(super) fn in_process(results: &Results, live: &[Live], crates: usize) -> String {
    let instructions = |variant, case| Some(results.over(variant, case)?.instructions);
    let time = |variant, case| Some(results.over(variant, case)?.spread().median);
    let allocations = |variant, case| Some(results.over(variant, case)?.allocations);
    let ratio = |ours: Option<f64>, theirs: Option<f64>| Some(ours? / theirs?);
    let mut targets = Vec::new();
    let mut target =
        |what: String, must, aim, is, digits| targets.push(Target { what, must, aim, is, digits });
    for (case, must, aim) in [("no-cookie", 0.60, 0.50), ("untouched", 0.45, 0.33)] {
        let is = ratio(instructions(OURS, case), instructions(THEIRS, case));
        target(format!("instructions, {case}, of {THEIRS}'s"), must, aim, is, 2);
    }
    for (case, must, aim) in [("read-one", 0.50, 0.40), ("write-one", 0.50, 0.35), ("login", 0.50, 0.40)] {
        target(
            format!("time, {case}, of {THEIRS}'s"),
            must,
            aim,
            ratio(time(OURS, case), time(THEIRS, case)),
            2,
        );
    }
    for (case, must, aim, keys) in [
        ("no-cookie", 9.0, 7.0, 0.0),
        ("untouched", 9.0, 7.0, 0.0),
        ("read-one", 12.0, 8.0, 2.0),
        ("write-one", 20.0, 13.0, 3.0),
    ] {
        // The AES library takes the memory of a key from C's allocator, past the one that counts.
        let is = allocations(OURS, case).map(|counted| counted + keys);
        target(format!("allocations, {case}, keys of AES included"), must, aim, is, 0);
    }
    let is = ratio(instructions(OURS, "malformed-untouched"), instructions(OURS, "untouched"));
    target("instructions, malformed cookie, of our own untouched".to_owned(), 1.0, 1.0, is, 2);
    let is = ratio(time(OURS, "unknown"), time(OURS, "read-one"));
    target("time, unknown token, of our own read".to_owned(), 1.0, 1.0, is, 2);
    for live in live.iter().filter(|live| live.variant == OURS) {
        let what = format!("live bytes a session in memory, of {}", number(live.sessions as f64));
        target(what, 400.0, 300.0, Some(live.bytes), 0);
    }
    target("crates beside those of axum and tokio".to_owned(), 25.0, 15.0, Some(crates as f64), 0);
    table(&targets)
}

/// The goals that need one.
#[cfg(feature = "http")]
pub(super) fn over_http(results: &super::http::Results) -> String {
    let goals = [("memory", 0.60, 0.45), ("redis", 0.90, 0.75), ("postgres", 0.60, 0.40)];
    let targets = goals.map(|(store, must, aim)| Target {
        what: format!("CPU of server and store, read, {store}, of {THEIRS}'s"),
        must,
        aim,
        is: super::http::over_theirs(results, store, "read"),
        digits: 2,
    });
    table(&targets)
}

fn table(targets: &[Target]) -> String {
    let mut text =
        "| what is added to a bare request | must | aim | is | |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    for Target { what, must, aim, is, digits } in targets {
        let verdict = match is {
            None => "not measured",
            Some(is) if is <= aim => "aim met",
            Some(is) if is <= must => "met",
            Some(_) => "**missed**",
        };
        let is = is.map_or_else(|| "?".to_owned(), |is| format!("{is:.digits$}"));
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {what} | {must:.digits$} | {aim:.digits$} | {is} | {verdict} |");
    }
    text
}
