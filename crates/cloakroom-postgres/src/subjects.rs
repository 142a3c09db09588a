//! The operations that concern all sessions of a subject: admission of one more, and the end of all.
//!
//! Both take the subject's advisory lock, and a login before that its share of the lock of everybody, in a statement of its own before they read anything: each statement sees what was committed
//! before it began, so what is read under the lock is what the lock's last holder left.

use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, deadline};
use cloakroom_core::store::{Admission, Inserted, Reason, RemovedAll};
use cloakroom_core::token::Handle;
use deadpool_postgres::ClientWrapper;

use crate::epochs;
use crate::error::Failure;
use crate::operations::{self, Graves, Locked, lock, lock_subject, prepare_burial};
use crate::pool::{Lock, Transaction};
use crate::rows::{self, time_out};
use crate::sql::Sql;

type Outcome<T> = Result<T, Failure>;

/// How many sessions are ended at a time: a bound on the memory that their records take.
pub(crate) const BATCH: usize = 200;

/// An anonymous session: one round trip. One of a subject: two, and two more if it makes room.
pub(crate) async fn insert(
    client: &ClientWrapper,
    sql: &Sql,
    record: &Record,
    body: &[u8],
    admission: &Admission,
    skew: Duration,
) -> Outcome<Inserted> {
    let Some(subject) = record.subject() else {
        let inserted = operations::insert(client, sql, record, body, skew).await?;
        return Ok(if inserted { admitted(Vec::new()) } else { Inserted::HandleTaken });
    };
    for text in [&sql.taken, &sql.epoch, &sql.figures, &sql.insert] {
        client.prepare_cached(text).await?;
    }
    let transaction = Transaction::of(client);
    let (begun, taken, last, live) = tokio::join!(
        biased;
        transaction.begin([
            Lock::Shared(sql.everybody_key()),
            Lock::Alone(sql.subject_key(subject.as_str())),
        ]),
        is_taken(client, sql, record.handle()),
        epochs::stored(client, sql, subject.as_str().as_bytes()),
        counted(client, sql, subject, admission),
    );
    begun?;
    if taken? {
        return Ok(Inserted::HandleTaken);
    }
    if !admission.admits(last?.standing().epoch) {
        return Ok(Inserted::Superseded);
    }
    let Some(chosen) = admission.make_room(&mut live?) else { return Ok(Inserted::CapReached) };

    if chosen.is_empty() {
        // If the handle was taken in between after all, there is nothing to commit, and committing that does no harm.
        let (inserted, committed) = tokio::join!(
            biased;
            operations::insert(client, sql, record, body, skew),
            transaction.commit(),
        );
        let inserted = inserted?;
        committed?;
        return Ok(if inserted { admitted(chosen) } else { Inserted::HandleTaken });
    }
    prepare_burial(client, sql).await?;
    // One that has ended since, by another's hand, has made room already.
    let mut graves = Graves::default();
    for locked in lock(client, sql, &chosen).await? {
        graves.add_anyhow(&locked, Reason::Evicted, admission.now)?;
    }
    let (buried, inserted) = tokio::join!(
        biased;
        graves.bury(client, sql),
        operations::insert(client, sql, record, body, skew),
    );
    buried?;
    if !inserted? {
        return Ok(Inserted::HandleTaken);
    }
    transaction.commit().await?;
    Ok(admitted(chosen.into_iter().filter(|handle| graves.handles().contains(handle)).collect()))
}

const fn admitted(evicted: Vec<Handle>) -> Inserted {
    Inserted::Inserted { evicted }
}

async fn is_taken(client: &ClientWrapper, sql: &Sql, handle: Handle) -> Outcome<bool> {
    let taken = client.prepare_cached(&sql.taken).await?;
    Ok(client.query_opt(&taken, &[&handle.as_bytes().as_slice()]).await?.is_some())
}

/// The subject's sessions that count under the cap, if there is one: handle, creation, last activity.
async fn counted(
    client: &ClientWrapper,
    sql: &Sql,
    subject: &Subject,
    admission: &Admission,
) -> Outcome<Vec<(Handle, Timestamp, Timestamp)>> {
    let mut live = Vec::new();
    if admission.cap.is_some() {
        let figures = client.prepare_cached(&sql.figures).await?;
        for row in client.query(&figures, &[&subject.as_str().as_bytes()]).await? {
            let (created, seen) = (time_out(&row, 1)?, time_out(&row, 2)?);
            let (due, _) = deadline(seen, time_out(&row, 3)?.as_millis(), time_out(&row, 4)?);
            if due > admission.now {
                live.push((rows::handle(&row, 0)?, created, seen));
            }
        }
    }
    Ok(live)
}

/// Four round trips for a subject of few sessions, two more for each further batch.
pub(crate) async fn remove_all(
    client: &ClientWrapper,
    sql: &Sql,
    subject: &Subject,
    keep: Option<Handle>,
    reason: Reason,
    now: Timestamp,
) -> Outcome<RemovedAll> {
    prepare_burial(client, sql).await?;
    for text in [&sql.epoch, &sql.lock_subject, &sql.raise_epoch] {
        client.prepare_cached(text).await?;
    }
    let transaction = Transaction::of(client);
    let (begun, stored, batch) = tokio::join!(
        biased;
        transaction.begin([Lock::Alone(sql.subject_key(subject.as_str()))]),
        epochs::stored(client, sql, subject.as_str().as_bytes()),
        lock_subject(client, sql, subject, keep, None, BATCH),
    );
    begun?;
    let mut batch = batch?;
    let epoch = epochs::raise(client, sql, subject.as_str().as_bytes(), stored?, now).await?;
    let mut ended = Vec::new();
    while let Some(&(last, _)) = batch.last() {
        let full = batch.len() == BATCH;
        ended.extend(bury_all(client, sql, &batch, reason, now).await?);
        batch = if full {
            lock_subject(client, sql, subject, keep, Some(last), BATCH).await?
        } else {
            Vec::new()
        };
    }
    transaction.commit().await?;
    Ok(RemovedAll { ended, epoch })
}

pub(crate) async fn bury_all(
    client: &ClientWrapper,
    sql: &Sql,
    batch: &[Locked],
    reason: Reason,
    now: Timestamp,
) -> Outcome<Vec<Handle>> {
    let mut graves = Graves::default();
    for locked in batch {
        graves.add_anyhow(locked, reason, now)?;
    }
    graves.bury(client, sql).await?;
    Ok(graves.handles().to_vec())
}
