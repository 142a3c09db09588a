//! Ends that are heard of in another process, the time, and peppers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports by panicking"
)]

mod support;

use std::time::Duration;

use cloakroom_core::record::Record;
use cloakroom_core::seal::PepperId;
use cloakroom_core::store::{
    Admission, AtCap, BySubject, Cap, EndNotice, Inserted, PepperClaim, Reason, Shared, Store, Sweep,
};
use cloakroom_testkit::servers::{Postgres, PostgresSettings};
use support::*;

fn ends(records: &[Record]) -> Vec<EndNotice> {
    records.iter().map(|record| EndNotice::Ended(record.handle())).collect()
}

#[test]
fn r059_an_end_is_heard_of_in_another_process_however_it_came() {
    runtime().block_on(async {
        let (options, store) = fresh(|options| options).await;
        let other = options.connect().await.unwrap();
        let (heard, ours) = listener();
        other.on_end(ours);
        // Whoever begins to listen may have missed something before.
        heard.wait_for(EndNotice::Missed).await;
        let (heard_at_home, ours) = listener();
        store.on_end(ours);
        heard_at_home.wait_for(EndNotice::Missed).await;
        heard.forget();

        let records = sessions(Some(&alice()), 6, 1);
        for record in &records[..5] {
            assert_eq!(store.insert(record.clone(), admission()).await.unwrap(), admitted());
        }
        store.remove(records[0].handle(), Reason::LoggedOut, NOW).await.unwrap();
        heard.wait_for(EndNotice::Ended(records[0].handle())).await;
        // None of these ends anything.
        store.remove(records[0].handle(), Reason::LoggedOut, NOW).await.unwrap();
        store.touch(records[1].handle(), NOW.plus(Duration::from_secs(1))).await.unwrap();
        store.replace(records[1].version(), records[1].clone()).await.unwrap();
        assert_eq!(heard.all(), ends(&records[..1]));

        let cap = Some(Cap { max: 4, at_cap: AtCap::EvictOldest });
        let Inserted::Inserted { evicted } =
            store.insert(records[5].clone(), Admission { cap, ..admission() }).await.unwrap()
        else {
            panic!("refused")
        };
        heard.wait_for(EndNotice::Ended(evicted[0])).await;

        let all = store.remove_all(&alice(), Some(records[5].handle()), Reason::Revoked, NOW).await.unwrap();
        for handle in &all.ended {
            heard.wait_for(EndNotice::Ended(*handle)).await;
        }
        store.sweep(NOW.plus(Duration::from_secs(7200)), limits(10)).await.unwrap();
        heard.wait_for(EndNotice::Ended(records[5].handle())).await;
        // Each once, and heard in the process that ended it too.
        assert_eq!(heard.all().len(), 6);
        heard_at_home.wait_until(|heard| heard.len() == 7).await;
    });
}

#[test]
fn a_thousand_ends_at_once_are_all_heard_of() {
    runtime().block_on(async {
        let (options, store) = fresh(|options| options).await;
        let (heard, ours) = listener();
        options.connect().await.unwrap().on_end(ours);
        // The store that listened has gone, and its task with it; this one stays.
        let other = fresh(|options| options).await;
        drop(other);
        let listening = store.clone();
        let (heard_here, ours) = listener();
        listening.on_end(ours);
        heard_here.wait_for(EndNotice::Missed).await;
        let records = sessions(Some(&alice()), 1000, 1);
        for record in &records {
            store.insert(record.clone(), admission()).await.unwrap();
        }
        store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap();
        heard_here.wait_until(|heard| heard.len() == 1001).await;
        let wanted = ends(&records);
        assert!(wanted.iter().all(|notice| heard_here.all().contains(notice)));
        drop(heard);
    });
}

#[test]
fn what_was_not_committed_is_not_announced() {
    runtime().block_on(async {
        let schema = unique("silent");
        let (_, store) = fresh(|options| options.schema(&schema)).await;
        let (heard, ours) = listener();
        store.on_end(ours);
        heard.wait_for(EndNotice::Missed).await;
        heard.forget();
        let records = sessions(Some(&alice()), 3, 1);
        for record in &records[..2] {
            store.insert(record.clone(), admission()).await.unwrap();
        }
        // Fails after the eviction and its announcement, before the commit.
        Postgres::shared().sql(
            "postgres",
            &format!(
                "CREATE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
                 CREATE TRIGGER fail BEFORE INSERT ON {schema}.sessions FOR EACH ROW EXECUTE FUNCTION {schema}.fail()"
            ),
        );
        let cap = Some(Cap { max: 2, at_cap: AtCap::EvictOldest });
        assert!(store.insert(records[2].clone(), Admission { cap, ..admission() }).await.is_err());
        assert_eq!(store.list(&alice()).await.unwrap().len(), 2);
        // What comes after is heard after, so the first would have been heard by now.
        store.remove(records[0].handle(), Reason::LoggedOut, NOW).await.unwrap();
        heard.wait_until(|heard| !heard.is_empty()).await;
        assert_eq!(heard.all(), ends(&records[..1]));
    });
}

