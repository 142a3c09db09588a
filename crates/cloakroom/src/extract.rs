//! Extractors for axum.

use std::ops::Deref;

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use cloakroom_core::record::Subject;
use http::request::Parts;

use crate::csrf::CsrfToken;
use crate::error::SessionError;
use crate::headers::Nonce;
use crate::session::Session;

impl IntoResponse for SessionError {
    fn into_response(self) -> Response {
        self.response()
    }
}

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        Self::load(&parts.extensions).await
    }
}

/// The session of somebody who is logged in. Anybody else is refused with 401.
///
/// Dereferences to the [`Session`]. To redirect instead of refusing, extract `Result<Authenticated, SessionError>`.
#[derive(Clone, Debug)]
pub struct Authenticated {
    session: Session,
    subject: Subject,
}

impl Authenticated {
    /// Who is logged in.
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }
}

impl Deref for Authenticated {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        let session = Session::load(&parts.extensions).await?;
        let subject = session.require_authenticated()?;
        Ok(Self { session, subject })
    }
}

/// The session of somebody who authenticated lately: within [`Policy::recent_login`](crate::Policy::recent_login), 5 minutes by
/// default. Who did so too long ago is refused with 403, and who is not logged in with 401.
#[derive(Clone, Debug)]
pub struct RecentLogin(Authenticated);

impl Deref for RecentLogin {
    type Target = Authenticated;

    fn deref(&self) -> &Authenticated {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for RecentLogin {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        let session = Session::load(&parts.extensions).await?;
        let subject = session.require_recent(session.slot.shared.engine.policy().recent())?;
        Ok(Self(Authenticated { session, subject }))
    }
}

impl<S: Sync> FromRequestParts<S> for CsrfToken {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        Self::load(&parts.headers, &parts.extensions).await
    }
}

impl<S: Sync> FromRequestParts<S> for Nonce {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        Self::of(&parts.extensions)
    }
}
