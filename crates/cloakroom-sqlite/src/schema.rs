//! Opening a file: is it ours, is it of a version we know, and bringing it up to date.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use cloakroom_core::seal::PepperId;

use crate::error::{OpenError, is_not_a_database};
use crate::peppers;

/// `Clkr` in the file's header: tells our files from those of other applications.
pub(crate) const APPLICATION_ID: i32 = 0x436c_6b72;

/// What brings a file from schema n to schema n + 1. The length is the newest schema this version knows.
const MIGRATIONS: [&str; 1] = [include_str!("../migrations/0001_sessions.sql")];
pub(crate) const SCHEMA: i32 = MIGRATIONS.len() as i32;

/// SQLite 3.7.0 to 3.51.2 can corrupt a file when a checkpoint and a reset of the log coincide.
const SQLITE_MIN: i32 = 3_051_003;

/// The log is cut back to this many bytes after a checkpoint; a burst may make it larger.
const JOURNAL_SIZE_LIMIT: i64 = 64 << 20;
/// Pages in the log (4 KiB each) before a commit also checkpoints. More is faster on average and makes the slowest commits slower.
const CHECKPOINT_PAGES: i64 = 1000;

/// How connections are set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) busy_timeout: Duration,
    pub(crate) cache_kib: u32,
}

/// Opens the connection that writes, after making sure that the file is ours or new.
pub(crate) fn open_writer(path: &Path, setup: Setup) -> Result<Connection, OpenError> {
    if is_too_old(rusqlite::version_number()) {
        return Err(OpenError::SqliteTooOld { found: rusqlite::version() });
    }
    create(path).map_err(|source| OpenError::File { path: path.to_owned(), source })?;
    let wrap = |error| sqlite_error(path, error);

    // Looked at read-only first: a file that is not ours is not touched, not even by a checkpoint on closing.
    let probe = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, setup).map_err(wrap)?;
    // In one transaction, so that its answers are of one moment: another process may be making the file.
    schema_of(&*probe.unchecked_transaction().map_err(wrap)?, path)?;
    drop(probe);

    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, setup).map_err(wrap)?;
    let mode = use_log(&connection).map_err(wrap)?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog { path: path.to_owned(), mode });
    }
    configure_writer(&connection).map_err(wrap)?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

const fn is_too_old(version: i32) -> bool {
    version < SQLITE_MIN
}

/// Opens a connection that reads. The writer's must have been opened before.
pub(crate) fn open_reader(path: &Path, setup: Setup) -> Result<Connection, OpenError> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, setup).map_err(|error| sqlite_error(path, error))
}

