//! Clearing away what time has ended. Several servers may sweep at once: each passes over the rows that another has locked.

use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::deadline;
use cloakroom_core::store::{StoreError, SweepLimits, SweepReport, Swept, Tombstone};
use cloakroom_core::token::Handle;
use deadpool_postgres::ClientWrapper;

use crate::error::Failure;
use crate::operations::{Graves, lock, prepare_burial};
use crate::pool::Transaction;
use crate::rows::{self, column, count_in, time_in, time_out};
use crate::sql::Sql;

/// How long the sweeper leaves a row alone that it could not read.
const UNREADABLE_RETRY: Duration = Duration::from_secs(3600);

/// The inner answer is an error if a session that is due cannot be read. It is left as it is and put off, so that it does not
/// keep the sweeper from all others for ever; the outer answer is an error if nothing was written.
pub(crate) async fn sweep(
    client: &ClientWrapper,
    sql: &Sql,
    now: Timestamp,
    limits: &SweepLimits,
) -> Result<Result<SweepReport, StoreError>, Failure> {
    prepare_burial(client, sql).await?;
    let mut report = SweepReport::default();
    // A batch of nothing would never come to an end.
    let batch = limits.batch.max(1);

    let transaction = Transaction::of(client);
    let (begun, due) = tokio::join!(biased; transaction.begin([]), due(client, sql, now, batch + 1));
    begun?;
    let mut due = due?;
    report.more |= due.len() > batch;
    due.truncate(batch);
    let left = batch - due.len();

    let (expired, touched): (Vec<_>, Vec<_>) = due.into_iter().partition(|row| row.deadline().0 <= now);
    let mut later: Vec<_> = touched.iter().map(|row| (row.handle, row.deadline().0)).collect();
    let handles: Vec<_> = expired.iter().map(|row| row.handle).collect();
    let locked = if handles.is_empty() { Vec::new() } else { lock(client, sql, &handles).await? };
    let (mut graves, mut unreadable) = (Graves::default(), None);
    for (handle, record) in locked {
        match record {
            Ok(record) => {
                // By the row, as it was found due.
                let (at, reason) = match expired.iter().find(|row| row.handle == handle) {
                    Some(row) => row.deadline(),
                    None => record.deadline(),
                };
                graves.add(handle, &Tombstone::of(&record, reason, at))?;
                report.swept.push(Swept { handle, subject: record.subject().cloned(), reason, at });
            }
            Err(error) => {
                later.push((handle, now.plus(UNREADABLE_RETRY)));
                unreadable = Some(error);
            }
        }
    }
    put_off(client, sql, &later).await?;
    if let Some(error) = unreadable {
        transaction.commit().await?;
        return Ok(Err(error));
    }
    if !graves.handles().is_empty() {
        graves.bury(client, sql).await?;
    }
    let tombstones = (&*sql.old_tombstones, &*sql.forget_tombstones, now.minus(limits.tombstone_ttl));
    let left = left - forget(client, tombstones, left, &mut report).await?;
    let epochs = (&*sql.old_epochs, &*sql.forget_epochs, now.minus(limits.epoch_ttl));
    forget(client, epochs, left, &mut report).await?;
    transaction.commit().await?;
    Ok(Ok(report))
}

/// What is needed to judge a session without reading its body.
struct Due {
    handle: Handle,
    seen: Timestamp,
    idle_ms: u64,
    absolute: Timestamp,
}

impl Due {
    fn deadline(&self) -> (Timestamp, cloakroom_core::store::Reason) {
        deadline(self.seen, self.idle_ms, self.absolute)
    }
}

async fn due(client: &ClientWrapper, sql: &Sql, now: Timestamp, limit: usize) -> Result<Vec<Due>, Failure> {
    let due = client.prepare_cached(&sql.due).await?;
    let rows = client.query(&due, &[&time_in(now), &count_in(limit)]).await?;
    let read = |row| {
        Ok(Due {
            handle: rows::handle(row, 0)?,
            seen: time_out(row, 1)?,
            idle_ms: time_out(row, 2)?.as_millis(),
            absolute: time_out(row, 3)?,
        })
    };
    rows.iter().map(read).collect()
}

async fn put_off(client: &ClientWrapper, sql: &Sql, later: &[(Handle, Timestamp)]) -> Result<(), Failure> {
    if later.is_empty() {
        return Ok(());
    }
    let put_off = client.prepare_cached(&sql.put_off).await?;
    let handles: Vec<&[u8]> = later.iter().map(|(handle, _)| handle.as_bytes().as_slice()).collect();
    let until: Vec<i64> = later.iter().map(|(_, until)| time_in(*until)).collect();
    client.execute(&put_off, &[&handles, &until]).await?;
    Ok(())
}

/// Deletes at most `limit` rows that are older than the given instant: those that the first statement finds, by the second. Returns
/// how many, and notes whether some are left.
async fn forget(
    client: &ClientWrapper,
    (find, delete, before): (&str, &str, Timestamp),
    limit: usize,
    report: &mut SweepReport,
) -> Result<usize, Failure> {
    let find = client.prepare_cached(find).await?;
    let rows = client.query(&find, &[&time_in(before), &count_in(limit.saturating_add(1))]).await?;
    report.more |= rows.len() > limit;
    let keys = rows.iter().take(limit).map(|row| column::<&[u8]>(row, 0)).collect::<Result<Vec<_>, _>>()?;
    if !keys.is_empty() {
        let delete = client.prepare_cached(delete).await?;
        client.execute(&delete, &[&keys]).await?;
    }
    Ok(keys.len())
}
