//! The smallest application over real HTTP.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use cloakroom_testkit::browser::{Browser, serve};

#[tokio::test]
async fn r019_visits_are_counted_per_browser_under_one_cookie() {
    let server = serve(axum_hello::app().unwrap()).await;
    let mut browser = Browser::new(server);
    let first = browser.get("/").await;
    assert_eq!(first.body, "Visits: 1\n");
    let cookie = first.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-Http-hello="), "{cookie}");
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
    let second = browser.get("/").await;
    assert_eq!(second.body, "Visits: 2\n");
    assert_eq!(second.header("set-cookie"), None, "a write that changes no token sets no cookie");
    assert_eq!(second.header("cache-control"), Some("no-store"));
    assert_eq!(Browser::new(server).get("/").await.body, "Visits: 1\n");
}
