//! The sequential model of a store: what each call does and answers when nothing else happens at the same time.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher as _};

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::deadline;
use cloakroom_core::store::{Epoch, Reason};
use cloakroom_core::token::Handle;

use super::call::{Answer, Call, Life, Seen};

/// A session in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Session {
    /// It lives.
    Live(Seen, Life),
    /// It has ended.
    Ended(Reason, Timestamp),
}

/// The sessions of one subject, or one anonymous session.
#[derive(Clone, Debug)]
pub struct State {
    sessions: BTreeMap<Handle, Session>,
    /// The epoch, and whether it is known exactly: it comes from the store's clock, so where the answer was lost, the number is only
    /// known not to be less.
    last: (Epoch, bool),
    hash: u128,
}

/// How to take a step back.
#[derive(Debug, Default)]
pub struct Undo {
    sessions: Vec<(Handle, Option<Session>)>,
    last: Option<(Epoch, bool)>,
}

impl Undo {
    /// Whether the step changed anything.
    pub const fn changed(&self) -> bool {
        !self.sessions.is_empty() || self.last.is_some()
    }
}

/// A step of the model. A sweep is one for each session that it ended; all else is one call.
#[derive(Clone, Debug)]
pub enum Step {
    /// A call and its answer, if that is known.
    Call(Call, Option<Answer>),
    /// An insert whose cap is not looked at, because sessions that counted have been left out.
    Uncapped(Call, Option<Answer>),
    /// A sweep has ended this session, or may have if its answer was lost.
    Swept {
        /// Which.
        handle: Handle,
        /// At what time the sweep looked.
        now: Timestamp,
        /// What it reported.
        report: Option<(Reason, Timestamp)>,
    },
}

impl Default for State {
    fn default() -> Self {
        Self { sessions: BTreeMap::new(), last: (Epoch::default(), true), hash: 0 }
    }
}

impl State {
    /// A hash of everything.
    pub const fn hash(&self) -> u128 {
        self.hash
    }

    /// Carries a step out, if its answer is right; otherwise, changing nothing, says `None`.
    pub fn apply(&mut self, step: &Step) -> Option<Undo> {
        let mut undo = Undo::default();
        let (call, answer, capped) = match step {
            Step::Call(call, answer) => (call, answer.as_ref(), true),
            Step::Uncapped(call, answer) => (call, answer.as_ref(), false),
            Step::Swept { handle, now, report } => {
                return self.swept(*handle, *now, *report, &mut undo).then_some(undo);
            }
        };
        let right = match call {
            Call::Insert { .. } if !capped => self.insert_uncapped(call, answer, &mut undo),
            _ => {
                let now = self.call(call, answer, &mut undo);
                answer.is_none_or(|answer| same(answer, &now))
            }
        };
        if right {
            return Some(undo);
        }
        self.undo(undo);
        None
    }

    /// Takes a step back.
    pub fn undo(&mut self, undo: Undo) {
        for (handle, before) in undo.sessions.into_iter().rev() {
            self.store(handle, before);
        }
        if let Some(last) = undo.last {
            self.set_last(last);
        }
    }

    fn call(&mut self, call: &Call, answer: Option<&Answer>, undo: &mut Undo) -> Answer {
        match call {
            Call::Find { handle } => match self.sessions.get(handle) {
                Some(Session::Live(seen, _)) => Answer::Live(*seen),
                Some(Session::Ended(reason, at)) => Answer::Ended { reason: *reason, at: *at },
                None => Answer::Absent,
            },
            Call::Replace { handle, expected, life, new } => match self.live(*handle) {
                None => Answer::Gone,
                Some((stored, _)) if stored.version != *expected => Answer::Stale,
                Some((stored, _)) => {
                    let version = expected.wrapping_add(1);
                    let seen = stored.seen.max(new.seen);
                    self.put(*handle, Session::Live(Seen { version, seen, ..*new }, *life), undo);
                    Answer::Replaced
                }
            },
            Call::Remove { handle, reason, now } => {
                let removed = self.live(*handle).map(|(seen, _)| seen);
                if removed.is_some() {
                    self.put(*handle, Session::Ended(*reason, *now), undo);
                }
                Answer::Removed(removed)
            }
            Call::Touch { handle, seen } => {
                if let Some((stored, life)) = self.live(*handle)
                    && stored.seen < *seen
                {
                    self.put(*handle, Session::Live(Seen { seen: *seen, ..stored }, life), undo);
                }
                Answer::Touched
            }
            Call::List { .. } => {
                let live = self.all_live().map(|(handle, seen, _)| (handle, seen));
                Answer::Listed(live.collect())
            }
            Call::Epoch { .. } => {
                if let Some(Answer::Epoch(number)) = answer {
                    self.learn(Epoch::from_number(*number), undo);
                }
                Answer::Epoch(self.last.0.number())
            }
            Call::RemoveAll { keep, reason, now, .. } => {
                let gone = self.all_live().map(|(handle, ..)| handle);
                let gone: Vec<_> = gone.filter(|handle| Some(*handle) != *keep).collect();
                for handle in &gone {
                    self.put(*handle, Session::Ended(*reason, *now), undo);
                }
                let next = self.last.0.next(Timestamp::EPOCH);
                let (epoch, exact) = match answer {
                    Some(Answer::RemovedAll { epoch, .. }) => (next.max(Epoch::from_number(*epoch)), true),
                    _ => (next, false),
                };
                self.raise((epoch, exact), undo);
                Answer::RemovedAll { ended: gone, epoch: epoch.number() }
            }
            Call::Insert { .. } => self.insert(call, answer, undo),
            // Parted into one step for each session before it comes here.
            Call::Sweep { .. } => Answer::Swept(Vec::new()),
        }
    }

