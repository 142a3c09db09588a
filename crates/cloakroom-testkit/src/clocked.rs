//! A store with a clock of its own.

use cloakroom_core::clock::Timestamp;
use cloakroom_core::store::StoreError;

use crate::ManualClock;
use crate::hooks::{Call, Hook, Hooked};

/// A store with a clock of its own, as a server elsewhere has one: the test moves it. The other wrappers have none, whatever the store
/// inside has.
///
/// ```
/// # use cloakroom_core::{clock::Timestamp, store::Store};
/// # async fn example(my_store: impl Store) -> Result<(), cloakroom_core::store::StoreError> {
/// use cloakroom_testkit::{Clocked, ManualClock};
///
/// let clock = ManualClock::new(Timestamp::from_secs(1_000));
/// let store = Clocked::new(my_store, clock.clone());
/// clock.set(Timestamp::from_secs(2_000));
/// assert_eq!(store.time().await?, Some(Timestamp::from_secs(2_000)));
/// # Ok(()) }
/// ```
pub type Clocked<S> = Hooked<S, OwnClock>;

/// The hook of [`Clocked`].
#[derive(Debug)]
pub struct OwnClock(ManualClock);

impl<S> Clocked<S> {
    /// Gives a store a clock.
    pub fn new(inner: S, clock: ManualClock) -> Self {
        Self::with(inner, OwnClock(clock))
    }
}

impl Hook for OwnClock {
    async fn before(&self, _: Call) -> Result<(), StoreError> {
        Ok(())
    }

    async fn after(&self, _: Call) -> Result<(), StoreError> {
        Ok(())
    }

    fn time(&self) -> Option<Timestamp> {
        Some(self.0.time())
    }
}
