//! The gateway as a process of its own, an application behind it that answers by hand, and a legitimate
//! client beside the attack.

use std::net::{IpAddr, SocketAddr, TcpListener as Reserved};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{Outcome, descriptors, peak_kib, resident_kib, wire};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two requests of the legitimate client.
const PAUSE: Duration = Duration::from_millis(50);

/// An application's connections.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicU64,
    most: AtomicU64,
    pages: AtomicU64,
    broken: AtomicU64,
}

impl Connections {
    /// The most that were open at a time.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// How often `/page` was asked for.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// How many answers could not be given to their end.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }
}

/// The gateway in front of an application.
#[derive(Debug)]
pub struct Stage {
    gateway: Child,
    /// Where the gateway listens.
    pub address: SocketAddr,
    /// The application's connections.
    pub connections: Arc<Connections>,
    /// The legitimate client's address and fields.
    client: (IpAddr, String),
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Starts both. `workers` is how many connections the application looks at at a time: the others wait, as
    /// with the synchronous workers of many frameworks. `settings` are lines of the gateway's configuration.
    pub async fn set(workers: usize, settings: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        let connections = Arc::new(Connections::default());
        tokio::spawn(serve(listener, Arc::new(Semaphore::new(workers)), Arc::clone(&connections)));
        let address = Reserved::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        let top = format!("listen = \"{address}\"\nupstream = \"http://{upstream}\"\nstore = \"memory\"\n");
        std::fs::write(&file, top + settings).unwrap();
        let gateway = Command::new(std::env::current_exe().unwrap())
            .arg("gateway")
            .arg(&file)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Another address than the attack's: what one has too many of is to be its own trouble.
        let client = (IpAddr::from([127, 0, 0, 2]), String::new());
        let mut stage = Self { gateway, address, connections, client, _folder: folder };
        stage.wait().await;
        stage
    }

    async fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).await.is_err() {
            assert!(self.gateway.try_wait().unwrap().is_none(), "the gateway did not start");
            assert!(Instant::now() < deadline, "the gateway does not listen");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The gateway's process.
    pub fn process(&self) -> u32 {
        self.gateway.id()
    }

    /// Signs the legitimate client in; it comes with `fields`, from where the attack comes from.
    pub async fn sign_in(&mut self, fields: &str) {
        let head = format!("POST /login HTTP/1.1\r\nContent-Length: 0\r\n{fields}");
        let answer =
            wire::exchange(wire::LOCAL, self.address, &head, b"", PATIENCE).await.unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
        let cookie = cookie.split(';').next().unwrap_or_default();
        self.client = (wire::LOCAL, format!("\r\nCookie: {cookie}\r\n{fields}"));
    }

    /// Lets a legitimate client ask now and then while `attack` runs; `counts` are the attack's own.
    pub async fn beside(self, attack: impl Future<Output = Vec<(&'static str, u64)>>) -> Outcome {
        let client = Legitimate::begin(self.address, self.client.clone(), self.process());
        let counts = attack.await;
        let mut outcome = client.end().await;
        outcome.peak_kib = peak_kib(self.process());
        // Those who attacked have gone.
        tokio::time::sleep(Duration::from_secs(1)).await;
        outcome.counts.insert("after_kib", resident_kib(self.process()));
        outcome.counts.insert("upstream_connections", self.connections.most());
        outcome.counts.extend(counts);
        outcome
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.gateway.kill());
        drop(self.gateway.wait());
    }
}

/// Asks again and again, each time over a connection of its own.
struct Legitimate {
    stop: Arc<AtomicU64>,
    task: JoinHandle<Outcome>,
}

impl Legitimate {
    fn begin(to: SocketAddr, (from, fields): (IpAddr, String), process: u32) -> Self {
        let stop = Arc::new(AtomicU64::new(0));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut outcome, mut open) = (Outcome::default(), 0);
            let head = format!("GET /plain HTTP/1.1{fields}");
            while stopped.load(Ordering::Relaxed) == 0 {
                let begun = Instant::now();
                let answer = wire::exchange(from, to, &head, b"", PATIENCE).await;
                match answer.and_then(|answer| wire::status(&answer)) {
                    Some(200) => outcome.waits.push(begun.elapsed()),
                    _ => outcome.refused += 1,
                }
                open = open.max(descriptors(process));
                tokio::time::sleep(PAUSE).await;
            }
            outcome.waits.sort();
            outcome.counts.insert("descriptors", open);
            outcome
        });
        Self { stop, task }
    }

    async fn end(self) -> Outcome {
        self.stop.store(1, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn serve(listener: TcpListener, workers: Arc<Semaphore>, connections: Arc<Connections>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (workers, connections) = (Arc::clone(&workers), Arc::clone(&connections));
        let open = connections.open.fetch_add(1, Ordering::Relaxed) + 1;
        connections.most.fetch_max(open, Ordering::Relaxed);
        tokio::spawn(async move {
            let worker = workers.acquire().await;
            if Box::pin(answer(stream, &connections)).await.is_none() {
                connections.broken.fetch_add(1, Ordering::Relaxed);
            }
            drop(worker);
            connections.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Answers one request and closes.
async fn answer(mut stream: TcpStream, connections: &Connections) -> Option<()> {
    let mut request = Vec::new();
    let head = loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.ok().filter(|length| *length > 0)?;
        request.extend_from_slice(&piece[..length]);
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
    let path = text.split(' ').nth(1)?.to_owned();
    if path == "/early" {
        // Nothing of the body is read, and the connection is closed with it still in the buffers: a reset.
        stream
            .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await
            .ok()?;
        return Some(());
    }
    let length: usize =
        text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let mut left = length.saturating_sub(request.len() - head);
    while left > 0 {
        let mut piece = [0; 4096];
        left -= stream.read(&mut piece).await.ok().filter(|length| *length > 0)?.min(left);
    }
    if path == "/slow" {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    let size: usize = match path.as_str() {
        "/page" => 30_000,
        "/picture" => 700_000,
        "/big" => 6 << 20,
        "/huge" => 64 << 20,
        _ => 2,
    };
    connections.pages.fetch_add(u64::from(path == "/page"), Ordering::Relaxed);
    let login = if path == "/login" { "Session-Login: \"alice\"\r\n" } else { "" };
    stream
        .write_all(
            format!("HTTP/1.1 200 OK\r\n{login}Content-Length: {size}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
        .await
        .ok()?;
    let piece = [b'x'; 65_536];
    let mut left = size;
    while left > 0 {
        let now = left.min(piece.len());
        stream.write_all(&piece[..now]).await.ok()?;
        left -= now;
    }
    Some(())
}
