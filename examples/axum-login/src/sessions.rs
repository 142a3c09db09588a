//! A user's own sessions: see them, and end them.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, State};
use axum::response::{Html, Redirect};
use cloakroom::{Authenticated, Handle, RecentLogin, SessionError, SessionInfo};
use serde::Deserialize;

use crate::error::AppError;
use crate::users::Users;

/// Which session to end.
#[derive(Deserialize)]
pub struct Which {
    handle: String,
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    name: String,
    sessions: Vec<SessionInfo>,
}

/// The list, the session of this browser first.
///
/// # Errors
///
/// [`AppError::Session`] for whoever is not signed in.
pub async fn list(
    State(users): State<Arc<Users>>,
    user: Result<Authenticated, SessionError>,
) -> Result<Html<String>, AppError> {
    let user = user?;
    let sessions = user.list().await?;
    Ok(Html(SessionsPage { name: users.name(user.subject()), sessions }.render()?))
}

/// Ends one session. Wants a recent login: whoever finds an open browser shall not lock its owner out elsewhere.
///
/// # Errors
///
/// [`AppError::Session`], which leads to the confirmation page if the login was too long ago.
pub async fn end(
    user: Result<RecentLogin, SessionError>,
    Form(form): Form<Which>,
) -> Result<Redirect, AppError> {
    if let Ok(handle) = form.handle.parse::<Handle>() {
        user?.end(handle).await?;
    }
    Ok(Redirect::to("/sessions"))
}

/// Ends all other sessions.
///
/// # Errors
///
/// As [`end`].
pub async fn end_others(user: Result<RecentLogin, SessionError>) -> Result<Redirect, AppError> {
    user?.log_out_others().await?;
    Ok(Redirect::to("/sessions"))
}
