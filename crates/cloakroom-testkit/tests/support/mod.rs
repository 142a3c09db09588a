//! A store that is simple enough to be right by inspection, and the mistakes that a store can make.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::collections::BTreeMap;
use std::sync::{Barrier, Mutex, MutexGuard};
use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::store::{
    Admission, AtCap, BySubject, Cap, Epoch, Found, Inserted, Reason, RemovedAll, Replaced, Standing, Store,
    StoreError, Sweep, SweepLimits, SweepReport, Swept, Tombstone,
};
use cloakroom_core::token::Handle;

/// One mistake each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    InsertReplaces,
    InsertReusesEndedHandles,
    InsertEvictsBeforeItKnows,
    InsertTakesTooLarge,
    HandlesAreCutShort,
    ReplaceIgnoresTheVersion,
    ReplaceRevives,
    ReplaceCreates,
    ReplaceStoresTheGivenVersion,
    ReplaceMovesActivityBack,
    ReplaceTakesTooLarge,
    ReplaceChecksAndWritesApart,
    TouchMovesActivityBack,
    TouchCountsAsVersion,
    RemoveLeavesNoTombstone,
    RemoveBuriesTwice,
    RemoveAnswersWithNothing,
    EpochIsIgnored,
    EndedAgoByTheCallersClock,
    EndedAgoOfTheFirst,
    EndedAgoOfEverybodyIsNotTold,
    EverybodyHasNoEpoch,
    EverybodyIsForgottenInAnswers,
    EverybodyIsRaisedApart,
    EverybodyButVisitors,
    EverybodyIsAThousand,
    EverybodyLeavesNoTombstones,
    EpochKeepsAnonymousOut,
    EpochNeedsSessions,
    EpochComesBack,
    EpochIsRaisedApart,
    CapIsIgnored,
    CapCountsExpired,
    CapIgnoresTouches,
    DenyDeniesAlways,
    DenyEvictsPresented,
    DenyCountsPresentedOnly,
    CapCountsAnonymous,
    CapIsCheckedApart,
    EvictsTheOldestAlways,
    EvictsTheIdleAlways,
    EvictsPresentedFirst,
    EvictsOneAtMost,
    EvictsWithoutTombstone,
    SubjectsFoldCase,
    SubjectsAreTrimmed,
    SubjectsAreCutShort,
    RemoveAllKeepsNothing,
    RemoveAllEndsTheKept,
    RemoveAllAnswersWithNothing,
    AtOnceMissesRemovals,
    AtOnceMissesReplaces,
    AtOnceMissesTouches,
    AtOnceMissesEvictions,
    AtOnceMissesEndsOfAll,
    AtOnceMissesSweeps,
    AtOnceHidesEnded,
    FindHidesExpired,
    SweepIgnoresTouches,
    SweepIgnoresTheBatch,
    SweepNeverSaysMore,
    SweepAlwaysSaysMore,
    SweepSaysIdleAlways,
    SweepEndsNow,
    SweepLeavesNoTombstone,
    InsertMovesActivityToCreation,
    SweepEndsEarly,
    SweepForgetsTombstonesEarly,
    SweepKeepsTombstones,
    SweepForgetsEpochsEarly,
    SweepKeepsEpochs,
}

#[allow(clippy::large_enum_variant, reason = "the large one is the common one")]
enum Entry {
    Live(Record),
    Ended(Tombstone),
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Handle, Entry>,
    epochs: BTreeMap<Subject, (Epoch, Timestamp)>,
    everybody: Epoch,
    /// The store's own clock, which moves with every look at it, and when all sessions were ended by it.
    clock: u64,
    ended_at: BTreeMap<Subject, u64>,
    everybody_ended_at: Option<u64>,
    /// What `find_at_once` goes on saying of a session, because it has missed what came then.
    missed: BTreeMap<Handle, Found>,
    latest: Timestamp,
}

/// A map behind one lock.
pub(crate) struct Model {
    bug: Bug,
    state: Mutex<State>,
    gates: [Barrier; 2],
}

impl Model {
    /// A store with one mistake. `threads` is how many callers a mistake of timing waits for, so that it is made for certain.
    pub(crate) fn new(bug: Bug, threads: usize) -> Self {
        Self { bug, state: Mutex::default(), gates: [Barrier::new(threads), Barrier::new(threads)] }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        state.clock += 1;
        state
    }

