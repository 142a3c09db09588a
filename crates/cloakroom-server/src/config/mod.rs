//! The configuration: one TOML file, read strictly, and every problem listed at once.

mod duration;
mod flow;
mod hidden;
mod limits;
mod pepper;
mod protection;
mod raw;
mod read;
mod site;
mod store;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use cloakroom::core::origin::{CallbackOrigin, Origin};
use cloakroom::core::policy::Problem;
use cloakroom::core::security_headers::SecurityHeaders;
use cloakroom::{ConfigErrors, CookieOptions, GuessingLimits, SameSite};
use http::uri::Authority;

pub(crate) use self::duration::show;
pub use self::flow::Flow;
pub use self::hidden::Hidden;
pub(crate) use self::hidden::mask;
pub use self::limits::{LimitsConfig, RawLimits, RawShutdown, ShutdownConfig};
pub use self::pepper::{LoadedPeppers, PepperSource, make as make_pepper, read as read_pepper};
pub use self::protection::{CsrfConfig, Enforcement};
pub use self::raw::{Raw, ReadError};
use self::store::Purpose;
pub use self::store::{Remote, SessionsConfig, StoreChoice};
use crate::forwarded::TrustedProxies;
use crate::hosts::Host;
use crate::language::Language;
use crate::routes::{Require, Route, Routes};

/// A configuration that can be run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The application behind: host and port, plain http.
    pub upstream: Authority,
    /// What sessions are made of.
    pub sessions: SessionsConfig,
    /// The origins under which browsers know the application; requests from any other are refused.
    pub origins: Vec<Origin>,
    /// Hosts besides those of the origins; requests for any other are misdirected.
    pub hosts: Vec<Host>,
    /// What is done about requests from elsewhere.
    pub csrf: CsrfConfig,
    /// The headers of every response.
    pub headers: SecurityHeaders,
    /// The application's login page.
    pub login_page: String,
    /// What the gateway's own pages speak.
    pub language: Language,
    /// Certificate chain and key in PEM, for TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Whether browsers reach the gateway over https: by its own TLS or that of a proxy in front.
    pub https: bool,
    /// Proxies whose word on a client's address is taken.
    pub trusted_proxies: TrustedProxies,
    /// The session cookie.
    pub cookie: CookieOptions,
    /// Whether a logout clears the cookies of the whole registrable domain.
    pub clears_whole_site: bool,
    /// The routes.
    pub routes: Routes,
    /// What clients and the application can make the gateway hold or wait for.
    pub limits: LimitsConfig,
    /// What may be under way between clients and the application.
    pub flow: Flow,
    /// How much guessing of tokens is borne from one network.
    pub guessing: GuessingLimits,
    /// How the gateway stops.
    pub shutdown: ShutdownConfig,
    /// A secret that is sent to the application with every request, so that it can refuse others.
    pub gateway_secret: Option<Hidden>,
    /// Every setting that weakens something, by its key, with the reason given.
    pub insecure: Vec<(String, String)>,
    /// What to warn of at start.
    pub warnings: Vec<String>,
}

/// How browsers reach the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Browsers {
    /// Over https.
    Https,
    /// On this machine, where they keep `Secure` cookies all the same.
    Loopback,
    /// Over plain http.
    PlainHttp,
}

/// What a configuration comes to, whether it can be run or not.
#[derive(Debug)]
pub(crate) struct Examined {
    /// If it can be run.
    pub(crate) config: Option<Config>,
    /// The certificate and the key that it names.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// The store and the peppers that it names.
    pub(crate) sessions: Option<SessionsConfig>,
    /// Why it cannot be run.
    pub(crate) problems: Vec<Problem>,
}

/// Collects problems while a raw configuration is turned into one that can be run.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
    insecure: Vec<(String, String)>,
}

impl Check {
    fn problem(&mut self, key: &str, value: impl AsRef<str>, expected: impl AsRef<str>) {
        self.add(Problem::new(key, value.as_ref(), expected.as_ref()));
    }

