//! What somebody who reads or writes the store can and cannot do (design section 4.1).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod common;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use cloakroom_core::client::Client;
use cloakroom_core::cookie::Cookie;
use cloakroom_core::engine::{Engine, Facts, Resumed};
use cloakroom_core::error::EngineError;
use cloakroom_core::event::EventKind;
use cloakroom_core::lifecycle::establish::Draft;
use cloakroom_core::policy::Policy;
use cloakroom_core::record::{Level, Proof, Record, RecordError, Subject};
use cloakroom_core::seal::{Pepper, Peppers};
use cloakroom_core::store::{Epoch, Fault, Found, Reason, Tombstone};
use cloakroom_core::token::Token;
use common::mirror::Body;
use common::{Browser, Desk, mins, secs};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

const PEPPER: [u8; 32] = [7; 32];

fn engine(peppers: Peppers) -> Engine {
    Engine::new(Policy::default(), Cookie::default(), peppers).unwrap()
}

fn pepper(byte: u8) -> Pepper {
    Pepper::new(&[byte; 32]).unwrap()
}

/// Presents a token to a record, as if it came from the store.
fn resume(desk: &Desk, token: &str, record: Record) -> Result<Resumed, EngineError> {
    let field = format!("{}={token}", desk.engine.cookie().name());
    let presented = desk.engine.present([field.as_bytes()]);
    desk.engine.resume(&presented, vec![Found::Live(record)], Facts::default(), desk.now)
}

/// Tokens by the role of their secret.
type Tokens = Vec<(&'static str, String)>;

/// Alice with everything that a record can hold, in both states of a rotation; and the tokens that are good.
fn records() -> Vec<(Desk, Record, Tokens)> {
    [false, true]
        .map(|seen| {
            let mut desk = Desk::default();
            let mut alice = desk.alice();
            let request = desk.begin(&alice).set("card", "\"4111-1111\"");
            desk.finish(request);
            let mut request = desk.begin(&alice);
            let proof = Proof::default().level(Level::TWO).methods(["pwd", "otp"]).unwrap();
            desk.step_up(&mut request, &proof).unwrap();
            alice.receive(&desk.finish(request));
            desk.visit(&mut alice);
            desk.wait(mins(15)).visit_in_vain(&alice.stolen_by(&Browser::stranger()));
            let old = alice.token();
            desk.visit(&mut alice);
            let mut tokens = vec![("current", old.clone()), ("next", alice.token())];
            if seen {
                desk.visit(&mut alice);
                tokens = vec![("previous", old), ("current", alice.token())];
            }
            let record = desk.record(alice.handle());
            (desk, record, tokens)
        })
        .into()
}

#[test]
fn r006_every_flipped_bit_of_a_bound_field_a_presented_slot_or_the_data_is_an_error() {
    // What the seals do not cover, and so what whoever writes the store can do with it:
    // - client: show another label, and decide who is handed a successor;
    // - issued, confirmed: begin a rotation early or never, make the predecessor a replay, or keep it good for longer;
    // - salts: keep the successor from being derived again;
    // - retired, fresh: forget a replay, or declare one, which ends the session;
    // - strangers: suppress or repeat an event;
    // - a slot that was not presented: keep its secret from being accepted.
    // None of that makes a session, changes whose it is, or opens its data; ending one is in any writer's power.
    let mut checked = [0; 3];
    for (desk, record, tokens) in records() {
        let bytes = record.encode().unwrap();
        let original = Body::parse(&bytes);
        for (role, token) in &tokens {
            assert!(resume(&desk, token, record.clone()).unwrap().record().is_some());
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let Ok(read) = Record::decode(record.handle(), record.version(), record.seen(), &flipped)
                else {
                    checked[0] += 1;
                    continue;
                };
                let body = Body::parse(&flipped);
                let slot = |body: &Body| match *role {
                    "next" => body.next.clone().map(|next| next.slot),
                    "previous" => body.previous.clone().map(|previous| previous.slot),
                    _ => Some(body.current.clone()),
                };
                let sealed = bound(&body) != bound(&original) || slot(&body) != slot(&original);
                match resume(&desk, token, read) {
                    Err(EngineError::Tampered { .. } | EngineError::PepperUnknown { .. }) => checked[1] += 1,
                    Err(other) => panic!("bit {bit} under {role}: {other}"),
                    Ok(resumed) => {
                        assert!(!sealed, "bit {bit} under {role} went through");
                        let Some(now) = resumed.record() else {
                            let reason = (body.confirmed != original.confirmed) as u8;
                            assert_eq!((*role, reason), ("previous", 1), "bit {bit} signed the user out");
                            continue;
                        };
                        assert_eq!(now.subject(), record.subject());
                        assert_eq!(now.authentication(), record.authentication());
                        let changed = (&body.nonce, &body.text) != (&original.nonce, &original.text);
                        assert_eq!(resumed.open().is_err(), changed, "bit {bit} under {role}");
                        checked[2] += 1;
                    }
                }
            }
        }
    }
    assert!(checked.iter().all(|&count| count > 500), "{checked:?}");
}

