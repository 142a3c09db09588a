//! A small application behind several gateways that share one store, driven without sockets.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloakroom::{Event, Handle, Key, Level, Observer, Policy, Session, SessionError, SessionLayer};
use cloakroom_core::clock::Timestamp;
use cloakroom_core::cookie::Cookie;
use cloakroom_core::engine::{Engine, Facts};
use cloakroom_core::seal::{Pepper, Peppers};
use cloakroom_core::store::{Found, Store as _};
use cloakroom_core::token::Token;
use cloakroom_testkit::suite::FullStore;
use cloakroom_testkit::{Counting, Hooked, ManualClock, SeededEntropy};
use http::{Request, Response, StatusCode, header};
use tokio::sync::Barrier;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer as _, Service as _, service_fn};

use crate::gate::Gate;

/// When every world begins: 2023-11-14T22:13:20Z.
pub const START: Timestamp = Timestamp::from_secs(1_700_000_000);

const COUNT: Key<u64> = Key::new("count");
const WORD: Key<String> = Key::new("word");
const NAME: &str = "__Host-Http-sid=";

/// What a request asks of the application.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Looks at its session.
    Read,
    /// Adds one to the session's count, by `update`.
    Count,
    /// Stores a word, by `set`.
    Word(&'static str),
    /// Replaces the secret on demand.
    Rotate,
    /// Authenticates again, which replaces the secret too.
    StepUp,
    /// `begin_login` and `complete`.
    LogIn(String),
    /// `log_in`, which begins with the request's arrival.
    LogInOnArrival(String),
    /// `begin_login`, then waits for all the others, then `complete`.
    LogInTogether(String, Arc<Barrier>),
    /// Logs out.
    LogOut,
    /// Ends all sessions of its user, its own included.
    LogOutEverywhere,
}

/// An answer, once it is complete.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// What it does to the cookie.
    pub cookie: SentCookie,
    /// Whom the handler found logged in when it began.
    pub saw: Option<String>,
}

/// What a response does to the cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SentCookie {
    /// Nothing.
    None,
    /// It removes it.
    Removed,
    /// It sets a token.
    Set(String),
}

/// Events of all gateways, for the message of a test that fails.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// What happened since the last look.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Log {
    fn observe(&self, event: &Event) {
        let line = format!("{} {:?}", event.kind.name(), event.handle);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// One gateway: the application behind a session layer, with a clock and a gate of its own.
pub struct Gateway {
    /// Its clock.
    pub clock: ManualClock,
    /// What its store calls wait at.
    pub gate: Gate,
    /// The layer.
    pub layer: SessionLayer,
    app: BoxCloneSyncService<Request<()>, Response<String>, BoxError>,
}

impl Gateway {
    /// Sends a request with these tokens.
    pub fn send(&self, ask: Ask, token: Option<&str>) -> Answering {
        let mut request = Request::builder().extension(ask).extension(self.gate.clone());
        if let Some(token) = token {
            request = request.header(header::COOKIE, format!("{NAME}{token}"));
        }
        let answer = self.app.clone().call(request.body(()).expect("a request"));
        Box::pin(async move { read(&answer.await.expect("the application answers")) })
    }
}

/// What worlds differ in.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The policy of all gateways.
    pub policy: Policy,
    /// How far each gateway's clock is ahead, in seconds; as many gateways as there are figures.
    pub skews: Vec<i64>,
    /// What makes handles and secrets differ between worlds on one store.
    pub seed: u64,
}

/// Gateways that share a store.
pub struct World<S> {
    /// The store, for looking at it past all gates.
    pub store: Counting<S>,
    /// The gateways.
    pub gateways: Vec<Gateway>,
    /// What they have reported.
    pub log: Log,
    engine: Engine,
}

impl<S: FullStore> World<S> {
    /// Sets the gateways up.
    pub fn new(store: Counting<S>, plan: &Plan) -> Self {
        let log = Log::default();
        let gateways = plan.skews.iter().zip(plan.seed.wrapping_mul(16)..).map(|(&skew, seed)| {
            let ahead = Duration::from_secs(skew.unsigned_abs());
            let clock = ManualClock::new(if skew < 0 { START.minus(ahead) } else { START.plus(ahead) });
            let gate = Gate::default();
            let layer = SessionLayer::builder(Hooked::with(store.clone(), gate.clone()))
                .policy(plan.policy.clone())
                .clock(clock.clone())
                .entropy(SeededEntropy::new(seed))
                .observer(log.clone())
                .without_sweeping()
                .build()
                .expect("a policy without problems");
            let app = BoxCloneSyncService::new(layer.layer(service_fn(handle)));
            Gateway { clock, gate, layer, app }
        });
        let gateways = gateways.collect();
        let engine = Engine::new(plan.policy.clone(), Cookie::default(), Peppers::new(Pepper::none()))
            .expect("a policy without problems");
        Self { store, gateways, log, engine }
    }

