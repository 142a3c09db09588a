//! Cloakroom sessions in Redis or Valkey: one server, or a Cluster.
//!
//! For applications on several machines that have a Redis already. All state is in the servers; any number of processes share it.
//!
//! ```no_run
//! use cloakroom_core::store::{Found, Store};
//! use cloakroom_core::token::Handle;
//! use cloakroom_redis::RedisOptions;
//!
//! # async fn example(handle: Handle) -> Result<(), Box<dyn std::error::Error>> {
//! let store = RedisOptions::single("redis://127.0.0.1")?.connect().await?;
//! match store.find(handle).await? {
//!     Found::Live(record) => println!("last seen at {}", record.seen()),
//!     Found::Ended(tombstone) => println!("ended: {}", tombstone.reason().name()),
//!     Found::Absent => println!("no trace of it"),
//! }
//! # Ok(()) }
//! ```
//!
//! Redis 7.0 or later, or Valkey. The operator's guide (docs/operator/redis.md) has the settings that the servers need.
//!
//! # What is promised
//!
//! - **One step.** Each operation is one script, or one command on one key: it happens completely or not at all, also if its future is
//!   dropped, and nothing comes in between. Epoch and cap are checked in the script that inserts.
//! - **One round trip** for each operation but the end of all sessions of everybody; one more when a server sees a script for the first time.
//! - **Primaries only.** No replica is ever asked, and a server that became one refuses even reads (they are sent as `GETEX`).
//! - **Gone is final** on a server that keeps what it acknowledges: `appendonly yes` and `appendfsync always`, and no failover.
//!   With less, a crash can undo a logout. With replicas that take over, a failover can undo the last ones, whatever the settings, because
//!   replication is asynchronous; [`RedisOptions::replicas`] narrows that gap. [`RedisStore::warnings`] says what applies.
//! - **Unreadable is never absent**, and neither is a server that is down, silent, loading, or out of memory: these are errors.
//! - **Unknown is never repeated.** An operation whose answer was lost is sent again only if a second time does no harm.
//!   A login, a logout, a data write and an "end all sessions" are not: the caller gets an error that says that nobody knows.
//!
//! # Expiry
//!
//! The server forgets by itself: sessions an hour (the policy's `tombstone_ttl`) after their time, so that a late request is still
//! recognised; tombstones after that hour; the record of an "end all sessions" a day after the longest session that the policy allows, 31 days at least. What the policy says
//! comes from the layer that is built on the store ([`Store::govern`]). The
//! store never judges whether a session has expired. A sweep has nothing to do, so no event says that a session nobody came back to has
//! expired; one that somebody came back to within the hour is reported by the engine.
//!
//! # Layout
//!
//! | key | holds |
//! | --- | --- |
//! | `cloakroom:{1a2b}:s:` and the 16 bytes of a handle | a session, or the tombstone of one: one string |
//! | `cloakroom:{1a2b}:u:` and a subject | the handles of its sessions: a hash with empty values |
//! | `cloakroom:{1a2b}:e:` and a subject | the epoch of its last "end all sessions", which tells when by the server's clock, and the caller's time: 16 bytes |
//! | `cloakroom:{1a2b}:e:` | the same of the last end of everybody's, once for each tag |
//! | `cloakroom:peppers` | the names of the peppers that servers have used |
//! | channel `cloakroom:ended` | the handles of sessions that end |
//!
//! `1a2b` is the tag of the handle, which is that of its subject, in hexadecimal. In braces it puts all keys of a subject into one
//! slot of a cluster. A script names the keys that it begins with, and reckons out those of the subject's other sessions, which lie in the
//! same slot. While that slot is being moved to another node, operations that need keys on both sides are refused until
//! it has arrived.
//!
//! # Security
//!
//! The server holds digests and encrypted data: whoever reads it gets no usable token. It shows subjects, times and client labels in
//! the clear, and whoever can write to it can end sessions and revive them. Give the store a user of its own, with TLS to other
//! machines; `redis://` to another machine is refused unless a reason is given.

mod backend;
mod checks;
mod cluster;
mod error;
mod everybody;
mod layout;
mod node;
mod notices;
mod operations;
mod options;
mod scripts;
mod settings;
mod url;

