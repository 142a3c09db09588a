//! The store contract: what a session store must do, and which wrong answers are dangerous.

use std::error::Error;
use std::fmt;
use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::record::{Record, RecordError, Subject, Version};
use crate::seal::ShortDigest;
use crate::token::Handle;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// Its user logged it out.
    LoggedOut,
    /// A login took its place in the same client.
    Superseded,
    /// Its user or an administrator ended it from elsewhere.
    Revoked,
    /// All sessions of its subject were ended.
    RevokedAll,
    /// A newer login needed its place under the policy's cap.
    Evicted,
    /// A retired secret came back after its grace: taken as theft.
    Replay,
    /// The idle limit passed.
    Idle,
    /// The absolute limit passed.
    Absolute,
}

impl Reason {
    /// A stable one-word name, for stores and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoggedOut => "logged_out",
            Self::Superseded => "superseded",
            Self::Revoked => "revoked",
            Self::RevokedAll => "revoked_all",
            Self::Evicted => "evicted",
            Self::Replay => "replay",
            Self::Idle => "idle",
            Self::Absolute => "absolute",
        }
    }

    /// Whether time ended the session, rather than a decision.
    pub const fn is_expiry(self) -> bool {
        matches!(self, Self::Idle | Self::Absolute)
    }

    /// A stable number, for stores.
    pub const fn code(self) -> u8 {
        match self {
            Self::LoggedOut => 1,
            Self::Superseded => 2,
            Self::Revoked => 3,
            Self::RevokedAll => 4,
            Self::Evicted => 5,
            Self::Replay => 6,
            Self::Idle => 7,
            Self::Absolute => 8,
        }
    }

    /// The reason of a stored number.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::LoggedOut,
            2 => Self::Superseded,
            3 => Self::Revoked,
            4 => Self::RevokedAll,
            5 => Self::Evicted,
            6 => Self::Replay,
            7 => Self::Idle,
            8 => Self::Absolute,
            _ => return None,
        })
    }
}

/// Three live slots and the retired secrets.
const DIGESTS_MAX: usize = 3 + crate::record::RETIRED_KEPT;

/// What is kept for a while of a session that ended: why, when, and enough digests to tell a late
/// request of its client from a forgery. No data, no subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    pub(crate) reason: Reason,
    pub(crate) at: Timestamp,
    pub(crate) digests: Vec<ShortDigest>,
}

impl Tombstone {
    /// The tombstone of a record that ends now.
    pub fn of(record: &Record, reason: Reason, at: Timestamp) -> Self {
        let secrets = &record.body.secrets;
        let slots = [
            Some(&secrets.current),
            secrets.next.as_deref().map(|next| &next.slot),
            secrets.previous.as_deref().map(|previous| &previous.slot),
        ];
        let live = slots.into_iter().flatten().map(|slot| slot.digest.short());
        Self { reason, at, digests: live.chain(secrets.retired.iter().copied()).collect() }
    }

    /// The tombstone of a record that cannot be read: nobody will be recognised by it.
    pub const fn bare(reason: Reason, at: Timestamp) -> Self {
        Self { reason, at, digests: Vec::new() }
    }

    /// Why the session ended.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// When it ended.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// The bytes to store.
    ///
    /// # Errors
    ///
    /// [`RecordError::Broken`] if it cannot be encoded.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let mut bytes = Vec::with_capacity(24 + 8 * self.digests.len());
        bytes.push(crate::record::RECORD_FORMAT);
        postcard::to_extend(self, bytes).map_err(|_| RecordError::Broken)
    }

    /// Reads a tombstone back.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the bytes are of a newer format or do not decode.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (&format, rest) = bytes.split_first().ok_or(RecordError::Broken)?;
        if format != crate::record::RECORD_FORMAT {
            return Err(RecordError::Format(format));
        }
        let (tombstone, rest) = postcard::take_from_bytes::<Self>(rest).map_err(|_| RecordError::Broken)?;
        if !rest.is_empty() || tombstone.digests.len() > DIGESTS_MAX {
            return Err(RecordError::Broken);
        }
        Ok(tombstone)
    }
}

/// The answer to [`Store::find`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "the large one is the common one")]
pub enum Found {
    /// The session's record. It may have expired: the engine judges that, not the store.
    Live(Record),
    /// The session ended a while ago.
    Ended(Tombstone),
    /// There is no trace of such a session.
    Absent,
}

