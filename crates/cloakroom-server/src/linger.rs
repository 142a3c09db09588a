//! A close that lets the answer arrive.
//!
//! Closing a TCP connection while its peer still sends makes the system answer with a reset, and the reset throws away
//! what the peer had not read yet: the answer that says why. So after the last byte of an answer to a request whose body
//! may still be on its way, only the sending half is closed, and what comes is read and thrown away until the peer is
//! done, within bounds (RFC 9112 section 9.6).

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The most bytes that are read only to be thrown away.
pub(crate) const MOST_BYTES: usize = 64 << 20;
/// How long that may take in all.
pub(crate) const MOST_TIME: Duration = Duration::from_secs(30);
/// How long the peer may send nothing meanwhile.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);

/// A connection that closes like this, if `sends` says that its peer may still be sending.
pub(crate) struct Lingering<S> {
    inner: S,
    sends: Arc<AtomicBool>,
    closing: Closing,
}

enum Closing {
    No,
    /// The sending half is closed.
    Reading {
        left: usize,
        until: Instant,
        timer: Pin<Box<Sleep>>,
    },
    Done,
}

impl<S> Lingering<S> {
    pub(crate) fn new(inner: S, sends: Arc<AtomicBool>) -> Self {
        Self { inner, sends, closing: Closing::No }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.closing {
                Closing::No => {
                    ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
                    if !this.sends.load(Ordering::Relaxed) {
                        this.closing = Closing::Done;
                        continue;
                    }
                    let now = Instant::now();
                    let timer = Box::pin(tokio::time::sleep_until(now + SILENCE));
                    this.closing = Closing::Reading { left: MOST_BYTES, until: now + MOST_TIME, timer };
                }
                Closing::Reading { left, until, timer } => {
                    let mut waste = [0; 4096];
                    let mut waste = ReadBuf::new(&mut waste);
                    match Pin::new(&mut this.inner).poll_read(cx, &mut waste) {
                        Poll::Ready(Ok(())) if !waste.filled().is_empty() => {
                            *left = left.saturating_sub(waste.filled().len());
                            let silent = Instant::now() + SILENCE;
                            timer.as_mut().reset(silent.min(*until));
                            if *left == 0 || Instant::now() >= *until {
                                this.closing = Closing::Done;
                            }
                        }
                        // The peer is done, or gone.
                        Poll::Ready(_) => this.closing = Closing::Done,
                        Poll::Pending => {
                            ready!(timer.as_mut().poll(cx));
                            this.closing = Closing::Done;
                        }
                    }
                }
                Closing::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    fn pair(sends: bool) -> (DuplexStream, Lingering<DuplexStream>) {
        let (client, server) = tokio::io::duplex(1024);
        (client, Lingering::new(server, Arc::new(AtomicBool::new(sends))))
    }

    #[tokio::test(start_paused = true)]
    async fn who_still_sends_is_read_to_the_end_and_finds_the_answer() {
        let (mut client, mut server) = pair(true);
        let closing = tokio::spawn(async move {
            server.write_all(b"answer").await.unwrap();
            server.shutdown().await.unwrap();
        });
        for _ in 0..100 {
            client.write_all(&[7; 4096]).await.unwrap();
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        drop(client);
        closing.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_falls_silent_or_never_ends_is_let_go() {
        let (nothing, seldom, often) = (MOST_TIME * 2, SILENCE * 2, SILENCE - Duration::from_secs(1));
        for (first, pause, borne) in [
            (nothing, nothing, SILENCE),
            (Duration::ZERO, seldom, SILENCE),
            (Duration::ZERO, often, MOST_TIME),
        ] {
            let (mut client, mut server) = pair(true);
            let sending = tokio::spawn(async move {
                tokio::time::sleep(first).await;
                while client.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
            });
            let begun = Instant::now();
            server.shutdown().await.unwrap();
            assert_eq!(begun.elapsed().as_secs(), borne.as_secs(), "{first:?} {pause:?}");
            drop(server);
            sending.await.unwrap();
        }
        let (mut client, mut server) = pair(true);
        let sending = tokio::spawn(async move {
            let mut sent = 0_usize;
            while client.write_all(&[0; 65536]).await.is_ok() {
                sent += 65536;
            }
            sent
        });
        server.shutdown().await.unwrap();
        drop(server);
        assert!(sending.await.unwrap() <= MOST_BYTES + (1 << 20));
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_nothing_is_not_waited_for() {
        let (_client, mut server) = pair(false);
        let before = Instant::now();
        server.shutdown().await.unwrap();
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
