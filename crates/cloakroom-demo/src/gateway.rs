//! The header protocol, from the application's side. This module is all that an application needs.

use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use sfv::{BareItem, DictSerializer, Dictionary, Item, ItemSerializer, KeyRef, ListEntry, ListSerializer};
use sfv::{Parser, RefBareItem, StringRef, TokenRef};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::Refusal;

/// The shortest secret that is taken, in characters.
const MIN_SECRET: usize = 16;
const GATEWAY_SECRET: HeaderName = HeaderName::from_static("gateway-secret");
const SUBJECT: &str = "session-subject";
const DATA: &str = "session-data";

/// What the home page shows of what the gateway said: none of these grants anything.
const SHOWN: [(&str, &str); 5] = [
    ("Session-Handle", "session-handle"),
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
        single(headers, &GATEWAY_SECRET)
            .is_ok_and(|value| value.is_some_and(|value| bool::from(value.as_bytes().ct_eq(self.0.as_bytes()))))
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
pub(crate) async fn refuse_strangers(State(secret): State<Arc<Secret>>, request: Request, next: Next) -> Response {
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
    fn name(self) -> &'static str {
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
            Some(value) => Some(text_item(value).filter(|text| !text.is_empty()).ok_or(Refusal::UnreadableSession)?),
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
        Ok(Self { subject, theme, flash, told: told.collect() })
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

/// What the gateway shall do once the response has left: part of a response.
#[must_use = "a command does nothing until it is part of a response"]
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands {
    fields: Vec<(&'static str, String)>,
    set: DictSerializer<'static>,
    unset: ListSerializer<'static>,
}
