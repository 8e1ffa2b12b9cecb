//! The side of the machine that joins, renews its certificate or leaves.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minka_link::keys::node_domain;
use minka_link::roster::{List, RosterError};
use minka_link::{AUTHORITY_NAME, Credentials, KeyError, NodeKey, NodeKeys};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::message::{ANSWER_BYTES_MAX, Answer, Ask, Question, VERSION, read_line, write_line};
use crate::pin::Pinned;
use crate::service::Hurried;
use crate::token::Token;

/// How long it may take to reach the service, and to be answered: guessers wait, too.
const CONNECT: Duration = Duration::from_secs(5);
const TIME_MAX: Duration = Duration::from_secs(20);

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// Nobody is there.
    #[error("reach the service of the cluster's authority at {address}")]
    Reach {
        /// Where it should be.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// It is somebody else, or broke off.
    #[error("speak to the cluster's authority at {address}")]
    Speak {
        /// Where it should be.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// TLS could not be set up.
    #[error("prepare to speak to the cluster's authority")]
    Tls(#[source] rustls::Error),
    /// It refuses.
    #[error("{what}: the cluster's authority refuses")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Why, as it says.
        #[source]
        source: Reason,
    },
    /// It answers something else.
    #[error("understand the cluster's authority")]
    Answer,
    /// Keys could not be made or used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The list of nodes is not signed by the authority.
    #[error(transparent)]
    Roster(#[from] RosterError),
}

/// What the other end says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Reason(String);

/// What a machine has that is a node.
#[derive(Debug)]
pub struct Enrolled {
    /// Its keys.
    pub keys: NodeKeys,
    /// The signed list of nodes.
    pub list: String,
}

/// Becomes a node of the cluster that a token is for. Others reach it at the first of `addresses` or, without any, at the one
/// that it asks from, and at the rest in other networks.
///
/// # Errors
/// When the service is not that of the cluster, or refuses.
pub fn join(
    service: SocketAddr,
    token: &Token,
    name: &str,
    addresses: &[IpAddr],
    port: u16,
) -> Result<Enrolled, EnrollError> {
    let key = NodeKey::create()?;
    let (address, others) = match addresses {
        [first, others @ ..] => (Some(*first), others.to_vec()),
        [] => (None, Vec::new()),
    };
    let (token_shown, name) = (token.shown(), name.to_owned());
    let ask = Ask::Join { token: token_shown, name, address, others, port, request: key.request()? };
    let provider = Arc::new(default_provider());
    let pinned = Pinned::new(token.authority, Arc::clone(&provider));
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(EnrollError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    enrolled(ask_service(service, config, ask)?, key, "join")
}

/// Gets a new certificate for a new key, for a node that has good ones.
///
/// # Errors
/// When the service is not that of the cluster, or refuses.
pub fn renew(service: SocketAddr, keys: &NodeKeys, refuse_old: bool) -> Result<Enrolled, EnrollError> {
    let key = NodeKey::create()?;
    let ask = Ask::Renew { request: key.request()?, refuse_old };
    enrolled(ask_service(service, of_node(keys)?, ask)?, key, "renew the certificate")
}

/// Shows that a node has the certificate which it was given.
///
/// # Errors
/// When the service is not that of the cluster, or refuses.
pub fn confirm(service: SocketAddr, keys: &NodeKeys) -> Result<(), EnrollError> {
    match ask_service(service, of_node(keys)?, Ask::Confirm)? {
        Answer::Done => Ok(()),
        Answer::Refused { reason } => {
            Err(EnrollError::Refused { what: "show the certificate", source: Reason(reason) })
        }
        Answer::Admitted { .. } => Err(EnrollError::Answer),
    }
}

/// Has a node taken off the list.
///
/// # Errors
/// When the service is not that of the cluster, or refuses.
pub fn leave(service: SocketAddr, keys: &NodeKeys) -> Result<(), EnrollError> {
    match ask_service(service, of_node(keys)?, Ask::Leave)? {
        Answer::Done => Ok(()),
        Answer::Refused { reason } => {
            Err(EnrollError::Refused { what: "leave the cluster", source: Reason(reason) })
        }
        Answer::Admitted { .. } => Err(EnrollError::Answer),
    }
}

fn enrolled(answer: Answer, key: NodeKey, what: &'static str) -> Result<Enrolled, EnrollError> {
    match answer {
        Answer::Admitted { authority, certificate, list } => {
            let keys = key.certified(authority, certificate);
            // What is not of use is not kept.
            List::verify(&list, &Credentials::new(&keys)?)?;
            Ok(Enrolled { keys, list })
        }
        Answer::Refused { reason } => Err(EnrollError::Refused { what, source: Reason(reason) }),
        Answer::Done => Err(EnrollError::Answer),
    }
}

/// Both ends show their certificates.
fn of_node(keys: &NodeKeys) -> Result<ClientConfig, EnrollError> {
    // Checks them, and says which file is wrong.
    Credentials::new(keys)?;
    let malformed =
        |error: rustls::pki_types::pem::Error| EnrollError::Tls(rustls::Error::General(error.to_string()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(keys.authority.as_bytes()) {
        roots.add(certificate.map_err(malformed)?).map_err(EnrollError::Tls)?;
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(keys.certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(keys.key.as_bytes()).map_err(malformed)?;
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(EnrollError::Tls)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.map_err(malformed)?, key)
        .map_err(EnrollError::Tls)
}

fn ask_service(address: SocketAddr, mut config: ClientConfig, ask: Ask) -> Result<Answer, EnrollError> {
    // The name is in no DNS; there is no use in telling it to the network.
    config.enable_sni = false;
    let name = ServerName::try_from(node_domain(AUTHORITY_NAME)?);
    let name = name.map_err(|error| EnrollError::Tls(rustls::Error::General(error.to_string())))?;
    let stream = TcpStream::connect_timeout(&address, CONNECT)
        .map_err(|source| EnrollError::Reach { address, source })?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(EnrollError::Tls)?;
    let mut stream = StreamOwned::new(connection, Hurried { stream, until: Instant::now() + TIME_MAX });
    let speak = |source| EnrollError::Speak { address, source };
    write_line(&mut stream, &Question { version: VERSION, ask }).map_err(speak)?;
    read_line(&mut stream, ANSWER_BYTES_MAX).map_err(speak)
}
