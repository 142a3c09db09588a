//! What the store knows that is no session: the time, whose pepper it is, and settings that weaken it.

use cloakroom_core::clock::Timestamp;
use cloakroom_core::seal::PepperId;
use cloakroom_core::store::{PepperClaim, StoreError};
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;

use crate::error::Failure;
use crate::pool::{Lock, Transaction};
use crate::rows::{column, time_out};
use crate::sql::Sql;

/// The server's clock.
pub(crate) async fn time(client: &ClientWrapper) -> Result<Timestamp, Failure> {
    const TIME: &str = "SELECT pg_catalog.floor(EXTRACT(epoch FROM clock_timestamp()) * 1000)::bigint";
    let time = client.prepare_cached(TIME).await?;
    Ok(time_out(&client.query_one(&time, &[]).await?, 0)?)
}

/// Makes a row as a login does, takes it away again, and commits that: one round trip, in one transaction. Nobody else ever sees it.
pub(crate) async fn probe(client: &ClientWrapper, sql: &Sql) -> Result<(), Failure> {
    Ok(client.batch_execute(&sql.probe).await?)
}

/// The peppers that were noted.
pub(crate) async fn peppers(client: &ClientWrapper, sql: &Sql) -> Result<Vec<PepperId>, Failure> {
    let peppers = client.prepare_cached(&sql.peppers).await?;
    known(client.query(&peppers, &[]).await?)
}

fn known(rows: Vec<Row>) -> Result<Vec<PepperId>, Failure> {
    let mut known = Vec::with_capacity(rows.len());
    for row in rows {
        let id: &[u8] = column(&row, 0)?;
        known.push(PepperId::from_bytes(id.try_into().map_err(StoreError::corrupt)?));
    }
    Ok(known)
}

/// Under a lock, so that of two servers that claim at once the second sees the first one's pepper.
pub(crate) async fn claim_pepper(
    client: &ClientWrapper,
    sql: &Sql,
    current: PepperId,
    live: &[PepperId],
) -> Result<PepperClaim, Failure> {
    let peppers = client.prepare_cached(&sql.peppers).await?;
    let note = client.prepare_cached(&sql.note_pepper).await?;
    let transaction = Transaction::of(client);
    let (begun, rows) = tokio::join!(
        biased;
        transaction.begin([Lock::Alone(sql.pepper_key())]),
        client.query(&peppers, &[]),
    );
    begun?;
    let known = known(rows?)?;
    let ours = |id: &PepperId| *id == current || live.contains(id);
    if !known.is_empty() && !known.iter().any(ours) {
        return Ok(PepperClaim::Foreign { known });
    }
    let (noted, committed) = tokio::join!(
        biased;
        async { client.execute(&note, &[&current.as_bytes().as_slice()]).await },
        transaction.commit(),
    );
    noted?;
    committed?;
    Ok(PepperClaim::Accepted)
}

/// Sentences on what weakens a promise.
pub(crate) async fn warnings(client: &ClientWrapper) -> Result<Vec<String>, Failure> {
    const SETTINGS: &str = "SELECT name, setting FROM pg_settings WHERE name IN
        ('fsync', 'full_page_writes', 'autovacuum', 'is_superuser')
        UNION ALL SELECT 'is_superuser', current_setting('is_superuser')";
    let mut warnings = Vec::new();
    let rows = client.query(SETTINGS, &[]).await?;
    let mut settings = std::collections::BTreeMap::<&str, &str>::new();
    for row in &rows {
        settings.insert(column(row, 0)?, column(row, 1)?);
    }
    let is = |name: &str, value: &str| settings.get(name) == Some(&value);
    let mut warn = |sentence: &str| warnings.push(sentence.to_owned());
    if is("fsync", "off") {
        warn(
            "PostgreSQL has fsync = off: logouts that were acknowledged are forgotten when its machine crashes.",
        );
    }
    if is("full_page_writes", "off") {
        warn("PostgreSQL has full_page_writes = off: its data may be damaged when its machine crashes.");
    }
    if is("autovacuum", "off") {
        warn(
            "PostgreSQL has autovacuum = off: the tables grow without end unless something else vacuums them.",
        );
    }
    if is("is_superuser", "on") {
        warn(
            "The store is used as a superuser of PostgreSQL; `cloakroom migrate --grants ROLE` prints the few rights that it needs.",
        );
    }
    Ok(warnings)
}
