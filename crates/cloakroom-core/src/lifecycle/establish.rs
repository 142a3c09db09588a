//! Establish: make a new session, for a visitor with something to keep or for a login.

use std::fmt;
use std::time::Duration;

use crate::client::Client;
use crate::clock::{Timestamp, millis};
use crate::entropy::Entropy;
use crate::error::EngineError;
use crate::record::{Body, Proof, Record, Secrets, Subject, Terms, Version};
use crate::seal::{Bound, DataKey, Pepper};
use crate::token::{Handle, Secret, Token};

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
        let handle = Handle::draw(subject.as_ref(), entropy)?;
        let secret = Secret::draw(entropy)?;
        let key = DataKey::draw(entropy)?;
        let data = key.seal(handle, self.data, entropy)?;
        let terms = Terms {
            subject,
            created: self.created,
            authentication: proof.map(|proof| proof.at(self.created)),
            idle_ms: millis(self.idle),
            absolute: self.created.plus(self.absolute),
        };
        let slot = key.wrap(pepper, &secret, &Bound::of(handle, &terms))?;
        let secrets = Secrets::first(slot, self.created);
        let body = Body { terms, client: self.client, secrets, data };
        let record = Record { handle, version: Version::FIRST, seen: self.created, body };
        Ok((record, Token::new(handle, secret), key))
    }
}
