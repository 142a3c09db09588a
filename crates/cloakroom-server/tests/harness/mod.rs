//! The gateway over real sockets, in front of an application that answers what the test tells it to, and a client that
//! sends exactly what it is given.
#![allow(dead_code, reason = "each test file uses a part")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use cloakroom::core::clock::{Clock as _, Timestamp};
use cloakroom::{Event, Observer, SystemClock};
use cloakroom_server::config::{Config, Raw};
use cloakroom_server::serve;
use cloakroom_testkit::ManualClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What the application has received: one text a request, with the request line and all fields, lower-case names.
pub(crate) type Received = Arc<Mutex<Vec<String>>>;

/// Collects events.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    pub(crate) fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.0.lock().unwrap()).iter().map(|event| event.kind.name()).collect()
    }
}

impl Observer for Log {
    fn observe(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// Starts an application that answers with the fields in the query's `answer`, one a line, and the `status` before them.
pub(crate) async fn application() -> (SocketAddr, Received) {
    let received = Received::default();
    let app = Router::new().fallback(answer).with_state(Arc::clone(&received));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, received)
}

async fn answer(State(received): State<Received>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut text = format!("{} {}\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text.push_str(&format!("\n{}", String::from_utf8_lossy(&body)));
    received.lock().unwrap().push(text.clone());
    let mut response = Response::builder();
    let query = parts.uri.query().unwrap_or_default();
    let answer =
        query.split('&').find_map(|pair| pair.strip_prefix("answer=")).map(unescape).unwrap_or_default();
    for line in answer.lines() {
        match line.split_once(": ") {
            Some((name, value)) => response = response.header(name, value),
            None => response = response.status(line.parse::<u16>().unwrap()),
        }
    }
    response.body(Body::from(text)).unwrap()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Whether the application was told of a session. A token for its forms it is told in any case, and shortly after the end of a
/// session that nothing can be kept.
pub(crate) fn of_a_session(told: &str) -> bool {
    let none = ["session-csrf-token: ", "session-read-only: "];
    let ours = |line: &str| line.starts_with("session-") && !none.iter().any(|none| line.starts_with(none));
    told.lines().any(ours)
}

/// A path at which the application answers with the given lines.
pub(crate) fn says(path: &str, lines: &[&str]) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let escaped = lines.join("\n").bytes().map(escape).collect::<String>();
    format!("{path}?answer={escaped}")
}

/// A gateway that runs until it is dropped or stopped.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) log: Log,
    pub(crate) clock: ManualClock,
    pub(crate) received: Received,
    pub(crate) folder: Arc<tempfile::TempDir>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.ask_to_stop();
        (&mut self.task).await.unwrap();
    }

    pub(crate) fn ask_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client { address: self.address, cookie: None, visitor: None }
    }

    pub(crate) fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    /// Takes what the application has received.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.received.lock().unwrap())
    }

    /// The last request that the application has received.
    pub(crate) fn last(&self) -> String {
        self.received.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

/// Starts the gateway in front of an application of [`application`], with a configuration of one's own.
pub(crate) async fn gateway(toml: &str) -> Gateway {
    let (upstream, received) = application().await;
    Gateway { received, ..gateway_before(upstream, toml).await }
}

/// Starts the gateway in front of something else.
pub(crate) async fn gateway_before(upstream: SocketAddr, toml: &str) -> Gateway {
    let clock = ManualClock::new(SystemClock.now().unwrap_or(Timestamp::EPOCH));
    start(upstream, toml, Arc::new(tempfile::tempdir().unwrap()), clock).await
}

/// Starts another gateway on the same store, with the same clock.
pub(crate) async fn gateway_beside(other: &Gateway, upstream: SocketAddr, toml: &str) -> Gateway {
    start(upstream, toml, Arc::clone(&other.folder), other.clock.clone()).await
}

async fn start(
    upstream: SocketAddr,
    toml: &str,
    folder: Arc<tempfile::TempDir>,
    clock: ManualClock,
) -> Gateway {
    let mut raw = Raw::parse(toml).unwrap();
    let listener = serve::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    raw.listen = Some(address.to_string());
    if raw.origin.is_some() {
        // Tests ask for the address, whatever the site is called.
        raw.hosts.push(address.to_string());
    }
    // However slow the machine is, what is written for housekeeping is written.
    raw.limits.housekeeping_timeout.get_or_insert_with(|| "10s".to_owned());
    raw.upstream = Some(format!("http://{upstream}"));
    raw.store = Some(format!("sqlite:{}", folder.path().join("sessions.db").display()).into());
    let config = Config::check(raw).unwrap();
    let log = Log::default();
    let opened =
        serve::open_with(&config, clock.clone(), |builder| builder.observer(log.clone())).await.unwrap();
    let (stop, stopping) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let stopped = async { drop(stopping.await) };
        serve::run(listener, config, opened, stopped).await.unwrap();
    });
    Gateway { address, log, clock, received: Received::default(), folder, stop: Some(stop), task }
}

