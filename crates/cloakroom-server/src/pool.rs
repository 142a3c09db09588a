//! Connections to the application: kept open, and each driven by the request that uses it.
//!
//! The http library's own client gives every connection a task of its own, with a channel to it and one back: three changes of
//! task for each request, and often as many of thread. Here whoever waits for an answer does the connection's work meanwhile,
//! and so does whoever reads the answer's body.
//!
//! A connection gets a task where its work must go on without that reader: while the rest of a request is still to be sent, for
//! an application may wait for it before it goes on with its answer; and for a protocol that is switched to.
//!
//! An application closes what it has kept for long enough, and a request that is sent at that very moment gets no answer. So
//! connections are kept for less time than applications commonly do, and for less than this one says it does; and a request
//! that changes nothing is sent once more.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower_service::Service as _;

use crate::body::Stream;
use crate::upstream::UpstreamError;
use crate::wire::{Signs, Wire};

/// How often those that nobody uses are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// How long before an application closes a connection, as it says, the connection is given up.
const AHEAD: Duration = Duration::from_secs(1);

/// Which connections that nobody uses are kept.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Keep {
    /// How long, at most. Default 4 s: some applications close after 5.
    pub time: Duration,
    /// How many, at most. Default 64.
    pub connections: usize,
}

impl Default for Keep {
    fn default() -> Self {
        Self { time: Duration::from_secs(4), connections: 64 }
    }
}

/// Whether a request may be sent once more, if it changes nothing and the connection that it was sent on turns out closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It may.
    May,
    /// What it carries is good for one time: it may not.
    MayNot,
}

/// Bytes of an answer that wait for a client that does not read; its head has to fit too. The library's own bound is 400 KB, and a
/// client over HTTP/2 can leave a hundred answers unread.
const BUFFER: usize = 64 * 1024;

/// Connections to one address.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: HttpConnector,
    place: Uri,
    http: Builder,
    keep: Keep,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The last one used comes last, and is the next to be used.
    connections: Vec<(Instant, Connection)>,
    swept: bool,
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Idle").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}

/// A connection, and what does its work.
struct Connection {
    sender: SendRequest<Stream>,
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    signs: Arc<Signs>,
    /// How long it is kept while nobody uses it.
    patience: Duration,
}

impl Connection {
    /// Does what there is to do. Returns whether the connection is there for another request; `Pending` while it is with one.
    fn poll_free(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.driver.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        self.sender.poll_ready(cx).map(|ready| ready.is_ok())
    }
}

