//! `cloakroom sessions`: list or end a user's sessions, while the gateway runs or not.

use cloakroom::SessionInfo;

use super::{SessionsAction, SubjectArgs};
use crate::config::StoreChoice;
use crate::open;

pub(super) async fn run(action: SessionsAction) -> anyhow::Result<()> {
    let revoke = matches!(action, SessionsAction::Revoke(_));
    let (SessionsAction::List(SubjectArgs { subject, place })
    | SessionsAction::Revoke(SubjectArgs { subject, place })) = action;
    let config = place.load()?;
    anyhow::ensure!(
        !matches!(config.store, StoreChoice::Memory),
        "sessions in memory are the running gateway's own: end them on the user's page, or restart it"
    );
    let sessions = open::open(&config).await?.sessions.sessions();
    if revoke {
        let count = sessions.end_all(subject.as_str()).await?;
        println!("Ended {count} session(s) of {subject}.");
        return Ok(());
    }
    let list = sessions.list(subject.as_str()).await?;
    println!("{} session(s) of {subject}", list.len());
    for SessionInfo { handle, client, seen, .. } in list {
        println!("{handle}  {client}  last active {} s after 1970", seen.as_secs());
    }
    Ok(())
}
