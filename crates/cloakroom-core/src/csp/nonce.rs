//! The nonce of one response.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};

use crate::entropy::{Entropy, EntropyError, draw};

/// Characters in a nonce.
pub const NONCE_LEN: usize = 22;

/// What marks the scripts and styles of one response as the server's own: 128 random bits as 22 characters of base64url
/// (CSP3 section 7.1 asks for at least 128, new each time).
///
/// # Security
///
/// Draw one for each response, and keep the response out of caches: whoever knows a page's nonce before it is sent can
/// inject scripts into it. `Debug` hides it and there is no `Display`, so that it stays out of logs.
#[derive(Clone)]
pub struct Nonce([u8; NONCE_LEN]);

impl Nonce {
    /// Draws a nonce.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if no randomness is to be had. Then nothing may be sent that needs one.
    pub fn draw(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut text = [0; NONCE_LEN];
        Base64UrlUnpadded::encode(&draw::<16>(entropy)?, &mut text).map_err(|_| EntropyError)?;
        Ok(Self(text))
    }

    /// The text for the `nonce` attribute; needs no escaping anywhere.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The one that policies are checked with before there is a response.
    pub(crate) const fn sample() -> Self {
        Self([b'A'; NONCE_LEN])
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Counting;

    #[derive(Debug)]
    struct Dry;

    impl Entropy for Dry {
        fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
            Err(EntropyError)
        }
    }

    #[test]
    fn r086_each_nonce_is_new_and_holds_128_bits() {
        let entropy = Counting::default();
        let mut nonces: Vec<_> =
            (0..1000).map(|_| Nonce::draw(&entropy).unwrap().as_str().to_owned()).collect();
        for nonce in &nonces {
            assert_eq!(Base64UrlUnpadded::decode_vec(nonce).unwrap().len(), 16);
        }
        nonces.sort();
        nonces.dedup();
        assert_eq!(nonces.len(), 1000);
    }

    #[test]
    fn r086_without_randomness_there_is_no_nonce() {
        assert_eq!(Nonce::draw(&Dry).err(), Some(EntropyError));
    }

    #[test]
    fn debug_text_holds_no_nonce() {
        let nonce = Nonce::draw(&Counting::default()).unwrap();
        assert_eq!(format!("{nonce:?}"), "Nonce(redacted)");
    }
}
