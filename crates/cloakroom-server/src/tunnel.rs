//! WebSockets: once the application has switched protocols, bytes go both ways untouched.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

/// Asks the application for a WebSocket, as the client asked the gateway: the two hop-by-hop fields are ours.
pub fn ask(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Whether a response switches to the WebSocket protocol and to no other.
pub fn switches<B>(response: &Response<B>) -> bool {
    let upgrade = response.headers().get(header::UPGRADE).map(HeaderValue::as_bytes);
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        && upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case(b"websocket"))
}

/// Connects the two ends until one of them closes.
pub fn connect(client: OnUpgrade, upstream: OnUpgrade) {
    tokio::spawn(async move {
        let (Ok(client), Ok(upstream)) = (client.await, upstream.await) else { return };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        // However it ends, both sides are closed then.
        drop(tokio::io::copy_bidirectional(&mut client, &mut upstream).await);
    });
}
