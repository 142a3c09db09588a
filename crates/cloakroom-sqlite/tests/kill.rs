//! A process that is killed in the middle of writing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking"
)]

mod support;

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cloakroom_core::store::{BySubject as _, Epoch, Found, Reason, Store as _};
use cloakroom_core::token::Handle;
use cloakroom_sqlite::SqliteStore;
use cloakroom_testkit::block_on;
use support::*;

const FILE: &str = "CLOAKROOM_TEST_FILE";
const THREADS: usize = 4;
const LOGOUTS: usize = 25;
const INSERTS: usize = 500;

/// Not a test of its own: what the other test runs in a process that it kills. Prints a line for each acknowledged write and never
/// ends by itself.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(path) = env::var_os(FILE) else { return };
    let store = SqliteStore::open(path).unwrap();
    let sessions = sessions(Some(&alice()), 20_000, 1);
    let (ended, others) = sessions.split_at(LOGOUTS);
    // One write each, so that lines of several threads do not mix; begins with a line's end, because the test harness may have
    // begun a line.
    let say = |word: &str, handle: Handle| {
        std::io::stdout().write_all(format!("\n{word} {handle}\n").as_bytes()).unwrap();
    };
    let (store, say, next) = (&store, &say, &AtomicUsize::new(0));
    for record in ended {
        block_on(store.insert(record.clone(), admission())).unwrap();
    }
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || {
                loop {
                    let turn = next.fetch_add(1, Ordering::SeqCst);
                    let record = &others[turn];
                    block_on(store.insert(record.clone(), admission())).unwrap();
                    say("inserted", record.handle());
                    if let Some(record) = ended.get(turn) {
                        block_on(store.remove(record.handle(), Reason::LoggedOut, NOW)).unwrap();
                        say("removed", record.handle());
                    }
                }
            });
        }
    });
}

#[test]
fn r054_a_committed_logout_survives_kill_9() {
    let place = Place::new();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
        .env(FILE, place.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut inserted, mut removed) = (BTreeSet::<Handle>::new(), BTreeSet::<Handle>::new());
    let mut note = |line: &str| {
        match line.split_once(' ') {
            // A line that was cut off by the kill acknowledges nothing.
            Some(("inserted", handle)) => handle.parse().is_ok_and(|handle| inserted.insert(handle)),
            Some(("removed", handle)) => handle.parse().is_ok_and(|handle| removed.insert(handle)),
            _ => false,
        };
        (inserted.len(), removed.len())
    };
    loop {
        let line = lines.next().expect("the child ended by itself").unwrap();
        let (inserted, removed) = note(&line);
        if inserted >= INSERTS && removed == LOGOUTS {
            break;
        }
    }
    // SIGKILL on Unix: no destructor runs, no buffer is flushed, and other threads are in the middle of a write.
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said before it died, and nobody had read yet.
    for line in lines {
        note(&line.unwrap());
    }

    let store = place.open();
    block_on(async {
        for handle in &removed {
            let Found::Ended(tombstone) = store.find(*handle).await.unwrap() else {
                panic!("an acknowledged logout was forgotten")
            };
            assert_eq!(tombstone.reason(), Reason::LoggedOut);
        }
        for handle in &inserted {
            assert!(
                matches!(store.find(*handle).await.unwrap(), Found::Live(_)),
                "an acknowledged login was forgotten"
            );
        }
        // Everything that is there is whole.
        let listed = store.list(&alice()).await.unwrap();
        assert!(listed.len() >= inserted.len());
        assert_eq!(store.epoch(&alice()).await.unwrap(), Epoch::default());
    });
    let verdict: String = place.connect().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}
