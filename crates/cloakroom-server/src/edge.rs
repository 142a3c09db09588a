//! The edge: judges a request's head before anything else looks at it, and sees every request to its end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cloakroom::core::client::Client;
use cloakroom::core::clock::Clock as _;
use cloakroom::core::csp::Nonce;
use cloakroom::core::csrf::VisitorCookie;
use cloakroom::core::entropy::EntropyError;
use cloakroom::core::origin::{Site, Verdict, Why};
use cloakroom::{
    Activity, Event, EventKind, RequestHead, SessionLayer, SessionService, SystemClock, SystemEntropy,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tower::Layer as _;
use tower_service::Service as _;

use crate::body::Stream;
use crate::border::{self, Border, Standing};
use crate::bound::{Full, InAll, IsRelayed, IsStream, PerAddress};
use crate::config::{Config, Enforcement};
use crate::connection::Turn;
use crate::csrf::{Names, Tokens, Wanted};
use crate::desk::Desk;
use crate::errand::Errand;
use crate::forwarded::{self, TrustedProxies};
use crate::headers::{self, Limits};
use crate::held::Budget;
use crate::hosts::Hosts;
use crate::language::Language;
use crate::login::Door;
use crate::login_flow::LoginFlows;
use crate::open::Opened;
use crate::pace::Pace;
use crate::path::Normal;
use crate::problem::{self, Asker, Cause, Refusal, refuse};
use crate::protection::{Leave, Protection};
use crate::relay::Terms;
use crate::routes::{Route, Routes, SessionUse, is_own};
use crate::seldom::Seldom;

/// What is known of a request once its head was judged. Travels beside it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The target in its one normal form.
    pub target: Arc<Normal>,
    /// What holds for the path.
    pub route: Arc<Route>,
    /// Where the request came from.
    pub client: IpAddr,
    /// The host that the client asked for, one of the deployment's.
    pub host: Arc<str>,
    /// Whether it asks for a WebSocket.
    pub websocket: bool,
    /// Whether it is a user whom an identity provider sends back: it is told nothing of a session, and may log in and nothing
    /// else.
    pub callback: bool,
    /// What is asked of its form token.
    pub token: Demand,
    /// The nonce of the response, for the application; `None` where there is no session.
    pub nonce: Option<Nonce>,
    /// Held by what goes on after the response, so that a shutdown waits for it.
    pub flight: mpsc::Sender<()>,
    /// Whose turn it is with the request, over HTTP/2.
    pub(crate) turn: Option<Turn>,
}

/// What is asked of a request's form token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing: it is not looked at.
    None,
    /// This, or what is configured happens.
    Token(Wanted, Enforcement),
}

/// The client's address, for the session layer.
pub fn address(head: RequestHead<'_>) -> Option<IpAddr> {
    head.extensions.get::<Ask>().map(|ask| ask.client)
}

/// The route's kind of activity, for the session layer.
pub fn activity(head: RequestHead<'_>) -> Activity {
    head.extensions.get::<Ask>().map_or(Activity::User, |ask| ask.route.activity)
}

/// What the requests of one connection share: how many of them are under way at once.
#[derive(Clone, Debug)]
pub struct Lane(InAll);

/// The gateway as a whole: from a connection's request to its response.
#[derive(Clone)]
pub struct Edge(Arc<Shared>);

struct Shared {
    service: SessionService<Desk>,
    sessions: SessionLayer,
    routes: Routes,
    hosts: Hosts,
    limits: Limits,
    trusted: TrustedProxies,
    border: Border,
    enforcement: Enforcement,
    door: Door,
    language: Language,
    protection: Protection,
    addresses: PerAddress,
    all: InAll,
    lane: usize,
    pace: Pace,
    turned_away: Seldom,
    /// Held by each request under way, so that a shutdown can wait for all of them.
    flights: mpsc::Sender<()>,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("sessions", &self.0.sessions).finish_non_exhaustive()
    }
}

impl Edge {
    /// Puts the gateway together. The receiver ends once the edge and all its requests are gone.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if no randomness is to be had.
    pub fn new(config: Config, opened: &Opened) -> Result<(Self, mpsc::Receiver<()>), EntropyError> {
        let (flights, landed) = mpsc::channel(1);
        let sessions = opened.sessions.clone();
        let tokens = Tokens::new(
            opened.visitors.clone(),
            VisitorCookie::beside(sessions.cookie()),
            Arc::clone(&opened.clock),
            Names { field: config.csrf.field.clone(), header: config.csrf.header.clone() },
            config.limits.form_bytes,
            config.limits.upstream_timeout,
        );
        let flows = LoginFlows::beside(sessions.cookie(), opened.visitors.clone(), Arc::clone(&opened.clock));
        let desk = Desk::new(&config, &sessions, tokens, flows.clone(), Arc::clone(&opened.clock));
        let service = sessions.layer(desk);
        let protection = Protection::new(&config)?;
        let door = Door::new(config.login_page, config.origins.clone());
        let hosts = Hosts::new(&config.origins, &config.hosts);
        let mut origins = config.origins.into_iter();
        let csrf = config.csrf;
        let site =
            origins.next().map(|own| Site::new(own).trusting(origins).trusting(csrf.trusted).mode(csrf.mode));
        let border = Border::new(site, sessions.cookie().clone(), flows);
        let shared = Shared {
            service,
            sessions,
            routes: config.routes,
            hosts,
            limits: config.limits.head,
            trusted: config.trusted_proxies,
            border,
            enforcement: csrf.enforcement,
            door,
            language: config.language,
            protection,
            addresses: PerAddress::new(config.flow.bounds.address_requests),
            all: InAll::new(config.flow.bounds.all_requests),
            lane: config.flow.bounds.connection_requests,
            pace: config.flow.pace,
            turned_away: Seldom::default(),
            flights,
        };
        Ok((Self(Arc::new(shared)), landed))
    }

