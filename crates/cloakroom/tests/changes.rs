//! What `set`, `update` and `remove` promise is kept, or refused where they are called.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use cloakroom::core::error::EngineError;
use cloakroom::core::store::Fault;
use cloakroom::{Key, MemoryStore, Policy, Session, SessionError, SessionLayer};
use cloakroom_testkit::{ManualClock, Yielding, block_on};
use http::{Request, StatusCode, header};

use crate::common::{Answer, COUNT, Log, START, WORD, World, poll_once};

/// One route with its layer, and events.
fn app<F, Fut>(handler: F, policy: Policy) -> (Router, ManualClock, Log)
where
    F: FnOnce(Session) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = String> + Send + 'static,
{
    let (clock, log) = (ManualClock::new(START), Log::default());
    let layer = SessionLayer::builder(MemoryStore::new())
        .clock(clock.clone())
        .observer(log.clone())
        .policy(policy)
        .without_sweeping()
        .build()
        .unwrap();
    let in_and_out = Router::new()
        .route("/", get(handler))
        .route("/log-in", get(async |session: Session| session.log_in("alice").await))
        .route("/log-out", get(async |session: Session| session.log_out().await));
    (in_and_out.layer(layer), clock, log)
}

fn ask(app: &Router, path: &str, token: Option<&str>) -> Answer {
    let mut request = Request::builder().uri(path);
    if let Some(token) = token {
        request = request.header(header::COOKIE, format!("__Host-Http-sid={token}"));
    }
    block_on(common::answer(app.clone(), request.body(Body::empty()).unwrap()))
}

async fn try_all(session: Session) -> String {
    let told = session.can_keep();
    let outcomes = [
        session.set(WORD, "tea".to_owned()),
        session.update(COUNT, |count| *count += 1),
        session.remove(COUNT),
        session.set_json("raw", "1"),
        session.remove_named("raw"),
    ];
    for outcome in &outcomes {
        assert_eq!(outcome.is_ok(), told, "{outcome:?}");
        if let Err(error) = outcome {
            assert!(matches!(error, SessionError::NotKept), "{error:?}");
            assert_eq!((error.fault(), error.may_retry()), (Fault::Client, true));
            assert_eq!(error.status(), StatusCode::CONFLICT);
        }
    }
    told.to_string()
}

#[test]
fn nothing_is_stored_in_vain_beside_a_token_that_just_ended_and_a_handler_can_ask_before() {
    let (app, clock, log) = app(try_all, Policy::default());
    let token = ask(&app, "/log-in", None).token().unwrap().unwrap();
    assert_eq!(ask(&app, "/", Some(&token)).body, "true");
    ask(&app, "/log-out", Some(&token));
    log.take();
    for _ in 0..2 {
        let answer = ask(&app, "/", Some(&token));
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "false"));
        assert_eq!(answer.set_cookie(), None, "a login may be racing");
        let refused = ["session_write_discarded"; 5];
        assert_eq!(
            log.names(),
            [&["session_use_after_expire"][..], &refused].concat(),
            "one event a refusal"
        );
        clock.advance(std::time::Duration::from_secs(64));
    }
    clock.advance(std::time::Duration::from_secs(1));
    let answer = ask(&app, "/", Some(&token));
    assert_eq!(answer.body, "true", "a visitor like any other");
    assert!(answer.set_cookie().is_some());
}

#[test]
fn nothing_is_stored_in_vain_beside_a_stale_secret() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    client.ask("/log-in/alice");
    let old = client.clone();
    client.ask("/step-up");
    for path in ["/count", "/word/tea"] {
        let answer = old.ask_and_lose(path);
        assert_eq!((answer.status, answer.set_cookie()), (StatusCode::CONFLICT, None), "{path}");
    }
    assert_eq!(client.ask("/count").body, "1");
}

