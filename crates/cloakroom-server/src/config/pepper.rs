//! Where the pepper comes from, and the files that hold one.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use cloakroom::core::entropy::Entropy as _;
use cloakroom::core::policy::Problem;
use cloakroom::{Pepper, PepperId, Peppers, SystemEntropy};
use zeroize::Zeroizing;

/// What a file with a pepper holds.
const FORMAT: &str =
    "one line of 64 to 2048 hexadecimal digits (32 to 1024 bytes from a secure random source)";

/// Where the pepper comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PepperSource {
    /// A fresh one for each start: for sessions that end with the process.
    Fresh,
    /// A file beside an embedded store's, made at the first start.
    Beside(PathBuf),
    /// Files that were made by `cloakroom pepper new`, and ids of peppers whose sessions have ended.
    Files {
        /// What new secrets are sealed with.
        current: PathBuf,
        /// What sessions may also be sealed with.
        accepted: Vec<PathBuf>,
        /// What sessions are no longer honoured under.
        retired: Vec<PepperId>,
    },
    /// None: for commands that look after sessions and seal none.
    Unneeded,
}

impl fmt::Display for PepperSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => f.write_str("a fresh one for each start"),
            Self::Beside(path) => write!(f, "{}, made at the first start", path.display()),
            Self::Files { current, accepted, retired } => {
                write!(f, "{}", current.display())?;
                accepted.iter().try_for_each(|path| write!(f, ", and accepted {}", path.display()))?;
                retired.iter().try_for_each(|id| write!(f, ", and retired {id}"))
            }
            Self::Unneeded => f.write_str("none"),
        }
    }
}

/// Peppers that were read, and their public names.
#[derive(Debug)]
#[non_exhaustive]
pub struct LoadedPeppers {
    /// For the session layer.
    pub peppers: Peppers,
    /// The one that new secrets are sealed with.
    pub current: PepperId,
    /// All that sessions are honoured under, the current one first.
    pub live: Vec<PepperId>,
}

impl PepperSource {
    /// Reads the peppers. That of an embedded store is made where there is none; that of a shared store never is.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or made, holds something else, or is open to others.
    pub fn load(&self) -> anyhow::Result<LoadedPeppers> {
        let current = match self {
            Self::Fresh => Pepper::new(&*fresh_key()?)?,
            Self::Beside(path) => Pepper::new(&*kept_key(path)?)?,
            Self::Files { current, .. } => read(current)?,
            Self::Unneeded => Pepper::none(),
        };
        let id = current.id();
        let mut loaded = LoadedPeppers { peppers: Peppers::new(current), current: id, live: vec![id] };
        if let Self::Files { accepted, retired, .. } = self {
            for path in accepted {
                let pepper = read(path)?;
                loaded.live.push(pepper.id());
                loaded.peppers = loaded.peppers.accept(pepper);
            }
            for id in retired {
                loaded.live.retain(|live| live != id);
                loaded.peppers = loaded.peppers.retire(*id);
            }
        }
        Ok(loaded)
    }
}

impl PepperSource {
    /// As `load`, without making anything: the names of the peppers that sessions would be honoured under, as far as that is known, and
    /// what is wrong with the files.
    pub(crate) fn look(&self) -> (Option<Vec<PepperId>>, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut note = |key: &str, path: &Path, read: anyhow::Result<Pepper>| {
            read.map(|pepper| pepper.id()).map_err(|error| {
                let expected = format!("a file with a pepper; {error:#}");
                problems.push(Problem::new(key, &path.display().to_string(), &expected));
            })
        };
        let live = match self {
            Self::Fresh | Self::Unneeded => None,
            // One is made at the start.
            Self::Beside(path) if !path.exists() => None,
            Self::Beside(path) => {
                let kept = kept_key(path).and_then(|key| Ok(Pepper::new(&*key)?));
                note("store", path, kept).ok().map(|id| vec![id])
            }
            Self::Files { current, accepted, retired } => {
                let first = note("pepper_file", current, read(current));
                let more: Vec<_> =
                    accepted.iter().map(|path| note("accepted_pepper_files", path, read(path))).collect();
                if let Ok(id) = &first
                    && retired.contains(id)
                {
                    let expected = "peppers that are not in use: this one is that of pepper_file, and every session would end";
                    problems.push(Problem::new("retired_peppers", &id.to_string(), expected));
                }
                let all: Result<Vec<_>, ()> = std::iter::once(first).chain(more).collect();
                all.ok().map(|live| live.into_iter().filter(|id| !retired.contains(id)).collect())
            }
        };
        (live, problems)
    }
}

/// Reads the public name of a pepper, as `cloakroom pepper id` prints it.
pub(super) fn parse_id(text: &str) -> Option<PepperId> {
    let bytes = parse_hex(text.as_bytes())?;
    bytes.as_slice().try_into().ok().map(PepperId::from_bytes)
}

/// Makes a pepper in a file that does not exist yet, for its owner only, and returns its public name.
///
/// # Errors
///
/// If the file exists, or cannot be made.
pub fn make(path: &Path) -> anyhow::Result<PepperId> {
    let key = fresh_key()?;
    let mut line = Zeroizing::new(String::with_capacity(2 * key.len() + 1));
    for byte in key.iter() {
        // Writing to a String does not fail.
        let _ = std::fmt::Write::write_fmt(&mut *line, format_args!("{byte:02x}"));
    }
    line.push('\n');
    write_new(path, line.as_bytes())?;
    Ok(Pepper::new(&*key)?.id())
}

