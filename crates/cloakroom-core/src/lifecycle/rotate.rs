//! Rotate: a new secret for the same session, at once or on schedule.

use crate::clock::{Timestamp, millis};
use crate::engine::{Active, Activity, CookieAction, Engine, Resumed, Role};
use crate::entropy::{Entropy, draw};
use crate::error::EngineError;
use crate::event::EventKind;
use crate::record::{Next, Previous, Proof, Record, Secrets, Version};
use crate::seal::Bound;
use crate::token::{Secret, Token};

/// A rotation on demand that is about to happen.
#[derive(Debug)]
#[must_use = "nothing is stored until the caller has replaced the record"]
pub struct Rotation {
    expected: Version,
    record: Record,
    token: Token,
    kind: EventKind,
}

impl Rotation {
    /// The version that must still be the stored one.
    pub const fn expected(&self) -> Version {
        self.expected
    }

    /// The record to replace it with.
    pub const fn record(&self) -> &Record {
        &self.record
    }
}

/// What a scheduled rotation asks of a response.
#[derive(Debug, Default)]
pub(crate) struct Housekeeping {
    /// The secrets to store, if they change.
    pub(crate) secrets: Option<Secrets>,
    /// Whether the client of this request becomes the one that the session remembers.
    pub(crate) adopt_client: bool,
    /// The successor to hand out.
    pub(crate) successor: Option<Token>,
    /// Whether the successor was derived again rather than made now.
    pub(crate) derived: bool,
    pub(crate) event: Option<EventKind>,
}

