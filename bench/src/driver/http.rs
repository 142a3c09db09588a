//! Over loopback: the same applications behind sockets, on each store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cloakroom_testkit::servers::{Postgres, PostgresSettings, Redis};

use super::measure::Effort;
use super::server::{Connection, Load, Server, cookies, processor_time, wrk};
use super::stats::{Spread, number};
use super::tools::{need, sibling};

/// Sessions that the load generator goes through.
const SESSIONS: usize = 1_000;

/// A kind of request: its name, method, path, and whether it carries a cookie.
const KINDS: [(&str, &str, &str, bool); 5] = [
    ("no cookie", "GET", "/plain", false),
    ("untouched", "GET", "/plain", true),
    ("read", "GET", "/one", true),
    ("write", "POST", "/one", true),
    ("login", "POST", "/login", false),
];

/// The stores, in the order of the tables; the first has nothing outside the server.
const STORES: [&str; 4] = ["memory", "sqlite", "redis", "postgres"];

fn variants() -> impl Iterator<Item = String> {
    let of_store = |store: &&str| [format!("cloakroom-{store}"), format!("tower-sessions-{store}")];
    std::iter::once("axum".to_owned()).chain(STORES.iter().flat_map(of_store))
}

/// The servers that the stores need, in a folder that ends with them.
pub(super) struct Stores {
    folder: tempfile::TempDir,
    pub(super) redis: Redis,
    pub(super) postgres: Postgres,
}

impl Stores {
    /// Starts them. `log` makes PostgreSQL write every statement down.
    pub(super) fn start(log: bool) -> Result<Self> {
        let settings = PostgresSettings::new();
        let settings = if log { settings.parameter("log_statement=all") } else { settings };
        let postgres = Postgres::start(settings);
        postgres.sql("postgres", "CREATE DATABASE ours");
        postgres.sql("postgres", "CREATE DATABASE theirs");
        Ok(Self { folder: tempfile::tempdir()?, redis: Redis::start(&[]), postgres })
    }

    fn place(&self, variant: &str) -> String {
        let ours = variant.starts_with("cloakroom");
        if variant.ends_with("sqlite") {
            self.folder.path().join(format!("{variant}.db")).display().to_string()
        } else if variant.ends_with("redis") {
            // Databases of their own, so that each store's keys can be counted.
            format!("{}/{}", self.redis.url(), usize::from(!ours))
        } else if variant.ends_with("postgres") {
            self.postgres.url_of("postgres", if ours { "ours" } else { "theirs" })
        } else {
            String::new()
        }
    }

    /// The process of the store that a variant uses, if it is another one.
    fn pid(&self, variant: &str) -> Result<Option<u32>> {
        if variant.ends_with("redis") {
            let text = format!("{:?}", self.redis.ask(&["INFO", "server"]));
            let pid = text.split("process_id:").nth(1).context("Redis's process")?;
            let digits = pid.chars().take_while(char::is_ascii_digit).collect::<String>();
            return Ok(Some(digits.parse()?));
        }
        if variant.ends_with("postgres") {
            let path = self.postgres.folder().join("data/postmaster.pid");
            let text = std::fs::read_to_string(path)?;
            return Ok(Some(text.lines().next().context("PostgreSQL's process")?.trim().parse()?));
        }
        Ok(None)
    }
}

pub(super) fn start(variant: &str, stores: &Stores) -> Result<Server> {
    let theirs = variant.starts_with("tower-sessions") && !variant.ends_with("memory");
    let program = sibling(if theirs { "serve-peer" } else { "serve" })?;
    Server::start(Command::new(program).arg(variant).arg(stores.place(variant)))
}

/// Logs users in, uses each session once, and writes their cookies into a file.
fn log_in(server: &Server, count: usize, file: &Path) -> Result<Vec<String>> {
    let mut connection = Connection::open(server.port)?;
    let mut all = Vec::new();
    for _ in 0..count {
        let answer = connection.ask("POST", "/login", None)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "a login is answered with {answer}");
        let cookies = cookies(&answer);
        connection.ask("GET", "/one", Some(&cookies))?;
        all.push(cookies);
    }
    std::fs::write(file, all.join("\n"))?;
    Ok(all)
}

/// What one variant does with one kind of request.
#[derive(Default)]
pub(super) struct Figures {
    loads: Vec<Load>,
    /// Requests a second, of the bare framework's in the same round.
    ratio: Vec<f64>,
    /// Microseconds a request.
    server: Vec<f64>,
    store: Vec<f64>,
}

