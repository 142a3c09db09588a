//! The suite that proves a store: one check per guarantee of the contract in [`cloakroom_core::store`].
//!
//! [`store_suite!`](crate::store_suite) makes a `#[test]` of each. Every check wants an empty store and panics with the broken
//! guarantee if there is one. A check whose name begins with `r` and three digits proves that requirement.
//!
//! The checks need no async runtime: [`Fixture::run`] drives the futures, by default with [`crate::block_on`].
//! All instants are given by the checks and lie in November 2023 to January 2024; the machine's clock is never read.

// Panicking is how a check reports.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a check reports by panicking"
)]

mod admission;
mod basics;
mod everybody;
mod limits;
mod parallel;
mod subjects;
mod sweeping;

pub use admission::*;
pub use basics::*;
pub use everybody::*;
pub use limits::*;
pub use parallel::*;
pub use subjects::*;
pub use sweeping::*;

use std::future::Future;
use std::time::Duration;

use cloakroom_core::client::Client;
use cloakroom_core::clock::Timestamp;
use cloakroom_core::lifecycle::establish::Draft;
use cloakroom_core::record::{Proof, Record, Subject};
use cloakroom_core::seal::Pepper;
use cloakroom_core::store::{
    Admission, AtCap, BySubject, Cap, Epoch, Found, Inserted, Reason, Store, Sweep, Tombstone,
};
use cloakroom_core::token::Handle;

use crate::entropy::SeededEntropy;

/// A store with all three abilities, as the layer and the suite require it.
pub trait FullStore: Store + BySubject + Sweep {}

impl<S: Store + BySubject + Sweep> FullStore for S {}

/// An empty store, opened for one check, and whatever must live as long as it does.
///
/// [`Opened`] is enough for most stores. One whose futures need a runtime implements this trait with a `run` that
/// enters it.
pub trait Fixture: Sync {
    /// The store under test.
    type Store: FullStore;

    /// The store.
    fn store(&self) -> &Self::Store;

    /// Drives a future to its end. Checks call this from several threads at once.
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        crate::block_on(future)
    }

    /// How the store lets go of what has had its time. By default it is swept.
    fn expiry(&self) -> Expiry {
        Expiry::Swept
    }

    /// Lets this much time pass for all that the store keeps, as far as it expires by itself. Only called where
    /// [`Fixture::expiry`] says so; the checks cannot wait.
    fn pass(&self, time: Duration) {
        panic!("{time:?} cannot pass: a fixture whose store expires by itself needs `pass`");
    }
}

/// How a store lets go of what has had its time. Where the two differ, a check of sweeping has a half for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// [`Sweep::sweep`] ends sessions and forgets the rest.
    Swept,
    /// Everything is forgotten by the store itself, and a sweep finds nothing to do. Tombstones are kept for [`TOMBSTONE_TTL`]
    /// and epochs for [`EPOCH_TTL`], so the store is to be opened with these.
    Native {
        /// How long a session is still found after its time, as a live one that has expired. At least an hour.
        margin: Duration,
    },
}

/// A store that needs no runtime, beside a value that is kept alive with it, such as a temporary directory.
#[derive(Debug)]
pub struct Opened<S, K = ()> {
    // The order matters: the store is closed before its directory goes.
    store: S,
    kept: K,
}

impl<S> Opened<S> {
    /// A store that needs nothing else.
    pub const fn new(store: S) -> Self {
        Self { store, kept: () }
    }
}

impl<S, K> Opened<S, K> {
    /// A store, and what must live as long as it does.
    pub const fn keeping(store: S, kept: K) -> Self {
        Self { store, kept }
    }

    /// What is kept alive.
    pub const fn kept(&self) -> &K {
        &self.kept
    }
}

impl<S: FullStore, K: Sync> Fixture for Opened<S, K> {
    type Store = S;

    fn store(&self) -> &S {
        &self.store
    }
}

/// Runs the whole suite against a store: expands to a module with one `#[test]` per check.
///
/// The first argument names the module. The second is an expression, evaluated anew for each test, that gives a
/// [`Fixture`] with an empty store: usually [`Opened::new`](crate::Opened::new) or
/// [`Opened::keeping`](crate::Opened::keeping).
///
/// ```ignore (the store is yours)
/// use cloakroom_testkit::{Opened, store_suite};
///
/// fn open() -> Opened<MyStore, TempDir> {
///     let directory = TempDir::new().unwrap();
///     Opened::keeping(MyStore::open(directory.path()).unwrap(), directory)
/// }
///
/// store_suite!(my_store, open());
/// ```
#[macro_export]
macro_rules! store_suite {
    ($name:ident, $fixture:expr) => {
        $crate::__each_check!([$crate::__store_tests] $name, $fixture);
    };
}

