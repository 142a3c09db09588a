//! `cloakroom sessions`: list or end a user's sessions, or everybody's, while the gateway runs or not.

use std::fmt;

use cloakroom::core::clock::Timestamp;
use cloakroom::{Policy, SessionInfo, Sessions};
use serde::Serialize;

use super::{EverybodyArgs, Place, SessionsAction, SubjectArgs};
use crate::config::StoreChoice;
use crate::date::rfc3339;
use crate::open::{self, Refused};

pub(super) async fn run(action: SessionsAction) -> anyhow::Result<()> {
    match action {
        SessionsAction::List { json, subject: SubjectArgs { subject, place } } => {
            let (sessions, policy) = sessions_in(place).await?;
            let list = sessions.list(subject.as_str()).await?;
            let rows = list.iter().map(|info| Row::of(info, &policy));
            if json {
                println!("{}", serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?);
            } else {
                println!("{} session(s) of {subject}", list.len());
                rows.for_each(|row| println!("{row}"));
            }
        }
        SessionsAction::End { handle, place } => {
            if !sessions_in(place).await?.0.end(handle).await? {
                return Err(Refused::new(format!(
                    "there is no session {handle}; it has ended, or never was"
                ))
                .into());
            }
            println!("Ended the session {handle}.");
        }
        SessionsAction::Revoke(SubjectArgs { subject, place }) => {
            let count = sessions_in(place).await?.0.end_all(subject.as_str()).await?;
            println!("Ended {count} session(s) of {subject}.");
        }
        SessionsAction::RevokeEverybody(EverybodyArgs { yes, place }) => {
            anyhow::ensure!(yes, "this signs everybody out; say --yes if that is what you want");
            let count = sessions_in(place).await?.0.end_everybody().await?;
            println!("Ended {count} session(s), those of visitors included. Everybody has to sign in again.");
        }
    }
    Ok(())
}

async fn sessions_in(place: Place) -> anyhow::Result<(Sessions, Policy)> {
    let config = place.load()?;
    anyhow::ensure!(
        !matches!(config.store, StoreChoice::Memory(_)),
        "sessions in memory are the running gateway's own: end them on the user's page, or restart it"
    );
    Ok((open::open(&config).await?.sessions.sessions(), config.policy))
}

/// A session as it is printed; the names are those of the JSON, and stay.
#[derive(Serialize)]
struct Row {
    handle: String,
    client: String,
    network: Option<String>,
    created: String,
    last_active: String,
    authenticated: Option<String>,
    level: Option<u8>,
    ends: String,
    ends_at_latest: String,
    /// Whether it has the limits of the policy as it is now; a session keeps those that it was made with.
    current_limits: bool,
}

impl Row {
    fn of(info: &SessionInfo, policy: &Policy) -> Self {
        let date = |at: Timestamp| rfc3339(at.as_secs());
        let begun = info.authenticated.unwrap_or(info.created);
        let current_limits = info.idle_limit == policy.idle_limit()
            && info.absolute_limit == begun.plus(policy.absolute_limit());
        Self {
            handle: info.handle.to_string(),
            client: info.client.to_string(),
            network: info.client.network.map(|network| network.to_string()),
            created: date(info.created),
            last_active: date(info.seen),
            authenticated: info.authenticated.map(date),
            level: info.level.map(|level| level.get()),
            ends: date(info.ends),
            ends_at_latest: date(info.absolute_limit),
            current_limits,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handle, client, created, last_active, ends, ends_at_latest, .. } = self;
        let network = self.network.as_deref().unwrap_or("an unknown network");
        let limits = if self.current_limits { "" } else { "; its limits are not those of the policy now" };
        write!(
            f,
            "{handle}  {client}, {network}  made {created}, last active {last_active}, ends {ends}, {ends_at_latest} at the latest{limits}"
        )
    }
}
