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
use crate::layer::Shared;
use crate::lifecycle::TRIES;
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
        Ok(first) => Commit::Writing(Box::pin(write(slot, loaded, first))),
        Err(error) => Commit::Done(outcome(&slot.shared, &loaded, Err(error))),
    }
}

fn plan(
    shared: &Shared,
    loaded: &Loaded,
    changed: Option<DataMap>,
) -> Result<(Timestamp, Plan), SessionError> {
    let now = shared.now()?;
    let Loaded { resumed, changes, .. } = loaded;
    Ok((now, shared.engine.conclude_seen(resumed, changes, changed, now, &*shared.entropy)?))
}

async fn write(slot: Arc<Slot>, mut loaded: Loaded, first: (Timestamp, Plan)) -> Outcome {
    let written = carry_out(&slot, &mut loaded, first).await;
    outcome(&slot.shared, &loaded, written)
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
        Some(CookieAction::Remove) => r#""cache", "cookies", "storage""#,
        // Logged in again by the same response, or by another one just now: that cookie must live.
        _ => r#""cache", "storage""#,
    });
    let spec = shared.engine.cookie();
    let cookie = cookie.map(|action| match action {
        CookieAction::Set(token) => spec.set(&token),
        CookieAction::Remove => spec.removal(),
    });
    Outcome { cookie, clear, error }
}

async fn carry_out(
    slot: &Slot,
    loaded: &mut Loaded,
    first: (Timestamp, Plan),
) -> Result<Option<CookieAction>, SessionError> {
    let shared = &slot.shared;
    let (engine, store) = (&shared.engine, &shared.store);
    let mut first = Some(first);
    for _ in 0..TRIES {
        let (now, plan) = match first.take() {
            Some(first) => first,
            None => plan(shared, loaded, None)?,
        };
        let resumed = &mut loaded.resumed;
        let mut cookie = plan.cookie;
        match plan.write {
            Write::None => {}
            Write::Touch { handle, seen } => store.touch(handle, seen).await?,
            Write::Insert { record, admission } => {
                let handle = record.handle();
                match store.insert(record, admission).await? {
                    Inserted::Inserted { .. } => slot.established(handle),
                    Inserted::HandleTaken => continue,
                    Inserted::Superseded | Inserted::CapReached => {
                        return Err(StoreError::corrupt("an anonymous session was refused admission").into());
                    }
                }
            }
            Write::Replace { expected, record } => {
                let handle = record.handle();
                match (store.replace(expected, record).await?, plan.retry) {
                    (Replaced::Replaced, _) => {}
                    // Only housekeeping: somebody else does it, or the next request.
                    (Replaced::Stale, false) | (Replaced::Gone, false) => return Ok(None),
                    (Replaced::Stale, true) => match engine.rebase(resumed, store.find(handle).await?)? {
                        Rebased::Ready => continue,
                        Rebased::Gone => {
                            shared.observe(&engine.discarded(resumed, now));
                            return Ok(None);
                        }
                    },
                    (Replaced::Gone, true) => {
                        shared.observe(&engine.discarded(resumed, now));
                        return Ok(None);
                    }
                }
            }
        }
        if let Some(handle) = plan.recheck {
            let found = store.find(handle).await?;
            cookie = cookie.filter(|_| engine.still_offers(resumed, &found));
        }
        for event in &plan.events {
            shared.observe(event);
        }
        return Ok(cookie);
    }
    Err(SessionError::Conflict)
}
