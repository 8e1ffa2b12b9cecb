//! The list of nodes while the daemon runs: who joins is met, and who is removed is refused, without a new start.
//!
//! The cluster's authority signs each version of the list ([`minka_link::roster`]), so it does not matter who brings it:
//!
//! ```text
//!   the authority ───Purpose::Roster──►┐
//!   another node  ───Purpose::Roster──►├─► adopt: signed, and newer? ──► the file, the directory, the book, the keys
//!   a hand that copies cluster.toml ──►┘                  │
//!                                                         └─► the others are told its version, and fetch it
//! ```
//!
//! Every few seconds a node tells the version that it has to another one, in a datagram of ten bytes; whoever has an older
//! one fetches the newer. Nodes that are not up are shown the list directly, for they may be new and know nobody who
//! would listen to them, or be those that slept while somebody was removed.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use minka_cluster::NodeId;
use minka_link::keys::NODE_CERTIFICATE;
use minka_link::roster::{self, List};
use minka_link::{ChannelError, Credentials, NodeConfig};
use minka_wire::preamble::Preamble;
use tracing::{debug, info, warn};

use crate::cluster::{Cluster, ClusterSettings};
use crate::daemon::{Daemon, chain};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Every so many steps the version is told to one node.
const STEPS: u64 = 4;

/// So many nodes are told of a new version at once.
const TOLD_MAX: usize = 16;

const VERSION: u8 = 1;
const TELL: u8 = b'V';

/// What the daemon knows of its list.
#[derive(Debug, Default)]
pub(crate) struct Charter {
    state: Mutex<State>,
    /// Held while the own certificate is exchanged.
    renewing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    /// The list as it was signed; empty if it was not.
    text: String,
    /// The authorities that it names.
    authorities: Vec<String>,
    /// Whether this node is in it.
    removed: bool,
    /// Somebody's list is being fetched.
    fetching: bool,
    /// When the list and the own certificate were changed.
    changed: [Option<SystemTime>; 2],
}

impl Charter {
    /// The version of the list.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only one at a time exchanges the own certificate.
    pub(crate) fn renewing(&self) -> MutexGuard<'_, ()> {
        self.renewing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The version that a datagram tells; `None` if it is another datagram.
pub(crate) fn read_version(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(&[VERSION, TELL])?;
    Some(u64::from_be_bytes(rest.try_into().ok()?))
}

fn write_version(version: u64) -> Vec<u8> {
    [&[VERSION, TELL], &version.to_be_bytes()[..]].concat()
}

impl Daemon {
    /// Looks after the files of the list and the own certificate. Never returns.
    pub(crate) fn keep_roster(self: &Arc<Self>, cluster: &Arc<Cluster>) {
        self.look_at_files(cluster, true);
        loop {
            std::thread::sleep(LOOK);
            self.look_at_files(cluster, false);
        }
    }

    fn look_at_files(self: &Arc<Self>, cluster: &Arc<Cluster>, first: bool) {
        let Some((map, keys)) = self.files() else { return };
        let changed = [map.as_deref(), Some(&*keys.join(NODE_CERTIFICATE))].map(modified);
        let old = std::mem::replace(&mut self.charter.lock().changed, changed);
        if let Some(map) = map.filter(|_| first || old[0] != changed[0]) {
            self.take_file(cluster, &map, first);
        }
        if !first && old[1] != changed[1] {
            self.take_certificate(cluster);
        }
        // They may have been changed with the certificate, or could not be written before.
        let authorities = self.charter.lock().authorities.clone();
        self.trust(cluster, &keys, &authorities);
        self.keep_trust(&keys, &authorities);
    }

    /// Where the list is, and the directory of the keys.
    pub(crate) fn files(&self) -> Option<(Option<PathBuf>, PathBuf)> {
        let config = NodeConfig::read_with(&self.settings.config, Some(&List::default())).ok()?;
        Some((config.map, config.keys))
    }

    /// Somebody has put another list in the place of the one that was there, or the daemon has just begun.
    fn take_file(self: &Arc<Self>, cluster: &Arc<Cluster>, map: &Path, first: bool) {
        let read = List::text(map).and_then(|text| Ok((List::read(map)?, text)));
        let (list, text) = match read {
            Ok(read) => read,
            Err(error) => return warn!(error = %chain(&error), "the list of nodes stays as it was"),
        };
        if list.version > 0 {
            if let Err(error) = self.adopt(cluster, &text, first) {
                warn!(error = %chain(&error), map = %map.display(), "the list of nodes stays as it was");
            }
        } else if !first && self.charter.lock().version == 0 {
            self.apply(cluster, &list);
        }
    }

