//! Hostile bytes: what is not certain is refused, and the application sees as many requests as there were, or fewer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{Answer, gateway, raw};

#[tokio::test]
async fn r130_ambiguous_or_broken_messages_are_refused_and_smuggle_nothing() {
    let gateway = gateway("").await;
    let inner = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let post = |fields: &str, body: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nSec-Fetch-Site: same-origin\r\n{fields}\r\n{body}",
            gateway.address
        )
    };
    let hidden = format!("0\r\n\r\n{inner}");
    let table: Vec<(&str, String)> = vec![
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "012345")),
        ("a list of lengths", post("Content-Length: 5, 6\r\n", "012345")),
        ("a signed length", post("Content-Length: +5\r\n", "01234")),
        ("a hexadecimal length", post("Content-Length: 0x5\r\n", "01234")),
        ("an unknown coding", post("Transfer-Encoding: xchunked\r\n", &hidden)),
        ("chunked not last", post("Transfer-Encoding: chunked, gzip\r\n", &hidden)),
        ("chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &hidden)),
        ("a bad chunk size", post("Transfer-Encoding: chunked\r\n", &format!("-1\r\n{inner}"))),
        ("a folded field", post("X-A: b\r\n Content-Length: 5\r\n", "01234")),
        ("space before the colon", post("Content-Length : 5\r\n", "01234")),
        ("a field without name", post(": x\r\n", "")),
        ("a field without colon", post("Nonsense\r\n", "")),
        ("NUL in a value", post("X-A: a\0b\r\n", "")),
        ("two hosts", format!("GET / HTTP/1.1\r\nHost: {}\r\nHost: evil.test\r\n\r\n", gateway.address)),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned()),
        (
            "another host in the target",
            format!("GET http://evil.test/ HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.address),
        ),
        ("HTTP/0.9", "GET /\r\n\r\n".to_owned()),
        ("HTTP/3.0 in text", "GET / HTTP/3.0\r\nHost: x\r\n\r\n".to_owned()),
        ("TRACE", format!("TRACE / HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.address)),
        ("CONNECT", format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", gateway.address)),
        ("binary", "\u{16}\u{3}\u{1}\u{2}\0\u{1}".to_owned()),
        ("a huge field", post(&format!("X-A: {}\r\n", "a".repeat(60_000)), "")),
        ("many fields", post(&"X-A: b\r\n".repeat(150), "")),
        ("a huge target", format!("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(9000), gateway.address)),
    ];
    for (name, bytes) in table {
        // What is refused may leave the connection open for another request; this one ends it.
        let last = format!("GET /last HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", gateway.address);
        let answer = Answer::parse(&raw(gateway.address, format!("{bytes}{last}").as_bytes()).await);
        assert!(matches!(answer.status, 0 | 400..=505), "{name}: {answer:?}");
        let seen = gateway.take();
        assert!(seen.iter().all(|request| request.starts_with("GET /last ")), "{name}: {seen:?}");
    }
}

#[tokio::test]
async fn r130_of_two_lengths_the_coding_counts_and_the_connection_ends_there() {
    let gateway = gateway("").await;
    let body = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = format!("Content-Length: {}", body.len());
    for fields in
        [[length.as_str(), "Transfer-Encoding: chunked"], ["Transfer-Encoding: chunked", length.as_str()]]
    {
        let request = gateway.client().request("POST", "/", &fields).replace("Connection: close\r\n", "");
        let request = request.replace("Content-Length: 0\r\n", "");
        raw(gateway.address, (request + body).as_bytes()).await;
        let seen = gateway.take();
        assert!(seen.len() <= 1, "{seen:?}");
        for request in seen {
            assert!(request.starts_with("POST / ") || request.starts_with("POST /\n"), "{request}");
            assert!(!request.contains("content-length") && !request.contains("smuggled"), "{request}");
        }
    }
}

#[tokio::test]
async fn r130_pipelined_requests_are_answered_in_order_each_with_its_own_session() {
    let gateway = gateway("").await;
    let (mut alice, mut bob) = (gateway.client(), gateway.client());
    alice.log_in("alice").await;
    bob.log_in("bob").await;
    gateway.received.lock().unwrap().clear();
    let keep =
        |client: &harness::Client| client.request("GET", "/", &[]).replace("Connection: close\r\n", "");
    let bytes = keep(&alice) + &keep(&bob) + &gateway.client().request("GET", "/", &[]);
    let answer = raw(gateway.address, bytes.as_bytes()).await;
    let parts = answer.split("HTTP/1.1 200").skip(1).collect::<Vec<_>>();
    assert_eq!(parts.len(), 3, "{answer}");
    assert!(parts[0].contains("\"alice\"") && !parts[0].contains("bob"), "{answer}");
    assert!(parts[1].contains("\"bob\"") && !parts[1].contains("alice"), "{answer}");
    assert!(!harness::of_a_session(parts[2]), "{answer}");
}

#[tokio::test]
async fn r127_no_spelling_of_a_path_slips_past_its_route() {
    let gateway = gateway("[[route]]\npath = \"/account\"\nrequire = \"authenticated\"").await;
    let mut client = gateway.client();
    let spellings = [
        "/account",
        "//account",
        "/./account",
        "/x/../account",
        "/%61ccount",
        "/%2e/account",
        "/x/%2E%2e/account",
        "/account/",
        "/account/x.css",
        "/account%2Fx.css",
        "/account%5cx",
        "/account;x=1",
        "/account/..;/account",
        "/account%00.css",
        "/account\\x",
        "/x/..%2faccount",
        "/%2561ccount/../account",
        "/account?x=/static",
    ];
    for path in spellings {
        let answer = client.get(path).await;
        assert!(matches!(answer.status, 400 | 401), "{path}: {answer:?}");
    }
    assert!(gateway.received.lock().unwrap().is_empty());
    client.get("/a%20b//c/./d/../%7euser/%2a?q=%2F..").await;
    assert!(
        gateway.last().starts_with("GET /a%20b/c/~user/*?q=%2F..\n")
            || gateway.last().starts_with("GET /a%20b/c/~user/%2A?q=%2F..\n"),
        "{}",
        gateway.last()
    );
}

#[tokio::test]
async fn r106_a_clients_address_is_believed_from_trusted_proxies_only() {
    let gateway = gateway("trusted_proxies = [\"127.0.0.0/8\"]").await;
    let mut client = gateway.client();
    client.ask("GET", "/", &["X-Forwarded-For: 6.6.6.6, 203.0.113.9"]).await;
    assert!(gateway.last().contains("x-forwarded-for: 203.0.113.9\n"), "{}", gateway.last());
    let plain = harness::gateway("").await;
    plain.client().ask("GET", "/", &["X-Forwarded-For: 203.0.113.9"]).await;
    assert!(plain.last().contains("x-forwarded-for: 127.0.0.1\n"), "{}", plain.last());
}
