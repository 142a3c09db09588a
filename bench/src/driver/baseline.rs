//! The gate: our instruction and allocation counts against the committed ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use super::measure::Results;

/// How much a count may grow. Counts repeat to about one in a thousand.
const ALLOWED: f64 = 1.05;

const HEAD: &str = "# What Cloakroom adds to a bare axum request: instructions (callgrind) and allocations.
# Written by scripts/bench --baseline; scripts/bench --gate compares with it.
variant\tcase\tinstructions\tallocations\n";

type Counts = BTreeMap<(String, String), [f64; 2]>;

fn counts(results: &Results) -> Counts {
    let over = results.over.iter();
    over.map(|(key, over)| (key.clone(), [over.instructions.round(), over.allocations.round()])).collect()
}

fn parse(text: &str) -> Result<Counts> {
    let rows = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("variant\t"));
    let row = |line: &str| {
        let parts = line.split('\t').collect::<Vec<_>>();
        let [variant, case, instructions, allocations] = parts.as_slice() else {
            anyhow::bail!("a line of the baseline has other than four columns: {line}");
        };
        Ok((((*variant).to_owned(), (*case).to_owned()), [instructions.parse()?, allocations.parse()?]))
    };
    rows.map(row).collect()
}

/// Writes the baseline anew.
pub(super) fn write(path: &Path, results: &Results) -> Result<ExitCode> {
    let mut text = HEAD.to_owned();
    for ((variant, case), [instructions, allocations]) in counts(results) {
        writeln!(text, "{variant}\t{case}\t{instructions}\t{allocations}")?;
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())?;
    println!("bench: wrote bench/baseline.tsv");
    Ok(ExitCode::SUCCESS)
}

/// Compares with the baseline: exit code 1 if a count has grown too much.
pub(super) fn gate(path: &Path, results: &Results) -> Result<ExitCode> {
    let text = std::fs::read_to_string(path)
        .context("bench/baseline.tsv: write it with scripts/bench --baseline")?;
    let verdict = compare(&parse(&text)?, &counts(results))?;
    print!("{}", verdict.text);
    if verdict.grown > 0 {
        println!(
            "bench: {} counts grew by more than 5 %. Find out why: scripts/bench --profile ours VARIANT CASE. \
             If it is worth it, scripts/bench --baseline, and say in the commit what it buys.",
            verdict.grown
        );
        return Ok(ExitCode::from(1));
    }
    println!("bench: no instruction or allocation count grew by more than 5 %");
    Ok(ExitCode::SUCCESS)
}

struct Verdict {
    text: String,
    grown: usize,
}

fn compare(committed: &Counts, measured: &Counts) -> Result<Verdict> {
    let keys = |counts: &Counts| counts.keys().cloned().collect::<Vec<_>>();
    ensure!(
        keys(committed) == keys(measured),
        "the baseline is of other cases; write it anew with scripts/bench --baseline"
    );
    let mut verdict = Verdict { text: String::new(), grown: 0 };
    for (key, old) in committed {
        let new = measured.get(key).context("a measured case")?;
        for ((old, new), what) in old.iter().zip(new).zip(["instructions", "allocations"]) {
            let (variant, case) = key;
            let change = if *new > old * ALLOWED {
                verdict.grown += 1;
                "GREW"
            } else if *new * ALLOWED < *old {
                // Worth keeping: without a new baseline the next change could lose it unnoticed.
                "fell"
            } else {
                continue;
            };
            writeln!(verdict.text, "{change}\t{variant}\t{case}\t{what}\t{old} -> {new}")?;
        }
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(instructions: f64, allocations: f64) -> Counts {
        [(("cloakroom".to_owned(), "read-one".to_owned()), [instructions, allocations])].into()
    }

    #[test]
    fn a_count_that_grows_by_more_than_5_percent_is_found_and_one_that_does_not_passes() {
        let table = [
            ((1_000.0, 10.0), (1_050.0, 10.0), 0),
            ((1_000.0, 10.0), (1_051.0, 10.0), 1),
            ((1_000.0, 10.0), (1_000.0, 11.0), 1),
            ((1_000.0, 10.0), (2_000.0, 20.0), 2),
            ((1_000.0, 10.0), (500.0, 5.0), 0),
            ((1_000.0, 0.0), (1_000.0, 1.0), 1),
        ];
        for (old, new, grown) in table {
            let verdict = compare(&of(old.0, old.1), &of(new.0, new.1)).unwrap();
            assert_eq!(verdict.grown, grown, "{old:?} {new:?}\n{}", verdict.text);
        }
    }

    #[test]
    fn a_baseline_of_other_cases_is_refused() {
        assert!(compare(&Counts::new(), &of(1.0, 1.0)).is_err());
    }

    #[test]
    fn a_baseline_reads_back_as_it_was_written() {
        let text = format!("{HEAD}cloakroom\tread-one\t1000\t10\n");
        assert_eq!(parse(&text).unwrap(), of(1_000.0, 10.0));
        assert!(parse("a\tb\tc\n").is_err());
    }
}
