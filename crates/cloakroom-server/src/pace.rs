//! How fast a body has to move: a client that sends or reads a byte now and then must not hold the application for ever.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::{BodyError, Stream};

/// What is asked of a client that sends a body or reads one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pace {
    /// Bytes a second, on the average of `grace`; 0 asks for none. Default 500.
    pub rate: u64,
    /// For how long a client may fall behind that. Default 30 s.
    pub grace: Duration,
    /// How long a body may take in all. Default 2 h.
    pub time: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate: 500, grace: Duration::from_secs(30), time: Duration::from_secs(7200) }
    }
}

/// Beside a request: set, only the time that its body takes in all counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Free(pub(crate) Arc<AtomicBool>);

/// A client was slower than it may be.
#[derive(Debug, thiserror::Error)]
#[error("the client was slower than limits.min_rate or limits.transfer_time allow")]
pub(crate) struct TooSlow;

/// What a client has left: time that it may let others wait. Bytes fill it up again, to `grace` at most, so that a fast
/// beginning buys no long stop.
#[derive(Debug)]
pub(crate) struct Bucket {
    pace: Pace,
    left: Duration,
    end: Instant,
}

impl Bucket {
    pub(crate) fn new(pace: Pace) -> Self {
        let now = Instant::now();
        // An end beyond what the clock can say is none.
        let end = now.checked_add(pace.time).unwrap_or(now + Duration::from_secs(86_400));
        Self { pace, left: pace.grace, end }
    }

    /// The client has let others wait since then.
    pub(crate) fn waited(&mut self, since: Instant) {
        self.left = self.left.saturating_sub(since.elapsed());
    }

    pub(crate) fn moved(&mut self, bytes: usize) {
        if let Some(micros) = (bytes as u64).saturating_mul(1_000_000).checked_div(self.pace.rate) {
            self.left = self.left.saturating_add(Duration::from_micros(micros)).min(self.pace.grace);
        }
    }

    /// When the client is too slow, if others wait for it since then.
    pub(crate) fn limit(&self, since: Option<Instant>, rated: bool) -> Instant {
        match since {
            Some(since) if rated && self.pace.rate > 0 => self.end.min(since + self.left),
            _ => self.end,
        }
    }
}

/// The body of a request, as fast as it has to be.
pub(crate) struct Paced {
    body: Stream,
    bucket: Bucket,
    waiting: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
    /// From when on only the time in all counts.
    free: Arc<AtomicBool>,
}

impl Paced {
    pub(crate) fn new(body: Stream, pace: Pace, free: Arc<AtomicBool>) -> Self {
        Self { body, bucket: Bucket::new(pace), waiting: None, alarm: None, free }
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let limit = self.bucket.limit(self.waiting, !self.free.load(Ordering::Acquire));
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(limit)));
            if alarm.deadline() != limit {
                alarm.as_mut().reset(limit);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return false;
            }
            // It may have been set free meanwhile, and has until then.
            if self.bucket.limit(self.waiting, !self.free.load(Ordering::Acquire)) <= Instant::now() {
                return true;
            }
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending() {
            this.waiting.get_or_insert_with(Instant::now);
        } else if let Some(since) = this.waiting.take() {
            this.bucket.waited(since);
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.bucket.moved(frame.data_ref().map_or(0, Bytes::len));
        }
        let over = matches!(polled, Poll::Ready(None | Some(Err(_))));
        // Who had what it asked for at once is not looked at closely.
        let looked = polled.is_pending() || this.bucket.end <= Instant::now();
        if !over && looked && this.is_late(cx) {
            this.body = Stream::default();
            return Poll::Ready(Some(Err(BodyError::new(TooSlow))));
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
    use http_body_util::{BodyExt as _, Channel};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PACE: Pace = Pace { rate: 10, grace: Duration::from_secs(30), time: Duration::from_secs(600) };

    /// How long a client that sends so many bytes every so many seconds is borne with, up to an hour.
    async fn borne(pace: Pace, first: usize, bytes: usize, every: u64, free: bool) -> (u64, bool) {
        let (mut client, body) = Channel::<Bytes, std::io::Error>::new(1);
        let flag = Arc::new(AtomicBool::new(false));
        let mut body = Paced::new(Stream::through(body), pace, Arc::clone(&flag));
        tokio::spawn(async move {
            if first > 0 && client.send_data(vec![b'x'; first].into()).await.is_err() {
                return;
            }
            loop {
                tokio::time::sleep(Duration::from_secs(every)).await;
                if client.send_data(vec![b'x'; bytes].into()).await.is_err() {
                    return;
                }
            }
        });
        flag.store(free, Ordering::Release);
        let begun = Instant::now();
        let read = async {
            loop {
                if let Err(error) = body.frame().await.unwrap() {
                    break error.is_slow();
                }
            }
        };
        let slow = tokio::time::timeout(Duration::from_secs(3600), read).await;
        (begun.elapsed().as_secs(), slow.unwrap_or(false))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_borne_with_as_long_as_it_is_fast_enough_and_no_longer_than_in_all() {
        for (what, first, bytes, every, free, expected) in [
            ("a stop", 0, 1, 7200, false, (30, true)),
            ("a byte every second", 0, 1, 1, false, (33, true)),
            ("a fast beginning buys no long stop", 1_000_000, 1, 7200, false, (30, true)),
            ("just fast enough", 0, 10, 1, false, (600, true)),
            ("in large pieces with pauses", 0, 200, 20, false, (600, true)),
            ("the end comes in a pause", 0, 300, 29, false, (600, true)),
            ("set free", 0, 1, 100, true, (600, true)),
        ] {
            let borne = borne(PACE, first, bytes, every, free).await;
            assert_eq!(borne, expected, "{what}");
        }
        let unrated = Pace { rate: 0, time: SECOND * 86_400, ..PACE };
        assert_eq!(borne(unrated, 0, 1, 1000, false).await, (3600, false), "nothing is asked");
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_asks_for_more_is_not_the_clients() {
        let (mut client, body) = Channel::<Bytes, std::io::Error>::new(2);
        let mut body = Paced::new(Stream::through(body), PACE, Arc::default());
        client.send_data("x".into()).await.unwrap();
        body.frame().await.unwrap().unwrap();
        client.send_data("x".into()).await.unwrap();
        tokio::time::sleep(SECOND * 300).await;
        body.frame().await.unwrap().unwrap();
        drop(client);
        tokio::time::sleep(PACE.time).await;
        assert!(body.frame().await.is_none(), "all of it had come");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_there_at_once_each_time_has_its_time_in_all_too() {
        let (mut client, body) = Channel::<Bytes, std::io::Error>::new(2);
        let mut body = Paced::new(Stream::through(body), PACE, Arc::default());
        for after in [PACE.time - SECOND, SECOND] {
            client.send_data("x".into()).await.unwrap();
            tokio::time::sleep(after).await;
            assert_eq!(body.frame().await.unwrap().is_err(), after == SECOND);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_set_free_while_it_is_waited_for_has_the_time_in_all() {
        let (_client, body) = Channel::<Bytes, std::io::Error>::new(1);
        let free = Arc::new(AtomicBool::new(false));
        let mut body = Paced::new(Stream::through(body), PACE, Arc::clone(&free));
        let begun = Instant::now();
        // Of its own, so that nobody looks before it is due.
        let reading = tokio::spawn(async move { body.frame().await });
        tokio::time::sleep(PACE.grace / 2).await;
        free.store(true, Ordering::Release);
        assert!(reading.await.unwrap().unwrap().unwrap_err().is_slow());
        assert_eq!(begun.elapsed().as_secs(), PACE.time.as_secs());
    }
}
