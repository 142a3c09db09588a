//! What can go wrong in the rules: whose fault it is, and whether a retry may help.

use std::fmt;

use crate::entropy::EntropyError;
use crate::record::ValueError;
use crate::seal::{PepperId, SealError, Tampered};
use crate::store::Fault;
use crate::token::Handle;

/// A step of the engine could not be taken. The request is refused; its cookie is left alone.
#[derive(Debug)]
#[non_exhaustive]
pub enum EngineError {
    /// The source of randomness failed, so nothing can be issued.
    Entropy(EntropyError),
    /// A record's seal does not open under the secret that its digest names: it was changed by
    /// something that is not this program. Never treated as "no session".
    Tampered {
        /// The record's handle.
        handle: Handle,
    },
    /// A record names a pepper that is neither configured nor listed as retired.
    PepperUnknown {
        /// The record's handle.
        handle: Handle,
        /// The pepper it names.
        pepper: PepperId,
    },
    /// The session's data would be larger than the policy allows.
    DataTooLarge {
        /// Bytes the data would take.
        len: usize,
        /// Bytes the policy allows.
        max: usize,
    },
    /// One of the application's changes could not be applied to the stored data.
    Change(ChangeError),
    /// The request has stored something that would end with the session before the login, because the policy does not list its key
    /// under `survives_login`, or because that session is somebody's. Store it with the login, or afterwards.
    LostByLogin {
        /// The data key.
        key: String,
    },
    /// The session is no longer one that this request may change: it ended, or its secret was replaced.
    Superseded,
    /// A value given by the application is not acceptable.
    Value(ValueError),
    /// The cipher refused to seal: the data is larger than it can take.
    Sealing,
}

impl EngineError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Entropy(_) | Self::PepperUnknown { .. } => Fault::Setup,
            Self::Tampered { .. } => Fault::Store,
            Self::DataTooLarge { .. }
            | Self::Change(_)
            | Self::LostByLogin { .. }
            | Self::Value(_)
            | Self::Sealing => Fault::Caller,
            Self::Superseded => Fault::Client,
        }
    }

    /// Whether the same call may succeed later.
    pub const fn may_retry(&self) -> bool {
        matches!(self, Self::Entropy(_) | Self::PepperUnknown { .. })
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entropy(error) => error.fmt(f),
            Self::Tampered { handle } => {
                write!(f, "the record of session {handle} was changed by something else")
            }
            Self::PepperUnknown { handle, pepper } => write!(
                f,
                "session {handle} was made under pepper {pepper}, which is neither configured nor retired"
            ),
            Self::DataTooLarge { len, max } => {
                write!(f, "the session's data would take {len} bytes; the policy allows {max}")
            }
            Self::Change(error) => error.fmt(f),
            Self::LostByLogin { key } => {
                write!(f, "what was stored under {key:?} before the login would be lost by it")
            }
            Self::Superseded => f.write_str("the session ended or its secret was replaced meanwhile"),
            Self::Value(error) => error.fmt(f),
            Self::Sealing => f.write_str("the session's data cannot be sealed"),
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Entropy(error) => Some(error),
            Self::Change(error) => Some(error),
            Self::Value(error) => Some(error),
            _ => None,
        }
    }
}

impl From<EntropyError> for EngineError {
    fn from(error: EntropyError) -> Self {
        Self::Entropy(error)
    }
}

impl From<ValueError> for EngineError {
    fn from(error: ValueError) -> Self {
        Self::Value(error)
    }
}

impl From<ChangeError> for EngineError {
    fn from(error: ChangeError) -> Self {
        Self::Change(error)
    }
}

impl From<Tampered> for EngineError {
    /// Only for sealing under keys of our own making, where nothing can have been tampered with.
    fn from(Tampered: Tampered) -> Self {
        Self::Sealing
    }
}

impl From<SealError> for EngineError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Entropy(error) => Self::Entropy(error),
            SealError::Sealing => Self::Sealing,
        }
    }
}

/// A change of one data key could not be applied: the stored or the new value has no JSON form of its type.
///
/// The text names the key and the reason, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("session data under {key:?}: {reason}")]
pub struct ChangeError {
    /// The data key.
    pub key: String,
    /// What is wrong, without the value.
    pub reason: String,
}
