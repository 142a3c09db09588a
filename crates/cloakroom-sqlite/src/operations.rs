//! The SQL of each operation. Those that write run on the writer's connection, inside a savepoint.

use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version, deadline};
use cloakroom_core::store::{
    Admission, Found, Inserted, Reason, RemovedAll, Replaced, StoreError, StoreErrorKind, SweepLimits,
    SweepReport, Swept, Tombstone,
};
use cloakroom_core::token::Handle;
use rusqlite::{Connection, Params, Row, params};

use crate::epochs;
use crate::error::store_error;

pub(crate) type Answer<T> = Result<T, StoreError>;

/// How long the sweeper leaves a row alone that it could not read.
const UNREADABLE_RETRY: Duration = Duration::from_secs(3600);

const LIVE: &str = "SELECT version, seen, body FROM sessions WHERE handle = ?1 AND ended = 0";

pub(crate) fn find(connection: &Connection, handle: Handle) -> Answer<Found> {
    const SQL: &str = "SELECT version, seen, body, ended FROM sessions WHERE handle = ?1";
    let found = row(connection, SQL, [handle.as_bytes()], |row| {
        if row.get(3).map_err(store_error)? {
            let body = row.get_ref(2).map_err(store_error)?.as_blob().map_err(StoreError::corrupt)?;
            return Ok(Found::Ended(Tombstone::decode(body)?));
        }
        record(handle, row).map(Found::Live)
    })?;
    Ok(found.unwrap_or(Found::Absent))
}

pub(crate) fn list(connection: &Connection, subject: &Subject) -> Answer<Vec<Record>> {
    const SQL: &str = "SELECT version, seen, body, handle FROM sessions WHERE subject = ?1";
    rows(connection, SQL, [subject.as_str()], |row| {
        let record = record(handle(row, 3)?, row)?;
        // The column answers the question, the body answers for the session. They cannot differ unless somebody else wrote.
        if record.subject() != Some(subject) {
            return Err(StoreError::corrupt("a session is indexed under another subject than its own"));
        }
        Ok(record)
    })
}

/// Inserts a record whose encoded body is given, so that encoding it does not hold up the writer.
pub(crate) fn insert(
    connection: &Connection,
    record: &Record,
    body: &[u8],
    admission: &Admission,
) -> Answer<Inserted> {
    let taken = row(
        connection,
        "SELECT 1 FROM sessions WHERE handle = ?1",
        [record.handle().as_bytes()],
        |_| Ok(()),
    )?;
    if taken.is_some() {
        return Ok(Inserted::HandleTaken);
    }
    let mut evicted = Vec::new();
    if let Some(subject) = record.subject() {
        if !admission.admits(epochs::standing(connection, subject)?.epoch) {
            return Ok(Inserted::Superseded);
        }
        if admission.cap.is_some() {
            let mut live = live(connection, subject, admission.now)?;
            match admission.make_room(&mut live) {
                None => return Ok(Inserted::CapReached),
                Some(handles) => evicted = handles,
            }
        }
        for handle in &evicted {
            end_anyhow(connection, *handle, Reason::Evicted, admission.now)?;
        }
    }
    let idle_ms = idle_ms(record);
    execute(
        connection,
        "INSERT INTO sessions (handle, ended, subject, version, seen, created, idle_ms, absolute, check_at, body)
         VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            record.handle().as_bytes(),
            record.subject().map(Subject::as_str),
            version_in(record.version()),
            time_in(record.seen()),
            time_in(record.created()),
            idle_ms,
            time_in(record.absolute_limit()),
            time_in(record.deadline().0),
            body,
        ],
    )?;
    Ok(Inserted::Inserted { evicted })
}

