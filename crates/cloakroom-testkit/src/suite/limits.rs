use std::time::Duration;

use cloakroom_core::client::Client;
use cloakroom_core::lifecycle::establish::Draft;
use cloakroom_core::record::{RECORD_MAX, Record};
use cloakroom_core::store::{AtCap, Found, Inserted, Replaced, StoreErrorKind};

use super::*;

fn with_data(maker: &Maker, subject: Option<&Subject>, data: Vec<u8>) -> Record {
    maker.seal(Draft { data, ..draft(subject, at(0)) })
}

/// The longest subject is kept whole, and told from one that differs in its last byte.
pub fn the_longest_subject_is_kept_whole<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let (first, second) =
            (subject(&format!("{}a", "s".repeat(254))), subject(&format!("{}b", "s".repeat(254))));
        let unicode = subject(&"é".repeat(127));
        for whose in [&first, &second, &unicode] {
            let record = maker.session(Some(whose), at(0));
            put(store, &record).await;
            assert_live(store, &record).await;
            assert_eq!(listed(store, whose).await, [record.handle()]);
        }
    });
}

/// Data may be empty, hold every byte, and be as long as a record allows.
pub fn data_of_any_content_and_length_comes_back_unchanged<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let spare = with_data(&maker, None, Vec::new());
        // What a large record takes besides its data; lengths that need a longer prefix are left some room.
        let overhead = spare.encode().unwrap().len() + 8;
        let every_byte: Vec<u8> = (0..=u8::MAX).cycle().take(70_000).collect();
        for data in [Vec::new(), vec![0], every_byte, vec![0xa5; RECORD_MAX - overhead]] {
            let record = with_data(&maker, None, data);
            put(store, &record).await;
            assert_live(store, &record).await;
            let next = under(&record, &with_data(&maker, None, vec![0; 5000]));
            let answer = store.replace(record.version(), next.clone()).await.expect("replace");
            assert_eq!(answer, Replaced::Replaced);
            assert_live(store, &next.replacing(record.version(), at(0))).await;
        }
    });
}

/// A handle is 16 bytes of any value, and none is mistaken for another.
pub fn handles_of_any_bytes_are_told_apart<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker) = (fixture.store(), Maker::new(line!()));
        let body = maker.session(None, at(0)).encode().unwrap();
        let mut handles = vec![[0; 16], [255; 16], *b"a'; DROP TABLE--", *b"{}*?[^:]\r\n\t\0\\\"%_"];
        handles.extend((0..16).map(|place| std::array::from_fn(|byte| u8::from(byte == place))));
        let records: Vec<_> = handles
            .into_iter()
            .map(|handle| {
                Record::decode(Handle::from_bytes(handle), Default::default(), at(0), &body).unwrap()
            })
            .collect();
        for record in &records {
            put(store, record).await;
        }
        for record in &records {
            assert_live(store, record).await;
        }
    });
}

/// A record above 1 MiB is the caller's fault, and nothing of it is stored.
pub fn a_record_above_one_mebibyte_is_refused_and_nothing_is_stored<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let first = maker.session(Some(&alice), at(0));
        put(store, &first).await;
        let large = with_data(&maker, Some(&alice), vec![1; RECORD_MAX + 1]);
        // Nobody may be evicted for it either.
        let refused = store.insert(large.clone(), capped(at(1), 1, AtCap::EvictOldest)).await;
        assert_eq!(refused.expect_err("a record too large was stored").kind(), StoreErrorKind::TooLarge);
        assert_eq!(find(store, large.handle()).await, Found::Absent);
        assert_eq!(listed(store, &alice).await, [first.handle()]);

        let refused = store.replace(first.version(), large_body(&maker, &first)).await;
        assert_eq!(refused.expect_err("a record too large was stored").kind(), StoreErrorKind::TooLarge);
        assert_live(store, &first).await;
    });
}

/// A record of the same handle that is too large to encode, so it cannot go through [`under`]. Sealing draws the handle from the
/// entropy, so the same seed gives the same handle.
fn large_body(maker: &Maker, of: &Record) -> Record {
    let again = Maker::new(maker.seed);
    let large = with_data(&again, of.subject(), vec![1; RECORD_MAX + 1]);
    assert_eq!(large.handle(), of.handle(), "the first record of a maker has the first handle");
    large
}

/// Limits that lie beyond the end of time never pass.
pub fn limits_beyond_the_end_of_time_never_pass<F: Fixture>(fixture: &F) {
    fixture.run(async {
        let (store, maker, alice) = (fixture.store(), Maker::new(line!()), subject("alice"));
        let endless = Draft {
            subject: Some((alice.clone(), Default::default())),
            created: at(0),
            idle: Duration::MAX,
            absolute: Duration::MAX,
            client: Client::default(),
            data: Vec::new(),
        };
        let record = maker.seal(endless);
        put(store, &record).await;
        let millennium = Duration::from_secs(1000 * 365 * 24 * 3600);
        let far = at(0).plus(millennium);
        if fixture.expiry() != Expiry::Swept {
            fixture.pass(millennium);
        }
        let report = store.sweep(far, sweeping::limits(10)).await.expect("sweep");
        assert_eq!(report.swept, []);
        assert_live(store, &record).await;
        store.touch(record.handle(), at(1)).await.expect("touch");
        // It counts under a cap, too.
        let second = maker.session(Some(&alice), far);
        let answer = store.insert(second, capped(far, 1, AtCap::Deny)).await.expect("insert");
        assert_eq!(answer, Inserted::CapReached);
    });
}
