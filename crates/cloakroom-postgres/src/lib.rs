//! Cloakroom sessions in PostgreSQL: for applications on several machines.
//!
//! PostgreSQL 15 or later, without extensions. The tables are made by command (`cloakroom migrate`, or
//! [`PostgresOptions::migrate`]) and never by opening the store.
//!
//! ```no_run
//! use cloakroom_core::store::{Found, Store};
//! use cloakroom_core::token::Handle;
//! use cloakroom_postgres::PostgresOptions;
//!
//! # async fn example(handle: Handle) -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresOptions::parse("postgres://app@db.example.com/app?password_file=/run/secrets/db")?.connect().await?;
//! match store.find(handle).await? {
//!     Found::Live(record) => println!("last seen at {}", record.seen()),
//!     Found::Ended(tombstone) => println!("ended: {}", tombstone.reason().name()),
//!     Found::Absent => println!("no trace of it"),
//! }
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! - **As durable as the server commits.** A write is answered after its transaction was committed. With PostgreSQL's defaults that
//!   is on the disk of the primary; after a failover an acknowledged logout stays one only if the standby that takes over is a
//!   synchronous one. [`PostgresStore::warnings`] names settings that promise less.
//! - **Gone is final.** No write brings back a session that was removed. There is no upsert of sessions in this crate.
//! - **Exact under parallel requests**, from any number of processes: a compare-and-swap is one statement, and logins of a subject
//!   are admitted one at a time.
//! - **Whole or not at all.** Every operation is one transaction, also if its future is dropped.
//! - **Unreadable is never absent**, and neither is unreachable: both are errors.
//! - **From the primary only.** Connections to a server that does not take writes are refused.
//!
//! # How it works
//!
//! Connections come from a pool and are not pinged. Statements are prepared once for each connection. The usual operations are one
//! round trip: finding, replacing, touching, inserting an anonymous session, listing, reading an epoch. Removing is two, a login
//! two, or four if it makes room under a cap.
//!
//! A login takes an advisory lock of its subject before it reads the epoch and the other sessions, and so does the end of all
//! sessions: neither can slip past the other. For the end of all sessions of everybody there is one more lock, which logins share. How
//! long ago an end was is told by the server's clock alone; no client's comes into it. Ends are announced on a channel by NOTIFY, in the transaction that makes them; the first
//! [`Store::on_end`] starts a task that listens on a connection of its own, comes back after failures, and says
//! [`EndNotice::Missed`](cloakroom_core::store::EndNotice::Missed) whenever it may not have heard something.
//!
//! # Security
//!
//! The tables hold digests and encrypted data: whoever reads them gets no usable token. They show subjects, times and client labels in
//! the clear, and whoever can write to them can end sessions. Use a role that has the rights of [`PostgresOptions::grants`] only, and
//! TLS: it is the default for every host that is not this machine.

use std::fmt;
use std::sync::Arc;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Subject, Version};
use cloakroom_core::seal::PepperId;
use cloakroom_core::store::{
    Admission, BySubject, EndListener, Figures, Found, Governed, Inserted, PepperClaim, Reason, RemovedAll,
    Replaced, Shared, Standing, Store, StoreError, Sweep, SweepLimits, SweepReport,
};
use cloakroom_core::token::Handle;

mod address;
mod epochs;
mod error;
mod notices;
mod operations;
mod options;
mod pool;
mod rows;
mod schema;
mod shared;
mod sql;
mod subjects;
mod sweep;
mod tls;

pub use error::{OpenError, OptionsError};
pub use options::PostgresOptions;
pub use schema::Migrated;

use pool::Repeat;

/// Sessions in PostgreSQL. Made by [`PostgresOptions::connect`].
///
/// Clones share the connections. When the last one is dropped, they are closed.
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

pub(crate) struct Inner {
    sql: sql::Sql,
    connections: pool::Connections,
    notices: notices::Notices,
    /// What the policy says that the statements need.
    governed: Governed,
    /// A host that is reached over a network in the clear.
    in_the_clear: Option<String>,
}

impl PostgresStore {
    /// Sentences on what weakens the store's promises: settings of the server and of the role, and how it is reached. Empty if
    /// there is nothing to say.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server cannot be asked.
    pub async fn warnings(&self) -> Result<Vec<String>, StoreError> {
        let asked =
            self.0.connections.run(Repeat::Safe, |client| async move { shared::warnings(&client).await });
        let mut warnings = asked.await?;
        if let Some(host) = &self.0.in_the_clear {
            warnings.push(format!(
                "Connections to PostgreSQL on {host} are not encrypted: whoever is in between can read subjects and end sessions."
            ));
        }
        Ok(warnings)
    }

