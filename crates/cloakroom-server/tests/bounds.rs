//! What clients can have under way at once: bounded by connection and address, then in all; and others are served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Answer, Exchange, Gateway, Scripted, gateway_before, read_until, send};

async fn http2(gateway: &Gateway) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(gateway: &Gateway, path: &str) -> Request<Empty<Bytes>> {
    let uri = format!("http://{}{path}", gateway.address);
    Request::builder().uri(uri).header("sec-fetch-site", "same-origin").body(Empty::new()).unwrap()
}

/// What reaches the application until the gateway has nothing more to send.
async fn arrived(application: &Scripted) -> Vec<Exchange> {
    let mut held = Vec::new();
    while let Ok(exchange) = tokio::time::timeout(Duration::from_millis(300), application.next()).await {
        held.push(exchange);
    }
    held
}

/// A client of another address, which no test of this machine has any trouble with.
async fn from(gateway: &Gateway, address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(gateway.address).await.unwrap()
}

/// Asks and hears no answer: what is asked is dropped.
async fn ask_and_reset(gateway: &Gateway, times: usize) -> SendRequest<Empty<Bytes>> {
    let mut sender = http2(gateway).await;
    for _ in 0..times {
        sender.ready().await.unwrap();
        let asked = sender.send_request(request(gateway, "/attack"));
        // Long enough for the request to go out.
        drop(tokio::time::timeout(Duration::from_millis(2), asked).await);
    }
    sender
}

#[tokio::test]
async fn resets_on_one_connection_cost_no_more_than_its_bound_and_others_are_served() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "[limits]\nconnection_requests = 4").await;
    let attack = ask_and_reset(&gateway, 60).await;
    let held = arrived(&application).await;
    assert_eq!(held.len(), 4, "seen to their end, and no more begun");
    let mut other = gateway.client();
    let (answer, ()) = tokio::join!(other.get("/"), async { application.next().await.reply("").await });
    assert_eq!(answer.status, 200);
    assert!(gateway.log.take().is_empty());
    for exchange in held {
        exchange.reply("").await;
    }
    assert!(arrived(&application).await.is_empty(), "what nobody waits for any more is not begun");
    drop(attack);
}

#[tokio::test]
async fn requests_beyond_a_connections_bound_wait_and_are_served() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "[limits]\nconnection_requests = 2").await;
    let mut sender = http2(&gateway).await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..6 {
        sender.ready().await.unwrap();
        asked.spawn(sender.send_request(request(&gateway, "/")));
    }
    for _ in 0..3 {
        let held = arrived(&application).await;
        assert_eq!(held.len(), 2);
        for exchange in held {
            exchange.reply("").await;
        }
    }
    while let Some(answer) = asked.join_next().await {
        assert_eq!(answer.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn requests_of_an_address_are_bounded_though_their_clients_have_gone_and_other_addresses_are_served() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "[limits]\naddress_requests = 3").await;
    let text = gateway.client().request("GET", "/attack", &[]);
    let mut held = Vec::new();
    for _ in 0..3 {
        let client = send(gateway.address, &text).await;
        held.push(application.next().await);
        client.set_zero_linger().unwrap();
        drop(client);
    }
    let answer = gateway.client().get("/").await;
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("2")));
    assert_eq!(gateway.log.take(), ["excess_rate_limit_exceeded"]);
    let mut other = from(&gateway, "127.0.0.2").await;
    other.write_all(gateway.client().request("GET", "/", &[]).as_bytes()).await.unwrap();
    application.next().await.reply("").await;
    assert_eq!(Answer::parse(&read_until(&mut other, "\r\n\r\n").await).status, 200);
    // What is over counts no more.
    for exchange in held {
        exchange.reply("").await;
    }
    let mut client = gateway.client();
    while client.get("/.cloakroom/sessions").await.status == 503 {}
    let (answer, ()) = tokio::join!(client.get("/"), async { application.next().await.reply("").await });
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn over_http_2_an_answer_counts_until_its_client_has_taken_it() {
    for (limit, event, place) in [
        ("address_requests = 2", "excess_rate_limit_exceeded", "127.0.0.1"),
        ("requests = 2", "gateway_overloaded", "127.0.0.2"),
    ] {
        let (application, address) = Scripted::start().await;
        let gateway = gateway_before(address, &format!("[limits]\n{limit}")).await;
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        // Room for a part of each answer, so that the gateway has the rest ready.
        let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let client = client.initial_stream_window_size(1000).handshake(TokioIo::new(stream));
        let (mut sender, connection) = client.await.unwrap();
        tokio::spawn(connection);
        let mut answers = Vec::new();
        for _ in 0..2 {
            sender.ready().await.unwrap();
            let asked = sender.send_request(request(&gateway, "/"));
            let (answer, ()) = tokio::join!(asked, async {
                let body = "x".repeat(4000);
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: 4000\r\nConnection: close\r\n\r\n{body}");
                application.next().await.write(&answer).await;
            });
            answers.push(answer.unwrap());
        }
        let text = gateway.client().request("GET", "/", &[]);
        let mut other = from(&gateway, place).await;
        other.write_all(text.as_bytes()).await.unwrap();
        assert_eq!(Answer::parse(&read_until(&mut other, "\r\n\r\n").await).status, 503, "{limit}");
        assert_eq!(gateway.log.take(), [event], "{limit}");
        for answer in answers {
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 4000);
        }
        // Other pages of the gateway, which count too, until there is room.
        while gateway.client().get("/.cloakroom/sessions").await.status == 503 {}
    }
}

