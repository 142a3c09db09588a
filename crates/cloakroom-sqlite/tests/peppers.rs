//! Whose pepper a file's sessions are under: noted in the file, and read off the sessions where it is not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking"
)]

mod support;

use cloakroom_core::seal::{Pepper, PepperId};
use cloakroom_core::store::{PepperClaim, Shared, Store};
use cloakroom_testkit::block_on;
use support::*;

fn ids<const N: usize>() -> [PepperId; N] {
    std::array::from_fn(|n| PepperId::from_bytes([n as u8 + 1; 8]))
}

#[test]
fn r014_of_two_servers_with_different_peppers_one_is_told_and_the_file_remembers() {
    let place = Place::new();
    let [first, second, third] = ids();
    let store = place.open();
    assert_eq!(store.peppers().unwrap(), []);
    block_on(async {
        assert_eq!(store.claim_pepper(first, &[first]).await.unwrap(), PepperClaim::Accepted);
        assert_eq!(store.claim_pepper(first, &[first]).await.unwrap(), PepperClaim::Accepted);
        let foreign = PepperClaim::Foreign { known: vec![first] };
        assert_eq!(store.claim_pepper(second, &[second, third]).await.unwrap(), foreign);
    });
    drop(store);
    let store = place.open();
    assert_eq!(store.peppers().unwrap(), [first]);
    block_on(async {
        // A server that knows the old one brings the new one in.
        assert_eq!(store.claim_pepper(second, &[second, first]).await.unwrap(), PepperClaim::Accepted);
        assert_eq!(store.claim_pepper(second, &[second]).await.unwrap(), PepperClaim::Accepted);
    });
    assert_eq!(store.peppers().unwrap(), [first, second]);
}

#[test]
fn r014_a_file_that_is_older_than_the_table_is_told_by_its_sessions() {
    let place = Place::new();
    let store = place.open();
    let sealed_under = Pepper::new(&[3; 32]).unwrap().id();
    let [other] = ids();
    block_on(async {
        for record in sessions(Some(&alice()), 3, 1) {
            store.insert(record, admission()).await.unwrap();
        }
        assert_eq!(store.peppers().unwrap(), [sealed_under]);
        let foreign = PepperClaim::Foreign { known: vec![sealed_under] };
        assert_eq!(store.claim_pepper(other, &[other]).await.unwrap(), foreign);
        // Whoever has it is let in, and both are noted.
        assert_eq!(store.claim_pepper(other, &[other, sealed_under]).await.unwrap(), PepperClaim::Accepted);
        place.connect().execute("DELETE FROM sessions", []).unwrap();
        let mut known = vec![sealed_under, other];
        known.sort();
        assert_eq!(store.peppers().unwrap(), known);
    });
}

#[test]
fn a_damaged_session_says_nothing_of_peppers_and_keeps_nobody_from_starting() {
    let place = Place::new();
    let store = place.open();
    let [id] = ids();
    block_on(async {
        store.insert(sessions(None, 1, 1).remove(0), admission()).await.unwrap();
        place.connect().execute("UPDATE sessions SET body = x'00'", []).unwrap();
        assert_eq!(store.claim_pepper(id, &[id]).await.unwrap(), PepperClaim::Accepted);
    });
}
