//! Logins that an identity provider's form completes (SAML's POST binding, OpenID Connect's form_post): a POST of another site, which
//! brings no session cookie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{Answer, Client, Gateway, gateway, says};

const CONFIG: &str = "[[route]]\npath = \"/login\"\nlogin_start = true\n\
                      [[route]]\npath = \"=/saml\"\nlogin_callback = true\n\
                      callback_origins = [\"https://idp.example\", \"https://login.sibling.test\"]\n\
                      [[route]]\npath = \"=/hidden\"\nlogin_callback = true\ncallback_origins = [\"null\"]\n\
                      [[route]]\npath = \"=/query\"\nlogin_callback = true\n";
const FLOW: &str = "__Host-Http-sid-flow";
const IDP: &str = "Origin: https://idp.example";
const SITE: &str = "Sec-Fetch-Site: cross-site";
const MODE: &str = "Sec-Fetch-Mode: navigate";
const DEST: &str = "Sec-Fetch-Dest: document";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const LOGIN: &str = "Session-Login: \"samuel\"";

/// What the browser keeps of an answer under the flow cookie's name; `None` if the answer does not say.
fn kept(answer: &Answer) -> Option<String> {
    let value = answer.fields("set-cookie").find_map(|set| set.strip_prefix(FLOW)?.strip_prefix('='));
    value.map(|value| value.split(';').next().unwrap_or_default().to_owned())
}

/// Begins a login, as a browser without session; returns the cookie.
async fn begin(gateway: &Gateway) -> String {
    let answer = gateway.client().get("/login").await;
    kept(&answer).expect("a cookie")
}

/// What the browser sends as the identity provider's page posts its form. Another site's POST brings no `SameSite=Lax` cookie.
async fn come_back(gateway: &Gateway, path: &str, flow: Option<&str>, fields: &[&str]) -> Answer {
    let cookie = flow.map(|flow| format!("Cookie: {FLOW}={flow}"));
    let mut fields = fields.to_vec();
    fields.extend([FORM, "No-Site: 1"]);
    fields.extend(cookie.as_deref());
    gateway.client().send("POST", path, &fields, "SAMLResponse=x&RelayState=y").await
}

#[tokio::test]
async fn r080_who_began_a_login_here_is_signed_in_by_the_identity_providers_form() {
    let gateway = gateway(CONFIG).await;
    let flow = begin(&gateway).await;
    let back = says("/saml", &["303", "Location: /", LOGIN, "Session-Methods: fed"]);
    let answer = come_back(&gateway, &back, Some(&flow), &[IDP, SITE, MODE, DEST]).await;
    assert_eq!((answer.status, answer.field("location")), (303, Some("/")), "{answer:?}");
    assert_eq!(kept(&answer).as_deref(), Some(""), "what had begun is over");
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    let told = gateway.last();
    assert!(told.ends_with("\n\nSAMLResponse=x&RelayState=y"), "{told}");
    assert!(!told.contains("session-") && !told.contains(FLOW), "{told}");
    assert!(told.contains("csp-nonce: "), "an answer may be a page");
    let session = answer.fields("set-cookie").find_map(|set| set.strip_prefix("__Host-Http-sid="));
    let cookie = session.and_then(|rest| rest.split(';').next()).map(str::to_owned);
    let mut client = Client { cookie, ..gateway.client() };
    assert!(client.get("/").await.body.contains("session-subject: \"samuel\"\n"));
}

