//! `cloakroom check`: what a configuration comes to.

use std::fmt::Write as _;

use cloakroom::core::origin::{Forgery, Loading, Mode};

use crate::config::{Config, Enforcement, SessionsConfig, StoreChoice, show};
use crate::hosts::Hosts;
use crate::open::{self, Refused};
use crate::routes::{Require, SessionUse};

/// The effective configuration, for people.
pub(super) fn effective(config: &Config) -> String {
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
            StoreChoice::Memory => "memory (a restart signs everybody out)".to_owned(),
            store => store.to_string(),
        },
    );
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

/// Connects to the store, and prints what there is to know of it.
pub(super) async fn connect(config: &SessionsConfig) -> anyhow::Result<()> {
    let Some(found) = open::inspect(config).await? else {
        println!("{:<22}on this machine; there is nothing to connect to", "store");
        return Ok(());
    };
    let off = found.difference > config.policy.skew();
    let fits = if off { "too much" } else { "within the skew" };
    println!("{:<22}differs by {}: {fits}", "store's clock", show(found.difference));
    for warning in &found.warnings {
        println!("{:<22}{warning}", "store warning");
    }
    if off || !found.warnings.is_empty() {
        return Err(Refused::new(format!("{} wants attention, as said above", config.store)).into());
    }
    Ok(())
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
        let said = effective(&Config::check(Raw::parse(text).unwrap()).unwrap());
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