/// Reads a pepper that [`make`] wrote, or any file of the same kind.
///
/// # Errors
///
/// If it cannot be read, holds something else, or is open to others.
///
/// # Security
///
/// A file that its group or others can read is refused on Unix: with the pepper and write access to the store, anybody can make
/// sessions.
pub fn read(path: &Path) -> anyhow::Result<Pepper> {
    let name = path.display();
    let file = File::open(path).with_context(|| {
        format!(
            "the pepper {name} cannot be read; `cloakroom pepper new {name}` makes one, once for all gateways"
        )
    })?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Of the open file, so that it cannot be another one by now.
        let mode = file.metadata().with_context(|| format!("the pepper {name}"))?.permissions().mode();
        ensure!(
            mode & 0o077 == 0,
            "the pepper {name} is open to others (mode {:03o}); run: chmod 600 {name}",
            mode & 0o777
        );
    }
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    // One more than the longest, so that a longer one is noticed; never more than was set aside, so that no copy is left behind.
    file.take(2051).read_to_end(&mut text).with_context(|| format!("the pepper {name}"))?;
    parse_hex(text.trim_ascii_end())
        .and_then(|key| Pepper::new(&key).ok())
        .ok_or_else(|| anyhow!("{name} does not hold a pepper: expected {FORMAT}"))
}

fn parse_hex(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.chunks_exact(2) {
        let [high, low] = pair else { return None };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes)
}

fn fresh_key() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    SystemEntropy.fill(&mut *key)?;
    Ok(key)
}

/// The 32 bytes beside an embedded store, made at the first start.
fn kept_key(path: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let name = path.display();
    match std::fs::read(path).map(Zeroizing::new) {
        Ok(bytes) => bytes
            .as_slice()
            .try_into()
            .map(Zeroizing::new)
            .map_err(|_| anyhow!("{name} does not hold a pepper of 32 bytes; restore it from a backup")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
            }
            let key = fresh_key()?;
            write_new(path, &*key)?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("{name} cannot be read")),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = path.display();
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(path)
        .with_context(|| format!("{name} cannot be made (an existing file is never overwritten)"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| format!("{name} cannot be written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r014_an_embedded_stores_pepper_is_made_once_for_its_owner_only_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/pepper");
        let source = PepperSource::Beside(file.clone());
        let id = source.load().unwrap().current;
        let made = std::fs::read(&file).unwrap();
        assert_eq!(made.len(), 32);
        assert_only_the_owner(&file);
        assert_eq!((source.load().unwrap().current, std::fs::read(&file).unwrap()), (id, made));
        std::fs::write(&file, b"short").unwrap();
        assert!(source.load().unwrap_err().to_string().contains("restore it"));
    }

    #[test]
    fn r014_a_made_pepper_is_for_its_owner_only_is_never_overwritten_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pepper");
        let id = make(&file).unwrap();
        assert_only_the_owner(&file);
        assert_eq!(read(&file).unwrap().id(), id);
        assert_eq!(parse_id(&id.to_string()), Some(id));
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!((text.len(), text.ends_with('\n')), (65, true));
        assert!(make(&file).unwrap_err().to_string().contains("never overwritten"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }

    fn assert_only_the_owner(file: &Path) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_no_pepper_is_refused_without_being_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pepper");
        make(&file).unwrap();
        let (short, long) = ("ab".repeat(31), "ab".repeat(1025));
        for bad in ["", "\n", "cafe", &short, &long, &"xy".repeat(32), &"a".repeat(65), &"ab ".repeat(32)] {
            std::fs::write(&file, bad).unwrap();
            let said = format!("{:#}", read(&file).unwrap_err());
            assert!(said.contains("does not hold a pepper") && !said.contains("abab"), "{bad}: {said}");
        }
        for good in ["ab".repeat(32), "AB".repeat(32) + "\r\n", "ab".repeat(1024) + "\n"] {
            std::fs::write(&file, &good).unwrap();
            read(&file).unwrap();
        }
    }

    #[test]
    #[cfg(unix)]
    fn r014_a_pepper_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pepper");
        make(&file).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let said = read(&file).unwrap_err().to_string();
            assert!(said.contains("chmod 600"), "{mode:o}: {said}");
        }
        for mode in [0o400, 0o600, 0o700] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            read(&file).unwrap();
        }
    }

    #[test]
    fn r014_peppers_overlap_while_they_are_replaced_and_a_retired_one_is_live_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| folder.path().join(name));
        let (old_id, new_id) = (make(&old).unwrap(), make(&new).unwrap());
        let files = |current: &PathBuf, accepted: &[&PathBuf], retired: &[PepperId]| {
            let accepted = accepted.iter().map(|path| (*path).clone()).collect();
            PepperSource::Files { current: current.clone(), accepted, retired: retired.to_vec() }
                .load()
                .unwrap()
        };
        let table = [
            (files(&old, &[&new], &[]), old_id, vec![old_id, new_id]),
            (files(&new, &[&old], &[]), new_id, vec![new_id, old_id]),
            (files(&new, &[], &[]), new_id, vec![new_id]),
            (files(&new, &[&old], &[old_id]), new_id, vec![new_id]),
        ];
        for (loaded, current, live) in table {
            assert_eq!((loaded.current, loaded.live), (current, live));
        }
    }

    #[test]
    fn a_missing_pepper_says_the_command_that_makes_one() {
        let said = format!("{:#}", read(Path::new("/nowhere/pepper")).unwrap_err());
        assert!(said.contains("cloakroom pepper new /nowhere/pepper"), "{said}");
    }
}
