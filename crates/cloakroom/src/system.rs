//! The operating system's clock and randomness: the only place that asks for either.

use std::time::{Duration, Instant, SystemTime};

use cloakroom_core::clock::{Clock, ClockError, Timestamp};
use cloakroom_core::entropy::{Entropy, EntropyError};

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Result<Timestamp, ClockError> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| ClockError)?;
        if since < Duration::from_secs(1) {
            return Err(ClockError);
        }
        Ok(Timestamp::EPOCH.plus(since))
    }
}

/// A clock that nothing sets: for how long something took, never for what time it is.
pub(crate) fn steady() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "beside the clock above; it measures, and decides no limit"
    )]
    Instant::now()
}

/// The operating system's cryptographically secure randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(bytes).map_err(|_| EntropyError)
    }
}
