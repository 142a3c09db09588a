//! The session as a handler sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::csrf::{CsrfKey, Visitor, VisitorKeys};
use cloakroom_core::data::{DataMap, is_key_name};
use cloakroom_core::engine::Activity;
use cloakroom_core::error::{ChangeError, EngineError};
use cloakroom_core::record::{Authentication, Record, Subject, ValueError};
use cloakroom_core::store::Reason;
use cloakroom_core::token::Handle;
use http::Extensions;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::SessionError;
use crate::key::Key;
use crate::slot::{Loaded, Slot, SlotHandle};

/// The session of a request: a visitor's, a user's, or none yet.
///
/// A handler gets it by extraction (axum), or by [`Session::load`] (any tower service). Asking loads it: one look-up if the
/// request has a token, none if it has not. A visitor with nothing to keep gets neither record nor cookie.
///
/// Data changes are written once, when the response starts, whatever its status. Lifecycle calls (log in, step up, rotate, log
/// out) act at once. Clones share one session. Responses of requests that asked are sent with `Cache-Control: no-store`.
#[derive(Clone)]
pub struct Session {
    pub(crate) slot: Arc<Slot>,
}

impl Session {
    /// Loads the session of a request from its extensions, for services that have no extractors.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoLayer`] if the request did not come through a [`SessionLayer`](crate::SessionLayer);
    /// [`SessionError::Store`], [`SessionError::Engine`] or [`SessionError::Clock`] if the session cannot be known: answer 503 then,
    /// as [`SessionError::response`] does.
    pub async fn load(extensions: &Extensions) -> Result<Self, SessionError> {
        let slot = extensions.get::<SlotHandle>().ok_or(SessionError::NoLayer)?;
        let slot = Arc::clone(&slot.0);
        slot.load().await?;
        Ok(Self { slot })
    }

    /// The value under a key, changes of this request included; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`SessionError::Data`] if the stored value has another shape; [`SessionError::AfterResponse`].
    pub fn get<T: DeserializeOwned>(&self, key: Key<T>) -> Result<Option<T>, SessionError> {
        let value = self.slot.with(|loaded| {
            let Some(json) = loaded.view()?.get(key.name()) else { return Ok(None) };
            Ok(Some(decode(json).map_err(|reason| change_error(key.name(), reason))?))
        });
        value.map_err(|error| self.slot.refuse(error))
    }

    /// Stores a value. The last writer of a key wins; to change a value, [`Session::update`] loses nothing.
    ///
    /// # Errors
    ///
    /// [`SessionError::Data`] if the value has no JSON form; [`SessionError::Engine`] if the data would be larger than the
    /// policy allows; [`SessionError::AfterResponse`]. The session is then unchanged.
    #[allow(clippy::needless_pass_by_value, reason = "the value goes into the session")]
    pub fn set<T: Serialize>(&self, key: Key<T>, value: T) -> Result<(), SessionError> {
        let json = encode_for(key.name(), &value)?;
        self.change(|loaded| loaded.changes.set(key.name(), json))
    }

    /// All data as JSON texts by key, changes of this request included: for adapters that know the keys at run time only.
    ///
    /// # Errors
    ///
    /// [`SessionError::Engine`] if the data was changed by something else; [`SessionError::AfterResponse`].
    pub fn entries(&self) -> Result<Vec<(String, String)>, SessionError> {
        let entries = self.slot.with(|loaded| {
            let text = |json: &[u8]| String::from_utf8_lossy(json).into_owned();
            Ok(loaded.view()?.iter().map(|(key, json)| (key.to_owned(), text(json))).collect())
        });
        entries.map_err(|error| self.slot.refuse(error))
    }

    /// Stores a JSON text under a key that is known at run time only.
    ///
    /// # Errors
    ///
    /// As [`Session::set`]; [`SessionError::Value`] if `name` is no name of a key; [`SessionError::Data`] if `json` is no
    /// JSON text.
    pub fn set_json(&self, name: &str, json: &str) -> Result<(), SessionError> {
        let json = check_json(name, json)?;
        let name = check_name(name)?.to_owned();
        self.change(|loaded| loaded.changes.set(name, json))
    }

