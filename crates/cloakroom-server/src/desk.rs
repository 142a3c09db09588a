//! The desk: what happens to a request that was let in. Own pages are served, everything else goes to the application.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use cloakroom::core::client::Client;
use cloakroom::core::clock::Clock;
use cloakroom::core::csp::Nonce;
use cloakroom::core::csrf::Visitor;
use cloakroom::{CspReports, Event, EventKind, Observer, Session, SessionError, SessionLayer};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use tower_service::Service;

use crate::body::Stream;
use crate::bound::{Full, InAll, IsStream, Streams};
use crate::config::{Config, Enforcement, Flow};
use crate::csrf::{Issued, Shown, Tokens, Wanted};
use crate::edge::{Ask, Demand};
use crate::forwarded::{self, Proto};
use crate::headers;
use crate::held::{self, Budget};
use crate::language::Language;
use crate::login::{self, Door};
use crate::obey::{self, Disobeyed};
use crate::pace::Free;
use crate::pages::{self, confirm};
use crate::problem::{self, Refusal, refuse};
use crate::protocol::commands::{self, Cause, Kind, Logout, Rejection};
use crate::protocol::outbound::{Outbound, Who};
use crate::relay::Terms;
use crate::routes::{Require, SessionUse, is_own};
use crate::tunnel;
use crate::upstream::{Again, Upstream, UpstreamError};

/// Serves requests that were let in.
#[derive(Clone)]
pub struct Desk(Arc<Shared>);

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("sessions", &self.0.sessions).finish_non_exhaustive()
    }
}

struct Shared {
    upstream: Upstream,
    flow: Flow,
    requests: InAll,
    streams: Streams,
    budget: Budget,
    sessions: SessionLayer,
    tokens: Tokens,
    reports: CspReports,
    clock: Arc<dyn Clock>,
    door: Door,
    language: Language,
    recent: Duration,
    data_bytes: usize,
    upstream_timeout: Duration,
    proto: Proto,
    gateway_secret: Option<HeaderValue>,
}

impl Service<Request<Incoming>> for Desk {
    type Response = Response<Stream>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Stream>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let desk = self.clone();
        Box::pin(async move { Ok(desk.serve(request).await) })
    }
}

/// Why there is no response of the application: the client is told the status, the log the rest.
enum Failure {
    Upstream(UpstreamError),
    Session(SessionError),
    Disobeyed(Disobeyed),
    /// A switch of protocols that nobody has asked for.
    Switch,
    /// The request needed a form token and had none that counts, or had one of another session.
    Token(EventKind),
    /// The client broke off, or stopped, within what is read of its request before the application is asked.
    Broken(StatusCode),
    /// There are as many requests or streams as there may be.
    Full(Full),
}

/// Sends events where the session layer sends its own.
struct Relay(SessionLayer);

impl Observer for Relay {
    fn observe(&self, event: &Event) {
        self.0.observer().observe(event);
    }
}

