//! What can go wrong, at the start and in a request.

use std::io;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::pages;

/// The application cannot start. The setup is at fault; trying again without changing it does not help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The notes file cannot be read or created.
    #[error("the notes file cannot be read or created: {0}")]
    NotesFile(#[source] io::Error),
    /// The notes file is there, but is not one that this version wrote. It is left as it is.
    #[error("the notes file is not one of this version's: {0}")]
    NotesFormat(String),
}

/// A request that cannot be served. The page says it in plain words and shows nothing from inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request did not come through the gateway.
    NotThroughGateway,
    /// The gateway said something about the session that has no meaning.
    UnreadableSession,
    /// A form or a query that no page of ours sends.
    UnreadableForm,
    /// The notes cannot be written now.
    NotesUnavailable,
    /// The fault is in this program.
    Internal,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, title, text) = match self {
            Self::NotThroughGateway => (
                StatusCode::FORBIDDEN,
                "Please use the front door",
                "This application is reached through its gateway only. \
                 Open the address that the gateway printed when it started.",
            ),
            Self::UnreadableSession => (
                StatusCode::BAD_REQUEST,
                "That request could not be read",
                "What it said about the session has no meaning here.",
            ),
            Self::UnreadableForm => (
                StatusCode::BAD_REQUEST,
                "That request could not be read",
                "It does not look like one of the forms here. Please go back and try once more.",
            ),
            Self::NotesUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Your notes cannot be saved right now",
                "Nothing was changed. Please try again in a moment.",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong here",
                "It was not your fault. Please try again in a moment.",
            ),
        };
        (status, pages::refusal(title, text)).into_response()
    }
}

impl From<askama::Error> for Refusal {
    fn from(_: askama::Error) -> Self {
        Self::Internal
    }
}
