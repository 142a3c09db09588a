//! Puts a refusal into words for whoever asked.

use std::net::IpAddr;

use askama::Template;
use cloakroom::core::origin::Origin;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};

use super::{Cause, Refusal, texts};
use crate::body::Stream;
use crate::language::{Language, Words};
use crate::login::{Door, is_navigation};
use crate::pages::as_page;
use crate::path::{self, Normal};

/// What is kept of a request, for the case that it is refused.
#[derive(Clone, Debug)]
pub struct Asker {
    method: Method,
    uri: Uri,
    /// The fields that say who asks and from where.
    fields: HeaderMap,
    peer: IpAddr,
}

impl Asker {
    /// Looks at a request's head; `peer` is who holds the connection.
    pub fn of<B>(request: &Request<B>, peer: IpAddr) -> Self {
        let mut fields = HeaderMap::new();
        for name in [HeaderName::from_static("sec-fetch-mode"), header::ACCEPT, header::REFERER] {
            for value in request.headers().get_all(&name) {
                fields.append(&name, value.clone());
            }
        }
        Self { method: request.method().clone(), uri: request.uri().clone(), fields, peer }
    }

    /// What it asked for, in normal form.
    fn target(&self) -> Option<Normal> {
        path::target(&self.method, &self.uri, true).ok()
    }

    /// Whether whoever asks is whoever runs the gateway: on loopback.
    fn is_operator(&self, own: Option<&Origin>) -> bool {
        let loopback = own.is_some_and(|own| matches!(own.host(), "localhost" | "127.0.0.1" | "[::1]"));
        loopback && self.peer.is_loopback()
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    words: &'a Words,
    title: &'a str,
    text: &'a str,
    way: Option<(&'a str, &'a str)>,
    cure: Option<&'a str>,
}

/// Puts a refusal into words, and logs it. Any other response stays as it is. `own` is the site's own origin.
pub fn render(
    response: &mut Response<Stream>,
    asker: &Asker,
    language: Language,
    door: &Door,
    own: Option<&Origin>,
) {
    let Some(refusal) = Refusal::take(response) else { return };
    let target = asker.target();
    refusal.log(target.as_ref().map_or("", Normal::path));
    let cause = refusal.cause();
    let (title, text) = texts::of(cause, language);
    let cure = asker.is_operator(own).then(|| texts::cure(cause));
    let (kind, body) = if is_navigation(&asker.fields) {
        let words = language.words();
        // What can only be sent again is not sent again by a link.
        let readable = matches!(asker.method, Method::GET | Method::HEAD);
        let again = target.as_ref().filter(|_| readable).map(Normal::target);
        let page = door.page(&asker.fields);
        let way = way_on(cause, again, page.as_deref(), words, door.login_page());
        let page = ProblemPage { words, title, text, way, cure };
        // What cannot be put into a page is said all the same.
        match page.render() {
            Ok(page) => ("text/html; charset=utf-8", page),
            Err(_) => ("text/plain; charset=utf-8", format!("{text}\n")),
        }
    } else {
        ("application/problem+json", json(cause, title, text, cure))
    };
    *response.body_mut() = Stream::from(body);
    let fields = response.headers_mut();
    as_page(fields, kind);
    fields.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.code()));
}

/// RFC 9457. There is no `type`: the status is the problem's type, and `cause` says more.
fn json(cause: Cause, title: &str, detail: &str, cure: Option<&str>) -> String {
    let mut problem = serde_json::json!({
        "title": title,
        "status": cause.status().as_u16(),
        "detail": detail,
        "cause": cause.name(),
    });
    if let (Some(cure), Some(members)) = (cure, problem.as_object_mut()) {
        members.insert("cure".to_owned(), cure.into());
    }
    let mut text = problem.to_string();
    text.push('\n');
    text
}

/// Where the user goes on, and what that is called. The way to the front page is on every page.
fn way_on<'a>(
    cause: Cause,
    again: Option<&'a str>,
    page: Option<&'a str>,
    words: &'a Words,
    login_page: &'a str,
) -> Option<(&'a str, &'a str)> {
    match cause {
        Cause::SignIn | Cause::SignInAgain | Cause::TooManyPlaces | Cause::Stray => {
            Some((login_page, words.sign_in))
        }
        Cause::Token | Cause::TokenTooFar | Cause::Stale => Some((page.unwrap_or("/"), words.load_again)),
        Cause::Malformed
        | Cause::Path
        | Cause::Misdirected
        | Cause::Method
        | Cause::NotFound
        | Cause::TargetTooLong
        | Cause::HeadTooLarge
        | Cause::Elsewhere
        | Cause::Unproven
        | Cause::Embedded
        | Cause::LogoutByLink => None,
        _ => {
            let again = again.map(|target| (target, words.try_again));
            again.or_else(|| page.map(|page| (page, words.load_again)))
        }
    }
}
