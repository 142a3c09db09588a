//! The application with accounts, over real HTTP and a SQLite file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::time::Duration;

use axum_login::users::Users;
use cloakroom::core::clock::Timestamp;
use cloakroom::{CookieOptions, Csrf, SessionLayer};
use cloakroom_sqlite::SqliteStore;
use cloakroom_testkit::ManualClock;
use cloakroom_testkit::browser::{Browser, Page, serve};

struct Site {
    address: SocketAddr,
    clock: ManualClock,
    _folder: tempfile::TempDir,
}

async fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("sessions.db")).unwrap();
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let cookie = CookieOptions::default().name("__Host-Http-login");
    let sessions = SessionLayer::builder(store).cookie(cookie).clock(clock.clone()).build().unwrap();
    let sessions = sessions.protect(Csrf::new("http://127.0.0.1:3001")).unwrap();
    let address = serve(axum_login::app(sessions, Users::demo().unwrap())).await;
    Site { address, clock, _folder: folder }
}

async fn log_in(browser: &mut Browser, name: &str, password: &str) -> Page {
    browser.post("/login", &[("username", name), ("password", password)]).await
}

fn leads_to(page: &Page, path: &str) {
    assert!(page.status.is_redirection(), "{page:?}");
    assert_eq!(page.header("location"), Some(path));
}

#[tokio::test]
async fn a_user_signs_in_keeps_notes_and_signs_out() {
    let site = site().await;
    let mut browser = Browser::new(site.address);
    leads_to(&browser.get("/notes").await, "/login");
    leads_to(&log_in(&mut browser, "alice", "wrong").await, "/login?wrong=1");
    leads_to(&log_in(&mut browser, "nobody", "wrong").await, "/login?wrong=1");
    leads_to(&log_in(&mut browser, "", "wrong").await, "/login?wrong=1");
    assert!(browser.get("/login?wrong=1").await.body.contains("Name or password is wrong."));
    leads_to(&log_in(&mut browser, "alice", "wonderland-42").await, "/notes");
    leads_to(&browser.post("/notes", &[("text", "<b>tea</b> & cake")]).await, "/notes");
    let notes = browser.get("/notes").await;
    assert!(notes.body.contains("&#60;b&#62;tea&#60;/b&#62; &#38; cake"), "{}", notes.body);
    let kept = browser.clone();
    let out = browser.post("/logout", &[]).await;
    leads_to(&out, "/signed-out");
    assert_eq!(out.header("clear-site-data"), Some(r#""cache", "storage""#));
    let landing = browser.follow(out).await;
    assert_eq!(landing.header("clear-site-data"), Some(r#""cache""#));
    assert_eq!(landing.header("cache-control"), Some("no-store"));
    assert_eq!(browser.jar.field(), None);
    leads_to(&kept.clone().get("/notes").await, "/login");
}

#[tokio::test]
async fn r116_r117_other_sessions_are_listed_and_ended_after_the_password_was_asked_again() {
    let site = site().await;
    let (mut home, mut work) = (Browser::new(site.address), Browser::new(site.address));
    work.user_agent = "curl/8.5.0".to_owned();
    log_in(&mut home, "alice", "wonderland-42").await;
    log_in(&mut work, "alice", "wonderland-42").await;
    let page = home.get("/sessions").await;
    assert!(page.body.contains("Firefox on Linux (this browser)"), "{}", page.body);
    let handle = page.body.split("value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    site.clock.advance(Duration::from_secs(600));
    leads_to(&home.post("/sessions/end", &[("handle", &handle)]).await, "/confirm");
    assert_eq!(work.get("/notes").await.status, 200);
    leads_to(&home.post("/confirm", &[("password", "wrong")]).await, "/confirm?wrong=1");
    leads_to(&home.post("/confirm", &[("password", "wonderland-42")]).await, "/sessions");
    leads_to(&home.post("/sessions/end", &[("handle", &handle)]).await, "/sessions");
    leads_to(&work.get("/notes").await, "/login");
    log_in(&mut work, "alice", "wonderland-42").await;
    leads_to(&home.post("/sessions/end-others", &[]).await, "/sessions");
    leads_to(&work.get("/notes").await, "/login");
    assert_eq!(home.get("/notes").await.status, 200);
}

#[tokio::test]
async fn a_form_that_another_site_sends_is_refused_before_the_handler() {
    let site = site().await;
    let mut browser = Browser::new(site.address);
    log_in(&mut browser, "alice", "wonderland-42").await;
    let cookie = browser.jar.field().unwrap();
    let request = format!(
        "POST /logout HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\nSec-Fetch-Site: cross-site\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n",
        site.address
    );
    let answer = tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(site.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 403"));
    assert_eq!(browser.get("/notes").await.status, 200);
}

#[tokio::test]
async fn the_login_form_has_a_token_and_its_page_the_headers() {
    let site = site().await;
    let mut browser = Browser::new(site.address);
    let page = browser.get("/login").await;
    assert!(page.header("set-cookie").unwrap().starts_with("__Host-Http-login-csrf="), "{page:?}");
    assert!(page.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
    let token =
        page.body.split("name=\"cloakroom_csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let fields = [("cloakroom_csrf", token), ("username", "alice"), ("password", "wonderland-42")];
    leads_to(&browser.post("/login", &fields).await, "/notes");
}
