//! The gateway as a process of its own, an application behind it that answers by hand, and a legitimate
//! client beside the attack.

use std::net::{SocketAddr, TcpListener as Reserved};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{Outcome, descriptors, peak_kib, wire};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two requests of the legitimate client.
const PAUSE: Duration = Duration::from_millis(50);

/// An application's connections.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicU64,
    most: AtomicU64,
}

impl Connections {
    /// The most that were open at a time.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
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
        let mut stage = Self { gateway, address, connections, _folder: folder };
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

    /// Lets a legitimate client ask now and then while `attack` runs; `counts` are the attack's own.
    pub async fn beside(self, attack: impl Future<Output = Vec<(&'static str, u64)>>) -> Outcome {
        let client = Legitimate::begin(self.address, self.process());
        let counts = attack.await;
        let mut outcome = client.end().await;
        outcome.peak_kib = peak_kib(self.process());
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
    fn begin(to: SocketAddr, process: u32) -> Self {
        let stop = Arc::new(AtomicU64::new(0));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut outcome, mut open) = (Outcome::default(), 0);
            while stopped.load(Ordering::Relaxed) == 0 {
                let begun = Instant::now();
                match wire::ask(to, "GET /plain HTTP/1.1", b"", PATIENCE).await {
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
            Box::pin(answer(stream)).await;
            drop(worker);
            connections.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Answers one request and closes.
async fn answer(mut stream: TcpStream) -> Option<()> {
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
    let size: usize = if path == "/big" { 6 << 20 } else { 2 };
    stream
        .write_all(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n").as_bytes(),
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
