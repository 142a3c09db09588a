//! Which servers and users the store takes, and which it refuses.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports by panicking"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloakroom_core::store::{BySubject as _, EndNotice, Fault, Reason, Replaced, Store as _};
use cloakroom_redis::{OpenError, RedisOptions, RedisStore};
use cloakroom_testkit::servers::{Redis, RedisCluster, RedisTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use support::{NOW, PASSWORD, alice, documented_user, hear, listen, options, put, runtime, sessions};

fn refused(options: RedisOptions) -> OpenError {
    runtime().block_on(options.connect()).unwrap_err()
}

/// Each operation once.
async fn use_all_of_it(store: &RedisStore) {
    let notices = listen(store);
    hear(&notices, EndNotice::Missed);
    hear(&notices, EndNotice::Missed);
    let records = sessions(Some(&alice()), 3, 1);
    put(store, &records).await;
    assert_eq!(store.replace(records[0].version(), records[0].clone()).await.unwrap(), Replaced::Replaced);
    store.touch(records[0].handle(), NOW.plus(Duration::from_secs(1))).await.unwrap();
    assert_eq!(store.list(&alice()).await.unwrap().len(), 3);
    assert!(store.remove(records[0].handle(), Reason::LoggedOut, NOW).await.unwrap().is_some());
    hear(&notices, EndNotice::Ended(records[0].handle()));
    assert_eq!(store.remove_all(&alice(), None, Reason::RevokedAll, NOW).await.unwrap().ended.len(), 2);
    put(store, &sessions(None, 2, 2)).await;
    assert_eq!(store.remove_everybody(Reason::RevokedAll, NOW).await.unwrap(), 2);
    store.warnings().await.unwrap();
}

#[test]
fn a_server_that_evicts_keys_is_refused() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let server = Redis::start(&[&format!("maxmemory-policy {policy}")]);
        let error = refused(options(&server.url()));
        assert!(matches!(&error, OpenError::Evicts { policy: found, .. } if found == policy), "{error}");
        assert_eq!((error.fault(), error.may_retry()), (Fault::Setup, false));
        assert!(error.to_string().contains("noeviction"), "{error}");
    }
}

#[test]
fn r059_a_replica_is_refused() {
    let primary = Redis::start(&[]);
    let replica = Redis::start(&[&format!("replicaof 127.0.0.1 {}", primary.port())]);
    let error = refused(options(&replica.url()));
    assert!(matches!(error, OpenError::Replica { .. }), "{error}");
}

#[test]
fn one_server_and_a_cluster_are_not_mistaken_for_each_other() {
    let error = refused(options(&RedisCluster::shared().nodes()[0].url()));
    assert!(error.to_string().contains("redis-cluster://"), "{error}");
    let error = refused(options(&Redis::shared().url().replace("redis://", "redis-cluster://")));
    assert!(error.to_string().contains("is no node of a cluster"), "{error}");
}

#[test]
fn a_server_that_is_not_there_is_the_stores_fault_and_a_retry_may_help() {
    let port = cloakroom_testkit::servers::free_port();
    for scheme in ["redis", "redis-cluster"] {
        let error = refused(options(&format!("{scheme}://127.0.0.1:{port}")));
        assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
        assert_eq!((error.fault(), error.may_retry()), (Fault::Store, true));
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")));
    }
}

#[test]
fn opening_leaves_nothing_in_the_server() {
    let server = Redis::start(&[]);
    let store = runtime().block_on(options(&server.url()).connect()).unwrap();
    // What it wrote for a trial is gone a second later, so this ends.
    while server.ask(&["DBSIZE"]).number() > 0 {
        std::thread::yield_now();
    }
    drop(store);
}