    fn key(&self, handle: Handle) -> Handle {
        let mut bytes = *handle.as_bytes();
        if self.is(Bug::HandlesAreCutShort) {
            bytes[8..].fill(0);
        }
        Handle::from_bytes(bytes)
    }

    fn same(&self, left: &Subject, right: &Subject) -> bool {
        let (left, right) = (left.as_str(), right.as_str());
        match self.bug {
            Bug::SubjectsFoldCase => left.eq_ignore_ascii_case(right),
            Bug::SubjectsAreTrimmed => left.trim() == right.trim(),
            Bug::SubjectsAreCutShort => left.bytes().take(254).eq(right.bytes().take(254)),
            _ => left == right,
        }
    }

    fn of_subject(&self, state: &State, subject: &Subject) -> Vec<Record> {
        let live = state.entries.values().filter_map(|entry| match entry {
            Entry::Live(record) => Some(record),
            Entry::Ended(_) => None,
        });
        live.filter(|record| record.subject().is_some_and(|whose| self.same(whose, subject)))
            .cloned()
            .collect()
    }

    fn check(
        &self,
        state: &State,
        record: &Record,
        mut admission: Admission,
    ) -> Result<Vec<Handle>, Inserted> {
        let anonymous = Subject::new("anonymous").unwrap();
        let subject = match record.subject() {
            Some(subject) => subject,
            None if self.is(Bug::EpochKeepsAnonymousOut) || self.is(Bug::CapCountsAnonymous) => &anonymous,
            None => return Ok(Vec::new()),
        };
        if !admission.admits(epoch_of(state, subject))
            && !self.is(Bug::EpochIsIgnored)
            && !self.is(Bug::CapCountsAnonymous)
        {
            return Err(Inserted::Superseded);
        }
        let Some(Cap { at_cap, .. }) = &mut admission.cap else { return Ok(Vec::new()) };
        match self.bug {
            Bug::CapIsIgnored => return Ok(Vec::new()),
            Bug::EvictsTheOldestAlways => *at_cap = AtCap::EvictOldest,
            Bug::EvictsTheIdleAlways => *at_cap = AtCap::EvictIdle,
            Bug::DenyEvictsPresented if *at_cap == AtCap::Deny => *at_cap = AtCap::EvictOldest,
            _ => {}
        }
        let records = if record.subject().is_some() {
            self.of_subject(state, subject)
        } else {
            let all = state.entries.values().filter_map(|entry| match entry {
                Entry::Live(record) => Some(record.clone()),
                Entry::Ended(_) => None,
            });
            all.collect()
        };
        let mut live: Vec<_> = records
            .iter()
            .filter(|record| match self.bug {
                Bug::CapCountsExpired => true,
                Bug::CapIgnoresTouches => record.created().plus(record.idle_limit()) > admission.now,
                _ => record.deadline().0 > admission.now,
            })
            .map(|record| match self.bug {
                Bug::EvictsPresentedFirst => (record.handle(), record.created(), record.created()),
                _ => (record.handle(), record.created(), record.seen()),
            })
            .collect();
        if self.is(Bug::DenyCountsPresentedOnly) && admission.cap.is_some_and(|cap| cap.at_cap == AtCap::Deny)
        {
            live.retain(|&(_, created, seen)| seen > created);
        }
        let mut evicted = admission.make_room(&mut live).ok_or(Inserted::CapReached)?;
        if self.is(Bug::DenyDeniesAlways) && !evicted.is_empty() {
            return Err(Inserted::CapReached);
        }
        if self.is(Bug::EvictsOneAtMost) {
            evicted.truncate(1);
        }
        Ok(evicted)
    }

    fn look(&self, state: &State, key: Handle) -> Found {
        match state.entries.get(&key) {
            Some(Entry::Live(record))
                if self.is(Bug::FindHidesExpired) && record.deadline().0 <= state.latest =>
            {
                Found::Absent
            }
            Some(Entry::Live(record)) => Found::Live(record.clone()),
            Some(Entry::Ended(tombstone)) => Found::Ended(tombstone.clone()),
            None => Found::Absent,
        }
    }

    /// Before a write that `find_at_once` misses if the store has this mistake.
    fn miss(&self, state: &mut State, key: Handle, bug: Bug) {
        if self.is(bug) {
            let found = self.look(state, key);
            state.missed.entry(key).or_insert(found);
        }
    }

