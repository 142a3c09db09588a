//! Visitors, and requests whose cookies are unknown, malformed, ambiguous or late (design section 4.1).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod common;

use cloakroom_core::event::EventKind;
use cloakroom_core::policy::Policy;
use cloakroom_core::store::Reason;
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
fn r019_a_visitor_with_nothing_to_keep_costs_no_record_and_no_cookie() {
    let mut desk = Desk::default();
    for _ in 0..10_000 {
        assert_eq!(desk.visit(&mut Browser::firefox()).cookie, None);
    }
    let request = desk.begin(&Browser::firefox()).set("cart", "1");
    let mut request = request;
    request.changes.remove("cart");
    assert_eq!(desk.finish(request).cookie, None);
    assert_eq!((desk.shelf.len(), desk.happened()), (0, vec![]));
    visitor(&mut desk, "cart", "1");
    assert_eq!((desk.shelf.len(), desk.happened()), (1, vec![EventKind::Created]));
}

#[test]
fn r003_an_unknown_token_is_not_adopted_by_a_session_or_a_login() {
    let mut desk = Desk::default();
    let planted = "A".repeat(64);
    for login in [false, true] {
        let mut browser = Browser::firefox().with(&planted);
        if login {
            desk.login(&mut browser, "alice");
        } else {
            let request = desk.begin(&browser).set("cart", "1");
            browser.receive(&desk.finish(request));
        }
        assert_ne!(browser.token(), planted);
        assert_ne!(browser.handle(), common::handle_of(&planted));
        assert_eq!(desk.happened()[0], EventKind::UnknownToken);
    }
    assert_eq!(desk.peek(&Browser::firefox().with(&planted)), None);
}

#[test]
fn r004_what_cannot_be_a_token_is_not_looked_up_and_answered_like_no_cookie() {
    let mut desk = Desk::default();
    let good = desk.alice().token();
    let hostile = [
        "".to_owned(),
        "a".into(),
        "../etc".into(),
        "' OR 1=1 --".into(),
        format!("{good}A"),
        good.replace('A', "+") + "=",
    ];
    for text in hostile {
        let browser = Browser::firefox().with(&text);
        let field = format!("{}={text}", desk.engine.cookie().name());
        let presented = desk.engine.present([field.as_bytes()]);
        assert_eq!(presented.handles().count(), 0, "{text}");
        desk.happened();
        let reply = desk.visit_in_vain(&browser);
        assert_eq!((reply.subject, reply.cookie, reply.discarded), (None, None, false), "{text}");
        assert_eq!(desk.happened(), [EventKind::MalformedToken], "{text}");
    }
}

#[test]
fn r033_r017_two_valid_sessions_are_ambiguous_in_every_order() {
    let mut desk = Desk::default();
    let (alice, mut mallory) = (desk.alice(), Browser::stranger());
    desk.login(&mut mallory, "mallory");
    let junk = "B".repeat(64);
    let valid = [alice.token(), mallory.token()];
    for copies in orders(&[valid[0].clone(), valid[1].clone(), junk.clone(), "short".to_owned()]) {
        let mut browser = alice.with(&copies[0]);
        browser.planted = copies[1..].to_vec();
        desk.happened();
        assert_eq!(desk.peek(&browser), None);
        assert!(desk.happened().contains(&EventKind::AmbiguousTokens));
    }
    // One valid among junk is served, wherever it stands, as often as it stands there.
    for copies in orders(&[valid[0].clone(), valid[0].clone(), junk, "short".to_owned()]) {
        let mut browser = alice.with(&copies[0]);
        browser.planted = copies[1..].to_vec();
        assert_eq!(desk.peek(&browser).unwrap(), "alice");
    }
}

fn orders(items: &[String]) -> Vec<Vec<String>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    (0..items.len())
        .flat_map(|index| {
            let mut rest = items.to_vec();
            let first = rest.remove(index);
            orders(&rest).into_iter().map(move |tail| [vec![first.clone()], tail].concat())
        })
        .collect()
}

#[test]
fn r017_the_handle_of_one_session_with_the_secret_of_another_is_refused() {
    let mut desk = Desk::default();
    let (alice, bob) = (desk.alice(), desk.alice());
    let raw = |token: &str| cloakroom_core::token::Token::parse(token.as_bytes()).unwrap();
    assert_ne!(raw(&alice.token()), raw(&bob.token()));
    // 22 characters hold the 16 bytes of the handle and four bits more: swap at a byte boundary by way of
    // bytes.
    let (a, b) = (common::bytes(&alice.token()), common::bytes(&bob.token()));
    let mixed = common::base64(&[&a[..16], &b[16..]].concat());
    assert_eq!(desk.peek(&alice.with(&mixed)), None);
    assert_eq!(desk.shelf.lives(), 2);
}

