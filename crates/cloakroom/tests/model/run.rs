//! One run of the model: clients with jars, requests under way, and what happens step by step.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cloakroom::core::clock::Timestamp;
use cloakroom::core::engine::{Engine, Facts};
use cloakroom::core::store::{Found, Reason, Store as _};
use cloakroom::core::token::Handle;
use cloakroom::{Event, Key, Level, MemoryStore, Observer, Session, SessionError, SessionLayer};
use cloakroom_testkit::{ManualClock, SeededEntropy, block_on};
use http::{Request, Response, StatusCode, header};
use tower::{BoxError, Layer as _, Service as _, service_fn, util::BoxCloneSyncService};

use crate::oracle::Oracle;
use crate::watched::Watched;

const COUNT: Key<u64> = Key::new("count");
const NAME: &str = "__Host-Http-sid=";
const START: Timestamp = Timestamp::from_secs(1_800_000_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Count,
    Passive,
    LogIn(u8),
    StepUp,
    Rotate,
    LogOut,
    LogOutOthers,
    LogOutEverywhere,
}

impl Kind {
    /// Whether the response changes the cookie by intention.
    const fn acts(self) -> bool {
        !matches!(self, Self::Read | Self::Count | Self::Passive | Self::LogOutOthers)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Start {
        client: usize,
        kind: Kind,
        lose: bool,
    },
    Poll(usize),
    Finish,
    Drop(usize),
    Advance(u64),
    Thief {
        client: usize,
        back: usize,
    },
    /// A rotation from its beginning to its confirmation.
    RotateOnSchedule(usize),
    Junk(usize),
    Roam(usize),
    Sweep,
    EndAll(u8),
}

/// What a handler saw of its session.
#[derive(Clone, Copy, Debug)]
struct Seen {
    handle: Option<Handle>,
}

type Sights = Arc<Mutex<BTreeMap<u64, Seen>>>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<String>, BoxError>> + Send>>;

struct Flight {
    id: u64,
    client: Option<usize>,
    kind: Kind,
    lose: bool,
    /// How often the client's jar had changed when the request was sent.
    jar_changes: u64,
    /// Whether its token had ended moments before it was sent.
    late: bool,
    answer: Answering,
}

#[derive(Default)]
struct Client {
    token: Option<String>,
    jar_changes: u64,
    network: u8,
    /// The session it must have, unless it ended or expired: set by a login whose response arrived.
    must: Option<Handle>,
}

struct Watcher(Arc<Mutex<Oracle>>);

impl Observer for Watcher {
    fn observe(&self, event: &Event) {
        self.0.lock().unwrap().observe(event);
    }
}

pub(crate) struct Run {
    clock: ManualClock,
    store: Watched,
    layer: SessionLayer,
    app: BoxCloneSyncService<Request<()>, Response<String>, BoxError>,
    oracle: Arc<Mutex<Oracle>>,
    sights: Sights,
    clients: [Client; 3],
    flights: Vec<Flight>,
    next_id: u64,
}

impl Default for Run {
    fn default() -> Self {
        let clock = ManualClock::new(START);
        let oracle = Arc::new(Mutex::new(Oracle { now: START, ..Oracle::default() }));
        let store = Watched { inner: Arc::new(MemoryStore::new()), oracle: Arc::clone(&oracle) };
        let layer = SessionLayer::builder(store.clone())
            .clock(clock.clone())
            .entropy(SeededEntropy::new(11))
            .observer(Watcher(Arc::clone(&oracle)))
            .client_address(|head| head.headers.get("x-address")?.to_str().ok()?.parse().ok())
            .without_sweeping()
            .build()
            .unwrap();
        let sights = Sights::default();
        let app = {
            let (oracle, sights) = (Arc::clone(&oracle), Arc::clone(&sights));
            let handler =
                service_fn(move |request| handle(request, Arc::clone(&oracle), Arc::clone(&sights)));
            BoxCloneSyncService::new(layer.layer(handler))
        };
        let clients = std::array::from_fn(|_| Client::default());
        Self { clock, store, layer, app, oracle, sights, clients, flights: Vec::new(), next_id: 0 }
    }
}

#[derive(Clone, Copy)]
struct Order {
    id: u64,
    kind: Kind,
}

/// The application: looks at its session, tells the oracle, and does what the request says.
async fn handle(
    request: Request<()>,
    oracle: Arc<Mutex<Oracle>>,
    sights: Sights,
) -> Result<Response<String>, BoxError> {
    let order = *request.extensions().get::<Order>().unwrap();
    let session = match Session::load(request.extensions()).await {
        Ok(session) => session,
        Err(error) => return Ok(error.response()),
    };
    // The look-up and this line are one step: nobody came in between.
    let handle = session.handle();
    if let (Some(handle), Some(deadline)) = (handle, session.expires_at()) {
        oracle.lock().unwrap().accepted(handle, deadline);
    }
    sights.lock().unwrap().insert(order.id, Seen { handle });
    match act(&session, order.kind).await {
        Ok(said) => Ok(Response::new(said)),
        Err(error) => Ok(error.response()),
    }
}

async fn act(session: &Session, kind: Kind) -> Result<String, SessionError> {
    match kind {
        Kind::Read => {}
        Kind::Passive => session.mark_passive()?,
        Kind::Count => session.update(COUNT, |count| *count += 1)?,
        Kind::LogIn(who) => {
            let login = session.begin_login(format!("user-{who}")).await?;
            login.complete().await?;
        }
        Kind::StepUp => session.step_up(Level::TWO, ["pwd", "otp"]).await?,
        Kind::Rotate => session.rotate().await?,
        Kind::LogOut => session.log_out().await?,
        Kind::LogOutOthers => drop(session.log_out_others().await?),
        Kind::LogOutEverywhere => drop(session.log_out_everywhere().await?),
    }
    Ok(session.get(COUNT)?.unwrap_or_default().to_string())
}

fn handle_of(token: &str) -> Handle {
    // 21 characters hold 126 of the 128 bits; the handle's own text has the other two in its last character.
    let bytes = cloakroom::core::token::Token::parse(token.as_bytes()).expect("a token");
    bytes.handle()
}

impl Run {
    pub(crate) fn all(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
        self.step(&Step::Finish);
        self.check_secrets();
        self.check_counts();
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match *step {
            Step::Start { client, kind, lose } => self.start(client, kind, lose),
            Step::Poll(index) => {
                if !self.flights.is_empty() {
                    self.poll(index % self.flights.len());
                }
            }
            Step::Finish => {
                while !self.flights.is_empty() {
                    self.poll(0);
                }
            }
            Step::Drop(index) => {
                if !self.flights.is_empty() {
                    let flight = self.flights.remove(index % self.flights.len());
                    self.lost(&flight);
                }
            }
            Step::Advance(secs) => {
                self.clock.advance(Duration::from_secs(secs));
                self.oracle.lock().unwrap().now = START.plus(self.now().since(START));
            }
            Step::Thief { client, back } => self.thief(client, back),
            Step::RotateOnSchedule(client) => {
                self.step(&Step::Advance(906));
                for _ in 0..2 {
                    self.start(client, Kind::Read, false);
                    self.step(&Step::Finish);
                }
            }
            Step::Junk(client) => self.junk(client),
            Step::Roam(client) => self.clients[client].network ^= 1,
            Step::Sweep => drop(finish(Box::pin({
                let sessions = self.layer.sessions();
                async move { sessions.sweep().await }
            }))),
            Step::EndAll(who) => drop(finish(Box::pin({
                let sessions = self.layer.sessions();
                async move { sessions.end_all(format!("user-{who}")).await }
            }))),
        }
    }

