//! Changing a session's data: noted in a request, written at its end.
//!
//! What the application's own code does, a value's conversion or the closure of an update, runs without the request's lock: it may
//! look at the session, and a panic in it leaves the request as it was.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use cloakroom_core::data::{Changes, DataMap, is_key_name};
use cloakroom_core::error::{ChangeError, EngineError};
use cloakroom_core::record::ValueError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::SessionError;
use crate::key::Key;
use crate::session::Session;
use crate::slot::{Loaded, Slot};

impl Session {
    /// Whether what this request stores will be kept. Not so where the session of its token ended moments ago, or the token was replaced
    /// moments ago: another response may just have set another cookie, by a login for instance, so this one sets none. Such a client is
    /// like any other visitor once [`Policy::rotation_grace`](crate::Policy::rotation_grace) and the clock skew have passed (65 seconds
    /// by default), or after a login in this very request.
    pub fn can_keep(&self) -> bool {
        self.slot.with(|loaded| Ok(loaded.can_keep())).unwrap_or(false)
    }

    /// The value under a key, changes of this request included; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`SessionError::Data`] if the stored value has another shape; [`SessionError::AfterResponse`].
    pub fn get<T: DeserializeOwned>(&self, key: Key<T>) -> Result<Option<T>, SessionError> {
        let json = self.seen(|_, data| Ok(data.get(key.name()).map(<[u8]>::to_vec)));
        let value = json.and_then(|json| {
            json.map(|json| decode(&json))
                .transpose()
                .map_err(|reason| change_error(key.name(), reason).into())
        });
        value.map_err(|error| self.slot.refuse(error))
    }

    /// Stores a value. The last writer of a key wins; to change a value, [`Session::update`] loses nothing.
    ///
    /// What is stored before a login in the same request would end with the session before; the login is refused then
    /// ([`EngineError::LostByLogin`]). Give the value to the login instead ([`Login::set`](crate::Login::set)), or store it afterwards.
    ///
    /// # Errors
    ///
    /// [`SessionError::Data`] if the value has no JSON form; [`SessionError::Engine`] if the data would be larger than the
    /// policy allows; [`SessionError::NotKept`] if the session has just ended; [`SessionError::Reentrant`];
    /// [`SessionError::AfterResponse`]. The session is then unchanged.
    #[allow(clippy::needless_pass_by_value, reason = "the value goes into the session")]
    pub fn set<T: Serialize>(&self, key: Key<T>, value: T) -> Result<(), SessionError> {
        let json = encode_for(key.name(), &value)?;
        self.change(|changes| changes.set(key.name(), json))
    }

    /// All data as JSON texts by key, changes of this request included: for adapters that know the keys at run time only.
    ///
    /// # Errors
    ///
    /// [`SessionError::Engine`] if the data was changed by something else; [`SessionError::AfterResponse`].
    pub fn entries(&self) -> Result<Vec<(String, String)>, SessionError> {
        let text = |json: &[u8]| String::from_utf8_lossy(json).into_owned();
        let entries =
            self.seen(|_, data| Ok(data.iter().map(|(key, json)| (key.to_owned(), text(json))).collect()));
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
        self.change(|changes| changes.set(name, json))
    }

    /// Removes a value whose key is known at run time only.
    ///
    /// # Errors
    ///
    /// As [`Session::remove`].
    pub fn remove_named(&self, name: &str) -> Result<(), SessionError> {
        self.change(|changes| changes.remove(name.to_owned()))
    }

    /// Removes a value.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotKept`] if the session has just ended; [`SessionError::Reentrant`]; [`SessionError::AfterResponse`].
    pub fn remove<T>(&self, key: Key<T>) -> Result<(), SessionError> {
        self.change(|changes| changes.remove(key.name()))
    }

