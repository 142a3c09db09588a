//! One shard: its sessions, its subjects, and what is to be looked at when.

use std::cmp::Reverse;
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version, stored_deadline};
use cloakroom_core::store::{
    Admission, Found, Inserted, Reason, RemovedAll, Replaced, Standing, StoreError, SweepLimits, SweepReport,
    Swept, Tombstone,
};
use cloakroom_core::token::Handle;

use crate::system::steady;

use super::bounds::{Kind, Room};
use super::ended_all::EndedAll;
use super::entry::{Body, ByHandle, Entry, bury};
use super::handles::BySubject;

#[derive(Debug)]
pub(super) struct Shard {
    entries: HashMap<Handle, Entry, BuildHasherDefault<ByHandle>>,
    subjects: BySubject,
    ended_all: EndedAll,
    /// When each live session is to be looked at again. A touch leaves it alone; the sweep looks, and puts
    /// the session back if it has time left. Sessions that have ended meanwhile are passed over, and cleared
    /// away when they are the greater part.
    due: BinaryHeap<Reverse<(Timestamp, Handle)>>,
    /// The tombstones, by the time of the end.
    ended: BinaryHeap<Reverse<(Timestamp, Handle)>>,
    live: usize,
    room: Arc<Room>,
}

impl Shard {
    /// Makes a shard that remembers of so many subjects when all their sessions were ended.
    pub(super) fn new(room: Arc<Room>, subjects: usize) -> Self {
        Self {
            entries: HashMap::default(),
            subjects: BySubject::default(),
            ended_all: EndedAll::new(subjects),
            due: BinaryHeap::new(),
            ended: BinaryHeap::new(),
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
                if !admission.admits(self.ended_all.epoch(subject)) {
                    return Ok(Inserted::Superseded);
                }
                let mut live = self.live_of(subject, admission)?;
                let Some(evicted) = admission.make_room(&mut live) else {
                    return Ok(Inserted::CapReached);
                };
                evicted
            }
        };
        if evicted.is_empty() {
            self.room.take(kind_of(record), body.len())?;
        } else {
            // Only logins evict.
            self.room.take_over(body.len());
        }
        for &victim in &evicted {
            self.remove(victim, Reason::Evicted, admission.now)?;
        }
        if let Some(subject) = record.subject() {
            self.subjects.add(subject, handle);
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
        let new = Body::of(record, expected.next(), seen.max(record.seen()))?;
        self.room.resize(kind_of(record), body.len(), new.len())?;
        *body = new;
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
        let Some((record, len)) = bury(entry, reason, now)? else { return Ok(None) };
        self.room.give_back(kind_of(&record), len);
        self.live -= 1;
        if let Some(subject) = record.subject() {
            self.subjects.remove(subject, handle);
        }
        self.ended.push(Reverse((now, handle)));
        if !self.room.take_tombstone() {
            self.drop_oldest_tombstone();
        }
        if self.due.len() > 2 * self.live + 64 {
            let Self { due, entries, .. } = self;
            due.retain(|Reverse((_, handle))| matches!(entries.get(handle), Some(Entry::Live(_))));
        }
        Ok(Some(record))
    }

    fn drop_oldest_tombstone(&mut self) {
        if let Some(Reverse((_, handle))) = self.ended.pop() {
            self.entries.remove(&handle);
        }
    }

