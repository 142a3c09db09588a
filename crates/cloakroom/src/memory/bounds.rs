//! How much a store in memory holds, and what it holds at the moment.

use std::sync::atomic::{AtomicUsize, Ordering};

use cloakroom_core::store::StoreError;

/// How much a [`MemoryStore`](crate::MemoryStore) holds at most. [`MemoryBounds::default`] suits a process
/// that may take a gigabyte.
///
/// ```
/// use cloakroom::{MemoryBounds, MemoryStore};
///
/// let store = MemoryStore::with_bounds(MemoryBounds::default().sessions(20_000).anonymous(5_000));
/// # assert!(store.is_empty());
/// ```
///
/// # Security
///
/// Whoever asks without a cookie may be given a session, so anybody can fill the share of anonymous ones. It
/// is a share, so that logins have room left whatever strangers do (OWASP ASVS 5.0, 2.4.1), and
/// [`Policy::unpresented`](cloakroom_core::policy::Policy::unpresented) empties it soon after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBounds {
    sessions: usize,
    anonymous: Option<usize>,
    bytes: Option<usize>,
    tombstones: Option<usize>,
}

impl Default for MemoryBounds {
    fn default() -> Self {
        Self { sessions: Self::SESSIONS, anonymous: None, bytes: None, tombstones: None }
    }
}

impl MemoryBounds {
    /// Live sessions, unless told otherwise: some 200 MB of small ones, when each belongs to another user.
    pub const SESSIONS: usize = 500_000;

    /// The least that a session counts as, in bytes. Covers its place in the tables, and what rotations and
    /// step-ups add to a small one, so that the bound in bytes is in the way of none of them.
    pub const BYTES_EACH_MIN: usize = 1024;

    /// The most live sessions, expired ones included until they are swept. Default
    /// [`MemoryBounds::SESSIONS`].
    ///
    /// As many users at most have their last "end all sessions" remembered; beyond that, what is forgotten
    /// holds for everybody of whom nothing is remembered, so that no login gets round it.
    #[must_use = "this returns the changed bounds"]
    pub const fn sessions(mut self, most: usize) -> Self {
        self.sessions = most;
        self
    }

    /// The most of them that are anonymous. Default half.
    ///
    /// They may take no larger a part of the bytes either. Visitors beyond it are answered 503 where
    /// something was to be stored for them.
    #[must_use = "this returns the changed bounds"]
    pub const fn anonymous(mut self, most: usize) -> Self {
        self.anonymous = Some(most);
        self
    }

    /// The most bytes that live sessions take. Default 2 KiB for each of [`MemoryBounds::sessions`].
    ///
    /// Beyond it there are no new sessions, and none grows.
    #[must_use = "this returns the changed bounds"]
    pub const fn bytes(mut self, most: usize) -> Self {
        self.bytes = Some(most);
        self
    }

    /// The most sessions of which is remembered why they ended, at some 200 bytes each. Default as many as
    /// [`MemoryBounds::sessions`].
    ///
    /// Beyond it the oldest are forgotten. A request that comes late for such a session is one with an
    /// unknown token, and may set a visitor's cookie although the session ended within the grace.
    #[must_use = "this returns the changed bounds"]
    pub const fn tombstones(mut self, most: usize) -> Self {
        self.tombstones = Some(most);
        self
    }

    /// How many subjects each of so many shards remembers.
    pub(super) const fn subjects_each(&self, shards: usize) -> usize {
        self.sessions.div_ceil(shards)
    }
}

/// Whose session it is, as far as room is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Anonymous,
    LoggedIn,
}

/// A count that has a bound.
#[derive(Debug)]
struct Gauge {
    most: usize,
    taken: AtomicUsize,
}

impl Gauge {
    const fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }

    fn try_take(&self, many: usize) -> bool {
        let more = |taken: usize| taken.checked_add(many).filter(|sum| *sum <= self.most);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn has(&self, many: usize) -> bool {
        self.taken.load(Ordering::Relaxed).checked_add(many).is_some_and(|sum| sum <= self.most)
    }

    fn take(&self, many: usize) {
        self.taken.fetch_add(many, Ordering::Relaxed);
    }

    fn give_back(&self, many: usize) {
        self.taken.fetch_sub(many, Ordering::Relaxed);
    }
}

