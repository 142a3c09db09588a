//! What the gateway holds of bodies, so that a slow client keeps the gateway waiting and not the application; bounded in all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::body::{BodyError, Stream};

/// How much of bodies is held.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Held {
    /// Bytes of one body. Default 1 MiB.
    pub each: usize,
    /// Bytes of all together. Default 64 MiB.
    pub all: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self { each: 1 << 20, all: 64 << 20 }
    }
}

/// Bytes that may still be held.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<AtomicUsize>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// A share of it, which goes back when it is dropped; `None` if there is not as much.
    pub(crate) fn take(&self, bytes: usize) -> Option<Share> {
        let taken = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes));
        taken.ok().map(|_| Share { of: self.clone(), bytes })
    }
}

/// A share of a budget.
#[derive(Debug)]
pub(crate) struct Share {
    of: Budget,
    bytes: usize,
}

impl Share {
    /// Makes one of two.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// Waits until a body is there as a whole, if it says that it is not longer than one may be and there is room for it; what is
/// longer, or does not say, goes on as it comes.
///
/// # Errors
///
/// The body's.
pub(crate) async fn gather(mut body: Stream, each: usize, budget: &Budget) -> Result<Stream, BodyError> {
    let Some(length) = body.size_hint().exact().and_then(|length| usize::try_from(length).ok()) else {
        return Ok(body);
    };
    if length == 0 || length > each {
        return Ok(body);
    }
    let Some(mut share) = budget.take(0) else { return Ok(body) };
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if data.len() == length {
            // It came in one piece.
            return Ok(Stream::from(data));
        }
        // What is promised costs nothing: only what has come is held.
        let room = budget.take(data.len()).map(|more| share.join(more));
        read.extend_from_slice(&data);
        if room.is_none() {
            return Ok(body.after(read.freeze()).holding(share));
        }
    }
    Ok(Stream::from(Bytes::from(read)).holding(share))
}

#[cfg(test)]
mod tests {
    use http_body_util::Channel;

    use super::*;

    /// A body that says its length.
    fn sized(rest: Channel<Bytes, std::io::Error>, beginning: &'static [u8], length: usize) -> Stream {
        let rest = http_body_util::Limited::new(rest, length);
        Stream::through(Sized(rest, length - beginning.len())).after(Bytes::from_static(beginning))
    }

    struct Sized<B>(B, usize);

    impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Sized<B> {
        type Data = Bytes;
        type Error = B::Error;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, B::Error>>> {
            std::pin::Pin::new(&mut self.0).poll_frame(cx)
        }

        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(self.1 as u64)
        }
    }

    fn left(budget: &Budget) -> usize {
        budget.0.load(Ordering::Acquire)
    }

    #[tokio::test]
    async fn a_body_within_the_bound_is_held_until_it_is_whole_and_its_room_comes_back() {
        let budget = Budget::new(100);
        let (mut client, rest) = Channel::new(1);
        let gathering = gather(sized(rest, b"ab", 6), 6, &budget);
        let mut gathering = std::pin::pin!(gathering);
        assert!(futures_poll(gathering.as_mut()).is_pending(), "not whole yet");
        assert_eq!(left(&budget), 98);
        client.send_data("cdef".into()).await.unwrap();
        drop(client);
        let body = gathering.await.unwrap();
        assert_eq!(left(&budget), 94);
        assert_eq!(body.size_hint().exact(), Some(6));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
        assert_eq!(left(&budget), 100);
    }

    #[tokio::test]
    async fn what_is_longer_or_finds_no_room_goes_on_as_it_comes() {
        for (what, each, all, kept) in
            [("longer", 5, 100, 100), ("no room", 6, 1, 1), ("nothing is held", 0, 100, 100)]
        {
            let budget = Budget::new(all);
            let (mut client, rest) = Channel::new(1);
            let mut body = gather(sized(rest, b"ab", 6), each, &budget).await.unwrap();
            assert_eq!(left(&budget), kept, "{what}");
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab", "{what}");
            client.send_data("cdef".into()).await.unwrap();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "cdef", "{what}");
        }
        let budget = Budget::new(100);
        let (_client, unsized_body) = Channel::<Bytes, std::io::Error>::new(1);
        assert!(
            gather(Stream::through(unsized_body), 6, &budget).await.is_ok(),
            "it does not say how long it is"
        );
    }

    #[tokio::test]
    async fn what_was_held_before_the_room_ran_out_counts_until_it_has_gone_on() {
        let budget = Budget::new(3);
        let (mut client, rest) = Channel::new(1);
        client.send_data("cdef".into()).await.unwrap();
        drop(client);
        let body = gather(sized(rest, b"ab", 6), 6, &budget).await.unwrap();
        assert_eq!(left(&budget), 1, "two bytes are held");
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
        assert_eq!(left(&budget), 3);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error_and_gives_its_room_back() {
        let budget = Budget::new(100);
        let (client, rest) = Channel::<Bytes, std::io::Error>::new(1);
        client.abort(std::io::Error::other("gone"));
        assert!(gather(sized(rest, b"ab", 6), 6, &budget).await.is_err());
        assert_eq!(left(&budget), 100);
    }

    fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
