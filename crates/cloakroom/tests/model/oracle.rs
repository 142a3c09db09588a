//! What must hold, kept apart from the code that makes it hold.

use std::collections::BTreeMap;
use std::time::Duration;

use cloakroom::core::clock::Timestamp;
use cloakroom::core::record::Record;
use cloakroom::core::store::{Found, Reason};
use cloakroom::core::token::Handle;
use cloakroom::{Event, EventKind};

const ABSOLUTE: Duration = Duration::from_secs(24 * 3600);
/// The grace of a rotation, and how far clocks may differ.
pub(crate) const GRACE: Duration = Duration::from_secs(60);
pub(crate) const SKEW: Duration = Duration::from_secs(5);

/// One secret of a session: its token once a response has shown it, and since when it is known to be in use.
#[derive(Debug, Default)]
pub(crate) struct Secret {
    pub(crate) token: Option<String>,
    confirmed: Option<Timestamp>,
}

/// Everything known of one session.
#[derive(Debug)]
pub(crate) struct Life {
    /// Its secrets, oldest first.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) absolute: Timestamp,
    pub(crate) ended: Option<(Reason, Timestamp)>,
    /// Updates in requests that were answered, and in requests that were dropped or are still under way.
    /// Whether a thief has used a valid token: from then on the owner may be the one that presents a retired one.
    pub(crate) stolen: bool,
    pub(crate) counted: u64,
    pub(crate) uncertain: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) now: Timestamp,
    pub(crate) lives: BTreeMap<Handle, Life>,
    /// Set while a thief presents a token that must or may count as a replay.
    pub(crate) replay_allowed: bool,
}

impl Oracle {
    pub(crate) fn inserted(&mut self, record: &Record) {
        let handle = record.handle();
        let secrets = vec![Secret { token: None, confirmed: Some(record.created()) }];
        assert_eq!(record.absolute_limit(), record.created().plus(ABSOLUTE));
        let life = Life {
            secrets,
            absolute: record.absolute_limit(),
            ended: None,
            stolen: false,
            counted: 0,
            uncertain: 0,
        };
        assert!(self.lives.insert(handle, life).is_none(), "a handle was given out twice");
    }

    /// what has ended stays so.
    pub(crate) fn found(&self, handle: Handle, found: &Found) {
        if let (Some(life), Found::Live(_)) = (self.lives.get(&handle), found) {
            assert_eq!(life.ended, None, "{handle} lives again");
        }
    }

    /// only authenticating again moves the absolute limit, and nothing moves creation or subject.
    pub(crate) fn replaced(&mut self, before: &Found, after: &Record) {
        let Found::Live(before) = before else {
            panic!("a replace of {} succeeded on nothing", after.handle())
        };
        let life = self.lives.get_mut(&after.handle()).expect("only what was inserted can be replaced");
        assert_eq!(life.ended, None, "{} was replaced after its end", after.handle());
        assert_eq!((before.created(), before.subject()), (after.created(), after.subject()));
        if before.authentication() == after.authentication() {
            assert_eq!(before.absolute_limit(), after.absolute_limit(), "the absolute limit moved");
        } else {
            let at = after.authentication().unwrap().at();
            assert_eq!(after.absolute_limit(), at.plus(ABSOLUTE));
            life.absolute = after.absolute_limit();
        }
    }

    pub(crate) fn ended(&mut self, handle: Handle, reason: Reason, at: Timestamp) {
        let life = self.lives.get_mut(&handle).expect("only what was inserted can end");
        assert_eq!(life.ended, None, "{handle} ended twice");
        life.ended = Some((reason, at));
        let explained = life.stolen || self.replay_allowed;
        assert!(reason != Reason::Replay || explained, "{handle} was taken for stolen without cause");
    }

    /// Follows the secrets of a session by its events.
    pub(crate) fn observe(&mut self, event: &Event) {
        let Some(life) = event.handle.and_then(|handle| self.lives.get_mut(&handle)) else { return };
        match event.kind {
            EventKind::Renewed | EventKind::SteppedUp | EventKind::RotatedOnDemand => {
                let confirmed = life.secrets.last().unwrap().confirmed;
                assert!(
                    event.kind != EventKind::Renewed
                        || confirmed.is_some_and(|at| at.plus(GRACE) <= event.at),
                    "a rotation began while another one was unconfirmed or its grace ran"
                );
                life.secrets.push(Secret::default());
            }
            EventKind::RotationConfirmed => life.secrets.last_mut().unwrap().confirmed = Some(event.at),
            _ => {}
        }
    }

    /// Notes the token of a response.
    pub(crate) fn issued(&mut self, handle: Handle, token: &str) {
        let life = self.lives.get_mut(&handle).expect("a token of a session that was inserted");
        let known = life.secrets.iter().any(|secret| secret.token.as_deref() == Some(token));
        if !known {
            let last = life.secrets.last_mut().unwrap();
            assert_eq!(last.token, None, "two different successors of one secret");
            last.token = Some(token.to_owned());
        }
    }

    /// what has expired or ended is not accepted.
    pub(crate) fn accepted(&self, handle: Handle, deadline: Timestamp) {
        let life = &self.lives[&handle];
        assert_eq!(life.ended, None, "{handle} was accepted after its end");
        assert!(self.now < life.absolute, "{handle} was accepted beyond its absolute limit");
        assert!(self.now < deadline, "{handle} was accepted beyond its idle limit");
    }

    /// Whether the `index`-th secret of a session must, or may, count as a replay now.
    pub(crate) fn replay(&self, handle: Handle, index: usize) -> (bool, bool) {
        let life = &self.lives[&handle];
        let old = |secret: &Secret| secret.confirmed.is_some_and(|at| self.now >= at.plus(GRACE).plus(SKEW));
        let later = &life.secrets[index + 1..];
        let may = later.iter().any(old);
        let must = may && later.last().is_some_and(old) && later.len() <= 15;
        (must, may)
    }

    /// Whether a session ended so lately that responses must leave the cookie alone.
    pub(crate) fn just_ended(&self, handle: Handle) -> bool {
        let ended = self.lives.get(&handle).and_then(|life| life.ended);
        ended.is_some_and(|(_, at)| self.now < at.plus(GRACE))
    }
}
