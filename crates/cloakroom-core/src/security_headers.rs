//! Response headers that protect a page and the window it is in.
//!
//! They do not depend on the status: pages, redirects, errors and API replies get the same set. For a response that
//! brings some of its own, the stricter counts:
//!
//! | field | kept if the response's own | else |
//! | --- | --- | --- |
//! | `Content-Security-Policy` | leaves open nothing that ours closes | ours in whole or part beside it; browsers enforce both ([`Csp::mend`]) |
//! | `Content-Security-Policy-Report-Only` | always | ours beside it, in report-only mode |
//! | `Reporting-Endpoints` | always | ours beside it |
//! | `X-Content-Type-Options` | is `nosniff` | replaced |
//! | `Referrer-Policy` | tells other origins no more | replaced |
//! | `Cross-Origin-Opener-Policy` | isolates as much or more | replaced |
//! | `Cross-Origin-Resource-Policy` | admits nobody that ours does not | replaced |
//! | `Strict-Transport-Security` | lasts as long, and covers sub-domains if ours does | replaced; removed over plain http (RFC 6797 section 7.2) |
//! | `X-XSS-Protection` | is `0` | removed: its filter could be turned against pages |
//! | `Public-Key-Pins`, `Expect-CT` | never | removed: browsers have given them up, and a pin can lock everybody out |
//!
//! A value that cannot be read, or that stands there twice where one is expected, counts as weak. Ours never has the
//! obsolete ones.

use std::time::Duration;

use crate::csp::{Csp, Nonce};
use crate::policy::{ConfigErrors, Problem};

/// A year: the least that `Strict-Transport-Security` may last (R-124, ASVS 3.4.1).
pub const HSTS_MIN: Duration = Duration::from_secs(365 * 24 * 3600);

const CSP: &str = "content-security-policy";
const CSP_REPORT_ONLY: &str = "content-security-policy-report-only";
const REPORTING: &str = "reporting-endpoints";
const NOSNIFF: &str = "x-content-type-options";
const REFERRER: &str = "referrer-policy";
const OPENER: &str = "cross-origin-opener-policy";
const RESOURCE: &str = "cross-origin-resource-policy";
const HSTS: &str = "strict-transport-security";
const XSS_FILTER: &str = "x-xss-protection";
/// What no response has after [`SecurityHeaders::merge`] but for `X-XSS-Protection: 0`.
pub const OBSOLETE: [&str; 4] = [XSS_FILTER, "public-key-pins", "public-key-pins-report-only", "expect-ct"];

/// Whether the policy is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CspMode {
    /// Browsers refuse what it does not allow.
    #[default]
    Enforce,
    /// Browsers only report it: for trying a policy out. Protects nothing.
    ReportOnly,
}

/// `Cross-Origin-Opener-Policy` (HTML section 7.1.3): whether a window of another origin keeps a hold on the page's
///
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opener {
    /// None that opened it, and none that it opens.
    #[default]
    SameOrigin,
    /// Those that it opens keep one: for pop-ups of payment and sign-in providers that answer to the page.
    SameOriginAllowPopups,
}

/// `Cross-Origin-Resource-Policy` (Fetch section 3.7): which pages may load the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourcePolicy {
    /// Pages of every site: for public files that others are meant to embed.
    CrossOrigin,
    /// Pages of sibling hosts too.
    SameSite,
    /// Pages of the same origin.
    #[default]
    SameOrigin,
}

/// `Referrer-Policy`: what other sites learn of the page that a link or request comes from. None of these tells
/// them paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Referrer {
    /// The origin, and over plain http nothing. What browsers do by default, said aloud.
    #[default]
    StrictOriginWhenCrossOrigin,
    /// The origin, also within the site.
    StrictOrigin,
    /// Nothing.
    SameOrigin,
    /// Nothing, also within the site. Browsers send `Origin: null` with the site's own forms then, so that over plain
    /// http, where there is no `Sec-Fetch-Site` either, all of them are refused.
    NoReferrer,
}

/// Which headers are sent.
///
/// The default is the strict policy, enforced; `nosniff`; `strict-origin-when-cross-origin`; `same-origin` for opener
/// and resource policy; and over https a year of HSTS with sub-domains.
#[derive(Clone, Debug)]
pub struct SecurityHeadersOptions {
    csp: Csp,
    csp_mode: CspMode,
    referrer: Referrer,
    opener: Opener,
    resource: ResourcePolicy,
    hsts_max_age: Duration,
    hsts_preload: bool,
    hsts_host_only: Option<String>,
}

