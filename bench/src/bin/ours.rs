//! Measures this family under the system's allocator, as users run it.

use cloakroom_bench::{harness, ours};

fn main() -> anyhow::Result<()> {
    harness::main(&[ours::BARE, ours::CLOAKROOM, ours::ROUND], None)
}
