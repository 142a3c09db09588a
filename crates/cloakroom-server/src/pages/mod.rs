//! The gateway's own pages, under `/.cloakroom/`: a user's sessions, and where a logout leads.

pub mod confirm;

use std::time::Duration;

use askama::Template;
use cloakroom::core::client::Client;
use cloakroom::core::clock::Clock as _;
use cloakroom::core::csrf_form::Search;
use cloakroom::{
    CspReports, Handle, REPORT_BODY_MAX, Session, SessionError, SessionInfo, SignedOut, SystemClock,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use crate::body::Stream;
use crate::csrf::Tokens;
use crate::edge::Ask;
use crate::form::Form;
use crate::language::{Language, Words};
use crate::login::Door;
use crate::obey;
use crate::problem::{Cause, Refusal, refuse};
use crate::protocol::commands::Logout;

/// The page of a user's own sessions.
pub const SESSIONS: &str = "/.cloakroom/sessions";
/// Where browsers report what the content security policy refused.
pub const CSP_REPORT: &str = "/.cloakroom/csp-report";
/// Where a logout leads.
pub const SIGNED_OUT: &str = "/.cloakroom/signed-out";
/// What the gateway's own buttons named "Sign out" post to.
const LOGOUT: &str = "/.cloakroom/logout";

const STYLE: &str = include_str!("../../templates/style.css");
/// Bytes of a form that are read.
const FORM_MAX: usize = 1024;
/// How long a browser may take to send a form or a report.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage<'a> {
    words: &'a Words,
    sessions: Vec<Line>,
    login_page: &'a str,
    field: &'a str,
    csrf: &'a str,
}

struct Line {
    handle: String,
    client: String,
    network: Option<String>,
    current: bool,
    active: String,
    signed_in: String,
}

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOutPage<'a> {
    words: &'a Words,
    login_page: &'a str,
    /// Somebody came here without having signed out.
    signed_in: bool,
    field: &'a str,
    csrf: &'a str,
}

/// What the pages need of the gateway.
#[derive(Debug)]
pub struct Office<'a> {
    /// The way to the application's login page.
    pub door: &'a Door,
    /// How long a login is a recent one.
    pub recent: Duration,
    /// For the pages' forms.
    pub tokens: &'a Tokens,
    /// What the pages speak.
    pub language: Language,
}

/// Serves one of the gateway's own pages.
pub async fn serve(request: Request<Stream>, ask: &Ask, office: &Office<'_>) -> Response<Stream> {
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let writing = request.method() == Method::POST;
    match ask.target.path() {
        "/.cloakroom/style.css" if reading => style(),
        // The page that was left enters the back/forward cache after the landing page's own head has come; what
        // the landing page then loads empties it.
        "/.cloakroom/signed-out.css" if reading => SignedOut(css("/* empties the cache */")).into_inner(),
        SIGNED_OUT if reading => SignedOut(signed_out(request.extensions(), office).await).into_inner(),
        path @ (SESSIONS | "/.cloakroom/sessions/end" | "/.cloakroom/sessions/end-others" | LOGOUT)
            if if path == SESSIONS { reading } else { writing } =>
        {
            let session = match Session::load(request.extensions()).await {
                Ok(session) => session,
                Err(error) => return Refusal::of_session(&error),
            };
            match act(&session, path, request, ask, office).await {
                Ok(response) => response,
                Err(error) => Refusal::of_session(&error),
            }
        }
        SESSIONS | SIGNED_OUT | "/.cloakroom/sessions/end" | "/.cloakroom/sessions/end-others" | LOGOUT => {
            refuse(Cause::Method)
        }
        _ => refuse(Cause::NotFound),
    }
}

async fn act(
    session: &Session,
    path: &str,
    request: Request<Stream>,
    ask: &Ask,
    office: &Office<'_>,
) -> Result<Response<Stream>, SessionError> {
    let login_page = office.door.login_page();
    if path == LOGOUT {
        return log_out(session, request).await;
    }
    if session.subject().is_none() {
        return Ok(office.door.to_login(session, ask, &request));
    }
    if path == SESSIONS {
        let issued = office.tokens.issue(session, None)?;
        let page = SessionsPage {
            words: office.language.words(),
            sessions: lines(session.list().await?, office.language)?,
            login_page,
            field: office.tokens.field(),
            csrf: issued.token.expose(),
        };
        return Ok(page.render().map_or_else(|_| internal(), html));
    }
    // Whoever finds an open browser shall not lock its owner out elsewhere.
    match session.require_recent(office.recent) {
        Ok(_) => {}
        Err(SessionError::NotRecent) => return Ok(see(&format!("{login_page}?return={SESSIONS}&recent=1"))),
        Err(error) => return Err(error),
    }
    if path.ends_with("/end-others") {
        session.log_out_others().await?;
        return Ok(see(SESSIONS));
    }
    let Some(handle) = read_handle(request).await else { return Ok(refuse(Cause::Malformed)) };
    let own = session.handle() == Some(handle);
    session.end(handle).await?;
    Ok(see(if own { SIGNED_OUT } else { SESSIONS }))
}

