//! The application as it may also be: gone, slow, broken, streaming; and clients that leave early.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Answer, Client, Gateway, Scripted, gateway_before, raw, read_until, send};

/// A client that is signed in at a scripted application.
async fn signed_in(application: &Scripted, gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    let (_, ()) = tokio::join!(client.ask("POST", "/login", &[]), async {
        application.next().await.reply("Session-Login: \"alice\"\r\n").await;
    });
    client
}

/// What the application is told of a client's session now.
async fn told(application: &Scripted, client: &Client) -> String {
    let mut client = client.clone();
    let (_, head) = tokio::join!(client.get("/"), async {
        let exchange = application.next().await;
        let head = exchange.head.clone();
        exchange.reply("").await;
        head
    });
    head
}

#[tokio::test]
async fn r054_a_logout_is_carried_out_though_its_client_hung_up() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let client = signed_in(&application, &gateway).await;
    assert!(told(&application, &client).await.contains("session-subject: \"alice\""));
    gateway.log.take();
    let stream = send(gateway.address, &client.request("POST", "/logout", &[])).await;
    let exchange = application.next().await;
    drop(stream);
    exchange.reply("Session-Logout: this\r\n").await;
    while !gateway.log.take().contains(&"session_logged_out") {
        tokio::task::yield_now().await;
    }
    assert!(!harness::of_a_session(&told(&application, &client).await));
}

#[tokio::test]
async fn a_shutdown_waits_for_what_is_under_way_and_obeys_it() {
    let (application, address) = Scripted::start().await;
    let mut gateway = gateway_before(address, "").await;
    let client = signed_in(&application, &gateway).await;
    let mut stream = send(gateway.address, &client.request("POST", "/logout", &[])).await;
    let exchange = application.next().await;
    gateway.ask_to_stop();
    exchange.reply("Session-Logout: this\r\nX-Last: yes\r\n").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("x-last: yes") && answer.contains("clear-site-data"), "{answer}");
    let place = gateway.address;
    gateway.stop().await;
    assert!(tokio::net::TcpStream::connect(place).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn r114_an_application_that_is_down_is_a_502_and_one_event() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let gateway = gateway_before(address, "").await;
    let answer = gateway.client().get("/").await;
    assert_eq!(answer.status, 502);
    assert!(!answer.body.contains(&address.to_string()), "{}", answer.body);
    assert!(answer.body.contains("is not answering"), "{}", answer.body);
    assert_eq!(gateway.log.take(), ["gateway_upstream_down"]);
}

#[tokio::test]
async fn r114_an_application_is_said_not_to_answer_only_when_it_does_not() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Field: 1\r\n".repeat(101));
    let large = format!("HTTP/1.1 200 OK\r\nX-Field: {}\r\n\r\n", "x".repeat(1 << 20));
    let (broke, invalid) = ("broke off before it had answered", "cannot be passed on");
    for (what, answered, text, event) in [
        ("nothing", "", broke, "gateway_upstream_down"),
        ("half a head", "HTTP/1.1 200 OK\r\nX-Half: ", broke, "gateway_upstream_down"),
        ("no HTTP", "SSH-2.0-OpenSSH\r\n\r\n", invalid, "gateway_answer_refused"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n", invalid, "gateway_answer_refused"),
        ("too many fields", &many, invalid, "gateway_answer_refused"),
        ("too large a head", &large, invalid, "gateway_answer_refused"),
        (
            "an unknown command",
            "HTTP/1.1 200 OK\r\nSession-Go: 1\r\n\r\n",
            invalid,
            "gateway_command_refused",
        ),
    ] {
        let mut client = gateway.client();
        let (answer, ()) = tokio::join!(client.get("/"), async {
            let mut exchange = application.next().await;
            // The gateway may have heard enough before all is said.
            drop(exchange.stream.write_all(answered.as_bytes()).await);
        });
        assert_eq!(answer.status, 502, "{what}");
        assert!(answer.body.contains(text), "{what}: {}", answer.body);
        assert_eq!(gateway.log.take(), [event], "{what}");
    }
}

#[tokio::test]
async fn an_application_that_is_too_slow_is_a_504() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "[limits]\nupstream_timeout = \"50ms\"").await;
    let mut client = gateway.client();
    let (answer, _held) = tokio::join!(client.get("/"), application.next());
    assert_eq!(answer.status, 504);
    assert!(answer.body.contains("taking too long"), "{}", answer.body);
    assert_eq!(gateway.log.take(), ["gateway_upstream_slow"]);
}

#[tokio::test]
async fn an_application_that_breaks_off_is_never_taken_for_one_that_has_finished() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let mut client = gateway.client();
    let (answer, ()) = tokio::join!(client.get("/head"), async {
        application.next().await.write("HTTP/1.1 200 OK\r\nX-Half: ").await;
    });
    assert_eq!(answer.status, 502);
    let (answer, ()) = tokio::join!(client.get("/body"), async {
        application.next().await.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    });
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("100")));
    assert!(answer.body.len() < 100);
    let (answer, ()) = tokio::join!(client.get("/chunks"), async {
        let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        application.next().await.write(chunk).await;
    });
    assert!(!answer.body.ends_with("0\r\n\r\n"), "{answer:?}");
}

