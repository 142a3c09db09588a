use cloakroom_core::store::{BySubject as _, Epoch, Inserted, Reason, Store as _};

use super::*;

async fn end_everybody(store: &impl FullStore, now: Timestamp) -> u64 {
    store.remove_everybody(Reason::RevokedAll, now).await.expect("remove_everybody")
}

/// Ending the sessions of everybody ends them all, anonymous and expired ones too, however many there are.
pub fn r058_ending_everybodys_sessions_ends_every_session_and_says_how_many<F: Fixture>(fixture: &F) {
    const MANY: u64 = 1_001;
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let gone = maker.session(Some(&alice), at(0));
        put(store, &gone).await;
        store.remove(gone.handle(), Reason::LoggedOut, at(5)).await.expect("remove");
        let mut records = vec![maker.session(None, at(0)), maker.session(Some(&subject("bob")), at(0))];
        records.extend((0..MANY).map(|number| match number % 3 {
            0 => maker.session(None, at(number)),
            1 => maker.session(Some(&alice), at(number)),
            _ => maker.session(Some(&subject(&format!("user {number}"))), at(number)),
        }));
        for record in &records {
            put(store, record).await;
        }
        // By then some have expired.
        let now = at(500).plus(IDLE);
        assert_eq!(end_everybody(store, now).await, MANY + 2);
        for record in &records {
            assert_ended(store, record, Reason::RevokedAll, now).await;
        }
        assert_ended(store, &gone, Reason::LoggedOut, at(5)).await;
        for name in ["alice", "bob", "user 2"] {
            assert_eq!(listed(store, &subject(name)).await, []);
        }
        assert_eq!(end_everybody(store, now.plus(IDLE)).await, 0, "nothing was left");
        assert_ended(store, &records[0], Reason::RevokedAll, now).await;
    });
}

/// Whoever began to log in before the sessions of everybody were ended loses; whoever begins later comes in.
pub fn r058_a_login_that_began_before_everybodys_sessions_were_ended_is_refused<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let (alice, bob) = (subject("alice"), subject("bob"));
        // One has an epoch of its own, the other none.
        store.remove_all(&alice, None, Reason::RevokedAll, at(1)).await.expect("remove_all");
        let mut seen = [(&alice, vec![Epoch::default()]), (&bob, vec![Epoch::default()])];
        for round in 0..2 {
            let now = at(10 + round);
            for (whose, reads) in &mut seen {
                reads.push(store.epoch(whose).await.expect("epoch"));
            }
            end_everybody(store, now).await;
            for (whose, reads) in &seen {
                let record = maker.session(Some(whose), now);
                for read in reads {
                    let old = Admission { since: *read, ..open_door(now) };
                    let answer = store.insert(record.clone(), old).await.expect("insert");
                    assert_eq!(answer, Inserted::Superseded, "{whose:?} in round {round}");
                }
                let since = store.epoch(whose).await.expect("epoch");
                let answer =
                    store.insert(record, Admission { since, ..open_door(now) }).await.expect("insert");
                assert_eq!(answer, admitted());
                assert!(ended_ago(store, whose).await.is_some_and(|ago| ago < Duration::from_secs(3600)));
            }
        }
        // Each subject's own end still counts, and is answered with the epoch that holds from then on.
        let before = store.epoch(&alice).await.expect("epoch");
        let ended = store.remove_all(&alice, None, Reason::RevokedAll, at(20)).await.expect("remove_all");
        assert_eq!((ended.ended.len(), ended.epoch), (1, store.epoch(&alice).await.expect("epoch")));
        for (since, expected) in [(before, Inserted::Superseded), (ended.epoch, admitted())] {
            let admission = Admission { since, ..open_door(at(20)) };
            let answer = store.insert(maker.session(Some(&alice), at(20)), admission).await.expect("insert");
            assert_eq!(answer, expected);
        }
        // Visitors have no login to lose.
        put(store, &maker.session(None, at(20))).await;
    });
}

/// Logins that race an end of everybody's sessions are ended by it or refused because of it.
pub fn r058_no_login_survives_an_end_of_everybodys_sessions_that_it_races<F: Fixture>(fixture: &F) {
    let maker = Maker::new(line!());
    for round in 0..3 {
        let names: Vec<_> = (0..12).map(|number| subject(&format!("user {}", number % 4))).collect();
        let since = fixture.run(fixture.store().epoch(&names[0])).expect("epoch");
        let mut records: Vec<_> = names.iter().map(|name| Some(maker.session(Some(name), at(0)))).collect();
        records.insert(6, None);
        let answers = parallel::together(fixture, records, async |store, record| match record {
            Some(record) => {
                let admission = Admission { since, ..open_door(at(10)) };
                match store.insert(record, admission).await.expect("insert") {
                    Inserted::Inserted { .. } => 1,
                    Inserted::Superseded => 0,
                    other => panic!("neither admitted nor superseded: {other:?}"),
                }
            }
            None => end_everybody(store, at(9)).await,
        });
        for name in &names {
            let left = fixture.run(listed(fixture.store(), name));
            assert_eq!(left, [], "round {round}: a login survived");
        }
        let came_in: u64 = answers.iter().sum::<u64>() - answers[6];
        assert_eq!(answers[6], came_in, "round {round}: exactly the sessions that came in were ended");
    }
}
