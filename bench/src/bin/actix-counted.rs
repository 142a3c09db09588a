//! Measures what this family asks of the allocator.

use std::alloc::System;

use cloakroom_bench::{actix, harness};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTER: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> anyhow::Result<()> {
    harness::main(&[actix::BARE, actix::ACTIX_SESSION], Some(&INSTRUMENTED_SYSTEM))
}
