//! Lifecycle calls: they act at once.

use std::fmt;
use std::sync::Arc;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::data::Changes;
use cloakroom_core::error::EngineError;
use cloakroom_core::event::{Event, EventKind};
use cloakroom_core::lifecycle::{LogIn, Newcomer, Rotation};
use cloakroom_core::record::{Level, Proof, Subject};
use cloakroom_core::store::{Epoch, Found, Inserted, Reason, RemovedAll, Replaced, StoreError};
use cloakroom_core::token::Handle;

use serde::Serialize;

use crate::changing::{Updating, check_json, check_name, encode_for};
use crate::error::SessionError;
use crate::info::SessionInfo;
use crate::key::Key;
use crate::session::Session;
use crate::slot::Act;
use crate::turns::TRIES;

/// A login that has begun: check the credentials, then [`complete`](Login::complete) it.
///
/// An "end all sessions" of the same subject that happens in between wins: the login is refused.
#[must_use = "nobody is logged in until the login is completed"]
pub struct Login {
    session: Session,
    subject: Subject,
    proof: Proof,
    data: Changes,
    basis: Basis,
}

/// What a login goes by to lose against an "end all sessions".
#[derive(Clone, Copy)]
enum Basis {
    /// The epoch that was read before the credentials were checked.
    Epoch(Epoch),
    /// The request's arrival.
    Arrival,
}

impl Login {
    /// States the assurance level that the credentials reached. Default: [`Level::ONE`].
    pub fn level(mut self, level: Level) -> Self {
        self.proof = self.proof.level(level);
        self
    }

    /// States the methods that were used, such as `["pwd", "otp"]`.
    ///
    /// # Errors
    ///
    /// [`SessionError::Value`] for more than 8, or for names that are not 1 to 16 of `a` to `z`, digits, `-` and `_`.
    pub fn methods<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Result<Self, SessionError> {
        self.proof = self.proof.methods(names)?;
        Ok(self)
    }

    /// Puts a value into the new session from the beginning, in the same write as the login.
    ///
    /// # Errors
    ///
    /// [`SessionError::Data`] if the value has no JSON form.
    #[allow(clippy::needless_pass_by_value, reason = "the value goes into the session")]
    pub fn set<T: Serialize>(mut self, key: Key<T>, value: T) -> Result<Self, SessionError> {
        self.data.set(key.name(), encode_for(key.name(), &value)?);
        Ok(self)
    }

    /// Puts a JSON text into the new session under a key that is known at run time only.
    ///
    /// # Errors
    ///
    /// [`SessionError::Value`] if `name` is no name of a key; [`SessionError::Data`] if `json` is no JSON text.
    pub fn set_json(mut self, name: &str, json: &str) -> Result<Self, SessionError> {
        self.data.set(check_name(name)?.to_owned(), check_json(name, json)?);
        Ok(self)
    }

    /// Logs in: ends whatever session the request presented, then makes a new one with a new token.
    ///
    /// # Errors
    ///
    /// [`SessionError::Engine`] with [`EngineError::LostByLogin`] if this request has stored something that would not cross into the
    /// new session; nothing has happened then.
    /// [`SessionError::LoginSuperseded`] and [`SessionError::CapReached`] refuse the login; the presented session has ended all the same.
    /// [`SessionError::Store`]: whoever was logged in is logged out or not, but nobody new is logged in.
    pub async fn complete(mut self) -> Result<(), SessionError> {
        let mut act = self.session.slot.act()?;
        match self.run(&mut act).await {
            Ok(()) => Ok(()),
            Err(error) => Err(act.refuse(error)),
        }
    }

    async fn run(&mut self, act: &mut Act) -> Result<(), SessionError> {
        act.shared().agree().await?;
        let since = self.since(act).await?;
        let (mut login, now) = self.plan(act, since.unwrap_or_default())?;
        if !login.end().is_empty() {
            act.end(login.end(), Reason::Superseded).await?;
        }
        act.resumed.all_ended();
        act.publish(|loaded| {
            loaded.changes.clear();
        })?;
        if since.is_none() {
            return Err(SessionError::LoginSuperseded);
        }
        for _ in 0..TRIES {
            match act.shared().store.insert(login.record().clone(), login.admission()).await? {
                Inserted::Inserted { evicted } => {
                    act.resumed.logged_in(login, now);
                    let client = act.resumed.facts().client;
                    act.publish_last(|_| {})?;
                    for handle in evicted {
                        let event = Event::new(EventKind::Ended(Reason::Evicted), client, now);
                        act.shared().observe(&event.of(handle, Some(&self.subject)));
                    }
                    return Ok(());
                }
                Inserted::Superseded => return Err(SessionError::LoginSuperseded),
                Inserted::CapReached => return Err(SessionError::CapReached),
                Inserted::HandleTaken => login = act.shared().engine.redraw(login, &*act.shared().entropy)?,
            }
        }
        Err(StoreError::unavailable("every new handle was taken").into())
    }

