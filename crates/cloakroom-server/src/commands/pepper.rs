//! `cloakroom pepper`: the key that gateways on a shared store have in common.

use std::path::PathBuf;

use crate::config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Action {
    /// Make one, in a file that only its owner can read.
    New {
        /// Where to; must not exist.
        file: PathBuf,
    },
    /// Print the public name of one, which says nothing of the pepper itself.
    Id {
        /// The file.
        file: PathBuf,
    },
}

pub(super) fn run(action: Action) -> anyhow::Result<()> {
    match action {
        Action::New { file } => {
            let id = config::make_pepper(&file)?;
            println!(
                "Wrote {}, pepper {id}. Next: pepper_file = {file:?} in the configuration of each gateway.",
                file.display()
            );
        }
        Action::Id { file } => println!("{}", config::read_pepper(&file)?.id()),
    }
    Ok(())
}