    fn insert(&mut self, call: &Call, answer: Option<&Answer>, undo: &mut Undo) -> Answer {
        let Call::Insert { handle, subject, life, new, now, since, cap } = call else {
            return Answer::Absent;
        };
        if self.sessions.contains_key(handle) {
            return Answer::HandleTaken;
        }
        let mut evicted = Vec::new();
        if subject.is_some() {
            let admission = Call::admission(*now, *since, *cap);
            if answer != Some(&Answer::Superseded) {
                self.learn(admission.since, undo);
            }
            if !admission.admits(self.last.0) || !self.last.1 {
                return Answer::Superseded;
            }
            let due = |seen: &Seen, life: &Life| deadline(seen.seen, life.idle_ms, life.absolute).0;
            let live = self.all_live().filter(|(_, seen, life)| due(seen, life) > *now);
            let mut live: Vec<_> =
                live.map(|(handle, seen, life)| (handle, life.created, seen.seen)).collect();
            match admission.make_room(&mut live) {
                None => return Answer::CapReached,
                Some(victims) => evicted = victims,
            }
        }
        for victim in &evicted {
            self.put(*victim, Session::Ended(Reason::Evicted, *now), undo);
        }
        self.put(*handle, Session::Live(*new, *life), undo);
        Answer::Inserted { evicted }
    }

    /// Believes the answer as to who had to go.
    fn insert_uncapped(&mut self, call: &Call, answer: Option<&Answer>, undo: &mut Undo) -> bool {
        let Call::Insert { handle, subject, life, new, now, since, cap } = call else { return false };
        let taken = self.sessions.contains_key(handle);
        let admission = Call::admission(*now, *since, *cap);
        if subject.is_some() && answer != Some(&Answer::Superseded) {
            self.learn(admission.since, undo);
        }
        let admitted = subject.is_none() || (admission.admits(self.last.0) && self.last.1);
        match answer {
            Some(Answer::HandleTaken) => taken,
            Some(Answer::Superseded) => !taken && !admitted,
            Some(Answer::Inserted { evicted }) => {
                for victim in evicted {
                    if self.live(*victim).is_none() {
                        return false;
                    }
                    self.put(*victim, Session::Ended(Reason::Evicted, *now), undo);
                }
                self.put(*handle, Session::Live(*new, *life), undo);
                !taken && admitted
            }
            None => {
                if !taken && admitted {
                    self.put(*handle, Session::Live(*new, *life), undo);
                }
                true
            }
            Some(_) => !taken && admitted,
        }
    }

    fn swept(
        &mut self,
        handle: Handle,
        now: Timestamp,
        report: Option<(Reason, Timestamp)>,
        undo: &mut Undo,
    ) -> bool {
        let due = self.live(handle).map(|(seen, life)| deadline(seen.seen, life.idle_ms, life.absolute));
        match (due.filter(|(at, _)| *at <= now), report) {
            (Some((at, reason)), report) if report.is_none_or(|report| report == (reason, at)) => {
                self.put(handle, Session::Ended(reason, at), undo);
                true
            }
            (_, None) => true,
            _ => false,
        }
    }

    fn live(&self, handle: Handle) -> Option<(Seen, Life)> {
        match self.sessions.get(&handle) {
            Some(Session::Live(seen, life)) => Some((*seen, *life)),
            _ => None,
        }
    }

    fn all_live(&self) -> impl Iterator<Item = (Handle, Seen, Life)> {
        self.sessions.iter().filter_map(|(handle, session)| match session {
            Session::Live(seen, life) => Some((*handle, *seen, *life)),
            Session::Ended(..) => None,
        })
    }

    /// Takes an epoch for the one that was not known exactly, if it may be.
    fn learn(&mut self, epoch: Epoch, undo: &mut Undo) {
        let (least, exact) = self.last;
        if !exact && epoch >= least {
            self.raise((epoch, true), undo);
        }
    }

    fn raise(&mut self, last: (Epoch, bool), undo: &mut Undo) {
        undo.last.get_or_insert(self.last);
        self.set_last(last);
    }

    fn put(&mut self, handle: Handle, session: Session, undo: &mut Undo) {
        let before = self.store(handle, Some(session));
        undo.sessions.push((handle, before));
    }

    fn store(&mut self, handle: Handle, session: Option<Session>) -> Option<Session> {
        let before = match session {
            Some(session) => self.sessions.insert(handle, session),
            None => self.sessions.remove(&handle),
        };
        for part in [before, session].into_iter().flatten() {
            self.hash ^= hash_of(&(handle, part));
        }
        before
    }

    fn set_last(&mut self, last: (Epoch, bool)) {
        for part in [self.last, last] {
            self.hash ^= hash_of(&part);
        }
        self.last = last;
    }
}

/// Whether two answers say the same. Lists are in no particular order.
fn same(given: &Answer, right: &Answer) -> bool {
    fn sorted<T: Ord + Clone>(list: &[T]) -> Vec<T> {
        let mut list = list.to_vec();
        list.sort();
        list
    }
    match (given, right) {
        (Answer::Listed(given), Answer::Listed(right)) => sorted(given) == sorted(right),
        (Answer::Inserted { evicted: given }, Answer::Inserted { evicted: right }) => {
            sorted(given) == sorted(right)
        }
        (Answer::RemovedAll { ended: given, epoch }, Answer::RemovedAll { ended: right, epoch: next }) => {
            sorted(given) == sorted(right) && epoch == next
        }
        (given, right) => given == right,
    }
}

/// 128 bits, so that no two configurations are taken for one another by chance.
pub(crate) fn hash_of(value: &impl Hash) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        value.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
