//! The token: what a client holds. A public handle and a secret, in 64 characters.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize as _;

use crate::entropy::{Entropy, EntropyError, draw};
use crate::record::Subject;
use crate::wipe::wiped;

/// Bytes in a handle.
pub const HANDLE_LEN: usize = 16;
/// Bytes in a secret: 256 random bits (R-001).
pub const SECRET_LEN: usize = 32;
/// Characters in a token: 48 bytes as unpadded base64url.
pub const TOKEN_LEN: usize = 64;
/// Characters in the text of a handle.
pub const HANDLE_TEXT_LEN: usize = 22;

/// A session's public name: safe to list, to log and to use in an administrator's URL. Grants nothing.
///
/// 14 of its 128 bits are a plain hash of the subject (random while anonymous), so that on a
/// partitioned store all sessions of one subject lie together; the other 114 are random. Whoever holds
/// a handle can tell those 14 bits, which is a stated departure from R-002.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Handle([u8; HANDLE_LEN]);

impl Handle {
    /// Makes a handle from its bytes, as a store reads them back.
    pub const fn from_bytes(bytes: [u8; HANDLE_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of this handle.
    pub const fn as_bytes(&self) -> &[u8; HANDLE_LEN] {
        &self.0
    }

    /// The 14-bit tag, 0 to 16383: equal for all sessions of one subject.
    pub fn tag(&self) -> u16 {
        let [first, second, ..] = self.0;
        u16::from_be_bytes([first, second]) >> 2
    }

    /// The tag of all of a subject's handles: for a store that must find its place without one.
    pub fn tag_of(subject: &Subject) -> u16 {
        subject_tag(subject) >> 2
    }

    /// Makes a new handle for a subject, or for an anonymous visitor, of bytes that were drawn for it.
    pub(crate) fn drawn(subject: Option<&Subject>, mut bytes: [u8; HANDLE_LEN]) -> Self {
        if let Some(subject) = subject {
            let [first, second, ..] = subject_tag(subject).to_be_bytes();
            let [a, b, ..] = &mut bytes;
            *a = first;
            *b = second | (*b & 0b11);
        }
        Self(bytes)
    }
}

/// The tag of a subject in the upper 14 bits of a 16-bit number; the lower two are zero.
fn subject_tag(subject: &Subject) -> u16 {
    let mut hash = Sha256::new();
    hash.update(b"cloakroom subject tag\0");
    hash.update(subject.as_str().as_bytes());
    let [first, second, ..] = <[u8; 32]>::from(hash.finalize());
    u16::from_be_bytes([first, second]) & !0b11
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; HANDLE_TEXT_LEN];
        let text = Base64UrlUnpadded::encode(&self.0, &mut text).map_err(|_| fmt::Error)?;
        f.write_str(text)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({self})")
    }
}

/// The text is not a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a session handle: 22 characters of unpadded base64url were expected")]
pub struct HandleError;

impl FromStr for Handle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, HandleError> {
        let mut bytes = [0; HANDLE_LEN];
        if text.len() != HANDLE_TEXT_LEN {
            return Err(HandleError);
        }
        Base64UrlUnpadded::decode(text, &mut bytes).map_err(|_| HandleError)?;
        Ok(Self(bytes))
    }
}

/// The secret half of a token: known to the client only, and zeroed when dropped.
///
/// Has no `Display`, `Serialize`, `Copy` or `Hash`; its `Debug` is redacted and its comparison takes
/// constant time.
#[derive(Clone)]
pub struct Secret([u8; SECRET_LEN]);

wiped!(Secret, 0; TokenText, 0);

impl Secret {
    pub(crate) fn draw(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        draw(entropy).map(Self)
    }

    pub(crate) const fn from_bytes(bytes: [u8; SECRET_LEN]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn expose(&self) -> &[u8; SECRET_LEN] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// What a client holds: handle and secret.
///
/// # Security
///
/// Possession of the 64 characters is possession of the session. `Debug` shows the handle only; the
/// one way to the text is [`Token::expose`], for the `Set-Cookie` field.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub(crate) handle: Handle,
    pub(crate) secret: Secret,
}

impl Token {
    pub(crate) const fn new(handle: Handle, secret: Secret) -> Self {
        Self { handle, secret }
    }