    /// Changes a value in place; where there is none, from its default.
    ///
    /// Never lost: if another request has written meanwhile, `change` runs again on the fresh value. So it may run more than
    /// once, and should do nothing but change the value. It may look at the session, but not change it. If it panics, the
    /// panic comes out of this call, and nothing is changed.
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
        self.change(|changes| changes.update(key.name(), Arc::new(update)))
    }

    /// Notes a change, if it can be applied to what this request sees.
    fn change(&self, note: impl FnOnce(&mut Changes)) -> Result<(), SessionError> {
        let mut one = Changes::default();
        note(&mut one);
        self.note(&one).map_err(|error| self.slot.refuse(error))
    }

    fn note(&self, change: &Changes) -> Result<(), SessionError> {
        let max = self.slot.shared.engine.policy().data_limit();
        Updating::check(&self.slot)?;
        loop {
            let (data, edition) = self.seen(|at, data| {
                if at.can_keep { Ok((data.clone(), at.edition)) } else { Err(SessionError::NotKept) }
            })?;
            let alone = Updating::begin(&self.slot)?;
            let changed = change.apply_last(&data)?;
            drop(alone);
            let len = changed.size();
            if len > max {
                return Err(EngineError::DataTooLarge { len, max }.into());
            }
            let noted = self.slot.with(|loaded| {
                // Another task of this request was faster: apply the change to what that has left.
                if loaded.edition != edition {
                    return Ok(false);
                }
                loaded.changes.append(change.clone());
                loaded.view = Some(changed);
                loaded.edition += 1;
                Ok(true)
            })?;
            if noted {
                return Ok(());
            }
        }
    }

    /// Looks at the data as this request sees it.
    fn seen<T>(
        &self,
        mut look: impl FnMut(Moment, &DataMap) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        loop {
            let looked = self.slot.with(|loaded| {
                let at = Moment { can_keep: loaded.can_keep(), edition: loaded.edition };
                let Loaded { resumed, changes, view, .. } = loaded;
                match view {
                    Some(data) => look(at, data).map(Ok),
                    None if changes.is_empty() => look(at, resumed.data()?).map(Ok),
                    None => Ok(Err((resumed.open()?, changes.clone(), at.edition))),
                }
            })?;
            // After a rotation on demand: what was changed before is applied to the data that are stored now.
            let (mut data, changes, edition) = match looked {
                Ok(looked) => return Ok(looked),
                Err(unseen) => unseen,
            };
            let alone = Updating::begin(&self.slot)?;
            changes.apply(&mut data)?;
            drop(alone);
            self.slot.with(|loaded| {
                if loaded.edition == edition {
                    loaded.view = Some(data);
                }
                Ok(())
            })?;
        }
    }
}

impl Loaded {
    /// Whether what the request stores will be kept.
    pub(crate) const fn can_keep(&self) -> bool {
        !self.resumed.just_ended()
    }
}

/// How a request stands when its data are looked at.
#[derive(Clone, Copy)]
struct Moment {
    can_keep: bool,
    edition: u64,
}

thread_local! {
    /// The requests whose changes this thread is applying right now.
    static UPDATING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// As long as it lives, the application's code for one change is running on this thread.
///
/// A session call in there that changes something would have that code run again, for ever.
pub(crate) struct Updating(usize);

impl Updating {
    pub(crate) fn begin(slot: &Arc<Slot>) -> Result<Self, SessionError> {
        Self::check(slot)?;
        let slot = Arc::as_ptr(slot).addr();
        UPDATING.with_borrow_mut(|updating| updating.push(slot));
        Ok(Self(slot))
    }

    /// Refuses what changes a session within a change of it.
    pub(crate) fn check(slot: &Arc<Slot>) -> Result<(), SessionError> {
        let slot = Arc::as_ptr(slot).addr();
        if UPDATING.with_borrow(|updating| updating.contains(&slot)) {
            return Err(SessionError::Reentrant);
        }
        Ok(())
    }
}

impl Drop for Updating {
    fn drop(&mut self) {
        UPDATING.with_borrow_mut(|updating| updating.retain(|slot| *slot != self.0));
    }
}

impl fmt::Debug for Updating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Updating")
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
