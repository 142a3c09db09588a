//! Cloakroom sessions in one SQLite file.
//!
//! The default store of a single machine: nothing to run beside the application, and a logout that has been
//! acknowledged survives a crash of the process, of the system, and a loss of power.
//!
//! ```no_run
//! use cloakroom_core::store::{Found, Store};
//! use cloakroom_core::token::Handle;
//! use cloakroom_sqlite::SqliteStore;
//!
//! # async fn example(handle: Handle) -> Result<(), Box<dyn std::error::Error>> {
//! let store = SqliteStore::open("sessions.db")?;
//! match store.find(handle).await? {
//!     Found::Live(record) => println!("last seen at {}", record.seen()),
//!     Found::Ended(tombstone) => println!("ended: {}", tombstone.reason().name()),
//!     Found::Absent => println!("no trace of it"),
//! }
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! - **Durable.** A write is answered after its transaction has been committed with `synchronous = FULL`: the log is on the disk,
//!   as far as the operating system and the drive tell the truth about it.
//! - **Gone is final.** No write brings back a session that was removed; [`Store`] has the words. There is no upsert in
//!   this crate.
//! - **Whole or not at all.** Every operation is atomic, also if its future is dropped or the process dies in the middle. A future
//!   that is dropped before it was polled has done nothing; one that is dropped later does not take its write back.
//! - **Reads never wait for writes.** They see all that was acknowledged before they began.
//! - **Unreadable is never absent.** A damaged record is an error, and stays where it is.
//!
//! # How it works
//!
//! One thread writes. It takes all operations that have been queued (up to [`SqliteOptions::group`]), runs each in a savepoint
//! of one transaction, commits, and then answers: sixty-four logins that arrive together cost one flush of the disk, not sixty-four.
//! An operation that fails undoes its own writes only. If the commit fails, all of the group fail. A queue that is full refuses at
//! once with an error that a client may retry.
//!
//! Reads run where they are called, on one of a few read-only connections, without a thread of their own: looking up one session
//! by its handle takes 5 to 10 µs with its page in memory, which is less than handing it to another thread and back would cost. A page
//! that must come from the disk blocks the calling thread for as long as that takes; a list of a subject's sessions takes a
//! look-up for each of them.
//!
//! # The file
//!
//! `sessions.db` with `sessions.db-wal` (the log) and `sessions.db-shm` (its index) beside it while the store is open; all three belong
//! together. Back it up with `sqlite3 sessions.db '.backup copy.db'` or with all processes stopped, never by copying the file
//! alone, and never open it in the process that has it open by other means than SQLite: closing it would let go of SQLite's
//! locks. Several processes on one machine may share the file; machines may not (the log's index is shared memory), so not
//! over NFS or SMB.
//!
//! The file is marked as Cloakroom's (`application_id`) and with the version of its schema (`user_version`). Older versions are
//! brought up to date when opened; newer ones, and files of other applications, are refused and left as they are.
//!
//! # Security
//!
//! The file holds digests and encrypted data: whoever reads it gets no usable token. It shows subjects, times and client labels
//! in the clear, and whoever can write to it can end sessions, so it is created for its owner only (mode 0600). What ended
//! stays in free pages and in the log for a while; it is as encrypted there as before.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::seal::PepperId;
use cloakroom_core::store::{
    Admission, BySubject, Found, Inserted, PepperClaim, Reason, RemovedAll, Replaced, Shared, Standing,
    Store, StoreError, Sweep, SweepLimits, SweepReport,
};
use cloakroom_core::token::Handle;

mod epochs;
mod error;
mod operations;
mod options;
mod peppers;
mod reader;
mod schema;
mod writer;

pub use error::OpenError;
pub use options::SqliteOptions;
pub use writer::WriterStats;

/// Sessions in one SQLite file.
///
/// Clones share the file. When the last one is dropped, what is queued is still written; the drop waits for that, so
/// drop it outside of async code or accept the few milliseconds.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    // The order matters: readers close first, because only the writer can bring the log back into the file as it closes.
    readers: reader::Readers,
    writer: writer::Writer,
}

impl SqliteStore {
    /// Opens a file with the default [`SqliteOptions`], and creates it if there is none.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. A file that is not ours or of a newer version is left as it is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        SqliteOptions::new().open(path)
    }

    /// The public names of the peppers that the file's sessions are sealed under: those that were noted by
    /// [`Shared::claim_pepper`], or in a file that is older than that, those of its live sessions. Empty for a file that was never used.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file cannot be read.
    pub fn peppers(&self) -> Result<Vec<PepperId>, StoreError> {
        self.0.readers.read(peppers::known)
    }

    /// As [`SqliteStore::peppers`], of a file as it is: nothing is made, changed or brought up to date. `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// [`OpenError`], as [`SqliteStore::open`] would fail.
    pub fn peppers_in(path: impl AsRef<Path>) -> Result<Option<Vec<PepperId>>, OpenError> {
        schema::look(path.as_ref())
    }

    /// How many operations have shared how many commits since the file was opened.
    pub fn stats(&self) -> WriterStats {
        self.0.writer.stats()
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Store for SqliteStore {
    async fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        self.0.readers.read(|connection| operations::find(connection, handle))
    }

    async fn insert(&self, record: Record, admission: Admission) -> Result<Inserted, StoreError> {
        let body = record.encode()?;
        self.0
            .writer
            .submit(move |connection| operations::insert(connection, &record, &body, &admission))
            .await
    }

    async fn replace(&self, expected: Version, record: Record) -> Result<Replaced, StoreError> {
        let body = record.encode()?;
        self.0
            .writer
            .submit(move |connection| operations::replace(connection, expected, &record, &body))
            .await
    }

    async fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        self.0.writer.submit(move |connection| operations::end(connection, handle, reason, now)).await
    }

    async fn touch(&self, handle: Handle, seen: Timestamp) -> Result<(), StoreError> {
        self.0.writer.submit(move |connection| operations::touch(connection, handle, seen)).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.0.writer.submit(operations::probe).await
    }
}

impl Shared for SqliteStore {
    async fn claim_pepper(&self, current: PepperId, live: &[PepperId]) -> Result<PepperClaim, StoreError> {
        let live = live.to_vec();
        self.0.writer.submit(move |connection| peppers::claim(connection, current, &live)).await
    }
}

impl BySubject for SqliteStore {
    async fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        self.0.readers.read(|connection| operations::list(connection, subject))
    }

    async fn standing(&self, subject: &Subject) -> Result<Standing, StoreError> {
        self.0.readers.read(|connection| epochs::standing(connection, subject))
    }

    async fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        let subject = subject.clone();
        self.0
            .writer
            .submit(move |connection| operations::remove_all(connection, &subject, keep, reason, now))
            .await
    }

    /// In batches, between which other writes have their turn.
    async fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        let writer = &self.0.writer;
        let mut rest = Some(writer.submit(move |connection| epochs::raise_everybody(connection, now)).await?);
        let mut ended = 0;
        while let Some(next) = rest {
            let done =
                writer.submit(move |connection| epochs::end_some(connection, next, reason, now)).await?;
            ended += done.0;
            rest = done.1;
        }
        Ok(ended)
    }
}

impl Sweep for SqliteStore {
    async fn sweep(&self, now: Timestamp, limits: SweepLimits) -> Result<SweepReport, StoreError> {
        self.0.writer.submit(move |connection| operations::sweep(connection, now, &limits)).await?
    }
}
