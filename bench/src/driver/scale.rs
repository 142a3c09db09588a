//! The stores when they are large: what a session costs there, and what grows with their number.
//!
//! Sessions come and go by the stores' own operations, as in production: many logins at a time, nothing else.

mod report;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cloakroom::core::client::Client;
use cloakroom::core::clock::{Clock as _, Timestamp};
use cloakroom::core::lifecycle::establish::Draft;
use cloakroom::core::record::{Proof, Record, Subject};
use cloakroom::core::seal::Pepper;
use cloakroom::core::store::{Admission, BySubject, Found, Inserted, Reason, Replaced, Epoch, Store, Sweep};
use cloakroom::{Handle, MemoryStore, Policy, SystemClock, SystemEntropy};
use cloakroom_postgres::PostgresOptions;
use cloakroom_redis::RedisOptions;
use cloakroom_sqlite::SqliteStore;
use cloakroom_testkit::servers::{Postgres, PostgresSettings, Redis};
use tokio::task::JoinHandle;

use super::stats::Spread;

pub(super) use self::report::{tables, targets};

/// Logins that are under way at a time while a store is filled.
const AT_A_TIME: usize = 64;
/// Single reads and writes whose median is shown.
const READS: usize = 3_000;
const WRITES: usize = 500;
/// Sessions of the subject that has many.
const MANY: usize = 1_000;
/// Sessions that expire together, where there are so many.
const EXPIRING: usize = 100_000;
const DAY: Duration = Duration::from_secs(86_400);

/// What was found of one store at one size. Times are microseconds.
pub(super) struct Row {
    pub(super) store: &'static str,
    pub(super) sessions: usize,
    bytes: f64,
    /// Opening the store where it holds that many; absent for a store that begins empty.
    start: Option<f64>,
    pub(super) read: Spread,
    pub(super) write: Spread,
    list: f64,
    end_one: f64,
    end_many: f64,
    /// A sweep when nothing is due.
    idle_sweep: f64,
    expiry: Expiry,
}

/// Many sessions whose time is up at once.
#[derive(Default)]
struct Expiry {
    sessions: usize,
    /// For each of them; absent where the store's server does it by itself.
    each: Option<f64>,
    longest_sweep: Option<f64>,
    /// What others wait meanwhile, and for as long afterwards.
    meanwhile: Waits,
    afterwards: Waits,
}

/// What reads and writes of other sessions wait for their answers.
#[derive(Clone, Copy, Default)]
struct Waits {
    read: Wait,
    write: Wait,
}

#[derive(Clone, Copy, Default)]
struct Wait {
    p99: f64,
    longest: f64,
}

impl Wait {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let last = times.len().saturating_sub(1);
        let at = |part: f64| times.get((part * last as f64).ceil() as usize).copied().unwrap_or_default();
        Self { p99: at(0.99), longest: at(1.0) }
    }
}

/// Fills and measures all stores.
pub(super) fn measure(most: usize, only: Option<&str>) -> Result<Vec<Row>> {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut rows = Vec::new();
        let before = resident()?;
        let memory = Bed { name: "memory", sizes: sizes(most), reopens: false, clears_itself: false };
        let bytes = |handles: usize| Ok(resident()? - before - 16.0 * handles as f64);
        if wanted(memory.name) {
            memory.measure(&mut rows, async || Ok(MemoryStore::with_capacity(30_000_000)), bytes).await?;
        }

        let sqlite = Bed { name: "SQLite", sizes: sizes(most), reopens: true, clears_itself: false };
        if wanted(sqlite.name) {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("scale.db");
            let bytes = |_| Ok(std::fs::metadata(&file)?.len() as f64);
            sqlite.measure(&mut rows, async || Ok(SqliteStore::open(&file)?), bytes).await?;
        }

        let postgres = Bed { name: "PostgreSQL", sizes: sizes(most), reopens: true, clears_itself: false };
        if wanted(postgres.name) {
            let server = Postgres::start(PostgresSettings::new().fleeting());
            let options = PostgresOptions::parse(&server.url())?;
            options.migrate().await?;
            let bytes = |_| table_size(&server);
            postgres.measure(&mut rows, async || Ok(options.clone().connect().await?), bytes).await?;
        }

        let redis = Bed { name: "Redis", sizes: sizes(most), reopens: true, clears_itself: true };
        if wanted(redis.name) {
            let server = Redis::start(&[]);
            let options = RedisOptions::parse(&server.url())?;
            let empty = used(&server)?;
            let bytes = |_| Ok(used(&server)? - empty);
            redis.measure(&mut rows, async || Ok(options.clone().connect().await?), bytes).await?;
        }
        Ok(rows)
    })
}

