//! The route table: what the gateway demands of a request before the upstream sees it.
//!
//! Routes match the decoded segments of a path's normal form ([`Normal::segments`]), and that form is what is forwarded.
//! The longest match wins. Case matters: in front of an upstream that ignores it, protect a prefix that has no
//! unprotected path below it, `/` at best, and make exceptions from that.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::Activity;
use cloakroom::core::origin::{Forgery, Loading};
use cloakroom::core::policy::{ConfigErrors, Problem};
use cloakroom::core::security_headers::ResourcePolicy;
use http::{Method, Uri};

use crate::pace::Pace;
use crate::path::{self, Normal, PathError};

/// The gateway's own pages; no route can take them.
pub const OWN_PREFIX: &str = "/.cloakroom";
const OWN_SEGMENT: &[u8] = b".cloakroom";

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
    /// Whether requests that change something are checked for forgery. Default: they are. Others are for an exact path without
    /// session only.
    pub forgery: Forgery,
    /// Who may load what is here. Default: only the site itself and whoever navigates here if the route demands a login, else
    /// everybody.
    pub loading: Option<Loading>,
    /// Bytes a second that a client here has to send or read, other than `limits.min_rate`; 0 asks for none.
    pub min_rate: Option<u64>,
    /// How long a body here may take in all, other than `limits.transfer_time`.
    pub transfer_time: Option<Duration>,
    /// Whose pages may use what is here, other than `headers.resource` says. For a path without session only.
    pub resource: Option<ResourcePolicy>,
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
            forgery: Forgery::Checked,
            loading: None,
            min_rate: None,
            transfer_time: None,
            resource: None,
        }
    }

    /// How fast bodies have to be here, where they have to be as fast as this elsewhere.
    pub fn pace(&self, elsewhere: Pace) -> Pace {
        Pace {
            rate: self.min_rate.unwrap_or(elsewhere.rate),
            time: self.transfer_time.unwrap_or(elsewhere.time),
            ..elsewhere
        }
    }

    /// Who may load what is here.
    pub fn loading(&self) -> Loading {
        match self.require {
            Require::Anyone => self.loading.unwrap_or_default(),
            Require::Authenticated | Require::Recent => self.loading.unwrap_or(Loading::Isolated),
        }
    }
}

#[derive(Debug)]
struct Entry {
    segments: Vec<Vec<u8>>,
    exact: bool,
    route: Arc<Route>,
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
    rest: Arc<Route>,
}

impl Default for Routes {
    fn default() -> Self {
        Self { entries: Vec::new(), rest: Arc::new(Route::new("/")) }
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
            // With the user's session, or for paths that nobody has named, every site could act for the user.
            if route.forgery == Forgery::Exempt {
                if route.session != SessionUse::None {
                    let expected = "session = \"none\" beside it: what acts for a user is always checked";
                    problems.push(Problem::new(&key("forgery"), "exempt", expected));
                }
                if !route.pattern.starts_with('=') {
                    let expected = "an exact path, which begins with =/";
                    problems.push(Problem::new(&key("forgery"), "exempt", expected));
                }
            }
            if route.resource.is_some() && route.session != SessionUse::None {
                let expected = "session = \"none\" beside it: what belongs to a user is not for other sites";
                problems.push(Problem::new(&key("resource"), "set", expected));
            }
            match pattern(&route.pattern) {
                Err(expected) => problems.push(Problem::new(&key("path"), &route.pattern, &expected)),
                Ok((segments, exact)) => {
                    if entries.iter().any(|e| e.exact == exact && e.segments == segments) {
                        let expected = "a path that no other route has";
                        problems.push(Problem::new(&key("path"), &route.pattern, expected));
                    }
                    entries.push(Entry { segments, exact, route: Arc::new(route) });
                }
            }
        }
        ConfigErrors::unless_empty(problems)?;
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.segments.len()), !entry.exact));
        Ok(Self { entries, rest: Arc::new(Route::new("/")) })
    }

    /// Brings a request's target to normal form and finds its route.
    ///
    /// Whether `;` is allowed depends on the route, and the route on the path: so the path is normalised as if it was
    /// allowed, and then refused if its route does not allow it. There is no way to have the one without the other.
    ///
    /// # Errors
    ///
    /// As [`path::target`]. The answer is 400.
    pub fn resolve(&self, method: &Method, uri: &Uri) -> Result<(Normal, &Arc<Route>), PathError> {
        let normal = path::target(method, uri, true)?;
        let route = self.find(&normal);
        if normal.has_parameters() && (!route.allow_parameters || is_own(&normal)) {
            return Err(PathError::Parameters);
        }
        Ok((normal, route))
    }

    /// All routes, longest first, the one for everything else last.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        let rest = self.entries.iter().all(|e| e.exact || !e.segments.is_empty()).then_some(&*self.rest);
        self.entries.iter().map(|entry| &*entry.route).chain(rest)
    }

    fn find(&self, normal: &Normal) -> &Arc<Route> {
        let entry = self.entries.iter().find(|entry| entry.matches(normal.segments()));
        entry.map_or(&self.rest, |entry| &entry.route)
    }
}

