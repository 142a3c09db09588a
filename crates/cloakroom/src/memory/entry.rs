//! What a shard keeps of one session.

use std::collections::hash_map::OccupiedEntry;
use std::hash::Hasher;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, RecordError, Version};
use cloakroom_core::store::{Reason, Tombstone};
use cloakroom_core::token::Handle;

/// No larger than a slice, because the table has room for more entries than there are.
#[derive(Debug)]
pub(super) enum Entry {
    Live(Body),
    Ended(Box<Tombstone>),
}

/// A live session in one allocation: its version and last activity, eight bytes each, then the encoded
/// record.
#[derive(Debug)]
pub(super) struct Body(Box<[u8]>);

const HEAD: usize = 16;

impl Body {
    pub(super) fn of(record: &Record, version: Version, seen: Timestamp) -> Result<Self, RecordError> {
        let (version, seen) = (version.number().to_ne_bytes(), seen.as_millis().to_ne_bytes());
        let mut head = [0; HEAD];
        head.iter_mut().zip(version.into_iter().chain(seen)).for_each(|(to, from)| *to = from);
        // Exact, so that the box is the vector.
        Ok(Self(record.encode_after(&head)?.into_boxed_slice()))
    }

    pub(super) fn parts(&self) -> Result<(Version, Timestamp, &[u8]), RecordError> {
        let parts = self.0.split_first_chunk::<8>().and_then(|(version, rest)| {
            let (seen, record) = rest.split_first_chunk::<8>()?;
            let version = Version::from_number(u64::from_ne_bytes(*version));
            Some((version, Timestamp::from_millis(u64::from_ne_bytes(*seen)), record))
        });
        parts.ok_or(RecordError::Broken)
    }

    pub(super) fn record(&self, handle: Handle) -> Result<Record, RecordError> {
        let (version, seen, record) = self.parts()?;
        Record::decode(handle, version, seen, record)
    }

    pub(super) fn note_seen(&mut self, at: Timestamp) -> Result<(), RecordError> {
        let (_, seen, _) = self.parts()?;
        if at > seen
            && let Some(stored) = self.0.get_mut(8..HEAD)
        {
            stored.copy_from_slice(&at.as_millis().to_ne_bytes());
        }
        Ok(())
    }

    /// Bytes in it.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }
}

/// Turns a live entry into a tombstone; returns the record that it was, and the bytes that it took. `None` if
/// it is one already.
pub(super) fn bury(
    mut entry: OccupiedEntry<'_, Handle, Entry>,
    reason: Reason,
    now: Timestamp,
) -> Result<Option<(Record, usize)>, RecordError> {
    let Entry::Live(body) = entry.get() else { return Ok(None) };
    let (record, len) = (body.record(*entry.key())?, body.len());
    entry.insert(Entry::Ended(Box::new(Tombstone::of(&record, reason, now))));
    Ok(Some((record, len)))
}

/// Hashes a handle by taking its last eight bytes. All handles in the table were drawn here, and those bytes
/// are random in each; a client can only choose what is looked up, and adds nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByHandle(u64);

impl Hasher for ByHandle {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_ne_bytes(*last);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cloakroom_core::client::Client;
    use cloakroom_core::lifecycle::establish::Draft;
    use cloakroom_core::seal::Pepper;
    use cloakroom_testkit::SeededEntropy;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn of(seed: u64) -> Record {
        let draft = Draft {
            subject: None,
            created: NOW,
            idle: Duration::from_secs(60),
            absolute: Duration::from_secs(600),
            client: Client::default(),
            data: vec![0],
        };
        draft.seal(&Pepper::none(), &SeededEntropy::new(seed)).unwrap().0
    }

    #[test]
    fn a_session_takes_one_allocation_besides_its_place_in_the_tables() {
        assert_eq!(size_of::<Entry>(), 16);
        let record = of(2);
        let encoded = record.encode().unwrap();
        assert_eq!(encoded.capacity(), encoded.len(), "no room to spare");
        assert_eq!(Body::of(&record, record.version(), NOW).unwrap().0.len(), encoded.len() + HEAD);
    }

    #[test]
    fn activity_that_is_older_than_what_is_noted_changes_nothing() {
        let record = of(3);
        let mut body = Body::of(&record, record.version(), NOW).unwrap();
        for (noted, kept) in [(900, 1_000), (1_100, 1_100), (1_050, 1_100)] {
            body.note_seen(Timestamp::from_secs(noted)).unwrap();
            let record = body.record(record.handle()).unwrap();
            assert_eq!((record.seen(), record.version()), (Timestamp::from_secs(kept), Version::FIRST));
        }
    }
}
