//! Where sessions are kept, and the pepper that goes with it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cloakroom::core::entropy::Entropy as _;
use cloakroom::{Pepper, Peppers, SystemEntropy};

/// Where sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// In the gateway's memory: a restart signs everybody out.
    Memory,
    /// In one SQLite file.
    Sqlite(PathBuf),
}

impl StoreChoice {
    /// Reads `memory` or `sqlite:PATH`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "memory" => Some(Self::Memory),
            Some(("sqlite", path)) if !path.is_empty() => Some(Self::Sqlite(PathBuf::from(path))),
            _ => None,
        }
    }

    /// The pepper that belongs to the store: made at the first start of an embedded store, and kept beside its file
    /// with mode 0600.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or made, or holds something else.
    pub fn peppers(&self) -> anyhow::Result<Peppers> {
        let key = match self {
            Self::Memory => fresh_key()?,
            Self::Sqlite(path) => kept_key(&path.with_file_name("pepper"))?,
        };
        Ok(Peppers::new(Pepper::new(&key)?))
    }
}

fn fresh_key() -> anyhow::Result<[u8; 32]> {
    let mut key = [0; 32];
    SystemEntropy.fill(&mut key)?;
    Ok(key)
}

fn kept_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let name = path.display();
    match std::fs::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|_| {
            anyhow::anyhow!("{name} does not hold a pepper of 32 bytes; restore it from a backup")
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
            }
            let key = fresh_key()?;
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(path).with_context(|| format!("{name} cannot be made"))?;
            file.write_all(&key)
                .and_then(|()| file.sync_all())
                .with_context(|| format!("{name} cannot be written"))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("{name} cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named_by_scheme_and_path() {
        assert_eq!(StoreChoice::parse("memory"), Some(StoreChoice::Memory));
        assert_eq!(StoreChoice::parse("sqlite:a/b.db"), Some(StoreChoice::Sqlite("a/b.db".into())));
        for bad in ["", "sqlite", "sqlite:", "memory:", "redis://x", "Memory"] {
            assert_eq!(StoreChoice::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn r014_a_pepper_is_made_once_for_its_owner_only_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreChoice::Sqlite(folder.path().join("new/sessions.db"));
        store.peppers().unwrap();
        let file = folder.path().join("new/pepper");
        let made = std::fs::read(&file).unwrap();
        assert_eq!(made.len(), 32);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        store.peppers().unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), made);
        std::fs::write(&file, b"short").unwrap();
        assert!(store.peppers().unwrap_err().to_string().contains("restore it"));
    }
}
