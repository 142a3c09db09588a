//! The last "end all sessions" of each subject.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::Subject;
use cloakroom_core::store::{Epoch, Standing};

/// The end of all sessions, of a subject or of everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) epoch: Epoch,
    /// By the caller's clock, which also says when it may be forgotten.
    pub(super) at: Timestamp,
    /// By the process's own, which nobody sets: what logins are compared with.
    pub(super) instant: Instant,
}

impl End {
    fn after(last: Option<Self>, now: Timestamp, instant: Instant) -> Self {
        Self {
            epoch: last.map_or(Epoch::default(), |last| last.epoch).next(now),
            at: last.map_or(now, |last| last.at.max(now)),
            instant,
        }
    }

    fn later_of(self, other: Self) -> Self {
        Self {
            epoch: self.epoch.max(other.epoch),
            at: self.at.max(other.at),
            instant: self.instant.max(other.instant),
        }
    }
}

/// Remembers a bounded number of subjects. What had to be forgotten before its time holds for everybody of
/// whom nothing is remembered: in doubt a login loses.
#[derive(Debug)]
pub(super) struct EndedAll {
    most: usize,
    of: HashMap<Subject, End>,
    /// One element a subject, with a time that is not later than the subject's.
    due: BinaryHeap<Reverse<(Timestamp, Subject)>>,
    forgotten: Option<End>,
    everybody: Option<End>,
}

impl EndedAll {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            of: HashMap::new(),
            due: BinaryHeap::new(),
            forgotten: None,
            everybody: None,
        }
    }

    /// How a subject stands; `instant` is now.
    pub(super) fn standing(&self, subject: &Subject, instant: Instant) -> Standing {
        let last = [self.last(subject), self.everybody];
        let ended_ago = last.iter().flatten().map(|end| instant.saturating_duration_since(end.instant)).min();
        Standing { epoch: self.epoch(subject), ended_ago }
    }

    /// The subject's epoch, with that of everybody.
    pub(super) fn epoch(&self, subject: &Subject) -> Epoch {
        let epoch = |end: Option<End>| end.map_or(Epoch::default(), |end| end.epoch);
        epoch(self.last(subject)).with(epoch(self.everybody))
    }

    /// The subject's own last one.
    fn last(&self, subject: &Subject) -> Option<End> {
        self.of.get(subject).copied().or(self.forgotten)
    }

    /// Notes the end of all sessions of a subject; returns its epoch from now on.
    pub(super) fn note(&mut self, subject: &Subject, now: Timestamp, instant: Instant) -> Epoch {
        let end = End::after(self.last(subject), now, instant);
        if self.of.insert(subject.clone(), end).is_none() {
            self.due.push(Reverse((end.at, subject.clone())));
            if self.of.len() > self.most {
                self.forget_oldest();
            }
        }
        self.epoch(subject)
    }

    /// Notes the end of all sessions of everybody. It is one entry, and never forgotten.
    pub(super) fn note_everybody(&mut self, now: Timestamp, instant: Instant) {
        self.everybody = Some(End::after(self.everybody, now, instant));
    }

    /// Forgets up to `batch` whose time is over; returns how many it looked at.
    pub(super) fn sweep(&mut self, now: Timestamp, ttl: Duration, batch: usize) -> usize {
        let mut looked_at = 0;
        while looked_at < batch && self.due.peek().is_some_and(|Reverse((at, _))| at.plus(ttl) <= now) {
            looked_at += 1;
            self.pop();
        }
        if self.forgotten.is_some_and(|end| end.at.plus(ttl) <= now) {
            self.forgotten = None;
        }
        looked_at
    }

    fn forget_oldest(&mut self) {
        while self.of.len() > self.most && !self.due.is_empty() {
            if let Some(end) = self.pop() {
                self.forgotten = Some(self.forgotten.map_or(end, |forgotten| forgotten.later_of(end)));
            }
        }
    }

    /// Takes the first element: its subject is forgotten, unless there was a later one, which is what is
    /// waited for then.
    fn pop(&mut self) -> Option<End> {
        let Reverse((at, subject)) = self.due.pop()?;
        let last = *self.of.get(&subject)?;
        if last.at > at {
            self.due.push(Reverse((last.at, subject)));
            return None;
        }
        self.of.remove(&subject)
    }
}

#[cfg(test)]
mod tests {
    use crate::system::steady;

    use super::*;

    fn subject(number: u64) -> Subject {
        Subject::new(number.to_string()).unwrap()
    }

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// Neither clock need agree with the other, nor with the numbers.
    #[test]
    fn r058_of_two_ends_the_later_of_each_figure_holds() {
        let (first, second) = (steady(), steady() + Duration::from_secs(1));
        let end = |number, secs, instant| End { epoch: Epoch::from_number(number), at: at(secs), instant };
        let (one, two) = (end(9, 1, second), end(3, 7, first));
        for later in [one.later_of(two), two.later_of(one)] {
            assert_eq!(later, end(9, 7, second));
        }
        let after = End::after(Some(one), at(0), first);
        assert!(after.epoch > one.epoch && after.at == one.at, "a clock that was set back: {after:?}");
    }

    /// Whoever began before the later one must not be let in.
    #[test]
    fn r058_of_a_subjects_own_end_and_everybodys_the_later_one_counts() {
        let (subject, began) = (subject(1), steady());
        let after = |secs| began + Duration::from_secs(secs);
        for (own, everybody) in [(10, 20), (20, 10)] {
            let mut ended = EndedAll::new(10);
            ended.note(&subject, at(1), after(own));
            ended.note_everybody(at(1), after(everybody));
            let ago = ended.standing(&subject, after(25)).ended_ago;
            assert_eq!(ago, Some(Duration::from_secs(5)), "{own} {everybody}");
        }
    }

    #[test]
    fn one_subject_that_ends_all_over_and_over_takes_one_place() {
        let mut ended = EndedAll::new(10);
        for second in 0..10_000 {
            ended.note(&subject(1), at(second), steady());
        }
        assert_eq!((ended.of.len(), ended.due.len()), (1, 1));
        assert_eq!(ended.last(&subject(1)).unwrap().at, at(9_999));
        let ttl = Duration::from_secs(100);
        assert_eq!(ended.sweep(at(10_098), ttl, 10), 1, "looked at once, and found to be later");
        assert!(ended.last(&subject(1)).is_some());
        ended.sweep(at(10_099), ttl, 10);
        assert_eq!((ended.of.len(), ended.due.len(), ended.last(&subject(1))), (0, 0, None));
    }

    #[test]
    fn r058_what_had_to_be_forgotten_keeps_out_every_login_that_it_kept_out_before() {
        let mut ended = EndedAll::new(10);
        let began = steady();
        let first = ended.note(&subject(0), at(1), steady());
        for number in 1..=1_000 {
            ended.note(&subject(number), at(1 + number), steady());
        }
        assert_eq!((ended.of.len(), ended.due.len()), (10, 10));
        let End { epoch, at: time, instant } = ended.last(&subject(0)).unwrap();
        assert!(instant >= began, "nor is the instant forgotten");
        assert!(epoch >= first && time >= at(1), "{epoch:?} {time:?}");
        assert_eq!(
            time,
            at(991),
            "no later than the latest that was forgotten: who comes after that gets in"
        );
        let again = ended.note(&subject(0), at(2_000), steady());
        assert!(again > epoch, "never an epoch that was there before");
        ended.sweep(at(5_000), Duration::from_secs(100), usize::MAX);
        assert_eq!((ended.of.len(), ended.due.len(), ended.forgotten), (0, 0, None));
    }
}
