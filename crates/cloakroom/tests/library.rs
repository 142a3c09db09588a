//! What a session does for an application: asked lazily, written once, refused safely.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use cloakroom::{CookieOptions, MemoryStore, Policy, SessionError, SessionLayer};
use cloakroom_testkit::{Counting, Operation};
use http::StatusCode;

use crate::common::World;

#[test]
fn r019_a_visitor_with_nothing_to_keep_gets_no_record_and_no_cookie() {
    let store = Counting::new(MemoryStore::new());
    let world = World::new(store.clone());
    for path in ["/untouched", "/who", "/word"] {
        let answer = world.client().ask(path);
        assert_eq!((answer.status, answer.set_cookie()), (StatusCode::OK, None), "{path}");
    }
    assert_eq!(store.counts().total(), 0);
    assert!(store.inner().is_empty());
    assert_eq!(world.log.names(), [""; 0]);
}

#[test]
fn r125_a_response_whose_handler_asked_for_the_session_is_not_stored() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    assert_eq!(client.ask("/untouched").header("cache-control"), None);
    assert_eq!(client.ask("/who").header("cache-control"), Some("no-store"));
    assert_eq!(client.ask("/count").header("cache-control"), Some("no-store"));
    assert_eq!(client.ask("/authenticated").header("cache-control"), Some("no-store"));
}

#[test]
fn a_cookie_is_set_when_there_is_something_to_keep_and_not_again() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    let first = client.ask("/count");
    let cookie = first.set_cookie().unwrap();
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
    for expected in ["2", "3", "4"] {
        let answer = client.ask("/count");
        assert_eq!((answer.body.as_str(), answer.set_cookie()), (expected, None));
    }
    assert_eq!(world.log.names(), ["session_created"]);
}

#[test]
fn data_is_written_whatever_the_status_of_the_response() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    assert_eq!(client.ask("/fails-after-count").status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(client.ask("/count").body, "2");
}

#[test]
fn r048_a_login_makes_a_new_session_and_ends_the_one_before() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    client.ask("/count");
    let old = client.clone();
    let login = client.ask("/log-in/alice");
    assert_eq!(login.who().0, "alice");
    assert_ne!(old.token, client.token);
    let (old_handle, new_handle) = (&old.token.unwrap()[..21], &client.token.clone().unwrap()[..21]);
    assert_ne!(old_handle, new_handle, "not even the handle stays");
    assert_eq!(client.ask("/count").body, "1", "R-050: nothing survives a login by default");
    assert_eq!(world.log.names(), ["session_created", "authn_token_revoked", "authn_login_success"]);
}

#[test]
fn r003_r048_a_session_that_an_attacker_planted_is_not_the_victims_after_login() {
    let world = World::new(MemoryStore::new());
    let mut attacker = world.client();
    attacker.ask("/count");
    let mut victim = world.client();
    victim.token = attacker.token.clone();
    victim.ask("/log-in/alice");
    assert_eq!(victim.ask("/who").who().0, "alice");
    assert_eq!(attacker.ask("/who").who(), ("-", "-"));
    world.advance(3600);
    assert_eq!(attacker.ask("/who").who(), ("-", "-"));
}

#[test]
fn r050_only_listed_keys_cross_a_login() {
    let world = World::with(MemoryStore::new(), |b| b.policy(Policy::default().survives_login(["word"])));
    let mut client = world.client();
    client.ask("/count");
    client.ask("/word/basket");
    client.ask("/log-in/alice");
    assert_eq!(client.ask("/word").body, "basket");
    assert_eq!(client.ask("/count").body, "1");
    // From one account to another nothing crosses.
    client.ask("/log-in/bob");
    assert_eq!(client.ask("/word").body, "");
}