    /// Adds a problem that has not been noted in the same words.
    fn add(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Reads a value, or notes what was expected.
    fn read<T>(
        &mut self,
        key: &str,
        value: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let read = read(value);
        if read.is_none() {
            self.problem(key, value, expected);
        }
        read
    }

    fn take<T>(&mut self, result: Result<T, ConfigErrors>) -> Option<T> {
        self.take_as(result, Some)
    }

    /// As `take`, with the library's problems in the words of the file; `None` for what has been noted.
    fn take_as<T>(
        &mut self,
        result: Result<T, ConfigErrors>,
        in_the_file: impl Fn(Problem) -> Option<Problem>,
    ) -> Option<T> {
        let errors = match result {
            Ok(good) => return Some(good),
            Err(errors) => errors,
        };
        errors.problems().iter().cloned().filter_map(in_the_file).for_each(|problem| self.add(problem));
        None
    }

    fn duration(&mut self, key: &str, value: Option<&String>) -> Option<Duration> {
        let expected = "a duration such as 30s, 15m, 24h or 7d";
        value.and_then(|value| self.read(key, value, expected, duration::parse))
    }

    /// Takes over what was found while the file was read.
    fn found(&mut self, problems: Vec<Problem>, insecure: Vec<(String, String)>) {
        problems.into_iter().for_each(|problem| self.add(problem));
        insecure.into_iter().for_each(|(key, reason)| self.insecure(key, reason));
    }

    /// Notes a setting that weakens something.
    fn insecure(&mut self, key: String, reason: String) {
        if reason.trim().is_empty() {
            self.problem(&key, "", "a reason, in words");
        }
        self.insecure.push((key, reason));
    }

    /// What was read, if there is no problem. Whatever could not be read has been noted as one.
    fn finish<T>(self, read: Option<T>) -> Result<T, ConfigErrors> {
        ConfigErrors::unless_empty(self.problems)?;
        read.ok_or_else(unreadable)
    }
}

/// For the compiler: whatever could not be read has been noted.
fn unreadable() -> ConfigErrors {
    ConfigErrors::one("configuration", "", "settings that can be read")
}

impl Config {
    /// Reads a configuration file, and lays what was given on the command line over it.
    ///
    /// # Errors
    ///
    /// [`anyhow::Error`] with every problem at once, each with its key, its value and what was expected.
    pub fn load(file: Option<&Path>, over: impl FnOnce(&mut Raw)) -> anyhow::Result<Self> {
        let mut raw = Raw::load(file)?;
        over(&mut raw);
        Self::check(raw).context("the configuration cannot be used")
    }

    /// Takes note of the address that was bound, which matters where the port was left open.
    pub fn bound(&mut self, address: SocketAddr) {
        self.listen = address;
        if self.origins.is_empty() {
            self.origins = site::loopback_origins(address);
        }
    }

    /// Checks a raw configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem at once.
    pub fn check(raw: Raw) -> Result<Self, ConfigErrors> {
        let Examined { config, problems, .. } = Self::examine(raw);
        ConfigErrors::unless_empty(problems)?;
        config.ok_or_else(unreadable)
    }

