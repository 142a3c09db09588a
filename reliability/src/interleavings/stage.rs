//! One run: a browser with a session, and the actors that come to it.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use cloakroom::{Handle, Policy};
use cloakroom_core::record::Subject;
use cloakroom_core::store::{BySubject as _, Found, Reason};
use cloakroom_testkit::Counting;
use cloakroom_testkit::suite::FullStore;

use super::{Actor, Cookie, Fate, Outcome, Variant};
use crate::world::{Answer, Ask, Gateway, Plan, SentCookie, World, handle_of};

/// The steps of a run, in their order.
pub(crate) type Order = Vec<String>;

/// How far from the idle limit the actors meet where the limit matters: near enough that a skewed clock does not see it
/// pass, and how far the clock then moves.
const BRINK: Duration = Duration::from_secs(11);
const BEYOND: Duration = Duration::from_secs(12);
/// Activity that is older than this and the skew is not noted yet.
const OVERDUE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(1);

/// Everything in place, and nobody has come yet.
pub(crate) struct Stage<'a, S> {
    world: World<S>,
    actors: &'a [Actor],
    variant: &'a Variant,
    subject: String,
    /// The token that the browser logged in with, and the successor that it was handed, if a rotation has begun.
    tokens: Vec<String>,
    other: Handle,
}

type Coming = Pin<Box<dyn Future<Output = Option<Answer>> + Send>>;

enum State {
    Away,
    Here(Coming),
    Gone(Option<Answer>),
}

impl<'a, S: FullStore> Stage<'a, S> {
    /// Logs the browser and another device in, and lets time pass until whatever the actors need is due.
    pub(crate) async fn set(store: Counting<S>, actors: &'a [Actor], variant: &'a Variant) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let seed = RUNS.fetch_add(1, Ordering::Relaxed);
        let subject = format!("alice {seed}");
        let has = |actor| actors.contains(&actor);
        let rotates = has(Actor::Rotate) || has(Actor::Confirm);
        let mut policy = Policy::default();
        if !rotates {
            policy = policy.rotation_interval(Duration::from_secs(20 * 3600));
        }
        if let Some((max, at_cap)) = variant.cap {
            policy = policy.max_sessions(max, at_cap);
        }
        // The first gateway sets the stage and looks at it afterwards; each actor has one of its own.
        let mut skews = vec![0];
        skews.extend((0..actors.len()).map(|index| variant.skews.get(index).copied().unwrap_or(0)));
        let world = World::new(store, &Plan { policy, skews, seed });

