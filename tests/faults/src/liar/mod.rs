//! A liar: it holds the keys of both nodes, stands between a deputy and a host program, and passes on what they say
//! to each other but for one thing.
//!
//! ```text
//!  deputy ──TLS──► liar, with the host's keys ─┐
//!                                              ├─ frames, and a lie
//!  host program ◄──TLS── with the home's keys ─┘
//! ```
//!
//! What the keys of the other lanes come from it hears on the first. So each end meets a peer with the right certificate that lies at any point of a real session.

mod broken;
mod from_home;
mod from_host;
mod further;
mod fuzz;
mod lane;
mod plan;

pub use plan::{Lie, To, lies};

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use minka_link::NodeKeys;
use minka_wire::preamble::{PREAMBLE_BYTES, Preamble, Purpose, SessionId, SessionSecret};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use further::Further;
use lane::{End, Heard, Layer, relay};
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
        let secrets = Arc::new(Secrets::default());
        loop {
            let (stream, _) = listener.accept()?;
            say("met");
            let (client, server) = (Arc::clone(&self.client), Arc::clone(&self.server));
            let (target, plan, lied) = (self.target, Arc::clone(&self.plan), Arc::clone(&lied));
            let secrets = Arc::clone(&secrets);
            std::thread::spawn(move || {
                let told = || {
                    if !lied.swap(true, Ordering::Relaxed) {
                        say("lied");
                    }
                };
                // However a lane ends, its two ends see a cut.
                let _ = carry(stream, target, (client, server), &plan, (&secrets, &told));
            });
        }
    }
}

/// What the keys of sessions come from, as far as it was heard.
#[derive(Debug, Default)]
struct Secrets {
    heard: Mutex<BTreeMap<SessionId, SessionSecret>>,
    more: Condvar,
}

/// How long to wait for a secret: a lane may be there before the offer was listened to.
const SECRET: Duration = Duration::from_secs(20);

impl Secrets {
    fn note(&self, session: SessionId, secret: SessionSecret) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(session, secret);
        self.more.notify_all();
    }

    fn of(&self, session: SessionId) -> io::Result<SessionSecret> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.more.wait_timeout_while(heard, SECRET, |heard| !heard.contains_key(&session));
        let (heard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        heard.get(&session).copied().ok_or_else(|| io::ErrorKind::TimedOut.into())
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
    (client, server): (Arc<ClientConfig>, Arc<ServerConfig>),
    plan: &Plan,
    (secrets, told): (&Secrets, &dyn Fn()),
) -> io::Result<()> {
    let mut preamble = [0; PREAMBLE_BYTES];
    home.read_exact(&mut preamble)?;
    let Preamble { session, purpose, lane, number } = Preamble::parse(&preamble).map_err(io::Error::other)?;
    let mut host = TcpStream::connect(target)?;
    host.write_all(&preamble)?;
    let heard = Heard { secret: &|secret| secrets.note(session, secret), told };
    if purpose == Purpose::Join {
        let secret = secrets.of(session)?;
        let layer =
            |connects| Ok::<_, io::Error>(Layer::Further(Box::new(Further::new(&secret, number, connects)?)));
        let (home, host) = (End::new(home, layer(false)?, true)?, End::new(host, layer(true)?, false)?);
        return relay(home, host, lane, plan, &heard);
    }
    let name = "node2.node.minka".try_into().map_err(io::Error::other)?;
    let client = ClientConnection::new(client, name).map_err(io::Error::other)?;
    let server = ServerConnection::new(server).map_err(io::Error::other)?;
    let (home, host) = (
        End::new(home, Layer::Tls(Box::new(server.into())), true)?,
        End::new(host, Layer::Tls(Box::new(client.into())), true)?,
    );
    relay(home, host, lane, plan, &heard)
}

/// One cipher, so that both ends encrypt with the same.
fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

fn chain(keys: &NodeKeys) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificate = CertificateDer::from_pem_slice(keys.certificate.as_bytes()).ok()?;
    Some((vec![certificate], PrivateKeyDer::from_pem_slice(keys.key.as_bytes()).ok()?))
}

fn client(keys: &NodeKeys) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(keys.authority.as_bytes()).ok()?).ok()?;
    let (chain, key) = chain(keys)?;
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(builder.with_root_certificates(roots).with_client_auth_cert(chain, key).ok()?))
}

/// Takes anybody: it is the other end that has something to lose.
fn server(keys: &NodeKeys) -> Option<Arc<ServerConfig>> {
    let (chain, key) = chain(keys)?;
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).ok()?))
}
