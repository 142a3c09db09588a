//! What the wire shows of lengths: which are refused, and which reach the application as one certain length.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{Answer, Scripted, gateway, gateway_before, raw, send};

#[tokio::test]
async fn r130_a_requests_length_is_refused_or_reaches_the_application_as_one() {
    let gateway = gateway("").await;
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    // Fields, body, status, and what the application is told of the length.
    let table = [
        ("Content-Length: 5", "hello", 200, Some("content-length: 5")),
        ("Content-Length:  5 ", "hello", 200, Some("content-length: 5")),
        ("Transfer-Encoding: chunked", chunked, 200, Some("transfer-encoding: chunked")),
        ("Transfer-Encoding: Chunked", chunked, 200, Some("transfer-encoding: chunked")),
        // The library takes an equal second length for the first, and a coding before any length.
        ("Content-Length: 5\r\nContent-Length: 5", "hello", 200, Some("content-length: 5")),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", chunked, 200, Some("transfer-encoding: chunked")),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3", chunked, 200, Some("transfer-encoding: chunked")),
        ("Content-Length: 5\r\nContent-Length: 6", "hello", 400, None),
        ("Content-Length: 5, 5", "hello", 400, None),
        ("Content-Length: +5", "hello", 400, None),
        ("Content-Length: -5", "hello", 400, None),
        ("Content-Length: 0x5", "hello", 400, None),
        ("Content-Length: ", "hello", 400, None),
        ("Content-Length: 99999999999999999999", "hello", 400, None),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", chunked, 400, None),
        ("Transfer-Encoding: gzip, chunked", chunked, 400, None),
        ("Transfer-Encoding: identity", chunked, 400, None),
        ("Transfer-Encoding: xchunked", chunked, 400, None),
    ];
    for (fields, body, status, told) in table {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nSec-Fetch-Site: same-origin\r\nConnection: close\r\n{fields}\r\n\r\n{body}",
            gateway.address
        );
        let answer = Answer::parse(&raw(gateway.address, request.as_bytes()).await);
        assert_eq!(answer.status, status, "{fields}: {answer:?}");
        let seen = gateway.take();
        let Some(told) = told else {
            assert!(seen.is_empty(), "{fields}: {seen:?}");
            continue;
        };
        assert_eq!(seen.len(), 1, "{fields}");
        let lengths =
            |line: &&str| line.starts_with("content-length") || line.starts_with("transfer-encoding");
        assert_eq!(seen[0].lines().filter(lengths).collect::<Vec<_>>(), [told], "{fields}");
        assert!(seen[0].ends_with("\n\nhello"), "{fields}: {}", seen[0]);
    }
    let old = format!(
        "POST / HTTP/1.0\r\nHost: {}\r\nSec-Fetch-Site: same-origin\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}",
        gateway.address
    );
    assert_eq!(Answer::parse(&raw(gateway.address, old.as_bytes()).await).status, 400);
    assert!(gateway.take().is_empty());
}

#[tokio::test]
async fn r130_an_answers_length_is_refused_or_reaches_the_client_as_one() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let table = [
        ("Content-Length: 2\r\n", "ok", 200),
        ("Content-Length: 2\r\nContent-Length: 2\r\n", "ok", 200),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n", 200),
        ("Content-Length: 2, 2\r\n", "ok", 502),
        ("Content-Length: 2\r\nContent-Length: 3\r\n", "ok", 502),
        ("Content-Length: +2\r\n", "ok", 502),
    ];
    for (fields, body, status) in table {
        let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", gateway.address);
        let client = tokio::spawn(async move {
            let mut stream = send(gateway.address, &ask).await;
            let mut answer = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.unwrap();
            Answer::parse(&String::from_utf8_lossy(&answer))
        });
        let mut exchange = application.next().await;
        exchange.write(&format!("HTTP/1.1 200 OK\r\n{fields}Connection: close\r\n\r\n{body}")).await;
        drop(exchange);
        let answer = client.await.unwrap();
        assert_eq!(answer.status, status, "{fields}: {answer:?}");
        assert!(
            answer.fields("content-length").count() + answer.fields("transfer-encoding").count() == 1,
            "{fields}"
        );
        if status == 200 {
            assert!(answer.body.contains("ok"), "{fields}: {answer:?}");
        }
    }
}
