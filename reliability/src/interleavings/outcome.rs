use std::fmt;

use cloakroom::Reason;

use super::Actor;

/// What became of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It lives.
    Live,
    /// Its limit has passed; whether it was swept makes no difference.
    Expired,
    /// It was ended.
    Ended(Reason),
    /// There is no trace of it.
    Absent,
}

/// What a response did to the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// Nothing.
    Untouched,
    /// Removed it.
    Removed,
    /// Set a token.
    Set {
        /// Whether of a session that the response's own login made.
        login: bool,
        /// Whether it opens a session in the end.
        good: bool,
    },
}

/// What came of one order of steps, in terms that two orders can be compared in.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Status and cookie of each actor's response; `None` for what is no request.
    pub answers: Vec<Option<(u16, Cookie)>>,
    /// Whether each request found itself logged in. Not compared: what a handler looks at is a snapshot.
    pub signed_in: Vec<bool>,
    /// The session that the browser had.
    pub original: Fate,
    /// The user's session on another device.
    pub other: Fate,
    /// The session of each actor's login, if its response told of one.
    pub fresh: Vec<Option<Fate>>,
    /// Live sessions of the user that no response told of.
    pub strays: usize,
    /// Count and word of the original session, while it lives and a token in the client's hands opens it.
    pub data: Option<(u64, Option<String>)>,
    /// Whether activity was noted in the original session, while it lives.
    pub noted: Option<bool>,
    /// Which of the tokens from before still open the original session.
    pub initial: Vec<bool>,
    /// How many different secrets of the original session were handed out.
    pub successors: usize,
}

impl Outcome {
    /// Whether this may come of an order whose actors could have come in a sequential order with the outcome `serial`.
    pub fn is_as_good_as(&self, serial: &Self, actors: &[Actor]) -> bool {
        let refused = |index: usize| {
            let refused = matches!(self.answers[index], Some((409, Cookie::Untouched)));
            let dead = Some(Fate::Ended(Reason::RevokedAll));
            let would_be_dead = serial.fresh[index] == dead && self.fresh[index].is_none();
            actors[index].logs_in() && actors.contains(&Actor::RevokeAll) && refused && would_be_dead
        };
        let answers = (0..actors.len()).all(|index| {
            let (ours, theirs) = (self.answers[index], serial.answers[index]);
            if refused(index) {
                return theirs == Some((200, Cookie::Set { login: true, good: false }));
            }
            self.fresh[index] == serial.fresh[index]
                && match (ours, theirs) {
                    (Some((status, ours)), Some((as_if, theirs))) => {
                        (status == as_if || self.ended_beneath(index, actors, as_if))
                            && (ours == theirs || may_be_missing(ours, theirs, actors[index]))
                    }
                    (ours, theirs) => ours == theirs,
                }
        });
        let overtaken = (0..actors.len()).any(refused);
        let admitted = actors.contains(&Actor::RevokeAll)
            && (0..actors.len()).any(|index| actors[index].logs_in() && self.fresh[index].is_some());
        let original = match (self.original, serial.original) {
            (Fate::Ended(Reason::RevokedAll), Fate::Ended(Reason::Superseded)) if overtaken => true,
            (Fate::Ended(Reason::Superseded), Fate::Ended(Reason::RevokedAll)) if admitted => true,
            (ours, theirs) => ours == theirs,
        };
        answers
            && original
            && self.other == serial.other
            && self.strays == serial.strays
            && self.data == serial.data
            && self.noted == serial.noted
            && self.initial == serial.initial
            && self.successors <= serial.successors
    }
}

impl Outcome {
    /// Rule 6: whether an actor's change was accepted while its session lived, and refused where it had just ended.
    fn ended_beneath(&self, index: usize, actors: &[Actor], as_if: u16) -> bool {
        let accepted = self.answers[index] == Some((200, Cookie::Untouched));
        accepted && as_if == 409 && !actors[index].logs_in() && self.original != Fate::Live
    }

    /// Rule 5: whether an actor's request was too late and left nothing.
    pub fn came_too_late(&self, index: usize, actors: &[Actor]) -> bool {
        let nothing = matches!(self.answers[index], Some((_, Cookie::Untouched)));
        nothing && !self.signed_in[index] && !actors[index].logs_in() && actors.contains(&Actor::Expire)
    }

    /// The same without one actor's answer.
    #[must_use = "this returns the smaller outcome"]
    pub fn without(&self, index: usize) -> Self {
        let mut rest = self.clone();
        rest.answers[index] = None;
        rest
    }
}

/// Rules 1 and 2: whether `theirs`, which a sequential order sets, may be missing.
fn may_be_missing(ours: Cookie, theirs: Cookie, actor: Actor) -> bool {
    match (ours, theirs) {
        (Cookie::Untouched, Cookie::Set { login: false, good }) => actor != Actor::RotateNow || !good,
        _ => false,
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "original {:?}, other {:?}, strays {}", self.original, self.other, self.strays)?;
        write!(f, ", data {:?}, noted {:?}, initial {:?}", self.data, self.noted, self.initial)?;
        write!(f, ", successors {}, answers {:?}, fresh {:?}", self.successors, self.answers, self.fresh)
    }
}
