//! The program `cloakroom`.

fn main() {}
