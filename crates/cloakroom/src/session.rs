//! The session as a handler sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::csrf::{CsrfKey, Visitor, VisitorKeys};
use cloakroom_core::engine::Activity;
use cloakroom_core::record::{Authentication, Record, Subject};
use cloakroom_core::store::Reason;
use cloakroom_core::token::Handle;
use http::Extensions;

use crate::error::SessionError;
use crate::slot::{Slot, SlotHandle};

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

    /// Why the session of the presented token ended, if it has and the token was genuine. For telling its own user; whoever
    /// presents anything else gets `None`.
    pub fn ended_because(&self) -> Option<Reason> {
        self.slot.with(|loaded| Ok(loaded.resumed.over())).ok().flatten()
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
