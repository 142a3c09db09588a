//! Whether this gateway can be sent requests: its store answers, and its clock agrees with the store's.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloakroom::Handle;
use cloakroom::core::clock::{Clock, Timestamp};
use cloakroom::core::store::{Shared, Store, StoreError};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::time::Instant;

use crate::body::Stream;
use crate::edge::plain;

/// Where a load balancer asks.
pub const READY: &str = "/.cloakroom/ready";
/// How often the gateway looks by itself.
pub const INTERVAL: Duration = Duration::from_secs(60);
/// For how long an answer is given again: whoever asks often does not load the store.
const FRESH: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// All is well.
    Ready,
    /// The clocks differ by at least this much, which is more than the policy's skew.
    ClockOff(Duration),
    /// The store, or this machine's clock, cannot be read.
    Unreadable,
}

/// How far apart two clocks certainly are, when one was read `before` and `after` the other: zero if the other may have been
/// read at a moment when both showed the same. So half of the round trip is allowed for either way.
pub fn difference(before: Timestamp, other: Timestamp, after: Timestamp) -> Duration {
    // Our clock may have been set back in between.
    let (earliest, latest) = (before.min(after), before.max(after));
    other.since(latest).max(earliest.since(other))
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Option<Timestamp>, StoreError>> + Send + 'a>>;

/// Asks a store for its time.
trait Probe: Send + Sync {
    /// The store's time, if it has a clock of its own.
    fn ask(&self) -> Answer<'_>;
}

struct Clocked<S>(S);

impl<S: Shared> Probe for Clocked<S> {
    fn ask(&self) -> Answer<'_> {
        Box::pin(async { self.0.time().await.map(Some) })
    }
}

/// A store on this machine: it goes by this machine's clock.
struct Local<S>(S);

impl<S: Store> Probe for Local<S> {
    fn ask(&self) -> Answer<'_> {
        // Which session is asked for does not matter.
        Box::pin(async { self.0.find(Handle::from_bytes([0; 16])).await.map(|_| None) })
    }
}

/// A store in this process: there is nothing that could be away.
struct Own;

impl Probe for Own {
    fn ask(&self) -> Answer<'_> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// Watches whether this gateway is ready. Clones watch together.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    probe: Box<dyn Probe>,
    clock: Arc<dyn Clock>,
    skew: Duration,
    last: tokio::sync::Mutex<Option<(Instant, State)>>,
    /// What was last told to the log.
    told: Mutex<State>,
}

impl Health {
    /// Watches a store with a clock of its own, which may differ from `clock` by `skew`.
    pub fn shared(store: impl Shared, clock: Arc<dyn Clock>, skew: Duration) -> Self {
        Self::new(Box::new(Clocked(store)), clock, skew)
    }

    /// Watches a store that goes by this machine's clock.
    pub fn local(store: impl Store, clock: Arc<dyn Clock>) -> Self {
        Self::new(Box::new(Local(store)), clock, Duration::ZERO)
    }

    /// Watches a store in this process, which is ready as long as the process is.
    pub fn process(clock: Arc<dyn Clock>) -> Self {
        Self::new(Box::new(Own), clock, Duration::ZERO)
    }

    fn new(probe: Box<dyn Probe>, clock: Arc<dyn Clock>, skew: Duration) -> Self {
        let inner =
            Inner { probe, clock, skew, last: tokio::sync::Mutex::new(None), told: Mutex::new(State::Ready) };
        Self(Arc::new(inner))
    }

    /// Asks the store for its time, and returns how far the clocks certainly differ; `None` for a store without a clock.
    ///
    /// # Errors
    ///
    /// If the store or this machine's clock cannot be read.
    pub async fn difference(&self) -> anyhow::Result<Option<Duration>> {
        let before = self.0.clock.now()?;
        let Some(store) = self.0.probe.ask().await? else { return Ok(None) };
        Ok(Some(difference(before, store, self.0.clock.now()?)))
    }

    /// How far the clocks may differ.
    pub fn skew(&self) -> Duration {
        self.0.skew
    }

    /// Looks now, and tells the log if something has changed.
    pub async fn check(&self) -> State {
        let found = self.difference().await;
        let state = match &found {
            Ok(Some(difference)) if *difference > self.0.skew => State::ClockOff(*difference),
            Ok(_) => State::Ready,
            Err(_) => State::Unreadable,
        };
        if self.note(state) {
            match (state, found) {
                (State::ClockOff(by), _) => tracing::warn!(
                    target: "cloakroom::gateway", event = "gateway_clock_off", by = ?by, allowed = ?self.0.skew,
                    "not ready: this machine's clock and the store's differ by more than policy.clock_skew; set both by NTP"
                ),
                (State::Unreadable, Err(error)) => tracing::warn!(
                    target: "cloakroom::gateway", event = "gateway_store_down", error = format!("{error:#}"),
                    "not ready: the session store does not answer"
                ),
                _ => tracing::info!(target: "cloakroom::gateway", event = "gateway_ready", "ready again"),
            }
        }
        state
    }

