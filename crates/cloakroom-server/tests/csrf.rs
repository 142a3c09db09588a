//! Form tokens and the verdict on requests from elsewhere, as the gateway applies them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{Answer, Client, gateway, raw, says, send};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
/// Makes the client say nothing of where a request comes from, as old browsers and scripts do.
const SILENT: &str = "No-Site: 1";

/// The token that the application was told.
fn token(told: &str) -> String {
    let line = told.lines().find_map(|line| line.strip_prefix("session-csrf-token: ")).expect("a token");
    line.trim_matches('"').to_owned()
}

async fn post(client: &mut Client, token: &str) -> u16 {
    client.send("POST", "/change", &[SILENT, FORM], &format!("cloakroom_csrf={token}&x=1")).await.status
}

#[tokio::test]
async fn r077_r079_a_token_is_of_one_session_and_lives_as_long() {
    let gateway = gateway("").await;
    let (mut alice, mut bob) = (gateway.client(), gateway.client());
    alice.log_in("alice").await;
    bob.log_in("bob").await;
    let first = token(&alice.get("/").await.body);
    let second = token(&alice.get("/").await.body);
    assert!(first.len() == 64 && first != second, "masked: another one each time");
    let of_bob = token(&bob.get("/").await.body);
    gateway.take();
    gateway.log.take();
    for bad in
        [of_bob.as_str(), "", &first[1..], &format!("{first}A"), &second.replace(&second[40..44], "AAAA")]
    {
        assert_eq!(post(&mut alice, bad).await, 403, "{bad}");
        assert_eq!(gateway.log.take(), ["malicious_csrf"]);
        let header = format!("X-Cloakroom-Csrf: {bad}");
        assert_eq!(alice.ask("POST", "/change", &[SILENT, &header]).await.status, 403, "{bad}");
        assert_eq!(gateway.log.take(), ["malicious_csrf"]);
    }
    assert!(gateway.take().is_empty(), "nothing arrived");
    for good in [&first, &second] {
        assert_eq!(post(&mut alice, good).await, 200);
        let header = format!("X-Cloakroom-Csrf: {good}");
        assert_eq!(alice.ask("POST", "/change", &[SILENT, &header]).await.status, 200);
    }
    let (one, two) = (format!("X-Cloakroom-Csrf: {first}"), format!("X-Cloakroom-Csrf: {second}"));
    assert_eq!(alice.ask("POST", "/change", &[SILENT, &one, &two]).await.status, 403, "one header at most");
    let in_url = format!("/change?cloakroom_csrf={first}");
    assert_eq!(alice.ask("POST", &in_url, &[SILENT]).await.status, 403, "never in a URL");
    alice.told(&["Session-Rotate: ?1"]).await;
    assert_eq!(post(&mut alice, &first).await, 200, "a form survives a rotation");
    alice.log_in("alice").await;
    assert_eq!(post(&mut alice, &first).await, 403, "and dies at a login");
    let before = token(&alice.get("/").await.body);
    alice.told(&["Session-Logout: this"]).await;
    alice.log_in("alice").await;
    assert_eq!(post(&mut alice, &before).await, 403, "and at a logout");
}

