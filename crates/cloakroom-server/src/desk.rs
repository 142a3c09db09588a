//! The desk: what happens to a request that was let in. Own pages are served, everything else goes to the application.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::core::client::Client;
use cloakroom::core::clock::Clock as _;
use cloakroom::{Event, EventKind, Reason, Session, SessionError, SessionLayer, SystemClock};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::body::Stream;
use crate::config::Config;
use crate::edge::{Ask, plain};
use crate::forwarded::{self, Proto};
use crate::headers;
use crate::obey::{self, Disobeyed};
use crate::pages;
use crate::protocol::commands::{self, Context};
use crate::protocol::outbound::{Outbound, Who};
use crate::routes::{Require, SessionUse, is_own};
use crate::tunnel;
use crate::upstream::{Upstream, UpstreamError};

/// Serves requests that were let in.
#[derive(Clone, Debug)]
pub struct Desk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    sessions: SessionLayer,
    login_page: String,
    recent: Duration,
    data_bytes: usize,
    upstream_timeout: Duration,
    proto: Proto,
    gateway_secret: Option<HeaderValue>,
}

/// Why there is no response of the application: the client is told the status, the log the rest.
enum Failure {
    Upstream(UpstreamError),
    Session(SessionError),
    Disobeyed(Disobeyed),
    /// A switch of protocols that nobody has asked for.
    Switch,
}

impl Desk {
    /// Puts the desk together.
    pub fn new(config: &Config, sessions: &SessionLayer) -> Self {
        let secret = config.gateway_secret.as_deref().and_then(|secret| HeaderValue::from_str(secret).ok());
        Self(Arc::new(Shared {
            upstream: Upstream::new(config.upstream.clone(), config.upstream_timeout),
            sessions: sessions.clone(),
            login_page: config.login_page.clone(),
            recent: sessions.policy().recent(),
            data_bytes: config.data_bytes,
            upstream_timeout: config.upstream_timeout,
            proto: if config.https { Proto::Https } else { Proto::Http },
            gateway_secret: secret.map(|mut secret| {
                secret.set_sensitive(true);
                secret
            }),
        }))
    }

    /// Serves a request.
    pub async fn serve(&self, request: Request<Incoming>) -> Response<Stream> {
        // The edge puts it there; without it, nothing is known of the request.
        let Some(ask) = request.extensions().get::<Ask>().cloned() else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR);
        };
        if is_own(&ask.target) {
            return pages::serve(request, &ask, &self.0.login_page, self.0.recent).await;
        }
        let outcome = if ask.route.session == SessionUse::None {
            self.forward(request, &ask, None).await
        } else {
            match Session::load(request.extensions()).await {
                Err(error) => Err(Failure::Session(error)),
                Ok(session) => match self.admit(&session, &ask, &request) {
                    Some(refusal) => return refusal,
                    None => self.forward(request, &ask, Some(&session)).await,
                },
            }
        };
        outcome.unwrap_or_else(|failure| self.fail(&failure, &ask))
    }

    /// Demands what the route demands: a browser on its way to a page goes to the login page, anything else gets 401.
    fn admit<B>(&self, session: &Session, ask: &Ask, request: &Request<B>) -> Option<Response<Stream>> {
        let outcome = match ask.route.require {
            Require::Anyone => return None,
            Require::Authenticated => session.require_authenticated(),
            Require::Recent => session.require_recent(self.0.recent),
        };
        match outcome {
            Ok(_) => None,
            Err(SessionError::NotAuthenticated | SessionError::NotRecent) => {
                Some(to_login(&self.0.login_page, session, ask, request))
            }
            Err(error) => Some(error.response()),
        }
    }

    async fn forward(
        &self,
        request: Request<Incoming>,
        ask: &Ask,
        session: Option<&Session>,
    ) -> Result<Response<Stream>, Failure> {
        let (mut parts, body) = request.into_parts();
        let client_upgrade =
            ask.websocket.then(|| parts.extensions.remove::<hyper::upgrade::OnUpgrade>()).flatten();
        let cookie_name = self.0.sessions.cookie().name();
        headers::strip_request(&mut parts.headers, cookie_name);
        forwarded::set(&mut parts.headers, ask.client, self.0.proto, &ask.host);
        if let Ok(host) = HeaderValue::from_str(&ask.host) {
            parts.headers.insert(header::HOST, host);
        }
        if let Some(secret) = &self.0.gateway_secret {
            parts.headers.insert(headers::GATEWAY_SECRET, secret.clone());
        }
        if client_upgrade.is_some() {
            tunnel::ask(&mut parts.headers);
        }
        let before = match session {
            Some(session) => tell(session, &mut parts.headers).map_err(Failure::Session)?,
            None => Vec::new(),
        };
        let method = parts.method.clone();
        parts.extensions = http::Extensions::new();
        let request = Request::from_parts(parts, Stream::through(body));
        let mut response =
            self.0.upstream.send(request, ask.target.target()).await.map_err(Failure::Upstream)?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched && !(tunnel::switches(&response) && client_upgrade.is_some()) {
            // Not the final response that commands would count in.
            return Err(Failure::Switch);
        }
        let subject = session.and_then(Session::subject);
        let context = Context {
            method: &method,
            session: ask.route.session,
            login_callback: ask.route.login_callback,
            live_session: session.is_some_and(|session| session.handle().is_some()),
            subject: subject.as_ref().map(|subject| subject.as_str()),
            data_max: self.0.data_bytes,
        };
        let commands = commands::parse(response.headers(), &context);
        match (session, commands) {
            (Some(session), commands) => {
                obey::obey(session, commands, &before, self.0.data_bytes)
                    .await
                    .map_err(Failure::Disobeyed)?;
            }
            (None, Err(rejection)) => return Err(Failure::Disobeyed(Disobeyed::Rejected(rejection))),
            (None, Ok(_)) => {}
        }
        let upstream_upgrade = hyper::upgrade::on(&mut response);
        let dropped = headers::strip_response(response.headers_mut(), cookie_name);
        if dropped > 0 {
            self.observe(EventKind::CookieDropped, ask);
        }
        // As it is after the application's commands: what a login answers belongs to the new session.
        let ended = session.map(Session::ended);
        if let Some(client) = client_upgrade.filter(|_| switched) {
            tunnel::ask(response.headers_mut());
            let life = tunnel::Life { ended, sessions: self.0.sessions.clone(), flight: ask.flight.clone() };
            tunnel::connect(client, upstream_upgrade, life);
            return Ok(response.map(Stream::through));
        }
        // What does not stream has the time that any response has.
        let patience = (!is_event_stream(response.headers())).then_some(self.0.upstream_timeout);
        let response = response.map(Stream::through);
        Ok(match ended.filter(|_| !response.body().is_end_stream()) {
            Some(ended) => response.map(|body| body.until(ended, patience)),
            None => response,
        })
    }

    fn fail(&self, failure: &Failure, ask: &Ask) -> Response<Stream> {
        let (status, kind) = match failure {
            Failure::Session(error) => return error.response(),
            Failure::Upstream(error) => {
                tracing::warn!(target: "cloakroom::gateway", %error, path = ask.target.path(), "no response");
                let kind = match error {
                    UpstreamError::Slow(_) => EventKind::UpstreamSlow,
                    UpstreamError::Down(_) => EventKind::UpstreamDown,
                    UpstreamError::Unfinished | UpstreamError::Stalled | UpstreamError::Target => {
                        EventKind::RequestRefused
                    }
                };
                (error.status(), kind)
            }
            // What the store or the policy refuses has had its event.
            Failure::Disobeyed(Disobeyed::Session(error)) => return error.response(),
            Failure::Disobeyed(Disobeyed::Rejected(rejection)) => {
                tracing::error!(target: "cloakroom::gateway", %rejection, path = ask.target.path(), "command not obeyed");
                (StatusCode::BAD_GATEWAY, EventKind::CommandRefused)
            }
            Failure::Switch => (StatusCode::BAD_GATEWAY, EventKind::CommandRefused),
        };
        self.observe(kind, ask);
        plain(status)
    }

    fn observe(&self, kind: EventKind, ask: &Ask) {
        let at = SystemClock.now().unwrap_or_default();
        let client = Client::recognise(b"", Some(ask.client));
        self.0.sessions.observer().observe(&Event::new(kind, client, at));
    }
}

