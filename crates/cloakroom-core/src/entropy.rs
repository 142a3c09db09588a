//! Randomness as a parameter.

/// A cryptographically secure source of random bytes.
///
/// # Security
///
/// Every identifier, secret, key and nonce comes from here (R-001: a CSPRNG, at least 128 bits;
/// NIST SP 800-63B-4 section 5.1). A weak implementation makes every session guessable. The operating
/// system's source is `cloakroom::SystemEntropy`; `cloakroom_testkit::SeededEntropy` is for tests only.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes` with random bytes.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] when the source has none to give. Nothing is issued then: the request is
    /// refused with 503.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError>;
}

/// The source of randomness failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the source of randomness failed")]
pub struct EntropyError;

impl<E: Entropy + ?Sized> Entropy for std::sync::Arc<E> {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        (**self).fill(bytes)
    }
}

/// `N` random bytes.
pub(crate) fn draw<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], EntropyError> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}