impl Default for SecurityHeadersOptions {
    fn default() -> Self {
        Self {
            csp: Csp::default(),
            csp_mode: CspMode::Enforce,
            referrer: Referrer::default(),
            opener: Opener::default(),
            resource: ResourcePolicy::default(),
            hsts_max_age: HSTS_MIN,
            hsts_preload: false,
            hsts_host_only: None,
        }
    }
}

impl SecurityHeadersOptions {
    /// Uses another content security policy.
    #[must_use = "this returns the changed options"]
    pub fn csp(mut self, csp: Csp) -> Self {
        self.csp = csp;
        self
    }

    /// Enforces the policy (the default) or only has it reported.
    ///
    /// # Security
    ///
    /// A policy that is only reported stops no script.
    #[must_use = "this returns the changed options"]
    pub const fn csp_mode(mut self, mode: CspMode) -> Self {
        self.csp_mode = mode;
        self
    }

    /// Chooses the referrer policy.
    #[must_use = "this returns the changed options"]
    pub const fn referrer(mut self, referrer: Referrer) -> Self {
        self.referrer = referrer;
        self
    }

    /// Chooses the opener policy.
    ///
    /// # Security
    ///
    /// With pop-ups, a page that the user opens from here keeps a hold on this window.
    #[must_use = "this returns the changed options"]
    pub const fn opener(mut self, opener: Opener) -> Self {
        self.opener = opener;
        self
    }

    /// Chooses the resource policy.
    ///
    /// # Security
    ///
    /// What others may load, they can also measure, and read through flaws of processors. Never for account content.
    #[must_use = "this returns the changed options"]
    pub const fn resource(mut self, resource: ResourcePolicy) -> Self {
        self.resource = resource;
        self
    }

    /// Changes how long browsers insist on https after each response. Default and least: a year.
    #[must_use = "this returns the changed options"]
    pub const fn hsts_max_age(mut self, max_age: Duration) -> Self {
        self.hsts_max_age = max_age;
        self
    }

    /// Asks for a place in the lists that browsers bring along (hstspreload.org), which insist on https before the
    /// first visit. Wants sub-domains covered. Hard to undo: think before, it takes months.
    #[must_use = "this returns the changed options"]
    pub const fn hsts_preload(mut self) -> Self {
        self.hsts_preload = true;
        self
    }

    /// Leaves sub-domains out of HSTS, because some of them have no https.
    ///
    /// # Security
    ///
    /// Who controls the network can make up a sub-domain over plain http, and plant cookies from it (RFC 6797 section
    /// 14.4).
    #[must_use = "this returns the changed options"]
    pub fn insecure_hsts_without_subdomains(mut self, reason: impl Into<String>) -> Self {
        self.hsts_host_only = Some(reason.into());
        self
    }

    /// Checks the options.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem at once.
    pub fn build(self) -> Result<SecurityHeaders, ConfigErrors> {
        let mut problems = Vec::new();
        if self.hsts_max_age < HSTS_MIN {
            let value = format!("{}s", self.hsts_max_age.as_secs());
            problems.push(Problem::new("headers.hsts_max_age", &value, "at least a year, 365d"));
        }
        if self.hsts_host_only.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
            let key = "headers.insecure_hsts_without_subdomains";
            problems.push(Problem::new(key, "", "a reason, in words"));
        }
        if self.hsts_preload && self.hsts_host_only.is_some() {
            let expected = "no insecure_hsts_without_subdomains beside it: the lists take whole domains only";
            problems.push(Problem::new("headers.hsts_preload", "set", expected));
        }
        if self.csp_mode == CspMode::ReportOnly && self.csp.endpoint().is_none() {
            let expected = "an endpoint for reports, or nobody hears of them";
            problems.push(Problem::new("headers.csp_mode", "report-only", expected));
        }
        ConfigErrors::unless_empty(problems)?;
        Ok(SecurityHeaders::of(self))
    }
}

/// The scheme that the client used, of which a proxy in front may be the only one to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// https.
    Https,
    /// Plain http.
    Http,
}

