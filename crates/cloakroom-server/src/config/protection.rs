//! The settings against requests and scripts from elsewhere: `[csrf]`, `[csp]` and `[headers]`.

use std::collections::BTreeMap;

use cloakroom::core::csp::{CspOptions, Resource, Weakness};
use cloakroom::core::csrf::{FORM_FIELD, HEADER_FIELD};
use cloakroom::core::origin::{CallbackOrigin, Mode, Origin};
use cloakroom::core::policy::Problem;
use cloakroom::core::security_headers::{
    CspMode, Opener, Referrer, ResourcePolicy, SecurityHeaders, SecurityHeadersOptions,
};
use http::HeaderName;
use serde::Deserialize;

use super::{Browsers, Check};
use crate::headers::folded;
use crate::pages::CSP_REPORT;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys of the file")]
pub struct RawCsrf {
    pub mode: Option<String>,
    pub field: Option<String>,
    pub header: Option<String>,
    pub trusted_origins: Vec<String>,
    pub insecure_report_only: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys of the file")]
pub struct RawCsp {
    pub policy: Option<String>,
    pub directives: BTreeMap<String, String>,
    pub images: Vec<String>,
    pub styles: Vec<String>,
    pub fonts: Vec<String>,
    pub media: Vec<String>,
    pub connections: Vec<String>,
    pub frames: Vec<String>,
    pub workers: Vec<String>,
    pub manifests: Vec<String>,
    pub forms: Vec<String>,
    pub framed_by: Option<Vec<String>>,
    pub trusted_types: Option<Vec<String>>,
    pub report_to: Option<String>,
    pub insecure_eval: Option<String>,
    pub insecure_inline_styles: Option<String>,
    pub insecure_without_trusted_types: Option<String>,
    pub insecure_accept: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys of the file")]
pub struct RawHeaders {
    pub csp_mode: Option<String>,
    pub referrer: Option<String>,
    pub opener: Option<String>,
    pub resource: Option<String>,
    pub hsts_max_age: Option<String>,
    pub hsts_preload: bool,
    pub insecure_hsts_without_subdomains: Option<String>,
}

/// Requests from elsewhere: what is trusted, and how much a request has to show.
#[derive(Clone, Debug)]
pub struct CsrfConfig {
    /// How much a request that changes something has to show.
    pub mode: Mode,
    /// The form field that holds a token. Default: `cloakroom_csrf`.
    pub field: String,
    /// The request header field that holds one. Default: `x-cloakroom-csrf`.
    pub header: HeaderName,
    /// Origins besides the site's own.
    pub trusted: Vec<Origin>,
    /// Whether refusals are only reported.
    pub enforcement: Enforcement,
}

/// Whether requests from elsewhere are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// They are.
    Refuse,
    /// They are not, but there is an event for each.
    ReportOnly,
}

impl RawCsrf {
    /// `https` says whether the site itself is reached over https, as far as that is known.
    pub(super) fn check(self, check: &mut Check, https: bool, warnings: &mut Vec<String>) -> CsrfConfig {
        let mode = match self.mode.as_deref() {
            None | Some("verdict-or-token") => Mode::VerdictOrToken,
            Some("verdict-only") => Mode::VerdictOnly,
            Some("verdict-and-token") => Mode::VerdictAndToken,
            Some(other) => {
                let expected = "verdict-or-token, verdict-only or verdict-and-token";
                check.problem("csrf.mode", other, expected);
                Mode::VerdictAndToken
            }
        };
        let expected = if https {
            "scheme, host and port as browsers show them, over https as the site itself, such as https://example.org"
        } else {
            "scheme, host and port as browsers show them, such as https://example.org"
        };
        let read = |text: &str| Origin::parse(text).ok().filter(|origin| !https || origin.is_https());
        let origins = self.trusted_origins.iter();
        let trusted =
            origins.filter_map(|text| check.read("csrf.trusted_origins", text, expected, read)).collect();
        let enforcement = match self.insecure_report_only {
            None => Enforcement::Refuse,
            Some(_) => {
                warnings.push(
                    "csrf.insecure_report_only: requests from elsewhere are reported and not refused; every site can act \
                     for your users"
                        .to_owned(),
                );
                Enforcement::ReportOnly
            }
        };
        let field = self.field.unwrap_or_else(|| FORM_FIELD.to_owned());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=64).contains(&field.len()) || !field.bytes().all(plain) {
            let expected = "the name of a form field: 1 to 64 of A to Z, a to z, 0 to 9, -, _ and .";
            check.problem("csrf.field", &field, expected);
        }
        let header = self.header.as_deref().unwrap_or(HEADER_FIELD);
        let expected = "the name of a request header field that nobody else uses, such as X-Cloakroom-Csrf";
        let header = check.read("csrf.header", header, expected, own_header);
        let header = header.unwrap_or(HeaderName::from_static(HEADER_FIELD));
        CsrfConfig { mode, field, header, trusted, enforcement }
    }
}

