//! Measures what this family asks of the allocator.

use std::alloc::System;

use cloakroom_bench::{harness, ours};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTER: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> anyhow::Result<()> {
    harness::main(&[ours::BARE, ours::CLOAKROOM, ours::ROUND, ours::LARGE], Some(&INSTRUMENTED_SYSTEM))
}
