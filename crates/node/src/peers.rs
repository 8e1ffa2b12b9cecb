//! Looks now and then whether the other nodes can be reached, and by which of their networks.
//!
//! A node that is in several networks is reached by the first of its addresses; while nobody listens there, by the next one at
//! which it proves to be. As soon as the first one is there again, by that.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use crate::daemon::Daemon;

/// Pause between two rounds, and while a node cannot be reached: short at first, because nodes that start at the same
/// time miss each other by little.
const ROUND: Duration = Duration::from_secs(5);
const ROUND_WHILE_LOST: Duration = Duration::from_secs(1);
const ROUND_AT_FIRST: Duration = Duration::from_millis(50);

/// So many nodes are looked at at a time.
const AT_A_TIME: usize = 16;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);

impl Daemon {
    /// Looks after the other nodes. Never returns.
    pub(crate) fn look_after_peers(self: &Arc<Self>) {
        let mut known: BTreeMap<String, bool> = BTreeMap::new();
        let mut pause = ROUND_AT_FIRST;
        for round in 0_usize.. {
            let peers = self.lock().book.peers();
            known.retain(|name, _| peers.iter().any(|(peer, _)| peer == name));
            let mut reached = Vec::new();
            for (name, address, reachable) in self.look_at(&peers) {
                if known.insert(name.to_owned(), reachable.is_some()) != Some(reachable.is_some()) {
                    info!(node = name, address, reachable = reachable.is_some(), "looked at a node");
                }
                reached.extend(reachable.map(|address| (name.to_owned(), address)));
                self.tell(|state| state.book.set_reachable(name, reachable.is_some()));
            }
            self.compare_with_strangers(&reached, round);
            let all = known.values().all(|known| *known);
            std::thread::sleep(if all { ROUND } else { pause });
            pause = if all { ROUND_AT_FIRST } else { (pause * 2).min(ROUND_WHILE_LOST) };
        }
    }

    /// Where each of the others is reached, several at a time: who is not there takes time.
    fn look_at<'peers>(
        self: &Arc<Self>,
        peers: &'peers [(String, String)],
    ) -> Vec<(&'peers str, &'peers str, Option<SocketAddr>)> {
        let mut looked_at = Vec::with_capacity(peers.len());
        for some in peers.chunks(AT_A_TIME) {
            std::thread::scope(|scope| {
                let look = |(name, address): &'peers (String, String)| {
                    (name.as_str(), address.as_str(), self.reach_by_any(name, address))
                };
                let looks: Vec<_> = some.iter().map(|peer| scope.spawn(move || look(peer))).collect();
                looked_at.extend(looks.into_iter().filter_map(|look| look.join().ok()));
            });
        }
        looked_at
    }

    /// Where a node is reached: as ever, or in another network.
    fn reach_by_any(self: &Arc<Self>, name: &str, address: &str) -> Option<SocketAddr> {
        let reached = reach(address);
        let Some(cluster) = self.cluster() else { return reached };
        let is_there = |place: &SocketAddr| listens(place) && self.is_at(&cluster, name, *place);
        if reached.is_none() {
            return cluster.directory.elsewhere(name).into_iter().find(is_there);
        }
        cluster.directory.better(name).filter(is_there).or(reached)
    }
}

/// The address at which somebody listens.
fn reach(address: &str) -> Option<SocketAddr> {
    let mut addresses = address.to_socket_addrs().ok()?;
    addresses.find(listens)
}

fn listens(address: &SocketAddr) -> bool {
    TcpStream::connect_timeout(address, CONNECT).is_ok()
}
