//! The clients' side: how connections come in, and how many there may be.

mod connections;
mod files;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

pub(crate) use self::connections::{Connections, Written};
pub use self::files::prepare;

/// How long to wait where the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from.
pub(crate) trait Accept {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>>;
}

impl Accept for TcpListener {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> {
        Self::accept(self)
    }
}

/// The next connection. Whatever goes wrong meanwhile ends nothing, and does not spin.
pub(crate) async fn next(listener: &impl Accept) -> (TcpStream, SocketAddr) {
    let mut told = false;
    loop {
        let error = match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => error,
        };
        if let io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::Interrupted = error.kind()
        {
            // A client that gave up: the next one is not to wait for it.
            continue;
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(
                target: "cloakroom::gateway", %error,
                "connections are not accepted; tried again until there is room"
            );
        }
        // Out of descriptors or memory: let others finish.
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    /// Fails with these, the last first, and then accepts.
    struct Failing(TcpListener, Mutex<Vec<io::ErrorKind>>);

    impl Accept for Failing {
        async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            let failure = self.1.lock().unwrap().pop();
            match failure {
                Some(kind) => Err(kind.into()),
                None => self.0.accept().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_cannot_be_accepted_ends_nothing_and_is_tried_again_after_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kinds = [
            (vec![io::ErrorKind::ConnectionAborted; 1000], 0),
            (vec![io::ErrorKind::Other; 10], 10),
            (vec![io::ErrorKind::OutOfMemory, io::ErrorKind::ConnectionReset], 1),
        ];
        let failing = Failing(listener, Mutex::default());
        for (kinds, pauses) in kinds {
            let client = std::net::TcpStream::connect(address).unwrap();
            *failing.1.lock().unwrap() = kinds;
            let begun = Instant::now();
            let (_, peer) = next(&failing).await;
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(begun.elapsed().as_millis() / PAUSE.as_millis(), pauses);
        }
    }
}
