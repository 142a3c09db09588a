//! Attacks that a stranger can make from one machine, as bounded programs: what they cost, and what others
//! wait meanwhile.
//!
//! [`network`] has those against the gateway, which runs as a process of its own in front of an application
//! that answers by hand ([`stage`]); [`library`] has those against the library. `cargo run -p
//! cloakroom-reliability --bin attacks` runs them.
#![allow(clippy::disallowed_methods, reason = "these programs measure what others wait")]

pub mod library;
pub mod network;
pub mod stage;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How large an attack is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Enough to show that the bound is there; a second or so each.
    Small,
    /// Enough to show what it costs without one.
    Full,
}

impl Extent {
    /// One of two figures.
    pub const fn of<T: Copy>(self, small: T, full: T) -> T {
        match self {
            Self::Small => small,
            Self::Full => full,
        }
    }
}

/// What an attack came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The most memory that the process under attack has had resident, in KiB.
    pub peak_kib: u64,
    /// What a legitimate client waited for each answer, sorted, while the attack ran.
    pub waits: Vec<Duration>,
    /// Requests of the legitimate client that were not answered with 200.
    pub refused: u64,
    /// Further counts, by name.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Outcome {
    /// The wait that so many of a hundred do not exceed.
    pub fn percentile(&self, of_hundred: usize) -> Duration {
        let last = self.waits.len().saturating_sub(1);
        self.waits.get((self.waits.len() * of_hundred / 100).min(last)).copied().unwrap_or_default()
    }

    /// One of [`Outcome::counts`]; 0 if it is not there.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// Reads the counts of what [`Outcome`] displays back, with `peak_kib`, `answered` and `refused` among
    /// them.
    pub fn read(text: &str) -> BTreeMap<String, u64> {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, most] = [50, 99, 100].map(|share| self.percentile(share).as_secs_f64() * 1000.0);
        write!(f, "peak_kib={} answered={} refused={}", self.peak_kib, self.waits.len(), self.refused)?;
        write!(f, " p50={p50:.1}ms p99={p99:.1}ms max={most:.1}ms")?;
        self.counts.iter().try_for_each(|(name, count)| write!(f, " {name}={count}"))
    }
}

/// The most memory that a process has had resident, in KiB; 0 where the system does not say.
pub fn peak_kib(process: u32) -> u64 {
    memory(process, "VmHWM:")
}

/// The memory that a process has resident now, in KiB; 0 where the system does not say.
pub fn resident_kib(process: u32) -> u64 {
    memory(process, "VmRSS:")
}

fn memory(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or_default()
}

/// How many descriptors a process has open; 0 where the system does not say.
pub fn descriptors(process: u32) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{process}/fd"));
    open.map_or(0, |open| u64::try_from(open.count()).unwrap_or(u64::MAX))
}
