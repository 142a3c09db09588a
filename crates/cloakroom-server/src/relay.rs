//! A response on its way to a client that may be slow. The application is through with it as soon as it has said it, as far as
//! the gateway has room; then the client has to be fast enough.
//!
//! A client that does not read is not noticed by whoever writes to it: nothing is asked of the body meanwhile. So what is more
//! than fits on the way has a task of its own that reads it. What is small has none.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::body::{BodyError, Stream};
use crate::connection::Turn;
use crate::held::{Budget, Share};
use crate::pace::{Bucket, Pace, TooSlow};

/// Bytes that pass without a task: as much as the http library takes over HTTP/1.1 whether the client reads or not.
const FREE: usize = 64 * 1024;

/// How a response is passed on.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) pace: Pace,
    /// Bytes that are held of it.
    pub(crate) each: usize,
    pub(crate) budget: Budget,
    /// Told when there is something for the client to take.
    pub(crate) turn: Option<Turn>,
}

impl Terms {
    fn to_take(&self, to_take: bool) {
        if let Some(turn) = &self.turn {
            turn.is_clients(to_take);
        }
    }
}

/// A response's body that is not the application's concern for longer than it has to be.
pub(crate) struct Relay(State);

enum State {
    /// Passed on where it is asked for; so many bytes may be yet.
    Direct { body: Stream, first: Option<Bytes>, free: usize, terms: Terms },
    /// Read by a task.
    Read(Reader),
}

impl Relay {
    /// `asked` is whether the body is certain to be asked for, whatever the client does. Over HTTP/2 it is not, if the client gives
    /// no room for it.
    pub(crate) fn new(mut body: Stream, terms: Terms, asked: bool) -> Self {
        // What has come with the head is taken now; often it is all.
        let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
        let first = match polled {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            Poll::Ready(Some(Err(error))) => {
                body = Stream::failing(error);
                None
            }
            Poll::Ready(None) | Poll::Pending => None,
        };
        let free = if asked { FREE } else { 0 };
        let mut relay = Self(State::Direct { body, first, free, terms });
        if !asked {
            relay.hand_over();
        }
        relay
    }

    /// Gives the rest to a task, if there is any.
    fn hand_over(&mut self) {
        let State::Direct { body, first, free, terms } = &mut self.0 else { return };
        if *free > 0 || (first.is_none() && body.is_end_stream()) {
            return;
        }
        let shared = Arc::new(Shared::default());
        if let Some(first) = first.take() {
            shared.lock().queue(first, None);
        }
        let (body, terms) = (std::mem::take(body), terms.clone());
        tokio::spawn(read(body, Arc::clone(&shared), terms));
        self.0 = State::Read(Reader(shared));
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            State::Read(reader) => reader.poll_frame(cx),
            State::Direct { body, first, free, .. } => {
                let polled = match first.take() {
                    Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
                    None => Pin::new(body).poll_frame(cx),
                };
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    *free = free.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                    self.hand_over();
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            State::Direct { body, first, .. } => first.is_none() && body.is_end_stream(),
            State::Read(reader) => reader.0.lock().is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Direct { body, first, .. } => {
                let (rest, first) = (body.size_hint(), first.as_ref().map_or(0, Bytes::len) as u64);
                let mut hint = SizeHint::new();
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(first));
                }
                hint.set_lower(rest.lower().saturating_add(first));
                hint
            }
            State::Read(_) => SizeHint::new(),
        }
    }
}

#[derive(Default)]
struct Shared {
    line: Mutex<Line>,
    /// The client has taken something, or has gone.
    taken: Notify,
}

#[derive(Default)]
struct Line {
    frames: VecDeque<(Bytes, Option<Share>)>,
    bytes: usize,
    /// Since the last time that the task looked.
    taken: usize,
    end: Option<Result<(), BodyError>>,
    gone: bool,
    reader: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Line> {
        // A panic elsewhere leaves bytes as they were.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: Result<(), BodyError>) {
        let mut line = self.lock();
        line.end = Some(end);
        line.wake();
    }
}

