//! Requests from elsewhere do not reach a handler, and tokens say which are the application's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Router, http};
use cloakroom::{
    Activity, Csrf, CsrfRefused, CsrfToken, EventKind, Loading, MemoryStore, Mode, Session, SessionError,
    SessionLayer,
};
use cloakroom_testkit::{Counting, ManualClock, SeededEntropy, block_on};
use http::{Method, Request, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use tower::ServiceExt as _;

use crate::common::{Log, START};

const OWN: &str = "https://example.org";
const FORM: &str = "application/x-www-form-urlencoded";

struct World {
    app: Router,
    log: Log,
    clock: ManualClock,
    store: Counting<MemoryStore>,
    handled: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Self {
        Self::with(|csrf| csrf)
    }

    fn with(change: impl FnOnce(Csrf) -> Csrf) -> Self {
        let (log, clock, handled) = (Log::default(), ManualClock::new(START), Arc::new(AtomicUsize::new(0)));
        let store = Counting::new(MemoryStore::new());
        let layer = SessionLayer::builder(store.clone())
            .clock(clock.clone())
            .entropy(SeededEntropy::new(3))
            .observer(log.clone())
            .activity(|head| if head.uri.path() == "/who" { Activity::Passive } else { Activity::User })
            .without_sweeping()
            .build()
            .unwrap()
            .protect(change(Csrf::new(OWN)))
            .unwrap();
        let app = Router::new()
            .route("/form", get(async |token: CsrfToken| token.expose().to_owned()))
            .route("/forms", get(async |a: CsrfToken, b: CsrfToken| format!("{} {}", a.expose(), b.expose())))
            .route("/plain", get(async || "plain").post(change_something))
            .route("/hook", post(change_something).get(change_something))
            .route(
                "/who",
                get(async |session: Session| session.subject().map_or("-".into(), |s| s.to_string())),
            )
            .route("/keep", get(async |session: Session| session.update(common::COUNT, |count| *count += 1)))
            .route(
                "/rotate",
                post(async |session: Session| -> Result<(), SessionError> { session.rotate().await }),
            )
            .route(
                "/log-in",
                post(async |session: Session| -> Result<(), SessionError> { session.log_in("alice").await }),
            )
            .route(
                "/log-out",
                post(async |session: Session| -> Result<(), SessionError> { session.log_out().await }),
            )
            .with_state(Arc::clone(&handled))
            .layer(layer);
        Self { app, log, clock, store, handled }
    }

    fn browser(&self) -> Browser {
        Browser { app: self.app.clone(), jar: BTreeMap::new() }
    }

    fn handled(&self) -> usize {
        self.handled.swap(0, Ordering::Relaxed)
    }
}

/// Echoes what it was sent.
async fn change_something(State(handled): State<Arc<AtomicUsize>>, request: Request<Body>) -> Response<Body> {
    handled.fetch_add(1, Ordering::Relaxed);
    let length = request.headers().get(header::CONTENT_LENGTH).cloned();
    let hint = http_body::Body::size_hint(request.body()).exact();
    let mut response = Response::new(request.into_body());
    if let Some(length) = length {
        assert_eq!(Some(length.to_str().unwrap()), hint.map(|hint| hint.to_string()).as_deref());
    }
    response.headers_mut().insert("x-handled", http::HeaderValue::from_static("yes"));
    response
}

/// Keeps all cookies, and sends what it is told.
#[derive(Clone)]
struct Browser {
    app: Router,
    jar: BTreeMap<String, String>,
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    refused: Option<CsrfRefused>,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    fn cookies(&self) -> Vec<&str> {
        self.headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect()
    }
}

impl Browser {
    fn request(&self, method: &str, path: &str, fields: &[(&str, &str)], body: Body) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        for (name, value) in &self.jar {
            request = request.header(header::COOKIE, format!("{name}={value}"));
        }
        request.body(body).unwrap()
    }

    fn send(&mut self, request: Request<Body>) -> Answer {
        let response = block_on(self.app.clone().oneshot(request)).unwrap();
        let (head, body) = response.into_parts();
        let body = block_on(axum::body::to_bytes(body, 1 << 22)).unwrap();
        for cookie in head.headers.get_all(header::SET_COOKIE) {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            match rest.split_once(';').unwrap().0 {
                "" => self.jar.remove(name),
                value => self.jar.insert(name.to_owned(), value.to_owned()),
            };
        }
        let refused = head.extensions.get().copied();
        Answer { status: head.status, headers: head.headers, refused, body }
    }

    fn get(&mut self, path: &str) -> Answer {
        self.send(self.request("GET", path, &[], Body::empty()))
    }

    fn post(&mut self, path: &str, fields: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.send(self.request("POST", path, fields, body.into()))
    }

    /// What a page of the application does.
    fn own(&mut self, path: &str) -> Answer {
        self.post(path, &[("sec-fetch-site", "same-origin")], "")
    }

    /// What a client without either header field does, with a token in the form.
    fn form(&mut self, path: &str, token: &str) -> Answer {
        self.post(path, &[("content-type", FORM)], format!("a=1&cloakroom_csrf={token}"))
    }
}

