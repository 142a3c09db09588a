//! Reading a configuration file setting by setting, so that one that cannot be used hides no other.

use cloakroom::core::policy::Problem;
use serde::Deserialize as _;
use toml::{Table, Value};

use super::raw::Raw;

/// What stands beside the settings that can be used.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Keys that are no settings, and values of the wrong kind.
    pub(super) problems: Vec<Problem>,
    /// Every setting that weakens something, by its key, and the reason given. By name, so that a new one cannot be forgotten.
    pub(super) insecure: Vec<(String, String)>,
}

/// Reads what can be read of a document, and says what cannot.
pub(super) fn settings(document: Table) -> (Raw, Found) {
    let mut found = Found::default();
    let kept = document.into_iter().filter_map(|(key, value)| {
        let alone = |value| Value::Table(Table::from_iter([(key.clone(), value)]));
        keep(&key, value, &alone, &mut found).map(|value| (key.clone(), value))
    });
    let kept = Value::Table(kept.collect());
    let raw = Raw::deserialize(kept).unwrap_or_else(|error| {
        found.problems.push(Problem::new("configuration", "", error.message()));
        Raw::default()
    });
    (raw, found)
}

/// What can be used of a value. `alone` makes the document that has a value in its place and nothing else.
fn keep(name: &str, value: Value, alone: &dyn Fn(Value) -> Value, found: &mut Found) -> Option<Value> {
    let empty = match &value {
        Value::Table(_) => Value::Table(Table::new()),
        // Any other list is one value.
        Value::Array(items) if is_sections(items) => Value::Array(vec![Value::Table(Table::new())]),
        other => other.clone(),
    };
    if let Err(expected) = can_be_read(name, alone(empty.clone())) {
        let shown = if expected.starts_with(EXISTS) { "set".to_owned() } else { shown(name, &value) };
        found.problems.push(Problem::new(name, &shown, &expected));
        return None;
    }
    match value {
        Value::Table(table) => {
            let kept = table.into_iter().filter_map(|(key, value)| {
                let inside = |value| alone(Value::Table(Table::from_iter([(key.clone(), value)])));
                keep(&format!("{name}.{key}"), value, &inside, found).map(|value| (key.clone(), value))
            });
            Some(Value::Table(kept.collect()))
        }
        Value::Array(items) if is_sections(&items) => {
            let inside = |value| alone(Value::Array(vec![value]));
            let kept = items.into_iter().enumerate().map(|(index, item)| {
                // The others keep their numbers.
                keep(&format!("{name}[{index}]"), item, &inside, found)
                    .unwrap_or_else(|| Value::Table(Table::new()))
            });
            Some(Value::Array(kept.collect()))
        }
        value => {
            if name.split('.').any(|part| part.starts_with("insecure_")) {
                found.insecure.push((name.to_owned(), text(&value)));
            }
            Some(value)
        }
    }
}

fn is_sections(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(Value::is_table)
}

/// Whether a document with one setting can be read, or what was expected.
fn can_be_read(name: &str, document: Value) -> Result<(), String> {
    let mut ignored = false;
    match serde_ignored::deserialize::<_, _, Raw>(document, |_| ignored = true) {
        Ok(_) if ignored => Err(exists(None)),
        Ok(_) => Ok(()),
        Err(error) => Err(expected(name, error.message())),
    }
}

const EXISTS: &str = "a setting that exists";

fn exists(meant: Option<String>) -> String {
    let meant = meant.map(|key| format!(", such as {key}")).unwrap_or_default();
    format!("{EXISTS}{meant}; `cloakroom init` writes a file with all of them")
}

/// The library's words in those of the file.
fn expected(name: &str, message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    if message.starts_with("unknown field") {
        // In the order of the message: the unknown one, then all that there are.
        let mut names = message.split('`').skip(1).step_by(2);
        let unknown = names.next().unwrap_or_default();
        let nearest = names.map(|known| (distance(unknown, known), known)).min();
        let near = nearest.filter(|(distance, _)| *distance <= (unknown.len() / 3).max(2));
        let section = name.rsplit_once('.').map(|(section, _)| format!("{section}.")).unwrap_or_default();
        return exists(near.map(|(_, known)| format!("{section}{known}")));
    }
    let wanted = message.rsplit_once("expected ").map_or(message, |(_, wanted)| wanted);
    match wanted {
        "a string" | "path string" => "a text in quotes".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list in brackets".to_owned(),
        "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        wanted if wanted == "a map" || wanted.starts_with("struct ") => "a section of settings".to_owned(),
        wanted => wanted.to_owned(),
    }
}

