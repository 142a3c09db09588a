//! The tables of the page.

use std::fmt::Write as _;

use super::measure::{Live, Over, Results};
use super::stats::{Spread, number};
use super::tools::Machine;
use crate::case::CASES;

/// The variants on axum, in the order of the columns, and the two on actix.
pub(super) const COLUMNS: [&str; 7] = [
    "cloakroom",
    "cloakroom-round",
    "tower-sessions",
    "axum_session",
    "signed-cookie",
    "private-cookie",
    "actix-session",
];

/// When and on what it was measured; `run` says how much of it.
pub(super) fn conditions(machine: &Machine, run: &str) -> String {
    let Machine { date, processor, cores, memory_gib, system, load, tools, commit, versions } = machine;
    format!(
        "Measured {date} at `{commit}`, {run}. {cores} cores of {processor}, {memory_gib} GiB, {system}; \
         load average {load} when it ended. {tools}. {versions}."
    )
}

fn table(results: &Results, cell: impl Fn(&Over) -> String) -> String {
    let mut text = format!(
        "| case | axum itself | {} |\n|{}\n",
        COLUMNS.join(" | "),
        " --- |".repeat(2 + COLUMNS.len())
    );
    for case in CASES {
        let shown = |over: Option<&Over>| over.map_or_else(|| "?".to_owned(), &cell);
        let bare = shown(results.bare("axum", case.name));
        let cells = COLUMNS.map(|variant| shown(results.over(variant, case.name)));
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {} | {bare} | {} |", case.name, cells.join(" | "));
    }
    text
}

pub(super) fn instructions(results: &Results) -> String {
    table(results, |over| number(over.instructions))
}

pub(super) fn time(results: &Results) -> String {
    table(results, |over| {
        let spread = over.spread();
        format!("{} ({} to {})", number(spread.median), number(spread.low), number(spread.high))
    })
}

pub(super) fn allocations(results: &Results) -> String {
    table(results, |over| format!("{:.0} / {} B", over.allocations, number(over.bytes)))
}

pub(super) fn parts(parts: &[(String, Spread)]) -> String {
    let mut text = "| step | ns, median | middle half |\n| --- | --- | --- |\n".to_owned();
    for (name, Spread { low, median, high }) in parts {
        let _ = writeln!(text, "| {name} | {} | {} to {} |", number(*median), number(*low), number(*high));
    }
    text
}

pub(super) fn live(live: &[Live]) -> String {
    let mut text =
        "| store | sessions | bytes live | blocks | bytes resident |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    for Live { variant, sessions, bytes, blocks, resident } in live {
        let sessions = number(*sessions as f64);
        let (bytes, resident) = (number(*bytes), number(*resident));
        let _ = writeln!(text, "| {variant} | {sessions} | {bytes} | {blocks:.1} | {resident} |");
    }
    text
}