    /// Reads a token; anything but exactly 64 characters of the base64url alphabet is refused (R-004).
    ///
    /// Says nothing about whether such a token was ever issued.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0_u8; HANDLE_LEN + SECRET_LEN];
        if text.len() != TOKEN_LEN {
            return None;
        }
        let decoded = Base64UrlUnpadded::decode(text, &mut bytes).is_ok();
        let token = decoded.then(|| bytes.split_first_chunk::<HANDLE_LEN>()).flatten().and_then(
            |(handle, secret)| {
                let secret = secret.first_chunk::<SECRET_LEN>()?;
                Some(Self::new(Handle(*handle), Secret(*secret)))
            },
        );
        bytes.zeroize();
        token
    }

    /// The public half.
    pub const fn handle(&self) -> Handle {
        self.handle
    }

    /// The 64 characters that go to the client. Handle with care: they are the session.
    pub fn expose(&self) -> TokenText {
        let mut bytes = [0_u8; HANDLE_LEN + SECRET_LEN];
        for (to, from) in bytes.iter_mut().zip(self.handle.0.iter().chain(&self.secret.0)) {
            *to = *from;
        }
        let mut text = [0; TOKEN_LEN];
        // 48 bytes are exactly 64 characters, so this cannot fail; an empty text would be refused anywhere.
        let encoded = Base64UrlUnpadded::encode(&bytes, &mut text).is_ok();
        bytes.zeroize();
        debug_assert!(encoded);
        TokenText(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, redacted)", self.handle)
    }
}

/// The characters of a token, zeroed when dropped.
pub struct TokenText([u8; TOKEN_LEN]);

impl TokenText {
    /// The 64 characters.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Counting;

    fn token() -> Token {
        Token::new(Handle([7; 16]), Secret([9; 32]))
    }

    #[test]
    fn a_token_reads_back_as_it_was_written() {
        let text = token().expose();
        assert_eq!(text.as_str().len(), TOKEN_LEN);
        assert_eq!(Token::parse(text.as_str().as_bytes()), Some(token()));
    }

    #[test]
    fn r004_a_token_of_wrong_length_or_alphabet_is_refused() {
        let good = token().expose().as_str().to_owned();
        let mut hostile: Vec<Vec<u8>> = vec![b"".to_vec(), b"a".to_vec(), vec![b'a'; 8192]];
        hostile.push(good.as_bytes()[1..].to_vec());
        hostile.push(format!("{good}A").into_bytes());
        hostile.push(format!("{}=", &good[..63]).into_bytes());
        for bad in [&b"+"[..], b"/", b"=", b"\0", b"\"", b" ", b"\r", b"\xff", b"'"] {
            let mut text = good.clone().into_bytes();
            text[40..41].copy_from_slice(bad);
            hostile.push(text);
        }
        for text in hostile {
            assert_eq!(Token::parse(&text), None, "{}", String::from_utf8_lossy(&text));
        }
        assert!(Token::parse(good.as_bytes()).is_some());
    }

    #[test]
    fn r108_debug_text_of_secret_types_holds_no_secret() {
        let token = token();
        let text = token.expose();
        let printed = format!("{token:?} {:?} {text:?}", token.secret);
        assert!(!printed.contains(&text.as_str()[22..]), "{printed}");
        assert!(!printed.contains('9'), "{printed}");
        assert!(printed.contains(&token.handle().to_string()));
    }

    #[test]
    fn all_handles_of_a_subject_share_a_tag_and_nothing_else() {
        let entropy = Counting::default();
        let alice = Subject::new("alice").unwrap();
        let first = Handle::drawn(Some(&alice), draw(&entropy).unwrap());
        let second = Handle::drawn(Some(&alice), draw(&entropy).unwrap());
        assert_eq!(first.tag(), second.tag());
        assert_ne!(first, second);
        assert!(first.tag() < 16384);
        let bob = Subject::new("bob").unwrap();
        assert_ne!(Handle::drawn(Some(&bob), draw(&entropy).unwrap()).tag(), first.tag());
    }

    #[test]
    fn a_handle_reads_back_and_has_one_spelling_only() {
        let handle = Handle([0xa5; 16]);
        let text = handle.to_string();
        assert_eq!(text.parse(), Ok(handle));
        // The last character carries four bits that must be zero.
        let last = if text.ends_with('Q') { 'R' } else { 'Q' };
        let other = format!("{}{last}", &text[..21]);
        assert!(other.parse::<Handle>().is_err() || other.parse::<Handle>() != Ok(handle));
        assert!("".parse::<Handle>().is_err());
    }
}
