//! `cloakroom demo`: the gateway and a small application behind it.

use std::path::{Path, PathBuf};

use cloakroom::SystemEntropy;
use cloakroom::core::entropy::Entropy as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Common;
use crate::config::{self, PepperSource, Raw, StoreChoice};
use crate::{open, serve, signals};

/// Where the demo keeps what it keeps.
const FOLDER: &str = ".cloakroom";
/// Its pepper, where sessions are on a server.
const PEPPER: &str = ".cloakroom/demo-pepper";
/// What the demo application needs of the gateway.
const CONFIG: &str = include_str!("../../demo.toml");

pub(super) async fn run(common: Common) -> anyhow::Result<()> {
    let secret = secret()?;
    let behind = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = format!("http://{}", behind.local_addr()?);
    // Only a file that is named: the demo is to work wherever it is tried.
    let file = common.place.config.clone();
    let mut config = common.load_from(file.as_deref(), |raw| {
        let Raw { routes, login_page, cookie, .. } = demo();
        raw.upstream = Some(upstream);
        raw.gateway_secret = Some(secret.clone().into());
        raw.routes = routes;
        raw.login_page = login_page;
        // Cookies are shared by all ports of a host, so the demo has a name of its own.
        raw.cookie.name = raw.cookie.name.take().or(cookie.name);
        on_a_server(raw);
    })?;
    super::prepare(&mut config);
    let notes_file = Path::new(FOLDER).join("demo-notes.json");
    std::fs::create_dir_all(FOLDER)?;
    if let PepperSource::Files { current, .. } = &config.sessions.peppers
        && current.as_path() == Path::new(PEPPER)
        && !current.exists()
    {
        config::make_pepper(current)?;
    }
    open::migrate(&config.sessions).await?;
    let store = config.sessions.store.to_string();
    let opened = serve::open(&config).await?;
    let listener = serve::bind(config.listen).await?;
    let (stop, stopping) = watch::channel(());
    let options = cloakroom_demo::Options::new(notes_file, cloakroom_demo::Secret::new(secret.as_str())?);
    let mut application = stopping.clone();
    let application = tokio::spawn(cloakroom_demo::serve(behind, options, async move {
        // An error means that the gateway is gone, which is as good a reason.
        drop(application.changed().await);
    }));
    let address = listener.local_addr()?;
    let (stopped, at_once) = signals::stops()?;
    println!("Cloakroom demo: http://{address}");
    println!("  Sign in as alice / wonderland-42 or bob / builder-42, write a note, then look at");
    println!("  http://{address}/sessions and try a second browser. Notes are in ./{FOLDER}/, sessions in");
    println!("  {store}.");
    println!("  Ctrl-C stops it.");
    tokio::select! {
        served = serve::run(listener, config, opened, stopped) => served?,
        () = at_once => anyhow::bail!(super::CUT_OFF),
    }
    drop((stop, stopping));
    application.await??;
    Ok(())
}

/// On a server, the demo keeps to itself: a schema or prefix and a pepper of its own, so that it runs with nothing configured and
/// disturbs nobody.
fn on_a_server(raw: &mut Raw) {
    let options = &mut raw.store_options;
    match raw.store.as_deref().map(StoreChoice::parse) {
        Some(Ok(StoreChoice::Postgres(_))) => {
            options.schema.get_or_insert_with(|| "cloakroom_demo".to_owned());
        }
        Some(Ok(StoreChoice::Redis(_))) => {
            options.prefix.get_or_insert_with(|| "cloakroom-demo".to_owned());
        }
        _ => return,
    }
    raw.pepper_file.get_or_insert_with(|| PathBuf::from(PEPPER));
}

fn demo() -> Raw {
    // The file is part of the program and read by a test, so an empty one is never used.
    Raw::parse(CONFIG).unwrap_or_default()
}

fn secret() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    SystemEntropy.fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_configuration_reads() {
        let raw = Raw::parse(CONFIG).unwrap();
        assert!(raw.routes.len() >= 2);
        assert_eq!(raw.login_page.as_deref(), Some("/login"));
    }

    #[test]
    fn on_a_server_the_demo_keeps_to_itself_unless_told_otherwise() {
        let filled = |text: &str| {
            let mut raw = Raw::parse(text).unwrap();
            on_a_server(&mut raw);
            (raw.store_options.schema, raw.store_options.prefix, raw.pepper_file)
        };
        let (schema, prefix, pepper) =
            ("cloakroom_demo".to_owned(), "cloakroom-demo".to_owned(), PEPPER.into());
        assert_eq!(filled("store = \"postgres://me@127.0.0.1/a\""), (Some(schema), None, Some(pepper)));
        assert_eq!(filled("store = \"redis://127.0.0.1\""), (None, Some(prefix), Some(PEPPER.into())));
        for embedded in ["", "store = \"memory\"", "store = \"sqlite:a\"", "store = \"x\""] {
            assert_eq!(filled(embedded), (None, None, None), "{embedded}");
        }
        let own = "store = \"redis://127.0.0.1\"\npepper_file = \"p\"\n[store_options]\nprefix = \"q\"";
        assert_eq!(filled(own), (None, Some("q".to_owned()), Some("p".into())));
    }
}
