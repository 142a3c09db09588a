//! The engine: what a request's token is worth, and what is to be written and sent because of it.
//!
//! A request meets it twice. Before the handler: [`present`](Engine::present), then a look-up of each handle, then
//! [`resume`](Engine::resume). After it: [`conclude`](Engine::conclude), then the write that the plan asks for; after a
//! conflict [`rebase`](Engine::rebase), and conclude again. In between, [`log_in`](Engine::log_in),
//! [`step_up`](Engine::step_up), [`rotate`](Engine::rotate) and a [logout](Resumed::to_log_out) act at once. Nothing here
//! reads a clock, a store or a socket.

use std::time::Duration;

use crate::client::Client;
use crate::clock::Timestamp;
use crate::cookie::Cookie;
use crate::csrf::CsrfKey;
use crate::data::DataMap;
use crate::error::EngineError;
use crate::event::{Event, EventKind};
use crate::few::Few;
use crate::policy::{ConfigErrors, Policy, Problem};
use crate::record::{Record, Subject};
use crate::seal::{DataKey, Pepper, Peppers};
use crate::store::Reason;
use crate::token::{Handle, Secret, TOKEN_LEN, Token};
use crate::wipe::Wiped;

/// Tokens that are looked at in one request; a request with more copies of the cookie is malformed.
pub const TOKENS_MAX: usize = 4;

/// The rules of one deployment: policy, cookie and peppers, checked.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) policy: Policy,
    pub(crate) cookie: Cookie,
    pub(crate) peppers: Peppers,
}

impl Default for Engine {
    /// The default policy and cookie, and no pepper.
    fn default() -> Self {
        Self { policy: Policy::default(), cookie: Cookie::default(), peppers: Peppers::new(Pepper::none()) }
    }
}

/// What a request carries under the session cookie's name, unread: of the length of a token, or it is not kept.
///
/// For a shell that does not know yet whether anybody will ask for the session. `Debug` hides the texts, and they are zeroed when
/// dropped.
#[derive(Clone, Debug, Default)]
pub struct Offered {
    texts: Few<Wiped<TOKEN_LEN>>,
    malformed: bool,
}

impl Offered {
    /// Whether the cookie was there at all, in whatever state.
    pub const fn is_empty(&self) -> bool {
        self.texts.is_empty() && !self.malformed
    }

    /// Reads the tokens. Refuses what cannot be one before any look-up.
    pub fn read(&self) -> Presented {
        let mut presented = Presented { tokens: Few::default(), malformed: self.malformed };
        for Wiped(text) in self.texts.iter() {
            match Token::parse(text) {
                Some(token) if presented.tokens.iter().any(|other| *other == token) => {}
                Some(token) => presented.tokens.push(token),
                None => presented.malformed = true,
            }
        }
        presented
    }
}

/// What a request carries under the session cookie's name.
#[derive(Clone, Debug, Default)]
pub struct Presented {
    pub(crate) tokens: Few<Token>,
    pub(crate) malformed: bool,
}

impl Presented {
    /// The distinct handles to look up: at most four, mostly one or none.
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        let earlier = |index: usize| self.tokens.iter().take(index).map(Token::handle);
        self.tokens
            .iter()
            .enumerate()
            .filter(move |&(index, token)| !earlier(index).any(|handle| handle == token.handle))
            .map(|(_, token)| token.handle)
    }

    /// Whether the cookie was there at all, in whatever state.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && !self.malformed
    }
}

/// What kind of activity a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// A person did something: moves the idle timer.
    #[default]
    User,
    /// Polling, a heartbeat, a refresh: does not.
    Passive,
}

/// What is known of a request besides its token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The client, as far as it can be told.
    pub client: Client,
    /// The kind of activity.
    pub activity: Activity,
}

/// Which of a session's secrets was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The current one.
    Current,
    /// The pending successor of a scheduled rotation.
    Next,
    /// The predecessor, within its grace.
    Previous,
    /// It no longer matters: the request has changed the secrets itself, or was rebased.
    Settled,
}

/// A live session in a request's hands.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) record: Record,
    pub(crate) key: DataKey,
    pub(crate) secret: Secret,
    pub(crate) role: Role,
    /// The data of `record`, once it was opened.
    pub(crate) opened: Option<DataMap>,
}

