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

    /// The store's own words on why, with their causes: one line of at most 400 bytes, for logs and not for clients. Empty if it gave
    /// none.
    ///
    /// # Security
    ///
    /// Errors of the stores hold no password, secret or data of a session. Whoever writes a store of his own must see to that.
    pub fn cause(&self) -> String {
        const MAX: usize = 400;
        let mut text = String::new();
        let mut cause = self.source();
        while let Some(error) = cause {
            let words = error.to_string();
            // Many errors repeat what their source says.
            if !text.contains(&words) {
                text = if text.is_empty() { words } else { format!("{text}: {words}") };
            }
            cause = error.source();
        }
        let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        line.truncate(line.floor_char_boundary(MAX));
        line
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn a_cause_is_one_short_line_with_all_of_its_causes() {
        let inner = || Some(Box::new(Layer("no space left", None)));
        let long = "é".repeat(300);
        let table = [
            (StoreError::full(), "".to_owned()),
            (StoreError::unavailable("away"), "away".to_owned()),
            (
                StoreError::unavailable(Layer("write failed", inner())),
                "write failed: no space left".to_owned(),
            ),
            (StoreError::corrupt(Layer("told: no space left", inner())), "told: no space left".to_owned()),
            (StoreError::unavailable("two\nlines\u{7}"), "two lines ".to_owned()),
            (StoreError::unavailable(long.as_str()), "é".repeat(200)),
        ];
        for (error, cause) in table {
            assert_eq!(error.cause(), cause);
        }
    }
}
