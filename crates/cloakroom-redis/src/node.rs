//! One server: its connection, and a new one when that is lost.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, PushInfo, PushKind, RedisError, Value};
use tokio::sync::mpsc;

use crate::error::Failure;

/// Commands that wait for a connection's task at most; one more waits for its turn.
const QUEUE: usize = 256;

/// A server, and the one connection to it that all operations share.
///
/// A connection that is lost is made anew by the next operation. It is noticed at once where the other side closes it, and after an
/// operation's timeout where it falls silent.
pub(crate) struct Node {
    name: String,
    client: Client,
    connect_timeout: Duration,
    current: Mutex<Option<Link>>,
    /// Held while a connection is made, so that one is enough.
    connecting: tokio::sync::Mutex<()>,
}

/// A connection, and whether it is known to be of no more use.
#[derive(Clone)]
pub(crate) struct Link {
    connection: MultiplexedConnection,
    dead: Arc<AtomicBool>,
}

impl Link {
    fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::Acquire)
    }
}

impl Node {
    pub(crate) fn new(name: String, client: Client, connect_timeout: Duration) -> Self {
        Self {
            name,
            client,
            connect_timeout,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
        }
    }

    /// `host:port`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends one command.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Value, Failure> {
        let mut link = self.link().await?;
        match link.connection.send_packed_command(command).await {
            Ok(value) => value.extract_error().map_err(|error| self.failed(&link, error)),
            Err(error) => Err(self.failed(&link, error)),
        }
    }

    /// Sends commands that nothing comes in between.
    pub(crate) async fn send_together(&self, commands: &Pipeline) -> Result<Vec<Value>, Failure> {
        let mut link = self.link().await?;
        let answers = link.connection.send_packed_commands(commands, 0, commands.len()).await;
        answers.map_err(|error| self.failed(&link, error))
    }

    fn failed(&self, link: &Link, error: RedisError) -> Failure {
        let failure = Failure::of(error);
        if let Failure::Unknown(error) = &failure
            && (error.is_unrecoverable_error() || error.is_io_error())
        {
            link.dead.store(true, Ordering::Release);
        }
        failure
    }

    /// Lets go of the connection: the next operation makes a new one, perhaps to another server of the same name. Operations that
    /// are under way go on.
    pub(crate) fn forget(&self) {
        self.lock().take();
    }

    async fn link(&self) -> Result<Link, Failure> {
        if let Some(link) = self.alive() {
            return Ok(link);
        }
        let _turn = self.connecting.lock().await;
        // Somebody else may have made one while this waited.
        if let Some(link) = self.alive() {
            return Ok(link);
        }
        let dead = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&dead);
        let watch = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                flag.store(true, Ordering::Release);
            }
            Ok::<(), ()>(())
        };
        let connection = self.connect(self.config().set_push_sender(watch)).await?;
        let link = Link { connection, dead };
        *self.lock() = Some(link.clone());
        Ok(link)
    }

    /// A connection of its own, that what the server says unasked arrives on.
    pub(crate) async fn listen(
        &self,
    ) -> Result<(MultiplexedConnection, mpsc::UnboundedReceiver<PushInfo>), Failure> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let connection = self.connect(self.config().set_push_sender(sender)).await?;
        Ok((connection, receiver))
    }

    async fn connect(&self, config: AsyncConnectionConfig) -> Result<MultiplexedConnection, Failure> {
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(connected) => connected.map_err(Failure::NotSent),
            Err(_) => Err(Failure::NotSent(RedisError::from((ErrorKind::Io, "no connection in time")))),
        }
    }

    // Each operation has a time of its own, which covers everything; two limits would only blur the errors.
    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
    }

    fn alive(&self) -> Option<Link> {
        self.lock().as_ref().filter(|link| link.is_alive()).cloned()
    }

    // Nothing in here can be left half-done by a panic.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Link>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
