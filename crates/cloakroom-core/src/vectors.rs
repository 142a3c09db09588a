//! The known answers in `conformance/`, kept for ever: what one version has handed out or stored, all later ones read.
//!
//! `CLOAKROOM_WRITE_VECTORS=1 cargo test -p cloakroom-core vectors` fills files that are still empty; it never
//! changes an answer that is there.

use serde_json::{Map, Value, json};

use crate::client::{Client, Network};
use crate::clock::Timestamp;
use crate::cookie::Cookie;
use crate::csrf::{CsrfKey, Visitor, VisitorCookie, VisitorKeys};
use crate::data::{Changes, DataMap};
use crate::engine::{Engine, Facts, Resumed};
use crate::lifecycle::Write;
use crate::lifecycle::establish::Draft;
use crate::policy::Policy;
use crate::record::{Authentication, Level, Proof, Record, Subject, Terms, Version};
use crate::seal::{Bound, DataKey, Pepper, Peppers};
use crate::store::{Found, Reason, Tombstone};
use crate::testing::Counting;
use crate::token::{Handle, Secret, Token};

/// A file's name and text, and what made its answers.
type File = (&'static str, &'static str, fn() -> Vec<Value>);
/// A record, the tokens that are good for it by role, and when.
type Story = (&'static str, Record, Vec<(&'static str, Token)>, Timestamp);

const FILES: [File; 6] = [
    ("token", include_str!("../../../conformance/token.json"), tokens),
    ("derivation", include_str!("../../../conformance/derivation.json"), derivations),
    ("sealing", include_str!("../../../conformance/sealing.json"), seals),
    ("record", include_str!("../../../conformance/record.json"), records),
    ("tombstone", include_str!("../../../conformance/tombstone.json"), tombstones),
    ("csrf", include_str!("../../../conformance/csrf.json"), csrf_tokens),
];

fn vectors(name: &str) -> Vec<Value> {
    let (_, text, _) = FILES.into_iter().find(|(file, ..)| *file == name).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(text).unwrap();
    assert!(!vectors.is_empty() || writing(), "{name} has no vectors");
    vectors
}

fn writing() -> bool {
    std::env::var_os("CLOAKROOM_WRITE_VECTORS").is_some()
}

#[test]
fn empty_files_are_filled_when_asked_to() {
    for (name, text, generate) in FILES {
        let path = format!("{}/../../conformance/{name}.json", env!("CARGO_MANIFEST_DIR"));
        if writing() && text.trim() == "[]" {
            std::fs::write(path, serde_json::to_string_pretty(&generate()).unwrap() + "\n").unwrap();
        }
    }
}

#[test]
fn tokens_and_handles_read_and_write_as_ever() {
    for vector in vectors("token") {
        let handle = Handle::from_bytes(bytes(&vector["handle"]));
        let token = Token::new(handle, Secret::from_bytes(bytes(&vector["secret"])));
        assert_eq!(token.expose().as_str(), text(&vector["token"]));
        assert_eq!(Token::parse(text(&vector["token"]).as_bytes()), Some(token));
        assert_eq!(handle.to_string(), text(&vector["handle_text"]));
        assert_eq!(text(&vector["handle_text"]).parse(), Ok(handle));
        assert_eq!(u64::from(handle.tag()), vector["tag"]);
        if let Some(subject) = vector["subject"].as_str() {
            assert_eq!(Handle::tag_of(&Subject::new(subject).unwrap()), handle.tag());
        }
    }
}

#[test]
fn secrets_derive_as_ever() {
    for vector in vectors("derivation") {
        let pepper = pepper(&vector["pepper"]);
        assert_eq!(pepper.id().to_string(), text(&vector["pepper_id"]));
        let handle = Handle::from_bytes(bytes(&vector["handle"]));
        let secret = Secret::from_bytes(bytes(&vector["secret"]));
        let digest = pepper.digest(handle, &secret);
        assert_eq!(hexed(json!(digest)), vector["digest"]);
        assert_eq!(hexed(json!(digest.short())), vector["short_digest"]);
        let successor = pepper.successor(handle, &secret, &bytes(&vector["salt"]));
        assert_eq!(hex(successor.expose()), text(&vector["successor"]));
    }
}

