//! What whoever asked is told when there is no answer of the application.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{Answer, Client, Gateway, Scripted, gateway, gateway_before, says};

const BROWSER: &str = "Sec-Fetch-Mode: navigate";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const SILENT: &str = "No-Site: 1";

/// A member of a problem.
fn member(answer: &Answer, name: &str) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_str(answer.body.trim()).expect(&answer.body);
    problem.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn assert_problem(what: &str, answer: &Answer, status: u16, cause: &str) {
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{what}");
    assert_eq!(answer.field("cache-control"), Some("no-store"), "{what}");
    assert_eq!(member(answer, "cause").as_deref(), Some(cause), "{what}");
    assert_eq!(member(answer, "status"), Some(status.to_string()), "{what}");
    assert!(member(answer, "title").is_some() && member(answer, "detail").is_some(), "{what}");
}

async fn token(gateway: &Gateway, client: &mut Client) -> String {
    client.get("/").await;
    let told = gateway.last();
    let line = told.lines().find_map(|line| line.strip_prefix("session-csrf-token: ")).unwrap();
    line.trim_matches('"').to_owned()
}

#[tokio::test]
async fn each_cause_is_told_by_its_own_name_and_never_put_on_the_application() {
    let toml = "[[route]]\npath = \"/account\"\nrequire = \"authenticated\"\n\
                [[route]]\npath = \"/account/delete\"\nrequire = \"recent\"\n";
    let gateway = gateway(toml).await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let of_alice = token(&gateway, &mut client).await;
    client.log_in("bob").await;
    let (stale, long) = (format!("cloakroom_csrf={of_alice}"), format!("a={}", "x".repeat(70_000)));
    let (login, logout) = (says("/", &["Session-Login: \"eve\""]), says("/", &["Session-Logout: this"]));
    let embedded = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"];
    for (method, path, fields, body, status, cause) in [
        ("GET", "/a%2fb", &[][..], "", 400, "path"),
        ("TRACE", "/", &[], "", 405, "method"),
        ("GET", "/.cloakroom/nothing", &[], "", 404, "not-found"),
        ("GET", "/.cloakroom/logout", &[], "", 405, "method"),
        ("POST", "/", &["Sec-Fetch-Site: cross-site"], "", 403, "elsewhere"),
        ("POST", "/", &[SILENT, "Origin: null"], "", 403, "elsewhere"),
        ("GET", "/account", &embedded, "", 403, "embedded"),
        ("POST", "/", &[SILENT], "", 403, "token"),
        ("POST", "/", &[SILENT, FORM], &long, 403, "token-too-far"),
        ("POST", "/", &[FORM], &stale, 403, "stale-form"),
        ("GET", &login, &[], "", 502, "command"),
        ("GET", &logout, &[], "", 403, "logout-by-link"),
        ("POST", "/.cloakroom/csp-report", &["Content-Type: text/plain"], "x", 415, "media-type"),
    ] {
        let answer = client.send(method, path, fields, body).await;
        assert_problem(&format!("{method} {path} {fields:?}"), &answer, status, cause);
        assert!(!answer.body.contains("is not answering"), "{}", answer.body);
        assert_eq!(answer.field("content-language"), Some("en"));
    }
    let mut stranger = gateway.client();
    assert_problem("nobody", &stranger.get("/account").await, 401, "sign-in");
    gateway.advance(400);
    assert_problem("long ago", &client.get("/account/delete").await, 401, "sign-in-again");
    let page = client.ask("GET", "/.cloakroom/nothing", &[BROWSER]).await;
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
}

