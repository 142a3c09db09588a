//! TLS in front: HTTP/2 and HTTP/1.1, and certificates that are loaded again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod harness;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom_server::tls::Certificate;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Gateway, gateway, raw, says};

/// Writes a certificate for `localhost` and its key.
fn certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

async fn secure(folder: &Path) -> Gateway {
    secure_with(folder, "").await
}

async fn secure_with(folder: &Path, more: &str) -> Gateway {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let toml = format!("origin = \"https://localhost\"\n[tls]\ncert = {cert:?}\nkey = {key:?}\n{more}");
    gateway(&toml).await
}

async fn connect(
    gateway: &Gateway,
    trusted: &CertificateDer<'static>,
    protocol: &[u8],
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn r032_r123_http_2_over_tls_has_sessions_and_split_cookies_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = certificate(folder.path());
    let gateway = secure(folder.path()).await;
    let stream = connect(&gateway, &trusted, b"h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let ask = |method: &str, path: &str, cookies: &[&str]| {
        let mut request = Request::builder()
            .method(method)
            .version(Version::HTTP_2)
            .uri(format!("https://localhost{path}"))
            .header("sec-fetch-site", "same-origin");
        for cookie in cookies {
            request = request.header("cookie", *cookie);
        }
        request.body(Empty::<Bytes>::new()).unwrap()
    };
    let login = says("/", &["Session-Login: \"alice\""]);
    let answer = sender.send_request(ask("POST", &login, &[])).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let answer = sender.send_request(ask("GET", "/", &["a=1", &cookie, "b=2"])).await.unwrap();
    let body = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    for part in
        ["session-subject: \"alice\"", "cookie: a=1; b=2", "host: localhost", "x-forwarded-proto: https"]
    {
        assert!(body.contains(part), "{part}:\n{body}");
    }
}

#[tokio::test]
async fn r123_a_plain_client_gets_nothing_from_a_tls_port() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let gateway = secure(folder.path()).await;
    let answer = raw(gateway.address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
    assert!(gateway.take().is_empty());
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let gateway = secure_with(folder.path(), "[limits]\ntls_timeout = \"100ms\"").await;
    // Nothing, and the beginning of a handshake's first record.
    for sent in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "{} is waited for", sent.escape_ascii());
    }
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_restart_and_bad_files_leave_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let loaded = Certificate::load(&cert, &key).unwrap();
    let first = loaded.leaf();
    certificate(folder.path());
    loaded.reload().unwrap();
    let second = loaded.leaf();
    assert_ne!(first, second);
    std::fs::write(&cert, "no certificate").unwrap();
    let error = format!("{:#}", loaded.reload().unwrap_err());
    assert!(error.contains("tls.cert"), "{error}");
    assert_eq!(loaded.leaf(), second);
}

#[test]
fn a_key_that_does_not_fit_its_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let cert = std::fs::read(folder.path().join("cert.pem")).unwrap();
    certificate(folder.path());
    std::fs::write(folder.path().join("cert.pem"), cert).unwrap();
    let loaded = Certificate::load(&folder.path().join("cert.pem"), &folder.path().join("key.pem"));
    assert!(format!("{:#}", loaded.unwrap_err()).contains("does not fit"), "a clear word");
}
