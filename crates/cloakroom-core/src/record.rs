//! The record: what a store holds of a session, and its encoding.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::clock::Timestamp;
use crate::codec::{Counted, Reader, Writer};
use crate::seal::{PepperId, SealedData, ShortDigest, Slot};
use crate::store::Reason;
use crate::token::Handle;

/// The format that this version writes. Newer ones are refused, never taken for absent.
pub const RECORD_FORMAT: u8 = 1;
/// Digests of retired secrets that a record keeps; older ones are forgotten and count as junk.
pub const RETIRED_KEPT: usize = 16;
/// Bytes in the longest subject.
pub const SUBJECT_MAX: usize = 255;
/// Bytes in the longest encoded record: 1 MiB. A larger one is refused by every store.
pub const RECORD_MAX: usize = 1 << 20;
const METHODS_MAX: usize = 8;
const METHOD_LEN_MAX: usize = 16;
const STRANGERS_MAX: usize = 4;

/// Who a session belongs to: an opaque string of 1 to 255 bytes, chosen by the application.
///
/// Use a stable internal identifier rather than a name or an address: it is stored in the clear.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(Arc<str>);

impl Subject {
    /// Makes a subject.
    ///
    /// # Errors
    ///
    /// [`ValueError`] if the text is empty or longer than 255 bytes.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, ValueError> {
        let text = text.into();
        if text.is_empty() || text.len() > SUBJECT_MAX {
            return Err(ValueError("a subject has 1 to 255 bytes"));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Subject {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        Self::new(text)
    }
}

impl TryFrom<&str> for Subject {
    type Error = ValueError;

    fn try_from(text: &str) -> Result<Self, ValueError> {
        Self::new(text)
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.as_str().to_owned()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({:?})", &*self.0)
    }
}

/// A value given by the application is not acceptable; the text says what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(crate) &'static str);

impl ValueError {
    /// Says what would be acceptable.
    pub const fn new(expected: &'static str) -> Self {
        Self(expected)
    }
}

/// An authentication assurance level, 1 to 3 (NIST SP 800-63B-4 section 2). The default is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Level(u8);

impl Level {
    /// One factor.
    pub const ONE: Self = Self(1);
    /// Two factors.
    pub const TWO: Self = Self(2);
    /// Two factors, one of them a phishing-resistant hardware key.
    pub const THREE: Self = Self(3);

    /// 1, 2 or 3.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<u8> for Level {
    type Error = ValueError;

    fn try_from(level: u8) -> Result<Self, ValueError> {
        matches!(level, 1..=3).then_some(Self(level)).ok_or(ValueError("a level is 1, 2 or 3"))
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        level.0
    }
}

/// How and when a subject authenticated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    pub(crate) at: Timestamp,
    pub(crate) level: Level,
    pub(crate) methods: Vec<String>,
}

impl Authentication {
    /// When it happened.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// The assurance level that was reached.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The methods used, such as `pwd` or `otp` (RFC 8176 has a list of names).
    pub fn methods(&self) -> &[String] {
        &self.methods
    }
}

/// What an application states of an authentication that has just succeeded.
///
/// The default is level 1 without methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    level: Level,
    methods: Vec<String>,
}

impl Proof {
    /// States the level that was reached.
    #[must_use = "this returns the changed proof"]
    pub const fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// States the methods used: at most 8 names of `a` to `z`, digits, `-` and `_`, each up to 16 characters.
    ///
    /// # Errors
    ///
    /// [`ValueError`] for more, longer or other names.
    pub fn methods<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Result<Self, ValueError> {
        self.methods = names.into_iter().map(str::to_owned).collect();
        check_methods(&self.methods)?;
        Ok(self)
    }

    pub(crate) fn at(self, at: Timestamp) -> Authentication {
        Authentication { at, level: self.level, methods: self.methods }
    }
}