    /// Takes a list over if it is newer than the own one; `false` if it is not.
    fn adopt(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        text: &str,
        first: bool,
    ) -> Result<bool, roster::RosterError> {
        let list = List::verify(text, &cluster.keyring.credentials())?;
        {
            let mut state = self.charter.lock();
            if list.version <= state.version {
                return Ok(false);
            }
            state.version = list.version;
            text.clone_into(&mut state.text);
            list.authorities.clone_into(&mut state.authorities);
        }
        let files = self.files();
        if let Some((_, keys)) = &files {
            self.trust(cluster, keys, &list.authorities);
        }
        if first {
            return Ok(true);
        }
        info!(version = list.version, nodes = list.nodes.len(), "the list of nodes has changed");
        self.apply(cluster, &list);
        if let Some((Some(map), _)) = &files
            && List::text(map).ok().as_deref() != Some(text)
        {
            // It holds all the same; the next daemon will hear of it from others.
            match roster::replace(map, text) {
                Ok(()) => self.charter.lock().changed[0] = modified(Some(map)),
                Err(error) => warn!(error = %chain(&error), "the list of nodes could not be written"),
            }
        }
        // After the list: whoever finds only that believes it by the former authority.
        if let Some((_, keys)) = &files {
            self.keep_trust(keys, &list.authorities);
        }
        self.tell_many(cluster);
        Ok(true)
    }

    /// From now on these are the nodes.
    fn apply(self: &Arc<Self>, cluster: &Arc<Cluster>, list: &List) {
        let config = match NodeConfig::read_with(&self.settings.config, Some(list)) {
            Ok(config) => config,
            Err(error) => return warn!(error = %chain(&error), "the list of nodes is of no use"),
        };
        let removed = list.version > 0 && !config.listed;
        let others = match ClusterSettings::others(&config) {
            _ if removed => Vec::new(),
            Ok(others) => others,
            Err(error) => return warn!(error = %chain(&error), "the list of nodes is of no use"),
        };
        cluster.keyring.credentials().refuse(list.refused.clone());
        let (new, gone) = cluster.directory.replace(others);
        cluster.forget(&gone);
        cluster.expect(&new);
        let addresses = cluster.directory.others();
        let peers: Vec<_> =
            addresses.iter().map(|it| (it.name.to_string(), it.address.to_string())).collect();
        self.tell(|state| state.book.set_peers(&peers));
        for member in gone {
            info!(node = %member.name, "a node is of this cluster no more");
        }
        let known = std::mem::replace(&mut self.charter.lock().removed, removed);
        if removed && !known {
            warn!("this node is of its cluster no more: its certificate is refused by the others");
        }
    }

    /// Another node, or the authority, compares lists.
    pub(crate) fn answer_roster(self: &Arc<Self>, stream: TcpStream, preamble: &Preamble) {
        let Some(cluster) = self.cluster() else { return };
        let credentials = cluster.keyring.credentials();
        let answer = |peer: &str, theirs: &str| {
            let newer = !theirs.is_empty() && self.take_from(&cluster, peer, theirs);
            if newer { String::new() } else { self.newer_than(theirs, &credentials) }
        };
        let tuning = &self.settings.tuning;
        if let Err(error) = minka_link::answer_roster(&credentials, stream, preamble, tuning, answer) {
            debug!(error = %chain(&error), "failed to compare lists of nodes");
        }
    }

    /// The own list if another one, which is not taken, is older.
    fn newer_than(&self, theirs: &str, credentials: &Credentials) -> String {
        let version = List::verify(theirs, credentials).map_or(0, |list| list.version);
        let state = self.charter.lock();
        if state.version > version { state.text.clone() } else { String::new() }
    }

    fn take_from(self: &Arc<Self>, cluster: &Arc<Cluster>, peer: &str, text: &str) -> bool {
        match self.adopt(cluster, text, false) {
            Ok(newer) => newer,
            Err(error) => {
                warn!(node = peer, error = %chain(&error), "refused a list of nodes");
                false
            }
        }
    }

