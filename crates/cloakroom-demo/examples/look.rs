//! The demo's pages without a gateway, to look at while changing them: adds the fields that a gateway would add.
//!
//! `cargo run -p cloakroom-demo --example look -- PORT [SUBJECT] [DATA]`, for instance `8090 alice 'theme="dark"'`.
//! Commands in responses are shown by the browser's tools and obeyed by nobody.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{Next, from_fn};
use cloakroom_demo::{Options, Secret};

const SECRET: &str = "only-for-looking-at-pages";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().ok_or("a port, please")?.parse()?;
    let mut told = HeaderMap::new();
    told.insert("gateway-secret", HeaderValue::from_static(SECRET));
    if let Some(subject) = arguments.next().filter(|subject| !subject.is_empty()) {
        told.insert("session-subject", format!("\"{subject}\"").parse()?);
        told.insert("session-handle", HeaderValue::from_static("\"Zb3JkZXIgY2xvYWtyb2\""));
        told.insert("session-level", HeaderValue::from_static("1"));
    }
    if let Some(data) = arguments.next() {
        told.insert("session-data", data.parse()?);
    }
    let folder = tempfile::tempdir()?;
    let options = Options::new(folder.path().join("notes.json"), Secret::new(SECRET)?);
    let app = cloakroom_demo::app(options)?.layer(from_fn(
        move |mut request: axum::extract::Request, next: Next| {
            request.headers_mut().extend(told.clone());
            next.run(request)
        },
    ));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://127.0.0.1:{port}");
    axum::serve(listener, app).await?;
    Ok(())
}
