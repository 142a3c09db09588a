use std::sync::atomic::{AtomicU64, Ordering};

use cloakroom_core::entropy::{Entropy, EntropyError};
use sha2::{Digest as _, Sha256};

/// Bytes that look random, are the same for the same seed, and never repeat within one source.
///
/// SHA-256 of the seed and a counter. Threads may share one source; which of them gets which bytes then depends on
/// their order. Never fails.
///
/// # Security
///
/// For tests only. Whoever knows the seed, a mere 64 bits, knows every token.
///
/// ```
/// use cloakroom_core::entropy::Entropy;
/// use cloakroom_testkit::SeededEntropy;
///
/// let (mut first, mut second) = ([0; 32], [0; 32]);
/// SeededEntropy::new(7).fill(&mut first)?;
/// SeededEntropy::new(7).fill(&mut second)?;
/// assert_eq!(first, second);
/// # Ok::<(), cloakroom_core::entropy::EntropyError>(())
/// ```
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    blocks: AtomicU64,
}

impl SeededEntropy {
    /// Makes a source from a seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed, blocks: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        for part in bytes.chunks_mut(32) {
            let block = self.blocks.fetch_add(1, Ordering::Relaxed);
            let mut hash = Sha256::new();
            hash.update(b"cloakroom-testkit seeded entropy\0");
            hash.update(self.seed.to_be_bytes());
            hash.update(block.to_be_bytes());
            for (to, from) in part.iter_mut().zip(<[u8; 32]>::from(hash.finalize())) {
                *to = from;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(source: &SeededEntropy) -> [u8; 40] {
        let mut bytes = [0; 40];
        source.fill(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_seed_determines_the_bytes_and_another_seed_gives_others() {
        let (one, same, other) = (SeededEntropy::new(1), SeededEntropy::new(1), SeededEntropy::new(2));
        let first = draw(&one);
        assert_eq!(first, draw(&same));
        assert_ne!(first, draw(&other));
        assert_ne!(first, draw(&one));
        assert_ne!(first[..8], first[32..]);
    }
}
