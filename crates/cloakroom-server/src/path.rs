//! One normal form of a request's path. Routes match it and the upstream gets it, so that the two cannot read a
//! path differently (requirement R-130).
//!
//! Escapes of unreserved characters are decoded, all others upper-cased; what RFC 3986 does not allow unescaped is
//! escaped; dot segments and repeated slashes are resolved. Refused, with 400: what two programs are known to read in
//! two ways (an encoded `/` or `\`, a raw `\`, a path parameter, a decoded path that is not UTF-8, such as the overlong `/`
//! of `%C0%AF`), control characters, encoded or not, and escapes that are none.
//!
//! `..` above the root is refused too. RFC 3986 section 5.2.4 would drop it, but that is advice for resolving links, which
//! browsers do before they send; in a request it is an attack or a mistake, and an error shows either.

use std::fmt;

use http::{Method, Uri};

/// Why a path has no normal form. The answer is 400, without details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathError {
    /// The target is `*` or an authority, or its path does not begin with `/`.
    Form,
    /// A control character, a space, a raw `\` or `#`, or a raw character that is not ASCII.
    Character,
    /// A `%` without two hexadecimal digits behind it.
    Escape,
    /// An escape of `/`, of `\`, or of a control character.
    Encoded,
    /// The decoded path is not UTF-8.
    NotUtf8,
    /// `..` above the root, or a dot segment with a parameter.
    DotSegment,
    /// A `;`, raw or escaped, on a route that does not allow path parameters.
    Parameters,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "the target is not a path",
            Self::Character => "a character that cannot be in a target",
            Self::Escape => "a malformed escape",
            Self::Encoded => "an escaped slash, backslash or control character",
            Self::NotUtf8 => "a path that is not UTF-8",
            Self::DotSegment => "a dot segment that leaves the root or has a parameter",
            Self::Parameters => "a path parameter",
        })
    }
}

impl std::error::Error for PathError {}

/// A path in normal form, and the query as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normal {
    target: String,
    path_len: usize,
    segments: Vec<Vec<u8>>,
    parameters: bool,
}

impl Normal {
    /// The path: begins with `/`, without query.
    pub fn path(&self) -> &str {
        self.target.get(..self.path_len).unwrap_or_default()
    }

    /// The query without its `?`, as it came; `None` if there was no `?`.
    pub fn query(&self) -> Option<&str> {
        self.target.get(self.path_len..)?.strip_prefix('?')
    }

    /// Path and query: what is forwarded.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Whether a segment has a `;`, raw or escaped.
    pub const fn has_parameters(&self) -> bool {
        self.parameters
    }

    /// The path as an upstream sees it once it has decoded it: its segments as bytes, without path parameters; the
    /// last one is empty if the path ends with `/`. Routes compare these, so that `%40` and `@` are one. For
    /// comparing only: a `%` in it is a real one.
    pub fn segments(&self) -> &[Vec<u8>] {
        &self.segments
    }
}

/// Brings a path and query to normal form.
///
/// # Errors
///
/// [`PathError`] says what cannot be normalised.
pub fn normalise(path_and_query: &str, allow_parameters: bool) -> Result<Normal, PathError> {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let path = path.strip_prefix('/').ok_or(PathError::Form)?;
    // `Uri` cuts a fragment off; one that is still here was meant to be seen by one side only.
    if query.is_some_and(|query| query.bytes().any(|b| !b.is_ascii_graphic() || b == b'#')) {
        return Err(PathError::Character);
    }
    let mut kept: Vec<Segment> = Vec::new();
    let mut parameters = false;
    let mut directory = true;
    for raw in path.split('/') {
        let segment = Segment::read(raw)?;
        // The name ends at the first `;`; what follows is a parameter to some programs and a part of the name to
        // others. One that `..` removes again counts too.
        parameters |= segment.parameter;
        directory = true;
        match segment.name.as_slice() {
            // Programs that cut parameters off would see `..`, or a repeated slash, only after we have looked.
            b"." | b".." | b"" if segment.parameter => return Err(PathError::DotSegment),
            b"." | b"" => {}
            b".." => {
                kept.pop().ok_or(PathError::DotSegment)?;
            }
            _ => {
                directory = false;
                kept.push(segment);
            }
        }
    }
    if parameters && !allow_parameters {
        return Err(PathError::Parameters);
    }
    if directory {
        kept.push(Segment::default());
    }
    let mut target = String::with_capacity(path_and_query.len() + 1);
    for segment in &kept {
        target.push('/');
        target.push_str(&segment.text);
    }
    let path_len = target.len();
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    let segments = kept.into_iter().map(|segment| segment.name).collect();
    Ok(Normal { target, path_len, segments, parameters })
}

