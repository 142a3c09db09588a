//! Requests that are dropped half way, at every point: before each call of the store, at each wait for its answer, and with
//! the answer in hand.
//!
//! A dropped request leaves the session as it was before or as it is after; a login may also leave the user signed out. The store
//! may carry out what was sent to it later, so looks may show "before" and then "after", never the reverse. Afterwards the
//! store serves whoever comes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use cloakroom::{Level, Policy, Reason};
use cloakroom_core::record::Subject;
use cloakroom_core::store::{BySubject as _, Epoch, Found};
use cloakroom_reliability::gate::Grain;
use cloakroom_reliability::on_every_store;
use cloakroom_reliability::report::Row;
use cloakroom_reliability::target::{Target, block_on};
use cloakroom_reliability::world::{Answer, Ask, Gateway, Plan, SentCookie, World, handle_of};
use cloakroom_testkit::suite::FullStore;

/// Where a request is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before its first poll.
    Unpolled,
    /// Before its `n`-th call of the store.
    Before(usize),
    /// Once its `n`-th call was polled so often and has not answered.
    Sent(usize, usize),
    /// With the `n`-th answer in hand.
    Answered(usize),
}

/// What is left of a session: greater is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Before,
    SignedOut,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Rotate,
    Update,
    LogIn,
    LogOut,
    RevokeAll,
    StepUp,
    RotateNow,
}

struct Scene<S> {
    world: World<S>,
    kind: Kind,
    alice: Subject,
    bob: Subject,
    token: String,
    other: String,
}

impl<S: FullStore> Scene<S> {
    async fn set<T: Target<Store = S>>(target: &T, kind: Kind, run: u64) -> Self {
        let plan = Plan { policy: Policy::default(), skews: vec![0], seed: 1_000_000 + run };
        let world = World::new(target.store(), &plan);
        let name = |who: &str| Subject::new(format!("{who} {kind:?} {run}")).unwrap();
        let (alice, bob) = (name("alice"), name("bob"));
        let mut tokens = Vec::new();
        for _ in 0..2 {
            let login = world.first().send(Ask::LogIn(alice.to_string()), None).await;
            let SentCookie::Set(token) = login.cookie else { panic!("{login:?}") };
            world.advance(Duration::from_secs(1));
            world.first().send(Ask::Count, Some(&token)).await;
            tokens.push(token);
        }
        // Activity is due to be noted; where that is wanted, the secret to be replaced.
        world.advance(Duration::from_secs(if kind == Kind::Read { 61 } else { 901 }));
        let [token, other] = tokens.try_into().unwrap();
        Self { world, kind, alice, bob, token, other }
    }

    fn ask(&self) -> Ask {
        match self.kind {
            Kind::Read | Kind::Rotate => Ask::Read,
            Kind::Update => Ask::Count,
            Kind::LogIn => Ask::LogIn(self.bob.to_string()),
            Kind::LogOut => Ask::LogOut,
            Kind::RevokeAll => Ask::LogOutEverywhere,
            Kind::StepUp => Ask::StepUp,
            Kind::RotateNow => Ask::Rotate,
        }
    }

    /// Looks at what is left: before, after, or an account of what is half done.
    async fn look(&self) -> Result<Left, String> {
        let world = &self.world;
        let epoch = world.store.epoch(&self.alice).await.unwrap();
        let (found, other) =
            (world.found(handle_of(&self.token)).await, world.found(handle_of(&self.other)).await);
        let opened = world.opens(&self.token).await;
        let bobs = world.store.list(&self.bob).await.unwrap().len();
        let other = ended(&other);
        let as_it_was = opened.as_ref().is_some_and(|opened| opened.count == 1);
        let before = as_it_was && other.is_none() && epoch == Epoch::default() && bobs == 0;
        let left = match self.kind {
            Kind::Read | Kind::Rotate => before.then_some(Left::Before),
            Kind::Update => match opened.as_ref().map(|opened| opened.count) {
                Some(1) => Some(Left::Before),
                Some(2) => Some(Left::After),
                _ => None,
            },
            Kind::LogIn => match (ended(&found), bobs) {
                (None, 0) if before => Some(Left::Before),
                (Some(Reason::Superseded), 0) if other.is_none() => Some(Left::SignedOut),
                (Some(Reason::Superseded), 1) if other.is_none() => Some(Left::After),
                _ => None,
            },
            Kind::LogOut => match ended(&found) {
                None if before => Some(Left::Before),
                Some(Reason::LoggedOut) if other.is_none() => Some(Left::After),
                _ => None,
            },
            Kind::RevokeAll => match (ended(&found), other) {
                (None, None) if before => Some(Left::Before),
                (Some(Reason::RevokedAll), Some(Reason::RevokedAll)) if epoch > Epoch::default() => {
                    Some(Left::After)
                }
                _ => None,
            },
            Kind::StepUp | Kind::RotateNow => match &found {
                Found::Live(record) => {
                    let stepped = record.authentication().is_some_and(|last| last.level() == Level::TWO);
                    match (opened.is_some(), stepped) {
                        (true, false) if before => Some(Left::Before),
                        (false, stepped) if stepped == (self.kind == Kind::StepUp) => Some(Left::After),
                        _ => None,
                    }
                }
                _ => None,
            },
        };
        left.ok_or_else(|| {
            format!("{found:?}, opens {opened:?}, other {other:?}, epoch {epoch:?}, bob has {bobs}")
        })
    }

    /// Looks until two looks in a row agree: what was sent may be carried out between the parts of one look. What is half
    /// done for good never comes to rest.
    async fn look_calmly(&self) -> Left {
        let mut last = Err(String::new());
        for _ in 0..1_000 {
            let look = self.look().await;
            match &look {
                Ok(left) if last == look => return *left,
                _ => last = look,
            }
        }
        panic!("{:?} is half done: {last:?}", self.kind)
    }