#[tokio::test]
async fn r078_a_visitors_form_is_protected_and_who_only_looks_gets_no_cookie() {
    let gateway = gateway("[csrf]\nmode = \"verdict-and-token\"").await;
    let mut looker = gateway.client();
    assert_eq!(looker.get("/").await.field("set-cookie"), None);
    let uses = says("/login", &["Session-Csrf: ?1"]);
    let mut visitor = gateway.client();
    let page = visitor.get(&uses).await;
    assert_eq!((page.status, page.field("session-csrf")), (200, None));
    let cookie = page.field("set-cookie").unwrap();
    assert!(
        cookie.starts_with("__Host-Http-sid-csrf=")
            && cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax")
    );
    assert_eq!(page.field("cache-control"), Some("no-store"));
    let first = token(&page.body);
    assert!(!cookie.contains(&first), "R-077: never in a cookie");
    let again = visitor.get(&uses).await;
    assert_eq!(again.field("set-cookie"), None, "it has one");
    assert!(!gateway.last().contains("cookie:"), "the application never sees it: {}", gateway.last());
    let mut stranger = gateway.client();
    stranger.get(&uses).await;
    gateway.take();
    for refused in [&mut stranger, &mut looker] {
        assert_eq!(post(refused, &first).await, 403, "cookie and token belong together");
    }
    assert_eq!(visitor.ask("POST", "/login", &[]).await.status, 403, "R-080: also of the site's own origin");
    assert!(gateway.take().is_empty());
    assert_eq!(post(&mut visitor, &first).await, 200);
    let login = says("/login", &["Session-Login: \"alice\"", "Session-Csrf: ?1"]);
    let answer = visitor.send("POST", &login, &[FORM], &format!("cloakroom_csrf={first}")).await;
    assert_eq!((answer.status, &visitor.visitor), (200, &None), "gone with the login: {answer:?}");
    assert!(visitor.cookie.is_some());
    assert_eq!(post(&mut visitor, &first).await, 403, "R-079: dead at the login");
    let mut returning = Client { visitor: stranger.visitor.clone(), ..visitor.clone() };
    let of_session = token(&returning.get("/").await.body);
    assert_eq!(post(&mut returning, &of_session).await, 200);
    // The application cannot set it either.
    let own = says("/", &["Set-Cookie: __Host-Http-sid-csrf=AAAAAAAAAAAAAAAAAAAAAA; Path=/; Secure"]);
    gateway.log.take();
    assert_eq!(looker.get(&own).await.field("set-cookie"), None);
    assert_eq!(gateway.log.take(), ["gateway_cookie_dropped"]);
}

#[tokio::test]
async fn r079_a_visitors_token_is_good_for_twelve_hours_and_after_a_session_arose() {
    let gateway = gateway("[csrf]\nmode = \"verdict-and-token\"").await;
    let mut visitor = gateway.client();
    let uses = says("/", &["Session-Csrf: ?1"]);
    let form = token(&visitor.get(&uses).await.body);
    visitor.get(&says("/", &["Session-Set: cart=\"tea\""])).await;
    assert!(visitor.cookie.is_some());
    assert_eq!(post(&mut visitor, &form).await, 200, "a cart began between the form and its sending");
    visitor.cookie = None;
    gateway.advance(12 * 3600 - 1);
    assert_eq!(post(&mut visitor, &form).await, 200);
    gateway.advance(2);
    assert_eq!(post(&mut visitor, &form).await, 403);
}

#[tokio::test]
async fn what_carries_a_token_arrives_byte_for_byte() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let good = token(&client.get("/").await.body);
    let large = "x".repeat(300_000);
    let part = |name: &str, value: &str| {
        format!("--bound\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let multipart = "Content-Type: multipart/form-data; boundary=bound";
    let bodies = [
        (FORM, format!("note=a+%26+b&cloakroom_csrf={good}")),
        (FORM, format!("cloakroom_csrf={good}&file={large}")),
        (multipart, part("note", "cloakroom_csrf=no") + &part("cloakroom_csrf", &good) + "--bound--\r\n"),
        (multipart, part("cloakroom_csrf", &good) + &part("file", &large) + "--bound--\r\n"),
    ];
    for (kind, body) in bodies {
        let answer = client.send("POST", "/change", &[SILENT, kind], &body).await;
        assert_eq!(answer.status, 200, "{kind}");
        let told = gateway.last();
        assert_eq!(told.split_once("\n\n").unwrap().1, body, "{kind}");
        assert!(told.contains(&format!("content-length: {}\n", body.len())), "{kind}");
    }
    gateway.take();
    gateway.log.take();
    for (kind, body) in [
        (FORM, format!("file={large}&cloakroom_csrf={good}")),
        (multipart, part("file", &large) + &part("cloakroom_csrf", &good) + "--bound--\r\n"),
    ] {
        assert_eq!(client.send("POST", "/change", &[SILENT, kind], &body).await.status, 403, "{kind}");
        assert_eq!(gateway.log.take(), ["csrf_token_beyond_limit"], "{kind}");
    }
    for kind in ["Content-Type: application/json", "Content-Type: text/plain", "X: none"] {
        let answer = client.send("POST", "/change", &[SILENT, kind], &format!("cloakroom_csrf={good}")).await;
        assert_eq!(answer.status, 403, "{kind}");
    }
    assert!(gateway.take().is_empty(), "nothing arrived");
}

#[tokio::test]
async fn r071_a_refusal_comes_before_the_body_and_keeps_no_session_alive() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    gateway.take();
    let request = client.request("POST", "/", &["Sec-Fetch-Site: cross-site", "Content-Length: 1000"]);
    let mut stream = send(gateway.address, &request).await;
    let head = harness::read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(gateway.take().is_empty());
    for _ in 0..2 {
        gateway.advance(1000);
        assert_eq!(client.ask("POST", "/", &[SILENT]).await.status, 403);
    }
    client.get("/").await;
    assert!(!gateway.last().contains("alice"), "half an hour without its user ends a session");
}