/// Brings a request's target to normal form. Only the path and query of an absolute target are looked at; its
/// authority is [`headers::check_request`](crate::headers::check_request)'s business.
///
/// # Errors
///
/// [`PathError::Form`] for `*`, for the target of a `CONNECT`, and for schemes other than http and https; otherwise as
/// [`normalise`].
pub fn target(method: &Method, uri: &Uri, allow_parameters: bool) -> Result<Normal, PathError> {
    let scheme = uri.scheme_str().is_none_or(|scheme| scheme == "http" || scheme == "https");
    // An authority alone, as CONNECT has it, has no path and so no normal form either.
    if method == Method::CONNECT || !scheme {
        return Err(PathError::Form);
    }
    match uri.query() {
        None => normalise(uri.path(), allow_parameters),
        Some(query) => normalise(&[uri.path(), "?", query].concat(), allow_parameters),
    }
}

/// A segment of a path.
#[derive(Default)]
struct Segment {
    /// In normal form.
    text: String,
    /// Decoded once, up to the first `;`.
    name: Vec<u8>,
    /// Whether there was a `;`.
    parameter: bool,
}

impl Segment {
    fn read(raw: &str) -> Result<Self, PathError> {
        let mut bytes = raw.bytes();
        let mut text = String::with_capacity(raw.len());
        let mut name = Vec::with_capacity(raw.len());
        while let Some(byte) = bytes.next() {
            let escaped = byte == b'%';
            let byte = if escaped {
                let high = bytes.next().and_then(hex).ok_or(PathError::Escape)?;
                let low = bytes.next().and_then(hex).ok_or(PathError::Escape)?;
                high << 4 | low
            } else {
                byte
            };
            if escaped && (byte.is_ascii_control() || byte == b'/' || byte == b'\\') {
                return Err(PathError::Encoded);
            }
            if !escaped && (!byte.is_ascii_graphic() || byte == b'\\' || byte == b'#') {
                return Err(PathError::Character);
            }
            if is_unreserved(byte) || (!escaped && is_delimiter(byte)) {
                text.push(char::from(byte));
            } else {
                text.push('%');
                text.push(hex_digit(byte >> 4));
                text.push(hex_digit(byte & 15));
            }
            name.push(byte);
        }
        if std::str::from_utf8(&name).is_err() {
            return Err(PathError::NotUtf8);
        }
        let end = name.iter().position(|&byte| byte == b';');
        name.truncate(end.unwrap_or(name.len()));
        Ok(Self { text, name, parameter: end.is_some() })
    }
}

/// RFC 3986 section 2.3: escaped or not, it means the same.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What else may stand in a segment unescaped (RFC 3986 section 3.3).
const fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

