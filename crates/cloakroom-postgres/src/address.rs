//! Reading an address, with all that is wrong with it, and without repeating what may be a password.

use std::path::PathBuf;

use tokio_postgres::Config;

use crate::error::OptionsError;
use crate::options::{PostgresOptions, Tls, is_local};

const SHAPE: &str = "it must look like postgres://user@host:5432/database; every : / ? # @ & % inside of a part is percent-encoded";

pub(crate) fn parse(url: &str) -> Result<PostgresOptions, OptionsError> {
    let shape = || OptionsError { problems: vec![SHAPE.to_owned()] };
    let rest =
        url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")).ok_or_else(shape)?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let (user, hosts) = authority.split_once('@').unwrap_or(("", authority));
    // A password with a raw / or ? or # or @ in it is split in the wrong place. Nothing of such an address is repeated.
    let stray = ['@', '#', '/', '?', ' '];
    if hosts.contains(stray) || database.contains(stray) || query.contains(['@', '#', '?', ' ']) {
        return Err(shape());
    }
    let mut parts = Parts::default();
    parts.credentials(user);
    let Some(hosts) = parts.hosts(hosts) else { return Err(shape()) };
    let parameters = parts.parameters(query);
    match decode(database) {
        Some(database) if database.is_empty() => parts.problem("it names no database"),
        Some(database) => drop(parts.config.dbname(database)),
        None => return Err(shape()),
    }
    parts.finish(hosts, &parameters)
}

#[derive(Default)]
struct Parts {
    config: Config,
    problems: Vec<String>,
    has_password: bool,
}

/// A host with its port; 5432 if there is none.
type Host = (String, u16);

impl Parts {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn credentials(&mut self, text: &str) {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (text, None),
        };
        match decode(user) {
            Some(user) if user.is_empty() => self.problem("it names no user"),
            Some(user) => drop(self.config.user(user)),
            None => self.problem("the user is not percent-encoded UTF-8"),
        }
        match password.map(decode) {
            None => {}
            Some(Some(password)) => {
                self.has_password = true;
                self.config.password(password);
            }
            Some(None) => self.problem("the password is not percent-encoded UTF-8"),
        }
    }

    /// None if this cannot be a list of hosts, but for instance the beginning of a password.
    fn hosts(&mut self, text: &str) -> Option<Vec<Host>> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        text.split(',').map(host).collect()
    }

    fn parameters<'url>(&mut self, query: &'url str) -> Vec<(&'url str, String)> {
        let mut parameters: Vec<(&str, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !NAMES.contains(&name) {
                self.problem(format!("it has a parameter that is none of {}", NAMES.join(", ")));
            } else if parameters.iter().any(|(other, _)| *other == name) {
                self.problem(format!("{name} is there twice"));
            } else {
                match decode(value) {
                    Some(value) if !value.is_empty() => parameters.push((name, value)),
                    _ => self.problem(format!("{name} needs a value of percent-encoded UTF-8")),
                }
            }
        }
        parameters
    }

    fn finish(
        mut self,
        mut hosts: Vec<Host>,
        parameters: &[(&str, String)],
    ) -> Result<PostgresOptions, OptionsError> {
        let get = |wanted: &str| {
            parameters.iter().find_map(|(name, value)| (*name == wanted).then_some(value.as_str()))
        };
        let path = |name: &str| get(name).map(PathBuf::from);

        let port = get("port").map(str::parse::<u16>);
        if let Some(Err(_) | Ok(0)) = port {
            self.problem("port is not a number from 1 to 65535");
        }
        if let Some(named) = get("host") {
            if hosts.is_empty() {
                hosts = named.split(',').map(|host| (host.to_owned(), 5432)).collect();
            } else {
                self.problem("it names hosts twice");
            }
        }
        if hosts.is_empty() || hosts.iter().any(|(host, _)| host.is_empty()) {
            self.problem("it names no host");
        }
        for (host, own) in &hosts {
            self.config.host(host).port(match port {
                Some(Ok(port)) => port,
                _ => *own,
            });
        }

        let local = hosts.iter().all(|(host, _)| host.starts_with('/') || is_local(host));
        let verified = match get("sslmode") {
            None => !local,
            Some("verify-full") => true,
            Some("disable") => false,
            Some("require" | "verify-ca" | "prefer" | "allow") => {
                self.problem(
                    "its sslmode lets whoever is in between answer as the server; use verify-full (with sslrootcert for an \
                     authority of your own)",
                );
                true
            }
            Some(_) => {
                self.problem("sslmode is neither verify-full nor disable");
                true
            }
        };
        if verified && hosts.iter().any(|(host, _)| host.starts_with('/')) {
            self.problem("there is no TLS over a Unix socket; leave sslmode out");
        }
        let client = match (path("sslcert"), path("sslkey")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                self.problem("sslcert and sslkey need each other");
                None
            }
        };
        let tls = Tls { verified, authorities: path("sslrootcert"), client };
        if !verified && (tls.authorities.is_some() || tls.client.is_some()) {
            self.problem(
                "certificates are named, but connections would be in the clear; add sslmode=verify-full",
            );
        }
        let password_file = path("password_file");
        if password_file.is_some() && self.has_password {
            self.problem("it has a password and a password_file");
        }
        self.config.application_name(get("application_name").unwrap_or("cloakroom"));
        let pool_size = get("pool_size").map(str::parse::<usize>);
        if let Some(Err(_) | Ok(0)) = pool_size {
            self.problem("pool_size is not a number from 1 on");
        }
        if !self.problems.is_empty() {
            return Err(OptionsError { problems: self.problems });
        }
        let mut options = PostgresOptions::from_parts(self.config, tls, password_file);
        if let Some(Ok(size)) = pool_size {
            options = options.pool_size(size);
        }
        if let Some(schema) = get("schema") {
            options = options.schema(schema);
        }
        Ok(options)
    }
}

/// The parameters there are.
const NAMES: [&str; 10] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "password_file",
    "host",
    "port",
    "application_name",
    "schema",
    "pool_size",
];

/// `host`, `host:port`, `[::1]:port`, or a percent-encoded path.
fn host(text: &str) -> Option<Host> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port.strip_prefix(':').or_else(|| port.is_empty().then_some("5432"))?)
        }
        None => text.split_once(':').unwrap_or((text, "5432")),
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some((decode(name)?, port))
}

/// Percent-decoding; `None` if it is not of UTF-8, or holds NUL, which PostgreSQL takes for an end.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(rest.next()?)? * 16 + digit(rest.next()?)?).ok()?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}
