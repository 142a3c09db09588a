//! The operations on one session.

use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::store::{Found, Reason, Replaced, StoreError, Tombstone};
use cloakroom_core::token::Handle;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;

use crate::error::Failure;
use crate::notices;
use crate::pool::Transaction;
use crate::rows::{self, column, count_in, duration_in, time_in, version_in};
use crate::sql::Sql;

type Outcome<T> = Result<T, Failure>;

/// One round trip.
pub(crate) async fn find(client: &ClientWrapper, sql: &Sql, handle: Handle) -> Outcome<Found> {
    let find = client.prepare_cached(&sql.find).await?;
    let Some(row) = client.query_opt(&find, &[&handle.as_bytes().as_slice()]).await? else {
        return Ok(Found::Absent);
    };
    if column(&row, 0)? {
        return Ok(Found::Ended(Tombstone::decode(column(&row, 3)?)?));
    }
    Ok(Found::Live(rows::record(handle, &row, 1)?))
}

/// One round trip.
pub(crate) async fn list(client: &ClientWrapper, sql: &Sql, subject: &Subject) -> Outcome<Vec<Record>> {
    let list = client.prepare_cached(&sql.list).await?;
    let mut records = Vec::new();
    for row in client.query(&list, &[&subject.as_str().as_bytes()]).await? {
        let record = rows::live(&row)?.1?;
        // The column answers the question, the body answers for the session. They cannot differ unless somebody else wrote.
        if record.subject() != Some(subject) {
            let error = "a session is indexed under another subject than its own";
            return Err(StoreError::corrupt(error).into());
        }
        records.push(record);
    }
    Ok(records)
}

/// The columns of a session that its record decides, in the order of the statements that write them.
struct Columns<'a> {
    handle: Handle,
    subject: Option<&'a [u8]>,
    seen: i64,
    skew: i64,
    created: i64,
    idle: i64,
    absolute: i64,
    body: &'a [u8],
}

impl<'a> Columns<'a> {
    fn of(record: &'a Record, body: &'a [u8], skew: Duration) -> Self {
        Self {
            handle: record.handle(),
            subject: record.subject().map(|subject| subject.as_str().as_bytes()),
            seen: time_in(record.seen()),
            skew: duration_in(skew),
            created: time_in(record.created()),
            idle: duration_in(record.idle_limit()),
            absolute: time_in(record.absolute_limit()),
            body,
        }
    }
}

/// Inserts a record unless its handle is taken. Whether it was is the answer.
pub(crate) async fn insert(
    client: &ClientWrapper,
    sql: &Sql,
    record: &Record,
    body: &[u8],
    skew: Duration,
) -> Result<bool, Error> {
    let insert = client.prepare_cached(&sql.insert).await?;
    let (version, row) = (version_in(record.version()), Columns::of(record, body, skew));
    let written = client
        .execute(
            &insert,
            &[
                &row.handle.as_bytes().as_slice(),
                &row.subject,
                &version,
                &row.seen,
                &row.skew,
                &row.created,
                &row.idle,
                &row.absolute,
                &row.body,
            ],
        )
        .await?;
    Ok(written == 1)
}

/// One statement in one round trip; one more look if another write came in between.
pub(crate) async fn replace(
    client: &ClientWrapper,
    sql: &Sql,
    expected: Version,
    record: &Record,
    body: &[u8],
    skew: Duration,
) -> Outcome<Replaced> {
    let replace = client.prepare_cached(&sql.replace).await?;
    let row = Columns::of(record, body, skew);
    let (expected, next) = (version_in(expected), version_in(expected.next()));
    let answer = client
        .query_opt(
            &replace,
            &[
                &row.handle.as_bytes().as_slice(),
                &row.subject,
                &expected,
                &row.seen,
                &row.skew,
                &row.created,
                &row.idle,
                &row.absolute,
                &row.body,
                &next,
            ],
        )
        .await?;
    let Some(answer) = answer else { return Ok(Replaced::Gone) };
    let (written, ended): (bool, bool) = (column(&answer, 0)?, column(&answer, 1)?);
    if written {
        return Ok(Replaced::Replaced);
    }
    if ended {
        return Ok(Replaced::Gone);
    }
    let (as_expected, same_subject): (bool, bool) = (column(&answer, 2)?, column(&answer, 3)?);
    if !as_expected {
        return Ok(Replaced::Stale);
    }
    if !same_subject {
        let error = "the record to store and the stored one have different subjects";
        return Err(StoreError::corrupt(error).into());
    }
    // As the statement began there was nothing in its way; so it waited for another write, which is over now.
    let has_ended = client.prepare_cached(&sql.has_ended).await?;
    let ended = match client.query_opt(&has_ended, &[&row.handle.as_bytes().as_slice()]).await? {
        Some(row) => column(&row, 0)?,
        None => true,
    };
    Ok(if ended { Replaced::Gone } else { Replaced::Stale })
}

/// One round trip.
pub(crate) async fn touch(
    client: &ClientWrapper,
    sql: &Sql,
    handle: Handle,
    seen: Timestamp,
    skew: Duration,
) -> Outcome<()> {
    let touch = client.prepare_cached(&sql.touch).await?;
    let handle = handle.as_bytes().as_slice();
    client.execute(&touch, &[&handle, &time_in(seen), &duration_in(skew)]).await?;
    Ok(())
}

