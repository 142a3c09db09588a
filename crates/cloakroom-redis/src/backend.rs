//! Sends operations to the server that has their keys, and again where that cannot do harm.
//!
//! | what happened | an operation that may be repeated | one that may not |
//! | --- | --- | --- |
//! | no connection could be made | again | again |
//! | `NOSCRIPT` | again, with the script | again, with the script |
//! | `MOVED` | again, at the node named | again, at the node named |
//! | `ASK`, one key | again, at the node named | (there is none) |
//! | `ASK`, a script | again, a little later | again, a little later |
//! | `TRYAGAIN`, `CLUSTERDOWN`, `MASTERDOWN`, `LOADING`, `BUSY`, `NOREPLICAS` | again, a little later | again, a little later |
//! | `READONLY` | again, on a new connection | again, on a new connection |
//! | `OOM` | `Full` | `Full` |
//! | any other refusal | `Unavailable` | `Unavailable` |
//! | the connection broke, or an error from within a script | again | `Unavailable`: nobody knows what came of it |
//! | no answer within the timeout | `Unavailable` | `Unavailable` |
//!
//! All but the last two rows are refusals: the server did nothing, so repeating is harmless whatever the operation.
//!
//! | operation | may be repeated | because |
//! | --- | --- | --- |
//! | find, list, epoch, time | yes | it changes nothing (but for entries of what has ended already) |
//! | touch | yes | the later time wins, however often it is written |
//! | claim of a pepper | yes | the second finds what the first noted |
//! | insert | no | the second would find its own session and say that the handle is taken; those it evicted would not be named |
//! | replace | no | the second would find its own version and say `Stale`: an update would be applied twice |
//! | remove | no | the second would find its own tombstone and say that there was nothing: the end would never be reported |
//! | remove all | no | the second would end logins that came after the first, and not name what that had ended |
//!
//! A script never follows `ASK`. While a slot is being moved its keys lie on two nodes, and a script on one of them takes
//! those on the other for absent: "end all sessions" would miss some, and a login would not see the epoch.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, Script, Value};

use crate::cluster::Cluster;
use crate::error::{Failure, Refusal};
use crate::layout::millis;
use crate::node::Node;
use crate::settings::Settings;

/// How often an operation is sent at most. With the pauses between them an operation that is refused each time fails within a second.
const ATTEMPTS: u32 = 7;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// One operation.
pub(crate) struct Request<'a> {
    /// Where its keys are; `None` where any server will do.
    pub(crate) slot: Option<u16>,
    pub(crate) what: What<'a>,
    pub(crate) repeat: Repeat,
    /// Whether it writes what must not be forgotten.
    pub(crate) durable: bool,
}

pub(crate) enum What<'a> {
    /// A command on one key, or none.
    Command(Cmd),
    /// A script, the keys that it names, and its arguments.
    Script { script: &'a Script, source: &'a str, keys: Vec<Vec<u8>>, arguments: Vec<Vec<u8>> },
}

/// Whether an operation may be carried out twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    Harmless,
    Never,
}

pub(crate) struct Backend {
    settings: Arc<Settings>,
    servers: Servers,
}

enum Servers {
    Single(Arc<Node>),
    Cluster(Box<Cluster>),
}

impl Backend {
    pub(crate) fn new(settings: Arc<Settings>) -> Result<Self, Failure> {
        let servers = match settings.hosts.first() {
            Some((host, port)) if !settings.cluster => {
                Servers::Single(Arc::new(settings.node(host, *port).map_err(Failure::NotSent)?))
            }
            _ => Servers::Cluster(Box::new(Cluster::new(Arc::clone(&settings)))),
        };
        Ok(Self { settings, servers })
    }

    /// Carries an operation out, within the time that it has.
    pub(crate) async fn call(&self, request: &Request<'_>) -> Result<Value, Failure> {
        match tokio::time::timeout(self.settings.timeout, self.attempts(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.distrust(request.slot);
                Err(Failure::TimedOut)
            }
        }
    }

    /// The servers to look at when the store is opened, each with a tag whose keys it has.
    pub(crate) async fn primaries(&self) -> Result<Vec<(Arc<Node>, u16)>, Failure> {
        match &self.servers {
            Servers::Single(node) => Ok(vec![(Arc::clone(node), 0)]),
            Servers::Cluster(cluster) => tokio::time::timeout(self.settings.timeout, cluster.primaries())
                .await
                .unwrap_or(Err(Failure::TimedOut)),
        }
    }

    /// A server to listen at. In a cluster each hears what is published at any; another one is named each time.
    pub(crate) fn to_listen_at(&self) -> Result<Arc<Node>, Failure> {
        match &self.servers {
            Servers::Single(node) => Ok(Arc::clone(node)),
            Servers::Cluster(cluster) => first(cluster.any()?),
        }
    }

