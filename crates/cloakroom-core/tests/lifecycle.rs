//! Login, logout, visitors and conflicts (design sections 4.1, 4.4 and 4.5).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod common;

use cloakroom_core::engine::CookieAction;
use cloakroom_core::error::EngineError;
use cloakroom_core::event::EventKind;
use cloakroom_core::policy::Policy;
use cloakroom_core::record::{Proof, Subject};
use cloakroom_core::store::{Epoch, Inserted, Reason};
use common::mirror::Body;
use common::{Browser, Desk, mins, secs};

/// A visitor with something to keep.
fn visitor(desk: &mut Desk, key: &str, json: &str) -> Browser {
    let mut browser = Browser::firefox();
    let request = desk.begin(&browser).set(key, json);
    let reply = desk.finish(request);
    browser.receive(&reply);
    browser
}

fn data(desk: &mut Desk, browser: &Browser) -> Vec<(String, String)> {
    let data = desk.begin(browser).resumed.open().unwrap();
    data.iter().map(|(k, v)| (k.to_owned(), String::from_utf8(v.to_vec()).unwrap())).collect()
}

#[test]
fn r048_login_makes_a_new_handle_and_secret_and_ends_the_visitors_session() {
    let mut desk = Desk::default();
    let mut browser = visitor(&mut desk, "cart", "1");
    let fixed = browser.token();
    desk.happened();
    desk.login(&mut browser, "alice");
    assert_eq!(desk.happened(), [EventKind::Ended(Reason::Superseded), EventKind::LoggedIn]);
    assert_ne!(browser.handle(), common::handle_of(&fixed));
    assert!(!browser.token().ends_with(&fixed[22..]));
    assert_eq!(desk.peek(&browser.with(&fixed)), None);
    assert_eq!(desk.shelf.lives(), 1);
}

#[test]
fn r048_login_ends_what_was_presented_by_a_current_pending_previous_or_retired_secret() {
    for how in ["current", "pending", "previous", "stale", "retired"] {
        let mut desk = Desk::default();
        let mut alice = desk.alice();
        let first = alice.token();
        if how == "stale" {
            desk.rotate_now(&mut alice);
        } else if how != "current" {
            desk.wait(mins(15)).visit(&mut alice);
        }
        if how == "previous" || how == "retired" {
            desk.visit(&mut alice);
        }
        if how == "retired" {
            desk.wait(secs(65));
        }
        // Bob logs in at a browser that holds a token of alice's.
        let mut bob = if how == "pending" { alice.clone() } else { alice.with(&first) };
        desk.login(&mut bob, "bob");
        assert_eq!(desk.peek(&bob).unwrap(), "bob", "{how}");
        assert_eq!(desk.peek(&alice), None, "{how}");
        assert_eq!(desk.shelf.lives(), 1, "{how}");
    }
}

#[test]
fn r048_login_ends_an_expired_session_and_all_of_several() {
    let mut desk = Desk::default();
    let (mut alice, bob) = (desk.alice(), desk.alice());
    desk.wait(mins(31));
    let carol = desk.alice();
    alice.planted = vec![bob.token(), carol.token()];
    desk.login(&mut alice, "dave");
    assert_eq!(desk.shelf.lives(), 1);
    assert_eq!(desk.peek(&carol), None);
}

#[test]
fn r048_a_second_login_in_one_request_ends_the_first() {
    let mut desk = Desk::default();
    let browser = Browser::firefox();
    let mut request = desk.begin(&browser);
    desk.log_in(&mut request, "alice");
    desk.log_in(&mut request, "bob");
    let mut browser = browser;
    browser.receive(&desk.finish(request));
    assert_eq!((desk.peek(&browser).unwrap().as_str(), desk.shelf.lives()), ("bob", 1));
}