    fn now(&self) -> Timestamp {
        use cloakroom::core::clock::Clock as _;
        self.clock.now().unwrap()
    }

    pub(crate) fn signed_in(&mut self, client: usize) -> bool {
        let token = self.clients[client].token.clone();
        let flight = self.send(None, Kind::Read, token.as_deref(), "192.0.2.1");
        let id = flight.id;
        self.finish_alone(flight);
        self.sights.lock().unwrap()[&id].handle.is_some()
    }

    fn send(&mut self, client: Option<usize>, kind: Kind, token: Option<&str>, address: &str) -> Flight {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = Request::builder().header("x-address", address).extension(Order { id, kind });
        if let Some(token) = token {
            request = request.header(header::COOKIE, format!("{NAME}{token}"));
        }
        let answer = Box::pin(self.app.clone().call(request.body(()).unwrap()));
        let jar_changes = client.map_or(0, |client| self.clients[client].jar_changes);
        let late = token.is_some_and(|token| self.oracle.lock().unwrap().just_ended(handle_of(token)));
        Flight { id, client, kind, lose: false, jar_changes, late, answer }
    }

    fn start(&mut self, client: usize, kind: Kind, lose: bool) {
        // A new request of a client while one of its lifecycle calls is under way may find its secret refused.
        let unsure = self.flights.iter().any(|flight| flight.client == Some(client) && flight.kind.acts());
        let token = self.clients[client].token.clone();
        let address = if self.clients[client].network == 0 { "192.0.2.1" } else { "198.51.100.1" };
        let mut flight = Flight { lose, ..self.send(Some(client), kind, token.as_deref(), address) };
        // Up to and including the look-up, so that the verdict belongs to the moment of sending.
        let mut done = None;
        while done.is_none() && !self.sights.lock().unwrap().contains_key(&flight.id) {
            done = poll_once(&mut flight.answer);
        }
        let seen = self.sights.lock().unwrap().get(&flight.id).copied();
        let seen = seen.expect("the store never fails here, so every request meets its session");
        self.check_not_signed_out(client, unsure, token.as_deref(), seen);
        if kind == Kind::Count
            && let Some(handle) = seen.handle
        {
            self.oracle.lock().unwrap().lives.get_mut(&handle).unwrap().uncertain += 1;
        }
        match done {
            Some(answer) => self.arrive(&flight, &answer.unwrap()),
            None => self.flights.push(flight),
        }
    }

