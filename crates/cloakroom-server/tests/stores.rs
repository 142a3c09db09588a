//! The whole gateway on every store, over real sockets: two gateways share one store, and the program looks after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;
mod places;

use std::time::Duration;

use cloakroom::SystemClock;
use cloakroom::core::clock::Clock as _;
use cloakroom_testkit::ManualClock;

use crate::harness::{Client, Scripted, application, raw};
use crate::places::Place;

macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        on_every_store!(@ sqlite: $($test),*);
        on_every_store!(@ postgres: $($test),*);
        on_every_store!(@ redis: $($test),*);
        on_every_store!(@ redis_cluster: $($test),*);
    };
    (@ $store:ident: $($test:ident),*) => {
        mod $store {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(&super::Place::$store().await).await;
                }
            )*
        }
    };
}

on_every_store!(
    sessions_and_their_data_are_the_same_through_both_gateways,
    r058_r059_what_is_ended_on_one_gateway_is_refused_on_another_at_the_next_request,
    r056_r057_a_login_that_began_on_one_gateway_before_a_revoke_all_on_another_does_not_survive_it,
    r058_the_command_line_lists_and_ends_sessions_while_gateways_run,
    r058_the_command_line_ends_the_sessions_of_everybody_and_asks_before,
);

async fn sessions_and_their_data_are_the_same_through_both_gateways(place: &Place) {
    let (upstream, received) = application().await;
    let (one, two) = (place.gateway(upstream, SystemClock).await, place.gateway(upstream, SystemClock).await);
    let last = || received.lock().unwrap().last().cloned().unwrap();
    let mut here = one.client();
    here.told(&["Session-Set: cart=\"tea\""]).await;
    here.log_in("alice").await;
    let mut there = two.welcome(&here);
    there.told(&["Session-Set: lang=\"cs\""]).await;
    assert!(last().contains("session-subject: \"alice\"\n"), "{}", last());
    here.told(&["Session-Set: cart=\"coffee\""]).await;
    there.get("/").await;
    let seen = last();
    assert!(seen.contains("cart=\"coffee\"") && seen.contains("lang=\"cs\""), "{seen}");
    // Neither takes the other's answer for its own.
    let answer = two.client().get("/").await;
    assert_eq!((answer.status, answer.field("set-cookie")), (200, None));
    assert!(!last().contains("session-subject"), "{}", last());
}

async fn r058_r059_what_is_ended_on_one_gateway_is_refused_on_another_at_the_next_request(place: &Place) {
    let (upstream, received) = application().await;
    let (one, two) = (place.gateway(upstream, SystemClock).await, place.gateway(upstream, SystemClock).await);
    let last = || received.lock().unwrap().last().cloned().unwrap();
    let (mut laptop, mut phone) = (one.client(), two.client());
    laptop.log_in("alice").await;
    phone.log_in("alice").await;
    laptop.get("/").await;
    let own = handle_in(&last());
    let page = phone.get("/.cloakroom/sessions").await;
    assert_eq!(page.body.matches("<div class=\"about\">").count(), 2, "{}", page.body);
    assert!(page.body.contains(&own), "{}", page.body);

    let body = format!("handle={own}");
    let length = format!("Content-Length: {}", body.len());
    let fields = [length.as_str(), "Content-Type: application/x-www-form-urlencoded"];
    let request = phone.request("POST", "/.cloakroom/sessions/end", &fields) + &body;
    assert!(raw(two.address, request.as_bytes()).await.contains("location: /.cloakroom/sessions\r\n"));
    laptop.get("/").await;
    assert!(!last().contains("session-subject"), "{}", last());
    assert!(one.log.take().contains(&"session_use_after_expire"));
    phone.get("/").await;
    assert!(last().contains("session-subject: \"alice\"\n"), "the other one goes on: {}", last());
    phone.told(&["Session-Logout: this"]).await;
    let mut elsewhere = one.client();
    elsewhere.get("/.cloakroom/sessions").await;
    assert_eq!(elsewhere.cookie, None);
}

fn handle_in(received: &str) -> String {
    let line = received.lines().find_map(|line| line.strip_prefix("session-handle: ")).unwrap();
    line.trim_matches('"').to_owned()
}

