//! `cargo run -p axum-login`, then <http://127.0.0.1:3001>. Sessions are kept in `./.cloakroom/axum-login.db`.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::net::SocketAddr;

use axum_login::users::Users;
use cloakroom_sqlite::SqliteStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init(); // session events, one line each
    std::fs::create_dir_all(".cloakroom")?;
    let store = SqliteStore::open(".cloakroom/axum-login.db")?;
    let app = axum_login::app(axum_login::sessions(store, "http://127.0.0.1:3001")?, Users::demo()?);
    // Tells the layer where clients come from.
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3001").await?;
    println!("http://127.0.0.1:3001  (alice / wonderland-42, bob / builder-42)");
    axum::serve(listener, app).with_graceful_shutdown(stopped()).await?;
    Ok(())
}

async fn stopped() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
