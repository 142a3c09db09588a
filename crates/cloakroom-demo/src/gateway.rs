//! The header protocol, from the application's side. This module is all that an application needs.

use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use sfv::{BareItem, DictSerializer, Dictionary, Item, ItemSerializer, KeyRef, ListEntry, ListSerializer};
use sfv::{Parser, RefBareItem, StringRef, TokenRef, key_ref, token_ref};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::Refusal;

/// The shortest secret that is taken, in characters.
const MIN_SECRET: usize = 16;
const GATEWAY_SECRET: HeaderName = HeaderName::from_static("gateway-secret");
const SUBJECT: &str = "session-subject";
const DATA: &str = "session-data";
const CSRF_TOKEN: &str = "session-csrf-token";
const HANDLE: &str = "session-handle";

/// What the home page shows of what the gateway said: none of these grants anything.
const SHOWN: [(&str, &str); 5] = [
    ("Session-Handle", HANDLE),
    ("Session-Subject", SUBJECT),
    ("Session-Authenticated-At", "session-authenticated-at"),
    ("Session-Level", "session-level"),
    ("Session-Data", DATA),
];

/// What the gateway and the application share: whoever sends it is the gateway. Redacted in `Debug`, zeroed on drop.
///
/// # Security
///
/// Whoever knows it and reaches the application's port can be any user. Draw it from the operating system's
/// randomness at every start.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret of at least 16 visible ASCII characters, so that it can be the value of a header.
    ///
    /// # Errors
    ///
    /// [`SecretError`] if it is shorter or has other characters.
    pub fn new(text: impl Into<String>) -> Result<Self, SecretError> {
        let text = Zeroizing::new(text.into());
        if text.len() < MIN_SECRET || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SecretError);
        }
        Ok(Self(text))
    }

    /// Whether the headers carry the secret, exactly once.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        single(headers, &GATEWAY_SECRET).is_ok_and(|value| {
            value.is_some_and(|value| bool::from(value.as_bytes().ct_eq(self.0.as_bytes())))
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(redacted)")
    }
}

/// A secret that cannot be used. The caller is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway's secret must have at least {MIN_SECRET} visible ASCII characters")]
#[non_exhaustive]
pub struct SecretError;

/// Lets only the gateway's requests through.
pub(crate) async fn refuse_strangers(
    State(secret): State<Arc<Secret>>,
    request: Request,
    next: Next,
) -> Response {
    if secret.is_in(request.headers()) {
        next.run(request).await
    } else {
        Refusal::NotThroughGateway.into_response()
    }
}

/// How the pages look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Theme {
    /// As the device likes it.
    #[default]
    Auto,
    Light,
    Dark,
}

impl Theme {
    /// Reads a theme's name. `None` for anything else.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "light" => Some(Self::Light),
            "dark" => Some(Self::Dark),
            _ => None,
        }
    }

    /// The theme's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// A sentence that is shown once, on the next page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flash {
    SignedIn,
    Confirmed,
    Added,
    Removed,
}

impl Flash {
    const ALL: [Self; 4] = [Self::SignedIn, Self::Confirmed, Self::Added, Self::Removed];

    /// What stands in the session. The sentence itself does not: what a session holds is not put on a page.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SignedIn => "signed-in",
            Self::Confirmed => "confirmed",
            Self::Added => "added",
            Self::Removed => "removed",
        }
    }

    /// The sentence.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::SignedIn => "You are signed in.",
            Self::Confirmed => "Thank you, that is you.",
            Self::Added => "Your note is in your pocket.",
            Self::Removed => "The note is gone.",
        }
    }
}

/// What the gateway says about who asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visitor {
    /// Who is signed in.
    pub(crate) subject: Option<String>,
    pub(crate) theme: Theme,
    pub(crate) flash: Option<Flash>,
    /// Name and value of what the gateway said, for the page that shows it.
    pub(crate) told: Vec<(&'static str, String)>,
    /// Whether there is a session, of somebody or of a visitor.
    pub(crate) has_session: bool,
    /// For the forms of this response; belongs nowhere else.
    pub(crate) csrf: Option<String>,
}