/// Tells the application what is known of the session; returns the data, as told.
fn tell(session: &Session, headers: &mut http::HeaderMap) -> Result<Vec<(String, String)>, SessionError> {
    let data =
        session.entries()?.into_iter().map(|(key, json)| (key, obey::text_of(json))).collect::<Vec<_>>();
    let (subject, authentication) = (session.subject(), session.authentication());
    let who = subject.as_ref().zip(authentication).map(|(subject, authentication)| Who {
        subject: subject.as_str(),
        authenticated_at: authentication.at().as_secs(),
        level: authentication.level().get(),
    });
    let handle = session.handle().map(|handle| handle.to_string());
    let outbound = Outbound { handle: handle.as_deref(), who, data: &data };
    outbound
        .insert(headers)
        .map_err(|_| cloakroom::core::record::ValueError::new("data that the protocol can say"))?;
    Ok(data)
}

/// Sends a browser to the login page, with the way back and, if its session ended by time or from elsewhere, word of that.
/// Anything that is not a browser on its way to a page gets 401.
pub(crate) fn to_login<B>(
    login_page: &str,
    session: &Session,
    ask: &Ask,
    request: &Request<B>,
) -> Response<Stream> {
    let mut response = plain(StatusCode::UNAUTHORIZED);
    if !is_navigation(request) {
        return response;
    }
    let mut location = login_page.to_owned();
    location.push_str("?return=");
    location.push_str(&escape(if request.method() == Method::GET {
        ask.target.target()
    } else {
        ask.target.path()
    }));
    // Only who presents one of the session's own tokens has a reason here; a forger is told nothing.
    match session.ended_because() {
        Some(Reason::Idle | Reason::Absolute) => location.push_str("&expired=1"),
        Some(Reason::Revoked | Reason::RevokedAll | Reason::Evicted | Reason::Replay) => {
            location.push_str("&ended=1");
        }
        // The user's own doing, in this browser.
        _ => {}
    }
    if session.subject().is_some() {
        location.push_str("&recent=1");
    }
    if let Ok(location) = HeaderValue::from_str(&location) {
        response = Response::new(Stream::default());
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Whether a response is one that goes on for as long as its reader stays.
fn is_event_stream(headers: &http::HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

fn is_navigation<B>(request: &Request<B>) -> bool {
    let field = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    match field("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => field("accept").is_some_and(|accept| accept.contains("text/html")),
    }
}

/// Escapes a target for a query: everything but what means nothing there.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
