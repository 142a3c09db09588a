//! Input is refused by field.
#![cfg(feature = "validate")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use axum::{Form, Json, Router};
use cloakroom::{Checked, Invalid, Valid};
use cloakroom_testkit::block_on;
use garde::Validate;
use serde::Deserialize;
use tower::ServiceExt as _;

#[derive(Deserialize, Validate)]
struct Note {
    #[garde(length(chars, min = 1, max = 8))]
    title: String,
}

#[derive(Deserialize, Validate)]
struct Map {
    #[garde(dive)]
    counts: BTreeMap<String, Count>,
}

#[derive(Deserialize, Validate)]
#[serde(transparent)]
#[garde(transparent)]
struct Count(#[garde(range(max = 3))] u8);

fn app() -> Router {
    let page = async |form: Result<Valid<Form<Note>>, Invalid>| match form {
        Ok(Valid(Form(note))) => note.title,
        Err(invalid) => format!("problem: {}", invalid.of("title").unwrap_or("none")),
    };
    let again = async |form: Checked<Form<Note>>| match form.into_result() {
        Ok(Form(note)) => format!("kept {}", note.title),
        Err((Form(typed), invalid)) => format!("{} again, {} problem", typed.title, invalid.errors().len()),
    };
    Router::new()
        .route("/form", post(async |Valid(Form(note)): Valid<Form<Note>>| note.title))
        .route("/page", post(page))
        .route("/again", post(again))
        .route("/json", post(async |note: Valid<Json<Note>>| note.title.clone()))
        .route("/map", post(async |map: Valid<Json<Map>>| map.counts.len().to_string()))
}

fn send(path: &str, content_type: &str, body: &str) -> (StatusCode, String, String) {
    let request =
        Request::post(path).header("content-type", content_type).body(Body::from(body.to_owned())).unwrap();
    let (head, body) = block_on(app().oneshot(request)).unwrap().into_parts();
    let body = block_on(axum::body::to_bytes(body, 1 << 20)).unwrap();
    let content_type =
        head.headers.get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
    (head.status, content_type, String::from_utf8(body.to_vec()).unwrap())
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

#[test]
fn what_does_not_hold_is_answered_with_the_fields_errors() {
    for (path, content_type, body) in [
        ("/form", FORM, "title=far+too+long"),
        ("/form", FORM, "title="),
        ("/json", JSON, r#"{"title":"far too long"}"#),
    ] {
        let (status, content_type, body) = send(path, content_type, body);
        assert_eq!((status, content_type.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, JSON));
        assert!(body.starts_with(r#"{"errors":[{"field":"title","message":"length is "#), "{body}");
    }
    assert_eq!(send("/form", FORM, "title=tea").2, "tea");
    assert_eq!(send("/json", JSON, r#"{"title":"tea"}"#).2, "tea");
    assert_eq!(send("/page", FORM, "title=far+too+long").2, "problem: length is greater than 8");
}

#[test]
fn what_cannot_be_read_is_refused_without_being_echoed() {
    const EVIL: &str = "<script>alert(1)</script>";
    for (path, content_type, body, status) in [
        ("/form", "text/plain", EVIL.to_owned(), 415),
        ("/form", FORM, EVIL.to_owned(), 422),
        ("/json", JSON, EVIL.to_owned(), 400),
        ("/json", JSON, format!(r#"{{"title":{{"{EVIL}":1}}}}"#), 422),
        ("/map", JSON, format!(r#"{{"counts":{{"{EVIL}":9}}}}"#), 422),
    ] {
        let (got, content_type, answer) = send(path, content_type, &body);
        assert_eq!(
            (got, content_type.as_str()),
            (StatusCode::from_u16(status).unwrap(), JSON),
            "{path} {body}"
        );
        assert!(!answer.contains(['<', '>', '&']), "{answer}");
    }
}

#[test]
fn what_was_typed_comes_with_what_is_wrong_with_it() {
    let (status, _, kept) = send("/again", FORM, "title=tea");
    assert_eq!((status, kept.as_str()), (StatusCode::OK, "kept tea"));
    let (_, _, again) = send("/again", FORM, "title=far+too+long");
    assert_eq!(again, "far too long again, 1 problem");
    let (status, ..) = send("/again", FORM, "name=tea");
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "it cannot be read at all");
}
