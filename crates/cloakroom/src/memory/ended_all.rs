//! The last "end all sessions" of each subject.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::Subject;
use cloakroom_core::store::Epoch;

/// Remembers a bounded number of subjects. What had to be forgotten before its time holds for everybody of
/// whom nothing is remembered: in doubt a login loses.
#[derive(Debug)]
pub(super) struct EndedAll {
    most: usize,
    of: HashMap<Subject, (Epoch, Timestamp)>,
    /// One element a subject, with a time that is not later than the subject's.
    due: BinaryHeap<Reverse<(Timestamp, Subject)>>,
    forgotten: Option<(Epoch, Timestamp)>,
}

impl EndedAll {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), of: HashMap::new(), due: BinaryHeap::new(), forgotten: None }
    }

    /// The epoch and the time of a subject's last one.
    pub(super) fn last(&self, subject: &Subject) -> Option<(Epoch, Timestamp)> {
        self.of.get(subject).copied().or(self.forgotten)
    }

    /// Notes one more; returns the subject's epoch from now on.
    pub(super) fn note(&mut self, subject: &Subject, now: Timestamp) -> Epoch {
        let last = self.last(subject);
        let at = last.map_or(now, |(_, at)| at.max(now));
        let epoch = last.map_or(Epoch::default(), |(epoch, _)| epoch).next(now);
        if self.of.insert(subject.clone(), (epoch, at)).is_none() {
            self.due.push(Reverse((at, subject.clone())));
            if self.of.len() > self.most {
                self.forget_oldest();
            }
        }
        epoch
    }

    /// Forgets up to `batch` whose time is over; returns how many it looked at.
    pub(super) fn sweep(&mut self, now: Timestamp, ttl: Duration, batch: usize) -> usize {
        let mut looked_at = 0;
        while looked_at < batch && self.due.peek().is_some_and(|Reverse((at, _))| at.plus(ttl) <= now) {
            looked_at += 1;
            self.pop();
        }
        if self.forgotten.is_some_and(|(_, at)| at.plus(ttl) <= now) {
            self.forgotten = None;
        }
        looked_at
    }

    fn forget_oldest(&mut self) {
        while self.of.len() > self.most && !self.due.is_empty() {
            if let Some((epoch, at)) = self.pop() {
                let (highest, latest) = self.forgotten.unwrap_or((epoch, at));
                self.forgotten = Some((highest.max(epoch), latest.max(at)));
            }
        }
    }

    /// Takes the first element: its subject is forgotten, unless there was a later one, which is what is
    /// waited for then.
    fn pop(&mut self) -> Option<(Epoch, Timestamp)> {
        let Reverse((at, subject)) = self.due.pop()?;
        let last = *self.of.get(&subject)?;
        if last.1 > at {
            self.due.push(Reverse((last.1, subject)));
            return None;
        }
        self.of.remove(&subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: u64) -> Subject {
        Subject::new(number.to_string()).unwrap()
    }

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn one_subject_that_ends_all_over_and_over_takes_one_place() {
        let mut ended = EndedAll::new(10);
        for second in 0..10_000 {
            ended.note(&subject(1), at(second));
        }
        assert_eq!((ended.of.len(), ended.due.len()), (1, 1));
        assert_eq!(ended.last(&subject(1)).unwrap().1, at(9_999));
        let ttl = Duration::from_secs(100);
        assert_eq!(ended.sweep(at(10_098), ttl, 10), 1, "looked at once, and found to be later");
        assert!(ended.last(&subject(1)).is_some());
        ended.sweep(at(10_099), ttl, 10);
        assert_eq!((ended.of.len(), ended.due.len(), ended.last(&subject(1))), (0, 0, None));
    }

    #[test]
    fn r058_what_had_to_be_forgotten_keeps_out_every_login_that_it_kept_out_before() {
        let mut ended = EndedAll::new(10);
        let first = ended.note(&subject(0), at(1));
        for number in 1..=1_000 {
            ended.note(&subject(number), at(1 + number));
        }
        assert_eq!((ended.of.len(), ended.due.len()), (10, 10));
        let (epoch, time) = ended.last(&subject(0)).unwrap();
        assert!(epoch >= first && time >= at(1), "{epoch:?} {time:?}");
        assert_eq!(
            time,
            at(991),
            "no later than the latest that was forgotten: who comes after that gets in"
        );
        let again = ended.note(&subject(0), at(2_000));
        assert!(again > epoch, "never an epoch that was there before");
        ended.sweep(at(5_000), Duration::from_secs(100), usize::MAX);
        assert_eq!((ended.of.len(), ended.due.len(), ended.forgotten), (0, 0, None));
    }
}
