//! The way to the application and back.

use std::sync::atomic::Ordering;

use cloakroom::core::cookie::SetCookie;
use cloakroom::core::csp::Nonce;
use cloakroom::core::csrf::Visitor;
use cloakroom::{EventKind, Session, SessionError};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;

use super::Desk;
use super::failure::Failure;
use crate::body::Stream;
use crate::bound::{Full, IsRelayed, IsStream};
use crate::csrf::Issued;
use crate::edge::Ask;
use crate::forwarded;
use crate::headers;
use crate::held;
use crate::login;
use crate::obey::{self, Disobeyed};
use crate::pace::Free;
use crate::pages::confirm;
use crate::problem::{self, refuse};
use crate::protocol::commands::{self, Cause, Kind, Logout, Rejection};
use crate::protocol::outbound::{Outbound, Who};
use crate::relay::Terms;
use crate::tunnel;
use crate::upstream::Again;

impl Desk {
    /// Sends a request to the application, and obeys and passes on what it answers.
    pub(super) async fn forward(
        &self,
        request: Request<Stream>,
        ask: &Ask,
        session: Option<&Session>,
    ) -> Result<Response<Stream>, Failure> {
        let (mut parts, mut body) = request.into_parts();
        let http1 = parts.version <= http::Version::HTTP_11;
        // Nothing of the head stands against it any more. What it brings is taken in first, so that a slow client keeps only the
        // gateway waiting; what does not say how long it is may be one half of a conversation, and goes on as it comes.
        let conversation = body.size_hint().exact().is_none();
        body = held::gather(body, self.0.flow.held.each, &self.0.budget).await.map_err(|error| {
            Failure::Broken(if error.is_slow() {
                StatusCode::REQUEST_TIMEOUT
            } else {
                StatusCode::BAD_REQUEST
            })
        })?;
        let place = self.0.requests.enter().ok_or(Failure::Full(Full::All))?;
        let client_upgrade =
            ask.websocket.then(|| parts.extensions.remove::<hyper::upgrade::OnUpgrade>()).flatten();
        let visitor = self.0.tokens.visitor(&parts.headers);
        let visits = visitor.is_some();
        let in_flow = self.0.flows.is_known_to(&parts.headers);
        let cookies = self.own_cookies();
        headers::strip_request(&mut parts.headers, &cookies);
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
        let told = session.filter(|_| !ask.callback);
        let issued = match told {
            Some(session) => Some(self.0.tokens.issue(session, visitor).map_err(Failure::Session)?),
            None => None,
        };
        let before = match told {
            Some(session) => tell(session, ask, issued.as_ref(), &mut parts.headers),
            None => tell_nonce(ask, &mut parts.headers),
        };
        let before = before.map_err(Failure::Session)?;
        let method = parts.method.clone();
        let navigation = login::is_navigation(&parts.headers);
        let free = parts.extensions.remove::<Free>();
        parts.extensions = http::Extensions::new();
        let request = Request::from_parts(parts, body);
        // What such a route is asked with (a code) may be spent by now.
        let again = if ask.route.login_callback { Again::MayNot } else { Again::May };
        let answered = self.0.upstream.send(request, ask.target.target(), again).await;
        let mut response = answered.map_err(Failure::Upstream)?;
        if let Some(free) = free.filter(|_| conversation) {
            free.0.store(true, Ordering::Release);
        }
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched && !(tunnel::switches(&response) && client_upgrade.is_some()) {
            // Not the final response that commands would count in.
            return Err(Failure::Switch);
        }
        let subject = session.and_then(Session::subject);
        let context = commands::Context {
            method: &method,
            session: ask.route.session,
            login_callback: ask.route.login_callback,
            returning: ask.callback,
            live_session: session.is_some_and(|session| session.handle().is_some()),
            subject: subject.as_ref().map(|subject| subject.as_str()),
            data_max: self.0.data_bytes,
        };
        let commands = commands::parse(response.headers(), &context);
        let logs_in = commands.as_ref().is_ok_and(|commands| {
            commands.authenticated.as_ref().is_some_and(|authenticated| authenticated.kind == Kind::Login)
        });
        let used = commands.as_ref().is_ok_and(|commands| commands.csrf);
        match (session, commands) {
            (Some(session), Err(Rejection { cause: Cause::Unconfirmed(scope), .. })) => {
                return self.ask_first(session, scope, ask, navigation);
            }
            (Some(session), commands) => {
                obey::obey(session, commands, &before, self.0.data_bytes)
                    .await
                    .map_err(Failure::Disobeyed)?;
            }
            (None, Err(rejection)) => return Err(Failure::Disobeyed(Disobeyed::Rejected(rejection))),
            (None, Ok(_)) => {}
        }
        let upstream_upgrade = hyper::upgrade::on(&mut response);
        let dropped = headers::strip_response(response.headers_mut(), &cookies);
        if dropped > 0 {
            self.observe(EventKind::CookieDropped, ask);
        }
        // A page without form leaves no cookie; and in a session that belongs to somebody a visitor's token is worth nothing.
        let newcomer = issued.and_then(|issued| issued.newcomer).filter(|_| used && !logs_in);
        self.mind_visitor(response.headers_mut(), newcomer.as_ref(), logs_in && visits);
        self.mind_flow(response.headers_mut(), ask, logs_in, in_flow).map_err(Failure::Session)?;
        // As it is after the application's commands: what a login answers belongs to the new session.
        let ended = session.map(Session::ended);
        if let Some(client) = client_upgrade.filter(|_| switched) {
            tunnel::ask(response.headers_mut());
            let place = self.0.streams.enter(ask.client).map_err(Failure::Full)?;
            let (sessions, flight) = (self.0.sessions.clone(), ask.flight.clone());
            tunnel::connect(client, upstream_upgrade, tunnel::Life { ended, sessions, flight, place });
            return Ok(response.map(Stream::through));
        }
        // What does not stream has the time that any response has.
        let streams = is_event_stream(response.headers());
        let patience = (!streams).then_some(self.0.upstream_timeout);
        let mut response = response.map(Stream::through);
        if response.body().is_end_stream() {
            return Ok(response);
        }
        if streams {
            let place = self.0.streams.enter(ask.client).map_err(Failure::Full)?;
            response.extensions_mut().insert(IsStream);
            response = response.map(|body| body.holding(place));
        } else {
            let pace = ask.route.pace(self.0.flow.pace);
            let (budget, turn) = (self.0.budget.clone(), ask.turn.clone());
            let terms = Terms { pace, each: self.0.flow.held.each, budget, turn };
            response.extensions_mut().insert(IsRelayed);
            response = response.map(|body| body.holding(place).relayed(terms, http1));
        }
        Ok(match ended.filter(|_| !response.body().is_end_stream()) {
            Some(ended) => response.map(|body| body.until(ended, patience)),
            None => response,
        })
    }