/// A field to send: its name in lower case, and its value, which is printable ASCII.
pub type HeaderField = (&'static str, String);

/// What is to be done to a response that has headers of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set the field, in the place of what is there.
    Set(&'static str, String),
    /// Add a field line beside what is there.
    Append(&'static str, String),
    /// Remove the field.
    Remove(&'static str),
}

/// The headers of a deployment, checked. The default is that of [`SecurityHeadersOptions`].
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    options: SecurityHeadersOptions,
    /// The policy for plain http.
    plain: Csp,
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        Self::of(SecurityHeadersOptions::default())
    }
}

impl SecurityHeaders {
    fn of(options: SecurityHeadersOptions) -> Self {
        Self { plain: options.csp.over_http(), options }
    }

    fn csp_for(&self, scheme: Scheme) -> &Csp {
        match scheme {
            Scheme::Https => &self.options.csp,
            Scheme::Http => &self.plain,
        }
    }

    /// The policy.
    pub const fn csp(&self) -> &Csp {
        &self.options.csp
    }

    /// The same headers with a policy that has no nonce ([`Csp::without_nonce`]), and another resource policy if one is
    /// given: for responses that caches may keep. Which nonce is then handed in does not matter.
    #[must_use = "this returns the other headers"]
    pub fn without_nonce(&self, resource: Option<ResourcePolicy>) -> Self {
        let options = self.options.clone().csp(self.options.csp.without_nonce());
        Self::of(options.resource(resource.unwrap_or(self.options.resource)))
    }

    /// The whole set, for a response that has none of them.
    ///
    /// A response with a nonce must not be stored by a cache.
    pub fn fields(&self, scheme: Scheme, nonce: &Nonce) -> Vec<HeaderField> {
        let mut fields = vec![
            (self.csp_field(), self.csp_for(scheme).header(nonce)),
            (NOSNIFF, "nosniff".to_owned()),
            (REFERRER, referrer_name(self.options.referrer).to_owned()),
            (OPENER, opener_name(self.options.opener).to_owned()),
            (RESOURCE, resource_name(self.options.resource).to_owned()),
        ];
        if scheme == Scheme::Https {
            fields.extend(self.options.csp.reporting_endpoints().map(|value| (REPORTING, value)));
            fields.push((HSTS, self.hsts()));
        }
        fields
    }

    /// What to do to a response, given its own values of a field by the field's name in lower case. See [the
    /// table](self).
    ///
    /// Doing it once more changes nothing.
    pub fn merge<'a>(
        &self,
        scheme: Scheme,
        nonce: &Nonce,
        own: impl Fn(&'static str) -> Vec<&'a [u8]>,
    ) -> Vec<Change> {
        let mut changes: Vec<_> = self
            .fields(scheme, nonce)
            .into_iter()
            .filter_map(|(name, value)| {
                let held = own(name);
                // What is not text is nothing that a browser could make sense of.
                let texts: Vec<&str> = held.iter().filter_map(|bytes| str::from_utf8(bytes).ok()).collect();
                match name {
                    CSP => {
                        let value = self.csp_for(scheme).mend(&texts, nonce)?;
                        Some(if texts.is_empty() {
                            Change::Set(name, value)
                        } else {
                            Change::Append(name, value)
                        })
                    }
                    CSP_REPORT_ONLY | REPORTING => match texts.as_slice() {
                        texts if texts.contains(&value.as_str()) => None,
                        [] => Some(Change::Set(name, value)),
                        _ => Some(Change::Append(name, value)),
                    },
                    _ if self.keeps(name, &texts) && texts.len() == held.len() => None,
                    _ => Some(Change::Set(name, value)),
                }
            })
            .collect();
        if scheme == Scheme::Http && !own(HSTS).is_empty() {
            changes.push(Change::Remove(HSTS));
        }
        for name in OBSOLETE {
            let held = own(name);
            let off = name == XSS_FILTER && held.iter().all(|value| value.trim_ascii() == b"0");
            if !held.is_empty() && !off {
                changes.push(Change::Remove(name));
            }
        }
        changes
    }

    const fn csp_field(&self) -> &'static str {
        match self.options.csp_mode {
            CspMode::Enforce => CSP,
            CspMode::ReportOnly => CSP_REPORT_ONLY,
        }
    }

    fn hsts(&self) -> String {
        let mut value = format!("max-age={}", self.options.hsts_max_age.as_secs());
        if self.options.hsts_host_only.is_none() {
            value.push_str("; includeSubDomains");
        }
        if self.options.hsts_preload {
            value.push_str("; preload");
        }
        value
    }

    /// Whether a response's own value is at least as strict.
    fn keeps(&self, name: &str, values: &[&str]) -> bool {
        match name {
            // Fetch, "determine nosniff": the first member counts.
            NOSNIFF => {
                let first = values.first().and_then(|value| value.split(',').next());
                first.is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case("nosniff"))
            }
            // Referrer Policy section 8.1: the last one that is known counts.
            REFERRER => {
                let tokens = values.iter().flat_map(|value| value.split(','));
                let told = tokens.filter_map(|token| tells(token.trim_ascii())).next_back();
                told.is_some_and(|told| Some(told) <= tells(referrer_name(self.options.referrer)))
            }
            // A structured item: more than one line, or more than one member, is none. Parameters do not matter.
            OPENER => {
                let [value] = values else { return false };
                match value.split(';').next().unwrap_or_default().trim_matches(' ') {
                    "same-origin" | "same-origin-plus-COEP" => true,
                    "same-origin-allow-popups" => self.options.opener == Opener::SameOriginAllowPopups,
                    _ => false,
                }
            }
            // Fetch section 3.7: exactly one of three values.
            RESOURCE => {
                let all = [ResourcePolicy::CrossOrigin, ResourcePolicy::SameSite, ResourcePolicy::SameOrigin];
                let [value] = values else { return false };
                all.into_iter()
                    .any(|policy| resource_name(policy) == *value && policy >= self.options.resource)
            }
            HSTS => values.first().is_some_and(|value| self.keeps_hsts(value)),
            _ => false,
        }
    }

    /// RFC 6797 section 8.1: only the first field counts; a directive must not appear twice.
    fn keeps_hsts(&self, value: &str) -> bool {
        let (mut max_age, mut subdomains) = (None, false);
        for directive in value.split(';').map(str::trim_ascii).filter(|directive| !directive.is_empty()) {
            let (name, value) =
                directive.split_once('=').map_or((directive, ""), |(n, v)| (n.trim_ascii(), v.trim_ascii()));
            let twice = if name.eq_ignore_ascii_case("max-age") {
                let digits = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
                let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                // So many digits that they do not fit are for ever.
                let secs = if whole { digits.parse().unwrap_or(u64::MAX) } else { 0 };
                max_age.replace(secs).is_some()
            } else if name.eq_ignore_ascii_case("includeSubDomains") {
                std::mem::replace(&mut subdomains, true)
            } else {
                false
            };
            if twice {
                return false;
            }
        }
        max_age.is_some_and(|secs| secs >= self.options.hsts_max_age.as_secs())
            && (subdomains || self.options.hsts_host_only.is_some())
    }
}

