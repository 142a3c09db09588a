//! The ends of all sessions, of a subject or of everybody, and what they mean for logins.

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::Subject;
use cloakroom_core::store::{Epoch, Reason, Standing};
use cloakroom_core::token::Handle;
use deadpool_postgres::ClientWrapper;

use crate::error::Failure;
use crate::operations::{lock_next, prepare_burial};
use crate::pool::{Lock, Transaction};
use crate::rows::{column, time_in, time_out};
use crate::sql::Sql;
use crate::subjects::{BATCH, bury_all};

type Outcome<T> = Result<T, Failure>;

/// Whose the row of everybody is: no subject is empty.
const EVERYBODY: &[u8] = b"";

/// What is stored of the ends of all sessions, of somebody and of everybody, and what the server's clock shows.
pub(crate) struct Stored {
    clock: Timestamp,
    own: Option<Epoch>,
    at: Option<Timestamp>,
    everybody: Option<Epoch>,
}

impl Stored {
    pub(crate) fn standing(&self) -> Standing {
        Standing::by_clock(self.clock, self.own, self.everybody)
    }

    /// The epoch after one more end now.
    fn next(&self) -> Epoch {
        // Rounded up, so that it is never told to be longer ago than it is.
        self.own.unwrap_or_default().next(Timestamp::from_millis(self.clock.as_millis().saturating_add(1)))
    }
}

/// One round trip.
pub(crate) async fn standing(client: &ClientWrapper, sql: &Sql, subject: &Subject) -> Outcome<Standing> {
    Ok(stored(client, sql, subject.as_str().as_bytes()).await?.standing())
}

/// One round trip.
pub(crate) async fn stored(client: &ClientWrapper, sql: &Sql, whose: &[u8]) -> Outcome<Stored> {
    let epoch = client.prepare_cached(&sql.epoch).await?;
    let row = client.query_one(&epoch, &[&whose]).await?;
    let epoch = |index| {
        Ok::<_, Failure>(column::<Option<i64>>(&row, index)?.map(i64::cast_unsigned).map(Epoch::from_number))
    };
    let at = column::<Option<i64>>(&row, 2)?.map(|_| time_out(&row, 2)).transpose()?;
    Ok(Stored { clock: time_out(&row, 0)?, own: epoch(1)?, at, everybody: epoch(3)? })
}

/// Notes one more end of all sessions of somebody, under the lock that it takes. Returns how they stand from now on. `now` says when
/// it may be forgotten.
pub(crate) async fn raise(
    client: &ClientWrapper,
    sql: &Sql,
    whose: &[u8],
    stored: Stored,
    now: Timestamp,
) -> Outcome<Epoch> {
    let raise = client.prepare_cached(&sql.raise_epoch).await?;
    let (next, at) = (stored.next(), time_in(stored.at.map_or(now, |at| at.max(now))));
    let number = next.number().cast_signed();
    // Nobody else inserts under the lock. A sweep may have forgotten the row since it was read.
    if client.execute(&raise, &[&whose, &number, &at]).await? == 0 {
        let first = client.prepare_cached(&sql.first_epoch).await?;
        client.execute(&first, &[&whose, &number, &at]).await?;
    }
    Ok(next.with(stored.everybody.unwrap_or_default()))
}

/// Raises the epoch of everybody. A login that has read the old one is either over, and its session will be found, or refused.
pub(crate) async fn raise_everybody(client: &ClientWrapper, sql: &Sql, now: Timestamp) -> Outcome<()> {
    client.prepare_cached(&sql.epoch).await?;
    let transaction = Transaction::of(client);
    let (begun, stored) = tokio::join!(
        biased;
        transaction.begin([Lock::Alone(sql.everybody_key())]),
        stored(client, sql, EVERYBODY),
    );
    begun?;
    raise(client, sql, EVERYBODY, stored?, now).await?;
    Ok(transaction.commit().await?)
}

/// Ends the next sessions after a handle, whosever they are. Returns how many those were, and the last of them if there may be more.
pub(crate) async fn end_some(
    client: &ClientWrapper,
    sql: &Sql,
    after: Option<Handle>,
    reason: Reason,
    now: Timestamp,
) -> Outcome<(u64, Option<Handle>)> {
    prepare_burial(client, sql).await?;
    client.prepare_cached(&sql.lock_next).await?;
    let transaction = Transaction::of(client);
    let (begun, batch) = tokio::join!(biased; transaction.begin([]), lock_next(client, sql, after, BATCH));
    begun?;
    let batch = batch?;
    if !batch.is_empty() {
        bury_all(client, sql, &batch, reason, now).await?;
    }
    transaction.commit().await?;
    let last = batch.last().map(|(handle, _)| *handle).filter(|_| batch.len() == BATCH);
    Ok((batch.len() as u64, last))
}
