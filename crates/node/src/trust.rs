//! Who this node is to the others, and whom it trusts, while the daemon runs: the authority that decides who belongs to the
//! cluster may have another one take its place, and then the node gets a certificate by that one.
//!
//! ```text
//!   a newer list names two authorities ──► both are trusted; lists are believed by the first
//!   Purpose::Renew, from the first     ──► a new key; certificate and key are kept, and used from then on
//!   a newer list names only that one   ──► whoever has nothing from it is refused
//! ```
//!
//! Programs that serve a process go on with what they have; those that begin read the files anew.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use minka_link::keys::AUTHORITY_CERTIFICATE;
use minka_link::roster::{self, List};
use minka_link::{Credentials, KeyError, NodeConfig, NodeKeys};
use minka_wire::preamble::Preamble;
use tracing::{debug, info, warn};

use crate::cluster::Cluster;
use crate::daemon::{Daemon, chain};

impl Daemon {
    /// This node has another certificate.
    pub(crate) fn take_certificate(&self, cluster: &Cluster) {
        let config = NodeConfig::read_with(&self.settings.config, Some(&List::default()));
        let keys = config.ok().map(|config| config.read_keys().and_then(|keys| Credentials::new(&keys)));
        match keys {
            Some(Ok(credentials)) if credentials.name() == self.settings.node => {
                credentials.refuse(cluster.keyring.credentials().refused());
                cluster.keyring.renew(credentials);
                info!("this node has another certificate now");
            }
            Some(Err(error)) => warn!(error = %chain(&error), "the certificate stays as it was"),
            _ => warn!("the certificate stays as it was: the new one is for another node"),
        }
    }

    /// From now on these authorities are trusted, and no others; none: those that always were.
    pub(crate) fn trust(&self, cluster: &Cluster, directory: &Path, authorities: &[String]) {
        let trusted = authorities.concat();
        let old = cluster.keyring.credentials();
        if trusted.is_empty() || trusted == old.trusted() {
            return;
        }
        let new = match credentials(directory, &trusted) {
            Ok(new) => new,
            Err(error) => {
                return warn!(error = %chain(&error), "failed to trust another authority of the cluster");
            }
        };
        let (is_current, is_last) = (new.is_current(), authorities.len() == 1);
        new.refuse(old.refused());
        cluster.keyring.renew(new);
        if is_last {
            // Whoever has shown a certificate by the former one has to show another one.
            cluster.keyring.forget_all();
        }
        match (is_last, is_current) {
            (false, false) => info!("another authority takes the place of this cluster's"),
            (false, true) => info!("the authority of this node's certificate takes the place of another one"),
            (true, true) => info!("the former authority of this cluster is trusted no more"),
            (true, false) => {
                warn!("this node has no certificate by the authority of its cluster: it has to join anew");
            }
        }
    }

    /// Sees to it that programs that begin, and the next daemon, trust these authorities, too.
    pub(crate) fn keep_trust(&self, directory: &Path, authorities: &[String]) {
        let trusted = authorities.concat();
        let path = directory.join(AUTHORITY_CERTIFICATE);
        let is_kept = || std::fs::read_to_string(&path).is_ok_and(|kept| kept == trusted);
        if trusted.is_empty() || is_kept() {
            return;
        }
        if let Err(error) = roster::replace(&path, &trusted) {
            warn!(error = %chain(&error), "the authorities of the cluster could not be written");
        }
    }

    /// The authority wants this node to have a certificate that it has made itself.
    pub(crate) fn answer_renewal(self: &Arc<Self>, stream: TcpStream, preamble: &Preamble) {
        let Some(cluster) = self.cluster() else { return };
        let keep = |keys: &NodeKeys| {
            // Several may have been offered at the same time; one is enough.
            let _one_at_a_time = self.charter.renewing();
            if cluster.keyring.credentials().is_current() {
                return Ok(());
            }
            let (_, directory) = self.files().ok_or("the configuration cannot be read")?;
            keys.replace(&directory)?;
            self.take_certificate(&cluster);
            Ok(())
        };
        let (credentials, tuning) = (cluster.keyring.credentials(), &self.settings.tuning);
        match minka_link::answer_renewal(&credentials, stream, preamble, tuning, keep) {
            Ok(true) => info!("the authority has renewed this node's certificate"),
            Ok(false) => debug!("this node's certificate is by the authority already"),
            Err(error) => warn!(error = %chain(&error), "refused another certificate"),
        }
    }
}

/// This node with other authorities.
fn credentials(directory: &Path, trusted: &str) -> Result<Credentials, KeyError> {
    let keys = NodeKeys::read(directory)?;
    Credentials::new(&NodeKeys { authority: trusted.to_owned(), ..keys })
}
