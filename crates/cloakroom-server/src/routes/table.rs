//! The checked route table: which route a path has, and what guards it.

use std::sync::Arc;

use cloakroom::core::origin::{Forgery, Loading};
use cloakroom::core::policy::{ConfigErrors, Problem};
use http::{Method, Uri};

use super::fold::fold;
use super::{OWN_PREFIX, Require, Route, SessionUse, is_own};
use crate::path::{self, Normal, PathError};

#[derive(Debug)]
struct Entry {
    segments: Vec<Vec<u8>>,
    folded: Vec<String>,
    exact: bool,
    route: Arc<Route>,
}

impl Entry {
    fn matches(&self, path: &[Vec<u8>]) -> bool {
        if self.exact { path == self.segments } else { path.starts_with(&self.segments) }
    }

    fn matches_folded(&self, path: &[String]) -> bool {
        if self.exact { path == self.folded } else { path.starts_with(&self.folded) }
    }

    /// Whether this is an exception to another one, spelt the same so far.
    fn is_exception_to(&self, other: &Self) -> bool {
        !other.exact
            && self.segments.starts_with(&other.segments)
            && (self.segments.len() > other.segments.len() || self.exact)
    }

    /// Whether a path that one of the two matches as it is written is one that the other matches only in another case.
    fn differs_in_case(&self, other: &Self) -> bool {
        let (short, long) =
            if self.folded.len() <= other.folded.len() { (self, other) } else { (other, self) };
        let reaches = !short.exact || short.folded.len() == long.folded.len();
        reaches && long.folded.starts_with(&short.folded) && !long.segments.starts_with(&short.segments)
    }
}

/// Whether a segment has nothing that another case could be of, and nothing that reads as if it was of another case.
fn is_plain(segment: &[u8]) -> bool {
    segment.iter().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
}

/// A path's segments without the empty one that a slash at the end makes.
pub(super) fn trimmed(segments: &[Vec<u8>]) -> &[Vec<u8>] {
    match segments.split_last() {
        Some((last, rest)) if last.is_empty() => rest,
        _ => segments,
    }
}

/// A checked route table. Each path has a route: one for `/` with the defaults is added if there is none.
#[derive(Debug)]
pub struct Routes {
    /// Longer patterns first, and of two equals the exact one.
    entries: Vec<Entry>,
    rest: Arc<Route>,
    /// Whether no pattern has anything but small letters of ASCII, so that most paths match as they are written or not at all.
    plain: bool,
}

impl Default for Routes {
    fn default() -> Self {
        Self { entries: Vec::new(), rest: Arc::new(Route::new("/")), plain: true }
    }
}

impl Routes {
    /// Checks routes and puts them in order; the order given does not matter.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem at once; the key is `route[n].path` and the like, counted from 0.
    pub fn new(routes: Vec<Route>) -> Result<Self, ConfigErrors> {
        let mut problems = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        let begins = routes.iter().any(|route| route.login_start);
        for (n, route) in routes.into_iter().enumerate() {
            let key = |name: &str| format!("route[{n}].{name}");
            if route.session == SessionUse::None {
                let expected = "nothing that needs a session beside session = \"none\"";
                if route.require != Require::Anyone {
                    let value = format!("{:?}", route.require).to_lowercase();
                    problems.push(Problem::new(&key("require"), &value, expected));
                }
                for (name, set) in
                    [("login_callback", route.login_callback), ("login_start", route.login_start)]
                {
                    if set {
                        problems.push(Problem::new(&key(name), "true", expected));
                    }
                }
            }
            problems.extend(
                misplaced(&route, begins)
                    .map(|(name, value, expected)| Problem::new(&key(name), value, expected)),
            );
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
                    let folded = segments.iter().map(|segment| fold(segment)).collect();
                    entries.push(Entry { segments, folded, exact, route: Arc::new(route) });
                }
            }
        }
        ConfigErrors::unless_empty(problems)?;
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.segments.len()), !entry.exact));
        let plain = entries.iter().all(|entry| entry.segments.iter().all(|segment| is_plain(segment)));
        Ok(Self { entries, rest: Arc::new(Route::new("/")), plain })
    }

    /// Brings a request's target to normal form and finds its route, with the guards of whatever routes match in another case.
    ///
    /// Whether `;` is allowed depends on the route, and the route on the path: so the path is normalised as if it was
    /// allowed, and then refused if its route does not allow it. There is no way to have the one without the other.
    ///
    /// # Errors
    ///
    /// As [`path::target`]. The answer is 400.
    pub fn resolve(&self, method: &Method, uri: &Uri) -> Result<(Normal, Arc<Route>), PathError> {
        let normal = path::target(method, uri, true)?;
        let route = self.find(normal.segments());
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

    /// Pairs of patterns of which one matches paths of the other in another case only.
    pub fn differing_in_case(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.entries.iter().enumerate().flat_map(|(n, one)| {
            self.entries
                .iter()
                .take(n)
                .filter(|other| one.differs_in_case(other))
                .map(move |other| (one, other))
        });
        pairs.map(|(one, other)| (one.route.pattern.as_str(), other.route.pattern.as_str()))
    }

    /// The route of a path as an application that minds case, or one that does not, may read it.
    pub(super) fn find(&self, path: &[Vec<u8>]) -> Arc<Route> {
        let path = trimmed(path);
        let entry = self.entries.iter().find(|entry| entry.matches(path));
        let route = Arc::clone(entry.map_or(&self.rest, |entry| &entry.route));
        if self.plain && path.iter().all(|segment| is_plain(segment)) {
            return route;
        }
        let folded = path.iter().map(|segment| fold(segment)).collect::<Vec<_>>();
        let matching = self.entries.iter().filter(|entry| entry.matches_folded(&folded)).collect::<Vec<_>>();
        let guards =
            matching.iter().filter(|entry| !matching.iter().any(|other| other.is_exception_to(entry)));
        guards.fold(route, |route, entry| match route.guarded_as(&entry.route) {
            Some(stricter) => Arc::new(stricter),
            None => route,
        })
    }
}

