//! What becomes of a request that gets no response of the application.

use cloakroom::{EventKind, SessionError};
use http::{Response, StatusCode};

use super::Desk;
use crate::body::Stream;
use crate::bound::Full;
use crate::edge::Ask;
use crate::obey::Disobeyed;
use crate::problem::{self, Refusal, refuse};
use crate::upstream::UpstreamError;

/// Why there is no response of the application: the client is told the status, the log the rest.
pub(super) enum Failure {
    Upstream(UpstreamError),
    Session(SessionError),
    Disobeyed(Disobeyed),
    /// A switch of protocols that nobody has asked for.
    Switch,
    /// The request needed a form token and had none that counts, or had one of another session.
    Token(EventKind),
    /// The client broke off, or stopped, within what is read of its request before the application is asked.
    Broken(StatusCode),
    /// There are as many requests or streams as there may be.
    Full(Full),
}

impl Desk {
    /// Puts a failure into a refusal, with its event.
    pub(super) fn fail(&self, failure: &Failure, ask: &Ask) -> Response<Stream> {
        let (cause, detail, kind) = match failure {
            // What the store or the policy refuses has had its event.
            Failure::Session(error) | Failure::Disobeyed(Disobeyed::Session(error)) => {
                return Refusal::of_session(error);
            }
            Failure::Upstream(error) => {
                let kind = match error {
                    UpstreamError::Slow(_) | UpstreamError::NoConnection(_) => EventKind::UpstreamSlow,
                    UpstreamError::Unreachable(_) | UpstreamError::Closed(_) | UpstreamError::BrokeOff(_) => {
                        EventKind::UpstreamDown
                    }
                    UpstreamError::Malformed(_) | UpstreamError::HeadTooLarge => EventKind::AnswerRefused,
                    UpstreamError::Unfinished | UpstreamError::Stalled | UpstreamError::Target => {
                        EventKind::RequestRefused
                    }
                };
                (error.into(), error.to_string(), kind)
            }
            Failure::Disobeyed(Disobeyed::Rejected(rejection)) => {
                (problem::Cause::Command, rejection.to_string(), EventKind::CommandRefused)
            }
            Failure::Switch => (problem::Cause::Switch, String::new(), EventKind::CommandRefused),
            // It has had its event.
            Failure::Token(kind) => {
                return refuse(match kind {
                    EventKind::CsrfTokenStale => problem::Cause::Stale,
                    EventKind::CsrfTokenBeyondLimit => problem::Cause::TokenTooFar,
                    _ => problem::Cause::Token,
                });
            }
            Failure::Broken(StatusCode::REQUEST_TIMEOUT) => {
                (problem::Cause::Stalled, String::new(), EventKind::RequestRefused)
            }
            Failure::Broken(_) => (problem::Cause::Unfinished, String::new(), EventKind::RequestRefused),
            Failure::Full(full) => (problem::Cause::Busy, full.detail().to_owned(), full.event()),
        };
        self.observe(kind, ask);
        Refusal::new(cause, detail).response()
    }
}