    /// Puts the security headers onto a response that did not come by here.
    #[must_use = "this returns the protected response"]
    pub fn protect(&self, mut response: Response<Stream>) -> Response<Stream> {
        self.0.protection.apply(&mut response, &Leave::default());
        response
    }

    /// Takes note of a connection that was closed before anything was said on it.
    pub(crate) fn turned_away(&self, peer: IpAddr, why: &dyn std::fmt::Display) {
        let kind = EventKind::RequestRefused;
        if let Some(left_out) = self.0.turned_away.line() {
            tracing::info!(
                target: "cloakroom::gateway", %why, %peer, left_out, event = kind.name(), "connection closed"
            );
        }
        let at = SystemClock.now().unwrap_or_default();
        self.0.sessions.observer().observe(&Event::new(kind, Client::recognise(b"", Some(peer)), at));
    }

    /// Serves a request. Whatever becomes of the client, the request is seen to its end: an application that has
    /// answered "log out" is obeyed.
    ///
    /// One that finds its connection's or address's bound reached is not begun. It waits for the connection's as long as its client
    /// does.
    pub async fn serve(&self, request: Request<Incoming>, peer: SocketAddr, lane: &Lane) -> Response<Stream> {
        let edge = self.clone();
        let panicked = || self.protect(plain(StatusCode::INTERNAL_SERVER_ERROR));
        let judged = Errand::new(async move { edge.let_in(request, peer) }).await;
        let (request, leave, asker, client) = match judged {
            Some(Ok(judged)) => judged,
            Some(Err(refusal)) => return *refusal,
            None => return panicked(),
        };
        let turn = lane.0.wait().await;
        // Whoever has many finds the own bound first.
        let address = self.0.addresses.enter(client).ok_or(Full::Address);
        let place = address.and_then(|address| Ok((address, self.0.all.enter().ok_or(Full::All)?)));
        let place = match place {
            Ok(place) => place,
            Err(full) => {
                self.tell(full.event(), Client::recognise(b"", Some(client)));
                let mut refusal = Refusal::new(Cause::Busy, full.detail()).response();
                self.word(&mut refusal, &asker);
                self.0.protection.apply(&mut refusal, &leave);
                return refusal;
            }
        };
        let (edge, flight) = (self.clone(), self.0.flights.clone());
        let whose = request.extensions().get::<Ask>().and_then(|ask| ask.turn.clone());
        let run = Errand::new(async move {
            let Ok(mut response) = edge.0.service.clone().call(request).await;
            drop(flight);
            edge.word(&mut response, &asker);
            // A stream has a place of its own.
            if response.extensions_mut().remove::<IsStream>().is_none() && !response.body().is_end_stream() {
                let own = response.extensions_mut().remove::<IsRelayed>().is_none();
                response = response.map(|body| edge.take_in((turn, place), whose, own, body));
            }
            edge.0.protection.apply(&mut response, &leave);
            response
        });
        run.await.unwrap_or_else(panicked)
    }

    /// A response's body, which holds the place of its request until its client has taken it. Over HTTP/2 there is something ready
    /// for each stream of a client, over HTTP/1.1 once for a connection.
    fn take_in(
        &self,
        place: impl Send + Sync + Unpin + 'static,
        turn: Option<Turn>,
        own: bool,
        body: Stream,
    ) -> Stream {
        match turn {
            None => body.holding(place),
            Some(turn) if own => {
                let (pace, budget) = (self.0.pace, Budget::new(0));
                let terms = Terms { pace, each: 0, budget, turn: Some(turn.clone()) };
                body.relayed(terms, false).holding_bytes((place, turn))
            }
            Some(turn) => body.holding_bytes((place, turn)),
        }
    }

    /// What the requests of a connection share.
    pub fn lane(&self) -> Lane {
        Lane(InAll::new(self.0.lane))
    }

