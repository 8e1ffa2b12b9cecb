//! A liar: it holds the keys of both nodes, stands between a deputy and a host program, and passes on what they say
//! to each other but for one thing.
//!
//! ```text
//!  deputy ──TLS──► liar, with the host's keys ─┐
//!                                              ├─ frames, and a lie
//!  host program ◄──TLS── with the home's keys ─┘
//! ```
//!
//! So each end meets a peer with the right certificate that lies at any point of a real session.

mod broken;
mod from_home;
mod from_host;
mod fuzz;
mod lane;
mod plan;

pub use plan::{Lie, To, lies};

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use minka_link::NodeKeys;
use minka_wire::preamble::{PREAMBLE_BYTES, Preamble};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use lane::{End, relay};
use plan::Plan;

/// What a liar is told.
#[derive(Debug)]
pub struct Liar {
    /// Where deputies find it.
    pub listen: SocketAddr,
    /// Where the host's daemon is.
    pub target: SocketAddr,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    plan: Arc<Plan>,
}

impl Liar {
    /// A liar between the owners of these keys. `lie` names one of [`lies`], or is `fuzz:SEED`.
    pub fn new(listen: SocketAddr, target: SocketAddr, home: &Path, host: &Path, lie: &str) -> Option<Self> {
        let (home, host) = (NodeKeys::read(home).ok()?, NodeKeys::read(host).ok()?);
        Some(Self {
            listen,
            target,
            client: client(&home)?,
            server: server(&host)?,
            plan: Arc::new(Plan::named(lie)?),
        })
    }

    /// Says `ready`, serves connections, says `met` when there is one, and `lied` when it has.
    pub fn serve(&self) -> io::Result<()> {
        let listener = TcpListener::bind(self.listen)?;
        say("ready");
        let lied = Arc::new(AtomicBool::new(false));
        loop {
            let (stream, _) = listener.accept()?;
            say("met");
            let (client, server) = (Arc::clone(&self.client), Arc::clone(&self.server));
            let (target, plan, lied) = (self.target, Arc::clone(&self.plan), Arc::clone(&lied));
            std::thread::spawn(move || {
                let told = || {
                    if !lied.swap(true, Ordering::Relaxed) {
                        say("lied");
                    }
                };
                // However a lane ends, its two ends see a cut.
                let _ = carry(stream, target, client, server, &plan, &told);
            });
        }
    }
}

fn say(word: &str) {
    let mut out = io::stdout().lock();
    // Whoever does not read it does not need it.
    let _ = writeln!(out, "{word}").and_then(|()| out.flush());
}

/// Carries one lane.
fn carry(
    mut home: TcpStream,
    target: SocketAddr,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    plan: &Plan,
    told: &dyn Fn(),
) -> io::Result<()> {
    let mut preamble = [0; PREAMBLE_BYTES];
    home.read_exact(&mut preamble)?;
    let lane = Preamble::parse(&preamble).map_err(io::Error::other)?.lane;
    let mut host = TcpStream::connect(target)?;
    host.write_all(&preamble)?;
    let name = "node2.node.minka".try_into().map_err(io::Error::other)?;
    let client = ClientConnection::new(client, name).map_err(io::Error::other)?;
    let server = ServerConnection::new(server).map_err(io::Error::other)?;
    relay(End::new(home, server.into())?, End::new(host, client.into())?, lane, plan, told)
}

fn chain(keys: &NodeKeys) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificate = CertificateDer::from_pem_slice(keys.certificate.as_bytes()).ok()?;
    Some((vec![certificate], PrivateKeyDer::from_pem_slice(keys.key.as_bytes()).ok()?))
}

fn client(keys: &NodeKeys) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(keys.authority.as_bytes()).ok()?).ok()?;
    let (chain, key) = chain(keys)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(builder.with_root_certificates(roots).with_client_auth_cert(chain, key).ok()?))
}

/// Takes anybody: it is the other end that has something to lose.
fn server(keys: &NodeKeys) -> Option<Arc<ServerConfig>> {
    let (chain, key) = chain(keys)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).ok()?))
}
