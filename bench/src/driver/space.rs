//! What a session takes in Redis and in PostgreSQL, byte by byte, beside the peer's.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use cloakroom_testkit::servers::{Postgres, Redis};

use super::http::{Stores, start};
use super::server::Connection;

/// Sessions that are made, each of another user.
const SESSIONS: usize = 2_000;
/// Of each session: secret's slot (pepper's name 8, digest 16, wrapped data key 32 and its tag 16), the data's nonce 12 and tag 16.
const SEALING: usize = 72 + 12 + 16;

const VARIANTS: [&str; 2] = ["cloakroom", "tower-sessions"];

/// One line: what it is, and the bytes a session of ours and of the peer's.
struct Line(&'static str, [f64; 2]);

/// Measures, and returns the goals and the tables.
pub(super) fn tables() -> Result<String> {
    let redis = redis()?;
    let postgres = postgres()?;
    let mut text = "| what | must | is | |\n| --- | --- | --- | --- |\n".to_owned();
    for (store, lines) in [("Redis", &redis), ("PostgreSQL", &postgres)] {
        let [ours, theirs] = lines.last().context("a sum")?.1;
        let must = theirs + SEALING as f64;
        let verdict = if ours <= must { "met" } else { "**missed**" };
        writeln!(
            text,
            "| {store}: bytes a session, indexes included | {theirs:.0} of {}'s and {SEALING} for the seal | {ours:.0} | {verdict} |",
            VARIANTS[1]
        )?;
    }
    for (store, lines) in [("Redis", &redis), ("PostgreSQL", &postgres)] {
        writeln!(
            text,
            "\n| {store}, bytes a session | {} | {} |\n| --- | --- | --- |",
            VARIANTS[0], VARIANTS[1]
        )?;
        for Line(what, bytes) in lines {
            let [ours, theirs] =
                bytes.map(|bytes| if bytes == 0.0 { "–".to_owned() } else { format!("{bytes:.0}") });
            writeln!(text, "| {what} | {ours} | {theirs} |")?;
        }
    }
    text.push('\n');
    text.push_str(&record_parts()?);
    Ok(text)
}

/// Logs somebody in through the server of a variant, looks, logs everybody in, and looks again.
fn log_in(variant: &str, stores: &Stores, look: impl Fn() -> Result<f64>) -> Result<[f64; 2]> {
    let server = start(variant, stores)?;
    let mut connection = Connection::open(server.port)?;
    let mut before = 0.0;
    for count in 0..=SESSIONS {
        if count == 1 {
            before = look()?;
        }
        let answer = connection.ask("POST", "/login", None)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "a login is answered with {answer}");
    }
    Ok([before, look()?])
}

/// The mean of some numbers, a session.
fn mean(numbers: impl Iterator<Item = i64>) -> f64 {
    numbers.sum::<i64>() as f64 / SESSIONS as f64
}

fn redis() -> Result<Vec<Line>> {
    let mut columns = Vec::new();
    for variant in VARIANTS {
        let stores = Stores::start(false)?;
        let server = &stores.redis;
        // After the first, so that what there is once is not counted: scripts, connections.
        let [before, after] = log_in(&format!("{variant}-redis"), &stores, || used(server))?;
        let all = (after - before) / SESSIONS as f64;
        let database = if variant == VARIANTS[0] { "0" } else { "1" };
        let keys = keys(server, database)?;
        let (sessions, indexes): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.value.is_some());
        ensure!(sessions.len() >= SESSIONS, "{variant}: {} sessions in Redis", sessions.len());
        let name = mean(sessions.iter().map(|key| key.name));
        let value = mean(sessions.iter().filter_map(|key| key.value));
        let taken = mean(sessions.iter().map(|key| key.usage));
        let index = mean(indexes.iter().map(|key| key.usage));
        columns.push([name, value, taken - name - value, index, all - taken - index, all]);
    }
    lines(
        &columns,
        [
            "the session's key: its name",
            "its value",
            "what Redis takes for a key and its value (`MEMORY USAGE`)",
            "the subject's index: another key, a hash with one field",
            "the rest of `used_memory`: the tables of keys and of expiries",
            "**together**",
        ],
    )
}

struct KeyInRedis {
    name: i64,
    /// The length of a string; absent for anything else.
    value: Option<i64>,
    usage: i64,
}