impl Desk {
    /// Puts the desk together.
    pub fn new(config: &Config, sessions: &SessionLayer, tokens: Tokens, clock: Arc<dyn Clock>) -> Self {
        let secret = config.gateway_secret.as_deref().and_then(|secret| HeaderValue::from_str(secret).ok());
        Self(Arc::new(Shared {
            upstream: Upstream::new(
                config.upstream.clone(),
                config.limits.upstream_timeout,
                config.flow.keep,
            ),
            flow: config.flow,
            requests: InAll::new(config.flow.bounds.requests),
            streams: Streams::new(&config.flow.bounds),
            budget: Budget::new(config.flow.held.all),
            sessions: sessions.clone(),
            tokens,
            reports: CspReports::new(Arc::clone(&clock), Arc::new(Relay(sessions.clone()))),
            clock,
            door: Door::new(config.login_page.clone(), config.origins.clone()),
            language: config.language,
            recent: sessions.policy().recent(),
            data_bytes: config.limits.data_bytes,
            upstream_timeout: config.limits.upstream_timeout,
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
            return refuse(problem::Cause::Internal);
        };
        let outcome = self.serve_ask(request, &ask).await;
        outcome.unwrap_or_else(|failure| self.fail(&failure, &ask))
    }

    async fn serve_ask(&self, request: Request<Incoming>, ask: &Ask) -> Result<Response<Stream>, Failure> {
        let own = is_own(&ask.target);
        if own && ask.target.path() == pages::CSP_REPORT {
            return Ok(pages::report(request, &self.client(ask), &self.0.reports).await);
        }
        let session = if own || ask.route.session == SessionUse::Full {
            // Own pages load what they need themselves, unless a token must be checked before.
            match ask.token {
                Demand::None if own => None,
                _ => Some(Session::load(request.extensions()).await.map_err(Failure::Session)?),
            }
        } else {
            None
        };
        let free = Free::default();
        let mut request = request.map(Stream::through);
        if !request.body().is_end_stream() {
            let pace = ask.route.pace(self.0.flow.pace);
            request = request.map(|body| body.paced(pace, Arc::clone(&free.0)));
            request.extensions_mut().insert(free);
        }
        // Who may not come here at all is told that first: a form of before the end of a session leads to the login page.
        if !own
            && let Some(session) = &session
            && let Some(refusal) = self.admit(session, ask, &request)
        {
            if ask.token == Demand::Token(Wanted::Valid, Enforcement::Refuse) {
                // It may be forged, and keeps no session alive.
                session.mark_passive().map_err(Failure::Session)?;
            }
            return Ok(refusal);
        }
        let request = self.demand_token(request, ask, session.as_ref()).await?;
        if own {
            let response = pages::serve(request, ask, &self.office()).await;
            if response.extensions().get::<Refusal>().is_some_and(|it| it.cause() == problem::Cause::Stale) {
                // A confirmation of another session's.
                self.observe(EventKind::CsrfTokenStale, ask);
            }
            return Ok(response);
        }
        self.forward(request, ask, session.as_ref()).await
    }

    fn office(&self) -> pages::Office<'_> {
        pages::Office {
            door: &self.0.door,
            recent: self.0.recent,
            tokens: &self.0.tokens,
            language: self.0.language,
        }
    }

    /// Goes on with requests whose form token is as demanded.
    async fn demand_token(
        &self,
        request: Request<Stream>,
        ask: &Ask,
        session: Option<&Session>,
    ) -> Result<Request<Stream>, Failure> {
        let Demand::Token(wanted, enforcement) = ask.token else { return Ok(request) };
        if wanted == Wanted::NotStale && session.is_none_or(|session| session.subject().is_none()) {
            // Nobody is signed in: the body of a form is not read in vain.
            return Ok(request);
        }
        let (parts, body) = request.into_parts();
        let shown = self.0.tokens.check(&parts.headers, body, session, wanted).await;
        let (body, kind) = match shown.map_err(Failure::Session)? {
            Shown::Right(body) => return Ok(Request::from_parts(parts, body)),
            Shown::Broken(status) => return Err(Failure::Broken(status)),
            Shown::Wrong(body, kind) => (body, kind),
        };
        if enforcement == Enforcement::ReportOnly {
            self.observe_in(EventKind::ForgeryReported, ask, session);
            return Ok(Request::from_parts(parts, body));
        }
        if let Some(session) = session {
            // What is refused keeps no session alive.
            session.mark_passive().map_err(Failure::Session)?;
        }
        self.observe_in(kind.clone(), ask, session);
        Err(Failure::Token(kind))
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
                Some(self.0.door.to_login(session, ask, request))
            }
            Err(error) => Some(Refusal::of_session(&error)),
        }
    }

    async fn forward(
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
        let cookies = [self.0.sessions.cookie().name(), self.0.tokens.cookie().cookie().name()];
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
        let issued = match session {
            Some(session) => Some(self.0.tokens.issue(session, visitor).map_err(Failure::Session)?),
            None => None,
        };
        let before = match session {
            Some(session) => {
                tell(session, ask, issued.as_ref(), &mut parts.headers).map_err(Failure::Session)?
            }
            None => Vec::new(),
        };
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
            let terms = Terms { pace, each: self.0.flow.held.each, budget: self.0.budget.clone() };
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

    fn fail(&self, failure: &Failure, ask: &Ask) -> Response<Stream> {
        let (cause, detail, kind) = match failure {
            // What the store or the policy refuses has had its event.
            Failure::Session(error) | Failure::Disobeyed(Disobeyed::Session(error)) => {
                return Refusal::of_session(error);
            }
            Failure::Upstream(error) => {
                let kind = match error {
                    UpstreamError::Slow(_) | UpstreamError::NoConnection(_) => EventKind::UpstreamSlow,
                    UpstreamError::Unreachable(_) | UpstreamError::Closed(_) | UpstreamError::BrokeOff(_) => {
                        EventKind::UpstreamDown
                    }
                    UpstreamError::Malformed(_) | UpstreamError::HeadTooLarge => EventKind::AnswerRefused,
                    UpstreamError::Unfinished | UpstreamError::Stalled | UpstreamError::Target => {
                        EventKind::RequestRefused
                    }
                };
                (error.into(), error.to_string(), kind)
            }
            Failure::Disobeyed(Disobeyed::Rejected(rejection)) => {
                (problem::Cause::Command, rejection.to_string(), EventKind::CommandRefused)
            }
            Failure::Switch => (problem::Cause::Switch, String::new(), EventKind::CommandRefused),
            // It has had its event.
            Failure::Token(kind) => {
                return refuse(match kind {
                    EventKind::CsrfTokenStale => problem::Cause::Stale,
                    EventKind::CsrfTokenBeyondLimit => problem::Cause::TokenTooFar,
                    _ => problem::Cause::Token,
                });
            }
            Failure::Broken(StatusCode::REQUEST_TIMEOUT) => {
                (problem::Cause::Stalled, String::new(), EventKind::RequestRefused)
            }
            Failure::Broken(_) => (problem::Cause::Unfinished, String::new(), EventKind::RequestRefused),
            Failure::Full(full) => (problem::Cause::Busy, full.detail().to_owned(), full.event()),
        };
        self.observe(kind, ask);
        Refusal::new(cause, detail).response()
    }

    fn mind_visitor(&self, headers: &mut http::HeaderMap, newcomer: Option<&Visitor>, removed: bool) {
        let cookie = match newcomer {
            Some(visitor) => self.0.tokens.welcome(visitor),
            None if removed => self.0.tokens.cookie().removal(),
            None => return,
        };
        if let Ok(mut value) = HeaderValue::from_str(cookie.expose()) {
            value.set_sensitive(true);
            headers.append(header::SET_COOKIE, value);
        }
    }

    fn client(&self, ask: &Ask) -> Client {
        Client::recognise(b"", Some(ask.client))
    }

    fn observe(&self, kind: EventKind, ask: &Ask) {
        self.observe_in(kind, ask, None);
    }

    fn observe_in(&self, kind: EventKind, ask: &Ask, session: Option<&Session>) {
        let event = Event::new(kind, self.client(ask), self.0.clock.now().unwrap_or_default());
        let event = match session.and_then(|session| Some((session.handle()?, session.subject()))) {
            Some((handle, subject)) => event.of(handle, subject.as_ref()),
            None => event,
        };
        self.0.sessions.observer().observe(&event);
    }
}

/// Tells the application what is known of the session; returns the data, as told.
fn tell(
    session: &Session,
    ask: &Ask,
    issued: Option<&Issued>,
    headers: &mut http::HeaderMap,
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
    outbound
        .insert(headers)
        .map_err(|_| cloakroom::core::record::ValueError::new("data that the protocol can say"))?;
    Ok(data)
}

/// Whether a response is one that goes on for as long as its reader stays.
fn is_event_stream(headers: &http::HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}