#[test]
fn a_session_that_ended_lately_does_not_disturb_one_that_lives_beside_it() {
    let mut desk = Desk::with(Policy::default().survives_login(["cart"]));
    let mut ended = desk.alice();
    let token = ended.token();
    desk.logout(&mut ended);
    let mut browser = visitor(&mut desk, "cart", "1");
    browser.planted = vec![token];
    let request = desk.begin(&browser);
    assert!(!request.resumed.just_ended());
    desk.login(&mut browser, "alice");
    browser.planted.clear();
    assert_eq!(data(&mut desk, &browser).len(), 1);
}

#[test]
fn a_request_whose_session_ended_moments_ago_gets_no_cookie_and_stores_nothing() {
    let mut desk = Desk::default();
    let mut alice = desk.alice();
    let old = alice.clone();
    desk.logout(&mut alice);
    desk.wait(secs(64)).happened();
    let request = desk.begin(&old).set("cart", "1");
    let reply = desk.finish(request);
    assert_eq!((reply.cookie, reply.discarded), (None, true));
    let late = [EventKind::UsedAfterEnd(Reason::LoggedOut), EventKind::WriteDiscarded];
    assert_eq!(desk.happened(), late);
    desk.wait(secs(1));
    let request = desk.begin(&old).set("cart", "1");
    let reply = desk.finish(request);
    assert!(reply.handed().is_some() && !reply.discarded);
}

#[test]
fn r044_a_visitors_session_ends_early_unless_its_token_comes_back() {
    // Ten minutes less the skew; then a whole idle limit from the moment of coming back.
    let (early, moment) = (mins(10) - secs(5), std::time::Duration::from_millis(1));
    for (name, back_at, asked_at, lives) in [
        ("never back, just before", None, early - moment, true),
        ("never back", None, early, false),
        ("back at once", Some(moment), early, true),
        ("back at the last moment", Some(early - moment), mins(39), true),
        ("back too late", Some(early), early, false),
        ("back, then idle", Some(mins(5)), mins(35) - secs(5), false),
    ] {
        let mut desk = Desk::default();
        let mut browser = visitor(&mut desk, "cart", "1");
        let made = desk.now;
        if let Some(after) = back_at {
            desk.now = made.plus(after);
            desk.visit(&mut browser);
        }
        desk.happened();
        desk.now = made.plus(asked_at);
        assert_eq!(data(&mut desk, &browser).len(), usize::from(lives), "{name}");
        let refused = [EventKind::UsedAfterEnd(Reason::Idle)];
        assert_eq!(desk.happened() == refused, !lives, "{name}");
    }
}

#[test]
fn r044_a_passive_request_does_not_count_as_coming_back() {
    let mut desk = Desk::default();
    let mut polling = visitor(&mut desk, "cart", "1").passive();
    desk.wait(mins(5)).visit(&mut polling);
    desk.wait(mins(5));
    assert_eq!(data(&mut desk, &polling), []);
}

#[test]
fn a_visitors_return_is_noted_once_and_then_at_intervals() {
    let mut desk = Desk::default();
    let mut browser = visitor(&mut desk, "cart", "1");
    let writes = desk.shelf.writes;
    for _ in 0..59 {
        desk.wait(secs(1)).visit(&mut browser);
    }
    assert_eq!(desk.shelf.writes, writes + 1);
    let record = desk.record(browser.handle());
    assert!(record.presented() && record.seen() == record.created().plus(secs(1)));
}

#[test]
fn an_idle_limit_below_that_of_visitors_holds_for_them_too() {
    let mut desk = Desk::with(Policy::default().idle(mins(3)));
    let browser = visitor(&mut desk, "cart", "1");
    let record = desk.record(browser.handle());
    assert_eq!(record.deadline(), (desk.now.plus(mins(3)), Reason::Idle));
}

#[test]
fn a_login_has_its_whole_idle_limit_from_the_start() {
    let mut desk = Desk::default();
    let mut browser = visitor(&mut desk, "cart", "1");
    desk.login(&mut browser, "alice");
    assert_eq!(desk.record(browser.handle()).deadline().0, desk.now.plus(mins(30)));
}
