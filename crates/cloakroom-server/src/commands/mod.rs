//! The program's subcommands.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

mod check;
mod demo;
mod init;
mod sessions;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::{Config, Raw};
use crate::serve;

/// Sessions in front of any application: secure by default, no SDK.
#[derive(Debug, Parser)]
#[command(name = "cloakroom", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in front of an application.
    Serve {
        /// The application's address, such as http://127.0.0.1:3000.
        #[arg(long, value_name = "URL")]
        upstream: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Run the gateway with a small application behind it, to try it out.
    Demo {
        #[command(flatten)]
        common: Common,
    },
    /// Check a configuration and print what it comes to.
    Check {
        /// The application's address, such as http://127.0.0.1:3000.
        #[arg(long, value_name = "URL")]
        upstream: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Write a configuration file with every setting explained.
    Init {
        /// Where to; must not exist.
        #[arg(default_value = "cloakroom.toml")]
        file: PathBuf,
    },
    /// List or end a user's sessions.
    Sessions {
        #[command(subcommand)]
        action: SessionsAction,
    },
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

#[derive(Debug, Subcommand)]
enum SessionsAction {
    /// List them.
    List(SubjectArgs),
    /// End them all, and beat every login that is under way.
    Revoke(SubjectArgs),
}

#[derive(Debug, clap::Args)]
struct SubjectArgs {
    /// Whose.
    #[arg(long, value_name = "NAME")]
    subject: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The configuration file. What is given as a flag wins over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen. Default: 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where to keep sessions: memory, or sqlite: and a path. Default: sqlite:.cloakroom/sessions.db.
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
}

impl Common {
    fn load(self, over: impl FnOnce(&mut Raw)) -> anyhow::Result<Config> {
        let Self { config, listen, store } = self;
        Config::load(config.as_deref(), |raw| {
            raw.listen = listen.or(raw.listen.take());
            raw.store = store.or(raw.store.take());
            over(raw);
        })
    }
}

impl Cli {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// With everything that is wrong, for the user to read.
    pub async fn run(self) -> anyhow::Result<()> {
        let upstream = |url: Option<String>| move |raw: &mut Raw| raw.upstream = url.or(raw.upstream.take());
        match self.command {
            Command::Serve { upstream: url, common } => serve(common.load(upstream(url))?).await,
            Command::Demo { common } => demo::run(common).await,
            Command::Check { upstream: url, common } => {
                print!("{}", check::effective(&common.load(upstream(url))?));
                Ok(())
            }
            Command::Init { file } => init::write(&file),
            Command::Sessions { action } => sessions::run(action).await,
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "cloakroom", &mut std::io::stdout());
                Ok(())
            }
            Command::Man => clap_mangen::Man::new(Self::command())
                .render(&mut std::io::stdout())
                .context("the manual page"),
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    for warning in &config.warnings {
        tracing::warn!(target: "cloakroom::gateway", "{warning}");
    }
    let sessions = serve::sessions(&config)?;
    let listener = serve::bind(config.listen).await?;
    let stopped = serve::stopped()?;
    println!("cloakroom: listening on {}, in front of http://{}", listener.local_addr()?, config.upstream);
    serve::run(listener, config, sessions, stopped).await
}
