//! What each program of a family does: measure its variants, and print tab-separated lines.

use std::alloc::System;
use std::io::{BufRead as _, Write as _};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{Stats, StatsAlloc};
use tokio::runtime::{Builder, Runtime};

use crate::app::{Answering, App, Spec, Variant};
use crate::case::{CASES, Case, Credential, find};
use crate::payload::{TS, make_users};

/// Sessions that exist before anything is measured.
const SESSIONS: usize = 1_000;
/// Requests of one case under an instruction counter, and for counting allocations.
const COUNTED: usize = 300;
/// Requests of one case in a timed round.
const TIMED: usize = 400;

type Counter = &'static StatsAlloc<System>;

/// Runs a family's program. The commands are those that `bench` uses:
///
/// - `instructions [VARIANT CASE]`: runs each case once inside [`cloakroom_bench_region`], for callgrind, which writes a file each time;
/// - `allocations`: allocations and bytes of each case (needs a counting allocator);
/// - `parts ROUNDS`: the steps of a request by themselves;
/// - `time`: a round of all cases for each line of the standard input;
/// - `live VARIANT SESSIONS`: bytes that so many sessions hold (needs a counting allocator).
///
/// # Errors
///
/// If a variant does not do what the case asks for: nothing wrong is measured.
pub fn main(variants: &[Variant], counter: Option<Counter>) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    match (arguments.as_slice(), counter) {
        (["instructions"], None) => instructions(&runtime, variants, None),
        (["instructions", variant, case], None) => instructions(&runtime, variants, Some((variant, case))),
        (["parts", rounds], None) => crate::parts::main(&runtime, rounds.parse()?),
        (["time"], None) => time(&runtime, variants),
        (["allocations"], Some(counter)) => allocations(&runtime, variants, counter),
        (["live", variant, sessions], Some(counter)) => {
            let variant = variants.iter().find(|known| known.name == *variant);
            live(&runtime, variant.context("no such variant")?, sessions.parse()?, counter)
        }
        _ => bail!(
            "usage: instructions [VARIANT CASE] | parts ROUNDS | time; with a counting allocator: allocations | live VARIANT SESSIONS"
        ),
    }
}

/// A variant with its sessions.
struct Bench<'a> {
    runtime: &'a Runtime,
    variant: &'a Variant,
    app: Box<dyn App>,
    own: Vec<String>,
    foreign: String,
    malformed: String,
}

impl<'a> Bench<'a> {
    fn new(runtime: &'a Runtime, variant: &'a Variant) -> Result<Self> {
        make_users(2 * SESSIONS);
        let mut app = (variant.build)(runtime);
        // Another deployment, with keys and a store of its own.
        let mut other = (variant.build)(runtime);
        let placeholder = || format!("__Host-Http-sid={}", "A".repeat(64));
        let log_in = |app: &mut Box<dyn App>| -> Result<String> {
            let spec = Spec { method: "POST", path: "/login", cookie: None };
            let answer = runtime.block_on(app.ask(&spec));
            ensure!(answer.status == 200, "{}: a login is answered with {}", variant.name, answer.status);
            let cookies = answer.cookies.join("; ");
            Ok(if variant.bare { placeholder() } else { cookies })
        };
        let foreign = log_in(&mut other)?;
        let own = (0..SESSIONS).map(|_| log_in(&mut app)).collect::<Result<Vec<_>>>()?;
        let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
        let broken = foreign.split("; ").map(|pair| format!("{}=broken", name(pair))).collect::<Vec<_>>();
        let mut bench = Self { runtime, variant, app, own, foreign, malformed: broken.join("; ") };
        // The first use of a session is a write of its own with some.
        bench.run(find("read-four").context("a case")?, SESSIONS, block_on)?;
        Ok(bench)
    }

    fn spec(&self, case: Case, index: usize) -> Spec {
        let cookie = match case.credential {
            Credential::None => None,
            Credential::Own | Credential::Among => self.own.get(index % self.own.len()),
            Credential::Foreign => Some(&self.foreign),
            Credential::Malformed => Some(&self.malformed),
        };
        let cookie = match case.credential {
            Credential::Among => {
                cookie.map(|own| format!("theme=dark; _ga=GA1.1.1234567890.1700000000; {own}; lang=cs-CZ"))
            }
            _ => cookie.cloned(),
        };
        Spec { method: case.method, path: case.path, cookie }
    }

