//! Which browsers have begun a login here: the cookie for answers that come back by another site's form.

use std::fmt;
use std::sync::Arc;

use cloakroom::core::clock::{Clock, ClockError};
use cloakroom::core::cookie::{Cookie, SetCookie};
use cloakroom::core::csrf::{LoginFlowCookie, VisitorKeys};
use cloakroom::{SessionError, SystemEntropy};
use http::{HeaderMap, HeaderValue, header};

/// Sets and checks the cookie. Where the session cookie is not `Secure` there is none.
#[derive(Clone)]
pub struct LoginFlows {
    cookie: Option<LoginFlowCookie>,
    keys: VisitorKeys,
    clock: Arc<dyn Clock>,
}

impl LoginFlows {
    /// Beside a session cookie.
    pub fn beside(session: &Cookie, keys: VisitorKeys, clock: Arc<dyn Clock>) -> Self {
        Self { cookie: LoginFlowCookie::beside(session), keys, clock }
    }

    /// The cookie's name.
    pub fn name(&self) -> Option<&str> {
        self.cookie.as_ref().map(|cookie| cookie.cookie().name())
    }

    /// Whether a login was begun in a request's browser, not too long ago.
    ///
    /// # Errors
    ///
    /// If the clock fails.
    pub fn is_under_way(&self, headers: &HeaderMap) -> Result<bool, ClockError> {
        let Some(cookie) = &self.cookie else { return Ok(false) };
        Ok(cookie.is_shown(lines(headers), &self.keys, self.clock.now()?))
    }

    /// Whether a request brings the cookie, whatever it is worth.
    pub fn is_known_to(&self, headers: &HeaderMap) -> bool {
        self.cookie.as_ref().is_some_and(|cookie| cookie.cookie().values(lines(headers)).next().is_some())
    }

    /// The `Set-Cookie` value where a login begins. Each begins its time anew.
    ///
    /// # Errors
    ///
    /// If clock or randomness fail.
    pub fn begin(&self) -> Result<Option<SetCookie>, SessionError> {
        let Some(cookie) = &self.cookie else { return Ok(None) };
        let set = cookie.begin(&self.keys, self.clock.now()?, &SystemEntropy);
        set.map(Some).map_err(|error| SessionError::Engine(error.into()))
    }

    /// The `Set-Cookie` value that removes the cookie.
    pub fn end(&self) -> Option<SetCookie> {
        self.cookie.as_ref().map(LoginFlowCookie::removal)
    }
}

impl fmt::Debug for LoginFlows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginFlows").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}

fn lines(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes)
}
