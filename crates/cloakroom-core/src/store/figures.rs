//! The figures of a policy that a store needs too: one source for both.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use crate::policy::Policy;

/// The figures of a policy that a store needs. Made by [`Policy::figures`], and handed to a store by [`Store::govern`].
///
/// [`Store::govern`]: super::Store::govern
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// How far this machine's clock and the store's may be apart: later activity is noted as of the store's time and this much.
    pub clock_skew: Duration,
    /// How long an ended session is remembered.
    pub tombstone_ttl: Duration,
    /// How long the record of an "end all sessions" is kept.
    pub epoch_ttl: Duration,
}

/// Where a store keeps the figures that it was given; those of [`Policy::default`] until then.
///
/// Of several layers on one store the longest of each figure holds: none of them is promised less than it relies on.
#[derive(Debug, Default)]
pub struct Governed(RwLock<Option<Figures>>);

impl Governed {
    /// Takes figures.
    pub fn take(&self, figures: Figures) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *held = Some(held.map_or(figures, |held| Figures {
            clock_skew: held.clock_skew.max(figures.clock_skew),
            tombstone_ttl: held.tombstone_ttl.max(figures.tombstone_ttl),
            epoch_ttl: held.epoch_ttl.max(figures.epoch_ttl),
        }));
    }

    /// The figures that hold.
    pub fn figures(&self) -> Figures {
        let held = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        held.unwrap_or_else(|| Policy::default().figures())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_policies_the_longest_of_each_figure_holds() {
        let secs = Duration::from_secs;
        let governed = Governed::default();
        assert_eq!(governed.figures(), Policy::default().figures());
        let figures = |clock_skew, tombstone_ttl, epoch_ttl| Figures {
            clock_skew: secs(clock_skew),
            tombstone_ttl: secs(tombstone_ttl),
            epoch_ttl: secs(epoch_ttl),
        };
        for (given, held) in [
            (figures(1, 2, 3), figures(1, 2, 3)),
            (figures(2, 1, 4), figures(2, 2, 4)),
            (figures(0, 9, 0), figures(2, 9, 4)),
        ] {
            governed.take(given);
            assert_eq!(governed.figures(), held);
        }
    }
}
