//! Field hygiene: which requests are refused by their head, and what is taken out of requests and responses.
//!
//! The order matters. [`check_request`], [`is_websocket`] and the judgement of `Origin` and `Sec-Fetch-Site` look at the
//! head as it came. Then [`strip_request`] takes out what a client may not say, *before* the gateway adds its own
//! fields: so a field that the client nominates in `Connection` can only remove the client's own, never one that the
//! gateway adds (RFC 9110 section 7.6.1).

use std::fmt;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};

/// What the gateway shows a private upstream to prove itself; a client may not send it.
pub const GATEWAY_SECRET: &str = "gateway-secret";

/// How large a request's head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fields; all `Cookie` fields are one, because HTTP/2 has one for each cookie. Default 100.
    pub fields: usize,
    /// Bytes of all names and values together. Default 32 KiB.
    pub field_bytes: usize,
    /// Bytes of the target. Default 8 KiB.
    pub target_bytes: usize,
}

impl Limits {
    /// Bytes of a head that the http library may hold before it is judged: what is allowed with room for what each version of
    /// HTTP adds, so that it is the limits here that decide.
    pub const fn on_the_wire(&self) -> usize {
        let most = 2 * (self.field_bytes + self.target_bytes) + 40 * self.fields;
        if most < 64 * 1024 { 64 * 1024 } else { most }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { fields: 100, field_bytes: 32 * 1024, target_bytes: 8 * 1024 }
    }
}

/// Why a request goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// `TRACE`, which echoes cookies, `TRACK`, or `CONNECT`.
    Method,
    /// Not exactly one usable `Host`, or another than in the target.
    Host,
    /// It is not certain where the body ends.
    Framing,
    /// The target is too long.
    TargetTooLong,
    /// Too many fields, or too large ones.
    FieldsTooLarge,
}

impl Refusal {
    /// The status for the client.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host | Self::Framing => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::FieldsTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "a method that is refused",
            Self::Host => "not exactly one usable Host",
            Self::Framing => "an ambiguous message length",
            Self::TargetTooLong => "a target that is too long",
            Self::FieldsTooLarge => "too many or too large header fields",
        })
    }
}

impl std::error::Error for Refusal {}

/// Looks at a request's head before anything else does, and returns its authority: `host` or `host:port`, lower-case.
///
/// The http library refuses most of this itself. What it lets through on one version of HTTP is still refused here, so
/// that nothing depends on it.
///
/// # Errors
///
/// [`Refusal`] says why the request goes no further.
pub fn check_request(parts: &Parts, limits: &Limits) -> Result<String, Refusal> {
    let refused = |name: &&str| parts.method.as_str().eq_ignore_ascii_case(name);
    // In any case: to HTTP `trace` is another method, but not to every upstream.
    if ["TRACE", "TRACK", "CONNECT"].iter().any(refused) {
        return Err(Refusal::Method);
    }
    let target = parts.uri.path().len() + parts.uri.query().map_or(0, |query| query.len() + 1);
    if target > limits.target_bytes {
        return Err(Refusal::TargetTooLong);
    }
    let (fields, bytes) = size(&parts.headers);
    if fields > limits.fields || bytes > limits.field_bytes {
        return Err(Refusal::FieldsTooLarge);
    }
    if !framing_is_certain(parts) {
        return Err(Refusal::Framing);
    }
    authority(parts).ok_or(Refusal::Host)
}

/// Fields, and bytes of names and values. Cookies count as the one field, joined by `; `, that they are in HTTP/1.1: browsers send
/// each in a field of its own over HTTP/2 (RFC 9113 section 8.2.3).
fn size(headers: &HeaderMap) -> (usize, usize) {
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    let crumbs = headers.get_all(header::COOKIE).iter().count().saturating_sub(1);
    (headers.len() - crumbs, bytes - crumbs * (header::COOKIE.as_str().len() - "; ".len()))
}

/// RFC 9112 section 6: one length at most, in one way.
fn framing_is_certain(parts: &Parts) -> bool {
    let mut lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    match (lengths.next(), codings.next()) {
        (None, None) => true,
        (Some(length), None) => {
            let digits = (1..=19).contains(&length.len()) && length.as_bytes().iter().all(u8::is_ascii_digit);
            digits && lengths.next().is_none()
        }
        (None, Some(coding)) => {
            let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            chunked && codings.next().is_none() && parts.version == Version::HTTP_11
        }
        (Some(_), Some(_)) => false,
    }
}

