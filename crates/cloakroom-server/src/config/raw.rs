//! The configuration as it is written: names and texts, nothing understood yet.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cloakroom::{AtCap, Policy};
use serde::Deserialize;

use super::limits::{RawLimits, RawShutdown};
use super::protection::{RawCsp, RawCsrf, RawHeaders, callback_origins, resource};
use super::read::{self, Found};
use super::{Browsers, Check, Hidden};
use crate::routes::{Require, Route, SessionUse};
use cloakroom::Activity;
use cloakroom::core::origin::{Forgery, Loading};
use cloakroom::core::policy::Problem;

/// A configuration file. Unknown keys are collected and refused with all other problems: a misspelt security setting must
/// not be passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys of the file, explained in the file that `cloakroom init` writes")]
pub struct Raw {
    pub listen: Option<String>,
    pub upstream: Option<String>,
    pub store: Option<Hidden>,
    pub pepper_file: Option<PathBuf>,
    pub accepted_pepper_files: Vec<PathBuf>,
    pub retired_peppers: Vec<String>,
    pub origin: Option<String>,
    pub hosts: Vec<String>,
    pub login_page: Option<String>,
    pub language: Option<String>,
    pub gateway_secret: Option<Hidden>,
    pub trusted_proxies: Vec<String>,
    pub tls_terminated_by_proxy: bool,
    pub insecure_plain_http: Option<String>,
    pub tls: RawTls,
    pub cookie: RawCookie,
    pub policy: RawPolicy,
    pub store_options: RawStoreOptions,
    pub csrf: RawCsrf,
    pub csp: RawCsp,
    pub headers: RawHeaders,
    pub limits: RawLimits,
    pub shutdown: RawShutdown,
    #[serde(rename = "route")]
    pub routes: Vec<RawRoute>,
    /// Keys that are no settings, and values of the wrong kind.
    #[serde(skip)]
    pub problems: Vec<Problem>,
    /// The keys of settings that weaken something, and the reason given for each.
    #[serde(skip)]
    pub insecure: Vec<(String, String)>,
}

impl Raw {
    /// Reads a TOML text. Keys that are no settings, and values of the wrong kind, are noted and left out.
    ///
    /// # Errors
    ///
    /// If it is no TOML; the text says where.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        let document = text.parse().map_err(|error| ReadError::new(text, &error))?;
        let (raw, Found { problems, insecure }) = read::settings(document);
        Ok(Self { problems, insecure, ..raw })
    }

    /// Reads a file, or nothing.
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(Self::default()) };
        let name = file.display();
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("the configuration {name} cannot be read"))?;
        Self::parse(&text).with_context(|| format!("the configuration {name}"))
    }

    /// Takes out what sessions are made of.
    pub(super) fn sessions(&mut self) -> RawSessions {
        RawSessions {
            store: self.store.take(),
            store_options: std::mem::take(&mut self.store_options),
            peppers: RawPeppers {
                pepper_file: self.pepper_file.take(),
                accepted_pepper_files: std::mem::take(&mut self.accepted_pepper_files),
                retired_peppers: std::mem::take(&mut self.retired_peppers),
            },
            policy: std::mem::take(&mut self.policy),
        }
    }
}

/// A text is no TOML. Says where.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(String);

impl ReadError {
    /// The library's text shows the line, and sometimes the value; not where a password may be in it.
    fn new(text: &str, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..text.len());
        let (before, rest) = text.split_at_checked(span.start).unwrap_or((text, ""));
        let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = span.start
            + rest.get(span.end.saturating_sub(span.start)..).map_or(rest.len(), |after| {
                span.end.saturating_sub(span.start) + after.find('\n').unwrap_or(after.len())
            });
        let lines = text.get(begin..end).unwrap_or(text);
        // Generous: any line that looks as if it might.
        let secret = ["store", "secret", "://", "@"].iter().any(|sign| lines.contains(sign));
        if !secret {
            return Self(error.to_string());
        }
        let line = before.matches('\n').count() + 1;
        Self(format!("line {line} is no TOML; it may hold a password, so it is not shown"))
    }
}

