//! The program `cloakroom`. Exit codes: 0 fine, 1 refused (a configuration or a command that cannot be used), 2 could not run.
#![allow(clippy::print_stderr, reason = "a program talks to its user")]

use std::process::ExitCode;

use clap::Parser as _;
use cloakroom::ConfigErrors;
use cloakroom_server::commands::Cli;
use cloakroom_server::config::ReadError;
use cloakroom_server::open::Refused;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cloakroom: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cloakroom: {error:#}");
            let refused = error
                .chain()
                .any(|cause| cause.is::<ConfigErrors>() || cause.is::<ReadError>() || cause.is::<Refused>());
            ExitCode::from(if refused { 1 } else { 2 })
        }
    }
}
