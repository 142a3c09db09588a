//! A store in memory that yields before every call, and tells the oracle what has come of it.

use std::sync::{Arc, Mutex};

use cloakroom::MemoryStore;
use cloakroom::core::clock::Timestamp;
use cloakroom::core::record::{Record, Subject, Version};
use cloakroom::core::store::{
    Admission, BySubject, Found, Inserted, Reason, RemovedAll, Replaced, Standing, Store, StoreError, Sweep,
    SweepLimits, SweepReport,
};
use cloakroom::core::token::Handle;
use cloakroom_testkit::block_on;

use crate::oracle::Oracle;

#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) inner: Arc<MemoryStore>,
    pub(crate) oracle: Arc<Mutex<Oracle>>,
}

impl Watched {
    fn tell(&self, what: impl FnOnce(&mut Oracle)) {
        what(&mut self.oracle.lock().unwrap());
    }
}

async fn others_first() {
    let mut yielded = false;
    std::future::poll_fn(|_| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        std::task::Poll::Pending
    })
    .await;
}

impl Store for Watched {
    async fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        others_first().await;
        let found = self.inner.find(handle).await?;
        self.tell(|oracle| oracle.found(handle, &found));
        Ok(found)
    }

    async fn insert(&self, record: Record, admission: Admission) -> Result<Inserted, StoreError> {
        others_first().await;
        let inserted = self.inner.insert(record.clone(), admission).await?;
        if let Inserted::Inserted { evicted } = &inserted {
            self.tell(|oracle| {
                oracle.inserted(&record);
                evicted.iter().for_each(|handle| oracle.ended(*handle, Reason::Evicted, admission.now));
            });
        }
        Ok(inserted)
    }

    async fn replace(&self, expected: Version, record: Record) -> Result<Replaced, StoreError> {
        others_first().await;
        let before = block_on(self.inner.find(record.handle()))?;
        let replaced = self.inner.replace(expected, record.clone()).await?;
        if replaced == Replaced::Replaced {
            self.tell(|oracle| oracle.replaced(&before, &record));
        }
        Ok(replaced)
    }

    async fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        others_first().await;
        let removed = self.inner.remove(handle, reason, now).await?;
        if removed.is_some() {
            self.tell(|oracle| oracle.ended(handle, reason, now));
        }
        Ok(removed)
    }

    async fn touch(&self, handle: Handle, seen: Timestamp) -> Result<(), StoreError> {
        others_first().await;
        self.inner.touch(handle, seen).await
    }
}

impl BySubject for Watched {
    async fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        others_first().await;
        self.inner.list(subject).await
    }

    async fn standing(&self, subject: &Subject) -> Result<Standing, StoreError> {
        others_first().await;
        self.inner.standing(subject).await
    }

    async fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        others_first().await;
        let removed = self.inner.remove_all(subject, keep, reason, now).await?;
        self.tell(|oracle| removed.ended.iter().for_each(|handle| oracle.ended(*handle, reason, now)));
        Ok(removed)
    }

    async fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        others_first().await;
        self.inner.remove_everybody(reason, now).await
    }
}

impl Sweep for Watched {
    async fn sweep(&self, now: Timestamp, limits: SweepLimits) -> Result<SweepReport, StoreError> {
        others_first().await;
        let report = self.inner.sweep(now, limits).await?;
        self.tell(|oracle| {
            report.swept.iter().for_each(|swept| oracle.ended(swept.handle, swept.reason, swept.at));
        });
        Ok(report)
    }
}
