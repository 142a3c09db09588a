//! Every response carries the security headers, and a nonce that is its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::response::{Html, IntoResponse, Redirect};
use axum::routing::{get, post};
use axum::{Router, http};
use cloakroom::core::csp::{Blocked, CspOptions, Disposition, assess};
use cloakroom::core::entropy::{Entropy, EntropyError};
use cloakroom::core::security_headers::{CspMode, SecurityHeadersOptions};
use cloakroom::{
    EventKind, MemoryStore, Nonce, REPORT_BODY_MAX, REPORT_SOURCES_MAX, Scheme, SecurityHeadersLayer,
    SessionLayer,
};
use cloakroom_testkit::{ManualClock, block_on};
use http::{Request, StatusCode, header};
use tower::ServiceExt as _;

use crate::common::{Log, START};

fn app(layer: SecurityHeadersLayer) -> Router {
    let with = |name: &'static str, value: &'static str| get(async move || ([(name, value)], "own"));
    Router::new()
        .route("/page", get(async |nonce: Nonce| Html(format!("<script nonce=\"{}\">1</script>", nonce.as_str()))))
        .route("/public", with("cache-control", "public, max-age=60"))
        .route("/moved", get(async || Redirect::permanent("/page")))
        .route("/fails", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/refused", get(async || StatusCode::FORBIDDEN.into_response()))
        .route("/unauthorised", get(async || StatusCode::UNAUTHORIZED))
        .route("/json", with("content-type", "application/json"))
        .route("/large", post(async |body: String| body))
        .route("/weak", with("content-security-policy", "script-src 'self' 'unsafe-inline'; img-src https://img.example"))
        .route("/strict", with("content-security-policy", "default-src 'none'; sandbox; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"))
        .route("/filter", with("x-xss-protection", "1; mode=block"))
        .layer(DefaultBodyLimit::max(10))
        .layer(layer)
}

fn ask(app: &Router, method: &str, path: &str, body: &str) -> (StatusCode, http::HeaderMap, String) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let (head, body) = block_on(app.clone().oneshot(request)).unwrap().into_parts();
    let body = block_on(axum::body::to_bytes(body, 1 << 20)).unwrap();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

fn policies(headers: &http::HeaderMap) -> Vec<&str> {
    headers.get_all(header::CONTENT_SECURITY_POLICY).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn r085_r087_r089_r090_r091_r093_every_response_has_the_headers_whatever_its_status() {
    let app = app(SecurityHeadersLayer::new(Scheme::Https));
    for (method, path, body, status) in [
        ("GET", "/page", "", 200),
        ("GET", "/public", "", 200),
        ("GET", "/json", "", 200),
        ("GET", "/moved", "", 308),
        ("GET", "/unauthorised", "", 401),
        ("GET", "/refused", "", 403),
        ("GET", "/nowhere", "", 404),
        ("POST", "/page", "", 405),
        ("POST", "/large", "more than ten bytes", 413),
        ("GET", "/fails", "", 500),
        ("GET", "/weak", "", 200),
        ("GET", "/strict", "", 200),
        ("GET", "/filter", "", 200),
    ] {
        let (got, headers, _) = ask(&app, method, path, body);
        assert_eq!(got, status, "{path}");
        assert_eq!(assess(&policies(&headers)), [], "{path}: {:?}", policies(&headers));
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "strict-origin-when-cross-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ] {
            assert_eq!(headers.get(name).map(|value| value.to_str().unwrap()), Some(value), "{path} {name}");
        }
        for name in ["x-xss-protection", "public-key-pins", "expect-ct"] {
            assert_eq!(headers.get(name), None, "{path}");
        }
    }
    let (_, headers, _) = ask(&app, "GET", "/strict", "");
    assert_eq!(policies(&headers).len(), 1, "a stricter one is kept alone");
    let (_, headers, _) = ask(&app, "GET", "/weak", "");
    assert!(policies(&headers)[0].contains("https://img.example"), "a weaker one is mended, not taken away");
}

#[test]
fn r086_a_nonce_is_new_for_each_response_and_in_no_cache() {
    let app = app(SecurityHeadersLayer::new(Scheme::Https));
    let mut seen = Vec::new();
    for _ in 0..20 {
        let (_, headers, body) = ask(&app, "GET", "/page", "");
        let nonce = body.split('"').nth(1).unwrap().to_owned();
        assert!(policies(&headers)[0].contains(&format!("script-src 'nonce-{nonce}' 'strict-dynamic';")));
        assert_eq!(headers["cache-control"], "no-store");
        seen.push(nonce);
    }
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), seen[0].len()), (20, 22));
    let (_, headers, _) = ask(&app, "GET", "/public", "");
    assert_eq!(headers["cache-control"], "public, max-age=60");
    assert!(!policies(&headers)[0].contains("nonce-"), "a response for caches names none");
}

