//! The gateway in front of a fixed application, beside nginx.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cloakroom_testkit::servers::free_port;

use super::measure::Effort;
use super::server::{Connection, Load, Server, Way, cookies, pass, processor_time, resident, wrk};
use super::stats::{Spread, number};
use super::tools::{need, sibling};
use crate::serve::LARGE;

const SESSIONS: usize = 500;
const MIB: f64 = (1 << 20) as f64;

/// Each gateway, and whether its requests carry a session's cookie.
const VARIANTS: [(&str, bool); 6] = [
    ("nginx, plain proxy", false),
    ("nginx + auth_request to a bare 204", false),
    ("Apache, session in an encrypted cookie", true),
    ("hyper, a bare proxy without sessions", false),
    ("cloakroom serve, no cookie", false),
    ("cloakroom serve, session validated (SQLite)", true),
];

/// What was found of one gateway.
#[derive(Default)]
struct Figures {
    loads: Vec<Load>,
    /// Of a large body, down and up: MiB a second, and the gateway's CPU µs a MiB.
    large: [Vec<(f64, f64)>; 2],
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
  # Large bodies pass through, as they do here; by default they go to files on their way.
  client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
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

/// Apache with the sessions that Debian has for it: the user's name and password, encrypted in the cookie, and the password
/// compared with a file at each request.
fn apache(folder: &Path, listen: u16, app: u16) -> Result<Server> {
    const MODULES: [&str; 12] = [
        "mpm_event",
        "authn_core",
        "authn_file",
        "authz_core",
        "authz_user",
        "request",
        "session",
        "session_cookie",
        "session_crypto",
        "auth_form",
        "proxy",
        "proxy_http",
    ];
    let mut text = format!(
        "ServerRoot {0}\nServerName 127.0.0.1\nListen 127.0.0.1:{listen}\nPidFile {0}/pid\nErrorLog {0}/log\nLogLevel crit\n\
         DefaultRuntimeDir {0}\nMutex file:{0} default\nUser www-data\nGroup www-data\nMaxKeepAliveRequests 0\n",
        folder.display()
    );
    for module in MODULES {
        let _ = writeln!(text, "LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so");
    }
    let _ = write!(
        text,
        "SessionCryptoCipher aes256
<Location />
  AuthType form
  AuthName pages
  AuthFormProvider file
  AuthUserFile {}/users
  Session On
  SessionCookieName session path=/
  SessionCryptoPassphrase {:064}
  Require valid-user
</Location>
<Location /log-in>
  SetHandler form-login-handler
</Location>
ProxyPass /log-in !
ProxyPass / http://127.0.0.1:{app}/ enablereuse=on
",
        folder.display(),
        7
    );
    // The cheapest password check there is: the SHA-1 of \"secret\".
    std::fs::write(folder.join("users"), "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")?;
    std::fs::write(folder.join("conf"), text)?;
    // Its workers are not root's, and read the list of users.
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut command = Command::new("apache2");
    command.arg("-DFOREGROUND").arg("-f").arg(folder.join("conf"));
    Server::start_on(&mut command, listen)
}

/// Logs in by a form, and writes the cookie down as often as another gateway has sessions.
fn log_in_to_apache(server: &Server, file: &Path) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    let form = "httpd_username=alice&httpd_password=secret";
    let (kind, length) = ("application/x-www-form-urlencoded", form.len());
    write!(
        stream,
        "POST /log-in HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{form}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let cookie = cookies(&answer);
    ensure!(!cookie.is_empty(), "Apache answers a login with {answer}");
    let answer = Connection::open(server.port)?.ask("GET", "/plain", Some(&cookie))?;
    ensure!(answer.ends_with("a small page"), "Apache answers a page with {answer}");
    let refused = Connection::open(server.port)?.ask("GET", "/plain", None)?;
    ensure!(refused.starts_with("HTTP/1.1 401"), "Apache lets everybody in: {refused}");
    std::fs::write(file, vec![cookie; SESSIONS].join("\n"))?;
    Ok(())
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

/// Bytes of memory for each connection that has asked once and stays open.
fn of_idle_connection(server: &Server) -> Result<f64> {
    const CONNECTIONS: usize = 400;
    let open = |count: usize| -> Result<Vec<Connection>> {
        let connect = |_| {
            let mut connection = Connection::open(server.port)?;
            connection.ask("GET", "/plain", None)?;
            Ok(connection)
        };
        (0..count).map(connect).collect()
    };
    // What the first of them need once is none of theirs.
    let _warm = open(CONNECTIONS / 8)?;
    let before = resident(server.pid())?;
    let _held = open(CONNECTIONS)?;
    Ok((resident(server.pid())? - before) / CONNECTIONS as f64)
}

/// Measures, and returns the table.
pub(super) fn table(root: &Path, effort: Effort) -> Result<String> {
    need("wrk", "wrk")?;
    need("nginx", "nginx-light")?;
    need("apache2", "apache2-bin")?;
    let program: PathBuf = sibling("cloakroom")?;
    let folder = tempfile::tempdir()?;
    let (rounds, seconds) = if effort == Effort::Quick { (5, 1) } else { (9, 2) };
    let (app, check) = (upstream()?, upstream()?);
    let plain = nginx(folder.path(), "plain", free_port(), app.port, None)?;
    let asking = nginx(folder.path(), "asking", free_port(), app.port, Some(check.port))?;
    let folder_of_apache = tempfile::tempdir()?;
    let apache = apache(folder_of_apache.path(), free_port(), app.port)?;
    let file_of_apache = folder.path().join("cookies-of-apache");
    log_in_to_apache(&apache, &file_of_apache)?;
    let hyper = Server::start(Command::new(sibling("serve")?).args(["proxy", &app.port.to_string()]))?;
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

    // Before the load, which leaves buffers behind. Whether there is a session makes no difference between two requests.
    let mut idle = Vec::new();
    for server in [&plain, &asking, &apache, &hyper, &ours] {
        idle.push(of_idle_connection(server)?);
    }

    let script = root.join("load.lua");
    let mut results = BTreeMap::<usize, Figures>::new();
    for round in 1..=rounds {
        eprintln!("bench: gateways, round {round} of {rounds}");
        let mut bare = 0.0;
        for (index, (_, with_cookie)) in VARIANTS.into_iter().enumerate() {
            let servers = [&plain, &asking, &apache, &hyper, &ours, &ours];
            let server = servers.get(index).copied().context("a gateway")?;
            let file = if index == 2 { &file_of_apache } else { &file };
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
            // One with each gateway that passes it on by itself.
            let cookie = match index {
                0 => "",
                5 => all.first().context("a session")?,
                _ => continue,
            };
            for (way, large) in [Way::Down, Way::Up].into_iter().zip(&mut figures.large) {
                let before = processor_time(server.pid())?;
                let per_second = pass(server.port, way, cookie)? / MIB;
                large.push((per_second, (processor_time(server.pid())? - before) / (LARGE as f64 / MIB)));
            }
        }
    }

    let median = |samples: &[f64]| Spread::of(samples.iter().copied()).median;
    let spent = |index: usize| results.get(&index).map_or(0.0, |figures| median(&figures.gateway));
    let nginx = spent(0);
    let mut text = "| what | must | aim | is | |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for (what, must, aim, of) in
        [("plain proxy", 1.5, 1.0, nginx), ("`auth_request`, its check not counted", 1.0, 1.0, spent(1))]
    {
        let is = spent(VARIANTS.len() - 1) / of;
        let verdict = if is <= aim {
            "aim met"
        } else if is <= must {
            "met"
        } else {
            "**missed**"
        };
        let _ = writeln!(
            text,
            "| CPU a request, session validated, of nginx's {what} | {must:.1} | {aim:.1} | {is:.2} | {verdict} |"
        );
    }
    text.push_str(
        "\n| gateway | requests/s, of nginx's | its CPU µs | CPU µs behind it | its CPU, of nginx's | p50 µs | p99 µs | idle connection KiB |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (index, (name, _)) in VARIANTS.into_iter().enumerate() {
        let figures = results.get(&index).context("a gateway")?;
        let of = |pick: fn(&Load) -> f64| number(Spread::of(figures.loads.iter().map(pick)).median);
        let cpu = median(&figures.gateway);
        let _ = writeln!(
            text,
            "| {name} | {:.2} | {cpu:.1} | {:.1} | {:.2} | {} | {} | {} |",
            median(&figures.ratio),
            median(&figures.behind),
            cpu / nginx,
            of(|load| load.p50),
            of(|load| load.p99),
            idle.get(index).map_or("–".to_owned(), |bytes| format!("{:.1}", bytes / 1024.0)),
        );
    }
    text.push_str(
        "\n| 64 MiB through | to the client, MiB/s | its CPU, µs a MiB | to the application, MiB/s | its CPU, µs a MiB |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for (index, figures) in
        results.iter().filter(|(_, figures)| figures.large.iter().all(|way| !way.is_empty()))
    {
        let name = VARIANTS.get(*index).map_or("", |(name, _)| name);
        let _ = write!(text, "| {name} |");
        for way in &figures.large {
            let (per_second, cpu) = way.iter().copied().unzip::<f64, f64, Vec<_>, Vec<_>>();
            let _ = write!(text, " {} | {} |", number(median(&per_second)), number(median(&cpu)));
        }
        text.push('\n');
    }
    Ok(text)
}
