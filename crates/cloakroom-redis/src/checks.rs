//! Whether a server keeps what the store promises.

use std::collections::BTreeMap;

use redis::Value;

use crate::backend::{Repeat, Request, What};
use crate::error::{Failure, OpenError};
use crate::layout::slot_of_tag;
use crate::node::Node;
use crate::operations::Operations;

/// Looks at every primary; refuses those that would lose sessions or logouts without a word.
pub(crate) async fn open(operations: &Operations) -> Result<(), OpenError> {
    let named = || operations.settings().hosts.iter().map(|(host, port)| crate::cluster::name(host, *port));
    let servers = || named().collect::<Vec<_>>().join(", ");
    let primaries = operations.backend.primaries().await.map_err(|failure| match &failure {
        Failure::Refused(_, error) if error.to_string().contains("cluster support disabled") => {
            OpenError::Mode {
                server: servers(),
                problem: "is no node of a cluster; its address begins with redis://",
            }
        }
        _ => OpenError::of(servers(), failure),
    })?;
    if primaries.is_empty() {
        return Err(OpenError::Mode {
            server: servers(),
            problem: "is a node of a cluster in which nobody has a slot",
        });
    }
    for (node, tag) in primaries {
        let info = match Info::of(&node).await {
            Ok(info) => Some(info),
            // Without it the version shows by whether the scripts run; the rest is said by `warnings`.
            Err(OpenError::Permission { .. }) => {
                tracing::warn!(
                    server = node.name(),
                    "the server does not allow INFO: whether it throws keys away when its memory is full is not known; if it does, \
                     it forgets logouts"
                );
                None
            }
            Err(error) => return Err(error),
        };
        if let Some(info) = info {
            info.check(operations.settings().cluster, &node)?;
        }
        dry_run(operations, &node, tag).await?;
    }
    Ok(())
}

/// Uses every command that the store uses, at the node that has the keys of a tag.
async fn dry_run(operations: &Operations, node: &Node, tag: u16) -> Result<(), OpenError> {
    let source = &operations.scripts().check;
    let keys = operations.settings().keys.checks(tag);
    let what = What::Script {
        script: &source.script,
        source: source.text,
        keys: keys.into(),
        arguments: vec![operations.settings().keys.channel().into_bytes()],
    };
    let request = Request { slot: Some(slot_of_tag(tag)), what, repeat: Repeat::Harmless, durable: false };
    let answer = operations.backend.call(&request).await;
    let failed = |failure| OpenError::of(node.name().to_owned(), failure);
    answer.map_err(failed)?;
    // What the store uses beside its scripts: a read, and the form of a script that a server knows already.
    let [key, ..] = operations.settings().keys.checks(tag);
    node.send(&redis::cmd("GETEX").arg(key).to_owned()).await.map_err(failed)?;
    node.send(&redis::cmd("TIME")).await.map_err(failed)?;
    Ok(())
}

/// Sentences on what weakens a promise.
pub(crate) async fn warnings(operations: &Operations) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    let settings = operations.settings();
    if settings.is_exposed() {
        warnings.push(
            "the connection to another machine is not encrypted: the password and all subjects can be read on the way, and \
             whoever can change what is on the way can end sessions and revive them"
                .to_owned(),
        );
    }
    for (node, _) in operations.backend.primaries().await? {
        match Info::of(&node).await {
            Ok(info) => info.warn(&node, &mut warnings).await,
            Err(_) => warnings.push(format!(
                "{} does not allow INFO: whether it may evict keys, and whether it writes to a disk, is not known",
                node.name()
            )),
        }
    }
    if settings.cluster {
        warnings.push(FAILOVER.to_owned());
    }
    // Several nodes of a cluster say the same.
    let mut seen = Vec::new();
    warnings.retain(|warning| {
        let new = !seen.contains(warning);
        seen.push(warning.clone());
        new
    });
    Ok(warnings)
}

const FAILOVER: &str = "replication is asynchronous: a replica that takes over may not have the last writes, so that a logout or an \
                        \"end all sessions\" of the last second can be forgotten";

struct Info(BTreeMap<String, String>);

impl Info {
    async fn of(node: &Node) -> Result<Self, OpenError> {
        let failed = |failure| OpenError::of(node.name().to_owned(), failure);
        let text = match node.send(&redis::cmd("INFO")).await.map_err(failed)? {
            Value::VerbatimString { text, .. } => text,
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => String::new(),
        };
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Ok(Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn check(&self, cluster: bool, node: &Node) -> Result<(), OpenError> {
        let server = || node.name().to_owned();
        let version = self.get("redis_version");
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 7) {
            return Err(OpenError::TooOld { server: server(), found: version.to_owned() });
        }
        if !cluster && self.get("cluster_enabled") == "1" {
            let problem = "is a node of a cluster; its address begins with redis-cluster://";
            return Err(OpenError::Mode { server: server(), problem });
        }
        if self.get("role") != "master" {
            return Err(OpenError::Replica { server: server() });
        }
        let policy = self.get("maxmemory_policy");
        if policy != "noeviction" {
            return Err(OpenError::Evicts { server: server(), policy: policy.to_owned() });
        }
        Ok(())
    }

    async fn warn(&self, node: &Node, warnings: &mut Vec<String>) {
        let name = node.name();
        if self.get("aof_enabled") == "1" {
            match setting(node, "appendfsync").await.as_deref() {
                Some("always") => {}
                Some(_) => warnings.push(format!(
                    "{name} has appendfsync other than \"always\": a crash of the machine forgets the last writes, so that a logout \
                     of the last second can be undone"
                )),
                None => warnings.push(format!(
                    "{name} does not allow CONFIG GET appendfsync: whether a logout outlives a crash of the machine is not known"
                )),
            }
        } else {
            warnings.push(format!(
                "{name} has no appendonly file: a restart or a crash forgets logouts since the last snapshot, or signs everybody out \
                 where there is none"
            ));
        }
        if self.get("connected_slaves").parse::<u32>().is_ok_and(|count| count > 0) {
            warnings.push(FAILOVER.to_owned());
        }
    }
}

async fn setting(node: &Node, name: &str) -> Option<String> {
    let command = redis::cmd("CONFIG").arg("GET").arg(name).to_owned();
    let value = match node.send(&command).await.ok()? {
        Value::Map(pairs) => pairs.into_iter().next()?.1,
        _ => return None,
    };
    if let Value::BulkString(bytes) = value { String::from_utf8(bytes).ok() } else { None }
}
