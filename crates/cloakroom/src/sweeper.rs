//! The background sweep: clears away what time has ended.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use cloakroom_core::client::Client;
use cloakroom_core::event::{Event, EventKind};

use crate::error::SessionError;
use crate::layer::Shared;

impl Shared {
    /// Sweeps until nothing is due, one bounded batch at a time, and reports each session that expired.
    pub(crate) async fn sweep(&self) -> Result<usize, SessionError> {
        let limits = self.engine.policy().sweep_limits();
        let mut count = 0;
        loop {
            let now = self.now()?;
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

    /// Starts the background sweep with the first request, if there is a runtime to run it.
    #[cfg(feature = "tokio")]
    pub(crate) fn start_sweeping(self: &Arc<Self>) {
        use std::sync::atomic::Ordering;
        use std::time::Duration;

        /// Correctness never waits for the sweep, so this only bounds how long space stays taken.
        const INTERVAL: Duration = Duration::from_secs(10);

        if self.sweeping.load(Ordering::Relaxed) || self.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // Ends with the last clone of the layer and its services.
        let shared = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                let Some(shared) = shared.upgrade() else { return };
                if let Err(error) = shared.sweep().await {
                    // Reported; the next round tries again.
                    drop(shared.refuse_outside(error));
                }
            }
        });
    }

    #[cfg(not(feature = "tokio"))]
    pub(crate) fn start_sweeping(self: &Arc<Self>) {}
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