/// The name of a header field for tokens: none that means something else, and none that is removed.
fn own_header(name: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let taken = folded(&name).starts_with("session-") || !name.as_str().starts_with("x-");
    (!taken).then_some(name)
}

impl RawCsp {
    /// What pages load: the key, the directive that it adds to, and what is in the list.
    const fn loaded(&self) -> [(&'static str, &'static str, Resource, &Vec<String>); 9] {
        [
            ("images", "img-src", Resource::Image, &self.images),
            ("styles", "style-src", Resource::Style, &self.styles),
            ("fonts", "font-src", Resource::Font, &self.fonts),
            ("media", "media-src", Resource::Media, &self.media),
            ("connections", "connect-src", Resource::Connect, &self.connections),
            ("frames", "frame-src", Resource::Frame, &self.frames),
            ("workers", "worker-src", Resource::Worker, &self.workers),
            ("manifests", "manifest-src", Resource::Manifest, &self.manifests),
            ("forms", "form-action", Resource::Form, &self.forms),
        ]
    }

    /// A problem of a directive as one of the setting that made it so. An empty reason has been noted, by its key.
    fn in_the_file(&self, problem: Problem) -> Option<Problem> {
        let directive = problem.key.strip_prefix("csp.").unwrap_or(&problem.key);
        if directive.starts_with("insecure.") {
            return None;
        }
        let own = self.directives.keys().find(|name| name.eq_ignore_ascii_case(directive));
        let list =
            self.loaded().into_iter().find(|(_, made, _, list)| *made == directive && !list.is_empty());
        let key = match (own, list, directive) {
            (_, Some((key, _, _, list)), _) if list.contains(&problem.value) => format!("csp.{key}"),
            (_, _, "frame-ancestors") if self.framed_by.is_some() => "csp.framed_by".to_owned(),
            (_, _, "trusted-types") if self.trusted_types.is_some() => "csp.trusted_types".to_owned(),
            (_, _, "report-uri" | "report-to") if self.report_to.is_some() => "csp.report_to".to_owned(),
            (Some(own), _, _) => format!("csp.directives.{own}"),
            (None, Some((key, _, _, _)), _) => format!("csp.{key}"),
            _ if self.policy.is_some() => {
                let expected = format!("for {directive}, {}", problem.expected);
                return Some(Problem::new("csp.policy", &problem.value, &expected));
            }
            _ => return Some(problem),
        };
        Some(Problem { key, ..problem })
    }

