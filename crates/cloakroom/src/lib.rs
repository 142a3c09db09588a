#![doc = include_str!("../README.md")]

mod admin;
mod changing;
mod clocks;
mod commit;
mod csrf;
mod erased;
mod error;
#[cfg(feature = "axum")]
mod extract;
mod fields;
mod guessing;
mod headers;
mod housekeeping;
mod info;
mod key;
mod layer;
mod lifecycle;
mod memory;
mod observe;
mod report_service;
mod reports;
#[cfg(feature = "sanitise")]
mod rich_text;
mod service;
mod session;
mod signed_out;
mod slot;
mod sweeper;
mod system;
mod turns;
#[cfg(feature = "validate")]
mod validate;
#[cfg(feature = "tokio")]
mod watch;

pub use cloakroom_core as core;
pub use cloakroom_core::cookie::{CookieOptions, SameSite};
pub use cloakroom_core::engine::Activity;
pub use cloakroom_core::event::{Event, EventKind, Hindrance, Observer, Severity};
pub use cloakroom_core::origin::{Loading, Mode};
pub use cloakroom_core::policy::{ConfigErrors, OnReplay, Policy};
pub use cloakroom_core::record::{Authentication, Level, Subject};
pub use cloakroom_core::seal::{Pepper, PepperId, Peppers};
pub use cloakroom_core::security_headers::Scheme;
pub use cloakroom_core::store::{AtCap, Reason};
pub use cloakroom_core::token::Handle;

pub use self::admin::Sessions;
pub use self::clocks::NotReady;
pub use self::csrf::{Csrf, CsrfBody, CsrfFuture, CsrfRefused, CsrfService, CsrfToken, ProtectedLayer};
pub use self::error::{SessionError, SessionRefused};
#[cfg(feature = "axum")]
pub use self::extract::{Authenticated, RecentLogin};
pub use self::fields::{PreparedSecurityHeaders, add_security_headers, add_vary};
pub use self::guessing::GuessingLimits;
pub use self::headers::{Nonce, SecurityHeadersFuture, SecurityHeadersLayer, SecurityHeadersService};
pub use self::info::SessionInfo;
pub use self::key::Key;
pub use self::layer::{RequestHead, SessionLayer, SessionLayerBuilder};
pub use self::lifecycle::Login;
pub use self::memory::{MemoryBounds, MemoryStore};
pub use self::observe::TracingObserver;
pub use self::report_service::CspReportService;
pub use self::reports::{Admitted, CspCount, CspReports, REPORT_BODY_MAX, REPORT_SOURCES_MAX};
#[cfg(feature = "sanitise")]
pub use self::rich_text::{RICH_TEXT_MAX, RichText, RichTextError};
pub use self::service::{ResponseFuture, SessionService};
pub use self::session::Session;
pub use self::signed_out::SignedOut;
pub use self::system::{SystemClock, SystemEntropy};
#[cfg(feature = "validate")]
pub use self::validate::{Checked, FieldError, Invalid, Valid};
#[cfg(feature = "tokio")]
pub use self::watch::{Ended, SessionEnd};
