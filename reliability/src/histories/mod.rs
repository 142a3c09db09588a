//! Recorded histories of a store under load, and the question whether they are linearizable.
//!
//! Parallel clients call a store; each call is recorded with its place in one count of all beginnings and ends ([`Recorder`]), not
//! with a time. [`check()`] then looks for an order of the calls that respects this count (what ended before another began comes
//! first) and in which each answer is right by the sequential [`model`] of the contract. If there is none, the store has broken
//! it: an update was lost, a removed session was seen again, a cap was exceeded, a login outlived an end of all sessions.
//!
//! A call whose answer was lost may have happened at any time after it began, or not at all; the checker allows for each. So the
//! [`Load`] may run while a server is killed, paused or cut off: the history must be in order all the same.
//!
//! ```ignore (the server is yours)
//! let load = Load::start(&store, &Settings { seed: 1, ..Settings::default() });
//! load.reached(2_000).await;      // so many calls were answered
//! server.kill();
//! server.start();
//! load.reached(2_000).await;      // service has resumed by itself
//! let recorder = load.stop().await;
//! recorder.audit(&store).await;   // everything that is there at the end is part of the history
//! check(&recorder.history()).unwrap();
//! ```
//!
//! # The checker
//!
//! The search of Wing and Gong, with Lowe's memory of configurations that were seen before. Three things keep it small. Histories are
//! parted by subject, and anonymous sessions by handle: nothing in the contract connects them. A call that is right and changes
//! nothing is taken at once, without a branch: doing so earlier never makes another order impossible. A call whose answer was
//! lost is tried only where it would change something.
//!
//! The model is strict where the contract leaves room, because our stores do not use that room: a needless `Stale` or a
//! forgotten touch is a violation here. A sweep may leave out what is due, and each session that it ends counts as a step of its own.

mod call;
mod check;
mod load;
pub mod model;
mod record;
mod search;

pub use call::{Answer, Call, Capped, Event, History, Life, Seen};
pub use check::{Checked, Violation, check};
pub use load::{Load, Progress, Settings};
pub use record::Recorder;
