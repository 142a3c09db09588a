//! Measures Cloakroom beside what people use today, in one process and without sockets.
//!
//! A *variant* is one way to keep sessions; a *case* is one kind of request. Each program of `src/bin` holds the variants of one
//! family of dependencies, measures each case of each of them, and prints what it found; `bench` runs the programs and writes
//! `docs/performance.md`.

#[cfg(feature = "peers")]
pub mod actix;
pub mod app;
pub mod case;
pub mod driver;
pub mod harness;
#[cfg(feature = "peers")]
pub mod jars;
pub mod ours;
mod parts;
pub mod payload;
#[cfg(feature = "peers")]
pub mod peers;
#[cfg(feature = "http")]
pub mod serve;
#[cfg(feature = "peers")]
pub mod tower_sessions_app;
