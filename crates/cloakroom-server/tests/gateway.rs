//! The header protocol from end to end: what the application is told, and what comes of its answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{gateway, of_a_session, says};

#[tokio::test]
async fn r008_the_application_is_told_who_it_is_and_never_a_token() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.get("/").await;
    assert!(!of_a_session(&gateway.last()), "an anonymous visitor without session: {}", gateway.last());
    let login = client
        .told(&[
            "303",
            "Location: /",
            "Session-Login: \"alice\"",
            "Session-Level: 2",
            "Session-Methods: pwd, otp",
            "Session-Set: cart=\"tea\", name=%\"zo%c3%ab\"",
        ])
        .await;
    assert_eq!((login.status, login.field("location")), (303, Some("/")));
    assert!(!login.head.to_lowercase().contains("\nsession-"), "{}", login.head);
    assert_eq!(login.field("cache-control"), Some("no-store"));
    let token = client.cookie.clone().unwrap();
    let answer = client.get("/").await;
    let told = gateway.last();
    for part in [
        "session-subject: \"alice\"\n",
        "session-level: 2\n",
        "session-authenticated-at: @",
        "session-handle: \"",
        "session-data: cart=\"tea\", name=%\"zo%c3%ab\"\n",
        "cookie: a=1; b=2\n",
        "x-forwarded-for: 127.0.0.1\n",
        "x-forwarded-proto: http\n",
    ] {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
    assert!(told.contains(&format!("host: {}\n", gateway.address)), "{told}");
    assert!(!told.contains(&token[22..]) && !answer.body.contains(&token[22..]), "{told}");
    assert_eq!(answer.field("set-cookie"), None);
}

#[tokio::test]
async fn r130_what_a_client_claims_of_a_session_never_arrives() {
    let gateway = gateway("gateway_secret = \"a-secret-of-the-test\"").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let spoofs = [
        "Session-Subject: \"root\"",
        "session_subject: \"root\"",
        "SESSION-SUBJECT: \"root\"",
        "Session-Level: 3",
        "Session-Data: role=\"admin\"",
        "Session-Anything: ?1",
        "Csp-Nonce: mine",
        "csp_nonce: mine",
        "Gateway-Secret: mine",
        "X-Forwarded-For: 6.6.6.6",
        "Forwarded: for=6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "Connection: close, Session-Handle, X-Private, Host",
        "X-Private: nominated",
        "Keep-Alive: timeout=5",
        "Proxy-Authorization: Basic eA==",
        "TE: trailers",
    ];
    client.ask("GET", "/", &spoofs).await;
    let told = gateway.last();
    for lie in [
        "root",
        "admin",
        "mine",
        "6.6.6.6",
        "anything",
        "nominated",
        "keep-alive",
        "proxy-",
        "\nte:",
        "level: 3",
    ] {
        assert!(!told.contains(lie), "{lie:?} arrived:\n{told}");
    }
    assert!(told.contains("gateway-secret: a-secret-of-the-test\n"), "{told}");
    assert_eq!(told.matches("session-subject").count(), 1);
    assert!(told.contains("session-handle: "), "a field that the client nominates is still sent: {told}");
    let mut stranger = gateway.client();
    stranger.ask("GET", "/", &spoofs).await;
    assert!(!of_a_session(&gateway.last()), "{}", gateway.last());
}

