//! What was found, as tables.

use std::fmt::Write as _;

use anyhow::Result;

use super::super::stats::{Spread, number};
use super::{Expiry, Row};

/// The tables.
pub(in super::super) fn tables(rows: &[Row]) -> Result<String> {
    let mut text = String::new();
    let first = |row: &Row| rows.iter().find(|other| other.store == row.store);
    writeln!(text, "**Space, start, single reads and writes**\n")?;
    writeln!(
        text,
        "| store | sessions | bytes a session | start ms | read µs | of the smallest's | write µs | of the smallest's |"
    )?;
    writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for row in rows {
        let ratio = |now: Spread, of: fn(&Row) -> Spread| {
            first(row).map_or(1.0, |first| now.median / of(first).median.max(f64::MIN_POSITIVE))
        };
        let start = row.start.map_or("–".to_owned(), |start| format!("{:.1}", start / 1e3));
        writeln!(
            text,
            "| {} | {} | {} | {start} | {} | {:.2} | {} | {:.2} |",
            row.store,
            number(row.sessions as f64),
            number(row.bytes),
            spread(row.read),
            ratio(row.read, |row| row.read),
            spread(row.write),
            ratio(row.write, |row| row.write),
        )?;
    }
    writeln!(text, "\n**Subjects and expiry**\n")?;
    writeln!(
        text,
        "| store | sessions | list one µs | end one µs | end 1,000 ms | sweep, none due, ms | expired | each µs | longest sweep ms |"
    )?;
    writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for row in rows {
        let Expiry { sessions, each, longest_sweep, .. } = &row.expiry;
        let by_itself = |figure: Option<String>| figure.unwrap_or("by itself".to_owned());
        writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} | {:.2} | {} | {} | {} |",
            row.store,
            number(row.sessions as f64),
            number(row.list),
            number(row.end_one),
            row.end_many / 1e3,
            row.idle_sweep / 1e3,
            number(*sessions as f64),
            by_itself(each.map(|each| format!("{each:.1}"))),
            by_itself(longest_sweep.map(|longest| format!("{:.1}", longest / 1e3))),
        )?;
    }
    writeln!(text, "\n**What others wait while sessions expire, and for as long without, in ms**\n")?;
    writeln!(
        text,
        "| store | sessions | expired | read p99 | without | longest | without | write p99 | without | longest | without |"
    )?;
    writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for row in rows {
        let Expiry { sessions, meanwhile, afterwards, .. } = &row.expiry;
        write!(text, "| {} | {} | {} |", row.store, number(row.sessions as f64), number(*sessions as f64))?;
        for (with, without) in [(meanwhile.read, afterwards.read), (meanwhile.write, afterwards.write)] {
            for (with, without) in [(with.p99, without.p99), (with.longest, without.longest)] {
                write!(text, " {:.2} | {:.2} |", with / 1e3, without / 1e3)?;
            }
        }
        writeln!(text)?;
    }
    Ok(text)
}

fn spread(spread: Spread) -> String {
    format!("{:.1} ({:.1} to {:.1})", spread.median, spread.low, spread.high)
}

/// The goals for what grows.
pub(in super::super) fn targets(rows: &[Row]) -> Result<String> {
    let mut text = "| what | must | aim | is | |\n| --- | --- | --- | --- | --- |\n".to_owned();
    let mut line = |what: &str, must: f64, aim: f64, is: f64, note: &str| {
        let verdict = if is <= aim {
            "aim met"
        } else if is <= must {
            "met"
        } else {
            "**missed**"
        };
        writeln!(text, "| {what} | {must:.1} | {aim:.1} | {is:.2}{note} | {verdict} |")
    };
    for last in rows.iter().rev().filter(|row| row.sessions <= 1_000_000) {
        let of =
            |sessions: usize| rows.iter().find(|row| row.store == last.store && row.sessions == sessions);
        let largest = rows.iter().filter(|row| row.store == last.store && row.sessions <= 1_000_000);
        if largest.map(|row| row.sessions).max() != Some(last.sessions) {
            continue;
        }
        let Some(smallest) = of(1_000) else { continue };
        let (store, sessions) = (last.store, number(last.sessions as f64));
        line(
            &format!("{store}: read, {sessions} sessions, of that with 1,000"),
            2.0,
            2.0,
            last.read.median / smallest.read.median,
            "",
        )?;
        line(
            &format!("{store}: write, {sessions} sessions, of that with 1,000"),
            3.0,
            3.0,
            last.write.median / smallest.write.median,
            "",
        )?;
        let idle = last.idle_sweep / 1e3;
        line(&format!("{store}: sweep, {sessions} live and none due, ms"), 2.0, 1.0, idle, "")?;
        let Expiry { sessions, meanwhile, afterwards, .. } = &last.expiry;
        let expired = number(*sessions as f64);
        let both = [("read", meanwhile.read, afterwards.read), ("write", meanwhile.write, afterwards.write)];
        for (what, wait, without) in both {
            let what = format!("{store}: longest {what} while {expired} expire, ms");
            // What the machine does by itself.
            let note = format!(", without {:.2}", without.longest / 1e3);
            line(&what, 20.0, 5.0, wait.longest / 1e3, &note)?;
        }
    }
    Ok(text)
}
