//! One shard: its sessions, its subjects, and one queue of what is to be looked at when.

use std::cmp::Reverse;
use std::collections::hash_map::{Entry as MapEntry, OccupiedEntry};
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, RecordError, Subject, Version, stored_deadline};
use cloakroom_core::store::{
    Admission, Epoch, Found, Inserted, Reason, RemovedAll, Replaced, StoreError, SweepLimits, SweepReport,
    Swept, Tombstone,
};
use cloakroom_core::token::Handle;

/// No larger than a slice, because the table has room for more entries than there are.
#[derive(Debug)]
enum Entry {
    Live(Body),
    Ended(Box<Tombstone>),
}

/// A live session in one allocation: its version and last activity, eight bytes each, then the encoded record.
#[derive(Debug)]
struct Body(Box<[u8]>);

const HEAD: usize = 16;

impl Body {
    fn of(record: &Record, version: Version, seen: Timestamp) -> Result<Self, RecordError> {
        let (version, seen) = (version.number().to_ne_bytes(), seen.as_millis().to_ne_bytes());
        let mut head = [0; HEAD];
        head.iter_mut().zip(version.into_iter().chain(seen)).for_each(|(to, from)| *to = from);
        // Exact, so that the box is the vector.
        Ok(Self(record.encode_after(&head)?.into_boxed_slice()))
    }

    fn parts(&self) -> Result<(Version, Timestamp, &[u8]), RecordError> {
        let parts = self.0.split_first_chunk::<8>().and_then(|(version, rest)| {
            let (seen, record) = rest.split_first_chunk::<8>()?;
            let version = Version::from_number(u64::from_ne_bytes(*version));
            Some((version, Timestamp::from_millis(u64::from_ne_bytes(*seen)), record))
        });
        parts.ok_or(RecordError::Broken)
    }

    fn record(&self, handle: Handle) -> Result<Record, RecordError> {
        let (version, seen, record) = self.parts()?;
        Record::decode(handle, version, seen, record)
    }

    fn note_seen(&mut self, at: Timestamp) -> Result<(), RecordError> {
        let (_, seen, _) = self.parts()?;
        if at > seen
            && let Some(stored) = self.0.get_mut(8..HEAD)
        {
            stored.copy_from_slice(&at.as_millis().to_ne_bytes());
        }
        Ok(())
    }
}

/// The sessions of a subject: mostly one, which takes no allocation.
#[derive(Debug)]
enum Handles {
    One(Handle),
    Many(Vec<Handle>),
}

impl Handles {
    fn as_slice(&self) -> &[Handle] {
        match self {
            Self::One(handle) => std::slice::from_ref(handle),
            Self::Many(handles) => handles,
        }
    }

    fn push(&mut self, handle: Handle) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, handle]),
            Self::Many(handles) => handles.push(handle),
        }
    }

    /// Removes a handle; whether none is left.
    fn remove(&mut self, handle: Handle) -> bool {
        match self {
            Self::One(only) => *only == handle,
            Self::Many(handles) => {
                handles.retain(|other| *other != handle);
                handles.is_empty()
            }
        }
    }
}

/// Hashes a handle by taking its last eight bytes. All handles in the table were drawn here, and those bytes are random in each; a client can
/// only choose what is looked up, and adds nothing.
#[derive(Clone, Copy, Debug, Default)]
struct ByHandle(u64);

