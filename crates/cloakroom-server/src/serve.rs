//! Running it: listen, serve connections, reload certificates, stop in order.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cloakroom::core::clock::Clock;
use cloakroom::{SessionLayerBuilder, SystemClock};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, LimitsConfig};
use crate::connection::{self, Phase, Serving};
use crate::edge::{self, Edge};
use crate::listen::{self, Connections};
use crate::open::{self, Opened};
use crate::signals::Hangup;
use crate::tls::Certificate;
use crate::tunnel;

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
/// After `stop`, `/.cloakroom/ready` says 503 at once; the gateway goes on accepting and serving for `shutdown.drain`, so that
/// load balancers can notice; then nothing new is begun, and what is under way may take `shutdown.timeout` to finish.
///
/// # Errors
///
/// If the certificate cannot be loaded, or the operating system has no randomness.
pub async fn run(
    listener: TcpListener,
    config: Config,
    opened: Opened,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    run_with(listener, config, opened, stop, Hangup::caught()).await
}

/// As [`run`], with `SIGHUP` caught before.
///
/// # Errors
///
/// As [`run`].
pub async fn run_with(
    listener: TcpListener,
    mut config: Config,
    opened: Opened,
    stop: impl Future<Output = ()>,
    hangup: Hangup,
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
    aside.spawn(reload(tls, hangup));
    let (drain, patience) = (config.shutdown.drain, config.shutdown.timeout);
    let (limits, trusted) = (config.limits.clone(), config.trusted_proxies.clone());
    let connections = Connections::new(limits.connections, limits.connections_per_address, trusted);
    let (edge, mut landed) = Edge::new(config, &opened)?;
    drop(opened);
    let (phases, phase) = watch::channel(Phase::Serving);
    let (open, mut closed) = mpsc::channel::<()>(1);
    let serving = Serving {
        server: Arc::new(server(&limits)),
        edge,
        health,
        phase,
        head_timeout: limits.head_timeout,
        idle_timeout: limits.idle_timeout,
    };
    let mut stop = std::pin::pin!(async {
        stop.await;
        phases.send_replace(Phase::Draining);
        if !drain.is_zero() {
            tracing::info!(
                target: "cloakroom::gateway", ?drain, "stopping: not ready any more, and serving for shutdown.drain"
            );
            tokio::time::sleep(drain).await;
        }
        phases.send_replace(Phase::Stopping);
    });
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listen::next(&listener) => accepted,
            () = &mut stop => break,
        };
        let admitted = match connections.admit(peer.ip()) {
            Ok(admitted) => admitted,
            Err(full) => {
                // Closed without a word: who floods gets no answer, and a handshake would cost more than it is worth.
                serving.edge.turned_away(peer.ip(), &full);
                continue;
            }
        };
        drop(stream.set_nodelay(true));
        let stream = admitted.hold(stream);
        let written = stream.written();
        let (serving, acceptor, open) = (serving.clone(), acceptor.clone(), open.clone());
        let mut phase = serving.phase.clone();
        tokio::spawn(async move {
            match acceptor {
                None => serving.connection(stream, peer, written).await,
                Some(acceptor) => {
                    let accepted = tokio::time::timeout(limits.tls_timeout, acceptor.accept(stream));
                    let accepted = tokio::select! {
                        accepted = accepted => accepted,
                        () = connection::stopped(&mut phase) => return,
                    };
                    // Otherwise a scanner, or a client that speaks plain http to a TLS port.
                    if let Ok(Ok(stream)) = accepted {
                        serving.connection(stream, peer, written).await;
                    }
                }
            }
            drop(open);
        });
    }
    drop((listener, serving, open));
    aside.abort_all();
    let finish = async {
        // Each ends when the last one has dropped its end: connections, then requests whose client has gone.
        let _ = closed.recv().await;
        let _ = landed.recv().await;
    };
    if tokio::time::timeout(patience, finish).await.is_err() {
        tracing::warn!(
            target: "cloakroom::gateway", "requests were still under way when shutdown.timeout ended"
        );
        // Tunnels that are still open take their leave.
        landed.close();
        drop(tokio::time::timeout(tunnel::LEAVE, landed.recv()).await);
    }
    Ok(())
}

/// What a client can make the http library hold, and for how long.
fn server(limits: &LimitsConfig) -> Builder<TokioExecutor> {
    let mut server = Builder::new(TokioExecutor::new());
    let head = limits.head.on_the_wire();
    server
        .http1()
        .timer(TokioTimer::new())
        // The connection has a clock for both versions, which runs between requests too.
        .header_read_timeout(None)
        .max_buf_size(head)
        .half_close(true);
    if limits.head.fields > 100 {
        server.http1().max_headers(limits.head.fields);
    }
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.http2_streams)
        .max_send_buf_size(limits.stream_buffer)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_interval);
    server
}

