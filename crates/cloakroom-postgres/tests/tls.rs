//! TLS to the server: who is believed, and that nothing is sent in the clear instead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

mod support;

use std::path::PathBuf;

use cloakroom_core::store::{Found, Store};
use cloakroom_core::token::Handle;
use cloakroom_postgres::{OpenError, PostgresOptions};
use cloakroom_testkit::servers::{Postgres, PostgresSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use support::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, PEM.
fn certificate(authority: &Authority, names: &[&str], common_name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

/// A file for the time of the test.
struct File(PathBuf);

impl File {
    fn with(text: &str) -> Self {
        let path =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique(&format!("tls-{}", std::process::id())));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn options(server: &Postgres, host: &str, parameters: &str) -> PostgresOptions {
    let url = server.url().replace("127.0.0.1", host);
    PostgresOptions::parse(&format!("{url}?sslmode=verify-full{parameters}"))
        .unwrap()
        .schema("tls")
        .timeout(PATIENCE)
}

#[test]
fn r129_only_a_server_with_a_certificate_of_the_named_authority_is_believed() {
    let (ours, theirs) = (authority(), authority());
    let (chain, key) = certificate(&ours, &["localhost"], "server");
    let server = Postgres::start(PostgresSettings::new().fleeting().tls(chain, key));
    let (ours, theirs) = (File::with(&ours.pem()), File::with(&theirs.pem()));
    runtime().block_on(async {
        let trusting = |file: &File| format!("&sslrootcert={}", file.path());
        let good = options(&server, "localhost", &format!("{}&application_name=encrypted", trusting(&ours)));
        let (_, store) = prepared(good).await;
        assert_eq!(store.find(Handle::from_bytes([1; 16])).await.unwrap(), Found::Absent);
        let (heard, listener) = listener();
        store.on_end(listener);
        heard.wait_for(cloakroom_core::store::EndNotice::Missed).await;
        let encrypted = server.sql(
            "postgres",
            "SELECT count(*) > 1, bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
             WHERE application_name = 'encrypted'",
        );
        assert_eq!(encrypted, "t|t", "all connections, the listening one too");
        // Another authority, the system's, and another name for the same server.
        for (host, parameters) in
            [("localhost", trusting(&theirs)), ("localhost", String::new()), ("127.0.0.1", trusting(&ours))]
        {
            let error = options(&server, host, &parameters).connect().await.unwrap_err();
            assert!(
                matches!(error, OpenError::Refused(_) | OpenError::Tls(_)),
                "{host}{parameters}: {error:?}"
            );
            assert!(!error.may_retry());
        }
        let error = options(&server, "localhost", "&sslrootcert=/nowhere").connect().await.unwrap_err();
        assert!(matches!(error, OpenError::File { purpose: "sslrootcert", .. }), "{error:?}");
        let empty = File::with("no certificate\n");
        let error = options(&server, "localhost", &trusting(&empty)).connect().await.unwrap_err();
        assert!(matches!(error, OpenError::File { purpose: "sslrootcert", .. }), "{error:?}");
    });
}

#[test]
fn r129_a_server_without_tls_is_refused_where_tls_is_wanted() {
    let ours = File::with(&authority().pem());
    runtime().block_on(async {
        let parameters = format!("&sslrootcert={}", ours.path());
        let error = options(Postgres::shared(), "localhost", &parameters).connect().await.unwrap_err();
        assert!(matches!(error, OpenError::Refused(_)), "{error:?}");
        assert!(!error.may_retry());
    });
}

#[test]
fn r129_a_server_that_asks_for_a_certificate_of_the_client_gets_it() {
    let (servers, clients) = (authority(), authority());
    let (chain, key) = certificate(&servers, &["localhost"], "server");
    let settings = PostgresSettings::new()
        .fleeting()
        .tls(chain, key)
        .client_authority(clients.pem())
        .access("hostssl all postgres 127.0.0.1/32 cert")
        .access("hostssl all postgres ::1/128 cert");
    let server = Postgres::start(settings);
    let root = File::with(&servers.pem());
    runtime().block_on(async {
        let with = |(chain, key): &(String, String)| {
            let (chain, key) = (File::with(chain), File::with(key));
            let parameters =
                format!("&sslrootcert={}&sslcert={}&sslkey={}", root.path(), chain.path(), key.path());
            (options(&server, "localhost", &parameters), chain, key)
        };
        let (good, _chain, _key) = with(&certificate(&clients, &[], "postgres"));
        drop(prepared(good).await);
        // Another's name, another authority, none at all.
        let (other, _chain, _key) = with(&certificate(&clients, &[], "somebody"));
        let (forged, _forged_chain, _forged_key) = with(&certificate(&servers, &[], "postgres"));
        let none = options(&server, "localhost", &format!("&sslrootcert={}", root.path()));
        for (name, options) in [("other", other), ("forged", forged), ("none", none)] {
            options.connect().await.expect_err(name);
        }
    });
}
