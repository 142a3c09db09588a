//! What can go wrong in an application's session calls.

use std::time::Duration;

use cloakroom_core::clock::ClockError;
use cloakroom_core::error::{ChangeError, EngineError};
use cloakroom_core::record::ValueError;
use cloakroom_core::store::{Fault, StoreError};
use http::{HeaderValue, Response, StatusCode, header};

/// Seconds that a client is asked to wait after a 503.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// A session call failed.
///
/// The text is for logs. What a client may see is in [`SessionError::status`] and [`SessionError::public_text`], which
/// tell nothing about sessions, stores or keys. As an axum response it is exactly that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The store failed. Nothing is known of the session, which is not the same as "no session".
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A rule forbids it, or a record cannot be trusted.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The time cannot be read.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// This machine's clock and the store's differ by more than the policy's skew: nothing that a clock decides is trusted.
    #[error(
        "this machine's clock and the store's differ by at least {by:?}, and the policy allows {allowed:?}"
    )]
    ClockOff {
        /// By how much at least.
        by: Duration,
        /// The policy's skew.
        allowed: Duration,
    },
    /// A value given by the application is not acceptable.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The value under one data key has another shape than its type now; other keys are not affected.
    #[error(transparent)]
    Data(#[from] ChangeError),
    /// The subject has as many sessions as the policy allows, and the policy denies one more.
    #[error("the subject has as many sessions as it may")]
    CapReached,
    /// All sessions of the subject were ended after this login began: it must begin again.
    #[error("all sessions of the subject were ended after this login began")]
    LoginSuperseded,
    /// The session changed faster than this request could write.
    #[error("the session changed too often while the request tried to write")]
    Conflict,
    /// The call needs somebody who is logged in.
    #[error("nobody is logged in")]
    NotAuthenticated,
    /// The call needs an authentication that is more recent.
    #[error("the last authentication is too long ago")]
    NotRecent,
    /// The response has started; nothing can be changed any more.
    #[error("the session was changed after the response had started")]
    AfterResponse,
    /// The session of the presented token ended, or the token was replaced, moments ago: nothing is kept until the client has heard of it.
    /// [`Session::can_keep`](crate::Session::can_keep) tells before.
    #[error("the session ended a moment ago, so nothing of this request can be kept")]
    NotKept,
    /// Too many unknown tokens came from the client's network, and this one is not known to be genuine. A later try may find out.
    #[error("too many unknown tokens come from the client's network")]
    Throttled,
    /// The closure of an update has called something that changes the session.
    #[error("the session was changed from within the closure of an update")]
    Reentrant,
    /// Another lifecycle call of the same request is under way.
    #[error("another lifecycle call of this request is under way")]
    Busy,
    /// The request did not come through a `SessionLayer`.
    #[error("the route is not below a SessionLayer")]
    NoLayer,
}

/// In the extensions of a response that says a [`SessionError`]: for a layer outside that shows a page of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionRefused {
    /// Somebody has to log in.
    NotAuthenticated,
    /// Whoever is logged in has to authenticate again.
    NotRecent,
    /// The subject has as many sessions as the policy allows.
    CapReached,
    /// What the request began was overtaken by the end of its session, or of all.
    Overtaken,
    /// Store, clock or randomness failed: nothing is known of the session. It may help to ask again.
    Unavailable,
    /// A mistake in the application.
    Mistake,
}

impl SessionError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Store(error) => error.fault(),
            Self::Engine(error) => error.fault(),
            Self::Clock(_) | Self::ClockOff { .. } => Fault::Setup,
            Self::Conflict => Fault::Store,
            Self::CapReached
            | Self::LoginSuperseded
            | Self::NotAuthenticated
            | Self::NotRecent
            | Self::NotKept
            | Self::Throttled => Fault::Client,
            Self::Value(_)
            | Self::Data(_)
            | Self::AfterResponse
            | Self::Reentrant
            | Self::Busy
            | Self::NoLayer => Fault::Caller,
        }
    }

    /// Whether the same request may succeed later.
    pub const fn may_retry(&self) -> bool {
        match self {
            Self::Store(error) => error.may_retry(),
            Self::Engine(error) => error.may_retry(),
            Self::Clock(_) | Self::ClockOff { .. } | Self::Conflict | Self::NotKept | Self::Throttled => true,
            _ => false,
        }
    }

    /// The status for the client: 503 where store or machine failed or a network guesses tokens, 401 and 403 where a login is missing or too old, 409
    /// where a login or change was overtaken by the end of its session or of all sessions, 500 for a mistake in the application.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NotAuthenticated => StatusCode::UNAUTHORIZED,
            Self::NotRecent | Self::CapReached => StatusCode::FORBIDDEN,
            Self::Throttled => StatusCode::SERVICE_UNAVAILABLE,
            Self::LoginSuperseded | Self::NotKept | Self::Engine(EngineError::Superseded) => {
                StatusCode::CONFLICT
            }
            _ => match self.fault() {
                Fault::Store | Fault::Setup => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// One sentence for the client, which reveals nothing.
    pub fn public_text(&self) -> &'static str {
        match self.status() {
            StatusCode::UNAUTHORIZED => "Please sign in.",
            StatusCode::FORBIDDEN if matches!(self, Self::NotRecent) => "Please sign in again to go on.",
            StatusCode::FORBIDDEN => "You are signed in in too many places.",
            StatusCode::CONFLICT => "Something changed meanwhile. Please try again.",
            StatusCode::SERVICE_UNAVAILABLE => "Please try again in a moment.",
            _ => "Something went wrong.",
        }
    }

    /// The response for the client: status, text, `Retry-After` with a 503, and never a cookie.
    pub fn response<B: From<&'static str>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(self.public_text()));
        self.mark(&mut response);
        response
    }

    fn refused(&self) -> SessionRefused {
        match self.status() {
            StatusCode::UNAUTHORIZED => SessionRefused::NotAuthenticated,
            StatusCode::FORBIDDEN if matches!(self, Self::NotRecent) => SessionRefused::NotRecent,
            StatusCode::FORBIDDEN => SessionRefused::CapReached,
            StatusCode::CONFLICT => SessionRefused::Overtaken,
            StatusCode::SERVICE_UNAVAILABLE => SessionRefused::Unavailable,
            _ => SessionRefused::Mistake,
        }
    }

    /// Sets status and header fields of a response that says this error.
    pub(crate) fn mark<B>(&self, response: &mut Response<B>) {
        *response.status_mut() = self.status();
        response.extensions_mut().insert(self.refused());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
    }
}
