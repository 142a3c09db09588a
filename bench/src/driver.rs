//! Runs the programs of the families, and writes what they found.

mod baseline;
mod document;
#[cfg(feature = "http")]
mod ended;
#[cfg(feature = "http")]
mod gateway;
#[cfg(feature = "http")]
mod http;
mod measure;
#[cfg(feature = "plots")]
mod plot;
#[cfg(all(feature = "http", feature = "plots"))]
mod scale;
#[cfg(feature = "http")]
mod server;
#[cfg(all(feature = "http", feature = "plots"))]
mod space;
#[cfg(feature = "http")]
mod sqlite;
mod stats;
mod tables;
mod targets;
mod tools;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use self::measure::{Effort, Family};

const USAGE: &str = "usage: bench quick | full | http EFFORT | sqlite EFFORT | gateway EFFORT | scale MOST [STORE] | space | gate | baseline | profile PROGRAM VARIANT CASE
Started by scripts/bench, which builds what each of them needs.";

/// Carries out one command; exit code 1 means that the gate found something.
///
/// # Errors
///
/// If something could not be measured or written.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    match arguments.as_slice() {
        ["quick"] => report(root, Effort::Quick),
        ["full"] => report(root, Effort::Full),
        #[cfg(feature = "http")]
        ["http", effort] => over_http(root, Effort::parse(effort)?),
        #[cfg(feature = "http")]
        ["sqlite", effort] => on_one_disk(root, Effort::parse(effort)?),
        #[cfg(feature = "http")]
        ["gateway", effort] => before_applications(root, Effort::parse(effort)?),
        #[cfg(all(feature = "http", feature = "plots"))]
        ["space"] => space_of_sessions(root),
        #[cfg(all(feature = "http", feature = "plots"))]
        ["scale", most] => large_stores(root, most.parse()?),
        #[cfg(all(feature = "http", feature = "plots"))]
        ["scale", most, store] => {
            // Only shown: the page holds all stores of one run.
            let rows = scale::measure(most.parse()?, Some(store))?;
            println!("{}\n{}", scale::targets(&rows)?, scale::tables(&rows)?);
            Ok(ExitCode::SUCCESS)
        }
        ["gate"] => baseline::gate(&root.join("baseline.tsv"), &measure::counted(&[Family::Ours])?),
        ["baseline"] => baseline::write(&root.join("baseline.tsv"), &measure::counted(&[Family::Ours])?),
        ["profile", program, variant, case] => measure::profile(program, variant, case),
        _ => bail!(USAGE),
    }
}

fn report(root: &Path, effort: Effort) -> Result<ExitCode> {
    let families = [Family::Ours, Family::Peers, Family::Actix];
    let mut results = measure::counted(&families)?;
    measure::timed(&families, effort, &mut results)?;
    let live = measure::live(effort)?;
    let parts = measure::parts(effort)?;
    let machine = tools::Machine::here(root)?;

    let mut document = document::Document::open(&root.join("../docs/performance.md"))?;
    document.replace("in-process-conditions", &tables::conditions(&machine, effort.name()))?;
    document
        .replace("in-process-targets", &targets::in_process(&results, &live, tools::crates_added(root)?))?;
    document.replace("in-process-instructions", &tables::instructions(&results))?;
    document.replace("in-process-time", &tables::time(&results))?;
    document.replace("in-process-allocations", &tables::allocations(&results))?;
    document.replace("in-process-parts", &tables::parts(&parts))?;
    document.replace("in-process-memory", &tables::live(&live))?;
    document.save()?;
    #[cfg(feature = "plots")]
    plot::in_process(&root.join("../docs/performance"), &results)?;
    println!("bench: wrote docs/performance.md and the pictures in docs/performance/");
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "http")]
fn over_http(root: &Path, effort: Effort) -> Result<ExitCode> {
    let commands = http::commands()?;
    let ended = ended::table(effort)?;
    let results = http::load(root, effort)?;
    let machine = tools::Machine::here(root)?;
    let mut document = document::Document::open(&root.join("../docs/performance.md"))?;
    document.replace("http-conditions", &tables::conditions(&machine, effort.name()))?;
    document.replace("http-targets", &targets::over_http(&results))?;
    document.replace("http-load", &http::tables(&results))?;
    document.replace("http-commands", &commands)?;
    document.replace("http-ended", &ended)?;
    document.save()?;
    println!("bench: wrote docs/performance.md");
    Ok(ExitCode::SUCCESS)
}

#[cfg(all(feature = "http", feature = "plots"))]
fn large_stores(root: &Path, most: usize) -> Result<ExitCode> {
    let rows = scale::measure(most, None)?;
    let machine = tools::Machine::here(root)?;
    let mut document = document::Document::open(&root.join("../docs/performance.md"))?;
    document.replace(
        "scale-conditions",
        &tables::conditions(&machine, &format!("up to {} sessions", stats::number(most as f64))),
    )?;
    document.replace("scale-targets", &scale::targets(&rows)?)?;
    document.replace("scale-tables", &scale::tables(&rows)?)?;
    scale::plot(&root.join("../docs/performance/scale.svg"), &rows)?;
    document.save()?;
    println!("bench: wrote docs/performance.md");
    Ok(ExitCode::SUCCESS)
}

#[cfg(all(feature = "http", feature = "plots"))]
fn space_of_sessions(root: &Path) -> Result<ExitCode> {
    let tables = space::tables()?;
    let mut document = document::Document::open(&root.join("../docs/performance.md"))?;
    document.replace("space", &tables)?;
    document.save()?;
    println!("bench: wrote docs/performance.md");
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "http")]
fn on_one_disk(root: &Path, effort: Effort) -> Result<ExitCode> {
    let tables = sqlite::tables(effort)?;
    let machine = tools::Machine::here(root)?;
    let mut document = document::Document::open(&root.join("../docs/performance.md"))?;
    document.replace("sqlite-conditions", &tables::conditions(&machine, effort.name()))?;
    document.replace("sqlite", &tables)?;
    document.save()?;
    println!("bench: wrote docs/performance.md");
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "http")]
fn before_applications(root: &Path, effort: Effort) -> Result<ExitCode> {
    let table = gateway::table(root, effort)?;
    let machine = tools::Machine::here(root)?;
    let mut document = document::Document::open(&root.join("../docs/performance.md"))?;
    document.replace("gateway-conditions", &tables::conditions(&machine, effort.name()))?;
    document.replace("gateway-load", &table)?;
    document.save()?;
    println!("bench: wrote docs/performance.md");
    Ok(ExitCode::SUCCESS)
}
