//! The layer: the parts of a deployment, put together and checked.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cloakroom_core::client::Client;
use cloakroom_core::clock::Clock;
use cloakroom_core::cookie::{Cookie, CookieOptions};
use cloakroom_core::engine::{Activity, Engine, Resumed};
use cloakroom_core::entropy::Entropy;
use cloakroom_core::event::{Event, EventKind, Observer};
use cloakroom_core::policy::{ConfigErrors, Policy, Problem};
use cloakroom_core::seal::{Pepper, Peppers};
use cloakroom_core::store::{BySubject, Sweep};
use http::{Extensions, HeaderMap, Method, Request, Uri};

use crate::clocks::Compared;
use crate::erased::SharedStore;
use crate::error::SessionError;
use crate::guessing::{Guessing, GuessingLimits};
use crate::observe::TracingObserver;
use crate::service::SessionService;
use crate::system::{SystemClock, SystemEntropy};
use crate::turns::Turns;
#[cfg(feature = "tokio")]
use crate::watch::{Announcing, Hub};

/// The head of a request, for deciding what kind of activity it is and where it came from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The header fields. Anybody can send any of them.
    pub headers: &'a HeaderMap,
    /// What outer layers have put beside the request, such as the address of the connection.
    pub extensions: &'a Extensions,
}