        let log_in = async |world: &World<S>| {
            let answer = world.first().send(Ask::LogIn(subject.clone()), None).await;
            let SentCookie::Set(token) = answer.cookie else {
                panic!("a login that sets no token: {answer:?}")
            };
            token
        };
        let mut tokens = vec![log_in(&world).await];
        world.advance(SECOND);
        let counted = world.first().send(Ask::Count, Some(&tokens[0])).await;
        assert_eq!((counted.saw.as_deref(), counted.cookie), (Some(&*subject), SentCookie::None));
        if rotates {
            world.advance(Duration::from_secs(901));
        }
        if has(Actor::Confirm) {
            let begun = world.first().send(Ask::Read, Some(&tokens[0])).await;
            let SentCookie::Set(successor) = begun.cookie else { panic!("no rotation: {begun:?}") };
            tokens.push(successor);
            world.advance(SECOND);
        }
        let original = handle_of(&tokens[0]);
        let Found::Live(record) = world.found(original).await else { panic!("no session") };
        if has(Actor::Expire) || has(Actor::Sweep) {
            let brink = record.deadline().0.minus(BRINK);
            world.advance(brink.since(world.now()));
        } else if has(Actor::Touch) {
            world.advance(Duration::from_secs(61));
        }
        let other = handle_of(&log_in(&world).await);
        world.advance(SECOND);
        world.log.take();
        Self { world, actors, variant, subject, tokens, other }
    }

    fn gateway(&self, index: usize) -> &Gateway {
        &self.world.gateways[index + 1]
    }

    /// Lets the actors come, each step chosen among those that are ready, and looks at what is left.
    pub(crate) async fn play(self, choose: &mut dyn FnMut(&[usize]) -> usize) -> (Outcome, Order) {
        let mut states: Vec<_> = self.actors.iter().map(|_| State::Away).collect();
        let mut order = Order::new();
        let mut last_call = vec![0; self.actors.len()];
        if self.variant.together {
            for (index, state) in states.iter_mut().enumerate() {
                if self.actors[index] != Actor::Expire {
                    let point = self.step(index, state).await;
                    order.push(format!("{:?}#{index} {point}", self.actors[index]));
                }
            }
        }
        loop {
            let is_ready = |index: &usize| !matches!(states[*index], State::Gone(_));
            let ready: Vec<_> = (0..states.len()).filter(is_ready).collect();
            if ready.is_empty() {
                break;
            }
            let index = if ready.len() == 1 { ready[0] } else { choose(&ready) };
            let point = self.step(index, &mut states[index]).await;
            order.push(format!("{:?}#{index} {point}", self.actors[index]));
            if !point.ends_with("answered") {
                last_call[index] = order.len();
            }
            if self.actors[index] == Actor::RevokeAll && self.actors.contains(&Actor::LogInOnArrival) {
                self.leave_no_doubt().await;
            }
            self.set_clocks();
            self.world.advance(TICK);
        }
        let answers = states.into_iter().map(|state| match state {
            State::Gone(answer) => answer,
            State::Away | State::Here(_) => None,
        });
        let answers: Vec<_> = answers.collect();
        let outcome = self.look(&answers).await;
        self.check_logins(&outcome, &order);
        self.check_expiry(&outcome, &order);
        let mut arrivals: Vec<_> = (0..answers.len()).collect();
        arrivals.sort_by_key(|&index| last_call[index]);
        self.settle(&answers, &arrivals, &outcome, &order).await;
        (outcome, order)
    }

    /// Waits until a login that arrives from now on is told from one that came before all sessions were ended, by the store's clock:
    /// what is in doubt is refused, and then the same choices would not always lead to the same steps.
    async fn leave_no_doubt(&self) {
        let subject = Subject::new(self.subject.clone()).expect("a subject");
        let doubt = Duration::from_millis(20);
        let ended_ago = async || self.world.store.standing(&subject).await.expect("standing").ended_ago;
        while ended_ago().await.is_some_and(|ago| ago < doubt) {
            tokio::task::yield_now().await;
        }
    }

    /// Sets the clocks of the actors' gateways back by a second with every step, where they are to be unsteady: more than they move on.
    fn set_clocks(&self) {
        if self.variant.set_back {
            for gateway in &self.world.gateways[1..] {
                gateway.clock.set(gateway.clock.time().minus(SECOND));
            }
        }
    }

    /// Carries out one step of an actor and says which.
    async fn step(&self, index: usize, state: &mut State) -> String {
        let gate = &self.gateway(index).gate;
        let (mut coming, point) = match std::mem::replace(state, State::Gone(None)) {
            State::Away if self.actors[index] == Actor::Expire => {
                self.world.advance(BEYOND);
                return "passes".to_owned();
            }
            State::Away if self.actors[index] == Actor::Nobody => return "does not come".to_owned(),
            State::Away => {
                gate.set(self.variant.grain);
                gate.set_works(self.variant.works);
                (self.come(index), "comes".to_owned())
            }
            State::Here(coming) => {
                let point = gate.at().map_or_else(String::new, |point| format!("{point:?}"));
                gate.permit();
                (coming, point)
            }
            State::Gone(_) => unreachable!("only those that are ready take steps"),
        };
        // Only this one is polled, until it waits at its gate again: all others stand still.
        let done = poll_fn(|context| match coming.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if gate.at().is_some() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        *state = match done {
            Some(answer) => State::Gone(answer),
            None => State::Here(coming),
        };
        point
    }

    fn come(&self, index: usize) -> Coming {
        let (actor, gateway) = (self.actors[index], self.gateway(index));
        let sessions = gateway.layer.sessions();
        if let Some(ask) = actor.ask(index, &self.subject) {
            let token = match actor {
                Actor::Confirm => self.tokens.last(),
                _ => self.tokens.first(),
            };
            let answer = gateway.send(ask, token.map(String::as_str));
            return Box::pin(async { Some(answer.await) });
        }
        let subject = self.subject.clone();
        match actor {
            Actor::RevokeAll => Box::pin(async move {
                sessions.end_all(subject).await.expect("end_all");
                None
            }),
            _ => Box::pin(async move {
                sessions.sweep().await.expect("sweep");
                None
            }),
        }
    }

    async fn fate(&self, handle: Handle) -> Fate {
        let skew = Policy::default().skew();
        match self.world.found(handle).await {
            Found::Live(record) if record.deadline().0 <= self.world.now().plus(skew) => Fate::Expired,
            Found::Live(_) => Fate::Live,
            Found::Ended(tombstone) if tombstone.reason().is_expiry() => Fate::Expired,
            Found::Ended(tombstone) => Fate::Ended(tombstone.reason()),
            Found::Absent => Fate::Absent,
        }
    }

    async fn look(&self, answers: &[Option<Answer>]) -> Outcome {
        let original = handle_of(&self.tokens[0]);
        let (mut shown, mut fresh, mut known) = (Vec::new(), Vec::new(), vec![original, self.other]);
        let mut successors = BTreeSet::new();
        for answer in answers {
            let mut made = None;
            shown.push(match answer {
                None => None,
                Some(answer) => Some((
                    answer.status.as_u16(),
                    match &answer.cookie {
                        SentCookie::None => Cookie::Untouched,
                        SentCookie::Removed => Cookie::Removed,
                        SentCookie::Set(token) => {
                            let handle = handle_of(token);
                            let login = handle != original;
                            if login {
                                made = Some(self.fate(handle).await);
                                known.push(handle);
                            } else {
                                successors.insert(token);
                            }
                            let opened = self.world.opens(token).await;
                            if let (true, Some(opened)) = (login, &opened) {
                                assert_eq!(opened.subject.as_ref(), Some(&self.subject));
                                assert_eq!((opened.count, &opened.word), (0, &None), "data crossed a login");
                            }
                            Cookie::Set { login, good: opened.is_some() }
                        }
                    },
                )),
            });
            fresh.push(made);
        }
        let (mut initial, mut data) = (Vec::new(), None);
        for token in self.tokens.iter().chain(successors.iter().copied()) {
            let opened = self.world.opens(token).await;
            if initial.len() < self.tokens.len() {
                initial.push(opened.is_some());
            }
            data = data.or(opened.map(|opened| (opened.count, opened.word)));
        }
        let subject = Subject::new(self.subject.clone()).expect("a subject");
        let listed = self.world.store.list(&subject).await.expect("list");
        let strays = listed.iter().filter(|record| !known.contains(&record.handle())).count();
        let noted = match self.world.found(original).await {
            Found::Live(record) => Some(record.seen().plus(OVERDUE) > self.world.now()),
            _ => None,
        };
        let fate = self.fate(original).await;
        Outcome {
            answers: shown,
            signed_in: answers
                .iter()
                .map(|answer| answer.as_ref().is_some_and(|answer| answer.saw.is_some()))
                .collect(),
            original: fate,
            other: self.fate(self.other).await,
            fresh,
            strays,
            data,
            noted: noted.filter(|_| fate == Fate::Live),
            initial,
            successors: successors.len(),
        }
    }

    /// A login that began before an end of all sessions does not survive it: one that read the epoch began with that, any other with
    /// its arrival. What came first is what really did, whatever the clocks of the gateways show.
    /// Nor does the session that the browser had survive a login that succeeded.
    fn check_logins(&self, outcome: &Outcome, order: &Order) {
        if outcome.fresh.iter().any(Option::is_some) {
            let over = !matches!(outcome.original, Fate::Live | Fate::Absent);
            assert!(over, "{:?} left two sessions in the order {order:?}", self.actors);
        }
        let place = |actor, index, step| place(order, actor, index, step);
        for (index, &actor) in self.actors.iter().enumerate() {
            for (end, &revoke) in self.actors.iter().enumerate() {
                if revoke != Actor::RevokeAll || outcome.fresh[index] != Some(Fate::Live) {
                    continue;
                }
                let began = if actor == Actor::LogIn { "Epoch" } else { "comes" };
                let beaten = place(actor, index, began) < place(revoke, end, "RemoveAll");
                assert!(
                    !beaten,
                    "login {index} of {:?} survived an end of all sessions in the order {order:?}",
                    self.actors
                );
            }
        }
    }

    /// What a request has seen to have expired stays so.
    fn check_expiry(&self, outcome: &Outcome, order: &Order) {
        let passed = order.iter().position(|taken| taken.ends_with(" passes"));
        let stale = self.actors.contains(&Actor::RotateNow);
        let Some(passed) = passed.filter(|_| outcome.original == Fate::Live && !stale) else { return };
        // A write that was on its way already counts as having come before.
        let under_way = self.actors.iter().enumerate().any(|(index, actor)| {
            let name = format!("{actor:?}#{index} ");
            let next = order.iter().skip(passed).find(|taken| taken.starts_with(&name));
            next.is_some_and(|next| next.ends_with(" Replace") || next.ends_with(" Touch"))
        });
        if under_way {
            return;
        }
        for (index, &actor) in self.actors.iter().enumerate() {
            let asked = place(order, actor, index, "Find").is_some_and(|found| found > passed);
            let anonymous = outcome.answers[index].is_some() && !outcome.signed_in[index];
            assert!(
                !(asked && anonymous),
                "{index} of {:?} saw the session expired, and it lives: {order:?}",
                self.actors
            );
        }
    }

    /// The browser goes on with the cookie that it ended up with; then everything is cleared away for the next run.
    async fn settle(&self, answers: &[Option<Answer>], arrivals: &[usize], outcome: &Outcome, order: &Order) {
        let mut jar = self.tokens.last().cloned();
        let mut hands: BTreeSet<String> = self.tokens.iter().cloned().collect();
        let mut receive = |jar: &mut Option<String>, answer: &Answer| match &answer.cookie {
            SentCookie::None => {}
            SentCookie::Removed => *jar = None,
            SentCookie::Set(token) => {
                hands.insert(token.clone());
                *jar = Some(token.clone());
            }
        };
        for &index in arrivals {
            if let Some(answer) = &answers[index] {
                receive(&mut jar, answer);
            }
        }
        let refused = |(actor, answer): (&Actor, &Option<Answer>)| {
            actor.logs_in() && answer.as_ref().is_some_and(|answer| answer.status != 200)
        };
        let taken =
            self.actors.iter().any(|actor| actor.ends()) || self.actors.iter().zip(answers).any(refused);
        let context = || format!("{:?} in the order {order:?}\n  came to {outcome:?}", self.actors);
        let opened = match &jar {
            Some(token) => self.world.opens(token).await,
            None => None,
        };
        assert!(taken || opened.is_some(), "the browser was signed out by {}", context());
        if let (Some(_), Some(opened)) = (&jar, &opened) {
            // Once to receive a successor that was missed, once to confirm it.
            for _ in 0..2 {
                self.world.advance(SECOND);
                let read = self.world.first().send(Ask::Read, jar.as_deref()).await;
                assert_eq!(read.saw, opened.subject, "the next request after {}", context());
                receive(&mut jar, &read);
            }
            // The grace, the skew of the rule, and that of the gateway that began it.
            self.world.advance(Duration::from_secs(60 + 5 + 5 + 1));
            let mut good = Vec::new();
            for token in &hands {
                if handle_of(token) == opened.handle && self.world.opens(token).await.is_some() {
                    good.push(token);
                }
            }
            assert_eq!(good, [jar.as_ref().expect("a token")], "live secrets at the end of {}", context());
        }
        let subject = Subject::new(self.subject.clone()).expect("a subject");
        let now = self.world.now();
        self.world.store.remove_all(&subject, None, Reason::RevokedAll, now).await.expect("clearing away");
    }
}

/// Where in the order an actor took a step.
fn place(order: &Order, actor: Actor, index: usize, step: &str) -> Option<usize> {
    let step = format!("{actor:?}#{index} {step}");
    order.iter().position(|taken| *taken == step)
}