/// Loads the certificate again on SIGHUP, and once a minute. Nothing else is loaded again.
async fn reload(certificate: Option<Arc<Certificate>>, mut hangup: Hangup) {
    loop {
        let asked = tokio::select! {
            () = hangup.next() => true,
            () = tokio::time::sleep(RELOAD_INTERVAL) => false,
        };
        match certificate.as_ref().map(|certificate| certificate.reload()) {
            Some(Ok(())) if asked => tracing::info!(
                target: "cloakroom::gateway",
                "SIGHUP: the certificate was loaded again; any other change needs a restart"
            ),
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::error!(
                target: "cloakroom::gateway", error = format!("{error:#}"), "the certificate was not reloaded"
            ),
            None if asked => tracing::info!(
                target: "cloakroom::gateway",
                "SIGHUP: there is no certificate to load again; any other change needs a restart"
            ),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::config::Raw;
    use crate::health::READY;

    /// Serves a connection on which a client sends this and then nothing, until the gateway ends it.
    async fn serve_silent(sent: &[u8], phase: Phase) {
        serve_silent_with("", sent, phase).await;
    }

    async fn serve_silent_with(toml: &str, sent: &[u8], phase: Phase) {
        let toml = format!("upstream = \"http://127.0.0.1:9\"\nstore = \"memory\"\n{toml}");
        let raw = Raw::parse(&toml).unwrap();
        let config = Config::check(raw).unwrap();
        let opened = open(&config).await.unwrap();
        let (health, limits) = (opened.health.clone(), config.limits.clone());
        let (edge, _landed) = Edge::new(config, &opened).unwrap();
        let (mut client, stream) = tokio::io::duplex(1 << 16);
        let (_phases, phase) = watch::channel(phase);
        let serving = Serving {
            server: Arc::new(server(&limits)),
            edge,
            health,
            phase,
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
        };
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        client.write_all(sent).await.unwrap();
        serving.connection(stream, peer, Arc::default()).await;
        client.read_to_end(&mut Vec::new()).await.unwrap();
    }

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    #[tokio::test(start_paused = true)]
    async fn a_client_that_connects_and_asks_nothing_is_let_go() {
        for sent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", PREFACE, b"GET / HT"] {
            // The clock stands still but for those who wait for it.
            let let_go =
                tokio::time::timeout(Duration::from_secs(45), serve_silent(sent, Phase::Serving)).await;
            assert!(let_go.is_ok(), "{}", sent.escape_ascii());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_kept_is_let_go_when_it_has_been_idle_with_or_without_half_a_head() {
        let ask = b"GET /.cloakroom/ready HTTP/1.1\r\nHost: a\r\n\r\n";
        for rest in [&b""[..], b"GET / HT"] {
            let begun = tokio::time::Instant::now();
            serve_silent(&[ask, rest].concat(), Phase::Serving).await;
            let lasted = begun.elapsed();
            let idle = Duration::from_secs(60);
            assert!((idle..idle + Duration::from_secs(10)).contains(&lasted), "{lasted:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_sent_its_whole_request_is_not_waited_for_at_the_end() {
        let ask = b"GET /.cloakroom/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let begun = tokio::time::Instant::now();
        serve_silent(ask, Phase::Serving).await;
        assert_eq!(begun.elapsed().as_secs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_vanished_or_sent_half_a_head_does_not_delay_the_end() {
        for sent in [&b""[..], b"P", PREFACE, b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"] {
            let moment = Duration::from_secs(3);
            let let_go = tokio::time::timeout(moment, serve_silent(sent, Phase::Stopping)).await;
            assert!(let_go.is_ok(), "{}", sent.escape_ascii());
        }
    }

    /// Asks over HTTP/2 whether the gateway is ready.
    fn ask_over_http2() -> Vec<u8> {
        let path = READY.as_bytes();
        // GET, http, and two names of the static table with their values (RFC 7541 section 6).
        let fields = [&[0x82, 0x86, 0x41, 1, b'a', 0x44, path.len() as u8][..], path].concat();
        // HEADERS with END_HEADERS and END_STREAM, on the first stream.
        [PREFACE, &[0, 0, fields.len() as u8, 1, 5, 0, 0, 0, 1], &fields].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn an_http_2_client_that_answers_no_ping_or_asks_nothing_more_is_let_go() {
        for (what, limits, expected) in [
            ("no ping is answered", "idle_timeout = \"1h\"\nping_interval = \"20s\"", 40),
            ("nothing is asked", "idle_timeout = \"50s\"\nping_interval = \"1h\"", 50),
        ] {
            let begun = tokio::time::Instant::now();
            serve_silent_with(&format!("[limits]\n{limits}"), &ask_over_http2(), Phase::Serving).await;
            let lasted = begun.elapsed().as_secs();
            assert!((expected..expected + 5).contains(&lasted), "{what}: {lasted} s");
        }
    }
}