    async fn attempts(&self, request: &Request<'_>) -> Result<Value, Failure> {
        let mut pause = FIRST_PAUSE;
        let mut form = Form::Short;
        let mut hint: Option<Hint> = None;
        let mut attempt = 1;
        loop {
            let age = self.age();
            let taken = hint.take();
            let node = match &taken {
                Some(Hint { node, .. }) => Ok(Arc::clone(node)),
                None => self.node_for(request.slot).await,
            };
            let (failure, node) = match node {
                Err(failure) => (failure, None),
                Ok(node) => {
                    let asking = taken.is_some_and(|hint| hint.asking);
                    match self.send(&node, request, form, asking).await {
                        Ok(value) => return Ok(value),
                        Err(failure) => (failure, Some(node)),
                    }
                }
            };
            attempt += 1;
            if attempt > ATTEMPTS || !may_repeat(&failure, request.repeat) {
                // Whoever comes next begins with a fresh look.
                self.distrust_after(&failure, node.as_deref(), request.slot);
                return Err(failure);
            }
            let refusal = if let Failure::Refused(refusal, _) = &failure { Some(refusal) } else { None };
            match (refusal, &self.servers, node) {
                (Some(Refusal::NoScript), ..) => {
                    form = Form::Whole;
                    continue;
                }
                (Some(Refusal::Moved(to)), Servers::Cluster(cluster), Some(node)) => {
                    let to = cluster.at(to, &node)?;
                    if let Some(slot) = request.slot {
                        cluster.moved(slot, Arc::clone(&to));
                    }
                    hint = Some(Hint { node: to, asking: false });
                    continue;
                }
                (Some(Refusal::Ask(to)), Servers::Cluster(cluster), Some(node))
                    if matches!(request.what, What::Command(_)) =>
                {
                    hint = Some(Hint { node: cluster.at(to, &node)?, asking: true });
                    continue;
                }
                (Some(Refusal::Ask(_) | Refusal::Passing), ..) => {}
                (Some(Refusal::ReadOnly), _, Some(node)) => {
                    node.forget();
                    self.refresh(age).await;
                }
                _ => self.refresh(age).await,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn send(
        &self,
        node: &Node,
        request: &Request<'_>,
        form: Form,
        asking: bool,
    ) -> Result<Value, Failure> {
        let command = match &request.what {
            What::Command(command) => command.clone(),
            What::Script { script, source, keys, arguments } => {
                let mut command = match form {
                    Form::Short => redis::cmd("EVALSHA").arg(script.get_hash()).to_owned(),
                    Form::Whole => redis::cmd("EVAL").arg(*source).to_owned(),
                };
                command.arg(keys.len()).arg(keys).arg(arguments);
                command
            }
        };
        if request.durable && self.settings.replicas > 0 {
            return self.send_and_wait(node, command).await;
        }
        if !asking {
            return node.send(&command).await;
        }
        let mut together = Pipeline::with_capacity(2);
        together.add_command(redis::cmd("ASKING")).add_command(command);
        let answers = node.send_together(&together).await?;
        let answer = answers.into_iter().next_back().unwrap_or_default();
        answer.extract_error().map_err(Failure::of)
    }

    /// `WAIT` holds up what is sent on the same connection meanwhile. A quarter of the time, because the first attempt may end with
    /// `NOSCRIPT`, and waits all the same.
    async fn send_and_wait(&self, node: &Node, command: Cmd) -> Result<Value, Failure> {
        let wanted = self.settings.replicas;
        let mut together = Pipeline::with_capacity(2);
        together.add_command(command);
        together.cmd("WAIT").arg(wanted).arg(millis(self.settings.timeout / 4).max(1));
        let answers = node.send_together(&together).await?;
        let mut answers = answers.into_iter();
        let answer = answers.next().unwrap_or_default().extract_error().map_err(Failure::of)?;
        match answers.next() {
            Some(Value::Int(count)) if count >= i64::from(wanted) => Ok(answer),
            _ => Err(Failure::TooFewReplicas),
        }
    }

    async fn node_for(&self, slot: Option<u16>) -> Result<Arc<Node>, Failure> {
        match (&self.servers, slot) {
            (Servers::Single(node), _) => Ok(Arc::clone(node)),
            (Servers::Cluster(cluster), Some(slot)) => cluster.owner(slot).await,
            (Servers::Cluster(cluster), None) => first(cluster.any()?),
        }
    }

    fn age(&self) -> u64 {
        if let Servers::Cluster(cluster) = &self.servers { cluster.age() } else { 0 }
    }

    /// Learns anew who has what. Where that fails, the next attempt does too, and says why.
    async fn refresh(&self, age: u64) {
        if let Servers::Cluster(cluster) = &self.servers {
            drop(cluster.refresh(age).await);
        }
    }

    fn distrust_after(&self, failure: &Failure, node: Option<&Node>, slot: Option<u16>) {
        match failure {
            Failure::Refused(Refusal::ReadOnly, _) => {
                if let Some(node) = node {
                    node.forget();
                }
                self.forget_owner(slot);
            }
            Failure::NotSent(_) | Failure::Unknown(_) => self.forget_owner(slot),
            _ => {}
        }
    }

    /// After silence: the connection may be of no use, and the slot with another node by now.
    fn distrust(&self, slot: Option<u16>) {
        match (&self.servers, slot) {
            (Servers::Single(node), _) => node.forget(),
            (Servers::Cluster(cluster), Some(slot)) => cluster.forget_owner(slot),
            (Servers::Cluster(_), None) => {}
        }
    }

    fn forget_owner(&self, slot: Option<u16>) {
        if let (Servers::Cluster(cluster), Some(slot)) = (&self.servers, slot) {
            cluster.forget_owner(slot);
        }
    }
}

/// Where the next attempt goes.
struct Hint {
    node: Arc<Node>,
    asking: bool,
}

/// How a script is sent: by its hash, or whole.
#[derive(Clone, Copy)]
enum Form {
    Short,
    Whole,
}

fn may_repeat(failure: &Failure, repeat: Repeat) -> bool {
    match failure {
        Failure::NotSent(_) => true,
        Failure::Refused(refusal, _) => !matches!(refusal, Refusal::Full | Refusal::Other),
        Failure::Unknown(_) => repeat == Repeat::Harmless,
        Failure::TimedOut | Failure::TooFewReplicas => false,
    }
}

fn first(nodes: Vec<Arc<Node>>) -> Result<Arc<Node>, Failure> {
    nodes.into_iter().next().ok_or_else(crate::cluster::no_node)
}
