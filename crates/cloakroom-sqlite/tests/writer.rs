//! The writer's thread: groups, callers that go away, queues that fill up, and readers beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking"
)]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{RECORD_MAX, Record};
use cloakroom_core::store::{
    Admission, AtCap, BySubject, Cap, Found, Inserted, Reason, Replaced, Store, StoreErrorKind,
};
use cloakroom_core::token::Handle;
use cloakroom_sqlite::{SqliteOptions, SqliteStore};
use cloakroom_testkit::block_on;
use support::*;

type Insert<'store> =
    Pin<Box<dyn Future<Output = Result<Inserted, cloakroom_core::store::StoreError>> + Send + 'store>>;

/// Begins an insert and polls it once, which queues it.
fn begin<'store>(store: &'store SqliteStore, record: &Record) -> Insert<'store> {
    let mut insert: Insert<'store> = Box::pin(store.insert(record.clone(), admission()));
    assert!(insert.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    insert
}

type Touch<'store> =
    Pin<Box<dyn Future<Output = Result<(), cloakroom_core::store::StoreError>> + Send + 'store>>;

/// Begins a touch and polls it once, which queues it.
fn touch(store: &SqliteStore, handle: Handle, seen: Timestamp) -> Touch<'_> {
    let mut touch: Touch<'_> = Box::pin(store.touch(handle, seen));
    assert!(touch.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    touch
}

#[test]
fn writes_that_arrive_together_share_a_commit() {
    let place = Place::new();
    let store = place.open();
    let before = store.stats();
    // While another process holds the lock, one write (or more) waits for it and all others queue up behind.
    let lock = place.lock();
    let records = sessions(None, 64, 1);
    let inserts: Vec<_> = records.iter().map(|record| begin(&store, record)).collect();
    lock.execute_batch("COMMIT").unwrap();
    for insert in inserts {
        assert_eq!(block_on(insert).unwrap(), admitted());
    }
    let after = store.stats();
    assert_eq!(after.operations - before.operations, 64);
    let commits = after.commits - before.commits;
    assert!((1..=2).contains(&commits), "64 writes took {commits} commits");
    for record in &records {
        assert_eq!(block_on(store.find(record.handle())).unwrap(), Found::Live(record.clone()));
    }
}

#[test]
fn a_group_is_no_larger_than_its_limit() {
    let place = Place::new();
    let store = place.open_with(SqliteOptions::new().group(1));
    let lock = place.lock();
    let inserts: Vec<_> = sessions(None, 8, 2).iter().map(|record| begin(&store, record)).collect();
    lock.execute_batch("COMMIT").unwrap();
    for insert in inserts {
        block_on(insert).unwrap();
    }
    assert_eq!((store.stats().commits, store.stats().operations), (8, 8));
}

#[test]
fn nothing_is_answered_before_it_is_committed() {
    let place = Place::new();
    let store = place.open();
    let lock = place.lock();
    let record = sessions(None, 1, 3).remove(0);
    let mut insert = begin(&store, &record);
    assert!(insert.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(block_on(store.find(record.handle())).unwrap(), Found::Absent);
    lock.execute_batch("COMMIT").unwrap();
    assert_eq!(block_on(insert).unwrap(), admitted());
}

#[test]
fn a_caller_that_goes_away_does_not_take_back_what_it_queued() {
    let place = Place::new();
    let store = place.open();
    let records = sessions(None, 2, 4);
    let lock = place.lock();
    drop(begin(&store, &records[0]));
    lock.execute_batch("COMMIT").unwrap();
    // The queue is in order: when the second is answered, the first is done.
    block_on(store.insert(records[1].clone(), admission())).unwrap();
    assert_eq!(block_on(store.find(records[0].handle())).unwrap(), Found::Live(records[0].clone()));
}

#[test]
fn a_future_that_was_never_polled_has_done_nothing() {
    let place = Place::new();
    let store = place.open();
    let records = sessions(None, 2, 5);
    drop(store.insert(records[0].clone(), admission()));
    block_on(store.insert(records[1].clone(), admission())).unwrap();
    assert_eq!(block_on(store.find(records[0].handle())).unwrap(), Found::Absent);
}

#[test]
fn dropping_the_last_handle_finishes_what_is_queued() {
    let place = Place::new();
    let store = place.open_with(SqliteOptions::new().group(1));
    let records = sessions(None, 16, 6);
    let lock = place.lock();
    for record in &records {
        drop(begin(&store, record));
    }
    lock.execute_batch("COMMIT").unwrap();
    drop(store);
    let store = place.open();
    for record in &records {
        assert_eq!(block_on(store.find(record.handle())).unwrap(), Found::Live(record.clone()));
    }
}

#[test]
fn a_full_queue_refuses_at_once_and_stores_nothing_of_it() {
    let place = Place::new();
    let store = place.open_with(SqliteOptions::new().queue(2).group(1));
    let lock = place.lock();
    let records = sessions(None, 8, 7);
    let mut queued = Vec::new();
    let mut refused = Vec::new();
    for record in &records {
        let mut insert: Insert<'_> = Box::pin(store.insert(record.clone(), admission()));
        match insert.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => queued.push((record, insert)),
            Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), StoreErrorKind::Unavailable);
                assert!(error.may_retry());
                refused.push(record);
            }
            Poll::Ready(Ok(answer)) => panic!("answered without a commit: {answer:?}"),
        }
    }
    // Two in the queue, and at most one more that the writer has taken out.
    assert!((2..=3).contains(&queued.len()), "{} were queued", queued.len());
    lock.execute_batch("COMMIT").unwrap();
    for (record, insert) in queued {
        assert_eq!(block_on(insert).unwrap(), admitted());
        assert_eq!(block_on(store.find(record.handle())).unwrap(), Found::Live(record.clone()));
    }
    for record in refused {
        assert_eq!(block_on(store.find(record.handle())).unwrap(), Found::Absent);
    }
}