    pub(super) fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        for handle in self.subjects.of(subject) {
            if let Found::Live(record) = self.find(handle)?
                && record.subject() == Some(subject)
            {
                records.push(record);
            }
        }
        Ok(records)
    }

    pub(super) fn standing(&self, subject: &Subject) -> Standing {
        self.ended_all.standing(subject, steady())
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
        let epoch = self.ended_all.note(subject, now, steady());
        for &handle in &gone {
            self.remove(handle, reason, now)?;
        }
        Ok(RemovedAll { ended: gone, epoch })
    }

    /// Ends every session; returns how many there were.
    pub(super) fn remove_everybody(&mut self, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        self.ended_all.note_everybody(now, steady());
        let live = |(handle, entry): (&Handle, &Entry)| matches!(entry, Entry::Live(_)).then_some(*handle);
        let mut ended = 0;
        for handle in self.entries.iter().filter_map(live).collect::<Vec<_>>() {
            ended += u64::from(self.remove(handle, reason, now)?.is_some());
        }
        Ok(ended)
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
            if let Some(again) = self.look_at(handle, now, report)? {
                self.due.push(Reverse((again, handle)));
            }
        }
        let over = |at: Timestamp| at.plus(limits.tombstone_ttl) <= now;
        while looked_at < batch && self.ended.peek().is_some_and(|Reverse((at, _))| over(*at)) {
            looked_at += 1;
            self.drop_oldest_tombstone();
            self.room.give_back_tombstone();
        }
        Ok(looked_at + self.ended_all.sweep(now, limits.epoch_ttl, batch - looked_at))
    }

    /// Ends a session whose time is up; otherwise says when to look again.
    fn look_at(
        &mut self,
        handle: Handle,
        now: Timestamp,
        report: &mut SweepReport,
    ) -> Result<Option<Timestamp>, StoreError> {
        let Some(Entry::Live(body)) = self.entries.get(&handle) else { return Ok(None) };
        let (_, seen, record) = body.parts()?;
        let (deadline, reason) = stored_deadline(seen, record)?;
        if deadline > now {
            return Ok(Some(deadline));
        }
        if let Some(record) = self.remove(handle, reason, deadline)? {
            let subject = record.subject().cloned();
            report.swept.push(Swept { handle, subject, reason, at: deadline });
        }
        Ok(None)
    }
}

const fn kind_of(record: &Record) -> Kind {
    if record.subject().is_some() { Kind::LoggedIn } else { Kind::Anonymous }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cloakroom_core::client::Client;
    use cloakroom_core::lifecycle::establish::Draft;
    use cloakroom_core::record::Proof;
    use cloakroom_core::seal::Pepper;
    use cloakroom_core::store::Epoch;
    use cloakroom_testkit::SeededEntropy;

    use super::*;
    use crate::MemoryBounds;

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
        let mut shard = Shard::new(Arc::new(Room::new(&MemoryBounds::default().sessions(10))), 10);
        let records = [of("alice", &entropy), of("bob", &entropy)];
        for record in &records {
            shard.insert(record, &Admission { now: NOW, since: Epoch::default(), cap: None }).unwrap();
        }
        for (name, other) in records.iter().zip(records.iter().rev()) {
            shard.subjects.add(name.subject().unwrap(), other.handle());
        }
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
        assert_eq!(shard.standing(&Subject::new("alice").unwrap()), Standing::default());
    }

    #[test]
    fn what_is_to_be_looked_at_stays_in_proportion_to_what_lives() {
        let (entropy, mut shard) =
            (SeededEntropy::new(4), Shard::new(Arc::new(Room::new(&MemoryBounds::default())), 10));
        let login = Admission { now: NOW, since: Epoch::default(), cap: None };
        let kept = of("alice", &entropy);
        shard.insert(&kept, &login).unwrap();
        for _ in 0..10_000 {
            let record = of("bob", &entropy);
            shard.insert(&record, &login).unwrap();
            shard.remove(record.handle(), Reason::LoggedOut, NOW).unwrap();
            assert!(shard.due.len() <= 2 * 2 + 64);
        }
        let limits =
            SweepLimits { batch: 1, tombstone_ttl: Duration::from_secs(10), epoch_ttl: Duration::ZERO };
        let mut report = SweepReport::default();
        shard.sweep(NOW.plus(Duration::from_secs(10)), &limits, usize::MAX, &mut report).unwrap();
        assert_eq!((shard.entries.len(), shard.ended.len(), report.swept.len()), (1, 0, 0));
        shard.sweep(kept.deadline().0, &limits, usize::MAX, &mut report).unwrap();
        assert_eq!((shard.live(), report.swept.len()), (0, 1), "the one that lived on was still looked at");
    }
}