/// Sessions, and the bytes of them.
#[derive(Debug)]
struct Share {
    sessions: Gauge,
    bytes: Gauge,
}

impl Share {
    const fn new(sessions: usize, bytes: usize) -> Self {
        Self { sessions: Gauge::new(sessions), bytes: Gauge::new(bytes) }
    }

    fn try_take(&self, sessions: usize, bytes: usize) -> bool {
        if !self.sessions.try_take(sessions) {
            return false;
        }
        let fits = self.bytes.try_take(bytes);
        if !fits {
            self.sessions.give_back(sessions);
        }
        fits
    }

    fn take(&self, sessions: usize, bytes: usize) {
        self.sessions.take(sessions);
        self.bytes.take(bytes);
    }

    fn give_back(&self, sessions: usize, bytes: usize) {
        self.sessions.give_back(sessions);
        self.bytes.give_back(bytes);
    }
}

/// The room that all shards have together.
#[derive(Debug)]
pub(super) struct Room {
    all: Share,
    anonymous: Share,
    tombstones: Gauge,
}

impl Room {
    pub(super) fn new(bounds: &MemoryBounds) -> Self {
        let sessions = bounds.sessions;
        let anonymous = bounds.anonymous.unwrap_or(sessions.div_ceil(2)).min(sessions);
        let bytes = bounds.bytes.unwrap_or(sessions.saturating_mul(2 * MemoryBounds::BYTES_EACH_MIN));
        let each = bytes.checked_div(sessions).unwrap_or(0).max(MemoryBounds::BYTES_EACH_MIN);
        Self {
            all: Share::new(sessions, bytes),
            anonymous: Share::new(anonymous, anonymous.saturating_mul(each).min(bytes)),
            tombstones: Gauge::new(bounds.tombstones.unwrap_or(sessions)),
        }
    }

    /// Whether there is room for a small login. Takes none, not even for a moment.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        let fits = self.all.sessions.has(1) && self.all.bytes.has(MemoryBounds::BYTES_EACH_MIN);
        if fits { Ok(()) } else { Err(StoreError::full()) }
    }

    /// Takes room for a new session whose record has so many bytes.
    pub(super) fn take(&self, kind: Kind, len: usize) -> Result<(), StoreError> {
        self.try_take(kind, 1, counted(len))
    }

    /// Takes room whether there is any or not: for a login whose predecessor is about to give its own back.
    pub(super) fn take_over(&self, len: usize) {
        self.all.take(1, counted(len));
    }

    /// Takes what a record needs to grow, or gives back what it no longer needs.
    pub(super) fn resize(&self, kind: Kind, from: usize, to: usize) -> Result<(), StoreError> {
        let (from, to) = (counted(from), counted(to));
        if to > from {
            return self.try_take(kind, 0, to - from);
        }
        self.all.give_back(0, from - to);
        if kind == Kind::Anonymous {
            self.anonymous.give_back(0, from - to);
        }
        Ok(())
    }

    pub(super) fn give_back(&self, kind: Kind, len: usize) {
        self.all.give_back(1, counted(len));
        if kind == Kind::Anonymous {
            self.anonymous.give_back(1, counted(len));
        }
    }

    /// Takes room for a tombstone; whether there was any.
    pub(super) fn take_tombstone(&self) -> bool {
        self.tombstones.try_take(1)
    }

    pub(super) fn give_back_tombstone(&self) {
        self.tombstones.give_back(1);
    }

    // First the share of the anonymous: strangers who are refused there take nothing from anybody, not even
    // for a moment.
    fn try_take(&self, kind: Kind, sessions: usize, bytes: usize) -> Result<(), StoreError> {
        let anonymous = kind == Kind::Anonymous;
        if anonymous && !self.anonymous.try_take(sessions, bytes) {
            return Err(StoreError::full());
        }
        if self.all.try_take(sessions, bytes) {
            return Ok(());
        }
        if anonymous {
            self.anonymous.give_back(sessions, bytes);
        }
        Err(StoreError::full())
    }
}

fn counted(len: usize) -> usize {
    len.max(MemoryBounds::BYTES_EACH_MIN)
}
