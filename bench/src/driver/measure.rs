//! Running the programs of the families.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::stats::Spread;
use super::tools::{need, sibling};

/// The function whose instructions are counted.
const REGION: &str = "cloakroom_bench::harness::cloakroom_bench_region";

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// A few minutes.
    Quick,
    /// As long as it takes.
    Full,
}

impl Effort {
    #[cfg(feature = "http")]
    pub(super) fn parse(text: &str) -> Result<Self> {
        match text {
            "quick" => Ok(Self::Quick),
            "full" => Ok(Self::Full),
            _ => anyhow::bail!("quick or full"),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick run",
            Self::Full => "full run",
        }
    }

    pub(super) const fn rounds(self) -> usize {
        match self {
            Self::Quick => 31,
            Self::Full => 101,
        }
    }

    const fn sessions(self) -> &'static [usize] {
        match self {
            Self::Quick => &[100_000],
            Self::Full => &[100_000, 1_000_000],
        }
    }
}

/// A program with variants on one framework; the first of them is the framework alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ours,
    Peers,
    Actix,
}

impl Family {
    const fn program(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Peers => "peers",
            Self::Actix => "actix",
        }
    }
}

/// What was found of one case of one variant, each less the bare framework of the same program and round.
#[derive(Clone, Debug, Default)]
pub(super) struct Over {
    pub(super) instructions: f64,
    pub(super) allocations: f64,
    pub(super) bytes: f64,
    pub(super) time: Vec<f64>,
}

impl Over {
    pub(super) fn spread(&self) -> Spread {
        Spread::of(self.time.iter().copied())
    }
}

/// The frameworks themselves.
pub(super) type Bare = Over;

/// Everything that was found.
#[derive(Default)]
pub(super) struct Results {
    pub(super) over: BTreeMap<(String, String), Over>,
    pub(super) bare: BTreeMap<(String, String), Bare>,
}

impl Results {
    pub(super) fn over(&self, variant: &str, case: &str) -> Option<&Over> {
        self.over.get(&(variant.to_owned(), case.to_owned()))
    }

    pub(super) fn bare(&self, variant: &str, case: &str) -> Option<&Bare> {
        self.bare.get(&(variant.to_owned(), case.to_owned()))
    }
}

/// A line of a program: variant, case, figures.
struct Line {
    variant: String,
    case: String,
    figures: Vec<f64>,
}

fn lines(text: &str) -> Result<Vec<Line>> {
    let line = |line: &str| {
        let mut parts = line.split('\t');
        let variant = parts.next().unwrap_or_default().to_owned();
        let case = parts.next().context("a line without a case")?.to_owned();
        let figures = parts.map(str::parse).collect::<Result<Vec<f64>, _>>().context("a figure")?;
        Ok(Line { variant, case, figures })
    };
    text.lines().map(line).collect()
}

/// Notes figures of all variants of a program: the first variant is what the others are compared with.
fn note(results: &mut Results, lines: &[Line], set: impl Fn(&mut Over, &[f64])) {
    let Some(bare) = lines.first().map(|line| line.variant.clone()) else { return };
    for line in lines {
        let key = (line.variant.clone(), line.case.clone());
        if line.variant == bare {
            // Two programs have axum: the counts of the later are shown, and the rounds of both.
            set(results.bare.entry(key).or_default(), &line.figures);
            continue;
        }
        let base = lines.iter().find(|other| other.variant == bare && other.case == line.case);
        let less = |index: usize, figure: f64| {
            figure - base.and_then(|base| base.figures.get(index)).copied().unwrap_or_default()
        };
        let figures =
            line.figures.iter().enumerate().map(|(index, &figure)| less(index, figure)).collect::<Vec<_>>();
        set(results.over.entry(key).or_default(), &figures);
    }
}

/// Counts instructions and allocations.
pub(super) fn counted(families: &[Family]) -> Result<Results> {
    need("valgrind", "valgrind")?;
    let mut results = Results::default();
    for &family in families {
        let name = family.program();
        eprintln!("bench: counting instructions and allocations of {name}");
        let found = callgrind(&sibling(name)?)?;
        note(&mut results, &found, |over, figures| {
            over.instructions = figures.first().copied().unwrap_or_default()
        });
        let found = lines(&output(Command::new(sibling(&format!("{name}-counted"))?).arg("allocations"))?)?;
        note(&mut results, &found, |over, figures| {
            over.allocations = figures.first().copied().unwrap_or_default();
            over.bytes = figures.get(1).copied().unwrap_or_default();
        });
    }
    Ok(results)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().context("a program of the benchmark")?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(String::from_utf8(output.stdout)?)
}

fn valgrind(program: &Path, out: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet", "--collect-atstart=no"]);
    command.arg(format!("--toggle-collect={REGION}")).arg(format!("--dump-after={REGION}"));
    command.arg(format!("--callgrind-out-file={}", out.display())).arg(program).arg("instructions");
    command
}

