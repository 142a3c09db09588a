//! Bounds on how much clients can have going on at once: per connection and address first, then in all.
//!
//! A request whose client has gone goes on (what the application answers is obeyed), so a client that asks and leaves could
//! have any number of requests under way. It has the bound of its connection and its address, and nobody else pays for it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloakroom::EventKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many at once.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Bounds {
    /// Requests of one connection; more of them wait, as long as their client does.
    pub connection_requests: usize,
    /// Requests of one address, from the session's look-up until the client has taken the response.
    pub address_requests: usize,
    /// Requests in all, counted as those of one address.
    pub all_requests: usize,
    /// Requests at the application in all, from its being asked to the end of its response.
    pub requests: usize,
    /// WebSockets and event streams of one address.
    pub address_streams: usize,
    /// WebSockets and event streams in all.
    pub streams: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connection_requests: 100,
            address_requests: 256,
            all_requests: 4096,
            requests: 1024,
            address_streams: 512,
            streams: 4096,
        }
    }
}

/// A bound by address. An IPv6 client has a /64, so that is what counts.
#[derive(Clone, Debug)]
pub(crate) struct PerAddress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    /// Of each address that has any.
    counts: Mutex<HashMap<IpAddr, usize>>,
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // A panic elsewhere leaves numbers as they were.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PerAddress {
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Shared { most, counts: Mutex::default() }))
    }

    /// One more of an address, unless it has as many as it may.
    pub(crate) fn enter(&self, client: IpAddr) -> Option<Place> {
        let client = network(client);
        let mut counts = self.0.counts();
        let count = counts.entry(client).or_default();
        if *count >= self.0.most {
            if *count == 0 {
                counts.remove(&client);
            }
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Place { of: Arc::clone(&self.0), client })
    }
}

fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(client) => client.into(),
        IpAddr::V6(client) => Ipv6Addr::from(u128::from(client) >> 64 << 64).into(),
    }
}

/// One of those that count, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<Shared>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.of.counts();
        if let Some(count) = counts.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

/// A bound on all together.
#[derive(Clone, Debug)]
pub(crate) struct InAll(Arc<Semaphore>);

impl InAll {
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }

    /// One more, unless there are as many as there may be.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }

    /// One more, as soon as there may be.
    pub(crate) async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

/// The place of a WebSocket or event stream, for as long as it is held.
#[derive(Debug)]
pub struct StreamPlace {
    _address: Place,
    _all: OwnedSemaphorePermit,
}

/// The bound on WebSockets and event streams.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    address: PerAddress,
    all: InAll,
}

/// There are as many as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Of this client's address.
    Address,
    /// In all.
    All,
}

impl Streams {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self { address: PerAddress::new(bounds.address_streams), all: InAll::new(bounds.streams) }
    }

    pub(crate) fn enter(&self, client: IpAddr) -> Result<StreamPlace, Full> {
        let address = self.address.enter(client).ok_or(Full::Address)?;
        let all = self.all.enter().ok_or(Full::All)?;
        Ok(StreamPlace { _address: address, _all: all })
    }
}

impl Full {
    /// For the log.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::Address => "as many of this address are under way as may be",
            Self::All => "as many are under way in all as may be",
        }
    }

    pub(crate) fn event(self) -> EventKind {
        match self {
            Self::Address => EventKind::TooManyRequests,
            Self::All => EventKind::Overloaded,
        }
    }
}

/// That a response goes on for as long as its reader stays, and counts among those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IsStream;

/// That somebody sees to it already that a response's client is fast enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IsRelayed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_bound_and_gets_back_what_it_leaves() {
        let bound = PerAddress::new(2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::ffff:0:0:2", "2001:db8:0:1::1"),
        ] {
            let first = bound.enter(ip(one)).unwrap();
            let _second = bound.enter(ip(same)).unwrap();
            assert!(bound.enter(ip(one)).is_none() && bound.enter(ip(same)).is_none(), "{one}");
            let _other = bound.enter(ip(other)).unwrap();
            drop(first);
            let _third = bound.enter(ip(one)).unwrap();
            assert!(bound.enter(ip(one)).is_none(), "{one}");
        }
        assert!(bound.0.counts().is_empty(), "nothing is kept of who has nothing");
        let none = PerAddress::new(0);
        assert!(none.enter(ip("192.0.2.1")).is_none() && none.0.counts().is_empty());
    }

    #[tokio::test]
    async fn what_counts_in_all_is_refused_or_waits() {
        let bound = InAll::new(1);
        let first = bound.enter().unwrap();
        assert!(bound.enter().is_none());
        let (second, ()) = tokio::join!(bound.wait(), async { drop(first) });
        assert!(second.is_some() && bound.enter().is_none());
    }
}
