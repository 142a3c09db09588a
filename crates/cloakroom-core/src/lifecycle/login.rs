//! Log in: always a new session, after ending whatever the request presented.

use crate::clock::Timestamp;
use crate::data::{Changes, DataMap};
use crate::engine::{Active, CookieAction, Engine, Resumed, Role};
use crate::entropy::Entropy;
use crate::error::EngineError;
use crate::event::EventKind;
use crate::few::Few;
use crate::lifecycle::establish::{Draft, seal};
use crate::record::{Body, Proof, Record, Subject};
use crate::seal::DataKey;
use crate::store::{Admission, Epoch};
use crate::token::{Handle, Token};

/// Who logs in, and with what.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// Whose the new session is.
    pub subject: Subject,
    /// What the application states of the authentication.
    pub proof: Proof,
    /// What the new session holds from the beginning, in the same insert.
    pub data: Changes,
}

impl From<(Subject, Proof)> for Newcomer {
    fn from((subject, proof): (Subject, Proof)) -> Self {
        Self { subject, proof, data: Changes::default() }
    }
}

/// A login that is about to happen: first the endings, then the insert.
///
/// In that order a failure in between leaves a signed-out user, never two live sessions.
#[derive(Debug)]
#[must_use = "nothing is stored until the caller has removed and inserted"]
pub struct LogIn {
    end: Vec<Handle>,
    record: Record,
    admission: Admission,
    token: Token,
    key: DataKey,
}

impl LogIn {
    /// The sessions to end first, with [`Reason::Superseded`](crate::store::Reason::Superseded): whatever was presented, by a
    /// current, pending or retired secret, whoever owned it.
    pub fn end(&self) -> &[Handle] {
        &self.end
    }

    /// The record to insert.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// On what conditions.
    pub const fn admission(&self) -> Admission {
        self.admission
    }
}

impl Engine {
    /// Plans a login.
    ///
    /// `changes` are what the request has changed so far; of the resulting data only the keys that the policy lists cross
    /// into the new session.
    ///
    /// # Errors
    ///
    /// [`EngineError::LostByLogin`] if something that this very request has stored does not cross: it was told that it is kept.
    /// [`EngineError::Entropy`]; [`EngineError::Tampered`], [`EngineError::Change`] or [`EngineError::DataTooLarge`] where
    /// data is to cross or comes with the login.
    pub fn log_in(
        &self,
        resumed: &Resumed,
        changes: &Changes,
        who: impl Into<Newcomer>,
        since: Epoch,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<LogIn, EngineError> {
        let Newcomer { subject, proof, data: own } = who.into();
        let mut data = self.surviving(resumed, changes)?;
        own.apply(&mut data)?;
        let draft = Draft {
            subject: Some((subject, proof)),
            created: now,
            idle: self.policy.idle,
            absolute: self.policy.absolute,
            client: resumed.facts.client,
            data: self.check_size(data)?.into_encoded(),
        };
        let (record, token, key) = draft.seal_keeping_key(self.peppers.current(), entropy)?;
        let admission = Admission { now, since, cap: self.policy.cap };
        Ok(LogIn { end: resumed.presented.iter().copied().collect(), record, admission, token, key })
    }

    /// Draws the login's handle and secrets anew, because the handle was taken.
    ///
    /// # Errors
    ///
    /// [`EngineError::Entropy`].
    pub fn redraw(&self, login: LogIn, entropy: &dyn Entropy) -> Result<LogIn, EngineError> {
        let Record { handle, body, .. } = login.record;
        let Body { terms, client, data, .. } = *body;
        let data = login.key.open(handle, &data).map_err(|_| EngineError::Sealing)?;
        let (record, token, key) = seal(terms, client, data, self.peppers.current(), entropy)?;
        Ok(LogIn { record, token, key, ..login })
    }

    fn surviving(&self, resumed: &Resumed, changes: &Changes) -> Result<DataMap, EngineError> {
        let anonymous = resumed.subject().is_none() && !resumed.just_ended;
        let crossing = if anonymous { self.policy.survives_login.as_slice() } else { &[] };
        if let Some(lost) = changes.stored_keys().find(|key| !crossing.iter().any(|one| one == key)) {
            return Err(EngineError::LostByLogin { key: lost.to_owned() });
        }
        if crossing.is_empty() {
            return Ok(DataMap::default());
        }
        let mut data = resumed.open()?;
        changes.apply(&mut data)?;
        data.keep(crossing);
        Ok(data)
    }
}

impl Resumed {
    /// Takes the outcome of a login: the request goes on in the new session.
    pub fn logged_in(&mut self, login: LogIn, now: Timestamp) {
        let LogIn { record, token, key, .. } = login;
        self.presented = Few::of(record.handle);
        self.just_ended = false;
        self.rotated = false;
        let secret = token.secret.clone();
        self.cookie = Some(CookieAction::Set(token));
        self.active = Some(Active { record, key, secret, role: Role::Settled, opened: None });
        self.events.push(self.event(EventKind::LoggedIn, now));
    }

    /// Takes note that the presented sessions have ended: the request is anonymous from here on.
    pub fn all_ended(&mut self) {
        self.presented.clear();
        self.active = None;
        self.cookie = None;
    }
}
