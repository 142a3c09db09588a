//! Sealing: digests, peppers, and the encryption of a session's data under keys that only its client holds.
//!
//! For a handle *h*, a secret *s* and a pepper *P* (docs/security/sealing.md argues the construction):
//!
//! ```text
//! digest     = HMAC-SHA-256(P, 1 ‖ h ‖ s)  first 16 bytes      what the store compares
//! kek        = HMAC-SHA-256(P, 2 ‖ h ‖ s)                      wraps the data key, once
//! successor  = HMAC-SHA-256(P, 3 ‖ h ‖ s ‖ salt)               the secret after a scheduled rotation
//! pepper id  = HMAC-SHA-256(P, 0)          first 8 bytes
//! visitors   = HMAC-SHA-256(P, 4)                              signs form tokens of visitors (csrf.rs)
//! csrf       = HMAC-SHA-256(data key, "cloakroom csrf key")    signs form tokens of a session (csrf.rs)
//! wrapped    = AES-256-GCM(kek, nonce 0, data key, bound fields)
//! data       = AES-256-GCM(data key, random nonce, data map, format ‖ h)
//! ```

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroize as _;

use crate::cipher::{Cipher, NONCE_LEN, Refused, TAG_LEN};
use crate::entropy::{Entropy, EntropyError, draw};
use crate::record::{RECORD_FORMAT, Terms, ValueError};
use crate::token::{Handle, Secret};
use crate::wipe::wiped;

/// The longest list of bound fields: fixed fields, eight methods and a subject of 255 bytes.
const BOUND_MAX: usize = 512;

/// The nonce of a wrapped key: a secret wraps once in its life, so it may be constant.
const WRAPPING: [u8; NONCE_LEN] = [0; NONCE_LEN];

#[derive(Clone, Copy)]
enum Purpose {
    Id = 0,
    Digest = 1,
    Wrap = 2,
    Successor = 3,
    Visitor = 4,
}

/// The public name of a pepper: eight bytes that follow from the pepper but do not tell it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PepperId([u8; 8]);

impl PepperId {
    /// Makes an id from its bytes, as a configuration or a store holds it.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PepperId({self})")
    }
}

/// A key that the server holds and the store does not, mixed into every derivation: whoever can write to
/// the store, but does not know it, cannot forge a session (R-006, ASVS 6.5.2 by analogy).
///
/// `Debug` shows the id only.
#[derive(Clone)]
pub struct Pepper {
    id: PepperId,
    mac: Hmac<Sha256>,
}

impl Pepper {
    /// Makes a pepper from 32 to 1024 bytes of a secure random source.
    ///
    /// # Errors
    ///
    /// [`ValueError`] for fewer or more bytes.
    pub fn new(key: &[u8]) -> Result<Self, ValueError> {
        if !(32..=1024).contains(&key.len()) {
            return Err(ValueError("a pepper has 32 to 1024 bytes, from a secure random source"));
        }
        let mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| ValueError("unusable pepper"))?;
        Ok(Self::keyed(mac))
    }

    /// The empty pepper: what runs where none is configured. The store's secrecy then rests on the tokens'
    /// 256 bits alone, and write access to the store is enough to make a session.
    pub fn none() -> Self {
        // HMAC fills a short key up with zeros, so this is the key of no bytes.
        Self::keyed(Hmac::<Sha256>::new(&Default::default()))
    }

    fn keyed(mac: Hmac<Sha256>) -> Self {
        let mut named = Self { id: PepperId([0; 8]), mac };
        let mut id = named.mac(Purpose::Id, &[]);
        if let Some(id) = id.first_chunk() {
            named.id = PepperId(*id);
        }
        id.zeroize();
        named
    }

    /// This pepper's public name.
    pub const fn id(&self) -> PepperId {
        self.id
    }

    fn mac(&self, purpose: Purpose, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(&[purpose as u8]);
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    pub(crate) fn digest(&self, handle: Handle, secret: &Secret) -> Digest {
        let whole = self.mac(Purpose::Digest, &[handle.as_bytes(), secret.expose()]);
        let mut digest = [0; 16];
        digest.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        Digest(digest)
    }

    pub(crate) fn successor(&self, handle: Handle, secret: &Secret, salt: &[u8; 16]) -> Secret {
        Secret::from_bytes(self.mac(Purpose::Successor, &[handle.as_bytes(), secret.expose(), salt]))
    }

    /// The key for the form tokens of visitors without a session; `None` for the empty pepper, under which everybody
    /// could make them.
    pub(crate) fn visitor_key(&self) -> Option<[u8; 32]> {
        (self.id != Self::none().id).then(|| self.mac(Purpose::Visitor, &[]))
    }

    fn wrapping_cipher(&self, handle: Handle, secret: &Secret) -> Result<Cipher, Refused> {
        let mut kek = self.mac(Purpose::Wrap, &[handle.as_bytes(), secret.expose()]);
        let cipher = Cipher::new(&kek);
        kek.zeroize();
        cipher
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper({})", self.id)
    }
}

