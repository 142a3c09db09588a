//! What the scripts write and for how long, what they make of the server's clock, and what they do with entries that are damaged.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports by panicking"
)]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::policy::Policy;
use cloakroom_core::record::{Record, Subject};
use cloakroom_core::store::{
    Admission, AtCap, BySubject as _, Cap, EndNotice, Epoch, Figures, Found, Inserted, Reason, Replaced,
    Store as _, StoreError, StoreErrorKind, Tombstone,
};
use cloakroom_core::token::Handle;
use cloakroom_redis::RedisStore;
use cloakroom_testkit::servers::Redis;
use cloakroom_testkit::suite::{EPOCH_TTL, TOMBSTONE_TTL};
use support::{NOW, admission, admitted, alice, hear, listen, options, prefix, put, runtime, sessions};
use tokio::runtime::Runtime;

/// Those of `sessions`.
const IDLE: Duration = Duration::from_secs(1800);
const ABSOLUTE: Duration = Duration::from_secs(86_400);
/// What a test may take itself. Whatever differs here differs by more.
const SLACK: Duration = Duration::from_secs(600);

struct Server {
    runtime: Runtime,
    store: RedisStore,
    prefix: String,
}

impl Server {
    fn open() -> Self {
        let (runtime, prefix) = (runtime(), format!("scripts-{}", prefix()));
        let options = options(&Redis::shared().url()).prefix(&*prefix);
        let store = runtime.block_on(options.connect()).unwrap();
        let figures = Policy::default().figures();
        store.govern(Figures { tombstone_ttl: TOMBSTONE_TTL, epoch_ttl: EPOCH_TTL, ..figures });
        Self { runtime, store, prefix }
    }

    fn key(&self, tag: u16, kind: &str, rest: &[u8]) -> Vec<u8> {
        [format!("{}:{{{tag:04x}}}:{kind}:", self.prefix).as_bytes(), rest].concat()
    }

    fn session(&self, record: &Record) -> Vec<u8> {
        self.key(record.handle().tag(), "s", record.handle().as_bytes())
    }

    fn of(&self, kind: &str, subject: &Subject) -> Vec<u8> {
        self.key(Handle::tag_of(subject), kind, subject.as_str().as_bytes())
    }

    /// The server keeps a key for so long, less what the test has taken.
    fn keeps(&self, what: &str, key: &[u8], expected: Duration) {
        let left = Redis::shared().try_ask(&[b"PTTL", key]).unwrap().number();
        let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
        assert!((expected - SLACK..=expected).contains(&left), "{what}: {left:?} and not {expected:?}");
    }
}

/// The same session with another time of its last activity.
fn seen(record: &Record, at: Timestamp) -> Record {
    Record::decode(record.handle(), record.version(), at, &record.encode().unwrap()).unwrap()
}

#[test]
fn r047_a_session_is_kept_for_its_limits_and_the_index_of_its_subject_as_long_as_the_longest() {
    let server = Server::open();
    let Server { runtime, store, .. } = &server;
    let half = IDLE / 2;
    let late = NOW.plus(ABSOLUTE - half);
    let (short, whole) = (half + TOMBSTONE_TTL, IDLE + TOMBSTONE_TTL);
    runtime.block_on(async {
        for (how, seed) in [("touched", 1), ("replaced", 2)] {
            let subject = Subject::new(how).unwrap();
            let write = async |record: &Record, at: Timestamp| {
                if how == "touched" {
                    return store.touch(record.handle(), at).await.unwrap();
                }
                let Found::Live(found) = store.find(record.handle()).await.unwrap() else { panic!("gone") };
                let next = found.clone().replacing(found.version(), at);
                assert_eq!(store.replace(found.version(), next).await.unwrap(), Replaced::Replaced);
            };
            let index = server.of("u", &subject);
            // It waits for its token to come back, and has what is left of its time until then.
            let first = &sessions(Some(&subject), 1, seed)[0];
            put(store, &[seen(first, NOW.minus(half))]).await;
            server.keeps(how, &server.session(first), short);
            server.keeps(how, &index, short);
            write(first, NOW).await;
            server.keeps(how, &server.session(first), whole);
            server.keeps(how, &index, whole);
            // Near its absolute limit the idle one gives nothing more, and the index stays for the longest.
            write(first, late).await;
            server.keeps(how, &server.session(first), short);
            server.keeps(how, &index, whole);
            let other = &sessions(Some(&subject), 1, seed + 10)[0];
            put(store, &[seen(other, late)]).await;
            server.keeps(how, &server.session(other), short);
            server.keeps(how, &index, whole);
            // Beyond the absolute one there is the tombstone's time only.
            write(other, NOW.plus(ABSOLUTE + IDLE)).await;
            server.keeps(how, &server.session(other), TOMBSTONE_TTL);
        }
    });
}