    /// Judges a request; returns it with what its response needs, and its client's address.
    #[expect(clippy::type_complexity, reason = "said once")]
    fn let_in(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<(Request<Incoming>, Leave, Asker, IpAddr), Box<Response<Stream>>> {
        let http1 = request.version() <= http::Version::HTTP_11;
        let mut leave = Leave::default();
        let asker = Asker::of(&request, peer.ip());
        let refusal = match self.judge(request, peer.ip(), &mut leave) {
            Ok(request) => {
                let client = request.extensions().get::<Ask>().map_or(peer.ip(), |ask| ask.client);
                return Ok((request, leave, asker, client));
            }
            Err(refusal) => refusal,
        };
        let mut refusal = refusal.response();
        if http1 && refusal.status() != StatusCode::FORBIDDEN {
            // Where one message is not well-formed, nothing behind it on the connection is trusted.
            refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.word(&mut refusal, &asker);
        self.0.protection.apply(&mut refusal, &leave);
        Err(Box::new(refusal))
    }

    /// Puts a refusal into words for whoever asked.
    fn word(&self, response: &mut Response<Stream>, asker: &Asker) {
        problem::render(response, asker, self.0.language, &self.0.door, self.0.border.own());
    }

    fn tell(&self, kind: EventKind, client: Client) {
        let at = SystemClock.now().unwrap_or_default();
        self.0.sessions.observer().observe(&Event::new(kind, client, at));
    }

    fn judge(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        leave: &mut Leave,
    ) -> Result<Request<Incoming>, Refusal> {
        let shared = &*self.0;
        let (mut parts, body) = request.into_parts();
        let client = forwarded::client_address(peer, &parts.headers, &shared.trusted);
        // What is refused is logged as it is put into words.
        let tell = |kind: EventKind| {
            let agent = parts.headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
            let at = SystemClock.now().unwrap_or_default();
            shared.sessions.observer().observe(&Event::new(kind, Client::recognise(agent, Some(client)), at));
        };
        let malformed = |cause: Cause, why: &dyn std::fmt::Display| {
            tell(EventKind::RequestRefused);
            Refusal::new(cause, why.to_string())
        };
        let host =
            headers::check_request(&parts, &shared.limits).map_err(|why| malformed(why.into(), &why))?;
        let host = shared.hosts.find(&host).ok_or_else(|| {
            malformed(
                Cause::Misdirected,
                &format!("Host {host} is neither the one of `origin` nor in `hosts`"),
            )
        })?;
        let resolved = shared.routes.resolve(&parts.method, &parts.uri);
        let (target, route) = resolved.map_err(|why| malformed(why.into(), &why))?;
        let websocket = headers::is_websocket(&parts);
        let own = is_own(&target);
        let kind = (websocket, body.is_end_stream());
        let found = shared.border.judge(&parts, kind, own, &target, &route);
        let found = found.map_err(|error| {
            tell(EventKind::SetupFailed);
            Refusal::new(Cause::Unavailable, error.to_string())
        })?;
        let route =
            if found.standing == Standing::Preflight { Arc::new(route.without_session()) } else { route };
        let session = !own && route.session == SessionUse::Full;
        leave.fields = found.fields;
        let refusing = shared.enforcement == Enforcement::Refuse;
        let token = match found.verdict {
            Verdict::Allow if found.minded && (own || session) => {
                Demand::Token(Wanted::NotStale, shared.enforcement)
            }
            Verdict::Allow => Demand::None,
            Verdict::NeedsToken => Demand::Token(Wanted::Valid, shared.enforcement),
            Verdict::Refuse(why) => {
                let loads =
                    matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) && !websocket;
                let kind = match (refusing, loads) {
                    (false, _) => EventKind::ForgeryReported,
                    (true, true) => EventKind::EmbeddingRefused,
                    (true, false) => EventKind::ForgedRequest,
                };
                tell(kind);
                if refusing {
                    let cause = match why {
                        _ if found.standing == Standing::Stray => Cause::Stray,
                        Why::Unknown => Cause::Unproven,
                        _ if loads => Cause::Embedded,
                        _ => Cause::Elsewhere,
                    };
                    return Err(Refusal::new(cause, format!("{why:?}")));
                }
                tracing::info!(target: "cloakroom::gateway", ?why, path = target.path(), "would be refused");
                Demand::None
            }
        };
        if session {
            let nonce = Nonce::draw(&SystemEntropy);
            leave.nonce = Some(nonce.map_err(|_| {
                tell(EventKind::SetupFailed);
                Refusal::new(Cause::Setup, "no randomness is to be had")
            })?);
        } else if !own {
            leave.resource = route.resource;
        }
        if found.standing == Standing::Preflight {
            border::only_the_question(&mut parts);
        }
        let target = Arc::new(target);
        let (flight, nonce) = (shared.flights.clone(), leave.nonce.clone());
        let callback = found.standing == Standing::Callback;
        let turn = parts.extensions.remove::<Turn>();
        let ask = Ask { target, route, client, host, websocket, callback, token, nonce, flight, turn };
        parts.extensions.insert(ask);
        Ok(Request::from_parts(parts, body))
    }
}

/// A refusal of which only the status is known, in one sentence that reveals nothing. The edge puts it into better words.
pub fn plain(status: StatusCode) -> Response<Stream> {
    let mut response = refuse(Cause::of_status(status));
    *response.status_mut() = status;
    response
}
