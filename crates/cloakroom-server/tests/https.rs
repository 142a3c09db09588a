//! Over https: sessions that share an HTTP/2 connection, streams that are reset, WebSockets, and new certificates as clients see
//! them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cloakroom_server::tls::Certificate;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Gateway, Scripted, gateway, gateway_before, raw, read_until, says};

/// Writes a certificate of its own for localhost and its key, and returns the configuration that uses them.
fn certificate(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    format!("origin = \"https://localhost\"\n[tls]\ncert = '{}'\nkey = '{}'", cert.display(), key.display())
}

async fn connect(
    address: SocketAddr,
    folder: &Path,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn http2(gateway: &Gateway, folder: &Path) -> SendRequest<Full<Bytes>> {
    let stream = connect(gateway.address, folder, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: &str, path: &str, cookies: &[&str]) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .version(Version::HTTP_2)
        .header("sec-fetch-site", "same-origin");
    for cookie in cookies {
        request = request.header("cookie", *cookie);
    }
    request.body(Full::default()).unwrap()
}

fn token(response: &Response<Incoming>) -> String {
    let cookie = response.headers().get("set-cookie").unwrap().to_str().unwrap();
    assert!(cookie.starts_with("__Host-Http-sid=") && cookie.contains("; Secure"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn r123_http_2_over_tls_carries_sessions_and_its_cookie_crumbs_are_one_field() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(&certificate(folder.path())).await;
    let mut client = http2(&gateway, folder.path()).await;
    let login =
        client.send_request(request("POST", &says("/", &["Session-Login: \"alice\""]), &[])).await.unwrap();
    assert_eq!((login.status(), login.version()), (StatusCode::OK, Version::HTTP_2));
    assert!(!login.headers().keys().any(|name| name.as_str().starts_with("session-")));
    let session = token(&login);
    login.into_body().collect().await.unwrap();
    let page = client.send_request(request("GET", "/page", &["a=1", &session, "b=2", "c=3"])).await.unwrap();
    assert_eq!(page.headers()["cache-control"], "no-store");
    page.into_body().collect().await.unwrap();
    let told = gateway.last();
    for part in [
        "cookie: a=1; b=2; c=3\n",
        "host: localhost\n",
        "x-forwarded-proto: https\n",
        "session-subject: \"alice\"\n",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    assert!(!told.contains(&session["__Host-Http-sid=".len()..]), "{told}");
    // Two sessions' requests on one connection at once keep apart.
    let mut other = client.clone();
    let (alice, stranger) = tokio::join!(
        client.send_request(request("GET", "/a", &[&session])),
        other.send_request(request("GET", "/b", &[]))
    );
    let text = async |response: Response<Incoming>| {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    let (alice, stranger) = (text(alice.unwrap()).await, text(stranger.unwrap()).await);
    assert!(alice.starts_with("GET /a") && alice.contains("alice"), "{alice}");
    assert!(stranger.starts_with("GET /b") && !harness::of_a_session(&stranger), "{stranger}");
}

/// A request of which the authority and the field `Host` are chosen.
fn to_host(path: &str, authority: &str, host: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = request("GET", path, &[]);
    *request.uri_mut() = format!("https://{authority}{path}").parse().unwrap();
    if let Some(host) = host {
        request.headers_mut().insert("host", host.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn r075_r130_over_http_2_too_only_the_deployments_hosts_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(&certificate(folder.path())).await;
    let mut client = http2(&gateway, folder.path()).await;
    for (what, path, authority, host, status) in [
        ("another name", "/", "evil.test", None, 421),
        ("another port", "/", "localhost:8443", None, 421),
        ("the port of plain http", "/", "localhost:80", None, 421),
        ("a name that ends like ours", "/", "x.localhost", None, 421),
        ("a name that begins like ours", "/", "localhost.evil.test", None, 421),
        ("another name in both", "/", "evil.test", Some("evil.test"), 421),
        ("the gateway's own pages", "/.cloakroom/sessions", "evil.test", None, 421),
        ("ours in the authority, another in Host", "/", "localhost", Some("evil.test"), 400),
        ("another in the authority, ours in Host", "/", "evil.test", Some("localhost"), 400),
        ("two spellings of ours", "/", "localhost", Some("localhost:443"), 400),
        ("a name before it", "/", "evil.test@localhost", None, 400),
    ] {
        let answer = client.send_request(to_host(path, authority, host)).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{what}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("evil"), "{what}");
        assert_eq!(gateway.log.take().len(), 1, "{what}: one event");
    }
    assert!(gateway.take().is_empty(), "nothing arrived");
    for (authority, host) in
        [("localhost", None), ("LOCALHOST", None), ("localhost.:443", None), ("localhost", Some("Localhost"))]
    {
        let answer = client.send_request(to_host("/", authority, host)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{authority} {host:?}");
        let told = gateway.last();
        assert!(told.contains("\nhost: localhost\n"), "{authority} {host:?}: {told}");
        assert!(told.contains("\nx-forwarded-host: localhost\n"), "{authority} {host:?}: {told}");
    }
    // Probes send addresses.
    let probe = client.send_request(to_host("/.cloakroom/ready", "10.1.2.3", None)).await.unwrap();
    assert_eq!(probe.status(), StatusCode::OK);
}

#[tokio::test]
async fn r054_a_logout_is_carried_out_though_its_http_2_stream_was_reset() {
    let folder = tempfile::tempdir().unwrap();
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, &certificate(folder.path())).await;
    let mut client = http2(&gateway, folder.path()).await;
    let (login, ()) = tokio::join!(client.send_request(request("POST", "/login", &[])), async {
        application.next().await.reply("Session-Login: \"alice\"\r\n").await;
    });
    let session = token(&login.unwrap());
    gateway.log.take();
    let mut asked = Box::pin(client.send_request(request("POST", "/logout", &[&session])));
    let exchange = tokio::select! {
        _ = &mut asked => panic!("nothing was answered"),
        exchange = application.next() => exchange,
    };
    drop(asked);
    exchange.reply("Session-Logout: this\r\n").await;
    let due = async {
        while !gateway.log.take().contains(&"session_logged_out") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), due).await.expect("a logout");
    let (_, head) = tokio::join!(client.send_request(request("GET", "/", &[&session])), async {
        let exchange = application.next().await;
        let head = exchange.head.clone();
        exchange.reply("").await;
        head
    });
    assert!(!harness::of_a_session(&head), "{head}");
}

#[tokio::test]
async fn certificates_are_replaced_while_running_and_bad_files_leave_the_old_one_in_use() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let certificate_in_use = Certificate::load(&cert, &key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(certificate_in_use.server().unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Whether a client that trusts only what is in the folder gets through.
    let works = async |trusted: &Path| {
        let accept = async { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() };
        tokio::join!(connect(address, trusted, b"h2"), accept).0.is_ok()
    };
    assert!(works(folder.path()).await);
    let old = tempfile::tempdir().unwrap();
    std::fs::copy(&cert, old.path().join("cert.pem")).unwrap();
    for (file, text) in [(&cert, "nonsense"), (&key, ""), (&cert, "")] {
        std::fs::write(file, text).unwrap();
        assert!(certificate_in_use.reload().is_err());
        assert!(works(old.path()).await, "the old one stays in use");
    }
    // A key that belongs to another certificate.
    certificate(folder.path());
    let kept = std::fs::read(&key).unwrap();
    certificate(folder.path());
    std::fs::write(&key, kept).unwrap();
    assert!(certificate_in_use.reload().is_err());
    assert!(works(old.path()).await);
    certificate(folder.path());
    certificate_in_use.reload().unwrap();
    assert!(works(folder.path()).await);
    assert!(!works(old.path()).await, "the old one is gone");
}

#[tokio::test]
async fn r128_a_websocket_has_the_session_of_its_page_and_passes_over_tls_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (application, address) = Scripted::start().await;
    let gateway = gateway_before(address, &certificate(folder.path())).await;
    let mut page = connect(gateway.address, folder.path(), b"http/1.1").await.unwrap();
    let login =
        "POST /login HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\nContent-Length: 0\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut page, login.as_bytes()).await.unwrap();
    application.next().await.reply("Session-Login: \"alice\"\r\n").await;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(page.read_u8().await.unwrap()));
    }
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = cookie.split(';').next().unwrap();

    let text = "GET /socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                Origin: https://localhost\r\n";
    let text = format!("{text}Cookie: {cookie}\r\n\r\n");
    let plain = raw(gateway.address, text.as_bytes()).await;
    assert!(!plain.contains("HTTP/1.1"), "{plain}");
    let mut stream = connect(gateway.address, folder.path(), b"http/1.1").await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, text.as_bytes()).await.unwrap();
    let mut exchange = application.next().await;
    assert!(exchange.head.contains("session-subject: \"alice\""), "{}", exchange.head);
    exchange.write("HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(stream.read_u8().await.unwrap()));
    }
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"ping").await.unwrap();
    read_until(&mut exchange.stream, "ping").await;
    exchange.write("pong").await;
    let mut pong = [0; 4];
    stream.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"pong");
}

/// Runs a connection's tasks until they are cut off.
#[derive(Clone, Default)]
struct Tasks(Arc<std::sync::Mutex<tokio::task::JoinSet<()>>>);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.lock().unwrap().spawn(async { drop(task.await) });
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_a_command_though_its_connection_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (application, address) = Scripted::start().await;
    let mut gateway = gateway_before(address, &certificate(folder.path())).await;
    let stream = connect(gateway.address, folder.path(), b"h2").await.unwrap();
    let tasks = Tasks::default();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(tasks.clone(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let asked =
        tokio::spawn(async move { client.send_request(request("POST", "/login", &[])).await.is_ok() });
    let exchange = application.next().await;
    connection.abort();
    tasks.0.lock().unwrap().abort_all();
    assert!(!asked.await.unwrap(), "the client gets nothing");
    gateway.ask_to_stop();
    let log = gateway.log.clone();
    let stopped = tokio::spawn(gateway.stop());
    // Time enough for a gateway that would not wait.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert!(!stopped.is_finished());
    exchange.reply("Session-Login: \"alice\"\r\n").await;
    stopped.await.unwrap();
    assert!(log.take().contains(&"authn_login_success"), "obeyed before the end");
}
