//! Whether this gateway can be sent requests: a login would work. The store takes sessions, knows the pepper, and its clock agrees.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloakroom::core::store::{PepperClaim, StoreError};
use cloakroom::{NotReady, SessionLayer};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::time::Instant;

use crate::body::Stream;
use crate::edge::plain;

/// Where a load balancer asks.
pub const READY: &str = "/.cloakroom/ready";
/// Where a supervisor asks whether the process answers at all. Says nothing of the store: a restart mends no store.
pub const LIVE: &str = "/.cloakroom/live";
/// How often the gateway looks by itself.
pub const INTERVAL: Duration = Duration::from_secs(60);
/// For how long an answer is given again: whoever asks often does not load the store.
const FRESH: Duration = Duration::from_secs(1);
/// What takes longer would keep a login waiting, too.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// A login would work.
    Ready,
    /// The clocks differ by at least this much, which is more than the policy's skew.
    ClockOff(Duration),
    /// The store takes no sessions, or this machine's clock cannot be read.
    StoreDown,
    /// The store's sessions are under peppers that this gateway does not have.
    PepperUnknown,
}

type Claiming = Pin<Box<dyn Future<Output = Result<PepperClaim, StoreError>> + Send>>;

/// Asks a store whether it still knows the gateway's pepper.
pub(crate) type Claim = Box<dyn Fn() -> Claiming + Send + Sync>;

/// Watches whether this gateway is ready. Clones watch together.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    sessions: SessionLayer,
    /// `None` where no pepper outlives the process.
    claim: Option<Claim>,
    last: tokio::sync::Mutex<Option<(Instant, State)>>,
    /// What was last told to the log.
    told: Mutex<State>,
}

impl Health {
    /// Watches the store of a session layer.
    pub(crate) fn new(sessions: SessionLayer, claim: Option<Claim>) -> Self {
        Self(Arc::new(Inner {
            sessions,
            claim,
            last: tokio::sync::Mutex::new(None),
            told: Mutex::new(State::Ready),
        }))
    }

