//! The place beside a request where its session is, once somebody asks for it.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cloakroom_core::client::{Client, Network};
use cloakroom_core::clock::{ClockError, Timestamp};
use cloakroom_core::data::{Changes, DataMap};
use cloakroom_core::engine::{Activity, Facts, Offered, Presented, Resumed};
use cloakroom_core::event::{Event, EventKind};
use cloakroom_core::record::{Record, Subject};
use cloakroom_core::store::{Epoch, Found, Reason};
use cloakroom_core::token::Handle;
use http::{HeaderValue, Request, header};

use crate::changing::Updating;
use crate::error::SessionError;
use crate::guessing;
use crate::layer::{RequestHead, Shared};
use crate::system::steady;

/// One request's session: what it presented, and what has become of it.
pub(crate) struct Slot {
    pub(crate) shared: Arc<Shared>,
    offered: Offered,
    user_agent: Option<HeaderValue>,
    address: Option<IpAddr>,
    activity: Activity,
    pub(crate) arrived: Result<Timestamp, ClockError>,
    arrived_steadily: Instant,
    state: Mutex<State>,
}

/// Cloned into the request's extensions.
#[derive(Clone)]
pub(crate) struct SlotHandle(pub(crate) Arc<Slot>);

#[allow(clippy::large_enum_variant, reason = "lies in the one allocation that a request has anyway")]
enum State {
    /// Nobody has asked: the response is passed on as it is.
    Untouched,
    /// Somebody has asked, and the answer was an error.
    Failed,
    Loaded(Loaded),
    /// The response has started.
    Closed(Option<Tie>),
}

/// The session that a request's streams belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tie {
    pub(crate) handle: Handle,
    /// Whether the request still had it. If not, it has ended it itself.
    pub(crate) held: bool,
}

/// A loaded session, and what the request wants of it.
pub(crate) struct Loaded {
    pub(crate) resumed: Resumed,
    /// The session that the request came with.
    came_with: Option<Handle>,
    /// The data after the changes, where there are any: what `changes` make of the data of `resumed`. Forgotten whenever `resumed`
    /// is another.
    pub(crate) view: Option<DataMap>,
    pub(crate) changes: Changes,
    /// Counts what has become of the two, and of `resumed`.
    pub(crate) edition: u64,
    /// Whether a lifecycle call is under way.
    acting: bool,
    /// Whether the response tells the browser to clear what it keeps.
    pub(crate) clear_site_data: bool,
    /// The epochs left by this request's own "end all sessions": a login after it is admitted.
    pub(crate) own_epochs: Vec<(Subject, Epoch)>,
}

/// What is left at the end of a request.
#[allow(clippy::large_enum_variant, reason = "short-lived, and the large one is the common one")]
pub(crate) enum Closing {
    /// The session was never asked for.
    Untouched,
    /// It was, but could not be loaded.
    Failed,
    Loaded(Loaded),
}

/// How loading goes on.
enum Loading<'a> {
    Done(Result<(), SessionError>),
    Waiting(Pin<Box<dyn Future<Output = Result<(), SessionError>> + Send + 'a>>),
}

