//! Addresses: one server, or some nodes of a cluster.

use std::fmt;

/// What an address says. `Debug` shows no password.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) cluster: bool,
    pub(crate) tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) database: i64,
    pub(crate) settings: Vec<(String, String)>,
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "redacted");
        f.debug_struct("Url")
            .field("cluster", &self.cluster)
            .field("tls", &self.tls)
            .field("user", &self.user)
            .field("password", &password)
            .field("hosts", &self.hosts)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

const FORM: &str = "an address is redis://[user:password@]host[:port][/database][?setting=value], with rediss:// for TLS, and \
                    redis-cluster:// or rediss-cluster:// with several hosts for a cluster";

/// Reads an address. The problems repeat nothing of it: a forgotten escape puts a piece of the password anywhere.
pub(crate) fn parse(text: &str) -> Result<Url, Vec<String>> {
    let mut problems = Vec::new();
    let mut url = Url::default();
    let Some((scheme, rest)) = text.split_once("://") else { return Err(vec![FORM.to_owned()]) };
    (url.cluster, url.tls) = match scheme {
        "redis" => (false, false),
        "rediss" => (false, true),
        "redis-cluster" => (true, false),
        "rediss-cluster" => (true, true),
        _ => return Err(vec![FORM.to_owned()]),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // The last one: an unescaped @ can only be part of the password.
    let hosts = match authority.rsplit_once('@') {
        None => authority,
        Some((credentials, hosts)) => {
            let (user, password) = match credentials.split_once(':') {
                None => (credentials, None),
                Some((user, password)) => (user, Some(password)),
            };
            match (decode(user), password.map(decode)) {
                (Some(user), None) => url.user = Some(user),
                (Some(user), Some(Some(password))) => {
                    url.user = Some(user).filter(|user| !user.is_empty());
                    url.password = Some(password);
                }
                _ => problems.push(
                    "the user name or the password has a % that no two hexadecimal digits follow".to_owned(),
                ),
            }
            hosts
        }
    };
    for host in hosts.split(',') {
        match parse_host(host) {
            Some(host) => url.hosts.push(host),
            None => problems.push("what stands for a host is none; in a password, / ? # @ and % are written %2F %3F %23 %40 and %25".to_owned()),
        }
    }
    if !url.cluster && url.hosts.len() > 1 {
        problems.push("several hosts are for redis-cluster:// and rediss-cluster:// only".to_owned());
    }
    if !path.is_empty() {
        match path.parse::<u16>() {
            Ok(database) if database == 0 || !url.cluster => url.database = database.into(),
            Ok(_) => problems.push("a cluster has no database but 0".to_owned()),
            Err(_) => problems.push("what follows the / is not the number of a database".to_owned()),
        }
    }
    for setting in query.split('&').filter(|setting| !setting.is_empty()) {
        let pair = setting.split_once('=').and_then(|(name, value)| Some((name.to_owned(), decode(value)?)));
        match pair {
            Some(pair) => url.settings.push(pair),
            None => problems.push("a setting behind the ? is not of the form name=value".to_owned()),
        }
    }
    if problems.is_empty() { Ok(url) } else { Err(problems) }
}

/// Reads `host`, `host:port` or `[v6]:port`.
pub(crate) fn parse_host(text: &str) -> Option<(String, u16)> {
    const PORT: u16 = 6379;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.rsplit_once(':') {
            None => (text, None),
            Some((host, port)) => (host, Some(port)),
        },
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(legal) {
        return None;
    }
    let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port != 0))?;
    Some((host.to_owned(), port))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit()? << 4 | digit()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_an_address_is_read() {
        let url = parse("redis://127.0.0.1").unwrap();
        assert_eq!((url.cluster, url.tls, url.hosts), (false, false, vec![("127.0.0.1".to_owned(), 6379)]));
        let url = parse("rediss://app:p%40ss@:%2F@cache.example:7000/3?ca_file=/etc/ca%20s.pem&x=").unwrap();
        assert_eq!(url.hosts, [("cache.example".to_owned(), 7000)]);
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("app"), Some("p@ss@:/")));
        assert_eq!((url.tls, url.database), (true, 3));
        assert_eq!(url.settings, [("ca_file".into(), "/etc/ca s.pem".into()), ("x".into(), String::new())]);
        let url = parse("rediss-cluster://:secret@a:1,[::1]:2,b/").unwrap();
        assert_eq!((url.cluster, url.tls, url.user), (true, true, None));
        assert_eq!(url.hosts, [("a".to_owned(), 1), ("::1".to_owned(), 2), ("b".to_owned(), 6379)]);
    }

    #[test]
    fn r108_neither_debug_text_nor_a_problem_shows_a_password() {
        let url = parse("redis://app:hunter2@localhost").unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
        for text in [
            "redis://app:hunter2@host:port",
            "redis://app:hunter2%@host",
            "redis:/app:hunter2@host",
            "http://app:hunter2@host",
            "redis://app:hunter2@host/x",
            "redis://app:hunter2@a,b",
            "redis-cluster://app:hunter2@a,b/1",
            "redis://app:hunter2@host?x",
            "redis://app:hunter2@",
            "redis://app:hunter2?x@host",
            "redis://app:hunter2/x@host",
            "redis://app:x/hunter2@host",
            "redis://app:x?hunter2@host",
        ] {
            let problems = parse(text).unwrap_err();
            assert!(!problems.is_empty() && !problems.concat().contains("hunter2"), "{problems:?}");
        }
    }

    #[test]
    fn all_problems_of_an_address_are_named_at_once() {
        assert_eq!(parse("redis://u:%@a:b,c:0/x?y").unwrap_err().len(), 5);
        // One problem for each host.
        assert_eq!(parse("redis-cluster://a:b,c:0,d").unwrap_err().len(), 2);
    }
}