fn check_methods(methods: &[String]) -> Result<(), ValueError> {
    let good = |name: &String| {
        (1..=METHOD_LEN_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    if methods.len() > METHODS_MAX || !methods.iter().all(good) {
        return Err(ValueError(
            "at most 8 methods, each of 1 to 16 characters out of a to z, 0 to 9, - and _",
        ));
    }
    Ok(())
}

/// Counts the writes of a record; the condition of a compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(u64);

impl Version {
    /// The version of a record that has just been inserted.
    pub const FIRST: Self = Self(1);

    /// Makes a version from a number, as a store reads it back.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The version that a successful `replace` of this one leaves.
    #[must_use = "this returns the next version"]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// The secrets of a session, as a store may see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secrets {
    /// The newest secret that is not merely a pending successor.
    pub(crate) current: Slot,
    /// When `current` was issued, or confirmed as a successor.
    pub(crate) issued: Timestamp,
    /// When `current` was first seen in use; absent after a rotation on demand until then.
    pub(crate) confirmed: Option<Timestamp>,
    /// The successor of `current`, handed out but not seen yet.
    pub(crate) next: Option<Box<Next>>,
    /// The predecessor of `current`, good until the grace after `confirmed` has passed.
    pub(crate) previous: Option<Box<Previous>>,
    /// Digests of retired secrets, oldest first.
    pub(crate) retired: Vec<ShortDigest>,
    /// How many of `retired`, counted from the end, were retired by a rotation on demand whose successor
    /// has not been in use for a whole grace: stale rather than a sign of theft.
    pub(crate) fresh: u8,
    /// Marks of clients that were refused a successor under `current`; at most four.
    pub(crate) strangers: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Next {
    pub(crate) slot: Slot,
    pub(crate) salt: [u8; 16],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Previous {
    pub(crate) slot: Slot,
    pub(crate) salt: [u8; 16],
}

impl Secrets {
    pub(crate) const fn first(current: Slot, now: Timestamp) -> Self {
        Self {
            current,
            issued: now,
            confirmed: Some(now),
            next: None,
            previous: None,
            retired: Vec::new(),
            fresh: 0,
            strangers: Vec::new(),
        }
    }

    /// Adds a digest to the retired ones, forgetting the oldest beyond [`RETIRED_KEPT`].
    pub(crate) fn retire(&mut self, digest: ShortDigest) {
        self.retired.push(digest);
        let surplus = self.retired.len().saturating_sub(RETIRED_KEPT);
        self.retired.drain(..surplus);
    }

    /// Notes a stranger; whether that was news.
    pub(crate) fn note_stranger(&mut self, mark: u32) -> bool {
        let news = self.strangers.len() < STRANGERS_MAX && !self.strangers.contains(&mark);
        if news {
            self.strangers.push(mark);
        }
        news
    }
}

/// What a store holds of a session. Holds no usable token and no readable data.
///
/// In the clear, because a user's sessions page shows the *other* sessions: handle, subject, times,
/// level, client and network prefix.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub(crate) handle: Handle,
    pub(crate) version: Version,
    pub(crate) seen: Timestamp,
    /// In a box, because a record is handed on many times in a request.
    pub(crate) body: Box<Body>,
}

/// All of a record but its handle, version and last activity, which stores keep beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) terms: Terms,
    pub(crate) client: Client,
    pub(crate) secrets: Secrets,
    pub(crate) data: SealedData,
}

/// The bound fields: authenticated under the client's secret, so that every resume proves them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) subject: Option<Subject>,
    pub(crate) created: Timestamp,
    pub(crate) authentication: Option<Authentication>,
    /// The idle limit in milliseconds.
    pub(crate) idle_ms: u64,
    /// When the session ends whatever the activity.
    pub(crate) absolute: Timestamp,
}

impl Record {
    /// The session's public name.
    pub const fn handle(&self) -> Handle {
        self.handle
    }

    /// The version, as of when it was read.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Who the session belongs to; `None` while anonymous.
    pub const fn subject(&self) -> Option<&Subject> {
        self.body.terms.subject.as_ref()
    }

    /// When the session was created.
    pub const fn created(&self) -> Timestamp {
        self.body.terms.created
    }

    /// The last noted user activity; exact to the policy's touch interval. Before the creation for an anonymous session
    /// whose token has not come back yet, and which ends early if it does not.
    pub const fn seen(&self) -> Timestamp {
        self.seen
    }

    /// When and how the subject authenticated; `None` while anonymous.
    pub const fn authentication(&self) -> Option<&Authentication> {
        self.body.terms.authentication.as_ref()
    }

    /// The client that first used the current secret.
    pub const fn client(&self) -> &Client {
        &self.body.client
    }

    /// The public name of the pepper that the current secret is kept under.
    pub const fn pepper(&self) -> PepperId {
        self.body.secrets.current.pepper
    }

    /// Whether the session has ever been used after the response that made it.
    pub fn presented(&self) -> bool {
        self.seen > self.body.terms.created
    }

    /// The idle limit.
    pub const fn idle_limit(&self) -> Duration {
        Duration::from_millis(self.body.terms.idle_ms)
    }

    /// When the session ends whatever the activity.
    pub const fn absolute_limit(&self) -> Timestamp {
        self.body.terms.absolute
    }

    /// When the session ends if nothing more happens, and why.
    pub fn deadline(&self) -> (Timestamp, Reason) {
        deadline(self.seen, self.body.terms.idle_ms, self.body.terms.absolute)
    }

    /// This new record with so long until its token must come back, if that is less than its idle limit. The last
    /// activity is put before the creation: every store then ends the session in time, and the first request that
    /// presents the token gives it the whole of its idle limit.
    #[must_use = "this returns the record to store"]
    pub(crate) fn expected_back(mut self, within: Duration) -> Self {
        self.seen = self.created().minus(self.idle_limit().saturating_sub(within));
        self
    }

    /// This record as a store writes it over the version `expected`: the next version, and the later of
    /// the two times of activity.
    #[must_use = "this returns the record to store"]
    pub fn replacing(mut self, expected: Version, seen: Timestamp) -> Self {
        self.version = expected.next();
        self.seen = self.seen.max(seen);
        self
    }

    /// The bytes to store beside handle, version and [`Record::seen`].
    ///
    /// # Errors
    ///
    /// [`RecordError::TooLarge`] above [`RECORD_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        self.encode_after(&[])
    }

    /// As [`Record::encode`], with other bytes before it: for stores that keep it together with what belongs beside it. The vector
    /// has no room to spare.
    ///
    /// # Errors
    ///
    /// As [`Record::encode`].
    pub fn encode_after(&self, head: &[u8]) -> Result<Vec<u8>, RecordError> {
        let mut counted = Writer(Counted(1));
        counted.body(&self.body);
        let Writer(Counted(len)) = counted;
        if len > RECORD_MAX {
            return Err(RecordError::TooLarge);
        }
        let mut bytes = Vec::with_capacity(head.len() + len);
        bytes.extend_from_slice(head);
        bytes.push(RECORD_FORMAT);
        let mut writer = Writer(bytes);
        writer.body(&self.body);
        Ok(writer.0)
    }

    /// Reads a record back.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the bytes are of a newer format or do not decode. A store answers
    /// [`StoreError::corrupt`](crate::store::StoreError::corrupt) then, never "absent".
    pub fn decode(
        handle: Handle,
        version: Version,
        seen: Timestamp,
        bytes: &[u8],
    ) -> Result<Self, RecordError> {
        let (&format, rest) = bytes.split_first().ok_or(RecordError::Broken)?;
        if format != RECORD_FORMAT {
            return Err(RecordError::Format(format));
        }
        let mut reader = Reader(rest);
        let body = Box::new(reader.body().ok_or(RecordError::Broken)?);
        let Reader(rest) = reader;
        let methods = body.terms.authentication.as_ref().map_or(&[][..], |a| &a.methods);
        let sane = rest.is_empty()
            && check_methods(methods).is_ok()
            && body.secrets.retired.len() <= RETIRED_KEPT
            && usize::from(body.secrets.fresh) <= body.secrets.retired.len()
            && body.secrets.strangers.len() <= STRANGERS_MAX
            && body.terms.subject.is_some() == body.terms.authentication.is_some();
        if !sane {
            return Err(RecordError::Broken);
        }
        Ok(Self { handle, version, seen, body })
    }
}