/// The one host that a request names, in its target, in `Host`, or the same in both.
fn authority(parts: &Parts) -> Option<String> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match hosts.next() {
        Some(host) => Some(host.to_str().ok()?.to_ascii_lowercase()),
        None => None,
    };
    if hosts.next().is_some() {
        return None;
    }
    let target = parts.uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
    let authority = match (target, host) {
        (Some(target), Some(host)) if target != host => return None,
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => return None,
    };
    is_authority(&authority).then_some(authority)
}

/// `host` or `host:port`: a name of letters, digits, `-`, `.` and `_`, or an IPv6 address in brackets. No user
/// information, no escapes.
pub fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address.parse::<std::net::Ipv6Addr>().is_ok(), port),
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            ((1..=255).contains(&name.len()) && name.bytes().all(good) && !name.starts_with('.'), port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    host && port
}

/// Whether a request is a WebSocket handshake: HTTP/1.1, GET, `Upgrade: websocket` and no other protocol, nominated by
/// `Connection`. Look before [`strip_request`], which drops both fields; they are to be set anew for the upstream.
/// Any other upgrade (h2c) is dropped with them, so the upstream sees a plain request.
pub fn is_websocket(parts: &Parts) -> bool {
    let mut upgrades = parts.headers.get_all(header::UPGRADE).iter();
    let websocket = upgrades.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && websocket
        && upgrades.next().is_none()
        && elements(&parts.headers, &header::CONNECTION).any(|one| one.eq_ignore_ascii_case(b"upgrade"))
}

/// Takes out of a request what ends at the gateway, and what only the gateway may say: hop-by-hop fields and those that
/// `Connection` nominates, `Session-*`, `Csp-Nonce` and `Gateway-Secret` in every spelling that some upstream
/// takes for the same name, and our cookies: the session's, and the one that tells visitors apart.
///
/// Also `Proxy`, which CGI programs take for a setting of theirs, and `X-Original-URL` and `X-Rewrite-URL`, by which some
/// frameworks let a client name another path than the one the route was found for.
///
/// What says where a request came from is [`forwarded::set`](crate::forwarded::set)'s business.
pub fn strip_request(headers: &mut HeaderMap, cookies: &[&str]) {
    const FORGED: [&str; 4] = [GATEWAY_SECRET, "proxy", "x-original-url", "x-rewrite-url"];
    let nominated = nominated(headers);
    remove_if(headers, |name| {
        let folded = folded(name);
        is_hop(name, &nominated) || is_ours(folded) || FORGED.iter().any(|forged| folded.is(forged))
    });
    strip_cookies(headers, cookies);
}

/// Takes out of a response what ends at the gateway, and the commands to it, which must have been read before. Returns how
/// many `Set-Cookie` fields for our cookies were dropped; each is worth an event.
#[must_use = "a dropped cookie is worth an event"]
pub fn strip_response(headers: &mut HeaderMap, cookies: &[&str]) -> usize {
    let nominated = nominated(headers);
    remove_if(headers, |name| is_hop(name, &nominated) || is_ours(folded(name)));
    if !headers.contains_key(header::SET_COOKIE) {
        return 0;
    }
    let all: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    let kept: Vec<&HeaderValue> = all.iter().filter(|value| !sets(value.as_bytes(), cookies)).collect();
    let dropped = all.len() - kept.len();
    if dropped > 0 {
        headers.remove(header::SET_COOKIE);
        for value in kept {
            headers.append(header::SET_COOKIE, value.clone());
        }
    }
    dropped
}

/// Whether a name belongs to the protocol between gateway and upstream: `csp-nonce`, or one that begins with `session-`.
pub fn is_ours(name: Folded<'_>) -> bool {
    name.is("csp-nonce") || name.starts_with("session-")
}

/// A field's name as the most careless upstream reads it: everything but letters and digits is `-`.
///
/// CGI and its many heirs turn `-` into `_` when they name a variable after a field, so that `Session_Subject` and
/// `Session-Subject` are one; some do so with every other character too (`Session.Subject`).
pub fn folded(name: &HeaderName) -> Folded<'_> {
    Folded(name.as_str())
}

/// A name as [`folded`] reads it. Only compared, so that nothing is written anew for each field of each message.
#[derive(Clone, Copy, Debug)]
pub struct Folded<'a>(&'a str);

