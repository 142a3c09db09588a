//! A desk to tell stories at: a store in a map, a clock that is moved by hand, seeded randomness, and browsers.
//!
//! A request runs in two halves, [`Desk::begin`] and [`Desk::finish`], so that a test decides what happens in between. The
//! response reaches a browser only by [`Browser::receive`]: what is not received was lost on the way.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test file uses its own part of the desk")]

pub mod browser;
pub mod mirror;
pub mod shelf;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::cookie::Cookie;
use cloakroom_core::data::Changes;
use cloakroom_core::engine::{Engine, Facts, Resumed};
use cloakroom_core::entropy::{Entropy, EntropyError};
use cloakroom_core::error::EngineError;
use cloakroom_core::event::{Event, EventKind};
use cloakroom_core::lifecycle::{Rebased, Rotation, Write};
use cloakroom_core::policy::Policy;
use cloakroom_core::record::{Proof, Record, Subject};
use cloakroom_core::seal::{Pepper, Peppers};
use cloakroom_core::store::{Epoch, Inserted, Reason, Replaced};
use cloakroom_core::token::Handle;
use sha2::{Digest as _, Sha256};

pub use browser::{Browser, Reply, Request, base64, bytes, handle_of, text};
pub use shelf::Shelf;

pub const HOME: &str = "203.0.113.7";
pub const CAFE: &str = "198.51.100.20";
pub const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
pub const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36";
/// The noon at which every story begins.
pub const NOON: Timestamp = Timestamp::from_secs(1_800_000_000);

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub const fn mins(mins: u64) -> Duration {
    Duration::from_secs(60 * mins)
}

/// SHA-256 of a seed and a counter.
#[derive(Debug)]
pub struct Seeded(AtomicU64);

