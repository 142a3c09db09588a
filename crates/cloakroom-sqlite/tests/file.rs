//! Which files are opened, how they are made, and what is found in one that was opened before.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking"
)]

mod support;

use std::error::Error as _;
use std::fs;

use cloakroom_core::store::{BySubject, Fault, Found, Reason, Store};
use cloakroom_sqlite::{OpenError, SqliteStore};
use cloakroom_testkit::block_on;
use rusqlite::Connection;
use support::*;

fn refusal(place: &Place) -> OpenError {
    SqliteStore::open(place.path()).expect_err("the file was opened")
}

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn everything_is_found_again_after_reopening() {
    let place = Place::new();
    let [kept, ended] = <[_; 2]>::try_from(sessions(Some(&alice()), 2, 1)).unwrap();
    let store = place.open();
    let epoch = block_on(async {
        store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap();
        let epoch = store.epoch(&alice()).await.unwrap();
        let admission = cloakroom_core::store::Admission { since: epoch, ..admission() };
        for record in [&kept, &ended] {
            assert_eq!(store.insert(record.clone(), admission).await.unwrap(), admitted());
        }
        store.remove(ended.handle(), Reason::LoggedOut, NOW).await.unwrap();
        epoch
    });
    drop(store);
    let files: Vec<_> = fs::read_dir(place.path().parent().unwrap()).unwrap().collect();
    assert_eq!(files.len(), 1, "a clean end leaves one file: {files:?}");
    let store = place.open();
    block_on(async {
        assert_eq!(store.find(kept.handle()).await.unwrap(), Found::Live(kept));
        assert!(matches!(store.find(ended.handle()).await.unwrap(), Found::Ended(_)));
        assert_eq!(store.epoch(&alice()).await.unwrap(), epoch);
    });
}

#[test]
fn a_new_file_is_marked_as_ours_and_keeps_a_durable_log() {
    let place = Place::new();
    let store = place.open();
    let raw = place.connect();
    assert_eq!(number(&raw, "PRAGMA application_id"), 0x436c_6b72);
    assert_eq!(number(&raw, "PRAGMA user_version"), 1);
    let mode: String = raw.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    drop(store);
}

/// The figures of schema 1, for ever: a file of this version must open in every later one.
#[test]
fn the_schema_has_the_shape_it_was_released_with() {
    let place = Place::new();
    drop(place.open());
    let raw = place.connect();
    let names = |sql: &str| -> Vec<String> {
        let mut statement = raw.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(
        names("SELECT name FROM pragma_table_info('sessions') ORDER BY cid"),
        [
            "id", "handle", "ended", "subject", "version", "seen", "created", "idle_ms", "absolute",
            "check_at", "body"
        ]
    );
    assert_eq!(
        names("SELECT name FROM pragma_table_info('epochs') ORDER BY cid"),
        ["subject", "epoch", "at"]
    );
}

#[cfg(unix)]
#[test]
fn a_new_file_and_its_log_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    let store = place.open();
    block_on(store.insert(sessions(None, 1, 2).remove(0), admission())).unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(place.path().parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        seen += 1;
    }
    assert_eq!(seen, 3, "the file, its log and the log's index");
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_as_it_is() {
    let place = Place::new();
    drop(place.open());
    // Out of the log and into the file, so that its bytes can be compared.
    let raw = place.connect();
    raw.execute_batch("PRAGMA user_version = 7; PRAGMA journal_mode = DELETE").unwrap();
    drop(raw);
    let before = fs::read(place.path()).unwrap();
    let error = refusal(&place);
    assert!(matches!(error, OpenError::Newer { found: 7, known: 1, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("was written by a newer version (schema 7; this version knows 1)"), "{text}");
    assert!(text.contains("sessions.db"), "{text}");
    assert_eq!((error.fault(), error.may_retry()), (Fault::Setup, false));
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[test]
fn a_file_of_another_application_is_refused_and_left_as_it_is() {
    let marks = [
        "PRAGMA application_id = 99",
        "PRAGMA user_version = 1",
        "CREATE TABLE notes (text TEXT)",
        "PRAGMA application_id = 99; PRAGMA user_version = 1; CREATE TABLE sessions (handle BLOB)",
    ];
    for mark in marks {
        let place = Place::new();
        place.connect().execute_batch(mark).unwrap();
        let before = fs::read(place.path()).unwrap();
        let error = refusal(&place);
        assert!(matches!(error, OpenError::Foreign { .. }), "{mark}: {error:?}");
        assert!(error.to_string().contains("another application"), "{error}");
        assert_eq!(fs::read(place.path()).unwrap(), before, "{mark}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let place = Place::new();
    let garbage = b"dear diary, ".repeat(1000);
    fs::write(place.path(), &garbage).unwrap();
    let error = refusal(&place);
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error:?}");
    assert!(error.to_string().contains("is not an SQLite database"), "{error}");
    assert_eq!(fs::read(place.path()).unwrap(), garbage);
}

#[test]
fn an_empty_file_becomes_a_store() {
    let place = Place::new();
    fs::write(place.path(), b"").unwrap();
    drop(place.open());
    drop(place.open());
}

#[test]
fn a_directory_that_is_not_there_is_an_error_with_its_cause() {
    let place = Place::new();
    let error = SqliteStore::open(place.path().join("missing").join("sessions.db")).err().unwrap();
    assert!(matches!(error, OpenError::File { .. }), "{error:?}");
    assert!(error.source().is_some());
}

#[test]
fn several_openers_of_a_new_file_all_succeed_and_see_each_other() {
    let place = Place::new();
    let barrier = std::sync::Barrier::new(4);
    let records = sessions(None, 4, 3);
    let stores: Vec<SqliteStore> = std::thread::scope(|scope| {
        let (place, barrier) = (&place, &barrier);
        let threads: Vec<_> = records
            .iter()
            .map(|record| {
                scope.spawn(move || {
                    barrier.wait();
                    let store = place.open();
                    block_on(store.insert(record.clone(), admission())).unwrap();
                    store
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for store in &stores {
        for record in &records {
            assert_eq!(block_on(store.find(record.handle())).unwrap(), Found::Live(record.clone()));
        }
    }
}
