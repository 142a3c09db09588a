//! Attacks against the gateway.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::stage::Stage;
use super::wire::{self, Rude};
use super::{Extent, Outcome};

const MANY: usize = 10_000;

/// HEADERS and RST_STREAM, one after the other, on one connection of HTTP/2, for a path that takes its time.
pub async fn resets(extent: Extent) -> Outcome {
    let stage = Stage::set(MANY, "").await;
    let to = stage.address;
    let count = extent.of(300, 3000);
    stage
        .beside(async move {
            let mut sent = 0;
            if let Ok(mut rude) = Rude::connect(to).await {
                for _ in 0..count {
                    let Ok(number) = rude.get("/slow").await else { break };
                    sleep(Duration::from_millis(1)).await;
                    if rude.reset(number).await.is_err() {
                        break;
                    }
                    sent += 1;
                }
                sleep(Duration::from_secs(1)).await;
            }
            vec![("resets", sent)]
        })
        .await
}

/// Connections of HTTP/2 that ask for 200 large answers each, allow all of them, and read none.
pub async fn unread(extent: Extent) -> Outcome {
    let stage = Stage::set(MANY, "").await;
    let to = stage.address;
    let connections = extent.of(1, 5);
    stage
        .beside(async move {
            let (mut held, mut streams) = (Vec::new(), 0);
            for _ in 0..connections {
                let Ok(mut rude) = Rude::connect(to).await else { continue };
                for _ in 0..200 {
                    streams += u64::from(rude.get("/big").await.is_ok());
                }
                held.push(rude);
                sleep(Duration::from_secs(1)).await;
            }
            sleep(Duration::from_secs(extent.of(1, 5))).await;
            vec![("streams", streams)]
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

/// Tokens of the right shape that nobody was given.
pub async fn guessing(extent: Extent) -> Outcome {
    let stage = Stage::set(MANY, "").await;
    let to = stage.address;
    let count = extent.of(500, 5000);
    stage
        .beside(async move {
            let (begun, mut answers) = (Instant::now(), BTreeMap::<_, u64>::new());
            for number in 0..count {
                let token = format!("{number:064}");
                // The name that the gateway uses on loopback and the one that it uses elsewhere.
                let head = format!("GET /plain HTTP/1.1\r\nCookie: __Host-Http-sid={token}");
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
