//! What can go wrong when a store is opened, and how the server's errors become those of the store contract.

use std::error::Error;
use std::fmt;

use cloakroom_core::store::{Fault, StoreError};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Options that cannot be used; names everything that is wrong with them, and no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionsError {
    problems: Vec<String>,
}

impl OptionsError {
    pub(crate) fn of(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }

    pub(crate) fn one(problem: &str) -> Self {
        Self { problems: vec![problem.to_owned()] }
    }

    pub(crate) const fn all(problems: Vec<String>) -> Self {
        Self { problems }
    }

    /// One sentence for each problem.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

impl Error for OptionsError {}

/// A server or a cluster cannot be used as a session store. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The options contradict each other or would put secrets at risk.
    #[error("the options of the Redis store cannot be used: {0}")]
    Options(#[from] OptionsError),
    /// It cannot be reached, or the connection cannot be made: name, port, TLS, certificates.
    #[error("{server} cannot be reached")]
    Unreachable {
        /// Which one, as `host:port`.
        server: String,
        /// Why. Its type is not part of the interface.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It refused the user or the password.
    #[error("{server} refused the user name or the password")]
    Credentials {
        /// Which one, as `host:port`.
        server: String,
    },
    /// The user lacks a permission that the store needs.
    #[error(
        "{server} denies something that the store needs ({denied}); docs/operator/redis.md has the rules for its user"
    )]
    Permission {
        /// Which one, as `host:port`.
        server: String,
        /// What the server said.
        denied: String,
    },
    /// Its version is too old.
    #[error("{server} is version {found}; Redis 7.0 or later, or Valkey, is needed")]
    TooOld {
        /// Which one, as `host:port`.
        server: String,
        /// Its version.
        found: String,
    },
    /// It is a replica: what it holds may be old.
    #[error("{server} is a replica; name the primary")]
    Replica {
        /// Which one, as `host:port`.
        server: String,
    },
    /// It throws keys away when its memory is full: it would forget sessions, logouts and "end all sessions" without a word.
    #[error(
        "{server} has maxmemory-policy {policy:?}; it must be \"noeviction\", or it forgets logouts when its memory is full"
    )]
    Evicts {
        /// Which one, as `host:port`.
        server: String,
        /// The policy.
        policy: String,
    },
    /// It is part of a cluster, and one server was named; or the other way round.
    #[error("{server} {problem}")]
    Mode {
        /// Which one, as `host:port`.
        server: String,
        /// What to do about it.
        problem: &'static str,
    },
    /// It answered what it should not.
    #[error("{server} answered with an error")]
    Server {
        /// Which one, as `host:port`.
        server: String,
        /// Why. Its type is not part of the interface.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl OpenError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Unreachable { .. } | Self::Server { .. } => Fault::Store,
            _ => Fault::Setup,
        }
    }

    /// Whether opening the same store again may succeed later.
    pub const fn may_retry(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Server { .. } | Self::Replica { .. })
    }

    pub(crate) fn of(server: String, failure: Failure) -> Self {
        match failure {
            Failure::Refused(Refusal::ReadOnly, _) => Self::Replica { server },
            Failure::Refused(Refusal::Moved(..), _) => Self::Mode {
                server,
                problem: "is a node of a cluster; its address begins with redis-cluster://",
            },
            Failure::NotSent(error) if is_credentials(&error) => Self::Credentials { server },
            Failure::NotSent(error) | Failure::Unknown(error) if is_denied(&error) => {
                Self::Permission { server, denied: error.to_string() }
            }
            Failure::Refused(_, error) if is_denied(&error) => {
                Self::Permission { server, denied: error.to_string() }
            }
            Failure::NotSent(error) => Self::Unreachable { server, source: error.into() },
            Failure::Unknown(error) | Failure::Refused(_, error) => {
                Self::Server { server, source: error.into() }
            }
            Failure::TimedOut | Failure::TooFewReplicas => {
                Self::Unreachable { server, source: "no answer in time".into() }
            }
        }
    }
}

