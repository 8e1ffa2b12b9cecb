//! What a node needs for TLS with others, built once from its keys.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use minka_wire::preamble::Purpose;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{ClientSessionMemoryCache, Resumption},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime, pem::PemObject},
    server::{ServerSessionMemoryCache, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::{
    authority,
    error::ChannelError,
    keys::{self, KeyError, NodeKeys},
};

/// How many peers, or sessions of peers, one program remembers for the next channel to be cheap.
const SESSIONS_MAX: usize = 256;

/// Certificates that are good no more: of each name those with numbers up to this one.
pub type Refused = BTreeMap<String, u64>;

/// The identity of a node and its trust in others, ready for use on any number of channels. Cloning is cheap.
///
/// TLS 1.3 only; both sides show a certificate, and both check that the cluster's authority signed the other one.
/// Where two programs meet again, only the first channel pays for signatures.
#[derive(Clone, Debug)]
pub struct Credentials {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    /// The same for sessions, whose programs meet no second time.
    session: Arc<ServerConfig>,
    name: Arc<str>,
    authority: Arc<str>,
    roots: Arc<RootCertStore>,
    own: CertificateDer<'static>,
    refused: Arc<RwLock<Refused>>,
}

impl Credentials {
    /// Checks the keys of a node and makes them ready for use.
    pub fn new(keys: &NodeKeys) -> Result<Self, KeyError> {
        let provider = Arc::new(provider());
        let authorities = Arc::new(authorities(&keys.authority)?);
        let chain = certificates(&keys.certificate, keys::NODE_CERTIFICATE)?;
        let name = chain.first().and_then(node_name).ok_or_else(|| {
            malformed("a certificate for the name of a node", keys::NODE_CERTIFICATE, "there is none")
        })?;
        let key = PrivateKeyDer::from_pem_slice(keys.key.as_bytes())
            .map_err(|error| malformed("the key of a node", keys::NODE_KEY, error))?;
        let own = chain.first().cloned().unwrap_or_else(|| Vec::new().into());
        let identity = Arc::new(SingleCertAndKey::from(certified(chain, &key).map_err(KeyError::Unusable)?));

        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(KeyError::Unusable)?
            .with_root_certificates(authorities.clone())
            .with_client_cert_resolver(identity.clone());
        client.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(SESSIONS_MAX)));
        client.enable_secret_extraction = true;
        // Names in node certificates are in no DNS; there is no use in telling them to the network.
        client.enable_sni = false;

        let verifier = WebPkiClientVerifier::builder_with_provider(authorities.clone(), provider.clone())
            .build()
            .map_err(|error| malformed("an authority", keys::AUTHORITY_CERTIFICATE, error))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(KeyError::Unusable)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(identity);
        server.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        server.send_tls13_tickets = 1;
        server.enable_secret_extraction = true;
        let mut session = server.clone();
        session.send_tls13_tickets = 0;
        Ok(Credentials {
            client: Arc::new(client),
            server: Arc::new(server),
            session: Arc::new(session),
            name: name.into(),
            authority: keys.authority.as_str().into(),
            roots: authorities,
            own,
            refused: Arc::default(),
        })
    }

    /// The certificates of the authorities that it trusts (PEM); lists of nodes are believed by the first.
    pub fn trusted(&self) -> &str {
        &self.authority
    }

    /// Whether its own certificate is by the authority that counts, and not by one whose place that has taken.
    pub fn is_current(&self) -> bool {
        self.roots.roots.first().is_some_and(|first| is_issued_by(std::slice::from_ref(first), &self.own))
    }

    /// Whether its own certificate is by an authority that it trusts, and good at this time.
    pub fn is_trusted(&self) -> bool {
        is_issued_by(&self.roots.roots, &self.own)
    }

    /// The name of this node, from its own certificate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Refuses certificates from now on, on all channels and whoever has a copy of this: those of each name up to a number.
    pub fn refuse(&self, refused: Refused) {
        *self.refused.write().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// Certificates that are refused now.
    pub fn refused(&self) -> Refused {
        self.refused.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a list of nodes is signed by the authority.
    pub(crate) fn has_signed(&self, text: &str, signature: &[u8]) -> bool {
        authority::has_signed(&self.authority, text, signature)
    }

    /// The node that a certificate is for, if it is the authority's and not refused. It is as much as a handshake checks,
    /// for what comes without one.
    pub(crate) fn judge(&self, certificate: &CertificateDer<'_>) -> Result<Box<str>, ChannelError> {
        if !is_issued_by(&self.roots.roots, certificate) {
            return Err(ChannelError::Nameless);
        }
        self.admit(certificate)
    }

    /// The node that a certificate of the cluster is for, if it is not refused.
    ///
    /// # Errors
    /// When it names no node, or is refused.
    pub fn admit(&self, certificate: &CertificateDer<'_>) -> Result<Box<str>, ChannelError> {
        let name = node_name(certificate).ok_or(ChannelError::Nameless)?;
        let number = number(certificate);
        let refused = self.refused.read().unwrap_or_else(PoisonError::into_inner);
        match refused.get(&name) {
            Some(last) if number <= *last => Err(ChannelError::Removed { peer: name }),
            _ => Ok(name.into()),
        }
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    pub(crate) fn server(&self, purpose: Purpose) -> Arc<ServerConfig> {
        if purpose == Purpose::Open { self.session.clone() } else { self.server.clone() }
    }
}

/// Whether a node's certificate is by one of these authorities itself, and good at this time.
pub(crate) fn is_issued_by(authorities: &[TrustAnchor<'_>], certificate: &CertificateDer<'_>) -> bool {
    let Ok(end) = webpki::EndEntityCert::try_from(certificate) else { return false };
    let usage = webpki::KeyUsage::client_auth();
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    end.verify_for_usage(algorithms, authorities, &[], UnixTime::now(), usage, None, None).is_ok()
}

/// What the certificate of the peer has to be for.
pub(crate) fn server_name(peer: &str) -> Result<ServerName<'static>, ChannelError> {
    let domain = keys::node_domain(peer).map_err(|_| ChannelError::Name { name: peer.to_owned() })?;
    ServerName::try_from(domain).map_err(|_| ChannelError::Name { name: peer.to_owned() })
}

/// The node that a certificate is for.
pub(crate) fn node_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_dns_names().find_map(keys::name_in_domain).map(str::to_owned)
}

/// The number of a certificate. One that is longer than such numbers is of a time before there were any.
fn number(certificate: &CertificateDer<'_>) -> u64 {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return 0 };
    let serial = certificate.serial();
    let digits = serial.iter().position(|byte| *byte != 0).and_then(|first| serial.get(first..));
    let digits = digits.filter(|digits| digits.len() <= 8).unwrap_or_default();
    digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Only what nodes speak among themselves. Where the processor helps with AES it is by far the fastest cipher; 128 bits
/// are enough, and a little faster than 256.
fn provider() -> CryptoProvider {
    let aes = [
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
    ];
    let chacha = aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    let cipher_suites =
        if processor_has_aes() { vec![aes[0], aes[1], chacha] } else { vec![chacha, aes[0], aes[1]] };
    CryptoProvider {
        cipher_suites,
        kx_groups: vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    }
}

/// A certificate and its key. It is read once, as what nodes have; read as any other takes as long as all the rest of this.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    let key = aws_lc_rs::sign::any_ecdsa_type(key).or_else(|_| aws_lc_rs::sign::any_supported_type(key))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(error),
    }
}

/// Has the cryptographic libraries look what the processor can do. In a virtual machine each question takes microseconds, and
/// whoever is forked from this process need not ask again.
pub fn learn_of_processor() {
    let _ = (provider(), ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, &[]));
}

#[cfg(target_arch = "x86_64")]
fn processor_has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn processor_has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn processor_has_aes() -> bool {
    false
}

fn authorities(pem: &str) -> Result<RootCertStore, KeyError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, keys::AUTHORITY_CERTIFICATE)? {
        store.add(certificate).map_err(|error| {
            malformed("the certificate of an authority", keys::AUTHORITY_CERTIFICATE, error)
        })?;
    }
    Ok(store)
}

fn certificates(pem: &str, file: &'static str) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| malformed("certificates", file, error))?;
    if found.is_empty() {
        return Err(malformed("a certificate", file, "there is none"));
    }
    Ok(found)
}

fn malformed(
    what: &'static str,
    file: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> KeyError {
    KeyError::Malformed { what, path: file.into(), source: source.into() }
}
