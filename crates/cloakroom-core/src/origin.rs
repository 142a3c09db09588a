//! Requests from elsewhere: the verdict on a request's header fields, before anything else looks at it (R-071 to R-076,
//!
//!
//! For what changes something, in this order:
//!
//! 1. `GET`, `HEAD` and `OPTIONS` pass, unless they open a WebSocket. What they load is another question, below.
//! 2. A route that is exempt passes, unless it opens a WebSocket.
//! 3. `Sec-Fetch-Site` of `same-origin` or `none` passes; of `same-site` or `cross-site` it is refused, unless `Origin`
//!    is exactly a trusted one. Any other value is no answer, and the field is ignored.
//! 4. Without it, `Origin` must be exactly the site's own or a trusted one. `null` never is.
//! 5. With neither, a request that carries a session cookie needs a token, or is refused where tokens are not looked at
//!    ([`Mode`]); one without a cookie passes: it has nothing of the user's to abuse.
//!
//! Scripts cannot set either field, and every browser sends at least one with a request of another site that changes
//! something. The site's own origin is configured. `Host` and `X-Forwarded-Host` do not matter, because the client
//! writes them. A refusal by 3 or 4 is final: no token rescues a request of which the browser says that it comes from
//! elsewhere.
//!
//! For what is only loaded, where a route holds account content ([`Loading::Isolated`]): another site may link to it,
//! which is a navigation of a whole window, and may not have it as an image, script, style, frame, object or by a
//! fetch, so that neither its bytes nor its size or timing get into that site's process (Fetch Metadata's resource
//! isolation policy).
//!
//! Two kinds of requests may come from elsewhere without anything of the user's session: a preflight of a trusted origin
//! ([`Site::is_preflight`]), and a user whom an identity provider sends back ([`Request::is_callback_from`]).

mod elsewhere;

use std::fmt;
use std::net::Ipv6Addr;

pub use self::elsewhere::CallbackOrigin;

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

/// Whether a route's requests are checked for forgery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forgery {
    /// They are.
    #[default]
    Checked,
    /// They are not: the route does not act on the user's session, as one that checks a signature of its own.
    ///
    /// # Security
    ///
    /// Every site can make the user's browser send such a request, with the session cookie if `SameSite` allows. Name
    /// exact paths only, never a prefix. WebSockets are checked all the same.
    Exempt,
}

/// Who may load what a route answers on safe methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loading {
    /// Everybody: public content, such as a site's images and styles.
    #[default]
    Open,
    /// The site itself, trusted origins, and whoever navigates a whole window there: account content.
    Isolated,
}

/// What the verdict depends on.
///
/// The default is a request that says nothing, whose method is unknown and thus not safe.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The method, in its own case.
    pub method: &'a str,
    /// Whether it opens a WebSocket, which lives beyond one request and which no CORS rule guards.
    pub websocket: bool,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Field<'a>,
    /// `Sec-Fetch-Mode`. Matters for isolated routes only.
    pub fetch_mode: Field<'a>,
    /// `Sec-Fetch-Dest`. Matters for isolated routes only.
    pub fetch_dest: Field<'a>,
    /// `Origin`.
    pub origin: Field<'a>,
    /// Whether a cookie of the session's name came along, whatever it is worth.
    pub session_cookie: bool,
    /// What the route says of forgery.
    pub forgery: Forgery,
    /// What the route says of loading.
    pub loading: Loading,
}

/// How much a request that changes something has to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Header fields decide alone; where they say nothing, a request with a session cookie is refused.
    VerdictOnly,
    /// Header fields decide; where they say nothing, a request with a session cookie needs a token.
    #[default]
    VerdictOrToken,
    /// What the header fields do not refuse needs a token as well, with or without a session: two defences, of which
    /// one may fail. WebSockets are judged by their header fields alone, because a page cannot send a token with them
    /// but in the URL, where it must not be.
    VerdictAndToken,
}

/// Whether a request may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a refused request must not go on"]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may if it brings a valid token ([`crate::csrf`]); else 403 and an event. Whoever does not look at tokens
    /// refuses.
    NeedsToken,
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
    /// Another site would embed or fetch account content.
    Embedded,
}

/// Request fields that an answer depended on.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Fields(u8);

impl Fields {
    const SITE: u8 = 1;
    const MODE: u8 = 2;
    const DEST: u8 = 4;
    const ORIGIN: u8 = 8;

    /// Their names in lower case, for `Vary` (RFC 9110 section 12.5.5): a cache must not give this answer to a request
    /// that differs in one of them. None for most requests.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (Self::SITE, "sec-fetch-site"),
            (Self::MODE, "sec-fetch-mode"),
            (Self::DEST, "sec-fetch-dest"),
            (Self::ORIGIN, "origin"),
        ]
        .into_iter()
        .filter_map(move |(bit, name)| (self.0 & bit != 0).then_some(name))
    }

    /// Whether the answer depended on none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// A verdict, and what it depended on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a refused request must not go on"]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The header fields that it depended on, besides the session cookie.
    pub fields: Fields,
}

