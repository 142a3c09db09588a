//! Where sessions are kept, under which peppers, and with which limits.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cloakroom::{MemoryBounds, Policy};
use cloakroom_postgres::PostgresOptions;
use cloakroom_redis::RedisOptions;

use super::hidden::mask;
use super::pepper::{PepperSource, parse_id};
use super::{Check, Raw, raw};

const EXPECTED: &str = "memory, sqlite: and a path, or the address of a server that begins with postgres://, redis://, \
                        rediss://, redis-cluster:// or rediss-cluster://";

/// Where sessions are kept. `Display` and `Debug` show no password.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StoreChoice {
    /// In the gateway's memory: a restart signs everybody out.
    Memory(MemoryBounds),
    /// In one SQLite file.
    Sqlite(PathBuf),
    /// In PostgreSQL, shared by several gateways.
    Postgres(Remote<PostgresOptions>),
    /// In Redis, Valkey or a cluster of them, shared by several gateways.
    Redis(Remote<RedisOptions>),
}

/// A server, and how to talk to it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Remote<O> {
    /// How to connect.
    pub options: O,
    /// The address, without what is not to be shown.
    pub shown: String,
}

impl<O> fmt::Debug for Remote<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for StoreChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(_) => f.write_str("memory"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(Remote { shown, .. }) | Self::Redis(Remote { shown, .. }) => f.write_str(shown),
        }
    }
}

impl StoreChoice {
    /// Reads `memory`, `sqlite:PATH` or the address of a server.
    ///
    /// # Errors
    ///
    /// What was expected instead; does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = |error: &dyn fmt::Display| format!("an address that can be used; {error}");
        let shown = || mask(text);
        match text.split_once(':') {
            None if text == "memory" => Ok(Self::Memory(MemoryBounds::default())),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(path))),
            Some(("postgres" | "postgresql", _)) => match PostgresOptions::parse(text) {
                Ok(options) => Ok(Self::Postgres(Remote { options, shown: shown() })),
                Err(error) => Err(refused(&error)),
            },
            Some(("redis" | "rediss" | "redis-cluster" | "rediss-cluster", _)) => {
                match RedisOptions::parse(text) {
                    Ok(options) => Ok(Self::Redis(Remote { options, shown: shown() })),
                    Err(error) => Err(refused(&error)),
                }
            }
            _ => Err(EXPECTED.to_owned()),
        }
    }

    /// Whether several gateways, on several machines, can use it.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::Redis(_))
    }
}

/// What sessions are made of: where they are kept, what they are sealed with, and how long they last.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionsConfig {
    /// Where sessions are kept.
    pub store: StoreChoice,
    /// Where the pepper comes from.
    pub peppers: PepperSource,
    /// The limits of sessions.
    pub policy: Policy,
    /// The flags that name this store on a command line, each after a space, to be said in advice. Shows no password.
    pub named_by: String,
}

/// For what a configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To serve sessions: a shared store wants a pepper.
    Serve,
    /// To look after them: nothing is sealed.
    LookAfter,
}

impl SessionsConfig {
    /// Reads what a configuration file says of sessions, for commands that look after them and serve none: there need be
    /// no application, and no pepper.
    ///
    /// # Errors
    ///
    /// As [`Config::load`](super::Config::load).
    pub fn load(file: Option<&Path>, over: impl FnOnce(&mut Raw)) -> anyhow::Result<Self> {
        let mut raw = Raw::load(file)?;
        over(&mut raw);
        let mut check = Check::default();
        check.found(std::mem::take(&mut raw.problems), std::mem::take(&mut raw.insecure));
        let read = Self::check(&mut check, raw.sessions(), Purpose::LookAfter);
        check.finish(read).context("the configuration cannot be used")
    }

