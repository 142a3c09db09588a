//! The record format, spelled out a second time: what somebody who can read and write the store sees.

use cloakroom_core::record::Record;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Body {
    pub subject: Option<String>,
    pub created: u64,
    pub authentication: Option<Authentication>,
    pub idle_ms: u64,
    pub absolute: u64,
    pub browser: u8,
    pub system: u8,
    pub network: Option<Network>,
    pub current: Slot,
    pub issued: u64,
    pub confirmed: Option<u64>,
    pub next: Option<Salted>,
    pub previous: Option<Salted>,
    pub retired: Vec<[u8; 8]>,
    pub fresh: u8,
    pub strangers: Vec<u32>,
    pub nonce: [u8; 12],
    pub text: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Authentication {
    pub at: u64,
    pub level: u8,
    pub methods: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Network {
    V4([u8; 3]),
    V6([u8; 6]),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub pepper: [u8; 8],
    pub digest: [u8; 16],
    pub wrapped: [u8; 32],
    pub tag: [u8; 16],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Salted {
    pub slot: Slot,
    pub salt: [u8; 16],
}

impl Body {
    pub fn read(record: &Record) -> Self {
        Self::parse(&record.encode().unwrap())
    }

    pub fn parse(bytes: &[u8]) -> Self {
        assert_eq!(bytes[0], 1, "format 1");
        let (body, rest) = postcard::take_from_bytes(&bytes[1..]).unwrap();
        assert!(rest.is_empty());
        body
    }

    pub fn write(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![1]).unwrap()
    }

    /// `record` with this body.
    pub fn into_record(self, record: &Record) -> Record {
        Record::decode(record.handle(), record.version(), record.seen(), &self.write()).unwrap()
    }
}
