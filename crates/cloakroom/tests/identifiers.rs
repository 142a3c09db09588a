//! Tokens and where they go; events and what they say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use cloakroom::core::entropy::{Entropy, EntropyError};
use cloakroom::{MemoryStore, SystemEntropy};
use cloakroom_sqlite::SqliteStore;
use http::{StatusCode, header};

use crate::common::{Client, World};

fn raw(client: &Client) -> [u8; 48] {
    let mut raw = [0; 48];
    Base64UrlUnpadded::decode(client.token.as_ref().unwrap(), &mut raw).unwrap();
    raw
}

#[test]
fn r001_r002_fresh_tokens_differ_in_every_bit_that_is_not_the_subjects_tag() {
    let world = World::with(MemoryStore::new(), |builder| builder.entropy(SystemEntropy));
    let tokens = (0..400).map(|_| {
        let mut client = world.client();
        client.ask("/log-in/alice");
        raw(&client)
    });
    let tokens = tokens.collect::<Vec<_>>();
    assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), tokens.len());
    let varying = |bit: usize| {
        let ones = tokens.iter().filter(|token| token[bit / 8] >> (7 - bit % 8) & 1 == 1).count();
        // 400 fair coins: fewer than 100 or more than 300 heads once in 10^24 tries.
        (100..=300).contains(&ones)
    };
    assert!((0..14).all(|bit| !varying(bit)), "14 bits are the subject's tag, as the documentation says");
    assert!((14..384).all(varying), "370 bits are random");
}

#[test]
fn r002_tokens_hold_nothing_of_account_role_or_time() {
    let world = World::new(MemoryStore::new());
    let (mut alice, mut bob) = (world.client(), world.client());
    alice.ask("/log-in/alice");
    bob.ask("/log-in/bob");
    for (client, name) in [(&alice, "alice"), (&bob, "bob")] {
        let (token, raw) = (client.token.clone().unwrap(), raw(client));
        let millis = common::START.as_millis();
        assert!(!token.to_lowercase().contains(name));
        for known in [name.as_bytes(), &millis.to_be_bytes()[2..], &(millis / 1000).to_be_bytes()[4..]] {
            assert!(!raw.windows(known.len()).any(|window| window == known));
        }
    }
    let (a, b) = (raw(&alice), raw(&bob));
    assert!(a.windows(4).all(|part| !b.windows(4).any(|other| other == part)));
}

#[test]
fn r001_a_generator_that_repeats_itself_never_makes_two_sessions_one() {
    /// Gives the same bytes for a whole session twice, then others.
    #[derive(Clone, Default)]
    struct Repeating(Arc<AtomicU64>);
    impl Entropy for Repeating {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
            // A session draws handle, secret, data key and nonce at once; the nonces of later writes do not count.
            let session = if bytes.len() > 64 { self.0.fetch_add(1, Ordering::Relaxed) } else { 200 };
            bytes.fill((session / 2) as u8);
            Ok(())
        }
    }
    let drawn = Repeating::default();
    let world = World::with(MemoryStore::new(), |builder| builder.entropy(drawn.clone()));
    let (mut first, mut second) = (world.client(), world.client());
    first.ask("/log-in/alice");
    second.ask("/log-in/alice");
    assert_ne!(first.token, second.token, "the taken handle was drawn again");
    second.ask("/count");
    assert_eq!(first.ask("/count").body, "1", "and the first session is untouched");
    assert_eq!(drawn.0.load(Ordering::Relaxed), 3);
    // The handles of visitors, which have no tag, repeat themselves every other time too.
    let mut visitors = [(); 3].map(|()| world.client());
    for visitor in &mut visitors {
        visitor.ask("/count");
    }
    assert_eq!(drawn.0.load(Ordering::Relaxed), 3 + 4, "one of the three was drawn again");
    let tokens = visitors.iter().map(|visitor| &visitor.token).collect::<HashSet<_>>();
    assert_eq!(tokens.len(), 3);
    for visitor in &mut visitors {
        assert_eq!(visitor.ask("/count").body, "2", "each in a session of its own");
    }
}

