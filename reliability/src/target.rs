//! The stores under test: how to open an empty one, and how to drive its futures.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloakroom::MemoryStore;
use cloakroom_postgres::{PostgresOptions, PostgresStore};
use cloakroom_redis::{RedisOptions, RedisStore};
use cloakroom_sqlite::SqliteStore;
use cloakroom_testkit::suite::FullStore;
use cloakroom_testkit::{Counting, servers};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A store that the tests run against.
pub trait Target: Send + Sync + 'static {
    /// The store.
    type Store: FullStore;

    /// Its name in reports.
    const NAME: &'static str;

    /// Whether an operation costs so little that tests may go through tens of thousands of runs.
    const CHEAP: bool = false;

    /// Makes ready an empty one that shares nothing with any other test.
    fn open() -> Self;

    /// A store in which no session is live. Where a new one costs little it is a new one; elsewhere all runs of a test
    /// share one and keep apart by their subjects.
    fn store(&self) -> Counting<Self::Store>;
}

/// The runtime that drives all futures of a test program: connections belong to the runtime that made them.
///
/// # Panics
///
/// If it cannot be started.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .expect("a runtime for the tests")
    })
}

/// Drives a future to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

/// [`MemoryStore`].
#[derive(Debug)]
pub struct Memory;

impl Target for Memory {
    type Store = MemoryStore;

    const NAME: &'static str = "memory";

    const CHEAP: bool = true;

    fn open() -> Self {
        Self
    }

    fn store(&self) -> Counting<MemoryStore> {
        Counting::new(MemoryStore::new())
    }
}

/// [`SqliteStore`], in a file of its own.
#[derive(Debug)]
pub struct Sqlite {
    // The order matters: the file is closed before its folder goes.
    store: Counting<SqliteStore>,
    _folder: TempDir,
}

impl Target for Sqlite {
    type Store = SqliteStore;

    const NAME: &'static str = "SQLite";

    fn open() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let store = SqliteStore::open(folder.path().join("sessions.db")).expect("a new file");
        Self { store: Counting::new(store), _folder: folder }
    }

    fn store(&self) -> Counting<SqliteStore> {
        self.store.clone()
    }
}

/// Longer than any pause of a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A name that no other test of this program has, for a schema or a prefix.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("reliability{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// [`PostgresStore`], in a schema of its own on the server that a test program shares.
#[derive(Debug)]
pub struct Postgres(Counting<PostgresStore>);

impl Target for Postgres {
    type Store = PostgresStore;

    const NAME: &'static str = "PostgreSQL";

    fn open() -> Self {
        let url = servers::Postgres::shared().url();
        let options = PostgresOptions::parse(&url).expect("the test server's address");
        let options = options.schema(unique()).timeout(PATIENCE);
        let store = block_on(async {
            options.migrate().await.expect("a new schema");
            options.connect().await.expect("the test server")
        });
        Self(Counting::new(store))
    }

    fn store(&self) -> Counting<PostgresStore> {
        self.0.clone()
    }
}

fn redis(url: &str) -> Counting<RedisStore> {
    let options = RedisOptions::parse(url).expect("the test server's address");
    let options = options.prefix(unique()).timeout(PATIENCE);
    Counting::new(block_on(options.connect()).expect("the test server"))
}

/// [`RedisStore`] on one server, under a prefix of its own.
#[derive(Debug)]
pub struct Redis(Counting<RedisStore>);

impl Target for Redis {
    type Store = RedisStore;

    const NAME: &'static str = "Redis";

    fn open() -> Self {
        Self(redis(&servers::Redis::shared().url()))
    }

    fn store(&self) -> Counting<RedisStore> {
        self.0.clone()
    }
}

/// [`RedisStore`] on a cluster of three primaries with a replica each, under a prefix of its own.
#[derive(Debug)]
pub struct RedisCluster(Counting<RedisStore>);

impl Target for RedisCluster {
    type Store = RedisStore;

    const NAME: &'static str = "Redis Cluster";

    fn open() -> Self {
        Self(redis(&servers::RedisCluster::shared().url()))
    }

    fn store(&self) -> Counting<RedisStore> {
        self.0.clone()
    }
}

/// Makes a module for each store, with a `#[test]` in it for each check: a function that is generic over [`Target`].
///
/// ```ignore (the check is yours)
/// fn check<T: Target>() {}
///
/// on_every_store! {
///     fn r053_nothing_is_lost => check;
/// }
/// ```
#[macro_export]
macro_rules! on_every_store {
    ($(fn $test:ident => $check:ident;)*) => {
        $crate::on_a_store!(memory, Memory, $(fn $test => $check;)*);
        $crate::on_a_store!(sqlite, Sqlite, $(fn $test => $check;)*);
        $crate::on_a_store!(postgres, Postgres, $(fn $test => $check;)*);
        $crate::on_a_store!(redis, Redis, $(fn $test => $check;)*);
        $crate::on_a_store!(redis_cluster, RedisCluster, $(fn $test => $check;)*);
    };
}

/// One module of [`on_every_store!`].
#[macro_export]
macro_rules! on_a_store {
    ($module:ident, $target:ident, $(fn $test:ident => $check:ident;)*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$check::<$crate::target::$target>();
                }
            )*
        }
    };
}
