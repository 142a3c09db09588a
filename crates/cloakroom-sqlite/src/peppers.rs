//! Whose pepper the sessions in a file are under.
//!
//! A file that was made before there was this table has none, and then its live sessions tell: each names its pepper. So the table is
//! made by the first claim, and an older version of this crate goes on with the file as before.

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Version};
use cloakroom_core::seal::PepperId;
use cloakroom_core::store::{PepperClaim, StoreError};
use cloakroom_core::token::Handle;
use rusqlite::{Connection, params};

use crate::error::store_error;
use crate::operations::{execute, row, rows};

/// Live sessions that are looked at in a file that names no pepper: the latest.
const LOOKED_AT: i64 = 100;

pub(crate) fn known(connection: &Connection) -> Result<Vec<PepperId>, StoreError> {
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'peppers'";
    let mut known = Vec::new();
    if row(connection, table, [], |_| Ok(()))?.is_some() {
        known = rows(connection, "SELECT id FROM peppers ORDER BY id", [], |row| {
            row.get(0).map(PepperId::from_bytes).map_err(store_error)
        })?;
    }
    if known.is_empty() {
        let latest = "SELECT handle, body FROM sessions WHERE ended = 0 ORDER BY id DESC LIMIT ?1";
        let found = rows(connection, latest, [LOOKED_AT], |row| {
            let handle: [u8; 16] = row.get(0).map_err(store_error)?;
            let body = row.get_ref(1).map_err(store_error)?.as_blob().map_err(StoreError::corrupt)?;
            // One that cannot be read says nothing, and keeps nobody from starting.
            let record =
                Record::decode(Handle::from_bytes(handle), Version::default(), Timestamp::EPOCH, body);
            Ok(record.ok().map(|record| record.pepper()))
        })?;
        known = found.into_iter().flatten().collect();
        known.sort_unstable();
        known.dedup();
    }
    Ok(known)
}

pub(crate) fn claim(
    connection: &Connection,
    current: PepperId,
    live: &[PepperId],
) -> Result<PepperClaim, StoreError> {
    let known = known(connection)?;
    if !known.is_empty() && !known.iter().any(|id| *id == current || live.contains(id)) {
        return Ok(PepperClaim::Foreign { known });
    }
    let table = "CREATE TABLE IF NOT EXISTS peppers (id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 8)) STRICT, WITHOUT ROWID";
    execute(connection, table, [])?;
    // What its sessions are under is noted too, before they are gone.
    for id in known.iter().chain([&current]) {
        execute(connection, "INSERT OR IGNORE INTO peppers (id) VALUES (?1)", params![id.as_bytes()])?;
    }
    Ok(PepperClaim::Accepted)
}
