//! One client's connection, from its first byte to its last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::body::{BodyError, Stream};
use crate::edge::{Edge, plain};
use crate::health::{Health, READY};
use crate::linger::Lingering;
use crate::listen::Written;

/// How far the gateway is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everything is served.
    Serving,
    /// Everything is served, but a load balancer is told to send nothing more.
    Draining,
    /// What is under way is finished, and nothing new begun.
    Stopping,
}

/// For how long a connection without a request may live on once the gateway stops: enough to write what was answered, and
/// little enough that a peer that has vanished, or sent half a head, does not delay the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Bytes a second that a client has to take of what was answered, or it counts as idle.
const READING: u64 = 500;

/// What every connection is served with.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) server: Arc<Builder<TokioExecutor>>,
    pub(crate) edge: Edge,
    pub(crate) health: Health,
    pub(crate) phase: watch::Receiver<Phase>,
    /// How long a client may take until its first request.
    pub(crate) head_timeout: Duration,
    /// How long it may be without a request after that.
    pub(crate) idle_timeout: Duration,
}

impl Serving {
    /// Serves a connection to its end.
    pub(crate) async fn connection(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        written: Arc<Written>,
    ) {
        let (requests, mut open) = watch::channel(Requests::default());
        let (requests, linger) = (Arc::new(requests), Arc::new(AtomicBool::new(false)));
        let (edge, health, shown) = (self.edge, self.health, self.phase.clone());
        let sends = Arc::clone(&linger);
        let lane = edge.lane();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let under_way = UnderWay::begin(&requests);
            if request.version() == Version::HTTP_2 {
                request.extensions_mut().insert(Turn::new(&requests));
            }
            // A body that is refused is on its way all the same: see `linger`.
            sends.store(!request.body().is_end_stream(), Ordering::Relaxed);
            let (edge, health, phase) = (edge.clone(), health.clone(), *shown.borrow());
            let lane = lane.clone();
            async move {
                let response = match health.answer(&request).await {
                    Some(_) if phase != Phase::Serving && request.uri().path() == READY => {
                        edge.protect(stopping())
                    }
                    Some(answer) => edge.protect(answer),
                    None => edge.serve(request, peer, &lane).await,
                };
                Ok::<_, Infallible>(response.map(|body| Counted { body, _under_way: under_way }))
            }
        });
        let io = TokioIo::new(Lingering::new(stream, linger));
        let connection = self.server.serve_connection_with_upgrades(io, service);
        let mut connection = std::pin::pin!(connection);
        let mut phase = self.phase;
        let mut answered = open.clone();
        // The http library's own limit begins only once it knows which version is spoken, and HTTP/2 has none.
        tokio::select! {
            // A client that breaks off, or sends what is no HTTP, has had its answer from the http library.
            _ = &mut connection => return,
            heard = tokio::time::timeout(self.head_timeout, open.wait_for(|requests| requests.ever)) => {
                if heard.is_err() {
                    return;
                }
            }
            () = stopped(&mut phase) => {}
        }
        tokio::select! {
            _ = &mut connection => return,
            () = stopped(&mut phase) => {}
            () = idle(&mut open, &written, self.idle_timeout) => {}
            () = unread(&mut answered, &written, self.idle_timeout) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = &mut connection => {}
            () = idle(&mut open, &written, FAREWELL) => {}
            () = unread(&mut answered, &written, self.idle_timeout) => {}
        }
    }
}

/// Comes when the gateway begins nothing new any more.
pub(crate) async fn stopped(phase: &mut watch::Receiver<Phase>) {
    // An error means that the gateway is gone, which is as good a reason.
    drop(phase.wait_for(|phase| *phase == Phase::Stopping).await);
}

/// Comes when no request has been under way for so long. A client that is still taking what was answered, and not too slowly, is
/// not idle.
async fn idle(open: &mut watch::Receiver<Requests>, written: &Written, patience: Duration) {
    loop {
        drop(open.wait_for(|requests| requests.open == 0).await);
        let before = written.bytes();
        let again = open.wait_for(|requests| requests.open > 0);
        if tokio::time::timeout(patience, async { again.await.is_ok() }).await == Ok(true) {
            continue;
        }
        if !written.waits() || written.bytes() - before < least(patience) {
            return;
        }
    }
}