    /// a client that behaves keeps its session until that ends, expires, or is taken from it by intention.
    fn check_not_signed_out(&self, client: usize, unsure: bool, token: Option<&str>, seen: Seen) {
        let Some(must) = self.clients[client].must.filter(|_| !unsure) else { return };
        let ended = self.oracle.lock().unwrap().lives[&must].ended.is_some();
        let Found::Live(record) = block_on(self.store.inner.find(must)).unwrap() else {
            assert!(ended);
            return;
        };
        let expired = self.now().plus(crate::oracle::SKEW) >= record.deadline().0;
        if !expired {
            assert_eq!(seen.handle, Some(must), "client {client} was signed out of {must} with {token:?}");
        }
    }

    fn poll(&mut self, index: usize) {
        if let Some(answer) = poll_once(&mut self.flights[index].answer) {
            let flight = self.flights.remove(index);
            self.arrive(&flight, &answer.unwrap());
        }
    }

    fn arrive(&mut self, flight: &Flight, answer: &Response<String>) {
        let cookies = answer.headers().get_all(header::SET_COOKIE).iter().collect::<Vec<_>>();
        assert!(cookies.len() <= 1, "R-031: one cookie a response");
        let cookie = cookies.first().map(|cookie| cookie.to_str().unwrap());
        let token = cookie.map(|cookie| cookie.strip_prefix(NAME).unwrap().split(';').next().unwrap());
        let token = token.map(|token| (!token.is_empty()).then(|| token.to_owned()));
        if let Some(Some(token)) = &token {
            self.oracle.lock().unwrap().issued(handle_of(token), token);
        }
        let seen = self.sights.lock().unwrap()[&flight.id];
        self.count(flight, seen, answer.status(), token.as_ref());
        let Some(client) = flight.client else { return };
        if flight.lose {
            self.lost(flight);
            return;
        }
        self.check_cookie(flight, seen, token.as_ref());
        let client = &mut self.clients[client];
        if let Some(token) = token {
            if client.token != token {
                client.jar_changes += 1;
            }
            client.must = match (&token, flight.kind) {
                (Some(token), Kind::LogIn(_)) => Some(handle_of(token)),
                (Some(token), _) => client.must.filter(|must| *must == handle_of(token)),
                (None, _) => None,
            };
            client.token = token;
        }
    }

    /// Nothing of the response reached the client: by what it did, the client may have lost its session.
    fn lost(&mut self, flight: &Flight) {
        if flight.kind.acts()
            && let Some(client) = flight.client
        {
            self.clients[client].must = None;
        }
    }

    /// A response never clears or replaces a cookie that another one may just have set.
    fn check_cookie(&self, flight: &Flight, seen: Seen, token: Option<&Option<String>>) {
        let Some(client) = flight.client.map(|client| &self.clients[client]) else { return };
        let by_intention = flight.kind.acts() && !matches!(flight.kind, Kind::Rotate | Kind::StepUp);
        if by_intention {
            return;
        }
        let Some(token) = token else { return };
        let Some(token) = token else { panic!("{:?} removed the cookie", flight.kind) };
        let oracle = self.oracle.lock().unwrap();
        let (handle, was) = (handle_of(token), client.token.as_deref().map(handle_of));
        // Two first requests without a cookie make two sessions, which nothing can tell apart; a session that has ended
        // has made way for another one.
        let replaced = client.jar_changes != flight.jar_changes && was != Some(handle);
        let ended = oracle.lives[&handle].ended.is_some();
        assert!(!(replaced && ended), "{:?} replaced a cookie that another response had set", flight.kind);
        // A token that ended moments ago is answered without any cookie.
        if seen.handle.is_none() && flight.late {
            panic!("{:?} set a cookie beside a late token", flight.kind);
        }
    }

