//! What the tests of the store share.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests; not each uses all of it"
)]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use cloakroom_core::client::Client;
use cloakroom_core::clock::Timestamp;
use cloakroom_core::lifecycle::establish::Draft;
use cloakroom_core::policy::Policy;
use cloakroom_core::record::{Proof, Record, Subject};
use cloakroom_core::seal::Pepper;
use cloakroom_core::store::{
    Admission, EndNotice, Epoch, Figures, Found, Inserted, Store as _, StoreError, StoreErrorKind,
};
use cloakroom_redis::{RedisOptions, RedisStore};
use cloakroom_testkit::servers::{Redis, RedisCluster};
use cloakroom_testkit::suite::{EPOCH_TTL, Expiry, TOMBSTONE_TTL};
use cloakroom_testkit::{Fixture, FullStore, SeededEntropy, Yielding};
use tokio::runtime::Runtime;

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A prefix that no other test of this program has.
pub(crate) fn prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Options with a patience that no test outlasts.
pub(crate) fn options(url: &str) -> RedisOptions {
    RedisOptions::parse(url).unwrap().prefix(prefix()).timeout(Duration::from_secs(60))
}

/// A store with key names of its own on a server that others use too.
pub(crate) struct Opened<S> {
    // The order matters: connections close before their runtime goes.
    store: S,
    prefix: String,
    nodes: Vec<&'static Redis>,
    runtime: Runtime,
}

impl Opened<RedisStore> {
    pub(crate) fn single() -> Self {
        let server = Redis::shared();
        Self::on(&server.url(), vec![server])
    }

    pub(crate) fn cluster() -> Self {
        let cluster = RedisCluster::shared();
        Self::on(&cluster.url(), cluster.nodes().iter().collect())
    }

    fn on(url: &str, nodes: Vec<&'static Redis>) -> Self {
        let (runtime, prefix) = (runtime(), prefix());
        let store = runtime.block_on(options(url).prefix(&*prefix).connect()).unwrap();
        let figures = Policy::default().figures();
        store.govern(Figures { tombstone_ttl: TOMBSTONE_TTL, epoch_ttl: EPOCH_TTL, ..figures });
        Self { store, prefix, nodes, runtime }
    }

    pub(crate) fn yielding(self) -> Opened<Yielding<RedisStore>> {
        let Self { store, prefix, nodes, runtime } = self;
        Opened { store: Yielding::both(store), prefix, nodes, runtime }
    }
}

impl<S: FullStore> Fixture for Opened<S> {
    type Store = S;

    fn store(&self) -> &S {
        &self.store
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn expiry(&self) -> Expiry {
        Expiry::Native { margin: TOMBSTONE_TTL }
    }

    /// Takes the time from what each key has left.
    fn pass(&self, time: Duration) {
        const SCRIPT: &str = "
            local left = redis.call('PTTL', KEYS[1])
            if left >= 0 then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', left - tonumber(ARGV[1]))) end";
        let time = time.as_millis().to_string();
        for node in &self.nodes {
            for key in keys(node, &self.prefix) {
                // A replica answers that the key is elsewhere.
                node.try_ask(&[b"EVAL", SCRIPT.as_bytes(), b"1", &key, time.as_bytes()]).unwrap();
            }
        }
    }
}

/// The names of all keys of a store on a server.
pub(crate) fn keys(node: &Redis, prefix: &str) -> Vec<Vec<u8>> {
    let answer = node.ask(&["KEYS", &format!("{prefix}:*")]);
    answer.list().iter().map(|key| key.bytes().to_vec()).collect()
}

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

pub(crate) fn alice() -> Subject {
    Subject::new("alice").unwrap()
}

/// As many different sessions as asked for; the same ones for the same seed.
pub(crate) fn sessions(subject: Option<&Subject>, count: usize, seed: u64) -> Vec<Record> {
    let (pepper, entropy) = (Pepper::new(&[3; 32]).unwrap(), SeededEntropy::new(seed));
    let draft = || Draft {
        subject: subject.cloned().map(|subject| (subject, Proof::default())),
        created: NOW,
        idle: Duration::from_secs(1800),
        absolute: Duration::from_secs(86_400),
        client: Client::default(),
        data: b"data".to_vec(),
    };
    (0..count).map(|_| draft().seal(&pepper, &entropy).unwrap().0).collect()
}

pub(crate) fn admission() -> Admission {
    Admission { now: NOW, since: Epoch::default(), cap: None }
}

pub(crate) fn admitted() -> Inserted {
    Inserted::Inserted { evicted: Vec::new() }
}

/// Inserts sessions that nothing keeps out.
pub(crate) async fn put(store: &RedisStore, records: &[Record]) {
    for record in records {
        assert_eq!(store.insert(record.clone(), admission()).await.unwrap(), admitted());
    }
}

/// Asks until the answer is no error, which it must become by itself.
pub(crate) async fn patiently<T>(ask: impl AsyncFn() -> Result<T, StoreError>) -> T {
    for _ in 0..1000 {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}"),
        }
    }
    panic!("service does not resume by itself")
}

pub(crate) fn is_unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    assert_eq!(answer.unwrap_err().kind(), StoreErrorKind::Unavailable);
}

pub(crate) async fn is_live(store: &RedisStore, record: &Record) -> bool {
    matches!(patiently(async || store.find(record.handle()).await).await, Found::Live(_))
}

/// Takes one notice off after another, until one is the wanted.
pub(crate) fn hear(notices: &Receiver<EndNotice>, wanted: EndNotice) {
    loop {
        let notice = notices.recv_timeout(Duration::from_secs(120));
        if notice.unwrap_or_else(|_| panic!("{wanted:?} was never heard")) == wanted {
            return;
        }
    }
}

/// Listens to a store.
pub(crate) fn listen(store: &RedisStore) -> Receiver<EndNotice> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    // Nobody may hear any more at the end of a test.
    store.on_end(Arc::new(move |notice| sender.lock().unwrap().send(notice).unwrap_or_default()));
    receiver
}

pub(crate) const PASSWORD: &str = "correct-horse";

/// The rules for the store's user as the operator's guide has them, with this prefix.
pub(crate) fn documented_user(prefix: &str) -> String {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operator/redis.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let start = guide.find("user cloakroom ").unwrap();
    let end = guide[start..].find("```").unwrap();
    let words: Vec<&str> =
        guide[start..start + end].split([' ', '\n', '\\']).filter(|word| !word.is_empty()).collect();
    words.join(" ").replace("PASSWORD", PASSWORD).replace("cloakroom:", &format!("{prefix}:"))
}
