//! Starts a private server, runs a command with its address in `CLOAKROOM_TEST_STORE`, stops the server, and ends as the command did:
//!
//! ```sh
//! cargo run -p cloakroom-testkit --features servers --example servers -- redis-cluster -- COMMAND ARGUMENT…
//! ```
#![allow(clippy::print_stderr, reason = "a program talks to its user")]

use std::process::{Command, ExitCode};

use cloakroom_testkit::servers::{Postgres, PostgresSettings, Redis, RedisCluster};

const USAGE: &str = "servers: expected postgres, redis or redis-cluster, then -- and a command";

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let [server, dashes, command, arguments @ ..] = &arguments[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let run = |url: String| Command::new(command).args(arguments).env("CLOAKROOM_TEST_STORE", url).status();
    // Each server ends with the value that holds it.
    let status = match (server.as_str(), dashes.as_str()) {
        ("postgres", "--") => {
            let server = Postgres::start(PostgresSettings::new().fleeting());
            run(server.url())
        }
        ("redis", "--") => {
            let server = Redis::start(&[]);
            run(server.url())
        }
        ("redis-cluster", "--") => {
            let servers = RedisCluster::start(&[]);
            run(servers.url())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match status.map(|status| status.code()) {
        Ok(code) => ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("servers: {command} cannot be run: {error}");
            ExitCode::from(2)
        }
    }
}
