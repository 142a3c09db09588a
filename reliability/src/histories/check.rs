//! From a history to a verdict: parting it, searching, and making a violation small.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cloakroom_core::token::Handle;

use super::call::{Answer, Call, Event, History};
use super::model::Step;
use super::search::{Placed, Verdict, search};

/// What a check that found nothing wrong went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Parts that the history fell into.
    pub parts: u64,
    /// Calls in it.
    pub calls: u64,
    /// Configurations that the search looked at.
    pub configurations: u64,
}

/// A history that no order of its calls explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Whose: a subject, or the handle of an anonymous session.
    pub of: String,
    /// Whether the search gave up instead: then nothing is known.
    pub gave_up: bool,
    /// Calls that no order explains, as few as could be found.
    pub calls: Vec<Event>,
    /// Those of them that cannot come next, after all others that could have.
    pub stuck: Vec<Event>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.gave_up {
            return write!(f, "the search for an order of the calls of {} gave up", self.of);
        }
        writeln!(f, "no order of these calls of {} explains their answers:", self.of)?;
        for event in &self.calls {
            writeln!(f, "  {event}")?;
        }
        writeln!(f, "none of these can come next at the furthest point:")?;
        for event in &self.stuck {
            writeln!(f, "  {event}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}

/// Looks for an order of the calls in which each answer is right.
///
/// # Errors
///
/// [`Violation`] if there is none, or if the search had to give up.
pub fn check(history: &History) -> Result<Checked, Box<Violation>> {
    let mut checked = Checked { calls: history.0.len() as u64, ..Checked::default() };
    for (key, part) in part(history) {
        checked.parts += 1;
        match search(&steps(&part, Caps::Checked)) {
            Verdict::InOrder(configurations) => checked.configurations += configurations,
            Verdict::TooHard => {
                let of = key.to_string();
                return Err(Box::new(Violation { of, gave_up: true, calls: Vec::new(), stuck: Vec::new() }));
            }
            Verdict::Violated(_) => return Err(Box::new(shrink(&key, part))),
        }
    }
    Ok(checked)
}

/// What calls have to do with one another: those of one subject, or of one anonymous session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Subject(String),
    Anonymous(Handle),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(subject) => write!(f, "subject {subject:?}"),
            Self::Anonymous(handle) => write!(f, "session {handle}"),
        }
    }
}

fn part(history: &History) -> BTreeMap<Key, Vec<Event>> {
    let mut owner: BTreeMap<Handle, String> = BTreeMap::new();
    for event in &history.0 {
        if let Call::Insert { handle, subject: Some(subject), .. } = &event.call {
            owner.insert(*handle, subject.clone());
        }
    }
    let key_of = |handle: &Handle| match owner.get(handle) {
        Some(subject) => Key::Subject(subject.clone()),
        None => Key::Anonymous(*handle),
    };
    let mut parts: BTreeMap<Key, Vec<Event>> = BTreeMap::new();
    let mut sweeps = Vec::new();
    for event in &history.0 {
        // A read whose answer was lost says nothing.
        if event.answer.is_none() && event.call.only_reads() {
            continue;
        }
        let key = match &event.call {
            Call::Find { handle }
            | Call::Insert { handle, .. }
            | Call::Replace { handle, .. }
            | Call::Remove { handle, .. }
            | Call::Touch { handle, .. } => key_of(handle),
            Call::List { subject } | Call::Epoch { subject } | Call::RemoveAll { subject, .. } => {
                Key::Subject(subject.clone())
            }
            Call::Sweep { .. } => {
                sweeps.push(event);
                continue;
            }
        };
        parts.entry(key).or_default().push(event.clone());
    }
    // A sweep goes into each part with what it ended there; one whose answer was lost, into all.
    for sweep in sweeps {
        match &sweep.answer {
            None => parts.values_mut().for_each(|part| part.push(sweep.clone())),
            Some(Answer::Swept(swept)) => {
                let mut by_key: BTreeMap<Key, Vec<_>> = BTreeMap::new();
                for one in swept {
                    by_key.entry(key_of(&one.0)).or_default().push(*one);
                }
                for (key, swept) in by_key {
                    let event = Event { answer: Some(Answer::Swept(swept)), ..sweep.clone() };
                    parts.entry(key).or_default().push(event);
                }
            }
            Some(_) => {}
        }
    }
    for part in parts.values_mut() {
        part.sort_by_key(|event| event.began);
    }
    parts
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Caps {
    Checked,
    Unchecked,
}

fn steps(events: &[Event], caps: Caps) -> Vec<Placed> {
    let mut steps = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let ended = event.ended.filter(|_| event.answer.is_some()).unwrap_or(u64::MAX);
        let mut place = |step| steps.push(Placed { began: event.began, ended, step, event: index });
        match (&event.call, &event.answer) {
            (Call::Sweep { now }, Some(Answer::Swept(swept))) => {
                for &(handle, reason, at) in swept {
                    place(Step::Swept { handle, now: *now, report: Some((reason, at)) });
                }
            }
            (Call::Sweep { now }, _) => {
                let inserted = events.iter().filter_map(|event| match &event.call {
                    Call::Insert { handle, .. } => Some(*handle),
                    _ => None,
                });
                for handle in inserted.collect::<BTreeSet<_>>() {
                    place(Step::Swept { handle, now: *now, report: None });
                }
            }
            (call, answer) => place(match caps {
                Caps::Unchecked => Step::Uncapped(call.clone(), answer.clone()),
                Caps::Checked => Step::Call(call.clone(), answer.clone()),
            }),
        }
    }
    steps
}

