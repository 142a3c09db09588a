//! Bodies on their way through: streamed, without trailers.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use cloakroom::Ended;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::sync::Notify;
use tokio::time::Sleep;

use crate::pace::{Pace, Paced, TooSlow};
use crate::relay::{Relay, Terms};

/// A body broke off.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off")]
pub struct BodyError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl BodyError {
    pub(crate) fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }

    /// Whether it broke off because the client was too slow.
    pub fn is_slow(&self) -> bool {
        self.0.is::<TooSlow>()
    }
}

/// Any body, in either direction.
#[derive(Debug)]
pub struct Stream(UnsyncBoxBody<Bytes, BodyError>);

impl Stream {
    /// Passes a body on as it comes. Trailers are left out: what a trailer says could contradict the head.
    pub fn through<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self(WithoutTrailers(Box::pin(body.map_err(|error| BodyError(error.into())))).boxed_unsync())
    }

    /// Breaks the body off when the session ends that it belongs to: at once, or, where there is a `patience`, only if it has
    /// lasted that long.
    ///
    /// It breaks off rather than ends, because a client must not take a part for the whole.
    #[must_use = "this returns the body that breaks off"]
    pub fn until(self, ended: Ended, patience: Option<Duration>) -> Self {
        let patience = patience.map_or(Patience::Over, Patience::Whole);
        Self(Tied { body: self, ended, patience }.boxed_unsync())
    }

    /// Breaks the body off if it comes too slowly. Once `free` is set, only the time that it takes in all counts.
    #[must_use = "this returns the body that breaks off"]
    pub fn paced(self, pace: Pace, free: Arc<AtomicBool>) -> Self {
        Self(Paced::new(self, pace, free).boxed_unsync())
    }

    /// The body of a response, read as fast as there is room for it, and broken off if its client reads too slowly.
    pub(crate) fn relayed(self, terms: Terms, asked: bool) -> Self {
        Self(Relay::new(self, terms, asked).boxed_unsync())
    }

    /// The body, with something that is held until all of it was read, or nobody reads it any more.
    #[must_use = "this returns the body that holds it"]
    pub fn holding(self, held: impl Send + Unpin + 'static) -> Self {
        Self(Holding { body: self, held: Some(held) }.boxed_unsync())
    }

    /// The body, with something that is held until whoever writes it has let go of the last of its bytes: until its client has
    /// taken them, however early they were ready.
    #[must_use = "this returns the body that holds it"]
    pub(crate) fn holding_bytes(self, held: impl Send + Sync + 'static) -> Self {
        Self(HoldingBytes { body: self, held: Arc::new(held) }.boxed_unsync())
    }

    /// A body that breaks off at once.
    pub(crate) fn failing(error: BodyError) -> Self {
        Self(Failing(Some(error)).boxed_unsync())
    }

    /// The body with its beginning, which was read, before it again.
    #[must_use = "this returns the whole body"]
    pub fn after(self, beginning: Bytes) -> Self {
        Self(Prefixed { beginning, rest: self }.boxed_unsync())
    }

    /// The same body, and a view of how it is getting on.
    pub fn watched(self) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        (Self(Watched { body: self, progress: Arc::clone(&progress) }.boxed_unsync()), progress)
    }
}

/// A body whose beginning was read already.
struct Prefixed {
    beginning: Bytes,
    rest: Stream,
}

impl Body for Prefixed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.beginning.is_empty() {
            return Pin::new(&mut self.rest).poll_frame(cx);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.beginning)))))
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, beginning) = (self.rest.size_hint(), self.beginning.len() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(beginning));
        }
        hint.set_lower(rest.lower().saturating_add(beginning));
        hint
    }
}

/// A body, and something that is held for it.
struct Holding<T> {
    body: Stream,
    held: Option<T>,
}

