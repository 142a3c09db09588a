//! How long it takes until a connection that is held open learns that its session was ended on another machine.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use cloakroom::core::store::{BySubject, Sweep};
use cloakroom::{Ended, Handle, Session, SessionError, SessionLayer};
use cloakroom_postgres::PostgresOptions;
use cloakroom_redis::RedisOptions;
use cloakroom_sqlite::SqliteStore;
use cloakroom_testkit::servers::{Postgres, PostgresSettings, Redis, RedisCluster};
use http::Request;
use tower::ServiceExt as _;

use super::measure::Effort;

/// Ends are this far apart, so that they fall on every moment between two looks.
const APART: Duration = Duration::from_millis(130);

/// The table: each store, how it tells of ends, and the times in milliseconds.
pub(super) fn table(effort: Effort) -> Result<String> {
    let samples = if matches!(effort, Effort::Full) { 200 } else { 40 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut text = "| store | told by | samples | median, ms | p99, ms | longest, ms |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("ended.db");
        let (one, two) = (SqliteStore::open(&file)?, SqliteStore::open(&file)?);
        line(&mut text, "SQLite, from another process", "nobody: a look every 5 s", &measure(one, two, samples).await?);

        let server = Postgres::start(PostgresSettings::new());
        let options = PostgresOptions::parse(&server.url())?;
        options.migrate().await?;
        let (one, two) = (options.clone().connect().await?, options.connect().await?);
        line(&mut text, "PostgreSQL", "`LISTEN`", &measure(one, two, samples).await?);

        let server = Redis::start(&[]);
        let options = RedisOptions::parse(&server.url())?;
        let (one, two) = (options.clone().connect().await?, options.connect().await?);
        line(&mut text, "Redis", "pub/sub", &measure(one, two, samples).await?);

        let servers = RedisCluster::start(&[]);
        let options = RedisOptions::parse(&servers.url())?;
        let (one, two) = (options.clone().connect().await?, options.connect().await?);
        line(&mut text, "Redis Cluster", "pub/sub", &measure(one, two, samples).await?);
        Ok(text)
    })
}

fn line(text: &mut String, store: &str, how: &str, sorted: &[Duration]) {
    let at = |part: f64| {
        let index = (part * sorted.len().saturating_sub(1) as f64).ceil() as usize;
        sorted.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "| {store} | {how} | {} | {:.1} | {:.1} | {:.1} |",
        sorted.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

type Held = Arc<Mutex<Vec<(Handle, Ended)>>>;

/// Logs in on one, holds a connection there, and ends the session through the other.
async fn measure(
    here: impl BySubject + Sweep,
    there: impl BySubject + Sweep,
    samples: usize,
) -> Result<Vec<Duration>> {
    let other = SessionLayer::new(there).sessions();
    let held = Held::default();
    let hold = Arc::clone(&held);
    let log_in = async |session: Session| {
        session.log_in("alice").await?;
        Ok::<_, SessionError>(())
    };
    let hold = async move |session: Session| {
        if let Some(handle) = session.handle() {
            hold.lock().unwrap_or_else(PoisonError::into_inner).push((handle, session.ended()));
        }
    };
    let app =
        Router::new().route("/login", get(log_in)).route("/hold", get(hold)).layer(SessionLayer::new(here));

    let mut waiting = Vec::new();
    for _ in 0..samples {
        let answer = app.clone().oneshot(Request::get("/login").body(Body::empty())?).await?;
        let cookie = answer.headers().get("set-cookie").context("a cookie")?.to_str()?;
        let cookie = cookie.split(';').next().context("a value")?;
        let request = Request::get("/hold").header("cookie", cookie).body(Body::empty())?;
        app.clone().oneshot(request).await?;
        let (handle, ended) =
            held.lock().unwrap_or_else(PoisonError::into_inner).pop().context("not held")?;
        let told = tokio::spawn(async move {
            ended.await;
            Instant::now()
        });
        waiting.push((handle, told));
    }
    let mut ends = Vec::new();
    for (handle, told) in waiting {
        let asked = Instant::now();
        ensure!(other.end(handle).await?, "it lived");
        ends.push((asked, told));
        tokio::time::sleep(APART).await;
    }
    let mut times = Vec::new();
    for (asked, told) in ends {
        times.push(told.await?.saturating_duration_since(asked));
    }
    times.sort();
    Ok(times)
}
