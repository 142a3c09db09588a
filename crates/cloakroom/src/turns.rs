//! Turns: requests that change one session at the same moment write one after the other, once they have got into one another's way.
//!
//! A compare-and-swap alone would have each success send all others back: n parallel changes would cost n² store operations. A request that
//! has met [`FREE`] conflicts joins the line of its session instead, first come, first served; a session that nobody quarrels about costs
//! nothing here. There is an entry for each session with a line, and a place in it for each request that waits, so it is bounded by the
//! requests under way. Other processes are not in the line: their writes are conflicts as before.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cloakroom_core::token::Handle;

use crate::error::SessionError;
use crate::housekeeping::within;

/// How often a request tries again after a conflict, or after drawing a handle that was taken. Each conflict is the success of another
/// request.
pub(crate) const TRIES: usize = 128;

/// Conflicts after which a request waits for its turn.
const FREE: usize = 3;

/// How long it waits, before it goes on without: whoever is in front may have been forgotten by their runtime.
const PATIENCE: Duration = Duration::from_secs(10);

const SHARDS: usize = 64;

/// The lines of a process.
pub(crate) struct Turns {
    shards: [Mutex<HashMap<Handle, Line>>; SHARDS],
    tickets: AtomicU64,
}

struct Line {
    /// Whose turn it is.
    ticket: u64,
    waiting: VecDeque<(u64, Waker)>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), tickets: AtomicU64::new(0) }
    }
}

impl Turns {
    /// Begins the tries of a request that changes a session.
    pub(crate) const fn tries(&self, handle: Handle) -> Tries<'_> {
        Tries { turns: self, handle, met: 0, turn: None }
    }

    fn lock(&self, handle: Handle) -> MutexGuard<'_, HashMap<Handle, Line>> {
        // Random bytes, but for a tag in the first two.
        let [_, _, byte, ..] = *handle.as_bytes();
        let shard = usize::from(byte) % SHARDS;
        let [first, ..] = &self.shards;
        self.shards.get(shard).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn wait(&self, handle: Handle) -> Waiting<'_> {
        Waiting { turns: self, handle, ticket: None }
    }

    /// Lets the next one have its turn, if it is that of `ticket`.
    fn pass_on(&self, handle: Handle, ticket: u64) {
        let mut lines = self.lock(handle);
        let Some(line) = lines.get_mut(&handle).filter(|line| line.ticket == ticket) else { return };
        let next = line.waiting.pop_front();
        match next {
            Some((ticket, waker)) => {
                line.ticket = ticket;
                drop(lines);
                waker.wake();
            }
            None => drop(lines.remove(&handle)),
        }
    }

    /// Lets all go on at once.
    fn dissolve(&self, handle: Handle) {
        let line = self.lock(handle).remove(&handle);
        line.into_iter().flat_map(|line| line.waiting).for_each(|(_, waker)| waker.wake());
    }
}

/// The tries of one request.
pub(crate) struct Tries<'a> {
    turns: &'a Turns,
    handle: Handle,
    met: usize,
    turn: Option<Turn<'a>>,
}

impl Tries<'_> {
    /// Takes note of a conflict, and waits until another try is worth it. The session has to be looked up anew afterwards.
    pub(crate) async fn again(&mut self) -> Result<(), SessionError> {
        self.met += 1;
        if self.met >= TRIES {
            return Err(SessionError::Conflict);
        }
        if self.met >= FREE && self.turn.is_none() {
            self.turn = within(PATIENCE, self.turns.wait(self.handle)).await;
        }
        Ok(())
    }

    /// Takes note of what a try has come to. After a failure of the store those who wait try at once, all of them: to fail one after the
    /// other would take the last of them for ever.
    pub(crate) fn tried<T, E>(&self, outcome: Result<T, E>) -> Result<T, E> {
        if outcome.is_err() && self.turn.is_some() {
            self.turns.dissolve(self.handle);
        }
        outcome
    }
}

/// A turn; when dropped, it is the next one's.
struct Turn<'a> {
    turns: &'a Turns,
    handle: Handle,
    ticket: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.pass_on(self.handle, self.ticket);
    }
}

/// A place in a line.
struct Waiting<'a> {
    turns: &'a Turns,
    handle: Handle,
    ticket: Option<u64>,
}