impl Visitor {
    /// Reads the `Session-*` fields.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnreadableSession`] for a subject that is there but cannot be read: never "nobody", for then a fault
    /// would look like a logout. Data that cannot be read is as good as none.
    fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let subject = match single(headers, &HeaderName::from_static(SUBJECT))? {
            Some(value) => {
                Some(text_item(value).filter(|text| !text.is_empty()).ok_or(Refusal::UnreadableSession)?)
            }
            None => None,
        };
        let data = dictionary(headers, DATA);
        let value = |name| data.get(name).and_then(member_text);
        let theme = value("theme").and_then(Theme::parse).unwrap_or_default();
        let flash = value("flash").and_then(|name| Flash::ALL.into_iter().find(|flash| flash.name() == name));
        let told = SHOWN.iter().filter_map(|&(label, name)| {
            let value = headers.get(name)?;
            Some((label, String::from_utf8_lossy(value.as_bytes()).chars().take(200).collect()))
        });
        let csrf = single(headers, &HeaderName::from_static(CSRF_TOKEN))?.and_then(text_item);
        let has_session = headers.contains_key(HANDLE);
        Ok(Self { subject, theme, flash, told: told.collect(), has_session, csrf })
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Self::read(&parts.headers)
    }
}

/// The only value of a field, or none.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(Refusal::UnreadableSession) } else { Ok(first) }
}

/// A String or a Display String, without parameters.
fn text_item(value: &HeaderValue) -> Option<String> {
    let item = Parser::new(value.as_bytes()).parse::<Item>().ok()?;
    if item.params.is_empty() { bare_text(&item.bare_item).map(str::to_owned) } else { None }
}

fn member_text(member: &ListEntry) -> Option<&str> {
    match member {
        ListEntry::Item(item) => bare_text(&item.bare_item),
        ListEntry::InnerList(_) => None,
    }
}

fn bare_text(item: &BareItem) -> Option<&str> {
    match item {
        BareItem::String(text) => Some(text.as_str()),
        BareItem::DisplayString(text) => Some(text),
        _ => None,
    }
}

/// A Dictionary, empty if it cannot be read. Several lines of a field are one value (RFC 9110 section 5.3).
fn dictionary(headers: &HeaderMap, name: &str) -> Dictionary {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    Parser::new(&lines.join(&b", "[..])).parse().unwrap_or_default()
}

/// A key of the session's data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    Theme,
    Flash,
}

impl Key {
    /// The key as a Dictionary writes it.
    fn member(self) -> &'static KeyRef {
        const THEME: &KeyRef = key_ref("theme");
        const FLASH: &KeyRef = key_ref("flash");
        match self {
            Self::Theme => THEME,
            Self::Flash => FLASH,
        }
    }

    /// The key as a List of Tokens writes it.
    fn token(self) -> &'static TokenRef {
        const THEME: &TokenRef = token_ref("theme");
        const FLASH: &TokenRef = token_ref("flash");
        match self {
            Self::Theme => THEME,
            Self::Flash => FLASH,
        }
    }
}

/// What the gateway shall do: part of a response, beside its body. Nothing here does anything by itself.
#[must_use = "a command does nothing until it is part of a response"]
#[derive(Debug, Default)]
pub(crate) struct Commands {
    fields: Vec<(&'static str, String)>,
    set: DictSerializer<String>,
    unset: ListSerializer<String>,
}

impl Commands {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Logs the subject in, with a password.
    pub(crate) fn log_in(mut self, subject: &str) -> Self {
        self.fields.push(("session-login", item(subject)));
        self.with_password()
    }

    /// Notes that the signed-in subject has shown the password again.
    pub(crate) fn step_up(mut self, subject: &str) -> Self {
        self.fields.push(("session-step-up", item(subject)));
        self.with_password()
    }

    /// Says that the page has a form with a token in it: a visitor without session gets a cookie for it.
    pub(crate) fn uses_token(mut self) -> Self {
        self.fields.push(("session-csrf", "?1".to_owned()));
        self
    }

    /// Ends the session of this request.
    pub(crate) fn log_out(mut self) -> Self {
        self.fields.push(("session-logout", "this".to_owned()));
        self
    }

    /// Keeps a value in the session.
    pub(crate) fn set(mut self, key: Key, value: &str) -> Self {
        let _ = self.set.bare_item(key.member(), bare(value));
        self
    }

    /// Drops a value from the session.
    pub(crate) fn unset(mut self, key: Key) -> Self {
        let _ = self.unset.bare_item(key.token());
        self
    }