/// Instructions per request of each case: callgrind writes one file each time the region is left.
fn callgrind(program: &Path) -> Result<Vec<Line>> {
    let folder = Scratch::new()?;
    let out = folder.0.join("out");
    let mut found = lines(&output(&mut valgrind(program, &out))?)?;
    for (index, line) in found.iter_mut().enumerate() {
        let path = folder.0.join(format!("out.{}", index + 1));
        let text = std::fs::read_to_string(&path).context("a file of callgrind")?;
        let total =
            text.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
        let total = total.context("callgrind's total")?.trim().parse::<f64>()?;
        let requests = line.figures.first().copied().unwrap_or(1.0);
        line.figures = vec![total / requests];
    }
    Ok(found)
}

/// Profiles one case: prints where the instructions go, with and without callees.
pub(super) fn profile(program: &str, variant: &str, case: &str) -> Result<ExitCode> {
    need("valgrind", "valgrind")?;
    let folder = Scratch::new()?;
    let out = folder.0.join("out");
    output(valgrind(&sibling(program)?, &out).args([variant, case]))?;
    for inclusive in ["yes", "no"] {
        let text = output(
            Command::new("callgrind_annotate")
                .args(["--auto=no", "--threshold=99"])
                .arg(format!("--inclusive={inclusive}"))
                .arg(folder.0.join("out.1")),
        )?;
        println!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A folder for callgrind's files, removed at the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("cloakroom-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("bench: {}: {error}", self.0.display());
        }
    }
}

/// A program that waits for the word to measure another round.
struct Timer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Timer {
    fn start(family: Family) -> Result<Self> {
        let mut command = Command::new(sibling(family.program())?);
        let mut child = command.arg("time").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let to = child.stdin.take().context("the program's input")?;
        let from = BufReader::new(child.stdout.take().context("the program's output")?);
        Ok(Self { child, to, from })
    }

    fn round(&mut self) -> Result<Vec<Line>> {
        writeln!(self.to, "round")?;
        let mut text = String::new();
        loop {
            let mut line = String::new();
            ensure!(self.from.read_line(&mut line)? > 0, "a program of the benchmark stopped");
            if line.trim_end() == "end" {
                return lines(&text);
            }
            text.push_str(&line);
        }
    }

    fn stop(self) -> Result<()> {
        let Self { mut child, to, from } = self;
        drop((to, from));
        ensure!(child.wait()?.success(), "a program of the benchmark failed");
        Ok(())
    }
}

/// Times all cases, a round of each family after the other.
pub(super) fn timed(families: &[Family], effort: Effort, results: &mut Results) -> Result<()> {
    eprintln!("bench: timing, {} rounds", effort.rounds());
    let mut timers = families.iter().copied().map(Timer::start).collect::<Result<Vec<_>>>()?;
    for _ in 0..effort.rounds() {
        for timer in &mut timers {
            let found = timer.round()?;
            note(results, &found, |over, figures| over.time.extend(figures.first()));
        }
    }
    timers.into_iter().try_for_each(Timer::stop)
}

/// Times the steps of a request by themselves: in their order, each with its spread.
pub(super) fn parts(effort: Effort) -> Result<Vec<(String, Spread)>> {
    eprintln!("bench: timing the steps of a request");
    let rounds = (effort.rounds() * 3).to_string();
    let text = output(Command::new(sibling("ours")?).args(["parts", &rounds]))?;
    let found = lines(&text)?;
    let mut names = Vec::<&str>::new();
    for line in &found {
        if !names.contains(&line.case.as_str()) {
            names.push(&line.case);
        }
    }
    let spread = |name: &str| {
        let of_part = found.iter().filter(|line| line.case == name);
        (name.to_owned(), Spread::of(of_part.filter_map(|line| line.figures.first().copied())))
    };
    Ok(names.into_iter().map(spread).collect())
}

/// What sessions hold while they live.
pub(super) struct Live {
    pub(super) variant: String,
    pub(super) sessions: usize,
    pub(super) bytes: f64,
    pub(super) blocks: f64,
    pub(super) resident: f64,
}

/// Fills each store that keeps sessions in memory.
pub(super) fn live(effort: Effort) -> Result<Vec<Live>> {
    let mut found = Vec::new();
    for &sessions in effort.sessions() {
        for (program, variant) in [
            ("ours-counted", "cloakroom-large"),
            ("peers-counted", "tower-sessions"),
            ("peers-counted", "axum_session"),
        ] {
            eprintln!("bench: {sessions} sessions in {variant}");
            let text =
                output(Command::new(sibling(program)?).args(["live", variant, &sessions.to_string()]))?;
            let line = lines(&text)?.pop().context("a line")?;
            let figure = |index: usize| line.figures.get(index).copied().unwrap_or_default();
            let variant = line.variant.trim_end_matches("-large").to_owned();
            found.push(Live { variant, sessions, bytes: figure(0), blocks: figure(1), resident: figure(2) });
        }
    }
    Ok(found)
}
