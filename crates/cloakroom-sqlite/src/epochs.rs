//! The ends of all sessions, of a subject or of everybody, and what they mean for logins.

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::Subject;
use cloakroom_core::store::{Epoch, Reason, Standing, StoreError};
use rusqlite::{Connection, Row, params};

use crate::error::store_error;
use crate::operations::{Answer, count_in, end_anyhow, execute, handle, row, rows, time_in};

/// Whose the row of everybody is: no subject is empty.
const EVERYBODY: &str = "";

/// How many sessions are ended in one go where it may be all there are: others write in between.
const BATCH: usize = 500;

/// The machine's clock, in milliseconds since 1970. It is SQLite that reads it: the clocks of the processes that share the file may be
/// anything, and an end of all sessions is measured by one clock only.
const CLOCK: &str = "CAST(round(unixepoch('now', 'subsec') * 1000) AS INTEGER)";

/// How a subject stands.
pub(crate) fn standing(connection: &Connection, subject: &Subject) -> Answer<Standing> {
    let found = stored(connection, subject.as_str())?;
    Ok(Standing::by_clock(found.clock, found.own, found.everybody))
}

/// Notes the end of all sessions, of everybody where there is no subject. `now` says when it may be forgotten.
pub(crate) fn raise(connection: &Connection, subject: Option<&Subject>, now: Timestamp) -> Answer<()> {
    let whose = subject.map_or(EVERYBODY, Subject::as_str);
    let found = stored(connection, whose)?;
    // Rounded up, so that it is never told to be longer ago than it is.
    let by_clock = Timestamp::from_millis(found.clock.as_millis().saturating_add(1));
    let epoch = found.own.unwrap_or_default().next(by_clock).number().cast_signed();
    let at = time_in(found.at.map_or(now, |at| at.max(now)));
    let values = params![whose, epoch, at];
    if execute(connection, "UPDATE epochs SET epoch = ?2, at = ?3 WHERE subject = ?1", values)? == 0 {
        execute(connection, "INSERT INTO epochs (subject, epoch, at) VALUES (?1, ?2, ?3)", values)?;
    }
    Ok(())
}

/// Which sessions are still to be ended: those with rows after the one and up to the other.
#[derive(Clone, Copy)]
pub(crate) struct Rest {
    after: i64,
    last: i64,
}

/// Notes the end of all sessions of everybody. Returns which those are.
pub(crate) fn raise_everybody(connection: &Connection, now: Timestamp) -> Answer<Rest> {
    raise(connection, None, now)?;
    let last = row(connection, "SELECT max(id) FROM sessions", [], |row| number(row, 0))?;
    Ok(Rest { after: 0, last: last.flatten().unwrap_or(0) })
}

/// Ends the next of the sessions. Returns how many those were, and what is left.
pub(crate) fn end_some(
    connection: &Connection,
    rest: Rest,
    reason: Reason,
    now: Timestamp,
) -> Answer<(u64, Option<Rest>)> {
    const SQL: &str =
        "SELECT id, handle FROM sessions WHERE id > ?1 AND id <= ?2 AND ended = 0 ORDER BY id LIMIT ?3";
    let found = rows(connection, SQL, params![rest.after, rest.last, count_in(BATCH)], |row| {
        Ok((number(row, 0)?.unwrap_or(rest.last), handle(row, 1)?))
    })?;
    for (_, handle) in &found {
        end_anyhow(connection, *handle, reason, now)?;
    }
    let after = found.last().map(|(id, _)| *id).filter(|_| found.len() == BATCH);
    Ok((found.len() as u64, after.map(|after| Rest { after, ..rest })))
}

struct Stored {
    clock: Timestamp,
    own: Option<Epoch>,
    at: Option<Timestamp>,
    everybody: Option<Epoch>,
}

fn stored(connection: &Connection, whose: &str) -> Answer<Stored> {
    let sql = format!(
        "SELECT {CLOCK}, own.epoch, own.at, everybody.epoch FROM (SELECT 1)
         LEFT JOIN epochs AS own ON own.subject = ?1 LEFT JOIN epochs AS everybody ON everybody.subject = ?2"
    );
    let found = row(connection, &sql, [whose, EVERYBODY], |row| {
        let time = |column| {
            let millis = number(row, column)?.map(u64::try_from).transpose().map_err(StoreError::corrupt)?;
            Ok::<_, StoreError>(millis.map(Timestamp::from_millis))
        };
        let epoch = |column| {
            let bits = number(row, column)?.map(i64::cast_unsigned);
            Ok::<_, StoreError>(bits.map(Epoch::from_number))
        };
        Ok(Stored { clock: time(0)?.unwrap_or_default(), own: epoch(1)?, at: time(2)?, everybody: epoch(3)? })
    })?;
    found.ok_or_else(|| StoreError::corrupt("a query without conditions found nothing"))
}

fn number(row: &Row<'_>, column: usize) -> Answer<Option<i64>> {
    row.get(column).map_err(store_error)
}
