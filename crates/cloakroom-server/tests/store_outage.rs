//! The store fails: what needs a session is refused, what does not goes on, and nothing is taken for "no session".
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{Gateway, gateway, says};

fn run(gateway: &Gateway, sql: &str) {
    let store = rusqlite::Connection::open(gateway.folder.path().join("sessions.db")).unwrap();
    store.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn r070_r114_without_a_store_nobody_passes_for_anonymous_and_static_files_still_come() {
    let toml = "[[route]]\npath = \"/static\"\nsession = \"none\"\n\
                [[route]]\npath = \"/account\"\nrequire = \"authenticated\"";
    let gateway = gateway(toml).await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let cookie = client.cookie.clone();
    gateway.take();
    run(&gateway, "ALTER TABLE sessions RENAME TO gone");
    for (method, path) in [
        ("GET", "/"),
        ("POST", "/"),
        ("GET", "/account"),
        ("GET", "/.cloakroom/sessions"),
        ("POST", "/.cloakroom/logout"),
    ] {
        let answer = client.ask(method, path, &["Sec-Fetch-Mode: navigate"]).await;
        assert_eq!(answer.status, 503, "{method} {path}: {answer:?}");
        assert!(answer.field("retry-after").is_some() && answer.field("set-cookie").is_none(), "{answer:?}");
        assert_eq!(answer.field("clear-site-data"), None, "{method} {path}");
        let said = answer.body.to_lowercase();
        assert!(!said.contains("sql") && !said.contains("sessions.db") && !said.contains("alice"), "{said}");
    }
    assert!(gateway.take().is_empty(), "the application was asked nothing");
    assert_eq!(client.get("/static/x").await.status, 200);
    run(&gateway, "ALTER TABLE gone RENAME TO sessions");
    assert_eq!((client.get("/account").await.status, client.cookie), (200, cookie), "nobody was signed out");
}

#[tokio::test]
async fn r053_r070_a_login_that_cannot_be_kept_is_a_503_without_a_cookie() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.get("/").await;
    run(&gateway, "ALTER TABLE sessions RENAME TO gone");
    let answer = client.log_in("alice").await;
    assert_eq!((answer.status, answer.field("set-cookie")), (503, None), "{answer:?}");
    assert!(answer.field("retry-after").is_some() && !answer.body.contains("alice"), "{answer:?}");
    let answer = client.told(&["Session-Set: a=\"1\""]).await;
    assert_eq!((answer.status, answer.field("set-cookie")), (503, None), "{answer:?}");
    let answer = client.get(&says("/", &[])).await;
    assert_eq!(answer.status, 200, "a visitor without cookie needs no store");
}

#[tokio::test]
async fn r070_a_logout_that_was_not_carried_out_is_not_said_to_have_been() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    run(
        &gateway,
        "CREATE TRIGGER stuck BEFORE UPDATE OF ended ON sessions BEGIN SELECT RAISE(ABORT, 'stuck'); END",
    );
    for lines in
        [&["303", "Location: /", "Session-Logout: this"][..], &["Session-Logout: this", "Session-Bad: 1"]]
    {
        let answer = client.told(lines).await;
        assert_eq!((answer.status, answer.field("location")), (503, None), "{answer:?}");
        assert!(
            answer.field("set-cookie").is_none(),
            "the cookie stays, or nobody could try again: {answer:?}"
        );
    }
    run(&gateway, "DROP TRIGGER stuck");
    client.told(&["Session-Logout: this"]).await;
    assert_eq!(client.cookie, None);
}