/// Comes when there was something to take for so long, and the client has hardly taken any of it. What else it asks meanwhile does
/// not count: over HTTP/2 it could leave a hundred answers where they are, and ask for one more now and then.
async fn unread(open: &mut watch::Receiver<Requests>, written: &Written, patience: Duration) {
    loop {
        drop(open.wait_for(|requests| requests.to_take > 0).await);
        let before = written.bytes();
        let taken = open.wait_for(|requests| requests.to_take == 0);
        if tokio::time::timeout(patience, async { taken.await.is_ok() }).await != Ok(true)
            && written.bytes() - before < least(patience)
        {
            return;
        }
    }
}

/// How much whoever reads has read in that time.
fn least(patience: Duration) -> u64 {
    patience.as_secs().max(1) * READING
}

fn stopping() -> http::Response<Stream> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE).map(|_| Stream::from("stopping\n"));
    response.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    response
}

/// The requests of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Requests {
    /// Whether there ever was one.
    ever: bool,
    /// How many are under way: not answered yet, or their response not written yet.
    open: usize,
    /// How many have an answer that is there for the client to take.
    to_take: usize,
}

/// Whose turn it is with a request: the application's, or its client's. All that is sent of an answer holds it, and with the
/// last of that it is over.
#[derive(Clone)]
pub(crate) struct Turn(Arc<Answered>);

struct Answered {
    requests: Arc<watch::Sender<Requests>>,
    to_take: AtomicBool,
}

impl Turn {
    fn new(requests: &Arc<watch::Sender<Requests>>) -> Self {
        Self(Arc::new(Answered { requests: Arc::clone(requests), to_take: AtomicBool::new(false) }))
    }

    /// There is something for the client to take, or there is not.
    pub(crate) fn is_clients(&self, to_take: bool) {
        self.0.note(to_take);
    }
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Turn").field(&self.0.to_take).finish()
    }
}

impl Answered {
    fn note(&self, to_take: bool) {
        if self.to_take.swap(to_take, Ordering::AcqRel) == to_take {
            return;
        }
        self.requests.send_modify(|requests| {
            requests.to_take =
                if to_take { requests.to_take.saturating_add(1) } else { requests.to_take.saturating_sub(1) };
        });
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.note(false);
    }
}

/// Counts a request as long as it lives.
struct UnderWay(Arc<watch::Sender<Requests>>);

impl UnderWay {
    fn begin(requests: &Arc<watch::Sender<Requests>>) -> Self {
        requests.send_modify(|requests| {
            *requests = Requests { ever: true, open: requests.open.saturating_add(1), ..*requests };
        });
        Self(Arc::clone(requests))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|requests| requests.open = requests.open.saturating_sub(1));
    }
}

/// A response's body, with which its request ends.
struct Counted {
    body: Stream,
    _under_way: UnderWay,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// How many seconds a client has to whom nothing more is answered, and who takes so many bytes a second of so many.
    async fn has(rate: usize, of: usize) -> u64 {
        const PATIENCE: Duration = Duration::from_secs(10);
        let (_requests, mut open) = watch::channel(Requests { ever: true, ..Requests::default() });
        let written = Arc::new(Written::default());
        let begun = Instant::now();
        let client = async {
            let mut left = of;
            while left > 0 {
                drop(written.note(Poll::Pending));
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(written.note(Poll::Ready(Ok(rate.min(left)))));
                left = left.saturating_sub(rate);
                if left > 0 {
                    drop(written.note(Poll::Pending));
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = client => {}
            () = idle(&mut open, &written, PATIENCE) => {}
        }
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_what_was_answered_is_not_idle_and_who_takes_too_little_is() {
        assert_eq!(has(0, 0).await, 10, "there is nothing to take");
        assert_eq!(has(0, 60_000).await, 10, "who reads nothing");
        assert_eq!(has(400, 60_000).await, 10, "who reads too slowly");
        assert!((60..=80).contains(&has(1000, 60_000).await), "who takes a minute for it");
    }
}
