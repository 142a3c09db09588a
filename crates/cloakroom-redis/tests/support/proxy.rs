//! A wire between the store and a server that can lose an answer.

#![allow(dead_code, clippy::unwrap_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

/// Passes everything on, until it is told to lose an answer: then the server has done what it was asked, and the connection breaks.
pub(crate) struct Proxy {
    port: u16,
    losing: Arc<AtomicBool>,
    connections: Arc<AtomicU32>,
}

impl Proxy {
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (losing, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (flag, count) = (Arc::clone(&losing), Arc::clone(&connections));
        // Ends with the test program.
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass(&from, &to, &AtomicBool::new(false)));
                let flag = Arc::clone(&flag);
                thread::spawn(move || pass(&server, &client, &flag));
            }
        });
        Self { port, losing, connections }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The next answer is lost.
    pub(crate) fn lose_an_answer(&self) {
        self.losing.store(true, Ordering::SeqCst);
    }

    /// Whether an answer was lost since.
    pub(crate) fn has_lost_it(&self) -> bool {
        !self.losing.load(Ordering::SeqCst)
    }

    /// How many connections there were so far.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, losing: &AtomicBool) {
    let mut bytes = [0; 65536];
    loop {
        let count = from.read(&mut bytes).unwrap_or(0);
        if count == 0 || losing.swap(false, Ordering::SeqCst) || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The other direction ends with it.
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}
