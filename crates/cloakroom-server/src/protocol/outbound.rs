//! What the upstream is told of a request's session.

use std::fmt;

use cloakroom::core::data::is_key_name;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use sfv::{Date, DictSerializer, Integer, ItemSerializer, KeyRef, RefBareItem, StringRef};

use super::names;

const HANDLE: HeaderName = HeaderName::from_static(names::HANDLE);
const SUBJECT: HeaderName = HeaderName::from_static(names::SUBJECT);
const AUTHENTICATED_AT: HeaderName = HeaderName::from_static(names::AUTHENTICATED_AT);
const LEVEL: HeaderName = HeaderName::from_static(names::LEVEL);
const DATA: HeaderName = HeaderName::from_static(names::DATA);
const READ_ONLY: HeaderName = HeaderName::from_static(names::READ_ONLY);
const CSRF_TOKEN: HeaderName = HeaderName::from_static(names::CSRF_TOKEN);
const NONCE: HeaderName = HeaderName::from_static(names::NONCE);

/// What the upstream is told. Of a request without a session only what its pages need.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outbound<'a> {
    /// The session's public name, as text; `None` while there is no session.
    pub handle: Option<&'a str>,
    /// Who is logged in; `None` while anonymous.
    pub who: Option<Who<'a>>,
    /// The data map: keys and texts. A value that was stored through the Rust API and is not a JSON string appears as its JSON
    /// text.
    pub data: &'a [(String, String)],
    /// Whether what the response stores will not be kept, because the session ended moments ago.
    pub read_only: bool,
    /// A token for the forms of this response.
    pub csrf: Option<&'a str>,
    /// The nonce for the scripts and styles of this response.
    pub nonce: Option<&'a str>,
}

/// Who is logged in.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The subject.
    pub subject: &'a str,
    /// When they authenticated, in seconds since 1970.
    pub authenticated_at: u64,
    /// The assurance level, 1 to 3.
    pub level: u8,
}

impl Outbound<'_> {
    /// Adds the fields. Call it after [`strip_request`](crate::headers::strip_request), which removes what the client has
    /// sent under these names.
    ///
    /// # Errors
    ///
    /// [`Unsayable`], and no field was added. Only data or times that no API of ours accepts can be.
    pub fn insert(&self, headers: &mut HeaderMap) -> Result<(), Unsayable> {
        let mut fields = Vec::with_capacity(7);
        let mut put = |name, value: String| {
            fields.push((name, HeaderValue::try_from(value).map_err(|_| Unsayable)?));
            Ok(())
        };
        if let Some(handle) = self.handle {
            put(HANDLE, string(handle))?;
        }
        if let Some(who) = self.who {
            let at = Integer::try_from(who.authenticated_at).map_err(|_| Unsayable)?;
            put(SUBJECT, string(who.subject))?;
            put(AUTHENTICATED_AT, item(Date::from_unix_seconds(at)))?;
            put(LEVEL, item(i64::from(who.level).try_into().unwrap_or(Integer::ZERO)))?;
        }
        if let Some(data) = dictionary(self.data)? {
            put(DATA, data)?;
        }
        if self.read_only {
            put(READ_ONLY, item(true))?;
        }
        if let Some(token) = self.csrf {
            put(CSRF_TOKEN, string(token))?;
        }
        if let Some(nonce) = self.nonce {
            put(NONCE, string(nonce))?;
        }
        for (name, mut value) in fields {
            // Out of logs and of HTTP/2's shared compression tables.
            value.set_sensitive([DATA, CSRF_TOKEN, NONCE].contains(&name));
            headers.insert(name, value);
        }
        Ok(())
    }
}

/// How many bytes the value of `Session-Data` takes: what the data limit counts.
///
/// # Errors
///
/// [`Unsayable`] for a key that cannot be one.
pub fn data_len(data: &[(String, String)]) -> Result<usize, Unsayable> {
    Ok(dictionary(data)?.map_or(0, |value| value.len()))
}

/// Something has no form in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsayable;

impl fmt::Display for Unsayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session has a data key or a time that the protocol cannot express")
    }
}

impl std::error::Error for Unsayable {}

fn item<'b>(value: impl Into<RefBareItem<'b>>) -> String {
    ItemSerializer::new().bare_item(value).finish()
}

fn dictionary(data: &[(String, String)]) -> Result<Option<String>, Unsayable> {
    let mut dictionary = DictSerializer::new();
    for (key, value) in data {
        let name = is_key_name(key).then_some(key).and_then(|key| KeyRef::from_str(key).ok());
        let _ = dictionary.bare_item(name.ok_or(Unsayable)?, text(value));
    }
    Ok(dictionary.finish())
}

/// A text as an item. One in which nothing is to be escaped, such as a token, stands between quotes as it is (RFC 9651 section
/// 4.1.6), which the serialiser would find out character by character.
fn string(value: &str) -> String {
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        return item(text(value));
    }
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.extend(["\"", value, "\""]);
    quoted
}

