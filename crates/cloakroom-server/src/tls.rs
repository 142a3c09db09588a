//! TLS in front: certificate and key from files, loaded again when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use cloakroom::core::clock::Timestamp;
use cloakroom::core::policy::Problem;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode as _;

use crate::date::rfc3339;

/// The certificate in use.
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Loads certificate chain and key from PEM files.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or the key does not belong to the certificate.
    pub fn load(cert: &Path, key: &Path) -> anyhow::Result<Arc<Self>> {
        let current = RwLock::new(Arc::new(read(cert, key)?));
        Ok(Arc::new(Self { cert: cert.to_owned(), key: key.to_owned(), current }))
    }

    /// Loads the files again. What is in use stays in use if they are not good.
    ///
    /// # Errors
    ///
    /// As [`Certificate::load`].
    pub fn reload(&self) -> anyhow::Result<()> {
        let fresh = Arc::new(read(&self.cert, &self.key)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The first certificate of the chain in use, in DER: to see which one it is.
    pub fn leaf(&self) -> Vec<u8> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.cert.first().map(|certificate| certificate.to_vec()).unwrap_or_default()
    }

    /// TLS 1.2 and 1.3, HTTP/2 preferred.
    ///
    /// # Errors
    ///
    /// None in practice: the protocol versions are ones that the library has.
    pub fn server(self: &Arc<Self>) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let resolver = Arc::clone(self);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.cert.display())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(cert: &Path, key: &Path) -> anyhow::Result<CertifiedKey> {
    certified(chain(cert)?, private(key)?, key)
}

fn chain(cert: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("tls.cert: {} holds no certificate chain in PEM", cert.display()))?;
    anyhow::ensure!(!chain.is_empty(), "tls.cert: {} holds no certificate", cert.display());
    Ok(chain)
}

fn private(key: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("tls.key: {} holds no private key in PEM", key.display()))
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
    key: &Path,
) -> anyhow::Result<CertifiedKey> {
    CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider())
        .with_context(|| format!("tls.key: {} does not fit tls.cert", key.display()))
}

/// Looks whether certificate and key can be used, at a given time: what is wrong, and what soon will be.
pub(crate) fn inspect(cert: &Path, key: &Path, now: Timestamp) -> (Vec<Problem>, Vec<String>) {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let mut problem = |key: &str, path: &Path, expected: String| {
        problems.push(Problem::new(key, &path.display().to_string(), &expected));
    };
    let chain = chain(cert).map_err(|error| {
        problem("tls.cert", cert, format!("a file with a certificate chain in PEM; {error:#}"));
    });
    let private = private(key).map_err(|error| {
        problem("tls.key", key, format!("a file with a private key in PEM; {error:#}"));
    });
    if let Ok(chain) = &chain {
        match chain.first().and_then(|leaf| Dates::of(leaf)) {
            None => problem("tls.cert", cert, "a certificate that can be read".to_owned()),
            Some(dates) => match dates.at(now) {
                Standing::Good => {}
                Standing::Early => {
                    problem(
                        "tls.cert",
                        cert,
                        format!("a certificate that is valid now: it begins at {}", date(dates.from)),
                    );
                }
                Standing::Late => {
                    problem(
                        "tls.cert",
                        cert,
                        format!("a certificate that is valid now: it expired at {}", date(dates.to)),
                    );
                }
                Standing::Soon => {
                    warnings.push(format!("tls.cert = {} expires at {}", cert.display(), date(dates.to)));
                }
            },
        }
    }
    if let (Ok(chain), Ok(private)) = (chain, private)
        && let Err(error) = certified(chain, private, key)
    {
        problem("tls.key", key, format!("the key that belongs to tls.cert; {error:#}"));
    }
    (problems, warnings)
}

/// How near its end a certificate is warned of; of one that lasts for less than three times as long, a third.
const NEAR: Duration = Duration::from_secs(14 * 86_400);

/// From when to when a certificate is valid, since 1970.
#[derive(Clone, Copy)]
struct Dates {
    from: Duration,
    to: Duration,
}

enum Standing {
    Early,
    Good,
    Soon,
    Late,
}

impl Dates {
    fn of(certificate: &[u8]) -> Option<Self> {
        let validity = x509_cert::Certificate::from_der(certificate).ok()?.tbs_certificate.validity;
        Some(Self { from: validity.not_before.to_unix_duration(), to: validity.not_after.to_unix_duration() })
    }

    fn at(self, now: Timestamp) -> Standing {
        let now = Duration::from_millis(now.as_millis());
        let near = NEAR.min(self.to.saturating_sub(self.from) / 3);
        match self.to.checked_sub(now) {
            _ if now < self.from => Standing::Early,
            None => Standing::Late,
            Some(left) if left < near => Standing::Soon,
            Some(_) => Standing::Good,
        }
    }
}

fn date(since_1970: Duration) -> String {
    rfc3339(since_1970.as_secs())
}
