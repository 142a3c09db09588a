//! What is in the rows: the sweeper's index, the server's clock, and rows that cannot be read.

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
use cloakroom_core::policy::Policy;
use cloakroom_core::record::{Record, Subject};
use cloakroom_core::seal::Pepper;
use cloakroom_core::store::{
    Admission, AtCap, BySubject, Cap, Epoch, Figures, Found, Inserted, Reason, Replaced, Store,
    StoreErrorKind, Sweep,
};
use cloakroom_postgres::PostgresStore;
use cloakroom_testkit::SeededEntropy;
use cloakroom_testkit::servers::Postgres;
use support::*;

/// A store in a schema of its own, whose rows can be looked at.
struct Place {
    schema: String,
    store: PostgresStore,
}

impl Place {
    async fn with(records: &[Record]) -> Self {
        let schema = unique("rows");
        let (_, store) = fresh(|options| options.schema(&schema)).await;
        for record in records {
            assert_eq!(store.insert(record.clone(), admission()).await.unwrap(), admitted());
        }
        Self { schema, store }
    }

    fn sql(&self, text: &str) -> String {
        Postgres::shared().sql("postgres", &text.replace("{s}", &self.schema))
    }

    fn number(&self, record: &Record, column: &str) -> i64 {
        let handle = hex(record);
        self.sql(&format!("SELECT {column} FROM {{s}}.sessions WHERE handle = {handle}")).parse().unwrap()
    }

    fn check_at(&self, record: &Record) -> Timestamp {
        Timestamp::from_millis(self.number(record, "check_at").try_into().unwrap())
    }

    fn damage(&self, record: &Record, change: &str) {
        self.sql(&format!("UPDATE {{s}}.sessions SET {change} WHERE handle = {}", hex(record)));
    }
}

fn hex(record: &Record) -> String {
    let digits: String = record.handle().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("'\\x{digits}'::bytea")
}

#[test]
fn a_touch_leaves_the_sweepers_index_alone_and_the_sweeper_moves_it() {
    runtime().block_on(async {
        let record = session(None, 1);
        let place = Place::with(std::slice::from_ref(&record)).await;
        let deadline = record.deadline().0;
        assert_eq!(place.check_at(&record), deadline);
        let later = NOW.plus(Duration::from_secs(1000));
        place.store.touch(record.handle(), later).await.unwrap();
        assert_eq!(place.check_at(&record), deadline);
        place.store.replace(record.version(), record.clone()).await.unwrap();
        assert_eq!(place.check_at(&record), deadline);
        let report = place.store.sweep(deadline, limits(100)).await.unwrap();
        assert_eq!(report.swept, []);
        assert_eq!(place.check_at(&record), later.plus(record.idle_limit()));
    });
}

#[test]
fn a_session_whose_limits_were_shortened_is_swept_by_the_new_ones() {
    runtime().block_on(async {
        let record = session(None, 7);
        let place = Place::with(std::slice::from_ref(&record)).await;
        let idle = Duration::from_secs(60);
        let draft = Draft {
            subject: None,
            created: NOW,
            idle,
            absolute: Duration::from_secs(86_400),
            client: Client::default(),
            data: Vec::new(),
        };
        let (body, _) = draft.seal(&Pepper::new(&[3; 32]).unwrap(), &SeededEntropy::new(8)).unwrap();
        let shorter =
            Record::decode(record.handle(), record.version(), record.seen(), &body.encode().unwrap())
                .unwrap();
        place.store.replace(record.version(), shorter).await.unwrap();
        assert_eq!(place.check_at(&record), NOW.plus(idle));
        assert_eq!(place.store.sweep(NOW.plus(idle), limits(100)).await.unwrap().swept.len(), 1);
    });
}

#[test]
fn touches_and_ordinary_writes_touch_no_index() {
    runtime().block_on(async {
        let record = session(Some(&alice()), 1);
        let place = Place::with(std::slice::from_ref(&record)).await;
        for seconds in 1..=10 {
            place.store.touch(record.handle(), NOW.plus(Duration::from_secs(seconds))).await.unwrap();
        }
        let Found::Live(read) = place.store.find(record.handle()).await.unwrap() else { panic!("gone") };
        assert_eq!(place.store.replace(read.version(), read).await.unwrap(), Replaced::Replaced);
        let schema = place.schema.clone();
        // A connection hands its counts in when it is closed.
        drop(place);
        for _ in 0..10_000 {
            let counts = Postgres::shared().sql(
                "postgres",
                &format!("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = '{schema}' AND relname = 'sessions'"),
            );
            if counts != "0|0" {
                assert_eq!(counts, "11|11", "updates, and those of them without an index");
                return;
            }
        }
        panic!("the server did not count");
    });
}

