//! The layers beside those of tower-http, in either order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::routing::{get, post};
use axum::{Form, Router};
use cloakroom::{
    Csrf, CsrfToken, MemoryStore, Nonce, ProtectedLayer, Scheme, SecurityHeadersLayer, SessionLayer,
};
use cloakroom_testkit::block_on;
use serde::Deserialize;
use tower::{Service, ServiceBuilder, ServiceExt as _};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;

#[derive(Deserialize)]
struct Sent {
    text: String,
}

fn protected() -> ProtectedLayer {
    SessionLayer::new(MemoryStore::new())
        .protect(Csrf::new("https://example.org").trust("https://app.example"))
        .unwrap()
}

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin([HeaderValue::from_static("https://app.example")])
        .allow_credentials(true)
        .allow_methods([Method::POST])
}

fn routes() -> Router {
    Router::new()
        .route(
            "/page",
            get(async |token: CsrfToken, nonce: Nonce| format!("{} {}", token.expose(), nonce.as_str())),
        )
        .route("/send", post(async |Form(sent): Form<Sent>| sent.text))
        .route("/panics", get(async || -> &str { panic!("on purpose") }))
}

fn own() -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(header::VARY, HeaderValue::from_static("accept-encoding"))
}

fn orders() -> [(&'static str, Router); 2] {
    let headers = SecurityHeadersLayer::new(Scheme::Https);
    let inside = routes()
        .layer(CatchPanicLayer::new())
        .layer(own())
        .layer(cors())
        .layer(RequestBodyLimitLayer::new(1000))
        .layer(TraceLayer::new_for_http())
        .layer(protected())
        .layer(headers.clone());
    let outside = routes()
        .layer(protected())
        .layer(headers)
        .layer(CatchPanicLayer::new())
        .layer(cors())
        .layer(RequestBodyLimitLayer::new(1000))
        .layer(TraceLayer::new_for_http());
    [("theirs inside", inside), ("theirs outside", outside)]
}

fn ask(app: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let (head, body) = block_on(app.clone().oneshot(request)).unwrap().into_parts();
    let body = block_on(axum::body::to_bytes(body, 1 << 20)).unwrap();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

fn form(fields: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut request = Request::post("/send").header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

#[test]
fn requests_and_responses_pass_through_layers_of_others_in_either_order() {
    for (order, app) in orders() {
        let (status, headers, body) = ask(&app, Request::get("/page").body(Body::empty()).unwrap());
        assert_eq!(status, StatusCode::OK, "{order}");
        let (token, nonce) = body.split_once(' ').unwrap();
        assert!(headers["content-security-policy"].to_str().unwrap().contains(nonce), "{order}");
        let visitor = headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let cookies = format!("{visitor}; __Host-Http-sid=x");

        let good = form(&[("cookie", &cookies)], &format!("cloakroom_csrf={token}&text=tea"));
        assert_eq!(ask(&app, good).2, "tea", "{order}: what was read for the token is passed on");
        let (status, headers, _) = ask(&app, form(&[("cookie", &cookies)], "text=tea"));
        assert_eq!(status, StatusCode::FORBIDDEN, "{order}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{order}: on refusals too");
        let long = format!("text={}&cloakroom_csrf={token}", "x".repeat(2000));
        let (status, ..) = ask(&app, form(&[("cookie", &cookies)], &long));
        assert!(status.is_client_error(), "{order}: {status}");
    }
}

#[test]
fn r082_beside_a_cors_layer_only_listed_origins_are_answered_and_heard() {
    for (order, app) in orders() {
        let from = |origin: &'static str| [("origin", origin), ("sec-fetch-site", "cross-site")];
        let (status, headers, _) = ask(&app, form(&from("https://app.example"), "text=tea"));
        assert_eq!(status, StatusCode::OK, "{order}");
        assert_eq!(headers["access-control-allow-origin"], "https://app.example", "{order}");
        let vary: Vec<_> = headers.get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
        let vary = vary.join(", ");
        for name in ["origin", "sec-fetch-site"] {
            assert!(vary.split(", ").any(|held| held == name), "{order}: {vary}");
        }
        for origin in ["https://evil.test", "https://app.example.evil.test", "null"] {
            let (status, headers, _) = ask(&app, form(&from(origin), "text=tea"));
            assert_eq!(status, StatusCode::FORBIDDEN, "{order} {origin}");
            let answered = headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert!(
                !matches!(answered, Some("*" | "null")) && answered != Some(origin),
                "{order} {answered:?}"
            );
        }
    }
}

#[test]
fn r093_a_handler_that_panics_is_answered_with_the_headers() {
    let [(_, app), _] = orders();
    let (status, headers, _) = ask(&app, Request::get("/panics").body(Body::empty()).unwrap());
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(headers.contains_key("content-security-policy"));
}

#[test]
fn a_plain_tower_service_needs_no_axum() {
    let inner = tower::service_fn(async |request: Request<_>| {
        let token = CsrfToken::load(request.headers(), request.extensions()).await?;
        let nonce = Nonce::of(request.extensions())?;
        let body: cloakroom::CsrfBody<Body> = request.into_body();
        drop(body);
        Ok::<_, cloakroom::SessionError>(axum::http::Response::new(format!(
            "{} {}",
            token.expose(),
            nonce.as_str()
        )))
    });
    let mut service = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(SecurityHeadersLayer::new(Scheme::Http))
        .layer(protected())
        .service(inner);
    let request = Request::get("/").body(Body::empty()).unwrap();
    let response = block_on(async { service.ready().await.unwrap().call(request).await }).unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().contains_key("set-cookie"));
}