    fn evict(&self, state: &mut State, handles: &[Handle], now: Timestamp) {
        for handle in handles {
            self.miss(state, *handle, Bug::AtOnceMissesEvictions);
            if self.is(Bug::EvictsWithoutTombstone) {
                state.entries.remove(handle);
            } else {
                end(state, *handle, Reason::Evicted, now);
            }
        }
    }
}

/// The subject's own epoch, with that of everybody.
fn epoch_of(state: &State, subject: &Subject) -> Epoch {
    state.epochs.get(subject).map_or(Epoch::default(), |(epoch, _)| *epoch).with(state.everybody)
}

fn end(state: &mut State, key: Handle, reason: Reason, at: Timestamp) -> Option<Record> {
    let entry = state.entries.get_mut(&key)?;
    let Entry::Live(record) = entry else { return None };
    let tombstone = Tombstone::of(record, reason, at);
    match std::mem::replace(entry, Entry::Ended(tombstone)) {
        Entry::Live(record) => Some(record),
        Entry::Ended(_) => None,
    }
}

fn seen_at(record: &Record, version: Version, seen: Timestamp) -> Record {
    Record::decode(record.handle(), version, seen, &record.encode().unwrap()).unwrap()
}

impl Store for Model {
    async fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        Ok(self.look(&self.lock(), self.key(handle)))
    }

    fn find_at_once(&self, handle: Handle) -> Option<Result<Found, StoreError>> {
        let (state, key) = (self.lock(), self.key(handle));
        let found = state.missed.get(&key).cloned().unwrap_or_else(|| self.look(&state, key));
        Some(Ok(match found {
            Found::Ended(_) if self.is(Bug::AtOnceHidesEnded) => Found::Absent,
            found => found,
        }))
    }

    async fn insert(&self, record: Record, admission: Admission) -> Result<Inserted, StoreError> {
        if !self.is(Bug::InsertTakesTooLarge) {
            record.encode()?;
        }
        if self.is(Bug::EpochIsRaisedApart) || self.is(Bug::EverybodyIsRaisedApart) {
            self.gates[0].wait();
        }
        let mut state = self.lock();
        state.latest = state.latest.max(admission.now);
        let key = self.key(record.handle());
        let checked = self.check(&state, &record, admission);
        if self.is(Bug::InsertEvictsBeforeItKnows) {
            self.evict(&mut state, checked.as_deref().unwrap_or_default(), admission.now);
        }
        let free = match state.entries.get(&key) {
            None => true,
            Some(Entry::Live(_)) => self.is(Bug::InsertReplaces),
            Some(Entry::Ended(_)) => self.is(Bug::InsertReusesEndedHandles),
        };
        if !free {
            return Ok(Inserted::HandleTaken);
        }
        if self.is(Bug::CapIsCheckedApart) {
            drop(state);
            self.gates[0].wait();
            state = self.lock();
        }
        let answer = match checked {
            Ok(evicted) => {
                self.evict(&mut state, &evicted, admission.now);
                let record = match self.bug {
                    Bug::InsertMovesActivityToCreation => {
                        let seen = record.seen().max(record.created());
                        seen_at(&record, record.version(), seen)
                    }
                    _ => record,
                };
                state.entries.insert(key, Entry::Live(record));
                Inserted::Inserted { evicted }
            }
            Err(refused) => refused,
        };
        drop(state);
        if self.is(Bug::EpochIsRaisedApart) || self.is(Bug::EverybodyIsRaisedApart) {
            self.gates[1].wait();
        }
        Ok(answer)
    }

    async fn replace(&self, expected: Version, record: Record) -> Result<Replaced, StoreError> {
        if !self.is(Bug::ReplaceTakesTooLarge) {
            record.encode()?;
        }
        let key = self.key(record.handle());
        let mut state = self.lock();
        let (version, seen) = match state.entries.get(&key) {
            Some(Entry::Live(stored)) => (stored.version(), stored.seen()),
            Some(Entry::Ended(_)) if self.is(Bug::ReplaceRevives) => (expected, record.seen()),
            None if self.is(Bug::ReplaceCreates) => (expected, record.seen()),
            _ => return Ok(Replaced::Gone),
        };
        if version != expected && !self.is(Bug::ReplaceIgnoresTheVersion) {
            return Ok(Replaced::Stale);
        }
        if self.is(Bug::ReplaceChecksAndWritesApart) {
            drop(state);
            self.gates[0].wait();
            state = self.lock();
        }
        let stored = match self.bug {
            Bug::ReplaceStoresTheGivenVersion => {
                let version = record.version();
                seen_at(&record, version, seen.max(record.seen()))
            }
            Bug::ReplaceMovesActivityBack => seen_at(&record, expected.next(), record.seen()),
            _ => record.replacing(expected, seen),
        };
        self.miss(&mut state, key, Bug::AtOnceMissesReplaces);
        state.entries.insert(key, Entry::Live(stored));
        Ok(Replaced::Replaced)
    }

    async fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        let mut state = self.lock();
        let key = self.key(handle);
        self.miss(&mut state, key, Bug::AtOnceMissesRemovals);
        let removed = end(&mut state, key, reason, now);
        if self.is(Bug::RemoveLeavesNoTombstone) {
            state.entries.remove(&key);
        }
        if self.is(Bug::RemoveBuriesTwice)
            && removed.is_none()
            && let Some(Entry::Ended(old)) = state.entries.get(&key)
        {
            // There is no other way to a tombstone with another reason: bytes are format, reason, time, digests.
            let mut bytes = old.encode();
            let reason = bytes.get_mut(1).unwrap();
            *reason = u8::from(*reason == 0);
            state.entries.insert(key, Entry::Ended(Tombstone::decode(&bytes).unwrap()));
        }
        Ok(removed.filter(|_| !self.is(Bug::RemoveAnswersWithNothing)))
    }

    async fn touch(&self, handle: Handle, seen: Timestamp) -> Result<(), StoreError> {
        let mut state = self.lock();
        self.miss(&mut state, self.key(handle), Bug::AtOnceMissesTouches);
        if let Some(Entry::Live(record)) = state.entries.get_mut(&self.key(handle)) {
            let version = match self.bug {
                Bug::TouchCountsAsVersion => record.version().next(),
                _ => record.version(),
            };
            let seen = if self.is(Bug::TouchMovesActivityBack) { seen } else { seen.max(record.seen()) };
            *record = seen_at(record, version, seen);
        }
        Ok(())
    }
}

