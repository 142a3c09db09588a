//! What can go wrong, and whose fault it is.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use cloakroom_core::record::RecordError;
use cloakroom_core::store::{Fault, StoreError};
use tokio_postgres::error::SqlState;

/// An address cannot be understood. Names everything that is wrong with it, and repeats nothing of it that might be a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionsError {
    pub(crate) problems: Vec<String>,
}

impl OptionsError {
    /// Each problem, as a sentence.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the address of the PostgreSQL store is not usable: {}", self.problems.join("; "))
    }
}

impl Error for OptionsError {}

/// A database cannot be used as a session store. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The connection would be in the clear, over a network.
    #[error(
        "connections to {host} would not be encrypted (sslmode=disable); use sslmode=verify-full, or say with \
         insecure_plaintext why it is safe there"
    )]
    Plaintext {
        /// The server's name.
        host: String,
    },
    /// The name of the schema cannot be one.
    #[error("the schema's name must have 1 to 63 bytes, no NUL, and not begin with pg_")]
    SchemaName,
    /// Nothing could ever be done in no time, or over no connection.
    #[error("the timeout must be at least 1ms, and there must be at least 1 connection")]
    Bounds,
    /// A file that the options name cannot be used.
    #[error("{} ({purpose}) cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it is for.
        purpose: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// TLS cannot be set up.
    #[error("TLS to the server cannot be set up")]
    Tls(#[source] Box<dyn Error + Send + Sync>),
    /// There is no tokio runtime to run the connections on.
    #[error("the store must be opened inside a tokio runtime")]
    NoRuntime,
    /// No server that takes writes can be reached, or it does not answer in time.
    #[error("the PostgreSQL server cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The server answers, and lets us not in: a wrong password, an unknown database, no TLS there or a wrong certificate.
    #[error("the PostgreSQL server refuses the connection")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// The server is older than any that this store was tested with.
    #[error("the PostgreSQL server is of version {}; 15 or later is needed", found / 10_000)]
    ServerTooOld {
        /// Its `server_version_num`.
        found: i32,
    },
    /// The database was not prepared.
    #[error("the database has no tables of Cloakroom's in schema {schema:?}; run `cloakroom migrate`")]
    Missing {
        /// The schema.
        schema: String,
    },
    /// The database is of an earlier version.
    #[error(
        "the tables in schema {schema:?} are of version {found}, and this program needs {known}; run `cloakroom migrate`"
    )]
    Older {
        /// The schema.
        schema: String,
        /// Its version.
        found: u32,
        /// The version that is needed.
        known: u32,
    },
    /// The database is of a later version.
    #[error(
        "the tables in schema {schema:?} were made by a newer version ({found}; this one knows {known}); upgrade the program"
    )]
    Newer {
        /// The schema.
        schema: String,
        /// Its version.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// The role may not do what it must.
    #[error(
        "the role lacks rights on schema {schema:?}; `cloakroom migrate --grants ROLE` prints those it needs"
    )]
    NotGranted {
        /// The schema.
        schema: String,
        /// What the server says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server refused for another reason.
    #[error("the PostgreSQL server cannot be used")]
    Server(#[source] Box<dyn Error + Send + Sync>),
}

impl OpenError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Unreachable(_) | Self::Server(_) => Fault::Store,
            _ => Fault::Setup,
        }
    }

    /// Whether opening it again, with nothing changed, may succeed later.
    pub const fn may_retry(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Server(_))
    }

    /// An error while connecting.
    pub(crate) fn connecting(error: tokio_postgres::Error) -> Self {
        let answered = error.code().is_some_and(|code| {
            // Starting up, shutting down, or too many connections: that passes.
            !matches!(code.code(), "57P01" | "57P02" | "57P03" | "53300")
        });
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        // What the client finds out and not the server: no TLS there, a wrong certificate. Not that a server only reads, because a
        // failover changes that.
        let refused = match source {
            Some(source) => source.kind() == io::ErrorKind::InvalidData,
            None => !error.is_closed() && error.source().is_some(),
        };
        if answered || refused { Self::Refused(Box::new(error)) } else { Self::Unreachable(Box::new(error)) }
    }

    /// An error of a statement in a schema.
    pub(crate) fn statement(schema: &str, error: tokio_postgres::Error) -> Self {
        let schema = schema.to_owned();
        match error.code() {
            Some(&SqlState::INVALID_SCHEMA_NAME | &SqlState::UNDEFINED_TABLE) => Self::Missing { schema },
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::NotGranted { schema, source: Box::new(error) },
            _ => Self::Server(Box::new(error)),
        }
    }
}

/// Why an operation failed, while it is not yet decided what comes of it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection broke, or the server refused.
    Server(tokio_postgres::Error),
    /// Found out by us, such as a record that cannot be read.
    Found(StoreError),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Found(error)
    }
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        Self::Found(error.into())
    }
}

impl Failure {
    fn state(&self) -> Option<&str> {
        match self {
            Self::Server(error) => error.code().map(SqlState::code),
            Self::Found(_) => None,
        }
    }

    /// Whether the server says that nothing has happened and the same may work at once: a deadlock, a conflict.
    pub(crate) fn was_rolled_back(&self) -> bool {
        matches!(self.state(), Some("40001" | "40P01"))
    }

    /// Whether the connection is of no more use. One that only refused a statement is.
    pub(crate) fn spoils_connection(&self) -> bool {
        match self {
            Self::Found(_) => false,
            Self::Server(_) => match self.state() {
                // Rolled back, out of room, too late, cancelled. Anything else (a server that only reads now, a plan that
                // does not fit a changed table, a statement that a pooler forgot) may be better on a new connection.
                Some(state) => {
                    !["22", "23", "40", "53", "55"].iter().any(|class| state.starts_with(class))
                        && state != "57014"
                }
                None => true,
            },
        }
    }

    /// Whether the connection was lost, so that a read may as well be done on another.
    pub(crate) fn lost_connection(&self) -> bool {
        match self {
            Self::Found(_) => false,
            Self::Server(_) => matches!(self.state(), None | Some("57P01" | "57P02" | "57P03")),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Found(error) => error,
            Failure::Server(error) => match error.code() {
                Some(&SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED) => Self::corrupt(error),
                _ => Self::unavailable(error),
            },
        }
    }
}

/// The time was up.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL did not answer in time")]
pub(crate) struct TimedOut;

/// The server has committed, and warned of something meanwhile.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL committed with a warning, so perhaps without its standby")]
pub(crate) struct InDoubt;
