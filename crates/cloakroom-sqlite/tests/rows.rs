//! What is in the rows: the sweeper's index, and rows that cannot be read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking"
)]

mod support;

use std::time::Duration;

use cloakroom_core::client::Client;
use cloakroom_core::clock::Timestamp;
use cloakroom_core::lifecycle::establish::Draft;
use cloakroom_core::record::Record;
use cloakroom_core::seal::Pepper;
use cloakroom_core::store::{
    Admission, AtCap, BySubject, Cap, Epoch, Found, Inserted, Reason, Store, StoreErrorKind, Sweep,
    SweepLimits,
};
use cloakroom_sqlite::SqliteStore;
use cloakroom_testkit::{SeededEntropy, block_on};
use support::*;

const LIMITS: SweepLimits = SweepLimits {
    batch: 100,
    tombstone_ttl: Duration::from_secs(3600),
    epoch_ttl: Duration::from_secs(200_000),
};

fn opened(records: &[Record]) -> (Place, SqliteStore) {
    let place = Place::new();
    let store = place.open();
    for record in records {
        assert_eq!(block_on(store.insert(record.clone(), admission())).unwrap(), admitted());
    }
    (place, store)
}

fn check_at(place: &Place, record: &Record) -> Timestamp {
    let sql = "SELECT check_at FROM sessions WHERE handle = ?1";
    let millis: i64 = place.connect().query_row(sql, [record.handle().as_bytes()], |row| row.get(0)).unwrap();
    Timestamp::from_millis(millis.try_into().unwrap())
}

fn damage(place: &Place, record: &Record, change: &str) {
    let sql = format!("UPDATE sessions SET {change} WHERE handle = ?1");
    assert_eq!(place.connect().execute(&sql, [record.handle().as_bytes()]).unwrap(), 1);
}

#[test]
fn a_touch_leaves_the_sweepers_index_alone_and_the_sweeper_moves_it() {
    let record = sessions(None, 1, 1).remove(0);
    let (place, store) = opened(std::slice::from_ref(&record));
    let deadline = record.deadline().0;
    assert_eq!(check_at(&place, &record), deadline);
    let later = NOW.plus(Duration::from_secs(1000));
    block_on(store.touch(record.handle(), later)).unwrap();
    assert_eq!(check_at(&place, &record), deadline);
    block_on(store.replace(record.version(), record.clone())).unwrap();
    assert_eq!(check_at(&place, &record), deadline);
    let report = block_on(store.sweep(deadline, LIMITS)).unwrap();
    assert_eq!(report.swept, []);
    assert_eq!(check_at(&place, &record), later.plus(record.idle_limit()));
}

#[test]
fn a_session_whose_limits_were_shortened_is_swept_by_the_new_ones() {
    let record = sessions(None, 1, 7).remove(0);
    let (place, store) = opened(std::slice::from_ref(&record));
    let idle = Duration::from_secs(60);
    let body = Draft {
        subject: None,
        created: NOW,
        idle,
        absolute: Duration::from_secs(86_400),
        client: Client::default(),
        data: Vec::new(),
    };
    let (body, _) = body.seal(&Pepper::new(&[3; 32]).unwrap(), &SeededEntropy::new(8)).unwrap();
    let shorter =
        Record::decode(record.handle(), record.version(), record.seen(), &body.encode().unwrap()).unwrap();
    block_on(store.replace(record.version(), shorter)).unwrap();
    assert_eq!(check_at(&place, &record), NOW.plus(idle));
    assert_eq!(block_on(store.sweep(NOW.plus(idle), LIMITS)).unwrap().swept.len(), 1);
}

#[test]
fn a_row_that_cannot_be_read_is_corrupt_and_never_absent() {
    let broken = [
        "body = x''",
        "body = x'01'",
        "body = zeroblob(40)",
        // A format of the future.
        "body = CAST(x'63' || substr(body, 2) AS BLOB)",
        "body = substr(body, 1, length(body) - 1)",
        "body = CAST(body || x'00' AS BLOB)",
        "seen = -1",
        // A tombstone by its mark, a session by its body, and so neither.
        "ended = 1",
    ];
    for (seed, change) in (10..).zip(broken) {
        let record = sessions(Some(&alice()), 1, seed).remove(0);
        let (place, store) = opened(std::slice::from_ref(&record));
        damage(&place, &record, change);
        let error = block_on(store.find(record.handle())).unwrap_err();
        assert_eq!((error.kind(), error.may_retry()), (StoreErrorKind::Corrupt, false), "{change}");
    }
}

