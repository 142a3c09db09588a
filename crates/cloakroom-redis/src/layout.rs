//! What the keys are called, and how a session is written down. The scripts know the same layout (`scripts/common.lua`).

use std::sync::Arc;
use std::time::Duration;

use cloakroom_core::clock::Timestamp;
use cloakroom_core::record::{Record, RecordError, Subject, Version};
use cloakroom_core::store::{Found, Reason, StoreError, Tombstone};
use cloakroom_core::token::{HANDLE_LEN, Handle};

/// A live session, and what is left of an ended one. A newer layout takes another number, so that this version refuses it.
const LIVE: u8 = 1;
const ENDED: u8 = 2;
/// The largest number that Lua compares exactly. Times beyond it (the year 287396) are as good as never.
const EXACT_MAX: u64 = (1 << 53) - 1;

/// The names of all keys and of the channel.
///
/// Everything of one tag has the tag in braces, which puts it into one slot of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// Where the sessions of a tag are; the handle's bytes follow.
    pub(crate) fn session_prefix(&self, tag: u16) -> Vec<u8> {
        self.of(tag, "s")
    }

    pub(crate) fn session(&self, handle: Handle) -> Vec<u8> {
        joined(self.of(handle.tag(), "s"), handle.as_bytes())
    }

    /// Where the indexes of a tag's subjects are; the subject follows.
    pub(crate) fn index_prefix(&self, tag: u16) -> Vec<u8> {
        self.of(tag, "u")
    }

    pub(crate) fn index(&self, tag: u16, subject: &Subject) -> Vec<u8> {
        joined(self.of(tag, "u"), subject.as_str().as_bytes())
    }

    pub(crate) fn epoch(&self, tag: u16, subject: &Subject) -> Vec<u8> {
        joined(self.of(tag, "e"), subject.as_str().as_bytes())
    }

    /// The epoch of everybody, as far as the subjects of a tag go: in the place of a subject that is empty, as none is.
    pub(crate) fn everybody(&self, tag: u16) -> Vec<u8> {
        self.of(tag, "e")
    }

    /// What the names of all sessions match, for `SCAN`. Nothing in a prefix has a meaning of its own there.
    pub(crate) fn all_sessions(&self) -> Vec<u8> {
        format!("{}:{{????}}:s:*", self.prefix).into_bytes()
    }

    /// The handle in the name of a session's key; `None` if it is not such a name.
    pub(crate) fn handle_in(&self, key: &[u8]) -> Option<Handle> {
        let (_, handle) = key.split_last_chunk::<HANDLE_LEN>()?;
        let handle = Handle::from_bytes(*handle);
        (self.session(handle) == key).then_some(handle)
    }

    /// Three keys that are written and removed again when the store is opened.
    pub(crate) fn checks(&self, tag: u16) -> [Vec<u8>; 3] {
        ["c1", "c2", "c3"].map(|kind| self.of(tag, kind))
    }

    pub(crate) fn peppers(&self) -> Vec<u8> {
        format!("{}:peppers", self.prefix).into_bytes()
    }

    pub(crate) fn channel(&self) -> String {
        format!("{}:ended", self.prefix)
    }

    fn of(&self, tag: u16, kind: &str) -> Vec<u8> {
        format!("{}:{{{tag:04x}}}:{kind}:", self.prefix).into_bytes()
    }
}

fn joined(mut left: Vec<u8>, right: &[u8]) -> Vec<u8> {
    left.extend_from_slice(right);
    left
}

/// The slot that a cluster keeps a tag's keys in.
pub(crate) fn slot_of_tag(tag: u16) -> u16 {
    slot(format!("{tag:04x}").as_bytes())
}