const fn referrer_name(referrer: Referrer) -> &'static str {
    match referrer {
        Referrer::StrictOriginWhenCrossOrigin => "strict-origin-when-cross-origin",
        Referrer::StrictOrigin => "strict-origin",
        Referrer::SameOrigin => "same-origin",
        Referrer::NoReferrer => "no-referrer",
    }
}

/// How much a policy tells other origins: nothing, the origin, the origin over plain http too, or more; `None` for what
/// is no policy.
fn tells(policy: &str) -> Option<u8> {
    match policy.to_ascii_lowercase().as_str() {
        "no-referrer" | "same-origin" => Some(0),
        "strict-origin" | "strict-origin-when-cross-origin" => Some(1),
        "origin" | "origin-when-cross-origin" => Some(2),
        "no-referrer-when-downgrade" | "unsafe-url" => Some(3),
        _ => None,
    }
}

const fn opener_name(opener: Opener) -> &'static str {
    match opener {
        Opener::SameOrigin => "same-origin",
        Opener::SameOriginAllowPopups => "same-origin-allow-popups",
    }
}

const fn resource_name(resource: ResourcePolicy) -> &'static str {
    match resource {
        ResourcePolicy::CrossOrigin => "cross-origin",
        ResourcePolicy::SameSite => "same-site",
        ResourcePolicy::SameOrigin => "same-origin",
    }
}
