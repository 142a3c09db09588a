//! `cloakroom migrate`: makes a database ready for this version.

use cloakroom_postgres::Migrated;

use super::Place;
use crate::config::StoreChoice;
use crate::open;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print what would be run, and change nothing.
    #[arg(long, conflicts_with = "grants")]
    dry_run: bool,
    /// Print the statements that grant a role what the gateway needs, and change nothing.
    #[arg(long, value_name = "ROLE")]
    grants: Option<String>,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = arguments.place.load()?;
    let store = &config.store;
    let said = if let Some(role) = arguments.grants {
        match store {
            StoreChoice::Postgres(remote) => remote.options.grants(&role),
            _ => format!("-- {store} has no roles that rights are granted to.\n"),
        }
    } else if arguments.dry_run {
        match open::pending(&config).await? {
            Some(sql) if sql.is_empty() => format!("-- {store} is up to date.\n"),
            Some(sql) => sql,
            None => format!("-- {store} has no schema; there is nothing to do.\n"),
        }
    } else {
        match open::migrate(&config).await? {
            Some(Migrated { from, to, .. }) if from == to => {
                format!("{store} is up to date (version {to}).\n")
            }
            Some(Migrated { from, to, .. }) => format!("{store} is ready: version {from} became {to}.\n"),
            None => format!("{store} has no schema; there is nothing to do.\n"),
        }
    };
    print!("{said}");
    Ok(())
}
