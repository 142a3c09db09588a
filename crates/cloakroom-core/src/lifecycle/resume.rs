//! Resume: judge presented tokens by what the store holds. The verdict is reached once.

use crate::clock::Timestamp;
use crate::engine::{Active, Engine, Facts, Presented, Resumed, Role};
use crate::error::EngineError;
use crate::event::{Event, EventKind};
use crate::few::Few;
use crate::policy::OnReplay;
use crate::record::{Record, Subject};
use crate::seal::{Bound, DataKey, Pepper, Slot};
use crate::store::{Found, Reason, Tombstone};
use crate::token::{Handle, Secret, Token};

/// What one token is worth. Ordered: the greatest of a handle's verdicts is the handle's.
enum Verdict {
    /// Not a secret of this session, or no longer known to be one.
    Junk,
    /// The session's pepper is retired.
    PepperRetired,
    /// A retired secret after its grace.
    Replay { since: Timestamp },
    /// A retired secret before its successor has been in use for a grace.
    Stale { since: Timestamp },
    /// A secret of a session that has ended or expired.
    Over { reason: Reason, at: Timestamp },
    /// A valid secret.
    Valid { role: Role, key: DataKey },
}

impl Verdict {
    const fn rank(&self) -> u8 {
        match self {
            Self::Junk => 0,
            Self::PepperRetired => 1,
            // A stale or valid copy beside a replayed one explains it: one client, several copies.
            Self::Replay { .. } => 2,
            Self::Stale { .. } => 3,
            Self::Over { .. } => 4,
            Self::Valid { role: Role::Previous, .. } => 5,
            Self::Valid { role: Role::Current | Role::Settled, .. } => 6,
            Self::Valid { role: Role::Next, .. } => 7,
        }
    }
}

impl Engine {
    /// Judges what a request presented.
    ///
    /// `found` holds the store's answer for each of [`Presented::handles`], in that order. Exactly one session may
    /// come out as valid, else the request is anonymous. The client never learns why; the events say it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tampered`] and [`EngineError::PepperUnknown`]: the record cannot be trusted or judged. Refuse the
    /// request with 503 and leave the cookie alone.
    pub fn resume(
        &self,
        presented: &Presented,
        found: impl IntoIterator<Item = Found>,
        facts: Facts,
        now: Timestamp,
    ) -> Result<Resumed, EngineError> {
        let mut resumed = Resumed {
            active: None,
            at: now,
            facts,
            presented: Few::default(),
            just_ended: false,
            over: None,
            endings: Vec::new(),
            by_time: false,
            cookie: None,
            rotated: false,
            events: Vec::new(),
        };
        if presented.malformed {
            resumed.events.push(Event::new(EventKind::MalformedToken, facts.client, now));
        }
        let mut ambiguous = false;
        for (handle, found) in presented.handles().zip(found) {
            let tokens = presented.tokens.iter().filter(|token| token.handle == handle);
            if let Some(active) = self.judge_handle(&mut resumed, handle, tokens, found, now)? {
                ambiguous |= resumed.active.replace(active).is_some();
            }
        }
        if ambiguous {
            resumed.active = None;
            resumed.events.push(Event::new(EventKind::AmbiguousTokens, facts.client, now));
        }
        // A session that ended lately leaves no doubt beside one that lives: the request belongs to that.
        resumed.just_ended &= resumed.active.is_none();
        Ok(resumed)
    }

