//! What a store that outlives the process can do beyond the contract: say that a session has ended, and notice a server with
//! another pepper.

use std::future::Future;
use std::sync::Arc;

use crate::seal::PepperId;
use crate::token::Handle;

use super::{Store, StoreError};

/// What a store says of sessions that ended, in this process or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndNotice {
    /// This session has ended.
    Ended(Handle),
    /// Notices may have been lost, as after a broken connection: any session may have ended.
    Missed,
}

/// Who is told of ends. Called from the store's own task or from the caller of an operation; must not block.
pub type EndListener = Arc<dyn Fn(EndNotice) + Send + Sync>;

/// How a server's pepper stands to the store's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PepperClaim {
    /// The store knew it, or nothing was stored under any yet. It is noted.
    Accepted,
    /// The store's sessions are under other peppers, none of which this server has. Nothing was noted.
    Foreign {
        /// Their public names.
        known: Vec<PepperId>,
    },
}

/// A store that other servers use too, or that this one finds again when it starts.
pub trait Shared: Store {
    /// Notes the public name of the pepper that this server seals with, if the store knows none yet or one of
    /// `live`, all of those that the server can open.
    ///
    /// One atomic step: of two servers with different peppers that start at once on an empty store, one is
    /// [`PepperClaim::Foreign`].
    fn claim_pepper(
        &self,
        current: PepperId,
        live: &[PepperId],
    ) -> impl Future<Output = Result<PepperClaim, StoreError>> + Send;
}
