//! Where a logout by a link leads, and a form that was sent too late.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{Answer, Client, Gateway, gateway, says};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const BROWSER: [&str; 2] = ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"];

/// Follows a link at which the application answers with a logout of a scope.
async fn link(client: &mut Client, scope: &str) -> Answer {
    let command = format!("Session-Logout: {scope}");
    client
        .ask("GET", &says("/bye", &[&command, "Set-Cookie: theirs=gone", "303", "Location: /"]), &BROWSER)
        .await
}

fn input(page: &Answer, name: &str) -> String {
    let field = format!("name=\"{name}\" value=\"");
    page.body.split(&*field).nth(1).expect("a field").split('"').next().unwrap().to_owned()
}

/// What the page's one button sends.
fn form(page: &Answer) -> String {
    format!("cloakroom_csrf={}&confirm={}", input(page, "cloakroom_csrf"), input(page, "confirm"))
}

async fn press(client: &mut Client, form: &str) -> Answer {
    client.send("POST", "/.cloakroom/logout", &[FORM, BROWSER[0]], form).await
}

/// Who the application is told.
async fn who(gateway: &Gateway, client: &mut Client) -> String {
    assert_eq!(client.get("/").await.status, 200);
    let told = gateway.last();
    let line = told.lines().find_map(|line| line.strip_prefix("session-subject: "));
    line.unwrap_or("nobody").trim_matches('"').to_owned()
}

#[tokio::test]
async fn r064_a_logout_by_a_link_asks_the_user_and_nothing_else_of_that_answer_counts() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    gateway.log.take();
    let page = link(&mut client, "this").await;
    assert_eq!((page.status, page.field("location"), page.field("set-cookie")), (200, None, None));
    assert_eq!(gateway.log.take(), ["gateway_logout_unconfirmed"]);
    assert_eq!(page.field("cache-control"), Some("no-store"));
    assert!(
        page.field("content-security-policy").unwrap().contains("frame-ancestors 'none'"),
        "{}",
        page.head
    );
    assert!(page.body.contains("<h1>Sign out?</h1>") && !page.body.contains("alice"), "{}", page.body);
    assert_eq!((page.body.matches("<button").count(), page.body.matches("<form").count()), (1, 1));
    assert!(page.body.contains("method=\"post\" action=\"/.cloakroom/logout\""), "{}", page.body);
    assert!(!page.body.contains("session-subject"), "what the application answered");
    assert_eq!(who(&gateway, &mut client).await, "alice", "nothing happened yet");
    let answer = press(&mut client, &form(&page)).await;
    assert_eq!((answer.status, answer.field("location")), (303, Some("/.cloakroom/signed-out")));
    assert_eq!(client.cookie, None);
    assert_eq!(who(&gateway, &mut client).await, "nobody");

    // Nobody is signed in: there is nothing to ask.
    let answer = link(&mut client, "this").await;
    assert_eq!((answer.status, answer.field("location")), (303, Some("/.cloakroom/signed-out")));
}

#[tokio::test]
async fn r064_nobody_but_a_browser_on_its_way_to_a_page_is_asked() {
    let gateway = gateway("[[route]]\npath = \"/files\"\nsession = \"none\"\n").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    gateway.log.take();
    let bye = says("/bye", &["Session-Logout: this"]);
    for (what, method, fields) in [
        ("a script", "GET", &["Sec-Fetch-Mode: cors", "Accept: text/html"][..]),
        ("an image", "GET", &["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"]),
        ("a program", "GET", &["Accept: */*"]),
        ("a preflight", "OPTIONS", &["Sec-Fetch-Mode: cors"]),
        ("a look at the head", "HEAD", &["Accept: */*"]),
    ] {
        assert_eq!(client.ask(method, &bye, fields).await.status, 403, "{what}");
        assert_eq!(gateway.log.take(), ["gateway_logout_unconfirmed"], "{what}");
    }
    assert_eq!(client.ask("GET", &bye, &["Accept: text/html"]).await.status, 200, "a browser of old");
    let of_files = says("/files/bye", &["Session-Logout: this"]);
    assert_eq!(client.ask("GET", &of_files, &BROWSER).await.status, 502, "no session, no logout");
    assert_eq!(who(&gateway, &mut client).await, "alice");
}

