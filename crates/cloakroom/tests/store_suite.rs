//! The store in memory keeps every promise of the contract, and its own about size.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use cloakroom::MemoryStore;
use cloakroom_testkit::Opened;

cloakroom_testkit::store_suite!(memory, Opened::new(MemoryStore::new()));