#[test]
fn r005_two_logins_of_one_account_are_two_credentials_and_data_is_no_identity() {
    let world = World::new(MemoryStore::new());
    let (mut one, mut two) = (world.client(), world.client());
    one.ask("/log-in/alice");
    two.ask("/log-in/alice");
    assert_ne!(one.token, two.token);
    let mut visitor = world.client();
    visitor.ask("/word/alice");
    assert_eq!(visitor.ask("/authenticated").status, StatusCode::UNAUTHORIZED);
}

#[test]
fn r016_a_session_without_login_never_counts_as_one_with() {
    let world = World::new(MemoryStore::new());
    let mut visitor = world.client();
    visitor.ask("/word/pending-second-factor-of-alice");
    for path in ["/authenticated", "/recent", "/list", "/step-up", "/log-out-others", "/log-out-everywhere"] {
        assert_eq!(visitor.ask(path).status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[test]
fn r007_a_token_counts_in_the_cookie_only() {
    let world = World::new(MemoryStore::new());
    let mut owner = world.client();
    owner.ask("/log-in/alice");
    let token = owner.token.clone().unwrap();
    let elsewhere = [
        ("x-session", token.clone()),
        ("authorization", format!("Bearer {token}")),
        ("cookie", format!("sid={token}")),
        ("cookie", format!("__host-http-sid={token}")),
        ("cookie", format!("__HOST-HTTP-SID={token}")),
        ("cookie", format!("__Host-Http-sid =  {token}")),
        ("cookie2", format!("__Host-Http-sid={token}")),
    ];
    for (name, value) in elsewhere {
        let mut request = world.client().request(&format!("/who?__Host-Http-sid={token};sid={token}"));
        request.headers_mut().insert(name, value.parse().unwrap());
        let answer = cloakroom_testkit::block_on(common::answer(world.app.clone(), request));
        assert_eq!(answer.who(), ("-", "-"), "{name}: {value}");
    }
    assert_eq!(owner.ask("/who").who().0, "alice");
}

#[test]
fn r008_r108_no_secret_is_in_any_body_field_event_or_printed_value() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    let mut tokens = Vec::new();
    let mut sinks = Vec::new();
    for path in [
        "/count",
        "/word/x",
        "/log-in/alice",
        "/count",
        "/who",
        "/step-up",
        "/list",
        "/rotate",
        "/log-out-others",
        "/who",
        "/change-password/alice",
        "/who",
        "/poll",
        "/log-out",
        "/who",
    ] {
        world.advance(901);
        let answer = client.ask(path);
        sinks.push(answer.body.clone());
        for (name, value) in &answer.headers {
            if name != header::SET_COOKIE {
                sinks.push(format!("{name}: {value:?}"));
            } else {
                assert!(value.is_sensitive(), "a logging layer hides it");
            }
        }
        tokens.extend(answer.token().flatten());
    }
    sinks.push(format!("{:?} {:?} {:?}", world.layer, world.log.take(), world.app));
    assert!(tokens.len() >= 6, "{}", tokens.len());
    for token in &tokens {
        for sink in &sinks {
            // The handle may be shown; what follows it may not.
            assert!(!sink.contains(&token[22..34]) && !sink.contains(&token[52..]), "{sink}");
        }
    }
}

#[test]
fn r018_the_cookie_is_named_like_no_frameworks() {
    let known = [
        "JSESSIONID",
        "PHPSESSID",
        "connect.sid",
        "ASP.NET_SessionId",
        "sessionid",
        "laravel_session",
        "_session_id",
        "id",
        "session",
    ];
    let name = cloakroom::core::cookie::DEFAULT_NAME;
    assert!(!known.iter().any(|known| known.eq_ignore_ascii_case(name)));
}

#[test]
fn r017_tokens_of_two_sessions_together_are_honoured_in_no_order() {
    let world = World::new(MemoryStore::new());
    let (mut alice, mut bob) = (world.client(), world.client());
    alice.ask("/log-in/alice");
    bob.ask("/log-in/bob");
    let (a, b) = (alice.token.clone().unwrap(), bob.token.clone().unwrap());
    for (first, second) in [(&a, &b), (&b, &a)] {
        let mut both = world.client();
        both.token = Some(format!("{first}; __Host-Http-sid={second}"));
        assert_eq!(both.ask("/who").who(), ("-", "-"));
    }
    let mut mixed = world.client();
    mixed.token = Some(format!("{}{}", &a[..22], &b[22..]));
    assert_eq!(mixed.ask("/who").who(), ("-", "-"));
    assert_eq!((alice.ask("/who").who().0, bob.ask("/who").who().0), ("alice", "bob"));
}

#[test]
fn r059_a_revocation_holds_on_every_node_with_the_next_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.db");
    let (one, two) =
        (World::new(SqliteStore::open(&file).unwrap()), World::new(SqliteStore::open(&file).unwrap()));
    let mut here = one.client();
    here.ask("/log-in/alice");
    let mut there = two.client();
    there.token = here.token.clone();
    assert_eq!(there.ask("/who").who().0, "alice");
    here.ask("/log-out");
    assert_eq!(there.ask("/who").who().0, "-");
}

#[test]
fn r107_r110_each_transition_and_each_refusal_is_exactly_one_event() {
    let world = World::new(MemoryStore::new());
    let mut client = world.client();
    let is = |client: &mut Client, path: &str, expected: &[&str]| {
        client.ask(path);
        assert_eq!(world.log.names(), expected, "{path}");
    };
    is(&mut client, "/who", &[]);
    is(&mut client, "/count", &["session_created"]);
    is(&mut client, "/log-in/alice", &["authn_token_revoked", "authn_login_success"]);
    let first = client.clone();
    is(&mut client, "/step-up", &["session_stepped_up"]);
    is(&mut client, "/who", &["session_rotation_confirmed"]);
    is(&mut first.clone(), "/who", &["session_stale_secret"]);
    world.advance(901);
    let second = client.clone();
    is(&mut client, "/who", &["session_renewed"]);
    is(&mut client, "/who", &["session_rotation_confirmed"]);
    is(&mut second.clone(), "/who", &[]);
    world.advance(66);
    is(&mut second.clone(), "/who", &["authn_token_reuse"]);
    is(&mut second.clone(), "/who", &["session_use_after_expire"]);
    is(&mut client, "/who", &["session_use_after_expire"]);
    is(&mut client, "/count", &["session_use_after_expire", "session_write_discarded"]);
    is(&mut client, "/log-in/bob", &["session_use_after_expire", "authn_login_success"]);
    is(&mut client, "/log-out", &["session_logged_out"]);
    client.token = Some("A".repeat(64));
    is(&mut client, "/who", &["session_unknown_token"]);
    client.token = Some("A".repeat(63));
    is(&mut client, "/who", &["session_malformed_token"]);
}

#[test]
fn r109_what_a_client_or_subject_puts_in_cannot_break_a_log_line() {
    let lines = common::Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let world = World::with(MemoryStore::new(), |builder| builder.observer(cloakroom::TracingObserver));
    let mut client = world.client();
    client.agent = "Firefox/1 \"level\":\"ERROR\" event=forged {\"a\":1}".to_owned();
    tracing::subscriber::with_default(subscriber, || client.ask("/log-in/mallory%0Aevent=forged"));
    let text = lines.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("event=\"authn_login_success\"") && text.contains(r#""mallory\nevent=forged""#),
        "{text}"
    );
    assert!(!text.contains("ERROR") && text.contains("client=Firefox"), "{text}");
}
