use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::RedisStore;
use crate::error::{OpenError, OptionsError};
use crate::layout::Keys;
use crate::settings::{Settings, certificates, is_loopback};
use crate::url::{self, Url};

/// The longest prefix, in bytes.
const PREFIX_MAX: usize = 64;
/// The longest password file, in bytes.
const PASSWORD_MAX: usize = 4096;

const SETTINGS: &str = "password_file, ca_file, cert_file, key_file, insecure_plaintext and prefix";

/// Which servers to use, and how.
///
/// An address has the form `redis://[user:password@]host[:port][/database][?setting=value&…]`. `rediss://` means TLS.
/// `redis-cluster://` and `rediss-cluster://` take several hosts with commas between them: some nodes of a cluster, of which one has to
/// answer. The settings behind the `?`:
///
/// | setting | |
/// | --- | --- |
/// | `password_file` | a file that holds the password; a newline at its end is left away |
/// | `ca_file` | a PEM file with the authorities that may vouch for the servers, in the place of the machine's own |
/// | `cert_file`, `key_file` | PEM files: the certificate and the key by which this client is known to the servers |
/// | `insecure_plaintext` | the reason why this connection need not be encrypted |
/// | `prefix` | see [`RedisOptions::prefix`] |
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use cloakroom_redis::RedisOptions;
///
/// let store = RedisOptions::single("rediss://shop@cache.example:6379?password_file=/run/secrets/redis")?.connect().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until a store is opened with them"]
pub struct RedisOptions {
    url: Url,
    tls: Files,
    prefix: String,
    plaintext_reason: Option<String>,
    timeout: Duration,
    replicas: u32,
}

/// The contents of the files that were named.
#[derive(Clone, Default)]
struct Files {
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl RedisOptions {
    /// Reads the address of one server: `redis://` or `rediss://`.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] names all that is wrong with it, files that cannot be read included.
    pub fn single(url: &str) -> Result<Self, OptionsError> {
        let options = Self::parse(url)?;
        let wrong =
            options.url.cluster.then(|| "this is the address of a cluster, not of one server".to_owned());
        OptionsError::of(wrong.into_iter().collect())?;
        Ok(options)
    }

    /// Reads the addresses of some nodes of a cluster, each `redis://` or `rediss://`. User, password and settings are those of the first;
    /// the others may repeat them, but not have their own.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] names all that is wrong with them.
    pub fn cluster<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, OptionsError> {
        let mut problems = Vec::new();
        let mut all: Option<Url> = None;
        for text in urls {
            match url::parse(text) {
                Err(mut more) => problems.append(&mut more),
                Ok(mut url) => {
                    match &mut all {
                        None => {
                            url.cluster = true;
                            all = Some(url);
                        }
                        Some(first) => {
                            let alone =
                                url.user.is_none() && url.password.is_none() && url.settings.is_empty();
                            let same = url.user == first.user
                                && url.password == first.password
                                && url.settings == first.settings;
                            if url.tls != first.tls || !(alone || same) {
                                problems.push("the nodes of a cluster have one user, one password and the same settings".to_owned());
                            }
                            first.hosts.append(&mut url.hosts);
                        }
                    }
                }
            }
        }
        match all {
            Some(url) if problems.is_empty() => Self::of(url),
            None if problems.is_empty() => Err(OptionsError::one("a cluster needs the address of a node")),
            _ => Err(OptionsError::all(problems)),
        }
    }

    /// Reads an address of any form.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] names all that is wrong with it, files that cannot be read included.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        Self::of(url::parse(text).map_err(OptionsError::all)?)
    }

    fn of(url: Url) -> Result<Self, OptionsError> {
        let mut options = Self {
            tls: Files::default(),
            prefix: "cloakroom".to_owned(),
            plaintext_reason: None,
            timeout: Duration::from_secs(5),
            replicas: 0,
            url,
        };
        let mut problems = Vec::new();
        for (name, value) in std::mem::take(&mut options.url.settings) {
            let taken = match name.as_str() {
                "ca_file" => read(&name, &value, &mut options.tls.ca),
                "cert_file" => read(&name, &value, &mut options.tls.cert),
                "key_file" => read(&name, &value, &mut options.tls.key),
                "password_file" => options.read_password(&value),
                "insecure_plaintext" => {
                    options.plaintext_reason = Some(value);
                    Ok(())
                }
                "prefix" => {
                    options.prefix = value;
                    Ok(())
                }
                // Its name is not repeated: an unescaped ? puts a piece of the password here.
                _ => Err(format!("behind the ? there is a setting other than {SETTINGS}")),
            };
            problems.extend(taken.err());
        }
        if options.tls.cert.is_some() != options.tls.key.is_some() {
            problems.push("cert_file and key_file belong together".to_owned());
        }
        let any_file = options.tls.ca.is_some() || options.tls.cert.is_some() || options.tls.key.is_some();
        if any_file && !options.url.tls {
            problems.push(
                "ca_file, cert_file and key_file are for rediss:// and rediss-cluster:// only".to_owned(),
            );
        }
        if options.url.user.is_some() && options.url.password.is_none() {
            problems.push(
                "there is a user without a password; it can be in a file: ?password_file=PATH".to_owned(),
            );
        }
        OptionsError::of(problems)?;
        Ok(options)
    }

