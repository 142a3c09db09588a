//! Recorded histories of each store under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use cloakroom::MemoryStore;
use cloakroom_reliability::histories::{Load, Settings, check};
use cloakroom_reliability::on_every_store;
use cloakroom_reliability::report::Row;
use cloakroom_reliability::size::Size;
use cloakroom_reliability::target::{Target, block_on};
use cloakroom_testkit::{Counting, Yielding};

use crate::support::broken::{Broken, Fault};

fn histories<T: Target>() {
    let mut row = Row::new(T::NAME, "histories");
    let size = Size::asked_for();
    for round in 0..size.histories() {
        let target = T::open();
        let settings = Settings { seed: round, ..Settings::default() };
        // Yields before the call and with its answer in hand, so that calls overlap where operations are short.
        let store = Yielding::both(target.store());
        let recorder = block_on(Load::run(&store, &settings, size.operations()));
        let history = recorder.history();
        assert_eq!((history.lost(), recorder.errors()), (0, Vec::new()), "nothing fails without a fault");
        assert!(history.overlapping() > history.answered() / 2, "the load was hardly parallel");
        let checked =
            check(&history).unwrap_or_else(|violation| panic!("seed {round} on {}: {violation}", T::NAME));
        row.count("histories", 1);
        row.count("runs", 1);
        row.count("operations", checked.calls);
    }
}

on_every_store! {
    fn r053_r054_r059_r060_r069_histories_under_load_are_linearizable => histories;
}

#[test]
fn a_store_that_breaks_the_contract_is_found_out_by_its_histories() {
    for fault in Fault::ALL {
        // Some faults need some luck to show, and to show in a few calls; that they never do in many runs does not happen.
        let mut found = (0..40).filter_map(|seed| {
            let store = Counting::new(Broken::new(MemoryStore::new(), fault));
            let settings = Settings { seed, ..Settings::default() };
            let recorder = block_on(Load::run(&Yielding::both(store), &settings, 2_000));
            check(&recorder.history()).err()
        });
        let told = found.any(|violation| !violation.gave_up && violation.calls.len() < 60);
        assert!(told, "{fault:?} went unnoticed, or was explained by far too much each time");
    }
}
