//! One shard: its sessions, its subjects, and one queue of what is to be looked at when.

use std::cmp::Reverse;
use std::collections::hash_map::{Entry as MapEntry, OccupiedEntry};
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::store::{
    Admission, Epoch, Found, Inserted, Reason, RemovedAll, Replaced, StoreError, SweepLimits, SweepReport,
    Swept, Tombstone,
};
use cloakroom_core::token::Handle;

#[derive(Debug)]
enum Entry {
    Live { version: Version, seen: Timestamp, body: Box<[u8]> },
    Ended(Tombstone),
}

#[derive(Debug, Default)]
struct OfSubject {
    /// The last "end all sessions" and its time.
    last: Option<(Epoch, Timestamp)>,
    handles: Vec<Handle>,
}

#[derive(Debug)]
pub(super) struct Shard {
    entries: HashMap<Handle, Entry>,
    subjects: HashMap<Subject, OfSubject>,
    /// When each entry is to be looked at again: exactly one element an entry. A touch leaves it alone; the sweep
    /// looks, and puts the entry back if it has time left.
    due: BinaryHeap<Reverse<(Timestamp, Handle)>>,
    /// Subjects with an epoch, in the order of their times.
    epochs: VecDeque<(Timestamp, Subject)>,
    live: usize,
    room: Arc<Room>,
}

/// How many entries all shards together may hold, and do.
#[derive(Debug)]
pub(super) struct Room {
    max: usize,
    taken: AtomicUsize,
}

impl Room {
    pub(super) const fn new(max: usize) -> Self {
        Self { max, taken: AtomicUsize::new(0) }
    }

    fn take(&self) -> Result<(), StoreError> {
        let more = |taken| (taken < self.max).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(drop).map_err(|_| StoreError::full())
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shard {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self {
            entries: HashMap::new(),
            subjects: HashMap::new(),
            due: BinaryHeap::new(),
            epochs: VecDeque::new(),
            live: 0,
            room,
        }
    }

    pub(super) const fn live(&self) -> usize {
        self.live
    }

    pub(super) fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        Ok(match self.entries.get(&handle) {
            Some(Entry::Live { version, seen, body }) => {
                Found::Live(Record::decode(handle, *version, *seen, body)?)
            }
            Some(Entry::Ended(tombstone)) => Found::Ended(tombstone.clone()),
            None => Found::Absent,
        })
    }

    pub(super) fn insert(&mut self, record: &Record, admission: &Admission) -> Result<Inserted, StoreError> {
        let handle = record.handle();
        let body = record.encode()?.into_boxed_slice();
        if self.entries.contains_key(&handle) {
            return Ok(Inserted::HandleTaken);
        }
        let evicted = match record.subject() {
            None => Vec::new(),
            Some(subject) => {
                let of_subject = self.subjects.get(subject);
                if !admission.admits(of_subject.and_then(|of_subject| of_subject.last)) {
                    return Ok(Inserted::Superseded);
                }
                let mut live = self.live_of(subject, admission)?;
                let Some(evicted) = admission.make_room(&mut live) else {
                    return Ok(Inserted::CapReached);
                };
                evicted
            }
        };
        self.room.take()?;
        for &victim in &evicted {
            self.remove(victim, Reason::Evicted, admission.now)?;
        }
        if let Some(subject) = record.subject() {
            self.subjects.entry(subject.clone()).or_default().handles.push(handle);
        }
        self.entries.insert(handle, Entry::Live { version: record.version(), seen: record.seen(), body });
        self.due.push(Reverse((record.deadline().0, handle)));
        self.live += 1;
        Ok(Inserted::Inserted { evicted })
    }

    /// A subject's sessions that have not expired: handle, creation, last activity.
    fn live_of(
        &self,
        subject: &Subject,
        admission: &Admission,
    ) -> Result<Vec<(Handle, Timestamp, Timestamp)>, StoreError> {
        if admission.cap.is_none() {
            return Ok(Vec::new());
        }
        let records = self.list(subject)?;
        let live = records.iter().filter(|record| record.deadline().0 > admission.now);
        Ok(live.map(|record| (record.handle(), record.created(), record.seen())).collect())
    }

    pub(super) fn replace(&mut self, expected: Version, record: &Record) -> Result<Replaced, StoreError> {
        match self.entries.get_mut(&record.handle()) {
            Some(Entry::Live { version, .. }) if *version != expected => Ok(Replaced::Stale),
            Some(Entry::Live { version, seen, body }) => {
                *body = record.encode()?.into_boxed_slice();
                *version = expected.next();
                *seen = (*seen).max(record.seen());
                Ok(Replaced::Replaced)
            }
            Some(Entry::Ended(_)) | None => Ok(Replaced::Gone),
        }
    }

    pub(super) fn touch(&mut self, handle: Handle, at: Timestamp) {
        if let Some(Entry::Live { seen, .. }) = self.entries.get_mut(&handle) {
            *seen = (*seen).max(at);
        }
    }

