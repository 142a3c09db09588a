#![doc = include_str!("../README.md")]

mod cipher;
pub mod client;
pub mod clock;
mod codec;
pub mod cookie;
pub mod csp;
pub mod csrf;
pub mod csrf_form;
pub mod data;
pub mod engine;
pub mod entropy;
pub mod error;
pub mod event;
mod few;
pub mod lifecycle;
pub mod origin;
pub mod policy;
pub mod record;
pub mod seal;
pub mod security_headers;
pub mod store;
#[cfg(test)]
mod testing;
pub mod token;
#[cfg(test)]
mod vectors;
mod wipe;