#[test]
fn no_operation_passes_over_a_session_that_it_cannot_read_in_silence() {
    let records = sessions(Some(&alice()), 2, 2);
    let (place, store) = opened(&records);
    damage(&place, &records[0], "body = x'01'");
    block_on(async {
        let corrupt =
            |error: cloakroom_core::store::StoreError| assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        corrupt(store.list(&alice()).await.unwrap_err());
        corrupt(store.remove(records[0].handle(), Reason::Revoked, NOW).await.unwrap_err());
        // Each of them failed as a whole.
        assert_eq!(store.epoch(&alice()).await.unwrap(), Epoch::default());
        assert_eq!(store.find(records[1].handle()).await.unwrap(), Found::Live(records[1].clone()));
        corrupt(store.find(records[0].handle()).await.unwrap_err());
    });
}

#[test]
fn r069_a_session_that_cannot_be_read_makes_room_like_any_other() {
    let records = sessions(Some(&alice()), 1, 2);
    let (place, store) = opened(&records);
    damage(&place, &records[0], "body = x'01'");
    block_on(async {
        let cap = Some(Cap { max: 1, at_cap: AtCap::EvictOldest });
        let new = sessions(Some(&alice()), 1, 3).remove(0);
        let inserted = store.insert(new.clone(), Admission { cap, ..admission() }).await.unwrap();
        assert_eq!(inserted, Inserted::Inserted { evicted: vec![records[0].handle()] });
        assert_eq!(store.find(new.handle()).await.unwrap(), Found::Live(new));
        assert!(matches!(store.find(records[0].handle()).await.unwrap(), Found::Ended(_)));
    });
}

#[test]
fn r058_a_session_that_cannot_be_read_is_ended_with_all_others_of_its_subject() {
    let records = sessions(Some(&alice()), 2, 2);
    let (place, store) = opened(&records);
    damage(&place, &records[0], "body = x'01'");
    block_on(async {
        let removed = store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap();
        assert_eq!(removed.ended.len(), 2);
        for record in &records {
            let Found::Ended(tombstone) = store.find(record.handle()).await.unwrap() else { panic!("alive") };
            assert_eq!((tombstone.reason(), tombstone.at()), (Reason::RevokedAll, NOW));
        }
    });
}

#[test]
fn a_session_indexed_under_another_subject_is_corrupt() {
    let record = sessions(Some(&alice()), 1, 4).remove(0);
    let (place, store) = opened(std::slice::from_ref(&record));
    damage(&place, &record, "subject = 'bob'");
    let bob = cloakroom_core::record::Subject::new("bob").unwrap();
    assert_eq!(block_on(store.list(&bob)).unwrap_err().kind(), StoreErrorKind::Corrupt);
}

#[test]
fn a_sweep_reports_a_session_it_cannot_read_and_then_goes_on_with_the_others() {
    let records = sessions(None, 3, 5);
    let (place, store) = opened(&records);
    damage(&place, &records[0], "body = x'01'");
    let late = NOW.plus(Duration::from_secs(7200));
    let error = block_on(store.sweep(late, LIMITS)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    let report = block_on(store.sweep(late, LIMITS)).unwrap();
    assert_eq!(report.swept.len(), 2);
    assert_eq!(block_on(store.find(records[0].handle())).unwrap_err().kind(), StoreErrorKind::Corrupt);
    // It is looked at again, and reported again.
    let later = late.plus(Duration::from_secs(3600));
    assert!(block_on(store.sweep(later, LIMITS)).is_err());
}

#[test]
fn a_tombstone_holds_no_subject_and_no_data() {
    let record = sessions(Some(&alice()), 1, 6).remove(0);
    let (place, store) = opened(std::slice::from_ref(&record));
    block_on(store.remove(record.handle(), Reason::LoggedOut, NOW)).unwrap();
    let sql = "SELECT subject IS NULL AND seen = 0 AND created = 0 AND idle_ms = 0 AND absolute = 0, length(body) FROM sessions";
    let (bare, length): (bool, u32) =
        place.connect().query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert!(bare);
    assert!(length < 40, "a tombstone of {length} bytes");
}

#[test]
fn the_queries_use_their_indexes() {
    let (place, _store) = opened(&[]);
    let raw = place.connect();
    let plan = |sql: &str| -> String {
        let mut statement = raw.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>("detail")).unwrap();
        rows.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
    };
    for (sql, index) in [
        ("SELECT body FROM sessions WHERE handle = x'00'", "sessions_by_handle"),
        ("SELECT body FROM sessions WHERE subject = 'a'", "sessions_by_subject"),
        (
            "SELECT handle FROM sessions WHERE ended = 0 AND check_at <= 5 ORDER BY check_at LIMIT 3",
            "sessions_by_check",
        ),
        ("SELECT rowid FROM sessions WHERE ended = 1 AND check_at < 5 LIMIT 3", "sessions_by_check"),
        ("SELECT rowid FROM epochs WHERE at < 5 LIMIT 3", "epochs_by_time"),
    ] {
        let plan = plan(sql);
        assert!(
            plan.starts_with("SEARCH") && plan.contains(index) && !plan.contains("SORT"),
            "{sql}: {plan}"
        );
    }
}
