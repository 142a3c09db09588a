//! Events: each transition and each refusal of a session yields exactly one.

use std::fmt;
use std::sync::Arc;

use crate::client::Client;
use crate::clock::Timestamp;
use crate::csp::Violation;
use crate::record::Subject;
use crate::seal::PepperId;
use crate::store::Reason;
use crate::token::Handle;

/// How much an event matters to whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// The ordinary course of things.
    Info,
    /// Worth counting: rises under attack or misconfiguration.
    Warning,
    /// Worth waking somebody: theft, or sessions that cannot be served.
    Critical,
}

/// What has kept a session's housekeeping from being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hindrance {
    /// The store failed.
    Store(crate::store::StoreErrorKind),
    /// The store has not answered in time.
    Slow,
    /// Clock or randomness failed.
    Setup,
}

/// What happened. Holds no secret and no session data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// An anonymous session was made, because a visitor had something to keep.
    Created,
    /// A subject logged in; a new session was made.
    LoggedIn,
    /// The subject authenticated again; the secret was replaced at once.
    SteppedUp,
    /// A scheduled rotation began: a successor was handed out.
    Renewed,
    /// The application replaced the secret at once.
    RotatedOnDemand,
    /// The successor of a rotation was seen in use.
    RotationConfirmed,
    /// A client that does not look like the secret's first user was served without the successor.
    StrangerNotRenewed,
    /// The session ended by decision.
    Ended(Reason),
    /// All sessions of everybody were ended, by decision: so many.
    EverybodyEnded(u64),
    /// A sweep cleared a session away whose time was up.
    Expired(Reason),
    /// A token of a session that has ended, or whose time is up, was presented.
    UsedAfterEnd(Reason),
    /// A retired secret came back after its grace: theft. `ended` says whether the policy ended the session.
    Replayed {
        /// Whether the session was ended because of it.
        ended: bool,
    },
    /// A retired secret came back before its successor was in use; no alarm.
    StalePresented,
    /// A well-formed token that is not, or no longer known to be, one of ours.
    UnknownToken,
    /// The cookie holds something that cannot be a token, or more copies than are looked at.
    MalformedToken,
    /// A network presented many tokens that are none, and one more of its tokens could not be looked up; the request was refused.
    LookUpsThrottled,
    /// Tokens of several live sessions came in one request; none was honoured.
    AmbiguousTokens,
    /// A session under a retired pepper was presented.
    PepperRetired,
    /// A record names a pepper that is not configured; the request was refused.
    PepperUnknown(PepperId),
    /// A record's seal does not open; the request was refused.
    RecordTampered,
    /// A login was refused because the subject has as many sessions as it may.
    CapReached,
    /// A login was refused because all sessions of the subject were ended after it began.
    LoginSuperseded,
    /// What a request stored was thrown away, because its session had just ended.
    WriteDiscarded,
    /// A request was refused because its session changed faster than it could write.
    WriteConflict,
    /// The store failed; the request was refused.
    StoreFailed(crate::store::StoreErrorKind),
    /// A note of activity, a confirmation or a scheduled rotation could not be written and was left out; the response went out all
    /// the same, and a later request does it again.
    HousekeepingDropped(Hindrance),
    /// Clock or randomness failed; the request was refused.
    SetupFailed,
    /// This machine's clock and the store's differ by more than the policy allows; the request was refused, or nothing was swept.
    ClockOff,
    /// A request from elsewhere was refused before it had any effect.
    ForgedRequest,
    /// A request that changes something needed a form token and had none that is valid; it was refused before it had any effect.
    CsrfTokenRefused,
    /// A form of another session than the one that is signed in was refused: its page was open across a login.
    CsrfTokenStale,
    /// A request from elsewhere, or without the token that it needed, went on because only reports were asked for.
    ForgeryReported,
    /// Another site tried to load or embed account content; it was refused.
    EmbeddingRefused,
    /// A form that needed a token was refused because none came within the part of it that is read: the token's field belongs
    /// in front of large ones.
    CsrfTokenBeyondLimit,
    /// A browser says that it refused something by the content security policy, or would have.
    CspViolation {
        /// What it says: directive, source, page.
        violation: Violation,
        /// How often, in one message.
        count: u32,
    },
    /// Gateway: a request that is not well-formed was refused.
    RequestRefused,
    /// Gateway: the application cannot be reached, or broke off before it had answered.
    UpstreamDown,
    /// Gateway: the application took too long.
    UpstreamSlow,
    /// Gateway: what the application answered is no HTTP, or has too large a head.
    AnswerRefused,
    /// Gateway: a request or stream was refused because as many of its client's address were under way as may be.
    TooManyRequests,
    /// Gateway: a request or stream was refused because as many were under way in all as may be.
    Overloaded,
    /// Gateway: a command of the application is malformed or not allowed; none of the response's was obeyed but a logout.
    CommandRefused,
    /// Gateway: the application asked for a logout on a safe method, which any site can make a browser send. Nothing was ended; a
    /// browser's user was asked.
    LogoutUnconfirmed,
    /// Gateway: the application tried to set the session cookie itself.
    CookieDropped,
}