/// The fields that every resume proves.
fn bound(body: &Body) -> impl PartialEq + std::fmt::Debug {
    let Body { subject, created, authentication, idle_ms, absolute, .. } = body.clone();
    (subject, created, authentication.map(|a| (a.at, a.level, a.methods)), idle_ms, absolute)
}

#[test]
fn nothing_but_the_whole_encoding_of_format_1_is_read() {
    let (_, record, _) = records().remove(0);
    let bytes = record.encode().unwrap();
    let read = |bytes: &[u8]| Record::decode(record.handle(), record.version(), record.seen(), bytes);
    assert_eq!(read(&bytes).unwrap(), record);
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len]).is_err(), "cut at {len}");
    }
    assert_eq!(read(&[&bytes[..], &[0]].concat()).unwrap_err(), RecordError::Broken);
    for format in (0..=255).filter(|&format| format != 1) {
        assert_eq!(read(&[&[format], &bytes[1..]].concat()).unwrap_err(), RecordError::Format(format));
    }
}

#[test]
fn nothing_but_the_whole_encoding_of_a_tombstone_is_read() {
    let (_, record, _) = records().remove(1);
    let tombstone = Tombstone::of(&record, Reason::Revoked, record.seen());
    let bytes = tombstone.encode();
    assert_eq!(Tombstone::decode(&bytes).unwrap(), tombstone);
    for len in 0..bytes.len() {
        assert!(Tombstone::decode(&bytes[..len]).is_err(), "cut at {len}");
    }
    assert_eq!(Tombstone::decode(&[&bytes[..], &[0]].concat()), Err(RecordError::Broken));
    assert_eq!(Tombstone::decode(&[&[2], &bytes[1..]].concat()), Err(RecordError::Format(2)));
    // Three live slots and sixteen retired secrets are the most that a record can leave.
    for (digests, fits) in [(19, true), (20, false)] {
        let bytes = [&[1, 0, 0, digests][..], &vec![0; 8 * usize::from(digests)]].concat();
        assert_eq!(Tombstone::decode(&bytes).is_ok(), fits, "{digests}");
    }
}

/// Alice's and mallory's records at one desk, and mallory's browser.
fn alice_and_mallory() -> (Desk, Browser, Record, Browser, Record) {
    let mut desk = Desk::default();
    let (alice, mut mallory) = (desk.alice(), Browser::stranger());
    desk.login(&mut mallory, "mallory");
    for browser in [&alice, &mallory] {
        let request = desk.begin(browser).set("card", "\"4111-1111\"");
        desk.finish(request);
    }
    let (a, m) = (desk.record(alice.handle()), desk.record(mallory.handle()));
    (desk, alice, a, mallory, m)
}

fn is_tampered<T>(result: &Result<T, EngineError>) -> bool {
    matches!(result, Err(EngineError::Tampered { .. }))
}