/// What of a login's beginning and end is not where it belongs: key, value and what was expected. `begins` says whether any route is one
/// where logins begin.
fn misplaced(
    route: &Route,
    begins: bool,
) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> + use<> {
    let called = !route.callback_origins.is_empty();
    let open = route.login_start && route.loading == Some(Loading::Open);
    let rules = [
        (called && !route.login_callback, "callback_origins", "login_callback = true beside it"),
        (
            called && route.require != Require::Anyone,
            "callback_origins",
            "no require beside it: who comes back from an identity provider is not signed in yet",
        ),
        (
            called && !begins,
            "callback_origins",
            "a route with login_start = true, where the login begins: without it none can come back",
        ),
        (
            open,
            "loading",
            "no loading = \"open\" beside login_start: another site's image is to begin no login",
        ),
    ];
    rules.into_iter().filter(|(wrong, ..)| *wrong).map(|(_, name, expected)| (name, "set", expected))
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
    use cloakroom::core::origin::CallbackOrigin;
    use proptest::prelude::*;

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

    fn of(routes: &Routes, target: &str) -> Route {
        Route::clone(&routes.resolve(&Method::GET, &target.parse().unwrap()).unwrap().1)
    }

    fn requires(pattern: &str, require: Require) -> Route {
        Route { require, ..Route::new(pattern) }
    }

    #[test]
    fn r130_another_case_of_a_path_is_guarded_as_strictly_and_relaxes_nothing() {
        use Require::{Anyone, Authenticated, Recent};
        let hook =
            Route { session: SessionUse::None, forgery: Forgery::Exempt, ..Route::new("=/admin/Hook") };
        let open = Route { loading: Some(Loading::Open), ..requires("/account", Authenticated) };
        let routes = Routes::new(vec![
            requires("/admin", Authenticated),
            requires("/admin/keys", Recent),
            requires("/admin/login", Anyone),
            requires("/Public", Anyone),
            requires("/stra%C3%9Fe", Recent),
            open,
            hook,
            Route { session: SessionUse::None, ..Route::new("/files") },
            requires("/FILES/mine", Authenticated),
            Route { loading: Some(Loading::Isolated), ..Route::new("/Account/photo") },
            Route {
                login_callback: true,
                login_start: true,
                callback_origins: vec![CallbackOrigin::Opaque],
                allow_parameters: true,
                ..Route::new("/back")
            },
        ]);
        let routes = routes.unwrap();
        for (path, require) in [
            ("/admin", Authenticated),
            ("/Admin", Authenticated),
            ("/ADMIN/x", Authenticated),
            ("/%41dmin/x", Authenticated),
            ("/admin/keys", Recent),
            ("/Admin/Keys/1", Recent),
            ("/admin/login", Anyone),
            ("/admin/LOGIN", Authenticated),
            ("/Admin/login", Anyone),
            ("/public", Anyone),
            ("/STRASSE", Recent),
            ("/other", Anyone),
            ("/files/mine", Authenticated),
            ("/files/other", Anyone),
        ] {
            assert_eq!(of(&routes, path).require, require, "{path}");
        }
        // Seen as nobody's, nobody would pass.
        assert_eq!(of(&routes, "/files/mine").session, SessionUse::Full);
        assert_eq!(of(&routes, "/files/other").session, SessionUse::None);
        assert_eq!(of(&routes, "/Files/other").session, SessionUse::Full);
        // Exempt is the path as it is written, even where the rest of it is an exception in another case.
        assert_eq!(of(&routes, "/admin/Hook").forgery, Forgery::Exempt);
        assert_eq!(of(&routes, "/admin/hook").forgery, Forgery::Checked);
        assert_eq!(of(&routes, "/account/photo").loading(), Loading::Isolated);
        assert_eq!(of(&routes, "/account").loading(), Loading::Open);
        let relaxed = |path| {
            let route = of(&routes, path);
            [route.login_callback, route.login_start, !route.callback_origins.is_empty()]
        };
        assert_eq!((relaxed("/back"), relaxed("/Back")), ([true; 3], [false; 3]));
        assert_eq!(of(&routes, "/back").loading(), Loading::Isolated, "where a login begins");
        assert!(found(&routes, "/back;x").is_ok() && found(&routes, "/Back;x").is_err());
    }

    #[test]
    fn routes_that_differ_in_case_only_are_told() {
        let routes = table(&["/admin", "/Admin", "/a/B", "/A", "=/C", "/c/d", "/x", "=/x", "/Xy"]);
        let mut pairs = routes.differing_in_case().collect::<Vec<_>>();
        pairs.sort_unstable();
        assert_eq!(pairs, [("/A", "/a/B"), ("/Admin", "/admin")]);
    }

    proptest! {
        #[test]
        fn r130_whichever_case_an_application_reads_the_stricter_rule_holds(
            patterns in proptest::collection::vec(("=?(/[aAbB]){1,3}", 0..3_usize), 0..6),
            path in "(/[aAbB]){1,4}",
        ) {
            let strict = |n: usize| [Require::Anyone, Require::Authenticated, Require::Recent][n];
            let make = |fold: &dyn Fn(&str) -> String| {
                let mut routes: Vec<Route> = Vec::new();
                for (pattern, n) in &patterns {
                    let route = requires(&fold(pattern), strict(*n));
                    if routes.iter().all(|other| other.pattern != route.pattern) {
                        routes.push(route);
                    }
                }
                Routes::new(routes).unwrap()
            };
            // As written: never less than what is written for the path, and what relaxes is exactly that.
            let written = make(&str::to_owned);
            let segments = path::normalise(&path, false).unwrap().segments().to_vec();
            let exact = written.entries.iter().find(|entry| entry.matches(&segments));
            let exact = exact.map_or(&written.rest, |entry| &entry.route);
            let found = written.find(&segments);
            prop_assert!(found.require >= exact.require);
            prop_assert_eq!(&found.pattern, &exact.pattern);
            // Where patterns have one case, any spelling of a path is guarded as that one is.
            let small = make(&str::to_lowercase);
            let lower = path::normalise(&path.to_lowercase(), false).unwrap().segments().to_vec();
            prop_assert!(small.find(&segments).require >= small.find(&lower).require);
            prop_assert!(small.find(&segments).loading() == Loading::Isolated || small.find(&lower).loading() == Loading::Open);
        }
    }

    #[test]
    fn every_problem_of_a_table_is_listed_at_once() {
        let none = Route {
            session: SessionUse::None,
            login_callback: true,
            login_start: true,
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
        let mut expected: Vec<String> = (0..15).map(|n| format!("route[{n}].path")).collect();
        expected.extend([16, 17, 19].map(|n| format!("route[{n}].path")));
        let of_none = ["require", "login_callback", "login_start"];
        expected.extend(of_none.map(|name| format!("route[20].{name}")));
        assert_eq!(keys, expected);
        let normal = errors.problems().iter().find(|p| p.value == "/%61").unwrap();
        assert!(normal.expected.contains("/a"), "{normal}");
    }

    #[test]
    fn where_a_login_begins_and_comes_back_is_checked_with_what_it_needs() {
        let start = || Route { login_start: true, ..Route::new("/start") };
        let back = || Route {
            login_callback: true,
            callback_origins: vec![CallbackOrigin::parse("https://idp.example").unwrap()],
            ..Route::new("=/back")
        };
        let problems = |routes| match Routes::new(routes) {
            Ok(_) => String::new(),
            Err(errors) => errors.to_string(),
        };
        assert_eq!(problems(vec![start(), back()]), "");
        assert_eq!(problems(vec![Route { callback_origins: Vec::new(), ..back() }]), "");
        for (routes, key, expected) in [
            (
                vec![start(), Route { login_callback: false, ..back() }],
                "route[1].callback_origins",
                "login_callback = true",
            ),
            (
                vec![start(), Route { require: Require::Authenticated, ..back() }],
                "route[1].callback_origins",
                "no require",
            ),
            (vec![back()], "route[0].callback_origins", "login_start = true"),
            (vec![Route { loading: Some(Loading::Open), ..start() }], "route[0].loading", "login_start"),
        ] {
            let said = problems(routes);
            assert!(
                said.contains(key) && said.contains(expected) && said.lines().count() <= 2,
                "{key}: {said}"
            );
        }
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