#[tokio::test]
async fn r071_r076_modes_ask_for_what_they_say() {
    for (mode, silent, silent_with_token, own_origin) in [
        ("verdict-only", 403, 403, 200),
        ("verdict-or-token", 403, 200, 200),
        ("verdict-and-token", 403, 200, 403),
    ] {
        let gateway = gateway(&format!("[csrf]\nmode = \"{mode}\"\n")).await;
        let mut client = gateway.client();
        let uses = says("/", &["Session-Csrf: ?1"]);
        let visitors = format!("cloakroom_csrf={}", token(&client.get(&uses).await.body));
        let login = says("/", &["Session-Login: \"alice\""]);
        client.send("POST", &login, &[FORM], &visitors).await;
        let good = token(&client.get("/").await.body);
        assert_eq!(client.ask("POST", "/", &[SILENT]).await.status, silent, "{mode}");
        assert_eq!(post(&mut client, &good).await, silent_with_token, "{mode}");
        assert_eq!(client.ask("POST", "/", &[]).await.status, own_origin, "{mode}");
        for elsewhere in
            ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "No-Site: 1\r\nOrigin: null"]
        {
            let header = format!("X-Cloakroom-Csrf: {good}");
            let answer = client.ask("POST", "/", &[elsewhere, &header]).await;
            assert_eq!(answer.status, 403, "{mode}: no token rescues {elsewhere}");
        }
    }
}

#[tokio::test]
async fn r072_report_only_refuses_nothing_and_tells_everything() {
    let gateway = gateway(
        "[csrf]\ninsecure_report_only = \"a test\"\n[[route]]\npath = \"/account\"\nloading = \"isolated\"\n",
    )
    .await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    gateway.log.take();
    for (method, path, fields) in [
        ("POST", "/", &["Sec-Fetch-Site: cross-site"][..]),
        ("POST", "/", &[SILENT]),
        (
            "GET",
            "/account",
            &["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"],
        ),
    ] {
        assert_eq!(client.ask(method, path, fields).await.status, 200, "{method} {path} {fields:?}");
        assert_eq!(gateway.log.take(), ["csrf_report_only"], "{method} {path} {fields:?}");
    }
    assert_eq!(client.ask("POST", "/", &[]).await.status, 200);
    assert!(gateway.log.take().is_empty());
}

#[tokio::test]
async fn r075_what_is_exempt_is_an_exact_path_without_session_and_trust_is_an_exact_origin() {
    let toml = "[csrf]\ntrusted_origins = [\"https://partner.example\"]\n\
                [[route]]\npath = \"=/hooks/pay\"\nsession = \"none\"\nforgery = \"exempt\"\n";
    let gateway = gateway(toml).await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let elsewhere = ["Sec-Fetch-Site: cross-site", "Origin: https://evil.test"];
    assert_eq!(client.ask("POST", "/hooks/pay", &elsewhere).await.status, 200);
    assert!(!harness::of_a_session(&gateway.last()));
    for path in ["/hooks/pay/x", "/hooks", "/hooks/paying", "/HOOKS/PAY"] {
        assert_eq!(client.ask("POST", path, &elsewhere).await.status, 403, "{path}");
    }
    let trusted = ["Sec-Fetch-Site: cross-site", "Origin: https://partner.example"];
    assert_eq!(client.ask("POST", "/", &trusted).await.status, 200);
    for origin in ["http://partner.example", "https://partner.example.evil.test", "https://a.partner.example"]
    {
        let fields = ["Sec-Fetch-Site: cross-site", &format!("Origin: {origin}")];
        assert_eq!(client.ask("POST", "/", &fields).await.status, 403, "{origin}");
    }
}

