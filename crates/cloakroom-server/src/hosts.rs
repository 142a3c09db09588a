//! Which hosts are the deployment's own: a request for any other is misdirected (421).
//!
//! Applications build links from `Host`: whoever chooses it chooses where a password reset leads. And a page of another
//! site whose name is made to lead here (rebinding) is of that site's origin, and is to get nothing.

use std::net::Ipv6Addr;
use std::sync::Arc;

use cloakroom::core::origin::Origin;

use crate::headers::is_authority;

/// How this machine is called on itself. They count as one another only where the site is one of them.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// A host and a port, however they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

impl Host {
    /// Reads `host` or `host:port`. Case and a dot at the end do not matter.
    pub fn parse(text: &str) -> Option<Self> {
        if !is_authority(text) {
            return None;
        }
        let text = text.to_ascii_lowercase();
        let (name, port) =
            match text.rfind(':').filter(|colon| text.rfind(']').is_none_or(|end| end < *colon)) {
                Some(colon) => (text.get(..colon)?, text.get(colon + 1..)?),
                None => (text.as_str(), ""),
            };
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let name = match address.map(str::parse::<Ipv6Addr>) {
            Some(address) => format!("[{}]", address.ok()?),
            None => name.strip_suffix('.').unwrap_or(name).to_owned(),
        };
        let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
        Some(Self { name, port })
    }

    /// As it is written, with the port only where it is not the scheme's own.
    fn text(&self, default: u16) -> String {
        match self.port.filter(|port| *port != default) {
            Some(port) => format!("{}:{port}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The deployment's hosts.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// As they are passed on.
    known: Vec<Arc<str>>,
    /// The port that is not written.
    default: u16,
}

impl Hosts {
    /// Those of the site's origins, and more. Where an origin is this machine's own name for itself, its other names are
    /// included, with the same port.
    pub fn new(origins: &[Origin], more: &[Host]) -> Self {
        let default = if origins.first().is_some_and(Origin::is_https) { 443 } else { 80 };
        let own = origins.iter().flat_map(|origin| {
            let looped = LOOPBACK.contains(&origin.host());
            let names = [origin.host()].into_iter().chain(LOOPBACK.into_iter().filter(move |_| looped));
            names.map(|name| Host { name: name.to_owned(), port: Some(origin.port()) })
        });
        let mut known: Vec<Arc<str>> = Vec::new();
        for host in own.chain(more.iter().cloned()) {
            let text = host.text(default);
            if !known.iter().any(|known| **known == *text) {
                known.push(text.into());
            }
        }
        Self { known, default }
    }

    /// The host that a request asks for, as the application is told it; `None` if it is none of the deployment's.
    pub fn find(&self, authority: &str) -> Option<Arc<str>> {
        if let Some(known) = self.known.iter().find(|known| ***known == *authority) {
            return Some(Arc::clone(known));
        }
        let text = Host::parse(authority)?.text(self.default);
        self.known.iter().find(|known| ***known == *text).cloned()
    }

    /// All of them, as they are passed on.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|known| &**known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(origin: &str, more: &[&str]) -> Hosts {
        let more = more.iter().map(|text| Host::parse(text).unwrap()).collect::<Vec<_>>();
        Hosts::new(&[Origin::parse(origin).unwrap()], &more)
    }

    #[test]
    fn r075_only_the_deployments_hosts_are_known_in_whatever_spelling() {
        let https =
            hosts("https://example.org", &["www.example.org", "old.example.org:8443", "[2001:db8::1]"]);
        let plain = hosts("http://nas.lan:8080", &[]);
        for (hosts, asked, told) in [
            (&https, "example.org", Some("example.org")),
            (&https, "EXAMPLE.org", Some("example.org")),
            (&https, "example.org.", Some("example.org")),
            (&https, "example.org:443", Some("example.org")),
            (&https, "example.org.:443", Some("example.org")),
            (&https, "www.example.org", Some("www.example.org")),
            (&https, "old.example.org:8443", Some("old.example.org:8443")),
            (&https, "[2001:db8:0:0::1]:443", Some("[2001:db8::1]")),
            (&https, "old.example.org", None),
            (&https, "example.org:80", None),
            (&https, "example.org:8443", None),
            (&https, "example.org..", None),
            (&https, "evil.test", None),
            (&https, "example.org.evil.test", None),
            (&https, "xexample.org", None),
            (&https, "localhost", None),
            (&https, "127.0.0.1", None),
            (&plain, "nas.lan:8080", Some("nas.lan:8080")),
            (&plain, "nas.lan", None),
            (&plain, "127.0.0.1:8080", None),
        ] {
            assert_eq!(hosts.find(asked).as_deref(), told, "{asked}");
        }
    }

    #[test]
    fn r075_the_names_of_this_machine_count_as_one_another_only_where_the_site_is_one_of_them() {
        for origin in ["http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"] {
            let hosts = hosts(origin, &[]);
            for known in ["localhost:8080", "LOCALHOST.:8080", "127.0.0.1:8080", "[::1]:8080", "[0::1]:8080"]
            {
                assert!(hosts.find(known).is_some(), "{origin} {known}");
            }
            for other in ["localhost", "127.0.0.1:8081", "127.0.0.2:8080", "0.0.0.0:8080", "[::2]:8080"] {
                assert!(hosts.find(other).is_none(), "{origin} {other}");
            }
        }
    }

    #[test]
    fn what_is_no_host_is_none() {
        for text in ["", ":80", "a/b", "a b", "https://a", "a@b", "[::1", "*.example.org", "a:99999", "a:b"] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
    }
}