/// A body that tells whether somebody looked at it.
struct Watched(Arc<AtomicBool>);

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.store(true, Ordering::Relaxed);
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(9)
    }
}

#[test]
fn r071_r073_r075_what_comes_from_elsewhere_is_refused_before_anything_is_read_or_looked_up() {
    let world = World::new();
    let mut browser = world.browser();
    browser.own("/log-in");
    world.log.take();
    let elsewhere: &[&[(&str, &str)]] = &[
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("origin", OWN)],
        &[("origin", "https://evil.test")],
        &[("origin", "null")],
        &[("origin", "http://example.org")],
        &[("origin", "https://example.org:8443")],
        &[("origin", "https://example.org.evil.test")],
        &[("origin", "https://evil.test"), ("host", "evil.test"), ("x-forwarded-host", "evil.test")],
        &[("origin", OWN), ("origin", "https://evil.test")],
    ];
    for fields in elsewhere {
        for method in ["POST", "PUT", "PATCH", "DELETE", "BREW"] {
            let looked = Arc::new(AtomicBool::new(false));
            let calls = world.store.counts().total();
            let body = Body::new(Watched(Arc::clone(&looked)));
            let answer = browser.send(browser.request(method, "/plain", fields, body));
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {fields:?}");
            assert_eq!(answer.refused, Some(CsrfRefused::Elsewhere));
            assert_eq!((world.handled(), looked.load(Ordering::Relaxed)), (0, false));
            assert_eq!(world.store.counts().total(), calls, "nothing is looked up, nothing written");
            assert_eq!(world.log.names(), ["malicious_csrf"]);
            assert_eq!(answer.cookies(), [""; 0]);
        }
    }
    for fields in [[("sec-fetch-site", "same-origin")], [("sec-fetch-site", "none")], [("origin", OWN)]] {
        assert_eq!(browser.post("/plain", &fields, "").status, StatusCode::OK, "{fields:?}");
        assert_eq!((world.handled(), world.log.names()), (1, vec![]));
    }
}

