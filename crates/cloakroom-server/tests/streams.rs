//! Connections that outlive their request end with their session, wherever that was ended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Client, Exchange, Gateway, Scripted, gateway_before, gateway_beside, read_until, send};

/// The shortest that there is, so that no test waits for long.
const QUICK: &str = "[policy]\nwatch_interval = \"100ms\"";
const CLOSE: &[u8] = b"\x88\x0f\x03\xf0session ended";
/// For what is due; the limit is for a gateway that forgets it.
const LONG: Duration = Duration::from_secs(60);

async fn due<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what} never came"))
}

async fn signed_in(application: &Scripted, gateway: &Gateway, name: &str) -> Client {
    let mut client = gateway.client();
    let login = async {
        let reply = format!("Session-Login: \"{name}\"\r\n");
        application.next().await.reply(&reply).await;
    };
    tokio::join!(client.ask("POST", "/login", &[]), login);
    assert!(client.cookie.is_some());
    client
}

/// A connection that a client holds open through a gateway, and its other end.
struct Open {
    kind: Kind,
    stream: TcpStream,
    exchange: Exchange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    WebSocket,
    Events,
}

const KINDS: [Kind; 2] = [Kind::WebSocket, Kind::Events];

impl Open {
    async fn new(kind: Kind, client: &Client, application: &Scripted) -> Self {
        let (path, fields, head) = match kind {
            Kind::WebSocket => (
                "/socket",
                vec![
                    "Upgrade: websocket".to_owned(),
                    "Connection: Upgrade".to_owned(),
                    "Sec-WebSocket-Version: 13".to_owned(),
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
                    format!("Origin: http://{}", client.address),
                ],
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x02\x05ready",
            ),
            Kind::Events => (
                "/events",
                Vec::new(),
                "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\ndata: ready\n\n",
            ),
        };
        let fields = fields.iter().map(String::as_str).collect::<Vec<_>>();
        let request = client.request("GET", path, &fields).replace("Connection: close\r\n", "");
        let mut stream = send(client.address, &request).await;
        let mut exchange = application.next().await;
        exchange.write(head).await;
        read_until(&mut stream, "ready").await;
        Self { kind, stream, exchange }
    }

    /// Waits until both ends are closed, as a session's end closes them.
    async fn closed(mut self) {
        let mut rest = Vec::new();
        // A connection that breaks off may do so with an error.
        let read = due("the end", self.stream.read_to_end(&mut rest)).await;
        match self.kind {
            Kind::WebSocket => {
                read.unwrap();
                assert_eq!(rest, CLOSE, "1008, and nothing else");
            }
            Kind::Events => {
                let text = String::from_utf8_lossy(&rest).into_owned();
                assert!(!text.contains("0\r\n\r\n"), "broken off, not ended: {text:?}");
            }
        }
        let mut seen = Vec::new();
        drop(due("the end for the application", self.exchange.stream.read_to_end(&mut seen)).await);
        assert!(seen.is_empty());
    }

    /// That it still works.
    async fn lives(&mut self) {
        match self.kind {
            Kind::WebSocket => {
                self.stream.write_all(b"up!").await.unwrap();
                due("what was sent", read_until(&mut self.exchange.stream, "up!")).await;
                self.exchange.write("\x01\x05down!").await;
            }
            Kind::Events => self.exchange.write("data: down!\n\n").await,
        }
        due("what was sent", read_until(&mut self.stream, "down!")).await;
    }
}

/// Two gateways on one store, with one application, and two users who hold connections of each kind open through the
/// first.
struct Scene {
    application: Scripted,
    here: Gateway,
    there: Gateway,
    alice: Client,
    alices: Vec<Open>,
    bobs: Vec<Open>,
}

impl Scene {
    async fn new() -> Self {
        let (application, address) = Scripted::start().await;
        let here = gateway_before(address, QUICK).await;
        let there = gateway_beside(&here, address, QUICK).await;
        let alice = signed_in(&application, &here, "alice").await;
        let bob = signed_in(&application, &here, "bob").await;
        let (mut alices, mut bobs) = (Vec::new(), Vec::new());
        for kind in KINDS {
            alices.push(Open::new(kind, &alice, &application).await);
            bobs.push(Open::new(kind, &bob, &application).await);
        }
        Self { application, here, there, alice, alices, bobs }
    }

    /// A client of the other gateway.
    fn elsewhere(&self, client: &Client) -> Client {
        Client { address: self.there.address, ..client.clone() }
    }