fn sizes(most: usize) -> Vec<usize> {
    let all = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    all.into_iter().filter(|size| *size <= most).collect()
}

/// Bytes of this process that are in memory.
fn resident() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

/// Whether there is memory for the largest size of a store that is in memory.
fn has_room(size: usize) -> Result<bool> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("MemAvailable")?;
    let available = line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0;
    Ok(size as f64 * 1_000.0 < available)
}

fn table_size(server: &Postgres) -> Result<f64> {
    let query =
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname = 'sessions' AND relkind = 'r'";
    let text = server.sql("postgres", query);
    let digits = text.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty());
    Ok(digits.with_context(|| format!("no size in {text:?}"))?.parse::<f64>()?)
}

fn used(server: &Redis) -> Result<f64> {
    let text = String::from_utf8_lossy(server.ask(&["INFO", "memory"]).bytes()).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("used_memory:")).context("used_memory")?;
    Ok(line.trim().parse()?)
}

/// A store to be measured, and how.
struct Bed {
    name: &'static str,
    sizes: Vec<usize>,
    /// Whether what it holds is still there when it is opened again.
    reopens: bool,
    /// Whether expired sessions go by themselves.
    clears_itself: bool,
}

impl Bed {
    async fn measure<S: BySubject + Sweep>(
        &self,
        rows: &mut Vec<Row>,
        open: impl AsyncFn() -> Result<S>,
        bytes: impl Fn(usize) -> Result<f64>,
    ) -> Result<()> {
        let mut store = Arc::new(open().await?);
        let mut handles = Vec::new();
        for &size in &self.sizes {
            if !has_room(size)? {
                eprintln!("bench: {}: no memory for {size} sessions", self.name);
                break;
            }
            eprintln!("bench: {}: {size} sessions", self.name);
            let more = size - handles.len();
            handles.extend(fill(&store, handles.len(), more, Draw::Lasting).await?);
            let mut start = None;
            if self.reopens {
                drop(Arc::into_inner(store).context("a store that is still in use")?);
                let begun = Instant::now();
                store = Arc::new(open().await?);
                start = Some(micros(begun));
            }
            let bytes = bytes(handles.len())? / size as f64;
            let (read, write) = (reads(&*store, &handles).await?, writes(&*store, &handles).await?);
            let idle_sweep = idle_sweep(&*store).await?;
            let (list, end_one) = one(&*store, size).await?;
            let end_many = many(&store).await?;
            let expiry = if self.clears_itself {
                expire_alone(&store, &handles, size).await?
            } else {
                expire(&store, &handles, size).await?
            };
            let name = self.name;
            let row = Row {
                store: name,
                sessions: size,
                bytes,
                start,
                read,
                write,
                list,
                end_one,
                end_many,
                idle_sweep,
                expiry,
            };
            rows.push(row);
        }
        Ok(())
    }
}

fn micros(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}

fn now() -> Result<Timestamp> {
    Ok(SystemClock.now()?)
}

/// How long a session is to last.
#[derive(Clone, Copy)]
enum Draw {
    /// Longer than the measurement.
    Lasting,
    /// Its time was up when it came.
    Over,
    /// Until then.
    Until(Timestamp),
}

impl Draw {
    fn record(self, user: &str) -> Result<Record> {
        let now = now()?;
        let (created, idle, absolute) = match self {
            Self::Lasting => (now, 30 * DAY, 60 * DAY),
            Self::Over => (now.minus(DAY), Duration::from_secs(60), DAY),
            Self::Until(end) => (now, 30 * DAY, end.since(now)),
        };
        let subject = Some((Subject::new(user)?, Proof::default()));
        let draft = Draft { subject, created, idle, absolute, client: Client::default(), data: data() };
        Ok(draft.seal(&Pepper::none(), &SystemEntropy)?.0)
    }
}

/// A session as a login leaves it.
pub(super) fn sample() -> Result<Record> {
    Draw::Lasting.record("user-0000001")
}

