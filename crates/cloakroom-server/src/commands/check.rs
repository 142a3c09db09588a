//! `cloakroom check`: what a configuration comes to.

use std::fmt::Write as _;

use crate::config::{Config, StoreChoice, show};
use crate::routes::{Require, SessionUse};

/// The effective configuration, for people.
pub(super) fn effective(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<22}{value}");
    };
    let policy = &config.policy;
    line("listen", config.listen.to_string());
    line("upstream", format!("http://{}", config.upstream));
    line(
        "store",
        match &config.store {
            StoreChoice::Memory => "memory (a restart signs everybody out)".to_owned(),
            StoreChoice::Sqlite(path) => format!("sqlite:{}", path.display()),
        },
    );
    line("origins", config.origins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    line("browsers use", if config.https { "https" } else { "http" }.to_owned());
    if let Ok(cookie) = config.cookie.clone().build() {
        line("cookie", format!("{}{}", cookie.name(), cookie.attributes()));
    }
    line("idle limit", show(policy.idle_limit()));
    line("absolute limit", show(policy.absolute_limit()));
    line(
        "rotation",
        policy.rotation().map_or("never".to_owned(), |interval| format!("every {}", show(interval))),
    );
    line("rotation grace", show(policy.grace()));
    line("recent login", show(policy.recent()));
    line("clock skew", show(policy.skew()));
    line(
        "sessions per user",
        policy.session_cap().map_or("no limit".to_owned(), |cap| format!("{} ({:?})", cap.max, cap.at_cap)),
    );
    line("data per session", format!("{} bytes", config.data_bytes));
    line("login page", config.login_page.clone());
    for route in config.routes.iter() {
        let require = match route.require {
            Require::Anyone => "anyone",
            Require::Authenticated => "authenticated",
            Require::Recent => "recent login",
        };
        let session = if route.session == SessionUse::None { ", no session" } else { "" };
        line("route", format!("{}: {require}{session}", route.pattern));
    }
    for warning in &config.warnings {
        line("warning", warning.clone());
    }
    text
}
