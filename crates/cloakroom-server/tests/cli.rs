//! The program as its user meets it: commands, exit codes, and every problem at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn cloakroom(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    command.current_dir(folder).stdin(Stdio::null()).env_remove("CLOAKROOM_STORE");
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    cloakroom(folder).args(arguments).output().unwrap()
}

/// A program that does not outlive its test, however that ends.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn every_problem_of_a_configuration_is_listed_at_once_with_key_value_and_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"
        listen = "everywhere"
        upstream = "https://example.org/app"
        store = "redis:"
        login_page = "//evil.test"
        trusted_proxies = ["10.0.0.0/99"]
        [cookie]
        name = "sid"
        [policy]
        level = "aal3"
        absolute = "13h"
        idle = "soon"
        at_cap = "deny"
        [[route]]
        path = "notes"
        require = "vip"
    "#;
    std::fs::write(folder.path().join("bad.toml"), text).unwrap();
    let output = run(folder.path(), &["check", "--config", "bad.toml"]);
    let said = says(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for key in [
        "listen = \"everywhere\"",
        "upstream = \"https://example.org/app\"",
        "store = \"redis:\"",
        "login_page = \"//evil.test\"",
        "trusted_proxies",
        "cookie.name = \"sid\"",
        "policy.absolute",
        "policy.idle = \"soon\"",
        "policy.at_cap",
        "require = \"vip\"",
        "path = \"notes\"",
    ] {
        assert!(said.contains(key), "{key} is not in:\n{said}");
    }
    assert!(!folder.path().join(".cloakroom").exists(), "nothing is made");
}

#[test]
fn unknown_keys_stop_the_program_and_are_all_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("typo.toml"),
        "upstream = \"http://127.0.0.1:1\"\nlisten_on = \"x\"\n[policy]\nabsolute_limit = \"1h\"\nidle = \"1s\"\n",
    )
    .unwrap();
    for command in ["check", "serve", "demo"] {
        let output = run(folder.path(), &[command, "--config", "typo.toml"]);
        let said = says(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for key in ["listen_on = ", "policy.absolute_limit = ", "policy.idle = "] {
            assert!(said.contains(key), "{key} is not in:\n{said}");
        }
    }
}

#[test]
fn r035_plain_http_away_from_loopback_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["check", "--upstream", "http://127.0.0.1:1", "--listen", "0.0.0.0:8080"];
    let said = says(&run(folder.path(), &arguments));
    assert!(said.contains("listen = \"0.0.0.0:8080\"") && said.contains("insecure_plain_http"), "{said}");
    assert!(said.contains("origin"), "{said}");
    let text = "upstream = \"http://127.0.0.1:1\"\nlisten = \"0.0.0.0:8080\"\norigin = \"http://nas.local:8080\"\n\
                insecure_plain_http = \"a closed network\"\n";
    std::fs::write(folder.path().join("lan.toml"), text).unwrap();
    let output = run(folder.path(), &["check", "--config", "lan.toml"]);
    let said = says(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("sid; Path=/; HttpOnly; SameSite=Lax"), "{said}");
}

#[test]
fn r046_check_prints_the_effective_policy() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["check", "--upstream", "http://127.0.0.1:3000"]);
    let said = says(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for part in [
        "idle limit            30m",
        "absolute limit        1d",
        "rotation              every 15m",
        "__Host-Http-sid; Path=/; Secure; HttpOnly; SameSite=Lax",
        "http://localhost:8080",
        "route                 /: anyone",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    let far = says(&run(folder.path(), &["check", "--upstream", "http://203.0.113.7:80"]));
    assert!(far.contains("warning") && far.contains("can claim to be anybody"), "{far}");
}

#[test]
fn init_writes_a_file_that_check_accepts_and_never_overwrites_one() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &["init"]).status.code(), Some(0));
    let output = run(folder.path(), &["check", "--config", "cloakroom.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", says(&output));
    let again = run(folder.path(), &["init"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(says(&again).contains("never overwritten"), "{}", says(&again));
    // Every commented setting is one that the program knows.
    let text = std::fs::read_to_string(folder.path().join("cloakroom.toml")).unwrap();
    let all = text.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting,
        _ => line,
    });
    std::fs::write(folder.path().join("all.toml"), all.collect::<Vec<_>>().join("\n")).unwrap();
    let said = says(&run(folder.path(), &["check", "--config", "all.toml"]));
    assert!(!said.contains("a setting that exists") && !said.contains("TOML"), "{said}");
}

#[test]
fn r108_the_store_may_be_in_the_environment_where_a_flag_wins_and_its_password_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let text = "upstream = \"http://127.0.0.1:1\"\npepper_file = \"pepper\"\nstore = \"redis://:s3cret@file.test\"\n";
    std::fs::write(folder.path().join("c.toml"), text).unwrap();
    let checked = |environment: &str, more: &[&str]| {
        let mut command = cloakroom(folder.path());
        if !environment.is_empty() {
            command.env("CLOAKROOM_STORE", environment);
        }
        let said =
            says(&command.args(["check", "--offline", "--config", "c.toml"]).args(more).output().unwrap());
        assert!(!said.contains("s3cret"), "{said}");
        said
    };
    let flag = ["--store", "redis://:s3cret@flag.test"];
    for (environment, more, host) in [
        ("", &[][..], "file.test"),
        ("redis://:s3cret@environment.test", &[], "environment.test"),
        ("redis://:s3cret@environment.test", &flag, "flag.test"),
    ] {
        let said = checked(environment, more);
        assert!(said.contains(&format!("redis://:***@{host}")), "{said}");
    }
    assert!(checked("redis://:s3cret@:x", &[]).contains("store = \"redis:***\""));
    for arguments in [&["serve", "--help"][..], &["check", "--bogus"], &["man"]] {
        let mut command = cloakroom(folder.path());
        let output = command.env("CLOAKROOM_STORE", "redis://:s3cret@h").args(arguments).output().unwrap();
        assert!(!says(&output).contains("s3cret"), "{}", says(&output));
    }
    let help = says(&run(folder.path(), &["serve", "--help"]));
    assert!(help.contains("CLOAKROOM_STORE") && help.contains("password_file="), "{help}");
}