#[tokio::test]
async fn r049_r054_commands_do_what_they_say() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let first = client.cookie.clone();
    client.told(&["Session-Set: a=\"1\", b=\"2\""]).await;
    client.told(&["Session-Unset: a", "Session-Set: b=\"3\""]).await;
    client.get("/").await;
    assert!(gateway.last().contains("session-data: b=\"3\"\n"), "{}", gateway.last());
    client.told(&["Session-Rotate: ?1"]).await;
    assert_ne!(client.cookie, first);
    let old = crate::harness::Client { cookie: first, ..client.clone() };
    old.clone().get("/").await;
    assert!(!gateway.last().contains("alice"), "the old secret is refused at once");
    client.told(&["Session-Step-Up: \"alice\"", "Session-Level: 2", "Session-Methods: otp"]).await;
    client.get("/").await;
    assert!(gateway.last().contains("session-level: 2\n"), "{}", gateway.last());
    let mut other = gateway.client();
    other.log_in("alice").await;
    other.told(&["Session-Logout: others"]).await;
    client.get("/").await;
    assert!(!gateway.last().contains("alice"), "{}", gateway.last());
    // A login does not count as begun after an "end all" of the same instant.
    gateway.advance(1);
    client.log_in("alice").await;
    let out = client.told(&["303", "Location: /.cloakroom/signed-out", "Session-Logout: everywhere"]).await;
    assert_eq!(out.field("clear-site-data"), Some(r#""cache", "storage""#));
    assert_eq!(client.cookie, None);
    other.get("/").await;
    assert!(!gateway.last().contains("alice"), "{}", gateway.last());
}

#[tokio::test]
async fn r063_a_logout_empties_the_jar_of_the_whole_site_only_where_the_configuration_says_so() {
    for (setting, cleared) in [
        ("", r#""cache", "storage""#),
        ("[cookie]\nlogout_clears_cookies_of_whole_site = true", r#""cache", "cookies", "storage""#),
    ] {
        let gateway = gateway(setting).await;
        let mut client = gateway.client();
        client.log_in("alice").await;
        let out = client.told(&["Session-Logout: this"]).await;
        assert_eq!((out.field("clear-site-data"), client.cookie.clone()), (Some(cleared), None), "{setting}");
    }
}

#[tokio::test]
async fn an_application_learns_before_it_answers_that_nothing_is_kept_beside_a_token_that_just_ended() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let old = client.clone();
    client.told(&["Session-Logout: this"]).await;
    client.get("/").await;
    assert!(!gateway.last().contains("session-read-only"), "{}", gateway.last());
    for lines in
        [&["201", "Session-Set: cart=\"tea\""][..], &["201", "Session-Unset: cart", "Session-Set: a=\"1\""]]
    {
        let mut late = old.clone();
        gateway.log.take();
        let answer = late.told(lines).await;
        assert!(gateway.last().contains("session-read-only: ?1\n"), "{}", gateway.last());
        // What the application has done besides is done, and its client is told so.
        assert_eq!((answer.status, answer.field("set-cookie")), (201, None), "{lines:?}");
        assert_eq!(gateway.log.take(), ["session_use_after_expire", "session_write_discarded"], "{lines:?}");
    }
    let mut late = old.clone();
    late.told(&["Session-Login: \"alice\"", "Session-Set: cart=\"tea\""]).await;
    late.get("/").await;
    assert!(gateway.last().contains("session-data: cart=\"tea\"\n"), "a login and its data are one write");
    gateway.advance(66);
    let mut late = old.clone();
    late.told(&["Session-Set: cart=\"tea\""]).await;
    assert!(!gateway.last().contains("session-read-only"), "{}", gateway.last());
    late.get("/").await;
    assert!(gateway.last().contains("session-data: cart=\"tea\"\n"), "{}", gateway.last());
}

#[tokio::test]
async fn r050_login_and_data_in_one_response_are_one_session_and_set_wins_over_unset() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.told(&["Session-Set: old=\"1\""]).await;
    client.told(&["Session-Login: \"alice\"", "Session-Unset: cart, gone", "Session-Set: cart=\"2\""]).await;
    client.get("/").await;
    assert!(gateway.last().contains("session-data: cart=\"2\"\n"), "{}", gateway.last());
}

#[tokio::test]
async fn a_malformed_or_refused_command_is_a_502_and_half_obeyed_by_nobody_but_a_logout() {
    let gateway = gateway("[[route]]\npath = \"/static\"\nsession = \"none\"").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    gateway.log.take();
    let token = client.cookie.clone();
    let bad: [&[&str]; 8] = [
        &["Session-Set: a=\"1\"", "Session-Lgoin: \"bob\""],
        &["Session-Login: bob", "Session-Set: a=\"1\""],
        &["Session-Login: \"bob\"", "Session-Login: \"eve\""],
        &["Session-Step-Up: \"bob\""],
        &["Session-Set: a=1"],
        &["Session-Set: a=\"1\";p=2"],
        &["Session-Rotate: yes", "Session-Set: a=\"1\""],
        &["Session-Level: 2"],
    ];
    for lines in bad {
        let answer = client.told(lines).await;
        assert_eq!((answer.status, answer.field("set-cookie")), (502, None), "{lines:?}");
        assert_eq!(gateway.log.take(), ["gateway_command_refused"], "{lines:?}");
        assert!(!answer.body.contains("Session") && !answer.body.contains("bob"), "{}", answer.body);
        client.get("/").await;
        let told = gateway.last();
        assert!(
            told.contains("session-subject: \"alice\"\n") && !told.contains("session-data"),
            "{lines:?}: {told}"
        );
    }
    let huge = format!("Session-Set: a=\"{}\"", "x".repeat(5000));
    assert_eq!(client.told(&[&huge]).await.status, 502);
    for method in ["GET", "HEAD", "OPTIONS"] {
        for (command, status) in [
            ("Session-Logout: this", 403),
            ("Session-Login: \"eve\"", 502),
            ("Session-Rotate: ?1", 502),
            ("Session-Step-Up: \"alice\"", 502),
        ] {
            let answer = client.ask(method, &says("/", &[command]), &[]).await;
            assert_eq!(answer.status, status, "{method} {command}");
        }
    }
    assert_eq!(client.get(&says("/static/x", &["Session-Login: \"eve\""])).await.status, 502);
    assert_eq!(client.cookie, token);
    client.get("/").await;
    assert!(gateway.last().contains("session-subject: \"alice\"\n"));
    let out = client.told(&["Session-Logout: this", "Session-Lgoin: \"bob\""]).await;
    assert_eq!((out.status, client.cookie.as_deref()), (502, None), "a logout is always carried out");
}

#[tokio::test]
async fn r125_what_touches_a_session_is_not_stored_and_static_files_stay_cacheable() {
    let gateway = gateway("[[route]]\npath = \"/static\"\nsession = \"none\"").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let public = [
        "Cache-Control: public, max-age=60",
        "Set-Cookie: theme=dark",
        "Set-Cookie: __Host-Http-sid=mine; Path=/",
    ];
    gateway.log.take();
    let page = client.get(&says("/page", &public)).await;
    assert_eq!(page.field("cache-control"), Some("no-store"));
    assert_eq!(page.field("set-cookie"), Some("theme=dark"), "the application's own cookies pass");
    assert!(!page.head.contains("mine"), "{}", page.head);
    assert_eq!(gateway.log.take(), ["gateway_cookie_dropped"]);
    let file = client.get(&says("/static/x.css", &["Cache-Control: public, max-age=60"])).await;
    assert_eq!(file.field("cache-control"), Some("public, max-age=60"));
    assert!(!gateway.last().contains("session-"), "{}", gateway.last());
}

#[tokio::test]
async fn a_login_callback_works_on_get_with_the_session_that_began_the_flow_only() {
    let gateway = gateway("[[route]]\npath = \"/callback\"\nlogin_callback = true").await;
    let mut stranger = gateway.client();
    let login = says("/callback", &["Session-Login: \"alice\""]);
    assert_eq!(stranger.get(&login).await.status, 502);
    let mut client = gateway.client();
    client.told(&["Session-Set: state=\"x\""]).await;
    assert_eq!(client.get(&login).await.status, 200);
    client.get("/").await;
    assert!(gateway.last().contains("session-subject: \"alice\"\n"));
}

#[tokio::test]
async fn r074_a_get_begins_and_ends_no_session_whatever_the_application_says() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let cookie = client.cookie.clone();
    for (line, status) in [
        ("Session-Logout: this", 403),
        ("Session-Logout: everywhere", 403),
        ("Session-Login: \"mallory\"", 502),
        ("Session-Rotate: ?1", 502),
    ] {
        assert_eq!(client.get(&says("/", &[line])).await.status, status, "{line}");
        let mut stranger = gateway.client();
        assert_eq!(stranger.get(&says("/", &[line])).await.status, status, "{line}");
        assert_eq!((stranger.cookie, client.cookie.as_ref()), (None, cookie.as_ref()), "{line}");
        client.get("/").await;
        assert!(gateway.last().contains("session-subject: \"alice\"\n"), "{line}: {}", gateway.last());
    }
}

