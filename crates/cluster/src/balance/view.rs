//! The other nodes as one node sees them: what gossip told, and what they have said themselves since.

use std::collections::BTreeMap;

use super::cost::{Demand, Room};
use super::select::Other;
use crate::NodeId;
use crate::gossip::{Millis, Vector};

/// Information that is older is of no use to decide with.
const AGE_MAX_MS: u64 = 60_000;

/// What nodes said when they were asked, which is newer than what gossip tells of them.
#[derive(Debug, Clone, Default)]
pub struct View {
    heard: BTreeMap<NodeId, (Millis, Room)>,
}

impl View {
    /// Nobody was asked.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node said how it is.
    pub fn hear(&mut self, now: Millis, node: NodeId, room: Room) {
        self.heard.insert(node, (now, room));
    }

    /// A process is going to a node.
    pub fn send(&mut self, node: NodeId, demand: &Demand) {
        if let Some((_, room)) = self.heard.get_mut(&node) {
            *room = room.with(demand);
        }
    }

    /// A process that was at a node has left it, by what is known here before that node says so.
    pub fn left(&mut self, now: Millis, node: NodeId, demand: &Demand, vector: &Vector) {
        let told = vector.get(node).filter(|known| !self.is_newer(now, node, known.age_ms(now)));
        let told = told.map(|known| Room::told(&known.info));
        if let Some(room) = told.or_else(|| self.heard.get(&node).map(|(_, room)| *room)) {
            self.heard.insert(node, (now, room.without(demand)));
        }
    }

    /// Whether what a node has said is newer than what gossip tells of it, which is so old.
    fn is_newer(&self, now: Millis, node: NodeId, told_ms: u64) -> bool {
        self.heard.get(&node).is_some_and(|(at, _)| told_ms > now.saturating_sub(*at))
    }

    /// The nodes to choose from: those that there is the newest information of. So choosing takes equally long in small
    /// and large clusters.
    pub fn others(&mut self, now: Millis, own: NodeId, vector: &Vector) -> Vec<Other> {
        self.heard.retain(|node, (at, _)| {
            let told = vector.get(*node).map_or(u64::MAX, |known| known.age_ms(now));
            told > now.saturating_sub(*at)
        });
        let known = vector.newest().filter(|known| known.node != own && known.age_ms(now) <= AGE_MAX_MS);
        let other = |known: &crate::gossip::Known| {
            let room = self.heard.get(&known.node).map_or_else(|| Room::told(&known.info), |(_, room)| *room);
            Other { node: known.node, room, flags: known.info.flags }
        };
        known.map(other).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::Entry;
    use crate::load::{Info, Load};

    #[test]
    fn what_a_node_says_itself_holds_until_gossip_tells_something_newer() {
        let [own, node] = [1, 2].map(|id| NodeId::new(id).unwrap());
        let mut vector = Vector::new(own, 0, 8, 100);
        let entry = |sequence, age_ms| Entry {
            node,
            sequence,
            age_ms,
            info: Info { running: Load(100 * sequence as u32), cpus: 1, ..Info::default() },
        };
        vector.merge(10_000, [entry(1, 2000)]);
        let mut view = View::new();
        let tasks = |view: &mut View, vector: &Vector, now| {
            view.others(now, own, vector).iter().map(|other| other.room.tasks).collect::<Vec<_>>()
        };
        assert_eq!(tasks(&mut view, &vector, 10_000), [1.0]);
        let room = Room { tasks: 7.0, ..view.others(10_000, own, &vector)[0].room };
        view.hear(10_000, node, room);
        view.send(node, &Demand { tasks: 1.0, haste: 1.0, memory_mib: 0.0 });
        assert_eq!(tasks(&mut view, &vector, 10_000), [8.0]);
        view.left(10_500, node, &Demand { tasks: 3.0, haste: 1.0, memory_mib: 0.0 }, &vector);
        assert_eq!(tasks(&mut view, &vector, 11_000), [5.0]);
        vector.merge(12_000, [entry(3, 500)]);
        assert_eq!(tasks(&mut view, &vector, 12_000), [3.0]);
        view.left(12_000, node, &Demand { tasks: 1.0, haste: 1.0, memory_mib: 0.0 }, &vector);
        assert_eq!(tasks(&mut view, &vector, 12_000), [2.0]);
        assert_eq!(tasks(&mut view, &vector, 12_000 + AGE_MAX_MS), [0.0; 0]);
    }
}
