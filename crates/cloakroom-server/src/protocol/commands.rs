//! What the upstream answers: the commands in a response's head.
//!
//! All or nothing: every field is read and judged before any is obeyed, and one that cannot be obeyed is a 502 with an
//! event. There is one exception. A well-formed `Session-Logout` is carried out even if its neighbours are not usable,
//! because not logging out is the worse mistake; [`Rejection::logout`] says so. On a safe method or a route without session a
//! logout is not carried out: any site can make a browser send a GET. On the former it waits for the user's own word
//! ([`Cause::Unconfirmed`]), on the latter it is refused, and so it is where another site's form has sent the request
//! ([`Context::returning`]).

use std::collections::BTreeMap;
use std::fmt;

use cloakroom::Level;
use cloakroom::core::data::is_key_name;
use cloakroom::core::record::{Proof, Subject};
use http::Method;
use http::header::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, FieldType, Item, List, ListEntry, Parser};

use super::{names, outbound};
use crate::headers::folded;
use crate::routes::SessionUse;

/// How many bytes of data a session may have by default, as sent in `Session-Data`.
pub const DATA_MAX: usize = 4096;

/// What the request was, as far as commands depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Whether its route has a session.
    pub session: SessionUse,
    /// Whether its route is one where logins may complete with a safe method.
    pub login_callback: bool,
    /// Whether it is a user whom an identity provider's form sends back, in a browser that has begun a login here.
    pub returning: bool,
    /// Whether it came with a live session of ours, anonymous or not.
    pub live_session: bool,
    /// Who was logged in when the request was sent upstream.
    pub subject: Option<&'a str>,
    /// The most bytes of data, as sent. Default [`DATA_MAX`].
    pub data_max: usize,
}

/// Which sessions to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logout {
    /// This one.
    This,
    /// All others of the subject.
    Others,
    /// All of the subject, and this one.
    Everywhere,
}

/// Whether an authentication begins a session or renews one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A login: a new session.
    Login,
    /// The subject of the session has authenticated again.
    StepUp,
}

/// An authentication that the upstream vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// Login or step-up.
    pub kind: Kind,
    /// Who.
    pub subject: Subject,
    /// How well. Default 1.
    pub level: Level,
    /// By which methods; [`Proof::methods`] accepts them.
    pub methods: Vec<String>,
}

/// Commands that can all be obeyed, in the order of the fields here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// End sessions. While nobody is logged in, `everywhere` is `this`, and `others` is nothing.
    pub logout: Option<Logout>,
    /// Log in or step up.
    pub authenticated: Option<Authenticated>,
    /// Replace the secret. Nothing to do after a login or step-up, which replace it anyway.
    pub rotate: bool,
    /// Remove these keys.
    pub unset: Vec<String>,
    /// Store these texts.
    pub set: BTreeMap<String, String>,
    /// The response has made use of its form token. Changes no session, so it may be said on any method.
    pub csrf: bool,
}

impl Commands {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that the data will not be too large. To be called before any command is obeyed, with the data that `unset` and
    /// `set` will find: after a logout of this session there is none, after a login only what survives it.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] like those of [`parse`].
    pub fn check_data(&self, before: &[(String, String)], data_max: usize) -> Result<(), Rejection> {
        if self.set.is_empty() {
            return Ok(());
        }
        let mut data: BTreeMap<&str, &str> = before.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        data.retain(|key, _| !self.unset.iter().any(|unset| unset == key));
        data.extend(self.set.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let data: Vec<_> = data.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        match outbound::data_len(&data) {
            Ok(len) if len <= data_max => Ok(()),
            _ => Err(Rejection {
                logout: self.logout,
                ..refused(names::SET, "the session's data would be too large")
            }),
        }
    }
}

/// Why commands are not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// They are not what the protocol defines.
    Malformed,
    /// They are, but may not be given here.
    Refused,
    /// A logout on a safe method, which the user has to confirm. Nothing else of the response counts.
    Unconfirmed(Logout),
}

/// Commands that are not obeyed: 502 with an event, unless they are only unconfirmed. Names no value, so it can be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Malformed, refused or unconfirmed.
    pub cause: Cause,
    /// The field.
    pub field: String,
    /// What is wrong with it.
    pub reason: &'static str,
    /// What is to be carried out all the same.
    pub logout: Option<Logout>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = match self.cause {
            Cause::Malformed => "malformed",
            Cause::Refused => "refused",
            Cause::Unconfirmed(_) => "unconfirmed",
        };
        write!(f, "{} {cause}: {}", self.field, self.reason)
    }
}

