//! Opening a store: connect, compare clocks, agree on the pepper, and only then build the session layer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cloakroom::core::clock::{Clock, difference};
use cloakroom::core::csrf::VisitorKeys;
use cloakroom::core::store::{PepperClaim, Shared, Store};
use cloakroom::{MemoryStore, PepperId, SessionLayer, SessionLayerBuilder, SystemClock, SystemEntropy};
use cloakroom_postgres::{Migrated, OpenError, PostgresOptions, PostgresStore};
use cloakroom_redis::{RedisOptions, RedisStore};
use cloakroom_sqlite::SqliteStore;

use crate::config::{LoadedPeppers, PepperSource, Remote, SessionsConfig, StoreChoice, show};
use crate::health::{Claim, Health};

/// A store that is open and can be used.
#[non_exhaustive]
pub struct Opened {
    /// Sessions on it.
    pub sessions: SessionLayer,
    /// Whether it goes on to be usable.
    pub health: Health,
    /// The keys for the form tokens of visitors who have no session.
    pub visitors: VisitorKeys,
    /// What everything here goes by.
    pub clock: Arc<dyn Clock>,
    /// What its settings do not promise, for the operator to know.
    pub warnings: Vec<String>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

/// The gateway could run, but must not: for the operator to mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

impl Refused {
    /// Says what is to be mended, and how.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Opens the store that a configuration names.
///
/// # Errors
///
/// If it cannot be reached ([`anyhow::Error`], and a retry may help), or must not be used ([`Refused`], and it does not): another
/// pepper, a clock that is off, a database that is not migrated.
pub async fn open(config: &SessionsConfig) -> anyhow::Result<Opened> {
    open_with(config, SystemClock, |builder| builder).await
}

/// As [`open`], with a clock and changes of one's own.
///
/// # Errors
///
/// As [`open`].
pub async fn open_with(
    config: &SessionsConfig,
    clock: impl Clock + Clone,
    change: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
) -> anyhow::Result<Opened> {
    not_lost(config)?;
    let loaded = config.peppers.load()?;
    let watched: Arc<dyn Clock> = Arc::new(clock.clone());
    let visitors = match VisitorKeys::of(&loaded.peppers) {
        Some(keys) => keys,
        None => VisitorKeys::draw(&SystemEntropy)?,
    };
    let builder = |builder: SessionLayerBuilder| {
        change(builder).clock(clock).policy(config.policy.clone()).peppers(loaded.peppers.clone())
    };
    let (builder, claim, warnings) = match &config.store {
        StoreChoice::Memory(bounds) => {
            (builder(SessionLayer::builder(MemoryStore::with_bounds(*bounds))), None, Vec::new())
        }
        StoreChoice::Sqlite(path) => {
            let store =
                SqliteStore::open(path).with_context(|| format!("store = sqlite:{}", path.display()))?;
            let claim = agree(&store, config, &loaded, &watched).await?;
            (builder(SessionLayer::builder(store)), claim, Vec::new())
        }
        StoreChoice::Postgres(remote) => {
            let (store, warnings) = postgres(config, remote).await?;
            let claim = agree(&store, config, &loaded, &watched).await?;
            (builder(SessionLayer::builder(store)), claim, warnings)
        }
        StoreChoice::Redis(remote) => {
            let (store, warnings) = redis(config, remote).await?;
            let claim = agree(&store, config, &loaded, &watched).await?;
            (builder(SessionLayer::builder(store)), claim, warnings)
        }
    };
    let sessions = builder.build()?;
    let health = Health::new(sessions.clone(), claim);
    Ok(Opened { sessions, health, visitors, clock: watched, warnings })
}

/// Refuses to make a new pepper beside sessions that are under another one: everybody who has a cookie would get an error, everywhere,
/// and nobody would know why.
fn not_lost(config: &SessionsConfig) -> anyhow::Result<()> {
    let (StoreChoice::Sqlite(path), PepperSource::Beside(pepper)) = (&config.store, &config.peppers) else {
        return Ok(());
    };
    if pepper.exists() || !path.exists() {
        return Ok(());
    }
    let known =
        SqliteStore::peppers_in(path).with_context(|| format!("store = sqlite:{}", path.display()))?;
    Ok(lost(config, &known.unwrap_or_default())?)
}

/// Whether there are sessions under peppers, and the one beside the file is missing.
pub(crate) fn lost(config: &SessionsConfig, known: &[PepperId]) -> Result<(), Refused> {
    let (StoreChoice::Sqlite(path), PepperSource::Beside(pepper)) = (&config.store, &config.peppers) else {
        return Ok(());
    };
    if known.is_empty() || pepper.exists() {
        return Ok(());
    }
    let (pepper, path) = (pepper.display(), path.display());
    Err(Refused(format!(
        "the pepper {pepper} is missing, and the sessions in {path} are sealed under it (pepper {}): nobody's could be read; \
         restore {pepper} from a backup, then start again; if it is lost for good, move {path} away too, and everybody signs in anew",
        ids(known)
    )))
}

/// How far this machine's clock and the store's certainly differ; not at all, where the store has none.
pub(crate) async fn compare(
    store: &impl Store,
    config: &SessionsConfig,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Duration> {
    let before = clock.now()?;
    let other = store.time().await.with_context(|| unreachable(&config.store))?;
    let after = clock.now()?;
    Ok(other.map_or(Duration::ZERO, |other| difference(before, other, after)))
}

pub(crate) async fn postgres(
    config: &SessionsConfig,
    remote: &Remote<PostgresOptions>,
) -> anyhow::Result<(PostgresStore, Vec<String>)> {
    let store = remote.options.clone().connect().await.map_err(|error| match error {
        OpenError::Missing { .. } | OpenError::Older { .. } => refused(
            &config.store,
            format!("the database is not ready for this version; run: cloakroom migrate{}", config.named_by),
        ),
        error => not_open(&config.store, error),
    })?;
    let warnings = store.warnings().await.with_context(|| unreachable(&config.store))?;
    Ok((store, warnings))
}

pub(crate) async fn redis(
    config: &SessionsConfig,
    remote: &Remote<RedisOptions>,
) -> anyhow::Result<(RedisStore, Vec<String>)> {
    let store = remote.options.clone().connect().await.map_err(|error| {
        if error.may_retry() {
            return anyhow::Error::new(error).context(unreachable(&config.store));
        }
        refused(&config.store, chain(&error))
    })?;
    let warnings = store.warnings().await.with_context(|| unreachable(&config.store))?;
    Ok((store, warnings))
}

fn refused(store: &StoreChoice, why: impl std::fmt::Display) -> anyhow::Error {
    Refused(format!("the session store {store} cannot be used: {why}")).into()
}

/// An error with its causes.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Makes a store ready for this version, where that is a step of its own. Returns the versions of its schema before and after; `None`
/// where there is none.
///
/// # Errors
///
/// If the database cannot be reached, or not be changed.
pub async fn migrate(config: &SessionsConfig) -> anyhow::Result<Option<Migrated>> {
    match &config.store {
        StoreChoice::Memory(_) | StoreChoice::Sqlite(_) | StoreChoice::Redis(_) => Ok(None),
        StoreChoice::Postgres(remote) => {
            let migrated = remote.options.migrate().await;
            migrated.map(Some).map_err(|error| not_open(&config.store, error))
        }
    }
}

/// The SQL that [`migrate`] would run, empty if there is nothing to do; `None` where there is no schema.
///
/// # Errors
///
/// If the database cannot be reached.
pub async fn pending(config: &SessionsConfig) -> anyhow::Result<Option<String>> {
    match &config.store {
        StoreChoice::Memory(_) | StoreChoice::Sqlite(_) | StoreChoice::Redis(_) => Ok(None),
        StoreChoice::Postgres(remote) => {
            let pending = remote.options.pending().await;
            pending.map(Some).map_err(|error| not_open(&config.store, error))
        }
    }
}

fn not_open(store: &StoreChoice, error: OpenError) -> anyhow::Error {
    if error.may_retry() {
        return anyhow::Error::new(error).context(unreachable(store));
    }
    refused(store, chain(&error))
}

/// Refuses a store whose clock is off, or whose sessions are under peppers that this gateway does not have. Returns how to ask the latter
/// again.
async fn agree<S: Shared + Clone>(
    store: &S,
    config: &SessionsConfig,
    loaded: &LoadedPeppers,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<Claim>> {
    let (difference, skew) = (compare(store, config, clock).await?, config.policy.skew());
    if difference > skew {
        return Err(Refused(clocks_differ(config, &show(difference))).into());
    }
    if config.peppers == PepperSource::Unneeded {
        return Ok(None);
    }
    let (current, live) = (loaded.current, loaded.live.clone());
    let claim = store.claim_pepper(current, &live).await;
    if let PepperClaim::Foreign { known } = claim.with_context(|| unreachable(&config.store))? {
        return Err(Refused(foreign(config, &known, &live)).into());
    }
    let store = store.clone();
    Ok(Some(Box::new(move || {
        let (store, live) = (store.clone(), live.clone());
        Box::pin(async move { store.claim_pepper(current, &live).await })
    })))
}

pub(crate) fn clocks_differ(config: &SessionsConfig, by: &str) -> String {
    format!(
        "this machine's clock and that of {} differ by {by}, and policy.clock_skew allows {}: sessions would end early or late; \
         let NTP set both, then start again",
        config.store,
        show(config.policy.skew()),
    )
}

/// That sessions are under peppers which this gateway does not have.
pub(crate) fn foreign(config: &SessionsConfig, known: &[PepperId], live: &[PepperId]) -> String {
    let mend = if config.store.is_shared() {
        "copy the other gateways' pepper here"
    } else {
        "restore it from a backup"
    };
    format!(
        "the sessions in {} are sealed under another pepper ({}) than this gateway has ({}): nobody's session could be read; \
         {mend}, or name it in accepted_pepper_files (`cloakroom pepper id FILE` says which it is)",
        config.store,
        ids(known),
        ids(live),
    )
}

fn ids(ids: &[PepperId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn unreachable(store: &StoreChoice) -> String {
    format!(
        "the session store {store} does not answer; that is its fault or the network's: see that it runs and can be reached \
         from here, then start again"
    )
}
