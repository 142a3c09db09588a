//! WebSockets: once the application has switched protocols, bytes go both ways untouched, for as long as the session lives
//! that the handshake was made with.

use std::future::{Future, pending};
use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use cloakroom::{Ended, SessionLayer};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::bound::StreamPlace;
use crate::frames::{Close, Frames};

/// How long a tunnel may take to say that it closes, all in all.
pub const LEAVE: Duration = Duration::from_secs(3);
/// How long the application has to finish the frame that it is in.
const FRAME_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes read from the application at once.
const READ: usize = 8 * 1024;

/// Asks the application for a WebSocket, as the client asked the gateway: the two hop-by-hop fields are ours.
pub fn ask(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Whether a response switches to the WebSocket protocol and to no other.
pub fn switches<B>(response: &Response<B>) -> bool {
    let upgrade = response.headers().get(header::UPGRADE).map(HeaderValue::as_bytes);
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        && upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case(b"websocket"))
}

/// What a tunnel depends on.
#[derive(Debug)]
pub struct Life {
    /// The end of the session that the handshake was made with; `None` on a route without sessions.
    pub ended: Option<Ended>,
    /// Who tells of that end: a tunnel can outlive the server that it came through, while that shuts down.
    pub sessions: SessionLayer,
    /// Open for as long as somebody waits for the tunnel.
    pub flight: mpsc::Sender<()>,
    /// Its place among the streams.
    pub place: StreamPlace,
}

/// Connects the two ends until one of them closes, the session ends, or the gateway has waited long enough.
pub fn connect(client: OnUpgrade, upstream: OnUpgrade, life: Life) {
    tokio::spawn(async move {
        let Life { ended, sessions: _sessions, flight, place: _place } = life;
        let (Ok(client), Ok(upstream)) = (client.await, upstream.await) else { return };
        let session = async {
            match ended {
                Some(ended) => ended.await,
                None => pending().await,
            }
        };
        let over = async {
            tokio::select! {
                end = session => {
                    tracing::info!(target: "cloakroom::gateway", %end, "a WebSocket is closed with its session");
                    Close::SESSION_ENDED
                }
                () = flight.closed() => Close::GOING_AWAY,
            }
        };
        run(TokioIo::new(client), TokioIo::new(upstream), over).await;
    });
}

/// Passes bytes on until one end closes, or there is a reason to close.
async fn run(
    client: impl AsyncRead + AsyncWrite,
    upstream: impl AsyncRead + AsyncWrite,
    over: impl Future<Output = Close>,
) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let mut down = Down::default();
    let close = {
        let up = async {
            tokio::io::copy(&mut from_client, &mut to_upstream).await?;
            to_upstream.shutdown().await
        };
        let both = async { tokio::try_join!(up, down.pass(&mut from_upstream, &mut to_client)) };
        tokio::select! {
            biased;
            close = over => close,
            // However it ends, both sides are closed then.
            _ = both => return,
        }
    };
    // Nothing of the client reaches the application from here on.
    let leave = async {
        let rest = down.finish_frame(&mut from_upstream, &mut to_client);
        let whole = tokio::time::timeout(FRAME_PATIENCE, rest).await.is_ok_and(|rest| rest.is_ok());
        // Both halves: the application sees its end closed.
        drop((from_upstream, to_upstream));
        // Within a frame, or after one that closes, no other can be sent: the connection just closes.
        if whole && !down.frames.is_closed() {
            to_client.write_all(&close.bytes()).await?;
        }
        to_client.shutdown().await?;
        // A connection that is closed with bytes unread is reset, and the client may then not see why.
        tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await
    };
    // Whatever has failed or is not done by now is cut off.
    drop(tokio::time::timeout(LEAVE, leave).await);
}

/// The direction from the application to the client.
#[derive(Default)]
struct Down {
    frames: Frames,
    /// Read, and not yet passed on.
    buffer: BytesMut,
}

impl Down {
    /// Passes everything on. Dropped at any moment, it has noted what it has passed on.
    async fn pass(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        loop {
            while self.buffer.has_remaining() {
                let passed = to.write(&self.buffer).await?;
                if passed == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.frames.pass(self.buffer.get(..passed).unwrap_or_default());
                self.buffer.advance(passed.min(self.buffer.len()));
            }
            to.flush().await?;
            if self.read(from).await? == 0 {
                return to.shutdown().await;
            }
        }
    }

    /// Passes on what is left of the frame that has begun.
    async fn finish_frame(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        while !self.frames.at_boundary() {
            if self.frames.is_lost() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.buffer.is_empty() && self.read(from).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let rest = self.frames.to_boundary(&self.buffer);
            let rest = self.buffer.split_to(rest.min(self.buffer.len()));
            to.write_all(&rest).await?;
        }
        Ok(())
    }

    async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.buffer.reserve(READ);
        from.read_buf(&mut self.buffer).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    const CLOSE: &[u8] = b"\x88\x0f\x03\xf0session ended";
    const MOMENT: Duration = Duration::from_millis(1);

    /// A tunnel, and who is at its ends.
    struct Ends {
        client: DuplexStream,
        application: DuplexStream,
        end: oneshot::Sender<Close>,
        tunnel: JoinHandle<()>,
    }