/// Sends bytes on a connection of its own, and reads until the gateway closes it.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The gateway may close before it has read everything: that is an answer too.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A client with two cookies, the session's and the one that tells visitors apart.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) cookie: Option<String>,
    pub(crate) visitor: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// The first field of a name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).next()
    }

    /// All fields of a name.
    pub(crate) fn fields(&self, name: &str) -> impl Iterator<Item = &str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Client {
    /// A request as this client would send it, from the site's own page.
    pub(crate) fn request(&self, method: &str, path: &str, fields: &[&str]) -> String {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if !fields.iter().any(|field| field.starts_with("Sec-Fetch-Site") || field.starts_with("No-Site")) {
            text.push_str("Sec-Fetch-Site: same-origin\r\n");
        }
        if let Some(visitor) = &self.visitor {
            text.push_str(&format!("Cookie: __Host-Http-sid-csrf={visitor}\r\n"));
        }
        if let Some(cookie) = &self.cookie {
            text.push_str(&format!("Cookie: a=1; __Host-Http-sid={cookie}; b=2\r\n"));
        }
        for field in fields {
            text.push_str(field);
            text.push_str("\r\n");
        }
        if method != "GET"
            && !fields.iter().any(|field| field.to_ascii_lowercase().starts_with("content-length"))
        {
            text.push_str("Content-Length: 0\r\n");
        }
        text.push_str("\r\n");
        text
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str, fields: &[&str]) -> Answer {
        self.send(method, path, fields, "").await
    }

    /// Sends a request with a body.
    pub(crate) async fn send(&mut self, method: &str, path: &str, fields: &[&str], body: &str) -> Answer {
        let length = format!("Content-Length: {}", body.len());
        let mut fields = fields.to_vec();
        if !body.is_empty() {
            fields.push(&length);
        }
        let text = self.request(method, path, &fields) + body;
        let answer = Answer::parse(&raw(self.address, text.as_bytes()).await);
        for cookie in answer.fields("set-cookie") {
            let Some((name, rest)) = cookie.split_once('=') else { continue };
            let value = rest.split(';').next().unwrap_or_default();
            let value = (!value.is_empty()).then(|| value.to_owned());
            match name {
                "__Host-Http-sid" => self.cookie = value,
                "__Host-Http-sid-csrf" => self.visitor = value,
                _ => {}
            }
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    /// Makes the application answer a POST with these lines.
    pub(crate) async fn told(&mut self, lines: &[&str]) -> Answer {
        self.ask("POST", &says("/", lines), &[]).await
    }

    pub(crate) async fn log_in(&mut self, name: &str) -> Answer {
        self.told(&[&format!("Session-Login: \"{name}\"")]).await
    }
}

/// An application of which the test writes every byte.
pub(crate) struct Scripted(TcpListener);

/// A request that has arrived there, and its connection.
pub(crate) struct Exchange {
    pub(crate) head: String,
    pub(crate) stream: TcpStream,
}

impl Scripted {
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Self(listener), address)
    }

    /// The next request's head, lower-case.
    pub(crate) async fn next(&self) -> Exchange {
        let (stream, _) = self.0.accept().await.unwrap();
        let mut exchange = Exchange { head: String::new(), stream };
        while !exchange.head.ends_with("\r\n\r\n") {
            let byte = exchange.stream.read_u8().await.unwrap();
            exchange.head.push(char::from(byte).to_ascii_lowercase());
        }
        exchange
    }
}

impl Exchange {
    pub(crate) async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Answers with some fields and no body, and closes.
    pub(crate) async fn reply(mut self, fields: &str) {
        self.write(&format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n"))
            .await;
    }
}

/// Opens a connection and sends a request's text, without waiting for the answer.
pub(crate) async fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Reads until a text has come.
pub(crate) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        read.push(char::from(stream.read_u8().await.unwrap()));
    }
    read
}