async fn r056_r057_a_login_that_began_on_one_gateway_before_a_revoke_all_on_another_does_not_survive_it(
    place: &Place,
) {
    let (upstream, received) = application().await;
    let (application, scripted) = Scripted::start().await;
    let now = SystemClock.now().unwrap();
    let off = |seconds: i64| {
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { now.minus(by) } else { now.plus(by) }
    };
    // How far the clocks are off where all sessions are ended and where the login is, and how far the latter is set in between.
    for (ending, logging_in, set) in [(1, 0, 0), (-1, 0, 0), (4, -4, 0), (-4, 4, 0), (0, 0, -4), (-4, 4, -8)]
    {
        let clock = ManualClock::new(off(logging_in));
        let one = place.gateway(upstream, ManualClock::new(off(ending))).await;
        let two = place.gateway(scripted, clock.clone()).await;
        let mut owner = one.client();
        // Until it is later by the store's clock, too, a login could be one that the end before has beaten.
        patiently(async || {
            owner.log_in("alice").await;
            owner.get("/").await;
            received.lock().unwrap().last().unwrap().contains("session-subject: \"alice\"\n")
        })
        .await;
        // The password is being checked there while the owner ends everything here.
        let client = two.client();
        let (login, ()) = tokio::join!(
            async { raw(two.address, client.request("POST", "/login", &[]).as_bytes()).await },
            async {
                let exchange = application.next().await;
                clock.set(off(logging_in + set));
                owner.told(&["Session-Logout: everywhere"]).await;
                exchange.reply("Session-Login: \"alice\"\r\n").await;
            }
        );
        let case = format!("ended at {ending} s, login at {logging_in} s, set by {set} s");
        assert!(
            !login.contains("set-cookie: __Host-Http-sid=") || login.contains("Max-Age=0"),
            "{case}: {login}"
        );
        assert!(!login.starts_with("HTTP/1.1 200"), "{case}: {login}");
        assert!(two.log.take().contains(&"authn_login_superseded"), "{case}");
    }
}

/// Tries until it is so. Waits for something that comes by itself, as time passes.
async fn patiently(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..10_000 {
        if is_so().await {
            return;
        }
    }
    panic!("it never came");
}

async fn r058_the_command_line_ends_the_sessions_of_everybody_and_asks_before(place: &Place) {
    let (upstream, received) = application().await;
    let one = place.gateway(upstream, SystemClock).await;
    let (mut alice, mut bob) = (one.client(), one.client());
    alice.log_in("alice").await;
    bob.log_in("bob").await;
    let finds = async |client: &mut _, subject: bool, when: &str| {
        let client: &mut Client = client;
        client.get("/").await;
        let seen = received.lock().unwrap().last().cloned().unwrap();
        assert_eq!(seen.contains("session-subject"), subject, "{when}: {seen}");
    };
    let (code, said) = place.says(&["sessions", "revoke-everybody"], "");
    assert!(code != Some(0) && said.contains("--yes"), "{said}");
    finds(&mut bob, true, "not confirmed").await;
    let (code, said) = place.says(&["sessions", "revoke-everybody", "--yes"], "");
    assert!(code == Some(0) && said.contains("Ended ") && said.contains("sign in again"), "{said}");
    finds(&mut alice, false, "ended").await;
    finds(&mut bob, false, "ended").await;
}

async fn r058_the_command_line_lists_and_ends_sessions_while_gateways_run(place: &Place) {
    let (upstream, received) = application().await;
    let (one, two) = (place.gateway(upstream, SystemClock).await, place.gateway(upstream, SystemClock).await);
    let (mut laptop, mut phone, mut bob) = (one.client(), two.client(), two.client());
    laptop.log_in("alice").await;
    phone.log_in("alice").await;
    bob.log_in("bob").await;
    let (code, said) = place.says(&["sessions", "list", "--subject", "alice"], "");
    assert!(code == Some(0) && said.contains("2 session(s) of alice"), "{said}");
    let (code, said) = place.says(&["sessions", "revoke", "--subject", "alice"], "");
    assert!(code == Some(0) && said.contains("Ended 2 session(s) of alice"), "{said}");
    for (client, subject) in [(&mut laptop, false), (&mut phone, false), (&mut bob, true)] {
        client.get("/").await;
        let seen = received.lock().unwrap().last().cloned().unwrap();
        assert_eq!(seen.contains("session-subject"), subject, "{seen}");
    }
    let (_, said) = place.says(&["sessions", "list", "--subject", "alice"], "");
    assert!(said.contains("0 session(s) of alice"), "{said}");
}
