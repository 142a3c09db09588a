//! The bytes to and from the application. An application may answer before it has read the whole request, and close: what it has
//! answered by then is read, though nothing more can be sent.
//!
//! The http library gives up a connection with its first failed write, and an answer that has come meanwhile with it. So a
//! failed write is kept from it here while an answer may still come: writing just never gets on, and the reading finds the
//! answer, or the end. (On Linux what came before a reset can still be read; elsewhere a reset may take it along, and the
//! answer is lost as it would be for any other client.)

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection's stream.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    signs: Arc<Signs>,
}

/// What is seen of a connection while the http library has it.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    heard: AtomicBool,
    deaf: AtomicBool,
    told: AtomicBool,
}

impl Signs {
    /// Begins anew, with another request.
    pub(crate) fn ask(&self) {
        self.heard.store(false, Ordering::Release);
    }

    /// Whether anything has come since the request.
    pub(crate) fn heard(&self) -> bool {
        self.heard.load(Ordering::Acquire)
    }

    /// Whether the application takes nothing any more.
    pub(crate) fn deaf(&self) -> bool {
        self.deaf.load(Ordering::Acquire)
    }

    /// From here on a failed write is told, because no answer is waited for.
    pub(crate) fn tell(&self) {
        self.told.store(true, Ordering::Release);
    }
}

impl<S> Wire<S> {
    pub(crate) fn new(stream: S) -> (Self, Arc<Signs>) {
        let signs = Arc::new(Signs::default());
        (Self { stream, signs: Arc::clone(&signs) }, signs)
    }

    /// What a write comes to.
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(_)) if !self.signs.told.load(Ordering::Acquire) => {
                self.signs.deaf.store(true, Ordering::Release);
                // Nobody is woken for it: whoever drives the connection waits for the reading too.
                Poll::Pending
            }
            written => written,
        }
    }

    fn broken(&self) -> Option<Poll<io::Result<usize>>> {
        self.signs.deaf().then(|| self.wrote(Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.signs.heard.store(true, Ordering::Release);
        } else if read.is_ready() {
            // Nothing more will come.
            self.signs.tell();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(broken) = self.broken() {
            return broken;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(broken) = self.broken() {
            return broken;
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Channel};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Takes a little, then nothing more; and has an answer by then, which nobody has looked for before.
    struct Hasty {
        takes: usize,
        answer: &'static [u8],
        reader: Option<Waker>,
    }

    impl Hasty {
        fn new(takes: usize, answer: &'static [u8]) -> Self {
            Self { takes, answer, reader: None }
        }
    }

    impl AsyncRead for Hasty {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.takes > 0 {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Pin::new(&mut self.answer).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Hasty {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
            self.takes = self.takes.saturating_sub(1);
            if self.takes > 0 {
                return Poll::Ready(Ok(b.len().min(1000)));
            }
            self.reader.take().into_iter().for_each(Waker::wake);
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_fails_takes_no_answer_along() {
        let (mut wire, signs) = Wire::new(Hasty::new(1, b"answer"));
        for _ in 0..2 {
            let write = wire.write_all(b"x");
            assert!(tokio::time::timeout(Duration::from_secs(1), write).await.is_err());
        }
        assert!(signs.deaf() && !signs.heard());
        let mut answer = String::new();
        wire.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        assert!(wire.write_all(b"x").await.is_err(), "there is nothing to wait for any more");
        let (mut wire, switched) = Wire::new(Hasty::new(1, b"answer"));
        switched.tell();
        assert!(wire.write_all(b"x").await.is_err(), "in another protocol each side is told");
        assert!(signs.heard());
        signs.ask();
        assert!(!signs.heard());
    }

    #[tokio::test(start_paused = true)]
    async fn the_http_library_finds_the_answer_that_came_before_its_write_failed() {
        const ANSWER: &[u8] = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
        for (takes, answer, found) in
            [(1, ANSWER, Some(413)), (2, ANSWER, Some(413)), (2, &b""[..], None), (2, b"HTTP/1.1 413", None)]
        {
            let (wire, signs) = Wire::new(Hasty::new(takes, answer));
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(wire)).await.unwrap();
            let connection = tokio::spawn(connection);
            let (mut client, body) = Channel::<Bytes, io::Error>::new(4);
            client.send_data(Bytes::from(vec![b'x'; 1 << 16])).await.unwrap();
            let request = http::Request::post("/").body(body).unwrap();
            let response = tokio::time::timeout(Duration::from_secs(60), sender.send_request(request)).await;
            match (found, response.unwrap()) {
                (Some(status), Ok(response)) => {
                    assert_eq!(response.status(), status);
                    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no");
                }
                (None, Err(_)) => {}
                (_, other) => panic!("{takes} {answer:?}: {other:?}"),
            }
            assert!(signs.deaf());
            drop((client, sender));
            tokio::time::timeout(Duration::from_secs(60), connection).await.expect("nothing goes on").ok();
        }
    }
}
