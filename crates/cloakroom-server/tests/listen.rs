//! The clients' side over real sockets: how many connections there may be, how large heads are, and early answers over HTTP/2.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Gateway, Scripted, gateway, gateway_before, read_until, send};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

async fn due<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what} never came"))
}

/// A connection on which a request was answered, and which is kept.
async fn kept(gateway: &Gateway) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let ask = format!("GET /.cloakroom/ready HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.address);
    stream.write_all(ask.as_bytes()).await.ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.ok()?;
    assert_eq!(&head, b"HTTP/1.1 200");
    Some(stream)
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_with_one_event_until_there_is_room() {
    let table = [
        ("[limits]\nconnections_per_address = 2", 2),
        ("[limits]\nconnections = 2", 2),
        ("trusted_proxies = [\"127.0.0.1\"]\n[limits]\nconnections = 5\nconnections_per_address = 2", 5),
    ];
    for (toml, most) in table {
        let gateway = gateway(toml).await;
        let mut held = Vec::new();
        for _ in 0..most {
            held.push(due("an answer", kept(&gateway)).await.expect(toml));
        }
        for _ in 0..3 {
            assert!(due("the end", kept(&gateway)).await.is_none(), "{toml}");
            assert_eq!(gateway.log.take(), ["input_validation_fail"], "{toml}");
        }
        held.pop();
        let again = async {
            while kept(&gateway).await.is_none() {
                tokio::task::yield_now().await;
            }
        };
        due("room", again).await;
    }
}

async fn http2(gateway: &Gateway) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn over_http_2_a_refused_upload_gets_its_answer_too() {
    let gateway = gateway("").await;
    let mut client = http2(&gateway).await;
    let request = Request::post(format!("http://{}/", gateway.address))
        .version(Version::HTTP_2)
        .header("sec-fetch-site", "cross-site")
        .body(Full::from(vec![b'x'; 30 << 20]))
        .unwrap();
    assert_eq!(due("the answer", client.send_request(request)).await.unwrap().status(), 403);
    assert!(gateway.take().is_empty());
}

#[tokio::test]
async fn as_many_cookies_pass_over_http_2_as_over_http_1_and_the_limits_of_a_head_are_settings() {
    let small = "[limits]\nhead_fields = 20\nhead_bytes = 1024\ntarget_bytes = 256";
    let large = "[limits]\nhead_fields = 300\nhead_bytes = 200000\ntarget_bytes = 30000";
    // Cookies, other fields, bytes of a field, bytes of the target.
    let table = [
        ("", (150, 0, 0, 0), 200),
        ("", (1, 80, 0, 0), 200),
        ("", (1, 120, 0, 0), 431),
        ("", (1, 0, 30_000, 0), 200),
        ("", (1, 0, 33_000, 0), 431),
        ("", (1, 0, 0, 8000), 200),
        ("", (1, 0, 0, 8300), 414),
        (small, (1, 10, 0, 0), 200),
        (small, (1, 20, 0, 0), 431),
        (small, (1, 0, 1100, 0), 431),
        (small, (1, 0, 0, 300), 414),
        (large, (1, 0, 150_000, 0), 200),
        (large, (1, 0, 0, 20_000), 200),
    ];
    let gateways = [("", gateway("").await), (small, gateway(small).await), (large, gateway(large).await)];
    for (toml, (cookies, fields, bytes, target), expected) in table {
        let gateway = &gateways.iter().find(|(which, _)| *which == toml).unwrap().1;
        let row = format!("{toml} {cookies} {fields} {bytes} {target}");
        let path = format!("/{}", "p".repeat(target));
        let crumbs: Vec<String> = (0..cookies).map(|at| format!("cookie{at}=value{at}")).collect();
        let filler = "v".repeat(bytes);
        let mut lines = vec![format!("Cookie: {}", crumbs.join("; ")), format!("X-Large: {filler}")];
        lines.extend((0..fields).map(|at| format!("X-{at}: v")));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut request = Request::get(format!("http://{}{path}", gateway.address)).version(Version::HTTP_2);
        for crumb in &crumbs {
            request = request.header("cookie", crumb);
        }
        request = request.header("x-large", &filler);
        for at in 0..fields {
            request = request.header(format!("x-{at}"), "v");
        }
        let answer = http2(gateway).await.send_request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), expected, "HTTP/2: {row}");
        if expected == 200 {
            // The application behind takes what HTTP libraries take by default.
            let told = gateway.last();
            assert_eq!(told.matches("cookie").count(), 1 + cookies, "{row}");
        }
        let answer = gateway.client().ask("GET", &path, &lines).await;
        assert_eq!(answer.status, expected, "HTTP/1.1: {row}");
    }
}

#[tokio::test]
async fn more_fields_than_most_take_reach_an_application_that_takes_them() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "[limits]\nhead_fields = 300").await;
    let lines: Vec<String> = (0..250).map(|at| format!("X-{at}: v")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let client = gateway.client();
    let mut stream = send(gateway.address, &client.request("GET", "/", &lines)).await;
    let exchange = due("the request", application.next()).await;
    assert!(exchange.head.contains("x-249: v"), "{}", exchange.head);
    exchange.reply("").await;
    due("the answer", read_until(&mut stream, "HTTP/1.1 200")).await;

    let mut request = Request::get(format!("http://{}/", gateway.address)).version(Version::HTTP_2);
    for at in 0..250 {
        request = request.header(format!("x-{at}"), "v");
    }
    let mut client = http2(&gateway).await;
    let (answer, ()) = tokio::join!(client.send_request(request.body(Full::default()).unwrap()), async {
        let exchange = due("the request", application.next()).await;
        assert!(exchange.head.contains("x-249: v"), "{}", exchange.head);
        exchange.reply("").await;
    });
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_over_http_2_may_have_as_many_requests_under_way_as_is_set() {
    let gateway = gateway("[limits]\nhttp2_streams = 7").await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // SETTINGS_MAX_CONCURRENT_STREAMS (3) with its value.
    due("the settings", read_until(&mut stream, "\0\x03\0\0\0\x07")).await;
}