    fn options(&self, check: &mut Check) -> CspOptions {
        let mut options = self.policy.as_deref().map_or_else(CspOptions::default, CspOptions::of);
        for (name, value) in &self.directives {
            options = options.directive(name, value);
        }
        for (_, _, what, sources) in self.loaded() {
            for source in sources {
                options = options.allow(what, source);
            }
        }
        let texts = |list: &Vec<String>| list.clone();
        if let Some(origins) = self.framed_by.as_ref().map(texts) {
            options = options.framed_by(&origins.iter().map(String::as_str).collect::<Vec<_>>());
        }
        if let Some(names) = self.trusted_types.as_ref().map(texts) {
            options = options.trusted_types(&names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        match self.report_to.as_deref() {
            Some("") => {}
            endpoint => options = options.report_to(endpoint.unwrap_or(CSP_REPORT)),
        }
        if let Some(reason) = &self.insecure_eval {
            options = options.insecure_eval(reason);
        }
        if let Some(reason) = &self.insecure_inline_styles {
            options = options.insecure_inline_styles(reason);
        }
        if let Some(reason) = &self.insecure_without_trusted_types {
            options = options.insecure_without_trusted_types(reason);
        }
        for (name, reason) in &self.insecure_accept {
            match Weakness::from_name(name) {
                Some(weakness) => options = options.insecure_accept(weakness, reason),
                None => check.problem(
                    &format!("csp.insecure_accept.{name}"),
                    reason,
                    "the name of a weakness, as in docs/security/xss.md",
                ),
            }
        }
        options
    }
}

impl RawHeaders {
    pub(super) fn check(
        self,
        check: &mut Check,
        csp: &RawCsp,
        warnings: &mut Vec<String>,
    ) -> Option<SecurityHeaders> {
        let built = csp.options(check).build();
        let csp = check.take_as(built, |problem| csp.in_the_file(problem));
        let mut options = SecurityHeadersOptions::default();
        // A policy that cannot be used has been noted; the rest is checked all the same.
        let usable = csp.is_some();
        if let Some(csp) = csp {
            let left = csp.weaknesses();
            if !left.is_empty() {
                let names = left.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                warnings.push(format!("the content security policy leaves open: {names}"));
            }
            options = options.csp(csp);
        }
        match self.csp_mode.as_deref() {
            None | Some("enforce") => {}
            Some("report-only") => {
                warnings.push(
                    "headers.csp_mode = \"report-only\": browsers run injected scripts and only report them"
                        .to_owned(),
                );
                // Without a policy there is no endpoint either, which is no problem of this setting.
                if usable {
                    options = options.csp_mode(CspMode::ReportOnly);
                }
            }
            Some(other) => check.problem("headers.csp_mode", other, "enforce or report-only"),
        }
        match self.referrer.as_deref() {
            None | Some("strict-origin-when-cross-origin") => {}
            Some("strict-origin") => options = options.referrer(Referrer::StrictOrigin),
            Some("same-origin") => options = options.referrer(Referrer::SameOrigin),
            Some("no-referrer") => options = options.referrer(Referrer::NoReferrer),
            Some(other) => {
                let expected = "strict-origin-when-cross-origin, strict-origin, same-origin or no-referrer";
                check.problem("headers.referrer", other, expected);
            }
        }
        match self.opener.as_deref() {
            None | Some("same-origin") => {}
            Some("same-origin-allow-popups") => options = options.opener(Opener::SameOriginAllowPopups),
            Some(other) => {
                check.problem("headers.opener", other, "same-origin or same-origin-allow-popups");
            }
        }
        if let Some(policy) = resource(check, "headers.resource", self.resource.as_deref()) {
            options = options.resource(policy);
        }
        if let Some(age) = check.duration("headers.hsts_max_age", self.hsts_max_age.as_ref()) {
            options = options.hsts_max_age(age);
        }
        if self.hsts_preload {
            options = options.hsts_preload();
        }
        if let Some(reason) = self.insecure_hsts_without_subdomains {
            options = options.insecure_hsts_without_subdomains(reason);
        }
        let age = self.hsts_max_age;
        check.take_as(options.build(), |mut problem| {
            if problem.key == "headers.hsts_max_age" {
                problem.value = age.clone().unwrap_or(problem.value);
            }
            Some(problem)
        })
    }
}

/// Reads whose forms may bring users back. Over https they are as safe on their way as the site itself.
pub(super) fn callback_origins(
    check: &mut Check,
    key: &str,
    texts: &[String],
    browsers: Browsers,
) -> Vec<CallbackOrigin> {
    let expected = if browsers == Browsers::Https {
        "scheme, host and port of the identity provider as browsers show them, over https as the site itself, such as \
         https://idp.example; or null"
    } else {
        "scheme, host and port of the identity provider as browsers show them, such as https://idp.example; or null"
    };
    let safe = |origin: &CallbackOrigin| {
        browsers != Browsers::Https || !matches!(origin, CallbackOrigin::Named(origin) if !origin.is_https())
    };
    let read = |text: &str| CallbackOrigin::parse(text).ok().filter(safe);
    texts.iter().filter_map(|text| check.read(key, text, expected, read)).collect()
}

/// Reads who may load responses.
pub(super) fn resource(check: &mut Check, key: &str, text: Option<&str>) -> Option<ResourcePolicy> {
    match text? {
        "same-origin" => Some(ResourcePolicy::SameOrigin),
        "same-site" => Some(ResourcePolicy::SameSite),
        "cross-origin" => Some(ResourcePolicy::CrossOrigin),
        other => {
            check.problem(key, other, "same-origin, same-site or cross-origin");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use cloakroom::core::csp::Nonce;
    use cloakroom::core::security_headers::Scheme;

    use super::super::{Config, Raw};

    fn config(more: &str) -> Result<Config, cloakroom::ConfigErrors> {
        let text = format!("upstream = \"http://127.0.0.1:1\"\nstore = \"memory\"\n{more}");
        Config::check(Raw::parse(&text).unwrap())
    }

    fn sent(config: &Config) -> String {
        let nonce = Nonce::draw(&cloakroom::SystemEntropy).unwrap();
        let fields = config.headers.fields(Scheme::Https, &nonce);
        fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    #[test]
    fn r086_every_mistake_in_policy_and_headers_is_listed_at_once() {
        let mistakes = "[csrf]\nmode = \"sometimes\"\ntrusted_origins = [\"example.org\", \"null\"]\ninsecure_report_only = \" \"\n\
                        [csp]\nimages = [\"*\"]\ninsecure_eval = \"\"\nframed_by = [\"http://a.example\"]\n\
                        [csp.directives]\n\"script-src\" = \"'self' 'unsafe-inline'\"\nscript-scr = \"a\"\n\
                        [csp.insecure_accept]\nnothing = \"x\"\n\
                        [headers]\ncsp_mode = \"off\"\nreferrer = \"unsafe-url\"\nopener = \"unsafe-none\"\nresource = \"all\"\n\
                        hsts_max_age = \"1d\"\nhsts_preload = true\ninsecure_hsts_without_subdomains = \" \"";
        let said = config(mistakes).unwrap_err().to_string();
        for key in [
            "csrf.mode = ",
            "csrf.trusted_origins = \"example.org\"",
            "csrf.trusted_origins = \"null\"",
            "csrf.insecure_report_only = ",
            "csp.images = \"*\"",
            "csp.insecure_eval = \"\"",
            "csp.framed_by = \"http://a.example\"",
            "csp.directives.script-src = ",
            "csp.directives.script-scr = ",
            "csp.insecure_accept.nothing = ",
            "headers.csp_mode = ",
            "headers.referrer = ",
            "headers.opener = ",
            "headers.resource = ",
            "headers.hsts_max_age = ",
            "headers.hsts_preload = ",
            "headers.insecure_hsts_without_subdomains = ",
        ] {
            assert!(said.contains(key), "{key} is not in\n{said}");
        }
    }

    #[test]
    fn what_is_configured_is_sent() {
        let text = sent(&config("").unwrap());
        for part in [
            "script-src 'nonce-",
            "report-uri /.cloakroom/csp-report",
            "reporting-endpoints: cloakroom-csp=\"/.cloakroom/csp-report\"",
            "referrer-policy: strict-origin-when-cross-origin",
            "strict-transport-security: max-age=31536000; includeSubDomains",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let more = "[csp]\nreport_to = \"\"\nimages = [\"data:\", \"https://cdn.example\"]\ntrusted_types = [\"app\"]\nframed_by = []\n\
                    [csp.directives]\n\"worker-src\" = \"'self'\"\n\
                    [headers]\nreferrer = \"same-origin\"\nopener = \"same-origin-allow-popups\"\nresource = \"same-site\"\n\
                    hsts_max_age = \"730d\"\nhsts_preload = true";
        let configured = config(more).unwrap();
        let text = sent(&configured);
        for part in [
            "img-src 'self' data: https://cdn.example",
            "trusted-types app",
            "frame-ancestors 'self'",
            "worker-src 'self'",
            "referrer-policy: same-origin",
            "cross-origin-opener-policy: same-origin-allow-popups",
            "cross-origin-resource-policy: same-site",
            "max-age=63072000; includeSubDomains; preload",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("report"), "{text}");
        assert!(configured.warnings.is_empty(), "{:?}", configured.warnings);
        let tried =
            config("[headers]\ncsp_mode = \"report-only\"\n[csrf]\ninsecure_report_only = \"trying it\"")
                .unwrap();
        assert!(sent(&tried).contains("content-security-policy-report-only: "));
        assert_eq!(tried.warnings.len(), 2);
        let silent = config("[headers]\ncsp_mode = \"report-only\"\n[csp]\nreport_to = \"\"").unwrap_err();
        assert!(silent.to_string().contains("headers.csp_mode"), "{silent}");
        let open = config("[csp]\ninsecure_without_trusted_types = \"an old library\"").unwrap();
        assert!(open.warnings.iter().any(|warning| warning.contains("trusted-types")), "{:?}", open.warnings);
    }

    #[test]
    fn r073_r075_trusted_origins_are_exact_and_no_weaker_than_the_site() {
        let with = |more: &str, origin: &str| {
            config(&format!("{more}\n[csrf]\ntrusted_origins = [\"{origin}\"]"))
                .map(|config| config.csrf.trusted.len())
        };
        let https = "tls_terminated_by_proxy = true\ntrusted_proxies = [\"10.0.0.1\"]\norigin = \"https://example.org\"";
        assert_eq!(with(https, "https://www.example.org").unwrap(), 1);
        assert_eq!(with("", "http://127.0.0.1:3001").unwrap(), 1);
        for origin in
            ["http://www.example.org", "https://*.example.org", "https://a.example/", "null", "a.example"]
        {
            assert!(with(https, origin).is_err(), "{origin}");
        }
    }

    #[test]
    fn r075_r027_callback_origins_are_exact_and_wanted_where_the_browser_keeps_the_cookie() {
        let with = |more: &str, origin: &str| {
            config(&format!(
                "{more}\n[[route]]\npath = \"/login\"\nlogin_start = true\n[[route]]\npath = \"=/back\"\nlogin_callback = true\n\
                 callback_origins = [\"{origin}\"]"
            ))
        };
        let https = "tls_terminated_by_proxy = true\ntrusted_proxies = [\"127.0.0.1\"]\norigin = \"https://example.org\"";
        for (more, origin, warned) in
            [(https, "https://idp.example", 0), (https, "null", 1), ("", "http://localhost:3001", 0)]
        {
            let config = with(more, origin).unwrap();
            let named = config.routes.iter().flat_map(|route| &route.callback_origins);
            assert_eq!(named.map(ToString::to_string).collect::<Vec<_>>(), [origin]);
            let warnings = config.warnings.iter().filter(|warning| warning.contains("callback_origins"));
            assert_eq!(warnings.count(), warned, "{origin}");
        }
        for origin in ["http://idp.example", "https://*.example", "https://idp.example/acs", "NULL", "*", ""]
        {
            let said = with(https, origin).unwrap_err().to_string();
            assert!(
                said.contains("route[1].callback_origins = ") && said.contains("https://idp.example"),
                "{said}"
            );
        }
        let plain =
            "insecure_plain_http = \"a test\"\nlisten = \"192.0.2.1:80\"\norigin = \"http://example.org\"";
        let said = with(plain, "http://idp.example").unwrap_err().to_string();
        for key in ["route[0].login_start = ", "route[1].callback_origins = "] {
            assert!(said.contains(key) && said.contains("no insecure_plain_http"), "{key}: {said}");
        }
    }
}
