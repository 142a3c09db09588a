//! Connections: how one is opened, how they are shared, and how long anybody waits.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cloakroom_core::store::StoreError;
use deadpool_postgres::{ClientWrapper, Connect, Manager, Object, Pool};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Failure, InDoubt, TimedOut};
use crate::sql;

/// How to reach the server.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
}

/// What the server sends outside of answers. Must be polled for anything to move on its connection.
pub(crate) type Messages =
    Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> + Send>;

impl Server {
    /// Connects. The client moves only while the messages are polled.
    pub(crate) async fn open(&self) -> Result<(Client, Messages), Error> {
        let (client, mut connection) = self.config.connect(self.tls.clone()).await?;
        Ok((client, Box::new(move |context| connection.poll_message(context))))
    }

    /// Connects, with a task that moves the connection until the client is dropped. It calls `warned` for each warning.
    pub(crate) async fn open_driven(
        &self,
        warned: impl Fn() + Send + 'static,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        let (client, mut messages) = self.open().await?;
        let driver = std::future::poll_fn(move |context| {
            loop {
                match std::task::ready!(messages(context)) {
                    Some(Ok(AsyncMessage::Notice(notice))) if *notice.code() == SqlState::WARNING => {
                        tracing::warn!(warning = notice.message(), "PostgreSQL warns");
                        warned();
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::warn!(%error, "a connection to PostgreSQL was lost");
                        return Poll::Ready(());
                    }
                    None => return Poll::Ready(()),
                }
            }
        });
        Ok((client, tokio::spawn(driver)))
    }
}

/// Opens the pool's connections.
struct Opener {
    server: Server,
    settings: String,
    warnings: Arc<AtomicU64>,
}

type Opened<'a> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

impl Connect for Opener {
    fn connect(&self, _: &Config) -> Opened<'_> {
        Box::pin(async move {
            let (ready, warnings) = (Arc::<AtomicBool>::default(), Arc::clone(&self.warnings));
            let in_use = Arc::clone(&ready);
            // What the server warns of at the beginning (such as a collation's version) is not about a commit.
            let warned = move || {
                if in_use.load(SeqCst) {
                    warnings.fetch_add(1, SeqCst);
                }
            };
            let (client, driver) = self.server.open_driven(warned).await?;
            client.batch_execute(&self.settings).await?;
            ready.store(true, SeqCst);
            Ok((client, driver))
        })
    }
}

/// Whether an operation may be done again when its connection broke and nobody knows whether it was done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It only reads.
    Safe,
    /// It writes.
    Never,
}

/// How often an operation is tried that the server rolled back, or a read whose connection was lost.
const ATTEMPTS: u32 = 3;

/// The shared connections.
pub(crate) struct Connections {
    pool: Pool,
    timeout: Duration,
    /// How often the server has warned on any connection in use. It does so before it answers.
    warnings: Arc<AtomicU64>,
}

impl Connections {
    pub(crate) fn new(server: Server, size: usize, timeout: Duration) -> Result<Self, StoreError> {
        // 0 would mean no limit to the server.
        let settings = sql::settings(timeout.as_millis().clamp(1, i32::MAX as u128));
        let (config, warnings) = (server.config.clone(), Arc::<AtomicU64>::default());
        let opener = Opener { server, settings, warnings: Arc::clone(&warnings) };
        let manager = Manager::from_connect(config, opener, Default::default());
        let pool = Pool::builder(manager).max_size(size.max(1)).build().map_err(StoreError::unavailable)?;
        Ok(Self { pool, timeout, warnings })
    }

    /// Runs an operation on a connection of its own. The time covers waiting for a connection, opening one, and the operation with all
    /// repetitions.
    ///
    /// A connection that did not answer in time is closed rather than given back: whatever it was in the middle of, the server
    /// rolls back, or has committed. If this future is dropped instead, the connection goes back, and what its last user still
    /// sent (a rollback at least, see [`Transaction`]) is worked off before anything of the next one's.
    ///
    /// A server that waits for its synchronous standby, and whose operator cancels the wait, answers that all is well, with a warning
    /// that the standby may not have it. That is not the durability that was asked for, so a write during which there was any warning
    /// is not acknowledged. (The statement's timeout does not end that wait.)
    pub(crate) async fn run<T, F>(
        &self,
        repeat: Repeat,
        operation: impl Fn(Arc<Object>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + self.timeout;
        let warnings = self.warnings.load(SeqCst);
        let mut attempt = 1;
        loop {
            let client = match timeout_at(deadline, self.pool.get()).await {
                Ok(client) => Arc::new(client.map_err(StoreError::unavailable)?),
                Err(_) => return Err(StoreError::unavailable(TimedOut)),
            };
            let failure = match timeout_at(deadline, operation(Arc::clone(&client))).await {
                Ok(Ok(_)) if repeat == Repeat::Never && self.warnings.load(SeqCst) != warnings => {
                    return Err(StoreError::unavailable(InDoubt));
                }
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) => failure,
                Err(_) => {
                    close(client);
                    return Err(StoreError::unavailable(TimedOut));
                }
            };
            if failure.spoils_connection() {
                close(client);
            }
            let again = failure.was_rolled_back() || (repeat == Repeat::Safe && failure.lost_connection());
            if !again || attempt == ATTEMPTS {
                return Err(failure.into());
            }
            attempt += 1;
        }
    }
}

/// Closes a connection instead of giving it back. The operation that used it has ended, so nobody else has it.
fn close(client: Arc<Object>) {
    drop(Arc::into_inner(client).map(Object::take));
}

/// A transaction that is rolled back unless it was committed, also if its future is dropped at any point.
///
/// Not the driver's own, because that waits for an answer before anything else can be sent. Here the beginning and the first reads
/// are one round trip, and so are the last writes and the commit. A statement in such a row whose predecessor failed fails too, and
/// a commit after one rolls back; so every answer must be looked at, and no write may be sent before the beginning was answered.
pub(crate) struct Transaction<'a> {
    client: &'a ClientWrapper,
    open: bool,
}

/// An advisory lock, held until the transaction ends.
pub(crate) enum Lock {
    /// Nobody else has it.
    Alone(i64),
    /// Nobody has it alone.
    Shared(i64),
}

impl<'a> Transaction<'a> {
    pub(crate) const fn of(client: &'a ClientWrapper) -> Self {
        Self { client, open: true }
    }

    /// Begins, and then waits for the advisory locks given, one after the other. What is read in a later statement is from after that.
    pub(crate) async fn begin(&self, locks: impl IntoIterator<Item = Lock>) -> Result<(), Error> {
        let mut text = "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE".to_owned();
        for lock in locks {
            text += &*match lock {
                Lock::Alone(key) => format!("; SELECT pg_advisory_xact_lock({key})"),
                Lock::Shared(key) => format!("; SELECT pg_advisory_xact_lock_shared({key})"),
            };
        }
        self.client.batch_execute(&text).await
    }

    /// Commits. Once this was polled for the first time it is on its way.
    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        self.open = false;
        self.client.batch_execute("COMMIT").await
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            // The first poll hands the request to the connection's task; the answer is of no interest.
            let rollback = pin!(self.client.batch_execute("ROLLBACK"));
            drop(rollback.poll(&mut Context::from_waker(Waker::noop())));
        }
    }
}