#[test]
fn a_session_cannot_be_given_to_another_subject_by_writing_to_the_store() {
    let (mut desk, alice, a, mallory, m) = alice_and_mallory();
    let (body_a, body_m) = (Body::read(&a), Body::read(&m));
    // Mallory's session, renamed.
    let renamed = Body { subject: Some("alice".into()), ..body_m.clone() };
    assert!(is_tampered(&resume(&desk, &mallory.token(), renamed.into_record(&m))));
    // Alice's record under mallory's handle and slot.
    let grafted = Body { current: body_m.current.clone(), ..body_a.clone() };
    assert!(is_tampered(&resume(&desk, &mallory.token(), grafted.clone().into_record(&m))));
    // Mallory's slot in alice's record, presented with alice's handle and mallory's secret.
    let (ta, tm) = (common::bytes(&alice.token()), common::bytes(&mallory.token()));
    let mixed = common::base64(&[&ta[..16], &tm[16..]].concat());
    let resumed = resume(&desk, &mixed, grafted.into_record(&a)).unwrap();
    assert!(resumed.record().is_none());
    // The wrapped key of one under the digest of the other.
    let mut slot = body_m.current.clone();
    slot.wrapped = body_a.current.wrapped;
    slot.tag = body_a.current.tag;
    let swapped = Body { current: slot, ..body_m };
    assert!(is_tampered(&resume(&desk, &mallory.token(), swapped.into_record(&m))));
    assert_eq!(desk.peek(&mallory).unwrap(), "mallory");
}

#[test]
fn data_sealed_for_one_session_does_not_open_in_another() {
    let (desk, _, a, mallory, m) = alice_and_mallory();
    let (body_a, body_m) = (Body::read(&a), Body::read(&m));
    let moved = Body { nonce: body_a.nonce, text: body_a.text, ..body_m }.into_record(&m);
    let resumed = resume(&desk, &mallory.token(), moved).unwrap();
    assert_eq!(resumed.subject().unwrap().as_str(), "mallory", "opened only when asked for");
    assert!(is_tampered(&resumed.open()));
    let mut changes = cloakroom_core::data::Changes::default();
    changes.set("k", b"1".to_vec());
    let plan = desk.engine.conclude(&resumed, &changes, desk.now, &desk.entropy);
    assert!(is_tampered(&plan.map(|_| ())));
}

#[test]
fn a_conflict_with_a_record_whose_data_another_key_sealed_is_an_error() {
    let (mut desk, _, a, mallory, m) = alice_and_mallory();
    let slow = desk.begin(&mallory).count("visits");
    let body = Body { nonce: Body::read(&a).nonce, text: Body::read(&a).text, ..Body::read(&m) };
    desk.shelf.plant(m.handle(), m.version().next(), m.seen(), body.write());
    let found = desk.shelf.find(m.handle());
    assert!(is_tampered(&desk.engine.rebase(&mut slow.resumed.clone(), found)));
    assert!(is_tampered(&desk.try_finish(slow)));
}

#[test]
fn r006_without_the_pepper_write_access_to_the_store_makes_no_session() {
    let mut desk = Desk::default();
    let alice = desk.alice();
    let real = Body::read(&desk.record(alice.handle()));
    // The attacker runs the same program with a pepper of their own, or none.
    for own in [pepper(9), Pepper::none()] {
        let draft = Draft {
            subject: Some((Subject::new("alice").unwrap(), Proof::default())),
            created: desk.now,
            idle: mins(30),
            absolute: mins(60),
            client: Client::default(),
            data: vec![0],
        };
        let (record, token) = draft.seal(&own, &desk.entropy).unwrap();
        let token = common::text(&token);
        let error = resume(&desk, &token, record.clone()).unwrap_err();
        assert!(matches!(error, EngineError::PepperUnknown { pepper, .. } if pepper == own.id()), "{error}");
        // Under the real pepper's name it is no secret of ours.
        let mut body = Body::read(&record);
        body.current.pepper = real.current.pepper;
        let resumed = resume(&desk, &token, body.into_record(&record));
        assert!(resumed.map_or(true, |resumed| resumed.record().is_none()));
    }
}

#[test]
fn an_unknown_pepper_is_a_fault_of_the_setup_and_never_anonymous() {
    let mut desk = Desk::of(engine(Peppers::new(pepper(1))));
    let alice = desk.alice();
    desk.engine = engine(Peppers::new(pepper(2)));
    let error = desk.try_begin(&alice).unwrap_err();
    assert!(matches!(error, EngineError::PepperUnknown { pepper: id, .. } if id == pepper(1).id()));
    assert_eq!((error.fault(), error.may_retry()), (Fault::Setup, true));
    assert!(error.to_string().contains(&pepper(1).id().to_string()));
}