/// The site's own origin, others that it trusts, and how much a request has to show.
#[derive(Clone, Debug)]
pub struct Site {
    own: Origin,
    trusted: Vec<Origin>,
    mode: Mode,
}

impl Site {
    /// A site that trusts nobody but itself.
    pub const fn new(own: Origin) -> Self {
        Self { own, trusted: Vec::new(), mode: Mode::VerdictOrToken }
    }

    /// Lets other origins send requests that change something, with the user's session, and load account content.
    ///
    /// # Security
    ///
    /// A hole in one of these sites is then one in this. Sub-domains and sibling hosts are not included: list each
    ///
    #[must_use = "this returns the changed site"]
    pub fn trusting(mut self, origins: impl IntoIterator<Item = Origin>) -> Self {
        self.trusted.extend(origins);
        self
    }

    /// Chooses how much a request has to show. The default is [`Mode::VerdictOrToken`].
    #[must_use = "this returns the changed site"]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The site's own origin.
    pub const fn own(&self) -> &Origin {
        &self.own
    }

    /// Whether a token that a request brings is looked at where none is needed: one of another session than the user's is
    /// refused all the same ([`Resumed::has_other_csrf`](crate::engine::Resumed::has_other_csrf)).
    pub fn minds_tokens(&self, request: &Request<'_>) -> bool {
        self.mode != Mode::VerdictOnly
            && request.forgery == Forgery::Checked
            && !request.websocket
            && !is_safe(request.method)
    }

    /// Judges a request by its head.
    ///
    /// In report-only mode the answer is the same; the shell notes it and goes on.
    pub fn judge(&self, request: &Request<'_>) -> Judgement {
        let mut read = Reader { site: self, request, fields: Fields::default() };
        let verdict = match (is_safe(request.method) && !request.websocket, request.loading) {
            (true, Loading::Open) => Verdict::Allow,
            (true, Loading::Isolated) => read.loading(),
            (false, _) => read.change(),
        };
        Judgement { verdict, fields: read.fields }
    }
}

fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// Who a request's `Origin` names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    Nobody,
    Own,
    Trusted,
    Foreign,
}

/// Reads a request's fields, and keeps account of which.
struct Reader<'a> {
    site: &'a Site,
    request: &'a Request<'a>,
    fields: Fields,
}

