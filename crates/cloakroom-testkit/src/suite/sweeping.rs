use std::collections::BTreeSet;

use cloakroom_core::record::Version;
use cloakroom_core::store::{
    BySubject as _, Epoch, Inserted, Reason, Replaced, Store as _, SweepLimits, Swept,
};

use super::*;

/// What a check may take itself, while a store that expires by itself goes by the machine's clock.
const SLACK: Duration = Duration::from_secs(600);
const TICK: Duration = Duration::from_millis(1);

pub(super) fn limits(batch: usize) -> SweepLimits {
    SweepLimits { batch, tombstone_ttl: TOMBSTONE_TTL, epoch_ttl: EPOCH_TTL }
}

/// Sweeps until nothing is left to do, and fails if that takes more calls than it can.
async fn sweep_all(store: &impl FullStore, now: Timestamp, batch: usize) -> Vec<Swept> {
    let mut swept = Vec::new();
    for _ in 0..1000 {
        let report = store.sweep(now, limits(batch)).await.expect("sweep");
        assert!(report.swept.len() <= batch, "a sweep ended more than its batch");
        swept.extend(report.swept);
        if !report.more {
            swept.sort_by_key(|swept| swept.handle);
            return swept;
        }
    }
    panic!("the sweep says for ever that there is more to do");
}

/// Time ends sessions with the reason and the instant of their deadline.
pub fn r047_a_sweep_ends_expired_sessions_with_reason_and_deadline<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let idle = maker.session(Some(&alice), at(0));
        let busy = maker.session(None, at(1));
        put(store, &idle).await;
        put(store, &busy).await;
        let absolute = at(1).plus(ABSOLUTE);
        store.touch(busy.handle(), absolute.minus(TICK)).await.expect("touch");
        let touched = busy.clone().replacing(Version::from_number(0), absolute.minus(TICK));

        if let Expiry::Native { margin } = fixture.expiry() {
            fixture.pass(IDLE);
            assert_eq!(sweep_all(store, absolute.plus(TICK), 100).await, []);
            // Both are found for a while, so that whoever looks can say what ended them and when.
            for (record, end) in
                [(&idle, (at(0).plus(IDLE), Reason::Idle)), (&touched, (absolute, Reason::Absolute))]
            {
                assert_live(store, record).await;
                assert_eq!(record.deadline(), end);
            }
            assert_eq!(listed(store, &alice).await, [idle.handle()]);
            let removed = store.remove(idle.handle(), Reason::Idle, at(0).plus(IDLE)).await.expect("remove");
            assert_eq!(removed, Some(idle.clone()));
            assert_ended(store, &idle, Reason::Idle, at(0).plus(IDLE)).await;
            assert_eq!(listed(store, &alice).await, []);
            fixture.pass(margin);
            assert_eq!(find(store, busy.handle()).await, Found::Absent);
            assert_eq!(store.replace(busy.version(), busy).await.expect("replace"), Replaced::Gone);
            return;
        }

        let swept = sweep_all(store, at(0).plus(IDLE), 100).await;
        let expected = Swept {
            handle: idle.handle(),
            subject: Some(alice.clone()),
            reason: Reason::Idle,
            at: at(0).plus(IDLE),
        };
        assert_eq!(swept, [expected]);
        assert_ended(store, &idle, Reason::Idle, at(0).plus(IDLE)).await;
        assert_eq!(listed(store, &alice).await, []);
        assert_eq!(store.replace(idle.version(), idle.clone()).await.expect("replace"), Replaced::Gone);

        let swept = sweep_all(store, absolute.plus(TICK), 100).await;
        let expected = Swept { handle: busy.handle(), subject: None, reason: Reason::Absolute, at: absolute };
        assert_eq!(swept, [expected]);
        assert_ended(store, &touched, Reason::Absolute, absolute).await;
    });
}

/// A session that has time left stays, to the last millisecond.
pub fn a_sweep_keeps_sessions_that_have_time_left<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let record = maker.session(None, at(0));
        put(store, &record).await;
        let deadline = at(0).plus(IDLE);
        if let Expiry::Native { margin } = fixture.expiry() {
            for time in [IDLE - TICK, TICK, margin - SLACK] {
                fixture.pass(time);
                assert_live(store, &record).await;
            }
            fixture.pass(SLACK);
            assert_eq!(find(store, record.handle()).await, Found::Absent);
            return;
        }
        assert_eq!(sweep_all(store, deadline.minus(TICK), 100).await, []);
        assert_live(store, &record).await;
        assert_eq!(sweep_all(store, deadline, 100).await.len(), 1);
        assert_ended(store, &record, Reason::Idle, deadline).await;
    });
}

