//! The background task: compares the clocks, and clears away what time has ended.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use cloakroom_core::client::Client;
use cloakroom_core::event::{Event, EventKind};

use crate::error::SessionError;
use crate::layer::Shared;

impl Shared {
    /// Sweeps until nothing is due, one bounded batch at a time, and reports each session that expired. By one reading of the clock, which
    /// was compared with the store's: one that is off, or is set meanwhile, ends nobody's session.
    pub(crate) async fn sweep(&self) -> Result<usize, SessionError> {
        let limits = self.engine.policy().sweep_limits();
        let now = self.compare().await?;
        let mut count = 0;
        loop {
            let report = self.store.sweep(now, limits).await?;
            for swept in &report.swept {
                let event = Event::new(EventKind::Expired(swept.reason), Client::default(), now);
                self.observe(&event.of(swept.handle, swept.subject.as_ref()));
            }
            count += report.swept.len();
            if !report.more {
                return Ok(count);
            }
            // A store that answers at once would otherwise keep the runtime's thread until everything is swept.
            give_way().await;
        }
    }

    /// Starts the background task with the first request, if there is a runtime to run it.
    #[cfg(feature = "tokio")]
    pub(crate) fn start_rounds(self: &Arc<Self>) {
        use std::sync::atomic::Ordering;
        use std::time::Duration;

        /// Correctness never waits for the sweep, so for that this only bounds how long space stays taken. A clock that was set back is
        /// noticed within it.
        const INTERVAL: Duration = Duration::from_secs(10);

        if self.rounds.load(Ordering::Relaxed) || self.rounds.swap(true, Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // Ends with the last clone of the layer and its services.
        let weak = Arc::downgrade(self);
        runtime.spawn(async move {
            let mut first = true;
            loop {
                let Some(shared) = weak.upgrade() else { return };
                if first && !shared.sweeps && !shared.may_differ().await {
                    return;
                }
                let round = async {
                    if shared.sweeps && !std::mem::take(&mut first) {
                        return shared.sweep().await.map(drop);
                    }
                    shared.compare().await.map(drop)
                };
                if let Err(error) = round.await {
                    // Reported; the next round tries again.
                    drop(shared.refuse_outside(error));
                }
                drop(shared);
                tokio::time::sleep(INTERVAL).await;
            }
        });
    }

    #[cfg(not(feature = "tokio"))]
    pub(crate) fn start_rounds(self: &Arc<Self>) {}
}

/// Lets the other tasks of the runtime go first, on any runtime.
async fn give_way() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
