//! The way to the application: one client with kept-alive connections, and clear words for what goes wrong.

use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::body::Stream;

/// The application behind the gateway.
#[derive(Clone, Debug)]
pub struct Upstream {
    client: Client<HttpConnector, Stream>,
    authority: Authority,
    timeout: Duration,
}

/// Why there is no response of the application.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// It cannot be reached, or broke off.
    #[error("the application cannot be reached or broke off: {0}")]
    Down(String),
    /// It took longer than `limits.upstream_timeout` until the head of its response.
    #[error("the application took longer than {0:?}")]
    Slow(Duration),
    /// The request's target cannot be sent on.
    #[error("the request's target cannot be sent on")]
    Target,
}

impl UpstreamError {
    /// The status for the client: 502, or 504 for a slow application.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Down(_) => StatusCode::BAD_GATEWAY,
            Self::Slow(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Target => StatusCode::BAD_REQUEST,
        }
    }
}

impl Upstream {
    /// An application at an address, over plain http.
    pub fn new(authority: Authority, timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout.min(Duration::from_secs(10))));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .http1_max_headers(200)
            .set_host(false)
            .build(connector);
        Self { client, authority, timeout }
    }

    /// Sends a request with the given target, and waits for the final head of the response. Interim responses (1xx) are
    /// not passed on; a switch of protocols (101) is a final one.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`].
    pub async fn send(
        &self,
        mut request: Request<Stream>,
        target: &str,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let path = target.parse::<PathAndQuery>().map_err(|_| UpstreamError::Target)?;
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone()).path_and_query(path);
        *request.uri_mut() = uri.build().map_err(|_| UpstreamError::Target)?;
        *request.version_mut() = http::Version::HTTP_11;
        match tokio::time::timeout(self.timeout, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(UpstreamError::Down(causes(&error))),
            Err(_) => Err(UpstreamError::Slow(self.timeout)),
        }
    }
}

/// An error with its causes, for the log.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