/// All keys of a database, looked at by a script, because each connection begins in the first.
fn keys(server: &Redis, database: &str) -> Result<Vec<KeyInRedis>> {
    const SCRIPT: &str = "redis.call('SELECT', ARGV[1])
        local found = {}
        for _, key in ipairs(redis.call('KEYS', '*')) do
          local string = redis.call('TYPE', key).ok == 'string'
          local length = string and redis.call('STRLEN', key) or -1
          found[#found + 1] = {#key, length, redis.call('MEMORY', 'USAGE', key)}
        end
        return found";
    let reply = server.ask(&["EVAL", SCRIPT, "0", database]);
    let found = reply.list().iter().map(|key| match key.list() {
        [name, length, usage] => {
            let value = (length.number() >= 0).then(|| length.number());
            Ok(KeyInRedis { name: name.number(), value, usage: usage.number() })
        }
        _ => anyhow::bail!("Redis answered {key:?}"),
    });
    found.collect()
}

fn used(server: &Redis) -> Result<f64> {
    let text = String::from_utf8_lossy(server.ask(&["INFO", "memory"]).bytes()).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("used_memory:")).context("used_memory")?;
    Ok(line.trim().parse()?)
}

fn postgres() -> Result<Vec<Line>> {
    let mut columns = Vec::new();
    for variant in VARIANTS {
        let stores = Stores::start(false)?;
        log_in(&format!("{variant}-postgres"), &stores, || Ok(0.0))?;
        let ours = variant == VARIANTS[0];
        let (database, table, bytes) = if ours {
            ("ours", "cloakroom.sessions", "octet_length(body)")
        } else {
            ("theirs", "tower_sessions.session", "octet_length(data)")
        };
        let server = &stores.postgres;
        let ask = |query: &str| number(server, database, query);
        let count = ask(&format!("SELECT count(*) FROM {table}"))?;
        let each = |query: &str| Ok::<_, anyhow::Error>(ask(query)? / count);
        let body = each(&format!("SELECT sum({bytes}) FROM {table}"))?;
        let row = each(&format!("SELECT sum(pg_column_size(s.*)) FROM {table} s"))?;
        let heap = each(&format!("SELECT pg_relation_size('{table}')"))?;
        let index = |part: &str| {
            each(&format!(
                "SELECT coalesce(sum(pg_relation_size(indexrelid)), 0) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
                 WHERE indrelid = '{table}'::regclass AND {part}"
            ))
        };
        let primary = index("indisprimary")?;
        let subject = index("NOT indisprimary AND relname LIKE '%subject%'")?;
        let expiry = index("NOT indisprimary AND relname NOT LIKE '%subject%'")?;
        let all = heap + primary + subject + expiry;
        columns.push([body, row - body, heap - row, primary, subject, expiry, all]);
    }
    lines(
        &columns,
        [
            "the row: record or data",
            "its other columns and its head",
            "the rest of its page: line pointers, and a fifth that is left free so that noting activity touches no index",
            "primary key",
            "index by subject",
            "index by what is due",
            "**together**",
        ],
    )
}

fn number(server: &Postgres, database: &str, query: &str) -> Result<f64> {
    let text = server.sql(database, query);
    text.trim().parse().with_context(|| format!("{query} answered {text:?}"))
}

fn lines<const N: usize>(columns: &[[f64; N]], names: [&'static str; N]) -> Result<Vec<Line>> {
    let [ours, theirs] = columns else { anyhow::bail!("two columns") };
    let pairs = ours.iter().zip(theirs).map(|(ours, theirs)| [*ours, *theirs]);
    Ok(names.into_iter().zip(pairs).map(|(name, pair)| Line(name, pair)).collect())
}

/// What a record consists of, which is the largest part of both.
fn record_parts() -> Result<String> {
    let record = super::scale::sample()?;
    let all = record.encode()?.len();
    let data = super::scale::data().len();
    let subject = record.subject().map_or(0, |subject| subject.as_str().len() + 1);
    let mut text = "| a record's bytes | |\n| --- | --- |\n".to_owned();
    writeln!(text, "| the application's data, with its keys | {data} |")?;
    writeln!(text, "| the seal: a slot for the secret (72), nonce and tag of the data (28) | {SEALING} |")?;
    writeln!(text, "| the subject, with its length | {subject} |")?;
    let rest = all.saturating_sub(data + SEALING + subject);
    writeln!(text, "| times, limits, authentication, client, and what there is of rotation | {rest} |")?;
    writeln!(text, "| **together** | {all} |")?;
    Ok(text)
}