/// The payload of the other measurements, as it is sealed: four keys in their order, with their JSON texts.
pub(super) fn data() -> Vec<u8> {
    let csrf = format!("{:?}", crate::payload::csrf());
    let entries = [
        ("csrf", csrf.as_str()),
        ("roles", r#"["editor","admin"]"#),
        ("ts", "1764000000"),
        ("user_id", "1234567"),
    ];
    let mut bytes = vec![4];
    for text in entries.iter().flat_map(|(key, json)| [key, json]) {
        bytes.push(text.len() as u8);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

fn admission() -> Result<Admission> {
    let now = now()?;
    Ok(Admission { now, since: Epoch::default(), cap: None })
}

async fn insert(store: &impl Store, record: Record) -> Result<Handle> {
    let handle = record.handle();
    match store.insert(record, admission()?).await? {
        Inserted::Inserted { .. } => Ok(handle),
        refused => bail!("{refused:?}"),
    }
}

/// Logs in `count` users, numbered from `first` on.
async fn fill<S: Store>(store: &Arc<S>, first: usize, count: usize, draw: Draw) -> Result<Vec<Handle>> {
    let share = count.div_ceil(AT_A_TIME);
    let tasks = (0..AT_A_TIME).map(|task| {
        let store = Arc::clone(store);
        let range = (first + (task * share).min(count))..(first + ((task + 1) * share).min(count));
        tokio::spawn(async move {
            let mut handles = Vec::with_capacity(range.len());
            for user in range {
                handles.push(insert(&*store, draw.record(&format!("user-{user:08}"))?).await?);
            }
            anyhow::Ok(handles)
        })
    });
    let mut handles = Vec::with_capacity(count);
    for task in tasks.collect::<Vec<_>>() {
        handles.extend(task.await??);
    }
    Ok(handles)
}

/// Handles all over the place, the same in each run.
fn scattered(handles: &[Handle], count: usize) -> impl Iterator<Item = Handle> {
    (0..count).filter_map(|n| handles.get(n.wrapping_mul(7_919_777) % handles.len()).copied())
}

async fn found(store: &impl Store, handle: Handle) -> Result<Record> {
    match store.find(handle).await? {
        Found::Live(record) => Ok(record),
        other => bail!("a session was lost: {other:?}"),
    }
}

async fn reads(store: &impl Store, handles: &[Handle]) -> Result<Spread> {
    let mut times = Vec::with_capacity(READS);
    for handle in scattered(handles, READS) {
        let begun = Instant::now();
        found(store, handle).await?;
        times.push(micros(begun));
    }
    Ok(Spread::of(times))
}

async fn writes(store: &impl Store, handles: &[Handle]) -> Result<Spread> {
    let mut times = Vec::with_capacity(WRITES);
    for handle in scattered(handles, WRITES) {
        times.push(write(store, handle).await?);
    }
    Ok(Spread::of(times))
}

/// Writes a session once; how long that took.
async fn write(store: &impl Store, handle: Handle) -> Result<f64> {
    let record = found(store, handle).await?;
    let expected = record.version();
    let next = record.replacing(expected, now()?);
    let begun = Instant::now();
    ensure!(store.replace(expected, next).await? == Replaced::Replaced, "a write was refused");
    Ok(micros(begun))
}

async fn idle_sweep(store: &impl Sweep) -> Result<f64> {
    let limits = Policy::default().sweep_limits();
    let mut times = Vec::new();
    for _ in 0..9 {
        let now = now()?;
        let begun = Instant::now();
        let report = store.sweep(now, limits).await?;
        times.push(micros(begun));
        ensure!(report.swept.is_empty(), "a session expired too early");
    }
    Ok(Spread::of(times).median)
}

/// Lists the sessions of a subject with one, and ends them.
async fn one(store: &impl BySubject, size: usize) -> Result<(f64, f64)> {
    let (mut list, mut end) = (Vec::new(), Vec::new());
    for n in 0..25 {
        let subject = Subject::new(format!("one-{size}-{n}"))?;
        insert(store, Draw::Lasting.record(subject.as_str())?).await?;
        let begun = Instant::now();
        let records = store.list(&subject).await?;
        list.push(micros(begun));
        ensure!(records.len() == 1, "{} sessions instead of one", records.len());
        let now = now()?;
        let begun = Instant::now();
        let removed = store.remove_all(&subject, None, Reason::RevokedAll, now).await?;
        end.push(micros(begun));
        ensure!(removed.ended.len() == 1, "{} ended instead of one", removed.ended.len());
    }
    Ok((Spread::of(list).median, Spread::of(end).median))
}

/// Ends the sessions of a subject with many.
async fn many<S: BySubject>(store: &Arc<S>) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let tasks = (0..MANY / 50).map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for _ in 0..50 {
                    insert(&*store, Draw::Lasting.record("many")?).await?;
                }
                anyhow::Ok(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await??;
        }
        let now = now()?;
        let begun = Instant::now();
        let removed = store.remove_all(&Subject::new("many")?, None, Reason::RevokedAll, now).await?;
        times.push(micros(begun));
        ensure!(removed.ended.len() == MANY, "{} ended", removed.ended.len());
        // The next logins are to be younger than this end of all sessions.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(Spread::of(times).median)
}

/// Somebody who reads other sessions, and somebody who writes them, one after the other, until told to stop.
///
/// Both rest between two of them: what is asked is how long an answer takes, not how much fits.
struct Bystanders {
    stop: Arc<AtomicBool>,
    reads: JoinHandle<Result<Vec<f64>>>,
    writes: JoinHandle<Result<Vec<f64>>>,
}

const REST: Duration = Duration::from_millis(1);

impl Bystanders {
    fn start<S: Store>(store: &Arc<S>, handles: &[Handle]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let handles = scattered(handles, READS).collect::<Arc<[_]>>();
        let (reader, going, of_reads) = (Arc::clone(store), Arc::clone(&stop), Arc::clone(&handles));
        let reads = tokio::spawn(async move {
            let mut times = Vec::new();
            for &handle in of_reads.iter().cycle() {
                let begun = Instant::now();
                found(&*reader, handle).await?;
                times.push(micros(begun));
                if going.load(Ordering::Relaxed) {
                    break;
                }
                tokio::time::sleep(REST).await;
            }
            Ok(times)
        });
        let (writer, going) = (Arc::clone(store), Arc::clone(&stop));
        let writes = tokio::spawn(async move {
            let mut times = Vec::new();
            for &handle in handles.iter().rev().cycle() {
                times.push(write(&*writer, handle).await?);
                if going.load(Ordering::Relaxed) {
                    break;
                }
                tokio::time::sleep(REST).await;
            }
            Ok(times)
        });
        Self { stop, reads, writes }
    }

    async fn stop(self) -> Result<Waits> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(Waits { read: Wait::of(self.reads.await??), write: Wait::of(self.writes.await??) })
    }
}

/// What bystanders wait while nothing else happens.
async fn undisturbed<S: Store>(store: &Arc<S>, handles: &[Handle], length: Duration) -> Result<Waits> {
    let bystanders = Bystanders::start(store, handles);
    tokio::time::sleep(length).await;
    bystanders.stop().await
}

/// Sweeps sessions whose time is up, in the batches of the default policy, while others are read and written.
async fn expire<S: Sweep>(store: &Arc<S>, handles: &[Handle], size: usize) -> Result<Expiry> {
    let sessions = size.min(EXPIRING);
    fill(store, 1_000_000_000, sessions, Draw::Over).await?;
    let limits = Policy::default().sweep_limits();
    let bystanders = Bystanders::start(store, handles);
    let (mut swept, mut total, mut longest) = (0, 0.0, 0.0_f64);
    let started = Instant::now();
    loop {
        let now = now()?;
        let begun = Instant::now();
        let report = store.sweep(now, limits).await?;
        let time = micros(begun);
        swept += report.swept.len();
        (total, longest) = (total + time, longest.max(time));
        if !report.more {
            break;
        }
        tokio::task::yield_now().await;
    }
    let length = started.elapsed();
    let meanwhile = bystanders.stop().await?;
    ensure!(swept == sessions, "{swept} of {sessions} were swept");
    // Their tombstones go too, so that the next size has none.
    while store.sweep(now()?.plus(2 * limits.tombstone_ttl), limits).await?.more {}
    let afterwards = undisturbed(store, handles, length).await?;
    let (each, longest_sweep) = (Some(total / sessions as f64), Some(longest));
    Ok(Expiry { sessions, each, longest_sweep, meanwhile, afterwards })
}

/// Lets sessions expire in the store's server, while others are read and written.
async fn expire_alone<S: Store>(store: &Arc<S>, handles: &[Handle], size: usize) -> Result<Expiry> {
    const LENGTH: Duration = Duration::from_secs(4);
    let sessions = size.min(EXPIRING);
    // Time to bring them in, even on a busy machine.
    let end = now()?.plus(Duration::from_millis(2_000 + sessions as u64 / 3));
    fill(store, 1_000_000_000, sessions, Draw::Until(end)).await?;
    tokio::time::sleep(end.since(now()?).saturating_sub(Duration::from_millis(200))).await;
    let meanwhile = undisturbed(store, handles, LENGTH).await?;
    let afterwards = undisturbed(store, handles, LENGTH).await?;
    Ok(Expiry { sessions, meanwhile, afterwards, ..Expiry::default() })
}

/// Draws what a read and a write cost at each size.
pub(super) fn plot(path: &Path, rows: &[Row]) -> Result<()> {
    super::plot::by_size(path, rows)
}
