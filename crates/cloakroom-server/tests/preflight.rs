//! The browser's own question before a request of a trusted origin: it goes to the application, and nothing of a session with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{Answer, Client, Gateway, gateway, raw, says};

const CONFIG: &str = "gateway_secret = \"a-secret-of-the-gateway\"\n\
                      [csrf]\ntrusted_origins = [\"https://app.example\"]\n\
                      [[route]]\npath = \"/account\"\nrequire = \"authenticated\"\nlogin_callback = true\n\
                      [[route]]\npath = \"/open\"\n";
const TRUSTED: &str = "Origin: https://app.example";
const ASKS: &str = "Access-Control-Request-Method: PUT";
const SITE: &str = "Sec-Fetch-Site: cross-site";
const MODE: &str = "Sec-Fetch-Mode: cors";
const ANSWER: [&str; 5] = [
    "204",
    "Access-Control-Allow-Origin: https://app.example",
    "Access-Control-Allow-Credentials: true",
    "Access-Control-Allow-Methods: PUT",
    "Access-Control-Max-Age: 600",
];

/// A gateway and a browser in which alice is signed in.
async fn start() -> (Gateway, Client) {
    let gateway = gateway(CONFIG).await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    gateway.take();
    gateway.log.take();
    (gateway, client)
}

/// A request with just these fields, none of which says of itself where it comes from.
async fn ask(gateway: &Gateway, method: &str, path: &str, fields: &[&str]) -> Answer {
    let mut fields = fields.to_vec();
    if !fields.iter().any(|field| field.starts_with("Sec-Fetch-Site")) {
        fields.push("No-Site: 1");
    }
    gateway.client().ask(method, path, &fields).await
}

#[tokio::test]
async fn r081_r082_a_trusted_origins_preflight_reaches_the_application_without_a_session() {
    let (gateway, client) = start().await;
    for (what, fields) in [
        ("of today's browsers", vec![TRUSTED, ASKS, SITE, MODE]),
        ("of those that send no metadata", vec![TRUSTED, ASKS]),
    ] {
        let answer = ask(&gateway, "OPTIONS", &says("/account", &ANSWER), &fields).await;
        assert_eq!(answer.status, 204, "{what}: {answer:?}");
        for field in &ANSWER[1..] {
            let (name, value) = field.split_once(": ").unwrap();
            assert_eq!(answer.field(name), Some(value), "{what}");
        }
        assert!(answer.field("location").is_none() && answer.field("set-cookie").is_none(), "{what}");
        let told = gateway.last();
        assert!(told.contains("access-control-request-method: PUT\n"), "{what}: {told}");
        assert!(told.contains("gateway-secret: a-secret-of-the-gateway\n"), "{what}");
        assert!(!told.contains("\nsession-") && !told.contains("csp-nonce"), "{what}: {told}");
    }
    // What no browser sends with one stays away from the application, and nobody is looked up.
    let cookie = format!("Cookie: theirs=1; __Host-Http-sid={}", client.cookie.clone().unwrap());
    let more = [
        TRUSTED,
        ASKS,
        "Access-Control-Request-Headers: x-a",
        &cookie,
        "Authorization: Basic YTpi",
        "X-HTTP-Method-Override: DELETE",
        "Session-Subject: \"alice\"",
    ];
    assert_eq!(ask(&gateway, "OPTIONS", "/account", &more).await.status, 200);
    let told = gateway.last();
    assert!(told.contains("access-control-request-headers: x-a\n"), "{told}");
    for gone in ["cookie", "authorization", "method-override", "session-", "alice"] {
        assert!(!told.contains(gone), "{gone}: {told}");
    }
    assert!(gateway.log.take().is_empty(), "no session was read, touched or refused");
}

