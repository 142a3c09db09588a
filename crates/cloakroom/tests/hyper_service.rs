//! Sessions without a framework: the layer round a plain function, served by hyper over a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::convert::Infallible;

use bytes::Bytes;
use cloakroom::{Key, MemoryStore, Session, SessionError, SessionLayer};
use cloakroom_testkit::browser::Browser;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tower::{ServiceBuilder, service_fn};

const VISITS: Key<u32> = Key::new("visits");

async fn visits(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let count = async {
        let session = Session::load(request.extensions()).await?;
        session.update(VISITS, |visits| *visits += 1)?;
        Ok::<_, SessionError>(session.get(VISITS)?.unwrap_or_default())
    };
    Ok(match count.await {
        Ok(visits) => Response::new(Full::from(visits.to_string())),
        Err(error) => error.response(),
    })
}

#[tokio::test]
async fn a_plain_hyper_service_has_sessions() {
    let service =
        ServiceBuilder::new().layer(SessionLayer::new(MemoryStore::new())).service(service_fn(visits));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    let mut browser = Browser::new(address);
    assert_eq!(browser.get("/").await.body, "1");
    assert_eq!(browser.get("/").await.body, "2");
    assert_eq!(Browser::new(address).get("/").await.body, "1");
}

#[tokio::test(start_paused = true)]
async fn r047_the_layer_sweeps_in_the_background_by_itself() {
    use cloakroom::core::clock::Timestamp;
    use cloakroom::core::store::Store as _;
    use cloakroom_testkit::{Counting, ManualClock, Operation};
    use std::time::Duration;
    use tower::{Layer as _, Service as _};

    let store = Counting::new(MemoryStore::new());
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let layer = SessionLayer::builder(store.clone()).clock(clock.clone()).build().unwrap();
    let handler = service_fn(async |request: Request<()>| {
        let session = Session::load(request.extensions()).await?;
        session.update(VISITS, |visits| *visits += 1)?;
        Ok::<_, SessionError>(Response::new(()))
    });
    let mut service = layer.layer(handler);
    service.call(Request::new(())).await.unwrap();
    assert_eq!(store.inner().len(), 1);
    clock.advance(Duration::from_secs(31 * 60));
    // The runtime's clock is paused: it jumps to the next timer as soon as nothing else is to be done.
    while store.counts().of(Operation::Sweep) == 0 {
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(store.inner().is_empty());
    drop((service, layer));
    let calls = store.calls();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::task::yield_now().await;
    assert_eq!(store.calls(), calls, "the sweep ends with the layer");
    drop(store.find(cloakroom::Handle::from_bytes([0; 16])));
}
