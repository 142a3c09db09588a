//! Form tokens: what the application is told for its forms, and whether what comes back counts.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::core::clock::{Clock, ClockError, Timestamp};
use cloakroom::core::cookie::SetCookie;
use cloakroom::core::csrf::{CsrfToken, Visitor, VisitorCookie, VisitorKeys, has_token_shape};
use cloakroom::core::csrf_form::Search;
use cloakroom::core::origin::Field;
use cloakroom::{EventKind, Session, SessionError, SystemEntropy};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::body::Stream;
use crate::form::Form;

/// Issues and checks tokens.
#[derive(Clone)]
pub struct Tokens(Arc<Shared>);

struct Shared {
    keys: VisitorKeys,
    cookie: VisitorCookie,
    clock: Arc<dyn Clock>,
    names: Names,
    form_bytes: usize,
    patience: Duration,
}

/// Where tokens are looked for.
#[derive(Clone, Debug)]
pub struct Names {
    /// The form field.
    pub field: String,
    /// The request header field.
    pub header: HeaderName,
}

/// A token for one response.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: CsrfToken,
    /// The visitor that it is for, if the browser does not have the cookie yet: to be set if the page makes use of the token.
    pub newcomer: Option<Visitor>,
}

/// What is asked of a request's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That there is one, and that it counts.
    Valid,
    /// That it is none of another session than the one that is signed in, if there is one.
    NotStale,
}

/// What a request showed.
#[derive(Debug)]
pub enum Shown {
    /// What was asked for. Here is the body, from its first byte.
    Right(Stream),
    /// Something else, or nothing.
    Wrong(Stream, EventKind),
    /// The body broke off or stalled.
    Broken(StatusCode),
}

impl Tokens {
    /// Puts the parts together. Of a form, `form_bytes` are read.
    pub fn new(
        keys: VisitorKeys,
        cookie: VisitorCookie,
        clock: Arc<dyn Clock>,
        names: Names,
        form_bytes: usize,
        patience: Duration,
    ) -> Self {
        Self(Arc::new(Shared { keys, cookie, clock, names, form_bytes, patience }))
    }

    /// The name of the form field.
    pub fn field(&self) -> &str {
        &self.0.names.field
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

    /// Looks for a token in a request: in its header, or else in its form, of which the beginning is read. What has not the shape of
    /// ours is another framework's, and counts as absent.
    ///
    /// # Errors
    ///
    /// If the clock fails, or the response has begun.
    pub async fn check(
        &self,
        headers: &HeaderMap,
        body: Stream,
        session: Option<&Session>,
        wanted: Wanted,
    ) -> Result<Shown, SessionError> {
        let refused = EventKind::CsrfTokenRefused;
        let judge = |token: &[u8], body, otherwise| {
            Ok(match self.judge(token, headers, session, wanted, otherwise)? {
                None => Shown::Right(body),
                Some(kind) => Shown::Wrong(body, kind),
            })
        };
        let sent = Field::of(headers.get_all(&self.0.names.header).iter().map(HeaderValue::as_bytes));
        // A header that does not count is not made good by the form: a page of ours sends one or the other.
        if let Field::One(token) = sent
            && has_token_shape(token)
        {
            return judge(token, body, refused);
        }
        let Some(form) = Form::of(headers, self.field(), self.0.form_bytes) else {
            return judge(b"", body, refused);
        };
        let sought = match form.seek(body, self.0.patience).await {
            Ok(sought) => sought,
            Err(status) => return Ok(Shown::Broken(status)),
        };
        let otherwise = match sought.search {
            Search::BeyondLimit => EventKind::CsrfTokenBeyondLimit,
            _ => refused,
        };
        judge(&sought.value, sought.body, otherwise)
    }

    /// What is wrong with a token.
    fn judge(
        &self,
        token: &[u8],
        headers: &HeaderMap,
        session: Option<&Session>,
        wanted: Wanted,
        otherwise: EventKind,
    ) -> Result<Option<EventKind>, SessionError> {
        if wanted == Wanted::NotStale {
            let stale = session.map_or(Ok(false), |session| session.has_other_csrf(token))?;
            return Ok(stale.then_some(EventKind::CsrfTokenStale));
        }
        let now = self.now()?;
        let visitor = self.visitor(headers);
        let visitor = visitor.as_ref().map(|visitor| (&self.0.keys, visitor));
        let counts = match session {
            Some(session) => session.accepts_csrf(token, visitor, now),
            // On a route without sessions there is nobody to act as.
            None => visitor.is_some_and(|(keys, visitor)| keys.verify(visitor, token, now)),
        };
        // A stale one may as well be forged where one is needed.
        Ok((!counts).then_some(otherwise))
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
