//! The way to the application: one client with kept-alive connections, and clear words for what goes wrong.

use std::future::Future;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{Request, Response, StatusCode, Uri, Version, header};

use crate::body::{Progress, Stream, Turn};
pub use crate::pool::{Again, Keep};
use crate::pool::{Answer, Pool};

/// The application behind the gateway.
#[derive(Clone, Debug)]
pub struct Upstream {
    pool: Pool,
    timeout: Duration,
}

/// Why there is no response of the application.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// Nobody listens at its address, or there is no way there.
    #[error("the application cannot be reached: {0}")]
    Unreachable(String),
    /// No connection came about in time.
    #[error("the application takes no connection: {0}")]
    NoConnection(String),
    /// It closed the connection and answered nothing.
    #[error("the application closed the connection without an answer: {0}")]
    Closed(String),
    /// It broke off within the head of its answer.
    #[error("the application broke off within the head of its answer: {0}")]
    BrokeOff(String),
    /// What it answered is no head of HTTP/1.1.
    #[error("the application's answer is no HTTP/1.1: {0}")]
    Malformed(String),
    /// The head of its answer has more than 100 fields, or more than 64 KiB.
    #[error("the head of the application's answer has too many fields, or is too large")]
    HeadTooLarge,
    /// It took longer than `limits.upstream_timeout` from the last of the request to the head of its response.
    #[error("the application took longer than {0:?}; limits.upstream_timeout is how long it may take")]
    Slow(Duration),
    /// The client has broken off within the body of its request, or what it sent is none.
    #[error("the client broke off within its request")]
    Unfinished,
    /// The client has sent nothing more of its request's body for as long as an application may take, or too slowly.
    #[error("the client stopped within its request")]
    Stalled,
    /// The request's target cannot be sent on.
    #[error("the request's target cannot be sent on")]
    Target,
}

impl UpstreamError {
    /// The status for the client: 502, 504 for a slow application, and 4xx for what is the client's own doing.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unreachable(_)
            | Self::NoConnection(_)
            | Self::Closed(_)
            | Self::BrokeOff(_)
            | Self::Malformed(_)
            | Self::HeadTooLarge => StatusCode::BAD_GATEWAY,
            Self::Slow(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::Unfinished | Self::Target => StatusCode::BAD_REQUEST,
        }
    }
}

impl Upstream {
    /// An application at an address, over plain http.
    pub fn new(authority: Authority, timeout: Duration, keep: Keep) -> Self {
        Self { pool: Pool::new(authority, timeout.min(Duration::from_secs(10)), keep), timeout }
    }

    /// Sends a request with the given target, and waits for the final head of the response. Interim responses (1xx) are
    /// not passed on; a switch of protocols (101) is a final one.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`].
    pub async fn send(
        &self,
        request: Request<Stream>,
        target: &str,
        again: Again,
    ) -> Result<Response<Answer>, UpstreamError> {
        let path = target.parse::<PathAndQuery>().map_err(|_| UpstreamError::Target)?;
        let (mut parts, body) = request.into_parts();
        parts.uri = Uri::from(path);
        parts.version = Version::HTTP_11;
        let (body, progress) = body.watched();
        let answer = self.pool.send(Request::from_parts(parts, body), again);
        match patiently(answer, &progress, self.timeout).await {
            Some(Ok(response)) => received(response),
            Some(Err(_)) if progress.turn() == Turn::Broken => Err(UpstreamError::Unfinished),
            Some(Err(_)) if progress.turn() == Turn::Slow => Err(UpstreamError::Stalled),
            Some(Err(error)) => Err(error),
            None if progress.turn() == Turn::Writer => Err(UpstreamError::Stalled),
            None => Err(UpstreamError::Slow(self.timeout)),
        }
    }
}

/// Waits for an answer, and with each piece of the request that is taken waits anew: a large upload takes its time.
async fn patiently<T>(answer: impl Future<Output = T>, request: &Progress, patience: Duration) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    loop {
        tokio::select! {
            answer = &mut answer => return Some(answer),
            () = request.moved() => {}
            () = tokio::time::sleep(patience) => return None,
        }
    }
}

/// A response as it is passed on. The version is that of a connection, not of a message: an application that speaks
/// HTTP/1.0 would otherwise cost the client its connection, and the end of a body its mark. And of a coding beside a length,
/// the coding counts (RFC 9112 section 6.3).
///
/// A list of lengths is refused, even of equal ones, which the http library takes: the client's may read it otherwise.
fn received(mut response: Response<Answer>) -> Result<Response<Answer>, UpstreamError> {
    *response.version_mut() = Version::HTTP_11;
    if response.headers().contains_key(header::TRANSFER_ENCODING) {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let number = |value: &http::HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
    if !response.headers().get_all(header::CONTENT_LENGTH).iter().all(number) {
        return Err(UpstreamError::Malformed("its length is not one number".to_owned()));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Channel};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_long_upload_is_not_a_slow_application_and_a_stopped_one_is_the_clients_doing() {
        let (mut client, body) = Channel::<Bytes, std::io::Error>::new(1);
        let (mut body, progress) = Stream::through(body).watched();
        let pieces = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(MINUTE - Duration::from_secs(1)).await;
                client.send_data(Bytes::from_static(b"x")).await.unwrap();
            }
            client
        });
        let read = async {
            for _ in 0..5 {
                body.frame().await.unwrap().unwrap();
            }
        };
        assert_eq!(patiently(read, &progress, MINUTE).await, Some(()));
        assert_eq!(progress.turn(), Turn::Reader, "nobody asks for more");
        assert_eq!(patiently(std::future::pending::<()>(), &progress, MINUTE).await, None);
        let client = pieces.await.unwrap();
        assert!(patiently(body.frame(), &progress, MINUTE).await.is_none());
        assert_eq!(progress.turn(), Turn::Writer, "more is asked for, and the client sends nothing");
        client.abort(std::io::Error::other("gone"));
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(progress.turn(), Turn::Broken);
    }
}
