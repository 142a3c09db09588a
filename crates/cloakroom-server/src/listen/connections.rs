//! How many connections there may be: in all, and from one address.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::forwarded::TrustedProxies;

/// Counts connections. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    most_each: usize,
    trusted: TrustedProxies,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    each: HashMap<IpAddr, usize>,
}

/// There is no room for another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// In all.
    All,
    /// From this address.
    Address,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "as many connections as limits.connections allows",
            Self::Address => "as many connections from one address as limits.connections_per_address allows",
        })
    }
}

impl Connections {
    /// At most so many in all, and so many from each address that is not a trusted proxy: through a proxy come many clients.
    pub(crate) fn new(most: usize, most_each: usize, trusted: TrustedProxies) -> Self {
        Self(Arc::new(Shared { most, most_each, trusted, counts: Mutex::default() }))
    }

    /// Counts a connection until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// [`Full`] if there are enough already; then it is not counted.
    pub(crate) fn admit(&self, peer: IpAddr) -> Result<Admitted, Full> {
        let place = (!self.0.trusted.contains(peer)).then(|| place(peer));
        let mut counts = self.counts();
        if counts.all >= self.0.most {
            return Err(Full::All);
        }
        if let Some(place) = place {
            let here = counts.each.entry(place).or_default();
            // At least one is allowed, so no entry stays that nobody takes out.
            if *here >= self.0.most_each {
                return Err(Full::Address);
            }
            *here += 1;
        }
        counts.all += 1;
        Ok(Admitted { connections: self.clone(), place })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Numbers are whole at any moment.
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection that is counted.
#[derive(Debug)]
#[must_use = "the connection counts for as long as this is held"]
pub(crate) struct Admitted {
    connections: Connections,
    place: Option<IpAddr>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.connections.counts();
        counts.all = counts.all.saturating_sub(1);
        let Some(place) = self.place else { return };
        if let Some(here) = counts.each.get_mut(&place) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                counts.each.remove(&place);
            }
        }
    }
}

impl Admitted {
    /// Lets it count for as long as a stream is there, whatever is spoken on it.
    pub(crate) fn hold<S>(self, stream: S) -> Held<S> {
        Held { stream, written: Arc::default(), _admitted: self }
    }
}

/// How writing to a client is getting on.
#[derive(Debug, Default)]
pub(crate) struct Written {
    bytes: AtomicU64,
    waits: AtomicBool,
}

impl Written {
    /// Bytes that the system has taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether there are more, for which it has no room until the client reads.
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.waits.store(written.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(bytes)) = written {
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        written
    }
}

/// A stream that counts as a connection.
#[derive(Debug)]
pub(crate) struct Held<S> {
    stream: S,
    written: Arc<Written>,
    _admitted: Admitted,
}

impl<S> Held<S> {
    /// How writing to it is getting on.
    pub(crate) fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, from);
        self.written.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, from);
        self.written.note(written)
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

/// What counts as one address: of IPv6, the /64 that one subscriber has whole.
fn place(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_bounded_in_all_and_from_one_address_but_not_from_a_trusted_proxy() {
        let trusted = TrustedProxies::parse(["10.0.0.1"]).unwrap();
        let connections = Connections::new(6, 2, trusted);
        let one = connections.admit(peer("192.0.2.1")).unwrap();
        let mapped = connections.admit(peer("::ffff:192.0.2.1")).unwrap();
        assert_eq!(connections.admit(peer("192.0.2.1")).unwrap_err(), Full::Address);
        let net = [connections.admit(peer("2001:db8::1")), connections.admit(peer("2001:db8::2"))];
        assert_eq!(connections.admit(peer("2001:db8::3:0:0:1")).unwrap_err(), Full::Address, "one /64");
        drop(net);
        let proxied: Vec<_> = (0..4).map(|_| connections.admit(peer("10.0.0.1")).unwrap()).collect();
        assert_eq!(connections.admit(peer("10.0.0.1")).unwrap_err(), Full::All);
        assert_eq!(connections.admit(peer("192.0.2.9")).unwrap_err(), Full::All);
        drop(one);
        let again = connections.admit(peer("192.0.2.1")).unwrap();
        drop((mapped, again, proxied));
        let counts = connections.counts();
        assert_eq!((counts.all, counts.each.len()), (0, 0), "nothing is remembered of those that are gone");
    }
}
