//! The task that looks watched sessions up: one for each layer, while anybody waits.

use std::future::{Future, poll_fn};
use std::ops::Bound;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use cloakroom_core::error::EngineError;
use cloakroom_core::store::{EndListener, EndNotice, Found, Reason, StoreError};
use cloakroom_core::token::Handle;
use tokio::time::Instant;

use super::SessionEnd;
use super::hub::{Hub, Needs, Seat};
use crate::error::SessionError;
use crate::layer::Shared;
use crate::slot::Tie;

/// Sessions looked up at once: enough to hide a round trip, few enough to leave a pool of connections to requests.
const BATCH: usize = 16;
/// How long the look-ups of a batch may take. Without a limit, one that hangs would keep all connections open.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a session may stay unverified beyond the interval: about what a database takes to fail over.
const UNVERIFIED_MAX: Duration = Duration::from_secs(30);
/// How often, within a round that meets failures, the unverified are counted out.
const OVERDUE_INTERVAL: Duration = Duration::from_secs(1);

impl Shared {
    /// Takes in somebody who waits for a session's end; `None` if there is no runtime to watch in.
    pub(super) fn watch(self: &Arc<Self>, tie: Tie) -> Option<Seat> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let hub = &self.watching.0;
        let (seat, Needs { task, notices }) = hub.take_in(tie);
        if notices {
            // The store may outlive the layer.
            let hub = Arc::downgrade(hub);
            let listener: EndListener = Arc::new(move |notice: EndNotice| {
                if let Some(hub) = hub.upgrade() {
                    hub.hear(notice);
                }
            });
            self.store.on_end(listener);
        }
        if task {
            let post = Post { hub: Arc::clone(hub), left: false };
            runtime.spawn(keep(Arc::downgrade(self), post, self.engine.policy().watching()));
        }
        Some(seat)
    }

    /// Looks sessions up, and tells those who wait what was found. Returns one of the errors, if there were any.
    async fn look_up(&self, handles: &[Handle]) -> Option<SessionError> {
        let hub = &self.watching.0;
        let asked = Instant::now();
        let look_ups = handles.iter().map(|handle| self.store.find(*handle)).collect();
        let answers = all(look_ups, LOOK_UP_TIMEOUT).await;
        let mut failure = None;
        for (&handle, answer) in handles.iter().zip(answers) {
            let judged = match self.judge(handle, answer) {
                // Not by a clock that is off.
                Ok(Some(end @ SessionEnd::Ended(Reason::Idle | Reason::Absolute))) => {
                    self.compare().await.map(|_| Some(end))
                }
                judged => judged,
            };
            match judged {
                Ok(Some(end)) => hub.end(handle, end),
                Ok(None) => hub.verified(handle, asked),
                Err(error) => failure = Some(error),
            }
        }
        failure
    }

    /// Whether a session is over, by what a look-up has come to.
    fn judge(
        &self,
        handle: Handle,
        answer: Option<Result<Found, StoreError>>,
    ) -> Result<Option<SessionEnd>, SessionError> {
        match answer {
            None => Err(StoreError::unavailable("a look-up took longer than 2 seconds").into()),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(Found::Ended(tombstone))) => Ok(Some(SessionEnd::Ended(tombstone.reason()))),
            Some(Ok(Found::Absent)) => Ok(Some(SessionEnd::Gone)),
            Some(Ok(Found::Live(record))) if record.handle() != handle => {
                Err(EngineError::Tampered { handle }.into())
            }
            Some(Ok(Found::Live(record))) => {
                Ok(self.engine.time_is_up(&record, self.now()?).map(SessionEnd::Ended))
            }
        }
    }
}

/// Says who watches. Whichever way the task ends (a runtime that shuts down, a store that panics), nobody is left waiting
/// for what nobody looks up.
struct Post {
    hub: Arc<Hub>,
    left: bool,
}

impl Drop for Post {
    fn drop(&mut self) {
        if !self.left {
            self.hub.stopped();
            self.hub.give_up();
        }
    }
}

async fn keep(shared: Weak<Shared>, mut post: Post, interval: Duration) {
    let hub = Arc::clone(&post.hub);
    let mut next_round = Instant::now() + interval;
    // Where the present round has got to.
    let mut round: Option<Bound<Handle>> = None;
    let mut failure = None;
    let mut counted = Instant::now();
    loop {
        // Looked at each time, so that notices never keep a round from beginning.
        if round.is_none() && Instant::now() >= next_round {
            round = Some(Bound::Unbounded);
            next_round = Instant::now() + interval;
        }
        let batch = hub.next(&mut round, BATCH);
        if !batch.is_empty() {
            // The layer ends with its last clone, not with this task.
            let Some(shared) = shared.upgrade() else { return };
            failure = shared.look_up(&batch).await.or(failure);
            let now = Instant::now();
            if failure.is_some() && now.duration_since(counted) >= OVERDUE_INTERVAL {
                counted = now;
                hub.give_up_overdue(now, interval + UNVERIFIED_MAX);
            }
            // A store in memory never waits, and a round can be long.
            tokio::task::yield_now().await;
            continue;
        }
        if let Some(error) = failure.take() {
            hub.give_up_overdue(Instant::now(), interval + UNVERIFIED_MAX);
            if let Some(shared) = shared.upgrade() {
                // One event for each round.
                drop(shared.refuse_outside(error));
            }
        }
        if hub.stop_if_idle() {
            post.left = true;
            return;
        }
        // Either way there is something to do.
        drop(tokio::time::timeout_at(next_round, hub.woken()).await);
        if shared.strong_count() == 0 {
            return;
        }
    }
}

type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Waits for several futures at once, up to a limit: `None` for those that are not ready by then.
async fn all<T>(futures: Vec<Waiting<'_, T>>, limit: Duration) -> Vec<Option<T>> {
    let mut futures = futures.into_iter().map(|future| (future, None)).collect::<Vec<_>>();
    let run = poll_fn(|cx| {
        let mut ready = true;
        for (future, answer) in &mut futures {
            if answer.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *answer = Some(value),
                    Poll::Pending => ready = false,
                }
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    });
    // What is not there by now is told by its absence.
    drop(tokio::time::timeout(limit, run).await);
    futures.into_iter().map(|(_, answer)| answer).collect()
}