    fn count(&self, flight: &Flight, seen: Seen, status: StatusCode, token: Option<&Option<String>>) {
        if flight.kind != Kind::Count {
            return;
        }
        let oracle = &mut *self.oracle.lock().unwrap();
        match (seen.handle, token) {
            (Some(handle), _) => {
                let life = oracle.lives.get_mut(&handle).unwrap();
                life.uncertain -= 1;
                if status == StatusCode::OK {
                    life.counted += 1;
                }
            }
            (None, Some(Some(token))) => oracle.lives.get_mut(&handle_of(token)).unwrap().counted += 1,
            (None, _) => {}
        }
    }

    fn finish_alone(&mut self, mut flight: Flight) {
        loop {
            if let Some(answer) = poll_once(&mut flight.answer) {
                return self.arrive(&flight, &answer.unwrap());
            }
        }
    }

    /// a retired secret that comes back ends the session after its grace, and never before.
    fn thief(&mut self, client: usize, back: usize) {
        let Some(handle) = self.clients[client].token.as_deref().map(handle_of) else { return };
        let (index, token, must, may) = {
            let oracle = self.oracle.lock().unwrap();
            let life = &oracle.lives[&handle];
            if life.ended.is_some() {
                return;
            }
            let Some(index) = (life.secrets.len() - 1).checked_sub(back) else { return };
            let Some(token) = life.secrets[index].token.clone() else { return };
            let (must, may) = oracle.replay(handle, index);
            (index, token, must, may)
        };
        let Found::Live(record) = block_on(self.store.inner.find(handle)).unwrap() else { return };
        let expired = self.now().plus(crate::oracle::SKEW) >= record.deadline().0;
        self.oracle.lock().unwrap().replay_allowed = may;
        let flight = self.send(None, Kind::Read, Some(&token), "203.0.113.99");
        let id = flight.id;
        self.finish_alone(flight);
        let mut oracle = self.oracle.lock().unwrap();
        oracle.replay_allowed = false;
        let ended = oracle.lives[&handle].ended.map(|(reason, _)| reason);
        if must && !expired {
            assert_eq!(ended, Some(Reason::Replay), "secret {index} of {handle} came back unnoticed");
        }
        // Whoever holds a valid token is the session; the owner cannot tell. A stolen successor is in use then.
        let accepted = self.sights.lock().unwrap()[&id].handle.is_some();
        oracle.lives.get_mut(&handle).unwrap().stolen |= accepted;
        drop(oracle);
        if self.clients[client].must == Some(handle) {
            self.clients[client].must = None;
        }
    }

    /// Junk never ends a session.
    fn junk(&mut self, client: usize) {
        let Some(token) = self.clients[client].token.clone() else { return };
        let junk = format!("{}{}", &token[..22], "A".repeat(42));
        let flight = self.send(None, Kind::Count, Some(&junk), "203.0.113.99");
        let id = flight.id;
        self.finish_alone(flight);
        assert_eq!(self.sights.lock().unwrap()[&id].handle, None);
    }

    /// At most two secrets of a session are valid at any time, and they are its newest.
    fn check_secrets(&self) {
        let engine = Engine::default();
        for (handle, life) in &self.oracle.lock().unwrap().lives {
            let found = block_on(self.store.inner.find(*handle)).unwrap();
            let valid = |secret: &crate::oracle::Secret| {
                let Some(token) = &secret.token else { return false };
                let field = format!("{NAME}{token}");
                let presented = engine.present([field.as_bytes()]);
                let resumed = engine.resume(&presented, vec![found.clone()], Facts::default(), self.now());
                resumed.unwrap().record().is_some()
            };
            let valid = life.secrets.iter().map(valid).collect::<Vec<_>>();
            let older = valid.len().saturating_sub(2);
            assert!(!valid[..older].contains(&true), "an old secret of {handle} is valid: {valid:?}");
            assert!(life.ended.is_none() || !valid.contains(&true), "{handle} has ended");
        }
    }

    /// No update of an answered request is lost, and none counts twice.
    fn check_counts(&mut self) {
        for client in 0..self.clients.len() {
            let Some(token) = self.clients[client].token.clone() else { continue };
            let flight = self.send(None, Kind::Read, Some(&token), "192.0.2.1");
            let id = flight.id;
            let mut answer = flight.answer;
            let answer = loop {
                if let Some(answer) = poll_once(&mut answer) {
                    break answer.unwrap();
                }
            };
            let Some(handle) = self.sights.lock().unwrap()[&id].handle else { continue };
            let count = answer.body().parse::<u64>().unwrap();
            let oracle = self.oracle.lock().unwrap();
            let life = &oracle.lives[&handle];
            let range = life.counted..=life.counted + life.uncertain;
            assert!(range.contains(&count), "{handle} counts {count}, expected {range:?}");
        }
    }
}

fn poll_once(answer: &mut Answering) -> Option<Result<Response<String>, BoxError>> {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

fn finish<T>(mut future: Pin<Box<dyn Future<Output = T>>>) -> T {
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}
