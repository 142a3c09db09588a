//! A store that breaks the contract on purpose.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::store::{
    Admission, BySubject, Found, Inserted, Reason, RemovedAll, Replaced, Standing, Store, StoreError, Sweep,
    SweepLimits, SweepReport,
};
use cloakroom_core::token::Handle;

/// What is broken. All but the last two every tenth time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `find` answers what it answered before.
    StaleRead,
    /// `replace` writes over any version.
    LostUpdate,
    /// `replace` says that it wrote, and did not.
    LostWrite,
    /// `remove` says that it ended the session, and did not.
    LostRemoval,
    /// `touch` notes another time.
    WrongTouch,
    /// `list` leaves one out.
    ShortList,
    /// `insert` does not look at the cap.
    NoCap,
    /// `insert` does not look at the epoch.
    NoEpoch,
}

impl Fault {
    pub(crate) const ALL: [Self; 8] = [
        Self::StaleRead,
        Self::LostUpdate,
        Self::LostWrite,
        Self::LostRemoval,
        Self::WrongTouch,
        Self::ShortList,
        Self::NoCap,
        Self::NoEpoch,
    ];
}

pub(crate) struct Broken<S> {
    inner: S,
    fault: Fault,
    calls: AtomicU64,
    before: Mutex<HashMap<Handle, Found>>,
}

impl<S> Broken<S> {
    pub(crate) fn new(inner: S, fault: Fault) -> Self {
        Self { inner, fault, calls: AtomicU64::new(0), before: Mutex::default() }
    }

    fn now(&self, fault: Fault) -> bool {
        self.fault == fault && self.calls.fetch_add(1, Ordering::SeqCst) % 10 == 9
    }
}

impl<S: BySubject> Store for Broken<S> {
    async fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        let found = self.inner.find(handle).await?;
        let before = self.before.lock().unwrap().insert(handle, found.clone());
        Ok(before.filter(|_| self.now(Fault::StaleRead)).unwrap_or(found))
    }

    async fn insert(&self, record: Record, mut admission: Admission) -> Result<Inserted, StoreError> {
        match self.fault {
            Fault::NoCap => admission.cap = None,
            Fault::NoEpoch => {
                if let Some(subject) = record.subject() {
                    admission.since = self.inner.epoch(subject).await?;
                }
            }
            _ => {}
        }
        self.inner.insert(record, admission).await
    }

    async fn replace(&self, expected: Version, record: Record) -> Result<Replaced, StoreError> {
        let found = self.inner.find(record.handle()).await?;
        match found {
            Found::Live(stored) if self.now(Fault::LostUpdate) => {
                self.inner.replace(stored.version(), record).await
            }
            Found::Live(stored) if stored.version() == expected && self.now(Fault::LostWrite) => {
                Ok(Replaced::Replaced)
            }
            _ => self.inner.replace(expected, record).await,
        }
    }

    async fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        match self.inner.find(handle).await? {
            Found::Live(record) if self.now(Fault::LostRemoval) => Ok(Some(record)),
            _ => self.inner.remove(handle, reason, now).await,
        }
    }

    async fn touch(&self, handle: Handle, seen: Timestamp) -> Result<(), StoreError> {
        let seen =
            if self.now(Fault::WrongTouch) { seen.plus(std::time::Duration::from_millis(1)) } else { seen };
        self.inner.touch(handle, seen).await
    }
}

impl<S: BySubject> BySubject for Broken<S> {
    async fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        let mut list = self.inner.list(subject).await?;
        if self.now(Fault::ShortList) {
            list.pop();
        }
        Ok(list)
    }

    async fn standing(&self, subject: &Subject) -> Result<Standing, StoreError> {
        self.inner.standing(subject).await
    }

    async fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        self.inner.remove_all(subject, keep, reason, now).await
    }

    async fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        self.inner.remove_everybody(reason, now).await
    }
}

impl<S: BySubject + Sweep> Sweep for Broken<S> {
    async fn sweep(&self, now: Timestamp, limits: SweepLimits) -> Result<SweepReport, StoreError> {
        self.inner.sweep(now, limits).await
    }
}
