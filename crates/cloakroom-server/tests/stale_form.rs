//! A form that was open while somebody else signed in is not taken for the account after.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{Client, gateway, says};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=b";

/// The token that the application was told.
fn token(told: &str) -> String {
    let line = told.lines().find_map(|line| line.strip_prefix("session-csrf-token: ")).expect("a token");
    line.trim_matches('"').to_owned()
}

fn multipart(name: &str, value: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n--b--\r\n")
}

/// A browser in which bob signed in while a page of alice's was open, and the token of that page.
async fn after_alice(client: &mut Client) -> String {
    assert_eq!(client.log_in("alice").await.status, 200);
    let of_alice = token(&client.get("/").await.body);
    assert_eq!(client.log_in("bob").await.status, 200);
    of_alice
}

#[tokio::test]
async fn r079_a_form_of_the_account_before_is_not_saved_into_the_account_after() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    let of_alice = after_alice(&mut client).await;
    let of_bob = token(&client.get("/").await.body);
    let mut visitor = gateway.client();
    let of_nobody = token(&visitor.get(&says("/", &["Session-Csrf: ?1"])).await.body);
    gateway.take();
    gateway.log.take();
    for (whose, stale) in [("alice's", &of_alice), ("a visitor's", &of_nobody)] {
        let header = format!("X-Cloakroom-Csrf: {stale}");
        for (what, fields, body) in [
            ("a form", vec![FORM], format!("note=mine&cloakroom_csrf={stale}")),
            ("a form with files", vec![MULTIPART], multipart("cloakroom_csrf", stale)),
            ("a script", vec!["Content-Type: application/json", &header], "{}".to_owned()),
            ("a script with a form", vec![FORM, &header], format!("cloakroom_csrf={of_bob}")),
        ] {
            let answer = client.send("POST", "/notes", &fields, &body).await;
            assert_eq!(answer.status, 403, "{whose}, {what}");
            assert_eq!(gateway.log.take(), ["csrf_token_stale"], "{whose}, {what}");
        }
    }
    assert!(gateway.take().is_empty(), "nothing arrived");
    for page in ["/.cloakroom/sessions/end-others", "/.cloakroom/logout"] {
        let body = format!("cloakroom_csrf={of_alice}");
        assert_eq!(client.send("POST", page, &[FORM], &body).await.status, 403, "{page}");
        assert_eq!(gateway.log.take(), ["csrf_token_stale"], "{page}");
    }
    let body = format!("note=mine&cloakroom_csrf={of_bob}");
    assert_eq!(client.send("POST", "/notes", &[FORM], &body).await.status, 200);
    assert!(gateway.last().contains("session-subject: \"bob\"\n") && gateway.last().ends_with(&body));
    // Nobody is signed in: there is no account that it could be saved into.
    assert_eq!(client.told(&["Session-Logout: this"]).await.status, 200);
    assert_eq!(client.send("POST", "/notes", &[FORM], &body).await.status, 200);
}

#[tokio::test]
async fn r079_where_tokens_are_not_looked_at_none_is_stale() {
    let routes = "[[route]]\npath = \"/files\"\nsession = \"none\"\n\
                  [[route]]\npath = \"=/hook\"\nsession = \"none\"\nforgery = \"exempt\"\n";
    for (mode, path, status) in [
        ("verdict-or-token", "/", 403),
        ("verdict-and-token", "/", 403),
        ("verdict-only", "/", 200),
        ("verdict-or-token", "/files/a", 200),
        ("verdict-or-token", "/hook", 200),
    ] {
        let gateway = gateway(&format!("[csrf]\nmode = \"{mode}\"\n{routes}")).await;
        let mut client = gateway.client();
        let uses = says("/", &["Session-Csrf: ?1"]);
        let mut tokens = Vec::new();
        for name in ["alice", "bob"] {
            // Each signs in by a form that holds.
            let form = format!("cloakroom_csrf={}", token(&client.get(&uses).await.body));
            let login = says("/", &[&format!("Session-Login: \"{name}\"")]);
            assert_eq!(client.send("POST", &login, &[FORM], &form).await.status, 200, "{mode}");
            tokens.push(token(&client.get("/").await.body));
        }
        let stale = format!("cloakroom_csrf={}", tokens[0]);
        assert_eq!(client.send("POST", path, &[FORM], &stale).await.status, status, "{mode} {path}");
        assert_eq!(
            client.send("POST", "/", &[FORM], &stale.replace(&tokens[0], &tokens[1])).await.status,
            200
        );
    }
    let gateway = gateway("[csrf]\ninsecure_report_only = \"a test\"\n").await;
    let mut client = gateway.client();
    let of_alice = after_alice(&mut client).await;
    gateway.log.take();
    let stale = format!("cloakroom_csrf={of_alice}");
    assert_eq!(client.send("POST", "/", &[FORM], &stale).await.status, 200);
    assert_eq!(gateway.log.take(), ["csrf_report_only"]);
}

