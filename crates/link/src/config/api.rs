//! The HTTP interface for other machines.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The interface over TLS, off unless `listen` says where: the table `[api]`.
///
/// ```toml
/// [api]
/// listen = "0.0.0.0:4661"
/// tokens = "tokens.toml"            # the hashes of tokens, as `minka token` writes them
/// certificate = "server.pem"        # what the server shows; without, the node's own certificate
/// key = "server.key"
/// audit = "/var/log/minka-audit.log"  # without, what is changed and refused goes to the log
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// Where other machines ask.
    pub listen: SocketAddr,
    /// The file of tokens.
    #[serde(default = "default_tokens")]
    pub tokens: PathBuf,
    /// The certificate that the server shows, and those of its authorities.
    pub certificate: Option<PathBuf>,
    /// The key that belongs to it.
    pub key: Option<PathBuf>,
    /// The file of the audit log.
    pub audit: Option<PathBuf>,
}

fn default_tokens() -> PathBuf {
    "tokens.toml".into()
}

impl ApiConfig {
    /// Relative paths start at this directory.
    pub(super) fn based_at(self, base: &Path) -> Self {
        let at = |path: PathBuf| base.join(path);
        ApiConfig {
            listen: self.listen,
            tokens: at(self.tokens),
            certificate: self.certificate.map(at),
            key: self.key.map(at),
            audit: self.audit.map(at),
        }
    }
}