    /// That alice's connections close and her next request is nobody's; and that bob's go on.
    async fn alice_is_out(mut self) {
        for open in self.alices {
            open.closed().await;
        }
        for address in [self.there.address, self.here.address] {
            let mut next = Client { address, ..self.alice.clone() };
            let (_, head) = tokio::join!(next.get("/"), async {
                let exchange = self.application.next().await;
                let head = exchange.head.clone();
                exchange.reply("").await;
                head
            });
            assert!(!harness::of_a_session(&head), "{head}");
        }
        for open in &mut self.bobs {
            open.lives().await;
        }
    }

    async fn tell(&self, client: &mut Client, reply: &str) {
        tokio::join!(client.ask("POST", "/", &[]), async {
            self.application.next().await.reply(reply).await;
        });
    }
}

#[tokio::test]
async fn r054_r059_r062_a_logout_in_another_tab_through_another_gateway_closes_what_is_open() {
    let scene = Scene::new().await;
    let mut tab = scene.elsewhere(&scene.alice);
    let out = tab.ask("POST", "/.cloakroom/logout", &[]).await;
    assert_eq!(out.status, 303);
    scene.alice_is_out().await;
}

#[tokio::test]
async fn r062_a_logout_in_another_tab_through_the_same_gateway_closes_what_is_open() {
    let scene = Scene::new().await;
    let mut tab = scene.alice.clone();
    scene.tell(&mut tab, "Session-Logout: this\r\n").await;
    scene.alice_is_out().await;
}