#[tokio::test]
async fn bodies_stream_both_ways_as_they_come() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    // One that says how long it is, and is short, is held until it is whole.
    let fields = ["Transfer-Encoding: chunked", "Content-Length-Is: none"];
    let request = gateway.client().request("POST", "/", &fields).replace("Content-Length: 0\r\n", "");
    let mut client = send(gateway.address, &(request + "5\r\nfirst\r\n")).await;
    let mut exchange = application.next().await;
    read_until(&mut exchange.stream, "first").await;
    client.write_all(b"5\r\nfinal\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut exchange.stream, "final").await;
    exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nhalf").await;
    read_until(&mut client, "half").await;
    exchange.write("more").await;
    read_until(&mut client, "more").await;
}

#[tokio::test]
async fn commands_count_in_the_final_head_only() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let mut client = gateway.client();
    let (answer, ()) = tokio::join!(client.ask("POST", "/", &[]), async {
        let mut exchange = application.next().await;
        exchange.write("HTTP/1.1 103 Early Hints\r\nSession-Login: \"eve\"\r\n\r\n").await;
        let trailer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Session-Login\r\n\
                       Connection: close\r\n\r\n2\r\nok\r\n0\r\nSession-Login: \"eve\"\r\n\r\n";
        exchange.write(trailer).await;
    });
    assert_eq!((answer.status, answer.field("set-cookie")), (200, None));
    assert!(!answer.head.contains("103") && !answer.body.contains("eve"), "{answer:?}");
    // And a client's trailers do not arrive.
    let fields = ["Transfer-Encoding: chunked", "Content-Length-Is: none", "Trailer: Session-Subject"];
    let request = client.request("POST", "/", &fields).replace("Content-Length: 0\r\n", "");
    let body = "2\r\nok\r\n0\r\nSession-Subject: \"root\"\r\n\r\n";
    let client = send(gateway.address, &(request + body)).await;
    let mut exchange = application.next().await;
    let rest = read_until(&mut exchange.stream, "0\r\n\r\n").await;
    assert!(!exchange.head.contains("root") && !rest.contains("root"), "{rest}");
    drop(client);
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_a_502() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let mut client = gateway.client();
    for (asked, switched) in [("", "websocket"), ("Connection: upgrade\r\nUpgrade: h2c\r\n", "h2c")] {
        let text = client.request("GET", "/", &[]).replace("Connection: close\r\n", asked);
        let (answer, head) = tokio::join!(raw_head(&gateway, &text), async {
            let mut exchange = application.next().await;
            exchange
                .write(&format!("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: {switched}\r\n\r\n"))
                .await;
            exchange.head
        });
        assert_eq!(answer.status, 502, "{switched}");
        assert!(!head.contains("upgrade"), "{head}");
    }
    let _ = client.ask("TRACE", "/", &[]).await;
}

async fn raw_head(gateway: &Gateway, text: &str) -> Answer {
    let mut stream = send(gateway.address, text).await;
    Answer::parse(&read_until(&mut stream, "\r\n\r\n").await)
}

#[tokio::test]
async fn r083_a_websocket_passes_with_the_session_told() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let client = signed_in(&application, &gateway).await;
    let fields = [
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        &format!("Origin: http://{}", gateway.address),
    ];
    let request = client.request("GET", "/socket", &fields).replace("Connection: close\r\n", "");
    let mut stream = send(gateway.address, &request).await;
    let mut exchange = application.next().await;
    for part in
        ["upgrade: websocket", "connection: upgrade", "sec-websocket-key: ", "session-subject: \"alice\""]
    {
        assert!(exchange.head.contains(part), "{part}: {}", exchange.head);
    }
    let accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    exchange.write(accept).await;
    let head = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-accept: s3pp"), "{head}");
    stream.write_all(b"ping").await.unwrap();
    read_until(&mut exchange.stream, "ping").await;
    exchange.write("pong").await;
    read_until(&mut stream, "pong").await;
    drop(exchange);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "closed at one end, closed at the other");
}

#[tokio::test]
async fn r070_a_store_that_cannot_be_read_is_a_503_and_the_application_is_not_asked() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let client = signed_in(&application, &gateway).await;
    let file = gateway.folder.path().join("sessions.db");
    let broken = rusqlite::Connection::open(file).unwrap();
    broken.execute("UPDATE sessions SET body = x'00'", []).unwrap();
    // A request that reached the application would wait for it for ever.
    let answer = client.clone().get("/").await;
    assert_eq!((answer.status, answer.field("set-cookie")), (503, None));
    assert!(answer.field("retry-after").is_some());
    let text = client.request("POST", "/", &[]);
    assert_eq!(Answer::parse(&raw(gateway.address, text.as_bytes()).await).status, 503);
}
