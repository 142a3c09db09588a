//! The security headers on whatever leaves the gateway.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use cloakroom::core::csp::assess;

use crate::harness::{Answer, Scripted, gateway, gateway_before, raw, says};

const ROUTES: &str = "[[route]]\npath = \"/static\"\nsession = \"none\"\n\
                      [[route]]\npath = \"/embed\"\nsession = \"none\"\nresource = \"cross-origin\"\n\
                      [[route]]\npath = \"/account\"\nrequire = \"authenticated\"\n";

fn policies(answer: &Answer) -> Vec<&str> {
    answer.fields("content-security-policy").collect()
}

/// The nonce of a response's policy.
fn nonce(answer: &Answer) -> Option<&str> {
    policies(answer).iter().find_map(|policy| policy.split("'nonce-").nth(1)?.split('\'').next())
}

#[track_caller]
fn is_protected(answer: &Answer, https: bool) {
    let open = assess(&policies(answer));
    assert!(open.is_empty(), "{open:?}: {answer:?}");
    let one = |name: &str| {
        let values = answer.fields(name).collect::<Vec<_>>();
        assert!(values.len() <= 1, "{name}: {answer:?}");
        values.first().copied()
    };
    assert_eq!(one("x-content-type-options"), Some("nosniff"), "{answer:?}");
    assert!(
        matches!(one("referrer-policy"), Some("strict-origin-when-cross-origin" | "same-origin")),
        "{answer:?}"
    );
    assert_eq!(one("cross-origin-opener-policy"), Some("same-origin"), "{answer:?}");
    assert_eq!(one("cross-origin-resource-policy"), Some("same-origin"), "{answer:?}");
    let hsts = https.then_some("max-age=31536000; includeSubDomains");
    assert_eq!(one("strict-transport-security"), hsts, "{answer:?}");
    let endpoints = https.then_some("cloakroom-csp=\"/.cloakroom/csp-report\"");
    assert_eq!(one("reporting-endpoints"), endpoints, "{answer:?}");
    let reports = policies(answer).concat();
    // The gateway's own pages have a policy of their own, and nothing that could break it.
    if reports.contains("report-") {
        assert!(reports.contains("report-uri /.cloakroom/csp-report"), "{answer:?}");
        assert_eq!(reports.contains("report-to cloakroom-csp"), https, "{answer:?}");
    }
    for obsolete in ["x-xss-protection", "public-key-pins", "expect-ct"] {
        assert_eq!(one(obsolete), None, "{answer:?}");
    }
    if nonce(answer).is_some() {
        assert_eq!(answer.field("cache-control"), Some("no-store"), "R-086: no nonce in a cache: {answer:?}");
    }
}

#[tokio::test]
async fn r085_r087_r090_r091_r093_r124_every_response_is_protected_whatever_its_kind() {
    for https in [false, true] {
        let toml = if https {
            "tls_terminated_by_proxy = true\ntrusted_proxies = [\"10.0.0.1\"]\norigin = \"https://localhost\"\n"
        } else {
            ""
        };
        let gateway = gateway(&format!("{toml}{ROUTES}")).await;
        let mut client = gateway.client();
        for (status, path, fields) in [
            (200, "/", &[][..]),
            (200, "/static/a.css", &[]),
            (400, "/a%2fb", &[]),
            (401, "/account", &[]),
            (303, "/account", &["Sec-Fetch-Mode: navigate"]),
            (403, "/account", &["Sec-Fetch-Site: cross-site"]),
            (404, "/.cloakroom/nothing", &[]),
            (405, "/.cloakroom/logout", &[]),
            (200, "/.cloakroom/signed-out", &[]),
            (200, "/.cloakroom/style.css", &[]),
            (200, "/.cloakroom/ready", &[]),
        ] {
            let answer = client.ask("GET", path, fields).await;
            assert_eq!(answer.status, status, "{path}");
            is_protected(&answer, https);
        }
        for line in ["301", "303", "401", "404", "405", "413", "422", "500", "503", "Session-Lgoin: ?1"] {
            is_protected(&client.get(&says("/", &[line])).await, https);
        }
        for method in ["HEAD", "OPTIONS", "POST", "TRACE"] {
            is_protected(&client.ask(method, "/", &[]).await, https);
        }
        let refused = client.ask("POST", "/", &["Sec-Fetch-Site: cross-site"]).await;
        assert_eq!(refused.status, 403);
        is_protected(&refused, https);
        client.log_in("alice").await;
        is_protected(&client.get("/.cloakroom/sessions").await, https);
        is_protected(&client.get("/account").await, https);
    }
    let (application, address) = Scripted::start().await;
    drop(application);
    let gone = gateway_before(address, "").await;
    let answer = gone.client().get("/").await;
    assert_eq!(answer.status, 502);
    is_protected(&answer, false);
    let too_long = format!("/{}", "a".repeat(9000));
    is_protected(&gone.client().get(&too_long).await, false);
}

