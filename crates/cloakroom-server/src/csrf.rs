//! Form tokens: what the application is told for its forms, and whether what comes back counts.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::core::clock::{Clock, ClockError, Timestamp};
use cloakroom::core::cookie::SetCookie;
use cloakroom::core::csrf::{CsrfToken, FORM_FIELD, HEADER_FIELD, Visitor, VisitorCookie, VisitorKeys};
use cloakroom::core::csrf_form::Search;
use cloakroom::{EventKind, Session, SessionError, SystemEntropy};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::body::Stream;
use crate::form::Form;

/// Issues and checks tokens.
#[derive(Clone)]
pub struct Tokens(Arc<Shared>);

struct Shared {
    keys: VisitorKeys,
    cookie: VisitorCookie,
    clock: Arc<dyn Clock>,
    form_bytes: usize,
    patience: Duration,
}

/// A token for one response.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: CsrfToken,
    /// The visitor that it is for, if the browser does not have the cookie yet: to be set if the page makes use of the token.
    pub newcomer: Option<Visitor>,
}

/// What a request showed.
#[derive(Debug)]
pub enum Shown {
    /// A token that counts, or none was needed. Here is the body, from its first byte.
    Valid(Stream),
    /// None that counts.
    Invalid(Stream, EventKind),
    /// The body broke off or stalled.
    Broken(StatusCode),
}

impl Tokens {
    /// Puts the parts together. Of a form, `form_bytes` are read.
    pub fn new(
        keys: VisitorKeys,
        cookie: VisitorCookie,
        clock: Arc<dyn Clock>,
        form_bytes: usize,
        patience: Duration,
    ) -> Self {
        Self(Arc::new(Shared { keys, cookie, clock, form_bytes, patience }))
    }

    /// The cookie that tells visitors apart.
    pub fn cookie(&self) -> &VisitorCookie {
        &self.0.cookie
    }

    /// The visitor of a request.
    pub fn visitor(&self, headers: &HeaderMap) -> Option<Visitor> {
        let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        self.0.cookie.find(lines.collect::<Vec<_>>())
    }

    /// Issues a token for the response to a request: the session's if there is one, else the visitor's.
    ///
    /// # Errors
    ///
    /// If clock or randomness fail.
    pub fn issue(&self, session: &Session, visitor: Option<Visitor>) -> Result<Issued, SessionError> {
        if let Some(key) = session.csrf_key() {
            return Ok(Issued { token: key.issue(&SystemEntropy).map_err(entropy)?, newcomer: None });
        }
        let (visitor, known) = match visitor {
            Some(visitor) => (visitor, true),
            None => (Visitor::draw(&SystemEntropy).map_err(entropy)?, false),
        };
        let token = self.0.keys.issue(&visitor, self.now()?, &SystemEntropy).map_err(entropy)?;
        Ok(Issued { token, newcomer: (!known).then_some(visitor) })
    }

    /// The `Set-Cookie` value for a newcomer.
    pub fn welcome(&self, visitor: &Visitor) -> SetCookie {
        self.0.cookie.set(visitor)
    }

    /// Looks for a token in a request: in its header, or else in its form, of which the beginning is read.
    ///
    /// # Errors
    ///
    /// If the clock fails.
    pub async fn check(
        &self,
        headers: &HeaderMap,
        body: Stream,
        session: Option<&Session>,
    ) -> Result<Shown, SessionError> {
        let mut sent = headers.get_all(HEADER_FIELD).iter();
        let refused = EventKind::CsrfTokenRefused;
        match (sent.next(), sent.next()) {
            (None, _) => {}
            (Some(token), None) if self.counts(token.as_bytes(), headers, session)? => {
                return Ok(Shown::Valid(body));
            }
            // A header that does not count is not made good by the form: a page of ours sends one or the other.
            (Some(_), _) => return Ok(Shown::Invalid(body, refused)),
        }
        let Some(form) = Form::of(headers, FORM_FIELD, self.0.form_bytes) else {
            return Ok(Shown::Invalid(body, refused));
        };
        let sought = match form.seek(body, self.0.patience).await {
            Ok(sought) => sought,
            Err(status) => return Ok(Shown::Broken(status)),
        };
        Ok(match sought.search {
            Search::Found if self.counts(&sought.value, headers, session)? => Shown::Valid(sought.body),
            Search::BeyondLimit => Shown::Invalid(sought.body, EventKind::CsrfTokenBeyondLimit),
            _ => Shown::Invalid(sought.body, refused),
        })
    }

    fn counts(
        &self,
        token: &[u8],
        headers: &HeaderMap,
        session: Option<&Session>,
    ) -> Result<bool, SessionError> {
        let now = self.now()?;
        let visitor = self.visitor(headers);
        let visitor = visitor.as_ref().map(|visitor| (&self.0.keys, visitor));
        Ok(match session {
            Some(session) => session.accepts_csrf(token, visitor, now),
            // On a route without sessions there is nobody to act as.
            None => visitor.is_some_and(|(keys, visitor)| keys.verify(visitor, token, now)),
        })
    }

    fn now(&self) -> Result<Timestamp, ClockError> {
        self.0.clock.now()
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("cookie", &self.0.cookie).finish_non_exhaustive()
    }
}

fn entropy(error: cloakroom::core::entropy::EntropyError) -> SessionError {
    SessionError::Engine(error.into())
}
