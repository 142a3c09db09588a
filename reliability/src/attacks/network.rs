//! Attacks against the gateway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::stage::Stage;
use super::wire::{self, Rude};
use super::{Extent, Outcome};

const MANY: usize = 10_000;

/// Nothing: what the legitimate client waits where nobody attacks.
pub async fn quiet(extent: Extent) -> Outcome {
    let stage = Stage::set(MANY, "").await;
    stage
        .beside(async move {
            sleep(Duration::from_secs(extent.of(1, 10))).await;
            Vec::new()
        })
        .await
}

/// Connections of HTTP/1.1 that ask for a path that takes its time, and are reset.
pub async fn aborts(extent: Extent) -> Outcome {
    let stage = Stage::set(MANY, "").await;
    let to = stage.address;
    let count = extent.of(400, 3000);
    stage
        .beside(async move {
            let (head, mut sent) = (format!("GET /slow HTTP/1.1\r\nHost: {to}\r\n\r\n"), 0);
            for _ in 0..count {
                let Ok(mut stream) = TcpStream::connect(to).await else { continue };
                if stream.write_all(head.as_bytes()).await.is_ok() && stream.set_zero_linger().is_ok() {
                    // Long enough for it to be read.
                    sleep(Duration::from_millis(2)).await;
                    sent += 1;
                }
            }
            sleep(Duration::from_secs(1)).await;
            vec![("aborts", sent)]
        })
        .await
}

/// HEADERS and RST_STREAM, one after the other, over HTTP/2, for a path that takes its time; on one connection
/// for as long as it lasts, then on another.
pub async fn resets(extent: Extent) -> Outcome {
    let stage = Stage::set(MANY, "").await;
    let to = stage.address;
    let count = extent.of(400, 3000);
    stage
        .beside(async move {
            let (mut sent, mut connections) = (0, 0);
            while sent < count && connections < count {
                connections += 1;
                let Ok(mut rude) = Rude::connect(to).await else { continue };
                while sent < count {
                    let Ok(number) = rude.get("/slow").await else { break };
                    sleep(Duration::from_millis(1)).await;
                    if rude.reset(number).await.is_err() {
                        break;
                    }
                    sent += 1;
                }
                if sent == count {
                    sleep(Duration::from_secs(1)).await;
                }
            }
            vec![("resets", sent), ("connections", connections)]
        })
        .await
}

/// Connections of HTTP/2 that ask for 200 large answers each, allow all of them, and read none; in full, again once
/// they have gone.
pub async fn unread(extent: Extent) -> Outcome {
    let stage = Stage::set(MANY, "").await;
    let to = stage.address;
    let connections = extent.of(1, 5);
    stage
        .beside(async move {
            let mut streams = 0;
            for _ in 0..extent.of(1, 2) {
                let mut held = Vec::new();
                for _ in 0..connections {
                    let Ok(mut rude) = Rude::connect(to).await else { continue };
                    for _ in 0..200 {
                        streams += u64::from(rude.get("/big").await.is_ok());
                    }
                    held.push(rude);
                    sleep(Duration::from_secs(1)).await;
                }
                sleep(Duration::from_secs(extent.of(1, 5))).await;
            }
            vec![("streams", streams)]
        })
        .await
}

/// Connections of HTTP/2 that ask for 100 small answers each, and leave room for one byte of each.
pub async fn parked(extent: Extent) -> Outcome {
    let stage = Stage::set(MANY, "").await;
    let (to, application) = (stage.address, Arc::clone(&stage.connections));
    let connections = extent.of(10, 100);
    stage
        .beside(async move {
            let (mut held, mut streams) = (Vec::new(), 0);
            for _ in 0..connections {
                let Ok(mut rude) = Rude::allowing(to, 1).await else { continue };
                for _ in 0..100 {
                    streams += u64::from(rude.get("/page").await.is_ok());
                }
                held.push(rude);
                sleep(Duration::from_millis(200)).await;
            }
            sleep(Duration::from_secs(1)).await;
            vec![("streams", streams), ("answers", application.pages())]
        })
        .await
}

/// Four answers that fit into the gateway and one that does not, of which nothing is read, in front of an
/// application with two workers.
pub async fn readers(extent: Extent) -> Outcome {
    let stage = Stage::set(2, extent.of("[limits]\nrate_grace = \"500ms\"\n", "")).await;
    let (to, application) = (stage.address, Arc::clone(&stage.connections));
    stage
        .beside(async move {
            let (mut held, begun) = (Vec::new(), Instant::now());
            for path in ["/picture", "/picture", "/picture", "/picture", "/huge"] {
                let Ok(mut stream) = wire::connect(wire::LOCAL, to, Some(4096)).await else { continue };
                let head = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
                if stream.write_all(head.as_bytes()).await.is_ok() {
                    held.push(stream);
                }
            }
            while application.broken() == 0 && begun.elapsed() < Duration::from_secs(90) {
                sleep(Duration::from_millis(50)).await;
            }
            vec![("cut_off", application.broken()), ("after_s", begun.elapsed().as_secs())]
        })
        .await
}

