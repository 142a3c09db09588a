//! The header protocol between the gateway and the upstream. Values are RFC 9651 structured fields.
//!
//! What the gateway tells is in [`outbound`], what the upstream answers in [`commands`]. Text is a String, or a Display
//! String where it is not printable ASCII; both ways either is taken.

pub mod commands;
pub mod outbound;

/// The names of both directions, lower-case.
pub mod names {
    /// To the upstream: the session's public name.
    pub const HANDLE: &str = "session-handle";
    /// To the upstream: who is logged in.
    pub const SUBJECT: &str = "session-subject";
    /// To the upstream: when they authenticated.
    pub const AUTHENTICATED_AT: &str = "session-authenticated-at";
    /// Both ways: the assurance level of an authentication.
    pub const LEVEL: &str = "session-level";
    /// To the upstream: the data map.
    pub const DATA: &str = "session-data";
    /// To the upstream: what its response stores will not be kept.
    pub const READ_ONLY: &str = "session-read-only";
    /// To the upstream: what its forms prove that they are its own with.
    pub const CSRF_TOKEN: &str = "session-csrf-token";
    /// To the upstream: what marks the scripts and styles of the response as its own.
    pub const NONCE: &str = "csp-nonce";
    /// From the upstream: the response has made use of a token, so that a visitor without session needs a cookie.
    pub const CSRF: &str = "session-csrf";
    /// Command: log in.
    pub const LOGIN: &str = "session-login";
    /// Command: the subject has authenticated again.
    pub const STEP_UP: &str = "session-step-up";
    /// Beside either of the two: the methods used.
    pub const METHODS: &str = "session-methods";
    /// Command: store data.
    pub const SET: &str = "session-set";
    /// Command: remove data.
    pub const UNSET: &str = "session-unset";
    /// Command: end sessions.
    pub const LOGOUT: &str = "session-logout";
    /// Command: a new secret.
    pub const ROTATE: &str = "session-rotate";
}
