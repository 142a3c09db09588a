use cloakroom_core::record::Version;
use cloakroom_core::store::{AtCap, BySubject as _, Epoch, Inserted, Reason, Replaced, Store as _};

use super::*;

async fn insert(store: &impl FullStore, record: &Record, admission: Admission) -> Inserted {
    store.insert(record.clone(), admission).await.expect("insert")
}

fn since(now: Timestamp, since: Epoch) -> Admission {
    Admission { since, ..open_door(now) }
}

/// A login whose epoch was read before "end all sessions" loses, and changes nothing.
pub fn r054_a_login_that_began_before_all_sessions_were_ended_is_refused<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let before = store.epoch(&alice).await.expect("epoch");
        assert_eq!(before, Epoch::default());
        store.remove_all(&alice, None, Reason::RevokedAll, at(10)).await.expect("remove_all");
        let after = store.epoch(&alice).await.expect("epoch");
        let record = maker.session(Some(&alice), at(11));
        let never = Epoch::from_number(after.number() + 1);
        for read in [before, never] {
            assert_eq!(insert(store, &record, since(at(11), read)).await, Inserted::Superseded);
            assert_eq!(find(store, record.handle()).await, Found::Absent);
            assert_eq!(listed(store, &alice).await, []);
        }
        assert_eq!(insert(store, &record, since(at(11), after)).await, admitted());
        assert_live(store, &record).await;
        // The next end of all sessions makes that epoch an old one in turn.
        store.remove_all(&alice, None, Reason::RevokedAll, at(12)).await.expect("remove_all");
        let late = maker.session(Some(&alice), at(12));
        assert_eq!(insert(store, &late, since(at(12), after)).await, Inserted::Superseded);
    });
}

/// How long ago all sessions were ended is measured by one clock, the store's: whatever the callers' clocks show, it is never more than
/// the truth.
pub fn r054_how_long_ago_all_sessions_were_ended_is_told_by_the_stores_clock_alone<F: Fixture>(fixture: &F) {
    // No check takes as long, and every clock of a caller here is further off.
    const AWHILE: Duration = Duration::from_secs(3600);
    fixture.run(async {
        let (store, alice, bob) = (fixture.store(), subject("alice"), subject("bob"));
        let end = async |whose, now| {
            store.remove_all(whose, None, Reason::RevokedAll, now).await.expect("remove_all");
        };
        assert_eq!(ended_ago(store, &alice).await, None);
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        for now in [at(0), at(0).minus(century), at(0).plus(century), at(0)] {
            end(&alice, now).await;
            let ago = ended_ago(store, &alice).await.expect("all sessions were ended");
            assert!(ago < AWHILE, "just ended by a clock that shows {now}, and told to be {ago:?} ago");
            let_the_clock_move(store, &alice).await;
        }
        // Who was first is told, and an end takes the place of an earlier one.
        end(&bob, at(0).minus(century)).await;
        let_the_clock_move(store, &bob).await;
        let (later, earlier) = (ended_ago(store, &bob).await, ended_ago(store, &alice).await);
        assert!(earlier >= later, "{earlier:?}, {later:?}");
        end(&alice, at(0).minus(century)).await;
        let (later, earlier) = (ended_ago(store, &alice).await, ended_ago(store, &bob).await);
        assert!(earlier >= later, "{earlier:?}, {later:?}");
        assert_eq!(ended_ago(store, &subject("nobody")).await, None);
    });
}

/// The epoch of one subject keeps nobody else out, and no anonymous visitor.
pub fn an_epoch_concerns_its_subject_only<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        store.remove_all(&subject("alice"), None, Reason::RevokedAll, at(10)).await.expect("remove_all");
        let bob = maker.session(Some(&subject("bob")), at(5));
        let anonymous = maker.session(None, at(5));
        assert_eq!(insert(store, &bob, open_door(at(11))).await, admitted());
        assert_eq!(insert(store, &anonymous, open_door(at(11))).await, admitted());
        let strange = since(at(11), Epoch::from_number(99));
        assert_eq!(insert(store, &maker.session(None, at(5)), strange).await, admitted());
    });
}

/// A login that is refused by its epoch evicts nobody.
pub fn a_refused_login_evicts_nobody<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let mine = maker.session(Some(&alice), at(0));
        put(store, &mine).await;
        store.remove_all(&alice, Some(mine.handle()), Reason::RevokedAll, at(1)).await.expect("remove_all");
        let late = maker.session(Some(&alice), at(2));
        let answer = insert(store, &late, capped(at(2), 1, AtCap::EvictOldest)).await;
        assert_eq!(answer, Inserted::Superseded);
        assert_live(store, &mine).await;
    });
}