impl Hasher for ByHandle {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_ne_bytes(*last);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
pub(super) struct Shard {
    entries: HashMap<Handle, Entry, BuildHasherDefault<ByHandle>>,
    /// The live sessions of subjects, by a keyed hash of the subject. Two subjects may share a hash: the records say whose each is.
    subjects: HashMap<u64, Handles>,
    /// The last "end all sessions" of a subject and its time.
    ended_all: HashMap<Subject, (Epoch, Timestamp)>,
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
            entries: HashMap::default(),
            subjects: HashMap::new(),
            ended_all: HashMap::new(),
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
            Some(Entry::Live(body)) => Found::Live(body.record(handle)?),
            Some(Entry::Ended(tombstone)) => Found::Ended(Tombstone::clone(tombstone)),
            None => Found::Absent,
        })
    }

    pub(super) fn insert(&mut self, record: &Record, admission: &Admission) -> Result<Inserted, StoreError> {
        let handle = record.handle();
        let body = Body::of(record, record.version(), record.seen())?;
        if self.entries.contains_key(&handle) {
            return Ok(Inserted::HandleTaken);
        }
        let evicted = match record.subject() {
            None => Vec::new(),
            Some(subject) => {
                if !admission.admits(self.ended_all.get(subject).copied()) {
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
            match self.subjects.entry(self.subjects.hasher().hash_one(subject)) {
                MapEntry::Occupied(mut handles) => handles.get_mut().push(handle),
                MapEntry::Vacant(vacant) => {
                    vacant.insert(Handles::One(handle));
                }
            }
        }
        self.entries.insert(handle, Entry::Live(body));
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
        let Some(Entry::Live(body)) = self.entries.get_mut(&record.handle()) else {
            return Ok(Replaced::Gone);
        };
        let (version, seen, _) = body.parts()?;
        if version != expected {
            return Ok(Replaced::Stale);
        }
        *body = Body::of(record, expected.next(), seen.max(record.seen()))?;
        Ok(Replaced::Replaced)
    }

    pub(super) fn touch(&mut self, handle: Handle, at: Timestamp) -> Result<(), StoreError> {
        match self.entries.get_mut(&handle) {
            Some(Entry::Live(body)) => Ok(body.note_seen(at)?),
            Some(Entry::Ended(_)) | None => Ok(()),
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
        let hash = self.subjects.hasher().hash_one(subject);
        if let MapEntry::Occupied(mut handles) = self.subjects.entry(hash)
            && handles.get_mut().remove(handle)
        {
            handles.remove();
        }
    }

    pub(super) fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        let handles = self.subjects.get(&self.subjects.hasher().hash_one(subject));
        let handles = handles.map_or(&[][..], Handles::as_slice);
        let mut records = Vec::with_capacity(handles.len());
        for &handle in handles {
            if let Found::Live(record) = self.find(handle)?
                && record.subject() == Some(subject)
            {
                records.push(record);
            }
        }
        Ok(records)
    }

    pub(super) fn epoch(&self, subject: &Subject) -> Epoch {
        self.ended_all.get(subject).map_or(Epoch::default(), |(epoch, _)| *epoch)
    }

    pub(super) fn remove_all(
        &mut self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        let records = self.list(subject)?;
        let gone =
            records.iter().map(Record::handle).filter(|handle| Some(*handle) != keep).collect::<Vec<_>>();
        let last = self.ended_all.get(subject).copied();
        let at = last.map_or(now, |(_, at)| at.max(now));
        let epoch = last.map_or(Epoch::default(), |(epoch, _)| epoch).next(now);
        self.ended_all.insert(subject.clone(), (epoch, at));
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
            if let MapEntry::Occupied(entry) = self.ended_all.entry(subject)
                && entry.get().1 == at
            {
                entry.remove();
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
            Entry::Live(body) => {
                let (_, seen, record) = body.parts()?;
                let (deadline, reason) = stored_deadline(seen, record)?;
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
    let Entry::Live(body) = entry.get() else { return Ok(None) };
    let record = body.record(*entry.key())?;
    entry.insert(Entry::Ended(Box::new(Tombstone::of(&record, reason, now))));
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cloakroom_core::client::Client;
    use cloakroom_core::lifecycle::establish::Draft;
    use cloakroom_core::record::Proof;
    use cloakroom_core::seal::Pepper;
    use cloakroom_core::store::Since;
    use cloakroom_testkit::SeededEntropy;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn of(user: &str, entropy: &SeededEntropy) -> Record {
        let draft = Draft {
            subject: Some((Subject::new(user).unwrap(), Proof::default())),
            created: NOW,
            idle: Duration::from_secs(60),
            absolute: Duration::from_secs(600),
            client: Client::default(),
            data: vec![0],
        };
        draft.seal(&Pepper::none(), entropy).unwrap().0
    }

    /// A shard in which bob's sessions are listed beside alice's, as if both names had the same hash.
    fn colliding() -> (Shard, [Record; 2]) {
        let entropy = SeededEntropy::new(1);
        let mut shard = Shard::new(Arc::new(Room::new(10)));
        let records = [of("alice", &entropy), of("bob", &entropy)];
        let handles = Handles::Many(records.iter().map(Record::handle).collect());
        for record in &records {
            shard.insert(record, &Admission { now: NOW, since: Since::Arrival(NOW), cap: None }).unwrap();
        }
        let hash = |name| shard.subjects.hasher().hash_one(Subject::new(name).unwrap());
        let (alice, bob) = (hash("alice"), hash("bob"));
        shard.subjects.insert(alice, Handles::Many(handles.as_slice().to_vec()));
        shard.subjects.insert(bob, handles);
        (shard, records)
    }

    #[test]
    fn subjects_that_share_a_hash_do_not_share_sessions() {
        let (mut shard, [alice, bob]) = colliding();
        let name = Subject::new("bob").unwrap();
        assert_eq!(shard.list(&name).unwrap(), std::slice::from_ref(&bob));
        let removed = shard.remove_all(&name, None, Reason::RevokedAll, NOW).unwrap();
        assert_eq!(removed.ended, [bob.handle()]);
        assert!(matches!(shard.find(alice.handle()).unwrap(), Found::Live(_)), "alice's lives on");
        assert_eq!(shard.epoch(&Subject::new("alice").unwrap()), Epoch::default());
    }

    #[test]
    fn a_session_takes_one_allocation_besides_its_place_in_the_tables() {
        assert_eq!(size_of::<Entry>(), 16);
        assert_eq!(size_of::<Handles>(), 24);
        let record = of("alice", &SeededEntropy::new(2));
        let encoded = record.encode().unwrap();
        assert_eq!(encoded.capacity(), encoded.len(), "no room to spare");
        assert_eq!(Body::of(&record, record.version(), NOW).unwrap().0.len(), encoded.len() + HEAD);
    }

    #[test]
    fn activity_that_is_older_than_what_is_noted_changes_nothing() {
        let record = of("alice", &SeededEntropy::new(3));
        let mut body = Body::of(&record, record.version(), NOW).unwrap();
        for (noted, kept) in [(900, 1_000), (1_100, 1_100), (1_050, 1_100)] {
            body.note_seen(Timestamp::from_secs(noted)).unwrap();
            let record = body.record(record.handle()).unwrap();
            assert_eq!((record.seen(), record.version()), (Timestamp::from_secs(kept), Version::FIRST));
        }
    }
}