/// What the response does to the cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieAction {
    /// Hands out a token.
    Set(Token),
    /// Removes the cookie.
    Remove,
}

/// A request after its token was judged: a live session, or none. The default is a request without one at the beginning of time.
#[derive(Clone, Debug, Default)]
pub struct Resumed {
    pub(crate) active: Option<Active>,
    pub(crate) at: Timestamp,
    pub(crate) facts: Facts,
    /// Sessions of which a secret was presented, current or not: a login ends them.
    pub(crate) presented: Few<Handle>,
    /// Whether a presented session ended, or its secret went stale, less than a grace ago: the response must leave
    /// the cookie alone, and what is stored is thrown away.
    pub(crate) just_ended: bool,
    /// Why the session ended of which a genuine token was presented.
    pub(crate) over: Option<Reason>,
    pub(crate) endings: Vec<(Handle, Reason)>,
    /// Whether the clock has decided against a session that lives in the store.
    pub(crate) by_time: bool,
    pub(crate) cookie: Option<CookieAction>,
    /// Whether the cookie is that of a rotation on demand.
    pub(crate) rotated: bool,
    pub(crate) events: Vec<Event>,
}

impl Resumed {
    /// The live session's record; `None` if the request is anonymous and has no session.
    pub fn record(&self) -> Option<&Record> {
        self.active.as_ref().map(|active| &active.record)
    }

    /// Who the session belongs to; `None` while anonymous.
    pub fn subject(&self) -> Option<&Subject> {
        self.record().and_then(Record::subject)
    }

    /// Whether a session of the request ended moments ago, so that nothing it stores is kept.
    pub const fn just_ended(&self) -> bool {
        self.just_ended
    }

    /// Why the presented session ended, if it has and the token was genuine: for telling its own client. `None` for anything
    /// forged, so that nobody else learns it.
    pub const fn over(&self) -> Option<Reason> {
        self.over
    }

    /// When the token was judged.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// What is known of the request.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Changes the kind of activity: a handler may know better than its route.
    pub const fn set_activity(&mut self, activity: Activity) {
        self.facts.activity = activity;
    }

    /// Takes the events that have come up.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether the clock has decided against a session that lives in the store: its time is up, or the grace of a secret is over. Before
    /// that is acted upon, the clock had better be compared with the store's.
    pub const fn judged_by_time(&self) -> bool {
        self.by_time
    }

    /// Whether there are sessions to be ended at once.
    pub const fn has_endings(&self) -> bool {
        !self.endings.is_empty()
    }

    /// Takes the sessions that are to be ended at once, before the handler runs. Whoever removes one of them reports
    /// it with [`Engine::ended`].
    pub fn take_endings(&mut self) -> Vec<(Handle, Reason)> {
        std::mem::take(&mut self.endings)
    }

    /// Takes what the response must do to the cookie because of a lifecycle call; for a response whose
    /// conclusion failed, so that a login is not lost with it.
    pub const fn cookie(&self) -> Option<&CookieAction> {
        self.cookie.as_ref()
    }

    /// Opens the session's data; empty where there is no session.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tampered`] if the data was changed by something else.
    pub fn open(&self) -> Result<DataMap, EngineError> {
        let Some(active) = &self.active else { return Ok(DataMap::EMPTY) };
        active.open()
    }

    /// Looks at the session's data, which is opened once; empty where there is no session.
    ///
    /// # Errors
    ///
    /// As [`Resumed::open`].
    pub fn data(&mut self) -> Result<&DataMap, EngineError> {
        const NONE: &DataMap = &DataMap::EMPTY;
        let Some(active) = &mut self.active else { return Ok(NONE) };
        let data = match active.opened.take() {
            Some(data) => data,
            None => active.open()?,
        };
        Ok(active.opened.insert(data))
    }

    /// The key of the session's form tokens, anonymous or not; `None` where there is no session.
    pub fn csrf_key(&self) -> Option<CsrfKey> {
        self.active.as_ref().map(|active| CsrfKey::new(active.key.csrf_key(), active.record.handle))
    }