impl std::error::Error for Rejection {}

/// What a login is made of.
const LOGIN: [&str; 3] = [names::LOGIN, names::LEVEL, names::METHODS];

fn malformed(field: &str, reason: &'static str) -> Rejection {
    Rejection { cause: Cause::Malformed, field: field.to_owned(), reason, logout: None }
}

fn refused(field: &str, reason: &'static str) -> Rejection {
    Rejection { cause: Cause::Refused, ..malformed(field, reason) }
}

/// Reads and judges the commands of a response's head. Call it before
/// [`strip_response`](crate::headers::strip_response), for the final head only.
///
/// # Errors
///
/// [`Rejection`] of the first command that cannot be obeyed.
pub fn parse(head: &HeaderMap, context: &Context<'_>) -> Result<Commands, Rejection> {
    let ours: Vec<&HeaderName> = head.keys().filter(|name| folded(name).starts_with("session-")).collect();
    let Some(first) = ours.first() else { return Ok(Commands::default()) };
    if context.session == SessionUse::None {
        return Err(refused(first.as_str(), "the route has no session"));
    }
    // Another site has sent it: whatever else it would bring about, that site would.
    let others = ours.iter().find(|name| !LOGIN.contains(&name.as_str()));
    if let Some(other) = others.filter(|_| context.returning) {
        return Err(refused(
            other.as_str(),
            "a request that an identity provider sends may log in and nothing else",
        ));
    }
    let safe = matches!(*context.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let logout = read_logout(head)?;
    if let Some(logout) = logout.filter(|_| safe) {
        let rejection = refused(names::LOGOUT, "a safe method ends nothing");
        return Err(Rejection { cause: Cause::Unconfirmed(logout), ..rejection });
    }
    read_rest(head, &ours, logout)
        .and_then(|commands| judge(commands, context, safe))
        .map_err(|rejection| Rejection { logout, ..rejection })
}

fn read_logout(head: &HeaderMap) -> Result<Option<Logout>, Rejection> {
    let Some(value) = read_item(head, names::LOGOUT)? else { return Ok(None) };
    match value.as_token().map(|token| token.as_str()) {
        Some("this") => Ok(Some(Logout::This)),
        Some("others") => Ok(Some(Logout::Others)),
        Some("everywhere") => Ok(Some(Logout::Everywhere)),
        _ => Err(malformed(names::LOGOUT, "expected this, others or everywhere")),
    }
}

fn read_rest(head: &HeaderMap, ours: &[&HeaderName], logout: Option<Logout>) -> Result<Commands, Rejection> {
    const KNOWN: [&str; 9] = [
        names::LOGOUT,
        names::LOGIN,
        names::STEP_UP,
        names::LEVEL,
        names::METHODS,
        names::ROTATE,
        names::UNSET,
        names::SET,
        names::CSRF,
    ];
    // A typo must not pass for a response without command.
    if let Some(unknown) = ours.iter().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(malformed(unknown.as_str(), "no such command"));
    }
    let rotate = read_true(head, names::ROTATE)?;
    let csrf = read_true(head, names::CSRF)?;
    let authenticated = read_authentication(head)?;
    let mut unset = Vec::new();
    for key in read_tokens(head, names::UNSET)? {
        if !is_key_name(&key) {
            return Err(malformed(names::UNSET, "expected names of data keys"));
        }
        unset.push(key);
    }
    let mut set = BTreeMap::new();
    for (key, entry) in read::<Dictionary>(head, names::SET)?.into_iter().flatten() {
        let value = bare(names::SET, entry)?;
        if !is_key_name(key.as_str()) {
            return Err(malformed(names::SET, "expected names of data keys"));
        }
        // Of two members with one name the later counts (RFC 9651 section 3.2).
        set.insert(key.as_str().to_owned(), as_text(names::SET, value)?);
    }
    Ok(Commands { logout, authenticated, rotate, unset, set, csrf })
}

