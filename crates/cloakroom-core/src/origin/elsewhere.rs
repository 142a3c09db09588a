//! What may come from another site though the verdict on changes would refuse it, and what for: the browser's own question before a
//! trusted site's request, and a user whom an identity provider sends back. Neither has anything of the user's session.

use std::fmt;

use super::{Field, Origin, OriginError, Reader, Request, Sender, Site};

/// Who may send a user back by a form: an identity provider, whose answer is a POST (SAML's POST binding, OpenID Connect's
/// `form_post`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackOrigin {
    /// Pages of this origin.
    Named(Origin),
    /// Pages whose browser says `Origin: null`: those that hide where they are (`Referrer-Policy: no-referrer`), and a form
    /// that was redirected across sites.
    ///
    /// # Security
    ///
    /// Every site can make its pages say that.
    Opaque,
}

impl CallbackOrigin {
    /// Reads an origin as [`Origin::parse`] does, or `null`.
    ///
    /// # Errors
    ///
    /// [`OriginError`] for everything else.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        if text == "null" { Ok(Self::Opaque) } else { Origin::parse(text).map(Self::Named) }
    }

    fn is(&self, sent: &[u8]) -> bool {
        match self {
            Self::Opaque => sent == b"null",
            Self::Named(own) => {
                str::from_utf8(sent).is_ok_and(|sent| Origin::parse(sent).as_ref() == Ok(own))
            }
        }
    }
}

impl fmt::Display for CallbackOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(origin) => origin.fmt(f),
            Self::Opaque => f.write_str("null"),
        }
    }
}

impl Site {
    /// Whether a request is a browser's question whether a page of a trusted origin may send what it wants to send (a CORS
    /// preflight). `asks_for` is `Access-Control-Request-Method`.
    ///
    /// # Security
    ///
    /// Programs that are no browsers can send the same. Answer it without session, without cookies, and let it do nothing.
    pub fn is_preflight(&self, request: &Request<'_>, asks_for: Field<'_>) -> bool {
        let mut read = Reader { site: self, request, fields: super::Fields::default() };
        request.method == "OPTIONS"
            && matches!(asks_for, Field::One(method) if !method.is_empty())
            && matches!(request.fetch_mode, Field::Absent | Field::One(b"cors"))
            && read.sender() == Sender::Trusted
    }
}

