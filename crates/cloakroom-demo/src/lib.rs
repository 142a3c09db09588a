//! The demo application behind the gateway: two accounts, private notes, a theme, and logout.
//!
//! It knows nothing of sessions; of Cloakroom's crates it uses the checking of input only. What it knows of a visitor stands in the
//! `Session-*` fields of the request; what it wants done it says in `Session-*` fields of the response:
//!
//! | what happens | what the application answers |
//! | --- | --- |
//! | a right password | `Session-Login: "u1001"`, `Session-Methods: pwd` |
//! | the same user's password once more | `Session-Step-Up: "u1001"`, `Session-Methods: pwd` |
//! | the button "Sign out" | `Session-Logout: this` |
//! | another theme | `Session-Set: theme="dark"`, or `Session-Unset: theme` |
//!
//! Whoever can talk to it directly could write such fields himself. So it listens on loopback only, and it answers
//! 403 to every request that does not carry the secret it shares with the gateway, in `Gateway-Secret`.

mod accounts;
mod error;
mod gateway;
mod notes;
mod pages;
mod returning;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tokio::net::TcpListener;

pub use crate::error::DemoError;
pub use crate::gateway::{Secret, SecretError};
use crate::notes::Notebook;

/// The longest form the application reads, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// What the application needs to start.
#[derive(Debug)]
#[non_exhaustive]
pub struct Options {
    /// The JSON file that keeps the notes. Created if it does not exist; its folder must exist. Two applications must
    /// not share one.
    pub notes_file: PathBuf,
    /// What the gateway sends along as `Gateway-Secret`. Requests without it are refused.
    pub secret: Secret,
}

impl Options {
    /// Takes the file that keeps the notes and the secret that is shared with the gateway.
    pub fn new(notes_file: impl Into<PathBuf>, secret: Secret) -> Self {
        Self { notes_file: notes_file.into(), secret }
    }
}

/// Builds the application.
///
/// # Errors
///
/// [`DemoError`] if the notes file cannot be read, is not one of ours, or cannot be created.
pub fn app(options: Options) -> Result<Router, DemoError> {
    let notebook = Arc::new(Notebook::open(options.notes_file)?);
    let secret = Arc::new(options.secret);
    Ok(Router::new()
        .route("/", get(pages::home))
        .route("/login", get(pages::login_form).post(pages::log_in))
        .route("/logout", post(pages::log_out))
        .route("/notes", get(pages::notes).post(pages::change_notes))
        .route("/sessions", get(pages::sessions))
        .route("/theme", post(pages::choose_theme))
        .route("/assets/demo.css", get(pages::stylesheet))
        .route("/assets/icon.svg", get(pages::icon))
        .fallback(pages::not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        // Outermost, so that it stands before every route, the fallback too.
        .layer(middleware::from_fn_with_state(secret, gateway::refuse_strangers))
        .with_state(notebook))
}

/// Serves the application until `shutdown` is ready, then finishes what is in flight.
///
/// # Errors
///
/// `InvalidInput` if the listener is not on a loopback address: the application believes every header of whoever
/// knows the secret, so it stays on this machine. What [`app`] returns, and what the listener reports.
pub async fn serve<F>(listener: TcpListener, options: Options, shutdown: F) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        let text =
            format!("{address} is not a loopback address: the demo is reached through the gateway only");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let app = app(options).map_err(io::Error::other)?;
    axum::serve(listener, app).with_graceful_shutdown(shutdown).await
}
