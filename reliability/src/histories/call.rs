//! Calls and answers, without what the checker has no use for.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::Record;
use cloakroom_core::store::{Admission, AtCap, Cap, Epoch, Reason};
use cloakroom_core::token::Handle;
use serde::{Deserialize, Serialize};

/// When a session ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Life {
    /// When it was made.
    pub created: Timestamp,
    /// The idle limit in milliseconds.
    pub idle_ms: u64,
    /// The absolute limit.
    pub absolute: Timestamp,
}

/// A live session as a store shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seen {
    /// Its version.
    pub version: u64,
    /// Its last activity.
    pub seen: Timestamp,
    /// A hash of all bytes of the record.
    pub content: u64,
}

impl Seen {
    pub(crate) fn of(record: &Record) -> Self {
        let mut hasher = DefaultHasher::new();
        record.encode().expect("a record that was stored can be encoded").hash(&mut hasher);
        Self { version: record.version().number(), seen: record.seen(), content: hasher.finish() }
    }
}

impl Life {
    pub(crate) fn of(record: &Record) -> Self {
        let idle_ms = u64::try_from(record.idle_limit().as_millis()).unwrap_or(u64::MAX);
        Self { created: record.created(), idle_ms, absolute: record.absolute_limit() }
    }
}

/// [`Cap`], to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capped {
    /// No cap.
    No,
    /// At most so many: deny.
    Deny(u32),
    /// At most so many: the oldest goes.
    EvictOldest(u32),
    /// At most so many: the one longest idle goes.
    EvictIdle(u32),
}

impl Capped {
    /// The cap as a store takes it.
    pub fn cap(self) -> Option<Cap> {
        Some(match self {
            Self::No => return None,
            Self::Deny(max) => Cap { max, at_cap: AtCap::Deny },
            Self::EvictOldest(max) => Cap { max, at_cap: AtCap::EvictOldest },
            Self::EvictIdle(max) => Cap { max, at_cap: AtCap::EvictIdle },
        })
    }
}

/// A call of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the arguments of the store's methods")]
pub enum Call {
    Find {
        handle: Handle,
    },
    Insert {
        handle: Handle,
        subject: Option<String>,
        life: Life,
        new: Seen,
        now: Timestamp,
        since: u64,
        cap: Capped,
    },
    Replace {
        handle: Handle,
        expected: u64,
        life: Life,
        new: Seen,
    },
    Remove {
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    },
    Touch {
        handle: Handle,
        seen: Timestamp,
    },
    List {
        subject: String,
    },
    Epoch {
        subject: String,
    },
    RemoveAll {
        subject: String,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    },
    Sweep {
        now: Timestamp,
    },
}

impl Call {
    /// Whether it changes nothing in any case.
    pub const fn only_reads(&self) -> bool {
        matches!(self, Self::Find { .. } | Self::List { .. } | Self::Epoch { .. })
    }

    /// The conditions of an insert as a store takes them.
    pub fn admission(now: Timestamp, since: u64, cap: Capped) -> Admission {
        Admission { now, since: Epoch::from_number(since), cap: cap.cap() }
    }
}

/// An answer of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the variants are the answers of the store's methods")]
pub enum Answer {
    Live(Seen),
    Ended { reason: Reason, at: Timestamp },
    Absent,
    Inserted { evicted: Vec<Handle> },
    HandleTaken,
    Superseded,
    CapReached,
    Replaced,
    Stale,
    Gone,
    Removed(Option<Seen>),
    Touched,
    Listed(Vec<(Handle, Seen)>),
    Epoch(u64),
    RemovedAll { ended: Vec<Handle>, epoch: u64 },
    Swept(Vec<(Handle, Reason, Timestamp)>),
}

/// One recorded call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who called.
    pub client: u32,
    /// Its place in the count of all beginnings and ends.
    pub began: u64,
    /// Where its answer came; `None` if it never did.
    pub ended: Option<u64>,
    /// The call.
    pub call: Call,
    /// The answer; `None` if it was lost.
    pub answer: Option<Answer>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, began, ended, call, answer } = self;
        match (ended, answer) {
            (Some(ended), Some(answer)) => {
                write!(f, "{began:>6} – {ended:<6} client {client}: {call:?} => {answer:?}")
            }
            _ => write!(f, "{began:>6} –  lost   client {client}: {call:?}"),
        }
    }
}

/// What was recorded, in the order of the beginnings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(pub Vec<Event>);

impl History {
    /// Calls that were answered.
    pub fn answered(&self) -> u64 {
        self.0.iter().filter(|event| event.answer.is_some()).count() as u64
    }

    /// Calls whose answer was lost.
    pub fn lost(&self) -> u64 {
        self.0.len() as u64 - self.answered()
    }

    /// Calls that began while another one was under way.
    pub fn overlapping(&self) -> u64 {
        let mut last_end = None;
        let mut count = 0;
        for event in &self.0 {
            count += u64::from(last_end.is_some_and(|end| event.began < end));
            last_end = last_end.max(Some(event.ended.unwrap_or(u64::MAX)));
        }
        count
    }
}
