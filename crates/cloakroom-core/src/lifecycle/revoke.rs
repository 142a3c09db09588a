//! Log out: the session ends on the server, and the cookie goes.

use crate::engine::{CookieAction, Resumed};
use crate::token::Handle;

impl Resumed {
    /// The sessions that a logout ends: the live one, or, where several were presented and none was honoured, all
    /// that were presented.
    pub fn to_log_out(&self) -> Vec<Handle> {
        match &self.active {
            Some(active) => vec![active.record.handle],
            None => self.presented.clone(),
        }
    }

    /// Takes the outcome of a logout; `removed` says whether this request's own removal ended a session.
    ///
    /// The cookie is removed with the session. Where another request had ended the session moments before, it is left
    /// alone: a login may just have set it.
    pub fn logged_out(&mut self, removed: bool) {
        let leave = !removed && (self.just_ended || self.active.is_some());
        self.all_ended();
        if !leave {
            self.just_ended = false;
            self.cookie = Some(CookieAction::Remove);
        } else {
            self.just_ended = true;
        }
    }
}
