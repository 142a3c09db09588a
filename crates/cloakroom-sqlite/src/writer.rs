//! The one thread that writes: it takes what has been queued, commits it together, and only then answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use cloakroom_core::store::StoreError;
use futures_channel::oneshot;
use rusqlite::Connection;

use crate::error::{OpenError, group_error};

/// How many operations have shared how many commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterStats {
    /// Transactions that were committed.
    pub commits: u64,
    /// Operations in them.
    pub operations: u64,
}

#[derive(Default)]
struct Counters {
    commits: AtomicU64,
    operations: AtomicU64,
}

pub(crate) struct Writer {
    // `None` only while dropping.
    queue: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

impl Writer {
    pub(crate) fn start(connection: Connection, queue: usize, group: usize) -> Result<Self, OpenError> {
        let (sender, receiver) = sync_channel(queue);
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        let thread = thread::Builder::new()
            .name("cloakroom-sqlite".to_owned())
            .spawn(move || run(&connection, &receiver, group, &counted))
            .map_err(OpenError::Thread)?;
        Ok(Self { queue: Some(sender), thread: Some(thread), counters })
    }

    /// Queues an operation when first polled, and answers when its commit is on the disk. From the queuing on, dropping the
    /// future does not cancel the operation.
    pub(crate) async fn submit<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(Work::Waiting(operation, sender));
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        // Never waits for room: that would stop the async runtime's thread, and a queue this long is a store too slow.
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::unavailable("the writer's queue is full"),
            TrySendError::Disconnected(_) => gone(),
        })?;
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(crate) fn stats(&self) -> WriterStats {
        WriterStats {
            commits: self.counters.commits.load(Ordering::Relaxed),
            operations: self.counters.operations.load(Ordering::Relaxed),
        }
    }
}

fn gone() -> StoreError {
    StoreError::unavailable("the writer's thread has ended")
}

impl Drop for Writer {
    /// Lets the thread finish what is queued, and waits for that.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // Answering wakes a task, which may be what drops the last handle, on the writer's own thread; that cannot wait for
            // itself, and ends by itself.
            if thread.thread().id() != thread::current().id() {
                drop(thread.join());
            }
        }
    }
}

/// An operation in the queue, with its caller.
trait Job: Send {
    /// Carries the operation out inside the open transaction. An error here means that the transaction cannot be trusted any more;
    /// an error of the operation alone is kept for its caller.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    /// Answers the caller: with the outcome if the transaction was committed, else with the error.
    fn answer(self: Box<Self>, committed: Result<(), &Arc<rusqlite::Error>>);
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

enum Work<T, F> {
    Waiting(F, Answer<T>),
    Done(Result<T, StoreError>, Answer<T>),
    /// Only while the operation runs.
    Running,
}

impl<T, F> Job for Work<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Self::Waiting(operation, answer) = std::mem::replace(self, Self::Running) {
            let (outcome, state) = in_savepoint(connection, operation);
            *self = Self::Done(outcome, answer);
            return state;
        }
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), &Arc<rusqlite::Error>>) {
        // A caller that has gone does not want the answer; that is no error.
        match (*self, committed) {
            (Self::Done(outcome, answer), Ok(())) => drop(answer.send(outcome)),
            // An operation that failed by itself has the better reason.
            (Self::Done(Err(error), answer), Err(_)) => drop(answer.send(Err(error))),
            (Self::Done(_, answer) | Self::Waiting(_, answer), Err(error)) => {
                drop(answer.send(Err(group_error(error))));
            }
            // Unreachable; the caller learns that there is no answer.
            (Self::Waiting(..), Ok(())) | (Self::Running, _) => {}
        }
    }
}

/// Runs one operation so that its failure undoes its own writes and not those of its neighbours. The second value says whether
/// the transaction around it is still sound.
fn in_savepoint<T>(
    connection: &Connection,
    operation: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> (Result<T, StoreError>, rusqlite::Result<()>) {
    if let Err(error) = execute(connection, "SAVEPOINT operation") {
        let shared = Arc::new(error);
        return (Err(group_error(&shared)), still_open(connection));
    }
    let outcome = operation(connection);
    let undone = match outcome {
        Ok(_) => Ok(()),
        Err(_) => execute(connection, "ROLLBACK TO operation"),
    };
    let state =
        undone.and_then(|()| execute(connection, "RELEASE operation")).and_then(|()| still_open(connection));
    (outcome, state)
}

/// Some errors (no space, no memory, a broken disk) make SQLite roll back the whole transaction. Going on would then write
/// without one.
fn still_open(connection: &Connection) -> rusqlite::Result<()> {
    if connection.is_autocommit() {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
            Some("SQLite rolled the transaction back".to_owned()),
        ));
    }
    Ok(())
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

fn run(connection: &Connection, queue: &Receiver<Box<dyn Job>>, limit: usize, counters: &Counters) {
    // Ends when every sender has gone and the queue is empty.
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter().take(limit.saturating_sub(1)));
        let committed = commit(connection, &mut group).map_err(Arc::new);
        if committed.is_ok() {
            counters.commits.fetch_add(1, Ordering::Relaxed);
            counters.operations.fetch_add(group.len() as u64, Ordering::Relaxed);
        }
        for job in group {
            job.answer(committed.as_ref().map(|&()| ()));
        }
    }
}

fn commit(connection: &Connection, group: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    if !connection.is_autocommit() {
        // Left over from a rollback that failed; nothing in it was acknowledged.
        execute(connection, "ROLLBACK")?;
    }
    execute(connection, "BEGIN IMMEDIATE")?;
    let outcome =
        group.iter_mut().try_for_each(|job| job.run(connection)).and_then(|()| execute(connection, "COMMIT"));
    if outcome.is_err() && !connection.is_autocommit() {
        // If even this fails, the next group tries again, and fails if it cannot.
        drop(execute(connection, "ROLLBACK"));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cloakroom_core::store::Store as _;
    use cloakroom_testkit::block_on;

    use crate::error::store_error;
    use crate::{SqliteOptions, SqliteStore};

    fn pages(store: &SqliteStore, limit: Option<i64>) -> i64 {
        let number = |connection: &rusqlite::Connection, pragma: &str| {
            connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).map_err(store_error)
        };
        let work = move |connection: &rusqlite::Connection| match limit {
            Some(limit) => number(connection, &format!("PRAGMA max_page_count = {limit}")),
            None => number(connection, "PRAGMA page_count"),
        };
        block_on(store.0.writer.submit(work)).unwrap()
    }

    #[test]
    fn a_file_that_is_full_or_has_lost_its_table_fails_the_probe_as_it_would_a_login() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("sessions.db");
        let store = SqliteOptions::new().busy_timeout(Duration::from_millis(1)).open(&path).unwrap();
        let probe = || block_on(store.probe());
        let before = pages(&store, None);
        pages(&store, Some(before));
        let full = probe().unwrap_err();
        assert!(full.cause().contains("full") && full.may_retry(), "{full:?}");
        pages(&store, Some(1_000_000));
        probe().unwrap();
        let other = rusqlite::Connection::open(&path).unwrap();
        for (broken, mended) in [
            ("ALTER TABLE sessions RENAME TO gone", "ALTER TABLE gone RENAME TO sessions"),
            ("BEGIN IMMEDIATE", "ROLLBACK"),
        ] {
            other.execute_batch(broken).unwrap();
            probe().unwrap_err();
            other.execute_batch(mended).unwrap();
            probe().unwrap();
        }
        let rows: i64 = other.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "nothing is left of it");
    }
}
