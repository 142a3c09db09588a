use std::thread;

use cloakroom_core::store::{AtCap, BySubject as _, Epoch, Reason, Store as _};

use super::*;

/// A list holds all of a subject's sessions, and none that is anonymous, ended or somebody else's.
pub fn a_list_holds_the_live_sessions_of_its_subject_only<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let mine: Vec<_> = (0..4).map(|secs| maker.session(Some(&alice), at(secs))).collect();
        let bob = maker.session(Some(&subject("bob")), at(0));
        let anonymous = maker.session(None, at(0));
        for record in mine.iter().chain([&bob, &anonymous]) {
            put(store, record).await;
        }
        store.remove(mine[0].handle(), Reason::LoggedOut, at(5)).await.expect("remove");
        let new = maker.session(Some(&alice), at(6));
        let admission = capped(at(6), 3, AtCap::EvictOldest);
        store.insert(new.clone(), admission).await.expect("insert");
        assert_eq!(listed(store, &alice).await, sorted(&[&mine[2], &mine[3], &new]));
        assert_eq!(listed(store, &subject("bob")).await, [bob.handle()]);
        assert_eq!(listed(store, &subject("nobody")).await, []);
    });
}

/// A list shows what was written last.
pub fn a_list_shows_the_latest_version_and_activity<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let record = maker.session(Some(&alice), at(0));
        put(store, &record).await;
        let next = maker.variant(&record, b"next");
        store.replace(record.version(), next.clone()).await.expect("replace");
        store.touch(record.handle(), at(33)).await.expect("touch");
        let latest = next.replacing(record.version(), at(33));
        assert_eq!(store.list(&alice).await.expect("list"), [latest]);
    });
}

/// Subjects are compared byte by byte: no folding of case, no trimming, no patterns.
pub fn subjects_that_look_alike_are_told_apart<F: Fixture>(fixture: &F) {
    // The last two look the same: one character, and a letter with a combining accent.
    const NAMES: [&str; 15] = [
        "alice", "Alice", "ALICE", " alice", "alice ", "alic", "alicea", "a%", "a_", "*", "alice\0",
        "alice\n", "0", "\u{e9}", "e\u{301}",
    ];
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let records: Vec<_> = NAMES.iter().map(|name| maker.session(Some(&subject(name)), at(0))).collect();
        for record in &records {
            put(store, record).await;
        }
        for (name, record) in NAMES.iter().zip(&records) {
            assert_eq!(listed(store, &subject(name)).await, [record.handle()], "{name:?}");
        }
        let ended =
            store.remove_all(&subject("a%"), None, Reason::RevokedAll, at(1)).await.expect("remove_all");
        assert_eq!(ended.ended, [records[7].handle()]);
        for (name, record) in NAMES.iter().zip(&records).filter(|(name, _)| **name != "a%") {
            assert_live(store, record).await;
            assert_eq!(store.epoch(&subject(name)).await.expect("epoch"), Epoch::default(), "{name:?}");
        }
    });
}

/// Ending all sessions ends exactly the subject's, and says which.
pub fn r058_ending_all_sessions_ends_exactly_those_of_the_subject<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let mine: Vec<_> = (0..5).map(|secs| maker.session(Some(&alice), at(secs))).collect();
        let bob = maker.session(Some(&subject("bob")), at(0));
        let anonymous = maker.session(None, at(0));
        for record in mine.iter().chain([&bob, &anonymous]) {
            put(store, record).await;
        }
        store.remove(mine[4].handle(), Reason::LoggedOut, at(5)).await.expect("remove");
        let mut ended =
            store.remove_all(&alice, None, Reason::RevokedAll, at(9)).await.expect("remove_all").ended;
        ended.sort();
        assert_eq!(ended, sorted(&[&mine[0], &mine[1], &mine[2], &mine[3]]));
        for record in &mine[..4] {
            assert_ended(store, record, Reason::RevokedAll, at(9)).await;
        }
        assert_ended(store, &mine[4], Reason::LoggedOut, at(5)).await;
        assert_eq!(listed(store, &alice).await, []);
        assert_live(store, &bob).await;
        assert_live(store, &anonymous).await;
        let again = store.remove_all(&alice, None, Reason::RevokedAll, at(10)).await.expect("remove_all");
        assert_eq!(again.ended, []);
        assert_ended(store, &mine[0], Reason::RevokedAll, at(9)).await;
    });
}

/// Ending all others keeps one, and only if it is the subject's.
pub fn r057_ending_all_others_keeps_the_one_named<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let (kept, other) = (maker.session(Some(&alice), at(0)), maker.session(Some(&alice), at(1)));
        let bob = maker.session(Some(&subject("bob")), at(0));
        for record in [&kept, &other, &bob] {
            put(store, record).await;
        }
        let ended =
            store.remove_all(&alice, Some(kept.handle()), Reason::Revoked, at(5)).await.expect("remove_all");
        assert_eq!(ended.ended, [other.handle()]);
        assert_live(store, &kept).await;
        assert_ended(store, &other, Reason::Revoked, at(5)).await;
        assert_eq!(listed(store, &alice).await, [kept.handle()]);
        // A handle that is not the subject's keeps nothing, and is not ended either.
        let ended =
            store.remove_all(&alice, Some(bob.handle()), Reason::Revoked, at(6)).await.expect("remove_all");
        assert_eq!(ended.ended, [kept.handle()]);
        assert_live(store, &bob).await;
    });
}

/// Every end of all sessions has an epoch of its own, with or without sessions and whatever the clock says.
pub fn ending_all_sessions_raises_the_epoch_even_without_sessions<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, alice) = (fixture.store(), subject("alice"));
        let mut last = store.epoch(&alice).await.expect("epoch");
        assert_eq!(last, Epoch::default());
        for secs in [10, 10, 11, 3, 0] {
            let removed =
                store.remove_all(&alice, None, Reason::RevokedAll, at(secs)).await.expect("remove_all");
            assert_eq!(removed.ended, []);
            let epoch = store.epoch(&alice).await.expect("epoch");
            assert_eq!(removed.epoch, epoch, "the answer names the epoch that holds from now on");
            assert!(epoch > last, "{epoch:?} follows {last:?}");
            last = epoch;
        }
        assert_eq!(store.epoch(&subject("bob")).await.expect("epoch"), Epoch::default());
    });
}

/// Ten thousand sessions of one subject are listed and ended completely.
pub fn ten_thousand_sessions_of_one_subject_are_listed_and_ended<F: Fixture>(fixture: &F) {
    const THREADS: usize = 16;
    const COUNT: usize = 10_000;
    let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
    let records: Vec<_> = (0..COUNT).map(|_| maker.session(Some(&alice), at(0))).collect();
    thread::scope(|scope| {
        for part in records.chunks(COUNT.div_ceil(THREADS)) {
            scope.spawn(move || {
                fixture.run(async {
                    for record in part {
                        put(store, record).await;
                    }
                });
            });
        }
    });
    let all = sorted(&records.iter().collect::<Vec<_>>());
    fixture.run(async {
        assert!(listed(store, &alice).await == all, "the list is not complete");
        let mut ended =
            store.remove_all(&alice, None, Reason::RevokedAll, at(1)).await.expect("remove_all").ended;
        ended.sort();
        assert!(ended == all, "not all sessions were ended");
        assert_eq!(listed(store, &alice).await, []);
        assert_ended(store, &records[COUNT / 2], Reason::RevokedAll, at(1)).await;
    });
}