pub(crate) fn replace(
    connection: &Connection,
    expected: Version,
    record: &Record,
    body: &[u8],
) -> Answer<Replaced> {
    const SQL: &str = "SELECT version, seen, check_at, subject FROM sessions WHERE handle = ?1 AND ended = 0";
    let stored = row(connection, SQL, [record.handle().as_bytes()], |row| {
        let same_subject = text(row, 3)? == record.subject().map(Subject::as_str);
        Ok((version_out(row, 0)?, time_out(row, 1)?, time_out(row, 2)?, same_subject))
    })?;
    let Some((version, seen, check_at, same_subject)) = stored else { return Ok(Replaced::Gone) };
    if version != expected {
        return Ok(Replaced::Stale);
    }
    if !same_subject {
        return Err(StoreError::corrupt("the record to store and the stored one have different subjects"));
    }
    let seen = seen.max(record.seen());
    let absolute = record.absolute_limit();
    let due = deadline(seen, millis(record.idle_limit()), absolute).0;
    execute(
        connection,
        "UPDATE sessions SET version = ?2, seen = ?3, created = ?4, idle_ms = ?5, absolute = ?6, check_at = ?7, body = ?8
         WHERE handle = ?1",
        params![
            record.handle().as_bytes(),
            version_in(expected.next()),
            time_in(seen),
            time_in(record.created()),
            idle_ms(record),
            time_in(absolute),
            // Only ever earlier here, so that an ordinary write leaves the index alone; the sweeper puts it off.
            time_in(check_at.min(due)),
            body,
        ],
    )?;
    Ok(Replaced::Replaced)
}

pub(crate) fn touch(connection: &Connection, handle: Handle, seen: Timestamp) -> Answer<()> {
    const SQL: &str = "UPDATE sessions SET seen = ?2 WHERE handle = ?1 AND ended = 0 AND seen < ?2";
    execute(connection, SQL, params![handle.as_bytes(), time_in(seen)]).map(drop)
}

/// Makes a row as a login does and takes it away again; what is left to the commit are the pages that were touched. More bytes than a
/// page has, so that there must be room for another one, in the file or on the disk.
pub(crate) fn probe(connection: &Connection) -> Answer<()> {
    execute(
        connection,
        "INSERT INTO sessions (handle, ended, subject, version, seen, created, idle_ms, absolute, check_at, body)
         VALUES (zeroblob(16), 1, NULL, 0, 0, 0, 0, 0, 0, zeroblob(8192))",
        [],
    )?;
    execute(connection, "DELETE FROM sessions WHERE handle = zeroblob(16)", []).map(drop)
}

/// Turns a live session into its tombstone. `None` if there is no live session.
pub(crate) fn end(
    connection: &Connection,
    handle: Handle,
    reason: Reason,
    at: Timestamp,
) -> Answer<Option<Record>> {
    let removed = row(connection, LIVE, [handle.as_bytes()], |row| record(handle, row))?;
    if let Some(removed) = &removed {
        bury(connection, handle, &Tombstone::of(removed, reason, at))?;
    }
    Ok(removed)
}

/// Ends a session even if its record cannot be read: what is damaged must not keep the subject's others alive.
pub(crate) fn end_anyhow(
    connection: &Connection,
    handle: Handle,
    reason: Reason,
    at: Timestamp,
) -> Answer<()> {
    match end(connection, handle, reason, at) {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => {
            bury(connection, handle, &Tombstone::bare(reason, at))
        }
        answer => answer.map(drop),
    }
}

fn bury(connection: &Connection, handle: Handle, tombstone: &Tombstone) -> Answer<()> {
    let body = tombstone.encode();
    execute(
        connection,
        "UPDATE sessions SET ended = 1, subject = NULL, version = 0, seen = 0, created = 0, idle_ms = 0, absolute = 0,
         check_at = ?2, body = ?3 WHERE handle = ?1",
        params![handle.as_bytes(), time_in(tombstone.at()), body],
    )
    .map(drop)
}

