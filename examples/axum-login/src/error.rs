//! What an application answers when something does not work.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use cloakroom::SessionError;

/// A request that cannot be served as asked.
#[derive(Debug)]
pub enum AppError {
    /// The session says no. Who is not signed in goes to the login page, who signed in too long ago to the
    /// confirmation page; the rest is a plain refusal that reveals nothing.
    Session(SessionError),
    /// Name or password is wrong. Which one is not said.
    WrongCredentials,
    /// A page cannot be rendered.
    Page,
}

impl From<SessionError> for AppError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<askama::Error> for AppError {
    fn from(_: askama::Error) -> Self {
        Self::Page
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        match self {
            Self::Session(SessionError::NotAuthenticated) => Redirect::to("/login").into_response(),
            Self::Session(SessionError::NotRecent) => Redirect::to("/confirm").into_response(),
            Self::Session(error) => error.into_response(),
            Self::WrongCredentials => Redirect::to("/login?wrong=1").into_response(),
            Self::Page => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}
