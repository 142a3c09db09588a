//! A PostgreSQL server of Debian's packages, as a child of the test program.

// Panicking is how a test reports.
#![allow(clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Process, free_port};

const INSTALL: &str = "apt-get install --no-install-recommends postgresql";
const PASSWORD: &str = "a test's password";

/// How a server is set up.
#[derive(Clone, Debug, Default)]
#[must_use = "settings do nothing until a server is started with them"]
pub struct PostgresSettings {
    fleeting: bool,
    tls: Option<(String, String)>,
    client_authority: Option<String>,
    access: Vec<String>,
    parameters: Vec<String>,
}

impl PostgresSettings {
    /// The server's own defaults: what was committed survives a kill.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does not flush to the disk: faster, and what was committed may be lost with the machine (not with the process).
    pub const fn fleeting(mut self) -> Self {
        self.fleeting = true;
        self
    }

    /// Offers TLS with this certificate (a chain) and key, both PEM.
    pub fn tls(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.tls = Some((certificate.into(), key.into()));
        self
    }

    /// Checks certificates of clients against this authority, PEM.
    pub fn client_authority(mut self, certificate: impl Into<String>) -> Self {
        self.client_authority = Some(certificate.into());
        self
    }

    /// A line of `pg_hba.conf` that goes before the others.
    pub fn access(mut self, line: impl Into<String>) -> Self {
        self.access.push(line.into());
        self
    }

    /// A parameter of the server, such as `deadlock_timeout=10ms`.
    pub fn parameter(mut self, assignment: impl Into<String>) -> Self {
        self.parameters.push(assignment.into());
        self
    }
}

/// A running PostgreSQL server with a superuser `postgres`, on a free port of 127.0.0.1 (by password) and a socket in its folder
/// (without). Ends with the test program, and takes its folder along.
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    command: Vec<String>,
    process: Mutex<Option<Process>>,
}