#[tokio::test]
async fn r118_r121_routes_demand_what_they_say_and_lead_back() {
    let toml = "[[route]]\npath = \"/account\"\nrequire = \"authenticated\"\n\
                [[route]]\npath = \"/account/delete\"\nrequire = \"recent\"";
    let gateway = gateway(toml).await;
    let mut client = gateway.client();
    let browser = ["Sec-Fetch-Mode: navigate"];
    let page = client.ask("GET", "/account/a%20b?x=1&y=%2F", &browser).await;
    assert_eq!(
        (page.status, page.field("location")),
        (303, Some("/login?return=/account/a%2520b%3Fx%3D1%26y%3D%252F"))
    );
    assert_eq!(client.ask("GET", "/account", &["Accept: text/html"]).await.status, 303);
    assert_eq!(
        client.ask("GET", "/account", &["Sec-Fetch-Mode: cors", "Accept: text/html"]).await.status,
        401
    );
    assert_eq!(client.ask("POST", "/account", &[]).await.status, 401);
    assert!(gateway.received.lock().unwrap().is_empty(), "nothing arrived");
    client.log_in("alice").await;
    assert_eq!(client.get("/account/delete").await.status, 200);
    gateway.advance(400);
    assert_eq!(client.get("/account").await.status, 200);
    let again = client.ask("GET", "/account/delete", &browser).await;
    assert_eq!(again.field("location"), Some("/login?return=/account/delete&recent=1"));
    gateway.advance(1900);
    let expired = client.ask("GET", "/account", &browser).await;
    assert_eq!(expired.field("location"), Some("/login?return=/account&expired=1"), "the user is told");
    let mut forger = gateway.client();
    forger.cookie = Some("A".repeat(64));
    let forged = forger.ask("GET", "/account", &browser).await;
    assert_eq!(forged.field("location"), Some("/login?return=/account"), "and nobody else is");
}