#[test]
fn a_channel_that_was_down_says_so_and_comes_back() {
    let server = Postgres::start(PostgresSettings::new().fleeting());
    runtime().block_on(async {
        let (_, store) = prepared(options_on(&server)).await;
        let (heard, ours) = listener();
        store.on_end(ours);
        heard.wait_for(EndNotice::Missed).await;
        for round in 1..=2 {
            heard.forget();
            tokio::task::block_in_place(|| {
                if round == 1 {
                    server.cut_connections();
                } else {
                    server.kill();
                    server.start_again();
                }
            });
            // Once when it broke, once when it was there again.
            heard.wait_until(|heard| heard == [EndNotice::Missed; 2]).await;
            let record = session(None, round);
            while store.insert(record.clone(), admission()).await.is_err() {
                tokio::task::yield_now().await;
            }
            store.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap();
            heard.wait_for(EndNotice::Ended(record.handle())).await;
        }
    });
}

#[test]
fn the_listening_connection_goes_with_the_last_clone_of_the_store() {
    let server = Postgres::shared();
    runtime().block_on(async {
        let application = unique("listener");
        let url = format!("{}?application_name={application}", server.url());
        let options = cloakroom_postgres::PostgresOptions::parse(&url).unwrap().schema(unique("gone"));
        let (_, store) = prepared(options).await;
        let (heard, ours) = listener();
        store.on_end(ours);
        heard.wait_for(EndNotice::Missed).await;
        let connections = || {
            let sql =
                format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}'");
            server.sql("postgres", &sql)
        };
        assert_ne!(connections(), "0");
        let clone = store.clone();
        drop(store);
        let record = session(None, 1);
        clone.insert(record.clone(), admission()).await.unwrap();
        clone.remove(record.handle(), Reason::LoggedOut, NOW).await.unwrap();
        heard.wait_for(EndNotice::Ended(record.handle())).await;
        drop(clone);
        for _ in 0..10_000 {
            if connections() == "0" {
                return;
            }
        }
        panic!("connections are left");
    });
}

#[test]
fn the_time_is_the_servers() {
    runtime().block_on(async {
        let (_, store) = fresh(|options| options).await;
        let clock = || -> u64 {
            let sql = "SELECT trunc(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
            Postgres::shared().sql("postgres", sql).parse().unwrap()
        };
        let before = clock();
        let time = store.time().await.unwrap().unwrap().as_millis();
        // Rounded, so up to a millisecond later.
        assert!(before <= time && time <= clock() + 1, "{before} {time}");
    });
}

#[test]
fn r059_a_server_with_another_pepper_is_told_that_it_is_foreign() {
    runtime().block_on(async {
        let (_, store) = fresh(|options| options).await;
        let [a, b, c] = [1, 2, 3].map(|n| PepperId::from_bytes([n; 8]));
        assert_eq!(store.claim_pepper(a, &[a]).await.unwrap(), PepperClaim::Accepted);
        assert_eq!(store.claim_pepper(a, &[a]).await.unwrap(), PepperClaim::Accepted);
        let foreign = PepperClaim::Foreign { known: vec![a] };
        assert_eq!(store.claim_pepper(b, &[b]).await.unwrap(), foreign);
        // Nothing was noted.
        assert_eq!(store.claim_pepper(b, &[b]).await.unwrap(), foreign);
        // One that knows the old one brings its new one along.
        assert_eq!(store.claim_pepper(b, &[b, a]).await.unwrap(), PepperClaim::Accepted);
        assert_eq!(store.claim_pepper(b, &[b]).await.unwrap(), PepperClaim::Accepted);
        assert_eq!(store.claim_pepper(c, &[c]).await.unwrap(), PepperClaim::Foreign { known: vec![a, b] });
    });
}

#[test]
fn of_two_servers_with_different_peppers_that_start_at_once_one_is_foreign() {
    runtime().block_on(async {
        for _ in 0..10 {
            let (_, store) = fresh(|options| options).await;
            let claims: Vec<_> = (1..=8)
                .map(|n| {
                    let (store, id) = (store.clone(), PepperId::from_bytes([n; 8]));
                    tokio::spawn(async move { store.claim_pepper(id, &[id]).await.unwrap() })
                })
                .collect();
            let mut accepted = 0;
            for claim in claims {
                accepted += usize::from(claim.await.unwrap() == PepperClaim::Accepted);
            }
            assert_eq!(accepted, 1);
        }
    });
}