impl Reader<'_> {
    /// May a request that changes something go on?
    fn change(&mut self) -> Verdict {
        let websocket = self.request.websocket;
        if self.request.forgery == Forgery::Exempt && !websocket {
            return Verdict::Allow;
        }
        let passes = match self.site.mode {
            Mode::VerdictAndToken if !websocket => Verdict::NeedsToken,
            _ => Verdict::Allow,
        };
        match self.site_field() {
            Some(b"same-origin" | b"none") => return passes,
            Some(_) if self.sender() == Sender::Trusted => return passes,
            Some(_) => return Verdict::Refuse(Why::OtherSite),
            // No answer, which is no pass: what follows decides.
            None => {}
        }
        match self.sender() {
            Sender::Own | Sender::Trusted => passes,
            Sender::Foreign => Verdict::Refuse(Why::OtherOrigin),
            Sender::Nobody if !self.request.session_cookie => passes,
            Sender::Nobody if websocket || self.site.mode == Mode::VerdictOnly => {
                Verdict::Refuse(Why::Unknown)
            }
            Sender::Nobody => Verdict::NeedsToken,
        }
    }

    /// May account content be loaded?
    fn loading(&mut self) -> Verdict {
        match self.site_field() {
            Some(b"same-origin" | b"none") => return Verdict::Allow,
            Some(_) => {}
            // Fails open for browsers that send no metadata: those of before 2023, and all over plain http.
            // SameSite=Lax keeps the cookie from other sites' subresources there, and Cross-Origin-Resource-Policy
            // their pages from the bytes. A fetch that asks for more than that says where it comes from.
            None if self.sender() == Sender::Foreign => return Verdict::Refuse(Why::OtherOrigin),
            None => return Verdict::Allow,
        }
        // A link, a bookmark of another browser, a redirect: the whole window goes there. A frame is a navigation too,
        // with another destination; what does not name its destination is not a browser's navigation of today.
        self.fields.0 |= Fields::MODE;
        let navigates = self.request.fetch_mode == Field::One(b"navigate") && {
            self.fields.0 |= Fields::DEST;
            self.request.fetch_dest == Field::One(b"document")
        };
        if navigates || self.sender() == Sender::Trusted {
            return Verdict::Allow;
        }
        Verdict::Refuse(Why::Embedded)
    }

    /// What `Sec-Fetch-Site` answers, if it answers: one of its four values.
    fn site_field(&mut self) -> Option<&'static [u8]> {
        self.fields.0 |= Fields::SITE;
        let Field::One(value) = self.request.fetch_site else { return None };
        [&b"same-origin"[..], b"none", b"same-site", b"cross-site"].into_iter().find(|known| *known == value)
    }

    fn sender(&mut self) -> Sender {
        self.fields.0 |= Fields::ORIGIN;
        let value = match self.request.origin {
            Field::Absent => return Sender::Nobody,
            Field::Several => return Sender::Foreign,
            Field::One(value) => value,
        };
        match str::from_utf8(value).map(Origin::parse) {
            Ok(Ok(origin)) if origin == self.site.own => Sender::Own,
            Ok(Ok(origin)) if self.site.trusted.contains(&origin) => Sender::Trusted,
            _ => Sender::Foreign,
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

    fn name(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Allow => "allow",
            Verdict::NeedsToken => "needs-token",
            Verdict::Refuse(Why::OtherSite) => "other-site",
            Verdict::Refuse(Why::OtherOrigin) => "other-origin",
            Verdict::Refuse(Why::Unknown) => "unknown",
            Verdict::Refuse(Why::Embedded) => "embedded",
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
            let judgement = site().mode(Mode::VerdictOnly).judge(&Request {
                method,
                websocket: websocket == "yes",
                fetch_site: field(fetch_site),
                origin: field(origin),
                session_cookie: cookie == "yes",
                ..Request::default()
            });
            assert_eq!(name(judgement.verdict), expected, "{row}");
            count += 1;
        }
        assert_eq!(count, 828);
    }

    #[test]
    fn r071_r076_r083_tokens_exemptions_and_isolation_are_those_of_the_truth_table() {
        let table = include_str!("../../../conformance/request-verdict.tsv");
        let mut rows = table.lines().filter(|line| !line.starts_with('#'));
        let header = "mode\troute\tmethod\twebsocket\tsec-fetch-site\tsec-fetch-mode\tsec-fetch-dest\torigin\tcookie\tverdict\tvary";
        assert_eq!(rows.next(), Some(header));
        let mut count = 0;
        for row in rows {
            let cells: Vec<&str> = row.split('\t').collect();
            let [
                mode,
                route,
                method,
                websocket,
                fetch_site,
                fetch_mode,
                fetch_dest,
                origin,
                cookie,
                expected,
                vary,
            ] = cells[..]
            else {
                panic!("{row}")
            };
            let mode = match mode {
                "only" => Mode::VerdictOnly,
                "or-token" => Mode::VerdictOrToken,
                "and-token" => Mode::VerdictAndToken,
                _ => panic!("{row}"),
            };
            let judgement = site().mode(mode).judge(&Request {
                method,
                websocket: websocket == "yes",
                fetch_site: field(fetch_site),
                fetch_mode: field(fetch_mode),
                fetch_dest: field(fetch_dest),
                origin: field(origin),
                session_cookie: cookie == "yes",
                forgery: if route == "exempt" { Forgery::Exempt } else { Forgery::Checked },
                loading: if route == "isolated" { Loading::Isolated } else { Loading::Open },
            });
            assert_eq!(name(judgement.verdict), expected, "{row}");
            let fields: Vec<_> = judgement.fields.names().collect();
            assert_eq!(if fields.is_empty() { "-".to_owned() } else { fields.join(",") }, vary, "{row}");
            count += 1;
        }
        assert_eq!(count, 2468);
    }

    #[test]
    fn r071_a_request_that_says_nothing_at_all_is_not_a_safe_one() {
        let asked = |session_cookie| site().judge(&Request { session_cookie, ..Request::default() }).verdict;
        assert_eq!((asked(true), asked(false)), (Verdict::NeedsToken, Verdict::Allow));
    }

    /// Whatever else is said, no mode, token or exemption lets a WebSocket of another origin through.
    #[test]
    fn r083_no_mode_and_no_exemption_opens_a_websocket_to_another_origin() {
        for mode in [Mode::VerdictOnly, Mode::VerdictOrToken, Mode::VerdictAndToken] {
            let asked = |fetch_site, origin| {
                site().mode(mode).judge(&Request {
                    method: "GET",
                    websocket: true,
                    fetch_site,
                    origin,
                    session_cookie: true,
                    forgery: Forgery::Exempt,
                    ..Request::default()
                })
            };
            let own = Field::One(b"https://example.org");
            assert_eq!(asked(Field::Absent, own).verdict, Verdict::Allow);
            for origin in
                [Field::Absent, Field::Several, Field::One(b"null"), Field::One(b"https://evil.test")]
            {
                assert!(
                    matches!(asked(Field::Absent, origin).verdict, Verdict::Refuse(_)),
                    "{mode:?} {origin:?}"
                );
            }
            assert_eq!(asked(Field::One(b"cross-site"), own).verdict, Verdict::Refuse(Why::OtherSite));
        }
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
