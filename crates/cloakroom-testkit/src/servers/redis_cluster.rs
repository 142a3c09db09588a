//! A cluster of Redis servers: three primaries, each with a replica.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports by panicking"
)]

use std::sync::OnceLock;

use super::redis::{Redis, folder, wait};
use super::{Reply, free_port};

const SLOTS: u32 = 16384;
const PRIMARIES: usize = 3;

/// Six servers that are one cluster. A replica takes over some two seconds after its primary falls silent.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// The one cluster that all tests of a program share, started by the first of them. Keep to key names of your own.
    ///
    /// # Panics
    ///
    /// If Redis is not installed, with the command that does it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisCluster> = OnceLock::new();
        SHARED.get_or_init(Self::fleeting)
    }

    /// Starts a cluster of one's own that keeps everything in memory, and in which nobody takes over: on a busy machine a node may
    /// be silent for a while.
    ///
    /// # Panics
    ///
    /// If Redis is not installed, with the command that does it, or the cluster does not come together.
    pub fn fleeting() -> Self {
        Self::start(&["cluster-node-timeout 60000"])
    }

    /// Starts a cluster of one's own. Each setting is a line of every server's `redis.conf`.
    ///
    /// # Panics
    ///
    /// If Redis is not installed, with the command that does it, or the cluster does not come together.
    pub fn start(settings: &[&str]) -> Self {
        let nodes: Vec<_> = (0..2 * PRIMARIES).map(|_| node(settings)).collect();
        let cluster = Self { nodes };
        let share = SLOTS.div_ceil(3);
        for (primary, first) in cluster.nodes[..PRIMARIES].iter().zip((0..SLOTS).step_by(share as usize)) {
            let last = (first + share).min(SLOTS) - 1;
            primary.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        // Different epochs to begin with spare the nodes from finding them out.
        for (node, epoch) in cluster.nodes.iter().zip(1..) {
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]);
        }
        for node in &cluster.nodes[1..] {
            let bus = config(node, "cluster-port");
            cluster.nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), &bus]);
        }
        wait(
            || cluster.nodes.iter().all(|node| lines(node).len() == cluster.nodes.len()),
            || cluster.state(),
        );
        for (replica, primary) in cluster.nodes[PRIMARIES..].iter().zip(&cluster.nodes) {
            let id = primary.ask(&["CLUSTER", "MYID"]);
            replica.ask(&["CLUSTER", "REPLICATE", id.text()]);
        }
        cluster.wait_until_whole();
        cluster
    }

    /// The address of the cluster, with all of its nodes, for their default user.
    pub fn url(&self) -> String {
        self.url_of("", "")
    }

    /// The address of the cluster, with all of its nodes, for a user with a password.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let credentials = if password.is_empty() { String::new() } else { format!("{user}:{password}@") };
        format!("redis-cluster://{credentials}{}", hosts.join(","))
    }

    /// All nodes: first those that were primaries at the start.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The slot of a key.
    ///
    /// # Panics
    ///
    /// If no node answers.
    pub fn slot(&self, key: &[u8]) -> u16 {
        let node = self.running().next().expect("a node runs");
        let slot = node.try_ask(&[b"CLUSTER", b"KEYSLOT", key]).expect("a node answers");
        u16::try_from(slot.number()).expect("a slot is below 16384")
    }

    /// The primary that has a slot, as the running nodes see it.
    ///
    /// # Panics
    ///
    /// If nobody has it.
    pub fn primary_of(&self, slot: u16) -> &Redis {
        let range = |reply: &Reply| {
            let range = reply.list();
            (range[0].number()..=range[1].number())
                .contains(&slot.into())
                .then(|| range[2].list()[1].number())
        };
        let ports = |node: &Redis| {
            let answer = node.try_ask(&[b"CLUSTER", b"SLOTS"]).ok()?;
            answer.list().iter().find_map(range)
        };
        let port = self.running().find_map(ports).expect("the slot has a primary");
        self.at(port)
    }

    /// The replica of the primary that has a slot.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn replica_of(&self, slot: u16) -> &Redis {
        let primary = self.primary_of(slot);
        let id = primary.ask(&["CLUSTER", "MYID"]);
        let replicas = primary.ask(&["CLUSTER", "REPLICAS", id.text()]);
        let line = replicas.list().first().expect("the primary has a replica").text();
        let address = line.split(' ').nth(1).expect("a line has an address");
        let port = address.split(['@', ':']).nth(1).expect("an address has a port");
        self.at(port.parse().expect("a port is a number"))
    }

    /// Kills the primary that has a slot, and returns it.
    ///
    /// # Panics
    ///
    /// If nobody has it.
    pub fn kill_primary_of(&self, slot: u16) -> &Redis {
        let primary = self.primary_of(slot);
        primary.kill();
        primary
    }

    /// Waits until another node than this one has the slot, and the running nodes agree that the cluster is whole.
    ///
    /// # Panics
    ///
    /// If that never happens.
    pub fn wait_until_taken_over(&self, slot: u16, from: &Redis) {
        let taken = |node: &Redis| {
            let answer = node.try_ask(&[b"CLUSTER", b"SLOTS"]);
            answer.is_ok_and(|answer| {
                answer.list().iter().any(|range| {
                    let range = range.list();
                    (range[0].number()..=range[1].number()).contains(&slot.into())
                        && range[2].list()[1].number() != i64::from(from.port())
                })
            }) && is_ok(node)
        };
        let others = || self.running().filter(|node| node.port() != from.port());
        wait(|| others().all(taken), || self.state());
    }

    /// Waits until all nodes that run agree that the cluster is whole and who is a replica, and all replicas are linked to their primaries.
    ///
    /// # Panics
    ///
    /// If that never happens.
    pub fn wait_until_whole(&self) {
        let replicas = || self.running().filter(|node| is_replica(node)).count();
        let agreed = || {
            let replicas = replicas();
            self.running().all(|node| is_ok(node) && is_linked(node) && known_replicas(node) == replicas)
        };
        wait(agreed, || self.state());
    }

    /// Waits until the replica of the primary that has a slot has all that the primary has.
    ///
    /// # Panics
    ///
    /// If that never happens.
    pub fn wait_until_in_step(&self, slot: u16) {
        let (primary, replica) = (self.primary_of(slot), self.replica_of(slot));
        let offset = |node: &Redis, name: &str| {
            let info = node.try_ask(&[b"INFO", b"replication"]).ok()?;
            info.text().lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        wait(
            || {
                let written = offset(primary, "master_repl_offset:");
                written.is_some() && offset(replica, "slave_repl_offset:") >= written
            },
            || self.state(),
        );
    }

    fn running(&self) -> impl Iterator<Item = &Redis> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    fn at(&self, port: i64) -> &Redis {
        self.nodes.iter().find(|node| i64::from(node.port()) == port).expect("the port of a node")
    }

    fn state(&self) -> String {
        let states = self.running().map(|node| lines(node).join("\n"));
        format!(
            "the cluster does not become what was waited for:\n{}",
            states.collect::<Vec<_>>().join("\n\n")
        )
    }
}

