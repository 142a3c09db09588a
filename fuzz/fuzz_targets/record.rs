//! Decoding a record or a tombstone never panics; what decodes encodes to one form; and no made-up record opens.
#![no_main]

use cloakroom_core::clock::Timestamp;
use cloakroom_core::engine::{Engine, Facts};
use cloakroom_core::record::{Record, Version};
use cloakroom_core::store::{Found, Reason, Tombstone};
use cloakroom_core::token::{Handle, Token};
use libfuzzer_sys::fuzz_target;

const TOKEN: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fuzz_target!(|data: &[u8]| {
    let handle = Handle::from_bytes([0; 16]);
    let now = Timestamp::from_secs(1_800_000_000);
    let decode = |bytes: &[u8]| Record::decode(handle, Version::FIRST, now, bytes);
    if let Ok(record) = decode(data) {
        let encoded = record.encode().expect("what decodes encodes");
        let again = decode(&encoded).expect("what was encoded decodes");
        assert_eq!(again, record);
        assert_eq!(again.encode().expect("what decodes encodes"), encoded);
        let _ = (format!("{record:?}"), record.deadline(), record.presented());
        let tombstone = Tombstone::of(&record, Reason::Revoked, now);
        let bytes = tombstone.encode();
        assert_eq!(Tombstone::decode(&bytes).expect("a tombstone decodes"), tombstone);

        let engine = Engine::default();
        let field = format!("{}={TOKEN}", engine.cookie().name());
        let presented = engine.present([field.as_bytes()]);
        assert_eq!(presented.handles().next(), Token::parse(TOKEN.as_bytes()).map(|token| token.handle()));
        if let Ok(resumed) = engine.resume(&presented, vec![Found::Live(record)], Facts::default(), now) {
            assert!(resumed.record().is_none(), "a record that nobody sealed was honoured");
        }
    }
    if let Ok(tombstone) = Tombstone::decode(data) {
        let encoded = tombstone.encode();
        assert_eq!(Tombstone::decode(&encoded).expect("what was encoded decodes"), tombstone);
    }
});
