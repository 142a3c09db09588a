//! The pages that the application is about.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, State};
use axum::response::{Html, Redirect};
use cloakroom::{Authenticated, Key, Session, SessionError};
use serde::{Deserialize, Serialize};

use crate::error::AppError;
use crate::users::Users;

const VISITS: Key<u32> = Key::new("visits");
const NOTES: Key<Notes> = Key::new("notes");

/// A user's notes. Kept in the session to show a typed key: a real application keeps them in its database.
#[derive(Default, Deserialize, Serialize)]
pub struct Notes {
    texts: Vec<String>,
}

/// What the notes form sends.
#[derive(Deserialize)]
pub struct NewNote {
    text: String,
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    name: Option<String>,
    visits: u32,
}

#[derive(Template)]
#[template(path = "notes.html")]
struct NotesPage {
    name: String,
    notes: Vec<String>,
}

/// The front page, for everybody.
///
/// # Errors
///
/// [`AppError::Session`].
pub async fn home(State(users): State<Arc<Users>>, session: Session) -> Result<Html<String>, AppError> {
    session.update(VISITS, |visits| *visits += 1)?;
    let visits = session.get(VISITS)?.unwrap_or_default();
    let name = session.subject().map(|subject| users.name(&subject));
    Ok(Html(HomePage { name, visits }.render()?))
}

/// A user's notes.
///
/// # Errors
///
/// [`AppError::Session`] for whoever is not signed in.
pub async fn notes(
    State(users): State<Arc<Users>>,
    user: Result<Authenticated, SessionError>,
) -> Result<Html<String>, AppError> {
    let user = user?;
    let notes = user.get(NOTES)?.unwrap_or_default().texts;
    Ok(Html(NotesPage { name: users.name(user.subject()), notes }.render()?))
}

/// Adds a note.
///
/// # Errors
///
/// [`AppError::Session`].
pub async fn add_note(
    user: Result<Authenticated, SessionError>,
    Form(form): Form<NewNote>,
) -> Result<Redirect, AppError> {
    let text = form.text.trim().chars().take(200).collect::<String>();
    if !text.is_empty() {
        // Two tabs may add notes at the same time: both stay.
        user?.update(NOTES, move |notes| notes.texts.push(text.clone()))?;
    }
    Ok(Redirect::to("/notes"))
}