    pub(super) fn check(check: &mut Check, raw: raw::RawSessions, purpose: Purpose) -> Option<Self> {
        let policy = raw.policy.check(check);
        let text = raw.store.as_deref().unwrap_or("sqlite:.cloakroom/sessions.db");
        // In the address the option has the name that it has in the file.
        let query = text.split_once('?').map_or("", |(_, query)| query);
        if let Some(reason) = query.split('&').find_map(|pair| pair.strip_prefix("insecure_plaintext=")) {
            check.insecure("store, insecure_plaintext".to_owned(), reason.to_owned());
        }
        let store = match StoreChoice::parse(text) {
            Ok(store) => raw.store_options.apply(check, store),
            Err(expected) => {
                // A forgotten escape puts a piece of a password anywhere, so nothing of such an address is shown.
                let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
                check.problem(
                    "store",
                    if rest.is_empty() { text.to_owned() } else { format!("{scheme}:***") },
                    &expected,
                );
                None
            }
        };
        let peppers = raw.peppers.check(check, store.as_ref(), purpose);
        Some(Self { store: store?, peppers: peppers?, policy: policy?, named_by: String::new() })
    }
}

impl raw::RawStoreOptions {
    /// Lays the options over those of the address.
    fn apply(self, check: &mut Check, store: StoreChoice) -> Option<StoreChoice> {
        let timeout = check.duration("store_options.timeout", self.timeout.as_ref());
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            check.problem(
                "store_options.timeout",
                self.timeout.as_deref().unwrap_or_default(),
                "a time to wait, such as 2s",
            );
        }
        // Noted; not to be said again by the store.
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        let plaintext = self.insecure_plaintext.as_ref().filter(|reason| !reason.trim().is_empty());
        if self.connections == Some(0) {
            check.problem("store_options.connections", "0", "at least 1");
        }
        let (remote, memory) = (store.is_shared(), matches!(store, StoreChoice::Memory(_)));
        let (postgres, redis) =
            (matches!(store, StoreChoice::Postgres(_)), matches!(store, StoreChoice::Redis(_)));
        let given = [
            ("timeout", self.timeout.is_some() && !remote),
            ("insecure_plaintext", self.insecure_plaintext.is_some() && !remote),
            ("schema", self.schema.is_some() && !postgres),
            ("connections", self.connections.is_some() && !postgres),
            ("prefix", self.prefix.is_some() && !redis),
            ("replicas", self.replicas.is_some() && !redis),
            ("sessions", self.sessions.is_some() && !memory),
            ("anonymous", self.anonymous.is_some() && !memory),
            ("bytes", self.bytes.is_some() && !memory),
            ("tombstones", self.tombstones.is_some() && !memory),
        ];
        for (key, _) in given.iter().filter(|(_, misplaced)| *misplaced) {
            check.problem(&format!("store_options.{key}"), "set", "nothing: this store has no such option");
        }
        Some(match store {
            StoreChoice::Postgres(Remote { mut options, shown }) => {
                if let Some(timeout) = timeout {
                    options = options.timeout(timeout);
                }
                if let Some(connections) = self.connections.filter(|connections| *connections > 0) {
                    options = options.pool_size(connections);
                }
                if let Some(schema) = self.schema {
                    options = options.schema(schema);
                }
                if let Some(reason) = plaintext {
                    options = options.insecure_plaintext(reason);
                }
                if let Err(error) = options.check() {
                    check.problem(
                        "store",
                        &shown,
                        format!("another address or other store_options: {error}"),
                    );
                }
                StoreChoice::Postgres(Remote { options, shown })
            }
            StoreChoice::Redis(Remote { mut options, shown }) => {
                if let Some(timeout) = timeout {
                    options = options.timeout(timeout);
                }
                if let Some(prefix) = self.prefix {
                    options = options.prefix(prefix);
                }
                if let Some(reason) = plaintext {
                    options = options.insecure_plaintext(reason);
                }
                if let Some(replicas) = self.replicas {
                    options = options.replicas(replicas);
                }
                if let Err(error) = options.check()
                    && given.iter().all(|(_, misplaced)| !misplaced)
                {
                    check.problem(
                        "store",
                        &shown,
                        format!("another address or other store_options: {error}"),
                    );
                }
                StoreChoice::Redis(Remote { options, shown })
            }
            StoreChoice::Memory(_) => StoreChoice::Memory(self.memory(check)),
            embedded @ StoreChoice::Sqlite(_) => embedded,
        })
    }
}

