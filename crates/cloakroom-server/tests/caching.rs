//! What caches between the gateway and its clients may keep.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod harness;

use crate::harness::{gateway, says};

const NONE: &str = "[[route]]\npath = \"/static\"\nsession = \"none\"\n[[route]]\npath = \"/account\"\nrequire = \"authenticated\"";

#[tokio::test]
async fn r125_no_cache_is_told_otherwise_by_another_field() {
    let gateway = gateway(NONE).await;
    let mut client = gateway.client();
    client.log_in("alice").await;
    let lines = [
        "Cache-Control: public, max-age=60",
        "CDN-Cache-Control: max-age=60",
        "Cloudflare-CDN-Cache-Control: max-age=60",
        "Surrogate-Control: max-age=60",
        "X-Accel-Expires: 60",
        "X-Kept: yes",
    ];
    let page = client.get(&says("/page", &lines)).await;
    assert_eq!((page.field("cache-control"), page.field("x-kept")), (Some("no-store"), Some("yes")));
    let lower = page.head.to_lowercase();
    for name in ["cdn-cache", "surrogate", "x-accel"] {
        assert!(!lower.contains(name), "{name}: {lower}");
    }
    let file = client.get(&says("/static/x", &lines)).await;
    assert_eq!(file.field("cdn-cache-control"), Some("max-age=60"), "caching of static files is untouched");
    assert_eq!(file.field("cache-control"), Some("public, max-age=60"));
}

#[tokio::test]
async fn r125_r126_what_sets_a_cookie_is_never_stored_not_even_a_static_file() {
    let gateway = gateway(NONE).await;
    let lines = ["Cache-Control: public", "Set-Cookie: theme=dark", "CDN-Cache-Control: max-age=60"];
    let file = gateway.client().get(&says("/static/x", &lines)).await;
    assert_eq!(file.field("set-cookie"), Some("theme=dark"));
    assert_eq!((file.field("cache-control"), file.field("cdn-cache-control")), (Some("no-store"), None));
}

#[tokio::test]
async fn r125_answers_that_depend_on_there_being_no_session_are_not_stored_either() {
    let gateway = gateway(NONE).await;
    let mut visitor = gateway.client();
    let page = visitor.get(&says("/page", &["Cache-Control: public, max-age=60"])).await;
    assert_eq!(page.field("cache-control"), Some("no-store"));
    for fields in [&["Sec-Fetch-Mode: navigate"][..], &[]] {
        let refused = visitor.ask("GET", "/account", fields).await;
        assert!(matches!(refused.status, 303 | 401));
        assert_eq!(refused.field("cache-control"), Some("no-store"), "{refused:?}");
    }
    for path in ["/.cloakroom/sessions", "/.cloakroom/signed-out", "/.cloakroom/none", "/a%2fb"] {
        assert_eq!(visitor.get(path).await.field("cache-control"), Some("no-store"), "{path}");
    }
}
