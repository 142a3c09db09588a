//! Shared stores as their operator meets them: the program's answers before the database is ready, with a wrong pepper, with a clock that
//! is off, and while the server is away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;
mod places;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cloakroom::SystemClock;
use cloakroom::core::clock::{Clock, ClockError, Timestamp};
use cloakroom_server::health::State;
use cloakroom_server::open::Refused;
use cloakroom_server::{config, serve};
use cloakroom_testkit::ManualClock;
use cloakroom_testkit::servers::{Postgres, PostgresSettings, Redis, RedisCluster, free_port};

use crate::harness::application;
use crate::places::Place;

async fn shared() -> [Place; 3] {
    [Place::postgres().await, Place::redis().await, Place::redis_cluster().await]
}

#[tokio::test]
async fn r014_a_gateway_with_a_foreign_pepper_refuses_to_start_and_names_both() {
    for place in shared().await {
        let (upstream, _) = application().await;
        let gateway = place.gateway(upstream, SystemClock).await;
        let (_, ours) = place.says(&["check"], "");
        assert!(ours.contains("***") == place.password().is_some(), "{ours}");
        let id = |file: &str| place.pepper_id(file);
        let other = place.folder.path().join("other");
        config::make_pepper(&other).unwrap();
        let (first, second) = (id("pepper"), id("other"));
        let foreign = format!("pepper_file = {other:?}");
        let (code, said) = place.says(&["serve"], &foreign);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&first) && said.contains(&second), "{said}");
        assert!(serve::open(&place.config(&foreign)).await.unwrap_err().is::<Refused>());
        let listed = place.says(&["sessions", "list", "--subject", "alice"], "pepper_file = \"/nowhere\"");
        assert_eq!(listed.0, Some(0), "looking after sessions needs no pepper: {}", listed.1);
        // The three steps of replacing one: accept the new, use the new and accept the old, use the new.
        for (current, accepted) in [("pepper", "other"), ("other", "pepper")] {
            let path = |name: &str| place.folder.path().join(name);
            let more =
                format!("pepper_file = {:?}\naccepted_pepper_files = [{:?}]", path(current), path(accepted));
            serve::open(&place.config(&more)).await.unwrap();
        }
        serve::open(&place.config(&foreign)).await.unwrap();
        drop(gateway);
    }
}

#[tokio::test]
async fn r014_a_shared_store_without_a_pepper_is_refused_and_none_is_made() {
    for place in shared().await {
        std::fs::remove_file(place.pepper()).unwrap();
        let (code, said) = place.says(&["serve"], "");
        assert!(code != Some(0) && said.contains("cloakroom pepper new"), "{said}");
        assert!(!place.pepper().exists());
        let (code, said) = place.says(&["serve"], "# no pepper_file");
        assert!(code == Some(1) && said.contains("cloakroom pepper new"), "{said}");
        assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 1, "the configuration alone");
    }
}

#[tokio::test]
async fn a_gateway_whose_clock_is_off_refuses_to_start_and_is_not_ready_later() {
    for place in shared().await {
        let config = place.config("");
        let now = || SystemClock.now().unwrap();
        let hour = Duration::from_secs(3600);
        for wrong in [now().plus(hour), now().minus(hour)] {
            let error =
                serve::open_with(&config, ManualClock::new(wrong), |builder| builder).await.unwrap_err();
            assert!(error.is::<Refused>(), "{error:#}");
            assert!(error.to_string().contains("policy.clock_skew allows 5s"), "{error:#}");
        }
        let (upstream, _) = application().await;
        let clock = Shifted::default();
        let gateway = place.watchful_gateway(upstream, clock.clone()).await;
        assert_eq!(gateway.ready().await, 200);
        clock.set(HOUR);
        assert!(matches!(gateway.health.check().await, State::ClockOff(_)));
        gateway.until_ready_is(503).await;
        clock.set(0);
        gateway.until_ready_is(200).await;
    }
}

const HOUR: i64 = 3_600_000;

/// The system's clock, ahead by so many milliseconds.
#[derive(Clone, Default)]
struct Shifted(Arc<AtomicI64>);

impl Shifted {
    fn set(&self, ahead: i64) {
        self.0.store(ahead, Ordering::SeqCst);
    }
}

