//! Other programs, and the machine.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// Checks that a program is there; the message says how to get it.
pub(super) fn need(program: &str, package: &str) -> Result<()> {
    match Command::new(program).arg("--version").output() {
        Ok(_) => Ok(()),
        Err(_) => bail!("{program} is missing: apt-get install --no-install-recommends {package}"),
    }
}

/// The program of a family, beside this one.
pub(super) fn sibling(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("the path of this program")?;
    let path = here.with_file_name(name);
    ensure!(path.is_file(), "{name} is not built: start this through scripts/bench");
    Ok(path)
}

/// How many crates the smallest application has because of Cloakroom, Cloakroom's own among them.
pub(super) fn crates_added(root: &Path) -> Result<usize> {
    let tree = [
        "tree",
        "--locked",
        "--package",
        "axum-hello",
        "--edges",
        "normal",
        "--prefix",
        "depth",
        "--no-dedupe",
    ];
    let output = Command::new("cargo").args(tree).current_dir(root.join("..")).output().context("cargo")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let (mut ours, mut others, mut below_ours) = (HashSet::new(), HashSet::new(), false);
    let text = String::from_utf8(output.stdout)?;
    for line in text.lines() {
        let depth = line.bytes().take_while(u8::is_ascii_digit).count();
        let (depth, name) = line.split_at(depth);
        if depth == "1" {
            below_ours = name.starts_with("cloakroom ");
        }
        let name = name.split(" (").next().unwrap_or_default();
        if below_ours {
            ours.insert(name)
        } else {
            others.insert(name)
        };
    }
    ensure!(!ours.is_empty() && !others.is_empty(), "cargo tree has another form than expected");
    Ok(ours.difference(&others).count())
}

/// The first line that a command prints.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

/// What the figures were measured on.
pub(super) struct Machine {
    pub(super) date: String,
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) memory_gib: u64,
    pub(super) system: String,
    pub(super) load: String,
    pub(super) tools: String,
    pub(super) commit: String,
    pub(super) versions: String,
}

const CRATES: [&str; 9] = [
    "axum",
    "tower",
    "tokio",
    "tower-sessions",
    "axum_session",
    "axum-extra",
    "actix-web",
    "actix-session",
    "sha2",
];

impl Machine {
    /// Asks the operating system, the tools and the lock file.
    pub(super) fn here(root: &Path) -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| path.to_owned());
        let after = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split(':').nth(1).unwrap_or_default().trim().to_owned()
        };
        let memory = after(&read("/proc/meminfo")?, "MemTotal");
        let memory = memory.split(' ').next().unwrap_or_default().parse::<u64>().unwrap_or_default();
        let load = read("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let os = read("/etc/os-release").unwrap_or_default();
        let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
        let kernel = read("/proc/sys/kernel/osrelease")?;
        let lock = std::fs::read_to_string(root.join("Cargo.lock")).context("bench/Cargo.lock")?;
        let versions = CRATES.map(|name| format!("{name} {}", versions(&lock, name)));
        Ok(Self {
            date: first_line("date", &["-u", "+%F"]),
            processor: after(&read("/proc/cpuinfo")?, "model name"),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: memory.div_ceil(1024 * 1024),
            system: format!("{}, kernel {}", os.trim_matches('"'), kernel.trim()),
            load,
            tools: [first_line("rustc", &["-V"]), first_line("valgrind", &["--version"])].join(", "),
            commit: first_line("git", &["-C", &root.to_string_lossy(), "describe", "--always", "--dirty"]),
            versions: versions.join(", "),
        })
    }
}

/// The newest of the versions that the lock file has of a package.
fn versions(lock: &str, name: &str) -> String {
    let key = format!("name = \"{name}\"");
    let mut found = Vec::new();
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        if line == key {
            let version = lines.next().and_then(|line| line.strip_prefix("version = ")).unwrap_or_default();
            found.push(version.trim_matches('"').to_owned());
        }
    }
    // Cargo writes them in ascending order.
    found.pop().unwrap_or_else(|| "?".to_owned())
}