#[test]
fn a_login_in_the_request_makes_room_for_what_it_stores() {
    let handler = async |session: Session| {
        assert!(!session.can_keep());
        session.log_in("alice").await.unwrap();
        assert!(session.can_keep());
        session.set(WORD, "tea".to_owned()).unwrap();
        session.get(WORD).unwrap().unwrap()
    };
    let (app, _, _) = app(handler, Policy::default());
    let token = ask(&app, "/log-in", None).token().unwrap().unwrap();
    ask(&app, "/log-out", Some(&token));
    let answer = ask(&app, "/", Some(&token));
    assert_eq!(answer.body, "tea");
    assert!(answer.set_cookie().is_some());
}

const KEPT: Key<String> = Key::new("kept");

#[test]
fn a_login_that_would_lose_what_its_request_has_stored_is_refused_and_nothing_has_happened() {
    /// What a handler does before it logs in, and the key that would be lost.
    type Before = fn(&Session) -> Result<(), SessionError>;
    let rows: [(&str, Before, Option<&str>); 8] = [
        ("nothing", |_| Ok(()), None),
        ("a value", |session| session.set(WORD, String::new()), Some("word")),
        ("an update", |session| session.update(COUNT, |count| *count += 1), Some("count")),
        ("a value by its text", |session| session.set_json("raw", "1"), Some("raw")),
        ("a removal", |session| session.remove(WORD), None),
        (
            "a value that was removed again",
            |session| session.set(WORD, String::new()).and_then(|()| session.remove(WORD)),
            None,
        ),
        ("a value that survives", |session| session.set(KEPT, "tea".to_owned()), None),
        (
            "one that survives and one that does not",
            |session| session.set(KEPT, "tea".to_owned()).and_then(|()| session.set(WORD, String::new())),
            Some("word"),
        ),
    ];
    for (name, before, lost) in rows {
        let handler = async move |session: Session| {
            before(&session).unwrap();
            let (handle, kept) = (session.handle(), session.get(KEPT).unwrap());
            let error = session.log_in("bob").await.err();
            if error.is_some() {
                assert_eq!((session.handle(), session.subject()), (handle, None), "{name}");
            } else {
                assert_eq!(session.get(KEPT).unwrap(), kept, "{name}");
            }
            let Some(SessionError::Engine(error)) = error else { return format!("{error:?}") };
            assert_eq!((error.fault(), error.may_retry()), (Fault::Caller, false), "{name}");
            let EngineError::LostByLogin { key } = error else { return error.to_string() };
            key
        };
        let (app, _, _) = app(handler, Policy::default().survives_login(["kept"]));
        assert_eq!(ask(&app, "/", None).body, lost.unwrap_or("None"), "{name}");
    }
}

#[test]
fn what_would_survive_an_anonymous_session_is_lost_with_somebodys() {
    let handler = async |session: Session| {
        session.set(KEPT, "tea".to_owned()).unwrap();
        let error = session.log_in("bob").await.unwrap_err();
        assert_eq!(session.subject().unwrap().as_str(), "alice", "nothing has happened");
        error.to_string()
    };
    let (app, _, _) = app(handler, Policy::default().survives_login(["kept"]));
    let token = ask(&app, "/log-in", None).token().unwrap().unwrap();
    assert!(ask(&app, "/", Some(&token)).body.contains("\"kept\""));
}