#[test]
fn r064_a_logout_from_elsewhere_does_not_end_the_session() {
    let world = World::new();
    let mut browser = world.browser();
    browser.own("/log-in");
    assert_eq!(browser.get("/log-out").status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        browser.post("/log-out", &[("sec-fetch-site", "cross-site")], "").status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(browser.get("/who").text(), "alice");
    browser.own("/log-out");
    assert_eq!(browser.get("/who").text(), "-");
}

#[test]
fn r080_a_login_from_elsewhere_makes_no_session() {
    let world = World::with(|csrf| csrf.mode(Mode::VerdictAndToken));
    let mut browser = world.browser();
    for fields in [&[("sec-fetch-site", "cross-site")][..], &[("origin", "https://evil.test")], &[]] {
        let answer = browser.post("/log-in", fields, "");
        assert_eq!((answer.status, answer.cookies()), (StatusCode::FORBIDDEN, vec![]), "{fields:?}");
    }
    assert!(world.store.inner().is_empty());
    let token = browser.get("/form").text().to_owned();
    assert_eq!(browser.form("/log-in", &token).status, StatusCode::OK);
    assert_eq!(browser.get("/who").text(), "alice");
}

#[test]
fn r076_a_request_with_a_session_that_says_nothing_of_its_source_needs_a_token() {
    let world = World::new();
    let mut browser = world.browser();
    assert_eq!(browser.post("/plain", &[], "").status, StatusCode::OK, "nothing of the user's to abuse");
    browser.own("/log-in");
    let token = browser.get("/form").text().to_owned();
    world.handled();
    world.log.take();
    let altered = format!("{}{}", if token.starts_with('A') { 'B' } else { 'A' }, &token[1..]);
    for (fields, body) in [
        (vec![], String::new()),
        (vec![("content-type", FORM)], format!("cloakroom_csrf={altered}")),
        (vec![("content-type", FORM)], format!("other={token}")),
        (vec![("content-type", "text/plain")], format!("cloakroom_csrf={token}")),
        (vec![("content-type", "application/json")], format!("{{\"cloakroom_csrf\":\"{token}\"}}")),
        (vec![("x-cloakroom-csrf", &*altered)], String::new()),
        (vec![("x-cloakroom-csrf", "")], String::new()),
        (vec![("x-cloakroom-csrf", &*token), ("x-cloakroom-csrf", &*token)], String::new()),
        (vec![("x-cloakroom-csrf", &*altered), ("content-type", FORM)], format!("cloakroom_csrf={token}")),
        (vec![("sec-fetch-site", "cross-site"), ("x-cloakroom-csrf", &*token)], String::new()),
    ] {
        let answer = browser.post("/plain", &fields, body);
        assert_eq!((answer.status, world.handled()), (StatusCode::FORBIDDEN, 0), "{fields:?}");
        assert_eq!(world.log.names(), ["malicious_csrf"], "{fields:?}");
    }
    assert_eq!(browser.form("/plain", &token).status, StatusCode::OK);
    assert_eq!(browser.post("/plain", &[("x-cloakroom-csrf", &token)], "").status, StatusCode::OK);
    assert_eq!(
        browser.post("/plain?cloakroom_csrf=x", &[("x-cloakroom-csrf", &token)], "").status,
        StatusCode::OK
    );
    assert_eq!((world.handled(), world.log.names()), (3, vec![]));

    let strict = World::with(|csrf| csrf.mode(Mode::VerdictOnly));
    let mut browser = strict.browser();
    browser.own("/log-in");
    let token = browser.get("/form").text().to_owned();
    assert_eq!(browser.form("/plain", &token).status, StatusCode::FORBIDDEN, "tokens are not looked at");
}

#[test]
fn what_is_refused_is_no_activity_of_the_user() {
    let world = World::new();
    let mut browser = world.browser();
    browser.own("/log-in");
    for _ in 0..31 {
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(browser.form("/plain", "x").status, StatusCode::FORBIDDEN);
    }
    assert_eq!(browser.get("/who").text(), "-", "the session idled out");
}

#[test]
fn r077_tokens_differ_in_each_response_and_stay_out_of_cookies_and_caches() {
    let world = World::new();
    let mut browser = world.browser();
    let first = browser.get("/form");
    let second = browser.get("/form");
    assert_ne!(first.text(), second.text());
    for answer in [&first, &second] {
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert!(!format!("{:?}", answer.headers).contains(answer.text()));
    }
    for token in [first.text(), second.text()] {
        assert_eq!(browser.form("/plain", token).status, StatusCode::OK, "several tabs");
    }
}

#[test]
fn r079_a_token_is_good_through_rotations_and_dead_after_login_and_logout() {
    let world = World::new();
    let mut browser = world.browser();
    browser.get("/keep");
    let anonymous = browser.get("/form").text().to_owned();
    assert_eq!(browser.form("/plain", &anonymous).status, StatusCode::OK);
    browser.own("/log-in");
    assert_eq!(browser.form("/plain", &anonymous).status, StatusCode::FORBIDDEN);
    let token = browser.get("/form").text().to_owned();
    browser.own("/rotate");
    assert_eq!(browser.form("/plain", &token).status, StatusCode::OK);

    let mut other = world.browser();
    other.own("/log-in");
    assert_eq!(
        other.form("/plain", &token).status,
        StatusCode::FORBIDDEN,
        "of another session of the same user"
    );

    let before = browser.clone();
    browser.own("/log-out");
    browser.own("/log-in");
    assert_eq!(browser.form("/plain", &token).status, StatusCode::FORBIDDEN);
    let mut replay = before;
    assert_eq!(replay.form("/plain", &token).status, StatusCode::FORBIDDEN, "its session has ended");
}

#[test]
fn r019_r078_a_visitor_gets_a_cookie_for_a_form_and_no_session() {
    let world = World::with(|csrf| csrf.mode(Mode::VerdictAndToken));
    let mut browser = world.browser();
    assert_eq!(browser.get("/plain").cookies(), [""; 0], "only where a page asks for a token");
    let answer = browser.get("/forms");
    let [cookie] = answer.cookies()[..] else { panic!("{:?}", answer.cookies()) };
    assert!(cookie.starts_with("__Host-Http-sid-csrf="), "{cookie}");
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
    let tokens: Vec<_> = answer.text().split(' ').map(str::to_owned).collect();
    assert_eq!(browser.get("/form").cookies(), [""; 0], "it has one");
    assert!(world.store.inner().is_empty());
    assert_eq!(world.store.counts().total(), 0);

    let mut stranger = world.browser();
    stranger.get("/form");
    for token in &tokens {
        assert_eq!(browser.form("/plain", token).status, StatusCode::OK);
        assert_eq!(stranger.form("/plain", token).status, StatusCode::FORBIDDEN, "another visitor's");
    }
    // Cookie and field are not compared with each other: equal ones are worth nothing.
    let mut naive = world.browser();
    naive.jar.insert("__Host-Http-sid-csrf".to_owned(), tokens[0].clone());
    assert_eq!(naive.form("/plain", &tokens[0]).status, StatusCode::FORBIDDEN);

    assert_eq!(browser.form("/log-in", &tokens[0]).status, StatusCode::OK);
    assert_eq!(browser.form("/plain", &tokens[1]).status, StatusCode::FORBIDDEN, "dead after the login");
    assert!(!browser.jar.contains_key("__Host-Http-sid-csrf"), "of no use any more");
    world.clock.advance(Duration::from_secs(12 * 3600));
    let late = stranger.get("/form").text().to_owned();
    assert_eq!(stranger.form("/plain", &late).status, StatusCode::OK);
}

#[test]
fn a_form_is_passed_on_unchanged_whatever_was_read_of_it() {
    let world = World::with(|csrf| csrf.form_limit(1024));
    let mut browser = world.browser();
    browser.own("/log-in");
    let token = browser.get("/form").text().to_owned();
    let part = |header: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; {header}\r\n\r\n{value}\r\n")
    };
    let field = part("name=\"cloakroom_csrf\"", &token);
    let file = part("name=\"f\"; filename=\"f\"", &"x".repeat(100_000));
    let multipart = "multipart/form-data; boundary=b";
    for (content_type, body) in [
        (FORM, format!("a=%20&cloakroom_csrf={token}")),
        (FORM, format!("cloakroom_csrf={token}&a={}", "x".repeat(100_000))),
        (multipart, [&*field, "--b--\r\n"].concat()),
        (multipart, [&*field, &*file, "--b--\r\n"].concat()),
    ] {
        for piece in [7, 4096, usize::MAX] {
            let length = body.len().to_string();
            let fields = [("content-type", content_type), ("content-length", &*length)];
            let pieces: Vec<_> = body.as_bytes().chunks(piece).map(Bytes::copy_from_slice).collect();
            let answer = browser.post("/plain", &fields, Body::new(Pieces::new(pieces)));
            assert_eq!(
                (answer.status, answer.body == body),
                (StatusCode::OK, true),
                "{content_type} {length} {piece}"
            );
        }
    }
    world.log.take();
    let late = [&*file, &*field, "--b--\r\n"].concat();
    let answer = browser.post("/plain", &[("content-type", multipart)], late);
    assert_eq!((answer.status, answer.refused), (StatusCode::FORBIDDEN, Some(CsrfRefused::Token)));
    assert_eq!(world.log.names(), ["csrf_token_beyond_limit"]);
}