    /// The epoch that must still be the subject's at the insert; `None` if all sessions were ended since the request came.
    async fn since(&self, act: &Act) -> Result<Option<Epoch>, SessionError> {
        let slot = &self.session.slot;
        // A request's own "end all sessions" renews its admission.
        let own = slot.with(|loaded| {
            let own = loaded.own_epochs.iter().rev().find(|(subject, _)| *subject == self.subject);
            Ok(own.map(|(_, epoch)| *epoch))
        })?;
        match (own, self.basis) {
            (Some(epoch), _) | (None, Basis::Epoch(epoch)) => Ok(Some(epoch)),
            (None, Basis::Arrival) => {
                let standing = act.shared().store.standing(&self.subject).await?;
                Ok(standing.admits_arrival(slot.age()?).then_some(standing.epoch))
            }
        }
    }

    fn plan(&mut self, act: &Act, since: Epoch) -> Result<(LogIn, Timestamp), SessionError> {
        let shared = act.shared();
        let changes = self.session.slot.with(|loaded| Ok(loaded.changes.clone()))?;
        let (proof, data) = (std::mem::take(&mut self.proof), std::mem::take(&mut self.data));
        let who = Newcomer { subject: self.subject.clone(), proof, data };
        let now = shared.now()?;
        // Updates of what crosses are applied once more.
        let _alone = Updating::begin(&self.session.slot)?;
        let login = shared.engine.log_in(&act.resumed, &changes, who, since, now, &*shared.entropy)?;
        Ok((login, now))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl Session {
    /// Begins a login, before the credentials are checked. `subject` is whoever wants to log in: 1 to 255 bytes.
    ///
    /// # Errors
    ///
    /// [`SessionError::Value`] for a subject that cannot be one; [`SessionError::Store`].
    pub async fn begin_login(&self, subject: impl Into<Arc<str>>) -> Result<Login, SessionError> {
        let subject = Subject::new(subject)?;
        match self.slot.shared.store.standing(&subject).await {
            Ok(standing) => Ok(self.login(subject, Basis::Epoch(standing.epoch))),
            Err(error) => Err(self.slot.refuse(error.into())),
        }
    }

    /// Begins a login for credentials that were checked elsewhere, so that no epoch could be read before: it loses against
    /// an "end all sessions" that is younger than the request.
    ///
    /// Which of the two came first is told by how long ago each was, the one by the store's clock and the other by this process's. So it
    /// matters neither what time the machines' clocks show nor whether they are set meanwhile; what is in doubt, for as long as the
    /// store takes to answer, is refused.
    ///
    /// # Errors
    ///
    /// [`SessionError::Value`] for a subject that cannot be one; [`SessionError::Clock`].
    pub fn login_since_arrival(&self, subject: impl Into<Arc<str>>) -> Result<Login, SessionError> {
        self.slot.arrived?;
        Ok(self.login(Subject::new(subject)?, Basis::Arrival))
    }

    fn login(&self, subject: Subject, basis: Basis) -> Login {
        Login { session: self.clone(), subject, proof: Proof::default(), data: Changes::default(), basis }
    }

    /// Begins and completes a login in one, for those who have nothing to verify in between.
    ///
    /// Loses against an "end all sessions" that is younger than the request.
    ///
    /// # Errors
    ///
    /// As [`Login::complete`]; [`SessionError::Value`] for a subject that cannot be one.
    pub async fn log_in(&self, subject: impl Into<Arc<str>>) -> Result<(), SessionError> {
        self.login_since_arrival(subject)?.complete().await
    }

    /// Records that the subject has authenticated again, for instance with a second factor: sets time, level and methods,
    /// starts both limits anew and replaces the secret at once.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotAuthenticated`]; [`SessionError::Value`] for methods that cannot be such; [`SessionError::Engine`]
    /// with [`EngineError::Superseded`] if the session ended or its secret was replaced meanwhile; [`SessionError::Store`].
    pub async fn step_up<'a>(
        &self,
        level: Level,
        methods: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), SessionError> {
        let proof = Proof::default().level(level).methods(methods)?;
        self.require_authenticated()?;
        self.replace_secret(Some(proof)).await
    }

    /// Replaces the secret at once and refuses the old one: after a change of role or rights.
    ///
    /// # Errors
    ///
    /// [`SessionError::Engine`] with [`EngineError::Superseded`] if there is no session, or no more; [`SessionError::Store`].
    pub async fn rotate(&self) -> Result<(), SessionError> {
        self.replace_secret(None).await
    }

    async fn replace_secret(&self, proof: Option<Proof>) -> Result<(), SessionError> {
        let mut act = self.slot.act()?;
        match rotate(&mut act, proof).await {
            Ok(()) => Ok(()),
            Err(error) => Err(act.refuse(error)),
        }
    }

    /// Logs out: ends the session on the server, removes the cookie, and tells the browser to clear what it keeps of
    /// the site. Redirect to a [`SignedOut`](crate::SignedOut) response afterwards.
    ///
    /// Changes of this request that are not written yet are thrown away.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`]: nobody can tell whether the session has ended; say so and let the user try again.
    pub async fn log_out(&self) -> Result<(), SessionError> {
        let mut act = self.slot.act()?;
        match act.end(&act.resumed.to_log_out(), Reason::LoggedOut).await {
            Ok(removed) => {
                act.resumed.logged_out(removed);
                act.publish_last(leave)
            }
            Err(error) => Err(act.refuse(error)),
        }
    }

    /// Ends all other sessions of whoever is logged in, and beats every login of theirs that is under way. Returns how many
    /// there were.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotAuthenticated`], [`SessionError::Store`].
    pub async fn log_out_others(&self) -> Result<usize, SessionError> {
        let keep = self.handle();
        let mut act = self.slot.act()?;
        Ok(self.end_all(&mut act, keep).await?.len())
    }

    /// Ends all sessions of whoever is logged in, this one included, and beats every login of theirs that is under way. Returns
    /// how many there were. What [`Session::log_out`] says of cookie and browser holds here too.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotAuthenticated`], [`SessionError::Store`].
    pub async fn log_out_everywhere(&self) -> Result<usize, SessionError> {
        let own = self.handle();
        let mut act = self.slot.act()?;
        let ended = self.end_all(&mut act, None).await?;
        act.resumed.logged_out(own.is_some_and(|own| ended.contains(&own)));
        act.publish_last(leave)?;
        Ok(ended.len())
    }

    async fn end_all(&self, act: &mut Act, keep: Option<Handle>) -> Result<Vec<Handle>, SessionError> {
        let subject = act.resumed.subject().cloned().ok_or(SessionError::NotAuthenticated)?;
        let now = act.shared().now()?;
        let outcome = act.shared().store.remove_all(&subject, keep, Reason::RevokedAll, now).await;
        let RemovedAll { ended, epoch } = outcome.map_err(|error| act.refuse(error.into()))?;
        for &handle in &ended {
            let event = Event::new(EventKind::Ended(Reason::RevokedAll), act.resumed.facts().client, now);
            act.shared().observe(&event.of(handle, Some(&subject)));
        }
        self.slot.with(|loaded| {
            loaded.own_epochs.push((subject, epoch));
            Ok(())
        })?;
        Ok(ended)
    }

    /// The live sessions of whoever is logged in: this one first, then the one last active.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotAuthenticated`], [`SessionError::Store`].
    pub async fn list(&self) -> Result<Vec<SessionInfo>, SessionError> {
        let subject = self.require_authenticated()?;
        self.slot.shared.list(&subject, self.handle()).await.map_err(|error| self.slot.refuse(error))
    }

    /// Ends another session of whoever is logged in. Returns whether there was one: somebody else's is not theirs to end.
    ///
    /// Demand a recent authentication before: [`Session::require_recent`].
    ///
    /// # Errors
    ///
    /// [`SessionError::NotAuthenticated`], [`SessionError::Store`].
    pub async fn end(&self, handle: Handle) -> Result<bool, SessionError> {
        if self.handle() == Some(handle) {
            self.log_out().await?;
            return Ok(true);
        }
        let subject = self.require_authenticated()?;
        let act = self.slot.act()?;
        let run = async {
            match act.shared().store.find(handle).await? {
                Found::Live(record) if record.subject() == Some(&subject) => {
                    act.end(&[handle], Reason::Revoked).await
                }
                _ => Ok(false),
            }
        };
        run.await.map_err(|error| act.refuse(error))
    }
}

/// What a logout leaves of a request.
fn leave(loaded: &mut crate::slot::Loaded) {
    loaded.changes.clear();
    loaded.clear_site_data = true;
}

async fn rotate(act: &mut Act, proof: Option<Proof>) -> Result<(), SessionError> {
    let shared = act.shared_for_long();
    let mut tries = None;
    loop {
        let now = shared.now()?;
        let rotation: Rotation = match proof.clone() {
            Some(proof) => shared.engine.step_up(&act.resumed, proof, now, &*shared.entropy)?,
            None => shared.engine.rotate(&act.resumed, now, &*shared.entropy)?,
        };
        let handle = rotation.record().handle();
        let tries = tries.get_or_insert_with(|| shared.turns.tries(handle));
        let replaced = shared.store.replace(rotation.expected(), rotation.record().clone()).await;
        match tries.tried(replaced)? {
            Replaced::Replaced => {
                act.resumed.rotated(rotation, now);
                return act.publish_last(|_| {});
            }
            Replaced::Gone => return Err(EngineError::Superseded.into()),
            Replaced::Stale => {
                // Somebody else wrote: go on only if our secret is still a valid one.
                tries.again().await?;
                let found = tries.tried(shared.store.find(handle).await)?;
                let mut resumed = act.resumed.clone();
                shared.engine.reverify(&mut resumed, found, shared.now()?)?;
                act.resumed = resumed;
            }
        }
    }
}