#[tokio::test]
async fn r081_a_preflight_changes_no_session() {
    let (gateway, mut client) = start().await;
    for command in
        ["Session-Login: \"mallory\"", "Session-Set: a=\"1\"", "Session-Logout: this", "Session-Csrf: ?1"]
    {
        let answer = ask(&gateway, "OPTIONS", &says("/account", &[command]), &[TRUSTED, ASKS]).await;
        assert_eq!((answer.status, answer.field("set-cookie")), (502, None), "{command}");
        assert_eq!(gateway.log.take(), ["gateway_command_refused"], "{command}");
    }
    assert!(client.get("/account").await.body.contains("session-subject: \"alice\"\n"));
}

#[tokio::test]
async fn r071_r081_nothing_but_a_trusted_origins_preflight_passes_for_one() {
    let (gateway, mut client) = start().await;
    for (what, method, fields, status) in [
        (
            "an origin that is not trusted",
            "OPTIONS",
            vec!["Origin: https://evil.test", ASKS, SITE, MODE],
            403,
        ),
        ("likewise, without metadata", "OPTIONS", vec!["Origin: https://evil.test", ASKS], 403),
        ("a longer name", "OPTIONS", vec!["Origin: https://app.example.evil.test", ASKS, SITE, MODE], 403),
        ("null", "OPTIONS", vec!["Origin: null", ASKS, SITE, MODE], 403),
        ("no origin", "OPTIONS", vec![ASKS], 401),
        ("two origins", "OPTIONS", vec![TRUSTED, "Origin: https://evil.test", ASKS], 403),
        ("no method asked for", "OPTIONS", vec![TRUSTED, SITE, MODE], 401),
        ("a body", "OPTIONS", vec![TRUSTED, ASKS, "Content-Length: 4", "No-More: 1\r\n\r\nbody\r\n"], 401),
        ("a navigation", "OPTIONS", vec![TRUSTED, ASKS, SITE, "Sec-Fetch-Mode: navigate"], 303),
        ("a POST", "POST", vec![TRUSTED, ASKS, SITE, MODE], 401),
        ("a GET", "GET", vec![TRUSTED, ASKS, SITE, MODE], 401),
        ("a PUT", "PUT", vec![TRUSTED, ASKS, SITE, MODE], 401),
        ("another case", "options", vec![TRUSTED, ASKS, SITE, MODE], 401),
    ] {
        let answer = ask(&gateway, method, "/account", &fields).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
    }
    assert!(gateway.take().is_empty(), "nothing arrived");
    gateway.log.take();
    // The gateway's own pages answer no such question.
    let own = ask(&gateway, "OPTIONS", "/.cloakroom/sessions", &[TRUSTED, ASKS]).await;
    assert_eq!(own.status, 405, "{own:?}");
    // The request itself is judged as ever, with the credentials that it brings.
    let put = client.ask("PUT", "/account", &[TRUSTED, SITE, MODE]).await;
    assert!(put.status == 200 && gateway.last().contains("session-subject: \"alice\"\n"));
    let put = client.ask("PUT", "/account", &["Origin: https://evil.test", SITE, MODE]).await;
    assert_eq!((put.status, &*gateway.log.take()), (403, &["malicious_csrf"][..]));
    // Where no login is demanded an untrusted one gets as far as ever: it is the application's to refuse.
    let evil = ["Origin: https://evil.test", ASKS, SITE, MODE];
    let answer =
        ask(&gateway, "OPTIONS", &says("/open", &["Access-Control-Allow-Credentials: true"]), &evil).await;
    assert_eq!((answer.status, answer.field("access-control-allow-credentials")), (200, None));
}

#[tokio::test]
async fn r081_a_preflight_that_ends_in_a_second_request_hides_none() {
    let (gateway, _) = start().await;
    let text = format!(
        "OPTIONS /account HTTP/1.1\r\nHost: {host}\r\n{TRUSTED}\r\n{ASKS}\r\n\r\n\
         PUT /account HTTP/1.1\r\nHost: {host}\r\n{TRUSTED}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        host = gateway.address
    );
    let answers = raw(gateway.address, text.as_bytes()).await;
    let statuses = answers.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")).collect::<Vec<_>>();
    assert_eq!(statuses, ["200 OK", "401 Unauthorized"], "{answers}");
    assert_eq!(gateway.take().len(), 1);
}