/// The answer to [`Store::insert`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The session exists now; these were ended to make room for it.
    Inserted {
        /// Sessions ended with [`Reason::Evicted`].
        evicted: Vec<Handle>,
    },
    /// The handle belongs to another session or tombstone. Nothing changed; draw again.
    HandleTaken,
    /// The subject's sessions were all ended after this login began. Nothing changed.
    Superseded,
    /// The subject has as many sessions as the cap allows, and the cap denies. Nothing changed.
    CapReached,
}

/// The answer to [`Store::replace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The record is stored, with the version that follows the expected one.
    Replaced,
    /// The session lives, but with another version: somebody else wrote. Nothing changed.
    Stale,
    /// The session has ended. Nothing changed, and nothing ever will.
    Gone,
}

/// A subject's generation: it grows with every "end all sessions". 0 where there never was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(u64);

impl Epoch {
    /// Makes an epoch from a number, as a store reads it back.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The epoch that follows when all sessions are ended at `now`. Never one that was used before, even
    /// if the entry was forgotten in between.
    #[must_use = "this returns the next epoch"]
    pub fn next(self, now: Timestamp) -> Self {
        Self(self.0.saturating_add(1).max(now.as_millis()))
    }
}

/// Which login a "end all sessions" beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The epoch that was read before the credentials were checked must still be the subject's.
    Epoch(Epoch),
    /// No epoch was read: the last "end all sessions" must be older than this instant.
    Arrival(Timestamp),
}

/// The answer to [`BySubject::remove_all`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedAll {
    /// The sessions that were ended.
    pub ended: Vec<Handle>,
    /// The subject's epoch from now on: a login that presents it is admitted.
    pub epoch: Epoch,
}

/// What to do with a login beyond the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtCap {
    /// Refuse the login.
    Deny,
    /// End the session that was created first.
    EvictOldest,
    /// End the session that has been idle longest.
    EvictIdle,
}

/// A limit on the sessions of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// The most live sessions, at least 1.
    pub max: u32,
    /// What happens to one login more.
    pub at_cap: AtCap,
}

/// The conditions under which a store admits a new session. Checked in the same atomic step as the insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The instant at which expired sessions are told from live ones.
    pub now: Timestamp,
    /// Compared with the subject's epoch; ignored for an anonymous session.
    pub since: Since,
    /// The cap; ignored for an anonymous session.
    pub cap: Option<Cap>,
}

impl Admission {
    /// Chooses which of a subject's live sessions must go so that one more may come.
    ///
    /// `live` holds the sessions that have not expired at [`Admission::now`]: handle, creation, last
    /// activity. Returns `None` if the login must be refused. Sessions whose token was never
    /// presented go first; ties are broken by handle, so that all stores choose alike.
    pub fn make_room(&self, live: &mut [(Handle, Timestamp, Timestamp)]) -> Option<Vec<Handle>> {
        let Some(cap) = self.cap else { return Some(Vec::new()) };
        let room = usize::try_from(cap.max.max(1)).unwrap_or(usize::MAX);
        let surplus = (live.len() + 1).saturating_sub(room);
        if surplus == 0 {
            return Some(Vec::new());
        }
        match cap.at_cap {
            AtCap::Deny => return None,
            AtCap::EvictOldest => {
                live.sort_by_key(|&(handle, created, seen)| (seen > created, created, handle));
            }
            AtCap::EvictIdle => {
                live.sort_by_key(|&(handle, created, seen)| (seen > created, seen, handle));
            }
        }
        Some(live.iter().take(surplus).map(|&(handle, ..)| handle).collect())
    }

    /// Whether a subject whose last "end all sessions" is `last` (its epoch and time) may log in.
    pub fn admits(&self, last: Option<(Epoch, Timestamp)>) -> bool {
        match (self.since, last) {
            (Since::Epoch(read), last) => last.map_or(Epoch::default(), |(epoch, _)| epoch) == read,
            (Since::Arrival(_), None) => true,
            (Since::Arrival(arrival), Some((_, at))) => at < arrival,
        }
    }
}

/// A session that a sweep ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Which one.
    pub handle: Handle,
    /// Whose.
    pub subject: Option<Subject>,
    /// [`Reason::Idle`] or [`Reason::Absolute`].
    pub reason: Reason,
    /// When its time was up.
    pub at: Timestamp,
}

