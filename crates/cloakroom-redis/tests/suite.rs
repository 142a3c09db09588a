//! The store suite of `cloakroom-testkit`, against a server and a cluster.

mod support;

use cloakroom_testkit::store_suite;
use support::Opened;

store_suite!(on_one_server, Opened::single());
store_suite!(on_a_cluster, Opened::cluster());
store_suite!(behind_a_wrapper, Opened::single().yielding());
