//! Finds a token in a form's body while the body goes by: no IO, and little of it is kept.

use std::fmt;

use zeroize::Zeroize as _;

/// How much of a body is read for its token, in bytes, unless the application chooses otherwise.
pub const FORM_LIMIT: usize = 64 * 1024;

/// The longest value that is kept: a token has 64 characters, and what is longer is none.
const VALUE_MAX: usize = 256;
/// The longest name and value of a urlencoded field that is kept.
const PAIR_MAX: usize = 1024;
/// The longest header of a part that is read. Browsers send some hundred bytes, more if a file's name is long.
const PART_HEADER_MAX: usize = 2048;

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a form whose token is not found must not go on"]
pub enum Search {
    /// The field has not come yet: go on with the body.
    More,
    /// It is there: see [`TokenField::value`]. The first field of the name counts.
    Found,
    /// The form has no such field, or cannot be read.
    Absent,
    /// It has not come within the limit.
    BeyondLimit,
}

/// Looks for one field of an `application/x-www-form-urlencoded` or `multipart/form-data` body.
///
/// A value that only looks like a token to this reader, and not to the application's own, is no danger: whoever sends it
/// has to know a valid token.
pub struct TokenField {
    name: String,
    left: usize,
    form: Form,
    held: Vec<u8>,
    outcome: Search,
}

enum Form {
    Urlencoded,
    /// With the line that begins each part: CR LF, two hyphens and the boundary.
    Multipart {
        delimiter: Vec<u8>,
        part: Part,
    },
}

/// Where in a multipart body the reader is.
#[derive(Clone, Copy)]
enum Part {
    /// Before the first part, or in a part of another name.
    Skipped,
    /// Behind a delimiter.
    Delimited,
    Header,
    Value,
}

impl TokenField {
    /// Prepares for a body, of which at most `limit` bytes are read. `None` if the content type is none of a form.
    pub fn of(content_type: &[u8], name: &str, limit: usize) -> Option<Self> {
        let content_type = str::from_utf8(content_type).ok()?;
        let mut parts = content_type.split(';').map(str::trim);
        let essence = parts.next()?;
        let form = if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Form::Urlencoded
        } else if essence.eq_ignore_ascii_case("multipart/form-data") {
            let boundary = parts.find_map(|parameter| {
                let (key, value) = parameter.split_once('=')?;
                key.eq_ignore_ascii_case("boundary").then_some(value)
            })?;
            let boundary =
                boundary.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(boundary);
            // RFC 2046 section 5.1.1.
            if !(1..=70).contains(&boundary.len()) || boundary.contains(['"', '\r', '\n']) {
                return None;
            }
            let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
            Form::Multipart { delimiter, part: Part::Skipped }
        } else {
            return None;
        };
        // The first delimiter may stand at the very beginning.
        let held = if matches!(form, Form::Multipart { .. }) { b"\r\n".to_vec() } else { Vec::new() };
        Some(Self { name: name.to_owned(), left: limit, form, held, outcome: Search::More })
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) -> Search {
        if self.outcome != Search::More {
            return self.outcome;
        }
        let (read, beyond) = bytes.split_at(bytes.len().min(self.left));
        self.left = self.left.saturating_sub(read.len());
        match &self.form {
            Form::Urlencoded => self.push_urlencoded(read),
            Form::Multipart { .. } => {
                self.held.extend_from_slice(read);
                while self.step() {}
            }
        }
        if self.outcome == Search::More && !beyond.is_empty() {
            self.outcome = Search::BeyondLimit;
        }
        self.outcome
    }

    /// Takes note that the body has ended.
    pub fn end(&mut self) -> Search {
        if self.outcome == Search::More {
            self.outcome = Search::Absent;
            if matches!(self.form, Form::Urlencoded) {
                self.pair();
            }
        }
        self.outcome
    }

    /// The field's value, once found; else nothing.
    pub fn value(&self) -> &[u8] {
        if self.outcome == Search::Found { &self.held } else { &[] }
    }

    fn push_urlencoded(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'&' {
                self.pair();
                if self.outcome == Search::Found {
                    return;
                }
                self.held.zeroize();
            } else if self.held.len() < PAIR_MAX {
                self.held.push(byte);
            }
        }
    }

    /// Looks at one whole pair of name and value.
    fn pair(&mut self) {
        let at = self.held.iter().position(|&byte| byte == b'=').unwrap_or(self.held.len());
        let (name, value) = self.held.split_at(at);
        if decode(name) == self.name.as_bytes() {
            let value = decode(value.get(1..).unwrap_or_default());
            self.held.zeroize();
            self.held = value;
            self.outcome = Search::Found;
        }
    }

    /// Goes one step through a multipart body; returns whether another may follow.
    fn step(&mut self) -> bool {
        let Form::Multipart { delimiter, part } = &mut self.form else { return false };
        match part {
            Part::Skipped => match find(&self.held, delimiter) {
                Some(at) => {
                    self.held.drain(..at.saturating_add(delimiter.len()));
                    *part = Part::Delimited;
                    true
                }
                None => {
                    // A delimiter may have begun.
                    let done = self.held.len().saturating_sub(delimiter.len().saturating_sub(1));
                    self.held.drain(..done);
                    false
                }
            },
            Part::Delimited => match find(&self.held, b"\r\n") {
                _ if self.held.starts_with(b"--") => self.finish(Search::Absent),
                // Blanks may stand behind a delimiter, and nothing else.
                Some(at) if self.held.iter().take(at).all(|byte| matches!(byte, b' ' | b'\t')) => {
                    // The line's end stays, so that an empty header ends like any other.
                    self.held.drain(..at);
                    *part = Part::Header;
                    true
                }
                None if self.held.len() < 64 => false,
                _ => self.finish(Search::Absent),
            },
            Part::Header => match find(&self.held, b"\r\n\r\n") {
                Some(at) if at <= PART_HEADER_MAX => {
                    let ours = self.held.get(..at).is_some_and(|header| names(header, &self.name));
                    // The last line's end stays: the delimiter of an empty value begins with it.
                    self.held.drain(..at.saturating_add(2));
                    *part = if ours { Part::Value } else { Part::Skipped };
                    true
                }
                None if self.held.len() <= PART_HEADER_MAX => false,
                _ => self.finish(Search::Absent),
            },
            Part::Value => {
                let end = find(&self.held, delimiter);
                if end.is_none() && self.held.len() <= VALUE_MAX {
                    return false;
                }
                // Without an end it is too long to be a token, and will not be taken for one.
                self.held.truncate(end.unwrap_or(VALUE_MAX));
                self.held.drain(..2.min(self.held.len()));
                self.finish(Search::Found)
            }
        }
    }

    const fn finish(&mut self, outcome: Search) -> bool {
        self.outcome = outcome;
        false
    }
}