impl Slot {
    pub(crate) fn new<B>(shared: &Arc<Shared>, request: &Request<B>) -> Arc<Self> {
        let head = RequestHead::of(request);
        let fields = head.headers.get_all(header::COOKIE);
        Arc::new(Self {
            offered: shared.engine.offered(fields.iter().map(HeaderValue::as_bytes)),
            user_agent: head.headers.get(header::USER_AGENT).cloned(),
            address: shared.address_of.as_ref().and_then(|address_of| address_of(head)),
            activity: shared.activity_of.as_ref().map_or(Activity::User, |activity_of| activity_of(head)),
            arrived: shared.clock.now(),
            arrived_steadily: steady(),
            state: Mutex::new(State::Untouched),
            shared: Arc::clone(shared),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks the presented tokens up and judges them; once a request, whoever asks.
    pub(crate) async fn load(&self) -> Result<(), SessionError> {
        // What has to be waited for is in a box: beside a store's answer that costs nothing, and the futures of handlers, which
        // hold this one, stay small.
        match self.begin_load() {
            Loading::Done(outcome) => outcome,
            Loading::Waiting(rest) => rest.await,
        }
    }

    /// Loads as far as that goes without waiting: all the way, mostly, where the store answers at once.
    fn begin_load(&self) -> Loading<'_> {
        match &*self.lock() {
            State::Loaded(_) => return Loading::Done(Ok(())),
            State::Closed(_) => return Loading::Done(Err(SessionError::AfterResponse)),
            State::Untouched | State::Failed => {}
        }
        let facts = Facts { client: self.client(), activity: self.activity };
        if let Err(error) = self.arrived {
            return Loading::Done(self.loaded(Err(error.into()), facts));
        }
        let presented = self.offered.read();
        if let (Some(network), Ok(now)) = (self.network(), self.arrived)
            && !self.shared.guessing.admits(network, presented.handles(), now)
        {
            return Loading::Done(self.loaded(Err(SessionError::Throttled), facts));
        }
        let at_once = !self.shared.is_clock_off() || presented.handles().next().is_none();
        let found = at_once.then(|| self.find_at_once(&presented)).flatten();
        match found.map(|found| self.judge(&presented, found?, facts)) {
            Some(Ok(resumed)) if resumed.has_endings() || resumed.judged_by_time() => {
                Loading::Waiting(Box::pin(async move {
                    let ended = self.end(resumed).await;
                    self.loaded(ended, facts)
                }))
            }
            Some(outcome) => Loading::Done(self.loaded(outcome, facts)),
            None => Loading::Waiting(Box::pin(async move {
                let outcome = self.resume(presented, facts).await;
                self.loaded(outcome, facts)
            })),
        }
    }

    /// Looks up what was presented, if it is one token or none and the store answers at once.
    fn find_at_once(&self, presented: &Presented) -> Option<Result<Option<Found>, SessionError>> {
        let mut handles = presented.handles();
        match (handles.next(), handles.next()) {
            (None, _) => Some(Ok(None)),
            (Some(handle), None) => {
                Some(self.shared.store.find_at_once(handle)?.map(Some).map_err(SessionError::from))
            }
            (Some(_), Some(_)) => None,
        }
    }

    async fn resume(&self, presented: Presented, facts: Facts) -> Result<Resumed, SessionError> {
        // Whoever brings a token is not judged by a clock that is off: unknown is not the same as "anonymous".
        self.shared.agree().await?;
        // Nearly always one, for which no list is made.
        let mut handles = presented.handles();
        let first = match handles.next() {
            Some(handle) => Some(self.shared.store.find(handle).await?),
            None => None,
        };
        let mut others = Vec::new();
        for handle in handles {
            others.push(self.shared.store.find(handle).await?);
        }
        let resumed = self.judge(&presented, first.into_iter().chain(others), facts)?;
        let decided = resumed.has_endings() || resumed.judged_by_time();
        if decided { self.end(resumed).await } else { Ok(resumed) }
    }

    fn judge(
        &self,
        presented: &Presented,
        found: impl IntoIterator<Item = Found>,
        facts: Facts,
    ) -> Result<Resumed, SessionError> {
        Ok(self.shared.engine.resume(presented, found, facts, self.shared.clock.now()?)?)
    }

    /// Notes what the look-up has come to.
    fn loaded(&self, outcome: Result<Resumed, SessionError>, facts: Facts) -> Result<(), SessionError> {
        let mut state = self.lock();
        match outcome {
            Ok(_) if matches!(&*state, State::Loaded(_)) => Ok(()),
            Ok(_) if matches!(&*state, State::Closed(_)) => Err(SessionError::AfterResponse),
            Ok(mut resumed) => {
                let events = resumed.take_events();
                let unknown = events.iter().filter(|event| {
                    matches!(event.kind, EventKind::UnknownToken | EventKind::MalformedToken)
                });
                self.note(unknown.count(), &resumed);
                events.iter().for_each(|event| self.shared.observe(event));
                *state = State::Loaded(Loaded {
                    came_with: resumed.record().map(Record::handle),
                    resumed,
                    view: None,
                    changes: Changes::default(),
                    edition: 0,
                    acting: false,
                    clear_site_data: false,
                    own_epochs: Vec::new(),
                });
                Ok(())
            }
            Err(error) => {
                if !matches!(&*state, State::Closed(_)) {
                    *state = State::Failed;
                }
                let at = self.arrived.unwrap_or_default();
                self.shared.report(&error, Event::new(EventKind::SetupFailed, facts.client, at));
                Err(error)
            }
        }
    }

    /// Takes note of what guessing is told by: tokens that are none, and sessions that are alive.
    fn note(&self, unknown: usize, resumed: &Resumed) {
        let Some(network) = self.network() else { return };
        if unknown > 0 {
            self.shared.guessing.unknown(network, unknown, resumed.at());
        }
        if let Some(record) = resumed.record() {
            self.shared.guessing.alive(record.handle(), resumed.at());
        }
    }

    /// The client's network, where it says something of the client.
    fn network(&self) -> Option<Network> {
        self.address.map(Network::from).filter(guessing::tells)
    }

    /// Ends the sessions that the verdict ends, once it is sure that it was not this machine's clock alone that decided.
    async fn end(&self, mut resumed: Resumed) -> Result<Resumed, SessionError> {
        let shared = &self.shared;
        if resumed.judged_by_time() {
            shared.compare().await?;
        }
        for (handle, reason) in resumed.take_endings() {
            let now = shared.now()?;
            if let Some(record) = shared.store.remove(handle, reason, now).await? {
                shared.observe(&shared.engine.ended(&resumed, &record, reason, now));
            }
        }
        Ok(resumed)
    }

    /// How long ago the request arrived: whichever clock says longer, so that one that is set back makes nothing younger, and one that
    /// is set forward, as that of a store on the same machine is with it, makes no end of all sessions older than the request.
    pub(crate) fn age(&self) -> Result<Duration, SessionError> {
        let by_clock = self.shared.now()?.since(self.arrived?);
        Ok(steady().saturating_duration_since(self.arrived_steadily).max(by_clock))
    }

    pub(crate) fn client(&self) -> Client {
        let agent = self.user_agent.as_ref().map_or(&b""[..], |agent| agent.as_bytes());
        Client::recognise(agent, self.address)
    }

    /// Looks at the loaded session.
    pub(crate) fn with<T>(
        &self,
        look: impl FnOnce(&mut Loaded) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        match &mut *self.lock() {
            State::Loaded(loaded) => look(loaded),
            State::Closed(_) => Err(SessionError::AfterResponse),
            // A `Session` exists only once its slot was loaded.
            State::Untouched | State::Failed => Err(SessionError::NoLayer),
        }
    }

    /// Reports an error of a call that looks only, and passes it on.
    pub(crate) fn refuse(&self, error: SessionError) -> SessionError {
        match &*self.lock() {
            State::Loaded(loaded) => self.shared.refuse(error, &loaded.resumed),
            _ => error,
        }
    }

    /// Begins a lifecycle call: only one at a time.
    pub(crate) fn act(self: &Arc<Self>) -> Result<Act, SessionError> {
        Updating::check(self)?;
        let resumed = self.with(|loaded| {
            if loaded.acting {
                return Err(SessionError::Busy);
            }
            loaded.acting = true;
            Ok(loaded.resumed.clone())
        })?;
        Ok(Act { slot: Arc::clone(self), resumed })
    }

    /// Closes the slot: what is changed from now on is [`SessionError::AfterResponse`].
    pub(crate) fn close(&self) -> Closing {
        let mut state = self.lock();
        if matches!(*state, State::Untouched) {
            // Nothing to take out.
            *state = State::Closed(None);
            return Closing::Untouched;
        }
        let tie = state.tie();
        match std::mem::replace(&mut *state, State::Closed(tie)) {
            State::Untouched => Closing::Untouched,
            State::Failed | State::Closed(_) => Closing::Failed,
            State::Loaded(loaded) => Closing::Loaded(loaded),
        }
    }

    /// The session that the request's streams belong to, also when the response has begun.
    #[cfg(feature = "tokio")]
    pub(crate) fn tie(&self) -> Option<Tie> {
        self.lock().tie()
    }

    /// Notes that the conclusion has made a session for a visitor who had none.
    pub(crate) fn established(&self, handle: Handle) {
        if let (Some(_), Ok(now)) = (self.network(), self.arrived) {
            self.shared.guessing.alive(handle, now);
        }
        if let State::Closed(tie @ None) = &mut *self.lock() {
            *tie = Some(Tie { handle, held: true });
        }
    }
}

impl State {
    fn tie(&self) -> Option<Tie> {
        match self {
            Self::Loaded(loaded) => {
                let held = loaded.resumed.record().map(|record| Tie { handle: record.handle(), held: true });
                held.or(loaded.came_with.map(|handle| Tie { handle, held: false }))
            }
            Self::Closed(tie) => *tie,
            Self::Untouched | Self::Failed => None,
        }
    }
}

/// A lifecycle call under way. Dropped before [`Act::done`], it leaves the request's view as it was.
pub(crate) struct Act {
    slot: Arc<Slot>,
    pub(crate) resumed: Resumed,
}

impl Act {
    pub(crate) fn shared(&self) -> &Shared {
        &self.slot.shared
    }

    pub(crate) fn shared_for_long(&self) -> Arc<Shared> {
        Arc::clone(&self.slot.shared)
    }

    /// Ends sessions, and reports each that was there; returns whether any was.
    pub(crate) async fn end(&self, handles: &[Handle], reason: Reason) -> Result<bool, SessionError> {
        let shared = self.shared();
        let mut any = false;
        for &handle in handles {
            let now = shared.now()?;
            if let Some(record) = shared.store.remove(handle, reason, now).await? {
                any = true;
                shared.observe(&shared.engine.ended(&self.resumed, &record, reason, now));
            }
        }
        Ok(any)
    }

    /// Publishes what the call has reached so far.
    pub(crate) fn publish(&mut self, note: impl FnOnce(&mut Loaded)) -> Result<(), SessionError> {
        for event in self.resumed.take_events() {
            self.shared().observe(&event);
        }
        let resumed = self.resumed.clone();
        self.hand_over(resumed, note)
    }

    /// Publishes what the call has reached at its end: nothing of it is left here.
    pub(crate) fn publish_last(&mut self, note: impl FnOnce(&mut Loaded)) -> Result<(), SessionError> {
        for event in self.resumed.take_events() {
            self.shared().observe(&event);
        }
        let resumed = std::mem::take(&mut self.resumed);
        self.hand_over(resumed, note)
    }

    fn hand_over(&self, resumed: Resumed, note: impl FnOnce(&mut Loaded)) -> Result<(), SessionError> {
        self.slot.note(0, &resumed);
        self.slot.with(|loaded| {
            loaded.resumed = resumed;
            loaded.view = None;
            loaded.edition += 1;
            note(loaded);
            Ok(())
        })
    }

    /// Reports an error of the call, and passes it on.
    pub(crate) fn refuse(&self, error: SessionError) -> SessionError {
        self.shared().refuse(error, &self.resumed)
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        let freed = self.slot.with(|loaded| {
            loaded.acting = false;
            Ok(())
        });
        // Nothing to free once the response has started.
        drop(freed);
    }
}