    /// Another user comes, and this one comes back: all goes on as ever.
    async fn goes_on(&self, run: u64, left: Left) {
        let first = self.world.first();
        let carol = format!("carol {:?} {run}", self.kind);
        let login = first.send(Ask::LogIn(carol.clone()), None).await;
        let SentCookie::Set(token) = login.cookie else { panic!("{login:?}") };
        for ask in [Ask::Count, Ask::StepUp] {
            let answer = first.send(ask, Some(&token)).await;
            assert_eq!((answer.status.as_u16(), answer.saw.as_ref()), (200, Some(&carol)));
        }
        let later = self.look_calmly().await;
        assert!(later >= left, "what was done is undone: {left:?}, then {later:?}");
        // Whoever holds the old token can log in, and then that is all there is in this browser.
        let again = first.send(Ask::LogIn(self.bob.to_string()), Some(&self.token)).await;
        let SentCookie::Set(fresh) = &again.cookie else {
            panic!("no login after a dropped request: {again:?}")
        };
        assert_eq!(first.send(Ask::Read, Some(fresh)).await.saw.as_deref(), Some(self.bob.as_str()));
        assert_eq!(first.send(Ask::Read, Some(&self.token)).await.saw, None, "two live sessions");
    }
}

fn ended(found: &Found) -> Option<Reason> {
    match found {
        Found::Live(_) => None,
        Found::Ended(tombstone) => Some(tombstone.reason()),
        Found::Absent => panic!("a session is gone without a trace"),
    }
}

/// Sends the request and drops it at a place; `None` if it never came there.
async fn drop_at(gateway: &Gateway, ask: Ask, token: &str, place: Place) -> Option<()> {
    let gate = &gateway.gate;
    gate.set(Grain::CallsAndAnswers);
    let mut request = gateway.send(ask, Some(token));
    let (call, with_answer) = match place {
        Place::Unpolled => return Some(()),
        Place::Before(call) | Place::Sent(call, _) => (call, false),
        Place::Answered(call) => (call, true),
    };
    // Two points for each call: before it and after it.
    for point in 0..=2 * call + usize::from(with_answer) {
        if point > 0 {
            gate.permit();
        }
        let arrived: Option<Answer> = poll_fn(|context| match request.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if gate.at().is_some() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        if arrived.is_some() {
            return None;
        }
    }
    if let Place::Sent(_, polls) = place {
        gate.permit();
        let mut polled = 0;
        let waits = poll_fn(|context| {
            let answered = request.as_mut().poll(context).is_ready() || gate.at().is_some();
            polled += 1;
            match (answered, polled == polls) {
                (true, _) => Poll::Ready(false),
                (false, true) => Poll::Ready(true),
                (false, false) => Poll::Pending,
            }
        })
        .await;
        return waits.then_some(());
    }
    Some(())
}

fn dropped<T: Target>(kind: Kind) {
    let mut row = Row::new(T::NAME, "dropped requests");
    let target = T::open();
    let mut run = 0;
    let mut drops = 0;
    let mut try_at = |place: Place| {
        run += 1;
        block_on(async {
            let scene = Scene::set(&target, kind, run).await;
            let gateway = scene.world.first();
            let came_there = drop_at(gateway, scene.ask(), &scene.token, place).await.is_some();
            gateway.gate.reset();
            if came_there {
                drops += 1;
                row.count("drops", 1);
                let left = scene.look_calmly().await;
                if matches!(place, Place::Unpolled | Place::Before(0)) {
                    assert_eq!(left, Left::Before, "{kind:?} was not even begun");
                }
                scene.goes_on(run, left).await;
            }
            row.count("runs", 1);
            came_there
        })
    };
    assert!(try_at(Place::Unpolled));
    for call in 0.. {
        if !try_at(Place::Before(call)) {
            break;
        }
        // As often as it waits. A store that answers at once never does.
        (1..1_000).find(|polls| !try_at(Place::Sent(call, *polls)));
        try_at(Place::Answered(call));
    }
    assert!(drops >= 5, "{kind:?} on {} was dropped at {drops} points only", T::NAME);
}

fn reads<T: Target>() {
    dropped::<T>(Kind::Read);
}

fn rotations<T: Target>() {
    dropped::<T>(Kind::Rotate);
}

fn updates<T: Target>() {
    dropped::<T>(Kind::Update);
}

fn logins<T: Target>() {
    dropped::<T>(Kind::LogIn);
}

fn logouts<T: Target>() {
    dropped::<T>(Kind::LogOut);
}

fn revocations<T: Target>() {
    dropped::<T>(Kind::RevokeAll);
}

fn step_ups<T: Target>() {
    dropped::<T>(Kind::StepUp);
}

fn rotations_on_demand<T: Target>() {
    dropped::<T>(Kind::RotateNow);
}

on_every_store! {
    fn a_dropped_read_changes_nothing => reads;
    fn r053_a_dropped_rotation_signs_nobody_out => rotations;
    fn r053_a_dropped_update_is_whole_or_not_at_all => updates;
    fn r048_r053_a_dropped_login_leaves_the_old_session_or_nobody_or_the_new_one => logins;
    fn r054_a_dropped_logout_leaves_the_session_or_none => logouts;
    fn r056_a_dropped_end_of_all_sessions_ends_all_or_none => revocations;
    fn r049_a_dropped_step_up_leaves_the_old_secret_or_refuses_it => step_ups;
    fn r049_a_dropped_rotation_on_demand_leaves_the_old_secret_or_refuses_it => rotations_on_demand;
}