#[tokio::test]
async fn r114_absent_expired_ended_and_forged_are_told_the_same() {
    let gateway = gateway("[[route]]\npath = \"/account\"\nrequire = \"authenticated\"\n").await;
    let mut ended = gateway.client();
    ended.log_in("alice").await;
    let kept = ended.clone();
    ended.told(&["Session-Logout: this"]).await;
    let mut expired = gateway.client();
    expired.log_in("alice").await;
    gateway.advance(3600);
    let forged = Client { cookie: Some("A".repeat(64)), ..gateway.client() };
    let broken = Client { cookie: Some("x".to_owned()), ..gateway.client() };
    let mut told = Vec::new();
    for mut client in [gateway.client(), kept, expired, forged, broken] {
        let answer = client.get("/account").await;
        assert_problem("a program", &answer, 401, "sign-in");
        told.push(answer.body);
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn a_browser_gets_a_page_with_a_way_on_in_the_deployments_language() {
    for (language, title, label, front) in [
        ("en", "This page is out of date", "Load the page again", "Front page"),
        ("de", "Diese Seite ist veraltet", "Seite neu laden", "Startseite"),
        ("cs", "Tato stránka není aktuální", "Načíst stránku znovu", "Úvodní stránka"),
    ] {
        let gateway = gateway(&format!("language = \"{language}\"\n")).await;
        let mut client = gateway.client();
        client.log_in("alice").await;
        let stale = format!("cloakroom_csrf={}", token(&gateway, &mut client).await);
        client.log_in("bob").await;
        let referrer = format!("Referer: http://{}/notes?id=7&x=%22", gateway.address);
        let page = client.send("POST", "/save", &[BROWSER, FORM, &referrer], &stale).await;
        assert_eq!((page.status, page.field("content-type")), (403, Some("text/html; charset=utf-8")));
        assert_eq!(page.field("content-language"), Some(language));
        assert!(page.field("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
        for text in [
            &*format!("<html lang=\"{language}\">"),
            &*format!("<title>{title}</title>"),
            &*format!("<h1>{title}</h1>"),
            &*format!(">{label}</a>"),
            "href=\"/notes?id=7&#38;x=%22\"",
            front,
        ] {
            assert!(page.body.contains(text), "{text}: {}", page.body);
        }
        let elsewhere = [BROWSER, FORM, "Referer: https://evil.test/notes"];
        let page = client.send("POST", "/save", &elsewhere, &stale).await.body;
        assert!(page.contains("<a class=\"button\" href=\"/\">") && !page.contains("evil"), "{page}");
        let program = client.send("POST", "/save", &[FORM], &stale).await;
        assert_eq!(member(&program, "title").as_deref(), Some(title));
    }
}

#[tokio::test]
async fn on_loopback_and_nowhere_else_the_page_says_what_cures_it() {
    let cure = "list it in csrf.trusted_origins";
    let elsewhere = "Sec-Fetch-Site: cross-site";
    for (toml, shown) in [
        ("", true),
        ("origin = \"http://localhost:8080\"", true),
        (
            "origin = \"https://example.org\"\ntls_terminated_by_proxy = true\ntrusted_proxies = [\"10.0.0.1\"]",
            false,
        ),
    ] {
        let gateway = gateway(toml).await;
        let mut client = gateway.client();
        let page = client.ask("POST", "/", &[elsewhere, BROWSER]).await;
        assert_eq!((page.status, page.body.contains(cure)), (403, shown), "{toml}: {}", page.body);
        let program = client.ask("POST", "/", &[elsewhere]).await;
        assert_eq!(member(&program, "cure").is_some_and(|said| said.contains(cure)), shown, "{toml}");
    }
}

#[tokio::test]
async fn an_application_that_is_not_there_is_said_not_to_answer_and_what_can_be_asked_again_is_a_link() {
    let (scripted, address) = Scripted::start().await;
    drop(scripted);
    let gateway = gateway_before(address, "").await;
    let mut client = gateway.client();
    let page = client.ask("GET", "/a?b=c", &[BROWSER]).await;
    assert_eq!(page.status, 502);
    assert!(page.body.contains("<h1>The application is not answering</h1>"), "{}", page.body);
    assert!(page.body.contains("href=\"/a?b=c\">Try again</a>"), "{}", page.body);
    let sent = client.ask("POST", "/a", &[BROWSER]).await;
    assert!(sent.status == 502 && !sent.body.contains("Try again"), "{}", sent.body);
    assert_problem("a program", &client.get("/a").await, 502, "unreachable");
}

#[tokio::test]
async fn what_the_application_says_itself_stays_as_it_is() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    for status in ["401", "403", "404", "500", "502", "503"] {
        for fields in [&[BROWSER][..], &[]] {
            let answer = client.ask("GET", &says("/x", &[status, "X-Own: yes"]), fields).await;
            assert_eq!((answer.status.to_string().as_str(), answer.field("x-own")), (status, Some("yes")));
            assert!(answer.body.starts_with("GET /x"), "{}", answer.body);
        }
    }
}
