//! Why a session ended, and what is kept of it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::codec::{Reader, Writer};
use crate::record::{RECORD_FORMAT, Record, RecordError};
use crate::seal::ShortDigest;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// Its user logged it out.
    LoggedOut,
    /// A login took its place in the same client.
    Superseded,
    /// Its user or an administrator ended it from elsewhere.
    Revoked,
    /// All sessions of its subject were ended.
    RevokedAll,
    /// A newer login needed its place under the policy's cap.
    Evicted,
    /// A retired secret came back after its grace: taken as theft.
    Replay,
    /// The idle limit passed.
    Idle,
    /// The absolute limit passed.
    Absolute,
}

impl Reason {
    /// A stable one-word name, for stores and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoggedOut => "logged_out",
            Self::Superseded => "superseded",
            Self::Revoked => "revoked",
            Self::RevokedAll => "revoked_all",
            Self::Evicted => "evicted",
            Self::Replay => "replay",
            Self::Idle => "idle",
            Self::Absolute => "absolute",
        }
    }

    /// Whether time ended the session, rather than a decision.
    pub const fn is_expiry(self) -> bool {
        matches!(self, Self::Idle | Self::Absolute)
    }

    /// A stable number, for stores.
    pub const fn code(self) -> u8 {
        match self {
            Self::LoggedOut => 1,
            Self::Superseded => 2,
            Self::Revoked => 3,
            Self::RevokedAll => 4,
            Self::Evicted => 5,
            Self::Replay => 6,
            Self::Idle => 7,
            Self::Absolute => 8,
        }
    }

    /// The reason of a stored number.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::LoggedOut,
            2 => Self::Superseded,
            3 => Self::Revoked,
            4 => Self::RevokedAll,
            5 => Self::Evicted,
            6 => Self::Replay,
            7 => Self::Idle,
            8 => Self::Absolute,
            _ => return None,
        })
    }
}

/// Three live slots and the retired secrets.
const DIGESTS_MAX: usize = 3 + crate::record::RETIRED_KEPT;

/// What is kept for a while of a session that ended: why, when, and enough digests to tell a late
/// request of its client from a forgery. No data, no subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    pub(crate) reason: Reason,
    pub(crate) at: Timestamp,
    pub(crate) digests: Vec<ShortDigest>,
}

impl Tombstone {
    /// The tombstone of a record that ends now.
    pub fn of(record: &Record, reason: Reason, at: Timestamp) -> Self {
        let secrets = &record.body.secrets;
        let slots = [
            Some(&secrets.current),
            secrets.next.as_deref().map(|next| &next.slot),
            secrets.previous.as_deref().map(|previous| &previous.slot),
        ];
        let live = slots.into_iter().flatten().map(|slot| slot.digest.short());
        Self { reason, at, digests: live.chain(secrets.retired.iter().copied()).collect() }
    }

    /// The tombstone of a record that cannot be read: nobody will be recognised by it.
    pub const fn bare(reason: Reason, at: Timestamp) -> Self {
        Self { reason, at, digests: Vec::new() }
    }

    /// This tombstone with another reason and time: for stores that cannot read records where they end them, and so keep the
    /// digests of each live session ready.
    #[must_use = "this returns the changed tombstone"]
    pub fn stamped(mut self, reason: Reason, at: Timestamp) -> Self {
        (self.reason, self.at) = (reason, at);
        self
    }

    /// Why the session ended.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// When it ended.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer(Vec::with_capacity(24 + 8 * self.digests.len()));
        writer.0.push(RECORD_FORMAT);
        writer.tombstone(self);
        writer.0
    }

    /// Reads a tombstone back.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the bytes are of a newer format or do not decode.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (&format, rest) = bytes.split_first().ok_or(RecordError::Broken)?;
        if format != RECORD_FORMAT {
            return Err(RecordError::Format(format));
        }
        let mut reader = Reader(rest);
        let tombstone = reader.tombstone().ok_or(RecordError::Broken)?;
        if !reader.0.is_empty() || tombstone.digests.len() > DIGESTS_MAX {
            return Err(RecordError::Broken);
        }
        Ok(tombstone)
    }
}
