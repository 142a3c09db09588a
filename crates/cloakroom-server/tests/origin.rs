//! Requests from elsewhere, in all their disguises: refused before the application sees them, with one event each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{Answer, gateway, raw};

#[tokio::test]
async fn r071_r075_no_disguise_passes_for_the_sites_own_request() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    gateway.take();
    gateway.log.take();
    let host = gateway.address;
    let (cookie, own) = (client.cookie.clone().unwrap(), format!("Origin: http://{host}"));
    let request = |method: &str, fields: &[&str]| {
        let fields = fields.iter().map(|field| format!("{field}\r\n")).collect::<String>();
        format!(
            "{method} / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nCookie: __Host-Http-sid={cookie}\r\n\
             {fields}Content-Length: 0\r\n\r\n"
        )
    };
    let port = host.port();
    let table: Vec<(&str, Vec<String>)> = vec![
        ("POST", vec![format!("{own}.evil.test")]),
        ("POST", vec![format!("Origin: http://evil.test:{port}")]),
        ("POST", vec![format!("Origin: https://{host}")]),
        ("POST", vec!["Origin: http://127.0.0.1:1".to_owned()]),
        ("POST", vec![format!("Origin: http://user@{host}")]),
        ("POST", vec![format!("{own}/")]),
        ("POST", vec!["Origin: null".to_owned()]),
        ("POST", vec!["Origin:".to_owned()]),
        ("POST", vec![own.clone(), "Origin: http://evil.test".to_owned()]),
        ("POST", vec!["Origin: http://evil.test".to_owned(), "X-Forwarded-Host: evil.test".to_owned()]),
        ("POST", vec!["Sec-Fetch-Site: cross-site".to_owned(), "Sec-Fetch-Site: same-origin".to_owned()]),
        ("POST", vec!["Sec-Fetch-Site: anything".to_owned()]),
        ("PUT", vec!["Sec-Fetch-Site: cross-site".to_owned()]),
        ("DELETE", vec!["Sec-Fetch-Site: same-site".to_owned()]),
        ("get", vec!["Sec-Fetch-Site: cross-site".to_owned()]),
        ("PROPFIND", vec!["Sec-Fetch-Site: cross-site".to_owned()]),
        ("POST", vec![]),
        ("POST", vec![format!("Referer: http://{host}/")]),
        ("POST", vec!["X-HTTP-Method-Override: GET".to_owned()]),
    ];
    for (method, fields) in table {
        let fields = fields.iter().map(String::as_str).collect::<Vec<_>>();
        let answer = Answer::parse(&raw(host, request(method, &fields).as_bytes()).await);
        assert_eq!(answer.status, 403, "{method} {fields:?}");
        // Only on loopback, where its developer looks, does an answer say what would cure it.
        let told: serde_json::Value = serde_json::from_str(&answer.body).expect("a problem");
        assert!(answer.field("set-cookie").is_none() && told["cure"].is_string(), "{answer:?}");
        assert!(!format!("{} {}", told["title"], told["detail"]).contains("rigin"), "{answer:?}");
        assert_eq!(gateway.log.take(), ["malicious_csrf"], "{method} {fields:?}");
    }
    assert!(gateway.take().is_empty(), "nothing arrived");
    for fields in [&[own.as_str()][..], &["Sec-Fetch-Site: same-origin"], &["Sec-Fetch-Site: none"]] {
        let answer = Answer::parse(&raw(host, request("POST", fields).as_bytes()).await);
        assert_eq!(answer.status, 200, "{fields:?}");
        assert!(gateway.last().contains("alice"));
    }
    let link = request("GET", &["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"]);
    assert_eq!(
        Answer::parse(&raw(host, link.as_bytes()).await).status,
        200,
        "a link from elsewhere may lead here"
    );
}

#[tokio::test]
async fn r130_the_body_of_a_refused_request_is_no_request() {
    let gateway = gateway("").await;
    let host = gateway.address;
    let hidden = format!("GET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let last = format!("GET /last HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for path in ["/", "/a%2fb", "/.cloakroom/none"] {
        for (framing, body) in [
            (format!("Content-Length: {}", hidden.len()), hidden.clone()),
            ("Transfer-Encoding: chunked".to_owned(), format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len())),
        ] {
            let text = format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.test\r\n{framing}\r\n\r\n{body}{last}"
            );
            let answer = raw(host, text.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");
            let seen = gateway.take();
            assert!(
                seen.iter().all(|request| request.starts_with("GET /last")),
                "{path} {framing}: {seen:?}"
            );
        }
    }
}

#[tokio::test]
async fn r075_a_request_for_another_host_is_misdirected_and_reaches_nobody() {
    let gateway = gateway("").await;
    let (address, port) = (gateway.address, gateway.address.port());
    let ask = |target: &str, host: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    };
    for (name, target, host) in [
        ("another name", "/", "evil.test".to_owned()),
        ("another name, this port", "/", format!("evil.test:{port}")),
        ("another port", "/", "127.0.0.1:1".to_owned()),
        ("no port", "/", "localhost".to_owned()),
        ("a name that ends like ours", "/", format!("x.localhost:{port}")),
        ("in the target too", "http://evil.test/", "evil.test".to_owned()),
        ("the gateway's own pages", "/.cloakroom/sessions", "evil.test".to_owned()),
        ("an address that leads here (rebinding)", "/", format!("rebound.evil.test:{port}")),
    ] {
        let answer = Answer::parse(&raw(address, ask(target, &host).as_bytes()).await);
        assert_eq!(answer.status, 421, "{name}");
        assert!(!answer.body.contains("evil") && !answer.body.contains("hosts"), "{name}: {}", answer.body);
        assert_eq!(gateway.log.take().len(), 1, "{name}: one event");
    }
    let both = ask(&format!("http://localhost:{port}/"), &format!("127.0.0.1:{port}"));
    assert_eq!(Answer::parse(&raw(address, both.as_bytes()).await).status, 400, "two hosts");
    assert!(gateway.take().is_empty(), "nothing arrived");
    for host in [format!("LocalHost:{port}"), format!("localhost.:{port}"), format!("[::1]:{port}")] {
        assert_eq!(Answer::parse(&raw(address, ask("/", &host).as_bytes()).await).status, 200, "{host}");
        let told = host.to_lowercase().replace(".:", ":");
        let last = gateway.last();
        assert!(last.contains(&format!("\nhost: {told}\n")), "{last}");
        assert!(last.contains(&format!("\nx-forwarded-host: {told}\n")), "{last}");
    }
    // Probes send addresses.
    let probe = ask("/.cloakroom/ready", "10.1.2.3");
    assert_eq!(Answer::parse(&raw(address, probe.as_bytes()).await).status, 200);
}