/// Ends what the form says, in the session that it was made in; a form that says nothing ends this session.
async fn log_out(session: &Session, request: Request<Stream>) -> Result<Response<Stream>, SessionError> {
    let scope = match read_field(request, confirm::FIELD).await {
        // Nobody is signed in any more: there is nothing to end but what a visitor has.
        Some(_) if session.subject().is_none() => Logout::This,
        Some(value) => match confirm::read(session, &value) {
            Some(scope) => scope,
            None => return Ok(refuse(Cause::Stale)),
        },
        None => Logout::This,
    };
    obey::log_out(session, scope).await?;
    Ok(see(if scope == Logout::Others { SESSIONS } else { SIGNED_OUT }))
}

/// Says whether the user is signed out, as a logout leaves them.
async fn signed_out(extensions: &http::Extensions, office: &Office<'_>) -> Response<Stream> {
    let page = async {
        let session = Session::load(extensions).await?;
        let signed_in = session.subject().is_some();
        // Only who is signed in gets a form.
        let issued = signed_in.then(|| office.tokens.issue(&session, None)).transpose()?;
        let csrf = issued.as_ref().map_or("", |issued| issued.token.expose());
        let (words, login_page) = (office.language.words(), office.door.login_page());
        let page = SignedOutPage { words, login_page, signed_in, field: office.tokens.field(), csrf };
        Ok::<_, SessionError>(page.render())
    };
    match page.await {
        Ok(page) => page.map_or_else(|_| internal(), html),
        Err(error) => Refusal::of_session(&error),
    }
}

/// The form's field `handle`.
async fn read_handle(request: Request<Stream>) -> Option<Handle> {
    String::from_utf8(read_field(request, "handle").await?).ok()?.parse().ok()
}

async fn read_field(request: Request<Stream>, name: &str) -> Option<Vec<u8>> {
    let form = Form::of(request.headers(), name, FORM_MAX)?;
    let sought = form.seek(request.into_body(), PATIENCE).await.ok()?;
    (sought.search == Search::Found).then_some(sought.value)
}

/// Takes a browser's report of what the content security policy refused. Concerns no session.
pub async fn report(request: Request<Incoming>, client: &Client, reports: &CspReports) -> Response<Stream> {
    if request.method() != Method::POST {
        return refuse(Cause::Method);
    }
    let mut kinds = request.headers().get_all(header::CONTENT_TYPE).iter();
    let kind = kinds.next().filter(|_| kinds.next().is_none()).map(HeaderValue::as_bytes);
    let status = match reports.admit(kind, client) {
        Err(status) => status,
        Ok(admitted) => {
            let body = Limited::new(request.into_body(), REPORT_BODY_MAX).collect();
            match tokio::time::timeout(PATIENCE, body).await {
                Ok(Ok(body)) => reports.take(admitted, &body.to_bytes()),
                Ok(Err(_)) => StatusCode::PAYLOAD_TOO_LARGE,
                Err(_) => StatusCode::REQUEST_TIMEOUT,
            }
        }
    };
    if status != StatusCode::NO_CONTENT {
        return refuse(Cause::of_status(status));
    }
    let mut response = Response::new(Stream::default());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn lines(sessions: Vec<SessionInfo>, language: Language) -> Result<Vec<Line>, SessionError> {
    let now = SystemClock.now()?;
    let line = |info: SessionInfo| Line {
        handle: info.handle.to_string(),
        client: info.client.to_string(),
        network: info.client.network.map(|network| network.to_string()),
        current: info.current,
        active: language.ago(now.since(info.seen)),
        signed_in: info.authenticated.map(|at| language.ago(now.since(at))).unwrap_or_default(),
    };
    Ok(sessions.into_iter().map(line).collect())
}

fn internal() -> Response<Stream> {
    refuse(Cause::Internal)
}

fn see(path: &str) -> Response<Stream> {
    let mut response = Response::new(Stream::default());
    *response.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(path) = HeaderValue::from_str(path) {
        response.headers_mut().insert(header::LOCATION, path);
    }
    response
}

fn html(page: String) -> Response<Stream> {
    let mut response = Response::new(Stream::from(page));
    as_page(response.headers_mut(), "text/html; charset=utf-8");
    response
}

/// The header fields of what the gateway says itself: it loads its own style, and nothing frames it.
pub(crate) fn as_page(fields: &mut HeaderMap, kind: &'static str) {
    const POLICY: &str =
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
}

fn style() -> Response<Stream> {
    let mut response = css(STYLE);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

fn css(text: &'static str) -> Response<Stream> {
    let mut response = Response::new(Stream::from(text));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