impl raw::RawStoreOptions {
    /// How much a store in memory holds.
    fn memory(&self, check: &mut Check) -> MemoryBounds {
        const MOST: usize = 1_000_000_000;
        let mut bounds = MemoryBounds::default();
        let sessions = self.sessions.unwrap_or(MemoryBounds::SESSIONS);
        let mut bound = |key: &str,
                         value: Option<usize>,
                         least: usize,
                         most: usize,
                         set: &dyn Fn(MemoryBounds, usize) -> MemoryBounds| {
            let Some(value) = value else { return };
            if (least..=most).contains(&value) {
                bounds = set(bounds, value);
            } else {
                check.problem(
                    &format!("store_options.{key}"),
                    value.to_string(),
                    format!("{least} to {most}"),
                );
            }
        };
        bound("sessions", self.sessions, 1, MOST, &MemoryBounds::sessions);
        bound("anonymous", self.anonymous, 0, sessions.min(MOST), &MemoryBounds::anonymous);
        let least = sessions.min(MOST).saturating_mul(MemoryBounds::BYTES_EACH_MIN);
        bound("bytes", self.bytes, least, usize::MAX, &MemoryBounds::bytes);
        bound("tombstones", self.tombstones, 0, MOST, &MemoryBounds::tombstones);
        bounds
    }
}