#[test]
fn r054_r063_a_logout_ends_the_session_removes_the_cookie_and_clears_the_browser() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    client.ask("/log-in/alice");
    let stolen = client.clone();
    let out = client.ask("/log-out");
    let cookie = out.set_cookie().unwrap();
    assert!(
        cookie.starts_with("__Host-Http-sid=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"),
        "{cookie}"
    );
    assert_eq!(out.header("clear-site-data"), Some(r#""cache", "storage""#));
    for minutes in [0, 1, 60, 3000] {
        world.advance(minutes * 60);
        let mut thief = stolen.clone();
        assert_eq!(thief.ask("/who").who(), ("-", "-"), "after {minutes} minutes");
        assert_eq!(thief.ask("/authenticated").status, StatusCode::UNAUTHORIZED);
    }
}

#[test]
fn r063_a_logout_leaves_the_cookies_of_sibling_hosts_alone_unless_it_is_told_otherwise() {
    for (whole_site, cleared) in
        [(false, r#""cache", "storage""#), (true, r#""cache", "cookies", "storage""#)]
    {
        let world = World::with(MemoryStore::new(), |builder| {
            if whole_site { builder.logout_clears_cookies_of_whole_site() } else { builder }
        });
        for path in ["/log-out", "/log-out-everywhere"] {
            let mut client = world.client();
            client.ask("/log-in/alice");
            let out = client.ask(path);
            assert_eq!(out.header("clear-site-data"), Some(cleared), "{path}");
            assert_eq!(client.token, None, "{path}");
            world.advance(1);
        }
    }
}

#[test]
fn a_logout_that_came_too_late_leaves_the_cookie_of_the_login_alone() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    client.ask("/log-in/alice");
    let other_tab = client.clone();
    client.ask("/log-in/alice");
    let late = other_tab.ask_and_lose("/log-out");
    assert_eq!(late.set_cookie(), None);
    assert_eq!(late.header("clear-site-data"), Some(r#""cache", "storage""#));
    assert_eq!(client.ask("/who").who().0, "alice");
}

#[test]
fn r049_a_step_up_replaces_the_secret_at_once_and_records_level_and_methods() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    client.ask("/log-in/alice");
    let old = client.clone();
    let before = client.ask("/who").body;
    world.advance(600);
    assert_eq!(client.ask("/recent").status, StatusCode::FORBIDDEN);
    let up = client.ask("/step-up");
    assert_eq!(up.body, before, "the same session");
    assert_ne!(client.token, old.token);
    assert_eq!(client.ask("/recent").status, StatusCode::OK);
    assert_eq!(old.ask_and_lose("/who").who(), ("-", "-"));
}

#[test]
fn r049_a_change_of_role_replaces_the_secret_at_once() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    client.ask("/log-in/alice");
    let old = client.clone();
    client.ask("/rotate");
    assert_eq!(old.ask_and_lose("/who").who().0, "-");
    assert_eq!(client.ask("/who").who().0, "alice");
}

#[test]
fn r118_a_recent_login_is_demanded_by_age_and_not_by_activity() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    assert_eq!(client.ask("/recent").status, StatusCode::UNAUTHORIZED);
    client.ask("/log-in/alice");
    world.advance(294);
    assert_eq!(client.ask("/recent").status, StatusCode::OK);
    client.ask("/count");
    world.advance(2);
    assert_eq!(client.ask("/recent").status, StatusCode::FORBIDDEN);
    assert_eq!(client.ask("/authenticated").status, StatusCode::OK);
}

#[test]
fn r114_refusals_tell_a_client_nothing_about_why() {
    let world = World::new(MemoryStore::new());
    let mut never = world.client();
    let mut ended = world.client();
    ended.ask("/log-in/alice");
    let token = ended.token.clone();
    ended.ask("/log-out");
    ended.token = token;
    let mut forged = world.client();
    forged.token = Some("A".repeat(64));
    let mut malformed = world.client();
    malformed.token = Some("no token at all".to_owned());
    let expected = never.ask("/authenticated");
    for client in [&mut ended, &mut forged, &mut malformed] {
        let answer = client.ask("/authenticated");
        assert_eq!(answer.status, expected.status);
        assert_eq!(answer.body, expected.body);
        assert_eq!(answer.headers, expected.headers);
    }
}

#[test]
fn r004_a_malformed_cookie_costs_no_look_up_and_an_unknown_token_exactly_one() {
    let store = Counting::new(MemoryStore::new());
    let world = World::new(store.clone());
    let mut client = world.client();
    client.token = Some("../../etc/passwd".to_owned());
    client.ask("/who");
    assert_eq!(store.take().total(), 0);
    client.token = Some("A".repeat(64));
    client.ask("/who");
    let counts = store.take();
    assert_eq!((counts.total(), counts.of(Operation::Find)), (1, 1));
    assert_eq!(world.log.names(), ["session_malformed_token", "session_unknown_token"]);
}

#[test]
fn r045_passive_requests_do_not_keep_a_session_alive() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    client.ask("/log-in/alice");
    client.ask("/who");
    for _ in 0..29 {
        world.advance(60);
        client.ask("/poll");
    }
    assert_eq!(client.ask("/poll").who().0, "alice");
    world.advance(60);
    assert_eq!(client.ask("/poll").who().0, "-");
}

