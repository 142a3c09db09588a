//! Ready means that a login would work, and live that the process answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;
mod places;

use cloakroom_server::open::{self, Refused};
use cloakroom_server::serve;
use cloakroom_testkit::servers::{Postgres, PostgresSettings, Redis};

use crate::harness::application;
use crate::places::{Gateway, Place};

/// Whether somebody can log in.
async fn takes_logins(gateway: &Gateway) -> bool {
    let mut client = gateway.client();
    client.get("/").await;
    let answer = client.log_in("bob").await;
    let cookie = answer.field("set-cookie").is_some();
    assert_eq!(answer.status, if cookie { 200 } else { 503 }, "{answer:?}");
    cookie
}

/// Not ready while something is broken, in which no login works, and ready again after.
async fn follows(name: &str, gateway: &Gateway, broken: impl AsyncFnOnce(), mended: impl AsyncFnOnce()) {
    gateway.until_ready_is(200).await;
    assert!(takes_logins(gateway).await, "{name}: before");
    broken().await;
    gateway.until_ready_is(503).await;
    assert_eq!(gateway.client().get("/.cloakroom/live").await.status, 200, "{name}");
    assert!(!takes_logins(gateway).await, "{name}: not ready, and a login works");
    mended().await;
    gateway.until_ready_is(200).await;
    assert!(takes_logins(gateway).await, "{name}: after");
}

async fn patient(place: &Place) -> Gateway {
    let (upstream, _) = application().await;
    place.patient_gateway(upstream, "1s").await
}

#[tokio::test]
async fn a_gateway_whose_redis_is_a_replica_or_full_is_not_ready() {
    let (redis, other) = (Redis::start(&[]), Redis::start(&[]));
    let place = Place::new(redis.url(), "prefix");
    let gateway = patient(&place).await;
    let ask = |words: &[&str]| drop(redis.ask(words));
    let port = other.port().to_string();
    follows(
        "a replica",
        &gateway,
        async || ask(&["REPLICAOF", "127.0.0.1", &port]),
        async || ask(&["REPLICAOF", "NO", "ONE"]),
    )
    .await;
    follows(
        "full",
        &gateway,
        async || ask(&["CONFIG", "SET", "maxmemory", "1"]),
        async || ask(&["CONFIG", "SET", "maxmemory", "0"]),
    )
    .await;
}

#[tokio::test]
async fn a_gateway_whose_database_takes_no_sessions_is_not_ready() {
    let postgres = Postgres::start(PostgresSettings::new().fleeting());
    let place = Place::new(postgres.url(), "schema");
    open::migrate(&place.config("").sessions).await.unwrap();
    let gateway = patient(&place).await;
    let schema = place.options.split('"').nth(1).unwrap();
    let sql = |text: &str| drop(postgres.sql("postgres", text));
    // It arrives when it arrives; connections that are there keep what they have set.
    let server = |setting: &str, value: &str| {
        sql(&format!("ALTER SYSTEM SET {setting} = '{value}'"));
        sql("SELECT pg_reload_conf()");
        while postgres.sql("postgres", &format!("SHOW {setting}")) != value {}
        postgres.cut_connections();
    };
    follows(
        "no schema",
        &gateway,
        async || sql(&format!("DROP SCHEMA {schema} CASCADE")),
        async || {
            let _ = open::migrate(&place.config("").sessions).await.unwrap();
        },
    )
    .await;
    follows(
        "no rights to write",
        &gateway,
        async || sql(&format!("ALTER TABLE {schema}.sessions ADD CONSTRAINT none CHECK (false) NOT VALID")),
        async || sql(&format!("ALTER TABLE {schema}.sessions DROP CONSTRAINT none")),
    )
    .await;
    follows(
        "read-only",
        &gateway,
        async || server("default_transaction_read_only", "on"),
        async || server("default_transaction_read_only", "off"),
    )
    .await;
    follows(
        "a standby that is away",
        &gateway,
        async || server("synchronous_standby_names", "nobody"),
        async || server("synchronous_standby_names", ""),
    )
    .await;
}