/// The rules of the operator's guide are enough, and none of them is too much.
#[test]
fn r129_the_documented_rules_for_the_user_are_just_what_is_needed() {
    let rules = documented_user("p");
    let server = Redis::start(&[&rules]);
    let open = || options(&server.url_of("cloakroom", PASSWORD)).prefix("p").connect();
    let runtime = runtime();
    runtime.block_on(async {
        use_all_of_it(&open().await.unwrap()).await;
        // The first two are for a cluster, the next two for the connection on which ends are heard.
        let elsewhere = ["+cluster|slots", "+asking", "+subscribe", "+ping", "+scan"];
        // Without these the store works, and says what it does not know.
        let optional = ["+info", "+config|get"];
        let commands = rules.split(' ').filter(|word| word.starts_with('+') && !elsewhere.contains(word));
        for command in commands {
            server.ask(&["SCRIPT", "FLUSH"]);
            let forbidden = command.replacen('+', "-", 1);
            server.ask(&["ACL", "SETUSER", "cloakroom", &forbidden]);
            let opened = open().await;
            if optional.contains(&command) {
                let warnings = opened.unwrap().warnings().await.unwrap().join("\n");
                assert!(command == "+config|get" || warnings.contains("does not allow INFO"), "{warnings}");
            } else {
                let error = opened.err().unwrap_or_else(|| panic!("{command} is not needed"));
                assert!(matches!(error, OpenError::Permission { .. }), "{command}: {error:?}");
            }
            server.ask(&["ACL", "SETUSER", "cloakroom", command]);
        }
        server.ask(&["ACL", "SETUSER", "cloakroom", "-scan"]);
        let error = open().await.unwrap().remove_everybody(Reason::RevokedAll, NOW).await;
        error.expect_err("+scan is not needed");
        server.ask(&["ACL", "SETUSER", "cloakroom", "+scan"]);
        // Neither other keys nor another channel.
        for (change, back) in [("resetkeys", "~p:*"), ("resetchannels", "&p:ended")] {
            server.ask(&["ACL", "SETUSER", "cloakroom", change]);
            let error = open().await.unwrap_err();
            assert!(matches!(error, OpenError::Permission { .. }), "{change}: {error:?}");
            server.ask(&["ACL", "SETUSER", "cloakroom", back]);
        }
        let error = options(&server.url_of("cloakroom", PASSWORD)).prefix("q").connect().await.unwrap_err();
        assert!(matches!(error, OpenError::Permission { .. }), "{error:?}");
        open().await.unwrap();
    });
}

#[test]
fn r108_a_wrong_password_is_refused_and_shown_nowhere() {
    let server = Redis::start(&["requirepass right"]);
    for url in [server.url_of("", "wrong"), server.url_of("nobody", "wrong"), server.url()] {
        let options = options(&url);
        assert!(!format!("{options:?}").contains("wrong"));
        let error = refused(options);
        assert!(matches!(error, OpenError::Credentials { .. }), "{error:?}");
        assert_eq!(error.fault(), Fault::Setup);
        assert!(!format!("{error:?} {error}").contains("wrong"));
    }
    let store = runtime().block_on(options(&server.url_of("", "right")).connect()).unwrap();
    assert!(!format!("{store:?}").contains("right"));
}