impl Pool {
    /// No connections yet, to an address over plain http.
    pub(crate) fn new(authority: Authority, connect_timeout: Duration, keep: Keep) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connect_timeout));
        let mut http = Builder::new();
        http.max_buf_size(BUFFER);
        let mut place = http::uri::Parts::default();
        place.scheme = Some(Scheme::HTTP);
        place.authority = Some(authority);
        place.path_and_query = Some(PathAndQuery::from_static("/"));
        // With all three parts it is one.
        let place = Uri::from_parts(place).unwrap_or_default();
        Self(Arc::new(Shared { connector, place, http, keep, idle: Mutex::default() }))
    }

    /// Sends a request whose target is a path, and waits for the final head of the answer.
    ///
    /// A request of which nothing was sent, because a kept connection turned out to be closed, is sent on another one. One that
    /// was sent on a kept connection and of whose answer not a byte has come is sent once more, on a new one, if it may be and
    /// changes nothing (RFC 9112 section 9.3.1).
    ///
    /// # Errors
    ///
    /// If there is no connection to be had, or it breaks before the answer's head has come, or that head is none.
    pub(crate) async fn send(
        &self,
        mut request: Request<Stream>,
        again: Again,
    ) -> Result<Response<Answer>, UpstreamError> {
        // What has no body is sent as a whole before there is an answer.
        let whole = request.body().is_end_stream();
        let repeatable = whole && again == Again::May && changes_nothing(request.method());
        let mut kept = self.take();
        loop {
            let reused = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let spare = (reused && repeatable).then(|| copy(&request));
            connection.signs.ask();
            let mut answer = pin!(connection.sender.try_send_request(request));
            let driver = &mut connection.driver;
            let mut done = false;
            let answered = poll_fn(|cx| {
                // It answers also when it has come to its end.
                done = done || driver.as_mut().poll(cx).is_ready();
                answer.as_mut().poll(cx)
            })
            .await;
            let error = match answered {
                Ok(response) => {
                    connection.patience = patience(response.headers(), self.0.keep.time);
                    return Ok(self.answer(response, connection, whole, done));
                }
                Err(error) => error,
            };
            (request, kept) = match (error, spare) {
                (mut error, _) if reused && error.message().is_some() => match error.take_message() {
                    Some(unsent) => (unsent, self.take()),
                    None => return Err(no_answer(&error.into_error(), &connection.signs)),
                },
                (_, Some(spare)) if !connection.signs.heard() => (spare, None),
                (error, _) => return Err(no_answer(&error.into_error(), &connection.signs)),
            };
        }
    }

    /// An answer whose head has come, and who looks after its connection.
    fn answer(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        whole: bool,
        done: bool,
    ) -> Response<Answer> {
        if done {
            return response.map(Answer::rest);
        }
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched {
            connection.signs.tell();
        } else if whole {
            return response.map(|body| Answer::driving(body, connection, self.clone()));
        }
        let (reader, gone) = oneshot::channel();
        tokio::spawn(drive(connection, self.clone(), Some(gone)));
        response.map(|body| Answer { _reader: Some(reader), ..Answer::rest(body) })
    }

    async fn connect(&self) -> Result<Connection, UpstreamError> {
        let mut connector = self.0.connector.clone();
        let connected = async {
            poll_fn(|cx| connector.poll_ready(cx)).await?;
            connector.call(self.0.place.clone()).await
        };
        let stream = connected.await.map_err(|error| no_connection(&error))?;
        let (wire, signs) = Wire::new(stream.into_inner());
        let shaken = self.0.http.handshake(TokioIo::new(wire)).await;
        let (sender, connection) = shaken.map_err(|error| no_answer(&error, &signs))?;
        let driver = Box::pin(connection.with_upgrades());
        Ok(Connection { sender, driver, signs, patience: self.0.keep.time })
    }

    /// A kept connection that is still good, as far as can be told.
    fn take(&self) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle().connections.pop()?;
            // Whoever has sent something that nobody asked for, or has closed, is found out here.
            let free = connection.poll_free(&mut Context::from_waker(Waker::noop()));
            if since.elapsed() < connection.patience && free == Poll::Ready(true) {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        if connection.patience.is_zero() || self.0.keep.connections == 0 {
            return;
        }
        let mut idle = self.idle();
        let oldest = (idle.connections.len() >= self.0.keep.connections).then(|| idle.connections.remove(0));
        idle.connections.push((Instant::now(), connection));
        if !idle.swept {
            idle.swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
        drop(idle);
        drop(oldest);
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        // A panic elsewhere leaves connections as they were.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go of what is not used any more, until nothing is left.
async fn sweep(pool: Weak<Shared>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade().map(Pool) else { return };
        let mut gone = Vec::new();
        let mut idle = pool.idle();
        let all = std::mem::take(&mut idle.connections);
        for (since, mut connection) in all {
            let free = connection.poll_free(&mut Context::from_waker(Waker::noop()));
            if since.elapsed() < connection.patience && free == Poll::Ready(true) {
                idle.connections.push((since, connection));
            } else {
                gone.push(connection);
            }
        }
        idle.swept = !idle.connections.is_empty();
        let over = !idle.swept;
        drop(idle);
        drop(gone);
        if over {
            return;
        }
    }
}

/// Does a connection's work until it is free again, or has nobody left to work for: the application takes nothing more, and
/// whoever reads its answer has gone.
async fn drive(mut connection: Connection, pool: Pool, mut reader: Option<oneshot::Receiver<()>>) {
    let free = poll_fn(|cx| {
        let free = connection.poll_free(cx);
        let alone = reader.as_mut().is_none_or(|reader| Pin::new(reader).poll(cx).is_ready());
        if alone {
            reader = None;
        }
        if free.is_pending() && alone && connection.signs.deaf() { Poll::Ready(false) } else { free }
    });
    if free.await {
        pool.keep(connection);
    }
}

/// RFC 9110 section 9.2.1, of those that are in use.
fn changes_nothing(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The same request; it has no body.
fn copy(request: &Request<Stream>) -> Request<Stream> {
    let mut copy = Request::new(Stream::default());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// How long a connection is kept after an answer: less than the application says that it keeps it.
fn patience(headers: &HeaderMap, most: Duration) -> Duration {
    let elements = headers.get_all("keep-alive").into_iter();
    let elements = elements.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let told = elements.filter_map(|element| {
        let (name, seconds) = element.split_once('=')?;
        let told = name.trim().eq_ignore_ascii_case("timeout");
        told.then(|| seconds.trim().trim_matches('"').parse::<u64>().ok()).flatten()
    });
    told.min().map_or(most, |told| most.min(Duration::from_secs(told).saturating_sub(AHEAD)))
}

/// Why there is no connection.
fn no_connection(error: &(dyn std::error::Error + 'static)) -> UpstreamError {
    let mut source = Some(error);
    while let Some(cause) = source {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::TimedOut) {
            return UpstreamError::NoConnection(causes(error));
        }
        source = cause.source();
    }
    UpstreamError::Unreachable(causes(error))
}

/// Why there is no answer on a connection.
fn no_answer(error: &hyper::Error, signs: &Signs) -> UpstreamError {
    if error.is_parse_too_large() {
        UpstreamError::HeadTooLarge
    } else if error.is_parse() {
        UpstreamError::Malformed(causes(error))
    } else if signs.heard() {
        UpstreamError::BrokeOff(causes(error))
    } else {
        UpstreamError::Closed(causes(error))
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

/// The body of an answer. Read to its end, its connection is kept for others; dropped before, it is closed.
pub struct Answer {
    body: Incoming,
    driving: Option<(Connection, Pool)>,
    /// It has broken off, which is told the next time.
    broken: Option<hyper::Error>,
    /// Tells whoever looks after the connection that the answer is not read any more.
    _reader: Option<oneshot::Sender<()>>,
}

impl Answer {
    /// One whose connection is looked after elsewhere, or over.
    const fn rest(body: Incoming) -> Self {
        Self { body, driving: None, broken: None, _reader: None }
    }

    fn driving(body: Incoming, connection: Connection, pool: Pool) -> Self {
        let mut answer = Self { driving: Some((connection, pool)), ..Self::rest(body) };
        if answer.body.is_end_stream() {
            answer.release();
        }
        answer
    }

    /// All was read.
    fn release(&mut self) {
        let Some((mut connection, pool)) = self.driving.take() else { return };
        match connection.poll_free(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(true) => pool.keep(connection),
            Poll::Ready(false) => {}
            // The mark of the body's end is still to come.
            Poll::Pending => drop(tokio::spawn(drive(connection, pool, None))),
        }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("body", &self.body).finish_non_exhaustive()
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(broken) = this.broken.take() {
            return Poll::Ready(Some(Err(broken)));
        }
        let mut polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending()
            && let Some((connection, _)) = &mut this.driving
        {
            if connection.driver.as_mut().poll(cx).is_ready() {
                this.driving = None;
            }
            polled = Pin::new(&mut this.body).poll_frame(cx);
        }
        let over = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || this.body.is_end_stream(),
            Poll::Ready(_) => true,
            Poll::Pending => false,
        };
        if over {
            this.release();
        }
        if let Poll::Ready(Some(Err(broken))) = polled {
            // The http library lets go of a connection whose body fails, with all that it has not sent yet. So that the client
            // sees what there was, and with it that it is not the whole, it is given the time to send that first.
            this.broken = Some(broken);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        polled
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
    use super::*;

    #[test]
    fn a_connection_is_kept_for_less_time_than_the_application_says() {
        let most = Duration::from_secs(4);
        for (told, kept) in [
            (&[][..], 4),
            (&["timeout=5"], 4),
            (&["timeout=5, max=100"], 4),
            (&["timeout=4"], 3),
            (&["max=3, Timeout=2"], 1),
            (&["timeout=1"], 0),
            (&["timeout=0"], 0),
            (&["timeout=\"3\""], 2),
            (&["timeout = 3"], 2),
            (&["timeout=9", "timeout=2"], 1),
            (&["timeout=soon"], 4),
            (&["time=1"], 4),
            (&["timeout"], 4),
        ] {
            let mut headers = HeaderMap::new();
            for value in told {
                headers.append("keep-alive", value.parse().unwrap());
            }
            assert_eq!(patience(&headers, most), Duration::from_secs(kept), "{told:?}");
        }
    }

    #[test]
    fn who_takes_no_connection_is_told_from_who_is_not_there() {
        let error = |kind| no_connection(&std::io::Error::from(kind));
        assert!(matches!(error(std::io::ErrorKind::TimedOut), UpstreamError::NoConnection(_)));
        assert!(matches!(error(std::io::ErrorKind::ConnectionRefused), UpstreamError::Unreachable(_)));
    }
}
