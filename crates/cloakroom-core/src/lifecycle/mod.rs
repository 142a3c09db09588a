//! The steps of a session's life, one file each.

mod conclude;
pub mod establish;
mod login;
mod resume;
mod revoke;
mod rotate;

pub use conclude::{Plan, Rebased, Write};
pub use login::{LogIn, Newcomer};
pub use rotate::Rotation;
