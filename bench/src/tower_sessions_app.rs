//! An application on tower-sessions. Compiled here and in `peer-stores`, whose stores need an older tower-sessions.

use std::hint::black_box;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tower_sessions::session::Error;
use tower_sessions::{Session, SessionManagerLayer, SessionStore};

use crate::payload::{TS, csrf, next, next_user, roles};

/// The routes on tower-sessions, whatever its store.
pub fn routes(store: impl SessionStore + Clone) -> Router {
    fn answer(outcome: Result<bool, Error>) -> StatusCode {
        match outcome {
            Ok(true) => StatusCode::OK,
            Ok(false) => StatusCode::NO_CONTENT,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
    async fn plain() -> StatusCode {
        StatusCode::OK
    }
    async fn read_one(session: Session) -> StatusCode {
        answer(session.get::<u64>("user_id").await.map(|found| black_box(found).is_some()))
    }
    async fn four(session: &Session) -> Result<bool, Error> {
        let found = (
            session.get::<u64>("user_id").await?,
            session.get::<String>("csrf").await?,
            session.get::<Vec<String>>("roles").await?,
            session.get::<u64>("ts").await?,
        );
        Ok(matches!(black_box(found), (Some(_), Some(_), Some(_), Some(_))))
    }
    async fn read_four(session: Session) -> StatusCode {
        answer(four(&session).await)
    }
    async fn read_ts(session: Session) -> String {
        let ts = session.get::<u64>("ts").await.ok().flatten();
        ts.unwrap_or_default().to_string()
    }
    async fn write_one(session: Session) -> StatusCode {
        answer(session.insert("ts", next()).await.map(|()| true))
    }
    async fn fill(session: &Session, user_id: u64) -> Result<bool, Error> {
        session.insert("user_id", user_id).await?;
        session.insert("csrf", csrf()).await?;
        session.insert("roles", roles()).await?;
        session.insert("ts", TS).await?;
        Ok(true)
    }
    async fn new(session: Session) -> StatusCode {
        answer(fill(&session, next()).await)
    }
    async fn log_in(session: Session) -> StatusCode {
        let (user_id, _) = next_user();
        // What its documentation asks for at a login, against fixation.
        let renewed = session.cycle_id().await;
        answer(match renewed {
            Ok(()) => fill(&session, user_id).await,
            Err(error) => Err(error),
        })
    }
    Router::new()
        .route("/plain", get(plain))
        .route("/one", get(read_one).post(write_one))
        .route("/four", get(read_four))
        .route("/ts", get(read_ts))
        .route("/new", post(new))
        .route("/login", post(log_in))
        .layer(SessionManagerLayer::new(store))
}