impl<'a> RequestHead<'a> {
    pub(crate) fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

type AddressOf = Arc<dyn Fn(RequestHead<'_>) -> Option<IpAddr> + Send + Sync>;
type ActivityOf = Arc<dyn Fn(RequestHead<'_>) -> Activity + Send + Sync>;

/// How long a finished response waits for housekeeping, unless told otherwise.
const PATIENCE: Duration = Duration::from_millis(100);

/// What all requests of a deployment share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) store: SharedStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) address_of: Option<AddressOf>,
    pub(crate) activity_of: Option<ActivityOf>,
    pub(crate) turns: Turns,
    pub(crate) guessing: Guessing,
    /// How long a finished response waits for housekeeping.
    pub(crate) patience: Duration,
    /// Whether a logout clears the cookies of the whole registrable domain.
    pub(crate) clears_whole_site: bool,
    /// What the last comparison with the store's clock came to.
    pub(crate) compared: Compared,
    /// Whether the background task runs.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "there is none without a runtime"))]
    pub(crate) rounds: AtomicBool,
    /// Whether that task sweeps.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "nobody sweeps without a runtime"))]
    pub(crate) sweeps: bool,
    #[cfg(feature = "tokio")]
    pub(crate) watching: Watching,
}

/// Those who wait for a session's end. Without a layer nobody can tell them.
#[cfg(feature = "tokio")]
pub(crate) struct Watching(pub(crate) Arc<Hub>);

#[cfg(feature = "tokio")]
impl Drop for Watching {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    pub(crate) fn observe(&self, event: &Event) {
        self.observer.observe(event);
    }

    /// Reports an error that refuses a request.
    pub(crate) fn report(&self, error: &SessionError, mut event: Event) {
        use cloakroom_core::error::EngineError;
        event.kind = match error {
            SessionError::Store(error) => {
                event.cause = Some(error.cause()).filter(|cause| !cause.is_empty()).map(Into::into);
                EventKind::StoreFailed(error.kind())
            }
            SessionError::Engine(EngineError::Tampered { handle }) => {
                event.handle = Some(*handle);
                EventKind::RecordTampered
            }
            SessionError::Engine(EngineError::PepperUnknown { handle, pepper }) => {
                event.handle = Some(*handle);
                EventKind::PepperUnknown(*pepper)
            }
            SessionError::Engine(EngineError::Entropy(_)) | SessionError::Clock(_) => EventKind::SetupFailed,
            SessionError::ClockOff { .. } => EventKind::ClockOff,
            SessionError::Conflict => EventKind::WriteConflict,
            SessionError::CapReached => EventKind::CapReached,
            SessionError::LoginSuperseded => EventKind::LoginSuperseded,
            SessionError::NotKept => EventKind::WriteDiscarded,
            SessionError::Throttled => EventKind::LookUpsThrottled,
            _ => return,
        };
        self.observe(&event);
    }

    /// Reports an error that refuses what a request asks for, and passes it on.
    pub(crate) fn refuse(&self, error: SessionError, resumed: &Resumed) -> SessionError {
        let at = self.clock.now().unwrap_or_default();
        let event = Event::new(EventKind::SetupFailed, resumed.facts().client, at);
        let event = match resumed.record() {
            Some(record) => event.of(record.handle(), record.subject()),
            None => event,
        };
        self.report(&error, event);
        error
    }

    /// Reports an error of a call outside any request, and passes it on.
    pub(crate) fn refuse_outside(&self, error: SessionError) -> SessionError {
        let at = self.clock.now().unwrap_or_default();
        self.report(&error, Event::new(EventKind::SetupFailed, Client::default(), at));
        error
    }
}

/// Adds sessions to a tower service, such as an axum `Router`.
///
/// ```
/// use cloakroom::{MemoryStore, SessionLayer};
///
/// let app: axum::Router = axum::Router::new().layer(SessionLayer::new(MemoryStore::new()));
/// ```
///
/// Does nothing for a request whose handler does not ask for its session: no look-up, no cookie, no field.
#[derive(Clone)]
pub struct SessionLayer {
    pub(crate) shared: Arc<Shared>,
}

impl SessionLayer {
    /// Uses a store, and defaults for everything else: [`Policy::default`], the cookie `__Host-Http-sid`, no pepper, the
    /// system's clock and randomness, events to `tracing`.
    pub fn new(store: impl BySubject + Sweep) -> Self {
        Self::builder(store).with_engine(Engine::default())
    }

    /// Begins with a store, to change some of the defaults.
    pub fn builder(store: impl BySubject + Sweep) -> SessionLayerBuilder {
        #[cfg(feature = "tokio")]
        let hub = Arc::new(Hub::default());
        #[cfg(feature = "tokio")]
        let store = Announcing::new(store, Arc::clone(&hub));
        SessionLayerBuilder {
            store: Arc::new(store),
            #[cfg(feature = "tokio")]
            hub,
            policy: Policy::default(),
            cookie: CookieOptions::default(),
            peppers: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            observer: Arc::new(TracingObserver),
            address_of: None,
            activity_of: None,
            guessing: GuessingLimits::default(),
            patience: PATIENCE,
            clears_whole_site: false,
            sweep: true,
            unchecked_clock: None,
        }
    }

    /// The sessions of all users, for administrators and for what happens outside a request.
    pub fn sessions(&self) -> crate::admin::Sessions {
        crate::admin::Sessions { shared: Arc::clone(&self.shared) }
    }

    /// The session cookie.
    pub fn cookie(&self) -> &Cookie {
        self.shared.engine.cookie()
    }

    /// Where events go.
    pub fn observer(&self) -> &dyn Observer {
        &*self.shared.observer
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        self.shared.engine.policy()
    }
}

impl fmt::Debug for SessionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer").field("engine", &self.shared.engine).finish_non_exhaustive()
    }
}

impl<S> tower_layer::Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        SessionService { inner, shared: Arc::clone(&self.shared) }
    }
}

/// Collects what a [`SessionLayer`] is made of.
#[must_use = "a builder does nothing until it is built"]
pub struct SessionLayerBuilder {
    store: SharedStore,
    #[cfg(feature = "tokio")]
    hub: Arc<Hub>,
    policy: Policy,
    cookie: CookieOptions,
    peppers: Option<Peppers>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
    address_of: Option<AddressOf>,
    activity_of: Option<ActivityOf>,
    guessing: GuessingLimits,
    patience: Duration,
    clears_whole_site: bool,
    sweep: bool,
    unchecked_clock: Option<String>,
}

