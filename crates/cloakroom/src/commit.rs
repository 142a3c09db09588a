//! The end of a request: one conclusion, carried out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::cookie::SetCookie;
use cloakroom_core::data::DataMap;
use cloakroom_core::engine::CookieAction;
use cloakroom_core::lifecycle::{Plan, Rebased, Write};
use cloakroom_core::store::{Inserted, Replaced, StoreError};
use http::{HeaderValue, Response, header};

use crate::error::SessionError;
use crate::housekeeping;
use crate::layer::Shared;
use crate::slot::{Loaded, Slot};

const CLEAR_SITE_DATA: &str = "clear-site-data";

/// What the response is to carry.
pub(crate) struct Outcome {
    cookie: Option<SetCookie>,
    clear: Option<&'static str>,
    error: Option<SessionError>,
}

impl Outcome {
    /// For a session that could not be loaded: the handler has said so already, in one way or another.
    pub(crate) const fn failed_load() -> Self {
        Self { cookie: None, clear: None, error: None }
    }

    /// Puts it onto the response. A failed conclusion replaces the response.
    pub(crate) fn apply<B: Default>(self, response: &mut Response<B>) {
        if let Some(error) = &self.error {
            *response = Response::new(B::default());
            error.mark(response);
        }
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(cookie) = self.cookie {
            // A token's characters and checked attributes: always a valid field value.
            if let Ok(mut value) = HeaderValue::try_from(cookie.into_exposed()) {
                value.set_sensitive(true);
                headers.append(header::SET_COOKIE, value);
            }
        }
        if let Some(clear) = self.clear {
            headers.insert(CLEAR_SITE_DATA, HeaderValue::from_static(clear));
        }
    }
}

/// How a request ends.
pub(crate) enum Commit {
    /// With nothing to write.
    Done(Outcome),
    /// With something that takes the store's answer.
    Writing(Pin<Box<dyn Future<Output = Outcome> + Send>>),
}

/// Concludes a request: writes what it has changed, and says what the response is to carry. Most requests change nothing, and are done at
/// once.
pub(crate) fn commit(slot: Arc<Slot>, mut loaded: Loaded) -> Commit {
    let changed = loaded.view.take();
    match plan(&slot.shared, &loaded, changed) {
        Ok((_, plan)) if plan.write == Write::None && plan.recheck.is_none() => {
            plan.events.iter().for_each(|event| slot.shared.observe(event));
            Commit::Done(outcome(&slot.shared, &loaded, Ok(plan.cookie)))
        }
        // A block, because a function's future holds what it was given twice.
        Ok(mut plan) => Commit::Writing(Box::pin(async move {
            let written = carry_out(&slot, &mut loaded, &mut plan).await;
            outcome(&slot.shared, &loaded, written)
        })),
        // Without a change of the application's own only housekeeping can have failed.
        Err(error) if loaded.changes.is_empty() => {
            housekeeping::dropped(&slot.shared, &loaded.resumed, housekeeping::hindrance(&error));
            let cookie = loaded.resumed.cookie().cloned();
            Commit::Done(outcome(&slot.shared, &loaded, Ok(cookie)))
        }
        Err(error) => Commit::Done(outcome(&slot.shared, &loaded, Err(error))),
    }
}

fn plan(
    shared: &Shared,
    loaded: &Loaded,
    changed: Option<DataMap>,
) -> Result<(Timestamp, Plan), SessionError> {
    // Whether the clock can be trusted was asked when the session was loaded, and is again before one is made.
    let now = shared.clock.now()?;
    let Loaded { resumed, changes, .. } = loaded;
    Ok((now, shared.engine.conclude_seen(resumed, changes, changed, now, &*shared.entropy)?))
}