#[test]
fn r014_an_accepted_older_pepper_goes_on_and_the_next_rotation_moves_to_the_current_one() {
    let mut desk = Desk::of(engine(Peppers::new(pepper(1))));
    let mut alice = desk.alice();
    desk.engine = engine(Peppers::new(pepper(2)).accept(pepper(1)));
    desk.wait(mins(15)).visit(&mut alice);
    desk.visit(&mut alice);
    assert_eq!(Body::read(&desk.record(alice.handle())).current.pepper, *pepper(2).id().as_bytes());
    desk.wait(secs(65));
    desk.count(&mut alice);
    desk.engine = engine(Peppers::new(pepper(2)));
    assert_eq!(desk.peek(&alice).unwrap(), "alice");
}

#[test]
fn r014_a_successor_lost_across_a_change_of_pepper_is_recovered() {
    let mut desk = Desk::of(engine(Peppers::new(pepper(1))));
    let mut alice = desk.alice();
    let lost = desk.wait(mins(15)).visit_in_vain(&alice).handed().unwrap();
    desk.engine = engine(Peppers::new(pepper(2)).accept(pepper(1)));
    assert_eq!(desk.visit(&mut alice).handed().unwrap(), lost);
    assert_eq!(desk.visit(&mut alice).subject.unwrap(), "alice");
}

#[test]
fn a_retired_pepper_ends_its_sessions_with_an_event() {
    let mut desk = Desk::of(engine(Peppers::new(pepper(1))));
    let mut alice = desk.alice();
    desk.engine = engine(Peppers::new(pepper(2)).accept(pepper(1)).retire(pepper(1).id()));
    desk.happened();
    let reply = desk.visit(&mut alice);
    assert_eq!((reply.subject, reply.cookie), (None, None));
    assert_eq!(desk.happened(), [EventKind::PepperRetired]);
    desk.login(&mut alice, "alice");
    assert_eq!(desk.peek(&alice).unwrap(), "alice");
}

#[test]
fn a_current_pepper_that_is_retired_is_refused_beside_all_other_problems() {
    let peppers = Peppers::new(pepper(1)).retire(pepper(1).id());
    let errors = Engine::new(Policy::default().idle(secs(1)), Cookie::default(), peppers).unwrap_err();
    let keys: Vec<_> = errors.problems().iter().map(|problem| problem.key.as_str()).collect();
    assert!(keys.contains(&"policy.idle") && keys.contains(&"peppers.current"), "{keys:?}");
}

fn mac(parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(&PEPPER).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    let cipher = Aes256Gcm::new(key.into());
    cipher.decrypt(&Nonce::from(*nonce), Payload { msg, aad }).expect("the seal opens")
}

/// The bound fields as the construction lists them, spelled out a second time.
fn bound_bytes(handle: &[u8], body: &Body) -> Vec<u8> {
    let mut bytes = [&body.current.pepper[..], &[1], handle].concat();
    for number in [body.created, body.absolute, body.idle_ms] {
        bytes.extend(number.to_be_bytes());
    }
    let authentication = body.authentication.as_ref().unwrap();
    bytes.extend([1, authentication.level]);
    bytes.extend(authentication.at.to_be_bytes());
    bytes.push(authentication.methods.len() as u8);
    for text in authentication.methods.iter().chain(&body.subject) {
        bytes.push(text.len() as u8);
        bytes.extend(text.as_bytes());
    }
    bytes
}

