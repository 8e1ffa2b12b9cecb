//! Looks now and then whether the other nodes can be reached.

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
            for (name, address) in &peers {
                let reachable = reach(address);
                if known.insert(name.clone(), reachable.is_some()) != Some(reachable.is_some()) {
                    info!(node = name, address, reachable = reachable.is_some(), "looked at a node");
                }
                reached.extend(reachable.map(|address| (name.clone(), address)));
                self.tell(|state| state.book.set_reachable(name, reachable.is_some()));
            }
            self.compare_with_strangers(&reached, round);
            let all = known.values().all(|known| *known);
            std::thread::sleep(if all { ROUND } else { pause });
            pause = if all { ROUND_AT_FIRST } else { (pause * 2).min(ROUND_WHILE_LOST) };
        }
    }
}

/// The address at which somebody listens.
fn reach(address: &str) -> Option<SocketAddr> {
    let mut addresses = address.to_socket_addrs().ok()?;
    addresses.find(|address| TcpStream::connect_timeout(address, CONNECT).is_ok())
}
