//! The page that a logout leads to.

use http::{HeaderValue, Response, header};

/// A response for the page that a logout redirects to: adds `Clear-Site-Data: "cache"` and `Cache-Control: no-store`.
///
/// The page that a user leaves by logging out enters the browser's back/forward cache *after* the logout's own response has
/// cleared the cache, so that "Back" would show it. Clearing once more on the next page empties that too (R-065).
///
/// ```
/// use axum::response::Html;
/// use cloakroom::SignedOut;
///
/// async fn signed_out() -> SignedOut<Html<&'static str>> {
///     SignedOut(Html("<!doctype html><title>Signed out</title><p>You are signed out."))
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SignedOut<R>(pub R);

impl<B> SignedOut<Response<B>> {
    /// The response with the two fields, for services that are not axum's.
    pub fn into_inner(self) -> Response<B> {
        let mut response = self.0;
        let headers = response.headers_mut();
        headers.insert("clear-site-data", HeaderValue::from_static(r#""cache""#));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

#[cfg(feature = "axum")]
impl<R: axum_core::response::IntoResponse> axum_core::response::IntoResponse for SignedOut<R> {
    fn into_response(self) -> axum_core::response::Response {
        SignedOut(self.0.into_response()).into_inner()
    }
}