    /// Removes a value whose key is known at run time only.
    ///
    /// # Errors
    ///
    /// [`SessionError::AfterResponse`].
    pub fn remove_named(&self, name: &str) -> Result<(), SessionError> {
        self.change(|loaded| loaded.changes.remove(name.to_owned()))
    }

    /// Why the session of the presented token ended, if it has and the token was genuine. For telling its own user; whoever
    /// presents anything else gets `None`.
    pub fn ended_because(&self) -> Option<Reason> {
        self.slot.with(|loaded| Ok(loaded.resumed.over())).ok().flatten()
    }

    /// Removes a value.
    ///
    /// # Errors
    ///
    /// [`SessionError::AfterResponse`].
    pub fn remove<T>(&self, key: Key<T>) -> Result<(), SessionError> {
        self.change(|loaded| loaded.changes.remove(key.name()))
    }

    /// Changes a value in place; where there is none, from its default.
    ///
    /// Never lost: if another request has written meanwhile, `change` runs again on the fresh value. So it may run more than
    /// once, and should do nothing but change the value.
    ///
    /// # Errors
    ///
    /// As [`Session::set`]; [`SessionError::Data`] also if the stored value has another shape.
    pub fn update<T>(
        &self,
        key: Key<T>,
        change: impl Fn(&mut T) + Send + Sync + 'static,
    ) -> Result<(), SessionError>
    where
        T: Default + Serialize + DeserializeOwned + 'static,
    {
        let update = move |stored: Option<&[u8]>| {
            let mut value = match stored {
                Some(json) => decode(json)?,
                None => T::default(),
            };
            change(&mut value);
            encode(&value)
        };
        self.change(|loaded| loaded.changes.update(key.name(), Arc::new(update)))
    }

    fn change(&self, note: impl FnOnce(&mut Loaded)) -> Result<(), SessionError> {
        let max = self.slot.shared.engine.policy().data_limit();
        let changed = self.slot.with(|loaded| {
            // Seen before the change is noted, so that one that does not open or apply leaves nothing behind.
            loaded.view()?;
            note(loaded);
            let Loaded { resumed, changes, view, .. } = loaded;
            let seen = match view {
                Some(view) => view,
                None => resumed.data()?,
            };
            let applied = changes.apply_last(seen).map_err(SessionError::from).and_then(|changed| {
                let len = changed.size();
                if len > max { Err(EngineError::DataTooLarge { len, max }.into()) } else { Ok(changed) }
            });
            match applied {
                Ok(changed) => {
                    *view = Some(changed);
                    Ok(())
                }
                Err(error) => {
                    changes.take_back();
                    Err(error)
                }
            }
        });
        changed.map_err(|error| self.slot.refuse(error))
    }

    /// The session's public name; `None` while there is no session. Safe to log.
    pub fn handle(&self) -> Option<Handle> {
        self.record(Record::handle)
    }

    /// Who is logged in; `None` while anonymous.
    pub fn subject(&self) -> Option<Subject> {
        self.record(|record| record.subject().cloned()).flatten()
    }

    /// When, how and how well the subject authenticated; `None` while anonymous.
    pub fn authentication(&self) -> Option<Authentication> {
        self.record(|record| record.authentication().cloned()).flatten()
    }

