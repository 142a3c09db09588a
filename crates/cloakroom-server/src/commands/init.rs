//! `cloakroom init`: a configuration file with every setting explained.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

/// The file: every setting with its default, commented out where the default is good.
pub(crate) const TEMPLATE: &str = include_str!("../../cloakroom.toml");

pub(super) fn write(file: &Path) -> anyhow::Result<()> {
    let name = file.display();
    let open = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
    let mut open =
        open.with_context(|| format!("{name} cannot be made (an existing file is never overwritten)"))?;
    open.write_all(TEMPLATE.as_bytes()).with_context(|| format!("{name} cannot be written"))?;
    println!("Wrote {name}. Next: cloakroom check --config {name}");
    Ok(())
}
