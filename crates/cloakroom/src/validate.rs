//! Input that is checked before a handler sees it.

use std::fmt;
use std::ops::Deref;

use axum_core::extract::{FromRequest, Request};
use axum_core::response::{IntoResponse, Response};
use garde::Validate;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// Extracts a form or JSON, and validates it by the rules of its type ([`garde::Validate`]): `Valid<Form<T>>`, `Valid<Json<T>>`.
///
/// What does not hold is answered with 422 and the fields' errors as JSON. To answer in another way extract
/// `Result<Valid<Form<T>>, Invalid>`, or [`Checked<Form<T>>`](Checked) to show what was typed again.
///
/// ```
/// use axum::Form;
/// use cloakroom::{Invalid, Valid};
/// use garde::Validate;
///
/// #[derive(serde::Deserialize, Validate)]
/// struct NewNote {
///     #[garde(length(chars, min = 1, max = 80))]
///     title: String,
/// }
///
/// async fn add(form: Result<Valid<Form<NewNote>>, Invalid>) -> Result<String, Invalid> {
///     let Valid(Form(note)) = form?;
///     Ok(note.title)
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::post(add));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Valid<E>(pub E);

impl<E> Deref for Valid<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.0
    }
}

impl<S, E> FromRequest<S> for Valid<E>
where
    S: Send + Sync,
    E: FromRequest<S> + Deref + Send,
    E::Target: Validate<Context: Default>,
{
    type Rejection = Invalid;

    async fn from_request(request: Request, state: &S) -> Result<Self, Invalid> {
        let checked = Checked::<E>::from_request(request, state).await?;
        checked.into_result().map(Self).map_err(|(_, invalid)| invalid)
    }
}

/// As [`Valid`], for pages that show a form again with what was typed: the input can only be had together with the verdict on it.
///
/// ```
/// use axum::Form;
/// use cloakroom::Checked;
/// use garde::Validate;
///
/// #[derive(serde::Deserialize, Validate)]
/// struct NewNote {
///     #[garde(length(chars, min = 1, max = 80))]
///     title: String,
/// }
///
/// async fn add(form: Checked<Form<NewNote>>) -> String {
///     match form.into_result() {
///         Ok(Form(note)) => format!("Kept {}", note.title),
///         Err((Form(typed), invalid)) => format!("{}: {}", typed.title, invalid.of("title").unwrap_or_default()),
///     }
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::post(add));
/// ```
#[derive(Clone, Debug)]
#[must_use = "nobody has looked at the verdict"]
pub struct Checked<E> {
    input: E,
    verdict: Result<(), Invalid>,
}

impl<E> Checked<E> {
    /// The input if all of its rules hold; otherwise the input, to be shown again, and what does not hold.
    ///
    /// # Errors
    ///
    /// The input and [`Invalid`].
    pub fn into_result(self) -> Result<E, (E, Invalid)> {
        match self.verdict {
            Ok(()) => Ok(self.input),
            Err(invalid) => Err((self.input, invalid)),
        }
    }
}

impl<S, E> FromRequest<S> for Checked<E>
where
    S: Send + Sync,
    E: FromRequest<S> + Deref + Send,
    E::Target: Validate<Context: Default>,
{
    /// Only for input that cannot be read at all.
    type Rejection = Invalid;

    async fn from_request(request: Request, state: &S) -> Result<Self, Invalid> {
        let input = match E::from_request(request, state).await {
            Ok(input) => input,
            // The rejection's own text may quote what was sent; its status is enough.
            Err(rejection) => return Err(Invalid::unreadable(rejection.into_response().status())),
        };
        let verdict = input.validate().map_err(|report| Invalid::fields(&report));
        Ok(Self { input, verdict })
    }
}

/// Input that is not acceptable. As a response: the status, and the errors as JSON, `{"errors":[{"field":"title","message":"…"}]}`.
///
/// # Security
///
/// Nothing of the input is echoed but, where a type has a map, the map's keys in a field's name, and what the messages of your own
/// rules say. Both are escaped in the JSON such that they are inert in HTML too; a page has to escape them like any text, as templates of
/// askama do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    status: StatusCode,
    errors: Vec<FieldError>,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FieldError {
    /// The field, as `title` or `lines[0].price`; empty for the whole.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    errors: &'a [FieldError],
}

impl Invalid {
    fn unreadable(status: StatusCode) -> Self {
        // An extractor that refuses with a redirect or a page of its own is no extractor of input.
        let status = if status.is_client_error() { status } else { StatusCode::BAD_REQUEST };
        Self { status, errors: Vec::new() }
    }

    fn fields(report: &garde::Report) -> Self {
        let error = |(path, error): &(garde::Path, garde::Error)| FieldError {
            field: path.to_string(),
            message: error.message().to_owned(),
        };
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, errors: report.iter().map(error).collect() }
    }

    /// The status: 422 where fields do not hold, 400, 413, 415 or 422 where the input cannot be read at all.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// All errors; none where the input cannot be read at all.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The first error of a field, for a page that shows it beside the field.
    pub fn of(&self, field: &str) -> Option<&str> {
        self.errors.iter().find(|error| error.field == field).map(|error| error.message.as_str())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the input is not acceptable ({} errors)", self.errors.len())
    }
}

impl std::error::Error for Invalid {}

impl IntoResponse for Invalid {
    fn into_response(self) -> Response {
        let json = serde_json::to_string(&Answer { errors: &self.errors }).unwrap_or_default();
        // JSON has these characters in texts only, where an escape means the same.
        let json = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        let mut response = (self.status, json).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