impl Folded<'_> {
    /// Whether it is this name, in lower case.
    pub fn is(self, name: &str) -> bool {
        self.0.len() == name.len() && self.starts_with(name)
    }

    /// Whether it begins like this, in lower case.
    pub fn starts_with(self, beginning: &str) -> bool {
        let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
        self.0.len() >= beginning.len()
            && self.0.bytes().map(fold).zip(beginning.bytes()).all(|(a, b)| a == b)
    }
}

/// Removes the fields whose names fulfil a condition.
pub(crate) fn remove_if(headers: &mut HeaderMap, condition: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| condition(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The elements of a list field (RFC 9110 section 5.6.1), those of several fields one after the other.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(|line| line.as_bytes().split(|&b| b == b',')).map(<[u8]>::trim_ascii)
}

/// RFC 9110 section 7.6.1, and `Proxy-Connection`, which is in no RFC but in requests.
const HOPS: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn is_hop(name: &HeaderName, nominated: &[HeaderName]) -> bool {
    HOPS.contains(&name.as_str()) || nominated.contains(name)
}

/// What `Connection` says ends here too.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let elements = elements(headers, &header::CONNECTION);
    elements.filter_map(|element| HeaderName::from_bytes(element).ok()).collect()
}

/// Takes our cookies out of `Cookie` and joins what is left into one field (HTTP/2 sends crumbs).
///
/// Our names in other cases go too. To a browser those are other cookies, but upstreams that ignore case would read
/// one for ours, and no browser that knows cookie prefixes lets an application set one; so nothing is lost.
fn strip_cookies(headers: &mut HeaderMap, cookies: &[&str]) {
    let mut joined = Vec::new();
    for line in headers.get_all(header::COOKIE) {
        for pair in line.as_bytes().split(|&b| b == b';').map(<[u8]>::trim_ascii) {
            if pair.is_empty() || names(pair, cookies) {
                continue;
            }
            if !joined.is_empty() {
                joined.extend_from_slice(b"; ");
            }
            joined.extend_from_slice(pair);
        }
    }
    headers.remove(header::COOKIE);
    if joined.is_empty() {
        return;
    }
    // These bytes came out of field values, so they fit into one; if not, the upstream gets no cookie.
    if let Ok(mut value) = HeaderValue::from_bytes(&joined) {
        value.set_sensitive(true);
        headers.insert(header::COOKIE, value);
    }
}

fn sets(set_cookie: &[u8], cookies: &[&str]) -> bool {
    set_cookie.split(|&b| b == b';').next().is_some_and(|pair| names(pair, cookies))
}