#[test]
fn r054_what_is_left_of_an_ended_session_and_of_an_end_of_all_is_kept_for_the_policys_time() {
    let server = Server::open();
    let Server { runtime, store, .. } = &server;
    runtime.block_on(async {
        let records = sessions(Some(&alice()), 3, 5);
        put(store, &records).await;
        let notices = listen(store);
        hear(&notices, EndNotice::Missed);
        hear(&notices, EndNotice::Missed);
        store.remove(records[0].handle(), Reason::LoggedOut, NOW).await.unwrap();
        let indexed = Redis::shared().try_ask(&[b"HLEN", &server.of("u", &alice())]).unwrap().number();
        assert_eq!(indexed, 2, "who has logged out leaves the index");
        store.remove_all(&alice(), Some(records[1].handle()), Reason::RevokedAll, NOW).await.unwrap();
        assert_eq!(store.remove_everybody(Reason::RevokedAll, NOW).await.unwrap(), 1);
        for record in [&records[0], &records[2], &records[1]] {
            server.keeps("a tombstone", &server.session(record), TOMBSTONE_TTL);
            hear(&notices, EndNotice::Ended(record.handle()));
        }
        server.keeps("alice's epoch", &server.of("e", &alice()), EPOCH_TTL);
        server.keeps("everybody's", &server.key(Handle::tag_of(&alice()), "e", b""), EPOCH_TTL);
        let index = Redis::shared().try_ask(&[b"EXISTS", &server.of("u", &alice())]).unwrap();
        assert_eq!(index.number(), 0, "nobody is left in it");
    });
}

/// Were it longer ago by the store's reckoning than it is, a login that began before would be let in.
#[test]
fn r058_how_long_ago_an_end_was_is_told_to_the_millisecond() {
    let server = Server::open();
    let Server { runtime, store, .. } = &server;
    runtime.block_on(async {
        for before in [10_000, 3_600_000, 86_400_000] {
            let first = store.time().await.unwrap().unwrap();
            let ended = first.as_millis() - before;
            let value = [ended.to_be_bytes(), [0; 8]].concat();
            for subject in ["alice", ""] {
                let key = server.key(Handle::tag_of(&alice()), "e", subject.as_bytes());
                Redis::shared().try_ask(&[b"SET", &key, &value]).unwrap();
                let from = store.time().await.unwrap().unwrap().as_millis() - ended;
                let ago = store.standing(&alice()).await.unwrap().ended_ago.unwrap();
                let to = store.time().await.unwrap().unwrap().as_millis() - ended;
                let ago = u64::try_from(ago.as_millis()).unwrap();
                assert!((from..=to).contains(&ago), "{subject}: {ago} is not within {from} to {to}");
                Redis::shared().try_ask(&[b"DEL", &key]).unwrap();
            }
        }
    });
}

/// A part of a millisecond counts as a whole one, so that the end is never taken for earlier than it was.
#[test]
fn r058_the_number_of_an_end_is_later_than_any_moment_before_it() {
    let server = Server::open();
    let Server { runtime, store, .. } = &server;
    runtime.block_on(async {
        for number in 0..200 {
            let subject = Subject::new(format!("user {number}")).unwrap();
            let before = store.time().await.unwrap().unwrap();
            let removed = store.remove_all(&subject, None, Reason::RevokedAll, NOW).await.unwrap();
            let after = store.time().await.unwrap().unwrap();
            let number = removed.epoch.number();
            assert!(number > before.as_millis() && number <= after.as_millis() + 1, "{number}");
        }
    });
}

/// An older version of the store that runs beside this one reads it.
#[test]
fn r058_an_end_keeps_the_latest_time_that_a_caller_has_given() {
    let server = Server::open();
    let Server { runtime, store, .. } = &server;
    runtime.block_on(async {
        let noted = |kind: &str, rest: &[u8]| {
            let key = server.key(Handle::tag_of(&alice()), kind, rest);
            let value = Redis::shared().try_ask(&[b"GETRANGE", &key, b"8", b"-1"]).unwrap();
            value.bytes().to_vec()
        };
        for (now, latest) in [(500, 500), (700, 700), (600, 700)] {
            let expected = Timestamp::from_secs(latest).as_millis().to_be_bytes();
            let now = Timestamp::from_secs(now);
            store.remove_all(&alice(), None, Reason::RevokedAll, now).await.unwrap();
            assert_eq!(noted("e", b"alice"), expected);
            store.remove_everybody(Reason::RevokedAll, now).await.unwrap();
            assert_eq!(noted("e", b""), expected);
        }
    });
}