#[tokio::test]
async fn r064_r071_r083_requests_from_elsewhere_are_refused_before_the_application_sees_them() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let count = gateway.received.lock().unwrap().len();
    let own = format!("Origin: http://{}", gateway.address);
    let cookie = client.cookie.clone().unwrap();
    let with = |fields: &str| {
        let (path, host) = (says("/", &["Session-Logout: this"]), gateway.address);
        format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nCookie: __Host-Http-sid={cookie}\r\n\
                 Content-Length: 0\r\n{fields}\r\n"
        )
    };
    for fields in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: https://evil.test\r\n",
        "Origin: null\r\n",
        "",
    ] {
        let answer = harness::Answer::parse(&harness::raw(gateway.address, with(fields).as_bytes()).await);
        assert_eq!(answer.status, 403, "{fields:?}");
    }
    let socket = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: https://evil.test\r\n";
    let get = with(socket).replacen("POST", "GET", 1);
    assert_eq!(harness::Answer::parse(&harness::raw(gateway.address, get.as_bytes()).await).status, 403);
    assert_eq!(gateway.received.lock().unwrap().len(), count, "nothing arrived");
    client.get("/").await;
    assert!(gateway.last().contains("alice"));
    let twin = harness::raw(gateway.address, with(&format!("{own}\r\n")).as_bytes()).await;
    assert_eq!(harness::Answer::parse(&twin).status, 200, "the same request from the site's own page passes");
}

