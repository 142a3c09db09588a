use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloakroom_core::clock::{Clock, ClockError, Timestamp};

/// A clock that moves only when told to.
///
/// Clones show the same time, so a test keeps one and gives another away. Never fails.
///
/// ```
/// use std::time::Duration;
/// use cloakroom_core::clock::{Clock, Timestamp};
/// use cloakroom_testkit::ManualClock;
///
/// let clock = ManualClock::new(Timestamp::from_secs(1_000));
/// let given_away = clock.clone();
/// clock.advance(Duration::from_secs(30));
/// assert_eq!(given_away.now(), Ok(Timestamp::from_secs(1_030)));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Makes a clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(AtomicU64::new(now.as_millis())))
    }

    /// Moves the clock, and all its clones, later by `by` and returns the new time. Fractions of a millisecond are dropped; the
    /// end of time is not passed.
    pub fn advance(&self, by: Duration) -> Timestamp {
        let later = |now| Timestamp::from_millis(now).plus(by).as_millis();
        let before = self.0.update(Ordering::SeqCst, Ordering::SeqCst, later);
        Timestamp::from_millis(later(before))
    }

    /// Sets the clock, and all its clones. The time may be earlier than before: real clocks are set back too.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_millis(), Ordering::SeqCst);
    }

    /// The time shown. The same as [`Clock::now`], without the error that this clock never has.
    pub fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Result<Timestamp, ClockError> {
        Ok(self.time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_of_a_clock_move_together() {
        let clock = ManualClock::new(Timestamp::from_secs(5));
        let clone = clock.clone();
        assert_eq!(clone.advance(Duration::from_millis(1500)), Timestamp::from_millis(6500));
        assert_eq!(clock.now(), Ok(Timestamp::from_millis(6500)));
        clock.set(Timestamp::EPOCH);
        assert_eq!(clone.time(), Timestamp::EPOCH);
    }

    #[test]
    fn a_clock_stops_at_the_end_of_time() {
        let clock = ManualClock::new(Timestamp::from_millis(u64::MAX - 1));
        assert_eq!(clock.advance(Duration::MAX), Timestamp::from_millis(u64::MAX));
    }
}