/// A cap that denies refuses the login and changes nothing.
pub fn r069_a_cap_that_denies_refuses_one_login_more<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let records: Vec<_> = (0..4).map(|secs| maker.presented(&alice, at(secs))).collect();
        let cap = capped(at(10), 3, AtCap::Deny);
        for record in &records[..3] {
            assert_eq!(insert(store, record, cap).await, admitted());
        }
        assert_eq!(insert(store, &records[3], cap).await, Inserted::CapReached);
        assert_eq!(find(store, records[3].handle()).await, Found::Absent);
        assert_eq!(listed(store, &alice).await, sorted(&[&records[0], &records[1], &records[2]]));
        // Another subject has a cap of its own.
        assert_eq!(insert(store, &maker.session(Some(&subject("bob")), at(4)), cap).await, admitted());
        store.remove(records[0].handle(), Reason::LoggedOut, at(11)).await.expect("remove");
        assert_eq!(insert(store, &records[3], cap).await, admitted());
    });
}

/// Under a cap that denies, the oldest session whose token was never presented makes room; until then it counts.
pub fn r069_a_cap_that_denies_lets_sessions_never_presented_make_room<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let cap = |max| capped(at(10), max, AtCap::Deny);
        let used = maker.presented(&alice, at(0));
        let [younger, older, new] = [5, 4, 9].map(|secs| maker.session(Some(&alice), at(secs)));
        for record in [&used, &younger, &older] {
            put(store, record).await;
        }
        let answer = insert(store, &new, cap(3)).await;
        assert_eq!(answer, Inserted::Inserted { evicted: vec![older.handle()] });
        assert_ended(store, &older, Reason::Evicted, at(10)).await;
        assert_eq!(listed(store, &alice).await, sorted(&[&used, &younger, &new]));

        // All the room that is missing, or none.
        let late = maker.session(Some(&alice), at(9));
        assert_eq!(insert(store, &late, cap(1)).await, Inserted::CapReached);
        assert_eq!(listed(store, &alice).await, sorted(&[&used, &younger, &new]));

        // A thousand tokens that are thrown away are no way past the cap, and never cost a session that is used.
        for _ in 0..1000 {
            let unused = maker.session(Some(&alice), at(9));
            assert!(matches!(insert(store, &unused, cap(2)).await, Inserted::Inserted { .. }));
        }
        let left = listed(store, &alice).await;
        assert!(left.len() == 2 && left.contains(&used.handle()), "{} sessions are left", left.len());
        for handle in left {
            store.touch(handle, at(11)).await.expect("touch");
        }
        assert_eq!(insert(store, &late, cap(2)).await, Inserted::CapReached);
    });
}

/// The session created first makes room, not the one idle longest. It leaves a tombstone.
pub fn r069_a_cap_that_evicts_the_oldest_ends_the_one_created_first<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let oldest = maker.session(Some(&alice), at(0));
        let idlest = maker.session(Some(&alice), at(1));
        let new = maker.session(Some(&alice), at(10));
        put(store, &idlest).await;
        put(store, &oldest).await;
        store.touch(oldest.handle(), at(9)).await.expect("touch");
        store.touch(idlest.handle(), at(2)).await.expect("touch");
        let answer = insert(store, &new, capped(at(10), 2, AtCap::EvictOldest)).await;
        assert_eq!(answer, Inserted::Inserted { evicted: vec![oldest.handle()] });
        let evicted = oldest.clone().replacing(Version::from_number(0), at(9));
        assert_ended(store, &evicted, Reason::Evicted, at(10)).await;
        assert_eq!(listed(store, &alice).await, sorted(&[&idlest, &new]));
        assert_eq!(store.replace(oldest.version(), oldest).await.expect("replace"), Replaced::Gone);
    });
}

/// The session idle longest makes room, not the one created first.
pub fn r069_a_cap_that_evicts_the_idle_ends_the_one_idle_longest<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let oldest = maker.session(Some(&alice), at(0));
        let idlest = maker.session(Some(&alice), at(1));
        let new = maker.session(Some(&alice), at(10));
        put(store, &oldest).await;
        put(store, &idlest).await;
        store.touch(oldest.handle(), at(9)).await.expect("touch");
        store.touch(idlest.handle(), at(2)).await.expect("touch");
        let answer = insert(store, &new, capped(at(10), 2, AtCap::EvictIdle)).await;
        assert_eq!(answer, Inserted::Inserted { evicted: vec![idlest.handle()] });
        assert_eq!(listed(store, &alice).await, sorted(&[&oldest, &new]));
    });
}

