//! Who the service is, to those who ask over TLS 1.3; and whom it believes when it asks others.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not as it should be.
    #[error("read the certificate or key {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// There is no certificate in the file.
    #[error("find a certificate in {}", .0.display())]
    Empty(PathBuf),
    /// Nobody could prove who they are.
    #[error("find an authority that this machine trusts (SSL_CERT_FILE names a file with some)")]
    NoAuthority,
    /// Certificate and key do not go together.
    #[error("use the certificate and its key")]
    Pair(#[from] rustls::Error),
}

/// What it takes to take connections as the owner of a certificate; the file may hold those of its authorities too. When the
/// files are exchanged, who connects after that sees the new ones.
pub fn configuration(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let shown = Shown::read(chain, key)?;
    let provider = Arc::new(default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A certificate that is shown, and when its files were written.
#[derive(Debug)]
struct Shown {
    files: [PathBuf; 2],
    read: Mutex<(Stamp, Arc<CertifiedKey>)>,
}

type Stamp = [Option<SystemTime>; 2];

impl Shown {
    fn read(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = [chain, key].map(Path::to_owned);
        // Before they are read: what is changed after that is read again.
        let stamp = stamp(&files);
        let read = Mutex::new((stamp, certified(&files)?));
        Ok(Shown { files, read })
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.files);
        // While they are being changed, or if they are of no use, the old ones are shown.
        if read.0 != stamp
            && let Ok(certified) = certified(&self.files)
        {
            *read = (stamp, certified);
        }
        Some(Arc::clone(&read.1))
    }
}

fn stamp(files: &[PathBuf; 2]) -> Stamp {
    [0, 1].map(|at: usize| files.get(at)?.metadata().ok()?.modified().ok())
}

fn certified([chain, key]: &[PathBuf; 2]) -> Result<Arc<CertifiedKey>, TlsError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let certificates = CertificateDer::pem_file_iter(chain).map_err(file(chain))?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(file(chain))?;
    if certificates.is_empty() {
        return Err(TlsError::Empty(chain.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(file(key))?;
    Ok(Arc::new(CertifiedKey::from_der(certificates, key, &default_provider())?))
}

/// What it takes to ask others: they prove who they are to whom this machine trusts, by the system's list of authorities
/// or the one that `SSL_CERT_FILE` names.
pub fn trusting() -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(TlsError::NoAuthority);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
