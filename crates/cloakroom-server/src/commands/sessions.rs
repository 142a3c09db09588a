//! `cloakroom sessions`: list or end a user's sessions, while the gateway runs or not.

use cloakroom::SessionInfo;

use super::{SessionsAction, SubjectArgs};
use crate::config::Raw;
use crate::serve;

pub(super) async fn run(action: SessionsAction) -> anyhow::Result<()> {
    let (SessionsAction::List(args) | SessionsAction::Revoke(args)) = &action;
    let subject = args.subject.clone();
    let revoke = matches!(action, SessionsAction::Revoke(_));
    let (SessionsAction::List(SubjectArgs { common, .. })
    | SessionsAction::Revoke(SubjectArgs { common, .. })) = action;
    let config = common.load(|raw: &mut Raw| {
        // Nothing is served, so there need be no application.
        raw.upstream = raw.upstream.take().or(Some("http://127.0.0.1:1".to_owned()));
    })?;
    anyhow::ensure!(
        config.store != crate::config::StoreChoice::Memory,
        "sessions in memory are the running gateway's own: end them on the user's page, or restart it"
    );
    let sessions = serve::sessions(&config)?.sessions();
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