/// A field that says `?1` or is not there.
fn read_true(head: &HeaderMap, name: &str) -> Result<bool, Rejection> {
    match read_item(head, name)? {
        None => Ok(false),
        Some(BareItem::Boolean(true)) => Ok(true),
        Some(_) => Err(malformed(name, "expected ?1")),
    }
}

fn read_authentication(head: &HeaderMap) -> Result<Option<Authenticated>, Rejection> {
    let login = read_item(head, names::LOGIN)?;
    let step_up = read_item(head, names::STEP_UP)?;
    let level = match read_item(head, names::LEVEL)? {
        None => None,
        Some(value) => {
            let level = value.as_integer().and_then(|level| u8::try_from(level).ok());
            let level = level.and_then(|level| Level::try_from(level).ok());
            Some(level.ok_or_else(|| malformed(names::LEVEL, "expected 1, 2 or 3"))?)
        }
    };
    let methods = read_tokens(head, names::METHODS)?;
    if Proof::default().methods(methods.iter().map(String::as_str)).is_err() {
        return Err(malformed(
            names::METHODS,
            "expected at most 8 names of a to z, digits, - and _, up to 16 long",
        ));
    }
    let (kind, field, value) = match (login, step_up) {
        (Some(_), Some(_)) => return Err(malformed(names::STEP_UP, "a login is in the same response")),
        (Some(value), None) => (Kind::Login, names::LOGIN, value),
        (None, Some(value)) => (Kind::StepUp, names::STEP_UP, value),
        (None, None) => {
            const ALONE: &str = "neither login nor step-up is in the same response";
            return match (level, head.contains_key(names::METHODS)) {
                (Some(_), _) => Err(malformed(names::LEVEL, ALONE)),
                (None, true) => Err(malformed(names::METHODS, ALONE)),
                (None, false) => Ok(None),
            };
        }
    };
    let subject =
        Subject::new(as_text(field, value)?).map_err(|_| malformed(field, "expected 1 to 255 bytes"))?;
    Ok(Some(Authenticated { kind, subject, level: level.unwrap_or_default(), methods }))
}

fn judge(commands: Commands, context: &Context<'_>, safe: bool) -> Result<Commands, Rejection> {
    let acting = match &commands.authenticated {
        Some(Authenticated { kind: Kind::Login, .. }) => Some(names::LOGIN),
        Some(Authenticated { kind: Kind::StepUp, .. }) => Some(names::STEP_UP),
        None => commands.rotate.then_some(names::ROTATE),
    };
    if let Some(field) = acting {
        if safe && !context.login_callback {
            return Err(refused(field, "a safe method may do so only where the route has login_callback"));
        }
        if context.login_callback && !context.live_session && !context.returning {
            return Err(refused(
                field,
                "a login_callback completes only in the session that began it, or by a form of callback_origins",
            ));
        }
    }
    // What is left of the session once the logout has been obeyed.
    let ended = matches!(commands.logout, Some(Logout::This | Logout::Everywhere));
    match &commands.authenticated {
        Some(Authenticated { kind: Kind::StepUp, subject, .. })
            if ended || context.subject != Some(subject.as_str()) =>
        {
            return Err(refused(names::STEP_UP, "it must name the session's own subject"));
        }
        None if commands.rotate && (ended || !context.live_session) => {
            return Err(refused(names::ROTATE, "there is no session"));
        }
        _ => {}
    }
    commands.check_data(&[], context.data_max)?;
    Ok(commands)
}

/// A field's value: `None` if there is no such field.
///
/// Several fields of one name are one list or dictionary, and each must be one by itself, which RFC 9651 section 4.2
/// allows a parser to demand: else a comma would appear in a String that was cut in two. An item has one field.
fn read<T: FieldType + Merge>(head: &HeaderMap, name: &str) -> Result<Option<T>, Rejection> {
    let mut whole: Option<T> = None;
    for line in head.get_all(name) {
        let line = line.to_str().map_err(|_| malformed(name, "not ASCII"))?;
        let part: T =
            Parser::new(line).parse().map_err(|_| malformed(name, "not a structured field of its kind"))?;
        whole = Some(match whole {
            None => part,
            Some(whole) => whole.merge(part).ok_or_else(|| malformed(name, "more than one"))?,
        });
    }
    Ok(whole)
}

trait Merge: Sized {
    fn merge(self, other: Self) -> Option<Self>;
}