#[test]
fn r014_a_pepper_is_made_by_command_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let made = run(folder.path(), &["pepper", "new", "pepper"]);
    assert_eq!(made.status.code(), Some(0), "{}", says(&made));
    let text = std::fs::read_to_string(folder.path().join("pepper")).unwrap();
    let id = says(&run(folder.path(), &["pepper", "id", "pepper"]));
    assert!(id.trim().len() == 16 && says(&made).contains(id.trim()), "{id}");
    assert!(!says(&made).contains(text.trim()) && !text.contains(id.trim()), "the pepper itself is not said");
    let again = run(folder.path(), &["pepper", "new", "pepper"]);
    assert!(again.status.code() == Some(2) && says(&again).contains("never overwritten"), "{}", says(&again));
    assert_eq!(std::fs::read_to_string(folder.path().join("pepper")).unwrap(), text);
}

#[test]
fn a_busy_port_names_the_flag_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let output = run(folder.path(), &["demo", "--listen", &address]);
    assert_eq!(output.status.code(), Some(2));
    assert!(says(&output).contains("choose another with --listen"), "{}", says(&output));
}

#[test]
fn completions_and_the_manual_page_are_generated() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let said = says(&run(folder.path(), &["completions", shell]));
        assert!(said.contains("cloakroom") && said.contains("sessions"), "{shell}");
    }
    assert!(says(&run(folder.path(), &["man"])).contains(".TH cloakroom"));
}

#[test]
#[cfg(unix)]
fn r058_sessions_are_listed_and_revoked_from_the_command_line_while_the_gateway_runs() {
    let folder = tempfile::tempdir().unwrap();
    let demo = cloakroom(folder.path())
        .args(["demo", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut demo = Running(demo);
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first.strip_prefix("Cloakroom demo: http://").expect("an address").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut browser = cloakroom_testkit::browser::Browser::new(address);
    let login = [("username", "alice"), ("password", "wonderland-42")];
    assert_eq!(runtime.block_on(browser.post("/login", &login)).status, 303);
    let listed = says(&run(folder.path(), &["sessions", "list", "--subject", "u1001"]));
    assert!(
        listed.contains("1 session(s) of u1001") && listed.contains("Firefox on Linux, 127.0.0.0/24"),
        "{listed}"
    );
    assert!(listed.contains("made 2") && !listed.contains("its limits are not"), "{listed}");
    let listed = run(folder.path(), &["sessions", "list", "--json", "--subject", "u1001"]).stdout;
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    let row = &listed[0];
    assert!(row["created"].as_str().unwrap().ends_with('Z') && row["current_limits"] == true, "{row}");
    let names = row.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
    let all =
        "authenticated client created current_limits ends ends_at_latest handle last_active level network";
    assert_eq!(names.join(" "), all);
    // With other limits than the session was made with.
    std::fs::write(folder.path().join("cloakroom.toml"), "policy.idle = \"29m\"\n").unwrap();
    let former = says(&run(folder.path(), &["sessions", "list", "--subject", "u1001"]));
    assert!(former.contains("its limits are not") && former.contains("./cloakroom.toml is used"), "{former}");
    let handle = row["handle"].as_str().unwrap();
    let ended = run(folder.path(), &["sessions", "end", handle]);
    assert!(
        ended.status.success() && says(&ended).contains(&format!("Ended the session {handle}")),
        "{}",
        says(&ended)
    );
    assert!(
        says(&ended).contains("authn_") || says(&ended).contains("session_"),
        "an event says so: {}",
        says(&ended)
    );
    assert_eq!(runtime.block_on(browser.get("/notes")).status, 401, "ended with the next request");
    let again = run(folder.path(), &["sessions", "end", handle]);
    assert!(
        again.status.code() == Some(1) && says(&again).contains("there is no session"),
        "{}",
        says(&again)
    );
    assert_eq!(run(folder.path(), &["sessions", "end", "x"]).status.code(), Some(2));
    assert_eq!(runtime.block_on(browser.post("/login", &login)).status, 303);
    let revoked = says(&run(folder.path(), &["sessions", "revoke", "--subject", "u1001"]));
    assert!(revoked.contains("Ended 1 session(s) of u1001"), "{revoked}");
    assert_eq!(runtime.block_on(browser.get("/notes")).status, 401, "ended with the next request");
    let memory = run(folder.path(), &["sessions", "list", "--subject", "alice", "--store", "memory"]);
    assert_eq!(memory.status.code(), Some(2));
    // In order: the program ends by itself, with success.
    let stop = Command::new("kill").args(["-INT", &demo.0.id().to_string()]).status().unwrap();
    assert!(stop.success());
    assert_eq!(demo.0.wait().unwrap().code(), Some(0));
}
