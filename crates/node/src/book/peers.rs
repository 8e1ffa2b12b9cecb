//! The other nodes, and whose turn it is.

/// The other nodes of the cluster.
#[derive(Debug)]
pub(super) struct Peers {
    peers: Vec<Peer>,
    next: usize,
}

/// Another node.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) address: String,
    /// The last connection to it succeeded, or none was tried yet.
    pub(super) reachable: bool,
}

impl Peers {
    pub(super) fn new(peers: &[(String, String)]) -> Self {
        let peers = peers.iter().map(|(name, address)| Peer {
            name: name.clone(),
            address: address.clone(),
            reachable: true,
        });
        Peers { peers: peers.collect(), next: 0 }
    }

    /// The other nodes are these now. Returns the names of those that are no more.
    pub(super) fn replace(&mut self, peers: &[(String, String)]) -> Vec<String> {
        let old = std::mem::replace(self, Peers::new(peers)).peers;
        for peer in &mut self.peers {
            let known = old.iter().find(|known| known.name == peer.name);
            peer.reachable = known.is_none_or(|known| known.reachable);
        }
        old.into_iter().map(|peer| peer.name).filter(|name| !self.contains(name)).collect()
    }

    pub(super) fn address(&self, name: &str) -> Option<&str> {
        self.peers.iter().find(|peer| peer.name == name).map(|peer| peer.address.as_str())
    }

    pub(super) fn set_address(&mut self, name: &str, address: String) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.name == name) {
            peer.address = address;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.peers.iter().any(|peer| peer.name == name)
    }

    pub(super) fn set_reachable(&mut self, name: &str, reachable: bool) {
        for peer in self.peers.iter_mut().filter(|peer| peer.name == name) {
            peer.reachable = reachable;
        }
    }

    /// The next reachable node in turn, other than `than`.
    pub(super) fn best(&mut self, than: Option<&str>) -> Option<String> {
        for step in 0..self.peers.len() {
            let index = (self.next + step) % self.peers.len();
            let peer = &self.peers[index];
            if peer.reachable && than != Some(peer.name.as_str()) {
                self.next = index + 1;
                return Some(peer.name.clone());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_turns_among_those_that_can_be_reached() {
        let names = ["a", "b", "c"].map(|name| (name.to_owned(), String::new()));
        let mut peers = Peers::new(&names);
        let turns = |peers: &mut Peers, than| -> Vec<_> {
            (0..4).map(|_| peers.best(than).unwrap_or_default()).collect()
        };
        assert_eq!(turns(&mut peers, None), ["a", "b", "c", "a"]);
        peers.set_reachable("c", false);
        assert_eq!(turns(&mut peers, None), ["b", "a", "b", "a"]);
        assert_eq!(turns(&mut peers, Some("a")), ["b", "b", "b", "b"]);
        peers.set_reachable("b", false);
        assert_eq!(peers.best(Some("a")), None);
        let others = ["a", "b", "d"].map(|name| (name.to_owned(), String::new()));
        assert_eq!(peers.replace(&others), ["c"]);
        assert_eq!(turns(&mut peers, None), ["a", "d", "a", "d"], "b is still out of reach");
    }
}
