use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Version};
use cloakroom_core::store::{AtCap, Found, Inserted, Reason, Replaced, Store as _};

use super::*;

/// A session comes back as it went in, to the byte.
pub fn a_session_is_found_exactly_as_it_was_inserted<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let anonymous = maker.session(None, at(0));
        let alice = maker.session(Some(&subject("alice")), at(1));
        // A record need not be new when it is inserted.
        let older = maker.session(Some(&subject("alice")), at(1)).replacing(Version::from_number(6), at(40));
        let older = under(&older, &alice);
        for record in [&anonymous, &alice, &older] {
            put(store, record).await;
        }
        for record in [&anonymous, &alice, &older] {
            assert_live(store, record).await;
        }
    });
}

/// A handle that was never used is absent, whatever its bytes.
pub fn an_unknown_handle_is_absent<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        put(store, &maker.session(None, at(0))).await;
        for handle in
            [maker.session(None, at(0)).handle(), Handle::from_bytes([0; 16]), Handle::from_bytes([255; 16])]
        {
            assert_eq!(find(store, handle).await, Found::Absent);
        }
    });
}

/// Creation is insert-if-absent: the session that has the handle stays as it is.
pub fn r001_a_taken_handle_is_never_given_to_another_session<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let first = maker.session(Some(&alice), at(0));
        put(store, &first).await;
        let same_subject = maker.variant(&first, b"other");
        let other_subject = under(&first, &maker.session(Some(&subject("bob")), at(0)));
        let anonymous = under(&first, &maker.session(None, at(0)));
        for second in [same_subject, other_subject, anonymous] {
            // An evicting cap must not make room for a session that cannot come in.
            let admission = capped(at(1), 1, AtCap::EvictOldest);
            let answer = store.insert(second, admission).await.expect("insert");
            assert_eq!(answer, Inserted::HandleTaken);
            assert_live(store, &first).await;
            assert_eq!(listed(store, &alice).await, [first.handle()]);
            assert_eq!(listed(store, &subject("bob")).await, []);
        }
    });
}

/// A tombstone holds its handle.
pub fn r001_the_handle_of_an_ended_session_is_not_given_out_again<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let first = maker.session(None, at(0));
        put(store, &first).await;
        store.remove(first.handle(), Reason::LoggedOut, at(1)).await.expect("remove");
        let second = maker.variant(&first, b"other");
        let answer = store.insert(second, open_door(at(2))).await.expect("insert");
        assert_eq!(answer, Inserted::HandleTaken);
        assert_ended(store, &first, Reason::LoggedOut, at(1)).await;
    });
}

/// A compare-and-swap that fits stores the record with the next version.
pub fn a_replace_of_the_expected_version_stores_the_next<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let mut record = maker.session(Some(&subject("alice")), at(0));
        put(store, &record).await;
        for round in 0..5_u8 {
            let expected = record.version();
            let next = maker.variant(&record, &[round]);
            // The store counts: the version inside the given record is not what is stored.
            let answer = store.replace(expected, next.clone()).await.expect("replace");
            assert_eq!(answer, Replaced::Replaced);
            record = next.replacing(expected, at(0));
            assert_live(store, &record).await;
            assert_eq!(store.list(&subject("alice")).await.expect("list"), [record.clone()]);
        }
    });
}

/// A compare-and-swap that does not fit changes nothing (R-053: no lost update).
pub fn r053_a_replace_of_another_version_changes_nothing<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let record = maker.session(None, at(0));
        put(store, &record).await;
        let second = maker.variant(&record, b"second");
        store.replace(Version::FIRST, second.clone()).await.expect("replace");
        let stored = second.replacing(Version::FIRST, at(0));
        let late = maker.variant(&record, b"late").replacing(Version::FIRST, at(9));
        for expected in [0, 1, 3, u64::MAX] {
            let answer = store.replace(Version::from_number(expected), late.clone()).await.expect("replace");
            assert_eq!(answer, Replaced::Stale, "expected version {expected}, stored version 2");
            assert_live(store, &stored).await;
        }
    });
}

/// Gone is final: nothing revives a session that was removed.
pub fn r060_a_late_write_never_revives_a_removed_session<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let record = maker.session(Some(&alice), at(0));
        put(store, &record).await;
        store.remove(record.handle(), Reason::Revoked, at(5)).await.expect("remove");
        for expected in [0, 1, 2] {
            let late = maker.variant(&record, b"late").replacing(record.version(), at(10));
            let answer = store.replace(Version::from_number(expected), late).await.expect("replace");
            assert_eq!(answer, Replaced::Gone);
        }
        store.touch(record.handle(), at(10)).await.expect("touch");
        let answer = store.insert(record.clone(), open_door(at(10))).await.expect("insert");
        assert_eq!(answer, Inserted::HandleTaken);
        assert_ended(store, &record, Reason::Revoked, at(5)).await;
        assert_eq!(listed(store, &alice).await, []);
    });
}

/// Only an insert creates a session.
pub fn r060_a_replace_or_touch_never_creates_a_session<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let record = maker.session(Some(&alice), at(0));
        for expected in [0, 1] {
            let answer =
                store.replace(Version::from_number(expected), record.clone()).await.expect("replace");
            assert_eq!(answer, Replaced::Gone);
        }
        store.touch(record.handle(), at(1)).await.expect("touch");
        assert_eq!(find(store, record.handle()).await, Found::Absent);
        assert_eq!(listed(store, &alice).await, []);
    });
}

