//! The figures of each test, for the table in `docs/reliability.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

/// What one test did on one store. When dropped it appends one line to `reliability.tsv` in the folder that
/// `CLOAKROOM_REPORT` names, and counts a failure if the test is panicking; without the variable it does nothing.
///
/// The line has four columns, parted by tabs: store, family, failures, and the counts as `name=number` parted by spaces.
#[derive(Debug)]
#[must_use = "the line is written when this is dropped"]
pub struct Row {
    store: &'static str,
    family: &'static str,
    counts: BTreeMap<&'static str, u64>,
}

impl Row {
    /// Begins the row of a test.
    pub const fn new(store: &'static str, family: &'static str) -> Self {
        Self { store, family, counts: BTreeMap::new() }
    }

    /// Counts `by` more of something without spaces in its name, such as `runs`, `operations`, `interleavings`, `histories` or `faults`.
    pub fn count(&mut self, what: &'static str, by: u64) {
        *self.counts.entry(what).or_default() += by;
    }

    fn line(&self, failures: u64) -> String {
        let mut counts = String::new();
        for (what, count) in &self.counts {
            let gap = if counts.is_empty() { "" } else { " " };
            write!(counts, "{gap}{what}={count}").expect("writing to a string does not fail");
        }
        format!("{}\t{}\t{failures}\t{counts}\n", self.store, self.family)
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        let Some(folder) = std::env::var_os("CLOAKROOM_REPORT") else { return };
        let path = std::path::Path::new(&folder).join("reliability.tsv");
        let line = self.line(u64::from(std::thread::panicking()));
        // One write in append mode: rows of tests that run side by side do not mix.
        let written = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = written
            && !std::thread::panicking()
        {
            panic!("cannot append to {}: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line_of_store_family_failures_and_counts() {
        let mut row = Row::new("memory", "logins");
        row.count("runs", 1);
        row.count("logins", 200);
        row.count("logins", 3);
        assert_eq!(row.line(1), "memory\tlogins\t1\tlogins=203 runs=1\n");
        // No figures of a real test: it must not end up in the table.
        std::mem::forget(row);
    }
}