#[test]
fn r050_only_listed_keys_cross_a_login() {
    let mut desk = Desk::with(Policy::default().survives_login(["cart", "lang"]));
    let mut browser = visitor(&mut desk, "cart", "1");
    let request =
        desk.begin(&browser).set("csrf", "2").set("admin", "true").set("cart.x", "3").set("role", "5");
    desk.finish(request);
    // What the request itself has changed so far crosses too, if listed.
    let mut request = desk.begin(&browser).set("lang", "4");
    desk.log_in(&mut request, "alice");
    browser.receive(&desk.finish(request));
    let kept = [("cart", "1"), ("lang", "4")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(data(&mut desk, &browser), kept);
}

#[test]
fn a_login_that_would_lose_what_its_own_request_has_stored_is_refused() {
    let mut desk = Desk::with(Policy::default().survives_login(["lang"]));
    let browser = visitor(&mut desk, "cart", "1");
    let request = desk.begin(&browser).set("lang", "4").set("role", "5");
    let who = (Subject::new("alice").unwrap(), Proof::default());
    let since = Epoch::default();
    let login = desk.engine.log_in(&request.resumed, &request.changes, who, since, desk.now, &desk.entropy);
    assert!(matches!(login, Err(EngineError::LostByLogin { key }) if key == "role"));
}

#[test]
fn r050_nothing_crosses_by_default_or_from_another_subjects_session() {
    let mut desk = Desk::default();
    let mut browser = visitor(&mut desk, "cart", "1");
    desk.login(&mut browser, "alice");
    assert_eq!(data(&mut desk, &browser), []);
    let mut desk = Desk::with(Policy::default().survives_login(["cart"]));
    let mut alice = desk.alice();
    let request = desk.begin(&alice).set("cart", "1");
    desk.finish(request);
    desk.login(&mut alice, "bob");
    assert_eq!(data(&mut desk, &alice), []);
}

#[test]
fn r001_a_taken_handle_is_drawn_again_and_surviving_data_is_kept() {
    let mut desk = Desk::with(Policy::default().survives_login(["cart"]));
    let mut browser = visitor(&mut desk, "cart", "1");
    desk.shelf.refusals = vec![Inserted::HandleTaken; 3];
    desk.login(&mut browser, "alice");
    assert_eq!(data(&mut desk, &browser), [("cart".to_owned(), "1".to_owned())]);
    assert_eq!(desk.peek(&browser).unwrap(), "alice");
}

#[test]
fn r001_a_visitors_handle_that_is_taken_leaves_the_first_session_untouched() {
    let mut desk = Desk::default();
    let first = visitor(&mut desk, "cart", "1");
    // Randomness repeats itself.
    desk.entropy = common::Seeded::new(1);
    let second = visitor(&mut desk, "cart", "2");
    assert_ne!(first.handle(), second.handle());
    assert_eq!(data(&mut desk, &first)[0].1, "1");
    assert_eq!(data(&mut desk, &second)[0].1, "2");
}

#[test]
fn r053_a_refused_login_has_still_ended_the_presented_session() {
    for refusal in [Inserted::CapReached, Inserted::Superseded] {
        let mut desk = Desk::default();
        let mut alice = desk.alice();
        let mut request = desk.begin(&alice);
        desk.shelf.refusals = vec![refusal.clone()];
        assert_eq!(desk.try_log_in(&mut request, "alice"), refusal);
        assert_eq!(request.subject(), None);
        let reply = desk.finish(request);
        assert_eq!(reply.cookie, None);
        alice.receive(&reply);
        assert_eq!(desk.peek(&alice), None);
        assert_eq!(desk.shelf.lives(), 0);
    }
}

#[test]
fn r043_the_session_records_level_methods_and_time_of_its_authentication() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let record = desk.record(alice.handle());
    let authentication = record.authentication().unwrap();
    assert_eq!((authentication.at(), authentication.level().get()), (common::NOON, 1));
    let request = desk.begin(&alice);
    desk.wait(mins(3));
    assert_eq!(desk.engine.authentication_age(&request.resumed, desk.now), Some(mins(3) + secs(1)));
}

#[test]
fn r054_logout_ends_the_session_and_removes_the_cookie() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let copy = alice.clone();
    desk.happened();
    assert_eq!(desk.logout(&mut alice).cookie, Some(CookieAction::Remove));
    assert_eq!(alice.jar, None);
    assert_eq!(desk.happened(), [EventKind::Ended(Reason::LoggedOut)]);
    assert_eq!(desk.peek(&copy), None);
    assert_eq!(desk.happened(), [EventKind::UsedAfterEnd(Reason::LoggedOut)]);
}

#[test]
fn logout_leaves_the_cookie_alone_where_another_request_ended_the_session_first() {
    let mut desk = Desk::default();
    let mut browser = desk.alice();
    let mut slow = desk.begin(&browser);
    let late = browser.clone();
    desk.login(&mut browser, "alice");
    // Resumed before the login, or moments after it with the old cookie.
    assert!(!desk.log_out(&mut slow));
    assert_eq!(desk.finish(slow).cookie, None);
    let mut late = desk.begin(&late);
    assert!(!desk.log_out(&mut late));
    let late = late.set("cart", "1");
    assert_eq!(desk.finish(late).cookie, None);
    assert_eq!(desk.peek(&browser).unwrap(), "alice");
}