#[tokio::test]
async fn r086_each_response_has_a_nonce_of_its_own_and_the_application_knows_it() {
    let gateway = gateway(ROUTES).await;
    let mut client = gateway.client();
    let mut seen = Vec::new();
    for _ in 0..5 {
        let answer = client.ask("GET", "/", &["Csp-Nonce: mine"]).await;
        let nonce = nonce(&answer).unwrap().to_owned();
        assert_eq!(nonce.len(), 22);
        let told = gateway.last();
        assert!(told.contains(&format!("csp-nonce: \"{nonce}\"\n")) && !told.contains("mine"), "{told}");
        assert_eq!(answer.field("csp-nonce"), None);
        assert!(!seen.contains(&nonce));
        seen.push(nonce);
    }
    let file = client.get(&says("/static/a.html", &["Cache-Control: public, max-age=60"])).await;
    assert!(!gateway.last().contains("csp-nonce") && !gateway.last().contains("session-csrf-token"));
    assert_eq!((nonce(&file), file.field("cache-control")), (None, Some("public, max-age=60")));
    assert!(file.field("content-security-policy").unwrap().contains("script-src 'none'"), "{file:?}");
    let style = client.get("/.cloakroom/style.css").await;
    assert_eq!((nonce(&style), style.field("cache-control")), (None, Some("public, max-age=3600")));
}

#[tokio::test]
async fn an_applications_stricter_headers_stay_and_weaker_ones_are_mended() {
    let gateway = gateway(ROUTES).await;
    let mut client = gateway.client();
    let strict = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let lines = [
        &format!("Content-Security-Policy: {strict}") as &str,
        "Referrer-Policy: no-referrer",
        "Cross-Origin-Resource-Policy: same-origin",
        "X-XSS-Protection: 0",
        "Content-Security-Policy-Report-Only: default-src 'self'",
    ];
    let answer = client.get(&says("/", &lines)).await;
    assert_eq!(policies(&answer), [strict]);
    assert_eq!(answer.fields("referrer-policy").collect::<Vec<_>>(), ["no-referrer"]);
    assert_eq!(answer.field("x-xss-protection"), Some("0"));
    assert_eq!(answer.field("content-security-policy-report-only"), Some("default-src 'self'"));
    let weak = [
        "Content-Security-Policy: script-src * 'unsafe-inline'; img-src https://cdn.example",
        "Referrer-Policy: unsafe-url",
        "Cross-Origin-Resource-Policy: cross-origin",
        "Cross-Origin-Opener-Policy: unsafe-none",
        "X-Content-Type-Options: sniff",
        "X-XSS-Protection: 1; mode=block",
        "Strict-Transport-Security: max-age=1",
        "Public-Key-Pins: x",
    ];
    for path in ["/", "/static/a"] {
        let answer = client.get(&says(path, &weak)).await;
        assert_eq!(policies(&answer)[0], weak[0].split_once(": ").unwrap().1, "nothing is taken away");
        assert_eq!(policies(&answer).len(), 2);
        is_protected(&answer, false);
    }
    let sandbox = client.get(&says("/upload", &["Content-Security-Policy: sandbox"])).await;
    assert_eq!(policies(&sandbox)[0], "sandbox");
    assert!(assess(&policies(&sandbox)).is_empty());
    let embedded = client.get(&says("/embed/a.png", &["Cross-Origin-Resource-Policy: cross-origin"])).await;
    assert_eq!(embedded.field("cross-origin-resource-policy"), Some("cross-origin"));
    let embedded = client.get("/embed/a.png").await;
    assert_eq!(embedded.field("cross-origin-resource-policy"), Some("cross-origin"));
}

