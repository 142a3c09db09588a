use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use cloakroom_core::record::Version;
use cloakroom_core::store::{AtCap, BySubject as _, Inserted, Reason, Replaced, Store as _};

use super::*;

/// Runs `work` on as many threads as there are items, all let go at once.
pub(super) fn together<F: Fixture, I: Send, T: Send>(
    fixture: &F,
    items: Vec<I>,
    work: impl AsyncFn(&F::Store, I) -> T + Sync,
) -> Vec<T> {
    let barrier = Barrier::new(items.len());
    let (barrier, work) = (&barrier, &work);
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .into_iter()
            .map(|item| {
                scope.spawn(move || {
                    barrier.wait();
                    fixture.run(work(fixture.store(), item))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread of the check panicked")).collect()
    })
}

fn count<T: PartialEq>(answers: &[T], wanted: &T) -> usize {
    answers.iter().filter(|answer| *answer == wanted).count()
}

/// Of many sessions with one handle, one comes in.
pub fn r001_of_parallel_inserts_of_one_handle_one_succeeds<F: Fixture>(fixture: &F) {
    let maker = Maker::new(line!());
    let first = maker.session(None, at(0));
    let rivals: Vec<_> = (0..16_u8).map(|n| maker.variant(&first, &[n])).collect();
    let answers = together(fixture, rivals.clone(), async |store, record| {
        store.insert(record, open_door(at(0))).await.expect("insert")
    });
    assert_eq!((count(&answers, &admitted()), count(&answers, &Inserted::HandleTaken)), (1, 15));
    let winner = answers.iter().position(|answer| *answer == admitted()).unwrap();
    fixture.run(assert_live(fixture.store(), &rivals[winner]));
}

/// Parallel logins fill a cap exactly.
pub fn r069_parallel_logins_fill_a_denying_cap_exactly<F: Fixture>(fixture: &F) {
    let (maker, alice) = (Maker::new(line!()), subject("alice"));
    let records: Vec<_> = (0..64).map(|_| maker.presented(&alice, at(0))).collect();
    let answers = together(fixture, records, async |store, record| {
        store.insert(record, capped(at(1), 5, AtCap::Deny)).await.expect("insert")
    });
    assert_eq!((count(&answers, &admitted()), count(&answers, &Inserted::CapReached)), (5, 59));
    assert_eq!(fixture.run(listed(fixture.store(), &alice)).len(), 5);
}

/// Parallel logins whose tokens nobody has presented push one another out, and never a session that is used.
pub fn r069_parallel_logins_never_presented_leave_a_denying_cap_full<F: Fixture>(fixture: &F) {
    let (maker, alice) = (Maker::new(line!()), subject("alice"));
    let used = maker.presented(&alice, at(0));
    fixture.run(put(fixture.store(), &used));
    let records: Vec<_> = (0..32).map(|_| maker.session(Some(&alice), at(0))).collect();
    let answers = together(fixture, records, async |store, record| {
        store.insert(record, capped(at(1), 3, AtCap::Deny)).await.expect("insert")
    });
    let evicted: usize = answers
        .iter()
        .map(|answer| match answer {
            Inserted::Inserted { evicted } => evicted.len(),
            refused => panic!("a login that could have had its place was refused: {refused:?}"),
        })
        .sum();
    let live = fixture.run(listed(fixture.store(), &alice));
    assert_eq!((live.len(), evicted), (3, 30));
    assert!(live.contains(&used.handle()), "the session that is used had to go");
}

/// Parallel logins under a cap that evicts leave exactly as many sessions as it allows.
pub fn r069_parallel_logins_under_an_evicting_cap_leave_it_full<F: Fixture>(fixture: &F) {
    for at_cap in [AtCap::EvictOldest, AtCap::EvictIdle] {
        let (maker, whose) = (Maker::new(line!() + at_cap as u32), subject(&format!("{at_cap:?}")));
        let records: Vec<_> = (0..32).map(|_| maker.session(Some(&whose), at(0))).collect();
        let answers = together(fixture, records.clone(), async |store, record| {
            store.insert(record, capped(at(1), 3, at_cap)).await.expect("insert")
        });
        let mut ended: Vec<_> = answers
            .into_iter()
            .flat_map(|answer| match answer {
                Inserted::Inserted { evicted } => evicted,
                refused => panic!("a cap that evicts refused a login: {refused:?}"),
            })
            .collect();
        let live = fixture.run(listed(fixture.store(), &whose));
        assert_eq!((live.len(), ended.len()), (3, 29));
        ended.extend(live);
        ended.sort();
        assert_eq!(
            ended,
            sorted(&records.iter().collect::<Vec<_>>()),
            "each session is live or evicted once"
        );
    }
}

/// Of parallel writes over one version, one wins; no write is lost.
pub fn r053_of_parallel_replaces_of_one_version_one_wins<F: Fixture>(fixture: &F) {
    const THREADS: u8 = 8;
    let maker = Maker::new(line!());
    let record = maker.session(None, at(0));
    fixture.run(put(fixture.store(), &record));
    for round in 1..=20 {
        let expected = Version::from_number(round);
        let rivals: Vec<_> = (0..THREADS).map(|n| maker.variant(&record, &[n])).collect();
        let answers = together(fixture, rivals.clone(), async |store, rival| {
            store.replace(expected, rival).await.expect("replace")
        });
        assert_eq!(
            (count(&answers, &Replaced::Replaced), count(&answers, &Replaced::Stale)),
            (1, 7),
            "round {round}"
        );
        let winner = answers.iter().position(|answer| *answer == Replaced::Replaced).unwrap();
        let stored = rivals[winner].clone().replacing(expected, at(0));
        fixture.run(assert_live(fixture.store(), &stored));
    }
}

/// Writers that reload and try again get through, one version for each success.
pub fn r053_each_successful_replace_is_one_version<F: Fixture>(fixture: &F) {
    let maker = Maker::new(line!());
    let record = maker.session(None, at(0));
    fixture.run(put(fixture.store(), &record));
    let successes = AtomicU64::new(0);
    together(fixture, (0..8).collect(), async |store, thread: u64| {
        for round in 0..25_u64 {
            let found = find_amid_writes(store, record.handle(), round).await;
            let Found::Live(read) = found else { panic!("the session is gone") };
            store.touch(record.handle(), at(thread * 100 + round)).await.expect("touch");
            match store.replace(read.version(), read.clone()).await.expect("replace") {
                Replaced::Replaced => drop(successes.fetch_add(1, Ordering::SeqCst)),
                Replaced::Stale => {}
                Replaced::Gone => panic!("nobody removed the session"),
            }
        }
    });
    let Found::Live(last) = fixture.run(find(fixture.store(), record.handle())) else { panic!("gone") };
    assert_eq!(last.version().number() - 1, successes.into_inner());
    assert_eq!(last.seen(), at(724), "the latest activity is kept, whoever wrote in between");
}

/// Once a removal is acknowledged, no write that races it leaves a live session.
pub fn r060_a_removal_wins_against_writes_that_race_it<F: Fixture>(fixture: &F) {
    let maker = Maker::new(line!());
    for round in 0..20 {
        let record = maker.session(Some(&subject("alice")), at(0));
        fixture.run(put(fixture.store(), &record));
        let removed = AtomicBool::new(false);
        let gone_after = together(fixture, (0..4).collect(), async |store, thread: u8| {
            if thread == 0 {
                let answer = store.remove(record.handle(), Reason::LoggedOut, at(5)).await.expect("remove");
                assert!(answer.is_some());
                removed.store(true, Ordering::SeqCst);
                return true;
            }
            for turn in 0.. {
                let knew = removed.load(Ordering::SeqCst);
                let found = find_amid_writes(store, record.handle(), turn).await;
                assert!(
                    !(knew && matches!(found, Found::Live(_))),
                    "live after the removal was acknowledged"
                );
                let (answer, expected) = match found {
                    Found::Live(read) => (store.replace(read.version(), read).await, None),
                    _ => (store.replace(record.version(), record.clone()).await, Some(Replaced::Gone)),
                };
                store.touch(record.handle(), at(6)).await.expect("touch");
                let answer = answer.expect("replace");
                assert!(expected.is_none_or(|expected| answer == expected), "{answer:?} after the end");
                if answer == Replaced::Gone {
                    return true;
                }
            }
            false
        });
        assert_eq!(gone_after, [true; 4]);
        let Found::Ended(tombstone) = fixture.run(find(fixture.store(), record.handle())) else {
            panic!("round {round}: the removed session came back")
        };
        assert_eq!((tombstone.reason(), tombstone.at()), (Reason::LoggedOut, at(5)));
        assert_eq!(fixture.run(listed(fixture.store(), &subject("alice"))), []);
    }
}

/// Of parallel removals, one ends the session.
pub fn of_parallel_removals_one_ends_the_session<F: Fixture>(fixture: &F) {
    let maker = Maker::new(line!());
    let record = maker.session(None, at(0));
    fixture.run(put(fixture.store(), &record));
    let reasons = vec![Reason::LoggedOut, Reason::Revoked, Reason::Replay, Reason::Idle, Reason::Superseded];
    let answers = together(fixture, reasons.clone(), async |store, reason| {
        store.remove(record.handle(), reason, at(1)).await.expect("remove")
    });
    assert_eq!((count(&answers, &Some(record.clone())), count(&answers, &None)), (1, 4));
    let winner = answers.iter().position(Option::is_some).unwrap();
    fixture.run(assert_ended(fixture.store(), &record, reasons[winner], at(1)));
}

/// Logins that race an "end all sessions" are ended by it or refused because of it; none survives (R-069: one atomic step).
pub fn r069_no_login_survives_an_end_of_all_sessions_that_it_races<F: Fixture>(fixture: &F) {
    let maker = Maker::new(line!());
    for round in 0..10 {
        let whose = subject(&format!("alice {round}"));
        let mut records: Vec<_> = (0..12).map(|_| Some(maker.session(Some(&whose), at(0)))).collect();
        records.insert(6, None);
        let answers = together(fixture, records, async |store, record| match record {
            Some(record) => {
                let handle = record.handle();
                match store.insert(record, open_door(at(10))).await.expect("insert") {
                    Inserted::Inserted { .. } => vec![handle],
                    Inserted::Superseded => Vec::new(),
                    other => panic!("neither admitted nor superseded: {other:?}"),
                }
            }
            None => {
                store.remove_all(&whose, None, Reason::RevokedAll, at(9)).await.expect("remove_all").ended
            }
        });
        let mut ended = answers[6].clone();
        let mut came_in: Vec<_> =
            answers.iter().enumerate().filter(|(n, _)| *n != 6).flat_map(|(_, h)| h.clone()).collect();
        ended.sort();
        came_in.sort();
        assert_eq!(fixture.run(listed(fixture.store(), &whose)), [], "round {round}: a login survived");
        assert_eq!(ended, came_in, "round {round}: exactly the sessions that came in were ended");
    }
}
