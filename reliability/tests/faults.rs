//! Servers that are killed, paused and cut off while clients write: the recorded history must be in order all the same.
//!
//! A history in order means that every acknowledged logout stayed a logout, that no acknowledged write was lost, and that no look-up
//! took a fault for "no such session". Where a setting cannot promise that, the same check is shown to fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports by panicking"
)]

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use cloakroom_postgres::PostgresOptions;
use cloakroom_redis::{RedisOptions, RedisStore};
use cloakroom_reliability::histories::{Load, Recorder, Settings, Violation, check};
use cloakroom_reliability::report::Row;
use cloakroom_reliability::size::Size;
use cloakroom_reliability::target::block_on;
use cloakroom_sqlite::SqliteStore;
use cloakroom_testkit::servers::{Postgres, PostgresSettings, Redis, RedisCluster};
use cloakroom_testkit::suite::FullStore;
use tempfile::TempDir;

/// How long a store waits for its server in these tests. Nothing is asserted about it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Calls before, between and after faults.
const CALLS: u64 = 400;
const DURABLE: [&str; 2] = ["appendonly yes", "appendfsync always"];

/// A way to break a server, and to mend it.
struct Fault<'a> {
    name: &'static str,
    strike: &'a dyn Fn(),
    mend: &'a dyn Fn(),
    /// Whether calls fail for as long as nobody mends it.
    lasts: bool,
}

fn nothing() {}

