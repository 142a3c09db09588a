//! The pool of connections that read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use cloakroom_core::store::StoreError;
use rusqlite::Connection;

/// Connections that read, each used by one thread at a time.
pub(crate) struct Readers {
    connections: Vec<Mutex<Connection>>,
    next: AtomicUsize,
}

impl Readers {
    pub(crate) fn new(connections: Vec<Connection>) -> Self {
        Self { connections: connections.into_iter().map(Mutex::new).collect(), next: AtomicUsize::new(0) }
    }

    /// Runs one read on a free connection, on the calling thread.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.acquire() {
            Some(connection) => work(&connection),
            // Unreachable: there is at least one.
            None => Err(StoreError::unavailable("the store has no connection that reads")),
        }
    }

    /// A free connection; if all are in use, waits for one. They are held for microseconds and never across an await, so the
    /// wait is of the same kind as an allocator's lock.
    fn acquire(&self) -> Option<MutexGuard<'_, Connection>> {
        let start = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len().max(1);
        let (after, before) = self.connections.split_at_checked(start)?;
        let in_turn = || before.iter().chain(after);
        for connection in in_turn() {
            match connection.try_lock() {
                Ok(guard) => return Some(guard),
                // Reading leaves nothing half done, so a panic in a reader spoils nothing.
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        in_turn().next().map(|connection| connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
