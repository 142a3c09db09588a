//! A Redis server of Debian's packages, as a child of the test program.

// Panicking is how a test reports.
#![allow(clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::fmt;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::resp::{Reply, ask};
use super::{Process, free_port};

const INSTALL: &str = "apt-get install --no-install-recommends redis-server";
/// How often a server is asked whether it is ready, five milliseconds apart at least.
const PATIENCE: u32 = 12_000;

/// A running Redis server on a free port of 127.0.0.1, and on a socket in its folder, by which the test steers it. Ends with the
/// test program, and takes its folder along.
pub struct Redis {
    folder: PathBuf,
    port: u16,
    tls: bool,
    /// Of the default user, as which the test steers the server.
    password: Option<String>,
    command: Vec<String>,
    process: Mutex<Option<Process>>,
}

/// Certificates for a server that speaks TLS only, all PEM.
#[derive(Clone, Debug)]
pub struct RedisTls {
    /// The server's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The authority that must vouch for the clients; without one, clients need no certificate.
    pub client_authority: Option<String>,
}

impl Redis {
    /// The one server that all tests of a program share, started by the first of them. Keep to key names of your own. It keeps everything
    /// in memory.
    ///
    /// # Panics
    ///
    /// If Redis is not installed, with the command that does it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(Self::fleeting)
    }

    /// Starts a server of one's own that keeps everything in memory.
    ///
    /// # Panics
    ///
    /// If Redis is not installed, with the command that does it, or does not start.
    pub fn fleeting() -> Self {
        Self::start(&[])
    }

    /// Starts a server of one's own. Each setting is a line of `redis.conf`, such as `appendonly yes`. Without any, nothing is
    /// written to a disk.
    ///
    /// # Panics
    ///
    /// If Redis is not installed, with the command that does it, or does not start.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_on(folder(), free_port(), settings, None)
    }

    /// Starts a server that speaks TLS only.
    ///
    /// # Panics
    ///
    /// If Redis is not installed, with the command that does it, or does not start.
    pub fn start_tls(settings: &[&str], tls: &RedisTls) -> Self {
        Self::start_on(folder(), free_port(), settings, Some(tls))
    }

    pub(super) fn start_on(folder: PathBuf, port: u16, settings: &[&str], tls: Option<&RedisTls>) -> Self {
        let mut lines = vec!["bind 127.0.0.1".to_owned(), "save \"\"".to_owned(), "appendonly no".to_owned()];
        lines.push(format!("unixsocket {}", folder.join("socket").display()));
        lines.push(format!("dir {}", folder.display()));
        // Not its standard output, which nobody reads.
        lines.push(format!("logfile {}", folder.join("log").display()));
        match tls {
            None => lines.push(format!("port {port}")),
            Some(tls) => {
                lines.push(format!("port 0\ntls-port {port}"));
                lines.push("tls-auth-clients no".to_owned());
                write(&folder, &mut lines, "tls-cert-file", "server.crt", &tls.certificate);
                write(&folder, &mut lines, "tls-key-file", "server.key", &tls.key);
                let authority = tls.client_authority.as_ref();
                write(
                    &folder,
                    &mut lines,
                    "tls-ca-cert-file",
                    "ca.crt",
                    authority.unwrap_or(&tls.certificate),
                );
                if authority.is_some() {
                    lines.push("tls-auth-clients yes".to_owned());
                }
            }
        }
        lines.extend(settings.iter().map(|line| (*line).to_owned()));
        let configuration = folder.join("redis.conf");
        fs::write(&configuration, lines.join("\n")).expect("the server's folder can be written");
        let configuration = configuration.to_str().expect("a path of UTF-8").to_owned();
        let server = Self {
            folder,
            port,
            tls: tls.is_some(),
            password: settings.iter().find_map(|line| line.strip_prefix("requirepass ")).map(str::to_owned),
            command: vec![program().to_owned(), configuration],
            process: Mutex::new(None),
        };
        server.start_again();
        server
    }

    /// The TCP port, on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The folder with the socket, the data, and `log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server's address, for its default user.
    pub fn url(&self) -> String {
        self.url_of("", "")
    }

    /// The server's address, for a user with a password.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let credentials = if password.is_empty() { String::new() } else { format!("{user}:{password}@") };
        // The name, because that is what certificates are made for.
        let host = if self.tls { "localhost" } else { "127.0.0.1" };
        format!("{scheme}://{credentials}{host}:{}", self.port)
    }

    /// Sends a command, and returns the answer.
    ///
    /// # Panics
    ///
    /// If the server does not answer, or answers with an error.
    pub fn ask(&self, command: &[&str]) -> Reply {
        let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
        match self.try_ask(&words) {
            Ok(Reply::Error(error)) => panic!("{command:?}: {error}"),
            Ok(reply) => reply,
            Err(error) => panic!("{command:?}: {error}"),
        }
    }

    /// Sends a command, and returns the answer, which may be [`Reply::Error`].
    ///
    /// # Errors
    ///
    /// If the server cannot be reached.
    pub fn try_ask(&self, command: &[&[u8]]) -> std::io::Result<Reply> {
        let mut socket = UnixStream::connect(self.folder.join("socket"))?;
        if let Some(password) = &self.password {
            ask(&mut socket, &[b"AUTH", password.as_bytes()])?;
        }
        ask(&mut socket, command)
    }

    /// Ends the server by SIGKILL, as a crash would.
    ///
    /// # Panics
    ///
    /// If the server is not running.
    pub fn kill(&self) {
        self.lock().take().expect("the server is running").kill_and_keep().expect("the guard is there");
    }

    /// Starts the server again on what is in its folder, and waits until it has loaded its data.
    ///
    /// # Panics
    ///
    /// If it is running, or does not start.
    pub fn start_again(&self) {
        let mut process = self.lock();
        assert!(process.is_none(), "the server is running");
        let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let started = Process::start(&self.folder, "TERM", &command).expect("a guard can be started");
        wait(
            || matches!(self.try_ask(&[b"PING"]), Ok(Reply::Text(_))),
            || format!("Redis does not start:\n{}", self.log()),
        );
        *process = Some(started);
    }

    /// Stops the server in its tracks: connections stay open, and nothing answers.
    ///
    /// # Panics
    ///
    /// If the server is not running.
    pub fn pause(&self) {
        self.lock().as_ref().expect("the server is running").signal("STOP").expect("the server is running");
    }

    /// Lets a paused server go on.
    ///
    /// # Panics
    ///
    /// If the server is not running.
    pub fn resume(&self) {
        self.lock().as_ref().expect("the server is running").signal("CONT").expect("the server is running");
    }

    /// Cuts all connections of clients, those that listen included. The server goes on.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn cut_connections(&self) {
        for kind in ["normal", "pubsub"] {
            self.ask(&["CLIENT", "KILL", "TYPE", kind]);
        }
    }

    /// What the server printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Whether the server runs, paused or not.
    pub fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if !self.is_running() {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("folder", &self.folder)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Asks until the answer is yes.
///
/// # Panics
///
/// If it never is, with the words of `otherwise`.
pub(super) fn wait(mut ready: impl FnMut() -> bool, otherwise: impl FnOnce() -> String) {
    for _ in 0..PATIENCE {
        if ready() {
            return;
        }
        // Only so that the waiting does not take the time of whoever is waited for.
        thread::park_timeout(Duration::from_millis(5));
    }
    panic!("{}", otherwise());
}

pub(super) fn folder() -> PathBuf {
    // The guard removes it.
    tempfile::Builder::new().prefix("cloakroom-redis-").tempdir().expect("a temporary folder").keep()
}

fn write(folder: &Path, lines: &mut Vec<String>, setting: &str, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, text).expect("the server's folder can be written");
    lines.push(format!("{setting} {}", path.display()));
}

fn program() -> &'static str {
    const PROGRAM: &str = "redis-server";
    static FOUND: OnceLock<()> = OnceLock::new();
    FOUND.get_or_init(|| {
        let asked =
            Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(asked.is_ok_and(|status| status.success()), "Redis is not installed; {INSTALL}");
    });
    PROGRAM
}
