//! This machine's clock beside the store's, and whether a login would work.
//!
//! Nothing that a clock decides is acted upon by a clock that is off: whoever wrote a verdict of time into the store, or told
//! a client, would do it to everybody who shares the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloakroom_core::clock::{ClockError, Timestamp, difference};
use cloakroom_core::store::StoreError;

use crate::error::SessionError;
use crate::layer::{SessionLayer, Shared};

/// What the last comparison came to.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// By how many milliseconds the clocks differ at least; 0 while they differ by no more than the skew.
    off_by: AtomicU64,
    /// Never compared: somebody has said why.
    pub(crate) never: bool,
}

impl Compared {
    pub(crate) fn unless(never: bool) -> Self {
        Self { never, ..Self::default() }
    }
}

/// A login would not work here now. The text is for logs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// This machine's clock and the store's differ by more than the policy allows. Sessions are neither judged nor swept meanwhile.
    #[error(
        "this machine's clock and the store's differ by at least {by:?}, and the policy allows {allowed:?}"
    )]
    ClockOff {
        /// By how much at least.
        by: Duration,
        /// The policy's skew.
        allowed: Duration,
    },
    /// The store would not take a session.
    #[error("the session store takes no sessions")]
    Store(#[source] StoreError),
    /// This machine's clock cannot be read.
    #[error(transparent)]
    Clock(#[from] ClockError),
}

impl SessionLayer {
    /// Whether a login would work here now: the store takes a session, and this machine's clock agrees with the store's. For the
    /// page that a load balancer asks. Writes to the store, so remember the answer for a second.
    ///
    /// # Errors
    ///
    /// [`NotReady`] says what is wrong.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.shared.compare().await.map_err(|error| match error {
            SessionError::ClockOff { by, allowed } => NotReady::ClockOff { by, allowed },
            SessionError::Store(error) => NotReady::Store(error),
            _ => NotReady::Clock(ClockError),
        })?;
        self.shared.store.probe().await.map_err(NotReady::Store)
    }
}

impl Shared {
    /// Compares this machine's clock with the store's, and returns a time that was found to agree.
    pub(crate) async fn compare(&self) -> Result<Timestamp, SessionError> {
        let before = self.clock.now()?;
        if self.compared.never {
            return Ok(before);
        }
        let Some(store) = self.store.time().await? else { return Ok(before) };
        let by = difference(before, store, self.clock.now()?);
        let allowed = self.engine.policy().skew();
        let off_by = if by > allowed { u64::try_from(by.as_millis()).unwrap_or(u64::MAX) } else { 0 };
        self.compared.off_by.store(off_by, Ordering::SeqCst);
        if off_by > 0 { Err(SessionError::ClockOff { by, allowed }) } else { Ok(before) }
    }

    /// Whether there are two clocks to compare, as far as can be told.
    #[cfg(feature = "tokio")]
    pub(crate) async fn may_differ(&self) -> bool {
        !self.compared.never && !matches!(self.store.time().await, Ok(None))
    }

    /// Whether the clocks differed too much when they were compared last.
    pub(crate) fn is_clock_off(&self) -> bool {
        self.compared.off_by.load(Ordering::SeqCst) > 0
    }

    /// An error while the clocks are known to differ too much. Looks again before it says so: a clock that was set right serves at once.
    pub(crate) async fn agree(&self) -> Result<(), SessionError> {
        if self.is_clock_off() {
            self.compare().await?;
        }
        Ok(())
    }

    /// The present time, unless the clock is known to be off.
    pub(crate) fn now(&self) -> Result<Timestamp, SessionError> {
        let by = self.compared.off_by.load(Ordering::SeqCst);
        if by > 0 {
            let (by, allowed) = (Duration::from_millis(by), self.engine.policy().skew());
            return Err(SessionError::ClockOff { by, allowed });
        }
        Ok(self.clock.now()?)
    }
}