#[tokio::test]
async fn r064_what_is_ended_and_in_which_session_it_was_asked_is_sealed_into_the_form() {
    // Where no form tokens are looked at, too.
    for mode in ["verdict-only", "verdict-or-token"] {
        let gateway = gateway(&format!("[csrf]\nmode = \"{mode}\"\n")).await;
        let mut client = gateway.client();
        client.log_in("alice").await;
        let of_alice = form(&link(&mut client, "this").await);
        client.log_in("bob").await;
        let page = link(&mut client, "this").await;
        let of_bob = input(&page, "confirm");
        gateway.log.take();
        let widened = of_bob.replacen("this", "everywhere", 1);
        let token = input(&page, "cloakroom_csrf");
        for (what, sent) in [
            ("the page of another account", of_alice),
            ("another scope", format!("confirm={widened}")),
            ("a form token for a seal", format!("confirm=this.{token}")),
            ("no seal", "confirm=this.".to_owned()),
            ("nothing", "confirm=".to_owned()),
            ("no such scope", format!("confirm={}", of_bob.replacen("this", "that", 1))),
        ] {
            assert_eq!(press(&mut client, &sent).await.status, 403, "{mode}: {what}");
            assert_eq!(gateway.log.take(), ["csrf_token_stale"], "{mode}: {what}");
            assert_eq!(who(&gateway, &mut client).await, "bob", "{mode}: {what}");
        }
        assert_eq!(press(&mut client, &format!("confirm={of_bob}")).await.status, 303, "{mode}");
        assert_eq!(who(&gateway, &mut client).await, "nobody", "{mode}");
        // The same button once more, in another tab.
        let again = press(&mut client, &format!("confirm={of_bob}")).await;
        assert_eq!((again.status, again.field("location")), (303, Some("/.cloakroom/signed-out")), "{mode}");
    }
}

#[tokio::test]
async fn r058_the_button_ends_what_the_application_asked_for() {
    for (scope, question, leads_to, here, elsewhere) in [
        ("this", "Sign out?", "/.cloakroom/signed-out", "nobody", "alice"),
        ("others", "Sign out everywhere else?", "/.cloakroom/sessions", "alice", "nobody"),
        ("everywhere", "Sign out everywhere?", "/.cloakroom/signed-out", "nobody", "nobody"),
    ] {
        let gateway = gateway("").await;
        let (mut client, mut other) = (gateway.client(), gateway.client());
        client.log_in("alice").await;
        other.log_in("alice").await;
        let page = link(&mut client, scope).await;
        assert!(page.body.contains(&format!("<h1>{question}</h1>")), "{}", page.body);
        let answer = press(&mut client, &form(&page)).await;
        assert_eq!((answer.status, answer.field("location")), (303, Some(leads_to)), "{scope}");
        assert_eq!(who(&gateway, &mut client).await, here, "{scope}");
        assert_eq!(who(&gateway, &mut other).await, elsewhere, "{scope}");
    }
}

#[tokio::test]
async fn the_gateways_own_pages_speak_the_deployments_language() {
    for (language, question, signed_out, sessions) in [
        ("en", "Sign out?", "You are signed out", "These browsers are signed in to your account."),
        ("de", "Abmelden?", "Sie sind abgemeldet", "Diese Browser sind in Ihrem Konto angemeldet."),
        ("cs", "Odhlásit se?", "Jste odhlášeni", "V těchto prohlížečích jste přihlášeni ke svému účtu."),
    ] {
        let gateway = gateway(&format!("language = \"{language}\"\n")).await;
        let mut client = gateway.client();
        client.log_in("alice").await;
        let html = format!("<html lang=\"{language}\">");
        let list = client.get("/.cloakroom/sessions").await.body;
        assert!(list.contains(&html) && list.contains(sessions), "{list}");
        let page = link(&mut client, "this").await;
        assert!(page.body.contains(&html) && page.body.contains(question), "{}", page.body);
        press(&mut client, &form(&page)).await;
        let landing = client.get("/.cloakroom/signed-out").await.body;
        assert!(landing.contains(&html) && landing.contains(signed_out), "{landing}");
    }
    let raw =
        cloakroom_server::config::Raw::parse("upstream = \"http://127.0.0.1:1\"\nlanguage = \"xx\"").unwrap();
    let said = cloakroom_server::config::Config::check(raw).unwrap_err().to_string();
    assert!(said.contains("language") && said.contains("en, de or cs"), "{said}");
}

#[tokio::test]
async fn r121_a_form_sent_after_its_session_ended_leads_back_to_the_page_it_was_on() {
    let gateway = gateway("[[route]]\npath = \"/app\"\nrequire = \"authenticated\"\n").await;
    let own = format!("http://{}", gateway.address);
    let page = |path: &str| format!("Referer: {own}{path}");
    for (what, method, path, referrer, back) in [
        ("its page", "POST", "/app/save", page("/app/edit?id=7"), "/app/edit%3Fid%3D7"),
        ("the front page", "POST", "/app/save", page("/"), "/"),
        ("no referrer", "POST", "/app/save", "X: y".to_owned(), "/"),
        ("another site", "POST", "/app/save", "Referer: https://evil.test/app/edit".to_owned(), "/"),
        ("the login page", "POST", "/app/save", page("/login?return=/app"), "/"),
        ("a page by GET", "GET", "/app/list?x=1", page("/app/edit"), "/app/list%3Fx%3D1"),
        (
            "the user's own page",
            "POST",
            "/.cloakroom/sessions/end",
            page("/.cloakroom/sessions"),
            "/.cloakroom/sessions",
        ),
    ] {
        let fields = [FORM, BROWSER[0], &referrer];
        let answer = gateway.client().send(method, path, &fields, "text=an+hour+of+work").await;
        let expected = format!("/login?return={back}");
        assert_eq!((answer.status, answer.field("location")), (303, Some(&*expected)), "{what}");
        assert!(!answer.head.contains("hour"), "{what}: nothing of the body is kept");
    }
    assert!(gateway.take().is_empty(), "nothing arrived");
}