#[test]
fn a_body_is_not_read_where_the_header_fields_say_enough() {
    let world = World::new();
    let mut browser = world.browser();
    browser.own("/log-in");
    let token = browser.get("/form").text().to_owned();
    let other = world.browser().get("/form").text().to_owned();
    let own = ("sec-fetch-site", "same-origin");
    for fields in [
        &[own, ("content-type", "application/json")][..],
        &[own, ("x-cloakroom-csrf", &*token), ("content-type", FORM)],
        &[("x-cloakroom-csrf", &*token), ("content-type", FORM)],
        &[("x-cloakroom-csrf", &*other), ("content-type", FORM)],
        &[("content-type", "application/json")],
    ] {
        let looked = Arc::new(AtomicBool::new(false));
        let request = browser.request("POST", "/nowhere", fields, Body::new(Watched(Arc::clone(&looked))));
        let status = browser.send(request).status;
        assert!(matches!(status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN), "{status}");
        assert!(!looked.load(Ordering::Relaxed), "{fields:?}");
    }
    let mut nobody = world.browser();
    let looked = Arc::new(AtomicBool::new(false));
    let body = Body::new(Watched(Arc::clone(&looked)));
    nobody.send(nobody.request("POST", "/nowhere", &[own, ("content-type", FORM)], body));
    assert!(!looked.load(Ordering::Relaxed), "whose form could it be?");
}

