//! What the tests share.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cloakroom_core::client::Client;
use cloakroom_core::clock::Timestamp;
use cloakroom_core::lifecycle::establish::Draft;
use cloakroom_core::record::{Proof, Record, Subject};
use cloakroom_core::seal::Pepper;
use cloakroom_core::store::{Admission, EndListener, EndNotice, Epoch, Inserted, SweepLimits};
use cloakroom_postgres::{PostgresOptions, PostgresStore};
use cloakroom_testkit::SeededEntropy;
use cloakroom_testkit::servers::Postgres;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
/// A patience that no test outlasts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The runtime that all tests of a program share.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    })
}

/// A name that no other test of the program has.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}_{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

/// Options for a schema of one's own on the shared server, not made yet.
pub(crate) fn options() -> PostgresOptions {
    options_on(Postgres::shared())
}

pub(crate) fn options_on(server: &Postgres) -> PostgresOptions {
    PostgresOptions::parse(&server.url()).unwrap().schema(unique("s")).timeout(PATIENCE)
}

/// An empty store in a schema of its own on the shared server.
pub(crate) async fn fresh(
    adjust: impl FnOnce(PostgresOptions) -> PostgresOptions,
) -> (PostgresOptions, PostgresStore) {
    prepared(adjust(options())).await
}

pub(crate) async fn prepared(options: PostgresOptions) -> (PostgresOptions, PostgresStore) {
    options.migrate().await.unwrap();
    let store = options.clone().connect().await.unwrap();
    (options, store)
}

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

pub(crate) fn session(subject: Option<&Subject>, seed: u64) -> Record {
    sessions(subject, 1, seed).remove(0)
}

pub(crate) fn limits(batch: usize) -> SweepLimits {
    let hour = Duration::from_secs(3600);
    SweepLimits { batch, tombstone_ttl: hour, epoch_ttl: 48 * hour }
}

/// What a listener has heard so far.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<(Mutex<Vec<EndNotice>>, Notify)>);

/// A listener, and what it hears.
pub(crate) fn listener() -> (Heard, EndListener) {
    let heard = Heard::default();
    let ours = heard.clone();
    let listener = Arc::new(move |notice| {
        ours.0.0.lock().unwrap().push(notice);
        ours.0.1.notify_waiters();
    });
    (heard, listener)
}

impl Heard {
    pub(crate) fn all(&self) -> Vec<EndNotice> {
        self.0.0.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.0.0.lock().unwrap().clear();
    }

    pub(crate) async fn wait_for(&self, notice: EndNotice) {
        self.wait_until(|heard| heard.contains(&notice)).await;
    }

    pub(crate) async fn wait_until(&self, enough: impl Fn(&[EndNotice]) -> bool) {
        let waiting = async {
            loop {
                let more = self.0.1.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if enough(&self.all()) {
                    return;
                }
                more.await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("not enough was heard: {:?}", self.all());
        }
    }
}

pub(crate) fn admission() -> Admission {
    Admission { now: NOW, since: Epoch::default(), cap: None }
}

pub(crate) fn admitted() -> Inserted {
    Inserted::Inserted { evicted: Vec::new() }
}
