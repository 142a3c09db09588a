//! The model: any order of requests, parallel requests, lost responses, dropped requests, clock steps, thieves and sweeps,
//! through the real layer, with every store call a point where others may come in between. What must hold is written down
//! in `oracle.rs`, from the outside: tokens, handles and events, without looking into a record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod oracle;
mod run;
mod watched;

use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::run::{Kind, Run, Step};

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Read),
        6 => Just(Kind::Count),
        1 => Just(Kind::Passive),
        3 => (0..2_u8).prop_map(Kind::LogIn),
        1 => Just(Kind::StepUp),
        1 => Just(Kind::Rotate),
        1 => Just(Kind::LogOut),
        1 => Just(Kind::LogOutOthers),
        1 => Just(Kind::LogOutEverywhere),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3_usize, kind(), prop::bool::weighted(0.15))
            .prop_map(|(client, kind, lose)| Step::Start { client, kind, lose }),
        12 => (0..8_usize).prop_map(Step::Poll),
        4 => Just(Step::Finish),
        1 => (0..8_usize).prop_map(Step::Drop),
        5 => prop::sample::select(vec![1_u64, 20, 40, 59, 61, 64, 66, 70, 300, 895, 901, 906, 1790, 1801, 14_400])
            .prop_map(Step::Advance),
        3 => (0..3_usize, prop_oneof![4 => 0..3_usize, 1 => 0..20_usize])
            .prop_map(|(client, back)| Step::Thief { client, back }),
        2 => (0..3_usize).prop_map(Step::RotateOnSchedule),
        1 => (0..3_usize).prop_map(Step::Junk),
        1 => (0..3_usize).prop_map(Step::Roam),
        1 => Just(Step::Sweep),
        1 => (0..2_u8).prop_map(Step::EndAll),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 10_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn r037_r039_r047_r048_r051_r052_r053_r054_r060_sessions_keep_their_promises_in_any_order(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        Run::default().all(&steps);
    }
}

/// A long life of one busy client that behaves: it is never signed out, whatever gets lost.
#[test]
fn r053_a_client_that_behaves_is_never_signed_out_by_rotation() {
    let busy = (0..3_usize, any::<bool>(), 1..70_u64, any::<bool>());
    proptest!(Config { cases: 500, failure_persistence: None, ..Config::default() }, |(
        steps in prop::collection::vec(busy, 100..300)
    )| {
        let mut run = Run::default();
        run.step(&Step::Start { client: 0, kind: Kind::LogIn(0), lose: false });
        run.step(&Step::Finish);
        for (poll, count, secs, lose) in steps {
            let kind = if count { Kind::Count } else { Kind::Read };
            run.step(&Step::Start { client: 0, kind, lose });
            run.step(&Step::Start { client: 0, kind: Kind::Read, lose: false });
            (0..4).for_each(|more| run.step(&Step::Poll(poll + more)));
            run.step(&Step::Advance(secs));
        }
        run.step(&Step::Finish);
        prop_assert!(run.signed_in(0));
    });
}