pub(super) type Results = BTreeMap<(String, &'static str), Figures>;

/// Loads every variant with every kind of request, round after round.
pub(super) fn load(root: &Path, effort: Effort) -> Result<Results> {
    need("wrk", "wrk")?;
    let (rounds, seconds) = if effort == Effort::Quick { (3, 1) } else { (7, 2) };
    let stores = Stores::start(false)?;
    let script = root.join("load.lua");
    let mut running = Vec::new();
    for variant in variants() {
        eprintln!("bench: starting {variant}");
        let server = start(&variant, &stores)?;
        let file = stores.folder.path().join(format!("{variant}.cookies"));
        if variant == "axum" {
            std::fs::write(&file, format!("__Host-Http-sid={}", "A".repeat(64)))?;
        } else {
            log_in(&server, SESSIONS, &file)?;
        }
        let store = stores.pid(&variant)?;
        running.push((variant, server, store, file));
    }
    let mut results = Results::new();
    for round in 1..=rounds {
        for (kind, method, path, with_cookie) in KINDS {
            eprintln!("bench: round {round} of {rounds}, {kind}");
            let mut bare = 0.0;
            for (variant, server, store, file) in &running {
                let spent = || -> Result<(f64, f64)> {
                    let of_store = store.map_or(Ok(0.0), processor_time)?;
                    Ok((processor_time(server.pid())?, of_store))
                };
                let before = spent()?;
                let load =
                    wrk(&script, server.port, seconds, method, path, with_cookie.then_some(file.as_path()))?;
                let after = spent()?;
                if variant == "axum" {
                    bare = load.per_second;
                }
                let figures = results.entry((variant.clone(), kind)).or_default();
                figures.ratio.push(load.per_second / bare);
                figures.server.push((after.0 - before.0) / load.requests);
                figures.store.push((after.1 - before.1) / load.requests);
                figures.loads.push(load);
            }
        }
    }
    Ok(results)
}

fn median(samples: &[f64]) -> f64 {
    Spread::of(samples.iter().copied()).median
}

/// One table for each kind of request.
pub(super) fn tables(results: &Results) -> String {
    let mut text = String::new();
    for (kind, ..) in KINDS {
        let _ = writeln!(
            text,
            "**{kind}**\n\n| variant | requests/s, of axum's | server CPU µs | store CPU µs | p50 µs | p99 µs | p99.9 µs |\n\
             | --- | --- | --- | --- | --- | --- | --- |"
        );
        for variant in variants() {
            let Some(figures) = results.get(&(variant.clone(), kind)) else { continue };
            let ratio = Spread::of(figures.ratio.iter().copied());
            let of = |pick: fn(&Load) -> f64| number(Spread::of(figures.loads.iter().map(pick)).median);
            let _ = writeln!(
                text,
                "| {variant} | {:.2} ({:.2} to {:.2}) | {:.1} | {:.1} | {} | {} | {} |",
                ratio.median,
                ratio.low,
                ratio.high,
                median(&figures.server),
                median(&figures.store),
                of(|load| load.p50),
                of(|load| load.p99),
                of(|load| load.p999),
            );
        }
        text.push('\n');
    }
    text
}

/// Server and store together, over the bare framework, as a part of what tower-sessions takes on the same store.
pub(super) fn over_theirs(results: &Results, store: &str, kind: &'static str) -> Option<f64> {
    let spent = |variant: String| {
        let figures = results.get(&(variant, kind))?;
        Some(median(&figures.server) + median(&figures.store))
    };
    let bare = spent("axum".to_owned())?;
    Some((spent(format!("cloakroom-{store}"))? - bare) / (spent(format!("tower-sessions-{store}"))? - bare))
}

/// Requests of each kind for counting what they ask of the store.
const COUNTED: usize = 100;

/// What each kind of request asks of the store, counted by the store.
pub(super) fn commands() -> Result<String> {
    let stores = Stores::start(true)?;
    let mut text = format!(
        "| variant | {} |\n|{}\n",
        KINDS.map(|kind| kind.0).join(" | "),
        " --- |".repeat(1 + KINDS.len())
    );
    for store in ["redis", "postgres"] {
        for library in ["cloakroom", "tower-sessions"] {
            let variant = format!("{library}-{store}");
            eprintln!("bench: counting the commands of {variant}");
            let server = start(&variant, &stores)?;
            let all = log_in(&server, COUNTED, &stores.folder.path().join("cookies"))?;
            let mut connection = Connection::open(server.port)?;
            let mut cells = Vec::new();
            for (_, method, path, with_cookie) in KINDS {
                let before = Counter::now(&stores, store)?;
                for cookie in &all {
                    connection.ask(method, path, with_cookie.then_some(cookie.as_str()))?;
                }
                cells.push(before.since(&stores, store)?);
            }
            let _ = writeln!(text, "| {variant} | {} |", cells.join(" | "));
        }
    }
    Ok(text)
}

/// Where a store's own count stands.
struct Counter(BTreeMap<String, f64>);

impl Counter {
    fn now(stores: &Stores, store: &str) -> Result<Self> {
        if store == "redis" {
            Self::redis(stores)
        } else {
            Self::postgres(stores.postgres.folder().join("log"))
        }
    }

    fn redis(stores: &Stores) -> Result<Self> {
        let text = format!("{:?}", stores.redis.ask(&["INFO", "commandstats"]));
        let mut counts = BTreeMap::new();
        for entry in text.split("cmdstat_").skip(1) {
            let (name, rest) = entry.split_once(":calls=").context("a line of commandstats")?;
            let calls = rest.split(',').next().unwrap_or_default().parse::<f64>()?;
            if name != "info" && name != "ping" {
                counts.insert(name.to_owned(), calls);
            }
        }
        Ok(Self(counts))
    }

    fn postgres(log: PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(log)?;
        let mut counts = BTreeMap::new();
        for entry in text.split("LOG:  ").skip(1) {
            let after =
                |begin: &str| entry.strip_prefix(begin)?.split_once(": ").map(|(_, statement)| statement);
            let Some(statement) = after("execute ").or_else(|| entry.strip_prefix("statement: ")) else {
                continue;
            };
            // A statement may begin on the line after.
            let word = statement.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
            *counts.entry(word).or_insert(0.0) += 1.0;
        }
        Ok(Self(counts))
    }

    fn since(self, stores: &Stores, store: &str) -> Result<String> {
        let Self(now) = Self::now(stores, store)?;
        let more = now.into_iter().filter_map(|(name, count)| {
            let more = (count - self.0.get(&name).copied().unwrap_or_default()) / COUNTED as f64;
            (more >= 0.005).then(|| {
                format!("{name} {}", format!("{more:.2}").trim_end_matches('0').trim_end_matches('.'))
            })
        });
        let more = more.collect::<Vec<_>>().join(", ");
        Ok(if more.is_empty() { "none".to_owned() } else { more })
    }
}
