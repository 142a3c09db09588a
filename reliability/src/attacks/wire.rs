//! As much of HTTP as attackers need, written by hand, because libraries are polite.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Asks once over a connection of its own; the status, or `None` if there was no answer in time.
pub async fn ask(to: SocketAddr, head: &str, body: &[u8], within: Duration) -> Option<u16> {
    status(&exchange(LOCAL, to, head, body, within).await?)
}

/// Where attacks come from.
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Connects from an address of this machine, with room for no more than a page.
pub async fn connect(from: IpAddr, to: SocketAddr, room: Option<u32>) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(room) = room {
        socket.set_recv_buffer_size(room)?;
    }
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await
}

/// As [`ask`], from an address; the head of the answer.
pub async fn exchange(
    from: IpAddr,
    to: SocketAddr,
    head: &str,
    body: &[u8],
    within: Duration,
) -> Option<Vec<u8>> {
    let answer = async {
        let mut stream = connect(from, to, None).await.ok()?;
        let request = format!("{head}\r\nHost: {to}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        // An answer may come before all was sent.
        let (mut reading, mut writing) = stream.split();
        let mut answer = Vec::new();
        let send = async {
            drop(writing.write_all(body).await);
            std::future::pending::<()>().await;
        };
        let receive = async {
            let mut piece = [0; 4096];
            while let Ok(length) = reading.read(&mut piece).await {
                answer.extend_from_slice(&piece[..length]);
                if length == 0 || answer.windows(4).any(|window| window == b"\r\n\r\n") {
                    break;
                }
            }
        };
        tokio::select! {
            () = send => {}
            () = receive => {}
        }
        Some(answer)
    };
    timeout(within, answer).await.ok().flatten()
}

/// The status in the first line of an answer.
pub fn status(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// A client of HTTP/2 with prior knowledge, without manners.
#[derive(Debug)]
pub struct Rude {
    /// The connection.
    pub stream: TcpStream,
    to: SocketAddr,
    next: u32,
}

impl Rude {
    /// Connects, and allows each stream as much as there can be.
    pub async fn connect(to: SocketAddr) -> std::io::Result<Self> {
        Self::allowing(to, i32::MAX.unsigned_abs()).await
    }

    /// Connects, and allows each stream so many bytes.
    pub async fn allowing(to: SocketAddr, window: u32) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        // SETTINGS_INITIAL_WINDOW_SIZE, then a window for the connection, then the acknowledgement of the
        // other's settings.
        let [a, b, c, d] = window.to_be_bytes();
        stream.write_all(&frame(4, 0, 0, &[0, 4, a, b, c, d])).await?;
        stream.write_all(&frame(8, 0, 0, &(1_u32 << 30).to_be_bytes())).await?;
        stream.write_all(&frame(4, 1, 0, &[])).await?;
        Ok(Self { stream, to, next: 1 })
    }

    /// Asks for a path; the stream's number. Does not wait for an answer.
    pub async fn get(&mut self, path: &str) -> std::io::Result<u32> {
        self.get_with(path, &[]).await
    }

    /// As [`Rude::get`], with more of a head as it is on the wire.
    pub async fn get_with(&mut self, path: &str, more: &[u8]) -> std::io::Result<u32> {
        let number = self.next;
        self.next += 2;
        let mut block = Vec::new();
        let authority = self.to.to_string();
        for (name, value) in
            [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", &authority)]
        {
            block.extend_from_slice(&field(name, value));
        }
        block.extend_from_slice(more);
        self.stream.write_all(&frame(1, 5, number, &block)).await?;
        Ok(number)
    }

    /// Whether a request is answered with 200.
    pub async fn is_served(&mut self, number: u32) -> bool {
        loop {
            let mut head = [0; 9];
            if self.stream.read_exact(&mut head).await.is_err() {
                return false;
            }
            let [a, b, c, kind, _, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            if self.stream.read_exact(&mut payload).await.is_err() {
                return false;
            }
            match (kind, u32::from_be_bytes(stream) == number) {
                // 200 is one byte, by a table that everybody has.
                (1, true) => return payload.first() == Some(&0x88),
                (3, true) | (7, _) => return false,
                _ => {}
            }
        }
    }

    /// Takes the request back.
    pub async fn reset(&mut self, number: u32) -> std::io::Result<()> {
        self.stream.write_all(&frame(3, 0, number, &8_u32.to_be_bytes())).await
    }
}

/// A field of a head: a literal without indexing, with a new name, neither compressed.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        field.push(u8::try_from(text.len()).unwrap_or(126));
        field.extend_from_slice(text.as_bytes());
    }
    field
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
