//! Requests from elsewhere, refused before a handler runs: options and layer.

mod body;
mod judge;
mod service;
mod token;

use std::fmt;
use std::sync::Arc;

use cloakroom_core::csrf::{FORM_FIELD, HEADER_FIELD, VISITOR_TOKEN_AGE, VisitorCookie, VisitorKeys};
use cloakroom_core::csrf_form::FORM_LIMIT;
use cloakroom_core::origin::{Loading, Mode, Origin, Site};
use cloakroom_core::policy::{ConfigErrors, Problem};
use http::HeaderName;

pub use self::body::CsrfBody;
pub use self::judge::CsrfRefused;
pub use self::service::{CsrfFuture, CsrfService};
pub use self::token::CsrfToken;
use crate::layer::{RequestHead, SessionLayer, Shared};
use crate::service::SessionService;

pub(crate) type LoadingOf = Arc<dyn Fn(RequestHead<'_>) -> Loading + Send + Sync>;

/// Which requests are refused as forged: see [`SessionLayer::protect`].
///
/// The default refuses whatever changes something and comes from elsewhere, and demands a token where the browser does not
/// say where a request with a session cookie comes from.
#[must_use = "options do nothing until they are used"]
pub struct Csrf {
    own: String,
    trusted: Vec<String>,
    mode: Mode,
    exempt: Vec<String>,
    loading: Option<LoadingOf>,
    field: String,
    header: String,
    form_limit: usize,
    enforce: Enforce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Enforce {
    Refuse,
    ReportOnly,
}

impl Csrf {
    /// Begins with the application's own origin, as browsers see it: `https://example.org`, without a path.
    ///
    /// # Security
    ///
    /// It is configured because `Host` and `X-Forwarded-Host` are written by clients. Behind a proxy or CDN it is the origin
    /// in the user's address bar, not the one the proxy connects to.
    pub fn new(own_origin: impl Into<String>) -> Self {
        Self {
            own: own_origin.into(),
            trusted: Vec::new(),
            mode: Mode::default(),
            exempt: Vec::new(),
            loading: None,
            field: FORM_FIELD.to_owned(),
            header: HEADER_FIELD.to_owned(),
            form_limit: FORM_LIMIT,
            enforce: Enforce::Refuse,
        }
    }

    /// Trusts another origin, exactly: its pages may send requests that change something, and open WebSockets. Default: none.
    ///
    /// # Security
    ///
    /// A hole in that site is one in this. Sub-domains and sibling hosts are listed one by one (R-073).
    pub fn trust(mut self, origin: impl Into<String>) -> Self {
        self.trusted.push(origin.into());
        self
    }

    /// Chooses how much a request has to show. Default: [`Mode::VerdictOrToken`].
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Exempts one exact path, as this layer sees it: a webhook that checks a signature of its own, or the endpoint
    /// of [`CspReports`](crate::CspReports). Default: none. WebSockets are never exempt.
    ///
    /// # Security
    ///
    /// Every site can have such a request sent by the user's browser.
    pub fn exempt(mut self, path: impl Into<String>) -> Self {
        self.exempt.push(path.into());
        self
    }

    /// Says which responses hold account content, so that other sites may link to them but not embed or fetch them (R-084).
    /// Default: none does; `Cross-Origin-Resource-Policy` then keeps the bytes from other sites' pages.
    pub fn loading(
        mut self,
        loading_of: impl Fn(RequestHead<'_>) -> Loading + Send + Sync + 'static,
    ) -> Self {
        self.loading = Some(Arc::new(loading_of));
        self
    }

    /// Names the form field that holds a token. Default: `cloakroom_csrf`.
    pub fn field(mut self, name: impl Into<String>) -> Self {
        self.field = name.into();
        self
    }

    /// Names the request header field that holds a token. Default: `x-cloakroom-csrf`.
    pub fn header(mut self, name: impl Into<String>) -> Self {
        self.header = name.into();
        self
    }

    /// Sets how much of a form is read, in bytes, to find its token. Default: 65536; 1 to 1048576.
    ///
    /// Only forms of which the header fields say too little are read. What was read is passed on unchanged, and what
    /// follows the token streams on, so an upload may be larger: put the token's field in front of the file's.
    pub const fn form_limit(mut self, bytes: usize) -> Self {
        self.form_limit = bytes;
        self
    }

    /// Refuses nothing, and reports each request that would be refused, as
    /// [`EventKind::ForgeryReported`](crate::EventKind::ForgeryReported): for trying the layer out on a site that runs.
    ///
    /// # Security
    ///
    /// Forged requests go through.
    pub const fn report_only(mut self) -> Self {
        self.enforce = Enforce::ReportOnly;
        self
    }

    fn build(self, sessions: Arc<Shared>) -> Result<CsrfShared, ConfigErrors> {
        const ORIGIN: &str = "an origin such as https://example.org, without a path";
        let mut problems = Vec::new();
        let mut origin = |key: &str, text: &str| {
            Origin::parse(text).map_err(|_| problems.push(Problem::new(key, text, ORIGIN))).ok()
        };
        let own = origin("csrf.own_origin", &self.own);
        let trusted: Vec<_> = self.trusted.iter().filter_map(|text| origin("csrf.trust", text)).collect();
        for path in &self.exempt {
            if !path.starts_with('/') || path.contains(['*', '?', '#', '{']) {
                problems.push(Problem::new("csrf.exempt", path, "one exact path, as /hooks/payment"));
            }
        }
        if !(1..=1024 * 1024).contains(&self.form_limit) {
            let value = self.form_limit.to_string();
            problems.push(Problem::new("csrf.form_limit", &value, "1 to 1048576 bytes"));
        }
        let header = HeaderName::from_bytes(self.header.as_bytes());
        if header.is_err() {
            problems.push(Problem::new("csrf.header", &self.header, "the name of a header field"));
        }
        if self.field.is_empty() {
            problems.push(Problem::new("csrf.field", "", "the name of a form field"));
        }
        let keys = match VisitorKeys::of(sessions.engine.peppers()) {
            Some(keys) => Some(keys),
            None => VisitorKeys::draw(&*sessions.entropy).ok(),
        };
        if keys.is_none() {
            problems.push(Problem::new("csrf", "no randomness", "a source of randomness that works"));
        }
        match (own, header, keys) {
            (Some(own), Ok(header), Some(keys)) if problems.is_empty() => Ok(CsrfShared {
                site: Site::new(own).trusting(trusted).mode(self.mode),
                exempt: self.exempt,
                loading: self.loading,
                field: self.field,
                header,
                form_limit: self.form_limit,
                enforce: self.enforce,
                visitor_cookie: VisitorCookie::beside(sessions.engine.cookie()),
                visitor_keys: keys.max_age(VISITOR_TOKEN_AGE),
                sessions,
            }),
            _ => {
                ConfigErrors::unless_empty(problems)?;
                // Each part that is missing has put its problem there.
                Err(ConfigErrors::one("csrf", "", "options that can be used"))
            }
        }
    }
}

impl fmt::Debug for Csrf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csrf")
            .field("own", &self.own)
            .field("trusted", &self.trusted)
            .field("mode", &self.mode)
            .field("exempt", &self.exempt)
            .field("enforce", &self.enforce)
            .finish_non_exhaustive()
    }
}

/// What all requests below one layer share.
pub(crate) struct CsrfShared {
    pub(crate) sessions: Arc<Shared>,
    site: Site,
    exempt: Vec<String>,
    loading: Option<LoadingOf>,
    field: String,
    header: HeaderName,
    form_limit: usize,
    enforce: Enforce,
    visitor_cookie: VisitorCookie,
    visitor_keys: VisitorKeys,
}

impl SessionLayer {
    /// Refuses requests from elsewhere, before a handler runs and before their bodies are read, and lets handlers
    /// issue tokens ([`CsrfToken`]). Use the layer that comes of it in the place of this one.
    ///
    /// ```
    /// use cloakroom::{Csrf, MemoryStore, SessionLayer};
    ///
    /// let sessions = SessionLayer::new(MemoryStore::new()).protect(Csrf::new("https://example.org"))?;
    /// let app: axum::Router = axum::Router::new().layer(sessions);
    /// # Ok::<(), cloakroom::ConfigErrors>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem at once.
    pub fn protect(self, csrf: Csrf) -> Result<ProtectedLayer, ConfigErrors> {
        let csrf = Arc::new(csrf.build(Arc::clone(&self.shared))?);
        Ok(ProtectedLayer { sessions: self, csrf })
    }
}

/// Sessions, and the refusal of requests from elsewhere. Made by [`SessionLayer::protect`].
#[derive(Clone)]
pub struct ProtectedLayer {
    sessions: SessionLayer,
    csrf: Arc<CsrfShared>,
}

impl ProtectedLayer {
    /// The layer of the sessions alone.
    pub const fn sessions(&self) -> &SessionLayer {
        &self.sessions
    }
}

impl fmt::Debug for ProtectedLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectedLayer")
            .field("sessions", &self.sessions)
            .field("site", &self.csrf.site)
            .finish_non_exhaustive()
    }
}

impl<S> tower_layer::Layer<S> for ProtectedLayer {
    type Service = SessionService<CsrfService<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.sessions.layer(CsrfService { inner, shared: Arc::clone(&self.csrf) })
    }
}