/// A String if it can be one, else a Display String, which can hold any text.
fn text(text: &str) -> RefBareItem<'_> {
    StringRef::from_str(text).map_or(RefBareItem::DisplayString(text), RefBareItem::String)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sfv::{BareItem, Dictionary, ListEntry, Parser};

    use super::*;

    fn pair(key: &str, text: &str) -> (String, String) {
        (key.to_owned(), text.to_owned())
    }

    fn fields(outbound: &Outbound<'_>) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        outbound.insert(&mut headers).unwrap();
        headers.iter().map(|(name, value)| pair(name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn the_upstream_is_told_who_it_is_and_what_is_kept() {
        let who = Who { subject: "alice", authenticated_at: 1_700_000_000, level: 2 };
        let data = [pair("cart", "3 \"apples\" \\"), pair("lang", "cs"), pair("name", "Žofie 100%")];
        let outbound = Outbound {
            handle: Some("AAAAAAAAAAAAAAAAAAAAAA"),
            who: Some(who),
            data: &data,
            ..Outbound::default()
        };
        assert_eq!(
            fields(&outbound),
            [
                pair("session-handle", "\"AAAAAAAAAAAAAAAAAAAAAA\""),
                pair("session-subject", "\"alice\""),
                pair("session-authenticated-at", "@1700000000"),
                pair("session-level", "2"),
                pair("session-data", r#"cart="3 \"apples\" \\", lang="cs", name=%"%c5%bdofie 100%25""#),
            ]
        );
    }

    #[test]
    fn of_a_visitor_the_upstream_is_told_no_subject_and_of_no_session_nothing() {
        assert_eq!(fields(&Outbound::default()), []);
        let data = [pair("cart", "1")];
        let visitor = Outbound { handle: Some("h"), who: None, data: &data, ..Outbound::default() };
        assert_eq!(fields(&visitor), [pair("session-handle", "\"h\""), pair("session-data", "cart=\"1\"")]);
        assert_eq!(fields(&Outbound { data: &[], ..visitor }), [pair("session-handle", "\"h\"")]);
    }

    #[test]
    fn a_subject_that_is_not_printable_ascii_goes_as_a_display_string() {
        for (subject, expected) in [
            ("Žofie", "%\"%c5%bdofie\""),
            ("a\r\nSession-Level: 3", "%\"a%0d%0aSession-Level: 3\""),
            ("a\u{0}", "%\"a%00\""),
            ("a\"b\\", r#""a\"b\\""#),
        ] {
            let who = Who { subject, authenticated_at: 0, level: 1 };
            let fields = fields(&Outbound { who: Some(who), ..Outbound::default() });
            assert_eq!(fields.first(), Some(&pair("session-subject", expected)), "{subject:?}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_an_error_and_nothing_is_said() {
        let mut headers = HeaderMap::new();
        for key in ["Not a key", "", "*a", "A", "a=1,b"] {
            let data = [pair("a", "1"), pair(key, "1")];
            let outbound = Outbound { handle: Some("h"), who: None, data: &data, ..Outbound::default() };
            assert_eq!(outbound.insert(&mut headers), Err(Unsayable), "{key}");
            assert_eq!(data_len(&data), Err(Unsayable), "{key}");
        }
        let who = Who { subject: "alice", authenticated_at: u64::MAX, level: 1 };
        assert_eq!(Outbound { who: Some(who), ..Outbound::default() }.insert(&mut headers), Err(Unsayable));
        assert!(headers.is_empty());
    }

    #[test]
    fn an_application_is_told_before_that_nothing_will_be_kept() {
        let outbound = Outbound { read_only: true, ..Outbound::default() };
        assert_eq!(fields(&outbound), [pair("session-read-only", "?1")]);
    }

    #[test]
    fn a_page_gets_what_its_forms_and_scripts_need() {
        let outbound = Outbound { csrf: Some("to-ken_"), nonce: Some("1-on_ce"), ..Outbound::default() };
        assert_eq!(
            fields(&outbound),
            [pair("session-csrf-token", "\"to-ken_\""), pair("csp-nonce", "\"1-on_ce\"")]
        );
    }

    #[test]
    fn r077_data_token_and_nonce_stay_out_of_debug_output() {
        let data = [pair("cart", "private")];
        let mut headers = HeaderMap::new();
        let (csrf, nonce) = (Some("private"), Some("private"));
        Outbound { data: &data, csrf, nonce, ..Outbound::default() }.insert(&mut headers).unwrap();
        assert!(!format!("{headers:?}").contains("private"));
    }

    proptest! {
        #[test]
        fn a_text_between_quotes_is_what_the_serialiser_writes(value in "[ -~]{0,40}|\\PC{0,40}") {
            prop_assert_eq!(string(&value), item(text(&value)));
        }

        #[test]
        fn any_text_arrives_unchanged(text in "(\\PC|[\u{0}-\u{ff}]){0,40}") {
            let data = [pair("key", &text)];
            let value = dictionary(&data).unwrap().unwrap();
            prop_assert_eq!(data_len(&data), Ok(value.len()));
            prop_assert!(value.bytes().all(|b| (0x20..0x7f).contains(&b)));
            let read: Dictionary = Parser::new(&value).parse().unwrap();
            let Some(ListEntry::Item(item)) = read.get("key") else { panic!("{value}") };
            let arrived = match &item.bare_item {
                BareItem::String(text) => text.as_str(),
                BareItem::DisplayString(text) => text,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(arrived, text);
        }
    }
}
