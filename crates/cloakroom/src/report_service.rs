//! The endpoint for browsers' reports, as a tower service.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cloakroom_core::client::Client;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use tower_service::Service;

use crate::layer::{RequestHead, SessionLayer, Shared};
use crate::reports::{CspReports, REPORT_BODY_MAX};

/// The endpoint for reports of browsers about the content security policy: a service for one path, `POST` only. Made by
/// [`SessionLayer::csp_reports`]; clones share one state.
///
/// ```
/// use cloakroom::core::csp::CspOptions;
/// use cloakroom::core::security_headers::SecurityHeadersOptions;
/// use cloakroom::{MemoryStore, Scheme, SecurityHeadersLayer, SessionLayer};
///
/// let csp = CspOptions::default().report_to("/csp-report").build()?;
/// let headers = SecurityHeadersOptions::default().csp(csp).build()?;
/// let sessions = SessionLayer::new(MemoryStore::new());
/// let reports = sessions.csp_reports();
/// let app: axum::Router = axum::Router::new()
///     .layer(sessions)
///     // Below the layer of sessions on this list, so outside of it: browsers send reports without a token.
///     .route_service("/csp-report", reports)
///     .layer(SecurityHeadersLayer::new(Scheme::Https).headers(headers));
/// # Ok::<(), cloakroom::ConfigErrors>(())
/// ```
#[derive(Clone)]
pub struct CspReportService {
    reports: CspReports,
    shared: Arc<Shared>,
}

impl SessionLayer {
    /// Makes an endpoint for reports about the content security policy, with this layer's clock, observer and idea of client
    /// addresses. Limits are those of [`CspReports`].
    pub fn csp_reports(&self) -> CspReportService {
        let (clock, observer) = (Arc::clone(&self.shared.clock), Arc::clone(&self.shared.observer));
        CspReportService { reports: CspReports::new(clock, observer), shared: Arc::clone(&self.shared) }
    }
}

impl CspReportService {
    /// What was reported, for metrics.
    pub const fn reports(&self) -> &CspReports {
        &self.reports
    }

    fn client<B>(&self, request: &Request<B>) -> Client {
        let head = RequestHead::of(request);
        let address = self.shared.address_of.as_ref().and_then(|address_of| address_of(head));
        let agent = head.headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
        Client::recognise(agent, address)
    }
}

impl fmt::Debug for CspReportService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CspReportService").field("reports", &self.reports).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for CspReportService
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.client(&request);
        let reports = self.reports.clone();
        Box::pin(async move {
            let status = match answer(&reports, &client, request).await {
                Ok(status) | Err(status) => status,
            };
            let mut response = Response::new(String::new());
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            if status == StatusCode::METHOD_NOT_ALLOWED {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            Ok(response)
        })
    }
}

async fn answer<B>(
    reports: &CspReports,
    client: &Client,
    request: Request<B>,
) -> Result<StatusCode, StatusCode>
where
    B: Body<Data = Bytes>,
{
    if request.method() != Method::POST {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let mut types = request.headers().get_all(header::CONTENT_TYPE).iter();
    let content_type = types.next().filter(|_| types.next().is_none()).map(HeaderValue::as_bytes);
    let admitted = reports.admit(content_type, client)?;
    let body = pin!(request.into_body());
    Ok(reports.take(admitted, &read(body).await?))
}

async fn read<B: Body<Data = Bytes>>(mut body: Pin<&mut B>) -> Result<Vec<u8>, StatusCode> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        if let Some(data) = frame.data_ref() {
            if bytes.len().saturating_add(data.len()) > REPORT_BODY_MAX {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}