    /// When the session ends if nothing more happens. Asking does not extend it.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.record(|record| record.deadline().0)
    }

    fn record<T>(&self, look: impl FnOnce(&Record) -> T) -> Option<T> {
        self.slot.with(|loaded| Ok(loaded.resumed.record().map(look))).ok().flatten()
    }

    /// The key of the session's form tokens, for adapters; `None` while there is no session.
    pub fn csrf_key(&self) -> Option<CsrfKey> {
        self.slot.with(|loaded| Ok(loaded.resumed.csrf_key())).ok().flatten()
    }

    /// Whether a form token counts in this session, for adapters: as
    /// [`Resumed::accepts_csrf`](cloakroom_core::engine::Resumed::accepts_csrf) says. Nothing counts once the response
    /// has begun.
    #[must_use = "a request whose token is not valid must not go on"]
    pub fn accepts_csrf(
        &self,
        text: &[u8],
        visitor: Option<(&VisitorKeys, &Visitor)>,
        now: Timestamp,
    ) -> bool {
        self.slot.with(|loaded| Ok(loaded.resumed.accepts_csrf(text, visitor, now))).unwrap_or(false)
    }

    /// Whether a text is a form token of another session, while this one belongs to somebody, for adapters: as
    /// [`Resumed::has_other_csrf`](cloakroom_core::engine::Resumed::has_other_csrf) says.
    ///
    /// # Errors
    ///
    /// [`SessionError::AfterResponse`] once the response has begun.
    pub fn has_other_csrf(&self, text: &[u8]) -> Result<bool, SessionError> {
        self.slot.with(|loaded| Ok(loaded.resumed.has_other_csrf(text)))
    }

    /// Demands that somebody is logged in, and returns who.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotAuthenticated`].
    pub fn require_authenticated(&self) -> Result<Subject, SessionError> {
        self.subject().ok_or(SessionError::NotAuthenticated)
    }

    /// Demands an authentication no older than `age`.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotAuthenticated`], [`SessionError::NotRecent`], [`SessionError::Clock`].
    pub fn require_recent(&self, age: Duration) -> Result<Subject, SessionError> {
        let subject = self.require_authenticated()?;
        let at = self.authentication().map(|authentication| authentication.at());
        let now = self.slot.shared.now()?;
        let skew = self.slot.shared.engine.policy().skew();
        match at {
            // Shortened by the skew, like every limit; but never below zero, or nothing would ever be recent.
            Some(at) if now.since(at) <= age.saturating_sub(skew) => Ok(subject),
            _ => Err(SessionError::NotRecent),
        }
    }

    /// Says that this request is no user activity, so that it does not move the idle timer.
    ///
    /// # Errors
    ///
    /// [`SessionError::AfterResponse`].
    pub fn mark_passive(&self) -> Result<(), SessionError> {
        self.slot.with(|loaded| {
            loaded.resumed.set_activity(Activity::Passive);
            Ok(())
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("handle", &self.handle())
            .field("subject", &self.subject())
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// The data as this request sees it.
    pub(crate) fn view(&mut self) -> Result<&DataMap, SessionError> {
        let Self { resumed, changes, view, .. } = self;
        if view.is_none() && changes.is_empty() {
            return Ok(resumed.data()?);
        }
        let data = match view.take() {
            Some(data) => data,
            None => {
                let mut data = resumed.data()?.clone();
                changes.apply(&mut data)?;
                data
            }
        };
        Ok(view.insert(data))
    }
}

/// Reads a JSON text. The reason names the place, never the value: `serde_json` quotes values in some of its messages.
fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| {
        format!("the stored value does not fit its type (line {}, column {})", error.line(), error.column())
    })
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|_| "the value has no JSON form".to_owned())
}

/// The JSON text of a value for a key.
pub(crate) fn encode_for<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>, SessionError> {
    encode(value).map_err(|reason| change_error(key, reason).into())
}

/// Checks a key's name that is known at run time only.
pub(crate) fn check_name(name: &str) -> Result<&str, SessionError> {
    if is_key_name(name) { Ok(name) } else { Err(ValueError::new(KEY_NAME).into()) }
}

/// Checks a JSON text that is known at run time only.
pub(crate) fn check_json(key: &str, json: &str) -> Result<Vec<u8>, SessionError> {
    match serde_json::from_str::<serde::de::IgnoredAny>(json) {
        Ok(_) => Ok(json.as_bytes().to_vec()),
        Err(_) => Err(change_error(key, "the value is no JSON text".to_owned()).into()),
    }
}

const KEY_NAME: &str = "a data key is named [a-z][a-z0-9_.-]{0,63}";

fn change_error(key: &str, reason: String) -> ChangeError {
    ChangeError { key: key.to_owned(), reason }
}