fn is_credentials(error: &RedisError) -> bool {
    let text = error.to_string();
    error.kind() == ErrorKind::AuthenticationFailed
        || ["WRONGPASS", "NOAUTH"].iter().any(|code| error.code() == Some(code) || text.contains(code))
}

fn is_denied(error: &RedisError) -> bool {
    // From within a script the code is another one, and the words differ between versions.
    let text = error.to_string();
    error.code() == Some("NOPERM")
        || ["NOPERM", "ACL failure", "The user executing the script can't"]
            .iter()
            .any(|words| text.contains(words))
}

/// Why the server carried nothing out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The slot is elsewhere, at this address, for good.
    Moved(String),
    /// The slot is being moved, and the keys are not here any more.
    Ask(String),
    /// The script has to be sent again.
    NoScript,
    /// It became a replica.
    ReadOnly,
    /// It is loading its data, busy, or the cluster is not whole.
    Passing,
    /// Its memory is full.
    Full,
    /// Anything else: a permission, a failing disk.
    Other,
}

/// Why a command has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It never left this machine.
    NotSent(RedisError),
    /// The server said no before it did anything.
    Refused(Refusal, RedisError),
    /// It was sent, or may have been, and nobody knows what came of it.
    Unknown(RedisError),
    /// The same, after the whole time that an operation has.
    TimedOut,
    /// It was carried out, but fewer replicas than demanded have it.
    TooFewReplicas,
}

impl Failure {
    /// Tells what an error that came instead of an answer means.
    pub(crate) fn of(error: RedisError) -> Self {
        let said = |refusal| Self::Refused(refusal, error.clone());
        let from_within = error.detail().is_some_and(|detail| detail.contains("script: "));
        match error.kind() {
            // A script that failed in the middle; ours do so before they write, but that is not this function's to promise.
            ErrorKind::Server(_) | ErrorKind::Extension
                if from_within && error.code() != Some("NOSCRIPT") =>
            {
                Self::Unknown(error)
            }
            ErrorKind::Server(ServerErrorKind::Moved) => {
                redirect(&error).map_or_else(|| said(Refusal::Other), |to| said(Refusal::Moved(to)))
            }
            ErrorKind::Server(ServerErrorKind::Ask) => {
                redirect(&error).map_or_else(|| said(Refusal::Other), |to| said(Refusal::Ask(to)))
            }
            ErrorKind::Server(ServerErrorKind::NoScript) => said(Refusal::NoScript),
            ErrorKind::Server(ServerErrorKind::ReadOnly) => said(Refusal::ReadOnly),
            ErrorKind::Server(
                ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::BusyLoading,
            ) => said(Refusal::Passing),
            ErrorKind::Extension => match error.code() {
                Some("OOM") => said(Refusal::Full),
                Some("BUSY" | "NOREPLICAS") => said(Refusal::Passing),
                _ => said(Refusal::Other),
            },
            ErrorKind::Server(_) => said(Refusal::Other),
            _ => Self::Unknown(error),
        }
    }
}

fn redirect(error: &RedisError) -> Option<String> {
    error.redirect_node().map(|(address, _)| address.to_owned())
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(Refusal::Full, _) => Self::full(),
            Failure::TimedOut => {
                Self::unavailable("no answer in time; it is not known whether the operation was carried out")
            }
            Failure::TooFewReplicas => {
                Self::unavailable("it was carried out, but fewer replicas than demanded have it")
            }
            Failure::NotSent(error) | Failure::Refused(_, error) => Self::unavailable(error),
            Failure::Unknown(error) => Self::unavailable(Unknown(error)),
        }
    }
}

#[derive(Debug)]
struct Unknown(RedisError);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer was lost; it is not known whether the operation was carried out")
    }
}

impl Error for Unknown {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
