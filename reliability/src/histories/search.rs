//! The search for an order in which every answer is right.

use std::collections::{BTreeSet, HashSet};

use super::model::{State, Step, Undo, hash_of};

/// A step with its place in the history.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) began: u64,
    /// `u64::MAX` for a step whose answer was lost.
    pub(crate) ended: u64,
    pub(crate) step: Step,
    /// Which event of the history it belongs to.
    pub(crate) event: usize,
}

impl Placed {
    const fn lost(&self) -> bool {
        self.ended == u64::MAX
    }
}

/// What the search came to.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// There is an order. So many configurations were looked at.
    InOrder(u64),
    /// There is none; the furthest any order got leaves these steps that could come next and are all wrong.
    Violated(Vec<usize>),
    /// More configurations than allowed.
    TooHard,
}

/// Configurations that a search may look at.
const MOST: u64 = 20_000_000;

/// Searches. `steps` are in the order of their beginnings.
pub(crate) fn search(steps: &[Placed]) -> Verdict {
    let mut search = Search {
        steps,
        state: State::default(),
        pending: (0..steps.len()).collect(),
        done_hash: 0,
        left: steps.iter().filter(|step| !step.lost()).count(),
    };
    let mut seen = HashSet::new();
    let mut stack: Vec<Frame> = Vec::new();
    let mut furthest = (usize::MAX, Vec::new());
    let mut looked_at = 0;
    let mut frame = search.enter();
    loop {
        if search.left == 0 {
            return Verdict::InOrder(looked_at);
        }
        if frame.fresh {
            frame.fresh = false;
            looked_at += 1;
            if looked_at > MOST {
                return Verdict::TooHard;
            }
            if !seen.insert((search.done_hash, search.state.hash())) {
                frame.choices.clear();
            } else if search.left < furthest.0 {
                furthest = (search.left, search.ready());
            }
        }
        match frame.choices.pop() {
            Some(choice) => {
                // It was right when the frame was entered, and the state is the same again.
                let Some(undo) = search.state.apply(&steps[choice].step) else { continue };
                search.mark(choice, true);
                frame.chosen = Some((choice, undo));
                stack.push(frame);
                frame = search.enter();
            }
            None => {
                search.leave(frame);
                let Some(mut before) = stack.pop() else { return Verdict::Violated(furthest.1) };
                if let Some((choice, undo)) = before.chosen.take() {
                    search.mark(choice, false);
                    search.state.undo(undo);
                }
                frame = before;
            }
        }
    }
}

struct Search<'a> {
    steps: &'a [Placed],
    state: State,
    pending: BTreeSet<usize>,
    done_hash: u128,
    /// Steps with a known answer that are not done.
    left: usize,
}

struct Frame {
    /// Steps that were taken at once because they are right and change nothing.
    at_once: Vec<usize>,
    /// Steps that are right and change something; the best guess last.
    choices: Vec<usize>,
    chosen: Option<(usize, Undo)>,
    fresh: bool,
}

impl Search<'_> {
    /// The steps that could come next: those that began before any other that is left has ended.
    fn ready(&self) -> Vec<usize> {
        let mut ready = Vec::new();
        let mut first_end = u64::MAX;
        for &index in &self.pending {
            let step = &self.steps[index];
            if step.began > first_end {
                break;
            }
            first_end = first_end.min(step.ended);
            ready.push(index);
        }
        ready
    }

    fn enter(&mut self) -> Frame {
        let mut at_once = Vec::new();
        loop {
            let mut choices = Vec::new();
            let before = at_once.len();
            for index in self.ready() {
                let Some(undo) = self.state.apply(&self.steps[index].step) else { continue };
                let changed = undo.changed();
                self.state.undo(undo);
                if changed {
                    choices.push(index);
                } else if !self.steps[index].lost() {
                    self.mark(index, true);
                    at_once.push(index);
                }
            }
            if at_once.len() == before {
                // What ended first is tried first; what was lost, last.
                choices.sort_by_key(|index| std::cmp::Reverse(self.steps[*index].ended));
                return Frame { at_once, choices, chosen: None, fresh: true };
            }
        }
    }

    fn leave(&mut self, frame: Frame) {
        for index in frame.at_once {
            self.mark(index, false);
        }
    }

    fn mark(&mut self, index: usize, done: bool) {
        self.done_hash ^= hash_of(&index);
        if done {
            self.pending.remove(&index);
        } else {
            self.pending.insert(index);
        }
        if !self.steps[index].lost() {
            self.left = if done { self.left - 1 } else { self.left + 1 };
        }
    }
}