#[test]
fn r006_a_record_holds_no_secret_no_data_key_and_no_data() {
    for (_, record, tokens) in records() {
        let bytes = record.encode().unwrap();
        let body = Body::read(&record);
        let handle = record.handle().as_bytes().to_vec();
        let token = &tokens.iter().find(|(role, _)| *role == "current").unwrap().1;
        let secret = &common::bytes(token)[16..];
        // Opened with the secret, by the documented formulae alone.
        let (digest, kek) = (mac(&[&[1], &handle, secret]), mac(&[&[2], &handle, secret]));
        assert_eq!(body.current.digest, digest[..16]);
        let wrapped = [&body.current.wrapped[..], &body.current.tag].concat();
        let key = open(&kek, &[0; 12], &bound_bytes(&handle, &body), &wrapped);
        let key: [u8; 32] = key.try_into().unwrap();
        let plain = open(&key, &body.nonce, &[&[1], &handle[..]].concat(), &body.text);
        assert_eq!(plain, [&b"\x01\x04card\x0b"[..], b"\"4111-1111\""].concat());
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        for (role, token) in &tokens {
            let raw = common::bytes(token);
            for piece in raw[16..].windows(8) {
                assert!(!holds(piece), "{role}");
            }
            assert!(!holds(&token.as_bytes()[22..32]));
        }
        for piece in key.windows(8).chain(kek.windows(8)).chain([&b"card"[..], b"4111"]) {
            assert!(!holds(piece));
        }
        assert!(holds(b"alice"), "the subject is stated to be in the clear");
    }
}

#[test]
fn r108_no_debug_text_shows_a_secret_a_key_or_data() {
    let policy = Policy::default().survives_login(["card"]);
    let mut desk = Desk::with(policy);
    let mut browser = Browser::firefox();
    let request = desk.begin(&browser).set("card", "\"4111-1111\"");
    let reply = desk.finish(request);
    browser.receive(&reply);
    let field = format!("{}={}", desk.engine.cookie().name(), browser.token());
    let presented = desk.engine.present([field.as_bytes()]);
    let mut request = desk.begin(&browser).set("card", "\"4111-1111\"");
    let (engine, entropy) = (&desk.engine, &desk.entropy);
    let who = (Subject::new("alice").unwrap(), Proof::default());
    let since = Epoch::default();
    let login = engine.log_in(&request.resumed, &request.changes, who, since, desk.now, entropy).unwrap();
    let rotation = engine.rotate(&request.resumed, desk.now, entropy).unwrap();
    let plan = engine.conclude(&request.resumed, &request.changes, desk.now, entropy).unwrap();
    let token = Token::parse(browser.token().as_bytes()).unwrap();
    let cookie = engine.cookie().set(&token);
    let mut texts = vec![
        format!("{presented:?} {login:?} {rotation:?} {plan:?} {cookie:?} {reply:?} {request:?}"),
        format!("{presented:#?} {login:#?} {rotation:#?} {plan:#?} {cookie:#?} {reply:#?} {request:#?}"),
        format!("{engine:?} {token:?} {:?} {:?}", token.expose(), desk.shelf.find(browser.handle())),
        format!("{:?} {:?}", request.resumed.open().unwrap(), desk.events),
    ];
    desk.rotate(&mut request).unwrap();
    let rotated = request.resumed.cookie().cloned();
    texts.push(format!("{request:?} {request:#?} {rotated:?}"));
    desk.log_in(&mut request, "alice");
    texts.push(format!("{request:?} {request:#?}"));
    let logged_in = request.resumed.cookie().cloned();
    let record = desk.record(request.resumed.record().unwrap().handle());
    texts.push(format!("{record:?} {:?} {:?}", request.resumed.record(), Found::Live(record.clone())));
    let tombstone = Tombstone::of(&record, Reason::Revoked, desk.now);
    texts.push(format!("{tombstone:?}"));

    let mut secrets = vec![browser.token()];
    for action in [rotated, logged_in].into_iter().flatten() {
        match action {
            cloakroom_core::engine::CookieAction::Set(token) => secrets.push(common::text(&token)),
            cloakroom_core::engine::CookieAction::Remove => {}
        }
    }
    assert_eq!(secrets.len(), 3);
    let all = texts.concat();
    let mut needles = vec!["4111".to_owned(), list(b"\"4111"), list(&PEPPER[..4])];
    for token in &secrets {
        let raw = common::bytes(token);
        needles.extend((22..=56).map(|at| token[at..at + 8].to_owned()));
        needles.extend(raw[16..].windows(3).map(list));
        needles.extend(raw[16..].windows(4).map(hex));
    }
    for needle in needles {
        assert!(!all.contains(&needle), "{needle} is in {all}");
    }
    assert!(all.contains(&browser.handle().to_string()), "the handle may be shown");
}

/// Bytes as a derived `Debug` prints them.
fn list(bytes: &[u8]) -> String {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
