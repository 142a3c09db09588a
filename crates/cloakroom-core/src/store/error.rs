//! What can go wrong in a store, and whose fault it is.

use std::error::Error;
use std::fmt;

use crate::record::RecordError;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The client sent something it should not have.
    Client,
    /// The store is unreachable, slow, full or holds broken data.
    Store,
    /// The application called something it must not.
    Caller,
    /// The configuration or the machine.
    Setup,
}

/// What went wrong in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Not reachable, too slow, or it refused for a passing reason. A retry may help.
    Unavailable,
    /// It holds something that cannot be read as a record. A retry does not help.
    Corrupt,
    /// It has no room for another session. A retry may help once some have ended.
    Full,
    /// The record is larger than the store takes. A retry does not help.
    TooLarge,
}

/// A store failed. Never says that a session does not exist.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// The store could not be reached, was too slow, or refused for a passing reason.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: StoreErrorKind::Unavailable, source: Some(source.into()) }
    }

    /// The store holds something that cannot be read.
    pub fn corrupt(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: StoreErrorKind::Corrupt, source: Some(source.into()) }
    }

    /// The store has no room.
    pub const fn full() -> Self {
        Self { kind: StoreErrorKind::Full, source: None }
    }

    /// What went wrong.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whose fault it is: always the store's, but for a record that the application made too large.
    pub const fn fault(&self) -> Fault {
        match self.kind {
            StoreErrorKind::TooLarge => Fault::Caller,
            _ => Fault::Store,
        }
    }

    /// Whether the same call may succeed later.
    pub const fn may_retry(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable | StoreErrorKind::Full)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Unavailable => "the session store is unavailable",
            StoreErrorKind::Corrupt => "the session store holds a record that cannot be read",
            StoreErrorKind::Full => "the session store is full",
            StoreErrorKind::TooLarge => "the session record is larger than the store accepts",
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<RecordError> for StoreError {
    /// Too large is the caller's fault; anything else means that the store holds what it should not.
    fn from(error: RecordError) -> Self {
        let kind = match error {
            RecordError::TooLarge => StoreErrorKind::TooLarge,
            _ => StoreErrorKind::Corrupt,
        };
        Self { kind, source: Some(Box::new(error)) }
    }
}