    pub(super) fn remove(
        &mut self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        let MapEntry::Occupied(entry) = self.entries.entry(handle) else { return Ok(None) };
        let Some(record) = bury(entry, reason, now)? else { return Ok(None) };
        self.live -= 1;
        if let Some(subject) = record.subject() {
            self.forget_handle(subject, handle);
        }
        Ok(Some(record))
    }

    fn forget_handle(&mut self, subject: &Subject, handle: Handle) {
        let Some(of_subject) = self.subjects.get_mut(subject) else { return };
        of_subject.handles.retain(|other| *other != handle);
        if of_subject.handles.is_empty() && of_subject.last.is_none() {
            self.subjects.remove(subject);
        }
    }

    pub(super) fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        let handles = self.subjects.get(subject).map_or(&[][..], |of_subject| &of_subject.handles);
        let mut records = Vec::with_capacity(handles.len());
        for &handle in handles {
            if let Found::Live(record) = self.find(handle)? {
                records.push(record);
            }
        }
        Ok(records)
    }

    pub(super) fn epoch(&self, subject: &Subject) -> Epoch {
        let last = self.subjects.get(subject).and_then(|of_subject| of_subject.last);
        last.map_or(Epoch::default(), |(epoch, _)| epoch)
    }

    pub(super) fn remove_all(
        &mut self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        let of_subject = self.subjects.entry(subject.clone()).or_default();
        let (gone, kept) = std::mem::take(&mut of_subject.handles)
            .into_iter()
            .partition::<Vec<_>, _>(|handle| Some(*handle) != keep);
        of_subject.handles = kept;
        let at = of_subject.last.map_or(now, |(_, at)| at.max(now));
        let epoch = of_subject.last.map_or(Epoch::default(), |(epoch, _)| epoch).next(now);
        of_subject.last = Some((epoch, at));
        self.epochs.push_back((at, subject.clone()));
        for &handle in &gone {
            self.remove(handle, reason, now)?;
        }
        Ok(RemovedAll { ended: gone, epoch })
    }

    /// Looks at up to `batch` entries that are due; returns how many.
    pub(super) fn sweep(
        &mut self,
        now: Timestamp,
        limits: &SweepLimits,
        batch: usize,
        report: &mut SweepReport,
    ) -> Result<usize, StoreError> {
        let mut looked_at = 0;
        while looked_at < batch && self.due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, handle))) = self.due.pop() else { break };
            looked_at += 1;
            if let Some(again) = self.look_at(handle, now, limits, report)? {
                self.due.push(Reverse((again, handle)));
            }
        }
        while looked_at < batch && self.epochs.front().is_some_and(|(at, _)| at.plus(limits.epoch_ttl) <= now)
        {
            let Some((at, subject)) = self.epochs.pop_front() else { break };
            looked_at += 1;
            if let MapEntry::Occupied(mut entry) = self.subjects.entry(subject) {
                let of_subject = entry.get_mut();
                of_subject.last.take_if(|(_, last)| *last == at);
                if of_subject.handles.is_empty() && of_subject.last.is_none() {
                    entry.remove();
                }
            }
        }
        Ok(looked_at)
    }

    /// Ends or forgets an entry whose time is up; otherwise says when to look again.
    fn look_at(
        &mut self,
        handle: Handle,
        now: Timestamp,
        limits: &SweepLimits,
        report: &mut SweepReport,
    ) -> Result<Option<Timestamp>, StoreError> {
        let MapEntry::Occupied(entry) = self.entries.entry(handle) else { return Ok(None) };
        match entry.get() {
            Entry::Ended(tombstone) => {
                let forget_at = tombstone.at().plus(limits.tombstone_ttl);
                if forget_at > now {
                    return Ok(Some(forget_at));
                }
                entry.remove();
                self.room.give_back();
                Ok(None)
            }
            Entry::Live { version, seen, body } => {
                let (deadline, reason) = Record::decode(handle, *version, *seen, body)?.deadline();
                if deadline > now {
                    return Ok(Some(deadline));
                }
                if let Some(record) = self.remove(handle, reason, deadline)? {
                    let subject = record.subject().cloned();
                    report.swept.push(Swept { handle, subject, reason, at: deadline });
                }
                Ok(Some(deadline.plus(limits.tombstone_ttl)))
            }
        }
    }
}

/// Turns a live entry into a tombstone; `None` if it is one already.
fn bury(
    mut entry: OccupiedEntry<'_, Handle, Entry>,
    reason: Reason,
    now: Timestamp,
) -> Result<Option<Record>, StoreError> {
    let Entry::Live { version, seen, body } = entry.get() else { return Ok(None) };
    let record = Record::decode(*entry.key(), *version, *seen, body)?;
    entry.insert(Entry::Ended(Tombstone::of(&record, reason, now)));
    Ok(Some(record))
}
