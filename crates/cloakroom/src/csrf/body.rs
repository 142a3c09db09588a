//! A request body of which the beginning may have been read, passed on unchanged.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The request body of services below a [`ProtectedLayer`](crate::ProtectedLayer): the same bytes and trailers as came.
    pub struct CsrfBody<B> where B: Body {
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<B> where B: Body {
        Untouched { #[pin] body: B },
        Begun { read: VecDeque<Result<Frame<B::Data>, B::Error>>, rest: Pin<Box<B>> },
    }
}

impl<B: Body> CsrfBody<B> {
    pub(super) const fn untouched(body: B) -> Self {
        Self { state: State::Untouched { body } }
    }
}

impl<B: Body<Data = Bytes>> CsrfBody<B> {
    /// Reads until `look` has seen enough, the body ends or fails; `look` gets `None` where it ends.
    pub(super) async fn begin(body: B, mut look: impl FnMut(Option<&[u8]>) -> Seen) -> Self {
        let mut rest = Box::pin(body);
        let mut read = VecDeque::new();
        loop {
            match poll_fn(|cx| rest.as_mut().poll_frame(cx)).await {
                None => {
                    look(None);
                    break;
                }
                Some(frame) => {
                    let seen = match frame.as_ref().map(Frame::data_ref) {
                        // Any number of frames of no bytes may come, and each of them would be held.
                        Ok(Some(data)) if data.is_empty() => continue,
                        Ok(Some(data)) => look(Some(data)),
                        Ok(None) => Seen::NotEnough,
                        // Whoever reads it next is told; there is nothing behind it.
                        Err(_) => Seen::Enough,
                    };
                    read.push_back(frame);
                    if seen == Seen::Enough {
                        break;
                    }
                }
            }
        }
        Self { state: State::Begun { read, rest } }
    }
}

/// Whether to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Enough,
    NotEnough,
}

impl<B: Body<Data = Bytes>> Body for CsrfBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().state.project() {
            StateProjection::Untouched { body } => body.poll_frame(cx),
            StateProjection::Begun { read, rest } => match read.pop_front() {
                Some(frame) => Poll::Ready(Some(frame)),
                None => rest.as_mut().poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Untouched { body } => body.is_end_stream(),
            State::Begun { read, rest } => read.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Untouched { body } => body.size_hint(),
            State::Begun { read, rest } => {
                let data = read.iter().filter_map(|frame| frame.as_ref().ok().and_then(Frame::data_ref));
                let held = data.fold(0_u64, |sum, data| {
                    sum.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX))
                });
                let rest = rest.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(held));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(held));
                }
                hint
            }
        }
    }
}

impl<B: Body> fmt::Debug for CsrfBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfBody")
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Frames without bytes, and then one with some.
    struct Empty(u32);

    impl Body for Empty {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0 = self.0.saturating_sub(1);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(if self.0 == 0 { b"a=1" } else { b"" })))))
        }
    }

    #[test]
    fn frames_without_bytes_are_not_held() {
        let look = |bytes: Option<&[u8]>| match bytes {
            Some(b"a=1") | None => Seen::Enough,
            Some(_) => Seen::NotEnough,
        };
        let body = CsrfBody::begin(Empty(10_000), look);
        let State::Begun { read, .. } = cloakroom_testkit::block_on(body).state else {
            panic!("nothing was read");
        };
        assert_eq!(read.len(), 1);
    }
}
