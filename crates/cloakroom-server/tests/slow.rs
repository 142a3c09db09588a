//! Clients that send or read a little now and then: they keep the gateway waiting, and the application not for long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Answer, Gateway, Scripted, gateway_before, read_until, send};

/// For what is due; the limit is for a gateway that forgets it.
async fn due<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("{what} never came"))
}

#[tokio::test]
async fn slow_uploads_do_not_reach_the_application_before_they_are_whole() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let request = gateway.client().request("POST", "/form", &["Content-Length: 100000"]);
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(send(gateway.address, &(request.clone() + "a=")).await);
    }
    // An application with one worker has it for others.
    let mut other = gateway.client();
    let (answer, ()) = tokio::join!(other.get("/"), async {
        let exchange = application.next().await;
        assert!(exchange.head.starts_with("get / "), "{}", exchange.head);
        exchange.reply("").await;
    });
    assert_eq!(answer.status, 200);
    let mut client = slow.pop().unwrap();
    client.write_all(&[b'x'; 99_998]).await.unwrap();
    let mut exchange = application.next().await;
    assert!(exchange.head.contains("content-length: 100000"), "{}", exchange.head);
    let mut body = vec![0; 100_000];
    exchange.stream.read_exact(&mut body).await.unwrap();
    assert!(body.starts_with(b"a=xx"));
    exchange.reply("").await;
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_that_finds_no_room_or_is_too_long_goes_on_as_it_comes() {
    let (application, address) = Scripted::start().await;
    for limits in ["body_buffer_bytes = 9", "buffers_bytes = 3", "body_buffer_bytes = 0"] {
        let gateway = gateway_before(address, &format!("[limits]\n{limits}")).await;
        let request = gateway.client().request("POST", "/", &["Content-Length: 10"]);
        let mut client = send(gateway.address, &(request + "first")).await;
        let mut exchange = due(limits, application.next()).await;
        due(limits, read_until(&mut exchange.stream, "first")).await;
        client.write_all(b"final").await.unwrap();
        due(limits, read_until(&mut exchange.stream, "final")).await;
        exchange.reply("").await;
        assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 200"), "{limits}");
    }
}

#[tokio::test]
async fn what_is_refused_by_its_head_is_refused_before_its_body_is_read() {
    let (_application, address) = Scripted::start().await;
    let gateway =
        gateway_before(address, "[[route]]\npath = \"/account\"\nrequire = \"authenticated\"").await;
    for (path, fields, status) in [
        ("/account", ["Content-Length: 100000", "Sec-Fetch-Site: same-origin"], 401),
        ("/", ["Content-Length: 100000", "Sec-Fetch-Site: cross-site"], 403),
    ] {
        let mut client = send(gateway.address, &gateway.client().request("POST", path, &fields)).await;
        let answer = due("the refusal", read_until(&mut client, "\r\n\r\n")).await;
        assert_eq!(Answer::parse(&answer).status, status, "{path}");
    }
}

const PIECE: usize = 1 << 16;

/// A client that asks for a response and reads nothing of it.
async fn idle_reader(gateway: &Gateway, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(gateway.address).await.unwrap();
    client.write_all(gateway.client().request("GET", path, &[]).as_bytes()).await.unwrap();
    client
}

/// How many of 1000 pieces an application can say before its connection ends or nobody takes more.
async fn says(application: &Scripted, kind: &str) -> (usize, bool) {
    let mut exchange = application.next().await;
    let length = 1000 * PIECE;
    exchange
        .write(&format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"))
        .await;
    for piece in 0..1000 {
        let write = exchange.stream.write_all(&[b'x'; PIECE]);
        match tokio::time::timeout(Duration::from_secs(2), write).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return (piece, true),
            Err(_) => return (piece, false),
        }
    }
    (1000, false)
}

#[tokio::test]
async fn a_client_that_reads_nothing_lets_go_of_the_application() {
    let (application, address) = Scripted::start().await;
    let roomy = "[limits]\nbody_buffer_bytes = 100000000\nbuffers_bytes = 200000000";
    let gateway = gateway_before(address, roomy).await;
    let _client = idle_reader(&gateway, "/").await;
    assert_eq!(says(&application, "text/plain").await, (1000, false), "there is room for it");

    let hasty = "[limits]\nrate_grace = \"100ms\"\n[[route]]\npath = \"/free\"\nmin_rate = 0";
    let gateway = gateway_before(address, hasty).await;
    let mut client = idle_reader(&gateway, "/").await;
    let (pieces, broken) = says(&application, "text/plain").await;
    assert!(broken && pieces < 1000, "too slow: {pieces}");
    let mut rest = Vec::new();
    drop(client.read_to_end(&mut rest).await);
    assert!(rest.len() < 1000 * PIECE, "broken off");
    for (path, kind) in [("/free", "text/plain"), ("/", "text/event-stream")] {
        let _client = idle_reader(&gateway, path).await;
        let (pieces, broken) = says(&application, kind).await;
        assert!(!broken && pieces < 1000, "{path} {kind}: nothing is asked of it: {pieces}");
    }
}
