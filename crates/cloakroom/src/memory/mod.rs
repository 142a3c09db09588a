//! A store in this process's memory.

mod bounds;
mod ended_all;
mod entry;
mod handles;
mod shard;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::store::{
    Admission, BySubject, Found, Inserted, Reason, RemovedAll, Replaced, Standing, Store, StoreError, Sweep,
    SweepLimits, SweepReport,
};
use cloakroom_core::token::Handle;

pub use self::bounds::MemoryBounds;
use self::bounds::Room;
use self::shard::Shard;

const SHARDS: usize = 64;

/// Keeps sessions in this process's memory.
///
/// For one process whose sessions may end with it: a restart signs everybody out. Holds the same sealed
/// records that a database would. All promises of [`Store`] hold, "gone is final" among them, for as long as
/// the process lives.
///
/// Bounded by [`MemoryBounds`]: the store is the authority, so it never drops a session to make room. When it
/// is full, [`StoreErrorKind::Full`](cloakroom_core::store::StoreErrorKind::Full) refuses new sessions with
/// 503 and the existing ones go on. Anonymous sessions have a share, so that no flood of visitors keeps
/// anybody from logging in.
///
/// All sessions of a subject carry the same tag in their handles and so lie in the same of 64 shards: every
/// operation takes one lock. Those on all sessions of one subject hold it for a time that is proportional to
/// how many there are, the others for a time that does not depend on the number of sessions.
#[derive(Debug)]
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    /// Where the next sweep begins, so that a small batch gets round to all shards.
    next_sweep: AtomicUsize,
    room: Arc<Room>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// Makes a store with [`MemoryBounds::default`].
    pub fn new() -> Self {
        Self::with_bounds(MemoryBounds::default())
    }

    /// Makes a store for up to so many live sessions, with the other bounds in proportion.
    pub fn with_capacity(sessions: usize) -> Self {
        Self::with_bounds(MemoryBounds::default().sessions(sessions))
    }

    /// Makes a store with these bounds.
    pub fn with_bounds(bounds: MemoryBounds) -> Self {
        let (room, subjects) = (Arc::new(Room::new(&bounds)), bounds.subjects_each(SHARDS));
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(Arc::clone(&room), subjects))).collect(),
            next_sweep: AtomicUsize::new(0),
            room,
        }
    }

    /// Sessions in the store, expired ones included until they are swept.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).live()).sum()
    }

    /// Whether the store holds no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, tag: u16) -> Result<MutexGuard<'_, Shard>, StoreError> {
        self.shards
            .get(usize::from(tag) % SHARDS)
            .map(lock)
            .ok_or_else(|| StoreError::unavailable("no such shard"))
    }
}

// Each critical section leaves the shard whole at every step that could panic, so a poisoned lock is a good
// one.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for MemoryStore {
    async fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        self.shard(handle.tag())?.find(handle)
    }

    fn find_at_once(&self, handle: Handle) -> Option<Result<Found, StoreError>> {
        Some(self.shard(handle.tag()).and_then(|shard| shard.find(handle)))
    }

    async fn insert(&self, record: Record, admission: Admission) -> Result<Inserted, StoreError> {
        self.shard(record.handle().tag())?.insert(&record, &admission)
    }

    async fn replace(&self, expected: Version, record: Record) -> Result<Replaced, StoreError> {
        self.shard(record.handle().tag())?.replace(expected, &record)
    }

    async fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        self.shard(handle.tag())?.remove(handle, reason, now)
    }

    async fn touch(&self, handle: Handle, seen: Timestamp) -> Result<(), StoreError> {
        self.shard(handle.tag())?.touch(handle, seen)
    }

    /// Full for logins is not ready; full for visitors is, because logins have room of their own.
    async fn probe(&self) -> Result<(), StoreError> {
        self.room.probe()
    }
}

impl BySubject for MemoryStore {
    async fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        self.shard(Handle::tag_of(subject))?.list(subject)
    }

    async fn standing(&self, subject: &Subject) -> Result<Standing, StoreError> {
        Ok(self.shard(Handle::tag_of(subject))?.standing(subject))
    }

    async fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        self.shard(Handle::tag_of(subject))?.remove_all(subject, keep, reason, now)
    }

    /// Shard by shard, so that nobody waits for all of them.
    async fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        self.shards.iter().map(|shard| lock(shard).remove_everybody(reason, now)).sum()
    }
}

impl Sweep for MemoryStore {
    async fn sweep(&self, now: Timestamp, limits: SweepLimits) -> Result<SweepReport, StoreError> {
        let mut report = SweepReport::default();
        let mut left = limits.batch.max(1);
        let first = self.next_sweep.fetch_add(1, Ordering::Relaxed);
        for offset in 0..SHARDS {
            let Some(shard) = self.shards.get(first.wrapping_add(offset) % SHARDS) else { continue };
            left -= lock(shard).sweep(now, &limits, left, &mut report)?;
            if left == 0 {
                report.more = true;
                break;
            }
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cloakroom_core::client::Client;
    use cloakroom_core::lifecycle::establish::Draft;
    use cloakroom_core::seal::Pepper;
    use cloakroom_core::store::Epoch;
    use cloakroom_testkit::SeededEntropy;

    use super::*;

    #[tokio::test]
    async fn an_answer_at_once_is_the_one_that_waiting_gives() {
        let (store, now) = (MemoryStore::new(), Timestamp::from_secs(1_000));
        let draft = Draft {
            subject: None,
            created: now,
            idle: Duration::from_secs(60),
            absolute: Duration::from_secs(600),
            client: Client::default(),
            data: vec![0],
        };
        let (record, _) = draft.seal(&Pepper::none(), &SeededEntropy::new(1)).unwrap();
        let handle = record.handle();
        let same = async || {
            let waited = store.find(handle).await.unwrap();
            assert_eq!(store.find_at_once(handle).unwrap().unwrap(), waited);
            waited
        };
        assert_eq!(same().await, Found::Absent);
        let admission = Admission { now, since: Epoch::default(), cap: None };
        store.insert(record, admission).await.unwrap();
        assert!(matches!(same().await, Found::Live(_)));
        store.remove(handle, Reason::Revoked, now).await.unwrap();
        assert!(matches!(same().await, Found::Ended(_)));
    }
}
