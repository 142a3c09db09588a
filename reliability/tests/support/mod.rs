//! What the tests of the checker need.

pub(crate) mod broken;