    /// An event of this request and, where it has one, its session.
    pub fn event(&self, kind: EventKind, at: Timestamp) -> Event {
        let event = Event::new(kind, self.facts.client, at);
        match self.record() {
            Some(record) => event.of(record.handle, record.subject()),
            None => event,
        }
    }
}

impl Active {
    pub(crate) fn open(&self) -> Result<DataMap, EngineError> {
        if let Some(data) = &self.opened {
            return Ok(data.clone());
        }
        let handle = self.record.handle;
        self.key
            .open(handle, &self.record.body.data)
            .and_then(DataMap::decode)
            .map_err(|_| EngineError::Tampered { handle })
    }
}

impl Engine {
    /// Puts the parts together.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] if the policy has any, or the current pepper is retired.
    pub fn new(policy: Policy, cookie: Cookie, peppers: Peppers) -> Result<Self, ConfigErrors> {
        let mut problems = policy.check().err().map_or_else(Vec::new, |errors| errors.problems().to_vec());
        let current = peppers.current().id();
        if peppers.is_retired(current) {
            let expected = "a pepper that is not listed as retired, or every session ends at once";
            problems.push(Problem::new("peppers.current", &current.to_string(), expected));
        }
        ConfigErrors::unless_empty(problems)?;
        Ok(Self { policy, cookie, peppers })
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The cookie.
    pub const fn cookie(&self) -> &Cookie {
        &self.cookie
    }

    /// The peppers.
    pub const fn peppers(&self) -> &Peppers {
        &self.peppers
    }

    /// Reads the session cookie out of a request's `Cookie` fields.
    ///
    /// Refuses what cannot be a token before any look-up. Position never decides: the same fields in another
    /// order mean the same.
    pub fn present<'a>(&'a self, cookie_fields: impl IntoIterator<Item = &'a [u8]> + 'a) -> Presented {
        self.offered(cookie_fields).read()
    }

    /// Finds the session cookie in a request's `Cookie` fields without reading it: most requests of many sites never ask for
    /// their session.
    pub fn offered<'a>(&'a self, cookie_fields: impl IntoIterator<Item = &'a [u8]> + 'a) -> Offered {
        let mut offered = Offered::default();
        for (index, value) in self.cookie.values(cookie_fields).enumerate() {
            if index == TOKENS_MAX {
                return Offered { texts: Few::default(), malformed: true };
            }
            match value.try_into() {
                Ok(text) => offered.texts.push(Wiped(text)),
                Err(_) => offered.malformed = true,
            }
        }
        offered
    }

    /// Whether a time limit has passed: the clocks of instances may differ, so limits come early by the skew.
    pub(crate) fn past_limit(&self, limit: Timestamp, now: Timestamp) -> bool {
        now.plus(self.policy.clock_skew) >= limit
    }

    /// Why a session's time is up, if it is: what a request with its token would be told. For whoever waits for the session's
    /// end and has no token.
    pub fn time_is_up(&self, record: &Record, now: Timestamp) -> Option<Reason> {
        let (deadline, reason) = record.deadline();
        self.past_limit(deadline, now).then_some(reason)
    }

    /// Whether a grace that began at `start` has passed; graces last longer by the skew.
    pub(crate) fn past_grace(&self, start: Timestamp, now: Timestamp) -> bool {
        now >= start.plus(self.policy.rotation_grace).plus(self.policy.clock_skew)
    }

    /// Whether something that ended at `at` ended so lately that its client may not have heard of it.
    pub(crate) fn is_recent(&self, at: Timestamp, now: Timestamp) -> bool {
        !self.past_grace(at, now)
    }

    /// Whether the successor of all retired secrets has been in use for a whole grace, so that one of them coming
    /// back is a replay.
    pub(crate) fn is_armed(&self, record: &Record, now: Timestamp) -> bool {
        record.body.secrets.confirmed.is_some_and(|confirmed| self.past_grace(confirmed, now))
    }

    /// How old the session's authentication is; `None` while anonymous.
    pub fn authentication_age(&self, resumed: &Resumed, now: Timestamp) -> Option<Duration> {
        Some(now.since(resumed.record()?.authentication()?.at()))
    }
}