impl Postgres {
    /// The one server that all tests of a program share, started by the first of them. Keep to a database or a schema of your own.
    /// It does not flush to the disk.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is not installed, with the command that does it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        let settings = || PostgresSettings::new().fleeting().parameter("max_connections=300");
        SHARED.get_or_init(|| Self::start(settings()))
    }

    /// Starts a server of one's own.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is not installed, with the command that does it, or does not start.
    pub fn start(settings: PostgresSettings) -> Self {
        let PostgresSettings { fleeting, tls, client_authority, access, parameters } = settings;
        let user = User::choose();
        let folder = private_folder(&user);
        run(Command::new("cp").arg("-a").arg(template()).arg(folder.join("data")), "copies the template");
        let port = free_port();
        let mut command = user.command(&program("postgres"));
        let text = |path: &Path| path.to_str().expect("a path of UTF-8").to_owned();
        command.extend(["-D".to_owned(), text(&folder.join("data")), "-k".to_owned(), text(&folder)]);
        command.extend(["-h".to_owned(), "127.0.0.1".to_owned(), "-p".to_owned(), port.to_string()]);
        let mut parameter = |assignment: &str| command.extend(["-c".to_owned(), assignment.to_owned()]);
        if fleeting {
            parameter("fsync=off");
        }
        if let Some((certificate, key)) = tls {
            user.write(&folder.join("data/server.crt"), &certificate);
            user.write(&folder.join("data/server.key"), &key);
            parameter("ssl=on");
        }
        if let Some(authority) = client_authority {
            user.write(&folder.join("data/root.crt"), &authority);
            parameter("ssl_ca_file=root.crt");
        }
        if !access.is_empty() {
            let file = folder.join("data/pg_hba.conf");
            let rest = fs::read_to_string(&file).expect("initdb writes pg_hba.conf");
            user.write(&file, &format!("{}\n{rest}", access.join("\n")));
        }
        parameters.iter().for_each(|assignment| parameter(assignment));
        let server = Self { folder, port, command, process: Mutex::new(None) };
        server.start_again();
        server
    }

    /// The TCP port, on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The folder with the socket. Its data are in `data`, what the server prints is in `log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The superuser's address over TCP, with the password.
    pub fn url(&self) -> String {
        self.url_of("postgres", "postgres")
    }

    /// A user's address of a database over TCP. Users made by [`Postgres::role`] all have the superuser's password.
    pub fn url_of(&self, user: &str, database: &str) -> String {
        let password = PASSWORD.replace(' ', "%20").replace('\'', "%27");
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The password of all users.
    pub const fn password(&self) -> &'static str {
        PASSWORD
    }

    /// The superuser's address over the socket.
    pub fn socket_url(&self) -> String {
        format!("postgres://postgres@/postgres?host={}&port={}", self.folder.display(), self.port)
    }

    /// Makes a user that may do nothing but log in.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn role(&self, name: &str) {
        let password = PASSWORD.replace('\'', "''");
        self.sql("postgres", &format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'"));
    }

    /// Runs SQL as the superuser, and returns what it answers: a line for each row, columns parted by `|`.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn sql(&self, database: &str, text: &str) -> String {
        self.try_sql(database, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn try_sql(&self, database: &str, text: &str) -> Result<String, String> {
        let output = Command::new(program("psql"))
            .env_clear()
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", text])
            .arg("-h")
            .arg(&self.folder)
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("psql cannot be run ({error}); {INSTALL}"));
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Ends the server and all its processes by SIGKILL, as a crash would.
    ///
    /// # Panics
    ///
    /// If the server is not running.
    pub fn kill(&self) {
        let process = self.lock().take().expect("the server is running");
        // Stopped first, so that it does not fork while its children are counted. A child that lives on would keep the
        // next server from starting.
        process.signal("STOP").expect("the server is running");
        let children = children(process.pid());
        signal("KILL", &children);
        process.kill_and_keep().expect("the guard is there");
        children.into_iter().for_each(wait_for_the_end);
    }

    /// Starts the server again on what is in its folder, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it is running, or does not start.
    pub fn start_again(&self) {
        let mut process = self.lock();
        assert!(process.is_none(), "the server is running");
        let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
        // Without a delay: an immediate stop, which is what a program that ends has time for.
        let started = Process::start(&self.folder, "QUIT", &command).expect("a guard can be started");
        // Each question takes some ten milliseconds, so this waits for minutes on any machine.
        for _ in 0..20_000 {
            match self.try_sql("postgres", "SELECT 1") {
                Ok(_) => {
                    *process = Some(started);
                    return;
                }
                Err(_) if is_gone(started.pid()) => break,
                Err(_) => {}
            }
        }
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start:\n{log}");
    }

    /// Stops the server and all its processes in their tracks: connections stay open, and nothing answers.
    ///
    /// # Panics
    ///
    /// If the server is not running.
    pub fn pause(&self) {
        let process = self.lock();
        let process = process.as_ref().expect("the server is running");
        process.signal("STOP").expect("the server is running");
        signal("STOP", &children(process.pid()));
    }

    /// Lets a paused server go on.
    ///
    /// # Panics
    ///
    /// If the server is not running.
    pub fn resume(&self) {
        let process = self.lock();
        let process = process.as_ref().expect("the server is running");
        signal("CONT", &children(process.pid()));
        process.signal("CONT").expect("the server is running");
    }

    /// Cuts all connections of clients. The server goes on.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn cut_connections(&self) {
        self.sql(
            "postgres",
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        );
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = self.lock().as_ref() {
            // Children that are stopped would hold up the end of the server.
            signal("CONT", &children(process.pid()));
        } else {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("folder", &self.folder)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Who the server runs as: PostgreSQL refuses to run as root.
struct User(Option<(&'static str, &'static str)>);

impl User {
    fn choose() -> Self {
        let id = |arguments: &[&str]| Command::new("id").args(arguments).stderr(Stdio::null()).output().ok();
        let root = id(&["-u"]).is_some_and(|output| output.stdout.trim_ascii() == b"0");
        if !root {
            return Self(None);
        }
        let known = id(&["-u", "postgres"]).is_some_and(|output| output.status.success());
        Self(Some(if known { ("postgres", "postgres") } else { ("nobody", "nogroup") }))
    }

    /// The beginning of a command that runs a program as that user.
    fn command(&self, program: &Path) -> Vec<String> {
        let program = program.to_str().expect("a path of UTF-8").to_owned();
        let Some((user, group)) = self.0 else { return vec![program] };
        let (user, group) = (format!("--reuid={user}"), format!("--regid={group}"));
        vec!["setpriv".to_owned(), user, group, "--clear-groups".to_owned(), program]
    }

    fn own(&self, path: &Path) {
        if let Some((user, group)) = self.0 {
            run(Command::new("chown").arg(format!("{user}:{group}")).arg(path), "gives a file away");
        }
    }

    fn write(&self, path: &Path, text: &str) {
        fs::write(path, text).expect("the server's folder can be written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the file was just written");
        self.own(path);
    }
}

fn private_folder(user: &User) -> PathBuf {
    // The guard removes it.
    let folder =
        tempfile::Builder::new().prefix("cloakroom-postgres-").tempdir().expect("a temporary folder").keep();
    user.own(&folder);
    folder
}

/// The data of a new server, made once for each test program, because making them takes most of a second.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(PathBuf, Process)> = OnceLock::new();
    let (data, _) = TEMPLATE.get_or_init(|| {
        let user = User::choose();
        let folder = private_folder(&user);
        // No server: something that waits, so that its guard removes the folder when the program ends.
        let keeper = Process::start(&folder, "KILL", &["sleep", "infinity"]).expect("a guard can be started");
        let password = folder.join("password");
        user.write(&password, PASSWORD);
        let command = user.command(&program("initdb"));
        let (first, rest) = command.split_first().expect("a command has a program");
        run(
            Command::new(first)
                .args(rest)
                .env("LC_ALL", "C")
                .current_dir(&folder)
                .args(["-D", "data", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"])
                .args(["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile=password"]),
            "makes a database cluster",
        );
        (folder.join("data"), keeper)
    });
    data
}

/// A program of PostgreSQL's: Debian keeps most of them out of the path.
fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let told = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok();
        let told = told.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
        let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .collect();
        folders.sort();
        let whole = |folder: &PathBuf| {
            ["initdb", "postgres", "psql"].iter().all(|program| folder.join(program).is_file())
        };
        // pg_config comes with the client's files, so its folder may lack the server.
        told.into_iter()
            .chain(folders.into_iter().rev())
            .find(whole)
            .unwrap_or_else(|| panic!("PostgreSQL is not installed; {INSTALL}"))
    });
    folder.join(name)
}

fn run(command: &mut Command, what: &str) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("the command that {what} cannot be run: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the command that {what} failed: {error}");
}

fn signal(name: &str, processes: &[u32]) {
    if !processes.is_empty() {
        let processes = processes.iter().map(u32::to_string);
        // One of them may have ended by itself.
        drop(Command::new("kill").arg(format!("-{name}")).args(processes).stderr(Stdio::null()).status());
    }
}

fn children(parent: u32) -> Vec<u32> {
    let file = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().filter_map(|process| process.parse().ok()).collect()
}

/// Whether a process has ended, though its parent may not have noticed.
fn is_gone(process: u32) -> bool {
    let Ok(state) = fs::read_to_string(format!("/proc/{process}/stat")) else { return true };
    state.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

fn wait_for_the_end(process: u32) {
    while !is_gone(process) {
        std::thread::yield_now();
    }
}
