//! The store contract: what a session store must do, and which wrong answers are dangerous.

mod admission;
mod ended;
mod error;
mod figures;
mod shared;

pub use admission::{Admission, AtCap, Cap, Epoch, Standing};
pub use ended::{Reason, Tombstone};
pub use error::{Fault, StoreError, StoreErrorKind};
pub use figures::{Figures, Governed};
pub use shared::{EndListener, EndNotice, PepperClaim, Shared};

use std::future::Future;

use crate::clock::Timestamp;
use crate::record::{Record, Subject, Version};
use crate::token::{HANDLE_LEN, Handle};

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

/// The answer to [`BySubject::remove_all`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedAll {
    /// The sessions that were ended.
    pub ended: Vec<Handle>,
    /// The subject's epoch from now on: a login that presents it is admitted.
    pub epoch: Epoch,
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

    /// As [`Store::find`], for a store that never has to wait for the answer: saves a look-up its future. `None`, which is the default,
    /// says nothing of the session; the caller asks [`Store::find`] then.
    fn find_at_once(&self, handle: Handle) -> Option<Result<Found, StoreError>> {
        let _ = handle;
        None
    }

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

    /// The store's own time; `None`, which is the default, where it has no clock of its own and goes by that of this machine. Cheap: asked
    /// every few seconds, and before a session is taken for expired.
    ///
    /// # Security
    ///
    /// With it, a machine whose clock is wrong refuses its own requests, and ends nobody's session. A store that several machines share
    /// and that leaves it out lets one of them sign everybody out.
    fn time(&self) -> impl Future<Output = Result<Option<Timestamp>, StoreError>> + Send {
        async { Ok(None) }
    }

    /// Whether [`Store::insert`] would work now: does what it does, as durably, and leaves nothing behind. The default only
    /// reads.
    ///
    /// Merely slow: an error although it would. Traffic is kept from a process that says so.
    fn probe(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { self.find(Handle::from_bytes([0; HANDLE_LEN])).await.map(drop) }
    }

    /// Takes over the figures of a policy. Called by the layer that is built on the store, so that policy and store cannot disagree; by
    /// each, if there are several ([`Governed`] has the rule for that). The default ignores them, which is right for a
    /// store that learns what it needs with each [`Sweep::sweep`].
    fn govern(&self, figures: Figures) {
        let _ = figures;
    }

    /// Tells `listener` of sessions that end, whoever ends them, as soon as the store hears of it.
    ///
    /// Only speeds things up: whoever waits for a session's end also looks it up at intervals. The default never says anything, which
    /// is right for a store that hears of nothing. A store with a notification channel says [`EndNotice::Missed`] whenever the channel
    /// has been down. The listener is kept as long as the store.
    fn on_end(&self, listener: EndListener) {
        drop(listener);
    }
}

/// A store that knows which sessions belong to a subject.
pub trait BySubject: Store {
    /// The records of a subject, in no particular order. They may have expired.
    ///
    /// # Security
    ///
    /// Must not miss a session whose insert was acknowledged before the call.
    fn list(&self, subject: &Subject) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send;

    /// How the subject stands: its epoch, and how long ago all sessions of it, or of everybody, were last ended.
    ///
    /// # Security
    ///
    /// `ended_ago` is measured by one clock: that of the store, read in the step that ended the sessions and now again. A machine whose
    /// clock is ahead or behind must not come into it. Merely slow: less than the truth (a login is refused and tried again). A
    /// vulnerability: more than the truth (a login survives an end that came after it); an old epoch that
    /// [`Store::insert`] accepts later.
    fn standing(&self, subject: &Subject) -> impl Future<Output = Result<Standing, StoreError>> + Send;

    /// The epoch of [`BySubject::standing`] alone: 0 where all sessions were never ended.
    fn epoch(&self, subject: &Subject) -> impl Future<Output = Result<Epoch, StoreError>> + Send {
        let standing = self.standing(subject);
        async move { Ok(standing.await?.epoch) }
    }

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

    /// Ends all sessions of everybody, anonymous ones too, and bumps the epoch of everybody, which is part of every subject's. Returns
    /// how many sessions were ended.
    ///
    /// The epoch comes first, in one step that no insert of a subject's session overlaps: from there on every login that began before
    /// is refused. Then the sessions are ended, in as many steps as are good for others that use the store; when this answers, none
    /// lives that was there when it was called. One that was made meanwhile may be ended too. If it fails or its future is dropped,
    /// what has ended stays ended; call it again. A session whose record cannot be read is ended with a [`Tombstone::bare`].
    ///
    /// # Security
    ///
    /// A vulnerability: ending sessions before the epoch is bumped, or missing one; a login in between survives.
    fn remove_everybody(
        &self,
        reason: Reason,
        now: Timestamp,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;
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
