//! What can go wrong when a file is opened, and how SQLite's errors become those of the store contract.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cloakroom_core::store::{Fault, StoreError};
use rusqlite::ErrorCode;

/// A file cannot be used as a session store. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The SQLite library that the program was linked with is too old.
    #[error(
        "the SQLite library is version {found}; 3.51.3 or later is needed, because earlier ones can corrupt a file with a \
         write-ahead log"
    )]
    SqliteTooOld {
        /// Its version.
        found: &'static str,
    },
    /// The file cannot be created or opened.
    #[error("{} cannot be created or opened", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not an SQLite database, or is damaged.
    #[error("{} is not an SQLite database, or is damaged", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is an SQLite database, but not one of Cloakroom's.
    #[error(
        "{} is the database of another application (application id {application_id}, schema {schema}); name another \
         file",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The `application_id` in its header.
        application_id: i32,
        /// The `user_version` in its header.
        schema: i32,
    },
    /// The file was written by a newer version of this crate.
    #[error(
        "{} was written by a newer version (schema {found}; this version knows {known}); upgrade the program, or name \
         another file",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i32,
        /// The newest schema that this version knows.
        known: i32,
    },
    /// The file system does not allow a write-ahead log (some network file systems do not).
    #[error("{} cannot have a write-ahead log there (SQLite chose journal mode {mode:?})", path.display())]
    NoWriteAheadLog {
        /// The file.
        path: PathBuf,
        /// The journal mode that SQLite chose instead.
        mode: String,
    },
    /// SQLite refused for another reason, such as another process that holds the file.
    #[error("SQLite cannot open {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why. Its type is not part of the interface.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The operating system did not start the writer's thread.
    #[error("the writer's thread cannot be started")]
    Thread(#[source] io::Error),
}

impl OpenError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::NotADatabase { .. } | Self::Sqlite { .. } => Fault::Store,
            _ => Fault::Setup,
        }
    }

    /// Whether opening the same file again may succeed later.
    pub const fn may_retry(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Sqlite { .. } | Self::Thread(_))
    }
}

/// An SQLite error while the store is in use. What the file holds is corrupt if it is not a database or not of the types
/// that the schema demands; anything else (busy, out of space, an error of the disk) may pass.
pub(crate) fn store_error(error: rusqlite::Error) -> StoreError {
    if is_corrupt(&error) { StoreError::corrupt(error) } else { StoreError::unavailable(error) }
}

fn is_corrupt(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..) => true,
        error => is_not_a_database(error),
    }
}

pub(crate) fn is_not_a_database(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Why a whole group of operations was not committed; each of its callers gets one.
pub(crate) fn group_error(error: &Arc<rusqlite::Error>) -> StoreError {
    let shared = NotCommitted(Arc::clone(error));
    if is_corrupt(error) { StoreError::corrupt(shared) } else { StoreError::unavailable(shared) }
}

#[derive(Debug)]
struct NotCommitted(Arc<rusqlite::Error>);

impl fmt::Display for NotCommitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the transaction was not committed")
    }
}

impl Error for NotCommitted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
