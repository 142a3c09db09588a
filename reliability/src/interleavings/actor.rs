use crate::world::Ask;

/// Something that happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// A request that changes data: read, modify, write.
    Update,
    /// A request that stores a value.
    Set,
    /// A request that only looks, when activity is due to be noted.
    Touch,
    /// A request that only looks, when the secret is due to be replaced.
    Rotate,
    /// A request that replaces the secret on demand.
    RotateNow,
    /// A request with the successor of a scheduled rotation that has begun; all others carry the predecessor.
    Confirm,
    /// A login that reads the epoch first.
    LogIn,
    /// A login that is judged by its arrival.
    LogInOnArrival,
    /// A logout.
    LogOut,
    /// All sessions of the user are ended from elsewhere.
    RevokeAll,
    /// A sweep.
    Sweep,
    /// The session's idle limit passes.
    Expire,
    /// Nothing: in the place of an actor that came too late to count.
    Nobody,
}

impl Actor {
    /// All that do something.
    pub const ALL: [Self; 12] = [
        Self::Update,
        Self::Set,
        Self::Touch,
        Self::Rotate,
        Self::RotateNow,
        Self::Confirm,
        Self::LogIn,
        Self::LogInOnArrival,
        Self::LogOut,
        Self::RevokeAll,
        Self::Sweep,
        Self::Expire,
    ];

    /// Every unordered pair, an actor with itself among them. Time passes once, so there is no pair of two [`Actor::Expire`].
    pub fn pairs() -> Vec<[Self; 2]> {
        let all = Self::ALL;
        let pairs = all.iter().flat_map(|&a| all.iter().map(move |&b| [a, b]));
        pairs.filter(|[a, b]| a < b || (a == b && *a != Self::Expire)).collect()
    }

    /// Every unordered triple, as [`Actor::pairs`].
    pub fn triples() -> Vec<[Self; 3]> {
        let triples = Self::pairs().into_iter().flat_map(|[a, b]| Self::ALL.map(|c| [a, b, c]));
        triples.filter(|[_, b, c]| b < c || (b == c && *b != Self::Expire)).collect()
    }

    /// The request that it sends, if it is one. `index` tells two of a kind apart.
    pub(crate) fn ask(self, index: usize, subject: &str) -> Option<Ask> {
        Some(match self {
            Self::Update => Ask::Count,
            Self::Set => Ask::Word(["first", "second", "third"][index]),
            Self::Touch | Self::Rotate | Self::Confirm => Ask::Read,
            Self::RotateNow => Ask::Rotate,
            Self::LogIn => Ask::LogIn(subject.to_owned()),
            Self::LogInOnArrival => Ask::LogInOnArrival(subject.to_owned()),
            Self::LogOut => Ask::LogOut,
            Self::RevokeAll | Self::Sweep | Self::Expire | Self::Nobody => return None,
        })
    }

    /// Whether it is a login.
    pub const fn logs_in(self) -> bool {
        matches!(self, Self::LogIn | Self::LogInOnArrival)
    }

    /// Whether it takes sessions away by intention.
    pub const fn ends(self) -> bool {
        matches!(self, Self::LogOut | Self::RevokeAll | Self::Expire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_pairs_and_triples_as_combinations_with_repetition() {
        assert_eq!(Actor::pairs().len(), 12 * 13 / 2 - 1);
        // Out of 364 those with two or three times the passing of the limit are left out: 11 and 1.
        assert_eq!(Actor::triples().len(), 364 - 12);
    }
}