/// Whether a path is one of the gateway's own.
pub fn is_own(normal: &Normal) -> bool {
    normal.segments().first().is_some_and(|first| first == OWN_SEGMENT)
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
        Err(PathError::Form) => {
            return Err("a path that begins with / (or =/ for that path alone)".to_owned());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn table(patterns: &[&str]) -> Routes {
        Routes::new(patterns.iter().copied().map(Route::new).collect()).unwrap()
    }

    fn found(routes: &Routes, target: &str) -> Result<String, PathError> {
        let uri: Uri = target.parse().unwrap();
        routes.resolve(&Method::GET, &uri).map(|(_, route)| route.pattern.clone())
    }

    #[test]
    fn r130_the_longest_match_at_a_segment_boundary_wins_in_whatever_spelling() {
        let routes =
            table(&["/notes", "/notes/public", "=/notes/public", "=/", "/@me", "/a%20b", "/caf%C3%A9/x"]);
        for (target, expected) in [
            ("/", "=/"),
            ("/?next=/notes", "=/"),
            ("/other", "/"),
            ("/notes", "/notes"),
            ("/notes/", "/notes"),
            ("/notes?x", "/notes"),
            ("/notes/7", "/notes"),
            ("/notesx", "/"),
            ("/Notes", "/"),
            ("/note", "/"),
            ("/x/notes", "/"),
            ("/%6Eotes", "/notes"),
            ("//notes", "/notes"),
            ("/x/../notes/7", "/notes"),
            ("/x/%2e%2e/notes/7", "/notes"),
            ("/./notes", "/notes"),
            ("/notes/public", "=/notes/public"),
            ("/notes/public/", "=/notes/public"),
            ("/notes/public/1", "/notes/public"),
            ("/notes/public/../1", "/notes"),
            ("/notes/publicity", "/notes"),
            ("/@me", "/@me"),
            ("/%40me/x", "/@me"),
            ("/a%20b/c", "/a%20b"),
            ("/caf%c3%a9/%78", "/caf%C3%A9/x"),
            ("http://elsewhere.test/notes", "/notes"),
        ] {
            assert_eq!(found(&routes, target).as_deref(), Ok(expected), "{target}");
        }
    }

    #[test]
    fn the_order_in_which_routes_are_written_does_not_matter() {
        let mut patterns = ["/", "/a", "/a/b", "=/a/b", "=/a"];
        for _ in 0..patterns.len() {
            patterns.rotate_left(1);
            let routes = table(&patterns);
            assert_eq!(found(&routes, "/a/b").as_deref(), Ok("=/a/b"));
            assert_eq!(found(&routes, "/a/b/c").as_deref(), Ok("/a/b"));
            assert_eq!(found(&routes, "/a/c").as_deref(), Ok("/a"));
            assert_eq!(routes.iter().count(), 5);
        }
        assert_eq!(
            table(&["/a", "=/"]).iter().map(|r| r.pattern.as_str()).collect::<Vec<_>>(),
            ["/a", "=/", "/"]
        );
    }

    #[test]
    fn r130_a_parameter_neither_passes_a_route_that_forbids_it_nor_hides_which_route_it_is() {
        let open = Route { allow_parameters: true, ..Route::new("/open") };
        let routes = Routes::new(vec![Route::new("/admin"), open]).unwrap();
        for refused in [
            "/admin;x",
            "/admin;x/users",
            "/admin%3bx",
            "/admin/a;b",
            "/other;x",
            "/;/admin",
            "/open/..;/admin",
            "/open;x/../admin",
            "/.cloakroom;x/sessions",
        ] {
            assert!(found(&routes, refused).is_err(), "{refused}");
        }
        for allowed in ["/open;x", "/open/a;b/c", "/open%3Bv=1/c", "/open"] {
            assert_eq!(found(&routes, allowed).as_deref(), Ok("/open"), "{allowed}");
        }
        let everywhere = Route { allow_parameters: true, ..Route::new("/") };
        let routes = Routes::new(vec![everywhere, Route::new("/admin")]).unwrap();
        assert_eq!(found(&routes, "/admin;x/users"), Err(PathError::Parameters));
        assert_eq!(found(&routes, "/.cloakroom;x/sessions"), Err(PathError::Parameters));
        assert_eq!(found(&routes, "/x;y").as_deref(), Ok("/"));
    }

    #[test]
    fn every_problem_of_a_table_is_listed_at_once() {
        let none = Route {
            session: SessionUse::None,
            login_callback: true,
            require: Require::Recent,
            ..Route::new("/s")
        };
        let mut routes: Vec<Route> = [
            "",
            "notes",
            "=",
            "/a//b",
            "/a/../b",
            "/%61",
            "/a?b",
            "/a/*",
            "/a b",
            "/a;b",
            "/a%2fb",
            "/..",
            "/.cloakroom",
            "/.cloakroom/x",
            "=/.cloakroom",
            "/ok",
            "/ok",
            "/ok/",
            "=/ok",
            "=/ok",
        ]
        .into_iter()
        .map(Route::new)
        .collect();
        routes.push(none);
        let errors = Routes::new(routes).unwrap_err();
        let keys: Vec<_> = errors.problems().iter().map(|p| p.key.as_str()).collect();
        let mut expected: Vec<String> = (0..15).map(|n| format!("routes[{n}].path")).collect();
        expected.extend([16, 17, 19].map(|n| format!("routes[{n}].path")));
        expected.extend(["routes[20].require".to_owned(), "routes[20].login_callback".to_owned()]);
        assert_eq!(keys, expected);
        let normal = errors.problems().iter().find(|p| p.value == "/%61").unwrap();
        assert!(normal.expected.contains("/a"), "{normal}");
    }

    #[test]
    fn the_gateways_own_pages_are_recognised_in_every_spelling() {
        let own = |path| is_own(&path::normalise(path, true).unwrap());
        for path in
            ["/.cloakroom", "/.cloakroom/", "/.cloakroom/sessions", "/%2ecloakroom/x", "//.cloakroom/x"]
        {
            assert!(own(path), "{path}");
        }
        for path in ["/", "/.cloakroomx", "/.Cloakroom/x", "/x/.cloakroom", "/cloakroom"] {
            assert!(!own(path), "{path}");
        }
    }
}