#[test]
fn the_layer_twice_is_as_good_as_once() {
    let twice = app(SecurityHeadersLayer::new(Scheme::Https)).layer(SecurityHeadersLayer::new(Scheme::Https));
    for path in ["/page", "/weak", "/moved"] {
        let (_, headers, _) = ask(&twice, "GET", path, "");
        let (_, once, _) = ask(&app(SecurityHeadersLayer::new(Scheme::Https)), "GET", path, "");
        assert_eq!(headers.len(), once.len(), "{path}");
        assert_eq!(assess(&policies(&headers)), []);
    }
}

#[test]
fn over_plain_http_there_is_no_strict_transport_security() {
    let (_, headers, _) = ask(&app(SecurityHeadersLayer::new(Scheme::Http)), "GET", "/page", "");
    assert_eq!(headers.get(header::STRICT_TRANSPORT_SECURITY), None);
    assert_eq!(policies(&headers).len(), 1);
}

#[test]
fn r088_in_report_only_mode_the_policy_is_reported_and_not_enforced() {
    let csp = CspOptions::default().report_to("/csp-report").build().unwrap();
    let headers = SecurityHeadersOptions::default().csp(csp).csp_mode(CspMode::ReportOnly).build().unwrap();
    let app = app(SecurityHeadersLayer::new(Scheme::Https).headers(headers));
    let (_, headers, _) = ask(&app, "GET", "/page", "");
    assert_eq!(policies(&headers), [""; 0]);
    let policy = headers["content-security-policy-report-only"].to_str().unwrap();
    assert!(
        policy.contains("report-uri /csp-report") && policy.contains("report-to cloakroom-csp"),
        "{policy}"
    );
    assert_eq!(headers["reporting-endpoints"], "cloakroom-csp=\"/csp-report\"");
}

struct Dry;

impl Entropy for Dry {
    fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
        Err(EntropyError)
    }
}

#[test]
fn r086_without_randomness_no_page_is_sent() {
    let (status, _, body) =
        ask(&app(SecurityHeadersLayer::new(Scheme::Https).entropy(Dry)), "GET", "/page", "");
    assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, ""));
}

struct Endpoint {
    app: Router,
    log: Log,
    clock: ManualClock,
    reports: cloakroom::CspReports,
}

impl Endpoint {
    fn new() -> Self {
        let (log, clock) = (Log::default(), ManualClock::new(START));
        let sessions = SessionLayer::builder(MemoryStore::new())
            .observer(log.clone())
            .clock(clock.clone())
            .client_address(|head| head.headers.get("x-test-address")?.to_str().ok()?.parse().ok())
            .build()
            .unwrap();
        let service = sessions.csp_reports();
        let reports = service.reports().clone();
        Self { app: Router::new().route_service("/csp-report", service), log, clock, reports }
    }

    fn send(&self, method: &str, content_type: &str, address: &str, body: impl Into<Body>) -> StatusCode {
        let request = Request::builder()
            .method(method)
            .uri("/csp-report")
            .header("content-type", content_type)
            .header("x-test-address", address)
            .body(body.into())
            .unwrap();
        block_on(self.app.clone().oneshot(request)).unwrap().status()
    }
}

const LEGACY: &str = "application/csp-report";
const API: &str = "application/reports+json";

fn legacy(blocked: &str) -> String {
    format!(
        r#"{{"csp-report":{{"document-uri":"https://example.org/a?secret=1","effective-directive":"script-src-elem","blocked-uri":"{blocked}","disposition":"enforce"}}}}"#
    )
}

