//! The layer that refuses requests from elsewhere, where its parts meet: handshakes, refusals, bodies, and the service inside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use cloakroom::{
    Csrf, CsrfBody, CsrfRefused, CsrfToken, MemoryStore, Mode, ProtectedLayer, Session, SessionError,
    SessionLayer,
};
use cloakroom_testkit::block_on;
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use tower::{Layer as _, Service, ServiceExt as _};

const OWN: &str = "https://example.org";
const FORM: &str = "application/x-www-form-urlencoded";

fn layer(change: impl FnOnce(Csrf) -> Csrf) -> ProtectedLayer {
    let sessions = SessionLayer::builder(MemoryStore::new()).without_sweeping().build().unwrap();
    sessions.protect(change(Csrf::new(OWN))).unwrap()
}

fn ask(
    app: &Router,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &'static str,
) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    block_on(app.clone().oneshot(request.body(Body::from(body)).unwrap())).unwrap()
}

#[test]
fn r083_each_sign_of_a_websocket_handshake_is_one_also_on_an_exempt_path() {
    let app = Router::new().route("/hook", get("in").post("in")).layer(layer(|csrf| csrf.exempt("/hook")));
    let evil = ("origin", "https://evil.test");
    assert_eq!(ask(&app, "POST", "/hook", &[evil], "").status(), StatusCode::OK, "exempt");
    for (name, method, sign) in [
        ("the field's value among others, in any case", "GET", Some(("upgrade", "h2c, WebSocket"))),
        ("the key", "GET", Some(("sec-websocket-key", "x"))),
        ("an extended CONNECT", "CONNECT", None),
    ] {
        let fields = sign.into_iter().chain([evil]).collect::<Vec<_>>();
        assert_eq!(ask(&app, method, "/hook", &fields, "").status(), StatusCode::FORBIDDEN, "{name}");
    }
}

#[test]
fn a_refusal_is_not_stored_and_says_for_outer_layers_what_it_is() {
    let app = Router::new().route("/", post("in")).layer(layer(|csrf| csrf));
    let refused = ask(&app, "POST", "/", &[("sec-fetch-site", "cross-site")], "");
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(refused.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(refused.extensions().get(), Some(&CsrfRefused::Elsewhere));
    let cookie = ("cookie", "__Host-Http-sid=x");
    let untold = ask(&app, "POST", "/", &[cookie, ("content-type", FORM)], "a=1");
    assert_eq!(untold.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(untold.extensions().get(), Some(&CsrfRefused::Token));
}

#[test]
fn a_login_removes_no_visitors_cookie_that_is_not_there() {
    let log_in = async |session: Session| -> Result<(), SessionError> { session.log_in("alice").await };
    let app = Router::new().route("/", post(log_in)).layer(layer(|csrf| csrf));
    let own = ("sec-fetch-site", "same-origin");
    let cookies = |answer: &Response<Body>| answer.headers().get_all(header::SET_COOKIE).iter().count();
    assert_eq!(cookies(&ask(&app, "POST", "/", &[own], "")), 1);
    let visited = ("cookie", "__Host-Http-sid-csrf=x");
    assert_eq!(cookies(&ask(&app, "POST", "/", &[own, visited], "")), 2);
}

#[test]
fn a_form_that_was_read_to_its_end_has_not_ended_for_whoever_reads_it_next() {
    let look = async |request: Request<Body>| {
        let ended = http_body::Body::is_end_stream(request.body());
        let body = axum::body::to_bytes(request.into_body(), 1 << 10).await.unwrap();
        format!("{ended} {}", String::from_utf8_lossy(&body))
    };
    let app = Router::new().route("/", post(look)).layer(layer(Csrf::report_only));
    let fields = [("cookie", "__Host-Http-sid=x"), ("content-type", FORM)];
    let answer = ask(&app, "POST", "/", &fields, "a=1&b=2");
    let body = block_on(axum::body::to_bytes(answer.into_body(), 1 << 10)).unwrap();
    assert_eq!(body, "false a=1&b=2");
}

/// Some bytes, then an error; nobody may ask for more until they have been told of it.
struct Broken(u8);

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0 += 1;
        Poll::Ready(match self.0 {
            1 => Some(Ok(Frame::data(Bytes::from_static(b"a=1")))),
            2 => Some(Err(std::io::Error::other("broken off"))),
            _ => panic!("there is nothing behind an error"),
        })
    }
}

#[test]
fn a_form_that_breaks_off_is_read_no_further_and_the_handler_is_told() {
    let look = async |request: Request<Body>| {
        let error = axum::body::to_bytes(request.into_body(), 1 << 10).await.unwrap_err();
        format!("{error:?}")
    };
    let app = Router::new().route("/", post(look)).layer(layer(Csrf::report_only));
    let request = Request::builder().method("POST").uri("/").header("content-type", FORM);
    let request = request.header("cookie", "__Host-Http-sid=x").body(Body::new(Broken(0))).unwrap();
    let answer = block_on(app.oneshot(request)).unwrap();
    let body = block_on(axum::body::to_bytes(answer.into_body(), 1 << 10)).unwrap();
    assert!(String::from_utf8_lossy(&body).contains("broken off"), "{body:?}");
}

#[test]
fn r108_a_visitors_cookie_is_not_in_the_debug_text_of_a_response() {
    let form = async |token: CsrfToken| token.expose().to_owned();
    let app = Router::new().route("/", get(form)).layer(layer(|csrf| csrf));
    let answer = ask(&app, "GET", "/", &[], "");
    assert!(answer.headers()[header::SET_COOKIE].is_sensitive());
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(!format!("{:?}", answer.headers()).contains(cookie));
}

/// Answers 200 only where it was asked before whether it is ready; a clone was not.
#[derive(Default)]
struct Asked(bool);

impl Clone for Asked {
    fn clone(&self) -> Self {
        Self(false)
    }
}

impl Service<Request<CsrfBody<Body>>> for Asked {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<CsrfBody<Body>>) -> Self::Future {
        let mut response = Response::new(Body::empty());
        if !std::mem::take(&mut self.0) {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        ready(Ok(response))
    }
}

#[test]
fn a_request_whose_token_was_looked_for_goes_to_the_service_that_is_ready() {
    let service = layer(Csrf::report_only).layer(Asked::default());
    let request = Request::builder().method("POST").uri("/").header("content-type", FORM);
    let request = request.header("cookie", "__Host-Http-sid=x").body(Body::from("a=1")).unwrap();
    assert_eq!(block_on(service.oneshot(request)).unwrap().status(), StatusCode::OK);
}

#[test]
fn a_token_in_the_form_counts_beside_a_header_field_with_something_of_another_shape() {
    let form = async |token: CsrfToken| token.expose().to_owned();
    let app =
        Router::new().route("/", get(form).post("in")).layer(layer(|csrf| csrf.mode(Mode::VerdictAndToken)));
    let page = ask(&app, "GET", "/", &[], "");
    let cookie = page.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let token = block_on(axum::body::to_bytes(page.into_body(), 1 << 10)).unwrap();
    let form: &'static str = format!("cloakroom_csrf={}", str::from_utf8(&token).unwrap()).leak();
    let fields = [("cookie", cookie.as_str()), ("content-type", FORM), ("x-cloakroom-csrf", "another's")];
    assert_eq!(ask(&app, "POST", "/", &fields, form).status(), StatusCode::OK);
    assert_eq!(ask(&app, "POST", "/", &fields, "a=1").status(), StatusCode::FORBIDDEN);
}
