//! What strangers can make the store in memory hold, and what is left for others meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::time::Duration;

use cloakroom::core::client::Client;
use cloakroom::core::clock::Timestamp;
use cloakroom::core::lifecycle::establish::Draft;
use cloakroom::core::record::{Proof, Record, Subject};
use cloakroom::core::store::{
    Admission, AtCap, BySubject as _, Cap, Found, Inserted, Reason, Replaced, Store as _, StoreError,
    StoreErrorKind, Sweep as _, SweepLimits,
};
use cloakroom::{MemoryBounds, MemoryStore, Pepper, SessionError};
use cloakroom_testkit::{SeededEntropy, block_on};
use http::StatusCode;

use crate::common::World;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn small() -> MemoryBounds {
    MemoryBounds::default().sessions(100).anonymous(40)
}

struct Maker {
    store: MemoryStore,
    entropy: SeededEntropy,
}

impl Maker {
    fn new(bounds: MemoryBounds) -> Self {
        Self { store: MemoryStore::with_bounds(bounds), entropy: SeededEntropy::new(1) }
    }

    fn record(&self, subject: Option<&str>, data: usize) -> Record {
        let draft = Draft {
            subject: subject.map(|name| (Subject::new(name).unwrap(), Proof::default())),
            created: NOW,
            idle: DAY,
            absolute: DAY,
            client: Client::default(),
            data: vec![0; data],
        };
        draft.seal(&Pepper::none(), &self.entropy).unwrap().0
    }

    fn insert(&self, record: &Record, cap: Option<Cap>) -> Result<Inserted, StoreError> {
        let since = record.subject().map(|subject| block_on(self.store.epoch(subject)).unwrap());
        let admission = Admission { now: NOW, since: since.unwrap_or_default(), cap };
        block_on(self.store.insert(record.clone(), admission))
    }

    /// Inserts until the store is full; says how many there was room for.
    fn fill(&self, subject: Option<&str>, data: usize) -> usize {
        let mut count = 0;
        loop {
            match self.insert(&self.record(subject, data), None) {
                Ok(_) => count += 1,
                Err(error) => {
                    assert_eq!(error.kind(), StoreErrorKind::Full);
                    return count;
                }
            }
        }
    }

    fn found(&self, record: &Record) -> Found {
        block_on(self.store.find(record.handle())).unwrap()
    }
}

fn swept(world: &World) -> Result<usize, SessionError> {
    block_on(world.layer.sessions().sweep())
}

#[test]
fn r111_a_flood_of_visitors_keeps_nobody_from_logging_in() {
    let world = World::new(MemoryStore::with_bounds(small()));
    let mut regular = world.client();
    regular.ask("/count");
    let flood = |world: &World| {
        let answers = (0..500).map(|_| world.client().ask("/count").status);
        answers.filter(|status| *status == StatusCode::OK).count()
    };
    assert_eq!(flood(&world), 39, "the visitors' share, less the regular's");
    assert_eq!(world.client().ask("/count").status, StatusCode::SERVICE_UNAVAILABLE);
    for user in 0..60 {
        let answer = world.client().ask(&format!("/log-in/user{user}"));
        assert_eq!((answer.status, answer.who().0), (StatusCode::OK, format!("user{user}").as_str()));
    }
    assert_eq!(regular.ask("/count").body, "2", "and a visitor who was there before goes on");
}

#[test]
fn r044_the_room_that_a_flood_took_is_free_again_after_ten_minutes_and_not_after_a_day() {
    let world = World::new(MemoryStore::with_bounds(small()));
    let mut regular = world.client();
    regular.ask("/count");
    regular.ask("/count");
    for _ in 0..500 {
        world.client().ask("/count");
    }
    world.advance(599);
    assert_eq!(swept(&world).unwrap(), 0);
    assert_eq!(world.client().ask("/count").status, StatusCode::SERVICE_UNAVAILABLE);
    world.advance(1);
    assert_eq!(swept(&world).unwrap(), 39);
    assert_eq!(world.client().ask("/count").status, StatusCode::OK);
    assert_eq!(regular.ask("/count").body, "3", "whoever came back keeps the whole idle limit");
}

#[test]
fn sessions_that_have_ended_take_nobodys_room() {
    let maker = Maker::new(small());
    for round in 0..10 {
        let records: Vec<_> = (0..100).map(|_| maker.record(Some("alice"), 1)).collect();
        for record in &records {
            maker.insert(record, None).unwrap();
        }
        assert_eq!(maker.fill(Some("bob"), 1), 0);
        let (alice, at) = (Subject::new("alice").unwrap(), NOW.minus(HOUR - Duration::from_secs(round)));
        block_on(maker.store.remove_all(&alice, None, Reason::RevokedAll, at)).unwrap();
        assert!(maker.store.is_empty());
        assert!(matches!(maker.found(records.last().unwrap()), Found::Ended(_)));
    }
}

