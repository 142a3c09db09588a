//! Each kind of store, with a place of its own in it for each test, and gateways on it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use cloakroom::core::clock::Clock;
use cloakroom::{SessionLayerBuilder, SystemClock};
use cloakroom_server::config::{self, Config, Raw};
use cloakroom_server::health::Health;
use cloakroom_server::{open, serve};
use cloakroom_testkit::servers::{Postgres, Redis, RedisCluster};
use tokio::sync::oneshot;

use crate::harness::{Client, Log};

/// A place for sessions: several gateways may use it.
pub(crate) struct Place {
    pub(crate) store: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) options: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Place {
    pub(crate) async fn sqlite() -> Self {
        let place = Self::new(String::new(), "");
        let file = place.folder.path().join("sessions.db");
        Self { store: format!("sqlite:{}", file.display()), ..place }
    }

    pub(crate) async fn postgres() -> Self {
        let place = Self::unmigrated();
        open::migrate(&place.config("").sessions).await.unwrap();
        place
    }

    pub(crate) fn unmigrated() -> Self {
        Self::new(Postgres::shared().url(), "schema")
    }

    pub(crate) async fn redis() -> Self {
        Self::new(Redis::shared().url(), "prefix")
    }

    pub(crate) async fn redis_cluster() -> Self {
        Self::new(RedisCluster::shared().url(), "prefix")
    }

    /// On a server of somebody else's choice.
    pub(crate) fn new(store: String, option: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        config::make_pepper(&folder.path().join("pepper")).unwrap();
        let mut options = String::new();
        if !option.is_empty() {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            write!(options, "{option} = \"place_{}_{number}\"", std::process::id()).unwrap();
        }
        Self { store, folder, options }
    }

    pub(crate) fn is_shared(&self) -> bool {
        !self.store.starts_with("sqlite:")
    }

    pub(crate) fn pepper(&self) -> PathBuf {
        self.folder.path().join("pepper")
    }

    /// The public name of a pepper in the place's folder, as the program says it.
    pub(crate) fn pepper_id(&self, file: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_cloakroom"))
            .current_dir(self.folder.path())
            .args(["pepper", "id", file])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The password in the store's address.
    pub(crate) fn password(&self) -> Option<&str> {
        let (user, _) = self.store.split_once("://")?.1.rsplit_once('@')?;
        Some(user.split_once(':')?.1)
    }

    /// A configuration on this place. `more` are lines of the top level.
    pub(crate) fn toml(&self, more: &str) -> String {
        let pepper = if more.contains("pepper_file") {
            String::new()
        } else {
            format!("pepper_file = {:?}\n", self.pepper())
        };
        format!(
            "listen = \"127.0.0.1:0\"\nupstream = \"http://127.0.0.1:1\"\nstore = {:?}\n{pepper}{more}\n[store_options]\n{}\n",
            self.store, self.options
        )
    }

    pub(crate) fn config(&self, more: &str) -> Config {
        Config::check(Raw::parse(&self.toml(more)).unwrap()).unwrap()
    }

    /// Starts a gateway on it.
    pub(crate) async fn gateway(&self, upstream: SocketAddr, clock: impl Clock + Clone) -> Gateway {
        self.start(upstream, clock, None, "").await
    }

    /// Starts one with more lines in its configuration.
    pub(crate) async fn gateway_with(
        &self,
        upstream: SocketAddr,
        clock: impl Clock + Clone,
        more: &str,
    ) -> Gateway {
        self.start(upstream, clock, None, more).await
    }

    /// Starts one that waits for the store for this long.
    pub(crate) async fn patient_gateway(&self, upstream: SocketAddr, timeout: &str) -> Gateway {
        self.start(upstream, SystemClock, Some(timeout.to_owned()), "").await
    }

    /// Starts one that compares its clock with the store's. Those of the other tests do not: a clock that a test moves, or that stands
    /// still, soon differs from that of a server.
    pub(crate) async fn watchful_gateway(&self, upstream: SocketAddr, clock: impl Clock + Clone) -> Gateway {
        self.start_with(upstream, clock, None, "", |builder| builder).await
    }

    async fn start(
        &self,
        upstream: SocketAddr,
        clock: impl Clock + Clone,
        timeout: Option<String>,
        more: &str,
    ) -> Gateway {
        let unchecked =
            |builder: SessionLayerBuilder| builder.insecure_without_clock_check("the test moves the clock");
        self.start_with(upstream, clock, timeout, more, unchecked).await
    }

    async fn start_with(
        &self,
        upstream: SocketAddr,
        clock: impl Clock + Clone,
        timeout: Option<String>,
        more: &str,
        change: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
    ) -> Gateway {
        let mut raw = Raw::parse(&self.toml(more)).unwrap();
        raw.store_options.timeout = timeout;
        raw.upstream = Some(format!("http://{upstream}"));
        let config = Config::check(raw).unwrap();
        let log = Log::default();
        let opened =
            serve::open_with(&config, clock, |builder| change(builder).observer(log.clone())).await.unwrap();
        let health = opened.health.clone();
        let listener = serve::bind(config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let stopped = async { drop(stopping.await) };
            serve::run(listener, config, opened, stopped).await.unwrap();
        });
        Gateway { address, log, health, _stop: stop }
    }

    /// Runs the program with a configuration on this place.
    pub(crate) fn cloakroom(&self, arguments: &[&str], more: &str) -> Output {
        let file = self.folder.path().join("cloakroom.toml");
        std::fs::write(&file, self.toml(more)).unwrap();
        Command::new(env!("CARGO_BIN_EXE_cloakroom"))
            .env_remove("CLOAKROOM_STORE")
            .current_dir(self.folder.path())
            .args(arguments)
            .args(["--config", "cloakroom.toml"])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The same, with its exit code and all that it has printed, in which the store's password must not be.
    pub(crate) fn says(&self, arguments: &[&str], more: &str) -> (Option<i32>, String) {
        let output = self.cloakroom(arguments, more);
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(self.password().is_none_or(|password| !said.contains(password)), "{said}");
        (output.status.code(), said)
    }
}

/// A gateway that runs until it is dropped.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) log: Log,
    pub(crate) health: Health,
    _stop: oneshot::Sender<()>,
}

impl Gateway {
    /// What a load balancer is told.
    pub(crate) async fn ready(&self) -> u16 {
        let answer = self.client().get("/.cloakroom/ready").await;
        assert_eq!(answer.field("set-cookie"), None);
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        answer.status
    }

    /// An answer may be one second old.
    pub(crate) async fn until_ready_is(&self, status: u16) {
        let patience = tokio::time::timeout(std::time::Duration::from_secs(60), async {
            while self.ready().await != status {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        patience.await.unwrap_or_else(|_| panic!("never {status}"));
    }

    pub(crate) fn client(&self) -> Client {
        Client { address: self.address, cookie: None, visitor: None }
    }

    /// The same client, at this gateway.
    pub(crate) fn welcome(&self, client: &Client) -> Client {
        Client { address: self.address, ..client.clone() }
    }
}