#[test]
fn r088_reports_become_events_and_counts_without_anything_secret() {
    let endpoint = Endpoint::new();
    assert_eq!(
        endpoint.send("POST", LEGACY, "", legacy("https://evil.test/x?secret=1")),
        StatusCode::NO_CONTENT
    );
    let one = r#"{"type":"csp-violation","body":{"documentURL":"https://example.org/","effectiveDirective":"img-src","blockedURL":"inline","disposition":"report"}}"#;
    let body = format!("[{one},{one},{{\"type\":\"deprecation\",\"body\":{{}}}}]");
    assert_eq!(
        endpoint.send("POST", "application/reports+json; charset=utf-8", "", body),
        StatusCode::NO_CONTENT
    );
    let events = endpoint.log.take();
    let told: Vec<_> = events
        .iter()
        .map(|event| match &event.kind {
            EventKind::CspViolation { violation, count } => {
                (event.kind.name(), violation.directive, violation.blocked.to_string(), *count)
            }
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            ("malicious_csp_violation", "script-src-elem", "https://evil.test".to_owned(), 1),
            ("malicious_csp_violation", "img-src", "inline".to_owned(), 2),
        ]
    );
    assert!(!format!("{events:?}").contains("secret"));
    let counts = endpoint.reports.counts();
    assert_eq!((counts[0].directive, &counts[0].blocked, counts[0].count), ("img-src", &Blocked::Inline, 2));
    assert_eq!((counts[0].disposition, counts[1].count), (Disposition::ReportOnly, 1));
}

#[test]
fn r088_what_is_no_report_is_refused() {
    let endpoint = Endpoint::new();
    for (method, content_type, body, status) in [
        ("GET", LEGACY, legacy("inline"), 405),
        ("PUT", LEGACY, legacy("inline"), 405),
        ("POST", "application/json", legacy("inline"), 415),
        ("POST", "text/plain", legacy("inline"), 415),
        ("POST", LEGACY, "{}".to_owned(), 400),
        ("POST", LEGACY, "[".repeat(60_000), 400),
        ("POST", API, legacy("inline"), 400),
        ("POST", LEGACY, legacy(&"x".repeat(REPORT_BODY_MAX)), 413),
        ("POST", LEGACY, legacy("inline"), 204),
    ] {
        assert_eq!(endpoint.send(method, content_type, "", body), status, "{method} {content_type}");
    }
    assert_eq!(endpoint.log.take().len(), 1);
}

#[test]
fn a_flood_of_reports_is_cut_off_and_others_are_heard() {
    let endpoint = Endpoint::new();
    let send = |address: &str| endpoint.send("POST", LEGACY, address, legacy("inline"));
    let taken = (0..100).filter(|_| send("192.0.2.7") == StatusCode::NO_CONTENT).count();
    assert_eq!(taken, 20);
    assert_eq!(send("192.0.2.200"), StatusCode::TOO_MANY_REQUESTS, "the same network");
    assert_eq!(send("198.51.100.1"), StatusCode::NO_CONTENT);
    endpoint.clock.advance(std::time::Duration::from_secs(3));
    assert_eq!(send("192.0.2.7"), StatusCode::NO_CONTENT);
    assert_eq!(send("192.0.2.7"), StatusCode::TOO_MANY_REQUESTS);

    let all = (0..=255_u32).flat_map(|b| (0..8_u32).map(move |c| format!("10.{b}.{c}.1")));
    let taken = all.filter(|address| send(address) == StatusCode::NO_CONTENT).count();
    assert!(taken <= 200, "{taken}");
    endpoint.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(send("203.0.113.1"), StatusCode::NO_CONTENT, "room again for new networks");
    // A clock that was set back does not close the endpoint for as long as it was wrong.
    endpoint.clock.set(START);
    for _ in 0..2 {
        send("203.0.113.1");
        endpoint.clock.advance(std::time::Duration::from_secs(3));
    }
    assert_eq!(send("203.0.113.1"), StatusCode::NO_CONTENT);
}

#[test]
fn different_sources_are_counted_up_to_a_bound() {
    let endpoint = Endpoint::new();
    let report = |n: usize| {
        format!(
            r#"{{"type":"csp-violation","body":{{"effectiveDirective":"img-src","blockedURL":"https://h{n}.test/"}}}}"#
        )
    };
    for chunk in (0..600).collect::<Vec<_>>().chunks(30) {
        let body = chunk.iter().map(|&n| report(n)).collect::<Vec<_>>().join(",");
        endpoint.clock.advance(std::time::Duration::from_secs(60));
        assert_eq!(endpoint.send("POST", API, "", format!("[{body}]")), StatusCode::NO_CONTENT);
    }
    let counts = endpoint.reports.counts();
    assert_eq!(counts.len(), REPORT_SOURCES_MAX + 1);
    assert_eq!((&counts[0].blocked, counts[0].count), (&Blocked::Other, 600 - REPORT_SOURCES_MAX as u64));
    assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), 600);
}
