//! The scripts decide as the rules of `cloakroom-core` do, ties and large numbers included.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports by panicking"
)]

mod support;

use std::time::Duration;

use cloakroom_core::entropy::Entropy as _;
use cloakroom_core::record::{Record, Subject};
use cloakroom_core::store::{
    Admission, AtCap, BySubject as _, Cap, Epoch, Inserted, Reason, Store as _, StoreError, StoreErrorKind,
};
use cloakroom_core::token::Handle;
use cloakroom_testkit::SeededEntropy;
use cloakroom_testkit::servers::Redis;
use support::{NOW, admission, admitted, alice, options, put, runtime, sessions};

/// A number below `below`.
fn draw(entropy: &SeededEntropy, below: u8) -> u64 {
    let mut byte = [0];
    entropy.fill(&mut byte).unwrap();
    u64::from(byte[0] % below)
}

/// Random sessions with few different times, so that most are ties, some of them expired: the script evicts the same ones in the same
/// order as [`Admission::make_room`].
#[test]
fn r069_the_script_makes_room_exactly_as_the_core_does() {
    let entropy = SeededEntropy::new(1);
    let runtime = runtime();
    let store = runtime.block_on(options(&Redis::shared().url()).connect()).unwrap();
    runtime.block_on(async {
        for round in 0..150_u64 {
            let whose = Subject::new(format!("user {round}")).unwrap();
            let mut records = sessions(Some(&whose), 2 + usize::try_from(draw(&entropy, 10)).unwrap(), round);
            let new = records.pop().unwrap();
            let mut stored: Vec<Record> = Vec::new();
            for record in records {
                let seen = NOW.plus(Duration::from_secs(draw(&entropy, 3)));
                let record =
                    Record::decode(record.handle(), record.version(), seen, &record.encode().unwrap());
                stored.push(record.unwrap());
            }
            put(&store, &stored).await;
            let max = u32::try_from(1 + draw(&entropy, 6)).unwrap();
            let at_cap =
                [AtCap::Deny, AtCap::EvictOldest, AtCap::EvictIdle][usize::try_from(round % 3).unwrap()];
            // All idle limits are half an hour, so at the later of these some have expired.
            let now = NOW.plus(Duration::from_secs([10, 1801][usize::try_from(draw(&entropy, 2)).unwrap()]));
            let admission = Admission { now, cap: Some(Cap { max, at_cap }), ..admission() };
            let mut live: Vec<_> = stored
                .iter()
                .filter(|record| record.deadline().0 > now)
                .map(|record| (record.handle(), record.created(), record.seen()))
                .collect();
            let expected = match admission.make_room(&mut live) {
                Some(evicted) => Inserted::Inserted { evicted },
                None => Inserted::CapReached,
            };
            assert_eq!(store.insert(new, admission).await.unwrap(), expected, "round {round}: {admission:?}");
        }
    });
}

/// A number here has 64 bits, a number of the script's language 53.
#[test]
fn r054_r058_epochs_are_compared_and_added_to_the_last_bit() {
    let runtime = runtime();
    let server = Redis::shared();
    let (prefix, place) = ("bits", Handle::tag_of(&alice()));
    let store = runtime.block_on(options(&server.url()).prefix(prefix).connect()).unwrap();
    let key = |subject: &str| format!("{prefix}:{{{place:04x}}}:e:{subject}");
    let set = |subject: &str, number: u64| {
        let value = [number.to_be_bytes(), [0; 8]].concat();
        server.try_ask(&[b"SET", key(subject).as_bytes(), value.as_slice()]).unwrap();
    };
    let numbers = [1, 255, 256, (1 << 32) - 1, 1 << 53, (1 << 53) + 1, (1 << 56) - 1, u64::MAX - 1, u64::MAX];
    runtime.block_on(async {
        for (own, seed) in numbers.into_iter().zip((50..).map(|seed: u64| seed * 1000)) {
            for everybody in numbers {
                set("alice", own);
                set("", everybody);
                let epoch = Epoch::from_number(own).with(Epoch::from_number(everybody));
                let standing = store.standing(&alice()).await.unwrap();
                assert_eq!(standing.epoch, epoch, "{own} and {everybody}");
                for (by, record) in
                    [-1, 1, 0].into_iter().zip(sessions(Some(&alice()), 3, everybody.wrapping_add(seed)))
                {
                    let since = Epoch::from_number(epoch.number().wrapping_add_signed(by));
                    let admission = Admission { since, ..admission() };
                    let expected = if by == 0 { admitted() } else { Inserted::Superseded };
                    assert_eq!(
                        store.insert(record, admission).await.unwrap(),
                        expected,
                        "{by} from {epoch:?}"
                    );
                }
            }
            // The number that follows is one more, or the time where that is later.
            set("", 0);
            let removed = store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap();
            assert!(removed.epoch.number() >= own.saturating_add(1).max(NOW.as_millis()), "after {own}");
            if own > 1 << 50 {
                assert_eq!(removed.epoch.number(), own.saturating_add(1));
                assert_eq!(store.standing(&alice()).await.unwrap().ended_ago, Some(Duration::ZERO));
            }
            assert_eq!(store.epoch(&alice()).await.unwrap(), removed.epoch);
        }
    });
}

/// What a script answers where an epoch is not one.
#[test]
fn r070_an_epoch_that_cannot_be_read_is_an_error_wherever_it_is_needed() {
    let runtime = runtime();
    let server = Redis::shared();
    let place = Handle::tag_of(&alice());
    for (broken, subject) in [("own", "alice"), ("everybodys", "")] {
        let store = runtime.block_on(options(&server.url()).prefix(broken).connect()).unwrap();
        for value in [&b"short"[..], &[0; 15], &[0; 17]] {
            let key = format!("{broken}:{{{place:04x}}}:e:{subject}");
            server.try_ask(&[b"SET", key.as_bytes(), value]).unwrap();
            runtime.block_on(async {
                let corrupt =
                    |error: StoreError| assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{broken}");
                corrupt(store.standing(&alice()).await.unwrap_err());
                let record = sessions(Some(&alice()), 1, 1).pop().unwrap();
                corrupt(store.insert(record, admission()).await.unwrap_err());
                corrupt(store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap_err());
                if subject.is_empty() {
                    corrupt(store.remove_everybody(Reason::RevokedAll, NOW).await.unwrap_err());
                }
            });
        }
    }
}