/// What the scripts read of a session to end it is enough for any: the subject lies before the tombstone.
#[test]
fn r054_a_session_of_the_longest_subject_leaves_its_whole_tombstone_however_it_ends() {
    let server = Server::open();
    let Server { runtime, store, .. } = &server;
    let subject = Subject::new("s".repeat(255)).unwrap();
    runtime.block_on(async {
        let records = sessions(Some(&subject), 5, 7);
        let indexed = || Redis::shared().try_ask(&[b"HLEN", &server.of("u", &subject)]).unwrap().number();
        put(store, &records[..1]).await;
        let cap = Some(Cap { max: 1, at_cap: AtCap::EvictOldest });
        let evicting = Admission { cap, ..admission() };
        let evicted = Inserted::Inserted { evicted: vec![records[0].handle()] };
        assert_eq!(store.insert(records[1].clone(), evicting).await.unwrap(), evicted);
        assert_eq!(indexed(), 1, "who had to make room leaves the index");
        put(store, &records[2..4]).await;
        store.remove(records[1].handle(), Reason::LoggedOut, NOW).await.unwrap();
        let kept = Some(records[3].handle());
        store.remove_all(&subject, kept, Reason::RevokedAll, NOW).await.unwrap();
        store.remove_everybody(Reason::Revoked, NOW).await.unwrap();
        let reasons = [Reason::Evicted, Reason::LoggedOut, Reason::RevokedAll, Reason::Revoked];
        for (record, reason) in records.iter().zip(reasons) {
            let expected = Found::Ended(Tombstone::of(record, reason, NOW));
            assert_eq!(store.find(record.handle()).await.unwrap(), expected);
        }
        let since = store.epoch(&subject).await.unwrap();
        assert!(since > Epoch::default());
        let again = Admission { since, ..admission() };
        assert_eq!(store.insert(records[4].clone(), again).await.unwrap(), admitted());
    });
}

/// The scripts take them in batches.
#[test]
fn r058_of_thousands_of_sessions_that_end_at_once_each_end_is_announced_and_none_stays_in_the_index() {
    let server = Server::open();
    let Server { runtime, store, .. } = &server;
    runtime.block_on(async {
        let records = sessions(Some(&alice()), 2500, 9);
        put(store, &records).await;
        let notices = listen(store);
        hear(&notices, EndNotice::Missed);
        hear(&notices, EndNotice::Missed);
        store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap();
        let mut missing: HashSet<_> = records.iter().map(Record::handle).collect();
        while !missing.is_empty() {
            let notice = notices.recv_timeout(Duration::from_secs(120));
            match notice.unwrap_or_else(|_| panic!("{} were never announced", missing.len())) {
                EndNotice::Ended(handle) => assert!(missing.remove(&handle)),
                other => panic!("{other:?}"),
            }
        }
        // And none a second time: the next to be heard is the next to end.
        let last = &sessions(None, 1, 10)[0];
        put(store, std::slice::from_ref(last)).await;
        store.remove(last.handle(), Reason::LoggedOut, NOW).await.unwrap();
        let next = notices.recv_timeout(Duration::from_secs(120)).unwrap();
        assert_eq!(next, EndNotice::Ended(last.handle()));
        let index = Redis::shared().try_ask(&[b"EXISTS", &server.of("u", &alice())]).unwrap();
        assert_eq!(index.number(), 0, "nobody is left in it");
    });
}

/// Cut off in the middle of what a script reads of it: whoever asks for it gets an error, and it ends with the others.
#[test]
fn r058_r070_a_damaged_session_is_an_error_wherever_it_is_cut_off_and_does_not_outlive_an_end_of_all() {
    let server = Server::open();
    let Server { runtime, store, .. } = &server;
    let whole = 44 + alice().as_str().len();
    let cuts = [1, 9, 41, 42, 43, 44, whole - 1];
    runtime.block_on(async {
        for end_all in ["hers", "everybodys"] {
            let since = store.epoch(&alice()).await.unwrap();
            let records = sessions(Some(&alice()), cuts.len() + 1, if end_all == "hers" { 21 } else { 22 });
            for (record, cut) in records.iter().zip(cuts.into_iter().chain([usize::MAX])) {
                let admission = Admission { since, ..admission() };
                assert_eq!(store.insert(record.clone(), admission).await.unwrap(), admitted());
                let key = server.session(record);
                let value = Redis::shared().try_ask(&[b"GETRANGE", &key, b"0", b"-1"]).unwrap();
                let Some(value) = value.bytes().get(..cut) else { continue };
                Redis::shared().try_ask(&[b"SET", &key, value, b"KEEPTTL"]).unwrap();
                let corrupt = |error: StoreError| assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{cut}");
                corrupt(store.find(record.handle()).await.unwrap_err());
                corrupt(store.touch(record.handle(), NOW.plus(IDLE)).await.unwrap_err());
                corrupt(store.replace(record.version(), record.clone()).await.unwrap_err());
                corrupt(store.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap_err());
                corrupt(store.list(&alice()).await.unwrap_err());
            }
            if end_all == "hers" {
                let removed = store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap();
                assert_eq!(removed.ended.len(), records.len());
            } else {
                let ended = store.remove_everybody(Reason::RevokedAll, NOW).await.unwrap();
                assert_eq!(ended, records.len() as u64);
            }
            for (record, cut) in records.iter().zip(cuts) {
                let bare = Tombstone::bare(Reason::RevokedAll, NOW);
                assert_eq!(
                    store.find(record.handle()).await.unwrap(),
                    Found::Ended(bare),
                    "{end_all}: {cut}"
                );
            }
        }
    });
}

