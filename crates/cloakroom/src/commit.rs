//! The end of a request: one conclusion, carried out.

use std::sync::Arc;

use cloakroom_core::cookie::SetCookie;
use cloakroom_core::engine::CookieAction;
use cloakroom_core::lifecycle::{Rebased, Write};
use cloakroom_core::store::{Inserted, Replaced, StoreError};
use http::{HeaderValue, Response, header};

use crate::error::SessionError;
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
        if let Some(cookie) = &self.cookie {
            // A token's characters and checked attributes: always a valid field value.
            if let Ok(mut value) = HeaderValue::from_str(cookie.expose()) {
                value.set_sensitive(true);
                headers.append(header::SET_COOKIE, value);
            }
        }
        if let Some(clear) = self.clear {
            headers.insert(CLEAR_SITE_DATA, HeaderValue::from_static(clear));
        }
    }
}

/// Concludes a request: writes what it has changed, and says what the response is to carry.
pub(crate) async fn commit(slot: Arc<Slot>, mut loaded: Box<Loaded>) -> Outcome {
    let shared = &slot.shared;
    let (cookie, error) = match conclude(&slot, &mut loaded).await {
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

async fn conclude(slot: &Slot, loaded: &mut Loaded) -> Result<Option<CookieAction>, SessionError> {
    let shared = &slot.shared;
    let (engine, store) = (&shared.engine, &shared.store);
    let Loaded { resumed, changes, .. } = loaded;
    for _ in 0..TRIES {
        let now = shared.now()?;
        let plan = engine.conclude(resumed, changes, now, &*shared.entropy)?;
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
