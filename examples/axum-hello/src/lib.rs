//! The smallest application with a session: it counts your visits.

use std::net::SocketAddr;

use axum::{Router, extract::ConnectInfo, routing::get};
use cloakroom::{ConfigErrors, CookieOptions, Key, MemoryStore, Session, SessionError, SessionLayer};

const VISITS: Key<u32> = Key::new("visits");

/// The application. Its cookie has a name of its own, because cookies are shared by all ports of a host.
///
/// # Errors
///
/// [`ConfigErrors`] if a setting cannot be used.
pub fn app() -> Result<Router, ConfigErrors> {
    let cookie = CookieOptions::default().name("__Host-Http-hello");
    let sessions = SessionLayer::builder(MemoryStore::new())
        .cookie(cookie)
        .peer_address::<ConnectInfo<SocketAddr>>() // for who gets a new token, and against guessing
        .build()?;
    Ok(Router::new().route("/", get(home)).layer(sessions))
}

async fn home(session: Session) -> Result<String, SessionError> {
    session.update(VISITS, |visits| *visits += 1)?; // merged with parallel requests, never lost
    Ok(format!("Visits: {}\n", session.get(VISITS)?.unwrap_or_default()))
}
