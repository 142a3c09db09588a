//! The application as the gateway sees it: every route, and what it does with requests that it should not serve.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::fs;
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use cloakroom_demo::{DemoError, Options, Secret};
use http_body_util::BodyExt;
use tower::ServiceExt;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const ALICE: (&str, &str) = ("session-subject", "\"u1001\"");
const BOB: (&str, &str) = ("session-subject", "\"u1002\"");

struct Site {
    app: Router,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Page {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Page {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    fn leads_to(&self, target: &str) {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{self:?}");
        assert_eq!(self.header("location"), Some(target));
    }

    /// The names of all session commands in the response.
    fn commands(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .headers
            .keys()
            .map(|name| name.as_str())
            .filter(|name| name.starts_with("session-"))
            .collect();
        names.sort_unstable();
        names
    }
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { app: open(folder.path().join("notes.json")), folder }
    }

    fn notes_file(&self) -> PathBuf {
        self.folder.path().join("notes.json")
    }

    async fn get(&self, path: &str, told: &[(&str, &str)]) -> Page {
        self.send(Method::GET, path, told, "").await
    }

    async fn post(&self, path: &str, told: &[(&str, &str)], form: &str) -> Page {
        self.send(Method::POST, path, told, form).await
    }

    /// A request through the gateway.
    async fn send(&self, method: Method, path: &str, told: &[(&str, &str)], form: &str) -> Page {
        let told: Vec<_> = [("gateway-secret", SECRET)].iter().chain(told).copied().collect();
        self.send_raw(method, path, &told, form).await
    }

    async fn send_raw(&self, method: Method, path: &str, told: &[(&str, &str)], form: &str) -> Page {
        let mut request = Request::builder().method(method).uri(path);
        if !form.is_empty() {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        for &(name, value) in told {
            request = request.header(name, value.as_bytes());
        }
        let response =
            self.app.clone().oneshot(request.body(Body::from(form.to_owned())).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Page { status: head.status, headers: head.headers, body }
    }
}

fn open(file: PathBuf) -> Router {
    cloakroom_demo::app(Options::new(file, Secret::new(SECRET).unwrap())).unwrap()
}

#[tokio::test]
async fn requests_that_did_not_come_through_the_gateway_are_refused_on_every_route() {
    let site = Site::new();
    let wrong = format!("{SECRET}0");
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/login"),
        (Method::POST, "/login"),
        (Method::POST, "/logout"),
        (Method::GET, "/notes"),
        (Method::POST, "/notes"),
        (Method::GET, "/sessions"),
        (Method::POST, "/theme"),
        (Method::GET, "/assets/demo.css"),
        (Method::GET, "/assets/icon.svg"),
        (Method::GET, "/elsewhere"),
    ] {
        for (name, told) in [
            ("none", vec![ALICE]),
            ("empty", vec![ALICE, ("gateway-secret", "")]),
            ("too long", vec![ALICE, ("gateway-secret", wrong.as_str())]),
            ("cut short", vec![ALICE, ("gateway-secret", &SECRET[1..])]),
            ("twice", vec![ALICE, ("gateway-secret", SECRET), ("gateway-secret", "x")]),
        ] {
            let form =
                if method == Method::POST { "text=x&username=alice&password=wonderland-42" } else { "" };
            let page = site.send_raw(method.clone(), path, &told, form).await;
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{method} {path}, secret: {name}");
            assert!(page.commands().is_empty());
            assert!(!page.body.contains("alice"));
        }
    }
    assert!(!fs::read_to_string(site.notes_file()).unwrap().contains("alice"));
    assert_eq!(site.get("/notes", &[ALICE]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_visitor_sees_the_front_page_and_no_session_begins() {
    let site = Site::new();
    let page = site.get("/", &[]).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.body.contains("href=\"/login?return=/notes\""));
    assert!(page.body.contains("you have no session yet"));
    assert!(page.commands().is_empty());
}

#[tokio::test]
async fn the_right_password_logs_in_and_the_wrong_one_does_not() {
    let site = Site::new();
    let form = site.get("/login", &[]).await;
    for text in ["alice", "wonderland-42", "bob", "builder-42", "name=\"username\"", "name=\"password\""] {
        assert!(form.body.contains(text), "{text}");
    }
    for (name, password, subject) in [
        ("alice", "wonderland-42", Some("\"u1001\"")),
        ("bob", "builder-42", Some("\"u1002\"")),
        ("+alice+", "wonderland-42", Some("\"u1001\"")),
        ("alice", "builder-42", None),
        ("alice", "", None),
        ("carol", "wonderland-42", None),
        ("", "", None),
    ] {
        let page = site.post("/login", &[], &format!("username={name}&password={password}")).await;
        assert_eq!(page.header("session-login"), subject, "{name} {password}");
        match subject {
            Some(_) => {
                page.leads_to("/");
                assert_eq!(page.header("session-methods"), Some("pwd"));
                assert_eq!(page.header("session-set"), Some("flash=\"signed-in\""));
            }
            None => {
                assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
                assert!(page.body.contains("The name or the password is wrong."));
                assert!(page.commands().is_empty());
            }
        }
    }
}

#[tokio::test]
async fn a_refused_login_keeps_name_and_target_but_not_the_password() {
    let site = Site::new();
    let page = site.post("/login", &[], "username=%22%3E%3Cb%3E&password=hunter2&return=%2Fnotes").await;
    assert!(page.body.contains("name=\"return\" value=\"/notes\""));
    assert!(page.body.contains("value=\"&#34;&#62;&#60;b&#62;\""), "{}", page.body);
    assert!(!page.body.contains("hunter2"));
    assert!(page.body.contains("role=\"alert\""));
}

#[tokio::test]
async fn the_same_user_confirms_and_another_user_logs_in_anew() {
    let site = Site::new();
    let page = site.get("/login?return=/.cloakroom/sessions", &[ALICE]).await;
    assert!(page.body.contains("Confirm that it is you"));
    let form = "username=alice&password=wonderland-42&return=/.cloakroom/sessions";
    let page = site.post("/login", &[ALICE], form).await;
    page.leads_to("/.cloakroom/sessions");
    assert_eq!(page.header("session-step-up"), Some("\"u1001\""));
    assert_eq!(page.commands(), ["session-methods", "session-step-up"]);
    let page = site.post("/login", &[BOB], form).await;
    assert_eq!(page.header("session-login"), Some("\"u1001\""));
    assert_eq!(page.commands(), ["session-login", "session-methods"]);
    let page = site.post("/login", &[ALICE], "username=alice&password=wrong").await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.commands().is_empty());
}

#[tokio::test]
async fn r077_every_form_has_the_token_and_only_the_login_page_costs_a_visitor_a_cookie() {
    let site = Site::new();
    let token = ("session-csrf-token", "\"tok-en_\"");
    let fields = |page: &Page| page.body.matches("name=\"cloakroom_csrf\" value=\"tok-en_\"").count();
    let forms = |page: &Page| page.body.matches("<form method=\"post\"").count();
    let signed_in = [token, ALICE, ("session-handle", "\"h\"")];
    site.post("/notes", &signed_in, "cloakroom_csrf=tok-en_&text=a").await.leads_to("/notes");
    for path in ["/", "/notes", "/login", "/nothing"] {
        let page = site.get(path, &signed_in).await;
        assert!(fields(&page) == forms(&page) && fields(&page) > 0, "{path}: {}", page.body);
        assert!(page.commands().is_empty(), "{path}: a session has its token anyway");
    }
    let home = site.get("/", &[token]).await;
    assert_eq!((fields(&home), home.commands()), (0, vec![]), "who only looks gets no cookie");
    let login = site.get("/login", &[token]).await;
    assert_eq!((fields(&login), login.header("session-csrf")), (forms(&login), Some("?1")));
    let wrong = site.post("/login", &[token], "username=alice&password=wrong").await;
    assert_eq!((fields(&wrong), wrong.header("session-csrf")), (forms(&wrong), Some("?1")));
}

#[tokio::test]
async fn logout_is_a_post_that_ends_this_session_and_leads_to_the_gateway_s_landing_page() {
    let site = Site::new();
    let page = site.post("/logout", &[ALICE], "").await;
    page.leads_to("/.cloakroom/signed-out");
    assert_eq!(page.header("session-logout"), Some("this"));
    let page = site.get("/logout", &[ALICE]).await;
    assert_eq!(page.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(page.commands().is_empty());
}

#[tokio::test]
async fn r115_logout_is_on_every_page_that_needs_authentication() {
    let site = Site::new();
    let button = "<form method=\"post\" action=\"/logout\">";
    let mut pages = Vec::new();
    for path in ["/", "/notes", "/login", "/elsewhere"] {
        pages.push((path, site.get(path, &[ALICE]).await));
    }
    pages.push(("a refused note", site.post("/notes", &[ALICE], "text=").await));
    pages.push(("a refused confirmation", site.post("/login", &[ALICE], "username=alice&password=x").await));
    for (name, page) in pages {
        assert!(page.body.contains(button), "{name}");
    }
    assert!(!site.get("/", &[]).await.body.contains(button));
}

#[tokio::test]
async fn r121_whose_session_has_ended_is_told_so_and_led_back() {
    let site = Site::new();
    let page = site.get("/login?return=/notes&expired=1", &[]).await;
    assert!(page.body.contains("Your session has ended"));
    assert!(page.body.contains("taken back to where you were"));
    let ended = site.get("/login?return=/notes&ended=1", &[]).await.body;
    assert!(ended.contains("was ended from elsewhere") && ended.contains("taken back to where you were"));
    assert!(!page.body.contains("elsewhere") && !ended.contains("nothing happened"));
    assert!(!site.get("/login?ended=1", &[ALICE]).await.body.contains("elsewhere"));
    assert!(page.body.contains("name=\"return\" value=\"/notes\""));
    assert!(!site.get("/login?return=/notes", &[]).await.body.contains("has ended"));
    assert!(!site.get("/login?return=/notes&expired=1", &[ALICE]).await.body.contains("has ended"));
    let page =
        site.post("/login", &[], "username=alice&password=wonderland-42&return=%2Fnotes%3Fa%3D1").await;
    page.leads_to("/notes?a=1");
}

#[tokio::test]
async fn r121_a_return_target_elsewhere_is_replaced_by_the_front_page() {
    let site = Site::new();
    for (name, encoded) in [
        ("a host", "//evil.example"),
        ("a host, encoded", "%2F%2Fevil.example"),
        ("another site", "https%3A%2F%2Fevil.example"),
        ("a script", "javascript%3Aalert(1)"),
        ("a backslash", "/%5Cevil.example"),
        ("a backslash, encoded twice", "/%255Cevil.example"),
        ("a slash, encoded twice", "/%252Fevil.example"),
        ("dot segments", "/.cloakroom/../.."),
        ("a line break", "/notes%0D%0ASet-Cookie:a=b"),
        ("a line break, encoded twice", "/notes%250D%250ASet-Cookie"),
        ("a tab", "/%09/evil.example"),
        ("a NUL", "/%00"),
        ("bytes that are not UTF-8", "/%FF%FE"),
        ("the login page", "/login?return=/notes"),
        ("the logout", "/logout"),
        ("nothing", ""),
    ] {
        let page = site.get(&format!("/login?return={encoded}"), &[]).await;
        assert!(page.body.contains("name=\"return\" value=\"/\""), "{name}: {}", page.body);
        assert!(!page.body.contains("evil"), "{name}");
        let form = format!("username=alice&password=wonderland-42&return={encoded}");
        site.post("/login", &[], &form).await.leads_to("/");
        let form = format!("theme=dark&return={encoded}");
        let location = site.post("/theme", &[], &form).await.header("location").unwrap().to_owned();
        assert!(matches!(&*location, "/" | "/login?return=/notes" | "/logout"), "{name}: {location}");
    }
}

#[tokio::test]
async fn notes_are_for_whoever_is_signed_in() {
    let site = Site::new();
    site.get("/notes", &[]).await.leads_to("/login?return=/notes");
    site.post("/notes", &[], "text=sneaky").await.leads_to("/login?return=/notes");
    assert!(!fs::read_to_string(site.notes_file()).unwrap().contains("sneaky"));
}

#[tokio::test]
async fn notes_are_escaped_kept_across_restarts_and_removed() {
    let mut site = Site::new();
    let page = site.post("/notes", &[ALICE], "text=%3Cb%3Etea%3C%2Fb%3E+%26+cake%0D%0A%22+onclick%3Dx").await;
    page.leads_to("/notes");
    assert_eq!(page.header("session-set"), Some("flash=\"added\""));
    site.post("/notes", &[ALICE], "text=second").await.leads_to("/notes");
    site.app = open(site.notes_file());
    let page = site.get("/notes", &[ALICE]).await;
    assert!(page.body.contains("&#60;b&#62;tea&#60;/b&#62; &#38; cake\n&#34; onclick=x"), "{}", page.body);
    assert!(page.body.find("second") < page.body.find("tea"), "the newest comes first");
    let page = site.post("/notes", &[ALICE], "remove=1").await;
    assert_eq!(page.header("session-set"), Some("flash=\"removed\""));
    site.app = open(site.notes_file());
    let page = site.get("/notes", &[ALICE]).await;
    assert!(!page.body.contains("tea") && page.body.contains("second"));
}

#[tokio::test]
async fn formatted_notes_are_shown_without_what_could_do_harm() {
    let mut site = Site::new();
    let html =
        "text=%3Cb%3Etea%3C%2Fb%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E%3Cimg+src%3Dx+onerror%3Dalert(2)%3E";
    site.post("/notes", &[ALICE], &format!("{html}&formatted=1")).await.leads_to("/notes");
    for _ in 0..2 {
        let page = site.get("/notes", &[ALICE]).await;
        assert!(page.body.contains("id=\"note-1\"><b>tea</b></div>"), "{}", page.body);
        assert!(!page.body.contains("alert") && !page.body.contains("<img"), "{}", page.body);
        site.app = open(site.notes_file());
    }
    // Without the box it is text.
    site.post("/notes", &[ALICE], html).await.leads_to("/notes");
    let page = site.get("/notes", &[ALICE]).await;
    assert!(page.body.contains("&#60;script&#62;alert(1)&#60;/script&#62;"), "{}", page.body);
}

#[tokio::test]
async fn each_subject_sees_and_removes_its_own_notes_only() {
    let site = Site::new();
    let zoe = ("session-subject", "%\"Zo%c3%ab\"");
    site.post("/notes", &[ALICE], "text=from+alice").await;
    site.post("/notes", &[zoe], "text=from+zoe").await;
    for (who, own, foreign) in [(ALICE, "from alice", "from zoe"), (zoe, "from zoe", "from alice")] {
        let page = site.get("/notes", &[who]).await;
        assert!(page.body.contains(own) && !page.body.contains(foreign), "{who:?}");
    }
    assert!(!site.get("/notes", &[BOB]).await.body.contains("from "));
    site.post("/notes", &[BOB], "remove=1").await.leads_to("/notes");
    assert!(site.get("/notes", &[ALICE]).await.body.contains("from alice"));
    assert!(site.get("/", &[zoe]).await.body.contains("Zoë"));
}

#[tokio::test]
async fn notes_have_limits_and_what_was_typed_is_not_lost() {
    let site = Site::new();
    for (form, sentence) in [
        ("text=+%0A".to_owned(), "nothing in that note"),
        (format!("text=keep+{}", "x".repeat(500)), "too long"),
    ] {
        let page = site.post("/notes", &[ALICE], &form).await;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(page.body.contains(sentence) && page.body.contains("role=\"alert\""));
        assert!(page.commands().is_empty());
    }
    for number in 0..50 {
        site.post("/notes", &[ALICE], &format!("text=note+{number}")).await.leads_to("/notes");
    }
    let page = site.post("/notes", &[ALICE], "text=one+too+many").await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.body.contains("Your pocket is full") && page.body.contains(">one too many</textarea>"));
    site.post("/notes", &[BOB], "text=room").await.leads_to("/notes");
    site.post("/notes", &[ALICE], "remove=7").await.leads_to("/notes");
    site.post("/notes", &[ALICE], "text=fits+again").await.leads_to("/notes");
}

#[tokio::test]
async fn notes_that_cannot_be_written_are_not_shown_as_kept() {
    let site = Site::new();
    fs::create_dir(site.folder.path().join("notes.json.new")).unwrap(); // stands where the new file should go
    let page = site.post("/notes", &[ALICE], "text=lost").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.commands().is_empty() && !page.body.contains("notes.json"));
    assert!(!site.get("/notes", &[ALICE]).await.body.contains("lost"));
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_reported_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.json");
    for text in
        ["", "[]", "{\"format\":2,\"subjects\":{}}", "{\"format\":1,\"subjects\":{},\"more\":1}", "\u{0}"]
    {
        fs::write(&file, text).unwrap();
        let options = Options::new(&file, Secret::new(SECRET).unwrap());
        assert!(matches!(cloakroom_demo::app(options), Err(DemoError::NotesFormat(_))), "{text:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    let options = Options::new(folder.path().join("no/such/folder.json"), Secret::new(SECRET).unwrap());
    assert!(matches!(cloakroom_demo::app(options), Err(DemoError::NotesFile(_))));
}

#[cfg(unix)]
#[tokio::test]
async fn the_notes_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    site.post("/notes", &[ALICE], "text=private").await;
    assert_eq!(fs::metadata(site.notes_file()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_sessions_page_is_the_gateway_s() {
    let site = Site::new();
    site.get("/sessions", &[ALICE]).await.leads_to("/.cloakroom/sessions");
}

#[tokio::test]
async fn a_theme_is_kept_in_the_session_applied_and_survives_the_login() {
    let site = Site::new();
    let page = site.post("/theme", &[], "theme=dark&return=/notes").await;
    page.leads_to("/notes");
    assert_eq!(page.header("session-set"), Some("theme=\"dark\""));
    let dark = ("session-data", "theme=\"dark\"");
    assert!(site.get("/", &[dark]).await.body.contains("<html lang=\"en\" class=\"theme-dark\">"));
    assert!(site.get("/", &[]).await.body.contains("class=\"theme-auto\""));
    let page = site.post("/login", &[dark], "username=alice&password=wonderland-42").await;
    assert_eq!(page.header("session-set"), Some("theme=\"dark\", flash=\"signed-in\""));
    let page = site.post("/theme", &[dark], "theme=auto").await;
    assert_eq!(page.header("session-unset"), Some("theme"));
    assert_eq!(page.header("session-set"), None);
    assert_eq!(site.post("/theme", &[], "theme=%22%3E").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_sentence_is_shown_once() {
    let site = Site::new();
    let page = site.get("/notes", &[ALICE, ("session-data", "flash=\"added\", theme=\"light\"")]).await;
    assert!(page.body.contains("role=\"status\">Your note is in your pocket."));
    assert_eq!(page.header("session-unset"), Some("flash"));
    assert!(site.get("/notes", &[ALICE]).await.commands().is_empty());
}

#[tokio::test]
async fn hostile_session_data_changes_nothing_and_is_escaped_where_it_is_shown() {
    let site = Site::new();
    let overlong = format!("theme=\"{}\"", "x".repeat(8000));
    for data in [
        "theme=\"dark\\\"><script>\"",
        "theme=\"\\\"><script>alert(1)</script>\", flash=\"<script>\"",
        "theme=%\"%3cscript%3e\"",
        "<script>",
        ",,,",
        "theme=\"unended",
        "theme=\"\u{1F9E5}<script>\"",
        overlong.as_str(),
    ] {
        let page = site.get("/", &[ALICE, ("session-data", data)]).await;
        assert_eq!(page.status, StatusCode::OK, "{data}");
        assert!(page.body.contains("class=\"theme-auto\""), "{data}");
        assert!(!page.body.contains("<script"), "{data}");
        assert!(page.commands().is_empty());
    }
}

#[tokio::test]
async fn a_subject_that_cannot_be_read_is_refused() {
    let site = Site::new();
    for told in [
        &[("session-subject", "u1001")][..],
        &[("session-subject", "\"u1001\";a=1")],
        &[("session-subject", "%\"%FF\"")],
        &[ALICE, BOB],
    ] {
        let page = site.get("/notes", told).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{told:?}");
    }
}

#[tokio::test]
async fn fields_that_resemble_the_protocol_s_sign_nobody_in() {
    let site = Site::new();
    for name in ["session_subject", "x-session-subject", "session-login", "session-handle", "cookie"] {
        site.get("/notes", &[(name, "\"u1001\"")]).await.leads_to("/login?return=/notes");
    }
}

#[tokio::test]
async fn forms_that_no_page_sends_are_refused() {
    let site = Site::new();
    for (path, form) in [
        ("/login", "username=alice"),
        ("/login", "username=alice&username=bob&password=x"),
        ("/notes", "other=1"),
        ("/notes", "text=a&remove=1"),
        ("/notes", "remove=-1"),
        ("/theme", "colour=red"),
    ] {
        let page = site.post(path, &[ALICE], form).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{path} {form}");
        assert!(page.commands().is_empty());
    }
    let page = site.post("/notes", &[ALICE], &format!("text={}", "x".repeat(20_000))).await;
    assert!(page.status.is_client_error());
    assert_eq!(site.get("/login?return=/a&return=/b", &[]).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn pages_need_neither_scripts_nor_inline_styles_and_only_assets_are_cacheable() {
    let site = Site::new();
    for (path, told) in
        [("/", &[][..]), ("/", &[ALICE]), ("/login?expired=1", &[]), ("/notes", &[ALICE]), ("/x", &[])]
    {
        let page = site.get(path, told).await;
        for inline in ["<script", "<style", " style=", " onclick", "javascript:", "http://", "https://"] {
            assert!(!page.body.contains(inline), "{path}: {inline}");
        }
        for present in [
            "lang=\"en\"",
            "<main id=\"content\"",
            "href=\"#content\"",
            "name=\"viewport\"",
            "<h1",
            "<title>",
        ] {
            assert!(page.body.contains(present), "{path}: {present}");
        }
        assert_eq!(page.header("cache-control"), None);
    }
    let page = site.get("/", &[]).await;
    let address = page.body.split("rel=\"stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    for (path, kind) in [(address, "text/css; charset=utf-8"), ("/assets/icon.svg", "image/svg+xml")] {
        let page = site.get(path, &[]).await;
        assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, Some(kind)));
        assert!(page.header("cache-control").unwrap().starts_with("public, max-age="));
        assert!(page.commands().is_empty() && !page.body.contains("url("));
    }
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let site = Site::new();
    let page = site.get("/elsewhere%3Cb%3E", &[ALICE]).await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(page.body.contains("There is nothing here"));
}