/// Whose peppers the sessions in a file are under. Nothing is made or changed, not even beside it.
pub(crate) fn look(path: &Path) -> Result<Option<Vec<PepperId>>, OpenError> {
    let file = |source| OpenError::File { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(file)?;
    if !absolute.try_exists().map_err(file)? {
        return Ok(None);
    }
    let wrap = |error| sqlite_error(path, error);
    let beside = |suffix: &str| {
        let mut name = absolute.clone().into_os_string();
        name.push(suffix);
        Path::new(&name).exists()
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if beside("-wal") {
        Connection::open_with_flags(&absolute, flags)
    } else {
        // Nobody has it open and all of it is in the file: read so, because SQLite would make the log and its index.
        Connection::open_with_flags(immutable(&absolute), flags | OpenFlags::SQLITE_OPEN_URI)
    }
    .map_err(wrap)?;
    connection.busy_timeout(Duration::from_secs(1)).map_err(wrap)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(wrap)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(wrap)?;
    let transaction = connection.unchecked_transaction().map_err(wrap)?;
    if schema_of(&transaction, path)? == 0 {
        return Ok(Some(Vec::new()));
    }
    let known = peppers::known(&transaction);
    known.map(Some).map_err(|error| OpenError::Sqlite { path: path.to_owned(), source: Box::new(error) })
}

/// The address of a file that SQLite is to take as one that does not change.
fn immutable(path: &Path) -> String {
    let mut address = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            address.push(char::from(*byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    address + "?immutable=1"
}

/// Creates the file, if there is none, for its owner only. SQLite gives the log beside it the same mode.
///
/// A file that exists is not opened here: closing it again would let go of all locks that SQLite holds on it elsewhere in this
/// process, which is how POSIX locks work and how files get corrupted. For the same reason one thread at a time creates.
fn create(path: &Path) -> std::io::Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// Turns the write-ahead log on, and returns the journal mode that the file has then.
///
/// Of several who do that to a new file at once, SQLite refuses all but one without waiting; they wait for the lock and then find
/// it done.
fn use_log(connection: &Connection) -> rusqlite::Result<String> {
    const ATTEMPTS: usize = 100;
    let switch = || connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
    let mut outcome = switch();
    for _ in 1..ATTEMPTS {
        let busy = outcome.as_ref().err().and_then(rusqlite::Error::sqlite_error_code)
            == Some(ErrorCode::DatabaseBusy);
        if !busy {
            break;
        }
        connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
        outcome = switch();
    }
    outcome
}

fn open(path: &Path, mode: OpenFlags, setup: Setup) -> rusqlite::Result<Connection> {
    // Without SQLITE_OPEN_URI, so that no file name is taken for a set of options. One thread at a time uses a connection.
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(setup.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(64);
    // A file that somebody else wrote may hold a hostile schema; it can neither call functions nor be edited.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -i64::from(setup.cache_kib))?;
    Ok(connection)
}

fn configure_writer(connection: &Connection) -> rusqlite::Result<()> {
    // A commit returns once its log is on the disk. NORMAL would lose the last commits, logouts among them, with the power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On macOS a plain fsync stops at the drive's cache; elsewhere these do nothing.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL_SIZE_LIMIT)?;
    // What ended is overwritten with zeros where that costs no further page.
    connection.pragma_update(None, "secure_delete", "FAST")
}

/// The schema version of a file that is ours, 0 for an empty one; anything else is refused.
fn schema_of(connection: &Connection, path: &Path) -> Result<i32, OpenError> {
    let number = |sql: &str| {
        connection.query_row(sql, [], |row| row.get::<_, i32>(0)).map_err(|error| sqlite_error(path, error))
    };
    let application_id = number("PRAGMA application_id")?;
    let schema = number("PRAGMA user_version")?;
    let objects = number("SELECT count(*) FROM sqlite_schema")?;
    if (application_id, schema, objects) == (0, 0, 0) {
        return Ok(0);
    }
    if application_id != APPLICATION_ID || schema < 1 {
        return Err(OpenError::Foreign { path: path.to_owned(), application_id, schema });
    }
    if schema > SCHEMA {
        return Err(OpenError::Newer { path: path.to_owned(), found: schema, known: SCHEMA });
    }
    Ok(schema)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let wrap = |error| sqlite_error(path, error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrap)?;
    // Read again under the lock: another process may have been faster.
    let from = schema_of(&transaction, path)?;
    if from < SCHEMA {
        for migration in MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(0)) {
            transaction.execute_batch(migration).map_err(wrap)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(wrap)?;
        transaction.pragma_update(None, "user_version", SCHEMA).map_err(wrap)?;
    }
    transaction.commit().map_err(wrap)
}

fn sqlite_error(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    if is_not_a_database(&error) {
        return OpenError::NotADatabase { path };
    }
    OpenError::Sqlite { path, source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETUP: Setup = Setup { busy_timeout: Duration::from_secs(1), cache_kib: 512 };

    fn number(connection: &Connection, pragma: &str) -> i64 {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn every_commit_is_flushed_to_the_disk() {
        let directory = tempfile::TempDir::new().unwrap();
        let writer = open_writer(&directory.path().join("sessions.db"), SETUP).unwrap();
        let full = 2;
        assert_eq!(number(&writer, "synchronous"), full);
        assert_eq!(number(&writer, "fullfsync"), 1);
        assert_eq!(number(&writer, "checkpoint_fullfsync"), 1);
        assert_eq!(number(&writer, "wal_autocheckpoint"), CHECKPOINT_PAGES);
        assert_eq!(number(&writer, "journal_size_limit"), JOURNAL_SIZE_LIMIT);
        assert_eq!(number(&writer, "trusted_schema"), 0);
    }

    #[test]
    fn a_reader_cannot_write() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("sessions.db");
        let _writer = open_writer(&path, SETUP).unwrap();
        let reader = open_reader(&path, SETUP).unwrap();
        assert_eq!(number(&reader, "user_version"), i64::from(SCHEMA));
        assert!(reader.execute("DELETE FROM sessions", []).is_err());
        assert_eq!(number(&reader, "cache_size"), -512);
    }

    #[test]
    fn sqlite_with_the_bug_in_resetting_its_log_is_too_old() {
        assert!(is_too_old(3_051_002));
        assert!(!is_too_old(3_051_003));
        assert!(!is_too_old(rusqlite::version_number()));
    }

    #[test]
    fn a_migration_that_stops_halfway_leaves_nothing_behind() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("sessions.db");
        let mut connection = Connection::open(&path).unwrap();
        {
            // What `migrate` does, up to the moment before its commit.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
            transaction.execute_batch(MIGRATIONS[0]).unwrap();
            transaction.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        }
        assert_eq!(schema_of(&connection, &path).unwrap(), 0);
        migrate(&mut connection, &path).unwrap();
        assert_eq!(schema_of(&connection, &path).unwrap(), SCHEMA);
        migrate(&mut connection, &path).unwrap();
    }
}