/// The slot of a key without braces.
pub(crate) fn slot(text: &[u8]) -> u16 {
    // CRC-16/XMODEM, as the cluster specification has it.
    let crc = text.iter().fold(0_u16, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16384
}

/// A record as the scripts take it: what comes before the last activity, the last activity, and what comes after.
pub(crate) struct Encoded {
    pub(crate) before: [u8; 9],
    pub(crate) seen: [u8; 8],
    pub(crate) after: Vec<u8>,
}

impl Encoded {
    pub(crate) fn new(record: &Record, version: Version) -> Result<Self, RecordError> {
        let body = record.encode()?;
        // The reason and the time are those of the end, when it comes.
        let tombstone = Tombstone::of(record, Reason::LoggedOut, Timestamp::EPOCH).encode();
        let subject = record.subject().map_or("", Subject::as_str);
        let mut after = Vec::with_capacity(27 + subject.len() + tombstone.len() + body.len());
        after.extend_from_slice(&exact(record.created().as_millis()));
        after.extend_from_slice(&exact(millis(record.idle_limit())));
        after.extend_from_slice(&exact(record.absolute_limit().as_millis()));
        after.push(u8::try_from(subject.len()).map_err(|_| RecordError::Broken)?);
        after.extend_from_slice(subject.as_bytes());
        let length = u16::try_from(tombstone.len()).map_err(|_| RecordError::Broken)?;
        after.extend_from_slice(&length.to_be_bytes());
        after.extend_from_slice(&tombstone);
        after.extend_from_slice(&body);
        let mut before = [LIVE; 9];
        before.iter_mut().skip(1).zip(version.number().to_be_bytes()).for_each(|(to, from)| *to = from);
        Ok(Self { before, seen: exact(record.seen().as_millis()), after })
    }
}

/// A number for the scripts to reckon with.
pub(crate) fn exact(number: u64) -> [u8; 8] {
    number.min(EXACT_MAX).to_be_bytes()
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The reason and the time of an end, as an ended session holds them.
pub(crate) fn stamp(reason: Reason, at: Timestamp) -> [u8; 9] {
    let mut stamp = [reason.code(); 9];
    stamp.iter_mut().skip(1).zip(at.as_millis().to_be_bytes()).for_each(|(to, from)| *to = from);
    stamp
}

/// What lies under a session's key.
pub(crate) fn read(handle: Handle, bytes: &[u8]) -> Result<Found, StoreError> {
    let mut rest = Reader(bytes);
    match rest.byte() {
        Some(LIVE) => live(handle, rest).map(Found::Live),
        Some(ENDED) => {
            let stamp = rest.byte().and_then(Reason::from_code).zip(rest.number());
            let (reason, at) = stamp.ok_or_else(|| broken("the stamp of an ended session"))?;
            let tombstone = Tombstone::decode(rest.0)?;
            Ok(Found::Ended(tombstone.stamped(reason, Timestamp::from_millis(at))))
        }
        Some(kind) => {
            Err(StoreError::corrupt(format!("an entry is of kind {kind}, which this version does not know")))
        }
        None => Err(broken("an empty entry")),
    }
}

fn live(handle: Handle, mut rest: Reader<'_>) -> Result<Record, StoreError> {
    let parts = (|| {
        let version = rest.number()?;
        let seen = rest.number()?;
        // Creation and limits are for the scripts; the body has the truth.
        rest.take(24)?;
        let subject = rest.byte()?;
        let subject = rest.take(usize::from(subject))?;
        let tombstone = u16::from_be_bytes(*rest.take(2)?.first_chunk()?);
        rest.take(usize::from(tombstone))?;
        Some((Version::from_number(version), Timestamp::from_millis(seen), subject))
    })();
    let (version, seen, subject) = parts.ok_or_else(|| broken("the head of a session"))?;
    let record = Record::decode(handle, version, seen, rest.0)?;
    // The head answers the question whose it is, the body answers for the session. They cannot differ unless somebody else wrote.
    if record.subject().map_or("", Subject::as_str).as_bytes() != subject {
        return Err(StoreError::corrupt("a session is indexed under another subject than its own"));
    }
    Ok(record)
}

/// Handles that follow each other without anything between them.
pub(crate) fn read_handles(bytes: &[u8]) -> Result<Vec<Handle>, StoreError> {
    let (handles, rest) = bytes.as_chunks::<HANDLE_LEN>();
    if !rest.is_empty() {
        return Err(broken("a list of handles"));
    }
    Ok(handles.iter().copied().map(Handle::from_bytes).collect())
}

fn broken(what: &str) -> StoreError {
    StoreError::corrupt(format!("{what} cannot be read"))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().copied().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        // The check value of CRC-16/XMODEM, and what CLUSTER KEYSLOT answers.
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn all_keys_of_a_subject_have_its_tag_in_braces() {
        let (keys, alice) = (Keys::new("shop"), Subject::new("al{ic}e").unwrap());
        let tag = Handle::tag_of(&alice);
        let braces = format!("shop:{{{tag:04x}}}:");
        let names = [
            keys.index(tag, &alice),
            keys.epoch(tag, &alice),
            keys.everybody(tag),
            keys.session_prefix(tag),
            keys.index_prefix(tag),
        ];
        for name in names.iter().chain(&keys.checks(tag)) {
            assert!(name.starts_with(braces.as_bytes()), "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn a_handle_is_taken_from_the_name_of_a_session_and_from_no_other() {
        let (keys, alice) = (Keys::new("shop"), Subject::new("alice and sixteen more").unwrap());
        let handle = Handle::from_bytes([7; 16]);
        assert_eq!(keys.handle_in(&keys.session(handle)), Some(handle));
        let tag = handle.tag();
        let others = [keys.index(tag, &alice), keys.everybody(tag), keys.session_prefix(tag), Vec::new()];
        for other in others.into_iter().chain([Keys::new("other").session(handle)]) {
            assert_eq!(keys.handle_in(&other), None, "{}", String::from_utf8_lossy(&other));
        }
    }

    #[test]
    fn r070_what_cannot_be_read_is_never_taken_for_absent() {
        let handle = Handle::from_bytes([1; 16]);
        let cases: [&[u8]; 8] = [
            b"",
            b"\0",
            b"\x01",
            b"\x02",
            b"\x02\x63\0\0\0\0\0\0\0\0",
            b"\x02\x01\0\0",
            b"\x03anything",
            &[1; 60],
        ];
        for bytes in cases {
            assert!(read(handle, bytes).is_err(), "{bytes:?}");
        }
        assert!(read_handles(&[0; 33]).is_err());
        assert_eq!(read_handles(&[0; 32]).unwrap().len(), 2);
    }
}
