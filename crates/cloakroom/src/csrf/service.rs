//! The service: judges each request, and sets the visitor's cookie where a page asked for a token.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cloakroom_core::cookie::SetCookie;
use cloakroom_core::origin::Fields;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::CsrfShared;
use super::body::CsrfBody;
use super::judge::{CsrfRefused, Found, Way, cookies};
use super::token::{Desk, DeskHandle};
use crate::fields::add_vary;
use crate::slot::{Slot, SlotHandle};

/// A service that refuses requests from elsewhere. Made by [`ProtectedLayer`](crate::ProtectedLayer).
#[derive(Clone)]
pub struct CsrfService<S> {
    pub(super) inner: S,
    pub(super) shared: Arc<CsrfShared>,
}

impl<S: fmt::Debug> fmt::Debug for CsrfService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrfService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for CsrfService<S>
where
    S: Service<Request<CsrfBody<ReqBody>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Body<Data = Bytes> + Send + 'static,
    ReqBody::Error: Send,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = CsrfFuture<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let (way, fields) = self.shared.way(&request);
        let visitor = self.shared.visitor_cookie.cookie();
        let visited = visitor.values(cookies(request.headers())).next().is_some();
        let slot = request.extensions().get::<SlotHandle>().map(|handle| Arc::clone(&handle.0));
        let desk = Arc::new(Desk::new(&self.shared));
        request.extensions_mut().insert(DeskHandle(Arc::clone(&desk)));
        let phase = match way {
            Way::Straight => Phase::Inner { inner: self.inner.call(request.map(CsrfBody::untouched)) },
            Way::Refuse(refused) => Phase::Refused { refused },
            Way::Token(wanted) => {
                // The one that is ready goes with the request.
                let clone = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, clone);
                let shared = Arc::clone(&self.shared);
                let run = async move {
                    let (request, found) = shared.seek(request, wanted).await;
                    match found {
                        Found::Valid => inner.call(request).await,
                        Found::Refused(_) if shared.reports_only() => inner.call(request).await,
                        Found::Refused(refused) => Ok(refuse(refused)),
                        Found::Failed(error) => {
                            let mut response = Response::new(ResBody::default());
                            error.mark(&mut response);
                            Ok(response)
                        }
                    }
                };
                Phase::Boxed { run: Box::pin(run) }
            }
        };
        CsrfFuture { phase, end: End { desk, slot, fields, visited } }
    }
}

/// The refusal, which does not say more than that it is one.
fn refuse<B: Default>(refused: CsrfRefused) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(refused);
    response
}

/// What is to be done when the response starts.
struct End {
    desk: Arc<Desk>,
    slot: Option<Arc<Slot>>,
    fields: Fields,
    visited: bool,
}

impl End {
    fn apply<B>(&self, response: &mut Response<B>) {
        let headers = response.headers_mut();
        add_vary(headers, self.fields.names());
        let mut send = |cookie: &SetCookie| {
            if let Ok(mut value) = HeaderValue::from_str(cookie.expose()) {
                value.set_sensitive(true);
                headers.append(header::SET_COOKIE, value);
            }
        };
        let cookie = &self.desk.shared.visitor_cookie;
        let logged_in = || {
            let subject = |slot: &Arc<Slot>| slot.with(|loaded| Ok(loaded.resumed.subject().is_some()));
            self.slot.as_ref().is_some_and(|slot| subject(slot).unwrap_or(false))
        };
        match self.desk.drawn() {
            Some(visitor) => send(&cookie.set(&visitor)),
            // Of no use any more: whoever has a session of his own needs that session's tokens.
            None if self.visited && logged_in() => send(&cookie.removal()),
            None => {}
        }
    }
}

type Run<B, E> = Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>;

pin_project! {
    /// The response of a [`CsrfService`].
    pub struct CsrfFuture<F, B, E> {
        #[pin]
        phase: Phase<F, B, E>,
        end: End,
    }
}

pin_project! {
    #[project = PhaseProjection]
    enum Phase<F, B, E> {
        Inner { #[pin] inner: F },
        Refused { refused: CsrfRefused },
        Boxed { run: Run<B, E> },
    }
}

impl<F, B, E> Future for CsrfFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.phase.project() {
            PhaseProjection::Inner { inner } => ready!(inner.poll(cx))?,
            PhaseProjection::Refused { refused } => refuse(*refused),
            PhaseProjection::Boxed { run } => ready!(run.as_mut().poll(cx))?,
        };
        this.end.apply(&mut response);
        Poll::Ready(Ok(response))
    }
}

impl<F, B, E> fmt::Debug for CsrfFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfFuture")
    }
}