impl Merge for Item {
    fn merge(self, _: Self) -> Option<Self> {
        None
    }
}

impl Merge for List {
    fn merge(mut self, other: Self) -> Option<Self> {
        self.extend(other);
        Some(self)
    }
}

impl Merge for Dictionary {
    fn merge(mut self, other: Self) -> Option<Self> {
        self.extend(other);
        Some(self)
    }
}

fn read_item(head: &HeaderMap, name: &str) -> Result<Option<BareItem>, Rejection> {
    read::<Item>(head, name)?.map(|item| bare(name, ListEntry::Item(item))).transpose()
}

fn read_tokens(head: &HeaderMap, name: &str) -> Result<Vec<String>, Rejection> {
    let mut tokens = Vec::new();
    for entry in read::<List>(head, name)?.into_iter().flatten() {
        match bare(name, entry)? {
            BareItem::Token(token) => tokens.push(token.as_str().to_owned()),
            _ => return Err(malformed(name, "expected tokens")),
        }
    }
    Ok(tokens)
}

/// The value of an item without parameters. No command takes any: one that is ignored could be meant to matter.
fn bare(name: &str, entry: ListEntry) -> Result<BareItem, Rejection> {
    match entry {
        ListEntry::Item(item) if item.params.is_empty() => Ok(item.bare_item),
        ListEntry::Item(_) => Err(malformed(name, "no parameters are allowed")),
        ListEntry::InnerList(_) => Err(malformed(name, "no inner lists are allowed")),
    }
}

