//! A small application with accounts: login, step-up, typed keys, a page of one's own sessions, and logout.
//!
//! | idea | where |
//! | --- | --- |
//! | a session as an extractor, data merged | [`pages::home`], [`pages::add_note`] |
//! | login that loses against "end all sessions" | [`account::log_in`] |
//! | forms of other sites refused, a token in the login form | [`sessions()`], [`account::login_form`] |
//! | scripts of others kept from running | `SecurityHeadersLayer` in [`app`] |
//! | a second look at the password before something delicate | [`account::confirm`], `RecentLogin` |
//! | one's own sessions, listed and ended | [`mod@sessions`] |
//! | logout that the Back button cannot undo | [`account::log_out`], [`account::signed_out`] |

/// The programs of the project's README, compiled with its tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

/// Those of its pages on requests and scripts from elsewhere.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/security/csrf.md")]
#[doc = include_str!("../../../docs/security/xss.md")]
pub struct Elsewhere;

pub mod account;
pub mod error;
pub mod pages;
pub mod sessions;
pub mod users;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use cloakroom::{
    ConfigErrors, CookieOptions, Csrf, ProtectedLayer, Scheme, SecurityHeadersLayer, SessionLayer,
};
use cloakroom_sqlite::SqliteStore;

use crate::users::Users;

/// The layer with the application's sessions, which refuses forms that other sites send. `origin` is what stands in the user's
/// address bar.
///
/// # Errors
///
/// [`ConfigErrors`] if a setting cannot be used.
pub fn sessions(store: SqliteStore, origin: &str) -> Result<ProtectedLayer, ConfigErrors> {
    // Cookies are shared by all ports of a host, so each application has a name of its own.
    let sessions = SessionLayer::builder(store)
        .cookie(CookieOptions::default().name("__Host-Http-login"))
        .peer_address::<ConnectInfo<SocketAddr>>()
        .build()?;
    sessions.protect(Csrf::new(origin))
}

/// The application.
pub fn app(sessions: ProtectedLayer, users: Users) -> Router {
    Router::new()
        .route("/", get(pages::home))
        .route("/notes", get(pages::notes).post(pages::add_note))
        .route("/login", get(account::login_form).post(account::log_in))
        .route("/confirm", get(account::confirm_form).post(account::confirm))
        .route("/logout", post(account::log_out))
        .route("/signed-out", get(account::signed_out))
        .route("/sessions", get(sessions::list))
        .route("/sessions/end", post(sessions::end))
        .route("/sessions/end-others", post(sessions::end_others))
        .layer(sessions)
        // Outermost, so that every response has the headers. Behind a proxy with TLS: `Scheme::Https`.
        .layer(SecurityHeadersLayer::new(Scheme::Http))
        .with_state(Arc::new(users))
}
