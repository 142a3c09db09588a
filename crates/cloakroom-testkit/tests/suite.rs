//! The suite passes a store that is right, and fails one for each mistake that a store can make.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test reports by panicking")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use cloakroom_testkit::{Counting, Failing, Opened, Yielding, store_suite, suite};
use support::{Bug, Model};

fn right() -> Model {
    Model::new(Bug::None, 1)
}

store_suite!(a_store_that_is_right, Opened::new(right()));
store_suite!(a_store_in_wrappers_that_never_wait, Opened::new(Counting::new(Failing::new(right()))));
store_suite!(a_store_in_wrappers, Opened::new(Counting::new(Yielding::both(Failing::new(right())))));

type Check = fn(&Opened<Model>);

/// A mistake, how many callers must meet for it, and the check that is there to catch it.
macro_rules! mistakes {
    ($($bug:ident($threads:literal) => $check:ident;)*) => {
        [$((Bug::$bug, $threads, stringify!($check), suite::$check as Check)),*]
    };
}

#[test]
fn every_mistake_is_caught_by_the_check_that_is_there_for_it() {
    let mistakes = mistakes! {
        InsertReplaces(1) => r001_a_taken_handle_is_never_given_to_another_session;
        InsertEvictsBeforeItKnows(1) => r001_a_taken_handle_is_never_given_to_another_session;
        InsertReusesEndedHandles(1) => r001_the_handle_of_an_ended_session_is_not_given_out_again;
        InsertTakesTooLarge(1) => a_record_above_one_mebibyte_is_refused_and_nothing_is_stored;
        ReplaceTakesTooLarge(1) => a_record_above_one_mebibyte_is_refused_and_nothing_is_stored;
        HandlesAreCutShort(1) => handles_of_any_bytes_are_told_apart;
        ReplaceIgnoresTheVersion(1) => r053_a_replace_of_another_version_changes_nothing;
        ReplaceRevives(1) => r060_a_late_write_never_revives_a_removed_session;
        ReplaceCreates(1) => r060_a_replace_or_touch_never_creates_a_session;
        ReplaceStoresTheGivenVersion(1) => a_replace_of_the_expected_version_stores_the_next;
        ReplaceMovesActivityBack(1) => a_replace_never_moves_activity_back;
        ReplaceChecksAndWritesApart(8) => r053_of_parallel_replaces_of_one_version_one_wins;
        TouchMovesActivityBack(1) => a_touch_moves_activity_forward_only_and_leaves_the_version;
        TouchCountsAsVersion(1) => a_touch_moves_activity_forward_only_and_leaves_the_version;
        RemoveLeavesNoTombstone(1) => r054_a_removal_leaves_a_tombstone_of_the_latest_record;
        RemoveAnswersWithNothing(1) => r054_a_removal_leaves_a_tombstone_of_the_latest_record;
        RemoveBuriesTwice(1) => a_second_removal_finds_nothing_and_leaves_the_tombstone;
        EpochIsIgnored(1) => r054_a_login_that_began_before_all_sessions_were_ended_is_refused;
        EndedAgoByTheCallersClock(1) => r054_how_long_ago_all_sessions_were_ended_is_told_by_the_stores_clock_alone;
        EndedAgoOfTheFirst(1) => r054_how_long_ago_all_sessions_were_ended_is_told_by_the_stores_clock_alone;
        EndedAgoOfEverybodyIsNotTold(1) => r058_a_login_that_began_before_everybodys_sessions_were_ended_is_refused;
        EverybodyHasNoEpoch(1) => r058_a_login_that_began_before_everybodys_sessions_were_ended_is_refused;
        EverybodyIsForgottenInAnswers(1) => r058_a_login_that_began_before_everybodys_sessions_were_ended_is_refused;
        EverybodyIsRaisedApart(13) => r058_no_login_survives_an_end_of_everybodys_sessions_that_it_races;
        EverybodyButVisitors(1) => r058_ending_everybodys_sessions_ends_every_session_and_says_how_many;
        EverybodyIsAThousand(1) => r058_ending_everybodys_sessions_ends_every_session_and_says_how_many;
        EverybodyLeavesNoTombstones(1) => r058_ending_everybodys_sessions_ends_every_session_and_says_how_many;
        EpochKeepsAnonymousOut(1) => an_epoch_concerns_its_subject_only;
        EpochNeedsSessions(1) => ending_all_sessions_raises_the_epoch_even_without_sessions;
        EpochComesBack(1) => a_sweep_forgets_epochs_after_their_time_and_not_before;
        EpochIsRaisedApart(13) => r069_no_login_survives_an_end_of_all_sessions_that_it_races;
        CapIsIgnored(1) => r069_a_cap_that_denies_refuses_one_login_more;
        DenyDeniesAlways(1) => r069_a_cap_that_denies_lets_sessions_never_presented_make_room;
        DenyEvictsPresented(1) => r069_a_cap_that_denies_refuses_one_login_more;
        DenyCountsPresentedOnly(1) => r069_a_cap_that_denies_lets_sessions_never_presented_make_room;
        CapCountsExpired(1) => r069_expired_sessions_do_not_count_under_a_cap;
        CapIgnoresTouches(1) => r069_expired_sessions_do_not_count_under_a_cap;
        CapCountsAnonymous(1) => anonymous_sessions_ignore_caps;
        CapIsCheckedApart(64) => r069_parallel_logins_fill_a_denying_cap_exactly;
        CapIsCheckedApart(32) => r069_parallel_logins_under_an_evicting_cap_leave_it_full;
        EvictsTheOldestAlways(1) => r069_a_cap_that_evicts_the_idle_ends_the_one_idle_longest;
        EvictsTheIdleAlways(1) => r069_a_cap_that_evicts_the_oldest_ends_the_one_created_first;
        EvictsPresentedFirst(1) => r069_a_session_that_was_never_presented_is_evicted_first;
        EvictsOneAtMost(1) => r069_a_lowered_cap_evicts_as_many_as_are_over_it;
        EvictsWithoutTombstone(1) => r069_a_cap_that_evicts_the_oldest_ends_the_one_created_first;
        SubjectsFoldCase(1) => subjects_that_look_alike_are_told_apart;
        SubjectsAreTrimmed(1) => subjects_that_look_alike_are_told_apart;
        SubjectsAreCutShort(1) => the_longest_subject_is_kept_whole;
        RemoveAllKeepsNothing(1) => r057_ending_all_others_keeps_the_one_named;
        RemoveAllEndsTheKept(1) => r057_ending_all_others_keeps_the_one_named;
        RemoveAllAnswersWithNothing(1) => r058_ending_all_sessions_ends_exactly_those_of_the_subject;
        AtOnceMissesRemovals(1) => r054_a_removal_leaves_a_tombstone_of_the_latest_record;
        AtOnceMissesRemovals(4) => r060_a_removal_wins_against_writes_that_race_it;
        AtOnceMissesReplaces(1) => a_replace_of_the_expected_version_stores_the_next;
        AtOnceMissesTouches(1) => a_touch_moves_activity_forward_only_and_leaves_the_version;
        AtOnceMissesEvictions(1) => r069_a_cap_that_evicts_the_oldest_ends_the_one_created_first;
        AtOnceMissesEndsOfAll(1) => r058_ending_all_sessions_ends_exactly_those_of_the_subject;
        AtOnceMissesSweeps(1) => r047_a_sweep_ends_expired_sessions_with_reason_and_deadline;
        AtOnceHidesEnded(1) => r054_a_removal_leaves_a_tombstone_of_the_latest_record;
        FindHidesExpired(1) => r047_an_expired_session_is_found_until_it_is_swept;
        SweepIgnoresTouches(1) => a_sweep_spares_a_session_that_was_touched_and_comes_back_later;
        SweepIgnoresTheBatch(1) => a_sweep_takes_no_more_than_its_batch_and_says_when_there_is_more;
        SweepNeverSaysMore(1) => a_sweep_takes_no_more_than_its_batch_and_says_when_there_is_more;
        SweepAlwaysSaysMore(1) => a_sweep_takes_no_more_than_its_batch_and_says_when_there_is_more;
        SweepSaysIdleAlways(1) => r047_a_sweep_ends_expired_sessions_with_reason_and_deadline;
        SweepEndsNow(1) => r047_a_sweep_ends_expired_sessions_with_reason_and_deadline;
        SweepLeavesNoTombstone(1) => r047_a_sweep_ends_expired_sessions_with_reason_and_deadline;
        InsertMovesActivityToCreation(1) =>
            r044_a_session_that_waits_for_its_token_ends_early_unless_it_comes_back;
        SweepEndsEarly(1) => a_sweep_keeps_sessions_that_have_time_left;
        SweepForgetsTombstonesEarly(1) => a_sweep_forgets_tombstones_after_their_time_and_not_before;
        SweepKeepsTombstones(1) => a_sweep_forgets_tombstones_after_their_time_and_not_before;
        SweepForgetsEpochsEarly(1) => a_sweep_forgets_epochs_after_their_time_and_not_before;
        SweepKeepsEpochs(1) => a_sweep_forgets_epochs_after_their_time_and_not_before;
    };
    let mut missed = Vec::new();
    for (bug, threads, name, check) in mistakes {
        let store = Opened::new(Model::new(bug, threads));
        if catch_unwind(AssertUnwindSafe(|| check(&store))).is_ok() {
            missed.push(format!("{bug:?} by {name}"));
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

/// A check that is written but not named in the macro would never run.
#[test]
fn every_check_is_in_the_macro() {
    let files = [
        include_str!("../src/suite/admission.rs"),
        include_str!("../src/suite/basics.rs"),
        include_str!("../src/suite/everybody.rs"),
        include_str!("../src/suite/limits.rs"),
        include_str!("../src/suite/parallel.rs"),
        include_str!("../src/suite/subjects.rs"),
        include_str!("../src/suite/sweeping.rs"),
    ];
    let mut written: Vec<&str> = files
        .iter()
        .flat_map(|file| file.lines())
        .filter_map(|line| line.strip_prefix("pub fn ")?.split_once('<'))
        .map(|(name, _)| name)
        .collect();
    written.sort_unstable();
    macro_rules! names {
        (; $($check:ident)*) => { vec![$(stringify!($check)),*] };
    }
    let mut named: Vec<&str> = cloakroom_testkit::__each_check!([names]);
    named.sort_unstable();
    assert_eq!(written, named);
}
