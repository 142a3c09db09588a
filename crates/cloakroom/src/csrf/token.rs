//! Tokens for pages.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloakroom_core::csrf::{CsrfToken as Token, Visitor};
use cloakroom_core::error::EngineError;
use http::{Extensions, HeaderMap};

use super::CsrfShared;
use super::judge::cookies;
use crate::error::SessionError;
use crate::slot::SlotHandle;

/// Issues the tokens of one request, and notes whether its visitor is new.
pub(crate) struct Desk {
    pub(super) shared: Arc<CsrfShared>,
    drawn: Mutex<Option<Visitor>>,
}

/// Cloned into the request's extensions.
#[derive(Clone)]
pub(crate) struct DeskHandle(pub(crate) Arc<Desk>);

impl Desk {
    pub(super) fn new(shared: &Arc<CsrfShared>) -> Self {
        Self { shared: Arc::clone(shared), drawn: Mutex::new(None) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Visitor>> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The visitor whose cookie is to be set.
    pub(super) fn drawn(&self) -> Option<Visitor> {
        self.lock().clone()
    }
}

/// A token for the forms and scripts of one page: the field `cloakroom_csrf` or the header field `x-cloakroom-csrf`.
///
/// A handler gets it by extraction (axum), or by [`CsrfToken::load`]. It is new for each response, good in the session it
/// was issued for, through rotations, and dead after a login or logout. A visitor without a session gets no record, but
/// a cookie of its own ([`VisitorCookie`](crate::core::csrf::VisitorCookie)). The response is sent with `Cache-Control: no-store`.
///
/// # Security
///
/// It belongs into the page: never into a cookie, a URL or a log. `Debug` is redacted.
#[derive(Clone)]
pub struct CsrfToken(Token);

impl CsrfToken {
    /// The 64 characters, none of which needs escaping.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Issues a token for a request, by its header fields and extensions, for services that have no extractors.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoLayer`] if the request did not come through a [`ProtectedLayer`](crate::ProtectedLayer); the others as
    /// [`Session::load`](crate::Session::load).
    pub async fn load(headers: &HeaderMap, extensions: &Extensions) -> Result<Self, SessionError> {
        let DeskHandle(desk) = extensions.get().ok_or(SessionError::NoLayer)?;
        let SlotHandle(slot) = extensions.get().ok_or(SessionError::NoLayer)?;
        slot.load().await?;
        let shared = &desk.shared;
        let entropy = &*shared.sessions.entropy;
        let no_entropy = |error| SessionError::from(EngineError::Entropy(error));
        if let Some(key) = slot.with(|loaded| Ok(loaded.resumed.csrf_key()))? {
            return Ok(Self(key.issue(entropy).map_err(no_entropy)?));
        }
        let now = shared.sessions.now()?;
        let mut drawn = desk.lock();
        let visitor = match (shared.visitor_cookie.find(cookies(headers)), &*drawn) {
            (Some(visitor), _) => visitor,
            (None, Some(visitor)) => visitor.clone(),
            (None, None) => drawn.insert(Visitor::draw(entropy).map_err(no_entropy)?).clone(),
        };
        drop(drawn);
        Ok(Self(shared.visitor_keys.issue(&visitor, now, entropy).map_err(no_entropy)?))
    }
}

impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfToken(redacted)")
    }
}