/// Two round trips: the row is locked as it is read, so that the tombstone is of the latest record and the first attempt
/// succeeds, however many others write to the session. (Reading and then swapping by version needs as many round trips, and an
/// unlucky logout would never get through.)
pub(crate) async fn remove(
    client: &ClientWrapper,
    sql: &Sql,
    handle: Handle,
    reason: Reason,
    now: Timestamp,
) -> Outcome<Option<Record>> {
    prepare_burial(client, sql).await?;
    let transaction = Transaction::of(client);
    let handles = [handle];
    let (begun, found) = tokio::join!(biased; transaction.begin([]), lock(client, sql, &handles));
    begun?;
    let Some((_, record)) = found?.pop() else { return Ok(None) };
    let record = record?;
    let mut graves = Graves::default();
    graves.add(handle, &Tombstone::of(&record, reason, now))?;
    let (buried, committed) = tokio::join!(biased; graves.bury(client, sql), transaction.commit());
    buried?;
    committed?;
    Ok(Some(record))
}

/// A live session that is locked; its record, if it can be read.
pub(crate) type Locked = (Handle, Result<Record, StoreError>);

/// Locks those of the sessions that are live, until the transaction ends.
pub(crate) async fn lock(client: &ClientWrapper, sql: &Sql, handles: &[Handle]) -> Outcome<Vec<Locked>> {
    let lock = client.prepare_cached(&sql.lock).await?;
    let handles: Vec<&[u8]> = handles.iter().map(|handle| handle.as_bytes().as_slice()).collect();
    let rows = client.query(&lock, &[&handles]).await?;
    Ok(rows.iter().map(rows::live).collect::<Result<_, _>>()?)
}

/// Locks a subject's live sessions but `keep`, at most `limit` and only those after a handle.
pub(crate) async fn lock_subject(
    client: &ClientWrapper,
    sql: &Sql,
    subject: &Subject,
    keep: Option<Handle>,
    after: Option<Handle>,
    limit: usize,
) -> Outcome<Vec<Locked>> {
    let lock = client.prepare_cached(&sql.lock_subject).await?;
    let subject = subject.as_str().as_bytes();
    let after = after.as_ref().map_or(&[][..], |handle| handle.as_bytes());
    let keep = keep.as_ref().map(|handle| handle.as_bytes().as_slice());
    let rows = client.query(&lock, &[&subject, &after, &keep, &count_in(limit)]).await?;
    Ok(rows.iter().map(rows::live).collect::<Result<_, _>>()?)
}

/// Locks live sessions, whosever they are: at most `limit` and only those after a handle.
pub(crate) async fn lock_next(
    client: &ClientWrapper,
    sql: &Sql,
    after: Option<Handle>,
    limit: usize,
) -> Outcome<Vec<Locked>> {
    let lock = client.prepare_cached(&sql.lock_next).await?;
    let after = after.as_ref().map_or(&[][..], |handle| handle.as_bytes());
    let rows = client.query(&lock, &[&after, &count_in(limit)]).await?;
    Ok(rows.iter().map(rows::live).collect::<Result<_, _>>()?)
}

/// Prepares what a burial needs, so that it is sent in one go with what follows it.
pub(crate) async fn prepare_burial(client: &ClientWrapper, sql: &Sql) -> Outcome<()> {
    for text in [&sql.lock, &sql.bury, sql.notify] {
        client.prepare_cached(text).await?;
    }
    Ok(())
}

/// Sessions that are to become tombstones.
#[derive(Default)]
pub(crate) struct Graves {
    handles: Vec<Handle>,
    at: Vec<i64>,
    bodies: Vec<Vec<u8>>,
}

impl Graves {
    pub(crate) fn add(&mut self, handle: Handle, tombstone: &Tombstone) -> Result<(), StoreError> {
        self.bodies.push(tombstone.encode());
        self.at.push(time_in(tombstone.at()));
        self.handles.push(handle);
        Ok(())
    }

    /// Adds a locked session even if its record cannot be read: what is damaged must not keep the subject's others alive.
    pub(crate) fn add_anyhow(
        &mut self,
        locked: &Locked,
        reason: Reason,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (handle, record) = locked;
        let tombstone = match record {
            Ok(record) => Tombstone::of(record, reason, at),
            Err(_) => Tombstone::bare(reason, at),
        };
        self.add(*handle, &tombstone)
    }

    pub(crate) fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Ends the sessions, which must be locked, and says so to all who listen when the transaction is committed.
    pub(crate) async fn bury(&self, client: &ClientWrapper, sql: &Sql) -> Result<(), Error> {
        let bury = client.prepare_cached(&sql.bury).await?;
        let notify = client.prepare_cached(sql.notify).await?;
        let handles: Vec<&[u8]> = self.handles.iter().map(|handle| handle.as_bytes().as_slice()).collect();
        let payloads = notices::payloads(&self.handles);
        let (buried, told) = tokio::join!(
            biased;
            async { client.execute(&bury, &[&handles, &self.at, &self.bodies]).await },
            async { client.execute(&notify, &[&sql.schema, &payloads]).await },
        );
        buried?;
        told.map(drop)
    }
}