    /// The first gateway, whose clock is right.
    pub fn first(&self) -> &Gateway {
        &self.gateways[0]
    }

    /// Moves all clocks.
    pub fn advance(&self, by: Duration) {
        for gateway in &self.gateways {
            gateway.clock.advance(by);
        }
    }

    /// The time of the first gateway.
    pub fn now(&self) -> Timestamp {
        self.first().clock.time()
    }

    /// What a request with this token would find now. Changes nothing.
    pub async fn opens(&self, token: &str) -> Option<Opened> {
        let field = format!("{NAME}{token}");
        let presented = self.engine.present([field.as_bytes()]);
        let found = self.store.find(handle_of(token)).await.expect("find");
        let resumed = self.engine.resume(&presented, vec![found], Facts::default(), self.now());
        let resumed = resumed.expect("a record that can be judged");
        let record = resumed.record()?;
        let data = resumed.open().expect("data that can be opened");
        let text = |key| data.get(key).map(|json| String::from_utf8_lossy(json).into_owned());
        Some(Opened {
            handle: record.handle(),
            subject: record.subject().map(ToString::to_string),
            count: text("count").map_or(0, |count| count.parse().expect("a count")),
            word: text("word"),
        })
    }

    /// What the store holds under a handle.
    pub async fn found(&self, handle: Handle) -> Found {
        self.store.find(handle).await.expect("find")
    }
}

/// What a token opens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opened {
    /// Which session.
    pub handle: Handle,
    /// Whose.
    pub subject: Option<String>,
    /// Its count.
    pub count: u64,
    /// Its word, as JSON.
    pub word: Option<String>,
}

/// The session that a token names.
pub fn handle_of(token: &str) -> Handle {
    Token::parse(token.as_bytes()).expect("a token").handle()
}

#[derive(Clone)]
struct Saw(Option<String>);

/// The application: does what the request says.
async fn handle(request: Request<()>) -> Result<Response<String>, BoxError> {
    let ask = request.extensions().get::<Ask>().ok_or("a request says what it wants")?.clone();
    let gate = request.extensions().get::<Gate>().ok_or("a request comes through a gateway")?.clone();
    let session = match Session::load(request.extensions()).await {
        Ok(session) => session,
        Err(error) => return Ok(error.response()),
    };
    let saw = Saw(session.subject().map(|subject| subject.to_string()));
    let mut answer = match act(&session, ask).await {
        Ok(()) => Response::default(),
        Err(error) => error.response(),
    };
    answer.extensions_mut().insert(saw);
    gate.work().await;
    Ok(answer)
}

async fn act(session: &Session, ask: Ask) -> Result<(), SessionError> {
    match ask {
        Ask::Read => Ok(()),
        Ask::Count => session.update(COUNT, |count| *count += 1),
        Ask::Word(word) => session.set(WORD, word.to_owned()),
        Ask::Rotate => session.rotate().await,
        Ask::StepUp => session.step_up(Level::TWO, ["pwd", "otp"]).await,
        Ask::LogIn(who) => session.begin_login(who).await?.complete().await,
        Ask::LogInOnArrival(who) => session.log_in(who).await,
        Ask::LogInTogether(who, barrier) => {
            let login = session.begin_login(who).await?;
            barrier.wait().await;
            login.complete().await
        }
        Ask::LogOut => session.log_out().await,
        Ask::LogOutEverywhere => session.log_out_everywhere().await.map(drop),
    }
}

fn read(response: &Response<String>) -> Answer {
    let mut cookies = response.headers().get_all(header::SET_COOKIE).iter();
    let cookie = match cookies.next().map(|cookie| cookie.to_str().expect("ASCII")) {
        None => SentCookie::None,
        Some(cookie) => {
            let value = cookie.strip_prefix(NAME).and_then(|rest| rest.split(';').next());
            match value.expect("our cookie") {
                "" => SentCookie::Removed,
                token => SentCookie::Set(token.to_owned()),
            }
        }
    };
    assert_eq!(cookies.next(), None, "R-031: one cookie a response");
    let saw = response.extensions().get::<Saw>().and_then(|saw| saw.0.clone());
    Answer { status: response.status(), cookie, saw }
}
