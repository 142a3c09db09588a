//! Sessions seen from outside a request: for administrators, and for jobs such as disabling an account.

use std::sync::Arc;

use cloakroom_core::client::Client;
use cloakroom_core::clock::Timestamp;
use cloakroom_core::event::{Event, EventKind};
use cloakroom_core::record::{Record, Subject};
use cloakroom_core::store::Reason;
use cloakroom_core::token::Handle;

use crate::error::SessionError;
use crate::info::SessionInfo;
use crate::layer::Shared;

/// The sessions of all users. From [`SessionLayer::sessions`](crate::SessionLayer::sessions).
///
/// Whoever holds this can end anybody's session, but not use it: no token can be had from here.
#[derive(Clone)]
pub struct Sessions {
    pub(crate) shared: Arc<Shared>,
}

impl Sessions {
    /// The live sessions of a subject, the one last active first.
    ///
    /// # Errors
    ///
    /// [`SessionError::Value`] for a subject that cannot be one; [`SessionError::Store`].
    pub async fn list(&self, subject: impl Into<Arc<str>>) -> Result<Vec<SessionInfo>, SessionError> {
        let list = self.shared.list(&Subject::new(subject)?, None).await;
        list.map_err(|error| self.shared.refuse_outside(error))
    }

    /// Ends one session, whosever it is. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`].
    pub async fn end(&self, handle: Handle) -> Result<bool, SessionError> {
        let now = self.now().await?;
        let removed = self.shared.store.remove(handle, Reason::Revoked, now).await;
        let removed = removed.map_err(|error| self.shared.refuse_outside(error.into()))?;
        if let Some(record) = &removed {
            self.shared.observe(&ended(record, Reason::Revoked, now));
        }
        Ok(removed.is_some())
    }

    /// Ends all sessions of a subject, and beats every login of theirs that is under way: what an application calls when an
    /// account is disabled or its password changes. Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`SessionError::Value`] for a subject that cannot be one; [`SessionError::Store`].
    pub async fn end_all(&self, subject: impl Into<Arc<str>>) -> Result<usize, SessionError> {
        let subject = Subject::new(subject)?;
        let now = self.now().await?;
        let ended = self.shared.store.remove_all(&subject, None, Reason::RevokedAll, now).await;
        let ended = ended.map_err(|error| self.shared.refuse_outside(error.into()))?.ended;
        for handle in &ended {
            let event = Event::new(EventKind::Ended(Reason::RevokedAll), Client::default(), now);
            self.shared.observe(&event.of(*handle, Some(&subject)));
        }
        Ok(ended.len())
    }

    /// Ends all sessions of everybody, anonymous ones too, and beats every login that is under way: for when there is no telling whose
    /// sessions can be trusted, as after a break-in or after a backup was restored. Returns how many there were; one event says so.
    ///
    /// Sessions that are made while it runs may end with the others. If it fails, some have ended and no login that began before comes
    /// in; call it again.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`].
    pub async fn end_everybody(&self) -> Result<u64, SessionError> {
        let now = self.now().await?;
        let ended = self.shared.store.remove_everybody(Reason::RevokedAll, now).await;
        let ended = ended.map_err(|error| self.shared.refuse_outside(error.into()))?;
        self.shared.observe(&Event::new(EventKind::EverybodyEnded(ended), Client::default(), now));
        Ok(ended)
    }

    /// A clock that is an hour ahead would end the logins of the next hour too.
    async fn now(&self) -> Result<Timestamp, SessionError> {
        self.shared.compare().await.map_err(|error| self.shared.refuse_outside(error))
    }

    /// Clears away what has expired, and reports each session. The layer does so by itself every ten seconds where it runs
    /// on tokio; call this from a timer of your own where it does not.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`], [`SessionError::Clock`].
    pub async fn sweep(&self) -> Result<usize, SessionError> {
        self.shared.sweep().await.map_err(|error| self.shared.refuse_outside(error))
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}

fn ended(record: &Record, reason: Reason, now: Timestamp) -> Event {
    Event::new(EventKind::Ended(reason), Client::default(), now).of(record.handle(), record.subject())
}
