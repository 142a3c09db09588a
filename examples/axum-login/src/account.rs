//! Login, confirmation and logout.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, Query, State};
use axum::response::{Html, Redirect};
use cloakroom::{Authenticated, CsrfToken, Level, Session, SessionError, SignedOut};
use serde::Deserialize;

use crate::error::AppError;
use crate::users::Users;

/// What the login form sends.
#[derive(Deserialize)]
pub struct Credentials {
    username: String,
    password: String,
}

/// What the confirmation form sends.
#[derive(Deserialize)]
pub struct Password {
    password: String,
}

/// Whether the last try went wrong.
#[derive(Default, Deserialize)]
pub struct Tried {
    #[serde(default)]
    wrong: u8,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    wrong: bool,
    token: CsrfToken,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage {
    name: String,
    wrong: bool,
}

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOutPage;

/// The login page. Its form has a token, for which a visitor gets a cookie but no session.
///
/// # Errors
///
/// [`AppError::Page`].
pub async fn login_form(token: CsrfToken, Query(tried): Query<Tried>) -> Result<Html<String>, AppError> {
    Ok(Html(LoginPage { wrong: tried.wrong != 0, token }.render()?))
}

/// Logs in. The login begins before the password is checked, so that an "end all sessions" from then on wins.
///
/// # Errors
///
/// [`AppError::WrongCredentials`], [`AppError::Session`].
pub async fn log_in(
    State(users): State<Arc<Users>>,
    session: Session,
    Form(form): Form<Credentials>,
) -> Result<Redirect, AppError> {
    let user = users.named(&form.username);
    let login = session.begin_login(user.id()).await?;
    if !user.verify(&form.password) {
        return Err(AppError::WrongCredentials);
    }
    login.methods(["pwd"])?.complete().await?; // a new session; whatever was there before has ended
    Ok(Redirect::to("/notes"))
}

/// Asks for the password once more.
///
/// # Errors
///
/// [`AppError::Session`] for whoever is not signed in.
pub async fn confirm_form(
    State(users): State<Arc<Users>>,
    user: Result<Authenticated, SessionError>,
    Query(tried): Query<Tried>,
) -> Result<Html<String>, AppError> {
    let name = users.name(user?.subject());
    Ok(Html(ConfirmPage { name, wrong: tried.wrong != 0 }.render()?))
}

/// Steps up: the user has shown the password again.
///
/// # Errors
///
/// [`AppError::Session`].
pub async fn confirm(
    State(users): State<Arc<Users>>,
    user: Result<Authenticated, SessionError>,
    Form(form): Form<Password>,
) -> Result<Redirect, AppError> {
    let user = user?;
    if !users.of(user.subject()).verify(&form.password) {
        return Ok(Redirect::to("/confirm?wrong=1"));
    }
    user.step_up(Level::ONE, ["pwd"]).await?; // a new secret, and the old one is refused at once
    Ok(Redirect::to("/sessions"))
}

/// Logs out.
///
/// # Errors
///
/// [`AppError::Session`] if the store cannot say that the session has ended.
pub async fn log_out(session: Session) -> Result<Redirect, AppError> {
    session.log_out().await?;
    Ok(Redirect::to("/signed-out"))
}

/// Where a logout leads: clears the browser's cache once more, so that Back shows nothing.
///
/// # Errors
///
/// [`AppError::Page`].
pub async fn signed_out() -> Result<SignedOut<Html<String>>, AppError> {
    Ok(SignedOut(Html(SignedOutPage.render()?)))
}