/// Hands the names of all checks to another macro. A test of this crate compares them with the checks there are.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_check {
    ([$($then:tt)*] $($arguments:tt)*) => {
        $($then)*! {
            $($arguments)*;
            a_session_is_found_exactly_as_it_was_inserted
            an_unknown_handle_is_absent
            r001_a_taken_handle_is_never_given_to_another_session
            r001_the_handle_of_an_ended_session_is_not_given_out_again
            a_replace_of_the_expected_version_stores_the_next
            r053_a_replace_of_another_version_changes_nothing
            r060_a_late_write_never_revives_a_removed_session
            r060_a_replace_or_touch_never_creates_a_session
            a_touch_moves_activity_forward_only_and_leaves_the_version
            a_replace_never_moves_activity_back
            r054_a_removal_leaves_a_tombstone_of_the_latest_record
            a_second_removal_finds_nothing_and_leaves_the_tombstone
            removing_an_unknown_session_leaves_no_trace
            a_clock_that_runs_backwards_does_no_harm
            r054_a_login_that_began_before_all_sessions_were_ended_is_refused
            r054_how_long_ago_all_sessions_were_ended_is_told_by_the_stores_clock_alone
            an_epoch_concerns_its_subject_only
            a_refused_login_evicts_nobody
            r069_a_cap_that_denies_refuses_one_login_more
            r069_a_cap_that_denies_lets_sessions_never_presented_make_room
            r069_a_cap_that_evicts_the_oldest_ends_the_one_created_first
            r069_a_cap_that_evicts_the_idle_ends_the_one_idle_longest
            r069_a_session_that_was_never_presented_is_evicted_first
            r069_expired_sessions_do_not_count_under_a_cap
            anonymous_sessions_ignore_caps
            r069_a_lowered_cap_evicts_as_many_as_are_over_it
            a_list_holds_the_live_sessions_of_its_subject_only
            a_list_shows_the_latest_version_and_activity
            subjects_that_look_alike_are_told_apart
            r058_ending_all_sessions_ends_exactly_those_of_the_subject
            r057_ending_all_others_keeps_the_one_named
            ending_all_sessions_raises_the_epoch_even_without_sessions
            r058_ending_everybodys_sessions_ends_every_session_and_says_how_many
            r058_a_login_that_began_before_everybodys_sessions_were_ended_is_refused
            r058_no_login_survives_an_end_of_everybodys_sessions_that_it_races
            ten_thousand_sessions_of_one_subject_are_listed_and_ended
            r001_of_parallel_inserts_of_one_handle_one_succeeds
            r069_parallel_logins_fill_a_denying_cap_exactly
            r069_parallel_logins_never_presented_leave_a_denying_cap_full
            r069_parallel_logins_under_an_evicting_cap_leave_it_full
            r053_of_parallel_replaces_of_one_version_one_wins
            r053_each_successful_replace_is_one_version
            r060_a_removal_wins_against_writes_that_race_it
            of_parallel_removals_one_ends_the_session
            r069_no_login_survives_an_end_of_all_sessions_that_it_races
            r047_a_sweep_ends_expired_sessions_with_reason_and_deadline
            a_sweep_keeps_sessions_that_have_time_left
            r044_a_session_that_waits_for_its_token_ends_early_unless_it_comes_back
            a_sweep_spares_a_session_that_was_touched_and_comes_back_later
            a_sweep_goes_by_the_limits_that_were_written_last
            a_sweep_takes_no_more_than_its_batch_and_says_when_there_is_more
            a_sweep_forgets_tombstones_after_their_time_and_not_before
            a_sweep_forgets_epochs_after_their_time_and_not_before
            r047_an_expired_session_is_found_until_it_is_swept
            a_sweep_does_not_report_sessions_that_had_ended_before
            the_longest_subject_is_kept_whole
            data_of_any_content_and_length_comes_back_unchanged
            handles_of_any_bytes_are_told_apart
            a_record_above_one_mebibyte_is_refused_and_nothing_is_stored
            limits_beyond_the_end_of_time_never_pass
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_tests {
    ($name:ident, $fixture:expr; $($check:ident)*) => {
        mod $name {
            #[allow(unused_imports, reason = "for the fixture expression")]
            use super::*;
            $(
                #[test]
                fn $check() {
                    $crate::suite::$check(&$fixture);
                }
            )*
        }
    };
}

/// Makes what the checks work on. Everything of one maker is repeatable; two makers share nothing.
struct Maker {
    seed: u32,
    entropy: SeededEntropy,
    pepper: Pepper,
}

/// When the checks begin: 2023-11-14T22:13:20Z.
const START: Timestamp = Timestamp::from_secs(1_700_000_000);
/// The idle limit of sessions made by [`Maker::session`].
const IDLE: Duration = Duration::from_secs(30 * 60);
/// How long tombstones are kept.
pub const TOMBSTONE_TTL: Duration = Duration::from_secs(3600);
/// How long the record of an "end all sessions" is kept.
pub const EPOCH_TTL: Duration = Duration::from_secs(48 * 3600);
/// The absolute limit of sessions made by [`Maker::session`].
const ABSOLUTE: Duration = Duration::from_secs(24 * 3600);

impl Maker {
    fn new(seed: u32) -> Self {
        let pepper = Pepper::new(&[7; 32]).expect("32 bytes make a pepper");
        Self { seed, entropy: SeededEntropy::new(seed.into()), pepper }
    }

    fn seal(&self, draft: Draft) -> Record {
        draft.seal(&self.pepper, &self.entropy).expect("a draft can be sealed").0
    }

    /// A session with the usual limits.
    fn session(&self, subject: Option<&Subject>, created: Timestamp) -> Record {
        self.seal(draft(subject, created))
    }

    /// A session whose token has been presented, a second after it was made.
    fn presented(&self, subject: &Subject, created: Timestamp) -> Record {
        let record = self.session(Some(subject), created);
        let seen = created.plus(Duration::from_secs(1));
        Record::decode(record.handle(), record.version(), seen, &record.encode().expect("a record"))
            .expect("the record can be decoded")
    }

    /// Another record under the same handle, version and activity: same subject and times, other secrets and data.
    fn variant(&self, of: &Record, data: &[u8]) -> Record {
        let fresh = Draft { data: data.to_vec(), ..draft(of.subject(), of.created()) };
        under(of, &self.seal(fresh))
    }
}

fn draft(subject: Option<&Subject>, created: Timestamp) -> Draft {
    Draft {
        subject: subject.cloned().map(|subject| (subject, Proof::default())),
        created,
        idle: IDLE,
        absolute: ABSOLUTE,
        client: Client::default(),
        data: b"data".to_vec(),
    }
}

/// The contents of `body` under the handle, version and activity of `of`.
fn under(of: &Record, body: &Record) -> Record {
    let bytes = body.encode().expect("the record can be encoded");
    Record::decode(of.handle(), of.version(), of.seen(), &bytes).expect("the record can be decoded")
}

fn subject(text: &str) -> Subject {
    Subject::new(text).expect("1 to 255 bytes")
}

fn at(secs: u64) -> Timestamp {
    START.plus(Duration::from_secs(secs))
}

/// No cap, and an epoch that was never bumped.
fn open_door(now: Timestamp) -> Admission {
    Admission { now, since: Epoch::default(), cap: None }
}

fn capped(now: Timestamp, max: u32, at_cap: AtCap) -> Admission {
    Admission { cap: Some(Cap { max, at_cap }), ..open_door(now) }
}

fn admitted() -> Inserted {
    Inserted::Inserted { evicted: Vec::new() }
}

/// Inserts a session that nothing keeps out.
async fn put(store: &impl FullStore, record: &Record) {
    let answer = store.insert(record.clone(), open_door(record.created())).await.expect("insert");
    assert_eq!(answer, admitted(), "a new session that nothing keeps out was not inserted");
}

/// What a store says of a session while nobody writes to it: by waiting, and at once if it can.
async fn find(store: &impl FullStore, handle: Handle) -> Found {
    let found = store.find(handle).await.expect("find");
    if let Some(at_once) = store.find_at_once(handle) {
        assert_eq!(
            at_once.expect("find_at_once"),
            found,
            "what is answered at once is not what waiting gives"
        );
    }
    found
}

/// The same while others write, when the two answers may differ: one of them, in turn.
async fn find_amid_writes(store: &impl FullStore, handle: Handle, turn: u64) -> Found {
    match store.find_at_once(handle).filter(|_| turn.is_multiple_of(2)) {
        Some(at_once) => at_once.expect("find_at_once"),
        None => store.find(handle).await.expect("find"),
    }
}

async fn assert_live(store: &impl FullStore, record: &Record) {
    assert_same(&find(store, record.handle()).await, record);
}

/// Compares all that a store keeps, byte by byte.
fn assert_same(found: &Found, record: &Record) {
    let Found::Live(found) = found else { panic!("a live session was answered as {found:?}") };
    assert_eq!(found, record, "the store changed a record");
    assert_eq!(found.encode().unwrap(), record.encode().unwrap(), "the store changed a record's bytes");
}

async fn assert_ended(store: &impl FullStore, record: &Record, reason: Reason, when: Timestamp) {
    assert_eq!(
        find(store, record.handle()).await,
        Found::Ended(Tombstone::of(record, reason, when)),
        "an ended session must leave exactly its tombstone"
    );
}

/// How long ago all sessions were ended.
async fn ended_ago(store: &impl FullStore, subject: &Subject) -> Option<Duration> {
    store.standing(subject).await.expect("standing").ended_ago
}

/// Waits until the store's clock has moved on since all sessions of a subject were ended. That is an event, and not far.
async fn let_the_clock_move(store: &impl FullStore, subject: &Subject) {
    for _ in 0..100_000_000_u32 {
        if ended_ago(store, subject).await.expect("all sessions were ended") > Duration::ZERO {
            return;
        }
    }
    panic!("the store's clock stands still");
}

async fn listed(store: &impl FullStore, subject: &Subject) -> Vec<Handle> {
    let records = store.list(subject).await.expect("list");
    // A few of many are enough.
    for record in records.iter().take(20) {
        assert_same(&find(store, record.handle()).await, record);
    }
    let mut handles: Vec<_> = records.iter().map(Record::handle).collect();
    handles.sort();
    handles
}

fn sorted(records: &[&Record]) -> Vec<Handle> {
    let mut handles: Vec<_> = records.iter().map(|record| record.handle()).collect();
    handles.sort();
    handles
}