#[tokio::test]
async fn over_http_2_answers_that_are_left_where_they_are_do_not_keep_others_out_for_long() {
    for (what, window) in [("no room for anything", 0), ("room for a part", 1000)] {
        let (application, address) = Scripted::start().await;
        let limits = "[limits]\nrequests = 2\nidle_timeout = \"1s\"";
        let gateway = gateway_before(address, limits).await;
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let client = client.initial_stream_window_size(window).handshake(TokioIo::new(stream));
        let (mut sender, connection) = client.await.unwrap();
        let connection = tokio::spawn(connection);
        let mut answers = Vec::new();
        for _ in 0..2 {
            sender.ready().await.unwrap();
            let asked = sender.send_request(request(&gateway, "/"));
            let (answer, ()) = tokio::join!(asked, async {
                let body = "x".repeat(4000);
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: 4000\r\nConnection: close\r\n\r\n{body}");
                application.next().await.write(&answer).await;
            });
            answers.push(answer.unwrap());
        }
        assert_eq!(gateway.client().get("/.cloakroom/signed-out").await.status, 503, "{what}");
        // It goes on asking, so it is not idle.
        let mut now_and_then = tokio::time::interval(Duration::from_millis(400));
        let live = request(&gateway, "/.cloakroom/live");
        let asking = tokio::spawn(async move {
            while sender.ready().await.is_ok() {
                drop(sender.send_request(live.clone()).await);
                now_and_then.tick().await;
            }
        });
        drop(connection.await);
        asking.await.unwrap();
        while gateway.client().get("/.cloakroom/signed-out").await.status == 503 {}
        drop(answers);
    }
}

#[tokio::test]
async fn requests_at_the_application_are_bounded_in_all_until_their_answers_are_through() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "[limits]\nupstream_requests = 2").await;
    let text = gateway.client().request("GET", "/", &[]);
    let (mut first, mut second) = (send(gateway.address, &text).await, from(&gateway, "127.0.0.2").await);
    second.write_all(text.as_bytes()).await.unwrap();
    let (one, mut two) = (application.next().await, application.next().await);
    two.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nha").await;
    let full = gateway.client().get("/").await;
    assert_eq!((full.status, full.field("retry-after")), (503, Some("2")));
    assert_eq!(gateway.log.take(), ["gateway_overloaded"]);
    assert_ne!(
        gateway.client().get("/.cloakroom/signed-out").await.status,
        503,
        "own pages need no application"
    );
    one.reply("").await;
    tokio::select! {
        _ = read_until(&mut first, "\r\n\r\n") => {}
        _ = read_until(&mut second, "half") => panic!("not said"),
    }
    let mut client = gateway.client();
    let (answer, ()) = tokio::join!(client.get("/"), async { application.next().await.reply("").await });
    assert_eq!(answer.status, 200);
    two.write("lf").await;
}

#[tokio::test]
async fn streams_are_bounded_by_themselves_and_leave_requests_alone() {
    let (application, address) = Scripted::start().await;
    let limits = "[limits]\naddress_streams = 2\nstreams = 3\naddress_requests = 1\nconnection_requests = 1";
    let gateway = gateway_before(address, limits).await;
    let socket = gateway
        .client()
        .request(
            "GET",
            "/socket",
            &[
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                &format!("Origin: http://{}", gateway.address),
            ],
        )
        .replace("Connection: close", "Connection: Upgrade");
    let events = gateway.client().request("GET", "/events", &[]);
    let switched =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nready";
    let begun = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nready";
    let mut open = Vec::new();
    for (place, text, answer, status) in [
        ("127.0.0.1", &socket, switched, 101),
        ("127.0.0.1", &events, begun, 200),
        ("127.0.0.1", &socket, switched, 503),
        ("127.0.0.1", &events, begun, 503),
        ("127.0.0.2", &events, begun, 200),
        ("127.0.0.2", &socket, switched, 503),
    ] {
        let mut client = from(&gateway, place).await;
        client.write_all(text.as_bytes()).await.unwrap();
        let mut exchange = application.next().await;
        exchange.write(answer).await;
        let head = Answer::parse(&read_until(&mut client, "\r\n\r\n").await);
        assert_eq!(head.status, status, "{place} {text}");
        if status != 503 {
            read_until(&mut client, "ready").await;
            open.push((client, exchange));
        }
    }
    let full = ["excess_rate_limit_exceeded", "excess_rate_limit_exceeded", "gateway_overloaded"];
    assert_eq!(gateway.log.take(), full);
    // Requests go on beside them.
    let mut client = gateway.client();
    let (answer, ()) = tokio::join!(client.get("/"), async { application.next().await.reply("").await });
    assert_eq!(answer.status, 200);
    // What has closed counts no more.
    drop(open);
    loop {
        let mut client = send(gateway.address, &socket).await;
        application.next().await.write(switched).await;
        if Answer::parse(&read_until(&mut client, "\r\n\r\n").await).status == 101 {
            break;
        }
    }
}
