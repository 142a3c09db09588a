//! Session libraries for axum, as their documentation says, with the stores that keep sessions in memory.

use std::hint::black_box;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tower_sessions::MemoryStore;

use crate::app::{Tower, Variant};
use crate::payload::{TS, csrf, next, next_user, roles};
use crate::tower_sessions_app;

/// tower-sessions with its memory store.
pub const TOWER_SESSIONS: Variant = Variant {
    name: "tower-sessions",
    bare: false,
    build: |_| Tower::boxed(tower_sessions_app::routes(MemoryStore::default())),
};

/// axum_session without a database.
pub const AXUM_SESSION: Variant = Variant {
    name: "axum_session",
    bare: false,
    build: |runtime| Tower::boxed(runtime.block_on(axum_session_routes())),
};

async fn axum_session_routes() -> Router {
    use axum_session::{Session, SessionConfig, SessionLayer, SessionNullPool, SessionStore};

    type Of = Session<SessionNullPool>;

    fn answer(found: bool) -> StatusCode {
        if found { StatusCode::OK } else { StatusCode::NO_CONTENT }
    }
    async fn plain() -> StatusCode {
        StatusCode::OK
    }
    async fn read_one(session: Of) -> StatusCode {
        answer(black_box(session.get::<u64>("user_id")).is_some())
    }
    async fn read_four(session: Of) -> StatusCode {
        let found = (
            session.get::<u64>("user_id"),
            session.get::<String>("csrf"),
            session.get::<Vec<String>>("roles"),
            session.get::<u64>("ts"),
        );
        answer(matches!(black_box(found), (Some(_), Some(_), Some(_), Some(_))))
    }
    async fn read_ts(session: Of) -> String {
        session.get::<u64>("ts").unwrap_or_default().to_string()
    }
    async fn write_one(session: Of) -> StatusCode {
        session.set("ts", next());
        StatusCode::OK
    }
    fn fill(session: &Of, user_id: u64) -> StatusCode {
        session.set("user_id", user_id);
        session.set("csrf", csrf());
        session.set("roles", roles());
        session.set("ts", TS);
        StatusCode::OK
    }
    async fn new(session: Of) -> StatusCode {
        fill(&session, next())
    }
    async fn log_in(session: Of) -> StatusCode {
        let (user_id, _) = next_user();
        session.renew();
        fill(&session, user_id)
    }
    let store = SessionStore::<SessionNullPool>::new(None, SessionConfig::default());
    Router::new()
        .route("/plain", get(plain))
        .route("/one", get(read_one).post(write_one))
        .route("/four", get(read_four))
        .route("/ts", get(read_ts))
        .route("/new", post(new))
        .route("/login", post(log_in))
        .layer(SessionLayer::new(store.await.expect("a store without a database")))
}