/// Runs a load through all faults, one after the other, and checks its history.
async fn ride_out<S: FullStore + Clone>(
    store: &S,
    faults: &[Fault<'_>],
    seed: u64,
    row: &mut Row,
) -> Result<(), Box<Violation>> {
    let load = Load::start(store, &Settings { seed, ..Settings::default() });
    load.reached(CALLS).await;
    for fault in faults {
        let before = load.progress();
        (fault.strike)();
        if fault.lasts {
            load.failed_since(before).await;
        }
        (fault.mend)();
        // Service has resumed by itself.
        load.reached(CALLS).await;
        row.count("faults", 1);
        row.count(fault.name, 1);
    }
    let recorder = load.stop().await;
    recorder.audit(store).await;
    assert_eq!(recorder.corrupt(), 0, "{:?}", recorder.errors());
    row.count("runs", 1);
    row.count("histories", 1);
    row.count("operations", recorder.history().answered());
    check(&recorder.history()).map(drop)
}

fn rounds() -> u64 {
    Size::asked_for().pick(1, 10)
}

#[test]
fn r054_r060_r070_postgresql_killed_paused_and_cut_off_under_load_forgets_nothing() {
    let server = Postgres::start(PostgresSettings::new());
    let mut row = Row::new("PostgreSQL", "faults");
    for seed in 0..rounds() {
        let options = PostgresOptions::parse(&server.url()).expect("the test server's address");
        let options = options.schema(format!("faults{seed}")).timeout(TIMEOUT);
        let outcome = block_on(async {
            options.migrate().await.expect("a new schema");
            let store = options.connect().await.expect("the test server");
            let faults = [
                Fault { name: "cuts", strike: &|| server.cut_connections(), mend: &nothing, lasts: false },
                Fault {
                    name: "kills",
                    strike: &|| server.kill(),
                    mend: &|| server.start_again(),
                    lasts: true,
                },
                Fault { name: "pauses", strike: &|| server.pause(), mend: &|| server.resume(), lasts: true },
            ];
            ride_out(&store, &faults, seed, &mut row).await
        });
        outcome.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

fn redis_store(url: &str) -> RedisStore {
    let options = RedisOptions::parse(url).expect("the test server's address").timeout(TIMEOUT);
    block_on(options.connect()).expect("the test server")
}

fn redis_rides_out(server: &Redis, seed: u64, row: &mut Row) -> Result<(), Box<Violation>> {
    let store = redis_store(&server.url());
    let faults = [
        Fault { name: "cuts", strike: &|| server.cut_connections(), mend: &nothing, lasts: false },
        Fault { name: "kills", strike: &|| server.kill(), mend: &|| server.start_again(), lasts: true },
        Fault { name: "pauses", strike: &|| server.pause(), mend: &|| server.resume(), lasts: true },
    ];
    block_on(ride_out(&store, &faults, seed, row))
}

#[test]
fn r054_r060_r070_redis_with_an_always_flushed_log_killed_paused_and_cut_off_under_load_forgets_nothing() {
    let mut row = Row::new("Redis, appendfsync always", "faults");
    for seed in 0..rounds() {
        let server = Redis::start(&DURABLE);
        redis_rides_out(&server, seed, &mut row)
            .unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

#[test]
fn redis_without_persistence_fails_the_same_check_when_it_is_killed() {
    let mut row = Row::new("Redis without persistence", "faults (must fail the check)");
    let server = Redis::fleeting();
    let violation = redis_rides_out(&server, 0, &mut row).expect_err("what was forgotten went unnoticed");
    assert!(!violation.gave_up, "{violation}");
}

/// What a cluster can promise here: service, and no answer that takes the fault for an ended session while it lasts. A failover
/// may forget the last writes; docs/operator/redis.md says so, and `crates/cloakroom-redis/tests/cluster.rs` shows it.
#[test]
fn r070_a_cluster_whose_primary_is_killed_under_load_goes_on_by_itself() {
    let mut row = Row::new("Redis Cluster", "failover");
    for seed in 0..rounds() {
        let cluster = RedisCluster::start(&[DURABLE[0], DURABLE[1], "cluster-node-timeout 1000"]);
        let store = redis_store(&cluster.url());
        let settings = Settings { seed, ..Settings::default() };
        let recorder = block_on(async {
            let load = Load::start(&store, &settings);
            load.reached(CALLS).await;
            // The load's subjects lie in many slots; a third of all is without a primary for a while.
            for slot in [0, 8_000] {
                let killed = cluster.kill_primary_of(slot);
                cluster.wait_until_taken_over(slot, killed);
                load.reached(CALLS).await;
                killed.start_again();
                cluster.wait_until_whole();
                row.count("faults", 1);
                row.count("failovers", 1);
            }
            load.reached(CALLS).await;
            let recorder = load.stop().await;
            recorder.audit(&store).await;
            recorder
        });
        assert_eq!(recorder.corrupt(), 0, "{:?}", recorder.errors());
        row.count("runs", 1);
        row.count("operations", recorder.history().answered());
        // Not promised, so only counted.
        match check(&recorder.history()) {
            Ok(_) => row.count("histories-in-order", 1),
            Err(_) => row.count("histories-with-forgotten-writes", 1),
        }
    }
}

const FILE: &str = "CLOAKROOM_RELIABILITY_FILE";

/// Not a test of its own: what the next one runs in a process that it kills. Hands out its history line by line, and does not end.
#[test]
fn child_that_works_until_it_is_killed() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let store = SqliteStore::open(path).expect("the file");
    // Standard error: the test harness writes to the standard output.
    let recorder = Recorder::default()
        .to(|line| std::io::stderr().write_all(format!("{line}\n").as_bytes()).expect("a pipe"));
    block_on(async {
        let load = Load::start_recording(&store, &Settings::default(), recorder);
        loop {
            load.reached(1_000).await;
        }
    });
}

#[test]
fn r054_r060_sqlite_forgets_nothing_when_the_process_is_killed_under_load() {
    let mut row = Row::new("SQLite", "faults");
    for seed in 0..rounds() * 3 {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("sessions.db");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child_that_works_until_it_is_killed", "--nocapture"])
            .env(FILE, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program once more");
        let mut output = child.stderr.take().expect("a pipe");
        let (mut text, mut part) = (Vec::new(), [0; 4096]);
        while text.iter().filter(|byte| **byte == b'\n').count() < 3_000 {
            let read = output.read(&mut part).expect("the child's history");
            assert!(read > 0, "the child ended by itself: {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&part[..read]);
        }
        child.kill().expect("a child that runs");
        child.wait().expect("a child that ended");
        output.read_to_end(&mut text).expect("the rest of the child's history");
        let history = Recorder::read(&String::from_utf8(text).expect("lines of text"));
        assert!(history.lost() > 0, "it was killed in the middle of something");
        let store = SqliteStore::open(&path).expect("the file is whole");
        let recorder = Recorder::after(history);
        block_on(recorder.audit(&store));
        row.count("runs", 1);
        row.count("histories", 1);
        row.count("faults", 1);
        row.count("kills", 1);
        row.count("operations", recorder.history().answered());
        check(&recorder.history()).unwrap_or_else(|violation| panic!("run {seed}: {violation}"));
    }
}