#[test]
fn slots_and_data_open_as_ever() {
    for vector in vectors("sealing") {
        let pepper = pepper(&vector["pepper"]);
        let handle = Handle::from_bytes(bytes(&vector["handle"]));
        let secret = Secret::from_bytes(bytes(&vector["secret"]));
        let bound = Bound::of(handle, &terms(&vector["terms"]));
        let key = DataKey::from_bytes(bytes(&vector["data_key"]));
        let slot = key.wrap(&pepper, &secret, &bound).unwrap();
        assert_eq!(hexed(json!(slot)), vector["slot"]);
        assert_eq!(slot.open_key(&pepper, &secret, &bound), Ok(key.clone()));
        assert_eq!(hex(bound.under(pepper.id()).as_slice()), text(&vector["bound"]));
        let sealed = serde_json::from_value(json!({
            "nonce": unhex(&vector["nonce"]),
            "text": unhex(&vector["sealed"]),
        }))
        .unwrap();
        let plain = key.open(handle, &sealed).unwrap();
        assert_eq!(hex(&plain), text(&vector["plain"]));
        assert_eq!(data_json(&DataMap::decode(plain).unwrap()), vector["data"]);
    }
}

#[test]
fn records_of_format_1_read_open_and_write_as_ever() {
    for vector in vectors("record") {
        let encoded = unhex(&vector["encoded"]);
        let handle = text(&vector["handle"]).parse().unwrap();
        let record = Record::decode(handle, Version::FIRST, stamp(&vector["seen"]), &encoded).unwrap();
        assert_eq!(record.encode().unwrap(), encoded);
        assert_eq!(hexed(json!(record.body)), vector["decoded"]);
        let engine = engine(pepper(&vector["pepper"]));
        for (role, token) in vector["tokens"].as_object().unwrap() {
            let resumed = resume(&engine, text(token), record.clone(), stamp(&vector["now"]));
            assert_eq!(resumed.record(), Some(&record), "{role}");
            assert_eq!(data_json(&resumed.open().unwrap()), vector["data"], "{role}");
        }
    }
}

#[test]
fn tombstones_of_format_1_read_and_write_as_ever() {
    for vector in vectors("tombstone") {
        let encoded = unhex(&vector["encoded"]);
        let tombstone = Tombstone::decode(&encoded).unwrap();
        assert_eq!(tombstone.encode(), encoded);
        assert_eq!(hexed(json!(tombstone)), vector["decoded"]);
        assert_eq!(tombstone.reason().name(), text(&vector["reason"]));
    }
}

#[test]
fn r078_form_tokens_verify_as_ever() {
    for vector in vectors("csrf") {
        let token = text(&vector["token"]).as_bytes();
        if let Some(data_key) = vector.get("data_key") {
            let key = DataKey::from_bytes(bytes(data_key)).csrf_key();
            assert_eq!(hex(&key), text(&vector["key"]));
            assert!(CsrfKey::new(key, Handle::from_bytes(bytes(&vector["handle"]))).verify(token));
        } else {
            let pepper = pepper(&vector["pepper"]);
            assert_eq!(pepper.visitor_key().map(|key| hex(&key)).as_deref(), vector["key"].as_str());
            let keys = VisitorKeys::of(&Peppers::new(pepper)).unwrap();
            let visitor = Visitor::from_bytes(bytes(&vector["visitor"]));
            assert!(keys.verify(&visitor, token, stamp(&vector["issued"])));
            let cookie = VisitorCookie::beside(&Cookie::default());
            let pair = format!("{}={}", cookie.cookie().name(), text(&vector["cookie"]));
            assert_eq!(cookie.find([pair.as_bytes()]), Some(visitor));
        }
    }
}

// What follows made the answers.

