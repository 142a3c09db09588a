//! Measures this family under the system's allocator, as users run it.

use cloakroom_bench::{harness, jars, ours, peers};

fn main() -> anyhow::Result<()> {
    harness::main(
        &[ours::BARE, peers::TOWER_SESSIONS, peers::AXUM_SESSION, jars::SIGNED, jars::PRIVATE],
        None,
    )
}