impl<T: Unpin> Body for Holding<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let over = matches!(polled, Poll::Ready(None | Some(Err(_))));
        if over || (polled.is_ready() && self.body.is_end_stream()) {
            self.held = None;
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

/// A body, and something that each of its pieces holds.
struct HoldingBytes<T> {
    body: Stream,
    held: Arc<T>,
}

impl<T: Send + Sync + 'static> Body for HoldingBytes<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let held = &self.held;
        let piece = |data| Bytes::from_owner(Piece { data, _held: Arc::clone(held) });
        Poll::Ready(polled.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes with what they hold.
struct Piece<T> {
    data: Bytes,
    _held: Arc<T>,
}

impl<T> AsRef<[u8]> for Piece<T> {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

struct Failing(Option<BodyError>);

impl Body for Failing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.take().map(Err))
    }
}

/// A body that belongs to a session.
struct Tied {
    body: Stream,
    ended: Ended,
    patience: Patience,
}

/// How long a body may go on without a look at its session.
enum Patience {
    /// It has not had to wait yet, so there is no telling a short one from a long one.
    Whole(Duration),
    Running(Pin<Box<Sleep>>),
    Over,
}

impl Body for Tied {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.is_over(cx) {
            // The application is to notice too.
            this.body = Stream::default();
            return Poll::Ready(Some(Err(BodyError("its session has ended".into()))));
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending()
            && let Patience::Whole(patience) = this.patience
        {
            this.patience = Patience::Running(Box::pin(tokio::time::sleep(patience)));
            if this.is_over(cx) {
                // Only to be woken for it.
                cx.waker().wake_by_ref();
            }
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

impl Tied {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if let Patience::Running(sleep) = &mut self.patience
            && sleep.as_mut().poll(cx).is_ready()
        {
            self.patience = Patience::Over;
        }
        if !matches!(self.patience, Patience::Over) {
            return false;
        }
        let Poll::Ready(end) = Pin::new(&mut self.ended).poll(cx) else { return false };
        tracing::info!(target: "cloakroom::gateway", %end, "a response is broken off with its session");
        true
    }
}

/// How a body is getting on: whose turn it is, so that the one who is slow can be told from the one who waits.
#[derive(Debug, Default)]
pub struct Progress {
    turn: AtomicU8,
    moved: Notify,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The reader's: there may be more for it to take, or it has everything.
    Reader,
    /// The writer's: the reader waits for more.
    Writer,
    /// Nobody's: the writer broke off.
    Broken,
    /// Nobody's: the writer was too slow.
    Slow,
}

impl Progress {
    /// Whose turn it is now.
    pub fn turn(&self) -> Turn {
        match self.turn.load(Ordering::Acquire) {
            0 => Turn::Reader,
            1 => Turn::Writer,
            2 => Turn::Broken,
            _ => Turn::Slow,
        }
    }

    /// Waits until the body has got on since the last time.
    pub async fn moved(&self) {
        self.moved.notified().await;
    }

    fn set(&self, turn: Turn) {
        self.turn.store(turn as u8, Ordering::Release);
        if turn != Turn::Writer {
            self.moved.notify_one();
        }
    }
}

struct Watched {
    body: Stream,
    progress: Arc<Progress>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.progress.set(match &polled {
            Poll::Pending => Turn::Writer,
            Poll::Ready(Some(Err(error))) if error.is_slow() => Turn::Slow,
            Poll::Ready(Some(Err(_))) => Turn::Broken,
            Poll::Ready(_) => Turn::Reader,
        });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self(Empty::new().map_err(|never| match never {}).boxed_unsync())
    }
}

impl<T: Into<Bytes>> From<T> for Stream {
    fn from(text: T) -> Self {
        Self(Full::new(text.into()).map_err(|never| match never {}).boxed_unsync())
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

struct WithoutTrailers<B>(Pin<Box<B>>);

impl<B: Body<Data = Bytes>> Body for WithoutTrailers<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.0.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => Poll::Ready(None),
            frame => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