impl Seeded {
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed << 32))
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in bytes.chunks_mut(32) {
            let block = Sha256::digest(self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}

/// The server: engine, store, clock and randomness, all in the test's hands.
pub struct Desk {
    pub engine: Engine,
    pub shelf: Shelf,
    pub entropy: Seeded,
    pub now: Timestamp,
    pub events: Vec<Event>,
}

impl Default for Desk {
    fn default() -> Self {
        Self::with(Policy::default())
    }
}

impl Desk {
    pub fn with(policy: Policy) -> Self {
        let peppers = Peppers::new(Pepper::new(&[7; 32]).unwrap());
        Self::of(Engine::new(policy, Cookie::default(), peppers).unwrap())
    }

    pub fn of(engine: Engine) -> Self {
        Self { engine, shelf: Shelf::default(), entropy: Seeded::new(1), now: NOON, events: Vec::new() }
    }

    pub fn wait(&mut self, by: Duration) -> &mut Self {
        self.now = self.now.plus(by);
        self
    }

    /// Before the handler: judge what the browser sends, and end what must end at once.
    pub fn begin(&mut self, browser: &Browser) -> Request {
        self.try_begin(browser).expect("the request can be judged")
    }

    pub fn try_begin(&mut self, browser: &Browser) -> Result<Request, EngineError> {
        let fields = browser.fields(self.engine.cookie());
        let presented = self.engine.present(fields.iter().map(Vec::as_slice));
        let found = presented.handles().map(|handle| self.shelf.find(handle)).collect::<Vec<_>>();
        let facts = Facts { client: browser.client, activity: browser.activity };
        let mut resumed = self.engine.resume(&presented, found, facts, self.now)?;
        for (handle, reason) in resumed.take_endings() {
            self.end(&resumed, handle, reason);
        }
        self.events.extend(resumed.take_events());
        Ok(Request { resumed, changes: Changes::default() })
    }

    fn end(&mut self, resumed: &Resumed, handle: Handle, reason: Reason) -> bool {
        let removed = self.shelf.remove(handle, reason, self.now);
        let event = removed.as_ref().map(|record| self.engine.ended(resumed, record, reason, self.now));
        self.events.extend(event);
        removed.is_some()
    }

    /// After the handler: conclude, write, and after a conflict of data again on the fresh record.
    pub fn finish(&mut self, request: Request) -> Reply {
        self.try_finish(request).expect("the request can be concluded")
    }

    pub fn try_finish(&mut self, request: Request) -> Result<Reply, EngineError> {
        let Request { mut resumed, changes } = request;
        let mut reply = Reply {
            cookie: None,
            subject: resumed.subject().map(|s| s.as_str().to_owned()),
            discarded: false,
        };
        for _ in 0..8 {
            let plan = self.engine.conclude(&resumed, &changes, self.now, &self.entropy)?;
            match plan.write {
                Write::None => {}
                Write::Touch { handle, seen } => self.shelf.touch(handle, seen),
                Write::Insert { record, .. } => match self.shelf.insert(&record) {
                    Inserted::HandleTaken => continue,
                    inserted => assert_eq!(inserted, Inserted::Inserted { evicted: Vec::new() }),
                },
                Write::Replace { expected, record } => {
                    let handle = record.handle();
                    match (self.shelf.replace(expected, record), plan.retry) {
                        (Replaced::Replaced, _) => {}
                        (Replaced::Stale | Replaced::Gone, false) => break,
                        (Replaced::Stale | Replaced::Gone, true) => {
                            match self.engine.rebase(&mut resumed, self.shelf.find(handle))? {
                                Rebased::Ready => continue,
                                Rebased::Gone => {
                                    self.events.push(self.engine.discarded(&resumed, self.now));
                                    reply.discarded = true;
                                    reply.cookie = resumed.cookie().cloned();
                                    break;
                                }
                            }
                        }
                    }
                }
            }
            reply.cookie = plan.cookie;
            if let Some(handle) = plan.recheck {
                let found = self.shelf.find(handle);
                reply.cookie = reply.cookie.filter(|_| self.engine.still_offers(&resumed, &found));
            }
            reply.discarded = plan.events.iter().any(|event| event.kind == EventKind::WriteDiscarded);
            self.events.extend(plan.events);
            break;
        }
        self.events.extend(resumed.take_events());
        Ok(reply)
    }

    /// A whole request whose response arrives.
    pub fn visit(&mut self, browser: &mut Browser) -> Reply {
        let request = self.begin(browser);
        let reply = self.finish(request);
        browser.receive(&reply);
        reply
    }

    /// A whole request that counts the visits in the session's data.
    pub fn count(&mut self, browser: &mut Browser) -> Reply {
        let request = self.begin(browser).count("visits");
        let reply = self.finish(request);
        browser.receive(&reply);
        reply
    }

    /// A whole request whose response is lost.
    pub fn visit_in_vain(&mut self, browser: &Browser) -> Reply {
        self.visit(&mut browser.clone())
    }

    pub fn log_in(&mut self, request: &mut Request, subject: &str) {
        assert_eq!(self.try_log_in(request, subject), Inserted::Inserted { evicted: Vec::new() });
    }

    pub fn try_log_in(&mut self, request: &mut Request, subject: &str) -> Inserted {
        let who = (Subject::new(subject).unwrap(), Proof::default());
        let (engine, entropy) = (&self.engine, &self.entropy);
        let since = Epoch::default();
        let mut login =
            engine.log_in(&request.resumed, &request.changes, who, since, self.now, entropy).unwrap();
        for &handle in login.end() {
            self.end(&request.resumed, handle, Reason::Superseded);
        }
        request.resumed.all_ended();
        request.changes.clear();
        loop {
            match self.shelf.insert(login.record()) {
                Inserted::HandleTaken => login = self.engine.redraw(login, &self.entropy).unwrap(),
                Inserted::Inserted { evicted } => {
                    request.resumed.logged_in(login, self.now);
                    return Inserted::Inserted { evicted };
                }
                refused => return refused,
            }
        }
    }

    pub fn log_out(&mut self, request: &mut Request) -> bool {
        let mut removed = false;
        for handle in request.resumed.to_log_out() {
            removed |= self.end(&request.resumed, handle, Reason::LoggedOut);
        }
        request.resumed.logged_out(removed);
        request.changes.clear();
        removed
    }

    /// Rotates on demand; after a conflict again, if the secret is still good.
    pub fn rotate(&mut self, request: &mut Request) -> Result<(), EngineError> {
        self.replace_secret(request, None)
    }

    pub fn step_up(&mut self, request: &mut Request, proof: &Proof) -> Result<(), EngineError> {
        self.replace_secret(request, Some(proof))
    }

    fn replace_secret(&mut self, request: &mut Request, proof: Option<&Proof>) -> Result<(), EngineError> {
        loop {
            let rotation: Rotation = match proof.cloned() {
                Some(proof) => self.engine.step_up(&request.resumed, proof, self.now, &self.entropy)?,
                None => self.engine.rotate(&request.resumed, self.now, &self.entropy)?,
            };
            let handle = rotation.record().handle();
            match self.shelf.replace(rotation.expected(), rotation.record().clone()) {
                Replaced::Replaced => {
                    request.resumed.rotated(rotation, self.now);
                    return Ok(());
                }
                Replaced::Gone => return Err(EngineError::Superseded),
                Replaced::Stale => {
                    self.engine.reverify(&mut request.resumed, self.shelf.find(handle), self.now)?;
                }
            }
        }
    }

    /// A whole login.
    pub fn login(&mut self, browser: &mut Browser, subject: &str) -> Reply {
        let mut request = self.begin(browser);
        self.log_in(&mut request, subject);
        let reply = self.finish(request);
        browser.receive(&reply);
        reply
    }

    /// A whole logout.
    pub fn logout(&mut self, browser: &mut Browser) -> Reply {
        let mut request = self.begin(browser);
        self.log_out(&mut request);
        let reply = self.finish(request);
        browser.receive(&reply);
        reply
    }

    /// A whole rotation on demand.
    pub fn rotate_now(&mut self, browser: &mut Browser) -> Reply {
        let mut request = self.begin(browser);
        self.rotate(&mut request).unwrap();
        let reply = self.finish(request);
        browser.receive(&reply);
        reply
    }

    /// A whole step-up.
    pub fn step_up_now(&mut self, browser: &mut Browser) -> Reply {
        let mut request = self.begin(browser);
        self.step_up(&mut request, &Proof::default()).unwrap();
        let reply = self.finish(request);
        browser.receive(&reply);
        reply
    }

    /// Firefox at home, logged in as alice, with the token presented once.
    pub fn alice(&mut self) -> Browser {
        let mut browser = Browser::firefox();
        self.login(&mut browser, "alice");
        self.wait(secs(1)).visit(&mut browser);
        browser
    }

    /// Who a copy of the browser would be served as; nothing is concluded.
    pub fn peek(&mut self, browser: &Browser) -> Option<String> {
        self.begin(browser).subject().map(str::to_owned)
    }

    pub fn record(&self, handle: Handle) -> Record {
        self.shelf.live(handle).expect("the session lives")
    }

    /// Takes the events so far, and says what they were.
    pub fn happened(&mut self) -> Vec<EventKind> {
        self.events.drain(..).map(|event| event.kind).collect()
    }
}