const fn hex_digit(nibble: u8) -> char {
    match nibble {
        0..=9 => (b'0' + nibble) as char,
        _ => (b'A' + nibble - 10) as char,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `Ok`: path and query as forwarded. Parameters are allowed.
    const TABLE: &[(&str, Result<&str, PathError>)] = &[
        ("/", Ok("/")),
        ("/notes", Ok("/notes")),
        ("/notes/", Ok("/notes/")),
        ("/%6eotes", Ok("/notes")),
        ("/%7Ebob/%2D%2e%5F", Ok("/~bob/-._")),
        ("/a%2fb", Err(PathError::Encoded)),
        ("/a%2Fb", Err(PathError::Encoded)),
        ("/a%5cb", Err(PathError::Encoded)),
        ("/a\\b", Err(PathError::Character)),
        ("/a%00", Err(PathError::Encoded)),
        ("/a%0d%0aX:y", Err(PathError::Encoded)),
        ("/a%7f", Err(PathError::Encoded)),
        ("/a%", Err(PathError::Escape)),
        ("/a%4", Err(PathError::Escape)),
        ("/a%4/b", Err(PathError::Escape)),
        ("/a%zz", Err(PathError::Escape)),
        ("/a%+1", Err(PathError::Escape)),
        ("/a%u002f", Err(PathError::Escape)),
        ("/a b", Err(PathError::Character)),
        ("/a\tb", Err(PathError::Character)),
        ("/a\u{0}b", Err(PathError::Character)),
        ("/caf\u{e9}", Err(PathError::Character)),
        ("/a#b", Err(PathError::Character)),
        ("/caf%c3%a9", Ok("/caf%C3%A9")),
        ("/caf%e9", Err(PathError::NotUtf8)),
        ("/%c0%af", Err(PathError::NotUtf8)),
        ("/%c0%ae%c0%ae/x", Err(PathError::NotUtf8)),
        ("/%40me/@me", Ok("/%40me/@me")),
        ("/a%3ab", Ok("/a%3Ab")),
        ("/a|b^c`{d}\"<>[]", Ok("/a%7Cb%5Ec%60%7Bd%7D%22%3C%3E%5B%5D")),
        ("/a%7cb", Ok("/a%7Cb")),
        ("/100%25", Ok("/100%25")),
        ("/%252e%252e/x", Ok("/%252e%252e/x")),
        ("//a", Ok("/a")),
        ("//evil.test/x", Ok("/evil.test/x")),
        ("/a//b///c", Ok("/a/b/c")),
        ("/a/./b", Ok("/a/b")),
        ("/a/.", Ok("/a/")),
        ("/a/b/..", Ok("/a/")),
        ("/a/../b", Ok("/b")),
        ("/a/%2e%2E/b", Ok("/b")),
        ("/a/.%2e/b", Ok("/b")),
        ("/a//../b", Ok("/b")),
        ("/public/../admin", Ok("/admin")),
        ("/a/..", Ok("/")),
        ("/..", Err(PathError::DotSegment)),
        ("/../admin", Err(PathError::DotSegment)),
        ("/a/../../b", Err(PathError::DotSegment)),
        ("/%2e%2e/", Err(PathError::DotSegment)),
        ("/...", Ok("/...")),
        ("/..a/.b", Ok("/..a/.b")),
        ("/a;v=1/b", Ok("/a;v=1/b")),
        ("/a%3bv", Ok("/a%3Bv")),
        ("/a/..;/b", Err(PathError::DotSegment)),
        ("/a/%2e.;x/b", Err(PathError::DotSegment)),
        ("/a/.%3b/b", Err(PathError::DotSegment)),
        ("/;/admin", Err(PathError::DotSegment)),
        ("/x?a=1&b=%2f/../;", Ok("/x?a=1&b=%2f/../;")),
        ("/x?", Ok("/x?")),
        ("/x??", Ok("/x??")),
        ("/x?100%", Ok("/x?100%")),
        ("/x%3fy", Ok("/x%3Fy")),
        ("/x?a b", Err(PathError::Character)),
        ("/x?a\nb", Err(PathError::Character)),
        ("/x?a#b", Err(PathError::Character)),
        ("/x?\u{e9}", Err(PathError::Character)),
        ("", Err(PathError::Form)),
        ("*", Err(PathError::Form)),
        ("?x", Err(PathError::Form)),
        ("notes", Err(PathError::Form)),
        ("http://host/x", Err(PathError::Form)),
    ];

    #[test]
    fn r130_each_path_has_one_normal_form_or_is_refused() {
        for (given, expected) in TABLE {
            let normal = normalise(given, true);
            let shown = normal.as_ref().map(Normal::target).map_err(|&error| error);
            assert_eq!(shown, *expected, "{given:?}");
        }
    }

    #[test]
    fn r130_parameters_are_refused_unless_allowed() {
        for path in ["/a;b", "/a;", "/a%3bb", "/a%3Bb", "/a/x;y/../b"] {
            assert_eq!(normalise(path, false), Err(PathError::Parameters), "{path}");
            assert!(normalise(path, true).is_ok_and(|normal| normal.has_parameters()), "{path}");
        }
        assert!(!normalise("/a?b;c", false).unwrap().has_parameters());
    }

    #[test]
    fn segments_are_what_an_upstream_sees() {
        let of = |path| normalise(path, true).unwrap().segments().to_vec();
        let want = |texts: &[&str]| texts.iter().map(|t| t.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(of("/"), want(&[""]));
        assert_eq!(of("/%40me/x%20y/"), want(&["@me", "x y", ""]));
        assert_eq!(of("/a;v=1/b%3bx"), want(&["a", "b"]));
        assert_eq!(of("/%25"), want(&["%"]));
    }

    #[test]
    fn path_and_query_come_apart() {
        let normal = normalise("/a/./b?x=1?", false).unwrap();
        assert_eq!((normal.path(), normal.query()), ("/a/b", Some("x=1?")));
        let normal = normalise("/a", false).unwrap();
        assert_eq!((normal.path(), normal.query()), ("/a", None));
        assert_eq!(normalise("/a?", false).unwrap().query(), Some(""));
    }

    #[test]
    fn r130_only_paths_and_absolute_targets_are_taken() {
        let of = |method: &str, uri: &str| {
            let uri: Uri = uri.parse().unwrap();
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            target(&method, &uri, false).map(|normal| normal.target().to_owned())
        };
        assert_eq!(of("GET", "/a/../b?c"), Ok("/b?c".to_owned()));
        assert_eq!(of("GET", "http://host/a//b?c"), Ok("/a/b?c".to_owned()));
        assert_eq!(of("GET", "https://host"), Ok("/".to_owned()));
        assert_eq!(of("GET", "http://host?c"), Ok("/?c".to_owned()));
        assert_eq!(of("OPTIONS", "*"), Err(PathError::Form));
        assert_eq!(of("CONNECT", "host:443"), Err(PathError::Form));
        assert_eq!(of("GET", "host:443"), Err(PathError::Form));
        assert_eq!(of("CONNECT", "/a"), Err(PathError::Form));
        assert_eq!(of("GET", "ftp://host/a"), Err(PathError::Form));
    }

    fn is_normal(path: &str) -> bool {
        path.starts_with('/')
            && !path.contains("//")
            && path.bytes().all(|b| is_unreserved(b) || is_delimiter(b) || b == b'%' || b == b'/')
            && path.split('/').all(|segment| segment != "." && segment != "..")
    }

    proptest! {
        #[test]
        fn r130_normalising_twice_is_normalising_once(
            path in "/([./;%2eEfF5cC3bB0a@|~]|%2e|%2E|%40|%7e|%C3%A9|%3b|/\\.\\./){0,24}(\\?[ -~]{0,6})?",
        ) {
            if let Ok(once) = normalise(&path, true) {
                prop_assert!(is_normal(once.path()), "{:?} of {:?}", once, path);
                let twice = normalise(once.target(), true);
                // Not `parameters`: one may have gone with a `..`.
                prop_assert_eq!(twice.as_ref().map(Normal::target), Ok(once.target()));
                prop_assert_eq!(twice.as_ref().map(Normal::segments), Ok(once.segments()));
                prop_assert_eq!(once.query(), path.split_once('?').map(|(_, query)| query));
            }
        }

        #[test]
        fn r130_any_text_is_refused_or_comes_out_normal(path in "\\PC{0,40}") {
            if let Ok(normal) = normalise(&path, true) {
                prop_assert!(is_normal(normal.path()));
            }
        }

        #[test]
        fn r130_without_permission_no_parameter_comes_out(path in "/([./;a]|%3b|%2e|\\.\\./){0,16}") {
            if let Ok(normal) = normalise(&path, false) {
                prop_assert!(!normal.path().to_ascii_lowercase().contains("%3b"));
                prop_assert!(!normal.path().contains(';'));
            }
        }
    }
}
