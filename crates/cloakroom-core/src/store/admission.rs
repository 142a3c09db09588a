//! Under which conditions a new session is admitted.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::token::Handle;

/// A generation: it grows with every "end all sessions", of a subject or of everybody. 0 where there never was one.
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

    /// A subject's own epoch and that of everybody in one number. Both only ever grow, so it is another one after either has.
    #[must_use = "this returns the epoch of both"]
    pub const fn with(self, everybody: Self) -> Self {
        Self(self.0.wrapping_add(everybody.0))
    }
}

/// How a subject stands with logins: the answer to [`BySubject::standing`](super::BySubject::standing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The epoch that a login must still find when its session is inserted: the subject's own with that of everybody.
    pub epoch: Epoch,
    /// How long ago all sessions of the subject, or of everybody, were last ended; `None` if they never were. At least 0, and
    /// never more than the truth.
    pub ended_ago: Option<Duration>,
}

impl Standing {
    /// Makes the answer of a store whose epochs carry the time of the end, rounded up: each was made by [`Epoch::next`] with the
    /// store's own clock a millisecond later. `clock` shows the same clock now.
    pub fn by_clock(clock: Timestamp, own: Option<Epoch>, everybody: Option<Epoch>) -> Self {
        let epoch = own.unwrap_or_default().with(everybody.unwrap_or_default());
        let last = own.into_iter().chain(everybody).max();
        let ago = |epoch: Epoch| clock.since(Timestamp::from_millis(epoch.number()));
        Self { epoch, ended_ago: last.map(ago) }
    }

    /// Whether a login whose request arrived `age` ago began after the last end of all sessions. In doubt it did not.
    ///
    /// # Security
    ///
    /// The login is admitted if this is so and [`Standing::epoch`] is still the subject's when its session is inserted. Neither
    /// compares the clocks of two machines: `ended_ago` is between two looks at the store's clock, and `age` between two at the
    /// caller's, the second one after this answer was had. `age` must not become less when a clock is set back.
    pub fn admits_arrival(&self, age: Duration) -> bool {
        // Clocks that are being corrected may run fast or slow by up to 500 millionths, each of the two.
        self.ended_ago.is_none_or(|ago| ago > age.saturating_add(age / 1000))
    }
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
    /// The epoch that was read when the login began, or at its arrival or later: it must still be the subject's. Ignored for an
    /// anonymous session.
    pub since: Epoch,
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

    /// Whether a login may come in while the subject's epoch (its own with that of everybody) is `current`.
    pub fn admits(&self, current: Epoch) -> bool {
        self.since == current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn r054_a_login_is_admitted_by_its_arrival_only_if_it_came_after_the_end_without_doubt() {
        let ms = Duration::from_millis;
        for (name, ended_ago, age, admitted) in [
            ("never ended", None, secs(100), true),
            ("ended long before", Some(secs(100)), secs(5), true),
            ("ended after the arrival", Some(secs(4)), secs(5), false),
            ("at the same instant", Some(secs(0)), secs(0), false),
            ("a millisecond before", Some(ms(1)), secs(0), true),
            ("a clock that runs fast by a thousandth may be why", Some(ms(5_005)), secs(5), false),
            ("more than that", Some(ms(5_006)), secs(5), true),
            ("an age without end", Some(secs(100)), Duration::MAX, false),
        ] {
            let standing = Standing { epoch: Epoch::default(), ended_ago };
            assert_eq!(standing.admits_arrival(age), admitted, "{name}");
        }
    }

    #[test]
    fn r058_the_later_of_two_ends_counts_and_either_changes_the_epoch() {
        let epoch = |secs: u64| Some(Epoch::from_number(secs * 1000));
        let clock = Timestamp::from_secs(100);
        for (name, own, everybody, ago) in [
            ("none", None, None, None),
            ("the subject's", epoch(90), None, Some(secs(10))),
            ("everybody's", None, epoch(95), Some(secs(5))),
            ("everybody's after the subject's", epoch(90), epoch(95), Some(secs(5))),
            ("the subject's after everybody's", epoch(97), epoch(95), Some(secs(3))),
            ("a clock that was set back", epoch(200), None, Some(secs(0))),
        ] {
            let standing = Standing::by_clock(clock, own, everybody);
            assert_eq!(standing.ended_ago, ago, "{name}");
            let next = |epoch: Option<Epoch>| Some(epoch.unwrap_or_default().next(clock));
            for (own, everybody) in [(next(own), everybody), (own, next(everybody))] {
                assert_ne!(Standing::by_clock(clock, own, everybody).epoch, standing.epoch, "{name}");
            }
        }
    }
}