/// A session whose token was never presented makes room first, whatever the order.
pub fn r069_a_session_that_was_never_presented_is_evicted_first<F: Fixture>(fixture: &F) {
    for at_cap in [AtCap::EvictOldest, AtCap::EvictIdle] {
        let name = format!("{at_cap:?}");
        fixture.run(async {
            let (store, maker, whose) =
                (fixture.store(), Maker::new(line!() + at_cap as u32), subject(&name));
            let used = maker.session(Some(&whose), at(0));
            let unused = maker.session(Some(&whose), at(5));
            let new = maker.session(Some(&whose), at(10));
            put(store, &used).await;
            put(store, &unused).await;
            store.touch(used.handle(), at(1)).await.expect("touch");
            let answer = insert(store, &new, capped(at(10), 2, at_cap)).await;
            assert_eq!(answer, Inserted::Inserted { evicted: vec![unused.handle()] }, "{name}");
            assert_eq!(listed(store, &whose).await, sorted(&[&used, &new]));
        });
    }
}

/// A session whose time is up takes no place, swept or not; a touch gives it time.
pub fn r069_expired_sessions_do_not_count_under_a_cap<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let old = maker.session(Some(&alice), at(0));
        put(store, &old).await;
        store.touch(old.handle(), at(60)).await.expect("touch");
        let deadline = at(60).plus(IDLE);
        let new = maker.session(Some(&alice), deadline);
        let just_before = deadline.minus(Duration::from_millis(1));
        let answer = insert(store, &new, capped(just_before, 1, AtCap::Deny)).await;
        assert_eq!(answer, Inserted::CapReached, "the touched session has a millisecond left");
        let answer = insert(store, &new, capped(deadline, 1, AtCap::EvictOldest)).await;
        assert_eq!(answer, admitted(), "an expired session is neither counted nor evicted");
        let touched = old.clone().replacing(Version::from_number(0), at(60));
        assert_live(store, &touched).await;

        // The absolute limit passes whatever the activity.
        let bob = subject("bob");
        let busy = maker.session(Some(&bob), at(0));
        put(store, &busy).await;
        let end = at(0).plus(ABSOLUTE);
        store.touch(busy.handle(), end).await.expect("touch");
        let answer = insert(store, &maker.session(Some(&bob), end), capped(end, 1, AtCap::Deny)).await;
        assert_eq!(answer, admitted());
    });
}

/// Anonymous sessions have no subject to count under.
pub fn anonymous_sessions_ignore_caps<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let records: Vec<_> = (0..5).map(|secs| maker.session(None, at(secs))).collect();
        for (record, at_cap) in
            records.iter().zip([AtCap::Deny, AtCap::EvictOldest, AtCap::EvictIdle].iter().cycle())
        {
            assert_eq!(insert(store, record, capped(at(9), 1, *at_cap)).await, admitted());
        }
        for record in &records {
            assert_live(store, record).await;
        }
    });
}

/// After the cap was lowered, one login makes all the room that is missing.
pub fn r069_a_lowered_cap_evicts_as_many_as_are_over_it<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let records: Vec<_> = (0..6).map(|secs| maker.session(Some(&alice), at(secs))).collect();
        for record in &records[..5] {
            put(store, record).await;
        }
        let Inserted::Inserted { mut evicted } =
            insert(store, &records[5], capped(at(9), 2, AtCap::EvictOldest)).await
        else {
            panic!("the login was refused")
        };
        evicted.sort();
        assert_eq!(evicted, sorted(&[&records[0], &records[1], &records[2], &records[3]]));
        for record in &records[..4] {
            assert_ended(store, record, Reason::Evicted, at(9)).await;
        }
        assert_eq!(listed(store, &alice).await, sorted(&[&records[4], &records[5]]));
        // A cap of 0 cannot be meant: one session is always allowed.
        let last = maker.session(Some(&alice), at(10));
        assert!(matches!(
            insert(store, &last, capped(at(10), 0, AtCap::EvictOldest)).await,
            Inserted::Inserted { .. }
        ));
        assert_eq!(listed(store, &alice).await, [last.handle()]);
    });
}