impl Drop for TokenField {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

impl fmt::Debug for TokenField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenField")
            .field("name", &self.name)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

/// Whether a part's header gives it a name, and no file.
fn names(header: &[u8], name: &str) -> bool {
    let Ok(header) = str::from_utf8(header) else { return false };
    header.split("\r\n").any(|line| {
        let Some((field, value)) = line.split_once(':') else { return false };
        let mut parts = value.split(';').map(str::trim);
        let form_data = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("form-data"));
        let (mut named, mut file) = (false, false);
        for (key, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
            named |= key.eq_ignore_ascii_case("name") && value == name;
            file |= key.to_ascii_lowercase().starts_with("filename");
        }
        field.trim().eq_ignore_ascii_case("content-disposition") && form_data && named && !file
    })
}

/// Undoes `application/x-www-form-urlencoded`; what is malformed stays.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, digit(behind.first()), digit(behind.get(1))) {
            (b'%', Some(high), Some(low)) => {
                plain.push(u8::try_from(high * 16 + low).unwrap_or(byte));
                rest = behind.get(2..).unwrap_or_default();
            }
            (b'+', ..) => plain.push(b' '),
            _ => plain.push(byte),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const URLENCODED: &str = "application/x-www-form-urlencoded";
    const MULTIPART: &str = "multipart/form-data; boundary=xyz";

    fn search(content_type: &str, body: &[u8], limit: usize, piece: usize) -> (Search, String) {
        let mut field = TokenField::of(content_type.as_bytes(), "cloakroom_csrf", limit).unwrap();
        for bytes in body.chunks(piece) {
            if field.push(bytes) != Search::More {
                break;
            }
        }
        let outcome = field.end();
        (outcome, String::from_utf8_lossy(field.value()).into_owned())
    }

    #[test]
    fn the_field_is_found_wherever_the_body_is_cut() {
        let part = |header: &str, value: &str| {
            format!("--xyz\r\nContent-Disposition: form-data; {header}\r\n\r\n{value}\r\n")
        };
        let ours = part("name=\"cloakroom_csrf\"", "t-0_k");
        let file = part(
            "name=\"file\"; filename=\"cloakroom_csrf\"\r\nContent-Type: text/plain",
            "cloakroom_csrf=no\r\n--xy\r\n",
        );
        let named_file = part("name=\"cloakroom_csrf\"; filename=\"a\"", "no");
        let end = "--xyz--\r\n";
        let found = |value: &str| (Search::Found, value.to_owned());
        let absent = || (Search::Absent, String::new());
        let table = [
            (URLENCODED, "cloakroom_csrf=t-0_k".to_owned(), found("t-0_k")),
            (URLENCODED, "a=1&cloakroom_csrf=t-0_k&b=2".to_owned(), found("t-0_k")),
            (URLENCODED, "a=cloakroom_csrf=no&cloakroom%5Fcsrf=t%2D0+k%zz".to_owned(), found("t-0 k%zz")),
            (URLENCODED, "cloakroom_csrf=first&cloakroom_csrf=second".to_owned(), found("first")),
            (URLENCODED, "cloakroom_csrf".to_owned(), found("")),
            (URLENCODED, "&&cloakroom_csrf=&".to_owned(), found("")),
            (URLENCODED, "a=1&xcloakroom_csrf=no&cloakroom_csrfx=no".to_owned(), absent()),
            (URLENCODED, String::new(), absent()),
            (MULTIPART, [&*ours, end].concat(), found("t-0_k")),
            (MULTIPART, ["preamble\r\n", &*file, &*named_file, &*ours, end].concat(), found("t-0_k")),
            (MULTIPART, [&*part("name=cloakroom_csrf", ""), end].concat(), found("")),
            (MULTIPART, [&*file, end, &*ours].concat(), absent()),
            (MULTIPART, [&*file, end].concat(), absent()),
            (MULTIPART, ours.replace("\r\n\r\n", "\r\n"), absent()),
            (MULTIPART, ours.replace("xyz\r\n", "xyz5\r\n"), absent()),
            (MULTIPART, ours.replace("xyz\r\n", "xyz \t\r\n") + end, found("t-0_k")),
            // The value must have an end: a cut upload has none.
            (MULTIPART, ours, absent()),
            (MULTIPART, String::new(), absent()),
        ];
        for (content_type, body, expected) in table {
            for piece in 1..=body.len().max(1) {
                assert_eq!(search(content_type, body.as_bytes(), 4096, piece), expected, "{piece} {body:?}");
            }
        }
    }

    #[test]
    fn the_limit_counts_to_the_byte() {
        let body = [&[b'x'; 100][..], b"&cloakroom_csrf=t"].concat();
        assert_eq!(search(URLENCODED, &body, body.len(), 7), (Search::Found, "t".to_owned()));
        assert_eq!(search(URLENCODED, &body, body.len() - 1, 7), (Search::BeyondLimit, String::new()));
        // What follows the field may be as long as it likes.
        let long = [b"cloakroom_csrf=t&", &[b'x'; 5000][..]].concat();
        assert_eq!(search(URLENCODED, &long, 100, 13), (Search::Found, "t".to_owned()));
    }

    #[test]
    fn what_is_too_long_to_be_a_token_is_not_kept() {
        let body = ["cloakroom_csrf=", &"x".repeat(100_000)].concat();
        let (outcome, value) = search(URLENCODED, body.as_bytes(), 200_000, 999);
        assert_eq!((outcome, value.len() < PAIR_MAX), (Search::Found, true));
        let head = "--xyz\r\nContent-Disposition: form-data; name=\"cloakroom_csrf\"\r\n\r\n";
        let (outcome, value) = search(MULTIPART, [head, &body].concat().as_bytes(), 200_000, 999);
        assert_eq!((outcome, value.len() < VALUE_MAX), (Search::Found, true));
        let (outcome, _) = search(MULTIPART, ["--xyz\r\nX: ", &body].concat().as_bytes(), 200_000, 999);
        assert_eq!(outcome, Search::Absent);
    }

    #[test]
    fn only_forms_are_read() {
        for content_type in [
            "",
            "text/plain",
            "application/json",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"a\"b\"",
            "multipart/mixed; boundary=xyz",
        ] {
            assert!(TokenField::of(content_type.as_bytes(), "cloakroom_csrf", 9).is_none(), "{content_type}");
        }
        for content_type in [
            "application/x-www-form-urlencoded; charset=utf-8",
            "Application/X-WWW-Form-Urlencoded",
            "multipart/form-data; charset=utf-8; Boundary=\"x y\"",
        ] {
            assert!(TokenField::of(content_type.as_bytes(), "cloakroom_csrf", 9).is_some(), "{content_type}");
        }
        let field = TokenField::of(URLENCODED.as_bytes(), "cloakroom_csrf", 9).unwrap();
        assert!(!format!("{field:?}").contains("held"));
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_trouble(body: Vec<u8>, piece in 1_usize..50, limit in 0_usize..200) {
            for content_type in [URLENCODED, MULTIPART] {
                let _ = search(content_type, &body, limit, piece);
            }
        }
    }
}