impl SessionLayerBuilder {
    /// Sets the policy. Default: [`Policy::default`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the cookie. Default: `__Host-Http-sid` with `Path=/; Secure; HttpOnly; SameSite=Lax`.
    pub fn cookie(mut self, cookie: CookieOptions) -> Self {
        self.cookie = cookie;
        self
    }

    /// Sets the peppers. Default: none, so that whoever can write to the store can make sessions.
    pub fn peppers(mut self, peppers: Peppers) -> Self {
        self.peppers = Some(peppers);
        self
    }

    /// Sets the observer of events. Default: [`TracingObserver`].
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Says how to find the client's address. Default: unknown.
    ///
    /// # Security
    ///
    /// Return only an address that a client cannot choose: that of the connection, or one that your own proxy
    /// has written and always overwrites (R-106).
    pub fn client_address(
        mut self,
        address_of: impl Fn(RequestHead<'_>) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.address_of = Some(Arc::new(address_of));
        self
    }

    /// Takes the address of the connection for the client's, from what the server has put beside the request. On axum:
    ///
    /// ```
    /// # use std::net::SocketAddr;
    /// # use axum::{Router, extract::ConnectInfo};
    /// # use cloakroom::{MemoryStore, SessionLayer};
    /// let sessions = SessionLayer::builder(MemoryStore::new()).peer_address::<ConnectInfo<SocketAddr>>().build()?;
    /// let app: Router = Router::new().layer(sessions);
    /// // axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
    /// # let _ = app.into_make_service_with_connect_info::<SocketAddr>();
    /// # Ok::<(), cloakroom::ConfigErrors>(())
    /// ```
    ///
    /// Without the second line nothing is put there, and the address stays unknown.
    ///
    /// # Security
    ///
    /// Only where clients connect directly. Behind a proxy all of them would seem to be on the proxy's network: use
    /// [`client_address`](Self::client_address) with what the proxy writes. With an address, a successor goes only to a client on the
    /// same network (R-052), and guessing is bounded (R-111).
    pub fn peer_address<P>(self) -> Self
    where
        P: std::ops::Deref<Target = SocketAddr> + Send + Sync + 'static,
    {
        self.client_address(|head| head.extensions.get::<P>().map(|peer| peer.ip()))
    }

    /// Says which requests are no user activity, such as polling: they do not move the idle timer (R-045). Default:
    /// every request is user activity. A handler can say so too: [`Session::mark_passive`](crate::Session::mark_passive).
    pub fn activity(
        mut self,
        activity_of: impl Fn(RequestHead<'_>) -> Activity + Send + Sync + 'static,
    ) -> Self {
        self.activity_of = Some(Arc::new(activity_of));
        self
    }

    /// Sets the clock. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the source of randomness. Default: [`SystemEntropy`].
    ///
    /// # Security
    ///
    /// Every token is drawn from it.
    pub fn entropy(mut self, entropy: impl Entropy) -> Self {
        self.entropy = Arc::new(entropy);
        self
    }

    /// Sets how much guessing of tokens is borne from one network. Default: [`GuessingLimits::default`]. Takes effect where the client's
    /// address is known.
    ///
    /// # Security
    ///
    /// Beyond it, clients of that network whose sessions this process does not know may be told to try again (503); none is taken
    /// for somebody without session (R-111).
    pub const fn guessing(mut self, limits: GuessingLimits) -> Self {
        self.guessing = limits;
        self
    }

    /// How long a finished response waits for housekeeping: a note of activity, the confirmation of a rotation, a scheduled rotation.
    /// Default 100 milliseconds, from 1 millisecond to 10 seconds. What takes longer is left out, with an event
    /// ([`EventKind::HousekeepingDropped`]), and done by a later request. Changes that the application has asked for are always waited for.
    ///
    /// Measured by the tokio runtime that serves the request; without the feature `tokio` there is no bound.
    ///
    /// # Security
    ///
    /// While the store does not take notes of activity, a session may idle out early, by as long as that lasts; never late. A secret
    /// that is due for rotation stays in use for as long.
    pub const fn housekeeping_timeout(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Makes a logout clear all cookies of the whole registrable domain: `Clear-Site-Data: "cookies"` beside `"cache"` and
    /// `"storage"`. Default: not. The session cookie itself is removed in either case.
    ///
    /// # Security
    ///
    /// For a site that owns its registrable domain and keeps cookies elsewhere that must not survive a logout. Browsers empty
    /// the jar of every host below `example.org`, whatever their ports, when one of them says so (W3C Clear Site Data section
    /// 3.1): who logs out here is logged out of the neighbours too (R-063).
    pub const fn logout_clears_cookies_of_whole_site(mut self) -> Self {
        self.clears_whole_site = true;
        self
    }

    /// Does not sweep in the background. For a store that clears itself, or where another process sweeps; otherwise
    /// expired sessions, though refused, pile up.
    pub const fn without_sweeping(mut self) -> Self {
        self.sweep = false;
        self
    }

    /// Never compares this machine's clock with the store's, because of `reason`. By default they are compared every ten seconds, before
    /// a sweep and before a session is taken for expired, and while they differ by more than [`Policy::clock_skew`] requests that
    /// bring a token are refused with 503, as are logins. Without effect on a store that has no clock of its own.
    ///
    /// # Security
    ///
    /// With it, one machine whose clock is ahead signs everybody out who shares the store.
    pub fn insecure_without_clock_check(mut self, reason: impl Into<String>) -> Self {
        self.unchecked_clock = Some(reason.into());
        self
    }

    /// Checks the parts and puts them together.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem at once.
    pub fn build(mut self) -> Result<SessionLayer, ConfigErrors> {
        let policy = std::mem::take(&mut self.policy);
        let cookie = std::mem::take(&mut self.cookie).build();
        let peppers = self.peppers.take().unwrap_or_else(|| Peppers::new(Pepper::none()));
        let mut problems = Vec::new();
        let mut note = |errors: ConfigErrors| problems.extend(errors.problems().iter().cloned());
        policy.check().unwrap_or_else(&mut note);
        let cookie = cookie.map_err(&mut note).ok();
        self.check().unwrap_or_else(&mut note);
        ConfigErrors::unless_empty(problems)?;
        let engine = Engine::new(policy, cookie.unwrap_or_default(), peppers)?;
        Ok(self.with_engine(engine))
    }

    /// Checks what is neither policy nor cookie.
    fn check(&self) -> Result<(), ConfigErrors> {
        let mut problems = Vec::new();
        let limits = Duration::from_millis(1)..=Duration::from_secs(10);
        if !limits.contains(&self.patience) {
            let value = format!("{:?}", self.patience);
            problems.push(Problem::new("housekeeping_timeout", &value, "1 millisecond to 10 seconds"));
        }
        if let Err(errors) = self.guessing.check() {
            problems.extend(errors.problems().iter().cloned());
        }
        if self.unchecked_clock.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
            problems.push(Problem::new("insecure_without_clock_check", "", "a reason, in words"));
        }
        ConfigErrors::unless_empty(problems)
    }

    fn with_engine(self, engine: Engine) -> SessionLayer {
        self.store.govern(engine.policy().figures());
        SessionLayer {
            shared: Arc::new(Shared {
                engine,
                store: self.store,
                clock: self.clock,
                entropy: self.entropy,
                observer: self.observer,
                address_of: self.address_of,
                activity_of: self.activity_of,
                turns: Turns::default(),
                guessing: Guessing::new(self.guessing),
                patience: self.patience,
                clears_whole_site: self.clears_whole_site,
                compared: Compared::unless(self.unchecked_clock.is_some()),
                rounds: AtomicBool::new(false),
                sweeps: self.sweep,
                #[cfg(feature = "tokio")]
                watching: Watching(self.hub),
            }),
        }
    }
}

impl fmt::Debug for SessionLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayerBuilder")
            .field("policy", &self.policy)
            .field("cookie", &self.cookie)
            .finish_non_exhaustive()
    }
}
