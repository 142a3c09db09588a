//! The steps of a request by themselves, and the least that they could cost.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use cloakroom::core::client::Client;
use cloakroom::core::clock::{Clock as _, Timestamp};
use cloakroom::core::data::Changes;
use cloakroom::core::engine::{CookieAction, Engine, Facts, Presented};
use cloakroom::core::entropy::Entropy as _;
use cloakroom::core::lifecycle::Newcomer;
use cloakroom::core::record::{Proof, Record, Subject};
use cloakroom::core::store::{Found, Epoch, Store as _};
use cloakroom::{MemoryStore, SystemClock, SystemEntropy};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::runtime::Runtime;

use crate::app::FIELDS;
use crate::harness::thread_time;
use crate::payload::{TS, csrf, roles};

const BATCH: usize = 200;

/// A step: what it is, and the code that takes it once.
type Part<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// Drops a result that nobody looks at, but not before it was made.
fn keep<T>(result: T) {
    black_box(result);
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value with a JSON form")
}

fn aes(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes"))
}

fn seal<const TEXT: usize, const BOUND: usize>(key: &LessSafeKey) {
    let mut text = [0; TEXT];
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    keep(key.seal_in_place_separate_tag(nonce, Aad::from([0; BOUND]), &mut text));
    keep(text);
}

/// What a login stores.
fn payload() -> Changes {
    let mut data = Changes::default();
    data.set("user_id", json(&1));
    data.set("csrf", json(&csrf()));
    data.set("roles", json(&roles()));
    data.set("ts", json(&TS));
    data
}

/// A session of somebody, as the store holds it and as the client presents it.
struct Fixture {
    engine: Engine,
    facts: Facts,
    now: Timestamp,
    record: Record,
    field: Vec<u8>,
}

impl Fixture {
    fn new() -> Result<Self> {
        let engine = Engine::default();
        let now = SystemClock.now()?;
        let facts = Facts::default();
        let mut resumed = engine.resume(&Presented::default(), Vec::new(), facts, now)?;
        let login = Self::log_in(&engine, &resumed, now)?;
        let record = login.record().clone();
        resumed.logged_in(login, now);
        let Some(CookieAction::Set(token)) = resumed.cookie() else { anyhow::bail!("a login sets a cookie") };
        let field = format!("{}={}", engine.cookie().name(), token.expose().as_str()).into_bytes();
        Ok(Self { engine, facts, now, record, field })
    }

    fn log_in(
        engine: &Engine,
        resumed: &cloakroom::core::engine::Resumed,
        now: Timestamp,
    ) -> Result<cloakroom::core::lifecycle::LogIn> {
        let subject = Subject::new("user-0000001").context("a subject")?;
        let who = Newcomer { subject, proof: Proof::default(), data: payload() };
        Ok(engine.log_in(resumed, &Changes::default(), who, Epoch::default(), now, &SystemEntropy)?)
    }

    fn present(&self) -> Presented {
        self.engine.present([self.field.as_slice()])
    }
}

/// Times each step, round after round, and prints a line for each step and round.
///
/// # Errors
///
/// If a step cannot be taken at all.
pub fn main(runtime: &Runtime, rounds: usize) -> Result<()> {
    let fixture = Fixture::new()?;
    let Fixture { engine, facts, now, record, .. } = &fixture;
    let (now, facts) = (*now, *facts);
    let anonymous = engine.resume(&Presented::default(), Vec::new(), facts, now)?;
    let presented = fixture.present();
    let resumed = engine.resume(&presented, vec![Found::Live(record.clone())], facts, now)?;
    let bytes = record.encode()?;
    let store = MemoryStore::new();
    let admission = Fixture::log_in(engine, &anonymous, now)?.admission();
    runtime.block_on(store.insert(record.clone(), admission))?;
    let mut write = Changes::default();
    let agent = FIELDS.iter().find(|(name, _)| *name == "user-agent").map_or("", |(_, value)| value);
    let key = [7_u8; 32];
    let mac = Hmac::<Sha256>::new(&Default::default());
    let cipher = aes(&key);
    let mut count = TS;

    let mut parts: Vec<Part<'_>> = vec![
        ("the clock", Box::new(|| keep(SystemClock.now()))),
        ("find and parse the token in the cookie", Box::new(|| keep(fixture.present()))),
        (
            "recognise the client by its user agent",
            Box::new(|| keep(Client::recognise(black_box(agent.as_bytes()), None))),
        ),
        (
            "look the session up in memory, decoding included",
            Box::new(|| keep(runtime.block_on(store.find(record.handle())))),
        ),
        (
            "decode the record",
            Box::new(|| keep(Record::decode(record.handle(), record.version(), record.seen(), &bytes))),
        ),
        (
            "judge the token: verify, open the data key (record copied)",
            Box::new(|| {
                let found = vec![Found::Live(record.clone())];
                keep(engine.resume(&presented, found, facts, now));
            }),
        ),
        ("open and decode the data", Box::new(|| keep(resumed.open()))),
        (
            "conclude, nothing changed",
            Box::new(|| keep(engine.conclude(&resumed, &Changes::default(), now, &SystemEntropy))),
        ),
        (
            "conclude, one key changed: open, merge, encode, seal",
            Box::new(|| {
                count += 1;
                write.clear();
                write.set("ts", json(&count));
                keep(engine.conclude(&resumed, &write, now, &SystemEntropy));
            }),
        ),
        ("encode the record", Box::new(|| keep(record.encode()))),
        ("plan a login: draw, wrap, seal", Box::new(|| keep(Fixture::log_in(engine, &anonymous, now)))),
        ("copy a record", Box::new(|| keep(record.clone()))),
        (
            "floor: 32 random bytes from the operating system",
            Box::new(|| {
                let mut bytes = [0; 32];
                keep(SystemEntropy.fill(&mut bytes));
                keep(bytes);
            }),
        ),
        (
            "floor: 96 random bytes from the operating system",
            Box::new(|| {
                let mut bytes = [0; 96];
                keep(SystemEntropy.fill(&mut bytes));
                keep(bytes);
            }),
        ),
        (
            "floor: HMAC-SHA-256 of 49 bytes, key prepared",
            Box::new(|| {
                let mut mac = mac.clone();
                mac.update(black_box(&[1; 49]));
                keep(mac.finalize());
            }),
        ),
        ("floor: AES-256-GCM, key set up only", Box::new(|| keep(aes(black_box(&key))))),
        (
            "floor: AES-256-GCM of 140 bytes with 17 bound, key prepared",
            Box::new(|| seal::<140, 17>(&cipher)),
        ),
        (
            "floor: AES-256-GCM of 32 bytes with 80 bound, key set up",
            Box::new(|| seal::<32, 80>(&aes(black_box(&key)))),
        ),
        (
            "floor: AES-256-GCM of 140 bytes with 17 bound, key set up",
            Box::new(|| seal::<140, 17>(&aes(black_box(&key)))),
        ),
        ("floor: allocate and free 256 bytes", Box::new(|| keep(Vec::<u8>::with_capacity(256)))),
        ("floor: a shared value, made and dropped", Box::new(|| keep(Arc::new([0_u64; 8])))),
    ];
    for _ in 0..rounds {
        for (name, take) in &mut parts {
            let before = thread_time();
            for _ in 0..BATCH {
                take();
            }
            println!("parts\t{name}\t{:.1}", (thread_time() - before) as f64 / BATCH as f64);
        }
    }
    Ok(())
}