    fn with_password(mut self) -> Self {
        self.fields.push(("session-methods", "pwd".to_owned()));
        self
    }
}

impl IntoResponseParts for Commands {
    type Error = Refusal;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Refusal> {
        let set = self.set.finish().map(|value| ("session-set", value));
        let unset = self.unset.finish().map(|value| ("session-unset", value));
        for (name, value) in self.fields.into_iter().chain(set).chain(unset) {
            // Serialised structured fields are visible ASCII, so this cannot fail; if it did, no page without the
            // command must leave.
            let value = HeaderValue::from_str(&value).map_err(|_| Refusal::Internal)?;
            parts.headers_mut().insert(HeaderName::from_static(name), value);
        }
        Ok(parts)
    }
}

/// Text as an Item: a String, which escapes quotes and backslashes, or a Display String where a String cannot say it.
fn item(text: &str) -> String {
    ItemSerializer::new().bare_item(bare(text)).finish()
}

fn bare(text: &str) -> RefBareItem<'_> {
    StringRef::from_str(text).map_or(RefBareItem::DisplayString(text), RefBareItem::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in lines {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_subject_is_a_string_or_a_display_string_or_nobody() {
        for (value, subject) in [
            (r#""alice""#, Some("alice")),
            (r#""a \"quoted\" \\ name""#, Some(r#"a "quoted" \ name"#)),
            (r#"%"Zo%c3%ab""#, Some("Zoë")),
        ] {
            let visitor = Visitor::read(&headers(&[(SUBJECT, value)])).unwrap();
            assert_eq!(visitor.subject.as_deref(), subject, "{value}");
        }
        assert_eq!(Visitor::read(&HeaderMap::new()).unwrap().subject, None);
    }

    #[test]
    fn a_subject_that_cannot_be_read_is_refused_and_never_taken_for_nobody() {
        for value in [
            "",
            "alice",
            "\"alice",
            "\"\"",
            "42",
            "\"alice\";admin",
            "(\"alice\")",
            "\"alice\", \"bob\"",
            "%\"%ff\"",
            "\"Zoë\"",
        ] {
            assert_eq!(
                Visitor::read(&headers(&[(SUBJECT, value)])).unwrap_err(),
                Refusal::UnreadableSession,
                "{value}"
            );
        }
        let twice = headers(&[(SUBJECT, "\"alice\""), (SUBJECT, "\"bob\"")]);
        assert_eq!(Visitor::read(&twice).unwrap_err(), Refusal::UnreadableSession);
    }

    #[test]
    fn data_is_read_from_every_line_and_ignored_where_it_has_no_meaning() {
        for (name, lines, theme, flash) in [
            ("both", &[(DATA, r#"theme="dark", flash="added""#)][..], Theme::Dark, Some(Flash::Added)),
            ("two lines", &[(DATA, r#"cart="x""#), (DATA, r#"theme="light""#)], Theme::Light, None),
            ("a display string", &[(DATA, r#"theme=%"dark""#)], Theme::Dark, None),
            ("unknown values", &[(DATA, r#"theme="<script>", flash="<b>""#)], Theme::Auto, None),
            ("other types", &[(DATA, "theme=1, flash=(\"added\")")], Theme::Auto, None),
            ("a token", &[(DATA, "theme=dark")], Theme::Auto, None),
            ("no dictionary", &[(DATA, "theme=\"dark\", ,,,")], Theme::Auto, None),
            ("not ASCII", &[(DATA, "theme=\"tmavý\"")], Theme::Auto, None),
            ("empty", &[(DATA, "")], Theme::Auto, None),
            ("none", &[], Theme::Auto, None),
        ] {
            let visitor = Visitor::read(&headers(lines)).unwrap();
            assert_eq!((visitor.theme, visitor.flash), (theme, flash), "{name}");
        }
    }

    #[test]
    fn text_is_written_as_a_string_or_as_a_display_string() {
        for (text, written) in [
            ("alice", r#""alice""#),
            (r#"a"b\c"#, r#""a\"b\\c""#),
            ("Zoë", r#"%"Zo%c3%ab""#),
            ("100% \u{e9}", r#"%"100%25 %c3%a9""#),
            ("two\r\nlines", r#"%"two%0d%0alines""#),
        ] {
            assert_eq!(item(text), written);
            assert_eq!(text_item(&HeaderValue::from_str(written).unwrap()).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_secret_is_long_visible_and_not_shown() {
        for (text, taken) in [
            ("0123456789abcdef", true),
            ("0123456789abcde", false),
            ("", false),
            ("0123456789abcdef ", false),
            ("0123456789abcdef\n", false),
            ("0123456789abcdefé", false),
        ] {
            assert_eq!(Secret::new(text).is_ok(), taken, "{text:?}");
        }
        assert_eq!(format!("{:?}", Secret::new("0123456789abcdef").unwrap()), "Secret(redacted)");
    }
}