    /// Looks now. The text is for the log.
    async fn look(&self) -> (State, String) {
        let look = async {
            match self.0.sessions.ready().await {
                Ok(()) => {}
                Err(NotReady::ClockOff { by, .. }) => return (State::ClockOff(by), String::new()),
                Err(error) => return (State::StoreDown, format!("{:#}", anyhow::Error::new(error))),
            }
            let Some(claim) = &self.0.claim else { return (State::Ready, String::new()) };
            match claim().await {
                Ok(PepperClaim::Accepted) => (State::Ready, String::new()),
                Ok(PepperClaim::Foreign { .. }) => (State::PepperUnknown, String::new()),
                Err(error) => (State::StoreDown, format!("{:#}", anyhow::Error::new(error))),
            }
        };
        let late = || (State::StoreDown, "it did not answer in time".to_owned());
        tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| late())
    }

    /// Looks now, and tells the log if something has changed.
    pub async fn check(&self) -> State {
        let (state, why) = self.look().await;
        if self.note(state) {
            match state {
                State::ClockOff(by) => tracing::error!(
                    target: "cloakroom::gateway", event = "gateway_clock_off", by = ?by,
                    allowed = ?self.0.sessions.policy().skew(),
                    "not ready: this machine's clock and the store's differ by more than policy.clock_skew; set both by NTP"
                ),
                State::StoreDown => tracing::error!(
                    target: "cloakroom::gateway", event = "gateway_store_down", error = why,
                    "not ready: the session store takes no sessions"
                ),
                State::PepperUnknown => tracing::error!(
                    target: "cloakroom::gateway", event = "gateway_pepper_unknown",
                    "not ready: the session store's sessions are sealed under peppers that this gateway does not have"
                ),
                State::Ready => {
                    tracing::info!(target: "cloakroom::gateway", event = "gateway_ready", "ready again");
                }
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

    /// Answers a request for [`READY`], 200 or 503 and nothing else, and for [`LIVE`], always 200. `None` for any other request.
    ///
    /// Here, before the rest of the gateway, because it concerns no session: no look-up, no cookie, no event.
    pub async fn answer<B>(&self, request: &Request<B>) -> Option<Response<Stream>> {
        // A body is not expected, and left to what judges requests.
        let body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
        let plain = matches!(*request.method(), Method::GET | Method::HEAD)
            && !body.iter().any(|name| request.headers().contains_key(name));
        match request.uri().path() {
            LIVE if plain => Some(said(StatusCode::OK, "live\n")),
            READY if plain => Some(match self.state().await {
                State::Ready => said(StatusCode::OK, "ready\n"),
                _ => said(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            }),
            _ => None,
        }
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
        f.debug_struct("Health").field("sessions", &self.0.sessions).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use cloakroom::core::clock::Timestamp;
    use cloakroom::{MemoryStore, PepperId};
    use cloakroom_testkit::{Clocked, Failing, ManualClock, Moment};

    use super::*;

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// A gateway's health on a store with a clock, and what may go wrong with it.
    struct Fake {
        health: Health,
        /// The store's.
        clock: ManualClock,
        store: Failing<MemoryStore>,
        /// 0: known. 1: unknown. 2: no answer, ever.
        pepper: Arc<AtomicU8>,
    }

    fn fake() -> Fake {
        let (own, clock) = (ManualClock::new(secs(1000)), ManualClock::new(secs(1000)));
        let store = Failing::new(MemoryStore::new());
        let layer = SessionLayer::builder(Clocked::new(store.clone(), clock.clone())).clock(own);
        let pepper = Arc::<AtomicU8>::default();
        let asked = Arc::clone(&pepper);
        let claim: Claim = Box::new(move || {
            let asked = Arc::clone(&asked);
            Box::pin(async move {
                match asked.load(Ordering::SeqCst) {
                    0 => Ok(PepperClaim::Accepted),
                    1 => Ok(PepperClaim::Foreign { known: vec![PepperId::from_bytes([1; 8])] }),
                    _ => std::future::pending().await,
                }
            })
        });
        Fake { health: Health::new(layer.build().unwrap(), Some(claim)), clock, store, pepper }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_on_which_a_login_would_not_work_is_not_ready() {
        let Fake { health, clock, store, pepper } = fake();
        for (time, state) in [
            (1000, State::Ready),
            (1005, State::Ready),
            (1006, State::ClockOff(Duration::from_secs(6))),
            (995, State::Ready),
            (900, State::ClockOff(Duration::from_secs(100))),
            (1000, State::Ready),
        ] {
            clock.set(secs(time));
            assert_eq!(health.check().await, state, "{time}");
        }
        store.fail_all(Moment::Before);
        assert_eq!(health.check().await, State::StoreDown);
        store.heal();
        for (answer, state) in [(1, State::PepperUnknown), (2, State::StoreDown), (0, State::Ready)] {
            pepper.store(answer, Ordering::SeqCst);
            assert_eq!(health.check().await, state, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_change_is_told_once() {
        let Fake { health, .. } = fake();
        let off = |secs| State::ClockOff(Duration::from_secs(secs));
        let table = [
            (State::Ready, false),
            (off(6), true),
            (off(7), false),
            (State::StoreDown, true),
            (State::StoreDown, false),
            (State::Ready, true),
        ];
        for (state, told) in table {
            assert_eq!(health.note(state), told, "{state:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_gateway_looks_every_minute_though_nobody_asks() {
        let Fake { health, store, .. } = fake();
        let watching = tokio::spawn(health.clone().watch());
        store.fail_all(Moment::Before);
        for (after, told) in [(INTERVAL - FRESH, State::Ready), (FRESH * 2, State::StoreDown)] {
            tokio::time::sleep(after).await;
            assert_eq!(*health.0.told.lock().unwrap(), told);
        }
        watching.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn r114_readiness_says_its_status_and_nothing_else() {
        let Fake { health, clock, store, .. } = fake();
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
        clock.set(secs(2000));
        assert_eq!(health.answer(&get(READY)).await.unwrap().status(), 200, "asked less than a second ago");
        tokio::time::advance(FRESH).await;
        let off = health.answer(&get(READY)).await.unwrap();
        assert_eq!(off.status(), 503);
        assert_eq!(fields(&off), ["cache-control", "content-type", "retry-after", "x-content-type-options"]);
        clock.set(secs(1000));
        store.fail_all(Moment::Before);
        tokio::time::advance(FRESH).await;
        assert_eq!(health.answer(&get(READY)).await.unwrap().status(), 503);
        assert_eq!(health.answer(&get(LIVE)).await.unwrap().status(), 200, "the process answers");
        store.heal();
        tokio::time::advance(FRESH).await;
        assert_eq!(health.answer(&get(READY)).await.unwrap().status(), 200);
        for other in ["/", "/.cloakroom/ready/", "/.cloakroom/readY", "/.cloakroom/live/"] {
            assert!(health.answer(&get(other)).await.is_none(), "{other}");
        }
        for path in [READY, LIVE] {
            let head = Request::head(path).body(()).unwrap();
            assert_eq!(health.answer(&head).await.unwrap().status(), 200);
            let post = Request::post(path).body(()).unwrap();
            assert!(health.answer(&post).await.is_none());
            let body = Request::get(path).header("content-length", "3").body(()).unwrap();
            assert!(health.answer(&body).await.is_none());
        }
    }
}
