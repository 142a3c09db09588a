//! The notes, in a JSON file of their own.
//!
//! Deliberately the plainest storage that does not lose anything: the whole file is written anew beside the old one
//! and renamed over it, so that a crash leaves the old or the new one, never half of one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloakroom::RichText;
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
    pub(crate) text: Text,
}

/// What a note says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Text {
    /// To be escaped when it is shown.
    Plain(String),
    /// To be shown as it is: it went through the sanitiser, also when it is read from the file.
    Rich { rich: RichText },
}

impl Text {
    /// What a user typed: line breaks of one kind, no other control characters, no blanks around it.
    pub(crate) fn plain(typed: &str) -> Self {
        let text = typed.replace("\r\n", "\n");
        let text: String = text.chars().filter(|&letter| letter == '\n' || !letter.is_control()).collect();
        Self::Plain(text.trim().to_owned())
    }

    /// HTML that a user typed, of which only what is harmless is kept. What is too long to be looked at is plain.
    pub(crate) fn rich(typed: &str) -> Self {
        match RichText::sanitise(typed) {
            Ok(rich) => Self::Rich { rich },
            Err(_) => Self::plain(typed),
        }
    }

    /// The rule of a note's text, for the form that brings it.
    pub(crate) fn check(typed: &str, _: &()) -> garde::Result {
        let Self::Plain(text) = Self::plain(typed) else { return Ok(()) };
        if text.is_empty() {
            return Err(garde::Error::new("There is nothing in that note yet."));
        }
        if text.chars().count() > MAX_CHARACTERS {
            return Err(garde::Error::new(format!(
                "That note is too long. {MAX_CHARACTERS} characters fit."
            )));
        }
        Ok(())
    }
}

/// [`MAX_NOTES`] are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// What came of an addition.
pub(crate) type Added = Result<(), Full>;

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
    pub(crate) async fn add(self: &Arc<Self>, subject: String, text: Text) -> Result<Added, Refusal> {
        self.change(move |contents| {
            if contents.subjects.len() >= MAX_SUBJECTS && !contents.subjects.contains_key(&subject) {
                return Err(Full);
            }
            let own = contents.subjects.entry(subject).or_default();
            if own.notes.len() >= MAX_NOTES {
                return Err(Full);
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
            ("milk", "milk"),
            ("  milk \r\n", "milk"),
            ("milk\r\neggs", "milk\neggs"),
            ("mi\u{0}l\u{7f}k", "milk"),
            ("čaj 🍵", "čaj 🍵"),
        ] {
            assert_eq!(Text::plain(text), Text::Plain(kept.to_owned()), "{text:?}");
            assert!(Text::check(text, &()).is_ok(), "{text:?}");
        }
        let of = |letter: &str, count: usize| Text::check(&letter.repeat(count), &());
        assert!(of("é", MAX_CHARACTERS).is_ok());
        assert!(of("\r\n.", MAX_CHARACTERS / 2).is_ok(), "a line break counts once");
        assert!(of("e", MAX_CHARACTERS + 1).is_err() && of(" \t\n", 1).is_err());
    }

    #[test]
    fn a_rich_text_is_sanitised_again_when_it_is_read() {
        let file = r#"{"id":1,"text":{"rich":"<b>tea</b><script>alert(1)</script>"}}"#;
        let note: Note = serde_json::from_str(file).unwrap();
        assert_eq!(note.text, Text::rich("<b>tea</b>"));
        assert_eq!(serde_json::to_string(&note).unwrap(), r#"{"id":1,"text":{"rich":"<b>tea</b>"}}"#);
    }
}