/// A session whose last activity lies before its creation ends early, unless it is touched.
pub fn r044_a_session_that_waits_for_its_token_ends_early_unless_it_comes_back<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let early = Duration::from_secs(600);
        let waiting = || {
            let record = maker.session(None, at(0));
            let seen = at(0).minus(IDLE - early);
            let bytes = record.encode().expect("the record can be encoded");
            Record::decode(record.handle(), record.version(), seen, &bytes)
                .expect("the record can be decoded")
        };
        let (lost, back) = (waiting(), waiting());
        for record in [&lost, &back] {
            put(store, record).await;
            assert_live(store, record).await;
        }
        store.touch(back.handle(), at(1)).await.expect("touch");
        let back = back.replacing(Version::from_number(0), at(1));

        if let Expiry::Native { margin } = fixture.expiry() {
            fixture.pass(early + margin + TICK);
            assert_eq!(find(store, lost.handle()).await, Found::Absent);
            assert_live(store, &back).await;
            return;
        }
        assert_eq!(sweep_all(store, at(0).plus(early - TICK), 100).await, []);
        let swept = sweep_all(store, at(0).plus(early), 100).await;
        assert_eq!(swept.iter().map(|swept| swept.handle).collect::<Vec<_>>(), [lost.handle()]);
        assert_ended(store, &lost, Reason::Idle, at(0).plus(early)).await;
        assert_eq!(sweep_all(store, at(1).plus(IDLE - TICK), 100).await, []);
        assert_live(store, &back).await;
        assert_eq!(sweep_all(store, at(1).plus(IDLE), 100).await.len(), 1);
    });
}

/// A sweep judges by the activity that is stored, and comes back when that is too long ago.
pub fn a_sweep_spares_a_session_that_was_touched_and_comes_back_later<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let record = maker.session(Some(&alice), at(0));
        put(store, &record).await;
        for secs in [600, 1700, 3000, 4500] {
            store.touch(record.handle(), at(secs)).await.expect("touch");
            if fixture.expiry() != Expiry::Swept {
                // Three times this is more than the session has without a touch.
                fixture.pass(IDLE - TICK);
                assert_live(store, &record.clone().replacing(Version::from_number(0), at(secs))).await;
                assert_eq!(listed(store, &alice).await, [record.handle()], "touched at {secs} s");
            }
            let just_before = at(secs).plus(IDLE).minus(TICK);
            assert_eq!(sweep_all(store, just_before, 100).await, [], "touched at {secs} s");
        }
        if let Expiry::Native { margin } = fixture.expiry() {
            fixture.pass(margin + TICK);
            assert_eq!(find(store, record.handle()).await, Found::Absent);
            assert_eq!(listed(store, &alice).await, []);
            return;
        }
        let deadline = at(4500).plus(IDLE);
        assert_eq!(sweep_all(store, deadline, 100).await.len(), 1);
        let record = record.replacing(Version::from_number(0), at(4500));
        assert_ended(store, &record, Reason::Idle, deadline).await;
    });
}

/// A replace may give a session more time or less; a sweep goes by the latest.
pub fn a_sweep_goes_by_the_limits_that_were_written_last<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let hour = Duration::from_secs(3600);
        for (idle, swept_by_then) in [(hour, 0), (Duration::from_secs(60), 1)] {
            let record = maker.session(None, at(0));
            put(store, &record).await;
            let next = under(&record, &maker.seal(Draft { idle, ..draft(None, at(0)) }));
            store.replace(record.version(), next.clone()).await.expect("replace");
            if let Expiry::Native { margin } = fixture.expiry() {
                if idle > IDLE {
                    // With the limit of before it would be gone by then.
                    fixture.pass(IDLE + margin);
                    assert_live(store, &next.replacing(record.version(), at(0))).await;
                } else {
                    // With the limit of before it would still be there.
                    fixture.pass(idle + margin);
                    assert_eq!(find(store, record.handle()).await, Found::Absent);
                }
                continue;
            }
            let report = sweep_all(store, at(0).plus(IDLE), 100).await;
            assert_eq!(report.len(), swept_by_then, "with an idle limit of {idle:?}");
        }
    });
}

/// One call looks at no more than its batch, and says so until all is done.
pub fn a_sweep_takes_no_more_than_its_batch_and_says_when_there_is_more<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let expired: Vec<_> = (0..10).map(|secs| maker.session(None, at(secs))).collect();
        let touched: Vec<_> = (0..10).map(|secs| maker.session(None, at(secs))).collect();
        for record in expired.iter().chain(&touched) {
            put(store, record).await;
        }
        if fixture.expiry() != Expiry::Swept {
            fixture.pass(2 * SLACK);
        }
        for record in &touched {
            store.touch(record.handle(), at(1000)).await.expect("touch");
        }
        let now = at(10).plus(IDLE);
        if let Expiry::Native { margin } = fixture.expiry() {
            let report = store.sweep(now, limits(3)).await.expect("sweep");
            assert_eq!((report.swept, report.more), (Vec::new(), false));
            fixture.pass(IDLE + margin - SLACK);
            for (expired, touched) in expired.iter().zip(&touched) {
                assert_eq!(find(store, expired.handle()).await, Found::Absent);
                let touched = touched.clone().replacing(Version::from_number(0), at(1000));
                assert_live(store, &touched).await;
            }
            return;
        }
        let first = store.sweep(now, limits(3)).await.expect("sweep");
        assert!(first.swept.len() <= 3 && first.more, "{first:?}");
        let mut handles: BTreeSet<_> = first.swept.iter().map(|swept| swept.handle).collect();
        for batch in [1, 3, 100] {
            handles.extend(sweep_all(store, now, batch).await.iter().map(|swept| swept.handle));
        }
        assert!(handles.iter().eq(&sorted(&expired.iter().collect::<Vec<_>>())), "not all were swept");
        for record in &touched {
            let touched = record.clone().replacing(Version::from_number(0), at(1000));
            assert_live(store, &touched).await;
        }
    });
}

