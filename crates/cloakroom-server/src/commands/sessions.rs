//! `cloakroom sessions`: list or end a user's sessions, or everybody's, while the gateway runs or not.

use cloakroom::{SessionInfo, Sessions};

use super::{EverybodyArgs, Place, SessionsAction, SubjectArgs};
use crate::config::StoreChoice;
use crate::open;

pub(super) async fn run(action: SessionsAction) -> anyhow::Result<()> {
    match action {
        SessionsAction::List(SubjectArgs { subject, place }) => {
            let list = sessions_in(place).await?.list(subject.as_str()).await?;
            println!("{} session(s) of {subject}", list.len());
            for SessionInfo { handle, client, seen, .. } in list {
                println!("{handle}  {client}  last active {} s after 1970", seen.as_secs());
            }
        }
        SessionsAction::Revoke(SubjectArgs { subject, place }) => {
            let count = sessions_in(place).await?.end_all(subject.as_str()).await?;
            println!("Ended {count} session(s) of {subject}.");
        }
        SessionsAction::RevokeEverybody(EverybodyArgs { yes, place }) => {
            anyhow::ensure!(yes, "this signs everybody out; say --yes if that is what you want");
            let count = sessions_in(place).await?.end_everybody().await?;
            println!("Ended {count} session(s), those of visitors included. Everybody has to sign in again.");
        }
    }
    Ok(())
}

async fn sessions_in(place: Place) -> anyhow::Result<Sessions> {
    let config = place.load()?;
    anyhow::ensure!(
        !matches!(config.store, StoreChoice::Memory),
        "sessions in memory are the running gateway's own: end them on the user's page, or restart it"
    );
    Ok(open::open(&config).await?.sessions.sessions())
}