/// The peppers of a deployment.
///
/// New secrets use the current one. Sessions under an accepted one go on; sessions under a retired one have
/// ended. Any other id is a fault of the configuration and answered with 503, so that a lost pepper never
/// silently signs everybody out.
#[derive(Clone, Debug)]
pub struct Peppers {
    current: Pepper,
    accepted: Vec<Pepper>,
    retired: Vec<PepperId>,
}

impl Peppers {
    /// Uses one pepper.
    pub const fn new(current: Pepper) -> Self {
        Self { current, accepted: Vec::new(), retired: Vec::new() }
    }

    /// Goes on to accept sessions that were made under an older pepper.
    #[must_use = "this returns the changed peppers"]
    pub fn accept(mut self, older: Pepper) -> Self {
        self.accepted.push(older);
        self
    }

    /// Treats sessions under this pepper as ended.
    #[must_use = "this returns the changed peppers"]
    pub fn retire(mut self, id: PepperId) -> Self {
        self.retired.push(id);
        self
    }

    pub(crate) const fn current(&self) -> &Pepper {
        &self.current
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &Pepper> {
        std::iter::once(&self.current).chain(&self.accepted).filter(|p| !self.is_retired(p.id))
    }

    pub(crate) fn find(&self, id: PepperId) -> Option<&Pepper> {
        self.live().find(|pepper| pepper.id == id)
    }

    pub(crate) fn is_retired(&self, id: PepperId) -> bool {
        self.retired.contains(&id)
    }
}

/// What the store holds of a secret: 128 bits of a keyed hash. Compared in constant time.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Digest(pub(crate) [u8; 16]);

impl Digest {
    pub(crate) fn short(self) -> ShortDigest {
        let mut short = [0; 8];
        short.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        ShortDigest(short)
    }
}

/// The first half of a digest: what is kept of a retired secret.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ShortDigest(pub(crate) [u8; 8]);

macro_rules! constant_time {
    ($($name:ident),*) => {$(
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }
        impl Eq for $name {}
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )*};
}
constant_time!(Digest, ShortDigest, DataKey);

/// One valid secret, as the store may see it: its digest, and the data key wrapped under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    pub(crate) pepper: PepperId,
    pub(crate) digest: Digest,
    pub(crate) wrapped: [u8; 32],
    pub(crate) tag: [u8; TAG_LEN],
}

/// A session's encrypted data.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedData {
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) text: Vec<u8>,
}

impl fmt::Debug for SealedData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedData({} bytes)", self.text.len())
    }
}

/// The key of a session's data: random, one for the life of a handle, never stored but wrapped.
#[derive(Clone)]
pub(crate) struct DataKey([u8; 32]);

wiped!(DataKey, 0);

/// A seal does not open: the record was changed by something that is not this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tampered;

impl From<Refused> for Tampered {
    fn from(Refused: Refused) -> Self {
        Self
    }
}

impl DataKey {
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Wraps this key for a secret.
    pub(crate) fn wrap(&self, pepper: &Pepper, secret: &Secret, bound: &Bound) -> Result<Slot, Tampered> {
        let mut wrapped = self.0;
        let cipher = pepper.wrapping_cipher(bound.handle, secret)?;
        let tag = cipher.seal(WRAPPING, bound.under(pepper.id).as_slice(), &mut wrapped)?;
        let digest = pepper.digest(bound.handle, secret);
        Ok(Slot { pepper: pepper.id, digest, wrapped, tag })
    }

    pub(crate) fn seal(
        &self,
        handle: Handle,
        text: Vec<u8>,
        entropy: &dyn Entropy,
    ) -> Result<SealedData, SealError> {
        let nonce = draw::<NONCE_LEN>(entropy)?;
        self.seal_under(handle, text, nonce)
    }

