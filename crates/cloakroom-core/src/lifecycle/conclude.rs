//! Conclude: what a request leaves behind, in at most one write and one cookie.

use crate::clock::Timestamp;
use crate::data::{Changes, DataMap};
use crate::engine::{Active, Activity, CookieAction, Engine, Resumed, Role};
use crate::entropy::Entropy;
use crate::error::EngineError;
use crate::event::{Event, EventKind};
use crate::lifecycle::establish::Draft;
use crate::record::{Body, Record, Secrets, Version};
use crate::store::{Admission, Epoch, Found};
use crate::token::Handle;

/// The one write of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a plan is short-lived, and made once per request")]
pub enum Write {
    /// Nothing is to be written.
    None,
    /// Activity is to be noted.
    Touch {
        /// Of which session.
        handle: Handle,
        /// When.
        seen: Timestamp,
    },
    /// The record is to be replaced if its version is still the expected one.
    Replace {
        /// The expected version.
        expected: Version,
        /// The new record.
        record: Record,
    },
    /// An anonymous session is to be made.
    Insert {
        /// Its record.
        record: Record,
        /// On what conditions.
        admission: Admission,
    },
}

impl Write {
    /// The session that is written, if any.
    pub fn handle(&self) -> Option<Handle> {
        match self {
            Self::None => None,
            Self::Touch { handle, .. } => Some(*handle),
            Self::Replace { record, .. } | Self::Insert { record, .. } => Some(record.handle),
        }
    }
}

/// What to write and send because of a request.
#[derive(Debug)]
#[must_use = "nothing happens until the plan is carried out"]
pub struct Plan {
    /// The write. The rest holds only if it succeeds.
    pub write: Write,
    /// The session to look up once more: the cookie may go out only if what is found passes [`Engine::still_offers`].
    pub recheck: Option<Handle>,
    /// What the response does to the cookie.
    pub cookie: Option<CookieAction>,
    /// What happened.
    pub events: Vec<Event>,
    /// Whether a conflict is a reason to try again: only data is worth it. Housekeeping is dropped.
    pub retry: bool,
}

impl Plan {
    /// Whether all of it is housekeeping: nothing that the application has asked for would be lost with it.
    pub const fn is_housekeeping(&self) -> bool {
        match self.write {
            Write::None | Write::Touch { .. } => true,
            Write::Replace { .. } => !self.retry,
            Write::Insert { .. } => false,
        }
    }
}

/// What became of a rebase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebased {
    /// Conclude again.
    Ready,
    /// The session has ended: what the request stored is thrown away, as if it had come just before.
    Gone,
}