pub(crate) fn remove_all(
    connection: &Connection,
    subject: &Subject,
    keep: Option<Handle>,
    reason: Reason,
    now: Timestamp,
) -> Answer<RemovedAll> {
    epochs::raise(connection, Some(subject), now)?;
    let epoch = epochs::standing(connection, subject)?.epoch;
    let mut handles =
        rows(connection, "SELECT handle FROM sessions WHERE subject = ?1", [subject.as_str()], |row| {
            handle(row, 0)
        })?;
    handles.retain(|handle| Some(*handle) != keep);
    for handle in &handles {
        end_anyhow(connection, *handle, reason, now)?;
    }
    Ok(RemovedAll { ended: handles, epoch })
}

/// The inner answer is an error if a session that is due cannot be read. It is left as it is and put off, so that it does not
/// keep the sweeper from all others for ever; the outer answer is an error if nothing was written.
pub(crate) fn sweep(
    connection: &Connection,
    now: Timestamp,
    limits: &SweepLimits,
) -> Answer<Answer<SweepReport>> {
    let mut report = SweepReport::default();
    // A batch of nothing would never come to an end.
    let mut left = limits.batch.max(1);

    let due = due(connection, now, left + 1)?;
    report.more |= due.len() > left;
    left -= due.len().min(left);
    let mut unreadable = None;
    let mut expired = Vec::new();
    for row in due.into_iter().take(limits.batch.max(1)) {
        let (due_at, reason) = deadline(row.seen, row.idle_ms, row.absolute);
        if due_at > now {
            put_off(connection, row.handle, due_at)?;
            continue;
        }
        match self::row(connection, LIVE, [row.handle.as_bytes()], |found| record(row.handle, found)) {
            Ok(Some(record)) => expired.push((record, reason, due_at)),
            Ok(None) => {}
            // An error that may pass says nothing of the row.
            Err(error) if error.may_retry() => return Err(error),
            Err(error) => {
                put_off(connection, row.handle, now.plus(UNREADABLE_RETRY))?;
                unreadable = Some(error);
            }
        }
    }
    if let Some(error) = unreadable {
        return Ok(Err(error));
    }
    for (record, reason, at) in expired {
        bury(connection, record.handle(), &Tombstone::of(&record, reason, at))?;
        let subject = record.subject().cloned();
        report.swept.push(Swept { handle: record.handle(), subject, reason, at });
    }

    let tombstones = now.minus(limits.tombstone_ttl);
    left -= forget(connection, "sessions WHERE ended = 1 AND check_at < ?1", tombstones, left, &mut report)?;
    forget(connection, "epochs WHERE at < ?1", now.minus(limits.epoch_ttl), left, &mut report)?;
    Ok(Ok(report))
}

/// What is needed to judge a session without reading its body.
struct Due {
    handle: Handle,
    seen: Timestamp,
    idle_ms: u64,
    absolute: Timestamp,
}

fn due(connection: &Connection, now: Timestamp, limit: usize) -> Answer<Vec<Due>> {
    const SQL: &str = "SELECT handle, seen, idle_ms, absolute FROM sessions
                       WHERE ended = 0 AND check_at <= ?1 ORDER BY check_at LIMIT ?2";
    rows(connection, SQL, params![time_in(now), count_in(limit)], |row| {
        Ok(Due {
            handle: handle(row, 0)?,
            seen: time_out(row, 1)?,
            idle_ms: time_out(row, 2)?.as_millis(),
            absolute: time_out(row, 3)?,
        })
    })
}

fn put_off(connection: &Connection, handle: Handle, until: Timestamp) -> Answer<()> {
    const SQL: &str = "UPDATE sessions SET check_at = ?2 WHERE handle = ?1";
    execute(connection, SQL, params![handle.as_bytes(), time_in(until)]).map(drop)
}

