//! Servers under load: started, asked, and watched by the processor time that they take.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::serve::LARGE;

/// A server of ours, or a peer's, ended when dropped.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
}

impl Server {
    /// Starts a program that prints its port.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("{command:?}"))?;
        let mut line = String::new();
        let out = child.stdout.take().context("the server's output")?;
        BufReader::new(out).read_line(&mut line)?;
        let port = line.trim().parse().with_context(|| format!("{command:?} printed no port"));
        match port {
            Ok(port) => Ok(Self { child, port }),
            Err(error) => {
                drop(child.kill());
                drop(child.wait());
                Err(error)
            }
        }
    }

    /// Starts a program that listens on a port that was chosen for it.
    pub(super) fn start_on(command: &mut Command, port: u16) -> Result<Self> {
        let child = command.stdout(Stdio::null()).spawn().with_context(|| format!("{command:?}"))?;
        let server = Self { child, port };
        for _ in 0..2_000 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        anyhow::bail!("{command:?} does not listen");
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Politely first: nginx passes it on to its workers.
        drop(Command::new("kill").arg(self.child.id().to_string()).status());
        for _ in 0..400 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A connection that is kept open.
pub(super) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(super) fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(super) fn ask(&mut self, method: &str, path: &str, cookie: Option<&str>) -> Result<String> {
        let cookie = cookie.map(|cookie| format!("cookie: {cookie}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nsec-fetch-site: same-origin\r\ncontent-length: 0\r\n{cookie}\r\n"
        );
        self.0.get_mut().write_all(head.as_bytes())?;
        let (mut text, mut length) = (String::new(), 0);
        loop {
            let begin = text.len();
            ensure!(self.0.read_line(&mut text)? > 0, "the server closed the connection");
            let line = text.get(begin..).unwrap_or_default().trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        text.push_str(&String::from_utf8_lossy(&body));
        Ok(text)
    }
}

/// Passes a large body through a gateway, to the client or to the application, and returns its bytes a second.
pub(super) fn pass(port: u16, way: Way, cookie: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let mut piece = vec![b'x'; 1 << 18];
    let begin = std::time::Instant::now();
    let (line, length) = match way {
        Way::Down => ("GET /large", 0),
        Way::Up => ("POST /sink", LARGE),
    };
    write!(
        stream,
        "{line} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nsec-fetch-site: same-origin\r\ncontent-length: {length}\r\ncookie: {cookie}\r\n\r\n"
    )?;
    for _ in 0..length / piece.len() {
        stream.write_all(&piece)?;
    }
    let (mut taken, mut end) = (0, Vec::new());
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            break;
        }
        taken += read;
        if let Way::Up = way {
            end.extend_from_slice(piece.get(..read).unwrap_or_default());
        }
    }
    let whole = match way {
        Way::Down => taken > LARGE,
        Way::Up => end.ends_with(LARGE.to_string().as_bytes()),
    };
    ensure!(whole, "{line}: {taken} bytes came back: {}", String::from_utf8_lossy(&end));
    Ok(LARGE as f64 / begin.elapsed().as_secs_f64())
}

/// Which way a large body goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Down,
    Up,
}

/// The `name=value` pairs of a response's cookies, as one `Cookie` field.
pub(super) fn cookies(response: &str) -> String {
    let set = response.lines().filter(|line| line.to_ascii_lowercase().starts_with("set-cookie:"));
    let pairs = set.filter_map(|line| Some(crate::app::pair(line.split_once(':')?.1.trim())));
    pairs.collect::<Vec<_>>().join("; ")
}

/// The processor time, in microseconds, of a process, its threads, and all processes that it has started.
pub(super) fn processor_time(pid: u32) -> Result<f64> {
    let mut total = 0.0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(other) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if other == pid || parent(other) == Some(pid) {
            total += of_process(other);
        }
    }
    Ok(total)
}

/// The memory, in bytes, that a process and all processes that it has started hold for themselves.
pub(super) fn resident(pid: u32) -> Result<f64> {
    let mut pages = 0.0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(other) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if other == pid || parent(other) == Some(pid) {
            let text = std::fs::read_to_string(format!("/proc/{other}/statm")).unwrap_or_default();
            let figures = text.split_whitespace().filter_map(|figure| figure.parse::<f64>().ok());
            let figures = figures.collect::<Vec<_>>();
            // All in memory, without what is shared with others.
            pages += figures.get(1).unwrap_or(&0.0) - figures.get(2).unwrap_or(&0.0);
        }
    }
    Ok(pages * 4096.0)
}

fn parent(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// By the scheduler's own counter, in nanoseconds, thread by thread.
fn of_process(pid: u32) -> f64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let of_thread = |path: &Path| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    tasks.filter_map(|task| of_thread(&task.ok()?.path())).sum::<f64>() / 1_000.0
}

/// What the load generator found in one run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) per_second: f64,
    pub(super) requests: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

/// Loads a port for `seconds` with 16 connections.
pub(super) fn wrk(
    script: &Path,
    port: u16,
    seconds: u32,
    method: &str,
    path: &str,
    cookies: Option<&Path>,
) -> Result<Load> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c16", &format!("-d{seconds}s"), "-s"]).arg(script);
    command.arg(format!("http://127.0.0.1:{port}")).args(["--", method, path]).args(cookies);
    let output = command.output().context("wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("figures\t"));
    let line = line.with_context(|| format!("wrk printed no figures:\n{text}"))?;
    let figures = line.split('\t').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let [requests, duration, bad, p50, p99, p999] = figures.as_slice() else { anyhow::bail!("six figures") };
    ensure!(*bad == 0.0, "{bad} of {requests} requests to {path} failed");
    Ok(Load { per_second: requests / duration * 1e6, requests: *requests, p50: *p50, p99: *p99, p999: *p999 })
}