impl BySubject for Model {
    async fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        Ok(self.of_subject(&self.lock(), subject))
    }

    async fn standing(&self, subject: &Subject) -> Result<Standing, StoreError> {
        let state = self.lock();
        let everybody = state.everybody_ended_at.filter(|_| !self.is(Bug::EndedAgoOfEverybodyIsNotTold));
        let last = state.ended_at.get(subject).copied().max(everybody);
        let mut ended_ago = last.map(|at| Duration::from_millis(state.clock - at));
        if self.is(Bug::EndedAgoByTheCallersClock) {
            let clock = Timestamp::from_secs(1_700_000_000);
            ended_ago = state.epochs.get(subject).map(|(_, at)| clock.since(*at));
        }
        Ok(Standing { epoch: epoch_of(&state, subject), ended_ago })
    }

    async fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        let mut state = self.lock();
        let mut ended = Vec::new();
        let records = self.of_subject(&state, subject);
        let any = !records.is_empty();
        for record in records {
            let kept = keep == Some(record.handle()) && !self.is(Bug::RemoveAllKeepsNothing);
            if !kept || self.is(Bug::RemoveAllEndsTheKept) {
                let key = self.key(record.handle());
                self.miss(&mut state, key, Bug::AtOnceMissesEndsOfAll);
                end(&mut state, key, reason, now);
            }
            if !kept {
                ended.push(record.handle());
            }
        }
        if self.is(Bug::EpochIsRaisedApart) {
            drop(state);
            for gate in &self.gates {
                gate.wait();
            }
            state = self.lock();
        }
        if any || !self.is(Bug::EpochNeedsSessions) {
            let (last, at) = state.epochs.get(subject).copied().unwrap_or_default();
            let at = if self.is(Bug::EndedAgoByTheCallersClock) { now } else { at.max(now) };
            let clock = state.clock;
            if !(self.is(Bug::EndedAgoOfTheFirst) && state.ended_at.contains_key(subject)) {
                state.ended_at.insert(subject.clone(), clock);
            }
            let next = match self.bug {
                Bug::EpochComesBack => Epoch::from_number(last.number() + 1),
                _ => last.next(now),
            };
            state.epochs.insert(subject.clone(), (next, at));
        }
        let own = state.epochs.get(subject).map_or(Epoch::default(), |(epoch, _)| *epoch);
        let epoch = if self.is(Bug::EverybodyIsForgottenInAnswers) { own } else { epoch_of(&state, subject) };
        let ended = if self.is(Bug::RemoveAllAnswersWithNothing) { Vec::new() } else { ended };
        Ok(RemovedAll { ended, epoch })
    }

    async fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        let mut state = self.lock();
        let raise = |state: &mut State| {
            state.everybody = state.everybody.next(now);
            state.everybody_ended_at = Some(state.clock);
        };
        if !self.is(Bug::EverybodyIsRaisedApart) && !self.is(Bug::EverybodyHasNoEpoch) {
            raise(&mut state);
        }
        let spared = |record: &Record| self.is(Bug::EverybodyButVisitors) && record.subject().is_none();
        let mut live: Vec<_> = state
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::Live(record) if !spared(record)))
            .map(|(key, _)| *key)
            .collect();
        if self.is(Bug::EverybodyIsAThousand) {
            live.truncate(1000);
        }
        for key in &live {
            end(&mut state, *key, reason, now);
            if self.is(Bug::EverybodyLeavesNoTombstones) {
                state.entries.remove(key);
            }
        }
        if self.is(Bug::EverybodyIsRaisedApart) {
            drop(state);
            for gate in &self.gates {
                gate.wait();
            }
            raise(&mut self.lock());
        }
        Ok(live.len() as u64)
    }
}