fn tokens() -> Vec<Value> {
    let entropy = Counting::default();
    let vector = |handle: Handle, secret: [u8; 32], subject: Option<&str>| {
        let token = Token::new(handle, Secret::from_bytes(secret));
        json!({
            "handle": hex(handle.as_bytes()), "secret": hex(&secret), "token": token.expose().as_str(),
            "handle_text": handle.to_string(), "tag": handle.tag(), "subject": subject,
        })
    };
    let mut vectors = vec![
        vector(Handle::from_bytes([0; 16]), [0; 32], None),
        vector(Handle::from_bytes([255; 16]), [255; 32], None),
        vector(Handle::from_bytes(counted(0)), counted(16), None),
    ];
    for subject in ["alice", "bob", "žluťoučký kůň", &"x".repeat(255)] {
        let handle =
            Handle::drawn(Some(&Subject::new(subject).unwrap()), crate::entropy::draw(&entropy).unwrap());
        vectors.push(vector(handle, counted(100), Some(subject)));
    }
    vectors
}

fn derivations() -> Vec<Value> {
    let mut vectors = Vec::new();
    for key in ["".to_owned(), hex(&counted::<32>(1)), hex(&[0xa5; 64]), hex(&[0x5a; 1024])] {
        let key = json!(key);
        for base in [0, 90, 250] {
            let (pepper, handle) = (pepper(&key), Handle::from_bytes(counted(base)));
            let (secret, salt) = (Secret::from_bytes(counted(base + 1)), counted(base + 2));
            let digest = pepper.digest(handle, &secret);
            vectors.push(json!({
                "pepper": key, "pepper_id": pepper.id().to_string(), "handle": hex(handle.as_bytes()),
                "secret": hex(secret.expose()), "salt": hex(&salt), "digest": hexed(json!(digest)),
                "short_digest": hexed(json!(digest.short())),
                "successor": hex(pepper.successor(handle, &secret, &salt).expose()),
            }));
        }
    }
    vectors
}

fn seals() -> Vec<Value> {
    let anonymous = json!({
        "subject": null, "created": 1_800_000_000_000_u64, "authentication": null, "idle_ms": 1_800_000,
        "absolute": 1_800_086_400_000_u64,
    });
    let longest: Vec<_> = (0..8).map(|n| format!("method_{n}-abcdefg")).collect();
    let named = |subject: &str, level: u8, methods: &[&str]| {
        json!({
            "subject": subject, "created": 1_800_000_000_001_u64,
            "authentication": { "at": 1_800_000_000_002_u64, "level": level, "methods": methods },
            "idle_ms": 0, "absolute": u64::MAX,
        })
    };
    let all: Vec<_> = longest.iter().map(String::as_str).collect();
    let cases = [
        anonymous,
        named("alice", 1, &[]),
        named("žluť", 2, &["pwd", "otp"]),
        named(&"x".repeat(255), 3, &all),
    ];
    let entropy = Counting::default();
    let mut vectors = Vec::new();
    for (index, case) in cases.into_iter().enumerate() {
        let key = json!(if index == 0 { String::new() } else { hex(&counted::<32>(index as u8)) });
        let (pepper, handle) = (pepper(&key), Handle::from_bytes(counted(9)));
        let secret = Secret::from_bytes(counted(60));
        let bound = Bound::of(handle, &terms(&case));
        let data_key = counted::<32>(130);
        let mut changes = Changes::default();
        for n in 0..index {
            changes.set(format!("key.{n}"), "\"v\"".repeat(50 * n).into_bytes());
        }
        let mut data = DataMap::default();
        changes.apply(&mut data).unwrap();
        let wrapping = DataKey::from_bytes(data_key);
        let sealed = wrapping.seal(handle, data.clone().into_encoded(), &entropy).unwrap();
        let sealed = hexed(json!(sealed));
        vectors.push(json!({
            "pepper": key, "handle": hex(handle.as_bytes()), "secret": hex(secret.expose()), "terms": case,
            "bound": hex(bound.under(pepper.id()).as_slice()), "data_key": hex(&data_key),
            "slot": hexed(json!(wrapping.wrap(&pepper, &secret, &bound).unwrap())), "nonce": sealed["nonce"],
            "sealed": sealed["text"], "plain": hex(&data.clone().into_encoded()), "data": data_json(&data),
        }));
    }
    vectors
}

