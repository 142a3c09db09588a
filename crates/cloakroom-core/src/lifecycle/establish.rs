//! Establish: make a new session, for a visitor with something to keep or for a login.

use std::fmt;
use std::time::Duration;

use crate::cipher::NONCE_LEN;
use crate::client::Client;
use crate::clock::{Timestamp, millis};
use crate::entropy::Entropy;
use crate::error::EngineError;
use crate::record::{Body, Proof, Record, Secrets, Subject, Terms, Version};
use crate::seal::{Bound, DataKey, Pepper};
use crate::token::{HANDLE_LEN, Handle, SECRET_LEN, Secret, Token};
use crate::wipe::wiped;

/// A session that is about to be made.
///
/// Every session begins here: with a handle, a secret and a data key of its own, all drawn anew. The record goes to
/// [`Store::insert`](crate::store::Store::insert); the token goes to the client once that has succeeded.
/// `Debug` hides the data.
#[derive(Clone)]
pub struct Draft {
    /// Whose session, and how the subject authenticated; `None` for an anonymous visitor.
    pub subject: Option<(Subject, Proof)>,
    /// The instant of creation (and of authentication).
    pub created: Timestamp,
    /// The idle limit.
    pub idle: Duration,
    /// The absolute limit.
    pub absolute: Duration,
    /// The client that will hold the token.
    pub client: Client,
    /// The data map, encoded.
    pub data: Vec<u8>,
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("subject", &self.subject)
            .field("created", &self.created)
            .field("idle", &self.idle)
            .field("absolute", &self.absolute)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl Draft {
    /// Draws the secrets and seals the record.
    ///
    /// # Errors
    ///
    /// [`EngineError::Entropy`] if no randomness is to be had.
    pub fn seal(self, pepper: &Pepper, entropy: &dyn Entropy) -> Result<(Record, Token), EngineError> {
        self.seal_keeping_key(pepper, entropy).map(|(record, token, _)| (record, token))
    }

    pub(crate) fn seal_keeping_key(
        self,
        pepper: &Pepper,
        entropy: &dyn Entropy,
    ) -> Result<(Record, Token, DataKey), EngineError> {
        let (subject, proof) = self.subject.unzip();
        let terms = Terms {
            subject,
            created: self.created,
            authentication: proof.map(|proof| proof.at(self.created)),
            idle_ms: millis(self.idle),
            absolute: self.created.plus(self.absolute),
        };
        seal(terms, self.client, self.data, pepper, entropy)
    }
}

/// Draws handle, secret, data key and nonce at once, because each asking of the operating system costs more than all the bytes, and seals.
pub(crate) fn seal(
    terms: Terms,
    client: Client,
    data: Vec<u8>,
    pepper: &Pepper,
    entropy: &dyn Entropy,
) -> Result<(Record, Token, DataKey), EngineError> {
    let mut drawn = Drawn::default();
    entropy.fill(&mut drawn.0)?;
    let handle = Handle::drawn(terms.subject.as_ref(), drawn.take(0));
    let secret = Secret::from_bytes(drawn.take(HANDLE_LEN));
    let key = DataKey::from_bytes(drawn.take(HANDLE_LEN + SECRET_LEN));
    let data = key.seal_under(handle, data, drawn.take(HANDLE_LEN + SECRET_LEN + 32))?;
    let slot = key.wrap(pepper, &secret, &Bound::of(handle, &terms))?;
    let created = terms.created;
    let body = Box::new(Body { terms, client, secrets: Secrets::first(slot, created), data });
    let record = Record { handle, version: Version::FIRST, seen: created, body };
    Ok((record, Token::new(handle, secret), key))
}

/// Random bytes, zeroed when dropped.
struct Drawn([u8; HANDLE_LEN + SECRET_LEN + 32 + NONCE_LEN]);

wiped!(Drawn, 0);

impl Default for Drawn {
    fn default() -> Self {
        Self([0; HANDLE_LEN + SECRET_LEN + 32 + NONCE_LEN])
    }
}

impl Drawn {
    /// The bytes from a place on. Each place is used once.
    fn take<const N: usize>(&self, from: usize) -> [u8; N] {
        let mut bytes = [0; N];
        debug_assert!(from + N <= self.0.len());
        bytes.iter_mut().zip(self.0.iter().skip(from)).for_each(|(to, drawn)| *to = *drawn);
        bytes
    }
}
