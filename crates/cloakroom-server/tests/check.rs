//! `cloakroom check` opens what a configuration names, changes nothing, and lists all that is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};

use cloakroom::SystemClock;
use cloakroom::core::clock::Clock as _;

fn check(folder: &Path, text: &str, more: &[&str]) -> (Option<i32>, String) {
    std::fs::write(folder.join("cloakroom.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    command.current_dir(folder).stdin(Stdio::null()).env_remove("CLOAKROOM_STORE").arg("check").args(more);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said.into_owned())
}

/// A certificate that is valid for some days from some days ago, and its key.
fn certificate(folder: &Path, name: &str, begun: i64, lasts: i64) {
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let day = std::time::Duration::from_secs(86_400);
    let now = std::time::Duration::from_millis(SystemClock.now().unwrap().as_millis());
    let now = std::time::SystemTime::UNIX_EPOCH + now;
    let at = |days: i64| {
        let by = day * u32::try_from(days.abs()).unwrap();
        if days < 0 { now - by } else { now + by }
    };
    parameters.not_before = at(-begun).into();
    parameters.not_after = at(lasts - begun).into();
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(folder.join(format!("{name}.crt")), parameters.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

const HTTPS: &str =
    "upstream = \"http://127.0.0.1:1\"\norigin = \"https://localhost:8080\"\nstore = \"memory\"\n";

#[test]
fn a_certificate_that_is_missing_foreign_expired_or_not_yet_valid_is_a_problem_and_one_near_its_end_a_warning()
 {
    let folder = tempfile::tempdir().unwrap();
    for (name, begun, lasts) in
        [("good", 1, 90), ("other", 1, 90), ("old", 90, 60), ("early", -5, 60), ("near", 85, 90)]
    {
        certificate(folder.path(), name, begun, lasts);
    }
    std::fs::write(folder.path().join("no.crt"), "nothing").unwrap();
    for (cert, key, code, words) in [
        ("good", "good", 0, &[][..]),
        ("good", "other", 1, &["tls.key = \"other.key\": expected the key that belongs to tls.cert"]),
        ("old", "old", 1, &["tls.cert = \"old.crt\"", "it expired at 2"]),
        ("early", "early", 1, &["tls.cert = \"early.crt\"", "it begins at 2"]),
        ("near", "near", 0, &["warning", "tls.cert = near.crt expires at 2"]),
        ("no", "nowhere", 1, &["tls.cert = \"no.crt\"", "tls.key = \"nowhere.key\""]),
    ] {
        let text = format!("{HTTPS}[tls]\ncert = \"{cert}.crt\"\nkey = \"{key}.key\"\n");
        let (found, said) = check(folder.path(), &text, &[]);
        assert!(found == Some(code) && words.iter().all(|word| said.contains(word)), "{cert} {key}: {said}");
        assert_eq!(said.contains("expires at"), cert == "near", "{said}");
        assert_eq!(check(folder.path(), &text, &["--offline"]).0, Some(0));
    }
}

#[test]
fn r014_what_is_wrong_with_settings_peppers_certificate_and_store_is_listed_at_once_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    std::fs::write(folder.path().join("pepper"), "short").unwrap();
    let text = "upstream = \"http://127.0.0.1:1\"\nlanguage = \"xx\"\norigin = \"https://localhost:8080\"\nstore = \"sqlite:file/sessions.db\"\n\
                pepper_file = \"pepper\"\naccepted_pepper_files = [\"gone\"]\n[tls]\ncert = \"no.crt\"\nkey = \"no.key\"\n";
    let before = std::fs::read_dir(folder.path()).unwrap().count();
    let (code, said) = check(folder.path(), text, &[]);
    assert_eq!(code, Some(1), "{said}");
    for key in [
        "language = ",
        "store = \"sqlite:file",
        "pepper_file = ",
        "accepted_pepper_files = \"gone\"",
        "tls.cert = ",
        "tls.key = ",
    ] {
        assert!(said.contains(&format!("\n  {key}")), "{key} is not in {said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before + 1, "the configuration alone");
}

#[test]
fn r014_a_store_under_a_lost_or_another_pepper_is_found_without_a_change_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = "upstream = \"http://127.0.0.1:1\"\nstore = \"sqlite:sessions.db\"\n";
    assert_eq!(check(folder.path(), text, &[]).0, Some(0));
    assert!(!folder.path().join("sessions.db").exists() && !folder.path().join("pepper").exists());
    let raw = cloakroom_server::config::Raw::parse(&format!(
        "upstream = \"http://127.0.0.1:1\"\nstore = \"sqlite:{}/sessions.db\"",
        folder.path().display()
    ));
    let config = cloakroom_server::config::Config::check(raw.unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let opened = runtime.block_on(cloakroom_server::serve::open(&config)).unwrap();
    let (code, said) = check(folder.path(), text, &[]);
    assert_eq!(code, Some(0), "while a gateway has it open: {said}");
    drop((opened, runtime));
    let names = || {
        let mut names = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect::<Vec<_>>();
        names.sort();
        names
    };
    let (before, bytes) = (names(), std::fs::read(folder.path().join("sessions.db")).unwrap());
    assert_eq!(check(folder.path(), text, &[]).0, Some(0));
    std::fs::rename(folder.path().join("pepper"), folder.path().join("kept")).unwrap();
    let (code, said) = check(folder.path(), text, &[]);
    assert!(code == Some(1) && said.contains("is missing, and the sessions"), "{said}");
    std::fs::write(folder.path().join("pepper"), [7; 32]).unwrap();
    let (code, said) = check(folder.path(), text, &[]);
    assert!(code == Some(1) && said.contains("sealed under another pepper"), "{said}");
    std::fs::rename(folder.path().join("kept"), folder.path().join("pepper")).unwrap();
    assert_eq!((names(), std::fs::read(folder.path().join("sessions.db")).unwrap()), (before, bytes));
    std::fs::write(folder.path().join("sessions.db"), "not a database at all").unwrap();
    assert!(check(folder.path(), text, &[]).1.contains("store = "));
}

#[test]
fn every_setting_that_weakens_something_is_listed_with_its_reason_and_an_empty_reason_is_refused_by_its_key()
{
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        (
            "insecure_plain_http",
            "listen = \"0.0.0.0:8080\"\norigin = \"http://nas.lan:8080\"\nstore = \"memory\"\ninsecure_plain_http = R",
        ),
        ("policy.insecure_beyond_nist", "policy.insecure_beyond_nist = R"),
        (
            "store_options.insecure_plaintext",
            "store = \"redis://127.0.0.1\"\npepper_file = \"p\"\nstore_options.insecure_plaintext = R",
        ),
        ("csrf.insecure_report_only", "csrf.insecure_report_only = R"),
        ("csp.insecure_eval", "csp.insecure_eval = R"),
        ("csp.insecure_inline_styles", "csp.insecure_inline_styles = R"),
        ("csp.insecure_without_trusted_types", "csp.insecure_without_trusted_types = R"),
        ("csp.insecure_accept.base-uri", "csp.insecure_accept.base-uri = R"),
        ("headers.insecure_hsts_without_subdomains", "headers.insecure_hsts_without_subdomains = R"),
    ];
    for (key, text) in settings {
        let text = format!("upstream = \"http://127.0.0.1:1\"\n{text}");
        let (code, said) = check(folder.path(), &text.replace('R', "\"of a test\""), &["--offline"]);
        assert!(
            code == Some(0) && said.contains(&format!("insecure              {key}, because: of a test")),
            "{said}"
        );
        let (code, said) = check(folder.path(), &text.replace('R', "\" \""), &["--offline"]);
        assert!(
            code == Some(1) && said.contains(&format!("{key} = \"\": expected a reason, in words")),
            "{said}"
        );
    }
    // Those are all that there are: the template names each, but the one that it shows an example of.
    let template = include_str!("../cloakroom.toml");
    let named = template.lines().filter(|line| line.starts_with("#insecure_")).count();
    assert_eq!(named, settings.len());
}

#[test]
fn messages_speak_of_keys_and_units_as_the_file_has_them() {
    let folder = tempfile::tempdir().unwrap();
    for (text, said_so) in [
        (
            "policy.idle = \"90s\"\npolicy.absolute = \"80s\"",
            "policy.idle = \"90s\": expected at most policy.absolute",
        ),
        (
            "policy.level = \"aal2\"\npolicy.idle = \"2h\"",
            "policy.idle = \"2h\": expected at most 1h (NIST, AAL2), or policy.insecure_beyond_nist",
        ),
        (
            "policy.unpresented = \"30s\"",
            "policy.unpresented = \"30s\": expected at least 1m, and longer than policy.clock_skew",
        ),
        ("limits.look_ups = 0", "limits.look_ups = \"0\""),
        ("limits.idle_timeout = \"0s\"", "limits.idle_timeout = \"0s\": expected 1s to 1h"),
        ("shutdown.timeout = \"0s\"", "shutdown.timeout = \"0s\""),
        ("headers.hsts_max_age = \"30d\"", "headers.hsts_max_age = \"30d\": expected at least a year, 365d"),
        ("csp.images = [\"*\"]", "csp.images = \"*\""),
        ("csp.directives = { script-src = \"*\" }", "csp.directives.script-src = "),
        ("csp.policy = \"script-src *\"", "csp.policy = \"*\": expected for script-src, "),
        ("store = \"memory\"\nstore_options.sessions = 0", "store_options.sessions = \"0\": expected 1 to "),
        (
            "store = \"memory\"\nstore_options.sessions = 10\nstore_options.anonymous = 11",
            "store_options.anonymous = \"11\": expected 0 to 10",
        ),
        ("store = \"memory\"\nstore_options.bytes = 1", "store_options.bytes = \"1\""),
        ("store_options.tombstones = 1", "store_options.tombstones = "),
        (
            "store = \"redis://127.0.0.1\"\npepper_file = \"p\"\nstore_options.prefix = \" \"",
            "a prefix has 1 to 64",
        ),
    ] {
        let (code, said) =
            check(folder.path(), &format!("upstream = \"http://127.0.0.1:1\"\n{text}"), &["--offline"]);
        assert!(code == Some(1) && said.contains(said_so), "{text}: {said}");
        assert!(said.contains("no --config, so ./cloakroom.toml is used"), "{said}");
    }
}