#[test]
fn r075_an_exemption_that_is_too_wide_is_a_mistake_in_the_configuration() {
    let check = |route: &str| {
        let text = format!("upstream = \"http://127.0.0.1:1\"\nstore = \"memory\"\n[[route]]\n{route}");
        cloakroom_server::config::Config::check(cloakroom_server::config::Raw::parse(&text).unwrap())
    };
    for (route, key) in [
        ("path = \"/hooks\"\nsession = \"none\"\nforgery = \"exempt\"", "forgery"),
        ("path = \"=/hooks\"\nforgery = \"exempt\"", "forgery"),
        ("path = \"=/hooks\"\nsession = \"none\"\nforgery = \"none\"", "forgery"),
        ("path = \"/a\"\nloading = \"closed\"", "loading"),
        ("path = \"/a\"\nresource = \"cross-origin\"", "resource"),
        ("path = \"/a\"\nsession = \"none\"\nresource = \"all\"", "resource"),
    ] {
        let said = check(route).unwrap_err().to_string();
        assert!(said.contains(key) && said.lines().count() <= 2, "{route}: {said}");
    }
    check("path = \"=/hooks\"\nsession = \"none\"\nforgery = \"exempt\"").unwrap();
    check("path = \"/a\"\nsession = \"none\"\nresource = \"cross-origin\"\nloading = \"open\"").unwrap();
}

#[tokio::test]
async fn r075_on_a_plain_http_network_origin_decides_alone() {
    let toml = "insecure_plain_http = \"a network of our own\"\norigin = \"http://nas.lan:8080\"";
    let gateway = gateway(toml).await;
    let request = |cookie: &str, origin: &str| {
        format!(
            "POST {} HTTP/1.1\r\nHost: nas.lan:8080\r\nConnection: close\r\n{cookie}{origin}Content-Length: 0\r\n\r\n",
            says("/", &["Session-Login: \"alice\""])
        )
    };
    let own = "Origin: http://nas.lan:8080\r\n";
    let login = Answer::parse(&raw(gateway.address, request("", own).as_bytes()).await);
    let cookie = login.field("set-cookie").unwrap();
    assert!(cookie.starts_with("sid=") && !cookie.contains("Secure"), "{cookie}");
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    for (origin, status) in [
        (own, 200),
        ("Origin: http://nas.lan\r\n", 403),
        ("Origin: http://evil.lan:8080\r\n", 403),
        ("Origin: https://nas.lan:8080\r\n", 403),
        ("Origin: null\r\n", 403),
        ("", 403),
    ] {
        let answer = Answer::parse(&raw(gateway.address, request(&cookie, origin).as_bytes()).await);
        assert_eq!(answer.status, status, "{origin}");
    }
}

#[tokio::test]
async fn r083_a_websocket_from_elsewhere_is_not_opened() {
    let toml = "[csrf]\nmode = \"verdict-and-token\"\n[[route]]\npath = \"=/feed\"\nsession = \"none\"\nforgery = \"exempt\"";
    let gateway = gateway(toml).await;
    let own = format!("Origin: http://{}", gateway.address);
    let client = Client { cookie: Some("x".to_owned()), ..gateway.client() };
    for (path, fields, status) in [
        ("/socket", &["Sec-Fetch-Site: cross-site", "Origin: https://evil.test"][..], 403),
        ("/socket", &[SILENT, "Origin: https://evil.test"], 403),
        ("/socket", &[SILENT, "Origin: null"], 403),
        ("/socket", &[SILENT], 403),
        ("/feed", &[SILENT, "Origin: https://evil.test"], 403),
        ("/socket", &[SILENT, &own], 200),
    ] {
        let upgrade = [
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ];
        let fields = [fields, &upgrade].concat();
        let text =
            client.request("GET", path, &fields).replace("Connection: close", "Connection: Upgrade, close");
        gateway.take();
        let answer = Answer::parse(&raw(gateway.address, text.as_bytes()).await);
        assert_eq!(answer.status, status, "{path} {fields:?}");
        assert_eq!(gateway.take().len(), usize::from(status == 200), "{path} {fields:?}");
    }
}

