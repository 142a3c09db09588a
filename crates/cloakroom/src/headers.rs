//! The layer that adds security headers to every response.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use cloakroom_core::csp::Nonce as Value;
use cloakroom_core::entropy::Entropy;
use cloakroom_core::security_headers::{Scheme, SecurityHeaders};
use http::{Extensions, HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::error::SessionError;
use crate::fields::add_security_headers;
use crate::system::SystemEntropy;

/// Adds security headers to every response of the services below it, errors and redirects too: a strict content security
/// policy with a nonce that is new each time ([`Nonce`]), and the others of
/// [`SecurityHeaders`]. What a response has of its own and is stricter stays.
///
/// ```
/// use cloakroom::{Scheme, SecurityHeadersLayer};
///
/// let app: axum::Router = axum::Router::new().layer(SecurityHeadersLayer::new(Scheme::Https));
/// ```
///
/// Put it outside of whatever else may answer, such as a layer with a time limit: a response from further outside has
/// none of the headers.
#[derive(Clone)]
pub struct SecurityHeadersLayer {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    scheme: Scheme,
    headers: SecurityHeaders,
    /// For responses whose handler did not ask for the nonce.
    nonceless: SecurityHeaders,
    entropy: Arc<dyn Entropy>,
}

impl SecurityHeadersLayer {
    /// Adds the default set. `scheme` is what the user's browser uses, of which a proxy in front may be the only one to
    /// know: over https `Strict-Transport-Security` is sent, over plain http never.
    pub fn new(scheme: Scheme) -> Self {
        let headers = SecurityHeaders::default();
        let nonceless = headers.without_nonce(None);
        Self { shared: Arc::new(Shared { scheme, headers, nonceless, entropy: Arc::new(SystemEntropy) }) }
    }

    /// Uses another set, made by [`SecurityHeadersOptions`](crate::core::security_headers::SecurityHeadersOptions). Default:
    /// [`SecurityHeaders::default`].
    #[must_use = "this returns the changed layer"]
    pub fn headers(mut self, headers: SecurityHeaders) -> Self {
        let shared = Arc::make_mut(&mut self.shared);
        shared.nonceless = headers.without_nonce(None);
        shared.headers = headers;
        self
    }

    /// Sets the source of randomness. Default: [`SystemEntropy`].
    ///
    /// # Security
    ///
    /// Every nonce is drawn from it.
    #[must_use = "this returns the changed layer"]
    pub fn entropy(mut self, entropy: impl Entropy) -> Self {
        Arc::make_mut(&mut self.shared).entropy = Arc::new(entropy);
        self
    }
}

impl fmt::Debug for SecurityHeadersLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecurityHeadersLayer")
            .field("scheme", &self.shared.scheme)
            .field("headers", &self.shared.headers)
            .finish_non_exhaustive()
    }
}

impl<S> tower_layer::Layer<S> for SecurityHeadersLayer {
    type Service = SecurityHeadersService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SecurityHeadersService { inner, shared: Arc::clone(&self.shared) }
    }
}

/// The nonce of the response that a handler prepares: for the `nonce` attribute of its own scripts and styles.
///
/// A handler gets it by extraction (axum), or by [`Nonce::of`]. The response is then sent with `Cache-Control: no-store`: a page
/// that holds a nonce must not come from a cache (R-086). A response whose handler does not ask stays cacheable, and its
/// policy names no nonce at all.
#[derive(Clone, Debug)]
pub struct Nonce {
    value: Value,
    asked: Arc<AtomicBool>,
}

impl Nonce {
    /// The nonce of a request's response, by the request's extensions, for services that have no extractors.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoLayer`] if the request did not come through a [`SecurityHeadersLayer`].
    pub fn of(extensions: &Extensions) -> Result<Self, SessionError> {
        let nonce = extensions.get::<Self>().ok_or(SessionError::NoLayer)?;
        nonce.asked.store(true, Ordering::Relaxed);
        Ok(nonce.clone())
    }

    /// The text for the `nonce` attribute; needs no escaping anywhere.
    pub fn as_str(&self) -> &str {
        self.value.as_str()
    }
}

/// A service with security headers. Made by [`SecurityHeadersLayer`].
#[derive(Clone)]
pub struct SecurityHeadersService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S: fmt::Debug> fmt::Debug for SecurityHeadersService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecurityHeadersService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SecurityHeadersService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = SecurityHeadersFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        // The same layer further out has drawn one already: two of its policies must name the same scripts.
        let nonce = request.extensions().get::<Nonce>().cloned();
        let nonce = nonce.or_else(|| {
            let value = Value::draw(&*shared.entropy).ok()?;
            Some(Nonce { value, asked: Arc::default() })
        });
        let Some(nonce) = nonce else {
            return SecurityHeadersFuture { phase: Phase::NoRandomness };
        };
        request.extensions_mut().insert(nonce.clone());
        SecurityHeadersFuture { phase: Phase::Inner { inner: self.inner.call(request), nonce, shared } }
    }
}

impl Shared {
    fn apply(&self, nonce: &Nonce, headers: &mut HeaderMap) {
        let asked = nonce.asked.load(Ordering::Relaxed);
        let set = if asked { &self.headers } else { &self.nonceless };
        add_security_headers(headers, set, self.scheme, &nonce.value);
        if asked {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
}

pin_project! {
    /// The response of a [`SecurityHeadersService`].
    pub struct SecurityHeadersFuture<F> {
        #[pin]
        phase: Phase<F>,
    }
}

pin_project! {
    #[project = PhaseProjection]
    enum Phase<F> {
        Inner { #[pin] inner: F, nonce: Nonce, shared: Arc<Shared> },
        NoRandomness,
    }
}

impl<F, B, E> Future for SecurityHeadersFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().phase.project() {
            PhaseProjection::Inner { inner, nonce, shared } => {
                let mut response = ready!(inner.poll(cx))?;
                shared.apply(nonce, response.headers_mut());
                Poll::Ready(Ok(response))
            }
            // Nothing may be sent that needs a nonce, so the handler was not asked.
            PhaseProjection::NoRandomness => {
                let mut response = Response::new(B::default());
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                let headers = response.headers_mut();
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
                headers.insert("content-security-policy", HeaderValue::from_static("default-src 'none'"));
                Poll::Ready(Ok(response))
            }
        }
    }
}

impl<F> fmt::Debug for SecurityHeadersFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecurityHeadersFuture")
    }
}
