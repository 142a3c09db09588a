//! How the server is reached and used.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::store::Governed;
use tokio::runtime;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::error::{OpenError, OptionsError};
use crate::notices::Notices;
use crate::pool::{Connections, Server};
use crate::schema::{self, Migrated};
use crate::sql::Sql;
use crate::{Inner, PostgresStore, address, tls};

/// Whether and how connections are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Encrypted, with a certificate that is verified; else in the clear.
    pub(crate) verified: bool,
    /// The file with the authorities; none: the system's.
    pub(crate) authorities: Option<PathBuf>,
    /// The files with our own certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// Where the server is and how it is used.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use cloakroom_postgres::PostgresOptions;
///
/// let url = "postgres://app@db.example.com/app?password_file=/run/secrets/db&sslrootcert=/etc/ssl/db.pem";
/// let store = PostgresOptions::parse(url)?.pool_size(16).connect().await?;
/// # Ok(()) }
/// ```
///
/// `Debug` shows no password.
#[derive(Clone)]
#[must_use = "options do nothing until they are used to connect"]
pub struct PostgresOptions {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) schema: String,
    pub(crate) pool_size: usize,
    pub(crate) timeout: Duration,
    pub(crate) plaintext: Option<String>,
}

impl PostgresOptions {
    /// Reads an address: `postgres://user:password@host:port/database?parameter=value&…`, everything percent-encoded.
    ///
    /// Several hosts, `host1:5432,host2:5432`, are tried in turn until one takes writes, for a failover. A host that is a path, in the
    /// parameter `host` or percent-encoded, is the directory of a Unix socket. Parameters:
    ///
    /// | parameter | meaning |
    /// | --- | --- |
    /// | `sslmode` | `verify-full` (the default): encrypted, and the server's certificate must name the host and be of a known authority. `disable` (the default if every host is a Unix socket or a loopback address): in the clear |
    /// | `sslrootcert` | a file with the authorities, PEM; by default those of the system |
    /// | `sslcert`, `sslkey` | files with a certificate of the client's and its key, PEM |
    /// | `password_file` | a file with the password, so that it is not in the address; a newline at its end is ignored. Read once, by [`connect`](Self::connect) |
    /// | `host`, `port` | instead of those in front of the database |
    /// | `application_name` | what `pg_stat_activity` shows; `cloakroom` by default |
    /// | `schema`, `pool_size` | as the methods of the same name |
    ///
    /// # Errors
    ///
    /// [`OptionsError`] names everything that is wrong, and shows no part of the address that might be a password.
    ///
    /// # Security
    ///
    /// The modes `require`, `verify-ca`, `prefer` and `allow` of PostgreSQL's own clients are refused: with them whoever is
    /// in between can answer as the server (R-129).
    pub fn parse(url: &str) -> Result<Self, OptionsError> {
        address::parse(url)
    }

    pub(crate) fn from_parts(mut config: Config, tls: Tls, password_file: Option<PathBuf>) -> Self {
        // A server that only reads would answer with what it knew a moment ago, and take no logout.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.ssl_mode(if tls.verified { SslMode::Require } else { SslMode::Disable });
        Self {
            config,
            tls,
            password_file,
            schema: "cloakroom".to_owned(),
            pool_size: 8,
            timeout: Duration::from_secs(5),
            plaintext: None,
        }
    }

    /// The schema that the tables are in: 1 to 63 bytes. Default `cloakroom`. Several stores in one database need a schema each.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// The most connections that operations share; at least 1. Default 8. One more listens for ended sessions, where somebody wants
    /// to know of them.
    pub const fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// How long an operation may take, including the wait for a connection and opening one; at least a millisecond. Default 5
    /// seconds. What takes longer is [`Unavailable`](cloakroom_core::store::StoreErrorKind::Unavailable).
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Allows connections in the clear to hosts other than this machine, because of `reason` (a tunnel, a sidecar that encrypts).
    /// Says nothing about `sslmode`; it only allows `sslmode=disable`.
    ///
    /// # Security
    ///
    /// By default they are refused. Whoever is in between reads the password exchange and all subjects, and can end sessions or
    /// keep ended ones alive (ASVS 12.3.1).
    pub fn insecure_plaintext(mut self, reason: impl Into<String>) -> Self {
        self.plaintext = Some(reason.into());
        self
    }

    /// What [`connect`](Self::connect) would refuse without asking the server. Reads no file.
    ///
    /// # Errors
    ///
    /// [`OpenError::Plaintext`], [`OpenError::SchemaName`], [`OpenError::Bounds`].
    pub fn check(&self) -> Result<(), OpenError> {
        if self.timeout < Duration::from_millis(1) || self.pool_size == 0 {
            return Err(OpenError::Bounds);
        }
        let name = &self.schema;
        if name.is_empty() || name.len() > 63 || name.contains('\0') || name.starts_with("pg_") {
            return Err(OpenError::SchemaName);
        }
        match self.remote_plaintext() {
            Some(host) if self.plaintext.is_none() => Err(OpenError::Plaintext { host }),
            _ => Ok(()),
        }
    }

