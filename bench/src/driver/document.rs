//! The page in docs/: text by hand, and parts between markers that only this program writes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The page, to be saved as a whole.
pub(super) struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// Puts another content between a part's markers.
    pub(super) fn replace(&mut self, part: &str, content: &str) -> Result<()> {
        let begin = format!("<!-- begin {part} -->");
        let end = format!("<!-- end {part} -->");
        let (before, rest) =
            self.text.split_once(&begin).with_context(|| format!("no {begin} in the page"))?;
        let (_, after) = rest.split_once(&end).with_context(|| format!("no {end} in the page"))?;
        self.text = format!("{before}{begin}\n{}\n{end}{after}", content.trim_end());
        Ok(())
    }

    pub(super) fn save(&self) -> Result<()> {
        std::fs::write(&self.path, &self.text).with_context(|| self.path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_of_a_part_is_replaced() {
        let text = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n".to_owned();
        let mut page = Document { path: PathBuf::new(), text };
        page.replace("x", "new\n").unwrap();
        assert_eq!(page.text, "a\n<!-- begin x -->\nnew\n<!-- end x -->\nb\n");
        assert!(page.replace("y", "").is_err());
    }
}