impl<'a> Future for Waiting<'a> {
    type Output = Turn<'a>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Turn<'a>> {
        let (turns, handle) = (self.turns, self.handle);
        let mut lines = turns.lock(handle);
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => {
                let ticket = turns.tickets.fetch_add(1, Ordering::Relaxed);
                self.ticket = Some(ticket);
                let line = lines.entry(handle).or_insert_with(|| Line { ticket, waiting: VecDeque::new() });
                if line.ticket != ticket {
                    line.waiting.push_back((ticket, cx.waker().clone()));
                    return Poll::Pending;
                }
                ticket
            }
        };
        if let Some(line) = lines.get_mut(&handle)
            && let Some((_, waker)) = line.waiting.iter_mut().find(|(waiting, _)| *waiting == ticket)
        {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        // The turn is this one's, or the line was dissolved.
        self.ticket = None;
        Poll::Ready(Turn { turns, handle, ticket })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        if let Some(line) = self.turns.lock(self.handle).get_mut(&self.handle) {
            line.waiting.retain(|(waiting, _)| *waiting != ticket);
        }
        // It may have been given the turn without having taken it.
        self.turns.pass_on(self.handle, ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLE: Handle = Handle::from_bytes([7; 16]);
    const OTHER: Handle = Handle::from_bytes([8; 16]);

    fn poll<'a>(waiting: &mut Waiting<'a>) -> Option<Turn<'a>> {
        match Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    fn is_empty(turns: &Turns) -> bool {
        turns.shards.iter().all(|shard| shard.lock().unwrap().is_empty())
    }

    #[test]
    fn turns_go_round_in_the_order_of_arrival_and_leave_nothing_behind() {
        let turns = Turns::default();
        let mut waiting = [(); 4].map(|()| turns.wait(HANDLE));
        let mut turn = poll(&mut waiting[0]);
        assert!(turn.is_some());
        assert!(waiting.iter_mut().skip(1).all(|one| poll(one).is_none()));
        assert!(poll(&mut turns.wait(OTHER)).is_some(), "another session has a line of its own");
        for next in 1..4 {
            for later in (next..4).rev() {
                assert!(poll(&mut waiting[later]).is_none(), "{later} before {next}");
            }
            drop(turn.take());
            for later in (next + 1..4).rev() {
                assert!(poll(&mut waiting[later]).is_none(), "{later} before {next}");
            }
            turn = poll(&mut waiting[next]);
            assert!(turn.is_some(), "{next}");
        }
        drop(turn);
        assert!(is_empty(&turns));
    }

    #[test]
    fn who_gives_up_waiting_holds_nobody_up() {
        let turns = Turns::default();
        let mut waiting = [(); 4].map(|()| Some(turns.wait(HANDLE)));
        let turn = poll(waiting[0].as_mut().unwrap());
        assert!(waiting.iter_mut().skip(1).flatten().all(|one| poll(one).is_none()));
        // One in the middle of the line, and one whose turn it is without its knowing.
        waiting[2] = None;
        drop(turn);
        waiting[1] = None;
        let last = poll(waiting[3].as_mut().unwrap());
        assert!(last.is_some());
        drop(last);
        assert!(is_empty(&turns));
    }

    #[test]
    fn after_a_failure_all_go_on_at_once() {
        let turns = Turns::default();
        let mut first = turns.wait(HANDLE);
        let turn = poll(&mut first);
        let tries = Tries { turns: &turns, handle: HANDLE, met: FREE, turn };
        let mut waiting = [(); 3].map(|()| turns.wait(HANDLE));
        assert!(waiting.iter_mut().all(|one| poll(one).is_none()));
        assert!(tries.tried(Ok::<_, ()>(())).is_ok());
        assert!(waiting.iter_mut().all(|one| poll(one).is_none()));
        assert!(tries.tried(Err::<(), _>(())).is_err());
        let all = waiting.iter_mut().map(|one| poll(one)).collect::<Vec<_>>();
        assert!(all.iter().all(Option::is_some));
        // Whoever comes now stands in a new line, which those of the old one leave alone.
        let mut newcomer = turns.wait(HANDLE);
        let new = poll(&mut newcomer);
        drop(all);
        drop(tries);
        assert!(poll(&mut turns.wait(HANDLE)).is_none());
        drop(new);
        assert!(is_empty(&turns));
    }
}
