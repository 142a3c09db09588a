//! The edge: judges a request's head before anything else looks at it, and sees every request to its end.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use cloakroom::core::client::Client;
use cloakroom::core::clock::Clock as _;
use cloakroom::core::origin::{self, Field, Site, Verdict};
use cloakroom::{Activity, Event, EventKind, RequestHead, SessionLayer, SystemClock};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, Service as _};

use crate::body::Stream;
use crate::config::Config;
use crate::desk::Desk;
use crate::forwarded::{self, TrustedProxies};
use crate::headers::{self, Limits};
use crate::path::Normal;
use crate::routes::{Route, Routes};

/// What is known of a request once its head was judged. Travels beside it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The target in its one normal form.
    pub target: Arc<Normal>,
    /// What holds for the path.
    pub route: Arc<Route>,
    /// Where the request came from.
    pub client: IpAddr,
    /// The authority that the client asked for.
    pub host: Arc<str>,
    /// Whether it asks for a WebSocket.
    pub websocket: bool,
    /// Held by what goes on after the response, so that a shutdown waits for it.
    pub flight: mpsc::Sender<()>,
}

/// The client's address, for the session layer.
pub fn address(head: RequestHead<'_>) -> Option<IpAddr> {
    head.extensions.get::<Ask>().map(|ask| ask.client)
}

/// The route's kind of activity, for the session layer.
pub fn activity(head: RequestHead<'_>) -> Activity {
    head.extensions.get::<Ask>().map_or(Activity::User, |ask| ask.route.activity)
}

/// The gateway as a whole: from a connection's request to its response.
#[derive(Clone)]
pub struct Edge {
    shared: Arc<Shared>,
    service: BoxCloneSyncService<Request<Incoming>, Response<Stream>, Infallible>,
}

struct Shared {
    sessions: SessionLayer,
    routes: Routes,
    limits: Limits,
    trusted: TrustedProxies,
    site: Option<Site>,
    /// Held by each request under way, so that a shutdown can wait for all of them.
    flights: mpsc::Sender<()>,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("sessions", &self.shared.sessions).finish_non_exhaustive()
    }
}

impl Edge {
    /// Puts the gateway together. The receiver ends once the edge and all its requests are gone.
    pub fn new(config: Config, sessions: SessionLayer) -> (Self, mpsc::Receiver<()>) {
        let (flights, landed) = mpsc::channel(1);
        let desk = Desk::new(&config, &sessions);
        let service = sessions.layer(tower::service_fn(move |request| {
            let desk = desk.clone();
            async move { Ok::<_, Infallible>(desk.serve(request).await) }
        }));
        let mut origins = config.origins.into_iter();
        let site = origins.next().map(|own| Site::new(own).trusting(origins));
        let shared = Shared {
            sessions,
            routes: config.routes,
            limits: config.limits,
            trusted: config.trusted_proxies,
            site,
            flights,
        };
        (Self { shared: Arc::new(shared), service: BoxCloneSyncService::new(service) }, landed)
    }