#[test]
fn logout_without_a_session_sends_no_cookie() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let forged = format!("{}{}", &alice.token()[..22], "A".repeat(42));
    for mut browser in [Browser::firefox(), alice.with(&forged), alice.with("junk")] {
        assert_eq!(desk.logout(&mut browser).cookie, None);
    }
    assert_eq!(desk.peek(&alice).unwrap(), "alice");
}

#[test]
fn logout_with_several_sessions_ends_them_all() {
    let mut desk = Desk::default();
    let (mut alice, bob) = (desk.alice(), desk.alice());
    alice.planted = vec![bob.token()];
    assert_eq!(desk.logout(&mut alice).cookie, Some(CookieAction::Remove));
    assert_eq!(desk.shelf.lives(), 0);
}

#[test]
fn logout_and_login_in_one_request_set_one_cookie() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let mut request = desk.begin(&alice);
    desk.log_out(&mut request);
    desk.log_in(&mut request, "bob");
    alice.receive(&desk.finish(request));
    assert_eq!(desk.peek(&alice).unwrap(), "bob");
    let mut request = desk.begin(&alice);
    desk.log_in(&mut request, "carol");
    desk.log_out(&mut request);
    assert_eq!(desk.finish(request).cookie, Some(CookieAction::Remove));
    assert_eq!(desk.shelf.lives(), 0);
}

#[test]
fn what_is_stored_after_a_logout_begins_a_new_session() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let old = alice.handle();
    let mut request = desk.begin(&alice);
    desk.log_out(&mut request);
    let request = request.set("flash", "1");
    alice.receive(&desk.finish(request));
    assert_ne!(alice.handle(), old);
    assert_eq!(desk.peek(&alice), None);
}

#[test]
fn r053_no_update_of_parallel_requests_is_lost_and_the_last_set_of_a_key_wins() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let requests: Vec<_> =
        (0..20).map(|n| desk.begin(&alice).count("visits").set("last", &n.to_string())).collect();
    for request in requests {
        assert!(!desk.finish(request).discarded);
    }
    let stored = [("last", "19"), ("visits", "20")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(data(&mut desk, &alice), stored);
}

#[test]
fn r060_a_late_write_never_brings_a_session_back() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let (writing, touching) = (desk.begin(&alice).count("visits"), desk.begin(&alice));
    let mut rotating = desk.begin(&alice);
    let handle = alice.handle();
    desk.logout(&mut alice);
    desk.wait(mins(2));
    let reply = desk.finish(writing);
    assert_eq!((reply.cookie, reply.discarded), (None, true));
    desk.finish(touching);
    assert!(matches!(desk.rotate(&mut rotating), Err(EngineError::Superseded)));
    assert!(desk.shelf.live(handle).is_none());
}

#[test]
fn a_conflict_that_ended_the_session_is_told_apart_from_one_that_changed_it() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let slow = desk.begin(&alice).count("visits");
    let request = desk.begin(&alice).count("visits");
    desk.finish(request);
    desk.shelf.forget(alice.handle());
    assert!(desk.finish(slow).discarded, "not even a tombstone is left");
}

#[test]
fn data_beyond_the_limit_is_refused_and_what_was_stored_stays() {
    let mut desk = Desk::with(Policy::default().data_max(10));
    let alice = desk.alice();
    let request = desk.begin(&alice).set("k", "123456789");
    desk.finish(request);
    let request = desk.begin(&alice).set("k", "1234567890");
    assert!(matches!(desk.try_finish(request), Err(EngineError::DataTooLarge { len: 11, max: 10 })));
    assert_eq!(data(&mut desk, &alice)[0].1, "123456789");
}

#[test]
fn changes_that_change_nothing_cost_no_write() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let request = desk.begin(&alice).set("k", "1");
    desk.finish(request);
    let writes = desk.shelf.writes;
    let request = desk.begin(&alice).set("k", "1");
    desk.finish(request);
    assert_eq!(desk.shelf.writes, writes);
    assert_eq!(Body::read(&desk.record(alice.handle())).subject.unwrap(), "alice");
}
