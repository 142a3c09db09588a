//! Serves tower-sessions on a store that is not in memory, as its documentation says.

#[path = "../../src/payload.rs"]
#[allow(dead_code, reason = "shared with the benchmark")]
mod payload;
#[path = "../../src/tower_sessions_app.rs"]
mod tower_sessions_app;

use anyhow::{Context as _, Result, bail};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike as _, Config, Pool};
use tower_sessions_sqlx_store::{PostgresStore, SqliteStore};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (variant, place) =
        arguments.next().zip(arguments.next()).context("usage: serve-peer VARIANT PLACE")?;
    payload::make_users(2_000);
    let app = match variant.as_str() {
        "tower-sessions-redis" => {
            let pool = Pool::new(Config::from_url(&place)?, None, None, None, 6)?;
            pool.init().await?;
            tower_sessions_app::routes(RedisStore::new(pool))
        }
        "tower-sessions-postgres" => {
            let store = PostgresStore::new(sqlx::PgPool::connect(&place).await?);
            store.migrate().await?;
            tower_sessions_app::routes(store)
        }
        "tower-sessions-sqlite" => {
            // WAL, and flushed at each commit, as Cloakroom has it.
            let options = SqliteConnectOptions::new().filename(&place).create_if_missing(true);
            let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
            let store = SqliteStore::new(sqlx::SqlitePool::connect_with(options).await?);
            store.migrate().await?;
            tower_sessions_app::routes(store)
        }
        _ => bail!("no variant {variant}"),
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    axum::serve(listener, app).await?;
    Ok(())
}