    /// Makes `count` requests of a case, answered by `measured`.
    fn run<T>(
        &mut self,
        case: Case,
        count: usize,
        measured: fn(&Runtime, Answering<'_, usize>) -> (usize, T),
    ) -> Result<T> {
        let specs = (0..count).map(|index| self.spec(case, index)).collect::<Vec<_>>();
        let expected = (!self.variant.bare).then_some(case.status);
        let (wrong, outcome) = measured(self.runtime, self.app.run(&specs, expected));
        ensure!(wrong == 0, "{}, {}: {wrong} of {count} answers are wrong", self.variant.name, case.name);
        Ok(outcome)
    }

    /// Proves that what is written can be read.
    fn check(&mut self) -> Result<()> {
        if self.variant.bare {
            return Ok(());
        }
        let mut cookie = self.own.first().cloned();
        let mut ask = |method, path, cookie: &Option<String>| {
            self.runtime.block_on(self.app.ask(&Spec { method, path, cookie: cookie.clone() }))
        };
        let before = ask("GET", "/ts", &cookie).body;
        let written = ask("POST", "/one", &cookie);
        if !written.cookies.is_empty() {
            cookie = Some(written.cookies.join("; "));
        }
        let after = ask("GET", "/ts", &cookie).body;
        let name = self.variant.name;
        ensure!(before == TS.to_string(), "{name}: a new session holds {before} under ts");
        ensure!(after.parse().is_ok_and(|after: u64| after > TS), "{name}: a written session holds {after}");
        Ok(())
    }
}

fn block_on(runtime: &Runtime, work: Answering<'_, usize>) -> (usize, ()) {
    (runtime.block_on(tokio::task::unconstrained(work)), ())
}

/// What callgrind counts: told by this function's name, which nothing else may contain.
#[inline(never)]
pub fn cloakroom_bench_region(runtime: &Runtime, work: Answering<'_, usize>) -> usize {
    // A last call that is a jump would hide the return from callgrind.
    std::hint::black_box(runtime.block_on(tokio::task::unconstrained(work)))
}

fn instructions(runtime: &Runtime, variants: &[Variant], only: Option<(&str, &str)>) -> Result<()> {
    for variant in variants.iter().filter(|variant| only.is_none_or(|(name, _)| variant.name == name)) {
        let mut bench = Bench::new(runtime, variant)?;
        bench.check()?;
        for &case in CASES.iter().filter(|case| only.is_none_or(|(_, name)| case.name == name)) {
            bench.run(case, 20, block_on)?;
            bench.run(case, COUNTED, |runtime, work| (cloakroom_bench_region(runtime, work), ()))?;
            println!("{}\t{}\t{COUNTED}", variant.name, case.name);
        }
    }
    Ok(())
}

fn allocations(runtime: &Runtime, variants: &[Variant], counter: Counter) -> Result<()> {
    // The counter cannot be captured by a function pointer.
    static COUNTER: std::sync::OnceLock<Counter> = std::sync::OnceLock::new();
    COUNTER.get_or_init(|| counter);
    fn counted(runtime: &Runtime, work: Answering<'_, usize>) -> (usize, (usize, usize)) {
        let stats = || COUNTER.get().map_or_else(Stats::default, |counter| counter.stats());
        let before = stats();
        let wrong = runtime.block_on(tokio::task::unconstrained(work));
        let after = stats();
        let calls = |stats: Stats| stats.allocations + stats.reallocations;
        (wrong, (calls(after) - calls(before), after.bytes_allocated - before.bytes_allocated))
    }
    for variant in variants.iter().filter(|variant| !variant.name.ends_with("-large")) {
        let mut bench = Bench::new(runtime, variant)?;
        for &case in CASES {
            bench.run(case, 20, block_on)?;
            let (calls, bytes) = bench.run(case, COUNTED, counted)?;
            let per = |total: usize| total as f64 / COUNTED as f64;
            println!("{}\t{}\t{:.2}\t{:.1}", variant.name, case.name, per(calls), per(bytes));
        }
    }
    Ok(())
}

/// The processor time of this thread, in nanoseconds.
pub(crate) fn thread_time() -> i64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn time(runtime: &Runtime, variants: &[Variant]) -> Result<()> {
    fn timed(runtime: &Runtime, work: Answering<'_, usize>) -> (usize, i64) {
        let before = thread_time();
        let wrong = runtime.block_on(tokio::task::unconstrained(work));
        (wrong, thread_time() - before)
    }
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        line?;
        let mut benches =
            variants.iter().map(|variant| Bench::new(runtime, variant)).collect::<Result<Vec<_>>>()?;
        // Case by case, so that a case of one variant runs right after the same case of the one before.
        for &case in CASES {
            for bench in &mut benches {
                bench.run(case, 20, block_on)?;
                let spent = bench.run(case, TIMED, timed)?;
                writeln!(out, "{}\t{}\t{:.1}", bench.variant.name, case.name, spent as f64 / TIMED as f64)?;
            }
        }
        writeln!(out, "end")?;
        out.flush()?;
    }
    Ok(())
}

fn resident() -> Result<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").context("Linux's /proc")?;
    Ok(text.split_whitespace().nth(1).context("a field")?.parse::<usize>()? * 4096)
}

fn live(runtime: &Runtime, variant: &Variant, sessions: usize, counter: Counter) -> Result<()> {
    // One user a session.
    make_users(sessions);
    let mut app = (variant.build)(runtime);
    let spec = Spec { method: "POST", path: "/login", cookie: None };
    let held = || {
        let stats = counter.stats();
        stats.bytes_allocated - stats.bytes_deallocated
    };
    let pieces = || {
        let stats = counter.stats();
        stats.allocations - stats.deallocations
    };
    let (bytes, blocks, pages) = (held(), pieces(), resident()?);
    for _ in 0..sessions {
        let wrong = runtime.block_on(app.run(std::slice::from_ref(&spec), Some(200)));
        ensure!(wrong == 0, "{}: a login failed", variant.name);
    }
    let per = |now: usize, before: usize| (now as f64 - before as f64) / sessions as f64;
    println!(
        "{}\t{sessions}\t{:.1}\t{:.2}\t{:.1}",
        variant.name,
        per(held(), bytes),
        per(pieces(), blocks),
        per(resident()?, pages)
    );
    Ok(())
}