impl Engine {
    /// Plans what a request leaves behind.
    ///
    /// # Errors
    ///
    /// [`EngineError::Change`] and [`EngineError::DataTooLarge`] if the changes cannot be kept;
    /// [`EngineError::Tampered`]; [`EngineError::Entropy`].
    pub fn conclude(
        &self,
        resumed: &Resumed,
        changes: &Changes,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Plan, EngineError> {
        self.conclude_seen(resumed, changes, None, now, entropy)
    }

    /// As [`Engine::conclude`], for a shell that has applied the changes to [`Resumed::data`] already and held the result to
    /// [`Policy::data_limit`](crate::policy::Policy::data_limit).
    ///
    /// # Errors
    ///
    /// As [`Engine::conclude`].
    pub fn conclude_seen(
        &self,
        resumed: &Resumed,
        changes: &Changes,
        changed: Option<DataMap>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Plan, EngineError> {
        match &resumed.active {
            Some(active) => self.conclude_active(active, resumed, changes, changed, now, entropy),
            None => self.conclude_anonymous(resumed, changes, changed, now, entropy),
        }
    }

    fn conclude_active(
        &self,
        active: &Active,
        resumed: &Resumed,
        changes: &Changes,
        changed: Option<DataMap>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Plan, EngineError> {
        let record = &active.record;
        let house = self.housekeeping(active, resumed, now, entropy)?;
        let data = self.changed_data(active, changes, changed)?;
        let retry = data.is_some();
        let event = house.event.map(|kind| resumed.event(kind, now));
        let offered = house.successor.map(CookieAction::Set);
        let cookie = resumed.cookie.clone().or(offered);
        let seen = self.activity(active, resumed, now);
        let write = if house.secrets.is_some() || data.is_some() {
            let body = &record.body;
            let data = match data {
                Some(data) => active.key.seal(record.handle, data, entropy)?,
                None => body.data.clone(),
            };
            let tidy = house.secrets.is_none();
            let secrets = house.secrets.unwrap_or_else(|| body.secrets.clone());
            let client = if house.adopt_client { resumed.facts.client } else { body.client };
            let body = Box::new(Body { terms: body.terms.clone(), client, secrets, data });
            let mut next = Record { handle: record.handle, version: record.version, seen: record.seen, body };
            if tidy {
                self.tidy(&mut next, now);
            }
            let seen = seen.unwrap_or(record.seen);
            Write::Replace { expected: record.version, record: next.replacing(record.version, seen) }
        } else {
            match seen.filter(|_| self.touch_due(record, resumed)) {
                Some(seen) => Write::Touch { handle: record.handle, seen },
                None => Write::None,
            }
        };
        // A replacement that succeeds proves the same, and so does a login: nobody else knows its session yet.
        let rotated = active.role == Role::Settled && resumed.rotated;
        let offered_before = cookie.is_some() && (house.derived || rotated);
        let unproven = offered_before && !matches!(write, Write::Replace { .. });
        let recheck = unproven.then_some(record.handle);
        Ok(Plan { write, recheck, cookie, events: event.into_iter().collect(), retry })
    }

    fn conclude_anonymous(
        &self,
        resumed: &Resumed,
        changes: &Changes,
        changed: Option<DataMap>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Plan, EngineError> {
        let mut plan = Plan {
            write: Write::None,
            recheck: None,
            cookie: resumed.cookie.clone(),
            events: Vec::new(),
            retry: false,
        };
        if changes.is_empty() {
            return Ok(plan);
        }
        if resumed.just_ended {
            plan.events.push(resumed.event(EventKind::WriteDiscarded, now));
            return Ok(plan);
        }
        let data = match changed {
            Some(data) => data,
            None => {
                let mut data = DataMap::EMPTY;
                changes.apply(&mut data)?;
                data
            }
        };
        if data.is_empty() {
            return Ok(plan);
        }
        let draft = Draft {
            subject: None,
            created: now,
            idle: self.policy.idle,
            absolute: self.policy.absolute,
            client: resumed.facts.client,
            data: self.check_size(data)?.into_encoded(),
        };
        let (record, token) = draft.seal(self.peppers.current(), entropy)?;
        let record = record.expected_back(self.policy.unpresented);
        plan.events.push(resumed.event(EventKind::Created, now).of(record.handle, None));
        plan.cookie = Some(CookieAction::Set(token));
        plan.write =
            Write::Insert { record, admission: Admission { now, since: Epoch::default(), cap: None } };
        Ok(plan)
    }

    /// The encoded data after the changes; `None` if they change nothing.
    fn changed_data(
        &self,
        active: &Active,
        changes: &Changes,
        changed: Option<DataMap>,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        if changes.is_empty() {
            return Ok(None);
        }
        let fresh;
        let stored = match &active.opened {
            Some(data) => data,
            None => {
                fresh = active.open()?;
                &fresh
            }
        };
        let data = match changed {
            Some(data) => data,
            None => {
                let mut data = stored.clone();
                changes.apply(&mut data)?;
                data
            }
        };
        if data == *stored {
            return Ok(None);
        }
        Ok(Some(self.check_size(data)?.into_encoded()))
    }

    pub(crate) fn check_size(&self, data: DataMap) -> Result<DataMap, EngineError> {
        let len = data.size();
        let max = self.policy.data_max;
        if len > max { Err(EngineError::DataTooLarge { len, max }) } else { Ok(data) }
    }

    /// The time of activity to note; `None` for passive activity, and once the idle limit has passed while the
    /// handler ran: a session that others have seen expire stays so.
    fn activity(&self, active: &Active, resumed: &Resumed, now: Timestamp) -> Option<Timestamp> {
        let record = &active.record;
        let live = !self.past_limit(record.deadline().0, now);
        // Strictly after the creation, because equality means "never presented".
        let used = active.role != Role::Settled || record.presented();
        let seen = resumed.at.max(record.body.terms.created.plus(std::time::Duration::from_millis(1)));
        (resumed.facts.activity == Activity::User && live && used).then_some(seen)
    }

    /// Activity is noted once per interval, and the first time that a token comes back whose session waits for that:
    /// a login's, and an anonymous visitor's that would end early without.
    fn touch_due(&self, record: &Record, resumed: &Resumed) -> bool {
        let waits = record.subject().is_some() || record.seen < record.created();
        let first = waits && !record.presented();
        first || resumed.at >= record.seen.plus(self.policy.touch_interval)
    }

    /// Takes a fresh record in the place of one that another request has changed, so that the changes can be applied to
    /// it. Keeps the stored secrets, hands out none, and raises no alarm: the verdict was reached at resume.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tampered`] if the session's data key does not open the fresh record.
    pub fn rebase(&self, resumed: &mut Resumed, found: Found) -> Result<Rebased, EngineError> {
        let Some(active) = &mut resumed.active else { return Ok(Rebased::Gone) };
        let Found::Live(record) = found else {
            resumed.just_ended = true;
            // Whoever ended the session may have set another cookie.
            resumed.cookie = None;
            return Ok(Rebased::Gone);
        };
        let handle = active.record.handle;
        if record.handle != handle || active.key.open(handle, &record.body.data).is_err() {
            return Err(EngineError::Tampered { handle });
        }
        active.record = record;
        active.opened = None;
        active.role = Role::Settled;
        Ok(Rebased::Ready)
    }

    /// Whether a secret that was derived again, or made by a rotation on demand, is still what the session offers, by a
    /// fresh look-up. Between resume and now the session may have ended, and a login may have set another cookie.
    pub fn still_offers(&self, resumed: &Resumed, found: &Found) -> bool {
        let (Some(active), Found::Live(record)) = (&resumed.active, found) else { return false };
        let (held, fresh) = (&active.record.body.secrets, &record.body.secrets);
        let pending = |secrets: &Secrets| secrets.next.as_ref().map(|next| next.slot.digest);
        // A current secret is the newest only while it has no successor of its own.
        let newest = fresh.next.is_none().then_some(fresh.current.digest);
        match active.role {
            Role::Previous | Role::Settled => newest == Some(held.current.digest),
            // Still pending, or confirmed meanwhile.
            _ => pending(held).is_some() && (pending(fresh) == pending(held) || newest == pending(held)),
        }
    }

    /// The event of data that was thrown away because its session has ended.
    pub fn discarded(&self, resumed: &Resumed, now: Timestamp) -> Event {
        resumed.event(EventKind::WriteDiscarded, now)
    }
}