impl Line {
    fn queue(&mut self, data: Bytes, share: Option<Share>) {
        self.bytes += data.len();
        self.frames.push_back((data, share));
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn is_over(&self) -> bool {
        self.frames.is_empty() && matches!(self.end, Some(Ok(())))
    }
}

/// Reads a body for a client, as fast as there is room.
async fn read(mut body: Stream, shared: Arc<Shared>, terms: Terms) {
    let mut bucket = Bucket::new(terms.pace);
    // Since when the client has something to take.
    let mut behind = None;
    let (mut room, mut ended) = (true, false);
    loop {
        let (bytes, taken) = {
            let mut line = shared.lock();
            if line.gone || (ended && line.frames.is_empty()) {
                // What is left is with the http library.
                return;
            }
            (line.bytes, std::mem::take(&mut line.taken))
        };
        if taken > 0 {
            if let Some(since) = behind.replace(Instant::now()) {
                bucket.waited(since);
            }
            bucket.moved(taken);
            room = true;
        }
        if bytes == 0 {
            behind = None;
            room = true;
        } else if behind.is_none() {
            behind = Some(Instant::now());
        }
        terms.to_take(bytes > 0);
        tokio::select! {
            biased;
            () = shared.taken.notified() => {}
            frame = body.frame(), if !ended && room && (bytes == 0 || bytes < terms.each) => match frame {
                Some(Ok(frame)) => if let Ok(data) = frame.into_data() {
                    let share = terms.budget.take(data.len());
                    // Where there is no room left, one piece at a time is held all the same.
                    room = share.is_some();
                    shared.lock().queue(data, share);
                },
                end => {
                    ended = true;
                    terms.to_take(true);
                    // The application is through with it.
                    body = Stream::default();
                    shared.end(end.map_or(Ok(()), |end| end.map(drop)));
                }
            },
            () = tokio::time::sleep_until(bucket.limit(behind, true)) => {
                tracing::info!(target: "cloakroom::gateway", "a response is broken off: its client reads too slowly");
                let mut line = shared.lock();
                (line.frames, line.bytes) = (VecDeque::new(), 0);
                drop(line);
                shared.end(Err(BodyError::new(TooSlow)));
                return;
            }
        }
    }
}

/// The client's end.
struct Reader(Arc<Shared>);

impl Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut line = self.0.lock();
        if let Some((data, share)) = line.frames.pop_front() {
            line.bytes = line.bytes.saturating_sub(data.len());
            line.taken += data.len();
            drop(line);
            drop(share);
            self.0.taken.notify_one();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match line.end.replace(Ok(())) {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                line.end = None;
                line.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.lock().gone = true;
        self.0.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::Channel;
    use http_body_util::channel::Sender;

    use super::*;

    const PIECE: usize = 16 * 1024;

    fn terms(each: usize, all: usize) -> Terms {
        let pace = Pace { rate: 100, grace: Duration::from_secs(30), time: Duration::from_secs(3600) };
        Terms { pace, each, budget: Budget::new(all), turn: None }
    }

    /// An application that says so many pieces, and how many it could say until nobody took more.
    async fn said(application: &mut Sender<Bytes, std::io::Error>, pieces: usize) -> usize {
        for piece in 0..pieces {
            let send = application.send_data(vec![b'x'; PIECE].into());
            match tokio::time::timeout(Duration::from_millis(10), send).await {
                Ok(Ok(())) => {}
                _ => return piece,
            }
        }
        pieces
    }

    #[tokio::test(start_paused = true)]
    async fn the_application_is_through_with_what_fits_though_its_client_does_not_read() {
        for (what, each, all, least, most) in [
            ("all fits", 40 * PIECE, 40 * PIECE, 40, 40),
            ("a part fits", 8 * PIECE, 40 * PIECE, 8, 11),
            ("no room in all", 40 * PIECE, 2 * PIECE, 2, 5),
            ("nothing is held", 0, 40 * PIECE, 1, 3),
        ] {
            let (mut application, body) = Channel::<Bytes, std::io::Error>::new(1);
            let terms = terms(each, all);
            let budget = terms.budget.clone();
            let relay = Relay::new(Stream::through(body), terms, false);
            let said = said(&mut application, 40).await;
            assert!((least..=most).contains(&said), "{what}: {said}");
            drop(relay);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(budget.take(all).is_some(), "{what}: the room comes back");
            assert!(application.send_data("x".into()).await.is_err(), "{what}: the application hears of it");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_arrives_as_it_was_said() {
        for (asked, each) in [(true, 1 << 20), (false, 1 << 20), (false, 0), (true, 0)] {
            let (mut application, body) = Channel::<Bytes, std::io::Error>::new(1);
            let relay = Relay::new(Stream::through(body), terms(each, 1 << 20), asked);
            let expected = (0..40_u8).flat_map(|n| vec![n; PIECE]).collect::<Vec<_>>();
            let pieces = expected.chunks(PIECE).map(Bytes::copy_from_slice).collect::<Vec<_>>();
            tokio::spawn(async move {
                for piece in pieces {
                    application.send_data(piece).await.unwrap();
                }
            });
            let read = relay.collect().await.unwrap().to_bytes();
            assert!(read == expected, "{asked} {each}: {}", read.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_breaks_off_breaks_off_after_what_was_said() {
        for asked in [true, false] {
            let (mut application, body) = Channel::<Bytes, std::io::Error>::new(2);
            application.send_data("half".into()).await.unwrap();
            application.abort(std::io::Error::other("gone"));
            let mut relay = Relay::new(Stream::through(body), terms(1 << 20, 1 << 20), asked);
            assert_eq!(relay.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
            let end = relay.frame().await.unwrap();
            assert!(end.is_err_and(|error| !error.is_slow()), "{asked}");
        }
    }

    /// How many pieces a client gets that takes one every so many seconds, and how the last came out.
    async fn taken(every: u64, pieces: usize, asked: bool) -> (usize, Option<bool>) {
        let (mut application, body) = Channel::<Bytes, std::io::Error>::new(1);
        let mut relay = Relay::new(Stream::through(body), terms(4 * PIECE, 40 * PIECE), asked);
        tokio::spawn(async move {
            for _ in 0..pieces {
                if application.send_data(vec![b'x'; PIECE].into()).await.is_err() {
                    return;
                }
            }
        });
        let mut taken = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(every)).await;
            match relay.frame().await {
                None => return (taken, None),
                Some(Ok(_)) => taken += 1,
                Some(Err(error)) => return (taken, Some(error.is_slow())),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_too_slowly_is_cut_off_and_one_that_is_fast_enough_is_not() {
        for asked in [true, false] {
            assert_eq!(taken(20, 40, asked).await, (40, None), "{asked}: {PIECE} bytes in 20 s");
            let (pieces, slow) = taken(40, 40, asked).await;
            assert!(pieces <= 6 && slow == Some(true), "{asked}: stops for 40 s: {pieces}");
            let (pieces, slow) = taken(25, 1000, asked).await;
            assert!((130..=150).contains(&pieces) && slow == Some(true), "{asked}: an hour in all: {pieces}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_for_the_application_is_not_slow() {
        let (mut application, body) = Channel::<Bytes, std::io::Error>::new(1);
        let mut relay = Relay::new(Stream::through(body), terms(PIECE, PIECE), false);
        for _ in 0..5 {
            let (sent, frame) = tokio::join!(
                async {
                    tokio::time::sleep(Duration::from_secs(300)).await;
                    application.send_data("x".into()).await
                },
                relay.frame()
            );
            sent.unwrap();
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "x");
        }
    }
}
