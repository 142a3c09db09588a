//! What every session holds: 106 bytes as JSON.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// The whole payload, for variants that keep one value.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Payload {
    pub user_id: u64,
    pub csrf: String,
    pub roles: Vec<String>,
    pub ts: u64,
}

/// The field `csrf`.
pub fn csrf() -> String {
    "0123456789abcdef0123456789abcdef".to_owned()
}

/// The field `roles`.
pub fn roles() -> Vec<String> {
    vec!["editor".to_owned(), "admin".to_owned()]
}

/// The field `ts` of a new session.
pub const TS: u64 = 1_764_000_000;

static COUNT: AtomicU64 = AtomicU64::new(0);
static USERS: OnceLock<Vec<String>> = OnceLock::new();

/// Another number each time: a write that changes nothing is not one.
pub fn next() -> u64 {
    TS + 1 + COUNT.fetch_add(1, Ordering::Relaxed)
}

/// Makes the names of users beforehand, so that no login pays for making one.
pub fn make_users(count: usize) {
    USERS.get_or_init(|| (0..count).map(|n| format!("user-{n:07}")).collect());
}

/// Somebody else each time, until all have had their turn.
pub fn next_user() -> (u64, &'static str) {
    let users = USERS.get_or_init(|| vec!["user-0000000".to_owned()]);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let index = usize::try_from(n).unwrap_or_default() % users.len().max(1);
    (n, users.get(index).map_or("nobody", String::as_str))
}

impl Payload {
    /// The payload of a new session.
    pub fn of(user_id: u64) -> Self {
        Self { user_id, csrf: csrf(), roles: roles(), ts: TS }
    }
}
