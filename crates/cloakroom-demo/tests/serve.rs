//! The application on a socket of its own.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io;

use cloakroom_demo::{Options, Secret};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

fn options(folder: &tempfile::TempDir) -> Options {
    Options::new(folder.path().join("notes.json"), Secret::new("0123456789abcdef").unwrap())
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let folder = tempfile::tempdir().unwrap();
    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = cloakroom_demo::serve(everywhere, options(&folder), async {}).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn it_serves_until_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(cloakroom_demo::serve(listener, options(&folder), async {
        let _ = stopped.await;
    }));
    let answer = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 403"));
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
