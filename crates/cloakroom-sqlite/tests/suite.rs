//! The store suite of `cloakroom-testkit`, against a file.

#![allow(clippy::unwrap_used, reason = "a test reports by panicking")]

use cloakroom_sqlite::{SqliteOptions, SqliteStore};
use cloakroom_testkit::{Opened, Yielding, store_suite};
use tempfile::TempDir;

fn open(options: SqliteOptions) -> Opened<SqliteStore, TempDir> {
    let directory = TempDir::new().unwrap();
    Opened::keeping(options.open(directory.path().join("sessions.db")).unwrap(), directory)
}

fn yielding() -> Opened<Yielding<SqliteStore>, TempDir> {
    let directory = TempDir::new().unwrap();
    let store = SqliteStore::open(directory.path().join("sessions.db")).unwrap();
    Opened::keeping(Yielding::both(store), directory)
}

store_suite!(with_the_defaults, open(SqliteOptions::new()));
// Every operation in a transaction of its own, every read on the same connection.
store_suite!(with_one_reader_and_no_groups, open(SqliteOptions::new().readers(1).group(1)));
store_suite!(behind_a_wrapper, yielding());