fn node(settings: &[&str]) -> Redis {
    // The port of the cluster's own talk is another one; the usual distance of 10000 may not fit.
    let bus = format!("cluster-port {}", free_port());
    let mut lines = vec![
        "cluster-enabled yes",
        "cluster-node-timeout 1000",
        "cluster-replica-validity-factor 0",
        "repl-diskless-sync-delay 0",
        "repl-ping-replica-period 1",
        &bus,
    ];
    lines.extend(settings);
    Redis::start_on(folder(), free_port(), &lines, None)
}

fn config(node: &Redis, name: &str) -> String {
    node.ask(&["CONFIG", "GET", name]).list()[1].text().to_owned()
}

fn lines(node: &Redis) -> Vec<String> {
    let nodes = node.try_ask(&[b"CLUSTER", b"NODES"]);
    nodes.map(|reply| reply.text().lines().map(str::to_owned).collect()).unwrap_or_default()
}

fn is_ok(node: &Redis) -> bool {
    let info = node.try_ask(&[b"CLUSTER", b"INFO"]);
    info.is_ok_and(|info| info.text().contains("cluster_state:ok"))
}

fn is_replica(node: &Redis) -> bool {
    node.try_ask(&[b"INFO", b"replication"]).is_ok_and(|info| info.text().contains("role:slave"))
}

/// How many replicas a node knows of that it does not take for dead.
fn known_replicas(node: &Redis) -> usize {
    let flags = |line: &String| {
        line.split(' ').nth(2).is_some_and(|flags| flags.contains("slave") && !flags.contains("fail"))
    };
    lines(node).iter().filter(|line| flags(line)).count()
}

/// Whether a replica is linked to its primary. A primary needs no link.
fn is_linked(node: &Redis) -> bool {
    let info = node.try_ask(&[b"INFO", b"replication"]);
    info.is_ok_and(|info| {
        let text = info.text();
        text.contains("master_link_status:up") || text.contains("role:master")
    })
}
