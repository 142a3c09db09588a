//! The framework alone, and Cloakroom as the documentation says: no setting is touched.

use std::hint::black_box;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use cloakroom::{Key, MemoryStore, Session, SessionError, SessionLayer};
use tower::Layer;

use crate::app::{Tower, Variant};
use crate::payload::{TS, csrf, next, next_user, roles};

/// axum without sessions.
pub const BARE: Variant = Variant { name: "axum", bare: true, build: |_| Tower::boxed(bare()) };

/// Cloakroom, put on with `Router::layer`.
pub const CLOAKROOM: Variant =
    Variant { name: "cloakroom", bare: false, build: |_| Tower::boxed(routes().layer(layer(500_000))) };

/// Cloakroom, round the whole router.
pub const ROUND: Variant =
    Variant { name: "cloakroom-round", bare: false, build: |_| Tower::boxed(layer(500_000).layer(routes())) };

/// Cloakroom with room for millions.
pub const LARGE: Variant = Variant {
    name: "cloakroom-large",
    bare: false,
    build: |_| Tower::boxed(routes().layer(layer(20_000_000))),
};

fn layer(entries: usize) -> SessionLayer {
    SessionLayer::new(MemoryStore::with_capacity(entries))
}

/// The routes without sessions.
pub fn bare() -> Router {
    async fn ok() -> StatusCode {
        StatusCode::OK
    }
    Router::new()
        .route("/plain", get(ok))
        .route("/one", get(ok).post(ok))
        .route("/four", get(ok))
        .route("/ts", get(ok))
        .route("/new", axum::routing::post(ok))
        .route("/login", axum::routing::post(ok))
}

const USER_ID: Key<u64> = Key::new("user_id");
const CSRF: Key<String> = Key::new("csrf");
const ROLES: Key<Vec<String>> = Key::new("roles");
const STAMP: Key<u64> = Key::new("ts");

async fn plain() -> StatusCode {
    StatusCode::OK
}

async fn read_one(session: Session) -> Result<StatusCode, SessionError> {
    Ok(match session.get(USER_ID)? {
        Some(user_id) => {
            black_box(user_id);
            StatusCode::OK
        }
        None => StatusCode::NO_CONTENT,
    })
}

async fn read_four(session: Session) -> Result<StatusCode, SessionError> {
    let found = (session.get(USER_ID)?, session.get(CSRF)?, session.get(ROLES)?, session.get(STAMP)?);
    Ok(match black_box(found) {
        (Some(_), Some(_), Some(_), Some(_)) => StatusCode::OK,
        _ => StatusCode::NO_CONTENT,
    })
}

async fn read_ts(session: Session) -> Result<String, SessionError> {
    Ok(session.get(STAMP)?.unwrap_or_default().to_string())
}

async fn write_one(session: Session) -> Result<StatusCode, SessionError> {
    session.set(STAMP, next())?;
    Ok(StatusCode::OK)
}

async fn new(session: Session) -> Result<StatusCode, SessionError> {
    session.set(USER_ID, next())?;
    session.set(CSRF, csrf())?;
    session.set(ROLES, roles())?;
    session.set(STAMP, TS)?;
    Ok(StatusCode::OK)
}

async fn log_in(session: Session) -> Result<StatusCode, SessionError> {
    let (user_id, name) = next_user();
    let login = session.login_since_arrival(name)?;
    let login = login.set(USER_ID, user_id)?.set(CSRF, csrf())?.set(ROLES, roles())?.set(STAMP, TS)?;
    login.complete().await?;
    Ok(StatusCode::OK)
}

/// The routes with sessions.
pub fn routes() -> Router {
    Router::new()
        .route("/plain", get(plain))
        .route("/one", get(read_one).post(write_one))
        .route("/four", get(read_four))
        .route("/ts", get(read_ts))
        .route("/new", axum::routing::post(new))
        .route("/login", axum::routing::post(log_in))
}