    /// Reaches the verdict on one handle, and notes what follows from it.
    fn judge_handle<'a>(
        &self,
        resumed: &mut Resumed,
        handle: Handle,
        tokens: impl Iterator<Item = &'a Token>,
        found: Found,
        now: Timestamp,
    ) -> Result<Option<Active>, EngineError> {
        if matches!(&found, Found::Live(record) if record.handle != handle) {
            return Err(EngineError::Tampered { handle });
        }
        let mut best: Option<(Verdict, &Token)> = None;
        for token in tokens {
            let verdict = match &found {
                Found::Live(record) => self.judge(record, &token.secret, now)?,
                Found::Ended(tombstone) => self.judge_ended(tombstone, token),
                Found::Absent => Verdict::Junk,
            };
            if best.as_ref().is_none_or(|(held, _)| verdict.rank() > held.rank()) {
                best = Some((verdict, token));
            }
        }
        let Some((verdict, token)) = best else { return Ok(None) };
        let subject = match &found {
            Found::Live(record) => record.subject().cloned(),
            _ => None,
        };
        // Under a retired pepper nobody can tell a secret from junk, which must not end anything.
        if !matches!(verdict, Verdict::Junk | Verdict::PepperRetired) {
            resumed.presented.push(handle);
        }
        resumed.by_time |= matches!(found, Found::Live(_))
            && matches!(verdict, Verdict::Over { .. } | Verdict::Replay { .. });
        match (verdict, found) {
            (Verdict::Valid { role, key }, Found::Live(record)) => {
                let secret = token.secret.clone();
                return Ok(Some(Active { record, key, secret, role, opened: None }));
            }
            (verdict, _) => self.note_refusal(resumed, handle, subject.as_ref(), &verdict, now),
        }
        Ok(None)
    }

    fn note_refusal(
        &self,
        resumed: &mut Resumed,
        handle: Handle,
        subject: Option<&Subject>,
        verdict: &Verdict,
        now: Timestamp,
    ) {
        let kind = match *verdict {
            Verdict::Valid { .. } => return,
            Verdict::Junk => EventKind::UnknownToken,
            Verdict::PepperRetired => EventKind::PepperRetired,
            Verdict::Stale { since } => {
                resumed.just_ended |= self.is_recent(since, now);
                EventKind::StalePresented
            }
            Verdict::Over { reason, at } => {
                resumed.over = Some(reason);
                resumed.just_ended |= self.is_recent(at, now);
                EventKind::UsedAfterEnd(reason)
            }
            Verdict::Replay { since } => match self.policy.on_replay {
                OnReplay::Revoke => {
                    // The event follows from the removal, so that parallel replays yield one.
                    resumed.just_ended = true;
                    resumed.endings.push((handle, Reason::Replay));
                    return;
                }
                OnReplay::Refuse => {
                    resumed.just_ended |= self.is_recent(since, now);
                    EventKind::Replayed { ended: false }
                }
            },
        };
        resumed.events.push(Event::new(kind, resumed.facts.client, now).of(handle, subject));
    }

    /// Judges a secret by a live record. The seal is opened, and with it every bound field proven, before any of them
    /// is used.
    fn judge(&self, record: &Record, secret: &Secret, now: Timestamp) -> Result<Verdict, EngineError> {
        let handle = record.handle;
        let secrets = &record.body.secrets;
        let bound = Bound::of(handle, &record.body.terms);
        let slots = [
            (Some(&secrets.current), Role::Current),
            (secrets.next.as_deref().map(|next| &next.slot), Role::Next),
            (secrets.previous.as_deref().map(|previous| &previous.slot), Role::Previous),
        ];
        let slots = || slots.iter().filter_map(|(slot, role)| Some((slot.as_ref()?, *role)));
        // Mostly one pepper serves all slots: hash once.
        let mut hashed = None;
        for (slot, role) in slots() {
            let Some(pepper) = self.peppers.find(slot.pepper) else { continue };
            let digest = match hashed {
                Some((id, digest)) if id == slot.pepper => digest,
                _ => pepper.digest(handle, secret),
            };
            hashed = Some((slot.pepper, digest));
            if digest == slot.digest {
                let key =
                    slot.open_key(pepper, secret, &bound).map_err(|_| EngineError::Tampered { handle })?;
                return Ok(self.judge_valid(record, role, key, now));
            }
        }
        let (deadline, reason) = record.deadline();
        if let Some(fresh) = self.retired(record, secret) {
            let issued = secrets.issued;
            let armed = secrets.confirmed.filter(|_| self.is_armed(record, now));
            return Ok(match armed {
                _ if self.past_limit(deadline, now) => Verdict::Over { reason, at: deadline },
                None if fresh => Verdict::Stale { since: issued },
                // Retired before the latest rotation on demand: its own successor was in use long ago.
                None => Verdict::Replay { since: issued },
                Some(confirmed) => Verdict::Replay { since: confirmed.plus(self.policy.rotation_grace) },
            });
        }
        // A secret whose digest does not match but which opens the seal is ours: the digest was changed.
        for (slot, _) in slots() {
            let opens = |pepper: &Pepper| slot.open_key(pepper, secret, &bound).is_ok();
            if self.peppers.find(slot.pepper).is_some_and(opens) {
                return Err(EngineError::Tampered { handle });
            }
        }
        self.judge_unmatched(handle, slots().map(|(slot, _)| *slot))
    }

    fn judge_valid(&self, record: &Record, role: Role, key: DataKey, now: Timestamp) -> Verdict {
        let (deadline, reason) = record.deadline();
        if self.past_limit(deadline, now) {
            return Verdict::Over { reason, at: deadline };
        }
        match record.body.secrets.confirmed {
            Some(confirmed) if role == Role::Previous && self.past_grace(confirmed, now) => {
                Verdict::Replay { since: confirmed.plus(self.policy.rotation_grace) }
            }
            _ => Verdict::Valid { role, key },
        }
    }

    /// Whether the secret is among the retired ones; if so, whether it went only by the latest rotation on demand.
    fn retired(&self, record: &Record, secret: &Secret) -> Option<bool> {
        let secrets = &record.body.secrets;
        if secrets.retired.is_empty() {
            return None;
        }
        let first_fresh = secrets.retired.len().saturating_sub(usize::from(secrets.fresh));
        self.peppers.live().find_map(|pepper| {
            let digest = pepper.digest(record.handle, secret).short();
            secrets.retired.iter().rposition(|retired| *retired == digest).map(|index| index >= first_fresh)
        })
    }

    /// A secret that matches nothing: junk, unless it cannot be judged.
    fn judge_unmatched<'a>(
        &self,
        handle: Handle,
        slots: impl Iterator<Item = &'a Slot>,
    ) -> Result<Verdict, EngineError> {
        let mut verdict = Verdict::Junk;
        for slot in slots {
            if self.peppers.is_retired(slot.pepper) {
                verdict = Verdict::PepperRetired;
            } else if self.peppers.find(slot.pepper).is_none() {
                return Err(EngineError::PepperUnknown { handle, pepper: slot.pepper });
            }
        }
        Ok(verdict)
    }

    fn judge_ended(&self, tombstone: &Tombstone, token: &Token) -> Verdict {
        let known = self
            .peppers
            .live()
            .any(|pepper| tombstone.digests.contains(&pepper.digest(token.handle, &token.secret).short()));
        if known { Verdict::Over { reason: tombstone.reason, at: tombstone.at } } else { Verdict::Junk }
    }

    /// Takes a fresh record in the place of one that was changed meanwhile, if the presented secret is still valid. For
    /// a lifecycle call that met a conflict.
    ///
    /// # Errors
    ///
    /// [`EngineError::Superseded`] if the session ended or the secret was replaced; otherwise as [`Engine::resume`].
    pub fn reverify(&self, resumed: &mut Resumed, found: Found, now: Timestamp) -> Result<(), EngineError> {
        let (Some(active), Found::Live(record)) = (&mut resumed.active, found) else {
            return Err(EngineError::Superseded);
        };
        match self.judge(&record, &active.secret, now)? {
            Verdict::Valid { role, key } => {
                // A secret that this request has issued itself was not seen in a client's hands yet.
                let role = if active.role == Role::Settled { Role::Settled } else { role };
                *active = Active { record, key, secret: active.secret.clone(), role, opened: None };
                Ok(())
            }
            _ => Err(EngineError::Superseded),
        }
    }

    /// The event of a session that was just removed.
    pub fn ended(&self, resumed: &Resumed, record: &Record, reason: Reason, now: Timestamp) -> Event {
        let kind = match reason {
            Reason::Replay => EventKind::Replayed { ended: true },
            Reason::Idle | Reason::Absolute => EventKind::Expired(reason),
            _ => EventKind::Ended(reason),
        };
        Event::new(kind, resumed.facts.client, now).of(record.handle, record.subject())
    }
}
