//! "Sign out?": what a browser is shown where the application asks for a logout on a safe method.
//!
//! Links named "Sign out" are everywhere, and any site can make a browser follow one. So the logout waits for the user's own word:
//! one button, a POST, in a page that nobody can frame. What it ends, and in which session it was asked, is sealed into the form, so
//! that neither another page nor another account of the same browser sends it.

use askama::Template;
use cloakroom::{Session, SessionError, SystemEntropy};
use http::{HeaderValue, Response, header};

use super::{Office, SIGNED_OUT, html, internal, see};
use crate::body::Stream;
use crate::language::Words;
use crate::protocol::commands::Logout;

/// The form's field with scope and seal.
pub(super) const FIELD: &str = "confirm";

const SCOPES: [(Logout, &str); 3] =
    [(Logout::This, "this"), (Logout::Others, "others"), (Logout::Everywhere, "everywhere")];

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage<'a> {
    words: &'a Words,
    question: &'a str,
    more: &'a str,
    field: &'a str,
    csrf: &'a str,
    confirm: String,
}

/// Asks the user. Where nobody is signed in, there is nothing to ask.
///
/// # Errors
///
/// If clock or randomness fail, or the response has begun.
pub fn ask(session: &Session, scope: Logout, office: &Office<'_>) -> Result<Response<Stream>, SessionError> {
    let (Some(_), Some(key)) = (session.subject(), session.csrf_key()) else {
        return Ok(see(SIGNED_OUT));
    };
    let words = office.language.words();
    let (question, more) = match scope {
        Logout::This => (words.ask_this, words.ask_this_more),
        Logout::Others => (words.ask_others, words.ask_others_more),
        Logout::Everywhere => (words.ask_everywhere, words.ask_everywhere_more),
    };
    let name = SCOPES.iter().find(|(known, _)| *known == scope).map_or("this", |(_, name)| name);
    let seal = key.seal(purpose(name).as_bytes(), &SystemEntropy);
    let seal = seal.map_err(|error| SessionError::Engine(error.into()))?;
    let issued = office.tokens.issue(session, None)?;
    let page = ConfirmPage {
        words,
        question,
        more,
        field: office.tokens.field(),
        csrf: issued.token.expose(),
        confirm: format!("{name}.{}", seal.expose()),
    };
    let mut response = page.render().map_or_else(|_| internal(), html);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What the form's field says, if it was made in this session.
pub(super) fn read(session: &Session, value: &[u8]) -> Option<Logout> {
    let (name, seal) = str::from_utf8(value).ok()?.split_once('.')?;
    let (scope, _) = SCOPES.iter().find(|(_, known)| *known == name)?;
    let genuine = session.csrf_key()?.opens(purpose(name).as_bytes(), seal.as_bytes());
    genuine.then_some(*scope)
}

fn purpose(name: &str) -> String {
    format!("logout {name}")
}