/// Activity only moves forward, and noting it does not disturb data writes.
pub fn a_touch_moves_activity_forward_only_and_leaves_the_version<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let record = maker.session(None, at(0));
        put(store, &record).await;
        for (touched, seen) in [(60, 60), (30, 60), (60, 60), (61, 61), (0, 61)] {
            store.touch(record.handle(), at(touched)).await.expect("touch");
            let Found::Live(found) = find(store, record.handle()).await else {
                panic!("the session is gone")
            };
            assert_eq!(found.seen(), at(seen), "after a touch at {touched} s");
            assert_eq!(found.version(), record.version());
        }
        store.touch(record.handle(), Timestamp::EPOCH).await.expect("touch");
        // Only the time of activity differs from what was inserted.
        let expected = Record::decode(record.handle(), record.version(), at(61), &record.encode().unwrap());
        assert_live(store, &expected.unwrap()).await;
    });
}

/// A replace keeps the later of the stored and the given activity.
pub fn a_replace_never_moves_activity_back<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let record = maker.session(None, at(0));
        put(store, &record).await;
        store.touch(record.handle(), at(90)).await.expect("touch");
        // Read before the touch, so its activity is the earlier one, and its version still fits.
        let slow = maker.variant(&record, b"slow");
        assert_eq!(store.replace(record.version(), slow.clone()).await.expect("replace"), Replaced::Replaced);
        let stored = slow.replacing(record.version(), at(90));
        assert_live(store, &stored).await;
        let later = stored.clone().replacing(stored.version(), at(200));
        let answer = store.replace(stored.version(), later.clone()).await.expect("replace");
        assert_eq!(answer, Replaced::Replaced);
        assert_live(store, &later).await;
    });
}

/// A removal answers with the latest record and leaves its tombstone: reason, time and digests.
pub fn r054_a_removal_leaves_a_tombstone_of_the_latest_record<F: Fixture>(fixture: &F) {
    const REASONS: [Reason; 8] = [
        Reason::LoggedOut,
        Reason::Superseded,
        Reason::Revoked,
        Reason::RevokedAll,
        Reason::Evicted,
        Reason::Replay,
        Reason::Idle,
        Reason::Absolute,
    ];
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        for (reason, secs) in REASONS.into_iter().zip(100..) {
            let first = maker.session(None, at(0));
            put(store, &first).await;
            let second = maker.variant(&first, b"second");
            store.replace(first.version(), second.clone()).await.expect("replace");
            store.touch(first.handle(), at(50)).await.expect("touch");
            let latest = second.replacing(first.version(), at(50));
            let removed = store.remove(first.handle(), reason, at(secs)).await.expect("remove");
            assert_eq!(removed, Some(latest.clone()));
            assert_ended(store, &latest, reason, at(secs)).await;
        }
    });
}

/// A session ends once; what its tombstone says of the end stays.
pub fn a_second_removal_finds_nothing_and_leaves_the_tombstone<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let record = maker.session(Some(&subject("alice")), at(0));
        put(store, &record).await;
        store.remove(record.handle(), Reason::Replay, at(5)).await.expect("remove");
        for (reason, secs) in [(Reason::LoggedOut, 6), (Reason::Replay, 5), (Reason::Revoked, 1)] {
            let again = store.remove(record.handle(), reason, at(secs)).await.expect("remove");
            assert_eq!(again, None);
            assert_ended(store, &record, Reason::Replay, at(5)).await;
        }
    });
}

/// Removing what is not there leaves no tombstone that would keep a later session out.
pub fn removing_an_unknown_session_leaves_no_trace<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let record = maker.session(None, at(0));
        assert_eq!(store.remove(record.handle(), Reason::LoggedOut, at(0)).await.expect("remove"), None);
        assert_eq!(find(store, record.handle()).await, Found::Absent);
        put(store, &record).await;
        assert_live(store, &record).await;
    });
}

/// An instance whose clock is behind the others' harms nothing.
pub fn a_clock_that_runs_backwards_does_no_harm<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let limits = sweeping::limits(100);
        let (kept, removed) = (maker.session(Some(&alice), at(1000)), maker.session(Some(&alice), at(1000)));
        put(store, &kept).await;
        put(store, &removed).await;
        store.touch(kept.handle(), at(1100)).await.expect("touch");
        store.touch(kept.handle(), at(10)).await.expect("touch");
        let report = store.sweep(Timestamp::EPOCH, limits).await.expect("sweep");
        assert_eq!((report.swept, report.more), (Vec::new(), false));
        store.remove(removed.handle(), Reason::LoggedOut, at(10)).await.expect("remove");
        assert_ended(store, &removed, Reason::LoggedOut, at(10)).await;
        let report = store.sweep(at(0), limits).await.expect("sweep");
        assert_eq!((report.swept, report.more), (Vec::new(), false));
        assert_ended(store, &removed, Reason::LoggedOut, at(10)).await;
        let stored = kept.clone().replacing(Version::from_number(0), at(1100));
        assert_live(store, &stored).await;
    });
}