#[tokio::test]
async fn r058_r059_r062_a_session_ended_on_the_users_page_of_another_gateway_closes_what_is_open() {
    let scene = Scene::new().await;
    let mut other = signed_in(&scene.application, &scene.there, "alice").await;
    let page = other.get("/.cloakroom/sessions").await.body;
    let handle = page.split("name=\"handle\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let body = format!("handle={handle}");
    let length = format!("Content-Length: {}", body.len());
    let fields = [length.as_str(), "Content-Type: application/x-www-form-urlencoded"];
    let request = other.request("POST", "/.cloakroom/sessions/end", &fields);
    let answer = harness::Answer::parse(&harness::raw(other.address, (request + &body).as_bytes()).await);
    assert_eq!(answer.field("location"), Some("/.cloakroom/sessions"));
    scene.alice_is_out().await;
}

#[tokio::test]
async fn r057_r062_ending_all_other_sessions_closes_theirs_and_keeps_ones_own_open() {
    let scene = Scene::new().await;
    let mut other = signed_in(&scene.application, &scene.there, "alice").await;
    let mut kept = Open::new(Kind::WebSocket, &other, &scene.application).await;
    scene.tell(&mut other, "Session-Logout: others\r\n").await;
    scene.alice_is_out().await;
    kept.lives().await;
}

#[tokio::test]
async fn r056_r058_r062_ending_all_on_the_command_line_closes_what_is_open() {
    let scene = Scene::new().await;
    let store = format!("sqlite:{}", scene.here.folder.path().join("sessions.db").display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    command.args(["sessions", "revoke", "--subject", "alice", "--store", &store]);
    command.current_dir(scene.here.folder.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    scene.alice_is_out().await;
}

#[tokio::test]
async fn r062_a_login_in_another_tab_closes_what_the_session_before_had_open() {
    let scene = Scene::new().await;
    let mut tab = scene.elsewhere(&scene.alice);
    scene.tell(&mut tab, "Session-Login: \"alice\"\r\n").await;
    scene.alice_is_out().await;
}

#[tokio::test]
async fn r036_r045_r062_an_open_connection_does_not_keep_a_session_from_idling_out() {
    let mut scene = Scene::new().await;
    let seen = |scene: &Scene| {
        let file = scene.here.folder.path().join("sessions.db");
        let connection = rusqlite::Connection::open(file).unwrap();
        let mut rows = connection.prepare("SELECT seen FROM sessions ORDER BY handle").unwrap();
        let seen = rows.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        seen.map(Result::unwrap).collect::<Vec<_>>()
    };
    let before = seen(&scene);
    assert_eq!(before.len(), 2);
    scene.here.advance(1700);
    for open in scene.alices.iter_mut().chain(&mut scene.bobs) {
        open.lives().await;
    }
    assert_eq!(seen(&scene), before, "neither the traffic nor the look-ups count");
    scene.here.advance(100);
    for open in scene.alices.into_iter().chain(scene.bobs) {
        open.closed().await;
    }
}

#[tokio::test]
async fn r037_r062_a_session_that_is_used_all_the_time_ends_with_what_it_has_open_at_its_absolute_limit() {
    let mut scene = Scene::new().await;
    for _ in 0..50 {
        scene.here.advance(1700);
        let mut tab = scene.alice.clone();
        scene.tell(&mut tab, "").await;
        scene.alice = tab;
    }
    for open in &mut scene.alices {
        open.lives().await;
    }
    scene.here.advance(1600);
    for open in scene.alices {
        open.closed().await;
    }
}

#[tokio::test]
async fn what_belongs_to_no_session_stays_open() {
    let (application, address) = Scripted::start().await;
    let toml = format!("{QUICK}\n[[route]]\npath = \"/socket\"\nsession = \"none\"");
    let gateway = gateway_before(address, &toml).await;
    let mut alice = signed_in(&application, &gateway, "alice").await;
    let mut untied = Open::new(Kind::WebSocket, &alice, &application).await;
    let mut visitors = Open::new(Kind::Events, &gateway.client(), &application).await;
    let tied = Open::new(Kind::Events, &alice, &application).await;
    alice.ask("POST", "/.cloakroom/logout", &[]).await;
    tied.closed().await;
    untied.lives().await;
    visitors.lives().await;
}

#[tokio::test]
async fn r062_over_http_2_an_event_stream_is_reset_and_the_connection_goes_on() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, QUICK).await;
    let alice = signed_in(&application, &gateway, "alice").await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = |method: &str, path: &str| {
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", gateway.address))
            .header("cookie", format!("__Host-Http-sid={}", alice.cookie.as_deref().unwrap()))
            .header("sec-fetch-site", "same-origin")
            .body(Empty::<Bytes>::new())
            .unwrap()
    };
    let (answer, exchange) = tokio::join!(sender.send_request(request("GET", "/events")), async {
        let mut exchange = application.next().await;
        exchange.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ready\n\n").await;
        exchange
    });
    let mut body = answer.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: ready\n\n");
    let out = sender.send_request(request("POST", "/.cloakroom/logout")).await.unwrap();
    assert_eq!(out.status(), 303);
    let end = due("the end", body.frame()).await.expect("broken off, not ended");
    assert!(end.is_err(), "{end:?}");
    let landing = sender.send_request(request("GET", "/.cloakroom/signed-out")).await.unwrap();
    assert_eq!(landing.status(), 200);
    drop(exchange);
}

async fn body_of(gateway: SocketAddr, client: &Client, application: &Scripted) -> (TcpStream, Exchange) {
    let request = client.request("GET", "/report", &[]);
    let mut stream = send(gateway, &request).await;
    let mut exchange = application.next().await;
    exchange.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nhalf").await;
    read_until(&mut stream, "half").await;
    (stream, exchange)
}

#[tokio::test]
async fn r062_any_other_body_has_the_time_of_a_response_and_no_more() {
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, QUICK).await;
    let mut client = signed_in(&application, &gateway, "alice").await;
    let (mut stream, mut exchange) = body_of(gateway.address, &client, &application).await;
    client.ask("POST", "/.cloakroom/logout", &[]).await;
    exchange.write("full").await;
    let mut rest = String::new();
    due("the rest", stream.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "full", "a response under way is finished");

    let toml = format!("[limits]\nupstream_timeout = \"3s\"\n{QUICK}");
    let hasty = gateway_before(address, &toml).await;
    let mut client = signed_in(&application, &hasty, "alice").await;
    let (mut stream, mut exchange) = body_of(hasty.address, &client, &application).await;
    client.ask("POST", "/.cloakroom/logout", &[]).await;
    let mut rest = Vec::new();
    drop(due("the end", stream.read_to_end(&mut rest)).await);
    assert!(rest.is_empty(), "broken off");
    drop(due("the end for the application", exchange.stream.read_to_end(&mut rest)).await);
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_shutdown_waits_for_tunnels_and_then_tells_them_to_go() {
    let (application, address) = Scripted::start().await;
    let mut gateway = gateway_before(address, "[shutdown]\ntimeout = \"60s\"").await;
    let alice = signed_in(&application, &gateway, "alice").await;
    let mut open = Open::new(Kind::WebSocket, &alice, &application).await;
    gateway.ask_to_stop();
    let stopped = tokio::spawn(gateway.stop());
    for _ in 0..50 {
        open.lives().await;
    }
    assert!(!stopped.is_finished());
    drop(open);
    due("the stop", stopped).await.unwrap();

    let mut gateway = gateway_before(address, "[shutdown]\ntimeout = \"50ms\"").await;
    let alice = signed_in(&application, &gateway, "alice").await;
    let mut open = Open::new(Kind::WebSocket, &alice, &application).await;
    gateway.ask_to_stop();
    let stopped = tokio::spawn(gateway.stop());
    let mut rest = Vec::new();
    due("the end", open.stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"\x88\x0c\x03\xe9going away");
    drop(open);
    due("the stop", stopped).await.unwrap();
}
