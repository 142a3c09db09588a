//! The verdict on a request, and the search for its token.

use bytes::Bytes;
use cloakroom_core::csrf::has_token_shape;
use cloakroom_core::csrf_form::{Search, TokenField};
use cloakroom_core::engine::Activity;
use cloakroom_core::event::{Event, EventKind};
use cloakroom_core::origin::{self, Field, Fields, Forgery, Judgement, Loading, Verdict, Why};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body::Body;

use super::body::{CsrfBody, Seen};
use super::{CsrfShared, Enforce};
use crate::error::SessionError;
use crate::layer::RequestHead;
use crate::slot::SlotHandle;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// In the extensions of a response that refuses a request as forged: for a layer outside that shows a page of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CsrfRefused {
    /// It comes from elsewhere.
    Elsewhere,
    /// It needed a token and had none that is valid: the page was open across a login or logout, or for very long. Loading it
    /// again helps.
    Token,
    /// It brought a token of another session than the one that is signed in: the page was open while somebody logged in. What it
    /// says was meant for the account before. Loading the page again helps.
    Stale,
    /// Another site tried to load or embed account content.
    Embedded,
}

/// What is asked of a request's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// That there is one, and that it counts.
    Valid,
    /// That it is none of another session, if there is one.
    NotStale,
}

/// What to do with a request whose token was looked at.
pub(super) enum Found {
    Valid,
    Refused(CsrfRefused),
    /// The session cannot be known.
    Failed(SessionError),
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Field<'a> {
    Field::of(headers.get_all(name).iter().map(HeaderValue::as_bytes))
}

pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes)
}