#[tokio::test]
async fn a_gateway_whose_file_has_lost_its_table_is_not_ready() {
    let place = Place::sqlite().await;
    let (upstream, _) = application().await;
    let gateway = place.gateway(upstream, cloakroom::SystemClock).await;
    let sql = |text: &str| {
        rusqlite::Connection::open(place.folder.path().join("sessions.db"))
            .unwrap()
            .execute_batch(text)
            .unwrap();
    };
    follows(
        "no table",
        &gateway,
        async || sql("ALTER TABLE sessions RENAME TO gone"),
        async || sql("ALTER TABLE gone RENAME TO sessions"),
    )
    .await;
}

/// As after another store's backup was restored in its place.
#[tokio::test]
async fn r014_a_gateway_whose_store_is_under_a_pepper_that_it_does_not_have_is_not_ready() {
    let sqlite = Place::sqlite().await;
    let file = sqlite.folder.path().join("sessions.db");
    let change = |id: &str| {
        let change = format!("DELETE FROM peppers; INSERT INTO peppers VALUES (x'{id}')");
        rusqlite::Connection::open(&file).unwrap().execute_batch(&change).unwrap();
    };
    unknown(&sqlite, change).await;
    let postgres = Place::postgres().await;
    let schema = postgres.options.split('"').nth(1).unwrap().to_owned();
    let change = |id: &str| {
        let change = format!("UPDATE {schema}.peppers SET id = '\\x{id}'");
        Postgres::shared().sql("postgres", &change);
    };
    unknown(&postgres, change).await;
    let redis = Place::redis().await;
    let key = format!("{}:peppers", redis.options.split('"').nth(1).unwrap());
    let change = |id: &str| {
        let id: Vec<u8> = (0..8).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap()).collect();
        Redis::shared().ask(&["DEL", &key]);
        Redis::shared().try_ask(&[b"SADD", key.as_bytes(), &id]).unwrap();
    };
    unknown(&redis, change).await;
}

async fn unknown(place: &Place, change: impl Fn(&str)) {
    let (upstream, _) = application().await;
    let gateway = place.gateway(upstream, cloakroom::SystemClock).await;
    gateway.until_ready_is(200).await;
    change("0102030405060708");
    gateway.until_ready_is(503).await;
    change(&place.pepper_id("pepper"));
    gateway.until_ready_is(200).await;
}

#[tokio::test]
async fn r014_a_lost_pepper_is_never_replaced_beside_sessions_that_are_under_it() {
    let place = Place::sqlite().await;
    let (pepper, file) = (place.pepper(), place.folder.path().join("sessions.db"));
    let beside = "# no pepper_file";
    // That of the place is none of this kind.
    std::fs::remove_file(&pepper).unwrap();
    serve::open(&place.config(beside)).await.unwrap();
    let kept = std::fs::read(&pepper).unwrap();
    std::fs::remove_file(&pepper).unwrap();
    let (code, said) = place.says(&["serve"], beside);
    assert!(code == Some(1) && said.contains("is missing") && said.contains("restore"), "{said}");
    assert!(said.contains("move") && said.contains("sessions.db"), "{said}");
    assert!(!pepper.exists(), "one was made all the same");
    let listed = place.says(&["sessions", "list", "--subject", "alice"], beside);
    assert_eq!(listed.0, Some(0), "looking after sessions needs no pepper: {}", listed.1);
    // Another one is no better than none.
    std::fs::write(&pepper, [7; 32]).unwrap();
    let error = serve::open(&place.config(beside)).await.unwrap_err();
    assert!(error.is::<Refused>() && error.to_string().contains("another pepper"), "{error:#}");
    std::fs::write(&pepper, &kept).unwrap();
    serve::open(&place.config(beside)).await.unwrap();
    // A file that was never used is nobody's.
    for old in [&pepper, &file] {
        std::fs::remove_file(old).unwrap();
    }
    drop(cloakroom_sqlite::SqliteStore::open(&file).unwrap());
    serve::open(&place.config(beside)).await.unwrap();
}