    /// Serves a request. Whatever becomes of the client, the request is seen to its end: an application that has
    /// answered "log out" is obeyed.
    pub fn serve(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Stream>, Infallible>> + Send>> {
        let (mut edge, flight) = (self.clone(), self.shared.flights.clone());
        let run = tokio::spawn(async move {
            let http1 = request.version() <= http::Version::HTTP_11;
            let answer = match edge.judge(request, peer.ip()) {
                Ok(request) => edge.service.call(request).await,
                Err(status) => {
                    let mut refusal = plain(status);
                    if http1 && status != StatusCode::FORBIDDEN {
                        // Where one message is not well-formed, nothing behind it on the connection is trusted.
                        refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    }
                    Ok(refusal)
                }
            };
            drop(flight);
            answer.map(keep_from_caches)
        });
        Box::pin(async move { run.await.unwrap_or_else(|_| Ok(plain(StatusCode::INTERNAL_SERVER_ERROR))) })
    }

    fn judge(&self, request: Request<Incoming>, peer: IpAddr) -> Result<Request<Incoming>, StatusCode> {
        let shared = &*self.shared;
        let (mut parts, body) = request.into_parts();
        let client = forwarded::client_address(peer, &parts.headers, &shared.trusted);
        let refuse = |status: StatusCode, kind: EventKind, why: &dyn std::fmt::Display| {
            tracing::info!(target: "cloakroom::gateway", %why, "request refused");
            let agent = parts.headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
            let at = SystemClock.now().unwrap_or_default();
            shared.sessions.observer().observe(&Event::new(kind, Client::recognise(agent, Some(client)), at));
            status
        };
        let malformed = |status, why: &dyn std::fmt::Display| refuse(status, EventKind::RequestRefused, why);
        let host =
            headers::check_request(&parts, &shared.limits).map_err(|why| malformed(why.status(), &why))?;
        let resolved = shared.routes.resolve(&parts.method, &parts.uri);
        let (target, route) = resolved.map_err(|why| malformed(StatusCode::BAD_REQUEST, &why))?;
        let websocket = headers::is_websocket(&parts);
        let verdict = self.verdict(&parts, websocket);
        let refused = match verdict {
            Verdict::Allow => None,
            // Tokens are not looked at yet, so whatever needs one is refused.
            Verdict::NeedsToken => Some(origin::Why::Unknown),
            Verdict::Refuse(why) => Some(why),
        };
        if let Some(why) = refused {
            let why = format!("a request from elsewhere: {why:?}");
            return Err(refuse(StatusCode::FORBIDDEN, EventKind::ForgedRequest, &why));
        }
        let (target, route) = (Arc::new(target), Arc::new(route.clone()));
        let flight = shared.flights.clone();
        parts.extensions.insert(Ask { target, route, client, host: host.into(), websocket, flight });
        Ok(Request::from_parts(parts, body))
    }

    fn verdict(&self, parts: &http::request::Parts, websocket: bool) -> Verdict {
        let Some(site) = &self.shared.site else { return Verdict::Refuse(origin::Why::Unknown) };
        let field = |name: &str| Field::of(parts.headers.get_all(name).iter().map(HeaderValue::as_bytes));
        let cookies = parts.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        let request = origin::Request {
            method: parts.method.as_str(),
            websocket,
            fetch_site: field("sec-fetch-site"),
            origin: field("origin"),
            session_cookie: self.shared.sessions.cookie().values(cookies).next().is_some(),
            ..origin::Request::default()
        };
        site.judge(&request).verdict
    }
}

/// Sees to it that a response which is not to be stored is not stored: what sets a cookie never is, and fields that mean more
/// to some caches than `Cache-Control` does (RFC 9213 and its forerunners) are left out.
fn keep_from_caches(mut response: Response<Stream>) -> Response<Stream> {
    let headers = response.headers_mut();
    if headers.contains_key(header::SET_COOKIE) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let mut said = headers.get_all(header::CACHE_CONTROL).iter();
    if said.any(|value| value.as_bytes().eq_ignore_ascii_case(b"no-store")) {
        headers::remove_if(headers, |name| {
            let name = name.as_str();
            name.ends_with("-cache-control")
                || matches!(name, "surrogate-control" | "edge-control" | "x-accel-expires")
        });
    }
    response
}

/// A refusal in one sentence that reveals nothing.
pub fn plain(status: StatusCode) -> Response<Stream> {
    let text = match status {
        StatusCode::BAD_REQUEST => "This request cannot be understood.\n",
        StatusCode::UNAUTHORIZED => "Please sign in.\n",
        StatusCode::FORBIDDEN => "This request was refused.\n",
        StatusCode::NOT_FOUND => "There is no such page.\n",
        StatusCode::METHOD_NOT_ALLOWED => "This page does not take such requests.\n",
        StatusCode::REQUEST_TIMEOUT => "This request was not finished.\n",
        StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            "This request is too large.\n"
        }
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            "The application is not answering. Please try again in a moment.\n"
        }
        _ => "Something went wrong.\n",
    };
    let mut response = Response::new(Stream::from(text));
    *response.status_mut() = status;
    let fields: &mut HeaderMap = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
