//! The desk: what happens to a request that was let in. Own pages are served, everything else goes to the application.

mod failure;
mod forward;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cloakroom::core::client::Client;
use cloakroom::core::clock::Clock;
use cloakroom::{CspReports, Event, EventKind, Observer, Session, SessionError, SessionLayer};
use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tower_service::Service;

use self::failure::Failure;
use crate::body::Stream;
use crate::bound::{InAll, Streams};
use crate::config::{Config, Enforcement, Flow};
use crate::csrf::{Shown, Tokens, Wanted};
use crate::edge::{Ask, Demand};
use crate::forwarded::Proto;
use crate::held::Budget;
use crate::language::Language;
use crate::login::Door;
use crate::login_flow::LoginFlows;
use crate::pace::Free;
use crate::pages;
use crate::problem::{self, Refusal, refuse};
use crate::routes::{Require, SessionUse, is_own};
use crate::upstream::Upstream;

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
    flows: LoginFlows,
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

/// Sends events where the session layer sends its own.
struct Relay(SessionLayer);

impl Observer for Relay {
    fn observe(&self, event: &Event) {
        self.0.observer().observe(event);
    }
}

impl Desk {
    /// Puts the desk together.
    pub fn new(
        config: &Config,
        sessions: &SessionLayer,
        tokens: Tokens,
        flows: LoginFlows,
        clock: Arc<dyn Clock>,
    ) -> Self {
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
            flows,
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
        if ask.callback
            && let Some(session) = &session
        {
            // Where the cookie came along (from a sibling host), another site keeps no session alive.
            session.mark_passive().map_err(Failure::Session)?;
        }
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