impl raw::RawPeppers {
    fn check(self, check: &mut Check, store: Option<&StoreChoice>, purpose: Purpose) -> Option<PepperSource> {
        let expected = "the id of a pepper, 16 hexadecimal digits; `cloakroom pepper id FILE` prints it";
        let ids = self.retired_peppers.iter().map(|id| check.read("retired_peppers", id, expected, parse_id));
        let retired = ids.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()?;
        if purpose == Purpose::LookAfter {
            return Some(PepperSource::Unneeded);
        }
        if let Some(current) = self.pepper_file {
            return Some(PepperSource::Files { current, accepted: self.accepted_pepper_files, retired });
        }
        if !self.accepted_pepper_files.is_empty() || !retired.is_empty() {
            let key = if retired.is_empty() { "accepted_pepper_files" } else { "retired_peppers" };
            check.problem(key, "set", "pepper_file beside it");
            return None;
        }
        Some(match store? {
            StoreChoice::Memory(_) => PepperSource::Fresh,
            StoreChoice::Sqlite(path) => PepperSource::Beside(path.with_file_name("pepper")),
            _ => {
                check.problem(
                    "pepper_file",
                    "",
                    "the file with the pepper that all gateways on this store have in common, because it is not kept in the \
                     store; `cloakroom pepper new pepper` makes one",
                );
                return None;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        StoreChoice::parse(text).ok().map(|store| store.to_string())
    }

    #[test]
    fn stores_are_named_by_scheme_and_path() {
        for good in [
            "memory",
            "sqlite:a/b.db",
            "postgres://me@127.0.0.1:5432/app",
            "redis://127.0.0.1:6379",
            "redis-cluster://127.0.0.1:7000,127.0.0.1:7001",
        ] {
            assert_eq!(shown(good).as_deref(), Some(good));
        }
        for bad in ["", "sqlite", "sqlite:", "memory:", "redis:", "mysql://x", "Memory", "postgres"] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    #[test]
    fn r108_a_stores_password_is_in_no_text_made_of_it() {
        for text in ["postgres://me:s3cret@127.0.0.1/app", "redis://:s3cret@127.0.0.1:6379"] {
            let store = StoreChoice::parse(text).unwrap();
            assert!(store.is_shared());
            let said = format!("{store} {store:?} {store:#?}");
            assert!(said.contains("***") && !said.contains("s3cret"), "{said}");
        }
        for text in [
            "postgres://me:s3cret@:x/app",
            "postgres:me:s3cret@h",
            "redis://:s3cret@127.0.0.1:s3cret",
            "redis://h/s3cret",
            "redis-cluster://",
            "mysql://me:s3cret@h",
        ] {
            let raw = Raw::parse(&format!("upstream = \"http://127.0.0.1:1\"\nstore = {text:?}")).unwrap();
            assert!(!format!("{raw:?}").contains("s3cret"));
            let said = super::super::Config::check(raw).unwrap_err().to_string();
            assert!(said.contains("store = ") && !said.contains("s3cret"), "{text}: {said}");
        }
    }

    #[test]
    fn options_that_a_store_does_not_have_are_refused() {
        let table = [
            ("memory", "timeout = \"1s\"", "store_options.timeout"),
            ("sqlite:a.db", "connections = 2", "store_options.connections"),
            ("redis://127.0.0.1", "schema = \"a\"", "store_options.schema"),
            ("postgres://me@127.0.0.1/app", "prefix = \"a\"", "store_options.prefix"),
            ("postgres://me@127.0.0.1/app", "timeout = \"0s\"", "store_options.timeout"),
            ("postgres://me@127.0.0.1/app", "connections = 0", "store_options.connections"),
            ("redis://127.0.0.1", "insecure_plaintext = \" \"", "store_options.insecure_plaintext"),
            ("postgres://me@127.0.0.1/app", "tmeout = \"1s\"", "store_options.tmeout"),
        ];
        for (store, option, key) in table {
            let text = format!(
                "upstream = \"http://127.0.0.1:1\"\nstore = \"{store}\"\npepper_file = \"p\"\n[store_options]\n{option}\n"
            );
            let said = super::super::Config::check(Raw::parse(&text).unwrap()).unwrap_err().to_string();
            assert!(said.contains(key) && said.lines().count() <= 2, "{said}");
        }
    }

    #[test]
    fn r014_a_shared_store_wants_a_pepper_that_is_configured_and_an_embedded_one_may_have_one() {
        let check = |store: &str, more: &str| {
            let text = format!("upstream = \"http://127.0.0.1:1\"\nstore = \"{store}\"\n{more}");
            super::super::Config::check(Raw::parse(&text).unwrap()).map(|config| config.sessions.peppers)
        };
        for shared in ["postgres://me@127.0.0.1/app", "redis://127.0.0.1", "redis-cluster://127.0.0.1:1"] {
            let said = check(shared, "").unwrap_err().to_string();
            assert!(said.contains("pepper_file = ") && said.contains("cloakroom pepper new"), "{said}");
            let files = check(shared, "pepper_file = \"p\"\naccepted_pepper_files = [\"q\"]").unwrap();
            assert!(matches!(files, PepperSource::Files { .. }), "{files:?}");
        }
        assert_eq!(check("memory", "").unwrap(), PepperSource::Fresh);
        assert_eq!(check("sqlite:a/s.db", "").unwrap(), PepperSource::Beside("a/pepper".into()));
        assert!(matches!(check("sqlite:a/s.db", "pepper_file = \"p\"").unwrap(), PepperSource::Files { .. }));
        for (more, key) in [
            ("accepted_pepper_files = [\"q\"]", "accepted_pepper_files"),
            ("retired_peppers = [\"0123456789abcdef\"]", "retired_peppers"),
            ("pepper_file = \"p\"\nretired_peppers = [\"0123\"]", "retired_peppers = \"0123\""),
        ] {
            assert!(check("sqlite:a/s.db", more).unwrap_err().to_string().contains(key), "{more}");
        }
    }
}
