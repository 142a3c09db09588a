//! What a response leaves behind without anybody having asked for it: a note of activity, a confirmation, a scheduled rotation.
//!
//! It never spoils the response, which is finished by then and may tell of an order that is placed. What cannot be written, or not within
//! the patience of the layer, is left out: with one event, and without the successor of a scheduled rotation, which is handed out only
//! if the store is known to hold it. A later request does it again. The cookie of a login, a step-up, a rotation on demand or a logout
//! goes out all the same: what it stands for, the store has acknowledged.

use std::future::Future;
use std::time::Duration;

use cloakroom_core::engine::{CookieAction, Resumed};
use cloakroom_core::error::EngineError;
use cloakroom_core::event::{EventKind, Hindrance};
use cloakroom_core::lifecycle::{Plan, Write};
use cloakroom_core::store::{Replaced, StoreError};

use crate::error::SessionError;
use crate::layer::Shared;

/// Carries out a plan that holds nothing but housekeeping; returns what the response does to the cookie.
pub(crate) async fn carry_out(shared: &Shared, resumed: &Resumed, plan: &mut Plan) -> Option<CookieAction> {
    let hindrance = match within(shared.patience, write(shared, resumed, plan)).await {
        Some(Ok(House::Kept)) => {
            plan.events.iter().for_each(|event| shared.observe(event));
            return plan.cookie.take();
        }
        Some(Ok(House::Overtaken)) => return resumed.cookie().cloned(),
        Some(Err(error)) => Hindrance::Store(error.kind()),
        None => Hindrance::Slow,
    };
    dropped(shared, resumed, hindrance);
    resumed.cookie().cloned()
}

/// What has become of it.
enum House {
    Kept,
    /// Another request was faster: it has done the same, or the next one will.
    Overtaken,
}

async fn write(shared: &Shared, resumed: &Resumed, plan: &mut Plan) -> Result<House, StoreError> {
    match std::mem::replace(&mut plan.write, Write::None) {
        Write::Touch { handle, seen } => shared.store.touch(handle, seen).await?,
        Write::Replace { expected, record } => {
            if shared.store.replace(expected, record).await? != Replaced::Replaced {
                return Ok(House::Overtaken);
            }
        }
        Write::None | Write::Insert { .. } => {}
    }
    if let Some(handle) = plan.recheck {
        let found = shared.store.find(handle).await?;
        if !shared.engine.still_offers(resumed, &found) {
            plan.cookie = None;
        }
    }
    Ok(House::Kept)
}

/// Reports housekeeping that was left out.
pub(crate) fn dropped(shared: &Shared, resumed: &Resumed, hindrance: Hindrance) {
    let at = shared.clock.now().unwrap_or(resumed.at());
    shared.observe(&resumed.event(EventKind::HousekeepingDropped(hindrance), at));
}

/// What has kept housekeeping from being planned.
pub(crate) const fn hindrance(error: &SessionError) -> Hindrance {
    match error {
        SessionError::Store(error) => Hindrance::Store(error.kind()),
        SessionError::Engine(EngineError::Tampered { .. }) => {
            Hindrance::Store(cloakroom_core::store::StoreErrorKind::Corrupt)
        }
        _ => Hindrance::Setup,
    }
}

/// Waits for a future no longer than `patience`, by the clock of the tokio runtime that polls it; without one, until it is done. `None`
/// if it takes longer.
#[cfg(feature = "tokio")]
pub(crate) async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Option<T> {
    use std::task::Poll;

    let mut work = std::pin::pin!(work);
    // Mostly the answer is there at once, and no timer is needed.
    let mut timer = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        let timer = timer.get_or_insert_with(|| {
            tokio::runtime::Handle::try_current().ok().map(|_| Box::pin(tokio::time::sleep(patience)))
        });
        match timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(not(feature = "tokio"))]
pub(crate) async fn within<T>(_: Duration, work: impl Future<Output = T>) -> Option<T> {
    Some(work.await)
}
