//! The way to the application's login page, and back.

use cloakroom::core::origin::Origin;
use cloakroom::{Reason, Session};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};

use crate::body::Stream;
use crate::edge::Ask;
use crate::path;
use crate::problem::{Cause, refuse};
use crate::routes;

/// Knows where the login page is, and which pages are the site's own.
#[derive(Debug)]
pub struct Door {
    login_page: String,
    origins: Vec<Origin>,
}

impl Door {
    /// With the application's login page and the origins under which browsers know it.
    pub const fn new(login_page: String, origins: Vec<Origin>) -> Self {
        Self { login_page, origins }
    }

    /// The login page's path.
    pub fn login_page(&self) -> &str {
        &self.login_page
    }

    /// Sends a browser to the login page, with the way back and, if its session ended by time or from elsewhere, word of that.
    /// Anything that is not a browser on its way to a page gets 401.
    pub fn to_login<B>(&self, session: &Session, ask: &Ask, request: &Request<B>) -> Response<Stream> {
        if !is_navigation(request.headers()) {
            let again = session.subject().is_some();
            return refuse(if again { Cause::SignInAgain } else { Cause::SignIn });
        }
        let mut location = self.login_page.clone();
        location.push_str("?return=");
        location.push_str(&escape(&self.way_back(request.method(), ask.target.target(), request.headers())));
        // Only who presents one of the session's own tokens has a reason here; a forger is told nothing.
        match session.ended_because() {
            Some(Reason::Idle | Reason::Absolute) => location.push_str("&expired=1"),
            Some(Reason::Revoked | Reason::RevokedAll | Reason::Evicted | Reason::Replay) => {
                location.push_str("&ended=1");
            }
            // The user's own doing, in this browser.
            _ => {}
        }
        if session.subject().is_some() {
            location.push_str("&recent=1");
        }
        let Ok(location) = HeaderValue::from_str(&location) else { return refuse(Cause::SignIn) };
        let mut response = Response::new(Stream::default());
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(header::LOCATION, location);
        response
    }

    /// Where the user goes on afterwards: to what was asked for, if it can be asked for again, and else to the page that it was
    /// asked from. Never to the login page, which would lead to itself.
    pub fn way_back(&self, method: &Method, target: &str, headers: &HeaderMap) -> String {
        let back = match *method {
            Method::GET | Method::HEAD => Some(target.to_owned()),
            _ => self.page(headers),
        };
        back.filter(|target| !self.is_login_page(target)).unwrap_or_else(|| "/".to_owned())
    }

    /// The page of this site that a request says it comes from, in normal form.
    pub fn page(&self, headers: &HeaderMap) -> Option<String> {
        let mut referrers = headers.get_all(header::REFERER).iter();
        let referrer = referrers.next().filter(|_| referrers.next().is_none())?;
        let uri = referrer.to_str().ok()?.parse::<Uri>().ok()?;
        let origin = Origin::parse(&format!("{}://{}", uri.scheme_str()?, uri.authority()?)).ok()?;
        let own = self.origins.contains(&origin);
        let page = own.then(|| path::target(&Method::GET, &uri, true).ok()).flatten()?;
        Some(page.target().to_owned())
    }

    /// Programs disagree about case, about a slash at the end, and about what follows a semicolon. What cannot be read counts as it.
    fn is_login_page(&self, target: &str) -> bool {
        let read = |path| path::normalise(path, true).map(|path| routes::folded(&path)).ok();
        let path = read(target.split('?').next().unwrap_or_default());
        path.is_none() || path == read(&self.login_page)
    }
}

/// Whether a browser is on its way to a page.
pub fn is_navigation(headers: &HeaderMap) -> bool {
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match field("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => field("accept").is_some_and(|accept| accept.contains("text/html")),
    }
}

/// Escapes a target for a query: everything but what means nothing there.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_is_a_page_of_the_site_and_never_the_login_page() {
        let origins = ["https://example.org", "http://127.0.0.1:8080"];
        let origins = origins.map(|origin| Origin::parse(origin).unwrap()).to_vec();
        let door = Door::new("/login".to_owned(), origins);
        for (what, method, target, referrers, back) in [
            ("a page", "GET", "/a?x=1", &[][..], "/a?x=1"),
            ("the login page", "GET", "/login?return=/a", &[], "/"),
            ("as others spell it", "GET", "/Login/", &[], "/"),
            ("in letters that fold to it", "GET", "/log%C4%B1n", &[], "/"),
            ("with a parameter", "GET", "/login;x=1?return=/a", &[], "/"),
            ("longer than it", "GET", "/logins", &[], "/logins"),
            ("a form", "POST", "/save", &["https://example.org/edit?id=7"], "/edit?id=7"),
            ("on loopback", "POST", "/save", &["http://127.0.0.1:8080/edit"], "/edit"),
            ("from the front page", "POST", "/save", &["https://example.org"], "/"),
            ("in another spelling", "POST", "/save", &["https://example.org/a/../%65dit"], "/edit"),
            ("from nowhere", "POST", "/save", &[], "/"),
            ("from the login page", "POST", "/save", &["https://example.org/login?x"], "/"),
            ("from elsewhere", "POST", "/save", &["https://evil.test/edit"], "/"),
            ("a longer name", "POST", "/save", &["https://example.org.evil.test/edit"], "/"),
            ("another scheme", "POST", "/save", &["http://example.org/edit"], "/"),
            ("another port", "POST", "/save", &["https://example.org:8443/edit"], "/"),
            ("a name before it", "POST", "/save", &["https://example.org@evil.test/edit"], "/"),
            ("a path that is none", "POST", "/save", &["https://example.org/a%2fb"], "/"),
            ("two slashes", "POST", "/save", &["https://example.org//evil.test/x"], "/evil.test/x"),
            ("two of them", "POST", "/save", &["https://example.org/a", "https://example.org/b"], "/"),
            ("no address", "POST", "/save", &["/edit"], "/"),
        ] {
            let mut headers = HeaderMap::new();
            for referrer in referrers {
                headers.append(header::REFERER, HeaderValue::from_static(referrer));
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(door.way_back(&method, target, &headers), back, "{what}");
        }
    }
}