/// Or it would grow with each login for as long as the subject comes back.
#[test]
fn r069_a_session_that_has_expired_leaves_the_index_when_the_subject_is_looked_at_next() {
    let server = Server::open();
    let Server { runtime, store, .. } = &server;
    runtime.block_on(async {
        let cap = Some(Cap { max: 2, at_cap: AtCap::EvictOldest });
        for (what, cap, left) in
            [("a login", None, 1), ("a login under a cap", cap, 1), ("a list", None, 0), ("an end", None, 0)]
        {
            let subject = Subject::new(what).unwrap();
            let records = sessions(Some(&subject), 3, 30);
            put(store, &records[..2]).await;
            for record in &records[..2] {
                Redis::shared().try_ask(&[b"DEL", &server.session(record)]).unwrap();
            }
            match what {
                "a list" => assert_eq!(store.list(&subject).await.unwrap(), []),
                "an end" => {
                    let removed = store.remove_all(&subject, None, Reason::RevokedAll, NOW).await.unwrap();
                    assert_eq!(removed.ended, []);
                }
                _ => {
                    let admission = Admission { cap, ..admission() };
                    assert_eq!(store.insert(records[2].clone(), admission).await.unwrap(), admitted());
                }
            }
            let indexed = Redis::shared().try_ask(&[b"HLEN", &server.of("u", &subject)]).unwrap().number();
            assert_eq!(indexed, left, "{what}");
        }
    });
}

/// What the server refuses to write it may still answer.
#[test]
fn a_probe_writes_as_a_login_does_and_what_it_wrote_goes_by_itself() {
    let server = Redis::start(&[]);
    let runtime = runtime();
    runtime.block_on(async {
        let store = options(&server.url()).connect().await.unwrap();
        let sets = || {
            let info = server.ask(&["INFO", "commandstats"]);
            let info = String::from_utf8(info.bytes().to_vec()).unwrap();
            let set = info.lines().find_map(|line| line.strip_prefix("cmdstat_set:calls=")).unwrap();
            set.split(',').next().unwrap().parse::<u32>().unwrap()
        };
        let before = sets();
        store.probe().await.unwrap();
        assert_eq!(sets(), before + 1);
        for key in server.ask(&["KEYS", "*"]).list() {
            let left = server.try_ask(&[b"PTTL", key.bytes()]).unwrap().number();
            assert_ne!(left, -1, "it stays");
        }
    });
}

/// A number of eight bytes, each of which counts.
#[test]
fn r053_a_replace_of_a_version_that_differs_in_any_byte_is_stale() {
    let server = Server::open();
    let Server { runtime, store, .. } = &server;
    runtime.block_on(async {
        let record = &sessions(None, 1, 40)[0];
        put(store, std::slice::from_ref(record)).await;
        let key = server.session(record);
        for byte in 0..8 {
            let stored = (record.version().number() ^ 1 << (8 * byte)).to_be_bytes();
            Redis::shared().try_ask(&[b"SETRANGE", &key, b"1", &stored]).unwrap();
            let replaced = store.replace(record.version(), record.clone()).await.unwrap();
            assert_eq!(replaced, Replaced::Stale, "byte {byte}");
        }
    });
}

/// It would be in the index of one subject and be another's.
#[test]
fn r054_a_replace_never_gives_a_session_to_another_subject() {
    let server = Server::open();
    let Server { runtime, store, .. } = &server;
    let bob = Subject::new("bob").unwrap();
    runtime.block_on(async {
        let mine = &sessions(Some(&alice()), 1, 41)[0];
        put(store, std::slice::from_ref(mine)).await;
        for other in [Some(&bob), None] {
            let body = sessions(other, 1, 42)[0].encode().unwrap();
            let taken = Record::decode(mine.handle(), mine.version(), mine.seen(), &body).unwrap();
            let error = store.replace(mine.version(), taken).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error:?}");
        }
        assert_eq!(store.find(mine.handle()).await.unwrap(), Found::Live(mine.clone()));
    });
}
