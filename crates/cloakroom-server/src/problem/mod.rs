//! Why there is no answer of the application: each cause with its status, its own words for whoever asked, and a line for the log that
//! names the setting or the change that cures it.
//!
//! A refusal is made where the reason is known, as a response that carries its cause, and put into words at the edge, where is known who
//! asks: a browser on its way to a page gets a page in the deployment's language, a program `application/problem+json` (RFC 9457). What
//! they are told says nothing of sessions: absent, expired, revoked and forged are one.

mod page;
mod texts;

use cloakroom::{SessionError, SessionRefused};
use http::{HeaderValue, Response, StatusCode, header};

pub use self::page::{Asker, render};
use crate::body::Stream;
use crate::headers;
use crate::language::Language;
use crate::path::PathError;
use crate::upstream::UpstreamError;

/// Why a request is refused, or has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The request's head is not well-formed, or its length is ambiguous.
    Malformed,
    /// Its path can be read in two ways.
    Path,
    /// It is for a host that is not the site's.
    Misdirected,
    /// A method that is not taken here.
    Method,
    /// One of the gateway's own pages that does not exist.
    NotFound,
    /// Its target is too long.
    TargetTooLong,
    /// Its head is too large.
    HeadTooLarge,
    /// Its body is too large.
    BodyTooLarge,
    /// Its body is of a kind that is not taken here.
    MediaType,
    /// Its body broke off.
    Unfinished,
    /// Its body stopped.
    Stalled,
    /// There were too many.
    TooMany,
    /// Another site or origin sent it.
    Elsewhere,
    /// It comes back from an identity provider, and its browser has begun no login here, or too long ago.
    Stray,
    /// It has a session cookie, and nothing says where it comes from.
    Unproven,
    /// Another site would embed or fetch account content.
    Embedded,
    /// It needed a form token and had none that counts.
    Token,
    /// It needed one, and none came within the part of its form that is read.
    TokenTooFar,
    /// It brought one of another session than the one that is signed in.
    Stale,
    /// It was answered with a logout, by a safe method, and is no browser's on its way to a page.
    LogoutByLink,
    /// Its route demands a login.
    SignIn,
    /// Its route demands a recent one.
    SignInAgain,
    /// Its user has as many sessions as the policy allows.
    TooManyPlaces,
    /// What it began was overtaken by the end of its session, or of all.
    Overtaken,
    /// The gateway has as much to do as it takes on.
    Busy,
    /// Sessions cannot be read or written.
    Unavailable,
    /// The machine gives no time or no randomness.
    Setup,
    /// Nobody listens at the application's address.
    Unreachable,
    /// The application takes no connection.
    NoConnection,
    /// It closed the connection without an answer.
    Closed,
    /// It broke off within its answer's head.
    BrokeOff,
    /// Its answer is none of HTTP/1.1.
    BadAnswer,
    /// Its answer's head is too large.
    AnswerTooLarge,
    /// It took too long.
    Slow,
    /// It answered with a command that is malformed or not allowed.
    Command,
    /// It switched protocols unasked.
    Switch,
    /// A mistake in the gateway.
    Internal,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 37] = [
        Self::Malformed,
        Self::Path,
        Self::Misdirected,
        Self::Method,
        Self::NotFound,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::BodyTooLarge,
        Self::MediaType,
        Self::Unfinished,
        Self::Stalled,
        Self::TooMany,
        Self::Elsewhere,
        Self::Stray,
        Self::Unproven,
        Self::Embedded,
        Self::Token,
        Self::TokenTooFar,
        Self::Stale,
        Self::LogoutByLink,
        Self::SignIn,
        Self::SignInAgain,
        Self::TooManyPlaces,
        Self::Overtaken,
        Self::Busy,
        Self::Unavailable,
        Self::Setup,
        Self::Unreachable,
        Self::NoConnection,
        Self::Closed,
        Self::BrokeOff,
        Self::BadAnswer,
        Self::AnswerTooLarge,
        Self::Slow,
        Self::Command,
        Self::Switch,
        Self::Internal,
    ];

    /// The status for the client.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::Path | Self::Unfinished => StatusCode::BAD_REQUEST,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Elsewhere
            | Self::Stray
            | Self::Unproven
            | Self::Embedded
            | Self::Token
            | Self::TokenTooFar
            | Self::Stale
            | Self::LogoutByLink
            | Self::TooManyPlaces => StatusCode::FORBIDDEN,
            Self::SignIn | Self::SignInAgain => StatusCode::UNAUTHORIZED,
            Self::Overtaken => StatusCode::CONFLICT,
            Self::Busy | Self::Unavailable | Self::Setup => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable
            | Self::NoConnection
            | Self::Closed
            | Self::BrokeOff
            | Self::BadAnswer
            | Self::AnswerTooLarge
            | Self::Command
            | Self::Switch => StatusCode::BAD_GATEWAY,
            Self::Slow => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A stable name, for programs and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Path => "path",
            Self::Misdirected => "misdirected",
            Self::Method => "method",
            Self::NotFound => "not-found",
            Self::TargetTooLong => "target-too-long",
            Self::HeadTooLarge => "head-too-large",
            Self::BodyTooLarge => "body-too-large",
            Self::MediaType => "media-type",
            Self::Unfinished => "unfinished",
            Self::Stalled => "stalled",
            Self::TooMany => "too-many",
            Self::Elsewhere => "elsewhere",
            Self::Stray => "login-not-begun",
            Self::Unproven => "unproven",
            Self::Embedded => "embedded",
            Self::Token => "token",
            Self::TokenTooFar => "token-too-far",
            Self::Stale => "stale-form",
            Self::LogoutByLink => "logout-by-link",
            Self::SignIn => "sign-in",
            Self::SignInAgain => "sign-in-again",
            Self::TooManyPlaces => "too-many-places",
            Self::Overtaken => "overtaken",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Setup => "setup",
            Self::Unreachable => "unreachable",
            Self::NoConnection => "no-connection",
            Self::Closed => "closed",
            Self::BrokeOff => "broke-off",
            Self::BadAnswer => "bad-answer",
            Self::AnswerTooLarge => "answer-too-large",
            Self::Slow => "slow",
            Self::Command => "command",
            Self::Switch => "switch",
            Self::Internal => "internal",
        }
    }

    /// The cause where only a status is known.
    pub const fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::Malformed,
            StatusCode::UNAUTHORIZED => Self::SignIn,
            StatusCode::FORBIDDEN => Self::Elsewhere,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::Method,
            StatusCode::REQUEST_TIMEOUT => Self::Stalled,
            StatusCode::CONFLICT => Self::Overtaken,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            StatusCode::URI_TOO_LONG => Self::TargetTooLong,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::MediaType,
            StatusCode::MISDIRECTED_REQUEST => Self::Misdirected,
            StatusCode::TOO_MANY_REQUESTS => Self::TooMany,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Self::HeadTooLarge,
            StatusCode::BAD_GATEWAY => Self::Unreachable,
            StatusCode::SERVICE_UNAVAILABLE => Self::Busy,
            StatusCode::GATEWAY_TIMEOUT => Self::Slow,
            _ => Self::Internal,
        }
    }
}

