//! The route table: what the gateway demands of a request before the upstream sees it.
//!
//! Routes match the decoded segments of a path's normal form ([`Normal::segments`]), and that form is what is forwarded.
//! The longest match wins.
//!
//! **Case.** Some applications ignore it in paths, and the gateway cannot know which. So what guards a path (`require`,
//! `loading`, `forgery`) is the strictest of all routes that match when case is ignored, and what relaxes (`session = "none"`,
//! `login_start`, `login_callback` and the rest) is that of the route that matches as it is written: whichever way the application reads a
//! path, the stricter rule holds. A route of which a longer one is an exception, spelt the same so far, does not count beside it.

mod fold;
mod table;

use std::time::Duration;

use cloakroom::Activity;
use cloakroom::core::origin::{CallbackOrigin, Forgery, Loading};
use cloakroom::core::security_headers::ResourcePolicy;

pub use self::table::Routes;
use crate::pace::Pace;
use crate::path::Normal;

/// The gateway's own pages; no route can take them.
pub const OWN_PREFIX: &str = "/.cloakroom";
const OWN_SEGMENT: &[u8] = b".cloakroom";

/// Who may pass; the later, the stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Whether a login may begin here that an identity provider's form completes. Default: no. A response of the application here sets
    /// the cookie that proves it. For the site itself and whoever navigates here: another site's image is to begin no login.
    pub login_start: bool,
    /// Whether a login may complete here with a safe method, as in OpenID Connect. Default: no.
    ///
    /// # Security
    ///
    /// Any site can make a browser send a GET. So a login is obeyed here, whatever the method, only in a request that
    /// has a live session, the one that began the flow, or that comes back from one of `callback_origins`.
    pub login_callback: bool,
    /// Whose forms may bring users back here to complete a login that began in their browser: identity providers that answer by
    /// POST. Default: nobody's.
    pub callback_origins: Vec<CallbackOrigin>,
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
    /// Who may load what is here. Default: only the site itself and whoever navigates here if the route demands a login or is where
    /// one begins, else everybody.
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
            login_start: false,
            login_callback: false,
            callback_origins: Vec::new(),
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
        let open = self.require == Require::Anyone && !self.login_start;
        self.loading.unwrap_or(if open { Loading::Open } else { Loading::Isolated })
    }

    /// What holds for a question that concerns no session: it demands none, and nothing is told of any.
    pub fn without_session(&self) -> Self {
        Self {
            require: Require::Anyone,
            session: SessionUse::None,
            login_start: false,
            login_callback: false,
            callback_origins: Vec::new(),
            ..self.clone()
        }
    }

    /// This route, guarded as strictly as another one too. `None` if it is already.
    fn guarded_as(&self, other: &Self) -> Option<Self> {
        let require = self.require.max(other.require);
        let isolated = self.loading() == Loading::Isolated || other.loading() == Loading::Isolated;
        let checked = self.forgery == Forgery::Checked || other.forgery == Forgery::Checked;
        let mut route = self.clone();
        route.require = require;
        if isolated && self.loading() != Loading::Isolated {
            route.loading = Some(Loading::Isolated);
        }
        if checked {
            route.forgery = Forgery::Checked;
        }
        if require != Require::Anyone && self.session == SessionUse::None {
            // Nobody's login can be seen without a session.
            route.session = SessionUse::Full;
            route.resource = None;
        }
        (route != *self).then_some(route)
    }
}

/// Whether a path is one of the gateway's own.
pub fn is_own(normal: &Normal) -> bool {
    normal.segments().first().is_some_and(|first| first == OWN_SEGMENT)
}

/// A path as it reads where case, a slash at the end and parameters do not matter: for comparing only.
pub(crate) fn folded(normal: &Normal) -> Vec<String> {
    table::trimmed(normal.segments()).iter().map(|segment| fold::fold(segment)).collect()
}
