//! The store as the layer holds it: every end that goes through it is announced.

use std::sync::Arc;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::store::{
    Admission, BySubject, EndListener, EndNotice, Figures, Found, Inserted, Reason, RemovedAll, Replaced,
    Standing, Store, StoreError, Sweep, SweepLimits, SweepReport,
};
use cloakroom_core::token::Handle;

use super::{Hub, SessionEnd};

/// A store that tells the hub of every end it has carried out or come across.
pub(crate) struct Announcing<S> {
    store: S,
    hub: Arc<Hub>,
}

impl<S> Announcing<S> {
    pub(crate) const fn new(store: S, hub: Arc<Hub>) -> Self {
        Self { store, hub }
    }

    fn announce(&self, handle: Handle, reason: Reason) {
        self.hub.end(handle, SessionEnd::Ended(reason));
    }

    fn announce_found(&self, handle: Handle, found: &Result<Found, StoreError>) {
        if let Ok(Found::Ended(tombstone)) = found {
            self.announce(handle, tombstone.reason());
        }
    }
}

impl<S: Store> Store for Announcing<S> {
    async fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        let found = self.store.find(handle).await;
        self.announce_found(handle, &found);
        found
    }

    fn find_at_once(&self, handle: Handle) -> Option<Result<Found, StoreError>> {
        let found = self.store.find_at_once(handle)?;
        self.announce_found(handle, &found);
        Some(found)
    }

    async fn insert(&self, record: Record, admission: Admission) -> Result<Inserted, StoreError> {
        let inserted = self.store.insert(record, admission).await?;
        if let Inserted::Inserted { evicted } = &inserted {
            for &handle in evicted {
                self.announce(handle, Reason::Evicted);
            }
        }
        Ok(inserted)
    }

    async fn replace(&self, expected: Version, record: Record) -> Result<Replaced, StoreError> {
        self.store.replace(expected, record).await
    }

    async fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        let removed = self.store.remove(handle, reason, now).await?;
        if removed.is_some() {
            self.announce(handle, reason);
        }
        Ok(removed)
    }

    async fn touch(&self, handle: Handle, seen: Timestamp) -> Result<(), StoreError> {
        self.store.touch(handle, seen).await
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.store.time().await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.store.probe().await
    }

    fn govern(&self, figures: Figures) {
        self.store.govern(figures);
    }

    fn on_end(&self, listener: EndListener) {
        self.store.on_end(listener);
    }
}

impl<S: BySubject> BySubject for Announcing<S> {
    async fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        self.store.list(subject).await
    }

    async fn standing(&self, subject: &Subject) -> Result<Standing, StoreError> {
        self.store.standing(subject).await
    }

    async fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        let removed = self.store.remove_all(subject, keep, reason, now).await?;
        for &handle in &removed.ended {
            self.announce(handle, reason);
        }
        Ok(removed)
    }

    async fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        let removed = self.store.remove_everybody(reason, now).await;
        // Whoever waits is looked up, also after a failure: some may have ended.
        self.hub.hear(EndNotice::Missed);
        removed
    }
}

impl<S: Sweep> Sweep for Announcing<S> {
    async fn sweep(&self, now: Timestamp, limits: SweepLimits) -> Result<SweepReport, StoreError> {
        let report = self.store.sweep(now, limits).await?;
        for swept in &report.swept {
            self.announce(swept.handle, swept.reason);
        }
        Ok(report)
    }
}
