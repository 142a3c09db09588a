//! AES-256-GCM, as sealing uses it: a key for a few bytes, then wiped.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

pub(crate) const TAG_LEN: usize = 16;
pub(crate) const NONCE_LEN: usize = 12;

/// A key that is set up. Its memory is wiped when it is dropped, which the library does with all that it allocates.
pub(crate) struct Cipher(LessSafeKey);

/// It refused: a tag that does not fit, or a text beyond what one nonce is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

impl Cipher {
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, Refused> {
        Ok(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| Refused)?)))
    }

    /// Encrypts in place; returns the tag. The caller sees to it that no nonce is used twice under a key.
    pub(crate) fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        bound: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], Refused> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(bound), text).map_err(|_| Refused)?;
        tag.as_ref().try_into().map_err(|_| Refused)
    }

    /// Decrypts in place. If it refuses, what is in `text` is nothing.
    pub(crate) fn open(
        &self,
        nonce: [u8; NONCE_LEN],
        bound: &[u8],
        tag: &[u8; TAG_LEN],
        text: &mut [u8],
    ) -> Result<(), Refused> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.0.open_in_place_separate_tag(nonce, Aad::from(bound), tag, text);
        opened.map(drop).map_err(|_| Refused)
    }
}