fn as_text(name: &str, value: BareItem) -> Result<String, Rejection> {
    match value {
        BareItem::String(text) => Ok(text.as_str().to_owned()),
        BareItem::DisplayString(text) => Ok(text),
        _ => Err(malformed(name, "expected a String or a Display String")),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// One case of `conformance/gateway-protocol.txt`.
    struct Case<'a> {
        name: &'a str,
        request: &'a str,
        head: HeaderMap,
        expected: Vec<String>,
    }

    /// `\xHH` is a byte, `{text*n}` a text n times.
    fn expand(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some((body, behind)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                let (unit, times) = body.rsplit_once('*').unwrap();
                out.extend(unit.repeat(times.parse().unwrap()).into_bytes());
                rest = behind;
            } else if let Some(behind) = rest.strip_prefix("\\x") {
                out.push(u8::from_str_radix(&behind[..2], 16).unwrap());
                rest = &behind[2..];
            } else {
                out.extend(first.to_string().into_bytes());
                rest = &rest[first.len_utf8()..];
            }
        }
        out
    }

    fn cases(file: &str) -> Vec<Case<'_>> {
        let mut cases = Vec::new();
        for block in file.split("\n\n").filter(|block| block.starts_with("* ")) {
            let mut lines = block.lines();
            let name = lines.next().unwrap().trim_start_matches("* ");
            let request = lines.next().unwrap();
            let mut head = HeaderMap::new();
            let mut expected = Vec::new();
            for line in lines {
                if !expected.is_empty() || line.starts_with("-> ") {
                    expected.push(String::from_utf8(expand(line)).unwrap());
                } else {
                    let (field, value) = line.split_once(':').unwrap();
                    let value = HeaderValue::from_bytes(expand(value.trim_start()).as_slice()).unwrap();
                    head.append(HeaderName::from_bytes(field.as_bytes()).unwrap(), value);
                }
            }
            assert!(!expected.is_empty(), "{name}");
            cases.push(Case { name, request, head, expected });
        }
        cases
    }

    fn shown(outcome: &Result<Commands, Rejection>) -> Vec<String> {
        let logout = |logout| match logout {
            Logout::This => "logout this",
            Logout::Others => "logout others",
            Logout::Everywhere => "logout everywhere",
        };
        let mut lines = Vec::new();
        match outcome {
            Err(rejection) => {
                let cause = match rejection.cause {
                    Cause::Malformed => "-> malformed",
                    Cause::Refused => "-> refused",
                    Cause::Unconfirmed(_) => "-> unconfirmed",
                };
                lines.push(cause.to_owned());
                let asked = match rejection.cause {
                    Cause::Unconfirmed(asked) => Some(asked),
                    _ => rejection.logout,
                };
                lines.extend(asked.map(|which| logout(which).to_owned()));
            }
            Ok(commands) => {
                lines.push("-> obey".to_owned());
                lines.extend(commands.logout.map(|which| logout(which).to_owned()));
                lines.extend(commands.authenticated.iter().map(|proof| {
                    let kind = if proof.kind == Kind::Login { "login" } else { "step-up" };
                    let methods =
                        if proof.methods.is_empty() { "-".to_owned() } else { proof.methods.join(",") };
                    format!("{kind} {} {} {methods}", proof.subject.as_str(), proof.level.get())
                }));
                lines.extend(commands.rotate.then(|| "rotate".to_owned()));
                lines.extend(commands.unset.iter().map(|key| format!("unset {key}")));
                lines.extend(commands.set.iter().map(|(key, text)| format!("set {key} {text}")));
                lines.extend(commands.csrf.then(|| "csrf".to_owned()));
            }
        }
        lines
    }

    #[test]
    fn r064_every_case_of_the_conformance_file_comes_out_as_written() {
        let cases = cases(include_str!("../../../../conformance/gateway-protocol.txt"));
        assert!(cases.len() > 150, "{} cases", cases.len());
        let mut wrong = Vec::new();
        for case in &cases {
            let mut words = case.request.split(' ');
            let method = Method::from_bytes(words.next().unwrap().as_bytes()).unwrap();
            let mut context = Context {
                method: &method,
                session: SessionUse::Full,
                login_callback: false,
                returning: false,
                live_session: false,
                subject: None,
                data_max: DATA_MAX,
            };
            for word in words {
                match word {
                    "callback" => context.login_callback = true,
                    "returning" => context.returning = true,
                    "none" => context.session = SessionUse::None,
                    "visitor" => context.live_session = true,
                    "alice" => (context.live_session, context.subject) = (true, Some("alice")),
                    other => panic!("{}: {other}", case.name),
                }
            }
            let outcome = parse(&case.head, &context);
            if shown(&outcome) != case.expected {
                wrong.push(format!("{}: {outcome:?}, not {:?}", case.name, case.expected));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn names_in_the_conformance_file_are_unique() {
        let cases = cases(include_str!("../../../../conformance/gateway-protocol.txt"));
        let names: std::collections::BTreeSet<_> = cases.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases.len());
    }

    #[test]
    fn a_rejection_shows_no_value() {
        let mut head = HeaderMap::new();
        head.insert("session-set", HeaderValue::from_static("cart=secret-text"));
        let context = Context {
            method: &Method::POST,
            session: SessionUse::Full,
            login_callback: false,
            returning: false,
            live_session: true,
            subject: None,
            data_max: DATA_MAX,
        };
        let rejection = parse(&head, &context).unwrap_err();
        assert_eq!(rejection.to_string(), "session-set malformed: expected a String or a Display String");
        assert!(!format!("{rejection:?}").contains("secret-text"));
    }

    #[test]
    fn data_is_limited_together_with_what_was_there_before() {
        let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        let before = [pair("a", "12345"), pair("b", "12345")];
        let commands = |unset: &[&str], set: &[(&str, &str)]| Commands {
            logout: Some(Logout::Others),
            unset: unset.iter().map(|&key| key.to_owned()).collect(),
            set: set.iter().map(|&(key, text)| pair(key, text)).collect(),
            ..Commands::default()
        };
        // a="12345", b="12345", c="12345" has 31 bytes.
        for (unset, set, max, good) in [
            (&[][..], &[("c", "12345")][..], 31, true),
            (&[], &[("c", "12345")], 30, false),
            (&["a"], &[("c", "12345")], 20, true),
            (&["a"], &[("c", "12345")], 19, false),
            (&[], &[("b", "1")], 16, true),
            (&[], &[("b", "1")], 15, false),
            (&["a"], &[("a", "12345")], 20, true),
            (&["a"], &[("a", "12345")], 19, false),
            // What only removes is never too large.
            (&["a"], &[], 0, true),
        ] {
            let outcome = commands(unset, set).check_data(&before, max);
            assert_eq!(outcome.is_ok(), good, "{unset:?} {set:?} {max}");
            if let Err(rejection) = outcome {
                assert_eq!((rejection.cause, rejection.logout), (Cause::Refused, Some(Logout::Others)));
            }
        }
    }
}
