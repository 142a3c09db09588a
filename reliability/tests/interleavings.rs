//! Whatever comes to one session at once, in every order of its store steps. The rule is in `cloakroom_reliability::interleavings`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use cloakroom::{AtCap, Reason};
use cloakroom_reliability::gate::Grain;
use cloakroom_reliability::interleavings::{Actor, Cookie, Fate, Outcome, Variant, alone, explore};
use cloakroom_reliability::on_every_store;
use cloakroom_reliability::report::Row;
use cloakroom_reliability::size::Size;
use cloakroom_reliability::target::Target;

const FAMILY: &str = "interleavings";

struct Explorer<T> {
    target: T,
    row: Row,
}

impl<T: Target> Explorer<T> {
    fn new() -> Self {
        Self { target: T::open(), row: Row::new(T::NAME, FAMILY) }
    }

    fn explore(&mut self, actors: &[Actor], variant: &Variant) {
        let found = explore(&self.target, actors, variant);
        self.row.count("runs", 1);
        self.row.count("interleavings", found.interleavings);
        self.row.count("operations", found.steps);
    }
}

/// Where operations cost more, requests arrive before the first step in the small size.
fn plain<T: Target>() -> Variant {
    Variant { together: !T::CHEAP && Size::asked_for() == Size::Ci, ..Variant::plain() }
}

/// Where the clock moves between two steps, it makes a difference on which side of it a request has looked at it.
fn grain_for(actors: &[Actor]) -> Grain {
    if actors.contains(&Actor::Expire) { Grain::CallsAndAnswers } else { Grain::Calls }
}

/// What the orders are measured by: each actor alone does what it is for.
fn actors_alone<T: Target>() {
    let target = T::open();
    let set = |login, good| Cookie::Set { login, good };
    let still = Outcome {
        answers: vec![Some((200, Cookie::Untouched))],
        signed_in: vec![true],
        original: Fate::Live,
        other: Fate::Live,
        fresh: vec![None],
        strays: 0,
        data: Some((1, None)),
        noted: Some(true),
        initial: vec![true],
        successors: 0,
    };
    let answered = |cookie| Outcome { answers: vec![Some((200, cookie))], ..still.clone() };
    let silent = || Outcome { answers: vec![None], signed_in: vec![false], ..still.clone() };
    let over = |fate, outcome: Outcome| Outcome {
        original: fate,
        data: None,
        noted: None,
        initial: vec![false],
        ..outcome
    };
    let logged_in = Outcome { fresh: vec![Some(Fate::Live)], ..answered(set(true, true)) };
    let logged_in = over(Fate::Ended(Reason::Superseded), logged_in);
    let rotated = Outcome { successors: 1, ..answered(set(false, true)) };
    let revoked = Fate::Ended(Reason::RevokedAll);
    let expected = |actor| match actor {
        Actor::Update => Outcome { data: Some((2, None)), ..still.clone() },
        Actor::Set => Outcome { data: Some((1, Some("\"first\"".to_owned()))), ..still.clone() },
        Actor::Touch => still.clone(),
        Actor::Rotate => rotated.clone(),
        Actor::RotateNow => Outcome { initial: vec![false], ..rotated.clone() },
        // Both secrets are good until the grace is over.
        Actor::Confirm => Outcome { initial: vec![true, true], ..still.clone() },
        Actor::LogIn | Actor::LogInOnArrival => logged_in.clone(),
        Actor::LogOut => over(Fate::Ended(Reason::LoggedOut), answered(Cookie::Removed)),
        Actor::RevokeAll => Outcome { other: revoked, ..over(revoked, silent()) },
        Actor::Expire => over(Fate::Expired, silent()),
        // Activity was noted long ago where a sweep comes.
        Actor::Sweep => Outcome { noted: Some(false), ..silent() },
        Actor::Nobody => silent(),
    };
    for actor in Actor::ALL {
        assert_eq!(alone(&target, actor), expected(actor), "{actor:?} on {}", T::NAME);
    }
}

fn pairs<T: Target>() {
    let mut explorer = Explorer::<T>::new();
    for pair in Actor::pairs() {
        explorer.explore(&pair, &Variant { grain: grain_for(&pair), ..plain::<T>() });
    }
}

fn pairs_that_work_on<T: Target>() {
    let mut explorer = Explorer::<T>::new();
    // Where operations cost more, only those whose cookies could get in each other's way.
    let few = [Actor::Rotate, Actor::RotateNow, Actor::Confirm, Actor::LogInOnArrival];
    let pairs = Actor::pairs();
    let pairs = pairs.iter().filter(|pair| T::CHEAP || pair.iter().all(|actor| few.contains(actor)));
    for pair in pairs {
        let variant = Variant { works: true, grain: grain_for(pair), ..Variant::plain() };
        // The session may be seen to have expired while the first works on.
        if T::CHEAP && pair.contains(&Actor::Expire) {
            let together = Size::asked_for() == Size::Ci;
            let triple = [pair[0], Actor::Touch, pair[1]];
            explorer.explore(&triple, &Variant { together, ..variant.clone() });
        }
        explorer.explore(pair, &Variant { together: !T::CHEAP, ..variant });
    }
}

