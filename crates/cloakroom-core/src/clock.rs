//! Time as a parameter: instants, and the source that a shell reads them from.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// Arithmetic saturates, so a limit that lies beyond the end of time never wraps round to the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The beginning: 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// Makes an instant from milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Makes an instant from whole seconds since 1970.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The time from `earlier` to this instant; zero if `earlier` is in fact later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This instant moved later by `by` (fractions of a millisecond are dropped).
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// This instant moved earlier by `by`, but not before [`Timestamp::EPOCH`].
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.as_secs(), self.0 % 1000)
    }
}

/// How far apart two clocks certainly are, when one was read `before` and `after` the other: zero if the other may have been
/// read at a moment when both showed the same. So half of the round trip is allowed for either way.
pub fn difference(before: Timestamp, other: Timestamp, after: Timestamp) -> Duration {
    // Our clock may have been set back in between.
    let (earliest, latest) = (before.min(after), before.max(after));
    other.since(latest).max(earliest.since(other))
}

/// A duration in whole milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where a shell gets the time from.
///
/// The rules never ask: each of their steps takes `now`. The operating system's clock is
/// `cloakroom::SystemClock`; tests use `cloakroom_testkit::ManualClock`.
pub trait Clock: Send + Sync + 'static {
    /// The present instant.
    ///
    /// # Errors
    ///
    /// [`ClockError`] when the time cannot be known; the request is then refused with 503.
    fn now(&self) -> Result<Timestamp, ClockError>;
}

/// The time could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the clock cannot be read, or reads before 1970")]
pub struct ClockError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let end = Timestamp::from_millis(u64::MAX);
        assert_eq!(end.plus(Duration::MAX), end);
        assert_eq!(Timestamp::EPOCH.minus(Duration::MAX), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.since(end), Duration::ZERO);
    }

    #[test]
    fn clocks_differ_by_what_the_round_trip_does_not_explain() {
        let secs = Timestamp::from_secs;
        let table = [
            ((100, 100, 100), 0),
            ((100, 101, 102), 0),
            ((100, 100, 104), 0),
            ((100, 104, 104), 0),
            ((100, 99, 104), 1),
            ((100, 110, 104), 6),
            // Set back by an hour while the answer was on its way: nothing is certain.
            ((3700, 2000, 100), 0),
            ((3700, 50, 100), 50),
        ];
        for ((before, other, after), differ) in table {
            assert_eq!(difference(secs(before), secs(other), secs(after)), Duration::from_secs(differ));
        }
    }

    #[test]
    fn the_time_between_two_instants_is_exact_to_the_millisecond() {
        let start = Timestamp::from_secs(10);
        assert_eq!(start.plus(Duration::from_millis(1)).since(start), Duration::from_millis(1));
        assert_eq!(Timestamp::from_millis(10_007).to_string(), "10.007");
    }
}
