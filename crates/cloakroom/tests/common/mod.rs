//! A small application, driven without sockets, for the tests of the library.
#![allow(dead_code, reason = "each test file uses a part")]

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Router, http};
use cloakroom::core::clock::Timestamp;
use cloakroom::core::store::{BySubject, Sweep};
use cloakroom::{
    Authenticated, Event, Key, Level, Observer, RecentLogin, Session, SessionError, SessionLayer,
    SessionLayerBuilder,
};
use cloakroom_testkit::{ManualClock, SeededEntropy};
use http::{Request, StatusCode, header};
use tower::ServiceExt as _;

pub(crate) const START: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(crate) const COUNT: Key<u64> = Key::new("count");
pub(crate) const WORD: Key<String> = Key::new("word");
pub(crate) const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// Collects events.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The names of the events since the last look.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.take().iter().map(|event| event.kind.name()).collect()
    }
}

impl Observer for Log {
    fn observe(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// What is written to a log.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An application with everything a session can do, a clock to move and events to look at.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) log: Log,
    pub(crate) layer: SessionLayer,
    pub(crate) app: Router,
}

impl World {
    pub(crate) fn new(store: impl BySubject + Sweep) -> Self {
        Self::with(store, |builder| builder)
    }

    pub(crate) fn with(
        store: impl BySubject + Sweep,
        change: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
    ) -> Self {
        let clock = ManualClock::new(START);
        let log = Log::default();
        let builder = SessionLayer::builder(store)
            .clock(clock.clone())
            .entropy(SeededEntropy::new(7))
            .observer(log.clone())
            .client_address(|head| head.headers.get("x-test-address")?.to_str().ok()?.parse().ok())
            .without_sweeping();
        let layer = change(builder).build().unwrap();
        Self { clock, log, app: app(layer.clone()), layer }
    }

    pub(crate) fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    pub(crate) fn client(&self) -> Client {
        Client { app: self.app.clone(), token: None, agent: FIREFOX.to_owned(), address: None }
    }
}

/// A client of the application: a jar for the one cookie, and how it looks.
#[derive(Clone)]
pub(crate) struct Client {
    app: Router,
    pub(crate) token: Option<String>,
    pub(crate) agent: String,
    pub(crate) address: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn set_cookie(&self) -> Option<&str> {
        assert!(self.headers.get_all(header::SET_COOKIE).iter().count() <= 1, "R-031: one cookie a response");
        self.header("set-cookie")
    }

    /// What the response does to the cookie: `None` nothing, `Some(None)` removes it, else the token.
    pub(crate) fn token(&self) -> Option<Option<String>> {
        let cookie = self.set_cookie()?;
        let value = cookie.strip_prefix("__Host-Http-sid=").unwrap().split(';').next().unwrap();
        Some((!value.is_empty()).then(|| value.to_owned()))
    }
}

impl Client {
    pub(crate) fn request(&self, path: &str) -> Request<Body> {
        let mut request = Request::builder().uri(path).header(header::USER_AGENT, &self.agent);
        if let Some(token) = &self.token {
            request = request.header(header::COOKIE, format!("__Host-Http-sid={token}"));
        }
        if let Some(address) = &self.address {
            request = request.header("x-test-address", address);
        }
        request.body(Body::empty()).unwrap()
    }

    /// Begins a request; the response is what the future comes to.
    pub(crate) fn begin(&self, path: &str) -> impl Future<Output = Answer> + Send + 'static {
        answer(self.app.clone(), self.request(path))
    }

    /// Asks, and keeps the cookie that comes back.
    pub(crate) fn ask(&mut self, path: &str) -> Answer {
        let answer = cloakroom_testkit::block_on(self.begin(path));
        self.receive(&answer);
        answer
    }

    /// Asks, and loses the response.
    pub(crate) fn ask_and_lose(&self, path: &str) -> Answer {
        cloakroom_testkit::block_on(self.begin(path))
    }

    pub(crate) fn receive(&mut self, answer: &Answer) {
        if let Some(token) = answer.token() {
            self.token = token;
        }
    }
}

pub(crate) async fn answer(app: Router, request: Request<Body>) -> Answer {
    let response = app.oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer { status: head.status, headers: head.headers, body }
}

/// Polls a future once.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

