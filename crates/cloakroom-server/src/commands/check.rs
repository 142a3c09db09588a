//! `cloakroom check`: what a configuration comes to.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use cloakroom::ConfigErrors;
use cloakroom::core::origin::{Forgery, Loading, Mode};
use cloakroom::core::policy::Problem;

use crate::config::{Config, Enforcement, Examined, StoreChoice, show};
use crate::hosts::Hosts;
use crate::inspect::{self, Inspection};
use crate::listen;
use crate::routes::{Require, SessionUse};

/// Prints what a configuration comes to, and what is wrong with it and, unless `offline`, with what it names.
pub(super) async fn run(mut examined: Examined, offline: bool) -> anyhow::Result<()> {
    let found = if offline { Inspection::default() } else { inspect::inspect(&examined).await };
    let Inspection { mut problems, warnings, difference, away } = found;
    if let Some(config) = &mut examined.config {
        config.warnings.extend(warnings);
        if !offline {
            // Of this process alone; the gateway does the same for itself.
            config.warnings.extend(listen::prepare(&mut config.limits.connections));
        }
        print!("{}", effective(config, difference));
    }
    if let Some(away) = away {
        if examined.problems.is_empty() && problems.is_empty() {
            return Err(away);
        }
        let store = examined.sessions.iter().map(|sessions| sessions.store.to_string()).collect::<String>();
        problems.push(Problem::new("store", &store, &format!("one that answers; {away:#}")));
    }
    examined.problems.extend(problems);
    ConfigErrors::unless_empty(examined.problems).context("the configuration cannot be used")
}

/// The effective configuration, for people.
fn effective(config: &Config, difference: Option<Duration>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<22}{value}");
    };
    let policy = &config.sessions.policy;
    line("listen", config.listen.to_string());
    line("upstream", format!("http://{}", config.upstream));
    line(
        "store",
        match &config.sessions.store {
            StoreChoice::Memory(_) => "memory (a restart signs everybody out)".to_owned(),
            store => store.to_string(),
        },
    );
    if let Some(difference) = difference {
        line("store's clock", format!("differs by {}", show(difference)));
    }
    line("pepper", config.sessions.peppers.to_string());
    line("origins", config.origins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    line("hosts", Hosts::new(&config.origins, &config.hosts).iter().collect::<Vec<_>>().join(", "));
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
    line("watch interval", show(policy.watching()));
    line(
        "sessions per user",
        policy.session_cap().map_or("no limit".to_owned(), |cap| format!("{} ({:?})", cap.max, cap.at_cap)),
    );
    line("data per session", format!("{} bytes", config.limits.data_bytes));
    line("login page", config.login_page.clone());
    line("csrf", elsewhere(config));
    let weaknesses = config.headers.csp().weaknesses();
    line(
        "csp",
        if weaknesses.is_empty() {
            "strict".to_owned()
        } else {
            format!("open: {}", weaknesses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        },
    );
    line("csp reports to", config.headers.csp().endpoint().unwrap_or("nobody").to_owned());
    for route in config.routes.iter() {
        let require = match route.require {
            Require::Anyone => "anyone",
            Require::Authenticated => "authenticated",
            Require::Recent => "recent login",
        };
        let session = if route.session == SessionUse::None { ", no session" } else { "" };
        let forgery = if route.forgery == Forgery::Exempt { ", exempt from forgery checks" } else { "" };
        let loading = if route.loading() == Loading::Isolated { ", isolated" } else { "" };
        let start = if route.login_start { ", logins begin" } else { "" };
        let mut back = if route.login_callback { ", logins complete" } else { "" }.to_owned();
        for origin in &route.callback_origins {
            let _ = write!(back, ", by forms of {origin}");
        }
        line("route", format!("{}: {require}{session}{forgery}{loading}{start}{back}", route.pattern));
    }
    for (key, reason) in &config.insecure {
        line("insecure", format!("{key}, because: {reason}"));
    }
    for warning in &config.warnings {
        line("warning", warning.clone());
    }
    text
}

/// What is done about requests from elsewhere.
fn elsewhere(config: &Config) -> String {
    let mode = match config.csrf.mode {
        Mode::VerdictOnly => "verdict-only",
        Mode::VerdictOrToken => "verdict-or-token",
        Mode::VerdictAndToken => "verdict-and-token",
    };
    let mut text = match config.csrf.enforcement {
        Enforcement::Refuse => mode.to_owned(),
        Enforcement::ReportOnly => format!("{mode}, reported only"),
    };
    for origin in &config.csrf.trusted {
        // Writing to a String does not fail.
        let _ = write!(text, ", trusts {origin}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Raw;

    #[test]
    fn where_logins_begin_and_complete_is_said_and_whose_forms_complete_them() {
        let text = "upstream = \"http://127.0.0.1:1\"\nstore = \"memory\"\n[csrf]\ntrusted_origins = [\"http://app.test\"]\n\
                    [[route]]\npath = \"/login\"\nlogin_start = true\n\
                    [[route]]\npath = \"=/oidc\"\nlogin_callback = true\n\
                    [[route]]\npath = \"=/saml\"\nlogin_callback = true\ncallback_origins = [\"https://idp.example\", \"null\"]\n";
        let said = effective(&Config::check(Raw::parse(text).unwrap()).unwrap(), None);
        for line in [
            ", trusts http://app.test\n",
            "/login: anyone, isolated, logins begin\n",
            "=/oidc: anyone, logins complete\n",
            "=/saml: anyone, logins complete, by forms of https://idp.example, by forms of null\n",
            "route =/saml: callback_origins has null",
        ] {
            assert!(said.contains(line), "{line:?} is not in\n{said}");
        }
    }
}
