//! A session as a page of sessions shows it.

use std::time::Duration;

use cloakroom_core::client::Client;
use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Level, Record, Subject};
use cloakroom_core::token::Handle;

use crate::error::SessionError;
use crate::layer::Shared;

/// What may be shown of a session: enough to recognise it and to end it, nothing that can be used as a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The public name; give it to [`Session::end`](crate::Session::end).
    pub handle: Handle,
    /// Whether it is the session of this very request.
    pub current: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When its user was last active; exact to a minute by default.
    pub seen: Timestamp,
    /// When its subject last authenticated in it.
    pub authenticated: Option<Timestamp>,
    /// The assurance level of that authentication.
    pub level: Option<Level>,
    /// When it ends if its user is not active again.
    pub ends: Timestamp,
    /// The idle limit that it was made with; a changed policy holds for later sessions.
    pub idle_limit: Duration,
    /// When it ends whatever its user does.
    pub absolute_limit: Timestamp,
    /// The browser, system and network prefix; it prints as `Firefox on Linux`.
    pub client: Client,
}

impl SessionInfo {
    fn of(record: &Record, current: Option<Handle>) -> Self {
        let authentication = record.authentication();
        Self {
            handle: record.handle(),
            current: Some(record.handle()) == current,
            created: record.created(),
            seen: record.seen(),
            authenticated: authentication.map(|authentication| authentication.at()),
            level: authentication.map(|authentication| authentication.level()),
            ends: record.deadline().0,
            idle_limit: record.idle_limit(),
            absolute_limit: record.absolute_limit(),
            client: *record.client(),
        }
    }
}

impl Shared {
    /// A subject's sessions that have not expired: the current one first, then the one last active.
    pub(crate) async fn list(
        &self,
        subject: &Subject,
        current: Option<Handle>,
    ) -> Result<Vec<SessionInfo>, SessionError> {
        let now = self.now()?;
        let records = self.store.list(subject).await?;
        let live = records.iter().filter(|record| record.deadline().0 > now);
        let mut infos = live.map(|record| SessionInfo::of(record, current)).collect::<Vec<_>>();
        infos.sort_by(|a, b| {
            b.current.cmp(&a.current).then(b.seen.cmp(&a.seen)).then(a.handle.cmp(&b.handle))
        });
        Ok(infos)
    }
}
