//! Carrying out what the application has answered: all of it, or none but a logout.

use std::collections::BTreeMap;

use cloakroom::{Session, SessionError};

use crate::protocol::commands::{Authenticated, Commands, Kind, Logout, Rejection};

/// Commands were not obeyed.
#[derive(Debug)]
pub enum Disobeyed {
    /// They are malformed, or not allowed here.
    Rejected(Rejection),
    /// Store or policy said no.
    Session(SessionError),
}

impl From<SessionError> for Disobeyed {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

/// Obeys commands, in the protocol's order: logout, login or step-up, rotate, unset, set. `before` is the data that the application
/// was told.
///
/// Data for a session that ended moments ago is dropped, with an event: the application was told before, and what it has done besides is
/// not spoiled for it.
///
/// # Errors
///
/// [`Disobeyed`]; a well-formed logout has been carried out all the same.
pub async fn obey(
    session: &Session,
    commands: Result<Commands, Rejection>,
    before: &[(String, String)],
    data_max: usize,
) -> Result<(), Disobeyed> {
    let checked = commands.and_then(|commands| {
        let fresh = commands.logout.is_some_and(|logout| logout != Logout::Others)
            || commands.authenticated.as_ref().is_some_and(|authenticated| authenticated.kind == Kind::Login);
        commands.check_data(if fresh { &[] } else { before }, data_max)?;
        Ok(commands)
    });
    let commands = match checked {
        Ok(commands) => commands,
        Err(rejection) => {
            if let Some(logout) = rejection.logout {
                log_out(session, logout).await?;
            }
            return Err(Disobeyed::Rejected(rejection));
        }
    };
    if let Some(logout) = commands.logout {
        log_out(session, logout).await?;
    }
    let mut set = commands.set;
    // Unset comes before set, so it has no say on what is set; least of all on what came with a login.
    let unset = commands.unset.into_iter().filter(|key| !set.contains_key(key)).collect::<Vec<_>>();
    let mut replaced = false;
    if let Some(Authenticated { kind, subject, level, methods }) = commands.authenticated {
        let methods = methods.iter().map(String::as_str);
        replaced = true;
        match kind {
            Kind::Login => {
                let mut login =
                    session.login_since_arrival(subject.as_str())?.level(level).methods(methods)?;
                // Login and data are one insert.
                for (key, text) in std::mem::take(&mut set) {
                    login = login.set_json(&key, &json_of(&text))?;
                }
                login.complete().await?;
            }
            Kind::StepUp => session.step_up(level, methods).await?,
        }
    }
    if commands.rotate && !replaced {
        session.rotate().await?;
    }
    match change(session, &unset, &set) {
        Ok(()) | Err(SessionError::NotKept) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn change(session: &Session, unset: &[String], set: &BTreeMap<String, String>) -> Result<(), SessionError> {
    unset.iter().try_for_each(|key| session.remove_named(key))?;
    set.iter().try_for_each(|(key, text)| session.set_json(key, &json_of(text)))
}

/// Ends sessions.
///
/// # Errors
///
/// [`SessionError`] of the store or the policy.
pub async fn log_out(session: &Session, logout: Logout) -> Result<(), SessionError> {
    let anonymous = session.subject().is_none();
    match logout {
        Logout::Others if anonymous => {}
        Logout::Others => drop(session.log_out_others().await?),
        Logout::Everywhere if !anonymous => drop(session.log_out_everywhere().await?),
        Logout::This | Logout::Everywhere => session.log_out().await?,
    }
    Ok(())
}

/// A text as it is stored: a JSON string.
fn json_of(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A stored value as the protocol shows it: a JSON string as its text, anything else as its JSON.
pub fn text_of(json: String) -> String {
    serde_json::from_str::<String>(&json).unwrap_or(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_stored_as_json_and_come_back_as_they_were() {
        for text in ["", "tea", "\"", "ž\n", "{}"] {
            assert_eq!(text_of(json_of(text)), text);
        }
        assert_eq!(text_of("[1]".to_owned()), "[1]");
    }
}
