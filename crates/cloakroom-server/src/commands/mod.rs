//! The program's subcommands.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

mod check;
mod demo;
mod init;
mod migrate;
mod pepper;
mod sessions;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use cloakroom::core::clock::Clock as _;
use cloakroom::{Handle, SystemClock};

use crate::config::{Config, Examined, Hidden, Raw, SessionsConfig};
use crate::{listen, serve, signals, tls};

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
    /// Check a configuration and what it names, change nothing, and print what it comes to. Exit code 1 if there is anything to mend.
    Check {
        /// The application's address, such as http://127.0.0.1:3000.
        #[arg(long, value_name = "URL")]
        upstream: Option<String>,
        /// Open nothing that the configuration names: no certificate, pepper or store. For a file that is meant for another machine.
        #[arg(long)]
        offline: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Write a configuration file with every setting explained.
    Init {
        /// Where to; must not exist.
        #[arg(default_value = "cloakroom.toml")]
        file: PathBuf,
    },
    /// Make a PostgreSQL database ready, or bring it up to date after an update of this program.
    Migrate(migrate::Arguments),
    /// Make or name the pepper that gateways on a shared store have in common.
    Pepper {
        #[command(subcommand)]
        action: pepper::Action,
    },
    /// List or end sessions.
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
    List {
        /// Print an array of objects, for programs.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        subject: SubjectArgs,
    },
    /// End one of them.
    End {
        /// Which one, as `list` prints it. Exit code 1 if there is none such.
        handle: Handle,
        #[command(flatten)]
        place: Place,
    },
    /// End them all, and beat every login that is under way.
    Revoke(SubjectArgs),
    /// End all sessions of everybody, and beat every login that is under way: after a break-in, or when a backup was restored.
    RevokeEverybody(EverybodyArgs),
}

#[derive(Debug, clap::Args)]
struct EverybodyArgs {
    /// Confirms that everybody is to be signed out.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct SubjectArgs {
    /// Whose.
    #[arg(long, value_name = "NAME")]
    subject: String,
    #[command(flatten)]
    place: Place,
}

/// Where an address may stand that is not to be seen on the command line.
const ENVIRONMENT: &str = "CLOAKROOM_STORE";

/// Where sessions are.
#[derive(Debug, clap::Args)]
struct Place {
    /// The configuration file. What is given as a flag or in the environment wins over it. Default: ./cloakroom.toml, if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to keep sessions: memory, sqlite: and a path, or a server: postgres://…, redis://…, redis-cluster://….
    /// A command line can be seen by others on this machine: give a password in the environment or by password_file=.
    /// Default: sqlite:.cloakroom/sessions.db.
    #[arg(long, value_name = "STORE", env = ENVIRONMENT, hide_env_values = true)]
    store: Option<Hidden>,
}

/// What is read where no other file is named.
const DEFAULT_FILE: &str = "cloakroom.toml";

impl Place {
    /// The file that is named, or the one that is here.
    fn file(&self) -> Option<PathBuf> {
        let here = || Path::new(DEFAULT_FILE).is_file().then(|| PathBuf::from(DEFAULT_FILE));
        self.config.clone().or_else(|| {
            let found = here()?;
            eprintln!("cloakroom: no --config, so ./{DEFAULT_FILE} is used");
            Some(found)
        })
    }

    fn load(self) -> anyhow::Result<SessionsConfig> {
        let named_by = self.named_by();
        let config =
            SessionsConfig::load(self.file().as_deref(), |raw| raw.store = self.store.or(raw.store.take()))?;
        Ok(SessionsConfig { named_by, ..config })
    }

    /// These flags once more, for another command.
    fn named_by(&self) -> String {
        let config = self.config.as_ref().map(|file| format!(" --config {}", file.display()));
        // The environment is the same for the other command.
        let given = self.store.as_deref().filter(|store| std::env::var(ENVIRONMENT).as_deref() != Ok(store));
        let store = given.map(|store| format!(" --store '{}'", crate::config::mask(store)));
        [config, store].into_iter().flatten().collect()
    }
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    place: Place,
    /// Where to listen. Default: 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
}

impl Common {
    /// What is configured for the site.
    fn load(self, over: impl FnOnce(&mut Raw)) -> anyhow::Result<Config> {
        let file = self.place.file();
        self.load_from(file.as_deref(), over)
    }

    fn load_from(self, file: Option<&Path>, over: impl FnOnce(&mut Raw)) -> anyhow::Result<Config> {
        let named_by = self.place.named_by();
        let mut config = Config::load(file, |raw| self.lay_over(raw, over))?;
        config.sessions.named_by = named_by;
        Ok(config)
    }

    fn examine(self, over: impl FnOnce(&mut Raw)) -> anyhow::Result<Examined> {
        let named_by = self.place.named_by();
        let mut raw = Raw::load(self.place.file().as_deref())?;
        self.lay_over(&mut raw, over);
        let mut examined = Config::examine(raw);
        examined.sessions.iter_mut().for_each(|sessions| sessions.named_by.clone_from(&named_by));
        Ok(examined)
    }

    /// The flags win over the file.
    fn lay_over(self, raw: &mut Raw, over: impl FnOnce(&mut Raw)) {
        raw.listen = self.listen.or(raw.listen.take());
        raw.store = self.place.store.or(raw.store.take());
        over(raw);
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
            Command::Check { upstream: url, offline, common } => {
                check::run(common.examine(upstream(url))?, offline).await
            }
            Command::Init { file } => init::write(&file),
            Command::Migrate(arguments) => migrate::run(arguments).await,
            Command::Pepper { action } => pepper::run(action),
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

async fn serve(mut config: Config) -> anyhow::Result<()> {
    let hangup = signals::Hangup::caught();
    prepare(&mut config);
    let opened = serve::open(&config).await?;
    for warning in &opened.warnings {
        tracing::warn!(target: "cloakroom::gateway", "{}: {warning}", config.sessions.store);
    }
    let listener = serve::bind(config.listen).await?;
    let (stopped, at_once) = signals::stops()?;
    println!("cloakroom: listening on {}, in front of http://{}", listener.local_addr()?, config.upstream);
    tokio::select! {
        served = serve::run_with(listener, config, opened, stopped, hangup) => served,
        () = at_once => Err(anyhow::anyhow!(CUT_OFF)),
    }
}

/// Raises the limit of open files, and says what there is to warn of.
fn prepare(config: &mut Config) {
    config.warnings.extend(listen::prepare(&mut config.limits.connections));
    for (key, reason) in &config.insecure {
        tracing::warn!(target: "cloakroom::gateway", "{key} is set, because: {reason}");
    }
    if let Some((cert, key)) = &config.tls {
        // What cannot be used at all is refused when it is loaded; an expired certificate may be replaced any minute.
        let (problems, warnings) = tls::inspect(cert, key, SystemClock.now().unwrap_or_default());
        config.warnings.extend(problems.iter().map(ToString::to_string).chain(warnings));
    }
    for warning in &config.warnings {
        tracing::warn!(target: "cloakroom::gateway", "{warning}");
    }
}

/// What is said when nobody wants to wait for the end.
const CUT_OFF: &str = "stopped at once by a second signal; what was under way is cut off";
