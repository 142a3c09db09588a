//! What the tests of the file share.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::path::PathBuf;
use std::time::Duration;

use cloakroom_core::client::Client;
use cloakroom_core::clock::Timestamp;
use cloakroom_core::lifecycle::establish::Draft;
use cloakroom_core::record::{Proof, Record, Subject};
use cloakroom_core::seal::Pepper;
use cloakroom_core::store::{Admission, Epoch, Inserted};
use cloakroom_sqlite::{SqliteOptions, SqliteStore};
use cloakroom_testkit::SeededEntropy;
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A directory of its own, with the path of a file that is not there yet.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("sessions.db")
    }

    /// Opens the file, with a patience that no test outlasts.
    pub(crate) fn open(&self) -> SqliteStore {
        self.open_with(SqliteOptions::new())
    }

    pub(crate) fn open_with(&self, options: SqliteOptions) -> SqliteStore {
        options.busy_timeout(Duration::from_secs(600)).open(self.path()).unwrap()
    }

    /// Another connection to the file, as another process would have it.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    /// A connection that holds the write lock until it commits.
    pub(crate) fn lock(&self) -> Connection {
        let connection = self.connect();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        connection
    }
}

pub(crate) fn alice() -> Subject {
    Subject::new("alice").unwrap()
}

/// As many different sessions as asked for; the same ones for the same seed.
pub(crate) fn sessions(subject: Option<&Subject>, count: usize, seed: u64) -> Vec<Record> {
    let (pepper, entropy) = (Pepper::new(&[3; 32]).unwrap(), SeededEntropy::new(seed));
    let draft = || Draft {
        subject: subject.cloned().map(|subject| (subject, Proof::default())),
        created: NOW,
        idle: Duration::from_secs(1800),
        absolute: Duration::from_secs(86_400),
        client: Client::default(),
        data: b"data".to_vec(),
    };
    (0..count).map(|_| draft().seal(&pepper, &entropy).unwrap().0).collect()
}

pub(crate) fn admission() -> Admission {
    Admission { now: NOW, since: Epoch::default(), cap: None }
}

pub(crate) fn admitted() -> Inserted {
    Inserted::Inserted { evicted: Vec::new() }
}