/// Deletes at most `limit` rows that are older than `before`. Returns how many, and notes whether some are left.
fn forget(
    connection: &Connection,
    which: &str,
    before: Timestamp,
    limit: usize,
    report: &mut SweepReport,
) -> Answer<usize> {
    let sql = format!("SELECT rowid FROM {which} LIMIT ?2");
    let parameters = params![time_in(before), count_in(limit.saturating_add(1))];
    let ids = rows(connection, &sql, parameters, |row| row.get::<_, i64>(0).map_err(store_error))?;
    report.more |= ids.len() > limit;
    let (table, _) = which.split_once(' ').unwrap_or((which, ""));
    let sql = format!("DELETE FROM {table} WHERE rowid = ?1");
    for id in ids.iter().take(limit) {
        execute(connection, &sql, [id])?;
    }
    Ok(ids.len().min(limit))
}

/// The subject's sessions that have not expired: handle, creation, last activity.
fn live(
    connection: &Connection,
    subject: &Subject,
    now: Timestamp,
) -> Answer<Vec<(Handle, Timestamp, Timestamp)>> {
    const SQL: &str = "SELECT handle, created, seen, idle_ms, absolute FROM sessions WHERE subject = ?1";
    let mut sessions = rows(connection, SQL, [subject.as_str()], |row| {
        let (created, seen) = (time_out(row, 1)?, time_out(row, 2)?);
        let (due_at, _) = deadline(seen, time_out(row, 3)?.as_millis(), time_out(row, 4)?);
        Ok((due_at > now).then_some((handle(row, 0)?, created, seen)))
    })?;
    Ok(sessions.drain(..).flatten().collect())
}

/// A record out of the columns version, seen and body, which come first in every query that reads one.
fn record(handle: Handle, row: &Row<'_>) -> Answer<Record> {
    let body = row.get_ref(2).map_err(store_error)?.as_blob().map_err(StoreError::corrupt)?;
    Ok(Record::decode(handle, version_out(row, 0)?, time_out(row, 1)?, body)?)
}

pub(crate) fn handle(row: &Row<'_>, column: usize) -> Answer<Handle> {
    row.get(column).map(Handle::from_bytes).map_err(store_error)
}

fn text<'row>(row: &'row Row<'_>, column: usize) -> Answer<Option<&'row str>> {
    row.get_ref(column).map_err(store_error)?.as_str_or_null().map_err(StoreError::corrupt)
}

// SQLite's integers are signed. Versions and epochs are only compared for equality or in Rust, so their bits are kept; times are
// compared in SQL, so those beyond the year 292 million are cut off there.
fn version_in(version: Version) -> i64 {
    version.number().cast_signed()
}

fn version_out(row: &Row<'_>, column: usize) -> Answer<Version> {
    let number: i64 = row.get(column).map_err(store_error)?;
    Ok(Version::from_number(number.cast_unsigned()))
}

pub(crate) fn time_in(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn time_out(row: &Row<'_>, column: usize) -> Answer<Timestamp> {
    let number: i64 = row.get(column).map_err(store_error)?;
    u64::try_from(number).map(Timestamp::from_millis).map_err(StoreError::corrupt)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn idle_ms(record: &Record) -> i64 {
    i64::try_from(millis(record.idle_limit())).unwrap_or(i64::MAX)
}

pub(crate) fn count_in(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn row<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: impl FnOnce(&Row<'_>) -> Answer<T>,
) -> Answer<Option<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let mut rows = statement.query(parameters).map_err(store_error)?;
    rows.next().map_err(store_error)?.map(read).transpose()
}

pub(crate) fn rows<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Answer<T>,
) -> Answer<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let mut rows = statement.query(parameters).map_err(store_error)?;
    let mut values = Vec::new();
    while let Some(row) = rows.next().map_err(store_error)? {
        values.push(read(row)?);
    }
    Ok(values)
}

pub(crate) fn execute(connection: &Connection, sql: &str, parameters: impl Params) -> Answer<usize> {
    connection.prepare_cached(sql).map_err(store_error)?.execute(parameters).map_err(store_error)
}
