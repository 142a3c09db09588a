//! How the gateway stops, and what signals do to it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports by panicking")]

mod harness;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use harness::gateway;

#[tokio::test]
async fn while_it_drains_the_gateway_serves_on_and_says_that_it_is_not_ready() {
    let mut gateway = gateway("[shutdown]\ndrain = \"1h\"").await;
    let mut client = gateway.client();
    assert_eq!(client.get("/.cloakroom/ready").await.status, 200);
    gateway.ask_to_stop();
    // The word travels by itself; what is asked is answered all along.
    let answer = loop {
        let answer = client.get("/.cloakroom/ready").await;
        if answer.status == 503 {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert!(answer.field("content-security-policy").is_some(), "{answer:?}");
    assert_eq!(client.get("/.cloakroom/live").await.status, 200, "or a supervisor would end it");
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(client.log_in("alice").await.status, 200);
}

#[tokio::test]
async fn who_sends_a_body_that_is_refused_sees_the_refusal_over_http_1() {
    let gateway = gateway("[[route]]\npath = \"/up\"\nrequire = \"authenticated\"").await;
    let address = gateway.address;
    let answers =
        tokio::task::spawn_blocking(move || (0..4).map(|_| upload(address, 8 << 20)).collect::<Vec<_>>());
    for answer in answers.await.unwrap() {
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

/// Sends all of a body before it reads, as browsers do.
fn upload(address: std::net::SocketAddr, bytes: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /up HTTP/1.1\r\nHost: {address}\r\nSec-Fetch-Site: same-origin\r\nContent-Length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b'x'; bytes]).expect("the whole body is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer arrives");
    answer
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_cloakroom");
const SERVE: [&str; 7] =
    ["serve", "--store", "memory", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:9"];

/// The program, in front of nothing.
struct Program {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Program {
    fn start() -> Self {
        Self::run(Command::new(PROGRAM).args(SERVE))
    }

    fn run(command: &mut Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            command.current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split(['/', ' ', ',', '\n']).find(|word| word.starts_with("127.0.0.1:"));
        Self { child, address: address.unwrap().to_owned(), _folder: folder }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// Reads the log until it says this.
    fn until(&mut self, text: &str) {
        let log = BufReader::new(self.child.stderr.as_mut().unwrap());
        assert!(log.lines().map_while(Result::ok).any(|line| line.contains(text)), "{text}");
    }

    fn ready(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request =
            format!("GET /.cloakroom/ready HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_hangup_never_ends_the_gateway_and_a_request_to_terminate_does() {
    let mut program = Program::start();
    program.signal("HUP");
    program.until("SIGHUP: there is no certificate");
    assert!(program.ready().starts_with("HTTP/1.1 200 "));
    program.signal("TERM");
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_gateway_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.toml"), "store = \"memory\"\n[shutdown]\ndrain = \"24h\"").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cloakroom"))
        .args(["serve", "--config", "a.toml", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:9"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let mut program = Program { child, address: String::new(), _folder: folder };
    program.signal("TERM");
    program.until("serving for shutdown.drain");
    program.signal("INT");
    assert_eq!(program.child.wait().unwrap().code(), Some(2));
}

/// Each connection takes a descriptor, and its way to the application another.
#[cfg(target_os = "linux")]
#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_may_be_by_whatever_serves() {
    let demo = ["demo", "--listen", "127.0.0.1:0"];
    for arguments in [&SERVE[..], &demo] {
        let mut shell = Command::new("sh");
        // The program takes the shell's place, and its number.
        shell.args(["-c", "ulimit -Sn 200 && exec \"$0\" \"$@\"", PROGRAM]).args(arguments);
        let program = Program::run(&mut shell);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.child.id())).unwrap();
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let [soft, hard] = [0, 1].map(|at| limit.split_whitespace().nth(at).unwrap());
        assert!(soft == hard && soft != "200", "{arguments:?}: {soft} of {hard}");
    }
}

#[test]
fn a_flood_of_connections_that_are_turned_away_does_not_flood_the_log() {
    let mut shell = Command::new(PROGRAM);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    std::fs::write(&file, "[limits]\nconnections = 1").unwrap();
    let mut program = Program::run(shell.args(SERVE).arg("--config").arg(file));
    // Or it would wait for somebody to read: the events are lines, too.
    let mut stderr = program.child.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).map(|_| log).unwrap()
    });
    let _only = TcpStream::connect(&program.address).unwrap();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(&program.address).unwrap();
        // It is closed without a word.
        drop(stream.read_to_end(&mut Vec::new()));
    }
    program.child.kill().unwrap();
    let log = reading.join().unwrap();
    let lines = log.lines().filter(|line| line.contains("connection closed")).count();
    // One a second is said, and these two hundred take some tenths of one.
    assert!((1..100).contains(&lines), "{lines} lines");
}
