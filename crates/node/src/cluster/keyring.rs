//! The keys for datagrams, by node, and how they are come by.
//!
//! Keys are agreed on when the first datagram is to be sent; until then a few wait. Both ends may begin at the same
//! time, and each uses what came last for sending and either for receiving, so that nothing is lost by that. When the
//! other end says that it does not know a key, which anybody might say who has seen one, a new one is agreed on, but
//! not more often than every [`PAUSE_MIN`].

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use minka_cluster::NodeId;
use minka_link::{Credentials, DatagramKeys, KeyId, SealError};
use tracing::{debug, warn};

use super::Cluster;
use super::directory::Member;
use crate::daemon::{Daemon, chain};

/// How many pairs of keys of one node are remembered.
const KEYS_MAX: usize = 3;

/// How many datagrams wait for keys.
const WAITING_MAX: usize = 8;

/// Pause before keys are agreed on again, at least and, while a node cannot be reached, at most.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// All keys.
#[derive(Debug)]
pub(crate) struct Keyring {
    credentials: RwLock<Credentials>,
    peers: Mutex<BTreeMap<NodeId, PeerKeys>>,
}

/// Those of one node.
#[derive(Debug, Default)]
struct PeerKeys {
    /// The newest last.
    keys: Vec<DatagramKeys>,
    /// Datagrams that go as soon as there are keys.
    waiting: Vec<(SocketAddr, Vec<u8>)>,
    agreeing: bool,
    /// Not before this.
    next_try: Option<Instant>,
    failures: u32,
}

impl PeerKeys {
    fn may_agree(&self) -> bool {
        !self.agreeing && self.next_try.is_none_or(|next| next <= Instant::now())
    }
}

impl Keyring {
    pub(super) fn new(credentials: Credentials) -> Self {
        Keyring { credentials: RwLock::new(credentials), peers: Mutex::default() }
    }

    /// Who this node is, and whom it trusts.
    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This node has another certificate now.
    pub(crate) fn renew(&self, credentials: Credentials) {
        *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = credentials;
    }

    /// A node is of the cluster no more: what it has sealed is not opened.
    pub(crate) fn forget(&self, node: NodeId) {
        self.lock().remove(&node);
    }

    /// All have to agree on keys anew, and to show who they are for it.
    pub(crate) fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, PeerKeys>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a datagram; `None` if its key is not known, else from whom it is and what is in it.
    pub(super) fn open<'datagram>(
        &self,
        key: KeyId,
        datagram: &'datagram mut [u8],
    ) -> Result<Option<(NodeId, &'datagram [u8])>, SealError> {
        let mut peers = self.lock();
        let found = peers.iter_mut().find_map(|(node, peer)| {
            peer.keys.iter_mut().find(|keys| keys.id == key).map(|keys| (*node, keys))
        });
        let Some((node, keys)) = found else { return Ok(None) };
        keys.opener.open(datagram).map(|content| Some((node, content)))
    }

    /// Sends a datagram, or keeps it until there are keys; says whether these have to be agreed on now.
    fn send(&self, socket: &UdpSocket, to: NodeId, address: SocketAddr, content: &[u8]) -> bool {
        let mut peers = self.lock();
        let peer = peers.entry(to).or_default();
        if let Some(keys) = peer.keys.last_mut() {
            match keys.sealer.seal(content) {
                Ok(datagram) => transmit(socket, to, address, &datagram),
                // It will have another one the next time.
                Err(_) => drop(peer.keys.pop()),
            }
            return false;
        }
        if peer.waiting.len() < WAITING_MAX {
            peer.waiting.push((address, content.to_vec()));
        }
        let now = peer.may_agree();
        peer.agreeing |= now;
        now
    }

    /// Somebody says that it does not know this key: the node to agree with anew, and nobody if that is no news.
    fn doubt(&self, key: KeyId) -> Option<NodeId> {
        let mut peers = self.lock();
        let newest = |peer: &PeerKeys| peer.keys.last().is_some_and(|keys| keys.id == key);
        let (node, peer) = peers.iter_mut().find(|(_, peer)| newest(peer) && peer.may_agree())?;
        peer.agreeing = true;
        Some(*node)
    }

    /// There are keys; what waited for them goes.
    pub(super) fn install(&self, socket: &UdpSocket, node: NodeId, keys: DatagramKeys, ours: bool) {
        let mut peers = self.lock();
        let peer = peers.entry(node).or_default();
        peer.keys.push(keys);
        let surplus = peer.keys.len().saturating_sub(KEYS_MAX);
        peer.keys.drain(..surplus);
        if ours {
            peer.agreeing = false;
            peer.next_try = Some(Instant::now() + PAUSE_MIN);
        }
        peer.failures = 0;
        let Some(keys) = peer.keys.last_mut() else { return };
        for (address, content) in std::mem::take(&mut peer.waiting) {
            if let Ok(datagram) = keys.sealer.seal(&content) {
                transmit(socket, node, address, &datagram);
            }
        }
    }

    /// No keys came about: what waited for them is too old by now.
    fn fail(&self, node: NodeId) {
        let mut peers = self.lock();
        let peer = peers.entry(node).or_default();
        let pause = PAUSE_MIN.saturating_mul(1 << peer.failures.min(6)).min(PAUSE_MAX);
        peer.failures += 1;
        peer.agreeing = false;
        peer.next_try = Some(Instant::now() + pause);
        peer.waiting.clear();
    }
}