type Said = Result<String, SessionError>;

pub(crate) fn app(layer: SessionLayer) -> Router {
    let count = async |session: Session| -> Said {
        session.update(COUNT, |count| *count += 1)?;
        Ok(session.get(COUNT)?.unwrap_or_default().to_string())
    };
    Router::new()
        .route("/untouched", get(|| async { "untouched" }))
        .route("/who", get(who))
        .route("/count", get(count))
        .route("/word", get(async |session: Session| -> Said { Ok(session.get(WORD)?.unwrap_or_default()) }))
        .route("/word/{word}", get(set_word))
        .route(
            "/log-in/{name}",
            get(async |session: Session, Path(name): Path<String>| -> Said {
                session.log_in(name).await?;
                who(session).await
            }),
        )
        .route(
            "/begin-login/{name}",
            get(async |session: Session, Path(name): Path<String>| -> Said {
                session.begin_login(name).await?.complete().await?;
                who(session).await
            }),
        )
        .route(
            "/log-in-and-count/{name}",
            get(async |session: Session, Path(name): Path<String>| -> Said {
                session.log_in(name).await?;
                session.update(COUNT, |count| *count += 1)?;
                who(session).await
            }),
        )
        .route(
            "/step-up",
            get(async |session: Session| -> Said {
                session.step_up(Level::TWO, ["pwd", "otp"]).await?;
                who(session).await
            }),
        )
        .route(
            "/rotate",
            get(async |session: Session| -> Said {
                session.rotate().await?;
                who(session).await
            }),
        )
        .route(
            "/word-and-rotate/{word}",
            get(async |session: Session, Path(word): Path<String>| -> Said {
                session.set(WORD, word)?;
                session.rotate().await?;
                who(session).await
            }),
        )
        .route("/log-out", post(log_out).get(log_out))
        .route(
            "/log-out-others",
            get(async |session: Session| -> Said { Ok(session.log_out_others().await?.to_string()) }),
        )
        .route(
            "/log-out-everywhere",
            get(async |session: Session| -> Said { Ok(session.log_out_everywhere().await?.to_string()) }),
        )
        .route(
            "/change-password/{name}",
            get(async |session: Session, Path(name): Path<String>| -> Said {
                session.log_out_everywhere().await?;
                session.log_in(name).await?;
                who(session).await
            }),
        )
        .route(
            "/list",
            get(async |user: Authenticated| -> Said {
                let list = user.list().await?;
                let line = |info: &cloakroom::SessionInfo| {
                    format!("{} {} {}", info.handle, if info.current { "this" } else { "other" }, info.client)
                };
                Ok(list.iter().map(line).collect::<Vec<_>>().join("\n"))
            }),
        )
        .route(
            "/end/{handle}",
            get(async |user: Authenticated, Path(handle): Path<String>| -> Said {
                Ok(user.end(handle.parse().unwrap()).await?.to_string())
            }),
        )
        .route("/authenticated", get(async |user: Authenticated| user.subject().to_string()))
        .route("/recent", get(async |user: RecentLogin| user.subject().to_string()))
        .route(
            "/poll",
            get(async |session: Session| -> Said {
                session.mark_passive()?;
                who(session).await
            }),
        )
        .route(
            "/fails-after-count",
            get(async |session: Session| -> Result<String, StatusCode> {
                session.update(COUNT, |count| *count += 1).unwrap();
                Err(StatusCode::INTERNAL_SERVER_ERROR)
            }),
        )
        .layer(layer)
}

async fn who(session: Session) -> Said {
    let subject = session.subject().map_or_else(|| "-".to_owned(), |subject| subject.to_string());
    let handle = session.handle().map_or_else(|| "-".to_owned(), |handle| handle.to_string());
    Ok(format!("{subject} {handle}"))
}

async fn set_word(session: Session, Path(word): Path<String>) -> Said {
    session.set(WORD, word)?;
    Ok("set".to_owned())
}

async fn log_out(session: Session) -> Said {
    session.log_out().await?;
    Ok("out".to_owned())
}

impl Answer {
    /// Who was logged in, and in which session, by the answer of `/who`.
    pub(crate) fn who(&self) -> (&str, &str) {
        self.body.split_once(' ').unwrap_or(("?", "?"))
    }
}
