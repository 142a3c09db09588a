//! A stolen SQLite file, even with the process's configuration, holds no usable token and no readable data; and a changed one
//! is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use cloakroom::core::engine::{Engine, Facts};
use cloakroom::core::entropy::{Entropy, EntropyError};
use cloakroom::core::policy::Policy;
use cloakroom::core::store::{Found, Store as _};
use cloakroom::core::token::{Handle, Token};
use cloakroom::{Pepper, Peppers};
use cloakroom_sqlite::SqliteStore;
use cloakroom_testkit::{SeededEntropy, block_on};
use http::StatusCode;

use crate::common::{Client, World};

const WORD: &str = "4111-1111-1111-1111";
const PEPPER: [u8; 32] = [0x5a; 32];

fn peppers() -> Peppers {
    Peppers::new(Pepper::new(&PEPPER).unwrap())
}

/// A source of randomness that remembers what it gave.
#[derive(Clone)]
struct Recorded(Arc<SeededEntropy>, Arc<Mutex<Vec<Vec<u8>>>>);

impl Recorded {
    fn new() -> Self {
        Self(Arc::new(SeededEntropy::new(7)), Arc::default())
    }

    /// The data key of a session: what was drawn behind its handle and its secret.
    fn data_key(&self, handle: Handle) -> Vec<u8> {
        let draws = self.1.lock().unwrap();
        let draw = draws.iter().find(|draw| draw.get(2..16) == Some(&handle.as_bytes()[2..]));
        draw.expect("the handle was drawn here")[48..80].to_vec()
    }
}

impl Entropy for Recorded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        self.0.fill(bytes)?;
        self.1.lock().unwrap().push(bytes.to_vec());
        Ok(())
    }
}

fn world(file: &Path) -> (World, Client) {
    world_drawn(file, Recorded::new())
}