#[test]
fn of_more_ended_sessions_than_there_is_room_for_the_oldest_are_forgotten() {
    let maker = Maker::new(small().tombstones(10));
    // The same tag, so that all lie in one shard.
    let records: Vec<_> = (0..30).map(|_| maker.record(Some("alice"), 1)).collect();
    for (record, second) in records.iter().zip(0..) {
        maker.insert(record, None).unwrap();
        let at = NOW.plus(Duration::from_secs(second));
        block_on(maker.store.remove(record.handle(), Reason::LoggedOut, at)).unwrap();
    }
    for (index, record) in records.iter().enumerate() {
        let found = maker.found(record);
        assert_eq!(matches!(found, Found::Ended(_)), index >= 20, "{index}: {found:?}");
        let late = block_on(maker.store.replace(record.version(), record.clone())).unwrap();
        assert_eq!(late, Replaced::Gone);
    }
}

#[test]
fn what_is_remembered_of_an_ended_session_goes_after_its_time_and_not_with_the_session_that_was() {
    let maker = Maker::new(small());
    let record = maker.record(Some("alice"), 1);
    maker.insert(&record, None).unwrap();
    block_on(maker.store.remove(record.handle(), Reason::LoggedOut, NOW)).unwrap();
    let limits = SweepLimits { batch: 1000, tombstone_ttl: HOUR, epoch_ttl: DAY };
    for (after, remembered) in [(HOUR - Duration::from_millis(1), true), (HOUR, false)] {
        assert_eq!(block_on(maker.store.sweep(NOW.plus(after), limits)).unwrap().swept, []);
        assert_eq!(matches!(maker.found(&record), Found::Ended(_)), remembered, "{after:?}");
    }
}

#[test]
fn a_bound_in_bytes_holds_for_large_sessions_and_the_visitors_have_their_share_of_it() {
    let bounds = MemoryBounds::default().sessions(1000).anonymous(500).bytes(1 << 20);
    // A record takes up to 256 bytes besides its data.
    for (name, data) in [("16 KiB", 16 << 10), ("2 KiB", 2 << 10)] {
        let maker = Maker::new(bounds);
        let half = (1 << 19) / (data + 256)..=(1 << 19) / data;
        let visitors = maker.fill(None, data);
        assert!(half.contains(&visitors), "{name}: {visitors} visitors, expected {half:?}");
        let logins = maker.fill(Some("alice"), data);
        assert!(half.contains(&(logins - 1)) || half.contains(&logins), "{name}: {logins} logins");
    }
}

#[test]
fn a_session_can_neither_grow_past_the_bound_in_bytes_nor_is_one_that_does_not_grow_refused() {
    let maker = Maker::new(MemoryBounds::default().sessions(10).bytes(10 * 1024));
    let records: Vec<_> = (0..10).map(|_| maker.record(Some("alice"), 1)).collect();
    for record in &records {
        maker.insert(record, None).unwrap();
    }
    let grown = |data: usize| {
        let (of, body) = (&records[0], maker.record(Some("alice"), data));
        let Found::Live(stored) = maker.found(of) else { panic!("it lives") };
        let (version, bytes) = (stored.version(), body.encode().unwrap());
        let record = Record::decode(of.handle(), version, of.seen(), &bytes).unwrap();
        block_on(maker.store.replace(version, record))
    };
    assert_eq!(grown(500).unwrap(), Replaced::Replaced, "what each session has anyway");
    assert_eq!(grown(4000).unwrap_err().kind(), StoreErrorKind::Full);
    assert_eq!(grown(400).unwrap(), Replaced::Replaced);
    block_on(maker.store.remove(records[1].handle(), Reason::LoggedOut, NOW)).unwrap();
    assert_eq!(grown(1500).unwrap(), Replaced::Replaced, "into the room of one that has gone");
    assert_eq!(maker.fill(Some("bob"), 1), 0);
    assert_eq!(grown(1).unwrap(), Replaced::Replaced);
    assert_eq!(maker.fill(Some("bob"), 1), 1, "and gives back what it no longer needs");
}

