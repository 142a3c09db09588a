//! Who waits for the end of which session.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cloakroom_core::store::EndNotice;
use cloakroom_core::token::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::SessionEnd;
use crate::slot::Tie;

/// One for each layer.
#[derive(Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
    /// Whether anybody waits; read without the lock, so that a layer with which nobody does pays nothing.
    busy: AtomicBool,
    /// Wakes the task that looks sessions up.
    wake: Notify,
}

#[derive(Default)]
struct State {
    watched: BTreeMap<Handle, Watched>,
    /// Sessions to look up before the next round.
    due: BTreeSet<Handle>,
    /// Whether the next round is to begin now.
    all_due: bool,
    running: bool,
    listening: bool,
}

struct Watched {
    /// When it was last known to live.
    verified: Instant,
    waiting: Vec<Arc<Place>>,
}

/// Where one that waits is told.
#[derive(Default)]
struct Place(Mutex<Told>);

#[derive(Default)]
struct Told {
    end: Option<SessionEnd>,
    waker: Option<Waker>,
}

/// One that waits. Gives its place up when it is dropped.
pub(crate) struct Seat {
    hub: Arc<Hub>,
    handle: Handle,
    place: Arc<Place>,
}

/// What a new seat is the first to need.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    /// The task that looks sessions up.
    pub(super) task: bool,
    /// The store's notices.
    pub(super) notices: bool,
}

// No critical section leaves its state half changed where it could panic, so a poisoned lock is a good one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    fn tell(&self, end: SessionEnd) {
        let waker = {
            let mut told = lock(&self.0);
            told.end.get_or_insert(end);
            told.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Seat {
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        let mut told = lock(&self.place.0);
        match told.end {
            Some(end) => Poll::Ready(end),
            None => {
                match &mut told.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = lock(&self.hub.state);
        let Some(watched) = state.watched.get_mut(&self.handle) else { return };
        watched.waiting.retain(|place| !Arc::ptr_eq(place, &self.place));
        if watched.waiting.is_empty() {
            state.watched.remove(&self.handle);
            state.due.remove(&self.handle);
            self.hub.note(&state);
        }
    }
}

impl Hub {
    fn note(&self, state: &State) {
        self.busy.store(!state.watched.is_empty(), Ordering::Release);
    }

    /// Takes somebody in who waits for a session's end.
    pub(super) fn take_in(self: &Arc<Self>, tie: Tie) -> (Seat, Needs) {
        let place = Arc::new(Place::default());
        let mut state = lock(&self.state);
        let watched = state
            .watched
            .entry(tie.handle)
            .or_insert_with(|| Watched { verified: Instant::now(), waiting: Vec::with_capacity(1) });
        watched.waiting.push(Arc::clone(&place));
        if !tie.held {
            state.due.insert(tie.handle);
            self.wake.notify_one();
        }
        let needs = Needs { task: !state.running, notices: !state.listening };
        (state.running, state.listening) = (true, true);
        self.note(&state);
        (Seat { hub: Arc::clone(self), handle: tie.handle, place }, needs)
    }

    /// Tells everybody who waits for this session that it is over.
    pub(crate) fn end(&self, handle: Handle, end: SessionEnd) {
        if !self.busy.load(Ordering::Acquire) {
            return;
        }
        let gone = {
            let mut state = lock(&self.state);
            let gone = state.watched.remove(&handle);
            state.due.remove(&handle);
            self.note(&state);
            gone
        };
        for place in gone.into_iter().flat_map(|watched| watched.waiting) {
            place.tell(end);
        }
    }

    /// Tells everybody that nobody can tell any more.
    pub(super) fn give_up(&self) {
        self.give_up_on(|_| true);
    }

    /// Gives up on all sessions that were last known to live longer than `patience` ago.
    pub(super) fn give_up_overdue(&self, now: Instant, patience: Duration) {
        self.give_up_on(|watched| now.duration_since(watched.verified) > patience);
    }

    fn give_up_on(&self, overdue: impl Fn(&Watched) -> bool) {
        let gone = {
            let mut state = lock(&self.state);
            let gone = state.watched.extract_if(.., |_, watched| overdue(watched)).collect::<Vec<_>>();
            self.note(&state);
            gone
        };
        for place in gone.into_iter().flat_map(|(_, watched)| watched.waiting) {
            place.tell(SessionEnd::Unverifiable);
        }
    }

    /// Notes that a session lived at an instant.
    pub(super) fn verified(&self, handle: Handle, at: Instant) {
        if let Some(watched) = lock(&self.state).watched.get_mut(&handle) {
            watched.verified = watched.verified.max(at);
        }
    }

    /// Hears what a store says of ends. A notice is a hint, not a verdict: the session is looked up.
    pub(super) fn hear(&self, notice: EndNotice) {
        if !self.busy.load(Ordering::Acquire) {
            return;
        }
        {
            let mut state = lock(&self.state);
            match notice {
                EndNotice::Ended(handle) if !state.watched.contains_key(&handle) => return,
                EndNotice::Ended(handle) => drop(state.due.insert(handle)),
                _ => state.all_due = true,
            }
        }
        self.wake.notify_one();
    }

    /// Waits until something is due out of turn.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Makes the task look around: there is no layer any more, so it gives everybody up and ends.
    pub(crate) fn close(&self) {
        self.wake.notify_one();
    }

    /// The next sessions to look up, up to `most`: what is due out of turn, and those that a round has not got to yet. Neither
    /// keeps the other waiting.
    pub(super) fn next(&self, round: &mut Option<Bound<Handle>>, most: usize) -> Vec<Handle> {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.all_due) {
            *round = Some(Bound::Unbounded);
        }
        let mut batch = Vec::new();
        while batch.len() < most / 2
            && let Some(handle) = state.due.pop_first()
        {
            batch.push(handle);
        }
        if let Some(from) = *round {
            let rest = state.watched.range((from, Bound::Unbounded)).map(|(handle, _)| *handle);
            let taken = rest.take(most - batch.len()).collect::<Vec<_>>();
            *round = taken.last().copied().map(Bound::Excluded);
            batch.extend(taken);
        }
        batch
    }

    /// Notes that the task stops, if nobody waits.
    pub(super) fn stop_if_idle(&self) -> bool {
        let mut state = lock(&self.state);
        let idle = state.watched.is_empty();
        state.running &= !idle;
        idle
    }

    /// Notes that the task has stopped, whoever waits.
    pub(super) fn stopped(&self) {
        lock(&self.state).running = false;
    }
}
