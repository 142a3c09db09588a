//! TLS to the server, by rustls with aws-lc-rs: the server's certificate must be of a known authority and name the host.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::OpenError;
use crate::options::Tls;

/// What encrypts connections; never used where the options do without.
pub(crate) fn connector(tls: &Tls) -> Result<MakeRustlsConnect, OpenError> {
    let roots = if tls.verified { authorities(tls)? } else { RootCertStore::empty() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| OpenError::Tls(Box::new(error)))?
        .with_root_certificates(roots);
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate, "sslcert")?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, "sslkey", error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| OpenError::Tls(Box::new(error)))?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// Those of the file, or of the system.
fn authorities(tls: &Tls) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &tls.authorities else {
        let system = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(system.certs);
        if added == 0 {
            let error = "this system has no certificate authorities; name a file with sslrootcert";
            return Err(OpenError::Tls(error.into()));
        }
        return Ok(roots);
    };
    for certificate in certificates(path, "sslrootcert")? {
        roots.add(certificate).map_err(|error| unusable(path, "sslrootcert", error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path, purpose: &'static str) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(path, purpose, error))?;
    if chain.is_empty() {
        return Err(unusable(path, purpose, "there is no certificate in it"));
    }
    Ok(chain)
}

fn unusable(
    path: &Path,
    purpose: &'static str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> OpenError {
    OpenError::File { path: path.to_owned(), purpose, source: error.into() }
}