    fn read_password(&mut self, path: &str) -> Result<(), String> {
        let mut file = None;
        read("password_file", path, &mut file)?;
        if self.url.password.is_some() {
            return Err("there is a password in the address and a password_file".to_owned());
        }
        let text = file.and_then(|bytes| String::from_utf8(bytes).ok());
        let password = text.as_deref().map(|text| text.strip_suffix('\n').unwrap_or(text));
        let password = password.map(|text| text.strip_suffix('\r').unwrap_or(text));
        match password {
            Some(password) if !password.is_empty() && password.len() <= PASSWORD_MAX => {
                self.url.password = Some(password.to_owned());
                Ok(())
            }
            _ => Err("password_file does not hold a password of 1 to 4096 bytes".to_owned()),
        }
    }

    /// What the names of all keys begin with: 1 to 64 letters, digits, `.`, `-`, `_` and `:`. Default `cloakroom`. Two applications on
    /// one server need two.
    pub fn prefix(mut self, text: impl Into<String>) -> Self {
        self.prefix = text.into();
        self
    }

    /// How long an operation may take, waiting for a connection and repeating included. Default 5 seconds; at least 1 millisecond.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many replicas must have a write before it is acknowledged (`WAIT`). Default 0. Fewer within a quarter of the timeout are
    /// [`StoreErrorKind::Unavailable`](cloakroom_core::store::StoreErrorKind::Unavailable); the write itself stays.
    ///
    /// It narrows the gap in which a failover forgets a write, and does not close it: the cluster may choose a replica that has it not.
    pub const fn replicas(mut self, count: u32) -> Self {
        self.replicas = count;
        self
    }

    /// Allows `redis://` to servers that are not on this machine. The reason is for those who read the code.
    ///
    /// # Security
    ///
    /// The password, all subjects and the (encrypted) sessions can be read on the way, and whoever can change what is on the way can
    /// end sessions and revive them (R-129).
    pub fn insecure_plaintext(mut self, reason: impl Into<String>) -> Self {
        self.plaintext_reason = Some(reason.into());
        self
    }

    /// What [`connect`](Self::connect) would refuse without asking a server.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] names all of it.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.clone().settings().map(drop)
    }

    /// Connects, and checks that the servers can be used.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names the server and what to do. Nothing was changed there.
    pub async fn connect(self) -> Result<RedisStore, OpenError> {
        RedisStore::open(Arc::new(self.settings()?)).await
    }

    fn settings(self) -> Result<Settings, OptionsError> {
        let mut problems = Vec::new();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if self.prefix.is_empty() || self.prefix.len() > PREFIX_MAX || !self.prefix.chars().all(legal) {
            problems.push(
                "a prefix has 1 to 64 letters, digits, dots, hyphens, underscores and colons".to_owned(),
            );
        }
        let reason = self.plaintext_reason.as_deref().map(str::trim);
        if reason == Some("") {
            problems.push("a connection that is not encrypted needs a reason in words".to_owned());
        }
        if !self.url.tls && reason.is_none() && !self.url.hosts.iter().all(|(host, _)| is_loopback(host)) {
            problems.push(
                "redis:// to another machine is not encrypted; use rediss://, or give a reason why that need not be \
                 (insecure_plaintext)"
                    .to_owned(),
            );
        }
        if self.timeout < Duration::from_millis(1) {
            problems.push("the timeout is at least 1 millisecond".to_owned());
        }
        OptionsError::of(problems)?;
        let client = self.tls.cert.zip(self.tls.key);
        Ok(Settings {
            cluster: self.url.cluster,
            hosts: self.url.hosts,
            database: self.url.database,
            user: self.url.user,
            password: self.url.password,
            tls: self.url.tls.then(|| certificates(self.tls.ca, client)),
            plaintext_accepted: reason.is_some(),
            keys: Keys::new(&self.prefix),
            timeout: self.timeout,
            replicas: self.replicas,
        })
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("url", &self.url)
            .field("prefix", &self.prefix)
            .field("insecure_plaintext", &self.plaintext_reason)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn read(name: &str, path: &str, into: &mut Option<Vec<u8>>) -> Result<(), String> {
    // The name of the file may be shown; its contents never are.
    *into =
        Some(fs::read(Path::new(path)).map_err(|error| format!("{name} {path:?} cannot be read: {error}"))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r129_a_connection_that_can_be_read_on_a_network_is_known_as_such() {
        let exposed = |url| {
            RedisOptions::parse(url).unwrap().insecure_plaintext("a test").settings().unwrap().is_exposed()
        };
        assert!(exposed("redis://192.0.2.1"));
        assert!(exposed("redis-cluster://127.0.0.1,192.0.2.1"));
        assert!(!exposed("rediss://192.0.2.1"));
        assert!(!exposed("redis://localhost"));
    }

    /// The nodes that a cluster names are held to the rule, too.
    #[test]
    fn r129_a_node_elsewhere_is_not_spoken_to_in_the_clear_unless_that_was_accepted() {
        let settings = |accepted: bool| {
            let options = RedisOptions::parse("redis-cluster://127.0.0.1").unwrap();
            let options = if accepted { options.insecure_plaintext("a test") } else { options };
            options.settings().unwrap()
        };
        assert!(settings(false).node("192.0.2.1", 6379).is_err());
        assert!(settings(false).node("127.0.0.1", 6380).is_ok());
        assert!(settings(true).node("192.0.2.1", 6379).is_ok());
    }
}