    /// Takes note of a state; returns whether it is another kind than before.
    fn note(&self, state: State) -> bool {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *told, state);
        std::mem::discriminant(&before) != std::mem::discriminant(&state)
    }

    /// What was found less than a second ago, or else is found now. Whoever asks at the same time waits for one answer.
    pub async fn state(&self) -> State {
        let mut last = self.0.last.lock().await;
        if let Some((when, state)) = *last
            && when.elapsed() < FRESH
        {
            return state;
        }
        let state = self.check().await;
        *last = Some((Instant::now(), state));
        state
    }

    /// Looks every minute, for ever.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.check().await;
        }
    }

    /// Answers a request for [`READY`]: 200 or 503, and nothing else. `None` for any other request.
    ///
    /// Here, before the rest of the gateway, because it concerns no session: no look-up, no cookie, no event.
    pub async fn answer<B>(&self, request: &Request<B>) -> Option<Response<Stream>> {
        // A body is not expected, and left to what judges requests.
        let body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
        let asked = request.uri().path() == READY
            && matches!(*request.method(), Method::GET | Method::HEAD)
            && !body.iter().any(|name| request.headers().contains_key(name));
        if !asked {
            return None;
        }
        Some(match self.state().await {
            State::Ready => said(StatusCode::OK, "ready\n"),
            State::ClockOff(_) | State::Unreadable => said(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        })
    }
}

fn said(status: StatusCode, text: &'static str) -> Response<Stream> {
    let mut response = plain(status).map(|_| Stream::from(text));
    if status != StatusCode::OK {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("skew", &self.0.skew).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use cloakroom_testkit::ManualClock;

    use super::*;

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn clocks_differ_by_what_the_round_trip_does_not_explain() {
        let table = [
            ((100, 100, 100), 0),
            ((100, 101, 102), 0),
            ((100, 100, 104), 0),
            ((100, 104, 104), 0),
            ((100, 99, 104), 1),
            ((100, 110, 104), 6),
            // Set back by an hour while the answer was on its way: nothing is certain.
            ((3700, 2000, 100), 0),
            ((3700, 50, 100), 50),
        ];
        for ((before, other, after), differ) in table {
            assert_eq!(difference(secs(before), secs(other), secs(after)), Duration::from_secs(differ));
        }
    }

    /// A store's clock, and whether it answers.
    struct Fake(ManualClock, Arc<Mutex<bool>>);

    impl Probe for Fake {
        fn ask(&self) -> Answer<'_> {
            let up = *self.1.lock().unwrap();
            let answer = if up { Ok(Some(self.0.time())) } else { Err(StoreError::unavailable("away")) };
            Box::pin(std::future::ready(answer))
        }
    }

    fn health() -> (Health, ManualClock, Arc<Mutex<bool>>) {
        let (own, store) = (ManualClock::new(secs(1000)), ManualClock::new(secs(1000)));
        let up = Arc::new(Mutex::new(true));
        let probe = Box::new(Fake(store.clone(), Arc::clone(&up)));
        (Health::new(probe, Arc::new(own), Duration::from_secs(5)), store, up)
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_whose_clock_is_off_by_more_than_the_skew_is_not_ready() {
        let (health, store, up) = health();
        for (time, state) in [
            (1000, State::Ready),
            (1005, State::Ready),
            (1006, State::ClockOff(Duration::from_secs(6))),
            (995, State::Ready),
            (900, State::ClockOff(Duration::from_secs(100))),
            (1000, State::Ready),
        ] {
            store.set(secs(time));
            assert_eq!(health.check().await, state, "{time}");
        }
        *up.lock().unwrap() = false;
        assert_eq!(health.check().await, State::Unreadable);
    }

    #[test]
    fn a_change_is_told_once() {
        let (health, ..) = health();
        let off = |secs| State::ClockOff(Duration::from_secs(secs));
        let table = [
            (State::Ready, false),
            (off(6), true),
            (off(7), false),
            (State::Unreadable, true),
            (State::Unreadable, false),
            (State::Ready, true),
        ];
        for (state, told) in table {
            assert_eq!(health.note(state), told, "{state:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r114_readiness_says_its_status_and_nothing_else() {
        let (health, store, up) = health();
        let get = |path: &str| Request::get(path).body(()).unwrap();
        let fields = |response: &Response<Stream>| {
            let mut names =
                response.headers().keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
            names.sort();
            names
        };
        let ready = health.answer(&get(READY)).await.unwrap();
        assert_eq!(ready.status(), 200);
        assert_eq!(fields(&ready), ["cache-control", "content-type", "x-content-type-options"]);
        assert_eq!(ready.headers()["cache-control"], "no-store");
        store.set(secs(2000));
        assert_eq!(health.answer(&get(READY)).await.unwrap().status(), 200, "asked less than a second ago");
        tokio::time::advance(FRESH).await;
        let off = health.answer(&get(READY)).await.unwrap();
        assert_eq!(off.status(), 503);
        assert_eq!(fields(&off), ["cache-control", "content-type", "retry-after", "x-content-type-options"]);
        store.set(secs(1000));
        *up.lock().unwrap() = false;
        tokio::time::advance(FRESH).await;
        assert_eq!(health.answer(&get(READY)).await.unwrap().status(), 503);
        *up.lock().unwrap() = true;
        tokio::time::advance(FRESH).await;
        assert_eq!(health.answer(&get(READY)).await.unwrap().status(), 200);
        for other in ["/", "/.cloakroom/ready/", "/.cloakroom/readY"] {
            assert!(health.answer(&get(other)).await.is_none(), "{other}");
        }
        let post = Request::post(READY).body(()).unwrap();
        assert!(health.answer(&post).await.is_none());
        let body = Request::get(READY).header("content-length", "3").body(()).unwrap();
        assert!(health.answer(&body).await.is_none());
    }
}
