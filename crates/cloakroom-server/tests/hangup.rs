//! Clients that leave early, and what is theirs to answer for: a command is obeyed though nobody waits, and a request that
//! was never finished is not passed off as one that was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Answer, Gateway, Scripted, gateway_before, read_until, send};

/// Waits for an event, which is due; the limit is for a gateway that forgets it.
async fn event(gateway: &Gateway, name: &str) {
    let due = async {
        while !gateway.log.take().contains(&name) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), due).await.expect(name);
}

#[tokio::test]
async fn r053_a_login_whose_client_hung_up_is_whole_and_the_old_session_is_over() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    let (mut old, mut other) = (gateway.client(), gateway.client());
    for client in [&mut old, &mut other] {
        tokio::join!(client.ask("POST", "/login", &[]), async {
            application.next().await.reply("Session-Login: \"alice\"\r\n").await;
        });
    }
    gateway.log.take();
    let stream = send(gateway.address, &old.request("POST", "/login", &[])).await;
    let exchange = application.next().await;
    drop(stream);
    exchange.reply("Session-Login: \"alice\"\r\nSession-Set: a=\"1\"\r\n").await;
    event(&gateway, "authn_login_success").await;
    let (_, head) = tokio::join!(old.get("/"), async {
        let exchange = application.next().await;
        let head = exchange.head.clone();
        exchange.reply("").await;
        head
    });
    assert!(!harness::of_a_session(&head), "the session before the login is over: {head}");
    let page = other.get("/.cloakroom/sessions").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.body.matches("This browser").count(), 1, "{}", page.body);
    // Its own and the one that nobody has come for yet, which its user can see and end.
    assert_eq!(page.body.matches("</li>").count(), 2, "{}", page.body);
}

#[tokio::test]
async fn a_body_that_broke_off_is_the_clients_doing_and_never_passed_off_as_whole() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, "").await;
    for (fields, body) in [
        (["Content-Length: 100"], "half"),
        (["Transfer-Encoding: chunked"], "4\r\nhalf\r\n"),
        (["Transfer-Encoding: chunked"], "4\r\nhalf\r\nnonsense\r\n"),
    ] {
        let request = gateway.client().request("POST", "/", &fields);
        let request = match fields[0].starts_with("Transfer") {
            true => request.replace("Content-Length: 0\r\n", ""),
            false => request,
        };
        let mut client = send(gateway.address, &(request + body)).await;
        // One that says how long it is never gets as far as the application.
        if fields[0].starts_with("Transfer") {
            let mut exchange = application.next().await;
            client.shutdown().await.unwrap();
            let mut seen = Vec::new();
            drop(exchange.stream.read_to_end(&mut seen).await);
            assert!(!String::from_utf8_lossy(&seen).contains("0\r\n\r\n"), "{body}");
        } else {
            client.shutdown().await.unwrap();
        }
        let mut answer = String::new();
        drop(client.read_to_string(&mut answer).await);
        if !answer.is_empty() {
            assert_eq!(Answer::parse(&answer).status, 400, "{body}");
        }
        assert_eq!(gateway.log.take(), ["input_validation_fail"], "{body}: no alarm about the application");
    }
}

#[tokio::test]
async fn a_client_that_stops_within_its_body_gets_408_and_the_application_is_not_blamed() {
    let (application, address) = Scripted::start().await;
    for limit in ["upstream_timeout", "rate_grace"] {
        let gateway = gateway_before(address, &format!("[limits]\n{limit} = \"50ms\"")).await;
        let fields = ["Transfer-Encoding: chunked", "Content-Length-Is: none"];
        let request = gateway.client().request("POST", "/", &fields).replace("Content-Length: 0\r\n", "");
        let mut client = send(gateway.address, &(request + "4\r\nhalf\r\n")).await;
        let _held = application.next().await;
        let answer = Answer::parse(&read_until(&mut client, "\r\n\r\n").await);
        assert_eq!(answer.status, 408, "{limit}");
        assert_eq!(gateway.log.take(), ["input_validation_fail"], "{limit}");
    }
    // One that says how long it is is waited for without the application.
    let gateway = gateway_before(address, "[limits]\nrate_grace = \"50ms\"").await;
    let request = gateway.client().request("POST", "/", &["Content-Length: 100"]);
    let mut client = send(gateway.address, &(request + "half")).await;
    tokio::select! {
        _ = application.next() => panic!("the application was asked"),
        answer = read_until(&mut client, "\r\n\r\n") => assert_eq!(Answer::parse(&answer).status, 408),
    }
    assert_eq!(gateway.log.take(), ["input_validation_fail"]);
}

#[tokio::test]
async fn a_shutdown_waits_for_a_command_even_if_its_client_has_gone() {
    let (application, address) = Scripted::start().await;
    let mut gateway = gateway_before(address, "").await;
    let stream = send(gateway.address, &gateway.client().request("POST", "/login", &[])).await;
    let exchange = application.next().await;
    drop(stream);
    gateway.ask_to_stop();
    let log = gateway.log.clone();
    let stopped = tokio::spawn(gateway.stop());
    exchange.reply("Session-Login: \"alice\"\r\n").await;
    stopped.await.unwrap();
    assert!(log.take().contains(&"authn_login_success"), "obeyed before the end");
}