/// Whether a `name=value` pair is of a cookie of ours, to any reader: case, white space around the name, and a nameless
/// cookie whose value reads like ours (`=sid=…`, which a browser sends back as `sid=…`) do not matter.
fn names(pair: &[u8], cookies: &[&str]) -> bool {
    let start = pair.iter().position(|&b| b != b'=' && !b.is_ascii_whitespace()).unwrap_or(pair.len());
    let pair = pair.get(start..).unwrap_or_default();
    let name = pair.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii();
    cookies.iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "__Host-Http-sid";

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        headers
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let shown =
            |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut lines: Vec<String> = headers.iter().map(shown).collect();
        lines.sort();
        lines
    }

    fn parts(method: &str, uri: &str, version: Version, fields: &[(&str, &str)]) -> Parts {
        let (mut parts, ()) =
            Request::builder().method(method).uri(uri).version(version).body(()).unwrap().into_parts();
        parts.headers = map(fields);
        parts
    }

    fn check(method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<String, Refusal> {
        check_request(&parts(method, uri, Version::HTTP_11, fields), &Limits::default())
    }

    #[test]
    fn r130_trace_and_connect_are_refused_in_any_case() {
        for method in ["TRACE", "TRACK", "CONNECT", "trace", "Trace", "connect"] {
            assert_eq!(check(method, "/", &[("host", "a")]), Err(Refusal::Method), "{method}");
        }
        for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "TRACER"] {
            assert_eq!(check(method, "/", &[("host", "a")]).as_deref(), Ok("a"), "{method}");
        }
    }

    // What the wire shows is in tests/framing.rs: the http library has taken out some of these before, and refused others.
    #[test]
    fn r130_a_head_that_gives_no_one_certain_length_is_refused_whatever_the_http_library_lets_through() {
        type Fields = &'static [(&'static str, &'static str)];
        let table: [(Fields, bool); 19] = [
            (&[], true),
            (&[("content-length", "0")], true),
            (&[("content-length", "12")], true),
            (&[("transfer-encoding", "chunked")], true),
            (&[("transfer-encoding", "Chunked")], true),
            (&[("content-length", "5"), ("transfer-encoding", "chunked")], false),
            (&[("content-length", "5"), ("content-length", "5")], false),
            (&[("content-length", "5"), ("content-length", "6")], false),
            (&[("content-length", "5, 5")], false),
            (&[("content-length", "+5")], false),
            (&[("content-length", "-5")], false),
            (&[("content-length", "0x5")], false),
            (&[("content-length", "")], false),
            (&[("content-length", "5 ")], false),
            (&[("content-length", "99999999999999999999")], false),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
            (&[("transfer-encoding", "gzip, chunked")], false),
            (&[("transfer-encoding", "identity")], false),
            (&[("transfer-encoding", "xchunked")], false),
        ];
        for (fields, good) in table {
            let mut parts = parts("POST", "/", Version::HTTP_11, &[("host", "a")]);
            parts.headers.extend(map(fields));
            let outcome = check_request(&parts, &Limits::default());
            assert_eq!(outcome, if good { Ok("a".to_owned()) } else { Err(Refusal::Framing) }, "{fields:?}");
        }
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let parts = parts("POST", "/", version, &[("host", "a"), ("transfer-encoding", "chunked")]);
            assert_eq!(check_request(&parts, &Limits::default()), Err(Refusal::Framing));
        }
    }

    #[test]
    fn r130_a_request_names_one_host() {
        type Fields = &'static [(&'static str, &'static str)];
        let table: [(&str, Fields, Option<&str>); 24] = [
            ("/", &[("host", "example.org")], Some("example.org")),
            ("/", &[("host", "Example.ORG:8443")], Some("example.org:8443")),
            ("/", &[("host", "127.0.0.1:8080")], Some("127.0.0.1:8080")),
            ("/", &[("host", "[::1]:8080")], Some("[::1]:8080")),
            ("/", &[("host", "my_app")], Some("my_app")),
            ("http://example.org/", &[], Some("example.org")),
            ("http://example.org/", &[("host", "EXAMPLE.org")], Some("example.org")),
            ("/", &[], None),
            ("/", &[("host", "")], None),
            ("/", &[("host", "a"), ("host", "a")], None),
            ("/", &[("host", "a"), ("host", "b")], None),
            ("http://example.org/", &[("host", "evil.test")], None),
            ("http://user@example.org/", &[], None),
            ("/", &[("host", "user@example.org")], None),
            ("/", &[("host", "a, b")], None),
            ("/", &[("host", "a b")], None),
            ("/", &[("host", "a/b")], None),
            ("/", &[("host", "a?b")], None),
            ("/", &[("host", "a%2eb")], None),
            ("/", &[("host", "a\"b")], None),
            ("/", &[("host", "a:")], None),
            ("/", &[("host", "a:b")], None),
            ("/", &[("host", "a:65536")], None),
            ("/", &[("host", "[::1")], None),
        ];
        for (uri, fields, expected) in table {
            let outcome = check("GET", uri, fields);
            let expected = expected.map(str::to_owned).ok_or(Refusal::Host);
            assert_eq!(outcome, expected, "{uri} {fields:?}");
        }
    }

    #[test]
    fn a_head_that_is_too_large_is_refused() {
        let limits = Limits { fields: 3, field_bytes: 20, target_bytes: 8 };
        let check = |uri: &str, fields: &[(&str, &str)]| {
            check_request(&parts("GET", uri, Version::HTTP_11, fields), &limits)
        };
        assert_eq!(check("/", &[("host", "a"), ("b", "c"), ("b", "c")]), Ok("a".to_owned()));
        let four = [("host", "a"), ("b", "c"), ("b", "c"), ("b", "c")];
        assert_eq!(check("/", &four), Err(Refusal::FieldsTooLarge));
        assert_eq!(check("/", &[("host", "a"), ("b", "12345678901234")]), Ok("a".to_owned()));
        assert_eq!(check("/", &[("host", "a"), ("b", "123456789012345")]), Err(Refusal::FieldsTooLarge));
        assert_eq!(check("/2345678?", &[("host", "a")]), Err(Refusal::TargetTooLong));
        assert_eq!(check("/2345?78", &[("host", "a")]), Ok("a".to_owned()));
        assert_eq!(check("/2345?789", &[("host", "a")]), Err(Refusal::TargetTooLong));
    }

    #[test]
    fn cookies_in_fields_of_their_own_count_as_the_one_field_that_they_are_elsewhere() {
        let split = map(&[("host", "a"), ("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        let joined = map(&[("host", "a"), ("cookie", "a=1; b=2; c=3")]);
        assert_eq!(size(&split), size(&joined));
        assert_eq!(size(&map(&[])), (0, 0));
    }

    #[test]
    fn r130_only_a_plain_websocket_handshake_is_one() {
        type Fields = &'static [(&'static str, &'static str)];
        let table: [(&str, Version, Fields, bool); 11] = [
            ("GET", Version::HTTP_11, &[("upgrade", "websocket"), ("connection", "Upgrade")], true),
            (
                "GET",
                Version::HTTP_11,
                &[("upgrade", "WebSocket"), ("connection", "keep-alive, upgrade")],
                true,
            ),
            ("GET", Version::HTTP_11, &[("upgrade", "websocket")], false),
            ("GET", Version::HTTP_11, &[("connection", "upgrade")], false),
            (
                "GET",
                Version::HTTP_11,
                &[("upgrade", "h2c"), ("connection", "upgrade, http2-settings")],
                false,
            ),
            ("GET", Version::HTTP_11, &[("upgrade", "websocket, h2c"), ("connection", "upgrade")], false),
            (
                "GET",
                Version::HTTP_11,
                &[("upgrade", "websocket"), ("upgrade", "h2c"), ("connection", "upgrade")],
                false,
            ),
            ("GET", Version::HTTP_11, &[("upgrade", "websocket/13"), ("connection", "upgrade")], false),
            ("POST", Version::HTTP_11, &[("upgrade", "websocket"), ("connection", "upgrade")], false),
            ("GET", Version::HTTP_10, &[("upgrade", "websocket"), ("connection", "upgrade")], false),
            ("GET", Version::HTTP_2, &[("upgrade", "websocket"), ("connection", "upgrade")], false),
        ];
        for (method, version, fields, expected) in table {
            assert_eq!(
                is_websocket(&parts(method, "/", version, fields)),
                expected,
                "{method} {version:?} {fields:?}"
            );
        }
    }

    #[test]
    fn r130_what_ends_at_the_gateway_does_not_reach_the_upstream() {
        let mut headers = map(&[
            ("Connection", "close, X-One, , x-two"),
            ("connection", "X_Three,\"bad\",Session-Subject"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Authorization", "Basic eA=="),
            ("TE", "trailers"),
            ("Trailer", "X-Checksum"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("X-One", "1"),
            ("X-Two", "2"),
            ("x_three", "3"),
            ("X-Four", "4"),
            ("Proxy", "http://evil.test"),
            ("X-Original-URL", "/admin"),
            ("X_Rewrite_Url", "/admin"),
            ("Accept", "*/*"),
        ]);
        strip_request(&mut headers, &[NAME]);
        assert_eq!(shown(&headers), ["accept: */*", "x-four: 4"]);
    }

    #[test]
    fn r130_no_spelling_of_the_gateways_own_fields_gets_through() {
        for name in [
            "Session-Subject",
            "SESSION-SUBJECT",
            "session_subject",
            "Session_Subject",
            "sEsSiOn-Handle",
            "session-",
            "session--x",
            "session-anything-at-all",
            "session.subject",
            "session~subject",
            "session!subject",
            "Csp-Nonce",
            "csp_nonce",
            "CSP.NONCE",
            "Gateway-Secret",
            "gateway_secret",
        ] {
            let mut headers = map(&[(name, "\"mallory\""), (name, "\"mallory\""), ("accept", "*/*")]);
            strip_request(&mut headers, &[NAME]);
            assert_eq!(shown(&headers), ["accept: */*"], "{name}");
        }
        for name in ["session", "sessions-x", "x-session-subject", "csp-nonce-x", "my-gateway-secret"] {
            let mut headers = map(&[(name, "x")]);
            strip_request(&mut headers, &[NAME]);
            assert_eq!(headers.len(), 1, "{name}");
        }
    }

    #[test]
    fn the_upstream_never_sees_a_token() {
        for (lines, expected) in [
            (&["__Host-Http-sid=TOKEN"][..], None),
            (&["a=1; __Host-Http-sid=TOKEN; b=2"], Some("a=1; b=2")),
            (&["a=1", "__Host-Http-sid=TOKEN", "b=2"], Some("a=1; b=2")),
            (&["__Host-Http-sid=TOKEN; __Host-Http-sid=TOKEN"], None),
            (&["a=1;__Host-Http-sid=TOKEN;b=2;"], Some("a=1; b=2")),
            (&["__host-http-SID=TOKEN; a=1"], Some("a=1")),
            (&["__Host-Http-sid =TOKEN; a=1"], Some("a=1")),
            (&["__Host-Http-sid= TOKEN; a=1"], Some("a=1")),
            (&["\t__Host-Http-sid\t=\tTOKEN; a=1"], Some("a=1")),
            (&["=__Host-Http-sid=TOKEN; a=1"], Some("a=1")),
            (&["__Host-Http-sid; a=1"], Some("a=1")),
            (&["__Host-Http-sid=\"TOKEN; a=1\""], Some("a=1\"")),
            (&["a=\"x; __Host-Http-sid=TOKEN; y\""], Some("a=\"x; y\"")),
            (&["; ;"], None),
            (&[""], None),
            (
                &["__Host-Http-sidx=1; x__Host-Http-sid=2; a"],
                Some("__Host-Http-sidx=1; x__Host-Http-sid=2; a"),
            ),
            (&["a=b=c; d="], Some("a=b=c; d=")),
        ] {
            let fields: Vec<(&str, &str)> = lines.iter().map(|line| ("cookie", *line)).collect();
            let mut headers = map(&fields);
            strip_request(&mut headers, &[NAME]);
            assert!(headers.get_all("cookie").iter().count() <= 1);
            let left = headers.get("cookie").map(|value| value.to_str().unwrap());
            assert_eq!(left, expected, "{lines:?}");
        }
    }

    #[test]
    fn commands_and_hops_do_not_reach_the_client() {
        let mut headers = map(&[
            ("connection", "x-one"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("x-one", "1"),
            ("Session-Login", "\"alice\""),
            ("session_logout", "this"),
            ("Csp-Nonce", "x"),
            ("content-type", "text/html"),
        ]);
        assert_eq!(strip_response(&mut headers, &[NAME]), 0);
        assert_eq!(shown(&headers), ["content-type: text/html"]);
    }

    #[test]
    fn the_upstream_cannot_set_the_session_cookie() {
        for (value, dropped) in [
            ("__Host-Http-sid=x", true),
            ("__Host-Http-sid=x; Path=/; Secure", true),
            ("__HOST-http-sid=x", true),
            (" __Host-Http-sid =x", true),
            ("\t__Host-Http-sid\t=x", true),
            ("__Host-Http-sid", true),
            ("=__Host-Http-sid=x", true),
            (" = __Host-Http-sid=x", true),
            ("__Host-Http-sid; Max-Age=0", true),
            ("other=1", false),
            ("other=__Host-Http-sid=x", false),
            ("other=1; __Host-Http-sid=x", false),
            ("__Host-Http-sidx=x", false),
            ("", false),
        ] {
            let mut headers = map(&[("set-cookie", "a=1"), ("set-cookie", value), ("set-cookie", "b=2")]);
            assert_eq!(strip_response(&mut headers, &[NAME]), usize::from(dropped), "{value:?}");
            let left: Vec<_> = headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect();
            let expected = if dropped { vec!["a=1", "b=2"] } else { vec!["a=1", value, "b=2"] };
            assert_eq!(left, expected, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_cookies_are_no_value_of_ours_is_left(
            lines in proptest::collection::vec("(sid|SID|x|=|;| |\t|\"|,|TOKEN){0,12}", 1..4),
        ) {
            let fields: Vec<(&str, &str)> = lines.iter().map(|line| ("cookie", line.trim())).collect();
            let mut headers = map(&fields);
            strip_request(&mut headers, &["sid"]);
            let cookie = cloakroom::CookieOptions::default().name("sid").insecure_plain_http("test").build().unwrap();
            let left: Vec<&[u8]> = headers.get_all("cookie").iter().map(HeaderValue::as_bytes).collect();
            prop_assert!(left.len() <= 1);
            prop_assert_eq!(cookie.values(left.clone()).count(), 0);
            let twice = { let mut twice = headers.clone(); strip_request(&mut twice, &["sid"]); twice };
            prop_assert_eq!(shown(&twice), shown(&headers));
        }

        #[test]
        fn r130_any_name_that_an_upstream_may_take_for_ours_is_removed(
            name in "(session|SESSION|Session)[-_.!#$%&'*+^`|~]([a-zA-Z0-9_-]){0,10}",
        ) {
            let mut headers = map(&[(&name, "x")]);
            strip_request(&mut headers, &[NAME]);
            prop_assert!(headers.is_empty());
        }
    }
}