    /// Asks the user whether a logout that a safe method has brought about is meant; nobody else is asked.
    fn ask_first(
        &self,
        session: &Session,
        scope: Logout,
        ask: &Ask,
        navigation: bool,
    ) -> Result<Response<Stream>, Failure> {
        self.observe_in(EventKind::LogoutUnconfirmed, ask, Some(session));
        if !navigation {
            return Ok(refuse(problem::Cause::LogoutByLink));
        }
        tracing::info!(
            target: "cloakroom::gateway",
            path = ask.target.path(),
            "a logout by a link waits for the user's word; a form that posts to the application's logout asks no question"
        );
        confirm::ask(session, scope, &self.office()).map_err(Failure::Session)
    }

    fn mind_visitor(&self, headers: &mut HeaderMap, newcomer: Option<&Visitor>, removed: bool) {
        match newcomer {
            Some(visitor) => append(headers, &self.0.tokens.welcome(visitor)),
            None if removed => append(headers, &self.0.tokens.cookie().removal()),
            None => {}
        }
    }

    /// A login ends what had begun; a page where logins begin begins another.
    fn mind_flow(
        &self,
        headers: &mut HeaderMap,
        ask: &Ask,
        logs_in: bool,
        in_flow: bool,
    ) -> Result<(), SessionError> {
        let cookie = if logs_in {
            self.0.flows.end().filter(|_| in_flow)
        } else if ask.route.login_start && !ask.callback {
            self.0.flows.begin()?
        } else {
            None
        };
        if let Some(cookie) = cookie {
            append(headers, &cookie);
        }
        Ok(())
    }

    /// The names that are between browsers and the gateway.
    fn own_cookies(&self) -> Vec<&str> {
        let own = [self.0.sessions.cookie().name(), self.0.tokens.cookie().cookie().name()];
        own.into_iter().chain(self.0.flows.name()).collect()
    }
}

fn append(headers: &mut HeaderMap, cookie: &SetCookie) {
    if let Ok(mut value) = HeaderValue::from_str(cookie.expose()) {
        value.set_sensitive(true);
        headers.append(header::SET_COOKIE, value);
    }
}

/// Tells the application what is known of the session; returns the data, as told.
fn tell(
    session: &Session,
    ask: &Ask,
    issued: Option<&Issued>,
    headers: &mut HeaderMap,
) -> Result<Vec<(String, String)>, SessionError> {
    let data =
        session.entries()?.into_iter().map(|(key, json)| (key, obey::text_of(json))).collect::<Vec<_>>();
    let (subject, authentication) = (session.subject(), session.authentication());
    let who = subject.as_ref().zip(authentication).map(|(subject, authentication)| Who {
        subject: subject.as_str(),
        authenticated_at: authentication.at().as_secs(),
        level: authentication.level().get(),
    });
    let handle = session.handle().map(|handle| handle.to_string());
    let csrf = issued.map(|issued| issued.token.expose());
    let nonce = ask.nonce.as_ref().map(Nonce::as_str);
    let read_only = !session.can_keep();
    let outbound = Outbound { handle: handle.as_deref(), who, data: &data, read_only, csrf, nonce };
    insert(&outbound, headers)?;
    Ok(data)
}

/// Tells the application the nonce of its response and nothing of a session: no page of another site is to make it act for a user,
/// though a cookie came along. No token either: its cookie stays away from another site's POST, and would be replaced.
fn tell_nonce(ask: &Ask, headers: &mut HeaderMap) -> Result<Vec<(String, String)>, SessionError> {
    insert(&Outbound { nonce: ask.nonce.as_ref().map(Nonce::as_str), ..Outbound::default() }, headers)?;
    Ok(Vec::new())
}

fn insert(outbound: &Outbound<'_>, headers: &mut HeaderMap) -> Result<(), SessionError> {
    let said = outbound.insert(headers);
    Ok(said.map_err(|_| cloakroom::core::record::ValueError::new("data that the protocol can say"))?)
}

/// Whether a response is one that goes on for as long as its reader stays.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}
