//! `cloakroom demo`: the gateway and a small application behind it.

use std::path::Path;

use cloakroom::SystemEntropy;
use cloakroom::core::entropy::Entropy as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Common;
use crate::config::Raw;
use crate::serve;

/// What the demo application needs of the gateway.
const CONFIG: &str = include_str!("../../demo.toml");

pub(super) async fn run(common: Common) -> anyhow::Result<()> {
    let secret = secret()?;
    let behind = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = format!("http://{}", behind.local_addr()?);
    let config = common.load(|raw| {
        let Raw { routes, login_page, cookie, .. } = demo();
        raw.upstream = Some(upstream);
        raw.gateway_secret = Some(secret.clone());
        raw.routes = routes;
        raw.login_page = login_page;
        // Cookies are shared by all ports of a host, so the demo has a name of its own.
        raw.cookie.name = raw.cookie.name.take().or(cookie.name);
    })?;
    let notes_file = Path::new(".cloakroom").join("demo-notes.json");
    std::fs::create_dir_all(".cloakroom")?;
    let sessions = serve::sessions(&config)?;
    let listener = serve::bind(config.listen).await?;
    let (stop, stopping) = watch::channel(());
    let options = cloakroom_demo::Options::new(notes_file, cloakroom_demo::Secret::new(secret.as_str())?);
    let mut application = stopping.clone();
    let application = tokio::spawn(cloakroom_demo::serve(behind, options, async move {
        // An error means that the gateway is gone, which is as good a reason.
        drop(application.changed().await);
    }));
    let address = listener.local_addr()?;
    let stopped = serve::stopped()?;
    println!("Cloakroom demo: http://{address}");
    println!("  Sign in as alice / wonderland-42 or bob / builder-42, write a note, then look at");
    println!("  http://{address}/sessions and try a second browser. Sessions and notes are in ./.cloakroom/");
    println!("  Ctrl-C stops it.");
    serve::run(listener, config, sessions, stopped).await?;
    drop((stop, stopping));
    application.await??;
    Ok(())
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
}