#[tokio::test]
async fn r084_r126_account_content_is_not_for_other_sites_and_vary_says_what_decided() {
    let toml = "[csrf]\ntrusted_origins = [\"https://partner.example\"]\n\
                [[route]]\npath = \"/account\"\nrequire = \"authenticated\"\n\
                [[route]]\npath = \"/account/badge\"\nrequire = \"authenticated\"\nloading = \"open\"\n\
                [[route]]\npath = \"/files\"\nsession = \"none\"\nloading = \"isolated\"\n\
                [[route]]\npath = \"/static\"\nsession = \"none\"\n";
    let gateway = gateway(toml).await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    gateway.log.take();
    let cross = "Sec-Fetch-Site: cross-site";
    let public = ["Cache-Control: public, max-age=60", "Vary: Accept-Encoding"];
    for (path, mode, dest, more, status) in [
        ("/account", "no-cors", "image", "", 403),
        ("/account", "no-cors", "script", "", 403),
        ("/account", "navigate", "iframe", "", 403),
        ("/account", "cors", "empty", "Origin: https://evil.test", 403),
        ("/account", "navigate", "document", "", 200),
        ("/account", "cors", "empty", "Origin: https://partner.example", 200),
        ("/account/badge", "no-cors", "image", "", 200),
        ("/files/a", "no-cors", "image", "", 403),
        ("/static/a", "no-cors", "image", "", 200),
        ("/.cloakroom/sessions", "navigate", "iframe", "", 403),
        ("/.cloakroom/sessions", "navigate", "document", "", 200),
    ] {
        let (mode, dest) = (format!("Sec-Fetch-Mode: {mode}"), format!("Sec-Fetch-Dest: {dest}"));
        let more = if more.is_empty() { "X: y" } else { more };
        let answer = client.ask("GET", path, &[cross, &mode, &dest, more]).await;
        assert_eq!(answer.status, status, "{path} {mode} {dest}");
        let events = if status == 403 { vec!["malicious_cors"] } else { vec![] };
        assert_eq!(gateway.log.take(), events, "{path} {mode} {dest}");
        let vary = answer.fields("vary").collect::<Vec<_>>().join(", ");
        let depends = !path.starts_with("/static") && !path.ends_with("badge");
        assert_eq!(vary.contains("sec-fetch-site"), depends, "{path}: {vary}");
    }
    let own = client.get(&says("/files/a", &public)).await;
    assert_eq!(own.fields("vary").collect::<Vec<_>>(), ["Accept-Encoding", "sec-fetch-site"]);
    assert_eq!(own.field("cache-control"), Some("public, max-age=60"));
    let open = client.get(&says("/static/a", &public)).await;
    assert_eq!(open.fields("vary").collect::<Vec<_>>(), ["Accept-Encoding"]);
    assert_eq!(client.get("/").await.field("vary"), None);
    assert_eq!(client.get(&says("/files/a", &["Vary: *"])).await.fields("vary").collect::<Vec<_>>(), ["*"]);
}

#[tokio::test]
async fn r064_r080_no_other_site_logs_anybody_in_or_out() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    gateway.take();
    let elsewhere = ["Sec-Fetch-Site: cross-site", "Origin: https://evil.test", FORM];
    let login = says("/login", &["Session-Login: \"eve\""]);
    for mut victim in [client.clone(), gateway.client()] {
        let before = victim.cookie.clone();
        assert_eq!(victim.send("POST", &login, &elsewhere, "user=eve&password=x").await.status, 403);
        assert_eq!(victim.ask("POST", "/.cloakroom/logout", &elsewhere).await.status, 403);
        assert_eq!(victim.ask("GET", "/.cloakroom/logout", &elsewhere).await.status, 403);
        assert_eq!(victim.get("/.cloakroom/logout").await.status, 405);
        assert_eq!(victim.get(&login).await.status, 502, "a GET logs nobody in");
        assert_eq!(victim.cookie, before);
    }
    client.get("/").await;
    assert!(gateway.last().contains("session-subject: \"alice\"\n"));
}

#[tokio::test]
async fn r064_the_gateways_own_forms_carry_tokens() {
    let gateway = gateway("[csrf]\nmode = \"verdict-and-token\"").await;
    let mut client = gateway.client();
    let uses = says("/", &["Session-Csrf: ?1"]);
    let visitors = format!("cloakroom_csrf={}", token(&client.get(&uses).await.body));
    client.send("POST", &says("/", &["Session-Login: \"alice\""]), &[FORM], &visitors).await;
    for page in ["/.cloakroom/sessions", "/.cloakroom/signed-out"] {
        let page = client.get(page).await;
        let field = "name=\"cloakroom_csrf\" value=\"";
        assert_eq!(page.body.matches("method=\"post\"").count(), page.body.matches(field).count());
        let in_form = page.body.split(field).nth(1).unwrap().split('"').next().unwrap().to_owned();
        assert_eq!(client.ask("POST", "/.cloakroom/sessions/end-others", &[]).await.status, 403);
        let body = format!("cloakroom_csrf={in_form}");
        let answer = client.send("POST", "/.cloakroom/sessions/end-others", &[FORM], &body).await;
        assert_eq!((answer.status, answer.field("location")), (303, Some("/.cloakroom/sessions")));
    }
}