#[tokio::test]
async fn r082_only_trusted_origins_read_with_credentials() {
    let gateway = gateway("[csrf]\ntrusted_origins = [\"https://partner.example\"]").await;
    let mut client = gateway.client();
    let credentials = "Access-Control-Allow-Credentials: true";
    for (origin, allowed) in [
        ("https://partner.example", true),
        ("https://evil.test", false),
        ("https://partner.example.evil.test", false),
        ("null", false),
        ("*", false),
    ] {
        let line = format!("Access-Control-Allow-Origin: {origin}");
        let answer = client.get(&says("/", &[&line, credentials])).await;
        assert_eq!(answer.field("access-control-allow-credentials").is_some(), allowed, "{origin}");
        assert_eq!(answer.field("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.field("vary"), (origin != "*").then_some("origin"), "{origin}");
    }
    let two = [
        "Access-Control-Allow-Origin: https://partner.example",
        "Access-Control-Allow-Origin: https://evil.test",
    ];
    let answer = client.get(&says("/", &[two[0], two[1], credentials])).await;
    assert_eq!(answer.field("access-control-allow-credentials"), None);
    assert_eq!(client.get(&says("/", &[credentials])).await.field("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn r088_reports_become_events_and_are_limited() {
    let gateway = gateway("[csrf]\nmode = \"verdict-and-token\"").await;
    let legacy = r#"{"csp-report": {"document-uri": "http://127.0.0.1/a?token=s3cret", "effective-directive": "script-src-elem", "blocked-uri": "https://evil.test/x.js"}}"#;
    let api = r#"[{"type": "csp-violation", "body": {"effectiveDirective": "img-src", "blockedURL": "https://evil.test/a", "documentURL": "http://127.0.0.1/"}}]"#;
    let report = async |kind: &str, body: &str| {
        let kind = format!("Content-Type: {kind}");
        let mut client = gateway.client();
        let fields = ["Sec-Fetch-Site: cross-site", "Origin: https://evil.test", &kind];
        client.send("POST", "/.cloakroom/csp-report", &fields, body).await
    };
    for (kind, body) in [("application/csp-report", legacy), ("application/reports+json", api)] {
        let answer = report(kind, body).await;
        assert_eq!((answer.status, answer.field("cache-control")), (204, Some("no-store")), "{kind}");
        assert_eq!(gateway.log.take(), ["malicious_csp_violation"], "{kind}");
    }
    assert_eq!(report("application/csp-report", "{").await.status, 400);
    assert_eq!(report("text/plain", legacy).await.status, 415);
    assert_eq!(report("application/csp-report", &" ".repeat(70_000)).await.status, 413);
    assert_eq!(gateway.client().get("/.cloakroom/csp-report").await.status, 405);
    let mut last = 204;
    for _ in 0..40 {
        last = report("application/csp-report", legacy).await.status;
    }
    assert_eq!(last, 429);
    assert!(gateway.log.take().len() < 30);
    assert!(gateway.take().is_empty(), "the application is not troubled");
    gateway.advance(60);
    assert_eq!(report("application/csp-report", legacy).await.status, 204);
}

#[tokio::test]
async fn r127_no_spelling_of_an_account_path_makes_its_content_cacheable() {
    let gateway = gateway(ROUTES).await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let public = ["Cache-Control: public, max-age=3600", "CDN-Cache-Control: max-age=3600", "Expires: 0"];
    for path in [
        "/account",
        "/account/",
        "/account/x.css",
        "/account/x.css/",
        "/account/%78.css",
        "/%61ccount/x.js",
        "/account/x.css.",
        "/account/x.css%20",
        "/account;x.css",
        "/account/;/x.css",
        "/account%3Bx.css",
        "/account%2Fx.css",
        "/account%5Cx.css",
        "/account%00.css",
        "/account%0A.css",
        "/account%3Fx.css",
        "/account%23x.css",
        "/static/../account",
        "/static/%2e%2e/account",
        "/static/..%2faccount",
        "/static/..;/account",
        "/static/./../account/x.css",
        "//account/x.css",
        "/Account/x.css",
    ] {
        gateway.take();
        let text = client.request("GET", &says(path, &public), &[]);
        let answer = Answer::parse(&raw(gateway.address, text.as_bytes()).await);
        assert!(matches!(answer.status, 200 | 400), "{path}: {answer:?}");
        assert_eq!(answer.field("cache-control"), Some("no-store"), "{path}: {answer:?}");
        assert_eq!(answer.field("cdn-cache-control"), None, "{path}");
        for told in gateway.take() {
            let first = told.lines().next().unwrap().to_owned();
            let below = first.starts_with("GET /account") || first.starts_with("GET /Account");
            assert!(below, "{path} arrived as {first}");
        }
    }
    // What is cacheable was told nothing of the user.
    let file = client.get(&says("/static/account/x.css", &public)).await;
    assert_eq!(file.field("cache-control"), Some("public, max-age=3600"));
    assert!(!file.body.contains("alice") && !file.body.contains("cookie: __Host"));
}
