//! The examples in other languages, behind the real program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cloakroom_testkit::browser::{Browser, Page};
use cloakroom_testkit::servers::free_port;

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Whether a server answers there. To be connected is not enough: another test's program has, until it has begun, what this one had
/// open when it was made, and that may be the socket that found the free port.
fn answers(port: u16) -> bool {
    let ask = || {
        let mut answer = [0; 4];
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        stream.read_exact(&mut answer)?;
        std::io::Result::Ok(&answer == b"HTTP")
    };
    ask().unwrap_or(false)
}

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(path)
}

/// Starts an example, and the gateway in front of it.
fn start(folder: &Path, interpreter: &str, script: &str) -> (Running, Running, SocketAddr) {
    let port = free_port();
    let app = Command::new(interpreter)
        .arg(example(script))
        .arg(port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{interpreter}: {error}; ./scripts/test installs it"));
    let mut app = Running(app);
    while !answers(port) {
        assert_eq!(app.0.try_wait().unwrap(), None, "{script} stopped by itself");
        std::thread::yield_now();
    }
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_cloakroom"))
        .current_dir(folder)
        .args(["serve", "--listen", "127.0.0.1:0", "--upstream", &format!("http://127.0.0.1:{port}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let line = BufReader::new(gateway.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let address = line.split_once("listening on ").unwrap().1.split(',').next().unwrap().parse().unwrap();
    (app, Running(gateway), address)
}

fn leads_to(page: &Page, path: &str) {
    assert_eq!((page.status.as_u16(), page.header("location")), (303, Some(path)), "{page:?}");
}

fn works(interpreter: &str, script: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (_app, _gateway, address) = start(folder.path(), interpreter, script);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (name, password) in [("alice", "wonderland-42"), ("zoë", "builder-42")] {
            let mut browser = Browser::new(address);
            leads_to(&browser.get("/private").await, "/login");
            let wrong = browser.post("/login", &[("username", name), ("password", "wrong")]).await;
            let cookie = wrong.header("set-cookie").unwrap_or_default();
            assert!(
                cookie.is_empty() || cookie.starts_with("__Host-Http-sid-csrf="),
                "no session: {wrong:?}"
            );
            let login = browser.post("/login", &[("username", name), ("password", password)]).await;
            assert_eq!(login.status, 303, "{login:?}");
            assert!(browser.jar.field().unwrap().starts_with("__Host-Http-sid="), "and no other: {login:?}");
            assert_eq!(login.header("session-login"), None, "commands stay between application and gateway");
            browser.post("/mood", &[("mood", "\"quoted\" \\ žluťoučký")]).await;
            let private = browser.get("/private").await;
            assert!(private.body.contains(name), "{private:?}");
            assert!(private.body.contains("žluťoučký") && private.body.contains('\\'), "{private:?}");
            assert_eq!(private.header("cache-control"), Some("no-store"));
            let kept = browser.clone();
            let out = browser.post("/logout", &[]).await;
            leads_to(&out, "/.cloakroom/signed-out");
            assert!(browser.jar.field().is_none());
            leads_to(&kept.clone().get("/private").await, "/login");
        }
    });
}

#[test]
fn r054_the_python_example_signs_in_keeps_a_value_and_signs_out() {
    works("python3", "gateway-python/app.py");
}

#[test]
fn r054_the_node_example_signs_in_keeps_a_value_and_signs_out() {
    works("node", "gateway-node/app.mjs");
}