impl EventKind {
    /// A stable name, from the OWASP Logging Vocabulary where it has one.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created => "session_created",
            Self::LoggedIn => "authn_login_success",
            Self::SteppedUp => "session_stepped_up",
            Self::Renewed => "session_renewed",
            Self::RotatedOnDemand => "session_rotated",
            Self::RotationConfirmed => "session_rotation_confirmed",
            Self::StrangerNotRenewed => "session_stranger",
            Self::Ended(Reason::LoggedOut) => "session_logged_out",
            Self::Ended(_) => "authn_token_revoked",
            Self::EverybodyEnded(_) => "session_everybody_ended",
            Self::Expired(_) => "session_expired",
            Self::UsedAfterEnd(_) => "session_use_after_expire",
            Self::Replayed { .. } => "authn_token_reuse",
            Self::StalePresented => "session_stale_secret",
            Self::UnknownToken => "session_unknown_token",
            Self::MalformedToken => "session_malformed_token",
            Self::LookUpsThrottled => "excess_rate_limit_exceeded",
            Self::AmbiguousTokens => "session_ambiguous_tokens",
            Self::PepperRetired => "session_pepper_retired",
            Self::PepperUnknown(_) => "session_pepper_unknown",
            Self::RecordTampered => "session_record_tampered",
            Self::CapReached => "excess_sessions_exceeded",
            Self::LoginSuperseded => "authn_login_superseded",
            Self::WriteDiscarded => "session_write_discarded",
            Self::WriteConflict => "session_write_conflict",
            Self::StoreFailed(_) => "session_store_failed",
            Self::HousekeepingDropped(_) => "session_housekeeping_dropped",
            Self::SetupFailed => "session_setup_failed",
            Self::ClockOff => "session_clock_off",
            Self::ForgedRequest => "malicious_csrf",
            Self::CsrfTokenRefused => "malicious_csrf",
            Self::CsrfTokenStale => "csrf_token_stale",
            Self::CsrfTokenBeyondLimit => "csrf_token_beyond_limit",
            Self::ForgeryReported => "csrf_report_only",
            Self::EmbeddingRefused => "malicious_cors",
            Self::CspViolation { .. } => "malicious_csp_violation",
            Self::RequestRefused => "input_validation_fail",
            Self::UpstreamDown => "gateway_upstream_down",
            Self::UpstreamSlow => "gateway_upstream_slow",
            Self::AnswerRefused => "gateway_answer_refused",
            Self::TooManyRequests => "excess_rate_limit_exceeded",
            Self::Overloaded => "gateway_overloaded",
            Self::CommandRefused => "gateway_command_refused",
            Self::LogoutUnconfirmed => "gateway_logout_unconfirmed",
            Self::CookieDropped => "gateway_cookie_dropped",
        }
    }

    /// How much it matters.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Replayed { .. }
            | Self::UsedAfterEnd(Reason::Replay)
            | Self::PepperUnknown(_)
            | Self::RecordTampered
            | Self::StoreFailed(_)
            | Self::SetupFailed
            | Self::ClockOff
            | Self::CommandRefused => Severity::Critical,
            Self::EverybodyEnded(_)
            | Self::UsedAfterEnd(_)
            | Self::StrangerNotRenewed
            | Self::StalePresented
            | Self::UnknownToken
            | Self::MalformedToken
            | Self::LookUpsThrottled
            | Self::AmbiguousTokens
            | Self::PepperRetired
            | Self::CapReached
            | Self::LoginSuperseded
            | Self::WriteConflict
            | Self::HousekeepingDropped(_)
            | Self::ForgedRequest
            | Self::CsrfTokenRefused
            | Self::CsrfTokenBeyondLimit
            | Self::ForgeryReported
            | Self::EmbeddingRefused
            | Self::CspViolation { .. }
            | Self::RequestRefused
            | Self::UpstreamDown
            | Self::UpstreamSlow
            | Self::AnswerRefused
            | Self::LogoutUnconfirmed
            | Self::TooManyRequests
            | Self::Overloaded
            | Self::CookieDropped => Severity::Warning,
            _ => Severity::Info,
        }
    }

    /// Why the session ended, where the event has such a cause.
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Ended(reason) | Self::Expired(reason) | Self::UsedAfterEnd(reason) => Some(*reason),
            _ => None,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that happened to a session: what, to which, whose, by which client, when.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The session's public name; absent where there is none, as for a malformed token.
    pub handle: Option<Handle>,
    /// Whose session it is, where it is known and has an owner.
    pub subject: Option<Subject>,
    /// The client whose request caused it; the default for what no request caused.
    pub client: Client,
    /// When.
    pub at: Timestamp,
    /// Why, in the store's own words, where a store failed. Holds no secret; not for clients.
    pub cause: Option<Arc<str>>,
}

impl Event {
    /// Makes an event that concerns no particular session.
    pub const fn new(kind: EventKind, client: Client, at: Timestamp) -> Self {
        Self { kind, handle: None, subject: None, client, at, cause: None }
    }

    /// Names the session.
    #[must_use = "this returns the changed event"]
    pub fn of(mut self, handle: Handle, subject: Option<&Subject>) -> Self {
        self.handle = Some(handle);
        self.subject = subject.cloned();
        self
    }
}

/// Somebody who wants to know.
///
/// Called on the request's path, so it must not block: count, or hand the event to a queue of your own.
pub trait Observer: Send + Sync + 'static {
    /// Takes note of an event.
    fn observe(&self, event: &Event);
}