#[test]
fn r069_a_login_that_replaces_another_session_of_its_user_needs_no_further_room() {
    let maker = Maker::new(MemoryBounds::default().sessions(3));
    let first = maker.record(Some("alice"), 1);
    maker.insert(&first, None).unwrap();
    assert_eq!(maker.fill(Some("bob"), 1), 2);
    let cap = Cap { max: 1, at_cap: AtCap::EvictOldest };
    let answer = maker.insert(&maker.record(Some("alice"), 1), Some(cap)).unwrap();
    assert_eq!(answer, Inserted::Inserted { evicted: vec![first.handle()] });
    assert_eq!((maker.fill(Some("carol"), 1), maker.store.len()), (0, 3));
}

#[test]
fn a_store_is_ready_exactly_as_long_as_there_is_room_for_a_login() {
    // Bound by the number of sessions, and by their bytes.
    for bounds in [small(), small().bytes(50 * 1024)] {
        let maker = Maker::new(bounds);
        let ready = || block_on(maker.store.probe()).map_err(|error| error.kind());
        assert_eq!(maker.fill(None, 1), 40);
        let login = maker.record(Some("alice"), 1);
        let mut logins = 0;
        while ready() == Ok(()) {
            maker.insert(&maker.record(Some("alice"), 1), None).expect("it said that there was room");
            logins += 1;
        }
        assert!(logins >= 10, "visitors take their share only: {logins}");
        assert_eq!(ready(), Err(StoreErrorKind::Full));
        assert_eq!(maker.insert(&login, None).unwrap_err().kind(), StoreErrorKind::Full);
        let alice = Subject::new("alice").unwrap();
        block_on(maker.store.remove_all(&alice, None, Reason::RevokedAll, NOW)).unwrap();
        assert_eq!(ready(), Ok(()));
    }
}

#[test]
fn what_is_not_said_of_the_bounds_follows_from_the_number_of_sessions() {
    let ten = MemoryBounds::default().sessions(10);
    assert_eq!(Maker::new(ten).fill(None, 1), 5, "half are for visitors");
    // A record takes up to 256 bytes besides its data, and 2 KiB are for each.
    assert_eq!(Maker::new(ten).fill(Some("alice"), 1700), 10);
    assert!(Maker::new(ten).fill(Some("alice"), 2100) < 10);
    let maker = Maker::new(ten);
    let records: Vec<_> = (0..30).map(|_| maker.record(Some("alice"), 1)).collect();
    for (record, second) in records.iter().zip(0..) {
        maker.insert(record, None).unwrap();
        let at = NOW.plus(Duration::from_secs(second));
        block_on(maker.store.remove(record.handle(), Reason::LoggedOut, at)).unwrap();
    }
    let remembered = records.iter().filter(|record| matches!(maker.found(record), Found::Ended(_))).count();
    assert_eq!(remembered, 10);
}

/// Or whoever is refused would take the room of those who come later, for ever.
#[test]
fn r111_what_is_refused_or_no_longer_needed_takes_no_room() {
    let maker = Maker::new(small());
    assert_eq!(maker.fill(Some("alice"), 1), 100);
    for _ in 0..100 {
        maker.insert(&maker.record(None, 1), None).unwrap_err();
    }
    let alice = Subject::new("alice").unwrap();
    block_on(maker.store.remove_all(&alice, None, Reason::RevokedAll, NOW)).unwrap();
    assert_eq!(maker.fill(None, 1), 40);

    // A visitor's session that grows and shrinks again, over and over.
    let maker = Maker::new(small());
    let visitor = maker.record(None, 1);
    maker.insert(&visitor, None).unwrap();
    for round in 0..200 {
        let Found::Live(stored) = maker.found(&visitor) else { panic!("it lives") };
        let body = maker.record(None, if round % 2 == 0 { 4000 } else { 1 }).encode().unwrap();
        let next = Record::decode(visitor.handle(), stored.version(), stored.seen(), &body).unwrap();
        assert_eq!(block_on(maker.store.replace(stored.version(), next)).unwrap(), Replaced::Replaced);
    }
    assert_eq!(maker.fill(None, 1), 39);
}

#[test]
fn what_the_sweep_forgets_of_ended_sessions_makes_room_for_others() {
    let maker = Maker::new(small().tombstones(10));
    let limits = SweepLimits { batch: 1000, tombstone_ttl: HOUR, epoch_ttl: DAY };
    for round in 0..3 {
        let now = NOW.plus(HOUR * round);
        block_on(maker.store.sweep(now, limits)).unwrap();
        let records: Vec<_> = (0..10).map(|_| maker.record(Some("alice"), 1)).collect();
        for record in &records {
            maker.insert(record, None).unwrap();
            block_on(maker.store.remove(record.handle(), Reason::LoggedOut, now)).unwrap();
        }
        assert!(records.iter().all(|record| matches!(maker.found(record), Found::Ended(_))), "{round}");
    }
}
