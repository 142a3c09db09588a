use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::OpenError;
use crate::reader::Readers;
use crate::schema::{self, Setup};
use crate::writer::Writer;
use crate::{Inner, SqliteStore};

/// How a file is opened. The defaults suit a site with a hundred thousand sessions on an ordinary machine.
///
/// ```no_run
/// # fn main() -> Result<(), cloakroom_sqlite::OpenError> {
/// use cloakroom_sqlite::SqliteOptions;
///
/// let store = SqliteOptions::new().readers(8).cache_kib(64 * 1024).open("sessions.db")?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a file is opened with them"]
pub struct SqliteOptions {
    readers: usize,
    queue: usize,
    group: usize,
    busy_timeout: Duration,
    cache_kib: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            readers: 4,
            queue: 4096,
            group: 256,
            busy_timeout: Duration::from_secs(5),
            cache_kib: 8 * 1024,
        }
    }
}

impl SqliteOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections read, so how many reads run at the same time; at least 1. Default 4. More than there are processor
    /// cores help nobody.
    pub const fn readers(mut self, connections: usize) -> Self {
        self.readers = connections;
        self
    }

    /// How many writes may wait for the writer; at least 1. Default 4096. One more is refused at once with
    /// [`StoreErrorKind::Unavailable`](cloakroom_core::store::StoreErrorKind::Unavailable).
    pub const fn queue(mut self, writes: usize) -> Self {
        self.queue = writes;
        self
    }

    /// The most writes that share one commit; at least 1. Default 256. A bound on how long the first of them waits for the others.
    pub const fn group(mut self, writes: usize) -> Self {
        self.group = writes;
        self
    }

    /// How long to wait for another process that has the file locked. Default 5 seconds.
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Memory for pages of the file, in KiB, for each connection (the readers and the writer). Default 8192.
    pub const fn cache_kib(mut self, kib: u32) -> Self {
        self.cache_kib = kib;
        self
    }

    /// Opens a file, and creates it if there is none: on Unix readable and writable by its owner only.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. A file that is not ours or of a newer version is left as it is.
    ///
    /// # Security
    ///
    /// The mode of a file that exists already is not changed. Its directory must be writable by nobody else:
    /// whoever can replace the file decides who is signed in.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, OpenError> {
        let path = path.as_ref();
        // Absolute, so that no name means something else to SQLite (":memory:", an empty one).
        let path =
            std::path::absolute(path).map_err(|source| OpenError::File { path: path.to_owned(), source })?;
        let setup = Setup { busy_timeout: self.busy_timeout, cache_kib: self.cache_kib };
        let connection = schema::open_writer(&path, setup)?;
        let readers = (0..self.readers.max(1))
            .map(|_| schema::open_reader(&path, setup))
            .collect::<Result<Vec<_>, _>>()?;
        let writer = Writer::start(connection, self.queue.max(1), self.group.max(1))?;
        Ok(SqliteStore(Arc::new(Inner { readers: Readers::new(readers), writer })))
    }
}