#[test]
fn a_password_may_be_in_a_file() {
    let server = Redis::start(&["requirepass right"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "right\n").unwrap();
    runtime()
        .block_on(options(&format!("{}?password_file={}", server.url(), file.display())).connect())
        .unwrap();
    for (text, wrong) in [("", "hold a password"), ("\n", "hold a password")] {
        fs::write(&file, text).unwrap();
        let error =
            RedisOptions::parse(&format!("redis://localhost?password_file={}", file.display())).unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
}

#[test]
fn r129_a_connection_in_the_clear_to_another_machine_needs_a_reason() {
    for url in ["redis://192.0.2.1", "redis-cluster://127.0.0.1,192.0.2.1", "redis://cache.example"] {
        let error = refused(RedisOptions::parse(url).unwrap());
        assert!(matches!(&error, OpenError::Options(error) if error.problems().len() == 1), "{error}");
        assert!(error.to_string().contains("insecure_plaintext"), "{error}");
        let error = refused(RedisOptions::parse(url).unwrap().insecure_plaintext(" "));
        assert!(matches!(error, OpenError::Options(_)), "{error}");
    }
    // With one, it is tried.
    let hasty = |url: &str| RedisOptions::parse(url).unwrap().timeout(Duration::from_millis(50));
    let error = refused(hasty("redis://192.0.2.1").insecure_plaintext("a private network"));
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    let error = refused(hasty("redis://192.0.2.1?insecure_plaintext=a%20private%20network"));
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    // And to this machine none is needed.
    for host in ["127.0.0.1", "localhost", "[::1]", "127.8.8.8"] {
        let port = cloakroom_testkit::servers::free_port();
        let error = refused(hasty(&format!("redis://{host}:{port}")));
        assert!(matches!(error, OpenError::Unreachable { .. }), "{host}: {error}");
    }
}

#[test]
fn all_problems_of_options_are_named_at_once() {
    let error =
        RedisOptions::parse("redis://user@host?ca_file=/nowhere&cert_file=/nowhere&surprise=1").unwrap_err();
    assert_eq!(error.problems().len(), 4, "{error}");
    let options = RedisOptions::parse("redis://192.0.2.1").unwrap();
    let error = refused(options.prefix("a{b}").timeout(Duration::ZERO));
    assert!(matches!(&error, OpenError::Options(error) if error.problems().len() == 3), "{error}");
    assert!(RedisOptions::cluster([]).is_err());
    assert!(RedisOptions::single("redis-cluster://localhost").is_err());
    let nodes = ["redis://a:p@127.0.0.1:1", "redis://127.0.0.1:2", "redis://a:p@127.0.0.1:3"];
    assert!(RedisOptions::cluster(nodes).is_ok());
    assert!(RedisOptions::cluster(["redis://a:p@127.0.0.1:1", "redis://a:q@127.0.0.1:2"]).is_err());
    assert!(RedisOptions::cluster(["redis://127.0.0.1:1", "rediss://127.0.0.1:2"]).is_err());
}

/// An authority, and what it vouches for.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new([]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, "an authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), issuer }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a name, and its key.
    fn vouch(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn with_authority(url: &str, file: &Path) -> RedisOptions {
    options(&format!("{url}?ca_file={}", file.display()))
}

#[test]
fn r129_over_tls_the_server_must_be_vouched_for_by_the_named_authority() {
    let (good, other) = (Authority::new(), Authority::new());
    let (certificate, key) = good.vouch("localhost");
    let server = Redis::start_tls(&[], &RedisTls { certificate, key, client_authority: None });
    let file = good.file("ca.pem", &good.pem());
    runtime().block_on(async {
        use_all_of_it(&with_authority(&server.url(), &file).connect().await.unwrap()).await;
    });

    let wrong = other.file("ca.pem", &other.pem());
    let error = refused(with_authority(&server.url(), &wrong));
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    // The machine's own authorities do not know it.
    let error = refused(options(&server.url()));
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    // Another name than the certificate's.
    let error = refused(with_authority(&server.url().replace("localhost", "127.0.0.1"), &file));
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    // Without TLS there is no talking to it.
    let error = refused(options(&server.url().replace("rediss", "redis")).timeout(Duration::from_secs(5)));
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
}

#[test]
fn r129_a_server_may_ask_for_the_clients_certificate() {
    let authority = Authority::new();
    let (certificate, key) = authority.vouch("localhost");
    let tls = RedisTls { certificate, key, client_authority: Some(authority.pem()) };
    let server = Redis::start_tls(&[], &tls);
    let file = authority.file("ca.pem", &authority.pem());
    let error = refused(with_authority(&server.url(), &file));
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    let (certificate, key) = authority.vouch("cloakroom");
    let (certificate, key) = (authority.file("client.pem", &certificate), authority.file("client.key", &key));
    let url = format!(
        "{}?ca_file={}&cert_file={}&key_file={}",
        server.url(),
        file.display(),
        certificate.display(),
        key.display()
    );
    runtime().block_on(async {
        use_all_of_it(&options(&url).connect().await.unwrap()).await;
    });
}
