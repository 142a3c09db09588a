//! The pages. Handlers that change something answer with a redirect, so that a reload changes nothing twice.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use cloakroom::{Checked, Invalid};
use garde::Validate;
use serde::Deserialize;

use crate::accounts::{self, ACCOUNTS, Account};
use crate::error::Refusal;
use crate::gateway::{Commands, Flash, Key, Theme, Visitor};
use crate::notes::{Full, MAX_CHARACTERS, MAX_NOTES, Note, Notebook, Text};
use crate::returning::ReturnTarget;

const STYLESHEET: &str = include_str!("../assets/demo.css");
const ICON: &str = include_str!("../assets/icon.svg");
/// Part of the stylesheet's address: another stylesheet has another one, so each may be cached for long.
const STYLESHEET_VERSION: u32 = fingerprint(STYLESHEET.as_bytes());
const CACHEABLE: &str = "public, max-age=604800";
/// The longest user name that is put back into the form, in characters.
const MAX_NAME: usize = 64;

/// What every page has around its content.
struct Frame {
    /// Of whoever is signed in.
    user: Option<String>,
    theme: Theme,
    flash: Option<Flash>,
    /// Where the theme form leads back to.
    here: ReturnTarget,
    stylesheet: u32,
    /// For the page's forms. A visitor without session has one on the login page only: others would cost a cookie for
    /// nothing but the choice of colours.
    csrf: Option<String>,
}

impl Frame {
    fn new(visitor: &Visitor, here: ReturnTarget) -> Self {
        let user = visitor.subject.as_deref().map(|subject| accounts::name_of(subject).to_owned());
        let csrf = visitor.csrf.clone().filter(|_| visitor.has_session);
        Self { user, theme: visitor.theme, flash: visitor.flash, here, stylesheet: STYLESHEET_VERSION, csrf }
    }

    fn at(visitor: &Visitor, path: &str) -> Self {
        Self::new(visitor, ReturnTarget::parse(path).unwrap_or_else(ReturnTarget::home))
    }

    fn is_at(&self, path: &str) -> bool {
        self.here.as_str() == path
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    frame: Frame,
    notes: usize,
    told: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    accounts: &'static [Account],
    target: ReturnTarget,
    name: String,
    wrong: bool,
    expired: bool,
    ended: bool,
}

#[derive(Template)]
#[template(path = "notes.html")]
struct NotesPage {
    frame: Frame,
    notes: Vec<Note>,
    /// How many fit into one.
    characters: usize,
    /// What was typed, if it was not taken.
    draft: String,
    formatted: bool,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "not_found.html")]
struct NotFoundPage {
    frame: Frame,
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalPage<'a> {
    title: &'a str,
    text: &'a str,
    stylesheet: u32,
}

/// The query of the login page.
#[derive(Deserialize)]
pub(crate) struct LoginQuery {
    #[serde(rename = "return")]
    target: Option<String>,
    /// There if the gateway sent somebody here whose session had ended by time.
    expired: Option<String>,
    /// There if the gateway sent somebody here whose session had been ended from elsewhere.
    ended: Option<String>,
}

/// What the login form sends.
#[derive(Deserialize)]
pub(crate) struct Credentials {
    username: String,
    password: String,
    #[serde(default, rename = "return")]
    target: String,
}

/// What the forms on the notes page send: one of the two.
#[derive(Deserialize, Validate)]
pub(crate) struct NotesForm {
    #[garde(inner(custom(Text::check)))]
    text: Option<String>,
    /// There if the text is HTML.
    #[garde(skip)]
    formatted: Option<String>,
    #[garde(skip)]
    remove: Option<u64>,
}

/// What the theme form sends.
#[derive(Deserialize)]
pub(crate) struct ThemeForm {
    theme: String,
    #[serde(default, rename = "return")]
    target: String,
}

/// The front page, for everybody.
pub(crate) async fn home(
    State(notebook): State<Arc<Notebook>>,
    visitor: Visitor,
) -> Result<Response, Refusal> {
    let notes = visitor.subject.as_deref().map_or(0, |subject| notebook.of(subject).len());
    let frame = Frame::at(&visitor, "/");
    page(StatusCode::OK, &visitor, &HomePage { frame, notes, told: visitor.told.clone() })
}

