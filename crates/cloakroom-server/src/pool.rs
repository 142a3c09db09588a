//! Connections to the application: kept open, and each driven by the request that uses it.
//!
//! The http library's own client gives every connection a task of its own, with a channel to it and one back: three changes of
//! task for each request, and often as many of thread. Here whoever waits for an answer does the connection's work meanwhile,
//! and so does whoever reads the answer's body.
//!
//! A connection gets a task where its work must go on without that reader: while the rest of a request is still to be sent, for
//! an application may wait for it before it goes on with its answer; and for a protocol that is switched to.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::Instant;
use tower_service::Service as _;

use crate::body::Stream;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(30);
/// How often those that nobody uses are looked at.
const SWEEP: Duration = Duration::from_secs(5);

/// Connections to one address.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: HttpConnector,
    place: Uri,
    http: Builder,
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
    pub(crate) fn new(authority: Authority, connect_timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connect_timeout));
        let http = Builder::new();
        let mut place = http::uri::Parts::default();
        place.scheme = Some(Scheme::HTTP);
        place.authority = Some(authority);
        place.path_and_query = Some(PathAndQuery::from_static("/"));
        // With all three parts it is one.
        let place = Uri::from_parts(place).unwrap_or_default();
        Self(Arc::new(Shared { connector, place, http, idle: Mutex::default() }))
    }

    /// Sends a request whose target is a path, and waits for the final head of the answer.
    ///
    /// A request of which nothing was sent, because a kept connection turned out to be closed, is sent on another one.
    ///
    /// # Errors
    ///
    /// If there is no connection to be had, or it breaks before the answer's head has come.
    pub(crate) async fn send(&self, mut request: Request<Stream>) -> Result<Response<Answer>, Failure> {
        // What has no body is sent as a whole before there is an answer.
        let whole = request.body().is_end_stream();
        loop {
            let kept = self.take();
            let reused = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let mut answer = pin!(connection.sender.try_send_request(request));
            let driver = &mut connection.driver;
            let mut done = false;
            let answered = poll_fn(|cx| {
                // It answers also when it has come to its end.
                done = done || driver.as_mut().poll(cx).is_ready();
                answer.as_mut().poll(cx)
            })
            .await;
            match answered {
                Ok(response) if done => return Ok(response.map(Answer::rest)),
                Ok(response) if whole && response.status() != StatusCode::SWITCHING_PROTOCOLS => {
                    return Ok(response.map(|body| Answer::driving(body, connection, self.clone())));
                }
                Ok(response) => {
                    tokio::spawn(drive(connection, self.clone()));
                    return Ok(response.map(Answer::rest));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(error.into_error().into()),
                },
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let mut connector = self.0.connector.clone();
        poll_fn(|cx| connector.poll_ready(cx)).await?;
        let stream = connector.call(self.0.place.clone()).await?;
        let (sender, connection) = self.0.http.handshake(stream).await?;
        Ok(Connection { sender, driver: Box::pin(connection.with_upgrades()) })
    }

    /// A kept connection that is still good, as far as can be told.
    fn take(&self) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle().connections.pop()?;
            // Whoever has sent something that nobody asked for, or has closed, is found out here.
            let free = connection.poll_free(&mut Context::from_waker(Waker::noop()));
            if since.elapsed() < IDLE && free == Poll::Ready(true) {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        idle.connections.push((Instant::now(), connection));
        if !idle.swept {
            idle.swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
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
            if since.elapsed() < IDLE && free == Poll::Ready(true) {
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

/// Does a connection's work until it is free again.
async fn drive(mut connection: Connection, pool: Pool) {
    if poll_fn(|cx| connection.poll_free(cx)).await {
        pool.keep(connection);
    }
}

/// The body of an answer. Read to its end, its connection is kept for others; dropped before, it is closed.
pub struct Answer {
    body: Incoming,
    driving: Option<(Connection, Pool)>,
    /// It has broken off, which is told the next time.
    broken: Option<hyper::Error>,
}

impl Answer {
    /// One whose connection is looked after elsewhere, or over.
    const fn rest(body: Incoming) -> Self {
        Self { body, driving: None, broken: None }
    }

    fn driving(body: Incoming, connection: Connection, pool: Pool) -> Self {
        let mut answer = Self { body, driving: Some((connection, pool)), broken: None };
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
            Poll::Pending => drop(tokio::spawn(drive(connection, pool))),
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
