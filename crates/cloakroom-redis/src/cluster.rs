//! Which node of a cluster has which slot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{ErrorKind, RedisError, Value};

use crate::error::{Failure, Refusal};
use crate::layout::slot_of_tag;
use crate::node::Node;
use crate::settings::Settings;
use crate::url::parse_host;

const SLOTS: usize = 16384;
/// As many as 14 bits can tell apart.
const TAGS: u16 = 1 << 14;
/// How long one node may take to say who has what, before another is asked.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Cluster {
    settings: Arc<Settings>,
    map: Mutex<Map>,
    /// Which of the nodes is asked first, so that a broken one does not hold up every refresh.
    turn: AtomicUsize,
    refreshing: tokio::sync::Mutex<()>,
}

struct Map {
    nodes: BTreeMap<(String, u16), Arc<Node>>,
    owners: Vec<Option<Arc<Node>>>,
    /// Counts the refreshes, so that those who fail together ask once.
    age: u64,
}

impl Cluster {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let map = Map { nodes: BTreeMap::new(), owners: vec![None; SLOTS], age: 0 };
        Self {
            settings,
            map: Mutex::new(map),
            turn: AtomicUsize::new(0),
            refreshing: tokio::sync::Mutex::new(()),
        }
    }

    fn known(&self, slot: u16) -> Option<Arc<Node>> {
        self.lock().owners.get(usize::from(slot)).cloned().flatten()
    }

    /// The primary that has a slot, as far as is known.
    pub(crate) async fn owner(&self, slot: u16) -> Result<Arc<Node>, Failure> {
        if let Some(node) = self.known(slot) {
            return Ok(node);
        }
        self.refresh(self.age()).await?;
        self.known(slot).ok_or_else(|| {
            let error = RedisError::from((ErrorKind::ClusterConnectionNotFound, "no node has this slot"));
            Failure::Refused(Refusal::Passing, error)
        })
    }

    /// All primaries, each with a tag whose keys it has.
    pub(crate) async fn primaries(&self) -> Result<Vec<(Arc<Node>, u16)>, Failure> {
        self.refresh(self.age()).await?;
        let map = self.lock();
        let mut primaries: BTreeMap<&str, (Arc<Node>, u16)> = BTreeMap::new();
        for tag in 0..TAGS {
            if let Some(Some(node)) = map.owners.get(usize::from(slot_of_tag(tag))) {
                primaries.entry(node.name()).or_insert_with(|| (Arc::clone(node), tag));
            }
        }
        Ok(primaries.into_values().collect())
    }

    /// Any node: each call begins with another one.
    pub(crate) fn any(&self) -> Result<Vec<Arc<Node>>, Failure> {
        let mut nodes: Vec<_> = self.lock().nodes.values().cloned().collect();
        for (host, port) in &self.settings.hosts {
            if !nodes.iter().any(|node| node.name() == name(host, *port)) {
                nodes.push(self.node(host, *port)?);
            }
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % nodes.len().max(1);
        nodes.rotate_left(first);
        Ok(nodes)
    }

    /// The node at an address that another one named.
    pub(crate) fn at(&self, address: &str, asked: &Node) -> Result<Arc<Node>, Failure> {
        // Without a host it is the one that was asked.
        let named = match address.strip_prefix(':') {
            Some(port) => {
                parse_host(asked.name()).zip(port.parse().ok()).map(|((host, _), port)| (host, port))
            }
            // A version 6 address comes without brackets.
            None => {
                address.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)))
            }
        };
        match named {
            Some((host, port)) => self.node(&host, port),
            None => Err(not_sent("a node named another one by an address that cannot be read")),
        }
    }

    /// Notes that a slot is elsewhere.
    pub(crate) fn moved(&self, slot: u16, to: Arc<Node>) {
        if let Some(owner) = self.lock().owners.get_mut(usize::from(slot)) {
            *owner = Some(to);
        }
    }

    /// Lets go of what is known of a slot: the next operation on it asks. Its node gets a new connection.
    pub(crate) fn forget_owner(&self, slot: u16) {
        let owner = self.lock().owners.get_mut(usize::from(slot)).and_then(Option::take);
        if let Some(owner) = owner {
            owner.forget();
        }
    }

    pub(crate) fn age(&self) -> u64 {
        self.lock().age
    }

    /// Asks who has what, unless that was done after the map had this age.
    pub(crate) async fn refresh(&self, age: u64) -> Result<(), Failure> {
        let _turn = self.refreshing.lock().await;
        if self.age() != age {
            return Ok(());
        }
        let mut last = no_node();
        for node in self.any()? {
            let command = redis::cmd("CLUSTER").arg("SLOTS").to_owned();
            match tokio::time::timeout(ASK_TIMEOUT, node.send(&command)).await {
                Ok(Ok(answer)) => return self.take(answer, &node),
                Ok(Err(failure)) => last = failure,
                Err(_) => node.forget(),
            }
        }
        Err(last)
    }

    fn take(&self, answer: Value, asked: &Node) -> Result<(), Failure> {
        let ranges = read_slots(answer, asked)
            .ok_or_else(|| not_sent("the answer to CLUSTER SLOTS cannot be read"))?;
        let mut owners = vec![None; SLOTS];
        let mut nodes = BTreeMap::new();
        for (first, last, host, port) in ranges {
            let node = self.node(&host, port)?;
            if let Some(range) = owners.get_mut(usize::from(first)..=usize::from(last)) {
                range.fill(Some(Arc::clone(&node)));
            }
            nodes.insert((host, port), node);
        }
        let mut map = self.lock();
        *map = Map { nodes, owners, age: map.age.wrapping_add(1) };
        Ok(())
    }

    fn node(&self, host: &str, port: u16) -> Result<Arc<Node>, Failure> {
        let mut map = self.lock();
        let key = (host.to_owned(), port);
        if let Some(node) = map.nodes.get(&key) {
            return Ok(Arc::clone(node));
        }
        let node = Arc::new(self.settings.node(host, port).map_err(Failure::NotSent)?);
        map.nodes.insert(key, Arc::clone(&node));
        Ok(node)
    }

    // Nothing in here can be left half-done by a panic.
    fn lock(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn no_node() -> Failure {
    not_sent("there is no node to ask")
}

fn not_sent(text: &'static str) -> Failure {
    Failure::NotSent(RedisError::from((ErrorKind::ClusterConnectionNotFound, text)))
}

/// `host:port`, in brackets where the host has colons itself.
pub(crate) fn name(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The first and last slot of each range, and its primary. `None` if the answer is not what it should be.
fn read_slots(answer: Value, asked: &Node) -> Option<Vec<(u16, u16, String, u16)>> {
    let Value::Array(ranges) = answer else { return None };
    let range = |range| {
        let Value::Array(range) = range else { return None };
        // The primary comes first; the replicas follow, and are never asked.
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = range.as_slice() else {
            return None;
        };
        let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() && host != b"?" => {
                String::from_utf8(host.clone()).ok()?
            }
            Value::SimpleString(host) => host.clone(),
            _ => parse_host(asked.name())?.0,
        };
        Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, host, u16::try_from(*port).ok()?))
    };
    ranges.into_iter().map(range).collect()
}
