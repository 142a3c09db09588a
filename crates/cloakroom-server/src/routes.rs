//! The route table: what the gateway demands of a request before the upstream sees it.
//!
//! Routes match the decoded segments of a path's normal form ([`Normal::segments`]), and that form is what is forwarded.
//! The longest match wins. Case matters: in front of an upstream that ignores it, protect a prefix that has no
//! unprotected path below it, `/` at best, and make exceptions from that.

use cloakroom::Activity;
use cloakroom::core::policy::{ConfigErrors, Problem};
use http::{Method, Uri};

use crate::path::{self, Normal, PathError};

/// The gateway's own pages; no route can take them.
pub const OWN_PREFIX: &str = "/.cloakroom";

/// Who may pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Require {
    /// Everybody.
    #[default]
    Anyone,
    /// Whoever is logged in.
    Authenticated,
    /// Whoever has authenticated within `policy.recent_login`.
    Recent,
}

/// Whether a route has a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionUse {
    /// It is read and sent upstream, and commands are obeyed.
    #[default]
    Full,
    /// It is not read, nothing of it is sent upstream, and commands are refused: for static files.
    None,
}

/// What holds for the paths of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `/notes` for `/notes` and everything below it; `=/notes` for `/notes` alone, with or without a slash at its end
    /// (upstreams take both for the same).
    pub pattern: String,
    /// Who may pass. Default: anyone.
    pub require: Require,
    /// Whether there is a session. Default: yes.
    pub session: SessionUse,
    /// Whether a login may complete here with a safe method, as in OpenID Connect. Default: no.
    ///
    /// # Security
    ///
    /// Any site can make a browser send a GET. So a login is obeyed here, whatever the method, only in a request that
    /// has a live session, the one that began the flow.
    pub login_callback: bool,
    /// Whether segments may have `;` parameters. Default: no.
    ///
    /// # Security
    ///
    /// Programs disagree about where a name with `;` ends. Matching cuts parameters off.
    pub allow_parameters: bool,
    /// What requests here are to the idle timer. Default: user activity.
    pub activity: Activity,
}

impl Route {
    /// A route with the defaults.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            require: Require::default(),
            session: SessionUse::default(),
            login_callback: false,
            allow_parameters: false,
            activity: Activity::User,
        }
    }
}

#[derive(Debug)]
struct Entry {
    segments: Vec<Vec<u8>>,
    exact: bool,
    route: Route,
}

impl Entry {
    fn matches(&self, path: &[Vec<u8>]) -> bool {
        let path = match path.split_last() {
            Some((last, rest)) if last.is_empty() => rest,
            _ => path,
        };
        if self.exact { path == self.segments } else { path.starts_with(&self.segments) }
    }
}

/// A checked route table. Each path has a route: one for `/` with the defaults is added if there is none.
#[derive(Debug)]
pub struct Routes {
    /// Longer patterns first, and of two equals the exact one.
    entries: Vec<Entry>,
    rest: Route,
}

impl Default for Routes {
    fn default() -> Self {
        Self { entries: Vec::new(), rest: Route::new("/") }
    }
}

impl Routes {
    /// Checks routes and puts them in order; the order given does not matter.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem at once; the key is `routes[n].path` and the like, counted from 0.
    pub fn new(routes: Vec<Route>) -> Result<Self, ConfigErrors> {
        let mut problems = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        for (n, route) in routes.into_iter().enumerate() {
            let key = |name: &str| format!("routes[{n}].{name}");
            if route.session == SessionUse::None {
                let expected = "nothing that needs a session beside session = \"none\"";
                if route.require != Require::Anyone {
                    let value = format!("{:?}", route.require).to_lowercase();
                    problems.push(Problem::new(&key("require"), &value, expected));
                }
                if route.login_callback {
                    problems.push(Problem::new(&key("login_callback"), "true", expected));
                }
            }
            match pattern(&route.pattern) {
                Err(expected) => problems.push(Problem::new(&key("path"), &route.pattern, &expected)),
                Ok((segments, exact)) => {
                    if entries.iter().any(|e| e.exact == exact && e.segments == segments) {
                        let expected = "a path that no other route has";
                        problems.push(Problem::new(&key("path"), &route.pattern, expected));
                    }
                    entries.push(Entry { segments, exact, route });
                }
            }
        }
        ConfigErrors::unless_empty(problems)?;
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.segments.len()), !entry.exact));
        Ok(Self { entries, rest: Route::new("/") })
    }

    /// Brings a request's target to normal form and finds its route.
    ///
    /// Whether `;` is allowed depends on the route, and the route on the path: so the path is normalised as if it was
    /// allowed, and then refused if its route does not allow it. There is no way to have the one without the other.
    ///
    /// # Errors
    ///
    /// As [`path::target`]. The answer is 400.
    pub fn resolve(&self, method: &Method, uri: &Uri) -> Result<(Normal, &Route), PathError> {
        let normal = path::target(method, uri, true)?;
        let route = self.find(&normal);
        if normal.has_parameters() && (!route.allow_parameters || is_own(&normal)) {
            return Err(PathError::Parameters);
        }
        Ok((normal, route))
    }

    /// All routes, longest first, the one for everything else last.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        let rest = self.entries.iter().all(|e| e.exact || !e.segments.is_empty()).then_some(&self.rest);
        self.entries.iter().map(|entry| &entry.route).chain(rest)
    }

    fn find(&self, normal: &Normal) -> &Route {
        let entry = self.entries.iter().find(|entry| entry.matches(normal.segments()));
        entry.map_or(&self.rest, |entry| &entry.route)
    }
}

/// Whether a path is one of the gateway's own.
pub fn is_own(normal: &Normal) -> bool {
    normal.segments().first().is_some_and(|first| first == &OWN_PREFIX.as_bytes()[1..])
}

/// The segments of a pattern, and whether it is exact; or what was expected instead.
fn pattern(text: &str) -> Result<(Vec<Vec<u8>>, bool), String> {
    let (text, exact) = match text.strip_prefix('=') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    if text.contains(['?', '*']) {
        return Err("a path, without query or wildcards: it matches all paths below it".to_owned());
    }
    let normal = match path::normalise(text, false) {
        Ok(normal) => normal,
        Err(PathError::Form) => return Err("a path that begins with / (or =/ for that path alone)".to_owned()),
        Err(error) => return Err(format!("a path in its normal form, without {error}")),
    };
    if normal.path() != text {
        return Err(format!("a path in its normal form, {}", normal.path()));
    }
    if is_own(&normal) {
        return Err(format!("a path outside {OWN_PREFIX}/, which is the gateway's own"));
    }
    let mut segments = normal.segments().to_vec();
    segments.pop_if(|last| last.is_empty());
    Ok((segments, exact))
}
