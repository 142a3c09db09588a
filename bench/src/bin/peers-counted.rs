//! Measures what this family asks of the allocator.

use std::alloc::System;

use cloakroom_bench::{harness, jars, ours, peers};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTER: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> anyhow::Result<()> {
    harness::main(
        &[ours::BARE, peers::TOWER_SESSIONS, peers::AXUM_SESSION, jars::SIGNED, jars::PRIVATE],
        Some(&INSTRUMENTED_SYSTEM),
    )
}