/// How much and how old a sweep takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepLimits {
    /// The most entries looked at in one call: a bound on the pause.
    pub batch: usize,
    /// How long tombstones are kept.
    pub tombstone_ttl: std::time::Duration,
    /// How long the record of a "end all sessions" is kept; longer than any absolute limit.
    pub epoch_ttl: std::time::Duration,
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Sessions whose time was up.
    pub swept: Vec<Swept>,
    /// Whether entries that are due were left for another call.
    pub more: bool,
}

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

/// A place where sessions are kept.
///
/// Five methods, and one promise above all: **gone is final**. There is no operation that creates a
/// session except [`insert`](Store::insert), and none that brings one back.
///
/// Futures may be dropped at any time; each operation then has happened completely or not at all.
/// The suite in `cloakroom-testkit` checks an implementation.
pub trait Store: Send + Sync + 'static {
    /// Looks a session up.
    ///
    /// # Security
    ///
    /// Must see every write that was acknowledged before the call began (read the primary, R-059). Merely slow:
    /// answering late. A vulnerability: an old record (a revoked session or a retired secret works on), or `Absent` for a
    /// record that cannot be read or reached — answer an error instead.
    fn find(&self, handle: Handle) -> impl Future<Output = Result<Found, StoreError>> + Send;

    /// Creates a session, if its handle is free (no record and no tombstone has it) and `admission` holds.
    /// One atomic step with the epoch check and the cap; expired sessions do not count.
    ///
    /// # Security
    ///
    /// A vulnerability: replacing anything; checking epoch or cap in a step of its own.
    fn insert(
        &self,
        record: Record,
        admission: Admission,
    ) -> impl Future<Output = Result<Inserted, StoreError>> + Send;

    /// Replaces the record of the same handle if its version is still `expected`. The stored version becomes
    /// `expected.next()`; the later of the stored and the given `seen` is kept. A session's subject never changes, so the caller
    /// must not pass another one.
    ///
    /// # Security
    ///
    /// Merely slow: a needless `Stale`. A vulnerability: storing over another version (lost updates, revived
    /// secrets), or storing at all where the session has ended.
    fn replace(
        &self,
        expected: Version,
        record: Record,
    ) -> impl Future<Output = Result<Replaced, StoreError>> + Send;

    /// Ends a session and leaves a tombstone. Returns what was removed; `None` if there was nothing, or only
    /// a tombstone, which is left as it is.
    ///
    /// # Security
    ///
    /// Answer only when the removal is as durable as the store promises. A vulnerability: forgetting
    /// it.
    fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;

    /// Notes activity. Does nothing if the session has ended or the stored time is later already. The
    /// version stays, so that touching never disturbs data writes.
    ///
    /// # Security
    ///
    /// Merely slow: forgetting it (the session idles out early). A vulnerability: creating anything.
    fn touch(&self, handle: Handle, seen: Timestamp) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A store that knows which sessions belong to a subject.
pub trait BySubject: Store {
    /// The records of a subject, in no particular order. They may have expired.
    ///
    /// # Security
    ///
    /// Must not miss a session whose insert was acknowledged before the call.
    fn list(&self, subject: &Subject) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send;

    /// The subject's epoch: 0 where all sessions were never ended.
    ///
    /// # Security
    ///
    /// A vulnerability: an old value is accepted by [`Store::insert`] later.
    fn epoch(&self, subject: &Subject) -> impl Future<Output = Result<Epoch, StoreError>> + Send;

    /// Ends all sessions of a subject but `keep`, and bumps the subject's epoch, in one atomic step, even if there
    /// is no session at all. Returns what was ended, and the new epoch.
    ///
    /// A session whose record cannot be read is ended too, with a [`Tombstone::bare`]: what is damaged must not keep the
    /// others alive.
    ///
    /// # Security
    ///
    /// A vulnerability: bumping the epoch in another step than the removals; a login in between survives.
    fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> impl Future<Output = Result<RemovedAll, StoreError>> + Send;
}

/// A store that can clear away what time has ended.
///
/// Only saves space: expired sessions are refused whether they were swept or not.
pub trait Sweep: Store {
    /// Ends sessions that have expired at `now` (each leaves a tombstone), and forgets tombstones and epoch entries
    /// that are older than `limits` say.
    ///
    /// # Security
    ///
    /// Must judge by the stored `seen`, not by an index that touching does not move. A vulnerability:
    /// forgetting an epoch entry early.
    fn sweep(
        &self,
        now: Timestamp,
        limits: SweepLimits,
    ) -> impl Future<Output = Result<SweepReport, StoreError>> + Send;
}
