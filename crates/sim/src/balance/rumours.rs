//! What the simulated machines know of each other: by the very gossip that real ones use.

use minka_cluster::NodeId;
use minka_cluster::gossip::{Millis, Vector};
use minka_cluster::load::{Info, Load, Meter};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::scenario::{MACHINES, Machine};
use super::world::World;

/// Entries of a window: openMosix's.
const WINDOW: usize = 8;

/// One machine's knowledge.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) meter: Meter,
    pub(super) vector: Vector,
    /// Mean number of jobs during the last second.
    pub(super) load: f64,
}

/// Everybody's.
#[derive(Debug)]
pub(super) struct Rumours {
    pub(super) peers: Vec<Peer>,
    random: Xoshiro256PlusPlus,
}

/// The node that a machine is.
pub(super) fn node(at: usize) -> NodeId {
    const FIRST: NodeId = match NodeId::new(1) {
        Some(node) => node,
        None => unreachable!(),
    };
    u16::try_from(at + 1).ok().and_then(NodeId::new).unwrap_or(FIRST)
}

/// The machine that a node is.
pub(super) fn machine(node: NodeId) -> usize {
    usize::from(node.get()) - 1
}

pub(super) fn millis(now_s: f64) -> Millis {
    (now_s * 1000.0) as Millis
}

impl Rumours {
    pub(super) fn new(seed: u64) -> Self {
        let peer = |at| Peer { meter: Meter::new(), vector: Vector::new(node(at), 0, WINDOW, 64), load: 0.0 };
        let peers = (0..MACHINES.len()).map(peer).collect();
        Rumours { peers, random: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    /// A machine's step: it looks at itself, and tells somebody. `haste` is the sum of its jobs' weights.
    pub(super) fn step(&mut self, world: &mut World, at: usize, now_s: f64, haste: f64) {
        let load = world.nodes[at].take_load();
        let used_mib = u32::try_from(world.nodes[at].used_mib()).unwrap_or(u32::MAX);
        let peer = &mut self.peers[at];
        peer.load = load;
        peer.meter.observe(Load::of_tasks(load), (load * 100.0) as u8);
        let info = info(&MACHINES[at], peer, used_mib, haste);
        peer.vector.refresh(millis(now_s), info);
        let to = (at + self.random.random_range(1..MACHINES.len())) % MACHINES.len();
        let window: Vec<_> = peer.vector.window(millis(now_s)).collect();
        self.peers[to].vector.merge(millis(now_s), window);
    }
}

fn info(machine: &Machine, peer: &Peer, used_mib: u32, haste: f64) -> Info {
    let free_mib = machine.memory_mib.saturating_sub(used_mib);
    Info {
        load: peer.meter.upper(),
        running: Load::of_tasks(peer.load),
        haste: Load::of_tasks(haste),
        cpus: 1,
        speed: machine.told_speed(),
        utilisation: peer.meter.utilisation(),
        memory_mib: machine.memory_mib,
        free_mib,
        available_mib: free_mib,
        devices: None,
        ..Info::default()
    }
}
