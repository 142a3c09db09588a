//! The gateway in front of a fixed application, beside nginx.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cloakroom_testkit::servers::free_port;

use super::measure::Effort;
use super::server::{Connection, Load, Server, cookies, processor_time, wrk};
use super::stats::{Spread, number};
use super::tools::{need, sibling};

const SESSIONS: usize = 500;

/// Each gateway, and whether its requests carry a session's cookie.
const VARIANTS: [(&str, bool); 4] = [
    ("nginx, plain proxy", false),
    ("nginx + auth_request to a bare 204", false),
    ("cloakroom serve, no cookie", false),
    ("cloakroom serve, session validated (SQLite)", true),
];

/// What was found of one gateway.
#[derive(Default)]
struct Figures {
    loads: Vec<Load>,
    ratio: Vec<f64>,
    gateway: Vec<f64>,
    behind: Vec<f64>,
}

fn upstream() -> Result<Server> {
    Server::start(Command::new(sibling("serve")?).arg("upstream"))
}

fn nginx(folder: &Path, name: &str, listen: u16, app: u16, check: Option<u16>) -> Result<Server> {
    // Without a check, its upstream is there but never asked.
    let port_of_check = check.unwrap_or(app);
    let demand = check.map_or("", |_| "auth_request /check;");
    let text = format!(
        "daemon off; worker_processes auto; pid {name}.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  upstream app {{ server 127.0.0.1:{app}; keepalive 64; keepalive_requests 100000000; }}
  upstream check {{ server 127.0.0.1:{port_of_check}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{listen};
    proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
    location / {{ {demand} proxy_pass http://app; }}
    location = /check {{
      internal; proxy_pass http://check/auth; proxy_pass_request_body off;
      # A location that sets one field inherits none: without these, every check would open a connection.
      proxy_set_header Content-Length \"\"; proxy_set_header Connection \"\"; proxy_set_header Host $host;
    }}
  }}
}}
"
    );
    let file = folder.join(format!("{name}.conf"));
    std::fs::write(&file, text)?;
    Server::start_on(Command::new("nginx").arg("-p").arg(folder).arg("-c").arg(&file), listen)
}

fn gateway(folder: &Path, program: &Path, listen: u16, app: u16) -> Result<Server> {
    let text = format!(
        "listen = \"127.0.0.1:{listen}\"\nupstream = \"http://127.0.0.1:{app}\"\nstore = \"sqlite:{}\"\n",
        folder.join("sessions.db").display()
    );
    let file = folder.join("cloakroom.toml");
    std::fs::write(&file, text)?;
    // Events go to the log, as they do for users; nobody reads it here.
    let log = std::fs::File::create(folder.join("gateway.log"))?;
    Server::start_on(Command::new(program).args(["serve", "--config"]).arg(&file).stderr(log), listen)
}

/// Measures, and returns the table.
pub(super) fn table(root: &Path, effort: Effort) -> Result<String> {
    need("wrk", "wrk")?;
    need("nginx", "nginx-light")?;
    let program: PathBuf = sibling("cloakroom")?;
    let folder = tempfile::tempdir()?;
    let (rounds, seconds) = if effort == Effort::Quick { (5, 1) } else { (9, 2) };
    let (app, check) = (upstream()?, upstream()?);
    let plain = nginx(folder.path(), "plain", free_port(), app.port, None)?;
    let asking = nginx(folder.path(), "asking", free_port(), app.port, Some(check.port))?;
    let ours = gateway(folder.path(), &program, free_port(), app.port)?;

    let file = folder.path().join("cookies");
    let mut connection = Connection::open(ours.port)?;
    let mut all = Vec::new();
    for _ in 0..SESSIONS {
        let answer = connection.ask("POST", "/login", None)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "a login is answered with {answer}");
        let cookies = cookies(&answer);
        let answer = connection.ask("GET", "/plain", Some(&cookies))?;
        ensure!(answer.ends_with("a small page"), "a page is answered with {answer}");
        all.push(cookies);
    }
    std::fs::write(&file, all.join("\n"))?;

    let script = root.join("load.lua");
    let mut results = BTreeMap::<usize, Figures>::new();
    for round in 1..=rounds {
        eprintln!("bench: gateways, round {round} of {rounds}");
        let mut bare = 0.0;
        for (index, (_, with_cookie)) in VARIANTS.into_iter().enumerate() {
            let server = [&plain, &asking, &ours, &ours].get(index).copied().context("a gateway")?;
            let spent = || -> Result<(f64, f64)> {
                Ok((processor_time(server.pid())?, processor_time(app.pid())? + processor_time(check.pid())?))
            };
            let before = spent()?;
            let load =
                wrk(&script, server.port, seconds, "GET", "/plain", with_cookie.then_some(file.as_path()))?;
            let after = spent()?;
            if index == 0 {
                bare = load.per_second;
            }
            let figures = results.entry(index).or_default();
            figures.ratio.push(load.per_second / bare);
            figures.gateway.push((after.0 - before.0) / load.requests);
            figures.behind.push((after.1 - before.1) / load.requests);
            figures.loads.push(load);
        }
    }

    let mut text = "| gateway | requests/s, of nginx's | its CPU µs | CPU µs behind it | its CPU, of nginx's | p50 µs | p99 µs |\n\
                    | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    let median = |samples: &[f64]| Spread::of(samples.iter().copied()).median;
    let nginx = results.get(&0).map_or(1.0, |figures| median(&figures.gateway));
    for (index, (name, _)) in VARIANTS.into_iter().enumerate() {
        let figures = results.get(&index).context("a gateway")?;
        let of = |pick: fn(&Load) -> f64| number(Spread::of(figures.loads.iter().map(pick)).median);
        let cpu = median(&figures.gateway);
        let _ = writeln!(
            text,
            "| {name} | {:.2} | {cpu:.1} | {:.1} | {:.2} | {} | {} |",
            median(&figures.ratio),
            median(&figures.behind),
            cpu / nginx,
            of(|load| load.p50),
            of(|load| load.p99),
        );
    }
    Ok(text)
}