#[tokio::test]
async fn changes_after_the_response_are_refused() {
    use axum::extract::State;
    use std::sync::{Arc, Mutex};
    type Kept = Arc<Mutex<Option<cloakroom::Session>>>;
    let kept = Kept::default();
    let keep = async |State(kept): State<Kept>, session: cloakroom::Session| {
        *kept.lock().unwrap() = Some(session);
    };
    let app = axum::Router::new()
        .route("/", axum::routing::get(keep))
        .layer(SessionLayer::new(MemoryStore::new()))
        .with_state(Arc::clone(&kept));
    common::answer(app, http::Request::new(axum::body::Body::empty())).await;
    let session = kept.lock().unwrap().take().unwrap();
    assert!(matches!(session.set(common::WORD, String::new()), Err(SessionError::AfterResponse)));
    assert!(matches!(session.log_in("alice").await, Err(SessionError::AfterResponse)));
    assert!(matches!(session.log_out().await, Err(SessionError::AfterResponse)));
}

#[tokio::test]
async fn a_route_without_the_layer_says_so() {
    let app = axum::Router::new().route("/", axum::routing::get(async |_: cloakroom::Session| ""));
    let answer = common::answer(app, http::Request::new(axum::body::Body::empty())).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
fn every_problem_of_a_configuration_is_listed_at_once() {
    let errors = SessionLayer::builder(MemoryStore::new())
        .policy(Policy::aal3().absolute(std::time::Duration::from_secs(13 * 3600)).data_max(0))
        .cookie(CookieOptions::default().name("sid").insecure_cross_site(" "))
        .build()
        .unwrap_err();
    let keys = errors.problems().iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>();
    assert_eq!(keys, ["policy.absolute", "policy.data_max", "cookie.name", "cookie.insecure_cross_site"]);
}

#[test]
fn data_beyond_the_limit_is_refused_at_once_and_the_rest_is_kept() {
    let world = World::with(MemoryStore::new(), |b| b.policy(Policy::default().data_max(40)));
    let mut client = world.client();
    client.ask("/count");
    let refused = client.ask(&format!("/word/{}", "w".repeat(60)));
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(client.ask("/count").body, "2");
    assert_eq!(client.ask("/word").body, "");
}

#[test]
fn a_login_brings_its_data_along_in_the_same_insert() {
    use cloakroom_testkit::Operation::{Epoch, Find, Insert};
    let store = Counting::new(MemoryStore::new());
    let log_in = async |session: cloakroom::Session| -> Result<String, SessionError> {
        let login =
            session.login_since_arrival("alice")?.set(common::COUNT, 5)?.set_json("word", "\"tea\"")?;
        login.methods(["pwd"])?.complete().await?;
        Ok(format!("{:?}", session.entries()?))
    };
    let app = axum::Router::new()
        .route("/", axum::routing::get(log_in))
        .layer(SessionLayer::builder(store.clone()).without_sweeping().build().unwrap());
    let request = http::Request::new(axum::body::Body::empty());
    let answer = cloakroom_testkit::block_on(common::answer(app, request));
    assert_eq!(answer.body, r#"[("count", "5"), ("word", "\"tea\"")]"#);
    let counts = store.counts();
    assert_eq!((counts.of(Insert), counts.of(Epoch), counts.of(Find), counts.total()), (1, 1, 0, 2));
}

#[test]
fn keys_and_values_that_are_known_at_run_time_only_are_checked() {
    let try_all = async |session: cloakroom::Session| -> Result<String, SessionError> {
        assert!(matches!(session.set_json("No", "1"), Err(SessionError::Value(_))));
        assert!(matches!(session.set_json("no", "{"), Err(SessionError::Data(_))));
        session.set_json("yes", "[1]")?;
        session.set_json("gone", "1")?;
        session.remove_named("gone")?;
        Ok(format!("{:?}", session.entries()?))
    };
    let app = axum::Router::new()
        .route("/", axum::routing::get(try_all))
        .layer(SessionLayer::new(MemoryStore::new()));
    let request = http::Request::new(axum::body::Body::empty());
    let answer = cloakroom_testkit::block_on(common::answer(app, request));
    assert_eq!(answer.body, r#"[("yes", "[1]")]"#);
}