/// Heads of HTTP/2 with one cookie of 3.5 KB that stands there ten thousand times at a byte each; an honest one
/// with 150 small cookies after each.
pub async fn crumbs(extent: Extent) -> Outcome {
    let stage = Stage::set(MANY, "").await;
    let to = stage.address;
    let count = extent.of(20, 1000);
    stage
        .beside(async move {
            // Cookie is the 32nd name that everybody knows; the value becomes the first of the connection's table.
            let mut bomb = vec![0x60, 0x7f];
            bomb.extend([0xad, 0x1a]);
            bomb.extend([b'a'; 3500]);
            bomb.extend([0xbe; 10_000]);
            let honest: Vec<u8> =
                (0..150).flat_map(|at| wire::field("cookie", &format!("c{at}=v"))).collect();
            let (mut taken, mut served) = (0, 0);
            for _ in 0..count {
                for (block, passed) in [(&bomb, &mut taken), (&honest, &mut served)] {
                    let Ok(mut rude) = Rude::connect(to).await else { continue };
                    let Ok(number) = rude.get_with("/plain", block).await else { continue };
                    *passed += u64::from(rude.is_served(number).await);
                }
            }
            vec![("bombs", count), ("taken", taken), ("honest_served", served)]
        })
        .await
}

/// Four uploads at a byte a second, in front of an application with two workers.
pub async fn uploads(extent: Extent) -> Outcome {
    let stage = Stage::set(2, "").await;
    let to = stage.address;
    let seconds = extent.of(2, 12);
    stage
        .beside(async move {
            let mut held = Vec::new();
            let head = format!("POST /form HTTP/1.1\r\nHost: {to}\r\nContent-Length: 100000\r\n\r\na");
            for _ in 0..4 {
                let Ok(mut stream) = TcpStream::connect(to).await else { continue };
                if stream.write_all(head.as_bytes()).await.is_ok() {
                    held.push(stream);
                }
            }
            for _ in 0..seconds {
                sleep(Duration::from_secs(1)).await;
                for stream in &mut held {
                    drop(stream.write_all(b"x").await);
                }
            }
            vec![("uploads", 4)]
        })
        .await
}

/// Bodies of 60 KB for an application that says 413 without reading them, and closes.
pub async fn early(extent: Extent) -> Outcome {
    let stage = Stage::set(MANY, "").await;
    let to = stage.address;
    let count = extent.of(40, 400);
    stage
        .beside(async move {
            let (body, mut answers) = (vec![b'a'; 60_000], BTreeMap::<_, u64>::new());
            for _ in 0..count {
                let head = format!("POST /early HTTP/1.1\r\nContent-Length: {}", body.len());
                *answers.entry(wire::ask(to, &head, &body, Duration::from_secs(10)).await).or_default() += 1;
            }
            let of = |status| answers.get(&status).copied().unwrap_or_default();
            let known = of(Some(413)) + of(Some(502)) + of(None);
            vec![
                ("passed_on", of(Some(413))),
                ("bad_gateway", of(Some(502))),
                ("unanswered", of(None)),
                ("other", answers.values().sum::<u64>() - known),
            ]
        })
        .await
}

/// Tokens of the right shape that nobody was given, from the network of a client who is signed in.
pub async fn guessing(extent: Extent) -> Outcome {
    // Loopback is not counted as a network, because everybody behind a proxy comes from there.
    let settings =
        "trusted_proxies = [\"127.0.0.1\"]\n[[route]]\npath = \"/plain\"\nrequire = \"authenticated\"\n";
    let mut stage = Stage::set(MANY, settings).await;
    let network = "X-Forwarded-For: 203.0.113.7";
    stage.sign_in(network).await;
    let to = stage.address;
    let count = extent.of(500, 5000);
    stage
        .beside(async move {
            let (begun, mut answers) = (Instant::now(), BTreeMap::<_, u64>::new());
            for number in 0..count {
                let token = format!("{number:064}");
                let head = format!("GET /open HTTP/1.1\r\n{network}\r\nCookie: __Host-Http-sid={token}");
                *answers.entry(wire::ask(to, &head, b"", Duration::from_secs(10)).await).or_default() += 1;
            }
            let of = |status| answers.get(&status).copied().unwrap_or_default();
            let seconds = begun.elapsed().as_secs().max(1);
            vec![
                ("looked_up", of(Some(200))),
                ("throttled", of(Some(503))),
                ("guesses_per_second", count / seconds),
            ]
        })
        .await
}