#[test]
fn activity_is_never_later_than_the_servers_clock_allows() {
    runtime().block_on(async {
        let skew = Duration::from_secs(60);
        let far = NOW.plus(Duration::from_secs(1000 * 365 * 24 * 3600));
        let [touched, replaced] = <[_; 2]>::try_from(sessions(None, 2, 1)).unwrap();
        let place = Place::with(&[touched.clone(), replaced.clone()]).await;
        place.store.govern(Figures { clock_skew: skew, ..Policy::default().figures() });
        let ahead = {
            let (pepper, entropy) = (Pepper::new(&[3; 32]).unwrap(), SeededEntropy::new(9));
            let draft = Draft {
                subject: None,
                created: far,
                idle: Duration::from_secs(1800),
                absolute: Duration::from_secs(86_400),
                client: Client::default(),
                data: Vec::new(),
            };
            draft.seal(&pepper, &entropy).unwrap().0
        };
        let before = place.store.time().await.unwrap().unwrap();
        place.store.touch(touched.handle(), far).await.unwrap();
        let next = replaced.clone().replacing(replaced.version(), far);
        place.store.replace(replaced.version(), next).await.unwrap();
        place.store.insert(ahead.clone(), admission()).await.unwrap();
        let after = place.store.time().await.unwrap().unwrap();
        for record in [&touched, &replaced, &ahead] {
            let Found::Live(found) = place.store.find(record.handle()).await.unwrap() else { panic!("gone") };
            let seen = found.seen();
            assert!(before.plus(skew) <= seen && seen <= after.plus(skew), "{before} {seen} {after}");
            // Not later than it will really be due.
            assert!(place.check_at(record) <= found.deadline().0);
        }
        // What is within the skew is taken as it is, and the clamped value is not in its way.
        let near = after.plus(skew);
        let again = session(None, 2);
        place.store.insert(again.clone(), admission()).await.unwrap();
        place.store.touch(again.handle(), near).await.unwrap();
        let Found::Live(found) = place.store.find(again.handle()).await.unwrap() else { panic!("gone") };
        assert_eq!(found.seen(), near);
    });
}

#[test]
fn r070_a_row_that_cannot_be_read_is_corrupt_and_never_absent() {
    let broken = [
        "body = ''",
        "body = '\\x01'",
        "body = decode(repeat('00', 40), 'hex')",
        // A format of the future.
        "body = '\\x63' || substr(body, 2)",
        "body = substr(body, 1, octet_length(body) - 1)",
        "body = body || '\\x00'",
        "seen = -1",
        // A tombstone by its mark, a session by its body, and so neither.
        "ended = true",
    ];
    runtime().block_on(async {
        for (seed, change) in (10..).zip(broken) {
            let record = session(Some(&alice()), seed);
            let place = Place::with(std::slice::from_ref(&record)).await;
            place.damage(&record, change);
            let error = place.store.find(record.handle()).await.unwrap_err();
            assert_eq!((error.kind(), error.may_retry()), (StoreErrorKind::Corrupt, false), "{change}");
        }
    });
}

#[test]
fn no_operation_passes_over_a_session_that_it_cannot_read_in_silence() {
    runtime().block_on(async {
        let records = sessions(Some(&alice()), 2, 2);
        let place = Place::with(&records).await;
        place.damage(&records[0], "body = '\\x01'");
        let corrupt =
            |error: cloakroom_core::store::StoreError| assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        corrupt(place.store.list(&alice()).await.unwrap_err());
        corrupt(place.store.remove(records[0].handle(), Reason::Revoked, NOW).await.unwrap_err());
        // Each of them failed as a whole.
        assert_eq!(place.store.epoch(&alice()).await.unwrap(), Epoch::default());
        assert_eq!(place.store.find(records[1].handle()).await.unwrap(), Found::Live(records[1].clone()));
        corrupt(place.store.find(records[0].handle()).await.unwrap_err());
    });
}

