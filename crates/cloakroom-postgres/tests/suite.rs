//! The store suite of `cloakroom-testkit`, against a real server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports by panicking")]

mod support;

use std::future::Future;

use cloakroom_postgres::{PostgresOptions, PostgresStore};
use cloakroom_testkit::{Fixture, FullStore, Yielding, store_suite};
use support::*;

struct Opened<S>(S);

impl<S: FullStore> Fixture for Opened<S> {
    type Store = S;

    fn store(&self) -> &S {
        &self.0
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        runtime().block_on(future)
    }
}

fn open(adjust: impl FnOnce(PostgresOptions) -> PostgresOptions) -> Opened<PostgresStore> {
    Opened(runtime().block_on(async { fresh(adjust).await.1 }))
}

store_suite!(with_the_defaults, open(|options| options));
// Every operation waits for the one before it, whatever that left behind on the connection.
store_suite!(with_one_connection, open(|options| options.pool_size(1)));
store_suite!(behind_a_wrapper, Opened(Yielding::both(open(|options| options.pool_size(4)).0)));