impl Engine {
    /// Plans a rotation on demand: a random successor and no grace; the old secret is refused at once.
    ///
    /// # Errors
    ///
    /// [`EngineError::Superseded`] if the request has no session; [`EngineError::Entropy`].
    pub fn rotate(
        &self,
        resumed: &Resumed,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Rotation, EngineError> {
        self.rotate_at_once(resumed, None, now, entropy)
    }

    /// Plans a step-up: a new authentication, which resets both limits, and a rotation on demand.
    ///
    /// # Errors
    ///
    /// As [`Engine::rotate`]; [`EngineError::Superseded`] also for an anonymous session, which has nobody to
    /// authenticate again.
    pub fn step_up(
        &self,
        resumed: &Resumed,
        proof: Proof,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Rotation, EngineError> {
        resumed.subject().ok_or(EngineError::Superseded)?;
        self.rotate_at_once(resumed, Some(proof), now, entropy)
    }

    fn rotate_at_once(
        &self,
        resumed: &Resumed,
        proof: Option<Proof>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Rotation, EngineError> {
        let active = resumed.active.as_ref().ok_or(EngineError::Superseded)?;
        if self.past_limit(active.record.deadline().0, now) {
            return Err(EngineError::Superseded);
        }
        let expected = active.record.version;
        let mut record = active.record.clone();
        let kind = if proof.is_some() { EventKind::SteppedUp } else { EventKind::RotatedOnDemand };
        self.tidy(&mut record, now);
        let mut seen = record.seen;
        if resumed.facts.activity == Activity::User {
            seen = seen.max(resumed.at);
        }
        let terms = &mut record.body.terms;
        if let Some(proof) = proof {
            seen = now;
            terms.authentication = Some(proof.at(now));
            terms.idle_ms = millis(self.policy.idle);
            terms.absolute = now.plus(self.policy.absolute);
        }
        let secret = Secret::draw(entropy)?;
        let bound = Bound::of(record.handle, &record.body.terms);
        let slot = active.key.wrap(self.peppers.current(), &secret, &bound)?;
        let secrets = &mut record.body.secrets;
        let previous = secrets.previous.take().map(|previous| previous.slot);
        let next = secrets.next.take().map(|next| next.slot);
        let current = std::mem::replace(&mut secrets.current, slot);
        for slot in previous.into_iter().chain([current]).chain(next) {
            secrets.retire(slot.digest.short());
            secrets.fresh = secrets.fresh.saturating_add(1);
        }
        secrets.fresh = secrets.fresh.min(u8::try_from(secrets.retired.len()).unwrap_or(u8::MAX));
        secrets.issued = now;
        secrets.confirmed = None;
        secrets.strangers.clear();
        record.body.client = resumed.facts.client;
        let token = Token::new(record.handle, secret);
        Ok(Rotation { expected, record: record.replacing(expected, seen), token, kind })
    }

    /// Moves what the grace has done with: the predecessor to the retired, its salt into oblivion.
    pub(crate) fn tidy(&self, record: &mut Record, now: Timestamp) {
        if !self.is_armed(record, now) {
            return;
        }
        let secrets = &mut record.body.secrets;
        secrets.fresh = 0;
        if let Some(previous) = secrets.previous.take() {
            secrets.retire(previous.slot.digest.short());
        }
    }

    /// What the scheduled rotation has to do in this response.
    pub(crate) fn housekeeping(
        &self,
        active: &Active,
        resumed: &Resumed,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Housekeeping, EngineError> {
        let record = &active.record;
        let secrets = &record.body.secrets;
        if self.past_limit(record.deadline().0, now) {
            // Expired while the handler ran: the client may hold another session's cookie by now.
            return Ok(Housekeeping::default());
        }
        Ok(match active.role {
            Role::Settled => Housekeeping::default(),
            Role::Next => self.confirm_successor(record, now),
            Role::Current if secrets.confirmed.is_none() => {
                // First use after a rotation on demand.
                let secrets = Secrets { confirmed: Some(now), ..secrets.clone() };
                Housekeeping {
                    secrets: Some(secrets),
                    adopt_client: true,
                    event: Some(EventKind::RotationConfirmed),
                    ..Housekeeping::default()
                }
            }
            Role::Current => match &secrets.next {
                Some(next) => self.hand_again(active, resumed, &next.salt, now),
                None if self.rotation_due(record, now) => self.begin(active, resumed, now, entropy)?,
                None => Housekeeping::default(),
            },
            Role::Previous => match &secrets.previous {
                // A rotation may begin once the grace is over; from then on an old successor could displace a newer one.
                Some(previous)
                    if secrets.confirmed.is_some_and(|at| now < at.plus(self.policy.rotation_grace)) =>
                {
                    self.hand_again(active, resumed, &previous.salt, now)
                }
                _ => Housekeeping::default(),
            },
        })
    }

    /// At most one rotation at a time: none begins while one is unconfirmed or its grace runs.
    fn rotation_due(&self, record: &Record, now: Timestamp) -> bool {
        let secrets = &record.body.secrets;
        let settled = secrets.previous.is_none() && secrets.fresh == 0;
        let due = self.policy.rotation_interval.is_some_and(|interval| now >= secrets.issued.plus(interval));
        due && (settled || self.is_armed(record, now))
    }

    /// Whether the successor may go to the client of this request. After a second interval it goes to anybody, so that
    /// a user who roamed is not stuck.
    fn may_receive(&self, record: &Record, resumed: &Resumed, now: Timestamp) -> bool {
        let overdue =
            self.policy.rotation_interval.is_some_and(|i| now >= record.body.secrets.issued.plus(i).plus(i));
        overdue || record.body.client.looks_like(&resumed.facts.client)
    }

    fn begin(
        &self,
        active: &Active,
        resumed: &Resumed,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Housekeeping, EngineError> {
        let record = &active.record;
        if !self.may_receive(record, resumed, now) {
            return Ok(self.note_stranger(record, resumed, now));
        }
        let salt = draw(entropy)?;
        let mut tidied = record.clone();
        self.tidy(&mut tidied, now);
        let pepper = self.peppers.current();
        let secret = pepper.successor(record.handle, &active.secret, &salt);
        let bound = Bound::of(record.handle, &record.body.terms);
        let slot = active.key.wrap(pepper, &secret, &bound)?;
        let next = Some(Box::new(Next { slot, salt }));
        Ok(Housekeeping {
            secrets: Some(Secrets { next, ..tidied.body.secrets }),
            successor: Some(Token::new(record.handle, secret)),
            event: Some(EventKind::Renewed),
            ..Housekeeping::default()
        })
    }

    fn confirm_successor(&self, record: &Record, now: Timestamp) -> Housekeeping {
        let mut tidied = record.clone();
        self.tidy(&mut tidied, now);
        let mut secrets = tidied.body.secrets;
        if let Some(next) = secrets.next.take() {
            let Next { slot, salt } = *next;
            let slot = std::mem::replace(&mut secrets.current, slot);
            secrets.previous = Some(Box::new(Previous { slot, salt }));
            secrets.issued = now;
            secrets.confirmed = Some(now);
            secrets.strangers.clear();
        }
        Housekeeping {
            secrets: Some(secrets),
            adopt_client: true,
            event: Some(EventKind::RotationConfirmed),
            ..Housekeeping::default()
        }
    }

    /// Derives the successor that was handed out before, for a client whose response was lost or that raced.
    fn hand_again(
        &self,
        active: &Active,
        resumed: &Resumed,
        salt: &[u8; 16],
        now: Timestamp,
    ) -> Housekeeping {
        let record = &active.record;
        if now >= resumed.at.plus(self.policy.rotation_grace) {
            return Housekeeping::default();
        }
        if !self.may_receive(record, resumed, now) {
            return self.note_stranger(record, resumed, now);
        }
        Housekeeping { successor: self.derive(active, salt), derived: true, ..Housekeeping::default() }
    }

    /// The successor of the presented secret, if one of the stored slots is its.
    pub(crate) fn derive(&self, active: &Active, salt: &[u8; 16]) -> Option<Token> {
        let handle = active.record.handle;
        let secrets = &active.record.body.secrets;
        let slot = match active.role {
            Role::Previous => &secrets.current,
            _ => &secrets.next.as_ref()?.slot,
        };
        let pepper = self.peppers.find(slot.pepper)?;
        let secret = pepper.successor(handle, &active.secret, salt);
        (pepper.digest(handle, &secret) == slot.digest).then(|| Token::new(handle, secret))
    }

    fn note_stranger(&self, record: &Record, resumed: &Resumed, now: Timestamp) -> Housekeeping {
        let mut tidied = record.clone();
        self.tidy(&mut tidied, now);
        let mut secrets = tidied.body.secrets;
        if secrets.note_stranger(resumed.facts.client.mark()) {
            let event = Some(EventKind::StrangerNotRenewed);
            return Housekeeping { secrets: Some(secrets), event, ..Housekeeping::default() };
        }
        Housekeeping::default()
    }
}

impl Resumed {
    /// Takes the outcome of a rotation on demand: the request goes on under the new secret.
    pub fn rotated(&mut self, rotation: Rotation, now: Timestamp) {
        let Rotation { record, token, kind, .. } = rotation;
        if let Some(active) = &mut self.active {
            active.record = record;
            active.secret = token.secret.clone();
            active.role = Role::Settled;
        }
        self.cookie = Some(CookieAction::Set(token));
        self.rotated = true;
        self.events.push(self.event(kind, now));
    }
}