#[test]
fn a_session_that_belongs_to_another_subject_than_it_seems_is_corrupt() {
    runtime().block_on(async {
        let records = sessions(Some(&alice()), 2, 4);
        let place = Place::with(&records).await;
        place.damage(&records[0], "subject = 'bob'");
        let bob = Subject::new("bob").unwrap();
        assert_eq!(place.store.list(&bob).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
        let error = place.store.replace(records[0].version(), records[0].clone()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        // Nothing was written.
        assert_eq!(place.number(&records[0], "version"), 1);
    });
}

#[test]
fn r069_a_session_that_cannot_be_read_makes_room_like_any_other() {
    runtime().block_on(async {
        let record = session(Some(&alice()), 2);
        let place = Place::with(std::slice::from_ref(&record)).await;
        place.damage(&record, "body = '\\x01'");
        let cap = Some(Cap { max: 1, at_cap: AtCap::EvictOldest });
        let new = session(Some(&alice()), 3);
        let inserted = place.store.insert(new.clone(), Admission { cap, ..admission() }).await.unwrap();
        assert_eq!(inserted, Inserted::Inserted { evicted: vec![record.handle()] });
        assert_eq!(place.store.find(new.handle()).await.unwrap(), Found::Live(new));
        assert!(matches!(place.store.find(record.handle()).await.unwrap(), Found::Ended(_)));
    });
}

#[test]
fn r058_a_session_that_cannot_be_read_is_ended_with_all_others_of_its_subject() {
    runtime().block_on(async {
        let records = sessions(Some(&alice()), 2, 2);
        let place = Place::with(&records).await;
        place.damage(&records[0], "body = '\\x01'");
        let removed = place.store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap();
        assert_eq!(removed.ended.len(), 2);
        for record in &records {
            let Found::Ended(tombstone) = place.store.find(record.handle()).await.unwrap() else {
                panic!("alive")
            };
            assert_eq!((tombstone.reason(), tombstone.at()), (Reason::RevokedAll, NOW));
        }
    });
}

#[test]
fn a_sweep_reports_a_session_it_cannot_read_and_then_goes_on_with_the_others() {
    runtime().block_on(async {
        let records = sessions(None, 3, 5);
        let place = Place::with(&records).await;
        place.damage(&records[0], "body = '\\x01'");
        let late = NOW.plus(Duration::from_secs(7200));
        let error = place.store.sweep(late, limits(100)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        let report = place.store.sweep(late, limits(100)).await.unwrap();
        assert_eq!(report.swept.len(), 2);
        assert_eq!(place.store.find(records[0].handle()).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
        // It is looked at again, and reported again.
        let later = late.plus(Duration::from_secs(3600));
        assert!(place.store.sweep(later, limits(100)).await.is_err());
    });
}

#[test]
fn a_tombstone_holds_no_subject_and_no_data() {
    runtime().block_on(async {
        let record = session(Some(&alice()), 6);
        let place = Place::with(std::slice::from_ref(&record)).await;
        place.store.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap();
        let row = place.sql(
            "SELECT subject IS NULL AND (version, seen, created, idle_ms, absolute) = (0, 0, 0, 0, 0),
                octet_length(body) < 40 FROM {s}.sessions",
        );
        assert_eq!(row, "t|t");
    });
}

/// The figures of schema 1, for ever: a database of this version must be usable by every later one.
#[test]
fn the_schema_has_the_shape_it_was_released_with() {
    runtime().block_on(async {
        let place = Place::with(&[]).await;
        let columns = place.sql(
            "SELECT table_name, string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position)
             FROM information_schema.columns WHERE table_schema = '{s}' GROUP BY 1 ORDER BY 1",
        );
        assert_eq!(
            columns,
            "epochs|subject bytea, epoch bigint, at bigint\n\
             meta|name text, value text\n\
             peppers|id bytea\n\
             sessions|handle bytea, ended boolean, subject bytea, version bigint, seen bigint, created bigint, \
             idle_ms bigint, absolute bigint, check_at bigint, body bytea"
        );
    });
}
