//! Real servers for tests: private ones, on temporary folders and free ports of this machine, each ended with the test program
//! that started it (also if that is killed).
//!
//! A server whose program is missing is a panic that names the command that installs it, never a skipped test.

mod postgres;
mod process;
mod redis;
mod redis_cluster;
mod resp;

pub use postgres::{Postgres, PostgresSettings};
pub use process::Process;
pub use redis::{Redis, RedisTls};
pub use redis_cluster::RedisCluster;
pub use resp::Reply;

/// A TCP port of the loopback address that nobody listens on now.
///
/// # Panics
///
/// If the machine has none.
#[allow(clippy::expect_used, reason = "a test reports by panicking")]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port on 127.0.0.1");
    listener.local_addr().expect("a bound socket has an address").port()
}