/// Makes a violation small: as much as is needed of the beginning, of the sessions and of the reads.
fn shrink(key: &Key, mut events: Vec<Event>) -> Violation {
    let violated = |events: &[Event], caps| match search(&steps(events, caps)) {
        Verdict::Violated(stuck) => Some(stuck),
        Verdict::InOrder(_) | Verdict::TooHard => None,
    };
    // What is linearizable is so at every moment: find the first at which this is not.
    let mut moments: Vec<u64> =
        events.iter().flat_map(|event| [Some(event.began), event.ended]).flatten().collect();
    moments.sort_unstable();
    let (mut fine, mut wrong) = (0, moments.len());
    while fine + 1 < wrong {
        let middle = usize::midpoint(fine, wrong);
        if violated(&until(&events, moments[middle - 1]), Caps::Checked).is_some() {
            wrong = middle;
        } else {
            fine = middle;
        }
    }
    if let Some(last) = wrong.checked_sub(1) {
        events = until(&events, moments[last]);
    }
    // Without a session, the others have to be in order too, but for the cap.
    let mut caps = Caps::Checked;
    if violated(&events, Caps::Unchecked).is_some() {
        caps = Caps::Unchecked;
        let handles: BTreeSet<Handle> = events.iter().filter_map(|event| handle_of(&event.call)).collect();
        for handle in handles {
            let fewer = without(&events, handle);
            if violated(&fewer, caps).is_some() {
                events = fewer;
            }
        }
    }
    // Reads change nothing, so the rest has to be in order without them. First many at once, then single ones.
    let mut size = events.len().next_power_of_two();
    while size > 0 {
        let mut from = 0;
        while from < events.len() {
            let leaves = |index: usize, event: &Event| {
                !(from..from + size).contains(&index) || !event.call.only_reads()
            };
            let fewer = events.iter().enumerate().filter(|(index, event)| leaves(*index, event));
            let fewer: Vec<_> = fewer.map(|(_, event)| event.clone()).collect();
            if fewer.len() < events.len() && violated(&fewer, caps).is_some() {
                events = fewer;
            } else {
                from += size;
            }
        }
        size /= 2;
    }
    let placed = steps(&events, caps);
    let stuck = violated(&events, caps).unwrap_or_default();
    let stuck: BTreeSet<usize> = stuck.into_iter().map(|index| placed[index].event).collect();
    let stuck = stuck.into_iter().map(|index| events[index].clone()).collect();
    Violation { of: key.to_string(), gave_up: false, calls: events, stuck }
}

/// What was known of a history at a moment.
fn until(events: &[Event], moment: u64) -> Vec<Event> {
    let begun = events.iter().filter(|event| event.began <= moment);
    let known = begun.map(|event| match event.ended {
        Some(ended) if ended <= moment => event.clone(),
        _ => Event { ended: None, answer: None, ..event.clone() },
    });
    known.filter(|event| event.answer.is_some() || !event.call.only_reads()).collect()
}

fn handle_of(call: &Call) -> Option<Handle> {
    match call {
        Call::Find { handle }
        | Call::Insert { handle, .. }
        | Call::Replace { handle, .. }
        | Call::Remove { handle, .. }
        | Call::Touch { handle, .. } => Some(*handle),
        Call::List { .. } | Call::Epoch { .. } | Call::RemoveAll { .. } | Call::Sweep { .. } => None,
    }
}

/// The history as if there had never been this session.
fn without(events: &[Event], gone: Handle) -> Vec<Event> {
    let others = events.iter().filter(|event| handle_of(&event.call) != Some(gone));
    let stripped = others.map(|event| {
        let mut event = event.clone();
        match &mut event.answer {
            Some(Answer::Listed(list)) => list.retain(|(handle, _)| *handle != gone),
            Some(Answer::RemovedAll { ended, .. }) => ended.retain(|handle| *handle != gone),
            Some(Answer::Inserted { evicted }) => evicted.retain(|handle| *handle != gone),
            Some(Answer::Swept(swept)) => swept.retain(|(handle, ..)| *handle != gone),
            _ => {}
        }
        event
    });
    stripped.collect()
}
