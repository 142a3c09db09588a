//! SQLite by itself: whether logins share a flush of the disk, and whether reads wait for writes.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Body;
use cloakroom::SessionLayer;
use cloakroom_sqlite::SqliteStore;
use http::{Request, StatusCode};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use super::measure::Effort;
use super::stats::{Spread, number};

/// Clients at the same time.
const MANY: usize = 64;
/// Between two reads: what is asked is how long one takes, not how many fit.
const REST: Duration = Duration::from_millis(1);

/// The whole of the library on one file.
struct Site {
    store: SqliteStore,
    app: Router,
}

impl Site {
    fn open(file: &Path) -> Result<Self> {
        let store = SqliteStore::open(file)?;
        let app = crate::ours::routes().layer(SessionLayer::new(store.clone()));
        Ok(Self { store, app })
    }
}

async fn ask(app: &Router, method: &str, path: &str, cookie: Option<&str>) -> Result<Option<String>> {
    let mut request = Request::builder().method(method).uri(path).header("sec-fetch-site", "same-origin");
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    let answer = app.clone().oneshot(request.body(Body::empty())?).await?;
    ensure!(answer.status() == StatusCode::OK, "{method} {path} is answered with {}", answer.status());
    let cookie = answer.headers().get("set-cookie").map(|value| value.to_str()).transpose()?;
    Ok(cookie.map(crate::app::pair))
}

/// Clients that go on until told to stop, and then say how often they came round.
struct Crowd {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<usize>>>,
}

impl Crowd {
    /// Each with its cookie, or logging in anew each time.
    fn start(app: &Router, method: &'static str, path: &'static str, cookies: Vec<Option<String>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |cookie: Option<String>| {
            let (app, stop) = (app.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    ask(&app, method, path, cookie.as_deref()).await?;
                    count += 1;
                }
                Ok(count)
            })
        };
        let clients = cookies.into_iter().map(client).collect();
        Self { stop, clients }
    }

    async fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = 0;
        for client in self.clients {
            total += client.await??;
        }
        Ok(total)
    }
}

/// Logins a second, and how many of them shared a commit.
async fn logins(site: &Site, clients: usize, length: Duration) -> Result<(f64, f64)> {
    let (before, begun) = (site.store.stats(), Instant::now());
    let crowd = Crowd::start(&site.app, "POST", "/login", vec![None; clients]);
    tokio::time::sleep(length).await;
    let count = crowd.stop().await?;
    let seconds = begun.elapsed().as_secs_f64();
    let commits = site.store.stats().commits - before.commits;
    Ok((count as f64 / seconds, count as f64 / commits as f64))
}

/// Microseconds of single reads, all over the sessions.
async fn reads(site: &Site, cookies: &[String], length: Duration) -> Result<Vec<f64>> {
    let (mut times, begun) = (Vec::new(), Instant::now());
    for cookie in cookies.iter().cycle() {
        let asked = Instant::now();
        ask(&site.app, "GET", "/one", Some(cookie)).await?;
        times.push(asked.elapsed().as_secs_f64() * 1e6);
        if begun.elapsed() >= length {
            break;
        }
        tokio::time::sleep(REST).await;
    }
    Ok(times)
}

/// Measures, and returns the goals and the tables.
pub(super) fn tables(effort: Effort) -> Result<String> {
    crate::payload::make_users(2_000);
    let (rounds, length) =
        if effort == Effort::Quick { (7, Duration::from_secs(1)) } else { (21, Duration::from_secs(2)) };
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let site = Site::open(&folder.path().join("sessions.db"))?;
        let mut cookies = Vec::new();
        for _ in 0..1_000 {
            let cookie = ask(&site.app, "POST", "/login", None).await?.context("no cookie")?;
            ask(&site.app, "GET", "/one", Some(&cookie)).await?;
            cookies.push(cookie);
        }
        let writers = cookies.split_off(cookies.len() - MANY);
        let (mut one, mut many, mut ratio, mut shared) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut idle, mut busy, mut written) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=rounds {
            eprintln!("bench: SQLite, round {round} of {rounds}");
            let (alone, _) = logins(&site, 1, length).await?;
            let (together, share) = logins(&site, MANY, length).await?;
            one.push(alone);
            many.push(together);
            ratio.push(together / alone);
            shared.push(share);
            idle.extend(reads(&site, &cookies, length).await?);
            let begun = Instant::now();
            let writing =
                Crowd::start(&site.app, "POST", "/one", writers.iter().cloned().map(Some).collect());
            busy.extend(reads(&site, &cookies, length).await?);
            written.push(writing.stop().await? as f64 / begun.elapsed().as_secs_f64());
        }
        report(&[one, many, ratio, shared, written], [idle, busy])
    })
}

fn report(rates: &[Vec<f64>; 5], reads: [Vec<f64>; 2]) -> Result<String> {
    let [one, many, ratio, shared, written] = rates.each_ref().map(|of| Spread::of(of.iter().copied()));
    let [idle, busy] = reads.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times
    });
    let at = |times: &[f64], part: f64| {
        let index = (part * times.len().saturating_sub(1) as f64).ceil() as usize;
        times.get(index).copied().unwrap_or_default()
    };
    let verdict = |met: bool| if met { "met" } else { "**missed**" };
    let mut text = "| what | must | is | |\n| --- | --- | --- | --- |\n".to_owned();
    writeln!(
        text,
        "| logins, {MANY} at a time, of those one at a time | at least 10 | {:.1} | {} |",
        ratio.median,
        verdict(ratio.median >= 10.0)
    )?;
    let slower = at(&busy, 0.99) / at(&idle, 0.99);
    writeln!(
        text,
        "| a read's p99 while {MANY} write, of that when idle | at most 2.0 | {slower:.1} | {} |\n",
        verdict(slower <= 2.0)
    )?;
    writeln!(text, "| logins | a second | that share a flush |\n| --- | --- | --- |")?;
    let rate = |of: Spread| format!("{} ({} to {})", number(of.median), number(of.low), number(of.high));
    writeln!(text, "| one at a time | {} | 1.0 |", rate(one))?;
    writeln!(text, "| {MANY} at a time | {} | {:.1} |\n", rate(many), shared.median)?;
    writeln!(text, "| reads | p50 µs | p90 µs | p99 µs | longest µs |\n| --- | --- | --- | --- | --- |")?;
    let writing = format!("while {MANY} clients write, {} a second together", number(written.median));
    for (name, times) in [("nothing else", &idle), (writing.as_str(), &busy)] {
        let [p50, p90, p99, longest] = [0.5, 0.9, 0.99, 1.0].map(|part| number(at(times, part)));
        writeln!(text, "| {name} | {p50} | {p90} | {p99} | {longest} |")?;
    }
    Ok(text)
}
