//! Requests from elsewhere: the verdict on a request's header fields, before anything else looks at it.
//!
//! In this order:
//!
//! 1. `GET`, `HEAD` and `OPTIONS` pass, unless they open a WebSocket.
//! 2. `Sec-Fetch-Site` of `same-origin` or `none` passes; of `same-site` or `cross-site` it is refused, unless `Origin` is
//!    exactly a trusted one. Any other value is no answer, and the field is ignored.
//! 3. Without it, `Origin` must be exactly the site's own or a trusted one. `null` never is.
//! 4. With neither, a request that carries a session cookie is refused, and one without it passes: it has
//!    nothing of the user's to abuse.
//!
//! Scripts cannot set either field, and every browser sends at least one with a request of another site that changes
//! something. The site's own origin is configured. `Host` and `X-Forwarded-Host` do not matter, because the client writes them.

use std::fmt;
use std::net::Ipv6Addr;

/// Scheme, host and port: `https://example.org`, `http://127.0.0.1:8080`, `https://[2001:db8::1]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// Reads an origin, strictly as browsers write it: `http` or `https`, lower-case, no path (not even `/`), query or
    /// user information; a name that is not ASCII in its `xn--` form. Without a port it is the scheme's.
    ///
    /// # Errors
    ///
    /// [`OriginError`] for everything else, such as `null`.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let (https, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(OriginError),
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => {
                let address: Ipv6Addr = address.parse().map_err(|_| OriginError)?;
                (format!("[{address}]"), port)
            }
            None => {
                let (name, port) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
                if name.len() > 255 || !name.split('.').all(is_label) {
                    return Err(OriginError);
                }
                (name.to_owned(), port)
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => default_port(https),
            Some(digits) if !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| OriginError)?
            }
            _ => return Err(OriginError),
        };
        Ok(Self { https, host, port })
    }

    /// Whether the scheme is https.
    pub const fn is_https(&self) -> bool {
        self.https
    }

    /// The host, an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own if none was written.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.host)?;
        if self.port != default_port(self.https) {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

const fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

/// A text is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an origin such as https://example.org, lower-case and with nothing behind host and port")]
pub struct OriginError;

/// A header field of which there should be one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field<'a> {
    /// There is none.
    #[default]
    Absent,
    /// There is one.
    One(&'a [u8]),
    /// There are several, which no browser sends: for a field that must equal something, they do not.
    Several,
}

impl<'a> Field<'a> {
    /// What there is of a field.
    pub fn of(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::One(value),
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

/// What the verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in its own case.
    pub method: &'a str,
    /// Whether it opens a WebSocket, which lives beyond one request and which no CORS rule guards.
    pub websocket: bool,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Field<'a>,
    /// `Origin`.
    pub origin: Field<'a>,
    /// Whether a cookie of the session's name came along, whatever it is worth.
    pub session_cookie: bool,
}

/// Whether a request may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a refused request must not go on"]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not: 403 and an event.
    Refuse(Why),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The browser says that another site sent it.
    OtherSite,
    /// It comes from another origin, or does not say clearly from which.
    OtherOrigin,
    /// It has a session cookie, but nothing says where it comes from.
    Unknown,
}

/// The site's own origin, and others that it trusts.
#[derive(Clone, Debug)]
pub struct Site {
    own: Origin,
    trusted: Vec<Origin>,
}

impl Site {
    /// A site that trusts nobody but itself.
    pub const fn new(own: Origin) -> Self {
        Self { own, trusted: Vec::new() }
    }

    /// Lets other origins send requests that change something, with the user's session.
    ///
    /// # Security
    ///
    /// A hole in one of these sites is then one in this. Sub-domains and sibling hosts are not included: list each.
    #[must_use = "this returns the changed site"]
    pub fn trusting(mut self, origins: impl IntoIterator<Item = Origin>) -> Self {
        self.trusted.extend(origins);
        self
    }

    /// The site's own origin.
    pub const fn own(&self) -> &Origin {
        &self.own
    }

    /// Judges a request.
    pub fn judge(&self, request: &Request<'_>) -> Verdict {
        let safe = matches!(request.method, "GET" | "HEAD" | "OPTIONS");
        if safe && !request.websocket {
            return Verdict::Allow;
        }
        let origin = match request.origin {
            Field::One(value) => std::str::from_utf8(value).ok().and_then(|text| Origin::parse(text).ok()),
            Field::Absent | Field::Several => None,
        };
        let trusted = origin.as_ref().is_some_and(|origin| self.trusted.contains(origin));
        match request.fetch_site {
            Field::One(b"same-origin" | b"none") => return Verdict::Allow,
            Field::One(b"same-site" | b"cross-site") if trusted => return Verdict::Allow,
            Field::One(b"same-site" | b"cross-site") => return Verdict::Refuse(Why::OtherSite),
            // Ignored, which is no pass: what follows decides.
            Field::Absent | Field::One(_) | Field::Several => {}
        }
        match request.origin {
            Field::Absent if request.session_cookie => Verdict::Refuse(Why::Unknown),
            Field::Absent => Verdict::Allow,
            _ if trusted || origin.as_ref() == Some(&self.own) => Verdict::Allow,
            Field::One(_) | Field::Several => Verdict::Refuse(Why::OtherOrigin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        let origin = |text| Origin::parse(text).unwrap();
        Site::new(origin("https://example.org")).trusting([origin("https://trusted.test:8443")])
    }

    fn field(text: &str) -> Field<'_> {
        match text {
            "-" => Field::Absent,
            "+" => Field::Several,
            text => Field::One(text.as_bytes()),
        }
    }

    #[test]
    fn r071_r072_r073_r075_r076_r083_the_verdict_is_that_of_the_truth_table() {
        let table = include_str!("../../../conformance/origin-verdict.tsv");
        let mut rows = table.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(rows.next(), Some("method\twebsocket\tsec-fetch-site\torigin\tcookie\tverdict"));
        let mut count = 0;
        for row in rows {
            let cells: Vec<&str> = row.split('\t').collect();
            let [method, websocket, fetch_site, origin, cookie, expected] = cells[..] else {
                panic!("{row}")
            };
            let verdict = site().judge(&Request {
                method,
                websocket: websocket == "yes",
                fetch_site: field(fetch_site),
                origin: field(origin),
                session_cookie: cookie == "yes",
            });
            let verdict = match verdict {
                Verdict::Allow => "allow",
                Verdict::Refuse(Why::OtherSite) => "other-site",
                Verdict::Refuse(Why::OtherOrigin) => "other-origin",
                Verdict::Refuse(Why::Unknown) => "unknown",
            };
            assert_eq!(verdict, expected, "{row}");
            count += 1;
        }
        assert_eq!(count, 828);
    }

    #[test]
    fn r075_only_what_a_browser_writes_is_an_origin() {
        for good in [
            "https://example.org",
            "http://example.org",
            "https://example.org:8443",
            "http://localhost:8080",
            "http://127.0.0.1",
            "https://xn--bcher-kva.example",
            "https://a_b.example",
            "https://[2001:db8::1]",
            "https://[2001:db8::1]:8443",
            "https://example.org:65535",
        ] {
            assert_eq!(Origin::parse(good).map(|origin| origin.to_string()).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "null",
            "NULL",
            "example.org",
            "//example.org",
            "https://",
            "https:example.org",
            "https:/example.org",
            "HTTPS://example.org",
            "https://Example.org",
            "https://example.org/",
            "https://example.org/x",
            "https://example.org?x",
            "https://example.org#x",
            "https://user@example.org",
            "https://user:1@example.org",
            "https://example.org@evil.test",
            "https://example.org\\@evil.test",
            "https://example.org:",
            "https://example.org:0",
            "https://example.org:0443",
            "https://example.org:+443",
            "https://example.org:65536",
            "https://example.org:443:443",
            "https://example.org:443 ",
            " https://example.org",
            "https://example.org https://evil.test",
            "https://example.org, https://evil.test",
            "https://.example.org",
            "https://example.org.",
            "https://example..org",
            "https://*.example.org",
            "https://b\u{fc}cher.example",
            "https://exa%6dple.org",
            "https://2001:db8::1",
            "https://[2001:db8::1",
            "https://[2001:db8::1]x",
            "https://[2001:db8::1%25eth0]",
            "https://[example.org]",
            "wss://example.org",
            "ftp://example.org",
            "file://",
            "chrome-extension://abc",
        ] {
            assert_eq!(Origin::parse(bad), Err(OriginError), "{bad:?}");
        }
    }

    #[test]
    fn a_schemes_own_port_may_be_written_or_left_out() {
        let parse = |text| Origin::parse(text).unwrap();
        assert_eq!(parse("https://example.org:443"), parse("https://example.org"));
        assert_eq!(parse("http://example.org:80"), parse("http://example.org"));
        assert_ne!(parse("http://example.org:443"), parse("https://example.org:443"));
        assert_ne!(parse("http://example.org"), parse("https://example.org"));
        assert_eq!(parse("https://[2001:DB8:0::1]"), parse("https://[2001:db8::1]:443"));
        let origin = parse("https://[2001:db8::1]:8443");
        assert_eq!((origin.is_https(), origin.host(), origin.port()), (true, "[2001:db8::1]", 8443));
    }

    #[test]
    fn several_fields_are_not_one() {
        let lines: [&[u8]; 2] = [b"https://example.org", b"https://example.org"];
        assert_eq!(Field::of([]), Field::Absent);
        assert_eq!(Field::of([lines[0]]), Field::One(lines[0]));
        assert_eq!(Field::of(lines), Field::Several);
    }
}