    /// Connects, and checks that the database was prepared. Never changes it.
    ///
    /// The store lives on the tokio runtime that this is called in, and must be used inside it or another one that lives as long.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. A missing or older schema says that `cloakroom migrate` must be run; a newer one is refused.
    pub async fn connect(self) -> Result<PostgresStore, OpenError> {
        let server = self.server()?;
        let runtime = runtime::Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
        let client = schema::connect(&server, self.timeout).await?;
        within(self.timeout, schema::check(&client, &self.schema)).await?;
        drop(client);
        let connections = Connections::new(server.clone(), self.pool_size, self.timeout)
            .map_err(|error| OpenError::Server(Box::new(error)))?;
        let notices = Notices::new(server, self.schema.clone(), self.timeout, runtime);
        Ok(PostgresStore(Arc::new(Inner {
            sql: Sql::new(&self.schema),
            connections,
            notices,
            governed: Governed::default(),
            in_the_clear: self.remote_plaintext(),
        })))
    }

    /// Brings the schema up to date, or creates it, in one transaction. Does nothing if it is up to date; of several that run at once,
    /// one does it and the others wait.
    ///
    /// The role becomes the owner of the tables, and should not be the one that the application uses: see
    /// [`grants`](Self::grants). Takes as long as it takes; [`timeout`](Self::timeout) is only for connecting.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was changed then. A newer schema is refused.
    pub async fn migrate(&self) -> Result<Migrated, OpenError> {
        let client = schema::connect(&self.server()?, self.timeout).await?;
        schema::migrate(&client, &self.schema).await
    }

    /// The SQL that [`migrate`](Self::migrate) would run now; empty if the schema is up to date. It can be run by hand instead.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. A newer schema is refused.
    pub async fn pending(&self) -> Result<String, OpenError> {
        let client = schema::connect(&self.server()?, self.timeout).await?;
        schema::pending(&client, &self.schema).await
    }

    /// The SQL that gives a role the rights it needs to use the store, and no others. To be run by the owner of the tables,
    /// after [`migrate`](Self::migrate). Asks no server.
    pub fn grants(&self, role: &str) -> String {
        schema::grants(&self.schema, role)
    }

    fn server(&self) -> Result<Server, OpenError> {
        self.check()?;
        let mut config = self.config.clone();
        if let Some(path) = &self.password_file {
            let text = std::fs::read_to_string(path).map_err(|error| OpenError::File {
                path: path.clone(),
                purpose: "password_file",
                source: Box::new(error),
            })?;
            config.password(
                text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line)),
            );
        }
        // Short enough that there is time for the next host when one does not answer at all.
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
        config.connect_timeout(self.timeout / hosts.saturating_add(1));
        // A server that has vanished from the network is noticed after this, not after the two hours of TCP's defaults.
        config.tcp_user_timeout(self.timeout.max(Duration::from_millis(1)));
        config.keepalives(true).keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(5)).keepalives_retries(2);
        Ok(Server { config, tls: tls::connector(&self.tls)? })
    }

    /// The first host that would be reached over a network in the clear.
    fn remote_plaintext(&self) -> Option<String> {
        if self.tls.verified {
            return None;
        }
        self.config.get_hosts().iter().find_map(|host| match host {
            Host::Tcp(name) if !is_local(name) => Some(name.clone()),
            _ => None,
        })
    }
}

async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    match tokio::time::timeout(limit, future).await {
        Ok(answer) => answer,
        Err(_) => Err(OpenError::Unreachable(Box::new(crate::error::TimedOut))),
    }
}

/// Whether a host is this machine, so that no network sees what is sent to it.
pub(crate) fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("hosts", &self.config.get_hosts())
            .field("ports", &self.config.get_ports())
            .field("user", &self.config.get_user())
            .field("database", &self.config.get_dbname())
            .field("tls", &self.tls)
            .field("schema", &self.schema)
            .field("pool_size", &self.pool_size)
            .field("timeout", &self.timeout)
            .field("insecure_plaintext", &self.plaintext)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_time_to_try_the_last_host_when_the_others_do_not_answer() {
        for hosts in ["a", "a,b", "a:1,b:2,c:3"] {
            let options = PostgresOptions::parse(&format!("postgres://u@{hosts}/d?sslmode=disable")).unwrap();
            let server = options.insecure_plaintext("nothing is sent").server().unwrap();
            let each = *server.config.get_connect_timeout().unwrap();
            let others = server.config.get_hosts().len() as u32;
            assert!(each * others < Duration::from_secs(5), "{hosts}: {each:?}");
        }
    }
}