#[test]
fn the_closure_of_an_update_may_look_at_the_session_and_not_change_it() {
    let handler = async |session: Session| {
        session.set(WORD, "tea".to_owned()).unwrap();
        let inner = session.clone();
        session
            .update(COUNT, move |count| {
                *count += 1;
                assert_eq!(inner.get(WORD).unwrap().unwrap(), "tea");
                assert!(inner.handle().is_none() && inner.can_keep());
                let refused = [
                    inner.set(WORD, String::new()),
                    inner.remove(WORD),
                    inner.update(COUNT, |count| *count += 1),
                    poll_once(&mut Box::pin(inner.log_in("mallory"))).unwrap(),
                    poll_once(&mut Box::pin(inner.log_out())).unwrap(),
                ];
                for outcome in refused {
                    let error = outcome.unwrap_err();
                    // At the end of a request nothing can be changed anyway.
                    assert!(matches!(error, SessionError::Reentrant), "{error:?}");
                    assert_eq!((error.fault(), error.may_retry()), (Fault::Caller, false));
                }
            })
            .unwrap();
        session.update(COUNT, |count| *count += 1).unwrap();
        format!("{} {}", session.get(COUNT).unwrap().unwrap(), session.get(WORD).unwrap().unwrap())
    };
    let (app, _, _) = app(handler, Policy::default());
    let answer = ask(&app, "/", None);
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "2 tea"));
}

#[test]
fn an_update_that_runs_again_after_a_rotation_may_look_at_the_session_too() {
    let handler = async |session: Session| {
        let inner = session.clone();
        let change = move |count: &mut u64| {
            *count += 1;
            assert!(!matches!(inner.set(WORD, String::new()), Ok(())));
            assert!(inner.subject().is_some());
        };
        session.update(COUNT, change).unwrap();
        session.rotate().await.unwrap();
        session.get(COUNT).unwrap().unwrap().to_string()
    };
    let (app, _, _) = app(handler, Policy::default());
    let token = ask(&app, "/log-in", None).token().unwrap().unwrap();
    assert_eq!(ask(&app, "/", Some(&token)).body, "1");
}

#[test]
fn a_panic_in_an_update_comes_out_of_the_call_once_and_changes_nothing() {
    let runs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    let handler = async move |session: Session| {
        let counted = Arc::clone(&counted);
        let update = std::panic::AssertUnwindSafe(|| {
            session.update(COUNT, move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                panic!("on purpose");
            })
        });
        assert!(std::panic::catch_unwind(update).is_err());
        session.set(WORD, "tea".to_owned()).unwrap();
        format!("{:?} {:?}", session.get(COUNT).unwrap(), session.get(WORD).unwrap())
    };
    let (app, _, _) = app(handler, Policy::default());
    let answer = ask(&app, "/", None);
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "None Some(\"tea\")"));
    assert!(answer.set_cookie().is_some(), "the rest is kept");
    assert_eq!(runs.load(Ordering::Relaxed), 1, "it does not run again when the response is written");
}

#[test]
fn a_change_that_another_thread_of_the_request_made_meanwhile_is_kept() {
    let handler = async |session: Session| {
        let (go, may_go) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let is_done = Mutex::new(is_done);
        let runs = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&runs);
        std::thread::scope(|scope| {
            let other = session.clone();
            scope.spawn(move || {
                may_go.recv().unwrap();
                other.update(COUNT, |count| *count += 10).unwrap();
                done.send(()).unwrap();
            });
            let add = move |count: &mut u64| {
                if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                    go.send(()).unwrap();
                    is_done.lock().unwrap().recv().unwrap();
                }
                *count += 1;
            };
            session.update(COUNT, add).unwrap();
        });
        assert_eq!(runs.load(Ordering::Relaxed), 2, "it has run again on what the other one left");
        session.get(COUNT).unwrap().unwrap().to_string()
    };
    let (app, _, _) = app(handler, Policy::default());
    assert_eq!(ask(&app, "/", None).body, "11");
}

#[test]
fn an_update_runs_again_on_what_another_request_has_written() {
    let world = World::new(Yielding::new(MemoryStore::new()));
    let mut client = world.client();
    client.ask("/log-in/alice");
    let mut slow = Box::pin(client.begin("/count"));
    assert!(poll_once(&mut slow).is_none() && poll_once(&mut slow).is_none());
    client.ask_and_lose("/count");
    assert_eq!(block_on(slow).status, StatusCode::OK);
    assert_eq!(client.ask("/count").body, "3");
}