    /// Tells one node, now and then, which version this one has.
    pub(crate) fn tell_version(self: &Arc<Self>, cluster: &Arc<Cluster>, step: u64) {
        let version = self.charter.lock().version;
        if version == 0 || !step.is_multiple_of(STEPS) {
            return;
        }
        let turn = usize::try_from(step / STEPS).unwrap_or(0);
        if let Some(to) = cluster.up_in_turn(turn) {
            self.send(cluster, to, &write_version(version));
        }
    }

    fn tell_many(self: &Arc<Self>, cluster: &Arc<Cluster>) {
        let version = self.charter.lock().version;
        for turn in 0..cluster.up_count().min(TOLD_MAX) {
            if let Some(to) = cluster.up_in_turn(turn) {
                self.send(cluster, to, &write_version(version));
            }
        }
    }

    /// Another node tells which version it has.
    pub(crate) fn hear_version(self: &Arc<Self>, cluster: &Arc<Cluster>, from: NodeId, version: u64) {
        let own = self.charter.lock().version;
        if version < own {
            // It will ask for the newer one.
            self.send(cluster, from, &write_version(own));
        } else if version > own
            && let Some(member) = cluster.directory.find(from)
        {
            self.compare(cluster, member.name.to_string(), member.address);
        }
    }

    /// Compares lists with a node that is not up, if there is one that can be reached: it may be new, or not know that
    /// somebody else is.
    pub(crate) fn compare_with_strangers(self: &Arc<Self>, reachable: &[(String, SocketAddr)], turn: usize) {
        let Some(cluster) = self.cluster() else { return };
        if self.charter.lock().version == 0 {
            return;
        }
        let strangers: Vec<_> = reachable.iter().filter(|(name, _)| !cluster.is_up(name)).collect();
        if let Some((name, address)) = turn.checked_rem(strangers.len()).and_then(|at| strangers.get(at)) {
            self.compare(&cluster, name.clone(), *address);
        }
    }

    /// Compares lists with a node, in a thread of its own; with one at a time.
    pub(crate) fn compare(self: &Arc<Self>, cluster: &Arc<Cluster>, peer: String, address: SocketAddr) {
        if std::mem::replace(&mut self.charter.lock().fetching, true) {
            return;
        }
        let (daemon, cluster) = (Arc::clone(self), Arc::clone(cluster));
        std::thread::spawn(move || {
            let outcome = daemon.fetch(&cluster, &peer, address);
            daemon.charter.lock().fetching = false;
            if let Err(error) = outcome {
                debug!(node = peer, %address, error = %chain(&error), "failed to compare lists of nodes");
            }
        });
    }

    /// Whether a node is at an address, which it has to prove; it is looked for there from then on.
    pub(crate) fn is_at(self: &Arc<Self>, cluster: &Arc<Cluster>, peer: &str, address: SocketAddr) -> bool {
        self.fetch(cluster, peer, address).is_ok()
    }

    fn fetch(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        peer: &str,
        address: SocketAddr,
    ) -> Result<(), ChannelError> {
        let own = self.charter.lock().text.clone();
        let credentials = cluster.keyring.credentials();
        let theirs = minka_link::exchange_rosters(&credentials, address, peer, &own, &self.settings.tuning)?;
        if !theirs.is_empty() {
            self.take_from(cluster, peer, &theirs);
        }
        // It has proved that it is there.
        if let Some(node) = cluster.directory.number(peer)
            && cluster.directory.place(node, address)
        {
            self.seen_elsewhere(cluster, node, address);
        }
        Ok(())
    }

    /// A node is somewhere else than it was.
    pub(crate) fn seen_elsewhere(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        node: NodeId,
        address: SocketAddr,
    ) {
        let Some(name) = cluster.directory.name(node) else { return };
        info!(node = %name, %address, "a node has another address");
        self.tell(|state| state.book.set_address(&name, address.to_string()));
    }
}

fn modified(path: Option<&Path>) -> Option<SystemTime> {
    fs::metadata(path?).and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_survive_and_nothing_else_is_one() {
        let bytes = write_version(0x0102);
        assert_eq!(bytes, [1, b'V', 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(read_version(&bytes), Some(0x0102));
        for length in 0..bytes.len() {
            assert_eq!(read_version(&bytes[..length]), None, "{length}");
        }
        assert_eq!(read_version(&[&bytes[..], &[0]].concat()), None);
    }
}