fn pairs_with_skew<T: Target>() {
    let mut explorer = Explorer::<T>::new();
    // Each pair in both orders, so that either of the two is ahead of, or behind, the other and those who look.
    let skews: &[[i64; 2]] =
        if T::CHEAP { &[[0, 5], [5, 0], [0, -5], [-5, 0], [5, -5], [-5, 5]] } else { &[[5, 0]] };
    let pairs = Actor::pairs();
    // Those whose outcome depends on times.
    let timed =
        [Actor::Touch, Actor::Confirm, Actor::LogInOnArrival, Actor::RevokeAll, Actor::Sweep, Actor::Expire];
    let pairs = pairs.iter().filter(|pair| T::CHEAP || pair.iter().all(|actor| timed.contains(actor)));
    for pair in pairs {
        for skews in skews {
            let grain = grain_for(pair);
            explorer.explore(pair, &Variant { grain, skews: skews.to_vec(), ..plain::<T>() });
        }
    }
}

/// An end of all sessions and each kind of login, with every sign of the difference between their clocks, up to all that is allowed on
/// either side, and with clocks that are set back meanwhile.
fn logins_against_the_end_of_all<T: Target>() {
    let mut explorer = Explorer::<T>::new();
    let skews = [[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0], [5, -5], [-5, 5], [5, 5], [-5, -5]];
    for login in [Actor::LogIn, Actor::LogInOnArrival] {
        for skews in skews {
            for set_back in [false, true] {
                let variant = Variant { skews: skews.to_vec(), set_back, ..Variant::plain() };
                explorer.explore(&[Actor::RevokeAll, login], &variant);
            }
        }
    }
}

fn capped_logins<T: Target>() {
    let mut explorer = Explorer::<T>::new();
    for at_cap in [AtCap::Deny, AtCap::EvictOldest, AtCap::EvictIdle] {
        for rival in [Actor::LogIn, Actor::LogInOnArrival, Actor::LogOut, Actor::RevokeAll, Actor::Update] {
            let variant = Variant { cap: Some((2, at_cap)), ..plain::<T>() };
            explorer.explore(&[Actor::LogIn, rival], &variant);
        }
    }
}

/// Three at once, where a third could find what two leave open.
const TRIPLES: [[Actor; 3]; 12] = [
    [Actor::Update, Actor::Update, Actor::Rotate],
    [Actor::Update, Actor::Update, Actor::RotateNow],
    [Actor::Update, Actor::Rotate, Actor::LogOut],
    [Actor::Update, Actor::Confirm, Actor::RotateNow],
    [Actor::Update, Actor::Sweep, Actor::Expire],
    [Actor::Set, Actor::Update, Actor::Rotate],
    [Actor::Touch, Actor::Sweep, Actor::Expire],
    [Actor::Rotate, Actor::Rotate, Actor::Confirm],
    [Actor::Rotate, Actor::LogIn, Actor::LogOut],
    [Actor::LogIn, Actor::LogIn, Actor::RevokeAll],
    [Actor::LogIn, Actor::LogOut, Actor::RevokeAll],
    [Actor::LogInOnArrival, Actor::RotateNow, Actor::RevokeAll],
];

fn triples<T: Target>() {
    let mut explorer = Explorer::<T>::new();
    let size = Size::asked_for();
    // What is exhaustive takes seconds in memory and many minutes on a server.
    let few = if size == Size::Ci && !T::CHEAP { 2 } else { TRIPLES.len() };
    for triple in TRIPLES.iter().take(few) {
        let together = size == Size::Ci || !T::CHEAP;
        explorer.explore(triple, &Variant { together, grain: grain_for(triple), ..Variant::plain() });
    }
    if size == Size::Soak && T::CHEAP {
        for triple in Actor::triples() {
            explorer
                .explore(&triple, &Variant { together: true, grain: grain_for(&triple), ..Variant::plain() });
        }
    }
}

on_every_store! {
    fn r039_r048_r049_r054_r056_each_actor_alone_does_what_it_is_for => actors_alone;
    fn r048_r053_r054_r060_every_order_of_two_actors_is_as_good_as_a_sequential_one => pairs;
    fn r053_every_order_of_two_actors_whose_handlers_work_on_leaves_the_newest_cookie => pairs_that_work_on;
    fn r053_r059_every_order_of_two_actors_on_gateways_with_skewed_clocks => pairs_with_skew;
    fn r054_r056_no_login_survives_an_end_of_all_that_came_after_it_whatever_the_clocks_show =>
        logins_against_the_end_of_all;
    fn r069_every_order_of_a_login_and_another_actor_under_a_cap => capped_logins;
    fn r053_r054_r060_every_order_of_three_actors_is_as_good_as_a_sequential_one => triples;
}