#[tokio::test]
async fn r115_r116_the_gateways_own_pages_list_and_end_sessions() {
    let gateway = gateway("").await;
    let (mut here, mut there) = (gateway.client(), gateway.client());
    here.log_in("alice").await;
    there.ask("POST", &says("/", &["Session-Login: \"alice\""]), &["User-Agent: curl/8"]).await;
    let page = here.get("/.cloakroom/sessions").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("This browser") && page.body.contains("curl"), "{}", page.body);
    assert_eq!(page.field("cache-control"), Some("no-store"));
    assert!(page.field("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
    let handle =
        page.body.split("name=\"handle\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let body = format!("handle={handle}");
    let post = async |client: &harness::Client| {
        let length = format!("Content-Length: {}", body.len());
        let fields = [length.as_str(), "Content-Type: application/x-www-form-urlencoded"];
        let request = client.request("POST", "/.cloakroom/sessions/end", &fields);
        harness::Answer::parse(&harness::raw(gateway.address, (request + &body).as_bytes()).await)
    };
    gateway.advance(400);
    let asked = post(&here).await;
    assert_eq!(
        asked.field("location"),
        Some("/login?return=/.cloakroom/sessions&recent=1"),
        "R-116: a recent login"
    );
    here.told(&["Session-Step-Up: \"alice\""]).await;
    assert_eq!(post(&here).await.field("location"), Some("/.cloakroom/sessions"));
    there.get("/").await;
    assert!(!gateway.last().contains("alice"), "{}", gateway.last());
    assert_eq!(here.get("/.cloakroom/nothing").await.status, 404);
    assert_eq!(here.get("/.cloakroom/logout").await.status, 405, "R-064: no logout by GET");
    let out = here.ask("POST", "/.cloakroom/logout", &[]).await;
    assert_eq!((out.field("location"), here.cookie.as_deref()), (Some("/.cloakroom/signed-out"), None));
    let landing = here.get("/.cloakroom/signed-out").await;
    assert_eq!(landing.field("clear-site-data"), Some("\"cache\""));
    assert!(landing.body.contains("/.cloakroom/signed-out.css"));
    let loaded = here.get("/.cloakroom/signed-out.css").await;
    assert_eq!((loaded.status, loaded.field("clear-site-data")), (200, Some("\"cache\"")));
    assert_eq!(loaded.field("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn r121_whose_session_was_ended_from_elsewhere_is_told_so_and_nobody_else_is() {
    let gateway = gateway("[[route]]\npath = \"/account\"\nrequire = \"authenticated\"").await;
    let browser = ["Sec-Fetch-Mode: navigate"];
    for (how, told) in [
        ("Session-Logout: others", "&ended=1"),
        ("Session-Logout: everywhere", "&ended=1"),
        ("one's own logout", ""),
    ] {
        let (mut here, mut there) = (gateway.client(), gateway.client());
        for client in [&mut here, &mut there] {
            // A login at the instant of an "end all sessions" loses.
            while client.cookie.is_none() {
                client.log_in("alice").await;
            }
        }
        match told {
            "" => drop(here.clone().told(&["Session-Logout: this"]).await),
            _ => drop(there.told(&[how]).await),
        }
        let page = here.ask("GET", "/account", &browser).await;
        let expected = format!("/login?return=/account{told}");
        assert_eq!(page.field("location"), Some(expected.as_str()), "{how}");
        let mut forger = here.clone();
        let handle = &here.cookie.unwrap()[..22];
        forger.cookie = Some(format!("{handle}{}", "A".repeat(42)));
        let page = forger.ask("GET", "/account", &browser).await;
        assert_eq!(page.field("location"), Some("/login?return=/account"), "{how}: knows the handle only");
    }
}

#[tokio::test]
async fn the_landing_page_says_signed_out_only_to_who_is() {
    let gateway = gateway("").await;
    let mut client = gateway.client();
    client.log_in("alice <b>").await;
    let page = client.get("/.cloakroom/signed-out").await;
    assert!(!page.body.contains("signed out") && page.body.contains("still signed in"), "{}", page.body);
    assert!(!page.body.contains("alice"), "the subject is the application's own id: {}", page.body);
    assert!(page.body.contains("action=\"/.cloakroom/logout\""), "a way out");
    assert_eq!(page.field("clear-site-data"), Some("\"cache\""));
    client.ask("POST", "/.cloakroom/logout", &[]).await;
    let page = client.get("/.cloakroom/signed-out").await;
    assert!(page.body.contains("You are signed out") && !page.body.contains("still"), "{}", page.body);
}

#[tokio::test]
async fn r111_guessing_from_one_network_is_bounded_by_the_gateway_and_signs_nobody_out() {
    let gateway =
        gateway("trusted_proxies = [\"127.0.0.1\"]\n[limits]\nunknown_tokens = 10\nlook_ups = 5").await;
    let campus = ["X-Forwarded-For: 203.0.113.7"];
    let mut alice = gateway.client();
    alice.ask("POST", &says("/", &["Session-Login: \"alice\""]), &campus).await;
    let mut statuses = Vec::new();
    for n in 0..30 {
        let mut guesser = gateway.client();
        guesser.cookie = Some(format!("{n:064}"));
        let answer = guesser.ask("GET", "/", &campus).await;
        assert_eq!(answer.field("set-cookie"), None);
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [[200; 16].as_slice(), &[503; 14]].concat());
    alice.ask("GET", "/", &campus).await;
    assert!(gateway.last().contains("session-subject: \"alice\"\n"), "{}", gateway.last());
    let throttled = gateway.log.take().iter().filter(|event| **event == "excess_rate_limit_exceeded").count();
    assert_eq!(throttled, 14);
}
