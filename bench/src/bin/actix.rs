//! Measures this family under the system's allocator, as users run it.

use cloakroom_bench::{actix, harness};

fn main() -> anyhow::Result<()> {
    harness::main(&[actix::BARE, actix::ACTIX_SESSION], None)
}
