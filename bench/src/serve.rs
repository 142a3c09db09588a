//! Servers for the load generator, one variant each.

use std::future::poll_fn;
use std::pin::Pin;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use cloakroom::{MemoryStore, SessionLayer};
use cloakroom_postgres::PostgresOptions;
use cloakroom_redis::RedisOptions;
use cloakroom_sqlite::SqliteStore;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tower_sessions::MemoryStore as TheirMemoryStore;

use crate::payload::make_users;
use crate::{ours, tower_sessions_app};

/// Serves `variant` on a free port of 127.0.0.1, and prints the port. `place` says where the store is, if it is elsewhere.
///
/// # Errors
///
/// If there is no such variant, or its store cannot be opened.
pub async fn main(variant: &str, place: &str) -> Result<()> {
    make_users(2_000);
    let sessions = |layer: SessionLayer| ours::routes().layer(layer);
    let app = match variant {
        "axum" => ours::bare(),
        "upstream" => upstream(),
        "proxy" => return proxy(place).await,
        "cloakroom-memory" => sessions(SessionLayer::new(MemoryStore::with_capacity(5_000_000))),
        "cloakroom-sqlite" => sessions(SessionLayer::new(SqliteStore::open(place)?)),
        "cloakroom-redis" => sessions(SessionLayer::new(RedisOptions::parse(place)?.connect().await?)),
        "cloakroom-postgres" => {
            let options = PostgresOptions::parse(place)?;
            options.clone().migrate().await?;
            sessions(SessionLayer::new(options.connect().await?))
        }
        "tower-sessions-memory" => tower_sessions_app::routes(TheirMemoryStore::default()),
        _ => bail!("no variant {variant}"),
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.context("a port of 127.0.0.1")?;
    println!("{}", listener.local_addr()?.port());
    axum::serve(listener, app).await?;
    Ok(())
}

/// A proxy as the http library's documentation has it, without sessions or anything else: what proxying costs on the stack that the
/// gateway is built on. `place` is the application's port.
async fn proxy(place: &str) -> Result<()> {
    let application = place.parse::<u16>().context("the application's port")?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            let client = client.clone();
            async move {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                *request.uri_mut() = format!("http://127.0.0.1:{application}{path}").parse::<http::Uri>()?;
                anyhow::Ok(client.request(request).await?)
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// How large a large body is.
pub const LARGE: usize = 64 << 20;

/// The application behind the gateway: a small page, a login by command, an answer for nginx's `auth_request`, and large bodies
/// either way.
fn upstream() -> Router {
    let large = Bytes::from(vec![b'x'; LARGE]);
    let sink = |mut body: Body| async move {
        let mut taken = 0;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            taken += frame.data_ref().map_or(0, Bytes::len);
        }
        taken.to_string()
    };
    Router::new()
        .route("/large", get(|| async move { large }))
        .route("/sink", post(sink))
        .route("/plain", get(|| async { "a small page" }))
        .route("/login", post(|| async { ([("session-login", "\"alice\"")], "welcome").into_response() }))
        .route("/auth", get(|| async { http::StatusCode::NO_CONTENT }))
}