#[tokio::test]
async fn tokens_of_other_frameworks_pass_untouched() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    let of_alice = after_alice(&mut client).await;
    gateway.log.take();
    let django = "CsrfToken0CsrfToken1CsrfToken2CsrfToken3CsrfToken4CsrfToken5abcd";
    for (what, fields, body) in [
        ("django's", vec![FORM, "X-CSRFToken: abc"], format!("csrfmiddlewaretoken={django}&a=1")),
        ("rails'", vec![FORM, "X-CSRF-Token: a+b/c=="], "authenticity_token=a%2Bb%2Fc%3D%3D".to_owned()),
        ("of our shape under another's name", vec![FORM], format!("csrf_token={of_alice}")),
        ("likewise in a header", vec![&*format!("X-CSRF-Token: {of_alice}")], "{}".to_owned()),
        (
            "of another shape under our name",
            vec![FORM, "X-Cloakroom-Csrf: abc"],
            "cloakroom_csrf=abc".to_owned(),
        ),
        ("none", vec![MULTIPART], multipart("note", &"x".repeat(100_000))),
    ] {
        assert_eq!(client.send("POST", "/notes", &fields, &body).await.status, 200, "{what}");
        let told = gateway.last();
        assert_eq!(told.split_once("\n\n").unwrap().1, body, "{what}");
        for field in fields {
            let (name, value) = field.split_once(": ").unwrap();
            assert!(told.contains(&format!("{}: {value}\n", name.to_lowercase())), "{what}: {told}");
        }
        assert!(gateway.log.take().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn the_names_can_be_chosen() {
    let gateway = gateway("[csrf]\nfield = \"form_token\"\nheader = \"X-Form-Token\"\n").await;
    let mut client = gateway.client();
    let of_alice = after_alice(&mut client).await;
    let header = format!("X-Form-Token: {of_alice}");
    assert_eq!(client.send("POST", "/", &[FORM], &format!("form_token={of_alice}")).await.status, 403);
    assert_eq!(client.ask("POST", "/", &[&header]).await.status, 403);
    assert_eq!(client.send("POST", "/", &[FORM], &format!("cloakroom_csrf={of_alice}")).await.status, 200);
    let page = client.get("/.cloakroom/sessions").await.body;
    assert!(page.contains("name=\"form_token\"") && !page.contains("cloakroom_csrf"), "{page}");

    let text =
        "upstream = \"http://127.0.0.1:1\"\nstore = \"memory\"\n[csrf]\nfield = \"a b\"\nheader = \"Cookie\"";
    let raw = cloakroom_server::config::Raw::parse(text).unwrap();
    let said = cloakroom_server::config::Config::check(raw).unwrap_err().to_string();
    assert!(said.contains("csrf.field") && said.contains("csrf.header"), "{said}");
}

#[tokio::test]
async fn r072_what_a_route_demands_is_judged_before_a_forms_token() {
    let gateway = gateway("[[route]]\npath = \"/account\"\nrequire = \"authenticated\"\n").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let of_alice = token(&client.get("/").await.body);
    client.told(&["Session-Logout: this"]).await;
    let body = format!("cloakroom_csrf={of_alice}");
    for (what, site) in [("a browser of today", "Sec-Fetch-Site: same-origin"), ("one of old", "No-Site: 1")]
    {
        let fields = [FORM, site, "Accept: text/html", "Cookie: __Host-Http-sid=gone"];
        let answer = client.send("POST", "/account/save", &fields, &body).await;
        assert_eq!((answer.status, answer.field("location").is_some()), (303, true), "{what}: {answer:?}");
    }
    let answer = client.send("POST", "/account/save", &[FORM], &body).await;
    assert_eq!(answer.status, 401, "a script");
}
