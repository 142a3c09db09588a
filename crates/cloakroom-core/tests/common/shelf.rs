//! What a store promises, in a map: insert if absent, replace if unchanged, remove for good, touch forward.

use std::collections::HashMap;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, Version};
use cloakroom_core::store::{Found, Inserted, Reason, Replaced, Tombstone};
use cloakroom_core::token::Handle;

enum Row {
    Live { version: Version, seen: Timestamp, body: Vec<u8> },
    Ended(Tombstone),
}

/// The rows are kept encoded, so that every story also reads and writes the record format.
#[derive(Default)]
pub struct Shelf {
    rows: HashMap<Handle, Row>,
    /// Answers to give to the next inserts instead of trying.
    pub refusals: Vec<Inserted>,
    pub writes: usize,
}

impl Shelf {
    pub fn find(&self, handle: Handle) -> Found {
        match self.rows.get(&handle) {
            Some(Row::Live { version, seen, body }) => {
                Found::Live(Record::decode(handle, *version, *seen, body).unwrap())
            }
            Some(Row::Ended(tombstone)) => Found::Ended(Tombstone::decode(&tombstone.encode()).unwrap()),
            None => Found::Absent,
        }
    }

    pub fn live(&self, handle: Handle) -> Option<Record> {
        match self.find(handle) {
            Found::Live(record) => Some(record),
            _ => None,
        }
    }

    fn store(&mut self, record: &Record) {
        self.writes += 1;
        let (version, seen) = (record.version(), record.seen());
        self.rows.insert(record.handle(), Row::Live { version, seen, body: record.encode().unwrap() });
    }

    pub fn insert(&mut self, record: &Record) -> Inserted {
        if let Some(refusal) = self.refusals.pop() {
            return refusal;
        }
        if self.rows.contains_key(&record.handle()) {
            return Inserted::HandleTaken;
        }
        self.store(record);
        Inserted::Inserted { evicted: Vec::new() }
    }

    pub fn replace(&mut self, expected: Version, record: Record) -> Replaced {
        let Some(Row::Live { version, seen, .. }) = self.rows.get(&record.handle()) else {
            return Replaced::Gone;
        };
        if *version != expected {
            return Replaced::Stale;
        }
        let record = record.replacing(expected, *seen);
        self.store(&record);
        Replaced::Replaced
    }

    pub fn remove(&mut self, handle: Handle, reason: Reason, now: Timestamp) -> Option<Record> {
        let Found::Live(record) = self.find(handle) else { return None };
        self.writes += 1;
        self.rows.insert(handle, Row::Ended(Tombstone::of(&record, reason, now)));
        Some(record)
    }

    pub fn touch(&mut self, handle: Handle, at: Timestamp) {
        if let Some(Row::Live { seen, .. }) = self.rows.get_mut(&handle) {
            self.writes += 1;
            *seen = at.max(*seen);
        }
    }

    /// Forgets even the tombstone.
    pub fn forget(&mut self, handle: Handle) {
        self.rows.remove(&handle);
    }

    /// What an attacker with write access does: stores whatever bytes.
    pub fn plant(&mut self, handle: Handle, version: Version, seen: Timestamp, body: Vec<u8>) {
        self.rows.insert(handle, Row::Live { version, seen, body });
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Sessions that have not ended.
    pub fn lives(&self) -> usize {
        self.rows.values().filter(|row| matches!(row, Row::Live { .. })).count()
    }
}
