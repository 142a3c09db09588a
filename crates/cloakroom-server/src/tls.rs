//! TLS in front: certificate and key from files, loaded again when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

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
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("tls.cert: {} holds no certificate chain in PEM", cert.display()))?;
    anyhow::ensure!(!chain.is_empty(), "tls.cert: {} holds no certificate", cert.display());
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("tls.key: {} holds no private key in PEM", key.display()))?;
    let certified = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider())
        .with_context(|| format!("tls.key: {} does not fit tls.cert", key.display()))?;
    Ok(certified)
}