/// What sessions are made of.
pub(super) struct RawSessions {
    pub(super) store: Option<Hidden>,
    pub(super) store_options: RawStoreOptions,
    pub(super) peppers: RawPeppers,
    pub(super) policy: RawPolicy,
}

pub(super) struct RawPeppers {
    pub(super) pepper_file: Option<PathBuf>,
    pub(super) accepted_pepper_files: Vec<PathBuf>,
    pub(super) retired_peppers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys of the file")]
pub struct RawStoreOptions {
    pub timeout: Option<String>,
    pub connections: Option<usize>,
    pub schema: Option<String>,
    pub prefix: Option<String>,
    pub replicas: Option<u32>,
    pub insecure_plaintext: Option<String>,
    pub sessions: Option<usize>,
    pub anonymous: Option<usize>,
    pub bytes: Option<usize>,
    pub tombstones: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys of the file")]
pub struct RawTls {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys of the file")]
pub struct RawCookie {
    pub name: Option<String>,
    pub same_site: Option<String>,
    pub logout_clears_cookies_of_whole_site: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys of the file")]
pub struct RawPolicy {
    pub level: Option<String>,
    pub idle: Option<String>,
    pub absolute: Option<String>,
    pub unpresented: Option<String>,
    pub touch_interval: Option<String>,
    pub rotation_interval: Option<String>,
    pub rotation_grace: Option<String>,
    pub recent_login: Option<String>,
    pub clock_skew: Option<String>,
    pub tombstone_ttl: Option<String>,
    pub watch_interval: Option<String>,
    pub max_sessions: Option<u32>,
    pub at_cap: Option<String>,
    pub survives_login: Vec<String>,
    pub insecure_beyond_nist: Option<String>,
}

impl RawPolicy {
    pub(super) fn check(self, check: &mut Check) -> Option<Policy> {
        let mut policy = match self.level.as_deref() {
            None => Policy::default(),
            Some("aal1") => Policy::aal1(),
            Some("aal2") => Policy::aal2(),
            Some("aal3") => Policy::aal3(),
            Some(other) => {
                check.problem("policy.level", other, "aal1, aal2 or aal3");
                Policy::default()
            }
        };
        let mut written = Vec::new();
        macro_rules! durations {
            ($($key:ident),*) => {$(
                written.push((concat!("policy.", stringify!($key)), self.$key.clone()));
                if let Some(limit) = check.duration(concat!("policy.", stringify!($key)), self.$key.as_ref()) {
                    policy = policy.$key(limit);
                }
            )*};
        }
        durations!(
            idle,
            absolute,
            unpresented,
            touch_interval,
            rotation_interval,
            rotation_grace,
            recent_login,
            clock_skew,
            tombstone_ttl,
            watch_interval
        );
        let at_cap = match self.at_cap.as_deref() {
            None | Some("evict-oldest") => AtCap::EvictOldest,
            Some("evict-idle") => AtCap::EvictIdle,
            Some("deny") => AtCap::Deny,
            Some(other) => {
                check.problem("policy.at_cap", other, "deny, evict-oldest or evict-idle");
                AtCap::Deny
            }
        };
        match self.max_sessions {
            Some(max) => policy = policy.max_sessions(max, at_cap),
            None if self.at_cap.is_some() => {
                check.problem("policy.at_cap", "set", "policy.max_sessions beside it");
            }
            None => {}
        }
        policy = policy.survives_login(self.survives_login.iter().map(String::as_str));
        if let Some(reason) = self.insecure_beyond_nist {
            policy = policy.insecure_beyond_nist(reason);
        }
        // As it stands in the file, in its units.
        let written = |key: &str| written.iter().find(|(written, _)| *written == key)?.1.clone();
        let good = check.take_as(policy.check(), |mut problem| {
            problem.value = written(&problem.key).unwrap_or(problem.value);
            Some(problem)
        });
        good.map(|()| policy)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys of the file")]
pub struct RawRoute {
    pub path: String,
    pub require: Option<String>,
    pub session: Option<String>,
    pub activity: Option<String>,
    pub login_start: bool,
    pub login_callback: bool,
    pub callback_origins: Vec<String>,
    pub allow_parameters: bool,
    pub forgery: Option<String>,
    pub loading: Option<String>,
    pub min_rate: Option<u64>,
    pub transfer_time: Option<String>,
    pub resource: Option<String>,
}

impl RawRoute {
    pub(super) fn check(self, check: &mut Check, index: usize, browsers: Browsers) -> Route {
        let mut route = Route::new(self.path);
        match self.require.as_deref() {
            None => {}
            Some("authenticated") => route.require = Require::Authenticated,
            Some("recent") => route.require = Require::Recent,
            Some(other) => {
                check.problem(&format!("route[{index}].require"), other, "authenticated or recent");
            }
        }
        match self.session.as_deref() {
            None => {}
            Some("none") => route.session = SessionUse::None,
            Some(other) => check.problem(&format!("route[{index}].session"), other, "none, or nothing"),
        }
        match self.activity.as_deref() {
            None | Some("user") => {}
            Some("passive") => route.activity = Activity::Passive,
            Some(other) => check.problem(&format!("route[{index}].activity"), other, "user or passive"),
        }
        match self.forgery.as_deref() {
            None | Some("checked") => {}
            Some("exempt") => route.forgery = Forgery::Exempt,
            Some(other) => check.problem(&format!("route[{index}].forgery"), other, "checked or exempt"),
        }
        match self.loading.as_deref() {
            None => {}
            Some("open") => route.loading = Some(Loading::Open),
            Some("isolated") => route.loading = Some(Loading::Isolated),
            Some(other) => check.problem(&format!("route[{index}].loading"), other, "open or isolated"),
        }
        route.resource = resource(check, &format!("route[{index}].resource"), self.resource.as_deref());
        route.min_rate = self.min_rate;
        let key = format!("route[{index}].transfer_time");
        route.transfer_time = check.duration(&key, self.transfer_time.as_ref());
        if route.transfer_time.is_some_and(|time| time.is_zero()) {
            check.problem(
                &key,
                self.transfer_time.as_deref().unwrap_or_default(),
                "a duration of 1s or more",
            );
        }
        if browsers == Browsers::PlainHttp && (self.login_start || !self.callback_origins.is_empty()) {
            let key = if self.login_start { "login_start" } else { "callback_origins" };
            let expected = "no insecure_plain_http: over plain http browsers keep no cookie that comes along with another site's form";
            check.problem(&format!("route[{index}].{key}"), "set", expected);
        }
        route.login_start = self.login_start;
        route.login_callback = self.login_callback;
        let key = format!("route[{index}].callback_origins");
        route.callback_origins = callback_origins(check, &key, &self.callback_origins, browsers);
        route.allow_parameters = self.allow_parameters;
        route
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r108_a_configuration_that_does_not_read_shows_no_password() {
        for text in [
            "store = \"redis://:s3cret@h\" x",
            "listen = \"a\"\nstore = \"\"\"\nredis://:s3cret@h\"\"\" x",
            "listen = 1\nstore = \"redis://:s3cret@h",
            "gateway_secret = \"s3cret\" x",
        ] {
            let error = Raw::parse(text).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains("s3cret") && said.contains("line "), "{text}: {said}");
        }
        for text in ["store = [\"redis://:s3cret@h\"]", "gateway_secret = [\"s3cret\"]"] {
            let raw = Raw::parse(text).unwrap();
            assert!(raw.problems.len() == 1 && !format!("{raw:?}").contains("s3cret"), "{raw:?}");
        }
        let said = Raw::parse("listen = a b").unwrap_err().to_string();
        assert!(said.contains("listen = a b") && said.contains("line 1"), "{said}");
    }
}
