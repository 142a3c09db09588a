//! Under which conditions a new session is admitted.

use crate::clock::Timestamp;
use crate::token::Handle;

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

/// What to do with a login beyond the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtCap {
    /// Refuse the login, unless a session whose token was never presented can make room: who lost the answer to a login is not
    /// locked out by a session that nobody holds.
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
    /// presented go first, and under [`AtCap::Deny`] nobody else does; ties are broken by handle, so that all stores choose alike.
    /// Until they go they count, so that logins whose tokens are thrown away are no way past the cap.
    pub fn make_room(&self, live: &mut [(Handle, Timestamp, Timestamp)]) -> Option<Vec<Handle>> {
        let Some(cap) = self.cap else { return Some(Vec::new()) };
        let room = usize::try_from(cap.max.max(1)).unwrap_or(usize::MAX);
        let surplus = (live.len() + 1).saturating_sub(room);
        if surplus == 0 {
            return Some(Vec::new());
        }
        let presented = |created, seen| seen > created;
        live.sort_by_key(|&(handle, created, seen)| {
            let order = if cap.at_cap == AtCap::EvictIdle { seen } else { created };
            (presented(created, seen), order, handle)
        });
        let mut victims = live.iter().take(surplus);
        if cap.at_cap == AtCap::Deny && victims.any(|&(_, created, seen)| presented(created, seen)) {
            return None;
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