impl From<headers::Refusal> for Cause {
    fn from(refusal: headers::Refusal) -> Self {
        Self::of_status(refusal.status())
    }
}

impl From<PathError> for Cause {
    fn from(_: PathError) -> Self {
        Self::Path
    }
}

impl From<SessionRefused> for Cause {
    fn from(refused: SessionRefused) -> Self {
        match refused {
            SessionRefused::NotAuthenticated => Self::SignIn,
            SessionRefused::NotRecent => Self::SignInAgain,
            SessionRefused::CapReached => Self::TooManyPlaces,
            SessionRefused::Overtaken => Self::Overtaken,
            SessionRefused::Unavailable => Self::Unavailable,
            _ => Self::Internal,
        }
    }
}

impl From<&UpstreamError> for Cause {
    fn from(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Unreachable(_) => Self::Unreachable,
            UpstreamError::NoConnection(_) => Self::NoConnection,
            UpstreamError::Closed(_) => Self::Closed,
            UpstreamError::BrokeOff(_) => Self::BrokeOff,
            UpstreamError::Malformed(_) => Self::BadAnswer,
            UpstreamError::HeadTooLarge => Self::AnswerTooLarge,
            UpstreamError::Slow(_) => Self::Slow,
            UpstreamError::Unfinished => Self::Unfinished,
            UpstreamError::Stalled => Self::Stalled,
            UpstreamError::Target => Self::Path,
        }
    }
}

/// A refusal on its way to the edge, which puts it into words and logs it.
#[derive(Clone, Debug)]
pub struct Refusal {
    cause: Cause,
    detail: String,
}

impl Refusal {
    /// With what else there is to say in the log: nothing of a session's secrets or data.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }

    /// Why.
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// The response, not yet in words.
    pub fn response(self) -> Response<Stream> {
        // For whoever does not come by the edge.
        let (_, text) = texts::of(self.cause, Language::English);
        let mut response = Response::new(Stream::from(text));
        *response.status_mut() = self.cause.status();
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.cause.status() == StatusCode::SERVICE_UNAVAILABLE {
            fields.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response.extensions_mut().insert(self);
        response
    }

    /// The response to a session call that failed: with its own status, `Retry-After` and all.
    pub fn of_session(error: &SessionError) -> Response<Stream> {
        let mut response = error.response();
        let cause =
            response.extensions().get::<SessionRefused>().map_or(Cause::Internal, |it| Cause::from(*it));
        response.extensions_mut().insert(Self::new(cause, error.to_string()));
        response
    }

    /// Takes the refusal out of a response, the session layer's own too.
    fn take<B>(response: &mut Response<B>) -> Option<Self> {
        let layers = response.extensions_mut().remove::<SessionRefused>();
        let own = response.extensions_mut().remove::<Self>();
        own.or_else(|| layers.map(|refused| Self::new(refused.into(), "")))
    }

    fn log(&self, path: &str) {
        let (cause, status, detail, cure) =
            (self.cause.name(), self.cause.status().as_u16(), &*self.detail, texts::cure(self.cause));
        if self.cause.status().is_server_error() {
            tracing::warn!(target: "cloakroom::gateway", cause, status, path, detail, cure, "not answered by the application");
        } else {
            tracing::info!(target: "cloakroom::gateway", cause, status, path, detail, cure, "refused");
        }
    }
}

/// A refusal without more to say in the log.
pub fn refuse(cause: Cause) -> Response<Stream> {
    Refusal::new(cause, "").response()
}