#[test]
fn r083_a_websocket_handshake_from_elsewhere_is_refused() {
    let world = World::with(|csrf| csrf.exempt("/hook").mode(Mode::VerdictAndToken));
    let mut browser = world.browser();
    browser.form("/log-in", world.browser().get("/form").text());
    let handshake = |browser: &mut Browser, fields: &[(&str, &str)]| {
        let upgrade = [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-key", "x")];
        let fields = [&upgrade[..], fields].concat();
        browser.send(browser.request("GET", "/hook", &fields, Body::empty())).status
    };
    browser.jar.insert("__Host-Http-sid".to_owned(), "x".to_owned());
    for fields in [
        &[("origin", "https://evil.test")][..],
        &[("origin", "null")],
        &[],
        &[("sec-fetch-site", "same-site")],
    ] {
        world.log.take();
        assert_eq!(handshake(&mut browser, fields), StatusCode::FORBIDDEN, "{fields:?}");
        assert_eq!(world.log.take().len(), 1);
    }
    assert_eq!(world.handled(), 0);
    assert_eq!(handshake(&mut browser, &[("origin", OWN)]), StatusCode::OK);
    assert_eq!(
        handshake(&mut browser, &[("origin", OWN), ("sec-fetch-site", "same-origin")]),
        StatusCode::OK
    );
}

#[test]
fn trusted_origins_and_exempt_paths_are_exact() {
    let world = World::with(|csrf| csrf.trust("https://pay.example").exempt("/hook"));
    let mut browser = world.browser();
    let cross = [("sec-fetch-site", "cross-site")];
    let from = |origin| [("sec-fetch-site", "cross-site"), ("origin", origin)];
    assert_eq!(browser.post("/plain", &from("https://pay.example"), "").status, StatusCode::OK);
    assert_eq!(browser.post("/plain", &from("https://x.pay.example"), "").status, StatusCode::FORBIDDEN);
    assert_eq!(browser.post("/hook", &cross, "").status, StatusCode::OK);
    for path in ["/hook/", "/hook/x", "/Hook", "/plain"] {
        assert_eq!(browser.post(path, &cross, "").status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(browser.post("/hook?x", &cross, "").status, StatusCode::OK, "a query is no part of the path");
}

#[test]
fn in_report_only_mode_requests_go_on_and_are_reported() {
    let world = World::with(Csrf::report_only);
    let mut browser = world.browser();
    browser.own("/log-in");
    world.log.take();
    assert_eq!(browser.post("/plain", &[("sec-fetch-site", "cross-site")], "body").text(), "body");
    assert_eq!(browser.form("/plain", "wrong").text(), "a=1&cloakroom_csrf=wrong");
    assert_eq!(world.handled(), 2);
    assert_eq!(world.log.names(), ["csrf_report_only", "csrf_report_only"]);
}

#[test]
fn r084_account_content_is_not_embedded_by_other_sites() {
    let world = World::with(|csrf| {
        csrf.loading(|head| if head.uri.path() == "/who" { Loading::Isolated } else { Loading::Open })
    });
    let mut browser = world.browser();
    let load = |browser: &mut Browser, path: &str, dest, mode| {
        let fields = [("sec-fetch-site", "cross-site"), ("sec-fetch-dest", dest), ("sec-fetch-mode", mode)];
        browser.send(browser.request("GET", path, &fields, Body::empty()))
    };
    for (dest, mode) in
        [("image", "no-cors"), ("script", "no-cors"), ("iframe", "navigate"), ("empty", "cors")]
    {
        let answer = load(&mut browser, "/who", dest, mode);
        assert_eq!(
            (answer.status, answer.refused),
            (StatusCode::FORBIDDEN, Some(CsrfRefused::Embedded)),
            "{dest}"
        );
        assert_eq!(world.log.names(), ["malicious_cors"]);
        assert!(answer.headers["vary"].to_str().unwrap().starts_with("sec-fetch-site, sec-fetch-mode"));
        assert_eq!(load(&mut browser, "/plain", dest, mode).status, StatusCode::OK);
    }
    assert_eq!(load(&mut browser, "/who", "document", "navigate").status, StatusCode::OK);
    let answer = browser.get("/plain");
    assert_eq!(answer.headers.get("vary"), None, "the answer did not depend on anything");
}

#[test]
fn what_cannot_be_right_is_refused_when_the_layer_is_built() {
    let build = |csrf: Csrf| SessionLayer::new(MemoryStore::new()).protect(csrf).map(drop);
    let problems = |csrf: Csrf| build(csrf).unwrap_err().problems().len();
    assert_eq!(build(Csrf::new(OWN)), Ok(()));
    for own in
        ["", "example.org", "https://example.org/", "https://Example.org", "null", "https://*.example.org"]
    {
        assert_eq!(problems(Csrf::new(own)), 1, "{own}");
    }
    for path in ["", "hook", "/hook/*", "/hook?x", "/{id}"] {
        assert_eq!(problems(Csrf::new(OWN).exempt(path)), 1, "{path}");
    }
    let all = Csrf::new("x")
        .trust("y")
        .trust("https://ok.example")
        .exempt("z")
        .form_limit(0)
        .header("a b")
        .field("");
    assert_eq!(problems(all), 6);
}

#[test]
fn a_token_asked_for_without_the_layer_is_an_error_of_the_application() {
    let app = Router::new()
        .route("/", get(async |token: CsrfToken| token.expose().to_owned()))
        .layer(SessionLayer::new(MemoryStore::new()));
    let request = Request::builder().uri("/").body(Body::empty()).unwrap();
    let status = block_on(app.oneshot(request)).unwrap().status();
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(EventKind::CsrfTokenBeyondLimit.name(), "csrf_token_beyond_limit");
    assert_eq!(Method::POST.as_str(), "POST");
}

/// A body in given pieces.
struct Pieces(std::vec::IntoIter<Bytes>, u64);

impl Pieces {
    fn new(pieces: Vec<Bytes>) -> Self {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self(pieces.into_iter(), length)
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let piece = self.0.next();
        self.1 -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.1)
    }
}

#[test]
fn r079_a_form_of_the_account_before_is_not_saved_into_the_account_after() {
    let own = ("sec-fetch-site", "same-origin");
    let world = World::with(|csrf| csrf.exempt("/hook"));
    let mut browser = world.browser();
    let of_nobody = browser.get("/form").text().to_owned();
    browser.own("/log-in");
    let before = browser.get("/form").text().to_owned();
    browser.own("/log-in");
    let now = browser.get("/form").text().to_owned();
    let calls = world.store.counts().total();
    world.handled();
    world.log.take();
    for stale in [&before, &of_nobody] {
        for answer in [
            browser.post("/plain", &[own, ("content-type", FORM)], format!("a=1&cloakroom_csrf={stale}")),
            browser.post("/plain", &[own, ("x-cloakroom-csrf", stale)], "{}"),
        ] {
            assert_eq!((answer.status, answer.refused), (StatusCode::FORBIDDEN, Some(CsrfRefused::Stale)));
        }
        assert_eq!((world.handled(), world.log.names()), (0, vec!["csrf_token_stale"; 2]));
        // Where one is needed, it may as well be a forged one.
        let answer = browser.post("/plain", &[("x-cloakroom-csrf", stale)], "{}");
        assert_eq!((answer.status, answer.refused), (StatusCode::FORBIDDEN, Some(CsrfRefused::Token)));
        assert_eq!((world.handled(), world.log.names()), (0, vec!["malicious_csrf"]));
        // Where tokens are not looked at.
        assert_eq!(browser.post("/hook", &[own, ("x-cloakroom-csrf", stale)], "").status, StatusCode::OK);
        world.handled();
    }
    let looked = world.store.counts().total();
    assert!(looked > calls);
    // Another framework's token, or none: as if nobody had looked.
    for (field, text) in [("csrf_token", &*before), ("cloakroom_csrf", "abc"), ("note", "x")] {
        let body = format!("{field}={text}");
        let fields = [own, ("content-type", FORM), ("x-csrf-token", &*before), ("x-cloakroom-csrf", "abc")];
        let answer = browser.post("/plain", &fields, body.clone());
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, body.as_bytes()), "{field}");
    }
    assert_eq!(world.store.counts().total(), looked, "nothing is looked up for them");
    let body = format!("a=1&cloakroom_csrf={now}");
    assert_eq!(browser.post("/plain", &[own, ("content-type", FORM)], body).status, StatusCode::OK);
    assert_eq!((world.handled(), world.log.names()), (4, vec![]));
    // Nobody is signed in any more: there is no account that it could be saved into.
    browser.own("/log-out");
    assert_eq!(browser.post("/plain", &[own, ("x-cloakroom-csrf", &now)], "").status, StatusCode::OK);

    let reports = World::with(Csrf::report_only);
    let mut browser = reports.browser();
    browser.own("/log-in");
    let before = browser.get("/form").text().to_owned();
    browser.own("/log-in");
    reports.log.take();
    assert_eq!(browser.post("/plain", &[own, ("x-cloakroom-csrf", &before)], "").status, StatusCode::OK);
    assert_eq!(reports.log.names(), ["csrf_report_only"]);
    for (mode, status) in
        [(Mode::VerdictOnly, StatusCode::OK), (Mode::VerdictAndToken, StatusCode::FORBIDDEN)]
    {
        let world = World::with(|csrf| csrf.mode(mode));
        let mut browser = world.browser();
        let mut tokens = Vec::new();
        for _ in 0..2 {
            let token = browser.get("/form").text().to_owned();
            browser.post("/log-in", &[own, ("x-cloakroom-csrf", &token)], "");
            tokens.push(browser.get("/form").text().to_owned());
        }
        let answer = browser.post("/plain", &[own, ("x-cloakroom-csrf", &tokens[0])], "");
        assert_eq!(answer.status, status, "{mode:?}");
    }
}