use std::fmt;
use std::sync::Arc;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::seal::PepperId;
use cloakroom_core::store::{
    Admission, BySubject, EndListener, Figures, Found, Inserted, PepperClaim, Reason, RemovedAll, Replaced,
    Shared, Standing, Store, StoreError, Sweep, SweepLimits, SweepReport,
};
use cloakroom_core::token::Handle;
use tokio::runtime::Handle as Runtime;

use crate::backend::Backend;
use crate::notices::Notices;
use crate::operations::Operations;
use crate::settings::Settings;

pub use error::{OpenError, OptionsError};
pub use options::RedisOptions;

/// Sessions in one Redis server, or in a cluster. Clones share the connections.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    operations: Arc<Operations>,
    notices: Notices,
}

impl RedisStore {
    async fn open(settings: Arc<Settings>) -> Result<Self, OpenError> {
        if settings.tls.is_some() {
            // Whoever builds the program may have chosen one already.
            drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        }
        let servers = settings.hosts.iter().map(|(host, port)| cluster::name(host, *port));
        let servers = servers.collect::<Vec<_>>().join(", ");
        let backend =
            Backend::new(Arc::clone(&settings)).map_err(|failure| OpenError::of(servers, failure))?;
        let operations = Arc::new(Operations::new(settings, backend));
        checks::open(&operations).await?;
        Ok(Self(Arc::new(Inner { operations, notices: Notices::new(Runtime::current()) })))
    }

    /// Sentences on what the servers' settings take away from the promises of the store; none where all of them hold.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the servers cannot be reached.
    pub async fn warnings(&self) -> Result<Vec<String>, StoreError> {
        Ok(checks::warnings(&self.0.operations).await?)
    }

    /// The public names of the peppers that were noted by [`Shared::claim_pepper`]. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server does not answer.
    pub async fn peppers(&self) -> Result<Vec<PepperId>, StoreError> {
        self.0.operations.peppers().await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("servers", &self.0.operations.settings().hosts)
            .finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    async fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        self.0.operations.find(handle).await
    }

    async fn insert(&self, record: Record, admission: Admission) -> Result<Inserted, StoreError> {
        self.0.operations.insert(&record, &admission).await
    }

    async fn replace(&self, expected: Version, record: Record) -> Result<Replaced, StoreError> {
        self.0.operations.replace(expected, &record).await
    }

    async fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        self.0.operations.remove(handle, reason, now).await
    }

    async fn touch(&self, handle: Handle, seen: Timestamp) -> Result<(), StoreError> {
        self.0.operations.touch(handle, seen).await
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.0.operations.time().await.map(Some)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.0.operations.probe().await
    }

    fn govern(&self, figures: Figures) {
        self.0.operations.governed.take(figures);
    }

    fn on_end(&self, listener: EndListener) {
        self.0.notices.add(listener, &self.0.operations);
    }
}

impl BySubject for RedisStore {
    async fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        self.0.operations.list(subject).await
    }

    async fn standing(&self, subject: &Subject) -> Result<Standing, StoreError> {
        self.0.operations.standing(subject).await
    }

    async fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        self.0.operations.remove_all(subject, keep, reason, now).await
    }

    /// Raises an epoch in each of 16,384 slots and then ends what a `SCAN` of all primaries finds, one session a script. A session whose
    /// slot is moved to another node meanwhile may be missed: call it again when the move is over.
    async fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        self.0.operations.remove_everybody(reason, now).await
    }
}

impl Sweep for RedisStore {
    /// Does nothing and reports nothing: the server forgets sessions, tombstones and epochs by itself, each when its time has come.
    ///
    /// There is no index of what expires when, because it would cost a write for each touch. An expired session is found until
    /// the policy's `tombstone_ttl` after its time, so that a late request of its client is still told apart from a forgery.
    async fn sweep(&self, _: Timestamp, _: SweepLimits) -> Result<SweepReport, StoreError> {
        Ok(SweepReport::default())
    }
}

impl Shared for RedisStore {
    async fn claim_pepper(&self, current: PepperId, live: &[PepperId]) -> Result<PepperClaim, StoreError> {
        self.0.operations.claim_pepper(current, live).await
    }
}
