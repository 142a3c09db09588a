//! Opening what a configuration names, to see whether it can be used. Nothing is made or changed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloakroom::core::clock::Clock;
use cloakroom::core::policy::Problem;
use cloakroom::core::store::{Shared, StoreError};
use cloakroom::{PepperId, SystemClock};
use cloakroom_sqlite::SqliteStore;

use crate::config::{Examined, SessionsConfig, StoreChoice, show};
use crate::open::{self, Refused};
use crate::tls;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    /// What cannot be used.
    pub(crate) problems: Vec<Problem>,
    /// What can be, and is not as it should be.
    pub(crate) warnings: Vec<String>,
    /// How far the store's clock and this machine's certainly differ.
    pub(crate) difference: Option<Duration>,
    /// The store does not answer, which may pass.
    pub(crate) away: Option<anyhow::Error>,
}

impl Inspection {
    fn problem(&mut self, key: &str, value: &impl ToString, expected: &str) {
        self.problems.push(Problem::new(key, &value.to_string(), expected));
    }
}

/// Opens certificate and key, peppers, and the store.
pub(crate) async fn inspect(examined: &Examined) -> Inspection {
    let mut found = Inspection::default();
    if let Some((cert, key)) = &examined.tls {
        let (problems, warnings) = tls::inspect(cert, key, SystemClock.now().unwrap_or_default());
        found.problems.extend(problems);
        found.warnings.extend(warnings);
    }
    if let Some(sessions) = &examined.sessions {
        let (live, problems) = sessions.peppers.look();
        found.problems.extend(problems);
        store(sessions, live.as_deref(), &mut found).await;
    }
    found
}

/// `live` are the peppers that the gateway would have; `None` where that is not known.
async fn store(config: &SessionsConfig, live: Option<&[PepperId]>, found: &mut Inspection) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let looked = match &config.store {
        StoreChoice::Memory(_) => return,
        StoreChoice::Sqlite(path) => return sqlite(config, path, live, found),
        StoreChoice::Postgres(remote) => match open::postgres(config, remote).await {
            Ok((store, warnings)) => {
                found.warnings.extend(warnings);
                look(config, &store, store.peppers().await, live, &clock, found).await
            }
            Err(error) => Err(error),
        },
        StoreChoice::Redis(remote) => match open::redis(config, remote).await {
            Ok((store, warnings)) => {
                found.warnings.extend(warnings);
                look(config, &store, store.peppers().await, live, &clock, found).await
            }
            Err(error) => Err(error),
        },
    };
    match looked {
        Ok(()) => {}
        Err(error) if error.is::<Refused>() => {
            found.problem("store", &config.store, &format!("one that can be used; {error}"));
        }
        Err(error) => found.away = Some(error),
    }
}

async fn look(
    config: &SessionsConfig,
    store: &impl Shared,
    known: Result<Vec<PepperId>, StoreError>,
    live: Option<&[PepperId]>,
    clock: &Arc<dyn Clock>,
    found: &mut Inspection,
) -> anyhow::Result<()> {
    let difference = open::compare(store, config, clock).await?;
    found.difference = Some(difference);
    if difference > config.policy.skew() {
        let value = show(difference);
        found.problem("store", &config.store, &open::clocks_differ(config, &value));
    }
    foreign(config, &known?, live, found);
    Ok(())
}

fn sqlite(config: &SessionsConfig, path: &Path, live: Option<&[PepperId]>, found: &mut Inspection) {
    const KEY: &str = "store";
    match SqliteStore::peppers_in(path) {
        Err(error) => {
            found.problem(KEY, &config.store, &format!("a file that can be used; {}", open::chain(&error)));
        }
        Ok(None) => {
            if let Err(why) = can_be_made(path) {
                found.problem(KEY, &config.store, &format!("a file that exists or can be made; {why}"));
            }
        }
        Ok(Some(known)) => {
            // SQLite makes its log beside the file.
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            for place in [path, folder] {
                if !writable(place) {
                    found.problem(KEY, &config.store, &format!("the right to write to {}", place.display()));
                }
            }
            if let Err(refused) = open::lost(config, &known) {
                found.problem(KEY, &config.store, &format!("sessions that can be opened; {refused}"));
            } else {
                foreign(config, &known, live, found);
            }
        }
    }
}

/// Notes sessions that are under none of the gateway's peppers.
fn foreign(config: &SessionsConfig, known: &[PepperId], live: Option<&[PepperId]>, found: &mut Inspection) {
    let Some(live) = live else { return };
    if !known.is_empty() && !known.iter().any(|id| live.contains(id)) {
        found.problem(
            "store",
            &config.store,
            &format!("sessions that can be opened; {}", open::foreign(config, known, live)),
        );
    }
}

/// Whether the folder that a file is in, or is to be made in, can be written to.
fn can_be_made(path: &Path) -> Result<(), String> {
    let path = std::path::absolute(path).map_err(|error| error.to_string())?;
    let Some(there) = path.ancestors().skip(1).find(|folder| folder.exists()) else { return Ok(()) };
    if !there.is_dir() {
        return Err(format!("{} is no folder", there.display()));
    }
    if !writable(there) {
        return Err(format!("{} cannot be written to", there.display()));
    }
    Ok(())
}

#[cfg(unix)]
fn writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(not(unix))]
fn writable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| !metadata.permissions().readonly())
}
