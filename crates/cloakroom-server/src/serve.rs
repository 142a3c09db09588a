//! Running it: listen, serve connections, reload certificates, stop in order.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cloakroom::core::clock::Clock;
use cloakroom::{SessionLayerBuilder, SystemClock};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::edge::{self, Edge};
use crate::health::Health;
use crate::open::{self, Opened};
use crate::tls::Certificate;
use crate::tunnel;

/// How long a client may take to send a request's head, or to finish a TLS handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How often certificate files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(60);

/// Opens the store of a configuration and builds the session layer on it.
///
/// # Errors
///
/// As [`open::open`].
pub async fn open(config: &Config) -> anyhow::Result<Opened> {
    open_with(config, SystemClock, |builder| builder).await
}

/// As [`open()`](crate::open::open), with a clock and changes of one's own.
///
/// # Errors
///
/// As [`open::open`].
pub async fn open_with(
    config: &Config,
    clock: impl Clock + Clone,
    change: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
) -> anyhow::Result<Opened> {
    open::open_with(&config.sessions, clock, |builder| {
        let builder = change(builder).cookie(config.cookie.clone());
        let builder = builder.client_address(edge::address).activity(edge::activity);
        let builder = builder.housekeeping_timeout(config.limits.housekeeping_timeout);
        let builder = builder.guessing(config.guessing);
        if config.clears_whole_site { builder.logout_clears_cookies_of_whole_site() } else { builder }
    })
    .await
}

/// Binds the address of a configuration.
///
/// # Errors
///
/// If the address cannot be had; the text names the flag to change.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "{address} cannot be listened on; choose another with --listen, such as --listen 127.0.0.1:8090"
        )
    })
}

/// Serves until `stop`, then waits for what is under way.
///
/// # Errors
///
/// If the certificate cannot be loaded, or the operating system has no randomness.
pub async fn run(
    listener: TcpListener,
    mut config: Config,
    opened: Opened,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    config.bound(listener.local_addr()?);
    let tls = match &config.tls {
        None => None,
        Some((cert, key)) => Some(Certificate::load(cert, key)?),
    };
    let acceptor = match &tls {
        None => None,
        Some(certificate) => Some(TlsAcceptor::from(certificate.server()?)),
    };
    let health = opened.health.clone();
    let mut aside = JoinSet::new();
    aside.spawn(health.clone().watch());
    if let Some(certificate) = tls {
        aside.spawn(reload(certificate));
    }
    let patience = config.limits.shutdown_timeout;
    let (edge, mut landed) = Edge::new(config, &opened)?;
    drop(opened);
    let server = Arc::new(server());
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a client that gave up: let others finish, and go on.
                tracing::warn!(target: "cloakroom::gateway", %error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        drop(stream.set_nodelay(true));
        let (server, watcher, acceptor) = (Arc::clone(&server), graceful.watcher(), acceptor.clone());
        let (edge, health) = (edge.clone(), health.clone());
        tokio::spawn(async move {
            match acceptor {
                None => connection(&server, stream, peer, (edge, health), watcher).await,
                Some(acceptor) => {
                    let accepted = tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await;
                    // Otherwise a scanner, or a client that speaks plain http to a TLS port.
                    if let Ok(Ok(stream)) = accepted {
                        connection(&server, stream, peer, (edge, health), watcher).await;
                    }
                }
            }
        });
    }
    drop((listener, edge));
    aside.abort_all();
    let finish = async {
        graceful.shutdown().await;
        // Ends when the last request under way has dropped its end.
        let _ = landed.recv().await;
    };
    if tokio::time::timeout(patience, finish).await.is_err() {
        tracing::warn!(target: "cloakroom::gateway", "requests were still under way when the shutdown timeout ended");
        // Tunnels that are still open take their leave.
        landed.close();
        drop(tokio::time::timeout(tunnel::LEAVE, landed.recv()).await);
    }
    Ok(())
}

fn server() -> Builder<TokioExecutor> {
    let mut server = Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024)
        .half_close(true);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(64 * 1024)
        .max_concurrent_streams(200)
        .keep_alive_interval(Duration::from_secs(30));
    server
}

async fn connection(
    server: &Builder<TokioExecutor>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    (edge, health): (Edge, Health),
    watcher: hyper_util::server::graceful::Watcher,
) {
    let asked = Arc::new(Notify::new());
    let first = Arc::clone(&asked);
    let service = service_fn(move |request| {
        asked.notify_one();
        let (edge, health) = (edge.clone(), health.clone());
        async move {
            Ok::<_, Infallible>(match health.answer(&request).await {
                Some(answer) => edge.protect(answer),
                None => edge.serve(request, peer).await,
            })
        }
    });
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(watcher.watch(connection.into_owned()));
    // The http library's own limit begins only once it knows which version is spoken, and HTTP/2 has none.
    let silent = tokio::select! {
        // A client that breaks off, or sends what is no HTTP, has had its answer from the http library.
        _ = &mut connection => return,
        heard = tokio::time::timeout(HEAD_TIMEOUT, first.notified()) => heard.is_err(),
    };
    if !silent {
        drop(connection.await);
    }
}

/// Loads the certificate again on SIGHUP, and once a minute.
async fn reload(certificate: Arc<Certificate>) {
    #[cfg(unix)]
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
    loop {
        #[cfg(unix)]
        match &mut hangup {
            Some(hangup) => {
                tokio::select! {
                    _ = hangup.recv() => {}
                    () = tokio::time::sleep(RELOAD_INTERVAL) => {}
                }
            }
            None => tokio::time::sleep(RELOAD_INTERVAL).await,
        }
        #[cfg(not(unix))]
        tokio::time::sleep(RELOAD_INTERVAL).await;
        if let Err(error) = certificate.reload() {
            tracing::error!(target: "cloakroom::gateway", error = format!("{error:#}"), "the certificate was not reloaded");
        }
    }
}

/// Comes to its end with Ctrl-C or a request to terminate. The signals are caught from this call on, so that one that
/// comes early stops the program in order too.
///
/// # Errors
///
/// If the system does not let signals be caught.
pub fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::config::Raw;

    /// Serves a connection on which a client sends this and then nothing, until the gateway ends it.
    async fn serve_silent(sent: &[u8]) {
        let raw = Raw::parse("upstream = \"http://127.0.0.1:9\"\nstore = \"memory\"").unwrap();
        let config = Config::check(raw).unwrap();
        let opened = open(&config).await.unwrap();
        let health = opened.health.clone();
        let (edge, _landed) = Edge::new(config, &opened).unwrap();
        let (mut client, stream) = tokio::io::duplex(1 << 16);
        let graceful = GracefulShutdown::new();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        client.write_all(sent).await.unwrap();
        connection(&server(), stream, peer, (edge, health), graceful.watcher()).await;
        client.read_to_end(&mut Vec::new()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_connects_and_asks_nothing_is_let_go() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        for sent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", preface, b"GET / HT"] {
            // The clock stands still but for those who wait for it.
            let let_go = tokio::time::timeout(HEAD_TIMEOUT * 3, serve_silent(sent)).await;
            assert!(let_go.is_ok(), "{}", sent.escape_ascii());
        }
    }
}