fn world_drawn(file: &Path, entropy: Recorded) -> (World, Client) {
    let store = SqliteStore::open(file).unwrap();
    let world = World::with(store, |builder| builder.peppers(peppers()).entropy(entropy));
    let mut client = world.client();
    client.ask("/log-in/alice");
    client.ask(&format!("/word/{WORD}"));
    // With a rotation under way, the record holds all that it ever holds of a secret.
    world.advance(901);
    client.ask("/who");
    client.ask("/who");
    world.advance(901);
    client.ask("/who");
    (world, client)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Everything that a thief of the store and of the configuration has: the files, and what the process would print.
fn dump(folder: &Path, world: &World) -> Vec<u8> {
    let mut dump = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        dump.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    dump.extend(PEPPER);
    dump.extend(format!("{:?}", world.layer).into_bytes());
    dump.extend(format!("{:?}", world.log.take()).into_bytes());
    dump
}

fn bodies(file: &Path) -> Vec<Vec<u8>> {
    let connection = rusqlite::Connection::open(file).unwrap();
    let mut statement = connection.prepare("SELECT body FROM sessions").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn r006_r108_neither_token_nor_data_can_be_found_in_the_files_the_configuration_or_the_events() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.db");
    let (world, client) = world(&file);
    let text = client.token.clone().unwrap();
    let mut raw = [0; 48];
    Base64UrlUnpadded::decode(&text, &mut raw).unwrap();
    let dump = dump(folder.path(), &world);
    let handle = &raw[..16];
    assert!(contains(&dump, handle), "the search finds what is there");
    assert!(bodies(&file).iter().all(|body| contains(&dump, body)), "and so are whole records");
    assert!(contains(&dump, b"alice"), "the subject is in the clear, as the documentation says");
    let hex = raw[16..].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let standard = Base64::encode_string(&raw[16..]);
    let secrets: [&[u8]; 7] = [
        &raw[16..],
        &raw[16..32],
        text.as_bytes(),
        &text.as_bytes()[22..],
        &text.as_bytes()[44..],
        hex.as_bytes(),
        standard.as_bytes(),
    ];
    for secret in secrets {
        assert!(!contains(&dump, secret));
    }
    for data in [WORD.as_bytes(), &WORD.as_bytes()[..9], b"word", b"\"4111"] {
        assert!(!contains(&dump, data), "{}", String::from_utf8_lossy(data));
    }
}

#[test]
fn r006_nothing_in_the_files_works_as_a_token_or_opens_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.db");
    let entropy = Recorded::new();
    let (world, client) = world_drawn(&file, entropy.clone());
    let token = client.token.clone().unwrap();
    let handle = Token::parse(token.as_bytes()).unwrap().handle();
    let store = SqliteStore::open(&file).unwrap();
    let engine =
        Engine::new(Policy::default(), cloakroom::core::cookie::Cookie::default(), peppers()).unwrap();
    let found = block_on(store.find(handle)).unwrap();
    let judge = |secret: &[u8]| {
        let mut raw = handle.as_bytes().to_vec();
        raw.extend(secret);
        let field = format!("__Host-Http-sid={}", Base64UrlUnpadded::encode_string(&raw));
        let presented = engine.present([field.as_bytes()]);
        let now = common::START.plus(std::time::Duration::from_secs(1803));
        engine.resume(&presented, vec![found.clone()], Facts::default(), now).unwrap().record().is_some()
    };
    let mut raw = [0; 48];
    Base64UrlUnpadded::decode(&token, &mut raw).unwrap();
    assert!(judge(&raw[16..]), "the real secret works");
    assert!(matches!(found, Found::Live(_)));
    // The sealed data is the end of the body: nonce, length, text and tag.
    let text_len = "word".len() + WORD.len() + 2 + 3 + 16;
    let mut tried = 0;
    for body in bodies(&file) {
        let Some(start) = body.len().checked_sub(text_len + 13) else { continue };
        let nonce = Nonce::try_from(&body[start..start + 12]).unwrap();
        let sealed = aes_gcm::aead::Payload { msg: &body[start + 13..], aad: &context(handle.as_bytes()) };
        let opens = |key: &[u8]| {
            let key = Aes256Gcm::new_from_slice(key).unwrap();
            key.decrypt(&nonce, aes_gcm::aead::Payload { msg: sealed.msg, aad: sealed.aad }).is_ok()
        };
        assert!(opens(&entropy.data_key(handle)), "the key itself opens what is tried here");
        for window in body.windows(32).chain([&PEPPER[..]]) {
            assert!(!judge(window) && !opens(window));
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
    drop(world);
}

fn context(handle: &[u8; 16]) -> Vec<u8> {
    [&[1], &handle[..]].concat()
}

#[test]
fn r070_each_flipped_bit_of_a_stored_record_is_refused_with_503_or_concerns_nothing_that_is_bound() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.db");
    let (world, client) = world(&file);
    let expected = client.ask_and_lose("/who").body;
    let handle = Token::parse(client.token.as_ref().unwrap().as_bytes()).unwrap().handle();
    let raw = rusqlite::Connection::open(&file).unwrap();
    raw.pragma_update(None, "synchronous", "OFF").unwrap();
    let select = "SELECT body FROM sessions WHERE handle = ?1";
    let body = |raw: &rusqlite::Connection| {
        raw.query_row(select, [handle.as_bytes()], |row| row.get::<_, Vec<u8>>(0)).unwrap()
    };
    let original = body(&raw);
    let (mut refused, mut unbound) = (0, 0);
    for bit in 0..original.len() * 8 {
        let mut changed = original.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let put = |body: &[u8]| {
            raw.execute("UPDATE sessions SET body = ?1 WHERE handle = ?2", (body, handle.as_bytes()))
                .unwrap();
        };
        put(&changed);
        world.log.take();
        let who = client.ask_and_lose("/word");
        match who.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                refused += 1;
                assert_eq!(who.set_cookie(), None, "bit {bit}");
                assert!(who.header("retry-after").is_some(), "bit {bit}");
                let events = world.log.names();
                let known = ["session_record_tampered", "session_store_failed", "session_pepper_unknown"];
                assert!(events.len() == 1 && known.contains(&events[0]), "bit {bit}: {events:?}");
            }
            status => {
                unbound += 1;
                assert_eq!(
                    (status, who.body.as_str()),
                    (StatusCode::OK, WORD),
                    "bit {bit} changed something"
                );
                put(&changed);
                assert_eq!(client.ask_and_lose("/who").body, expected, "bit {bit}");
            }
        }
        put(&original);
    }
    assert!(refused > unbound, "{refused} bits refused, {unbound} are in fields that nothing rests on");
}