fn outcome(
    shared: &Shared,
    loaded: &Loaded,
    concluded: Result<Option<CookieAction>, SessionError>,
) -> Outcome {
    let (cookie, error) = match concluded {
        Ok(cookie) => (cookie, None),
        Err(error) => {
            let error = shared.refuse(error, &loaded.resumed);
            // What a lifecycle call has done is done, and acknowledged by the store: its cookie goes out all the same, or a
            // step-up would sign the user out.
            (loaded.resumed.cookie().cloned(), Some(error))
        }
    };
    let clear = loaded.clear_site_data.then_some(match cookie {
        Some(CookieAction::Remove) if shared.clears_whole_site => r#""cache", "cookies", "storage""#,
        // Browsers clear the cookies of the whole registrable domain, and the removal cookie is exact. Besides, whoever logged in
        // again by the same response, or by another one just now, needs that cookie.
        _ => r#""cache", "storage""#,
    });
    let spec = shared.engine.cookie();
    let cookie = cookie.map(|action| match action {
        CookieAction::Set(token) => spec.set(&token),
        CookieAction::Remove => spec.removal(),
    });
    Outcome { cookie, clear, error }
}

/// Carries the plan out, and after a conflict the one that is made then.
async fn carry_out(
    slot: &Slot,
    loaded: &mut Loaded,
    plan: &mut (Timestamp, Plan),
) -> Result<Option<CookieAction>, SessionError> {
    let shared = &*slot.shared;
    let mut tries = None;
    loop {
        if plan.1.is_housekeeping() {
            return Ok(housekeeping::carry_out(shared, &loaded.resumed, &mut plan.1).await);
        }
        // Always there where there is more to write than housekeeping.
        let Some(handle) = plan.1.write.handle() else { return Ok(plan.1.cookie.take()) };
        let tries = tries.get_or_insert_with(|| shared.turns.tries(handle));
        match tries.tried(write(slot, plan).await)? {
            Written::Done => {
                let (_, plan) = plan;
                plan.events.iter().for_each(|event| shared.observe(event));
                return Ok(plan.cookie.take());
            }
            Written::Stale => {
                tries.again().await?;
                let found = tries.tried(shared.store.find(handle).await)?;
                if shared.engine.rebase(&mut loaded.resumed, found)? == Rebased::Gone {
                    return Ok(gone(shared, loaded, plan.0));
                }
            }
            Written::Gone => return Ok(gone(shared, loaded, plan.0)),
            Written::Taken => tries.again().await?,
        }
        *plan = self::plan(shared, loaded, None)?;
    }
}

/// What the request has changed is thrown away. Whoever ended the session may have set another cookie.
fn gone(shared: &Shared, loaded: &Loaded, now: Timestamp) -> Option<CookieAction> {
    shared.observe(&shared.engine.discarded(&loaded.resumed, now));
    None
}

/// What has become of a write that the application has asked for.
enum Written {
    Done,
    /// Another request has changed the session: apply the changes to what it is now.
    Stale,
    /// The session has ended: nothing else of the plan holds.
    Gone,
    /// The new session's handle belongs to another one: draw again.
    Taken,
}

async fn write(slot: &Slot, (_, plan): &mut (Timestamp, Plan)) -> Result<Written, SessionError> {
    let store = &slot.shared.store;
    match std::mem::replace(&mut plan.write, Write::None) {
        Write::None | Write::Touch { .. } => Ok(Written::Done),
        Write::Insert { record, admission } => {
            slot.shared.agree().await?;
            let handle = record.handle();
            match store.insert(record, admission).await? {
                Inserted::Inserted { .. } => {
                    slot.established(handle);
                    Ok(Written::Done)
                }
                Inserted::HandleTaken => Ok(Written::Taken),
                Inserted::Superseded | Inserted::CapReached => {
                    Err(StoreError::corrupt("an anonymous session was refused admission").into())
                }
            }
        }
        Write::Replace { expected, record } => Ok(match store.replace(expected, record).await? {
            Replaced::Replaced => Written::Done,
            Replaced::Stale => Written::Stale,
            Replaced::Gone => Written::Gone,
        }),
    }
}
