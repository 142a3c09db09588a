//! An application that answers before it has read the request, and closes: its answer counts, its commands are obeyed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use crate::harness::{Answer, gateway_before, raw};

/// What an application answers to each request as soon as it has its head; then it closes, with the rest unread, so that the
/// connection is reset. Runs beside the gateway, not in turns with it.
fn hasty(answers: Vec<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let told = String::from_utf8_lossy(&head).to_lowercase().contains("session-subject");
            stream.write_all(answer.replace("TOLD", &told.to_string()).as_bytes()).unwrap();
        }
    });
    address
}

fn answer(status: u16, fields: &str) -> String {
    format!(
        "HTTP/1.1 {status} So\r\n{fields}X-Told: TOLD\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    )
}

/// A body that is sent on as it comes, in pieces.
fn pieces(count: usize) -> String {
    let piece = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    piece.repeat(count) + "0\r\n\r\n"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_given_before_the_body_was_read_arrives() {
    const ROUNDS: usize = 60;
    let gateway = gateway_before(hasty(vec![answer(413, ""); ROUNDS]), "").await;
    for round in 0..ROUNDS {
        let fields = ["Transfer-Encoding: chunked", "Content-Length-Is: none"];
        let request = gateway.client().request("POST", "/", &fields).replace("Content-Length: 0\r\n", "");
        let text = request + &pieces(1 + round * 2);
        let answer = Answer::parse(&raw(gateway.address, text.as_bytes()).await);
        // Of a client that is still sending, the connection may be closed before it has read; it is never told of a 502.
        assert!(matches!(answer.status, 413 | 0), "{round}: {answer:?}");
        assert!(gateway.log.take().is_empty(), "{round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r054_a_logout_in_an_answer_given_before_the_body_was_read_is_obeyed() {
    const ROUNDS: usize = 40;
    let round = [
        answer(200, "Session-Login: \"alice\"\r\n"),
        answer(200, ""),
        answer(401, "Session-Logout: this\r\n"),
        answer(200, ""),
    ];
    let gateway = gateway_before(hasty(round.iter().cycle().take(4 * ROUNDS).cloned().collect()), "").await;
    for round in 0..ROUNDS {
        let mut client = gateway.client();
        client.ask("POST", "/login", &[]).await;
        assert_eq!(client.get("/").await.field("x-told"), Some("true"));
        gateway.log.take();
        let mut other = client.clone();
        let fields = ["Transfer-Encoding: chunked", "Content-Length-Is: none"];
        let request = client.request("POST", "/", &fields).replace("Content-Length: 0\r\n", "");
        let text = request + &pieces(1 + round * 2);
        raw(gateway.address, text.as_bytes()).await;
        assert_eq!(gateway.log.take(), ["session_logged_out"], "{round}");
        assert_eq!(other.get("/").await.field("x-told"), Some("false"), "{round}");
    }
}