/// How many letters have to be added, dropped or replaced to make one name of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.bytes().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        let mut next = vec![left];
        for (up, wanted) in row.iter().skip(1).zip(other.bytes()) {
            left = (diagonal + usize::from(letter != wanted)).min(left + 1).min(up + 1);
            diagonal = *up;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// A value as the message may show it: nothing that might be a password.
fn shown(name: &str, value: &Value) -> String {
    let text = match value {
        Value::Table(_) => return "a section".to_owned(),
        value => text(value),
    };
    let secret =
        ["store", "gateway_secret"].contains(&name) || ["://", "@"].iter().any(|sign| text.contains(sign));
    if secret { "(hidden)".to_owned() } else { text }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn said(text: &str) -> Vec<String> {
        let raw = Raw::parse(text).unwrap();
        let errors = Config::check(raw).unwrap_err();
        errors.problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn r108_unknown_keys_wrong_types_missing_keys_and_bad_values_are_listed_in_one_run_by_the_files_keys() {
        let all = said(
            "listen = 8080\nlogin_pge = \"/in\"\ntrusted_proxies = \"10.0.0.1\"\ntls = true\npolcy = {}\nstore = [\"redis://:s3cret@h\"]\n\
             gateway_secret = 7\ntls_terminated_by_proxy = \"yes\"\nunlike_anything = 1\n\
             [policy]\nabsolut = \"1h\"\nidle = 30\nmax_sessions = -1\nrecent_login = \"1s\"\n\
             [limits.connections]\nx = 1\n\
             [csp]\nimages = [1]\ndirectives = { worker-src = 3 }\n\
             [[cookie]]\nname = \"x\"\n\
             [[route]]\nrequire = \"vip\"\n[[route]]\npath = \"/a\"\nsesion = \"none\"\nmin_rate = \"1\"",
        );
        for expected in [
            "upstream = \"\": expected the application's address",
            "listen = \"8080\": expected a text in quotes",
            "login_pge = \"set\": expected a setting that exists, such as login_page;",
            "trusted_proxies = \"10.0.0.1\": expected a list in brackets",
            "tls = \"true\": expected a section of settings",
            "polcy = \"set\": expected a setting that exists, such as policy;",
            "store = \"(hidden)\": expected a text in quotes",
            "gateway_secret = \"(hidden)\": expected a text in quotes",
            "tls_terminated_by_proxy = \"yes\": expected true or false",
            "unlike_anything = \"set\": expected a setting that exists; `cloakroom init`",
            "policy.absolut = \"set\": expected a setting that exists, such as policy.absolute;",
            "policy.idle = \"30\": expected a text in quotes",
            "policy.max_sessions = \"-1\": expected a whole number, 0 or more",
            "policy.recent_login = \"1s\": expected longer than policy.clock_skew",
            "limits.connections = \"a section\": expected a whole number, 0 or more",
            "csp.images = \"[1]\": expected a text in quotes",
            "csp.directives.worker-src = \"3\": expected a text in quotes",
            "cookie = ",
            "route[0].path = \"\": expected a path",
            "route[0].require = \"vip\": expected authenticated or recent",
            "route[1].sesion = \"set\": expected a setting that exists, such as route[1].session;",
            "route[1].min_rate = \"1\": expected a whole number, 0 or more",
        ] {
            assert!(all.iter().any(|line| line.starts_with(expected)), "{expected} is not in {all:#?}");
        }
        assert_eq!(all.len(), 22, "{all:#?}");
        assert!(!format!("{all:?}").contains("s3cret"));
    }

    #[test]
    fn every_section_knows_its_keys_so_that_a_misspelt_one_is_refused_with_the_one_that_was_meant() {
        for (text, meant) in [
            ("lissten = \"a\"", "listen"),
            ("tls.certt = \"a\"", "tls.cert"),
            ("cookie.nam = \"a\"", "cookie.name"),
            ("policy.idel = \"a\"", "policy.idle"),
            ("store_options.tmeout = \"a\"", "store_options.timeout"),
            ("csrf.mod = \"a\"", "csrf.mode"),
            ("csp.image = []", "csp.images"),
            ("headers.refferer = \"a\"", "headers.referrer"),
            ("limits.connection = 1", "limits.connections"),
            ("shutdown.drian = \"a\"", "shutdown.drain"),
        ] {
            let found = settings(text.parse().unwrap()).1.problems;
            assert!(
                found.len() == 1 && found[0].expected.contains(&format!("such as {meant};")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn each_setting_that_weakens_something_is_found_with_its_reason() {
        let found = settings(
            "insecure_plain_http = \"a\"\ncsp.insecure_accept = { base-uri = \"b\" }\nlisten = \"c\""
                .parse()
                .unwrap(),
        )
        .1;
        let mut names =
            found.insecure.iter().map(|(key, reason)| format!("{key}: {reason}")).collect::<Vec<_>>();
        names.sort();
        assert_eq!(names, ["csp.insecure_accept.base-uri: b", "insecure_plain_http: a"]);
    }
}
