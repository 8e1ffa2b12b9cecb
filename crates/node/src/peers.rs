//! Looks now and then whether the other nodes can be reached.

use std::net::{TcpStream, ToSocketAddrs};
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
        let mut known: Vec<Option<bool>> = vec![None; self.settings.peers.len()];
        let mut pause = ROUND_AT_FIRST;
        loop {
            for ((name, address), known) in self.settings.peers.iter().zip(&mut known) {
                let reachable = is_reachable(address);
                if known.replace(reachable) != Some(reachable) {
                    info!(node = name, address, reachable, "looked at a node");
                }
                self.tell(|state| state.book.set_reachable(name, reachable));
            }
            let all = known.iter().all(|known| *known == Some(true));
            std::thread::sleep(if all { ROUND } else { pause });
            pause = if all { ROUND_AT_FIRST } else { (pause * 2).min(ROUND_WHILE_LOST) };
        }
    }
}

fn is_reachable(address: &str) -> bool {
    let Ok(mut addresses) = address.to_socket_addrs() else { return false };
    addresses.any(|address| TcpStream::connect_timeout(&address, CONNECT).is_ok())
}
