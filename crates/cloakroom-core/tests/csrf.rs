//! The life of form tokens beside the life of a session (design section 4.7).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod common;

use cloakroom_core::csrf::{Visitor, VisitorKeys};
use cloakroom_core::seal::{Pepper, Peppers};
use common::{Browser, Desk, mins, secs};

/// The token of a form that the browser is shown now.
fn form(desk: &mut Desk, browser: &Browser) -> String {
    let key = desk.begin(browser).resumed.csrf_key().expect("there is a session");
    key.issue(&desk.entropy).unwrap().expose().to_owned()
}

/// Whether the form may be sent, by this browser and without a visitor's cookie.
fn accepted(desk: &mut Desk, browser: &Browser, token: &str) -> bool {
    let now = desk.now;
    desk.begin(browser).resumed.accepts_csrf(token.as_bytes(), None, now)
}

#[test]
fn r061_r079_a_form_outlives_rotations_and_dies_with_its_session() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let token = form(&mut desk, &alice);
    assert!(accepted(&mut desk, &alice, &token));

    desk.rotate_now(&mut alice);
    assert!(accepted(&mut desk, &alice, &token), "a rotation on demand");
    desk.step_up_now(&mut alice);
    assert!(accepted(&mut desk, &alice, &token), "a step-up");
    desk.wait(secs(1)).visit(&mut alice);
    let before = alice.token();
    desk.wait(mins(16)).visit(&mut alice);
    assert_ne!(alice.token(), before);
    assert!(accepted(&mut desk, &alice, &token), "a scheduled rotation");
    assert!(accepted(&mut desk, &alice.with(&before), &token), "its predecessor, within the grace");
    desk.wait(secs(1)).visit(&mut alice);
    let late = form(&mut desk, &alice);

    let old = alice.clone();
    desk.logout(&mut alice);
    for token in [&token, &late] {
        assert!(!accepted(&mut desk, &alice, token) && !accepted(&mut desk, &old, token));
    }
    assert!(desk.begin(&old).resumed.csrf_key().is_none());
}

#[test]
fn r079_a_form_is_good_in_its_own_session_only_even_of_the_same_user() {
    let mut desk = Desk::default();
    let (alice, again) = (desk.alice(), desk.alice());
    let mut mallory = Browser::stranger();
    desk.login(&mut mallory, "mallory");
    let [mine, hers] = [&alice, &mallory].map(|browser| form(&mut desk, browser));
    assert!(accepted(&mut desk, &alice, &mine) && accepted(&mut desk, &mallory, &hers));
    for (browser, token) in [(&alice, &hers), (&mallory, &mine), (&again, &mine)] {
        assert!(!accepted(&mut desk, browser, token));
    }
    assert!(!accepted(&mut desk, &Browser::firefox(), &mine), "and not without a session");
}

#[test]
fn r079_forms_of_before_a_login_are_dead_after_it() {
    let mut desk = Desk::default();
    let mut browser = Browser::firefox();
    let request = desk.begin(&browser).set("cart", "1");
    let reply = desk.finish(request);
    browser.receive(&reply);
    let anonymous = form(&mut desk, &browser);
    assert!(accepted(&mut desk, &browser, &anonymous));
    for who in ["alice", "alice", "bob"] {
        let before = form(&mut desk, &browser);
        let mut request = desk.begin(&browser);
        desk.log_in(&mut request, who);
        let now = desk.now;
        assert!(!request.resumed.accepts_csrf(before.as_bytes(), None, now), "within the request itself");
        let key = request.resumed.csrf_key().expect("the new session's");
        let during = key.issue(&desk.entropy).unwrap();
        let reply = desk.finish(request);
        browser.receive(&reply);
        assert!(!accepted(&mut desk, &browser, &before) && !accepted(&mut desk, &browser, &anonymous));
        assert!(accepted(&mut desk, &browser, during.expose()), "a page that the login itself answers with");
    }
}

#[test]
fn r061_r079_a_form_dies_when_its_session_expires_or_is_replayed() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let token = form(&mut desk, &alice);
    desk.wait(mins(31));
    assert!(!accepted(&mut desk, &alice, &token));
}

#[test]
fn r079_a_visitors_form_is_good_until_the_login_and_beside_an_anonymous_session() {
    let mut desk = Desk::default();
    let peppers = Peppers::new(Pepper::new(&[7; 32]).unwrap());
    let keys = VisitorKeys::of(&peppers).unwrap();
    let visitor = Visitor::draw(&desk.entropy).unwrap();
    let token = keys.issue(&visitor, desk.now, &desk.entropy).unwrap();
    let mut browser = Browser::firefox();
    let accepted = |desk: &mut Desk, browser: &Browser| {
        let now = desk.now;
        desk.begin(browser).resumed.accepts_csrf(token.expose().as_bytes(), Some((&keys, &visitor)), now)
    };
    assert!(accepted(&mut desk, &browser));
    assert_eq!(desk.shelf.len(), 0, "and it costs no session");

    let request = desk.begin(&browser).set("cart", "1");
    let reply = desk.finish(request);
    browser.receive(&reply);
    assert!(accepted(&mut desk, &browser), "what the visitor puts into the cart must not break the form");

    desk.login(&mut browser, "alice");
    assert!(!accepted(&mut desk, &browser));
    desk.logout(&mut browser);
    assert!(accepted(&mut desk, &browser), "the next login form in another tab");
}