#[test]
fn reads_do_not_wait_for_a_writer_that_holds_the_lock() {
    let place = Place::new();
    let store = place.open();
    let record = sessions(Some(&alice()), 1, 8).remove(0);
    block_on(store.insert(record.clone(), admission())).unwrap();
    let lock = place.lock();
    lock.execute_batch("UPDATE sessions SET version = 99").unwrap();
    // Were these to wait, they would wait for ever: the lock is let go after them.
    assert_eq!(block_on(store.find(record.handle())).unwrap(), Found::Live(record.clone()));
    assert_eq!(block_on(store.list(&alice())).unwrap(), [record]);
    assert_eq!(block_on(store.epoch(&alice())).unwrap().number(), 0);
    lock.execute_batch("ROLLBACK").unwrap();
}

#[test]
fn an_operation_that_fails_in_a_group_undoes_itself_and_not_its_neighbours() {
    let place = Place::new();
    let store = place.open();
    let old = sessions(Some(&alice()), 2, 9);
    for record in &old {
        block_on(store.insert(record.clone(), admission())).unwrap();
    }
    // The second session, by handle, that an evicting login would end cannot be changed.
    let mut handles = [old[0].handle(), old[1].handle()];
    handles.sort();
    let hex = handles[1].as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let trigger = format!(
        "CREATE TRIGGER refuse BEFORE UPDATE ON sessions WHEN old.handle = x'{hex}'
         BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
    );
    place.connect().execute_batch(&trigger).unwrap();

    let neighbours = sessions(None, 2, 10);
    let new = sessions(Some(&alice()), 1, 11).remove(0);
    let evicting = Admission { cap: Some(Cap { max: 1, at_cap: AtCap::EvictOldest }), ..admission() };
    let lock = place.lock();
    // One write that the writer may have taken already, so that the next three are in one group.
    let first = begin(&store, &sessions(None, 1, 12)[0]);
    let before = begin(&store, &neighbours[0]);
    let mut failing: Insert<'_> = Box::pin(store.insert(new.clone(), evicting));
    assert!(failing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let after = begin(&store, &neighbours[1]);
    let commits = store.stats().commits;
    lock.execute_batch("COMMIT").unwrap();
    block_on(first).unwrap();
    assert_eq!(block_on(before).unwrap(), admitted());
    assert!(block_on(failing).is_err());
    assert_eq!(block_on(after).unwrap(), admitted());
    assert!(store.stats().commits - commits <= 2);
    for record in &neighbours {
        assert_eq!(block_on(store.find(record.handle())).unwrap(), Found::Live(record.clone()));
    }
    assert_eq!(block_on(store.find(new.handle())).unwrap(), Found::Absent);
    // The first of the two had been evicted when the second turned out to be fixed.
    assert!(
        matches!(block_on(store.find(handles[0])).unwrap(), Found::Live(_)),
        "half an operation was committed"
    );
}

#[test]
fn a_lock_that_is_not_let_go_in_time_is_unavailable_and_nothing_is_stored() {
    let place = Place::new();
    let store = SqliteOptions::new().busy_timeout(std::time::Duration::ZERO).open(place.path()).unwrap();
    let record = sessions(None, 1, 13).remove(0);
    let lock = place.lock();
    let error = block_on(store.insert(record.clone(), admission())).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(std::error::Error::source(&error).is_some());
    lock.execute_batch("COMMIT").unwrap();
    assert_eq!(block_on(store.find(record.handle())).unwrap(), Found::Absent);
    assert_eq!(block_on(store.insert(record, admission())).unwrap(), admitted());
}

#[test]
fn a_commit_that_fails_fails_the_whole_group() {
    let place = Place::new();
    let store = place.open();
    let records = sessions(None, 3, 18);
    block_on(store.insert(records[0].clone(), admission())).unwrap();
    let raw = place.connect();
    // A constraint that is checked at the commit, and broken by every insert.
    raw.execute_batch(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TABLE child (parent INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
         CREATE TRIGGER break_commit AFTER INSERT ON sessions BEGIN INSERT INTO child VALUES (1); END",
    )
    .unwrap();
    let lock = place.lock();
    let handle = records[0].handle();
    let later = |secs| NOW.plus(std::time::Duration::from_secs(secs));
    // The writer may have taken this one already; the next two are in one group, with it or without it.
    let first = touch(&store, handle, later(1));
    let good = touch(&store, handle, later(2));
    let bad = begin(&store, &records[1]);
    lock.execute_batch("COMMIT").unwrap();
    let first = block_on(first).is_ok();
    assert_eq!(block_on(good).unwrap_err().kind(), StoreErrorKind::Unavailable);
    let error = block_on(bad).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let cause = std::error::Error::source(&error).and_then(std::error::Error::source).unwrap();
    assert!(cause.to_string().contains("FOREIGN KEY"), "{cause}");
    let Found::Live(found) = block_on(store.find(handle)).unwrap() else { panic!("gone") };
    assert_eq!(found.seen(), if first { later(1) } else { NOW });
    assert_eq!(block_on(store.find(records[1].handle())).unwrap(), Found::Absent);
    // The writer goes on.
    raw.execute_batch("DROP TRIGGER break_commit").unwrap();
    assert_eq!(block_on(store.insert(records[1].clone(), admission())).unwrap(), admitted());
}

#[test]
fn an_error_that_rolls_the_whole_transaction_back_leaves_no_false_answer() {
    let place = Place::new();
    let store = place.open();
    let records = sessions(None, 2, 14);
    block_on(store.insert(records[0].clone(), admission())).unwrap();
    let raw = place.connect();
    // A trigger is the nearest to a full disk that a test can have: it rolls the whole transaction back, as SQLite then does.
    raw.execute_batch(
        "CREATE TRIGGER full BEFORE INSERT ON sessions BEGIN SELECT RAISE(ROLLBACK, 'no room'); END",
    )
    .unwrap();
    let lock = place.lock();
    let first = begin(&store, &records[1]);
    let touch = touch(&store, records[0].handle(), NOW.plus(std::time::Duration::from_secs(9)));
    lock.execute_batch("COMMIT").unwrap();
    assert_eq!(block_on(first).unwrap_err().kind(), StoreErrorKind::Unavailable);
    // In the same group it failed with it, in a group of its own it succeeded: in either case the answer is true.
    let touched = block_on(touch).is_ok();
    let Found::Live(found) = block_on(store.find(records[0].handle())).unwrap() else { panic!("gone") };
    assert_eq!(found.seen() > NOW, touched);
    raw.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(block_on(store.insert(records[1].clone(), admission())).unwrap(), admitted());
}

#[test]
fn a_record_that_is_too_large_never_reaches_the_writer() {
    let place = Place::new();
    let store = place.open();
    let before = store.stats();
    let large = large();
    assert_eq!(
        block_on(store.insert(large.clone(), admission())).unwrap_err().kind(),
        StoreErrorKind::TooLarge
    );
    let version = large.version();
    assert_eq!(block_on(store.replace(version, large)).unwrap_err().kind(), StoreErrorKind::TooLarge);
    assert_eq!(store.stats(), before);
}

fn large() -> Record {
    let draft = cloakroom_core::lifecycle::establish::Draft {
        subject: None,
        created: NOW,
        idle: std::time::Duration::from_secs(1),
        absolute: std::time::Duration::from_secs(1),
        client: Default::default(),
        data: vec![0; RECORD_MAX + 1],
    };
    let pepper = cloakroom_core::seal::Pepper::new(&[3; 32]).unwrap();
    draft.seal(&pepper, &cloakroom_testkit::SeededEntropy::new(15)).unwrap().0
}

#[test]
fn the_subject_of_a_session_cannot_be_replaced() {
    let place = Place::new();
    let store = place.open();
    let mine = sessions(Some(&alice()), 1, 16).remove(0);
    block_on(store.insert(mine.clone(), admission())).unwrap();
    for other in [None, Some(cloakroom_core::record::Subject::new("bob").unwrap())] {
        let body = sessions(other.as_ref(), 1, 17).remove(0).encode().unwrap();
        let other = Record::decode(mine.handle(), mine.version(), mine.seen(), &body).unwrap();
        assert!(block_on(store.replace(mine.version(), other)).is_err());
        assert_eq!(block_on(store.find(mine.handle())).unwrap(), Found::Live(mine.clone()));
    }
    assert_eq!(block_on(store.remove(mine.handle(), Reason::LoggedOut, NOW)).unwrap(), Some(mine.clone()));
    assert_eq!(block_on(store.replace(mine.version(), mine)).unwrap(), Replaced::Gone);
}
