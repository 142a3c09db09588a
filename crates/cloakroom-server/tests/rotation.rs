//! Rotation under fire: 64 requests at a time through two gateways on one store, again and again at a moment when a rotation is due.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;
mod places;

use std::time::Duration;

use cloakroom::SystemClock;
use cloakroom::core::clock::Clock as _;
use cloakroom_testkit::ManualClock;
use tokio::task::JoinSet;

use crate::harness::{Answer, Client, application, raw, says};
use crate::places::Place;

const PARALLEL: usize = 64;
const ROTATIONS: usize = 8;
/// The policy's default, and a second.
const DUE: Duration = Duration::from_secs(15 * 60 + 1);
/// Shared stores note no activity later than their own clock, which the test cannot move.
const LONG_IDLE: &str = "[policy]\nidle = \"12h\"\n";
/// More than the policy's grace and skew.
const GRACE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn r051_r053_64_parallel_requests_at_each_rotation_sign_nobody_out_and_lose_nothing_in_sqlite() {
    under_fire(&Place::sqlite().await).await;
}

#[tokio::test]
async fn r051_r053_64_parallel_requests_at_each_rotation_sign_nobody_out_and_lose_nothing_in_postgresql() {
    under_fire(&Place::postgres().await).await;
}

#[tokio::test]
async fn r051_r053_64_parallel_requests_at_each_rotation_sign_nobody_out_and_lose_nothing_in_redis() {
    under_fire(&Place::redis().await).await;
}

#[tokio::test]
async fn r051_r053_64_parallel_requests_at_each_rotation_sign_nobody_out_and_lose_nothing_in_a_redis_cluster()
{
    under_fire(&Place::redis_cluster().await).await;
}

async fn under_fire(place: &Place) {
    let (upstream, received) = application().await;
    let clock = ManualClock::new(SystemClock.now().unwrap());
    let gateways = [
        place.gateway_with(upstream, clock.clone(), LONG_IDLE).await,
        place.gateway_with(upstream, clock.clone(), LONG_IDLE).await,
    ];
    let mut client = gateways[0].client();
    client.log_in("alice").await;
    let mut secrets = vec![client.cookie.clone().unwrap()];

    for round in 1..=ROTATIONS {
        clock.advance(DUE);
        received.lock().unwrap().clear();
        let mut flying = JoinSet::new();
        for number in 0..PARALLEL {
            let sender = gateways[number % 2].welcome(&client);
            flying.spawn(async move { sender.fire(number, round).await });
        }
        // A browser keeps the last cookie that arrives.
        while let Some(answer) = flying.join_next().await {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 200, "round {round}: {}", answer.head);
            if let Some(cookie) = answer.field("set-cookie") {
                let value = cookie.strip_prefix("__Host-Http-sid=").and_then(|rest| rest.split(';').next());
                let value = value.unwrap().to_owned();
                assert!(!value.is_empty(), "round {round}: signed out: {}", answer.head);
                client.cookie = Some(value);
            }
        }
        let seen = received.lock().unwrap().clone();
        assert_eq!(seen.len(), PARALLEL);
        for request in seen {
            assert!(request.contains("session-subject: \"alice\"\n"), "round {round}: {request}");
        }
        let secret = client.cookie.clone().unwrap();
        assert!(!secrets.contains(&secret), "round {round}: nothing was rotated");
        secrets.push(secret);
        // The next request uses it, which retires the one before.
        gateways[round % 2].welcome(&client).get("/").await;
    }

    client.get("/").await;
    let last = received.lock().unwrap().last().cloned().unwrap();
    for number in (1..PARALLEL).step_by(2) {
        let kept = format!("k{number}=\"{ROTATIONS}\"");
        assert!(last.contains(&kept), "{kept} is not in {last}");
    }

    clock.advance(GRACE);
    gateways[0].log.take();
    client.get("/").await;
    let alive = |request: &str| request.contains("session-subject: \"alice\"\n");
    assert!(alive(received.lock().unwrap().last().unwrap()), "the last secret lives");
    // And it alone: one before it that comes back is taken for theft, and ends the session for both.
    let mut thief = gateways[0].client();
    thief.cookie = secrets.iter().rev().nth(1).cloned();
    for client in [&mut thief, &mut client] {
        client.get("/").await;
        assert!(!alive(received.lock().unwrap().last().unwrap()));
    }
    assert!(gateways[0].log.take().contains(&"authn_token_reuse"));
}

impl Client {
    /// One request of many: odd ones keep the round's number under a key of their own.
    async fn fire(self, number: usize, round: usize) -> Answer {
        let write = says("/", &[&format!("Session-Set: k{number}=\"{round}\"")]);
        let (method, path) = if number % 2 == 1 { ("POST", write.as_str()) } else { ("GET", "/") };
        Answer::parse(&raw(self.address, self.request(method, path, &[]).as_bytes()).await)
    }
}
