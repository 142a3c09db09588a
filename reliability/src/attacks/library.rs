//! Attacks against an application of the library.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloakroom::{Key, MemoryBounds, MemoryStore, RichText, Session, SessionLayer};
use cloakroom_testkit::Counting;
use http::{Request, Response, StatusCode, header};
use tokio::sync::Barrier;
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::{Extent, Outcome, peak_kib};

const COUNT: Key<u64> = Key::new("count");

type App = BoxCloneSyncService<Request<()>, Response<String>, Infallible>;

/// Counts visits, as README's program does; `/login` logs in. With a barrier in the request, all meet before
/// they count.
fn app(layer: &SessionLayer) -> App {
    BoxCloneSyncService::new(layer.layer(service_fn(async |request: Request<()>| {
        let session = match Session::load(request.extensions()).await {
            Ok(session) => session,
            Err(error) => return Ok(error.response()),
        };
        if let Some(barrier) = request.extensions().get::<Arc<Barrier>>() {
            barrier.wait().await;
        }
        let done = match request.uri().path() {
            "/login" => session.log_in("alice").await,
            _ => session.update(COUNT, |count| *count += 1),
        };
        Ok::<_, Infallible>(done.map_or_else(|error| error.response(), |()| Response::default()))
    })))
}

async fn ask(
    app: &App,
    path: &str,
    cookie: Option<&str>,
    barrier: Option<&Arc<Barrier>>,
) -> Response<String> {
    let mut request = Request::builder().uri(path);
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    let mut request = request.body(()).unwrap();
    if let Some(barrier) = barrier {
        request.extensions_mut().insert(Arc::clone(barrier));
    }
    app.clone().oneshot(request).await.unwrap()
}

/// Requests without a cookie, each of which is given a session; a login now and then beside them.
pub async fn visitors(extent: Extent) -> Outcome {
    let sessions = extent.of(2000, MemoryBounds::SESSIONS);
    let layer = SessionLayer::new(MemoryStore::with_bounds(MemoryBounds::default().sessions(sessions)));
    let app = app(&layer);
    let (mut outcome, mut served) = (Outcome::default(), 0);
    for number in 0..sessions {
        served += u64::from(ask(&app, "/", None, None).await.status() == StatusCode::OK);
        if number % (sessions / 100) == 0 {
            let begun = Instant::now();
            match ask(&app, "/login", None, None).await.status() {
                StatusCode::OK => outcome.waits.push(begun.elapsed()),
                _ => outcome.refused += 1,
            }
        }
    }
    outcome.waits.sort();
    outcome.peak_kib = peak_kib(std::process::id());
    outcome.counts.extend([("visitors", sessions as u64), ("given_a_session", served)]);
    outcome
}

/// The end of all sessions of a user who has logged in over and over; the wait is that of the end.
pub async fn end_all(extent: Extent) -> Outcome {
    let logins = extent.of(2000, 80_000);
    let layer = SessionLayer::new(MemoryStore::new());
    let app = app(&layer);
    for _ in 0..logins {
        ask(&app, "/login", None, None).await;
    }
    let (begun, mut outcome) = (Instant::now(), Outcome::default());
    let ended = layer.sessions().end_all("alice").await;
    outcome.waits.push(begun.elapsed());
    outcome.peak_kib = peak_kib(std::process::id());
    outcome.counts.extend([("logins", logins), ("ended", ended.map_or(0, |count| count as u64))]);
    outcome
}

/// Parallel changes of one session, all of which have read it before any has written.
pub async fn conflicts(extent: Extent) -> Outcome {
    let parallel = extent.of(50, 200);
    let store = Counting::new(MemoryStore::new());
    let app = app(&SessionLayer::new(store.clone()));
    let made = ask(&app, "/", None, None).await;
    let cookie = made.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    store.take();
    let barrier = Arc::new(Barrier::new(parallel));
    let begun = Instant::now();
    let tasks = (0..parallel).map(|_| {
        let (app, cookie, barrier) = (app.clone(), cookie.clone(), Arc::clone(&barrier));
        tokio::spawn(async move {
            let status = ask(&app, "/", Some(&cookie), Some(&barrier)).await.status();
            (status, begun.elapsed())
        })
    });
    let mut outcome = Outcome::default();
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            (StatusCode::OK, wait) => outcome.waits.push(wait),
            _ => outcome.refused += 1,
        }
    }
    outcome.waits.sort();
    outcome.peak_kib = peak_kib(std::process::id());
    outcome.counts.extend([("parallel", parallel as u64), ("store_operations", store.take().total())]);
    outcome
}

/// Small texts that would become large trees; the waits are those of an honest text between them.
pub async fn rich_text(extent: Extent) -> Outcome {
    let distinct: String = (0..1500).map(|number| format!("<b x{number:x}>")).collect();
    let within: String = (0..200).map(|number| format!("<i x{number:x}>")).collect();
    let bombs = [
        format!("<p>{distinct}{}", "<p>x".repeat(4000)),
        format!("<p>{within}{}", "<p>x".repeat(8000)),
        format!("<p><a href=https://a.test/{}>{}", "x".repeat(30_000), "<p>x".repeat(8000)),
        "<div>".repeat(13_000),
    ];
    let (mut outcome, mut taken, mut slowest) = (Outcome::default(), 0, Duration::ZERO);
    for _ in 0..extent.of(2, 50) {
        for bomb in &bombs {
            let begun = Instant::now();
            taken += u64::from(RichText::sanitise(bomb).is_ok());
            slowest = slowest.max(begun.elapsed());
        }
        let begun = Instant::now();
        match RichText::sanitise(&"<p>Tea is <b>hot</b>.</p>".repeat(100)) {
            Ok(_) => outcome.waits.push(begun.elapsed()),
            Err(_) => outcome.refused += 1,
        }
    }
    outcome.waits.sort();
    outcome.peak_kib = peak_kib(std::process::id());
    let slowest = u64::try_from(slowest.as_micros()).unwrap_or(u64::MAX);
    outcome.counts.extend([("taken", taken), ("slowest_us", slowest)]);
    outcome
}
