//! The nodes that there should be, and whom of them to ask to be taken in.
//!
//! Who is alone asks. But two nodes that have found each other are not alone any more, and neither are two others: so
//! the parts that a cluster begins in would never meet. Therefore a node goes on asking, in turn, those that should be
//! there and are not up, the more seldom the more others do the same: a part of the cluster asks once a second, however
//! large it is.

use crate::NodeId;
use crate::membership::Peer;

/// Nodes that should be there, at most.
const CONTACTS_MAX: usize = 1 << 16;

/// Whom to ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Contacts {
    /// By number.
    peers: Vec<Peer>,
    /// The number after which to go on.
    last: Option<NodeId>,
}

impl Contacts {
    /// Takes up a node, or its new address.
    pub(super) fn add(&mut self, peer: Peer) {
        match self.peers.binary_search_by_key(&peer.node, |other| other.node) {
            Ok(position) => self.peers[position] = peer,
            Err(position) if self.peers.len() < CONTACTS_MAX => self.peers.insert(position, peer),
            Err(_) => {}
        }
    }

    /// A node should be there no more.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.peers.retain(|peer| peer.node != node);
    }

    pub(super) fn clear(&mut self) {
        self.peers.clear();
    }

    /// The next one, after the one that was asked last, that is not up. The first to be asked is the one after this
    /// node itself, so that not all ask the same one.
    pub(super) fn next(&mut self, own: NodeId, up: &[Peer]) -> Option<Peer> {
        let is_up = |node: NodeId| up.binary_search_by_key(&node, |peer| peer.node).is_ok();
        let last = self.last.unwrap_or(own);
        let start = self.peers.partition_point(|peer| peer.node <= last);
        let mut turn = self.peers.iter().cycle().skip(start).take(self.peers.len());
        let next = *turn.find(|peer| peer.node != own && !is_up(peer.node))?;
        self.last = Some(next.node);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(node: u16) -> Peer {
        let address = std::net::SocketAddr::from(([10, 0, 0, 1], node));
        Peer { node: NodeId::new(node).unwrap(), address, epoch: 1 }
    }

    #[test]
    fn those_that_are_missing_are_asked_in_turn_beginning_behind_this_node() {
        let mut contacts = Contacts::default();
        assert_eq!(contacts.next(peer(2).node, &[]), None);
        [4, 1, 3, 2, 3].into_iter().for_each(|node| contacts.add(peer(node)));
        let mut asked = |up: &[u16]| {
            let up: Vec<Peer> = up.iter().map(|node| peer(*node)).collect();
            contacts.next(peer(2).node, &up).map(|peer| peer.node.get())
        };
        assert_eq!([(); 4].map(|()| asked(&[])), [Some(3), Some(4), Some(1), Some(3)]);
        assert_eq!([(); 2].map(|()| asked(&[1, 4])), [Some(3), Some(3)]);
        assert_eq!(asked(&[1, 3, 4]), None);
        contacts.forget(peer(3).node);
        assert_eq!(contacts.next(peer(2).node, &[peer(1), peer(4)]), None);
    }
}