/// Whether a request may open a WebSocket. Rather too often yes than too seldom: no token is looked at then, and no
/// exemption holds. An extended CONNECT is how HTTP/2 opens one.
fn is_websocket(method: &Method, headers: &HeaderMap) -> bool {
    let upgrades = headers.get_all(header::UPGRADE).iter();
    let mut tokens = upgrades.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    *method == Method::CONNECT
        || headers.contains_key(header::SEC_WEBSOCKET_KEY)
        || tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

impl CsrfShared {
    /// The verdict, and whether a token of another session would be minded.
    pub(super) fn judge<B>(&self, request: &Request<B>) -> (Judgement, bool) {
        let head = RequestHead::of(request);
        let websocket = is_websocket(head.method, head.headers);
        let loading = self.loading.as_ref().map_or(Loading::Open, |loading_of| loading_of(head));
        let exempt = self.exempt.iter().any(|path| path == head.uri.path());
        let request = origin::Request {
            method: head.method.as_str(),
            websocket,
            fetch_site: one(head.headers, &FETCH_SITE),
            fetch_mode: one(head.headers, &FETCH_MODE),
            fetch_dest: one(head.headers, &FETCH_DEST),
            origin: one(head.headers, &header::ORIGIN),
            session_cookie: self.sessions.engine.cookie().values(cookies(head.headers)).next().is_some(),
            forgery: if exempt { Forgery::Exempt } else { Forgery::Checked },
            loading,
        };
        // Who brings no session cookie is in nobody's session.
        (self.site.judge(&request), request.session_cookie && self.site.minds_tokens(&request))
    }

    /// Reports a refusal by the request's head. Nothing is known of the session then, and nothing is looked up.
    pub(super) fn report<B>(&self, request: &Request<B>, why: Why) -> CsrfRefused {
        let embedded = why == Why::Embedded || is_safe(request.method());
        let kind = match self.enforce {
            Enforce::ReportOnly => EventKind::ForgeryReported,
            Enforce::Refuse if embedded => EventKind::EmbeddingRefused,
            Enforce::Refuse => EventKind::ForgedRequest,
        };
        if let Some(SlotHandle(slot)) = request.extensions().get::<SlotHandle>() {
            let at = self.sessions.clock.now().unwrap_or_default();
            self.sessions.observe(&Event::new(kind, slot.client(), at));
        }
        if embedded { CsrfRefused::Embedded } else { CsrfRefused::Elsewhere }
    }

    pub(super) fn reports_only(&self) -> bool {
        self.enforce == Enforce::ReportOnly
    }

    /// Whether there is a place where a token may be.
    fn may_have_token<B>(&self, request: &Request<B>) -> bool {
        let headers = request.headers();
        headers.contains_key(&self.header) || self.form(headers).is_some()
    }

    fn form(&self, headers: &HeaderMap) -> Option<TokenField> {
        let Field::One(content_type) = one(headers, &header::CONTENT_TYPE) else { return None };
        TokenField::of(content_type, &self.field, self.form_limit)
    }

    /// Looks for a token: in the header field; where that has none of our shape, in the form.
    pub(super) async fn seek<B>(&self, request: Request<B>, wanted: Wanted) -> (Request<CsrfBody<B>>, Found)
    where
        B: Body<Data = Bytes>,
    {
        let (head, body) = request.into_parts();
        let (text, form) = match one(&head.headers, &self.header) {
            Field::One(text) if has_token_shape(text) => (text, None),
            // Another framework's, which has nothing to do with us.
            _ => (&b""[..], self.form(&head.headers)),
        };
        let Some(mut form) = form else {
            let found = self.check(&head, text, wanted, EventKind::CsrfTokenRefused).await;
            return (Request::from_parts(head, CsrfBody::untouched(body)), found);
        };
        let mut search = Search::Absent;
        let body = CsrfBody::begin(body, |bytes| {
            search = match bytes {
                Some(bytes) => form.push(bytes),
                None => form.end(),
            };
            if search == Search::More { Seen::NotEnough } else { Seen::Enough }
        })
        .await;
        let otherwise = match search {
            Search::BeyondLimit => EventKind::CsrfTokenBeyondLimit,
            _ => EventKind::CsrfTokenRefused,
        };
        let found = self.check(&head, form.value(), wanted, otherwise).await;
        (Request::from_parts(head, body), found)
    }

    async fn check(
        &self,
        head: &http::request::Parts,
        text: &[u8],
        wanted: Wanted,
        otherwise: EventKind,
    ) -> Found {
        if wanted == Wanted::NotStale && !has_token_shape(text) {
            return Found::Valid;
        }
        let Some(SlotHandle(slot)) = head.extensions.get::<SlotHandle>() else {
            return Found::Failed(SessionError::NoLayer);
        };
        let (now, loaded) = match (self.sessions.now(), slot.load().await) {
            (Ok(now), loaded) => (now, loaded),
            (Err(error), _) => return Found::Failed(error),
        };
        if let Err(error) = loaded {
            return Found::Failed(error);
        }
        let visitor = self.visitor_cookie.find(cookies(&head.headers));
        let looked = slot.with(|loaded| {
            let visitor = visitor.as_ref().map(|visitor| (&self.visitor_keys, visitor));
            let (refused, kind) = match wanted {
                Wanted::Valid if !loaded.resumed.accepts_csrf(text, visitor, now) => {
                    (CsrfRefused::Token, otherwise.clone())
                }
                Wanted::NotStale if loaded.resumed.has_other_csrf(text) => {
                    (CsrfRefused::Stale, EventKind::CsrfTokenStale)
                }
                Wanted::Valid | Wanted::NotStale => return Ok(None),
            };
            let mut event = Event::new(kind, loaded.resumed.facts().client, now);
            if let Some(record) = loaded.resumed.record() {
                event = event.of(record.handle(), record.subject());
            }
            if self.reports_only() {
                event.kind = EventKind::ForgeryReported;
            } else {
                // What is refused is no activity of the user.
                loaded.resumed.set_activity(Activity::Passive);
            }
            Ok(Some((event, refused)))
        });
        match looked {
            Ok(None) => Found::Valid,
            Ok(Some((event, refused))) => {
                self.sessions.observe(&event);
                Found::Refused(refused)
            }
            Err(error) => Found::Failed(error),
        }
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// What the verdict leaves to be done.
pub(super) enum Way {
    Straight,
    Refuse(CsrfRefused),
    Token(Wanted),
}

impl CsrfShared {
    /// The way of a request, and the header fields that it depended on.
    pub(super) fn way<B>(&self, request: &Request<B>) -> (Way, Fields) {
        let (Judgement { verdict, fields }, minded) = self.judge(request);
        let way = match verdict {
            Verdict::Allow if minded && self.may_have_token(request) => Way::Token(Wanted::NotStale),
            Verdict::Allow => Way::Straight,
            Verdict::NeedsToken => Way::Token(Wanted::Valid),
            Verdict::Refuse(why) => match self.report(request, why) {
                _ if self.reports_only() => Way::Straight,
                refused => Way::Refuse(refused),
            },
        };
        (way, fields)
    }
}
