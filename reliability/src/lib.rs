//! Races, faults and recorded histories against every store of Cloakroom.
//!
//! - [`interleavings`]: every order of the store steps of two or three things that happen to one session at once, through the real
//!   layer, held against what one after the other allows.
//! - [`histories`]: recorded calls of parallel clients, and a checker that says whether they are linearizable.
//!
//! [`target`] has the stores, [`size`] all figures of how much is done, and [`report`] writes down what was done for the table in
//! `docs/reliability.md`.

// Panicking is how a check reports.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a check reports by panicking"
)]

pub mod attacks;
pub mod gate;
pub mod histories;
pub mod interleavings;
pub mod report;
pub mod size;
pub mod target;
pub mod world;
