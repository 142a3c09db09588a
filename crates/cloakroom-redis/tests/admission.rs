//! The scripts decide as the rules of `cloakroom-core` do, ties and large numbers included.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports by panicking"
)]

mod support;

use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::entropy::Entropy as _;
use cloakroom_core::record::{Record, Subject};
use cloakroom_core::store::{
    Admission, AtCap, BySubject as _, Cap, Epoch, Inserted, Reason, Since, Store as _,
};
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
fn r054_epochs_and_arrivals_are_compared_to_the_last_bit() {
    let runtime = runtime();
    let store = runtime.block_on(options(&Redis::shared().url()).connect()).unwrap();
    runtime.block_on(async {
        let times = [
            0,
            255,
            256,
            (1 << 32) - 1,
            1 << 53,
            (1 << 53) + 1,
            (1 << 53) + 1,
            5,
            (1 << 56) - 1,
            u64::MAX - 1,
            7,
            7,
            7,
        ];
        let mut last: Option<(Epoch, Timestamp)> = None;
        for (now, seed) in times.map(Timestamp::from_millis).into_iter().zip(50..) {
            let removed = store.remove_all(&alice(), None, Reason::RevokedAll, now).await.unwrap();
            let before = last.unwrap_or_default();
            assert_eq!(removed.epoch, before.0.next(now), "at {now}");
            assert_eq!(store.epoch(&alice()).await.unwrap(), removed.epoch);
            let at = before.1.max(now);
            last = Some((removed.epoch, at));
            let epochs =
                [-1, 0, 1].map(|by| Epoch::from_number(removed.epoch.number().wrapping_add_signed(by)));
            let arrivals =
                [-1, 0, 1].map(|by| Timestamp::from_millis(at.as_millis().wrapping_add_signed(by)));
            let since = epochs.map(Since::Epoch).into_iter().chain(arrivals.map(Since::Arrival));
            for (since, record) in since.zip(sessions(Some(&alice()), 6, seed)) {
                let admission = Admission { since, ..admission() };
                let expected = if admission.admits(last) { admitted() } else { Inserted::Superseded };
                assert_eq!(
                    store.insert(record, admission).await.unwrap(),
                    expected,
                    "{since:?} after {last:?}"
                );
            }
        }
    });
}