    fn tunnel(buffer: usize) -> Ends {
        let (client, near) = tokio::io::duplex(buffer);
        let (application, far) = tokio::io::duplex(1 << 16);
        let (end, over) = oneshot::channel();
        let over = async {
            match over.await {
                Ok(close) => close,
                Err(_) => pending().await,
            }
        };
        let tunnel = tokio::spawn(run(near, far, over));
        Ends { client, application, end, tunnel }
    }

    async fn rest(stream: &mut DuplexStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn r062_between_two_frames_the_end_is_a_close_and_both_sides_are_closed() {
        let Ends { mut client, mut application, end, tunnel } = tunnel(1 << 16);
        application.write_all(b"\x81\x02hi\x82\x00").await.unwrap();
        client.write_all(b"before").await.unwrap();
        tokio::time::sleep(MOMENT).await;
        end.send(Close::SESSION_ENDED).unwrap();
        let begun = Instant::now();
        assert_eq!(rest(&mut client).await, [b"\x81\x02hi\x82\x00", CLOSE].concat());
        assert_eq!(rest(&mut application).await, b"before");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        drop(client);
        tunnel.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waits for a client that has closed");
    }

    #[tokio::test(start_paused = true)]
    async fn r062_within_a_frame_its_rest_is_passed_on_first_and_nothing_after_it() {
        for (rest_of_frame, next) in [(&b"llo"[..], &b""[..]), (b"llo", b"\x81\x01x"), (b"llo", b"\x81")] {
            let Ends { mut client, mut application, end, .. } = tunnel(1 << 16);
            application.write_all(b"\x81\x05he").await.unwrap();
            tokio::time::sleep(MOMENT).await;
            end.send(Close::SESSION_ENDED).unwrap();
            tokio::time::sleep(MOMENT).await;
            application.write_all(&[rest_of_frame, next].concat()).await.unwrap();
            assert_eq!(rest(&mut client).await, [b"\x81\x05hello", CLOSE].concat(), "{next:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r062_where_no_close_can_be_sent_the_connection_just_closes() {
        let own = Close::GOING_AWAY.bytes();
        for (what, sent, took) in [
            ("a frame that is never finished", &b"\x81\x05he"[..], FRAME_PATIENCE),
            ("a header that is never finished", b"\x81", FRAME_PATIENCE),
            ("no WebSocket at all", b"\x81\xff????", Duration::ZERO),
            ("a close of the application's own", &own, Duration::ZERO),
        ] {
            let Ends { mut client, mut application, end, .. } = tunnel(1 << 16);
            application.write_all(sent).await.unwrap();
            tokio::time::sleep(MOMENT).await;
            end.send(Close::SESSION_ENDED).unwrap();
            let begun = Instant::now();
            assert_eq!(rest(&mut client).await, sent, "{what}");
            assert_eq!(rest(&mut application).await, b"", "{what}");
            assert_eq!(begun.elapsed(), took, "{what}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r062_nothing_of_the_client_passes_after_the_end_and_a_silent_one_is_not_waited_for() {
        let Ends { mut client, mut application, end, tunnel } = tunnel(1 << 16);
        end.send(Close::SESSION_ENDED).unwrap();
        let begun = Instant::now();
        tokio::time::sleep(MOMENT).await;
        client.write_all(b"late").await.unwrap();
        assert_eq!(rest(&mut application).await, b"");
        assert_eq!(rest(&mut client).await, CLOSE);
        tunnel.await.unwrap();
        assert_eq!(begun.elapsed(), LEAVE);
    }

    #[tokio::test(start_paused = true)]
    async fn r062_a_client_that_does_not_read_is_cut_off() {
        let Ends { client, mut application, end, tunnel } = tunnel(16);
        application.write_all(&[&[0x81, 100][..], &[b'x'; 100]].concat()).await.unwrap();
        tokio::time::sleep(MOMENT).await;
        end.send(Close::SESSION_ENDED).unwrap();
        let begun = Instant::now();
        tunnel.await.unwrap();
        assert!(begun.elapsed() <= LEAVE, "{:?}", begun.elapsed());
        assert_eq!(rest(&mut application).await, b"");
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_end_everything_passes_and_each_side_may_finish_by_itself() {
        let Ends { mut client, mut application, end: _end, tunnel } = tunnel(64);
        let bytes = (0..100_000_u32).map(|n| n as u8).collect::<Vec<_>>();
        let (down, up) = (bytes.clone(), bytes.clone());
        let application = tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(&mut application);
            let mut read = Vec::new();
            let (wrote, _) = tokio::join!(
                async {
                    to.write_all(&down).await?;
                    to.shutdown().await
                },
                from.read_to_end(&mut read),
            );
            wrote.map(|()| read)
        });
        let (mut from, mut to) = tokio::io::split(&mut client);
        let mut read = Vec::new();
        let (wrote, _) = tokio::join!(
            async {
                to.write_all(&up).await?;
                to.shutdown().await
            },
            from.read_to_end(&mut read),
        );
        wrote.unwrap();
        assert_eq!(read, bytes);
        assert_eq!(application.await.unwrap().unwrap(), bytes);
        tunnel.await.unwrap();
    }
}
