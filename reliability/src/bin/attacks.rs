//! Runs one attack, or all of them, and prints what each came to. The process under attack is on this
//! machine, and each attack is bounded in count and time.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::process::{Command, ExitCode};

use clap::Parser as _;
use cloakroom_reliability::attacks::{Extent, library, network};

const NAMES: [&str; 14] = [
    "quiet",
    "resets",
    "aborts",
    "unread",
    "parked",
    "uploads",
    "readers",
    "crumbs",
    "early",
    "guessing",
    "visitors",
    "end-all",
    "conflicts",
    "rich-text",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let extent =
        if arguments.iter().any(|argument| argument == "--small") { Extent::Small } else { Extent::Full };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("attacks: {error}");
            return ExitCode::from(2);
        }
    };
    match arguments.first().map(String::as_str) {
        // What a stage starts: the gateway itself.
        Some("gateway") => {
            let file = arguments.get(1).map_or("cloakroom.toml", String::as_str);
            let gateway =
                cloakroom_server::commands::Cli::parse_from(["cloakroom", "serve", "--config", file]);
            if let Err(error) = runtime.block_on(gateway.run()) {
                eprintln!("attacks: the gateway: {error:#}");
                return ExitCode::from(2);
            }
        }
        Some("all") => {
            for name in NAMES {
                // A process each, because the peak of memory is a process's.
                let run = std::env::current_exe().and_then(|program| {
                    Command::new(program).arg(name).args(arguments.iter().skip(1)).status()
                });
                if !run.is_ok_and(|status| status.success()) {
                    return ExitCode::from(2);
                }
            }
        }
        Some(name) if NAMES.contains(&name) => {
            let outcome = runtime.block_on(async {
                match name {
                    "quiet" => network::quiet(extent).await,
                    "aborts" => network::aborts(extent).await,
                    "parked" => network::parked(extent).await,
                    "readers" => network::readers(extent).await,
                    "crumbs" => network::crumbs(extent).await,
                    "resets" => network::resets(extent).await,
                    "unread" => network::unread(extent).await,
                    "uploads" => network::uploads(extent).await,
                    "early" => network::early(extent).await,
                    "guessing" => network::guessing(extent).await,
                    "visitors" => library::visitors(extent).await,
                    "end-all" => library::end_all(extent).await,
                    "conflicts" => library::conflicts(extent).await,
                    _ => library::rich_text(extent).await,
                }
            });
            println!("{name}: {outcome}");
        }
        _ => {
            eprintln!("usage: attacks NAME [--small], with all or one of {}", NAMES.join(", "));
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