/// The login page; for somebody who is signed in, the page that asks for the password once more.
pub(crate) async fn login_form(
    visitor: Visitor,
    query: Result<Query<LoginQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query.map_err(|_| Refusal::UnreadableForm)?;
    let target = ReturnTarget::after_login(query.target.as_deref().unwrap_or("/"));
    let mut login = login_page(&visitor, target);
    login.expired = query.expired.is_some() && visitor.subject.is_none();
    login.ended = query.ended.is_some() && visitor.subject.is_none();
    Ok(with_token(&visitor, page(StatusCode::OK, &visitor, &login)?))
}

/// Logs in, or confirms who is signed in.
pub(crate) async fn log_in(
    visitor: Visitor,
    form: Result<Form<Credentials>, FormRejection>,
) -> Result<Response, Refusal> {
    let Form(form) = form.map_err(|_| Refusal::UnreadableForm)?;
    let target = ReturnTarget::after_login(&form.target);
    let name = form.username.trim(); // phones add a blank
    let Some(account) = accounts::verify(name, &form.password) else {
        let name = name.chars().take(MAX_NAME).collect();
        let wrong = LoginPage { name, wrong: true, ..login_page(&visitor, target) };
        return Ok(with_token(&visitor, page(StatusCode::UNPROCESSABLE_ENTITY, &visitor, &wrong)?));
    };
    let (commands, flash) = if visitor.subject.as_deref() == Some(account.id) {
        (Commands::new().step_up(account.id), Flash::Confirmed)
    } else {
        let commands = Commands::new().log_in(account.id);
        // A login starts a new session, with nothing in it but what is put there now. A theme is not a secret of
        // whoever used this browser before, so it may come along.
        let commands = match visitor.theme {
            Theme::Auto => commands,
            theme => commands.set(Key::Theme, theme.name()),
        };
        (commands, Flash::SignedIn)
    };
    // The gateway's own pages would leave the sentence to be shown later, where it makes no sense.
    let commands = if target.is_ours() { commands.set(Key::Flash, flash.name()) } else { commands };
    Ok((commands, Redirect::to(target.as_str())).into_response())
}

/// Logs out. The gateway's landing page clears what the browser still has in its cache.
pub(crate) async fn log_out() -> Response {
    (Commands::new().log_out(), Redirect::to("/.cloakroom/signed-out")).into_response()
}

/// The notes of whoever is signed in.
pub(crate) async fn notes(
    State(notebook): State<Arc<Notebook>>,
    visitor: Visitor,
) -> Result<Response, Refusal> {
    match &visitor.subject {
        Some(subject) => page(StatusCode::OK, &visitor, &notes_page(&visitor, notebook.of(subject))),
        None => Ok(to_login()),
    }
}

/// Adds or removes a note.
pub(crate) async fn change_notes(
    State(notebook): State<Arc<Notebook>>,
    visitor: Visitor,
    form: Result<Checked<Form<NotesForm>>, Invalid>,
) -> Result<Response, Refusal> {
    let Some(subject) = visitor.subject.clone() else { return Ok(to_login()) };
    let checked = form.map_err(|_| Refusal::UnreadableForm)?.into_result();
    let refuse = |typed: Option<String>, formatted, problem| {
        let draft = typed.unwrap_or_default().chars().take(2 * MAX_CHARACTERS).collect();
        let notes = notes_page(&visitor, notebook.of(&subject));
        let refused = NotesPage { draft, formatted, problem: Some(problem), ..notes };
        page(StatusCode::UNPROCESSABLE_ENTITY, &visitor, &refused)
    };
    let form = match checked {
        Ok(Form(form)) => form,
        Err((Form(typed), invalid)) => {
            let problem = invalid.errors().first().map(|error| error.message.clone()).unwrap_or_default();
            return refuse(typed.text, typed.formatted.is_some(), problem);
        }
    };
    let flash = match form {
        NotesForm { text: Some(typed), formatted, remove: None } => {
            let text = if formatted.is_some() { Text::rich(&typed) } else { Text::plain(&typed) };
            if let Err(Full) = notebook.add(subject.clone(), text).await? {
                let problem = format!("Your pocket is full: {MAX_NOTES} notes fit. Remove one first.");
                return refuse(Some(typed), formatted.is_some(), problem);
            }
            Flash::Added
        }
        NotesForm { text: None, remove: Some(id), .. } => {
            notebook.remove(subject, id).await?;
            Flash::Removed
        }
        _ => return Err(Refusal::UnreadableForm),
    };
    let commands = Commands::new().set(Key::Flash, flash.name());
    Ok((commands, Redirect::to("/notes")).into_response())
}