/// One session through its life, as the store held it: visitor, login, rotation pending, confirmed, tidied and on demand.
fn stories() -> Vec<Story> {
    let (engine, entropy) = (engine(pepper(&json!(hex(&counted::<32>(1))))), Counting::default());
    let start = Timestamp::from_secs(1_800_000_000);
    let client = Client {
        network: Some(Network::V4([203, 0, 113])),
        ..Client::recognise(b"X11; Linux Firefox/1", None)
    };
    let draft = |subject: Option<(Subject, Proof)>, data: &DataMap| Draft {
        subject,
        created: start,
        idle: engine.policy.idle,
        absolute: engine.policy.absolute,
        client,
        data: data.clone().into_encoded(),
    };
    let pepper = engine.peppers.current();
    let (visitor, visitors) = draft(None, &DataMap::default()).seal(pepper, &entropy).unwrap();
    let proof = Proof::default().level(Level::TWO).methods(["pwd", "otp"]).unwrap();
    let alice = Subject::new("alice").unwrap();
    let (fresh, first) = draft(Some((alice, proof)), &DataMap::default()).seal(pepper, &entropy).unwrap();
    let mut changes = Changes::default();
    changes.set("cart", br#"{"apples":3}"#.to_vec());
    changes.set("lang", br#""cs""#.to_vec());
    let conclude = |record: &Record, token: &Token, changes: &Changes, now: Timestamp| {
        let mut resumed = resume(&engine, token.expose().as_str(), record.clone(), now);
        resumed.facts.client = client;
        let plan = engine.conclude(&resumed, changes, now, &entropy).unwrap();
        let Write::Replace { record, .. } = plan.write else { panic!("a replacement was expected") };
        let handed = plan.cookie.and_then(|cookie| match cookie {
            crate::engine::CookieAction::Set(token) => Some(token),
            crate::engine::CookieAction::Remove => None,
        });
        (record, handed)
    };
    let later = |secs| start.plus(std::time::Duration::from_secs(secs));
    let (pending, second) = conclude(&fresh, &first, &changes, later(900));
    let second = second.unwrap();
    let (confirmed, _) = conclude(&pending, &second, &Changes::default(), later(910));
    changes.set("lang", br#""en""#.to_vec());
    let (tidied, _) = conclude(&confirmed, &second, &changes, later(990));
    let resumed = resume(&engine, second.expose().as_str(), tidied.clone(), later(1000));
    let rotation = engine.rotate(&resumed, later(1000), &entropy).unwrap();
    let mut rotated = resumed;
    let demanded = rotation.record().clone();
    rotated.rotated(rotation, later(1000));
    let third = match rotated.cookie {
        Some(crate::engine::CookieAction::Set(token)) => token,
        _ => panic!("a rotation hands out a token"),
    };
    vec![
        ("visitor", visitor, vec![("current", visitors)], later(1)),
        ("logged in", fresh, vec![("current", first.clone())], later(1)),
        ("rotation pending", pending, vec![("current", first.clone()), ("next", second.clone())], later(905)),
        ("rotation confirmed", confirmed, vec![("previous", first), ("current", second.clone())], later(915)),
        ("tidied", tidied, vec![("current", second)], later(991)),
        ("rotated on demand", demanded, vec![("current", third)], later(1001)),
    ]
}

fn records() -> Vec<Value> {
    let key = json!(hex(&counted::<32>(1)));
    let vector = |(name, record, tokens, now): Story| {
        let resumed = resume(&engine(pepper(&key)), tokens[0].1.expose().as_str(), record.clone(), now);
        let texts: Map<_, _> =
            tokens.iter().map(|(role, token)| ((*role).to_owned(), json!(token.expose().as_str()))).collect();
        json!({
            "name": name, "pepper": key, "handle": record.handle().to_string(), "seen": record.seen(), "now": now,
            "tokens": texts, "encoded": hex(&record.encode().unwrap()), "decoded": hexed(json!(record.body)),
            "data": data_json(&resumed.open().unwrap()),
        })
    };
    stories().into_iter().map(vector).collect()
}

fn tombstones() -> Vec<Value> {
    let reasons = (1..=8).map(|code| Reason::from_code(code).unwrap());
    let vector = |(reason, (_, record, ..)): (Reason, Story)| {
        let tombstone = Tombstone::of(&record, reason, Timestamp::from_millis(1_800_000_123_456));
        json!({
            "reason": reason.name(), "encoded": hex(&tombstone.encode()),
            "decoded": hexed(json!(tombstone)),
        })
    };
    reasons.zip(stories().into_iter().cycle()).map(vector).collect()
}

fn csrf_tokens() -> Vec<Value> {
    let entropy = Counting::default();
    let mut vectors = Vec::new();
    for base in [0, 90, 250] {
        let (data_key, handle) = (counted(base), Handle::from_bytes(counted(base + 1)));
        let key = DataKey::from_bytes(data_key).csrf_key();
        vectors.push(json!({
            "data_key": hex(&data_key), "handle": hex(handle.as_bytes()), "key": hex(&key),
            "token": CsrfKey::new(key, handle).issue(&entropy).unwrap().expose(),
        }));
    }
    for (pepper_key, issued) in [(counted::<32>(1), 0), ([0xa5; 32], 1_800_000_000_123)] {
        let pepper = Pepper::new(&pepper_key).unwrap();
        let visitor = Visitor::from_bytes(counted(7));
        let key = pepper.visitor_key().unwrap();
        let keys = VisitorKeys::of(&Peppers::new(pepper)).unwrap();
        let set = VisitorCookie::beside(&Cookie::default()).set(&visitor);
        vectors.push(json!({
            "pepper": hex(&pepper_key), "visitor": hex(&counted::<16>(7)), "key": hex(&key), "issued": issued,
            "cookie": set.expose().split(['=', ';']).nth(1),
            "token": keys.issue(&visitor, Timestamp::from_millis(issued), &entropy).unwrap().expose(),
        }));
    }
    vectors
}

fn engine(pepper: Pepper) -> Engine {
    Engine::new(Policy::default(), Cookie::default(), Peppers::new(pepper)).unwrap()
}

fn resume(engine: &Engine, token: &str, record: Record, now: Timestamp) -> Resumed {
    let field = format!("{}={token}", engine.cookie().name());
    let presented = engine.present([field.as_bytes()]);
    engine.resume(&presented, vec![Found::Live(record)], Facts::default(), now).unwrap()
}

fn pepper(key: &Value) -> Pepper {
    match &unhex(key)[..] {
        [] => Pepper::none(),
        key => Pepper::new(key).unwrap(),
    }
}

fn terms(case: &Value) -> Terms {
    let authentication = |value: &Value| Authentication {
        at: stamp(&value["at"]),
        level: Level::try_from(value["level"].as_u64().unwrap() as u8).unwrap(),
        methods: value["methods"].as_array().unwrap().iter().map(|name| text(name).to_owned()).collect(),
    };
    Terms {
        subject: case["subject"].as_str().map(|subject| Subject::new(subject).unwrap()),
        created: stamp(&case["created"]),
        authentication: Some(&case["authentication"]).filter(|value| !value.is_null()).map(authentication),
        idle_ms: case["idle_ms"].as_u64().unwrap(),
        absolute: stamp(&case["absolute"]),
    }
}

fn data_json(data: &DataMap) -> Value {
    data.iter()
        .map(|(key, json)| (key.to_owned(), json!(str::from_utf8(json).unwrap())))
        .collect::<Map<_, _>>()
        .into()
}

fn stamp(value: &Value) -> Timestamp {
    Timestamp::from_millis(value.as_u64().unwrap())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// `start`, `start + 1`, …
fn counted<const N: usize>(start: u8) -> [u8; N] {
    std::array::from_fn(|index| start.wrapping_add(index as u8))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(value: &Value) -> Vec<u8> {
    let pairs = text(value).as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    unhex(value).try_into().unwrap()
}

/// The same with byte strings as hexadecimal text.
fn hexed(value: Value) -> Value {
    match value {
        Value::Array(items)
            if !items.is_empty() && items.iter().all(|item| item.as_u64().is_some_and(|n| n < 256)) =>
        {
            hex(&items.iter().map(|item| item.as_u64().unwrap() as u8).collect::<Vec<_>>()).into()
        }
        Value::Array(items) => items.into_iter().map(hexed).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, hexed(value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}