impl Sweep for Model {
    async fn sweep(&self, now: Timestamp, limits: SweepLimits) -> Result<SweepReport, StoreError> {
        let mut state = self.lock();
        state.latest = state.latest.max(now);
        let judged_at =
            if self.is(Bug::SweepEndsEarly) { Timestamp::from_millis(now.as_millis() + 1) } else { now };
        let mut left = if self.is(Bug::SweepIgnoresTheBatch) { usize::MAX } else { limits.batch };
        let mut report = SweepReport::default();
        let mut due = Vec::new();
        for (key, entry) in &state.entries {
            if let Entry::Live(record) = entry {
                let (deadline, reason) = match self.bug {
                    Bug::SweepIgnoresTouches => (record.created().plus(record.idle_limit()), Reason::Idle),
                    Bug::SweepSaysIdleAlways => (record.deadline().0, Reason::Idle),
                    _ => record.deadline(),
                };
                if deadline <= judged_at {
                    let at = if self.is(Bug::SweepEndsNow) { now } else { deadline };
                    due.push((*key, record.subject().cloned(), reason, at));
                }
            }
        }
        report.more = due.len() > left;
        due.truncate(left);
        left -= due.len();
        for (key, subject, reason, at) in due {
            self.miss(&mut state, key, Bug::AtOnceMissesSweeps);
            end(&mut state, key, reason, at);
            if self.is(Bug::SweepLeavesNoTombstone) {
                state.entries.remove(&key);
            }
            report.swept.push(Swept { handle: key, subject, reason, at });
        }
        let slack = std::time::Duration::from_secs(60);
        let mut before = now.minus(limits.tombstone_ttl);
        if self.is(Bug::SweepForgetsTombstonesEarly) {
            before = before.plus(slack);
        }
        let mut old: Vec<_> = state
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::Ended(tombstone) if tombstone.at() < before))
            .map(|(key, _)| *key)
            .collect();
        if self.is(Bug::SweepKeepsTombstones) {
            old.clear();
        }
        report.more |= old.len() > left;
        old.truncate(left);
        left -= old.len();
        for key in old {
            state.entries.remove(&key);
        }
        let mut before = now.minus(limits.epoch_ttl);
        if self.is(Bug::SweepForgetsEpochsEarly) {
            before = before.plus(slack);
        }
        let mut old: Vec<_> = state
            .epochs
            .iter()
            .filter(|(_, (_, at))| *at < before)
            .map(|(subject, _)| subject.clone())
            .collect();
        if self.is(Bug::SweepKeepsEpochs) {
            old.clear();
        }
        report.more |= old.len() > left;
        old.truncate(left);
        for subject in old {
            state.epochs.remove(&subject);
            state.ended_at.remove(&subject);
        }
        match self.bug {
            Bug::SweepNeverSaysMore => report.more = false,
            Bug::SweepAlwaysSaysMore => report.more = true,
            _ => {}
        }
        Ok(report)
    }
}