    /// The public names of the peppers that were noted by [`Shared::claim_pepper`]. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server does not answer.
    pub async fn peppers(&self) -> Result<Vec<PepperId>, StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        connections.run(Repeat::Safe, |client| async move { shared::peppers(&client, sql).await }).await
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("schema", &self.0.sql.schema).finish_non_exhaustive()
    }
}

impl Store for PostgresStore {
    async fn find(&self, handle: Handle) -> Result<Found, StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        connections
            .run(Repeat::Safe, |client| async move { operations::find(&client, sql, handle).await })
            .await
    }

    async fn insert(&self, record: Record, admission: Admission) -> Result<Inserted, StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        let skew = self.0.governed.figures().clock_skew;
        let body = record.encode()?;
        let (record, body, admission) = (&record, &body, &admission);
        connections
            .run(Repeat::Never, |client| async move {
                subjects::insert(&client, sql, record, body, admission, skew).await
            })
            .await
    }

    async fn replace(&self, expected: Version, record: Record) -> Result<Replaced, StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        let skew = self.0.governed.figures().clock_skew;
        let body = record.encode()?;
        let (record, body) = (&record, &body);
        connections
            .run(Repeat::Never, |client| async move {
                operations::replace(&client, sql, expected, record, body, skew).await
            })
            .await
    }

    async fn remove(
        &self,
        handle: Handle,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        connections
            .run(Repeat::Never, |client| async move {
                operations::remove(&client, sql, handle, reason, now).await
            })
            .await
    }

    async fn touch(&self, handle: Handle, seen: Timestamp) -> Result<(), StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        let skew = self.0.governed.figures().clock_skew;
        connections
            .run(
                Repeat::Never,
                |client| async move { operations::touch(&client, sql, handle, seen, skew).await },
            )
            .await
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let time = self.0.connections.run(Repeat::Safe, |client| async move { shared::time(&client).await });
        time.await.map(Some)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        connections.run(Repeat::Never, |client| async move { shared::probe(&client, sql).await }).await
    }

    fn govern(&self, figures: Figures) {
        self.0.governed.take(figures);
    }

    fn on_end(&self, listener: EndListener) {
        self.0.notices.add(listener);
    }
}

impl BySubject for PostgresStore {
    async fn list(&self, subject: &Subject) -> Result<Vec<Record>, StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        connections
            .run(Repeat::Safe, |client| async move { operations::list(&client, sql, subject).await })
            .await
    }

    async fn standing(&self, subject: &Subject) -> Result<Standing, StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        connections
            .run(Repeat::Safe, |client| async move { epochs::standing(&client, sql, subject).await })
            .await
    }

    async fn remove_all(
        &self,
        subject: &Subject,
        keep: Option<Handle>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<RemovedAll, StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        connections
            .run(Repeat::Never, |client| async move {
                subjects::remove_all(&client, sql, subject, keep, reason, now).await
            })
            .await
    }

    /// In batches, each a transaction with the whole timeout, between which other writes have their turn.
    async fn remove_everybody(&self, reason: Reason, now: Timestamp) -> Result<u64, StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        connections
            .run(Repeat::Never, |client| async move { epochs::raise_everybody(&client, sql, now).await })
            .await?;
        let (mut after, mut ended) = (None, 0);
        loop {
            let batch = connections.run(Repeat::Never, |client| async move {
                epochs::end_some(&client, sql, after, reason, now).await
            });
            let (count, last) = batch.await?;
            ended += count;
            match last {
                Some(_) => after = last,
                None => return Ok(ended),
            }
        }
    }
}

impl Sweep for PostgresStore {
    async fn sweep(&self, now: Timestamp, limits: SweepLimits) -> Result<SweepReport, StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        let limits = &limits;
        connections
            .run(Repeat::Never, |client| async move { sweep::sweep(&client, sql, now, limits).await })
            .await?
    }
}

impl Shared for PostgresStore {
    async fn claim_pepper(&self, current: PepperId, live: &[PepperId]) -> Result<PepperClaim, StoreError> {
        let Inner { sql, connections, .. } = &*self.0;
        connections
            .run(
                Repeat::Never,
                |client| async move { shared::claim_pepper(&client, sql, current, live).await },
            )
            .await
    }
}
