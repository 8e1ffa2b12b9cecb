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
    }
}