    /// Checks a raw configuration, and says what it names even if it cannot be run. Opens nothing.
    pub(crate) fn examine(mut raw: Raw) -> Examined {
        let mut check = Check::default();
        check.found(std::mem::take(&mut raw.problems), std::mem::take(&mut raw.insecure));
        let mut warnings = Vec::new();
        let listen = raw.listen.as_deref().unwrap_or("127.0.0.1:8080");
        let listen = check.read("listen", listen, "an address and port such as 127.0.0.1:8080", |text| {
            text.parse::<SocketAddr>().ok()
        });
        let upstream = site::upstream(&mut check, raw.upstream.as_deref());
        if let Some(upstream) = &upstream
            && !site::is_private(upstream.host())
        {
            warnings.push(format!(
                "upstream = {upstream} is neither loopback nor a private address: whoever reaches it without the gateway \
                 can claim to be anybody"
            ));
        }
        let sessions = SessionsConfig::check(&mut check, raw.sessions(), Purpose::Serve);
        let tls = match (raw.tls.cert, raw.tls.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                check.problem("tls.key", "", "the key that belongs to tls.cert");
                None
            }
            (None, Some(_)) => {
                check.problem("tls.cert", "", "the certificate that belongs to tls.key");
                None
            }
        };
        let plain_http = raw.insecure_plain_http.is_some();
        let https = tls.is_some() || raw.tls_terminated_by_proxy;
        if https && plain_http {
            check.problem("insecure_plain_http", "set", "nothing, because browsers use https here");
        }
        if let Some(listen) = listen
            && !listen.ip().is_loopback()
            && !https
            && !plain_http
        {
            check.problem(
                "listen",
                listen.to_string(),
                "tls.cert and tls.key, or tls_terminated_by_proxy = true, or insecure_plain_http with a reason: \
                 over plain http browsers drop the session cookie anywhere but on loopback, and whoever listens takes it",
            );
        }
        let origins = site::origins(&mut check, raw.origin.as_deref(), listen, https);
        let expected = "a host, with a port where it is not the scheme's own, such as www.example.org";
        let hosts =
            raw.hosts.iter().filter_map(|host| check.read("hosts", host, expected, Host::parse)).collect();
        let csrf = raw.csrf.check(&mut check, https, &mut warnings);
        let headers = raw.headers.check(&mut check, &raw.csp, &mut warnings);
        if let (Some(upstream), Some(listen)) = (&upstream, listen) {
            site::not_itself(&mut check, upstream, listen, &origins);
        }
        let language = raw.language.as_deref().unwrap_or("en");
        let language = check.read("language", language, "en, de or cs", Language::parse);
        let proxies = check.take(TrustedProxies::parse(&raw.trusted_proxies));
        if raw.tls_terminated_by_proxy && raw.trusted_proxies.is_empty() {
            let expected =
                "the address of the proxy of tls_terminated_by_proxy: all clients would have its address";
            check.problem("trusted_proxies", "", expected);
        }
        let clears_whole_site = raw.cookie.logout_clears_cookies_of_whole_site;
        let cookie = cookie(&mut check, raw.cookie, raw.insecure_plain_http);
        let browsers = match (https, plain_http) {
            (true, _) => Browsers::Https,
            (false, true) => Browsers::PlainHttp,
            (false, false) => Browsers::Loopback,
        };
        let routes = raw.routes.into_iter().enumerate();
        let routes: Vec<Route> =
            routes.map(|(index, route)| route.check(&mut check, index, browsers)).collect();
        let needed = routes.iter().any(|route| route.require != Require::Anyone);
        let routes = check.take(Routes::new(routes));
        let login_page = raw.login_page.unwrap_or_else(|| "/login".to_owned());
        site::login_page(&mut check, &login_page, routes.as_ref(), needed);
        for (one, other) in routes.iter().flat_map(Routes::differing_in_case) {
            warnings.push(format!(
                "route {one} and route {other} differ in case: an application may take them for one, so whichever guards more \
                 strictly guards both"
            ));
        }
        for route in routes.iter().flat_map(Routes::iter) {
            if route.callback_origins.contains(&CallbackOrigin::Opaque) {
                warnings.push(format!(
                    "route {}: callback_origins has null, which a page of every site can say that it is; only the cookie of the login \
                     and the application's own check tell who sends a user back",
                    route.pattern
                ));
            }
        }
        let guessing = guessing(&mut check, &raw.limits);
        let flow = raw.limits.flow(&mut check);
        let limits = raw.limits.check(&mut check);
        let shutdown = raw.shutdown.check(&mut check);
        if raw
            .gateway_secret
            .as_ref()
            .is_some_and(|secret| secret.len() < 16 || !secret.bytes().all(|b| b.is_ascii_graphic()))
        {
            check.problem("gateway_secret", "(hidden)", "at least 16 visible ASCII characters");
        }
        let Check { problems, insecure } = check;
        let named = (tls.clone(), sessions.clone());
        let parts = (|| Some((listen?, upstream?, sessions?, cookie?, routes?, proxies?, headers?)))();
        let parts = parts.filter(|_| problems.is_empty());
        let config =
            parts.map(|(listen, upstream, sessions, cookie, routes, trusted_proxies, headers)| Self {
                listen,
                upstream,
                sessions,
                origins,
                hosts,
                csrf,
                headers,
                login_page,
                language: language.unwrap_or_default(),
                tls,
                https,
                trusted_proxies,
                cookie,
                clears_whole_site,
                routes,
                limits,
                flow,
                guessing,
                shutdown,
                gateway_secret: raw.gateway_secret,
                insecure,
                warnings,
            });
        Examined { config, tls: named.0, sessions: named.1, problems }
    }
}

fn guessing(check: &mut Check, raw: &RawLimits) -> GuessingLimits {
    let mut limits = GuessingLimits::default();
    if let Some(tokens) = raw.unknown_tokens {
        limits = limits.unknown_tokens(tokens);
    }
    if let Some(look_ups) = raw.look_ups {
        limits = limits.look_ups(look_ups);
    }
    if let Some(sessions) = raw.remembered_sessions {
        limits = limits.remembered(sessions);
    }
    check.take_as(limits.check(), |problem| {
        Some(Problem { key: format!("limits.{}", problem.key), ..problem })
    });
    limits
}

fn cookie(check: &mut Check, raw: raw::RawCookie, plain_http: Option<String>) -> Option<CookieOptions> {
    let mut options = CookieOptions::default();
    if let Some(name) = raw.name {
        options = options.name(name);
    }
    match raw.same_site.as_deref() {
        None | Some("lax") => {}
        Some("strict") => options = options.same_site(SameSite::Strict),
        Some(other) => check.problem("cookie.same_site", other, "lax or strict"),
    }
    if let Some(reason) = plain_http {
        options = options.insecure_plain_http(reason);
    }
    // An empty reason has been noted, by the key of the file.
    let noted = |problem: Problem| (!problem.key.starts_with("cookie.insecure_")).then_some(problem);
    check.take_as(options.clone().build(), noted).map(|_| options)
}