#[tokio::test]
async fn r071_r075_r080_what_does_not_come_from_a_listed_origin_in_a_whole_window_is_refused() {
    let gateway = gateway(CONFIG).await;
    let flow = begin(&gateway).await;
    gateway.take();
    gateway.log.take();
    let (saml, hidden) = (says("/saml", &[LOGIN]), says("/hidden", &[LOGIN]));
    for (what, path, fields) in [
        ("an origin that is not listed", &saml, vec!["Origin: https://evil.test", SITE, MODE, DEST]),
        ("likewise, without metadata", &saml, vec!["Origin: https://evil.test"]),
        ("over http", &saml, vec!["Origin: http://idp.example", SITE, MODE, DEST]),
        ("another port", &saml, vec!["Origin: https://idp.example:8443", SITE, MODE, DEST]),
        ("a longer name", &saml, vec!["Origin: https://idp.example.evil.test", SITE, MODE, DEST]),
        ("two origins", &saml, vec![IDP, "Origin: https://evil.test", SITE, MODE, DEST]),
        ("no origin", &saml, vec![SITE, MODE, DEST]),
        ("null where it is not listed", &saml, vec!["Origin: null", SITE, MODE, DEST]),
        ("a listed origin where only null is", &hidden, vec![IDP, SITE, MODE, DEST]),
        ("a script", &saml, vec![IDP, SITE, "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: empty"]),
        ("a frame", &saml, vec![IDP, SITE, MODE, "Sec-Fetch-Dest: iframe"]),
        ("no destination", &saml, vec![IDP, SITE, MODE]),
        ("a route that is none", &says("/other", &[LOGIN]), vec![IDP, SITE, MODE, DEST]),
        ("below the route", &says("/saml/x", &[LOGIN]), vec![IDP, SITE, MODE, DEST]),
        ("the route in another case", &says("/SAML", &[LOGIN]), vec![IDP, SITE, MODE, DEST]),
        ("a callback for nobody's forms", &says("/query", &[LOGIN]), vec![IDP, SITE, MODE, DEST]),
    ] {
        let answer = come_back(&gateway, path, Some(&flow), &fields).await;
        assert_eq!((answer.status, answer.field("set-cookie")), (403, None), "{what}: {answer:?}");
        assert_eq!(gateway.log.take(), ["malicious_csrf"], "{what}");
    }
    assert!(gateway.take().is_empty(), "nothing arrived");
    for (what, path, fields) in [
        ("a browser without metadata", &saml, vec![IDP]),
        (
            "a sibling host",
            &saml,
            vec!["Origin: https://login.sibling.test", "Sec-Fetch-Site: same-site", MODE, DEST],
        ),
        ("null where it is listed", &hidden, vec!["Origin: null", SITE, MODE, DEST]),
    ] {
        let answer = come_back(&gateway, path, Some(&flow), &fields).await;
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn r080_nobody_is_signed_in_by_another_sites_form_whose_browser_has_begun_no_login_here() {
    let gateway = gateway(CONFIG).await;
    let flow = begin(&gateway).await;
    // Well-formed, and neither ours.
    let altered = format!("{}{}", if flow.starts_with('A') { 'B' } else { 'A' }, &flow[1..]);
    let page = gateway.client().get(&says("/", &["Session-Csrf: ?1"])).await;
    let token = page.body.lines().find_map(|line| line.strip_prefix("session-csrf-token: ")).unwrap();
    let token = token.trim_matches('"').to_owned();
    gateway.take();
    gateway.log.take();
    let back = says("/saml", &[LOGIN]);
    let two = format!("{flow}; {FLOW}={altered}");
    for (what, shown) in [
        ("none", None),
        ("an empty one", Some("")),
        ("one that is altered", Some(&*altered)),
        ("a form's token", Some(&*token)),
        ("two that differ", Some(&*two)),
    ] {
        let answer = come_back(&gateway, &back, shown, &[IDP, SITE, MODE, DEST, "Accept: text/html"]).await;
        assert_eq!((answer.status, answer.field("set-cookie")), (403, None), "{what}: {answer:?}");
        assert!(
            answer.body.contains("Please begin again") && answer.body.contains("href=\"/login\""),
            "{what}"
        );
        assert_eq!(gateway.log.take(), ["malicious_csrf"], "{what}");
    }
    assert!(gateway.take().is_empty(), "nothing arrived");
    gateway.advance(599);
    assert_eq!(come_back(&gateway, "/saml", Some(&flow), &[IDP, SITE, MODE, DEST]).await.status, 200);
    gateway.advance(1);
    let late = come_back(&gateway, &back, Some(&flow), &[IDP, SITE, MODE, DEST]).await;
    assert_eq!((late.status, gateway.take().len()), (403, 1), "ten minutes, by the gateway's clock");
}

#[tokio::test]
async fn r071_of_who_is_sent_back_nothing_but_a_login_is_obeyed() {
    let gateway = gateway(CONFIG).await;
    let flow = begin(&gateway).await;
    gateway.log.take();
    for commands in [
        &["Session-Logout: this"][..],
        &["Session-Set: a=\"1\""],
        &["Session-Rotate: ?1"],
        &["Session-Step-Up: \"samuel\""],
        &["Session-Csrf: ?1"],
        &[LOGIN, "Session-Set: a=\"1\""],
        &[LOGIN, "Session-Logout: everywhere"],
    ] {
        let answer =
            come_back(&gateway, &says("/saml", commands), Some(&flow), &[IDP, SITE, MODE, DEST]).await;
        assert_eq!((answer.status, answer.field("set-cookie")), (502, None), "{commands:?}");
        assert_eq!(gateway.log.take(), ["gateway_command_refused"], "{commands:?}");
    }
    // The application may find that the answer is none to its question; the user may try again.
    let answer = come_back(&gateway, &says("/saml", &["403"]), Some(&flow), &[IDP, SITE, MODE, DEST]).await;
    assert_eq!((answer.status, answer.field("set-cookie")), (403, None));
}

#[tokio::test]
async fn r048_where_the_session_cookie_came_along_it_is_told_to_nobody_and_a_login_ends_it() {
    let gateway = gateway(CONFIG).await;
    let flow = begin(&gateway).await;
    let mut alice = gateway.client();
    alice.log_in("alice").await;
    let page = alice.get("/").await.body;
    let handle = page.lines().find(|line| line.starts_with("session-handle: ")).unwrap();
    // Pages of a sibling host are of the same site: SameSite keeps nothing from them.
    let cookie = format!("Cookie: {FLOW}={flow}");
    let fields =
        ["Origin: https://login.sibling.test", "Sec-Fetch-Site: same-site", MODE, DEST, FORM, &cookie];
    let before = alice.clone();
    for (command, status) in [("Content-Language: en", 200), ("Session-Logout: this", 502)] {
        let stale = "cloakroom_csrf=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let answer = alice.send("POST", &says("/saml", &[command]), &fields, stale).await;
        assert_eq!(answer.status, status, "{answer:?}");
        let told = gateway.last();
        assert!(!told.contains("session-") && !told.contains("alice") && !told.contains(handle), "{told}");
    }
    assert!(alice.get("/").await.body.contains("session-subject: \"alice\"\n"), "it has not ended");
    assert_eq!(alice.ask("POST", &says("/saml", &[LOGIN]), &fields).await.status, 200);
    assert!(alice.get("/").await.body.contains("session-subject: \"samuel\"\n"));
    let mut before = before;
    assert!(!before.get("/").await.body.contains("alice"), "the one before has ended");
    // Who keeps away from the site meanwhile is signed out in time, whatever other sites send.
    let mut idle = gateway.client();
    idle.log_in("carol").await;
    for _ in 0..3 {
        gateway.advance(590);
        let flow = begin(&gateway).await;
        let cookie = format!("Cookie: {FLOW}={flow}");
        let fields = [fields[0], fields[1], MODE, DEST, FORM, &cookie];
        assert_eq!(idle.ask("POST", "/saml", &fields).await.status, 200);
    }
    gateway.advance(60);
    assert!(!idle.get("/").await.body.contains("carol"), "another site's form is no activity of the user");
}

#[tokio::test]
async fn r027_a_login_begins_where_the_route_says_so_and_for_no_other_site() {
    let gateway = gateway(CONFIG).await;
    let mut client = gateway.client();
    for (what, path) in
        [("a page", "/login".to_owned()), ("a redirect", says("/login", &["303", "Location: /x"]))]
    {
        let answer = client.get(&path).await;
        let set = answer.fields("set-cookie").collect::<Vec<_>>();
        assert_eq!(set.len(), 1, "{what}: {set:?}");
        assert!(set[0].starts_with(&format!("{FLOW}=")), "{what}: {set:?}");
        assert!(
            set[0].ends_with("; Path=/; Secure; HttpOnly; SameSite=None; Max-Age=600"),
            "{what}: {set:?}"
        );
        assert_eq!(answer.field("cache-control"), Some("no-store"), "{what}");
    }
    let link = ["Sec-Fetch-Site: cross-site", MODE, DEST];
    assert!(
        kept(&client.ask("GET", "/login", &link).await).is_some(),
        "a link from elsewhere leads to a login"
    );
    for (what, path, fields) in [
        ("elsewhere", "/other".to_owned(), vec![]),
        ("in another case", "/Login".to_owned(), vec![]),
        ("where it completes", "/saml".to_owned(), vec![]),
        (
            "an image of another site",
            "/login".to_owned(),
            vec![SITE, "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"],
        ),
        ("a frame of another site", "/login".to_owned(), vec![SITE, MODE, "Sec-Fetch-Dest: iframe"]),
        ("a command that is none", says("/login", &["Session-Nonsense: 1"]), vec![]),
        ("the application's own of that name", says("/other", &[&format!("Set-Cookie: {FLOW}=x")]), vec![]),
    ] {
        assert_eq!(kept(&client.ask("GET", &path, &fields).await), None, "{what}");
    }
    // A login in the ordinary way ends what had begun, and begins nothing.
    let flow = begin(&gateway).await;
    let cookie = format!("Cookie: {FLOW}={flow}");
    let answer = client.ask("POST", &says("/login", &["Session-Login: \"alice\""]), &[&cookie]).await;
    assert_eq!((answer.status, kept(&answer).as_deref()), (200, Some("")));
    assert!(!gateway.last().contains(FLOW), "the application never sees it");
    let answer = gateway.client().ask("POST", &says("/login", &["Session-Login: \"alice\""]), &[]).await;
    assert_eq!((answer.status, kept(&answer)), (200, None));
}

#[tokio::test]
async fn r074_r080_a_get_callback_needs_the_session_that_began_it_as_ever() {
    let gateway = gateway(CONFIG).await;
    let flow = begin(&gateway).await;
    let cookie = format!("Cookie: {FLOW}={flow}");
    for path in ["/saml", "/query"] {
        let mut client = gateway.client();
        let login = says(path, &[LOGIN]);
        let link = [SITE, MODE, DEST, IDP, &cookie];
        assert_eq!(
            client.ask("GET", &login, &link).await.status,
            502,
            "{path}: the cookie is for forms only"
        );
        assert_eq!(
            client.ask("POST", &login, &[&cookie]).await.status,
            502,
            "{path}: a form of the site itself"
        );
        client.told(&["Session-Set: state=\"1\""]).await;
        assert_eq!(client.ask("GET", &login, &link).await.status, 200, "{path}");
        assert!(client.get("/").await.body.contains("session-subject: \"samuel\"\n"), "{path}");
    }
}

#[tokio::test]
async fn r078_a_callback_is_asked_for_no_form_token_of_ours() {
    let gateway = gateway(&format!("[csrf]\nmode = \"verdict-and-token\"\n{CONFIG}")).await;
    let flow = begin(&gateway).await;
    let answer = come_back(&gateway, &says("/saml", &[LOGIN]), Some(&flow), &[IDP, SITE, MODE, DEST]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let stray = come_back(&gateway, &says("/saml", &[LOGIN]), None, &[IDP, SITE, MODE, DEST]).await;
    assert_eq!(stray.status, 403);
}

#[tokio::test]
async fn r071_where_refusals_are_only_reported_a_login_is_still_not_obeyed_without_the_cookie() {
    let gateway = gateway(&format!("[csrf]\ninsecure_report_only = \"a test\"\n{CONFIG}")).await;
    let answer = come_back(&gateway, &says("/saml", &[LOGIN]), None, &[IDP, SITE, MODE, DEST]).await;
    assert_eq!((answer.status, answer.field("set-cookie")), (502, None));
}
