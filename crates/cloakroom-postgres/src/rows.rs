//! Values on their way into rows and out of them.

use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Version};
use cloakroom_core::store::StoreError;
use cloakroom_core::token::Handle;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

type Answer<T> = Result<T, StoreError>;

/// The latest instant, and the longest duration, that is stored: the year 146 million. Two of them can be added without overflow.
const LATEST: u64 = (1 << 62) - 1;

// PostgreSQL's integers are signed. Versions and epochs are only compared for equality or in Rust, so their bits are kept; times
// are compared in SQL, so those beyond the latest are cut off there.
pub(crate) const fn version_in(version: Version) -> i64 {
    version.number().cast_signed()
}

pub(crate) fn time_in(time: Timestamp) -> i64 {
    time.as_millis().min(LATEST).cast_signed()
}

pub(crate) fn duration_in(duration: Duration) -> i64 {
    u64::try_from(duration.as_millis()).unwrap_or(LATEST).min(LATEST).cast_signed()
}

pub(crate) fn count_in(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A column of the type that the schema gives it; anything else is not our table.
pub(crate) fn column<'row, T: FromSql<'row>>(row: &'row Row, index: usize) -> Answer<T> {
    row.try_get(index).map_err(StoreError::corrupt)
}

pub(crate) fn time_out(row: &Row, index: usize) -> Answer<Timestamp> {
    let millis: i64 = column(row, index)?;
    u64::try_from(millis).map(Timestamp::from_millis).map_err(StoreError::corrupt)
}

pub(crate) fn handle(row: &Row, index: usize) -> Answer<Handle> {
    let bytes: &[u8] = column(row, index)?;
    bytes.try_into().map(Handle::from_bytes).map_err(StoreError::corrupt)
}

/// A record out of version, seen and body, in columns that begin with `first`.
pub(crate) fn record(handle: Handle, row: &Row, first: usize) -> Answer<Record> {
    let version: i64 = column(row, first)?;
    let seen = time_out(row, first + 1)?;
    Ok(Record::decode(handle, Version::from_number(version.cast_unsigned()), seen, column(row, first + 2)?)?)
}

/// A record out of handle, version, seen and body, the columns of every query that reads live sessions.
pub(crate) fn live(row: &Row) -> Answer<(Handle, Answer<Record>)> {
    let handle = handle(row, 0)?;
    Ok((handle, record(handle, row, 1)))
}