impl Clock for Shifted {
    fn now(&self) -> Result<Timestamp, ClockError> {
        let ahead = self.0.load(Ordering::SeqCst);
        let by = Duration::from_millis(ahead.unsigned_abs());
        SystemClock.now().map(|now| if ahead < 0 { now.minus(by) } else { now.plus(by) })
    }
}

/// A gateway whose clock jumps, and another one beside it whose clock is right.
#[tokio::test]
async fn r047_r070_one_wrong_clock_signs_nobody_out_and_takes_nobody_for_anonymous() {
    for place in shared().await {
        let (upstream, received) = application().await;
        let clock = Shifted::default();
        let wrong = place.watchful_gateway(upstream, clock.clone()).await;
        let right = place.watchful_gateway(upstream, SystemClock).await;
        let mut alice = wrong.client();
        alice.log_in("alice").await;
        let last = || received.lock().unwrap().last().cloned().unwrap();
        for by in [HOUR, -HOUR] {
            clock.set(by);
            // One that is behind is found out by the next comparison, one that is ahead by whoever would suffer from it.
            if by < 0 {
                assert!(matches!(wrong.health.check().await, State::ClockOff(_)));
            }
            let before = received.lock().unwrap().len();
            for (method, path) in
                [("GET", "/"), ("GET", "/.cloakroom/sessions"), ("POST", "/.cloakroom/logout")]
            {
                let answer = alice.ask(method, path, &[]).await;
                assert_eq!(
                    (answer.status, answer.field("set-cookie")),
                    (503, None),
                    "{by} {path}: {answer:?}"
                );
            }
            assert_eq!(received.lock().unwrap().len(), before, "the application was asked nothing");
            assert!(wrong.log.take().contains(&"session_clock_off"));
            wrong.until_ready_is(503).await;
            let mut bob = wrong.client();
            let answer = bob.log_in("bob").await;
            assert_eq!((answer.status, answer.field("set-cookie")), (503, None), "{answer:?}");
            assert_eq!(wrong.client().get("/").await.status, 200, "a visitor without a token is one");
            let mut elsewhere = right.client();
            elsewhere.cookie = alice.cookie.clone();
            elsewhere.get("/").await;
            assert!(last().contains("session-subject: \"alice\"\n"), "signed out: {}", last());
            clock.set(0);
            alice.get("/").await;
            assert!(last().contains("session-subject: \"alice\"\n"), "{}", last());
            wrong.until_ready_is(200).await;
        }
    }
}

#[tokio::test]
async fn a_database_that_is_not_ready_is_refused_with_the_command_that_makes_it_ready() {
    let place = Place::unmigrated();
    let migrate = "cloakroom migrate --config cloakroom.toml";
    for command in [&["serve"][..], &["check"], &["sessions", "list", "--subject", "alice"]] {
        let (code, said) = place.says(command, "");
        assert!(code == Some(1) && said.contains(migrate), "{command:?}: {said}");
    }
    let (code, sql) = place.says(&["migrate", "--dry-run"], "");
    assert!(code == Some(0) && sql.contains("CREATE TABLE"), "{sql}");
    assert_eq!(place.says(&["serve"], "").0, Some(1), "the dry run has changed nothing");
    let (code, grants) = place.says(&["migrate", "--grants", "gateway"], "");
    assert!(code == Some(0) && grants.contains("GRANT") && grants.contains("\"gateway\""), "{grants}");
    assert_eq!(place.says(&["serve"], "").0, Some(1), "printing the rights has changed nothing");
    let (code, said) = place.says(&["migrate"], "");
    assert!(code == Some(0) && said.contains("is ready"), "{said}");
    let (code, said) = place.says(&["migrate"], "");
    assert!(code == Some(0) && said.contains("is up to date"), "{said}");
    let (_, sql) = place.says(&["migrate", "--dry-run"], "");
    assert!(sql.starts_with("-- ") && sql.lines().count() == 1, "{sql}");
    let (code, said) = place.says(&["sessions", "list", "--subject", "alice"], "");
    assert!(code == Some(0) && said.contains("0 session(s) of alice"), "{said}");
}

#[tokio::test]
async fn a_store_without_a_schema_has_nothing_to_migrate() {
    for place in [Place::sqlite().await, Place::redis().await] {
        for arguments in [&["migrate"][..], &["migrate", "--dry-run"], &["migrate", "--grants", "gateway"]] {
            let (code, said) = place.says(arguments, "");
            assert!(code == Some(0) && said.contains(" has no "), "{said}");
        }
        assert!(!place.folder.path().join("sessions.db").exists());
    }
}

