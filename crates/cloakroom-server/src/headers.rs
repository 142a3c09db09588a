//! Field hygiene: which requests are refused by their head, and what is taken out of requests and responses.
//!
//! The order matters. [`check_request`], [`is_websocket`] and the judgement of `Origin` and `Sec-Fetch-Site` look at the
//! head as it came. Then [`strip_request`] takes out what a client may not say, *before* the gateway adds its own
//! fields: so a field that the client nominates in `Connection` can only remove the client's own, never one that the
//! gateway adds (RFC 9110 section 7.6.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};

use std::fmt;

/// What the gateway shows a private upstream to prove itself; a client may not send it.
pub const GATEWAY_SECRET: &str = "gateway-secret";

/// How large a request's head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fields. Default 100.
    pub fields: usize,
    /// Bytes of all names and values together. Default 32 KiB.
    pub field_bytes: usize,
    /// Bytes of the target. Default 8 KiB.
    pub target_bytes: usize,
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
    let bytes = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if parts.headers.len() > limits.fields || bytes > limits.field_bytes {
        return Err(Refusal::FieldsTooLarge);
    }
    if !framing_is_certain(parts) {
        return Err(Refusal::Framing);
    }
    authority(parts).ok_or(Refusal::Host)
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
/// takes for the same name, and the session cookie.
///
/// Also `Proxy`, which CGI programs take for a setting of theirs, and `X-Original-URL` and `X-Rewrite-URL`, by which some
/// frameworks let a client name another path than the one the route was found for.
///
/// What says where a request came from is [`forwarded::set`](crate::forwarded::set)'s business.
pub fn strip_request(headers: &mut HeaderMap, cookie_name: &str) {
    strip_hops(headers);
    remove_if(headers, |name| {
        let name = folded(name);
        is_ours(&name)
            || name == GATEWAY_SECRET
            || matches!(name.as_str(), "proxy" | "x-original-url" | "x-rewrite-url")
    });
    strip_cookie(headers, cookie_name);
}

/// Takes out of a response what ends at the gateway, and the commands to it, which must have been read before. Returns how
/// many `Set-Cookie` fields for the session cookie were dropped; each is worth an event.
#[must_use = "a dropped cookie is worth an event"]
pub fn strip_response(headers: &mut HeaderMap, cookie_name: &str) -> usize {
    strip_hops(headers);
    remove_if(headers, |name| is_ours(&folded(name)));
    let all: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    let kept: Vec<&HeaderValue> = all.iter().filter(|value| !sets(value.as_bytes(), cookie_name)).collect();
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
/// Give it a [`folded`] name.
pub fn is_ours(folded: &str) -> bool {
    folded == "csp-nonce" || folded.starts_with("session-")
}

/// A field's name as the most careless upstream reads it: everything but letters and digits is `-`.
///
/// CGI and its many heirs turn `-` into `_` when they name a variable after a field, so that `Session_Subject` and
/// `Session-Subject` are one; some do so with every other character too (`Session.Subject`).
pub fn folded(name: &HeaderName) -> String {
    name.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
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

fn strip_hops(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = elements(headers, &header::CONNECTION)
        .filter_map(|element| HeaderName::from_bytes(element).ok())
        .collect();
    for name in nominated {
        headers.remove(name);
    }
    for name in HOPS {
        headers.remove(name);
    }
}

/// Takes our cookie out of `Cookie` and joins what is left into one field (HTTP/2 sends crumbs).
///
/// Our name in other cases goes too. To a browser those are other cookies, but upstreams that ignore case would read
/// one for ours, and no browser that knows cookie prefixes lets an application set one; so nothing is lost.
fn strip_cookie(headers: &mut HeaderMap, cookie_name: &str) {
    let mut joined = Vec::new();
    for line in headers.get_all(header::COOKIE) {
        for pair in line.as_bytes().split(|&b| b == b';').map(<[u8]>::trim_ascii) {
            if pair.is_empty() || names(pair, cookie_name) {
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

fn sets(set_cookie: &[u8], cookie_name: &str) -> bool {
    set_cookie.split(|&b| b == b';').next().is_some_and(|pair| names(pair, cookie_name))
}

/// Whether a `name=value` pair is of our cookie, to any reader: case, white space around the name, and a nameless
/// cookie whose value reads like ours (`=sid=…`, which a browser sends back as `sid=…`) do not matter.
fn names(pair: &[u8], cookie_name: &str) -> bool {
    let start = pair.iter().position(|&b| b != b'=' && !b.is_ascii_whitespace()).unwrap_or(pair.len());
    let pair = pair.get(start..).unwrap_or_default();
    let name = pair.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii();
    name.eq_ignore_ascii_case(cookie_name.as_bytes())
}