impl Request<'_> {
    /// Whether a request is a user who comes back from one of these origins: a whole window that a form's POST takes here.
    ///
    /// Browsers that send no fetch metadata (those of before 2023, and all over plain http) are judged by `Origin` alone. What
    /// could pass there besides is a frame or a fetch of a page of a listed origin; a browser keeps no `SameSite=Lax` cookie that is
    /// set in answer to either.
    ///
    /// # Security
    ///
    /// This is half of the proof. The other half is that the user's browser has begun the login here:
    /// [`LoginFlowCookie`](crate::csrf::LoginFlowCookie).
    pub fn is_callback_from(&self, origins: &[CallbackOrigin]) -> bool {
        let Field::One(sent) = self.origin else { return false };
        let navigates = match (self.fetch_site, self.fetch_mode, self.fetch_dest) {
            (Field::Absent, Field::Absent, Field::Absent) => true,
            (Field::One(b"cross-site" | b"same-site"), mode, dest) => {
                mode == Field::One(b"navigate") && dest == Field::One(b"document")
            }
            _ => false,
        };
        self.method == "POST" && !self.websocket && navigates && origins.iter().any(|origin| origin.is(sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(text: &str) -> Field<'_> {
        match text {
            "-" => Field::Absent,
            "+" => Field::Several,
            text => Field::One(text.as_bytes()),
        }
    }

    #[test]
    fn r071_r075_only_a_window_that_a_listed_origins_form_takes_here_is_a_callback() {
        let listed = [CallbackOrigin::parse("https://idp.test").unwrap()];
        for (method, site, mode, dest, origin, expected) in [
            ("POST", "cross-site", "navigate", "document", "https://idp.test", true),
            ("POST", "same-site", "navigate", "document", "https://idp.test", true),
            ("POST", "cross-site", "navigate", "document", "https://idp.test:443", true),
            ("POST", "-", "-", "-", "https://idp.test", true),
            ("GET", "cross-site", "navigate", "document", "https://idp.test", false),
            ("PUT", "cross-site", "navigate", "document", "https://idp.test", false),
            ("post", "cross-site", "navigate", "document", "https://idp.test", false),
            ("POST", "same-origin", "navigate", "document", "https://idp.test", false),
            ("POST", "none", "navigate", "document", "https://idp.test", false),
            ("POST", "anything", "navigate", "document", "https://idp.test", false),
            ("POST", "+", "navigate", "document", "https://idp.test", false),
            ("POST", "-", "navigate", "document", "https://idp.test", false),
            ("POST", "-", "cors", "-", "https://idp.test", false),
            ("POST", "-", "-", "iframe", "https://idp.test", false),
            ("POST", "cross-site", "cors", "empty", "https://idp.test", false),
            ("POST", "cross-site", "no-cors", "empty", "https://idp.test", false),
            ("POST", "cross-site", "navigate", "iframe", "https://idp.test", false),
            ("POST", "cross-site", "navigate", "-", "https://idp.test", false),
            ("POST", "cross-site", "-", "document", "https://idp.test", false),
            ("POST", "cross-site", "+", "document", "https://idp.test", false),
            ("POST", "cross-site", "navigate", "+", "https://idp.test", false),
            ("POST", "cross-site", "navigate", "document", "null", false),
            ("POST", "cross-site", "navigate", "document", "-", false),
            ("POST", "cross-site", "navigate", "document", "+", false),
            ("POST", "cross-site", "navigate", "document", "", false),
            ("POST", "cross-site", "navigate", "document", "http://idp.test", false),
            ("POST", "cross-site", "navigate", "document", "https://idp.test:8443", false),
            ("POST", "cross-site", "navigate", "document", "https://idp.test.evil.test", false),
            ("POST", "cross-site", "navigate", "document", "https://x.idp.test", false),
        ] {
            let request = Request {
                method,
                fetch_site: field(site),
                fetch_mode: field(mode),
                fetch_dest: field(dest),
                origin: field(origin),
                ..Request::default()
            };
            let said = format!("{method} {site} {mode} {dest} {origin}");
            assert_eq!(request.is_callback_from(&listed), expected, "{said}");
            assert!(!request.is_callback_from(&[]), "{said}");
            assert!(!Request { websocket: true, ..request }.is_callback_from(&listed), "{said}");
        }
        let hidden = Request { method: "POST", origin: field("null"), ..Request::default() };
        assert!(hidden.is_callback_from(&[CallbackOrigin::Opaque]));
        for other in ["NULL", "null ", "", "https://idp.test"] {
            let request = Request { origin: field(other), ..hidden };
            assert!(!request.is_callback_from(&[CallbackOrigin::Opaque]), "{other}");
        }
    }

    #[test]
    fn r081_only_a_browsers_question_for_a_trusted_origin_is_a_preflight() {
        let origin = |text| Origin::parse(text).unwrap();
        let site = Site::new(origin("https://example.org")).trusting([origin("https://trusted.test")]);
        for (method, mode, from, asks_for, expected) in [
            ("OPTIONS", "cors", "https://trusted.test", "PUT", true),
            ("OPTIONS", "-", "https://trusted.test", "POST", true),
            ("OPTIONS", "cors", "https://trusted.test", "-", false),
            ("OPTIONS", "cors", "https://trusted.test", "", false),
            ("OPTIONS", "cors", "https://trusted.test", "+", false),
            ("OPTIONS", "navigate", "https://trusted.test", "PUT", false),
            ("OPTIONS", "+", "https://trusted.test", "PUT", false),
            ("OPTIONS", "cors", "https://evil.test", "PUT", false),
            ("OPTIONS", "cors", "https://example.org", "PUT", false),
            ("OPTIONS", "cors", "null", "PUT", false),
            ("OPTIONS", "cors", "-", "PUT", false),
            ("OPTIONS", "cors", "+", "PUT", false),
            ("POST", "cors", "https://trusted.test", "PUT", false),
            ("GET", "cors", "https://trusted.test", "PUT", false),
            ("options", "cors", "https://trusted.test", "PUT", false),
        ] {
            let request =
                Request { method, fetch_mode: field(mode), origin: field(from), ..Request::default() };
            let found = site.is_preflight(&request, field(asks_for));
            assert_eq!(found, expected, "{method} {mode} {from} {asks_for}");
        }
    }

    #[test]
    fn a_callback_origin_is_written_as_it_is_read() {
        for text in ["null", "https://idp.test", "http://127.0.0.1:8443"] {
            assert_eq!(CallbackOrigin::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "Null", "*", "idp.test", "https://idp.test/", "https://*.idp.test"] {
            assert_eq!(CallbackOrigin::parse(text), Err(OriginError), "{text}");
        }
    }
}