/// When the session of a stored record ends if nothing more happens, and why: as [`Record::deadline`], without reading all of the
/// record. For a sweep.
///
/// # Errors
///
/// [`RecordError`] if the bytes are of a newer format, or do not begin as a record does.
pub fn stored_deadline(seen: Timestamp, bytes: &[u8]) -> Result<(Timestamp, Reason), RecordError> {
    let (&format, rest) = bytes.split_first().ok_or(RecordError::Broken)?;
    if format != RECORD_FORMAT {
        return Err(RecordError::Format(format));
    }
    let terms = Reader(rest).terms().ok_or(RecordError::Broken)?;
    Ok(deadline(seen, terms.idle_ms, terms.absolute))
}

/// When a session ends if nothing more happens, and why. For stores that keep the three figures apart.
pub fn deadline(seen: Timestamp, idle_ms: u64, absolute: Timestamp) -> (Timestamp, Reason) {
    let idle = seen.plus(Duration::from_millis(idle_ms));
    if idle < absolute { (idle, Reason::Idle) } else { (absolute, Reason::Absolute) }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("handle", &self.handle)
            .field("version", &self.version.0)
            .field("subject", &self.body.terms.subject)
            .field("created", &self.body.terms.created)
            .field("seen", &self.seen)
            .field("absolute", &self.body.terms.absolute)
            .finish_non_exhaustive()
    }
}

/// A record cannot be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The record is of a format that this version does not know.
    #[error("the record has format {0}; this version reads format {RECORD_FORMAT}")]
    Format(u8),
    /// The bytes are not a record.
    #[error("the bytes are not a session record")]
    Broken,
    /// The record is larger than any store accepts.
    #[error("the record is larger than 1 MiB")]
    TooLarge,
}