/// Sends what may get lost anyway.
fn transmit(socket: &UdpSocket, to: NodeId, address: SocketAddr, datagram: &[u8]) {
    if let Err(error) = socket.send_to(datagram, address) {
        debug!(%to, %address, %error, "failed to send a datagram");
    }
}

impl Daemon {
    /// Sends a datagram to a node.
    pub(crate) fn send(self: &Arc<Self>, cluster: &Arc<Cluster>, to: NodeId, content: &[u8]) {
        // Not where it says that it is: it may be somewhere else by now, and a node that listens at all of its addresses
        // does not know by which one it is reached.
        let Some(Member { address, .. }) = cluster.directory.find(to) else { return };
        if cluster.keyring.send(&cluster.socket, to, address, content) {
            self.agree(cluster, to, address);
        }
    }

    /// Somebody does not know the key that is used: it was started anew, or somebody lies.
    pub(super) fn agree_anew(self: &Arc<Self>, cluster: &Arc<Cluster>, key: KeyId) {
        let Some(node) = cluster.keyring.doubt(key) else { return };
        match cluster.directory.find(node).map(|member| member.address) {
            Some(address) => self.agree(cluster, node, address),
            None => cluster.keyring.fail(node),
        }
    }

    /// Agrees on keys with a node, in a thread of its own.
    fn agree(self: &Arc<Self>, cluster: &Arc<Cluster>, node: NodeId, address: SocketAddr) {
        let (daemon, cluster) = (Arc::clone(self), Arc::clone(cluster));
        std::thread::spawn(move || {
            let Some(name) = cluster.directory.name(node) else { return cluster.keyring.fail(node) };
            let credentials = cluster.keyring.credentials();
            match minka_link::agree_on_keys(&credentials, address, &name, &daemon.settings.tuning) {
                Ok(keys) => {
                    debug!(node = %name, key = %keys.id, "agreed on keys");
                    cluster.keyring.install(&cluster.socket, node, keys, true);
                }
                Err(error) => {
                    debug!(node = %name, %address, error = %chain(&error), "failed to agree on keys");
                    cluster.keyring.fail(node);
                }
            }
        });
    }

    /// Another node has connected to agree on keys.
    pub(crate) fn answer_keys(
        self: &Arc<Self>,
        stream: std::net::TcpStream,
        preamble: &minka_wire::preamble::Preamble,
    ) {
        let Some(cluster) = self.cluster() else { return };
        let credentials = cluster.keyring.credentials();
        match minka_link::answer_keys(&credentials, stream, preamble, &self.settings.tuning) {
            Ok((name, keys)) => match cluster.directory.number(&name) {
                Some(node) if node != cluster.directory.own.number => {
                    debug!(node = name, key = %keys.id, "took keys");
                    cluster.keyring.install(&cluster.socket, node, keys, false);
                }
                _ => warn!(node = name, "refused keys: no such node is known here"),
            },
            Err(error) => debug!(error = %chain(&error), "failed to take keys"),
        }
    }
}