    /// Seals under a nonce that was drawn for this.
    pub(crate) fn seal_under(
        &self,
        handle: Handle,
        mut text: Vec<u8>,
        nonce: [u8; NONCE_LEN],
    ) -> Result<SealedData, SealError> {
        let seal = |text: &mut [u8]| Cipher::new(&self.0)?.seal(nonce, &data_context(handle), text);
        let tag = seal(&mut text).map_err(|Refused| SealError::Sealing)?;
        text.extend_from_slice(&tag);
        Ok(SealedData { nonce, text })
    }

    pub(crate) fn open(&self, handle: Handle, sealed: &SealedData) -> Result<Vec<u8>, Tampered> {
        let (text, tag) = sealed.text.split_last_chunk::<TAG_LEN>().ok_or(Tampered)?;
        let mut text = text.to_vec();
        Cipher::new(&self.0)?.open(sealed.nonce, &data_context(handle), tag, &mut text)?;
        Ok(text)
    }

    /// The key for the session's form tokens: it stays through rotations, and dies with the session.
    pub(crate) fn csrf_key(&self) -> [u8; 32] {
        let mut mac = keyed(&self.0);
        mac.update(b"cloakroom csrf key");
        mac.finalize().into_bytes().into()
    }
}

/// Sealing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SealError {
    Entropy(EntropyError),
    Sealing,
}

impl From<EntropyError> for SealError {
    fn from(error: EntropyError) -> Self {
        Self::Entropy(error)
    }
}

impl Slot {
    /// Opens the data key, which proves the bound fields too.
    pub(crate) fn open_key(
        &self,
        pepper: &Pepper,
        secret: &Secret,
        bound: &Bound,
    ) -> Result<DataKey, Tampered> {
        let mut key = self.wrapped;
        let cipher = pepper.wrapping_cipher(bound.handle, secret)?;
        cipher.open(WRAPPING, bound.under(self.pepper).as_slice(), &self.tag, &mut key)?;
        Ok(DataKey(key))
    }
}

/// HMAC-SHA-256 under a key of 32 bytes.
pub(crate) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC fills a short key up with zeros; written out, because nothing can fail then.
    let mut block = [0; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mac = Hmac::<Sha256>::new(&block.into());
    block.zeroize();
    mac
}

fn data_context(handle: Handle) -> [u8; 17] {
    let mut context = [RECORD_FORMAT; 17];
    context.iter_mut().skip(1).zip(handle.as_bytes()).for_each(|(to, from)| *to = *from);
    context
}

/// The bound fields of a record in one unambiguous order, each of fixed length or preceded by its length.
#[derive(Clone)]
pub(crate) struct Bound {
    handle: Handle,
    bytes: [u8; BOUND_MAX],
    len: usize,
}

impl Bound {
    pub(crate) fn of(handle: Handle, terms: &Terms) -> Self {
        let mut bound = Self { handle, bytes: [0; BOUND_MAX], len: 0 };
        // Room for the pepper's id, which differs from slot to slot.
        bound.push(&[0; 8]);
        bound.push(&[RECORD_FORMAT]);
        bound.push(handle.as_bytes());
        bound.push(&terms.created.as_millis().to_be_bytes());
        bound.push(&terms.absolute.as_millis().to_be_bytes());
        bound.push(&terms.idle_ms.to_be_bytes());
        match &terms.authentication {
            None => bound.push(&[0]),
            Some(authentication) => {
                bound.push(&[1, authentication.level.get()]);
                bound.push(&authentication.at.as_millis().to_be_bytes());
                bound.push(&[length(authentication.methods.len())]);
                for method in &authentication.methods {
                    bound.push(&[length(method.len())]);
                    bound.push(method.as_bytes());
                }
            }
        }
        if let Some(subject) = &terms.subject {
            bound.push(&[length(subject.as_str().len())]);
            bound.push(subject.as_str().as_bytes());
        }
        bound
    }

    fn push(&mut self, part: &[u8]) {
        let end = self.len + part.len();
        // Every part is limited where it is made, so there is always room.
        debug_assert!(end <= BOUND_MAX);
        if let Some(space) = self.bytes.get_mut(self.len..end) {
            space.copy_from_slice(part);
            self.len = end;
        }
    }

    pub(crate) fn under(&self, pepper: PepperId) -> BoundUnder {
        let mut bytes = self.bytes;
        bytes.iter_mut().zip(pepper.0).for_each(|(to, from)| *to = from);
        BoundUnder { bytes, len: self.len }
    }
}

pub(crate) struct BoundUnder {
    bytes: [u8; BOUND_MAX],
    len: usize,
}

impl BoundUnder {
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

fn length(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}