/// The gateway has a page for this; an application only leads there.
pub(crate) async fn sessions() -> Redirect {
    Redirect::to("/.cloakroom/sessions")
}

/// Chooses how the pages look, and leads back.
pub(crate) async fn choose_theme(form: Result<Form<ThemeForm>, FormRejection>) -> Result<Response, Refusal> {
    let Form(form) = form.map_err(|_| Refusal::UnreadableForm)?;
    let commands = match Theme::parse(&form.theme).ok_or(Refusal::UnreadableForm)? {
        Theme::Auto => Commands::new().unset(Key::Theme),
        theme => Commands::new().set(Key::Theme, theme.name()),
    };
    let target = ReturnTarget::parse(&form.target).unwrap_or_else(ReturnTarget::home);
    Ok((commands, Redirect::to(target.as_str())).into_response())
}

/// The stylesheet.
pub(crate) async fn stylesheet() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, CACHEABLE)], STYLESHEET)
}

/// The icon in the browser's tab.
pub(crate) async fn icon() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, CACHEABLE)], ICON)
}

/// Any other path.
pub(crate) async fn not_found(visitor: Visitor) -> Result<Response, Refusal> {
    let frame = Frame::at(&visitor, "/");
    page(StatusCode::NOT_FOUND, &visitor, &NotFoundPage { frame })
}

/// The page of a request that cannot be served.
pub(crate) fn refusal(title: &str, text: &str) -> Response {
    match (RefusalPage { title, text, stylesheet: STYLESHEET_VERSION }).render() {
        Ok(html) => Html(html).into_response(),
        Err(_) => title.to_owned().into_response(),
    }
}

/// Renders a page. What it shows once is dropped from the session with the same response.
fn page(status: StatusCode, visitor: &Visitor, template: &impl Template) -> Result<Response, Refusal> {
    let html = Html(template.render()?);
    Ok(match visitor.flash {
        Some(_) => (status, Commands::new().unset(Key::Flash), html).into_response(),
        None => (status, html).into_response(),
    })
}

/// A page whose form has a token also for a visitor without session, which the gateway wants to know.
fn with_token(visitor: &Visitor, page: Response) -> Response {
    if visitor.has_session || visitor.csrf.is_none() {
        return page;
    }
    (Commands::new().uses_token(), page).into_response()
}

fn login_page(visitor: &Visitor, target: ReturnTarget) -> LoginPage {
    let here = format!("/login?return={}", target.as_parameter());
    let frame = Frame { csrf: visitor.csrf.clone(), ..Frame::at(visitor, &here) };
    let (name, wrong, expired, ended) = (String::new(), false, false, false);
    LoginPage { frame, accounts: &ACCOUNTS, target, name, wrong, expired, ended }
}

fn notes_page(visitor: &Visitor, notes: Vec<Note>) -> NotesPage {
    let frame = Frame::at(visitor, "/notes");
    NotesPage {
        frame,
        notes,
        characters: MAX_CHARACTERS,
        draft: String::new(),
        formatted: false,
        problem: None,
    }
}

fn to_login() -> Response {
    Redirect::to("/login?return=/notes").into_response()
}

/// FNV-1a, worked out while compiling. It tells versions apart and protects nothing.
const fn fingerprint(mut bytes: &[u8]) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    while let [first, rest @ ..] = bytes {
        hash = (hash ^ *first as u32).wrapping_mul(0x0100_0193);
        bytes = rest;
    }
    hash
}
