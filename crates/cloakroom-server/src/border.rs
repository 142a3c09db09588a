//! What a request is that may come from elsewhere, by its head alone.

use cloakroom::core::clock::ClockError;
use cloakroom::core::cookie::Cookie;
use cloakroom::core::origin::{
    Field, Fields, Forgery, Judgement, Loading, Origin, Request as Judged, Site, Verdict, Why,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};

use crate::headers::remove_if;
use crate::login_flow::LoginFlows;
use crate::pages;
use crate::path::Normal;
use crate::routes::Route;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// As what a request is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As one like any other: the verdict holds.
    Ordinary,
    /// As a browser's question whether a page of a trusted origin may send what it wants to send. It has no session.
    Preflight,
    /// As a user whom an identity provider sends back, to complete a login that began here. Nothing is told of a session, and a
    /// login is all that can come of it.
    Callback,
    /// As an ordinary one, which would be a callback if its browser had begun a login here.
    Stray,
}

/// What was found of a request.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// As what it is taken.
    pub standing: Standing,
    /// Whether it may go on.
    pub verdict: Verdict,
    /// The fields that decided.
    pub fields: Fields,
    /// Whether a form token of another session would be minded.
    pub minded: bool,
}

/// Judges where requests come from.
#[derive(Debug)]
pub struct Border {
    site: Option<Site>,
    session: Cookie,
    flows: LoginFlows,
}

impl Border {
    /// Of a site, with its session cookie. Without a site, nobody comes in.
    pub const fn new(site: Option<Site>, session: Cookie, flows: LoginFlows) -> Self {
        Self { site, session, flows }
    }

    /// The site's own origin.
    pub fn own(&self) -> Option<&Origin> {
        self.site.as_ref().map(Site::own)
    }

    /// Judges a request's head. `own` says whether it is for the gateway's own pages, `bare` whether it has no body.
    ///
    /// # Errors
    ///
    /// If the clock fails that a login under way is measured by.
    pub fn judge(
        &self,
        parts: &Parts,
        (websocket, bare): (bool, bool),
        own: bool,
        target: &Normal,
        route: &Route,
    ) -> Result<Found, ClockError> {
        let Some(site) = &self.site else {
            let (standing, verdict) = (Standing::Ordinary, Verdict::Refuse(Why::Unknown));
            return Ok(Found { standing, verdict, fields: Fields::default(), minded: false });
        };
        let field =
            |name: HeaderName| Field::of(parts.headers.get_all(name).iter().map(HeaderValue::as_bytes));
        let cookies = parts.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        let (forgery, loading) = rules(own, target, route);
        let judged = Judged {
            method: parts.method.as_str(),
            websocket,
            fetch_site: field(FETCH_SITE),
            fetch_mode: field(FETCH_MODE),
            fetch_dest: field(FETCH_DEST),
            origin: field(header::ORIGIN),
            session_cookie: self.session.values(cookies).next().is_some(),
            forgery,
            loading,
        };
        let Judgement { verdict, fields } = site.judge(&judged);
        // Who brings no session cookie is in nobody's session.
        let minded = judged.session_cookie && site.minds_tokens(&judged);
        let ordinary = Found { standing: Standing::Ordinary, verdict, fields, minded };
        if own {
            return Ok(ordinary);
        }
        // A browser sends no body with its question: what has one is something else.
        if bare && site.is_preflight(&judged, field(header::ACCESS_CONTROL_REQUEST_METHOD)) {
            return Ok(Found { standing: Standing::Preflight, ..ordinary });
        }
        if !route.login_callback || !judged.is_callback_from(&route.callback_origins) {
            return Ok(ordinary);
        }
        Ok(if self.flows.is_under_way(&parts.headers)? {
            Found { standing: Standing::Callback, verdict: Verdict::Allow, fields, minded: false }
        } else {
            Found { standing: Standing::Stray, ..ordinary }
        })
    }
}

/// What holds for a path: the gateway's own pages are not for other sites. Reports are taken from anybody, by browsers that have
/// no token to send: they concern no session.
fn rules(own: bool, target: &Normal, route: &Route) -> (Forgery, Loading) {
    match (own, target.path()) {
        (true, pages::CSP_REPORT) => (Forgery::Exempt, Loading::Open),
        (true, _) => (Forgery::Checked, Loading::Isolated),
        (false, _) => (route.forgery, route.loading()),
    }
}

/// Leaves of a preflight what browsers send with one. It passes where a login is demanded, and who is no browser could send more:
/// the application's own cookies, credentials, or a field by which some framework takes it for another method.
pub fn only_the_question(parts: &mut Parts) {
    const ASKED: [&str; 9] = [
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "host",
        "origin",
        "pragma",
        "referer",
        "user-agent",
    ];
    remove_if(&mut parts.headers, |name| {
        let name = name.as_str();
        !ASKED.contains(&name)
            && !name.starts_with("access-control-request-")
            && !name.starts_with("sec-fetch-")
    });
}