/// Tombstones are kept for their time, then forgotten without a trace.
pub fn a_sweep_forgets_tombstones_after_their_time_and_not_before<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let records: Vec<_> = (0..5).map(|_| maker.session(None, at(0))).collect();
        for record in &records {
            put(store, record).await;
            store.remove(record.handle(), Reason::LoggedOut, at(60)).await.expect("remove");
        }
        if fixture.expiry() != Expiry::Swept {
            fixture.pass(TOMBSTONE_TTL - SLACK);
            for record in &records {
                assert_ended(store, record, Reason::LoggedOut, at(60)).await;
            }
            fixture.pass(SLACK);
        }
        let end = at(60).plus(TOMBSTONE_TTL);
        if fixture.expiry() == Expiry::Swept {
            assert_eq!(sweep_all(store, end.minus(TICK), 2).await, []);
            for record in &records {
                assert_ended(store, record, Reason::LoggedOut, at(60)).await;
            }
        }
        assert_eq!(sweep_all(store, end.plus(TICK), 2).await, []);
        for record in &records {
            assert_eq!(find(store, record.handle()).await, Found::Absent);
        }
        assert_eq!(store.replace(Version::FIRST, records[0].clone()).await.expect("replace"), Replaced::Gone);
    });
}

/// The record of an "end all sessions" is kept for its time, and its number never comes back.
pub fn a_sweep_forgets_epochs_after_their_time_and_not_before<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        store.remove_all(&alice, None, Reason::RevokedAll, at(0)).await.expect("remove_all");
        let first = store.epoch(&alice).await.expect("epoch");
        let end = at(0).plus(EPOCH_TTL);
        if fixture.expiry() != Expiry::Swept {
            fixture.pass(EPOCH_TTL - SLACK);
        }
        sweep_all(store, end.minus(TICK), 1).await;
        assert_eq!(store.epoch(&alice).await.expect("epoch"), first);
        let late = maker.session(Some(&alice), at(0));
        let old = open_door(end);
        assert_eq!(store.insert(late.clone(), old).await.expect("insert"), Inserted::Superseded);

        if fixture.expiry() != Expiry::Swept {
            fixture.pass(SLACK);
        }
        sweep_all(store, end.plus(TICK), 1).await;
        assert_eq!(store.epoch(&alice).await.expect("epoch"), Epoch::default());
        assert_eq!(store.insert(late, old).await.expect("insert"), admitted());
        // Nothing is forgotten in less than a tick but here.
        let bob = subject("bob");
        store.remove_all(&bob, None, Reason::RevokedAll, end.plus(TICK)).await.expect("remove_all");
        let_the_clock_move(store, &bob).await;
        store.remove_all(&alice, None, Reason::RevokedAll, end.plus(TICK)).await.expect("remove_all");
        assert!(store.epoch(&alice).await.expect("epoch") > first, "an epoch was used twice");
    });
}

/// The store does not judge: an expired session that was not swept is still found.
pub fn r047_an_expired_session_is_found_until_it_is_swept<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let record = maker.session(Some(&alice), at(0));
        put(store, &record).await;
        // Another session brings the store's idea of time far beyond the first one's end.
        let later = at(0).plus(ABSOLUTE).plus(ABSOLUTE);
        put(store, &maker.session(Some(&alice), later)).await;
        assert_live(store, &record).await;
        assert_eq!(listed(store, &alice).await.len(), 2);
        let removed = store.remove(record.handle(), Reason::Idle, later).await.expect("remove");
        assert_eq!(removed, Some(record));
    });
}

/// A session that ended by decision is not ended again by time.
pub fn a_sweep_does_not_report_sessions_that_had_ended_before<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let record = maker.session(None, at(0));
        put(store, &record).await;
        let late = at(0).plus(IDLE).plus(IDLE);
        store.remove(record.handle(), Reason::Replay, late).await.expect("remove");
        assert_eq!(sweep_all(store, late.plus(TICK), 100).await, []);
        assert_ended(store, &record, Reason::Replay, late).await;
    });
}
