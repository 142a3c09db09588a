//! Log out: the session ends on the server, and the cookie goes.

use crate::engine::{CookieAction, Resumed};
use crate::token::Handle;

impl Resumed {
    /// The sessions that a logout ends: the live one, or, where several were presented and none was honoured, all
    /// that were presented.
    pub fn to_log_out(&self) -> Vec<Handle> {
        match &self.active {
            Some(active) => vec![active.record.handle],
            None => self.presented.iter().copied().collect(),
        }
    }

    /// Takes the outcome of a logout; `removed` says whether this request's own removal ended a session.
    ///
    /// The cookie is removed with the session, and only with it: where there was none to end, or another request had ended
    /// it moments before, a login may just have set the cookie.
    pub fn logged_out(&mut self, removed: bool) {
        let ended_by_another = !removed && (self.just_ended || self.active.is_some());
        self.all_ended();
        self.just_ended = ended_by_another;
        self.cookie = removed.then_some(CookieAction::Remove);
    }
}