#[tokio::test]
async fn check_connects_unless_offline_and_says_what_the_store_does_not_promise() {
    for place in shared().await {
        let (code, said) = place.says(&["check", "--offline"], "");
        assert!(code == Some(0) && said.contains("store ") && !said.contains("store's clock"), "{said}");
        let (code, said) = place.says(&["check"], "");
        assert!(said.contains("store's clock         differs by "), "{said}");
        // The tests' servers do not flush to the disk.
        assert!(code == Some(0) && said.contains("warning  "), "{said}");
        // Checking has noted no pepper, and what a gateway notes is compared.
        let other = place.folder.path().join("other");
        config::make_pepper(&other).unwrap();
        let foreign = format!("pepper_file = {other:?}");
        assert_eq!(place.says(&["check"], &foreign).0, Some(0));
        serve::open(&place.config("")).await.unwrap();
        let (code, said) = place.says(&["check"], &foreign);
        assert!(code == Some(1) && said.contains("sealed under another pepper"), "{said}");
        let durable = place.says(&["sessions", "list", "--subject", "alice"], "");
        assert_eq!(durable.0, Some(0), "warnings refuse nothing: {}", durable.1);
    }
}

#[tokio::test]
async fn r108_a_store_that_is_away_at_the_start_is_named_without_its_password() {
    let port = free_port();
    for store in [
        format!("postgres://me:s3cret@127.0.0.1:{port}/app"),
        format!("redis://me:s3cret@127.0.0.1:{port}"),
        format!("redis-cluster://me:s3cret@127.0.0.1:{port}"),
    ] {
        let place = Place::new(store, "");
        for command in [&["serve"][..], &["demo"], &["check"], &["sessions", "revoke", "--subject", "alice"]]
        {
            // `says` sees to it that the password is in nothing.
            let (code, said) = place.says(command, "");
            assert_eq!(code, Some(2), "{command:?}: {said}");
            assert!(
                said.contains("me:***@127.0.0.1") && said.contains("does not answer"),
                "{command:?}: {said}"
            );
        }
        let (_, said) = place.says(&["check", "--offline"], "");
        assert!(said.contains("me:***@127.0.0.1"), "{said}");
    }
}

#[tokio::test]
async fn r070_while_the_server_is_away_nobody_passes_for_anonymous_and_it_comes_back_by_itself() {
    let postgres = Postgres::start(PostgresSettings::new().fleeting());
    let place = Place::new(postgres.url(), "schema");
    cloakroom_server::open::migrate(&place.config("").sessions).await.unwrap();
    outage(&place, || postgres.pause(), || postgres.resume()).await;
    outage(&place, || postgres.kill(), || postgres.start_again()).await;

    let redis = Redis::start(&[]);
    outage(&Place::new(redis.url(), "prefix"), || redis.pause(), || redis.resume()).await;

    let cluster = RedisCluster::start(&[]);
    let all = |act: fn(&Redis)| cluster.nodes().iter().for_each(act);
    outage(&Place::new(cluster.url(), "prefix"), || all(Redis::pause), || all(Redis::resume)).await;
}

async fn outage(place: &Place, away: impl FnOnce(), back: impl FnOnce()) {
    let (upstream, received) = application().await;
    let gateway = place.patient_gateway(upstream, "300ms").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let cookie = client.cookie.clone();
    let before = received.lock().unwrap().len();
    away();
    for (method, path) in
        [("GET", "/"), ("POST", "/"), ("GET", "/.cloakroom/sessions"), ("POST", "/.cloakroom/logout")]
    {
        let answer = client.ask(method, path, &[]).await;
        assert_eq!(answer.status, 503, "{method} {path}: {answer:?}");
        assert!(answer.field("retry-after").is_some() && answer.field("set-cookie").is_none(), "{answer:?}");
        assert!(!answer.body.contains(place.password().unwrap_or("127.0.0.1")), "{answer:?}");
    }
    assert_eq!(received.lock().unwrap().len(), before, "the application was asked nothing");
    gateway.until_ready_is(503).await;
    back();
    gateway.until_ready_is(200).await;
    client.get("/").await;
    assert_eq!(client.cookie, cookie);
    assert!(received.lock().unwrap().last().unwrap().contains("session-subject: \"alice\"\n"));
}
