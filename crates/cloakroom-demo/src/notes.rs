//! The notes, in a JSON file of their own.
//!
//! Deliberately the plainest storage that does not lose anything: the whole file is written anew beside the old one
//! and renamed over it, so that a crash leaves the old or the new one, never half of one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{DemoError, Refusal};

/// How many notes a subject may keep.
pub(crate) const MAX_NOTES: usize = 50;
/// The longest note, in characters.
pub(crate) const MAX_CHARACTERS: usize = 500;
/// How many subjects may keep notes. The demo has two accounts; this only keeps the file bounded.
const MAX_SUBJECTS: usize = 100;
/// The largest file that is read, in bytes: more than the limits above can fill.
const MAX_FILE: u64 = 32 * 1024 * 1024;
/// The version of the file's format.
const FORMAT: u32 = 1;

/// A note.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    /// Which one of the subject's; never used twice.
    pub(crate) id: u64,
    pub(crate) text: String,
}

/// Why a note is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unacceptable {
    /// There is nothing in it.
    Empty,
    /// It has more than [`MAX_CHARACTERS`].
    TooLong,
    /// There are [`MAX_NOTES`] already.
    Full,
}

/// What came of an addition.
pub(crate) type Added = Result<(), Unacceptable>;

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Pages {
    last_id: u64,
    notes: Vec<Note>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    format: u32,
    subjects: BTreeMap<String, Pages>,
}

/// Everybody's notes. Each subject sees its own only.
pub(crate) struct Notebook {
    path: PathBuf,
    contents: Mutex<Contents>,
}

impl Notebook {
    /// Opens the file, or begins it: a folder that cannot be written to is found at the start, not at the first note.
    ///
    /// # Errors
    ///
    /// [`DemoError`] if the file cannot be read or created, or is not one of ours.
    pub(crate) fn open(path: PathBuf) -> Result<Self, DemoError> {
        let contents = match read(&path) {
            Ok(text) => parse(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let empty = Contents { format: FORMAT, subjects: BTreeMap::new() };
                write(&path, &empty).map_err(DemoError::NotesFile)?;
                empty
            }
            Err(error) => return Err(DemoError::NotesFile(error)),
        };
        Ok(Self { path, contents: Mutex::new(contents) })
    }

    /// A subject's notes, the newest first.
    pub(crate) fn of(&self, subject: &str) -> Vec<Note> {
        let contents = self.lock();
        contents
            .subjects
            .get(subject)
            .map(|own| own.notes.iter().rev().cloned().collect())
            .unwrap_or_default()
    }

    /// Adds a note.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotesUnavailable`] if the file cannot be written. Then nothing has changed.
    pub(crate) async fn add(self: &Arc<Self>, subject: String, text: &str) -> Result<Added, Refusal> {
        let text = match clean(text) {
            Ok(text) => text,
            Err(reason) => return Ok(Err(reason)),
        };
        self.change(move |contents| {
            if contents.subjects.len() >= MAX_SUBJECTS && !contents.subjects.contains_key(&subject) {
                return Err(Unacceptable::Full);
            }
            let own = contents.subjects.entry(subject).or_default();
            if own.notes.len() >= MAX_NOTES {
                return Err(Unacceptable::Full);
            }
            own.last_id = own.last_id.saturating_add(1);
            own.notes.push(Note { id: own.last_id, text });
            Ok(())
        })
        .await
    }

    /// Removes a note. One that is not there is as good as removed.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotesUnavailable`] if the file cannot be written. Then nothing has changed.
    pub(crate) async fn remove(self: &Arc<Self>, subject: String, id: u64) -> Result<(), Refusal> {
        self.change(move |contents| {
            if let Some(own) = contents.subjects.get_mut(&subject) {
                own.notes.retain(|note| note.id != id);
            }
        })
        .await
    }

    /// Changes a copy, writes it, and only then keeps it. Where other threads may wait for the disk.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        how: impl FnOnce(&mut Contents) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let book = Arc::clone(self);
        let work = move || {
            let mut contents = book.lock();
            let mut changed = contents.clone();
            let outcome = how(&mut changed);
            write(&book.path, &changed)?;
            *contents = changed;
            Ok::<T, io::Error>(outcome)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(Refusal::NotesUnavailable),
            Err(_) => Err(Refusal::Internal),
        }
    }

    /// A panic cannot leave the contents half changed: they are replaced as a whole.
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text as it is kept: line breaks of one kind, no other control characters, no blanks around it.
fn clean(text: &str) -> Result<String, Unacceptable> {
    let text = text.replace("\r\n", "\n");
    let text: String = text.chars().filter(|&letter| letter == '\n' || !letter.is_control()).collect();
    let text = text.trim();
    if text.is_empty() {
        return Err(Unacceptable::Empty);
    }
    if text.chars().count() > MAX_CHARACTERS {
        return Err(Unacceptable::TooLong);
    }
    Ok(text.to_owned())
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str) -> Result<Contents, DemoError> {
    let contents: Contents =
        serde_json::from_str(text).map_err(|error| DemoError::NotesFormat(error.to_string()))?;
    if contents.format != FORMAT {
        return Err(DemoError::NotesFormat(format!("format {}, expected {FORMAT}", contents.format)));
    }
    Ok(contents)
}

fn write(path: &Path, contents: &Contents) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    // What a crash left behind. A new file, so that it has our mode and is not somebody's link.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private().open(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(contents)?)?;
    // The bytes must be on the disk before the name is, or a power cut leaves an empty file.
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_kept_without_blanks_and_control_characters() {
        for (text, kept) in [
            ("milk", Ok("milk")),
            ("  milk \r\n", Ok("milk")),
            ("milk\r\neggs", Ok("milk\neggs")),
            ("mi\u{0}l\u{7f}k", Ok("milk")),
            ("čaj 🍵", Ok("čaj 🍵")),
            (" \t\n", Err(Unacceptable::Empty)),
        ] {
            assert_eq!(clean(text), kept.map(str::to_owned), "{text:?}");
        }
        assert_eq!(clean(&"é".repeat(MAX_CHARACTERS)).map(|text| text.len()), Ok(2 * MAX_CHARACTERS));
        assert_eq!(clean(&"e".repeat(MAX_CHARACTERS + 1)), Err(Unacceptable::TooLong));
    }
}
