//! The store as the layer holds it: any store, chosen at run time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::store::{
    Admission, BySubject, EndListener, Figures, Found, Inserted, Reason, RemovedAll, Replaced, Standing,
    StoreError, Sweep, SweepLimits, SweepReport,
};
use cloakroom_core::token::Handle;

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The object-safe twin of the three store traits.
pub(crate) trait AnyStore: Send + Sync {
    fn find(&self, handle: Handle) -> Answer<'_, Found>;
    fn find_at_once(&self, handle: Handle) -> Option<Result<Found, StoreError>>;
    fn insert(&self, record: Record, admission: Admission) -> Answer<'_, Inserted>;
    fn replace(&self, expected: Version, record: Record) -> Answer<'_, Replaced>;
    fn remove(&self, handle: Handle, reason: Reason, now: Timestamp) -> Answer<'_, Option<Record>>;
    fn touch(&self, handle: Handle, seen: Timestamp) -> Answer<'_, ()>;
    fn list<'a>(&'a self, subject: &'a Subject) -> Answer<'a, Vec<Record>>;
    fn standing<'a>(&'a self, subject: &'a Subject) -> Answer<'a, Standing>;
    fn remove_all<'a>(
        &'a self,
        subject: &'a Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Answer<'a, RemovedAll>;
    fn time(&self) -> Answer<'_, Option<Timestamp>>;
    fn probe(&self) -> Answer<'_, ()>;
    fn govern(&self, figures: Figures);
    fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Answer<'_, u64>;
    fn sweep(&self, now: Timestamp, limits: SweepLimits) -> Answer<'_, SweepReport>;
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "nobody can watch without a runtime"))]
    fn on_end(&self, listener: EndListener);
}

pub(crate) type SharedStore = Arc<dyn AnyStore>;

impl<S: BySubject + Sweep> AnyStore for S {
    fn find(&self, handle: Handle) -> Answer<'_, Found> {
        Box::pin(cloakroom_core::store::Store::find(self, handle))
    }

    fn find_at_once(&self, handle: Handle) -> Option<Result<Found, StoreError>> {
        cloakroom_core::store::Store::find_at_once(self, handle)
    }

    fn insert(&self, record: Record, admission: Admission) -> Answer<'_, Inserted> {
        Box::pin(cloakroom_core::store::Store::insert(self, record, admission))
    }

    fn replace(&self, expected: Version, record: Record) -> Answer<'_, Replaced> {
        Box::pin(cloakroom_core::store::Store::replace(self, expected, record))
    }

    fn remove(&self, handle: Handle, reason: Reason, now: Timestamp) -> Answer<'_, Option<Record>> {
        Box::pin(cloakroom_core::store::Store::remove(self, handle, reason, now))
    }

    fn touch(&self, handle: Handle, seen: Timestamp) -> Answer<'_, ()> {
        Box::pin(cloakroom_core::store::Store::touch(self, handle, seen))
    }

    fn list<'a>(&'a self, subject: &'a Subject) -> Answer<'a, Vec<Record>> {
        Box::pin(BySubject::list(self, subject))
    }

    fn standing<'a>(&'a self, subject: &'a Subject) -> Answer<'a, Standing> {
        Box::pin(BySubject::standing(self, subject))
    }

    fn remove_all<'a>(
        &'a self,
        subject: &'a Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Answer<'a, RemovedAll> {
        Box::pin(BySubject::remove_all(self, subject, keep, reason, now))
    }

    fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Answer<'_, u64> {
        Box::pin(BySubject::remove_everybody(self, reason, now))
    }

    fn sweep(&self, now: Timestamp, limits: SweepLimits) -> Answer<'_, SweepReport> {
        Box::pin(Sweep::sweep(self, now, limits))
    }

    fn time(&self) -> Answer<'_, Option<Timestamp>> {
        Box::pin(cloakroom_core::store::Store::time(self))
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(cloakroom_core::store::Store::probe(self))
    }

    fn govern(&self, figures: Figures) {
        cloakroom_core::store::Store::govern(self, figures);
    }

    fn on_end(&self, listener: EndListener) {
        cloakroom_core::store::Store::on_end(self, listener);
    }
}
