//! Stand-ins for time and randomness in this crate's own unit tests.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::entropy::{Entropy, EntropyError};

/// Bytes that never repeat and are easy to recognise. Not random at all.
#[derive(Debug, Default)]
pub(crate) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        let mut state = self.0.fetch_add(1, Ordering::Relaxed);
        for byte in bytes {
            // splitmix64, a byte at a time
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z ^ (z >> 31)) as u8;
        }
        Ok(())
    }
}
