//! Kept-alive connections to the application: reused, and never a way for one answer to reach another's question.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Answer, Gateway, Scripted, gateway_before, raw, read_until, send};

#[tokio::test]
async fn r130_an_answer_nobody_asked_for_reaches_nobody() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let stray = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSession-Login: \"eve\"\r\n\r\nstray";
    for (method, first) in [
        ("POST", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("POST", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("POST", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 73\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 73\r\n\r\n"),
    ] {
        let (mut alice, mut bob) = (gateway.client(), gateway.client());
        let (_, held) = tokio::join!(alice.ask(method, "/a", &[]), async {
            let mut exchange = application.next().await;
            exchange.write(&format!("{first}{stray}")).await;
            exchange
        });
        let asked = bob.ask("POST", "/b", &[]);
        let mut asked = std::pin::pin!(asked);
        tokio::select! {
            answer = &mut asked => panic!("{first:?}: not from the application: {answer:?}"),
            exchange = application.next() => {
                assert!(exchange.head.starts_with("post /b "), "{}", exchange.head);
                exchange.reply("X-For: bob\r\n").await;
            }
        }
        let answer = asked.await;
        assert_eq!((answer.status, answer.field("x-for")), (200, Some("bob")), "{first:?}");
        assert!(answer.field("set-cookie").is_none() && alice.cookie.is_none());
        drop(held);
    }
}

#[tokio::test]
async fn connections_to_the_application_are_kept_and_used_again() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let mut client = gateway.client();
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut held = Vec::new();
    // It comes back to the pool a moment after its answer is through; so a few may be opened before one is used again.
    loop {
        let again = async {
            let Some(stream) = held.last_mut() else { return std::future::pending().await };
            read_until(stream, "\r\n\r\n").await;
            stream.write_all(ok.as_bytes()).await.unwrap();
        };
        let asked = client.get("/");
        let (answer, fresh) = tokio::join!(asked, async {
            tokio::select! {
                () = again => None,
                mut exchange = application.next() => {
                    exchange.write(ok).await;
                    Some(exchange.stream)
                }
            }
        });
        assert_eq!(answer.status, 200);
        match fresh {
            Some(stream) => held.push(stream),
            None => break,
        }
        assert!(held.len() < 100, "never used again");
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_application_has_closed_costs_nobody_an_error() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let mut client = gateway.client();
    for _ in 0..3 {
        let (answer, exchange) = tokio::join!(client.get("/"), async {
            let mut exchange = application.next().await;
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            exchange
        });
        assert_eq!(answer.status, 200);
        drop(exchange);
        // With this the gateway has heard of everything that happened before.
        assert_eq!(client.get("/.cloakroom/ready").await.status, 200);
    }
}

/// A connection to the application that the gateway keeps, and has not used since.
async fn kept(application: &Scripted, gateway: &Gateway, fields: &str) -> TcpStream {
    let mut client = gateway.client();
    let (answer, exchange) = tokio::join!(client.get("/first"), async {
        let mut exchange = application.next().await;
        exchange.write(&format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok")).await;
        exchange
    });
    assert_eq!(answer.status, 200);
    // With this the gateway has done everything that was to be done before.
    assert_eq!(client.get("/.cloakroom/ready").await.status, 200);
    exchange.stream
}

#[tokio::test]
async fn a_kept_connection_that_closes_under_a_request_costs_only_what_may_not_be_asked_again_an_error() {
    const BACK: &str = "[[route]]\npath = \"/callback\"\nlogin_callback = true";
    let (application, address) = Scripted::start().await;
    for (method, path, body, answered, again) in [
        ("GET", "/x", "", "", true),
        ("HEAD", "/x", "", "", true),
        ("OPTIONS", "/x", "", "", true),
        ("POST", "/x", "", "", false),
        ("DELETE", "/x", "", "", false),
        ("GET", "/x", "body", "", false),
        ("GET", "/x", "", "H", false),
        ("GET", "/callback?code=1", "", "", false),
    ] {
        let what = format!("{method} {path} {body:?} {answered:?}");
        let gateway = gateway_before(address, BACK).await;
        // Of two that are kept the last is used first; the other is no better.
        let mut other = kept(&application, &gateway, "").await;
        let mut stream = {
            let mut client = gateway.client();
            let busy = client.get("/busy");
            let (_, stream) = tokio::join!(busy, async {
                read_until(&mut other, "\r\n\r\n").await;
                let stream = kept(&application, &gateway, "").await;
                other.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                stream
            });
            stream
        };
        assert_eq!(gateway.client().get("/.cloakroom/ready").await.status, 200);
        gateway.log.take();
        let mut client = gateway.client();
        let asked = client.send(method, path, &[], body);
        let mut asked = std::pin::pin!(asked);
        let close = async {
            let head = tokio::select! {
                head = read_until(&mut stream, "\r\n\r\n") => { drop(other); finish(stream, answered).await; head }
                head = read_until(&mut other, "\r\n\r\n") => { drop(stream); finish(other, answered).await; head }
            };
            assert!(head.starts_with(&format!("{method} ")), "{what}: {head}");
        };
        let answer = tokio::select! {
            answer = async { tokio::join!(&mut asked, close).0 } => answer,
            exchange = application.next() => {
                assert!(again, "{what}: asked again");
                exchange.reply("X-Again: yes\r\n").await;
                asked.await
            }
        };
        if again {
            assert_eq!((answer.status, answer.field("x-again")), (200, Some("yes")), "{what}");
            assert!(gateway.log.take().is_empty(), "{what}");
        } else {
            assert_eq!(answer.status, 502, "{what}");
            assert_eq!(gateway.log.take(), ["gateway_upstream_down"], "{what}");
        }
    }
}

#[tokio::test]
async fn of_more_unused_connections_than_are_kept_the_oldest_is_closed() {
    let (application, address) = Scripted::start().await;
    let limits = "[limits]\nupstream_idle_connections = 2\nupstream_idle_timeout = \"1h\"";
    let gateway = gateway_before(address, limits).await;
    let mut asked = tokio::task::JoinSet::new();
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut client = gateway.client();
        asked.spawn(async move { client.get("/").await.status });
        streams.push(application.next().await.stream);
    }
    for stream in &mut streams {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        assert_eq!(asked.join_next().await.unwrap().unwrap(), 200);
        // With this the gateway has put the connection aside.
        assert_eq!(gateway.client().get("/.cloakroom/ready").await.status, 200);
    }
    let mut first = streams.remove(0);
    let closed = tokio::time::timeout(Duration::from_secs(60), first.read_u8()).await;
    assert!(closed.expect("it is kept").is_err(), "nothing is said on it");
    for stream in streams.iter_mut().rev() {
        let mut client = gateway.client();
        let (answer, ()) = tokio::join!(client.get("/again"), async {
            read_until(stream, "\r\n\r\n").await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
        });
        assert_eq!(answer.status, 200, "the others are used again");
    }
}

async fn finish(mut stream: TcpStream, answered: &str) {
    stream.write_all(answered.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_request_is_asked_again_once_and_a_new_connection_that_closes_is_an_error() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let mut stream = kept(&application, &gateway, "").await;
    let mut client = gateway.client();
    let (answer, ()) = tokio::join!(client.get("/x"), async {
        read_until(&mut stream, "\r\n\r\n").await;
        drop(stream);
        drop(application.next().await);
    });
    assert_eq!(answer.status, 502);
    assert_eq!(gateway.log.take(), ["gateway_upstream_down"]);
}

#[tokio::test]
async fn an_application_that_says_it_closes_soon_is_asked_on_a_new_connection() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    for (fields, used) in
        [("", true), ("Keep-Alive: timeout=5\r\n", true), ("Keep-Alive: timeout=1\r\n", false)]
    {
        let mut stream = kept(&application, &gateway, fields).await;
        let mut client = gateway.client();
        let asked = client.get("/x");
        let mut asked = std::pin::pin!(asked);
        tokio::select! {
            _ = &mut asked => panic!("not from the application"),
            exchange = application.next() => {
                assert!(!used, "{fields:?}");
                exchange.reply("").await;
            }
            _ = read_until_closed(&mut stream) => {
                assert!(used, "{fields:?}");
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
            }
        }
        assert_eq!(asked.await.status, 200);
    }
}

/// Reads a head; does not come back if the connection is closed instead.
async fn read_until_closed(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_yet_does_not_hold_up_its_request() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 32;
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let length = format!("Content-Length: {}", PIECE * PIECES);
    let request = gateway.client().request("POST", "/", &[&length]);
    let mut client = send(gateway.address, &request).await;
    let exchange = application.next().await;
    let (mut from, mut to) = exchange.stream.into_split();
    // It answers at once, with more than all buffers on the way hold.
    let answer = tokio::spawn(async move {
        to.write_all(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n").as_bytes()).await.unwrap();
        for _ in 0..PIECES {
            to.write_all(&[b'y'; PIECE]).await.unwrap();
        }
    });
    let mut read = vec![0; PIECE];
    for _ in 0..PIECES {
        let (sent, received) = tokio::join!(client.write_all(&[b'x'; PIECE]), from.read_exact(&mut read));
        sent.unwrap();
        received.unwrap();
    }
    read_until(&mut client, "\r\n\r\n").await;
    for _ in 0..PIECES {
        client.read_exact(&mut read).await.unwrap();
    }
    assert!(read.iter().all(|byte| *byte == b'y'));
    answer.await.unwrap();
}

#[tokio::test]
async fn an_application_that_speaks_http_1_0_costs_its_clients_nothing() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let request = gateway.client().request("GET", "/", &[]).replace("Connection: close\r\n", "");
    let mut client = send(gateway.address, &request).await;
    for _ in 0..2 {
        let mut exchange = application.next().await;
        exchange.write("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold").await;
        drop(exchange);
        let answer = read_until(&mut client, "0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("transfer-encoding: chunked") && answer.contains("\r\nold\r\n"), "{answer}");
        // The connection is still good for another.
        client.write_all(request.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn r130_of_an_answers_two_lengths_the_coding_counts() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let text = gateway.client().request("GET", "/", &[]);
    let (answer, ()) = tokio::join!(raw(gateway.address, text.as_bytes()), async {
        let both = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwhole\r\n";
        let mut exchange = application.next().await;
        exchange.write(&both.replace("4\r\n", "5\r\n")).await;
        exchange.write("0\r\n\r\n").await;
    });
    let answer = Answer::parse(&answer);
    assert_eq!(answer.field("content-length"), None, "{answer:?}");
    assert_eq!(answer.body, "5\r\nwhole\r\n0\r\n\r\n");
}

#[tokio::test]
async fn large_bodies_stream_both_ways_without_being_held() {
    const PIECE: usize = 1 << 20;
    const ALL: usize = 64 * PIECE;
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let length = format!("Content-Length: {ALL}");
    let request = gateway.client().request("POST", "/", &[&length]);
    let mut client = send(gateway.address, &request).await;
    let mut exchange = application.next().await;
    let piece = vec![b'x'; PIECE];
    let mut read = vec![0; PIECE];
    // Each piece has arrived at the other end before the next is sent.
    for _ in 0..ALL / PIECE {
        let (sent, received) = tokio::join!(client.write_all(&piece), exchange.stream.read_exact(&mut read));
        sent.unwrap();
        received.unwrap();
    }
    exchange.write(&format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n")).await;
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.to_lowercase().contains(&length.to_lowercase()), "{head}");
    for _ in 0..ALL / PIECE {
        let (sent, received) = tokio::join!(exchange.stream.write_all(&piece), client.read_exact(&mut read));
        sent.unwrap();
        received.unwrap();
    }
    assert_eq!(client.read(&mut read).await.unwrap(), 0);
}

#[tokio::test]
async fn commands_beside_a_switch_that_nobody_asked_for_are_not_obeyed() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let mut client = gateway.client();
    let (answer, ()) = tokio::join!(client.ask("POST", "/", &[]), async {
        let mut exchange = application.next().await;
        exchange.write("HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nSession-Login: \"eve\"\r\n\r\n").await;
    });
    assert_eq!((answer.status, answer.field("set-cookie")), (502, None), "{answer:?}");
    assert_eq!(gateway.log.take(), ["gateway_command_refused"]);
}
