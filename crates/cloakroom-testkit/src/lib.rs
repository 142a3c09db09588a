//! What tests of Cloakroom need: a suite that proves a store, and stand-ins for time, randomness and failure.
//!
//! - [`store_suite!`] expands to one test per guarantee of the store contract. An implementation of
//!   [`Store`](cloakroom_core::store::Store) that passes it may call itself a Cloakroom store.
//! - [`ManualClock`] and [`SeededEntropy`] make a test repeatable: time moves when told, and randomness repeats from
//!   run to run.
//! - [`Counting`], [`Failing`] and [`Yielding`] wrap a store, so that a test can count its calls, make one of
//!   them fail, or let another task run in the middle.
//! - [`Clocked`] gives a store a clock of its own.
//! - [`block_on`] drives a future without any async runtime.
//!
//! Nothing here sleeps or reads a clock.
//!
//! # Security
//!
//! For tests only. [`SeededEntropy`] in particular makes every session guessable.

#[cfg(feature = "browser")]
pub mod browser;
mod clock;
mod clocked;
mod entropy;
mod executor;
mod hooks;
#[cfg(feature = "servers")]
pub mod servers;
pub mod suite;

pub use clock::ManualClock;
pub use clocked::{Clocked, OwnClock};
pub use entropy::SeededEntropy;
pub use executor::block_on;
pub use hooks::{
    Call, Counter, Counting, Counts, Failing, Failures, Hook, Hooked, Moment, Operation, Pauses, Yielding,
};
pub use suite::{Fixture, FullStore, Opened};
