//! What do whole nodes do when something fails? State machines of [`minka_cluster::node`], and a network between them.
//!
//! A run has these parts, one after the other, each of which ends as soon as what is waited for has happened:
//!
//! ```text
//!   join        all ask the first node to be taken in      until everybody knows that everybody is up
//!   rest        half a minute                              what a node sends in it
//!   load        eight processes for each node, all begin   until no two nodes have numbers of processes that differ
//!               on every eighth node                       by more than two, and half a minute after that
//!   death       some nodes die                             until all others know
//!   partition   the network is in two halves for a while   and then until everybody knows that everybody is up
//! ```
//!
//! Datagrams take twenty milliseconds; they may be lost, all the time. Some nodes may be slow: they take up what arrives
//! and what is due a third of a second late.

mod net;

use minka_cluster::balance::ProcessId;
use serde::Serialize;

use net::Net;

/// Most nodes. Each keeps a list of all, so the work grows with the cube of their number; see [`crate::gossip`] for more.
pub const NODES_MAX: u32 = 1000;

/// Nothing is waited for longer, in seconds.
const PATIENCE_S: u64 = 300;

/// The rest, in seconds.
const REST_S: u64 = 30;

/// Processes for each node.
const PROCESSES: u64 = 8;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Nodes; at most [`NODES_MAX`].
    pub nodes: u32,
    /// What chance begins with.
    pub seed: u64,
    /// Part of the datagrams that are lost.
    pub loss: f64,
    /// Part of the nodes that die.
    pub dead: f64,
    /// Part of the nodes that are slow.
    pub slow: f64,
    /// How long the network is in two halves, in seconds; not at all if 0.
    pub partition_s: u64,
}

/// What was seen. Times are in seconds, and none of what did not happen in five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Report {
    /// Nodes.
    pub nodes: u32,
    /// Until everybody knew everybody.
    pub join_s: Option<f64>,
    /// What a node sent at rest, in bytes of datagrams a second, of gossip and membership.
    pub bytes_per_s: f64,
    /// The most that any node sent.
    pub bytes_per_s_max: f64,
    /// Until the processes were spread evenly.
    pub balance_s: Option<f64>,
    /// How often a process was moved until then.
    pub moves: f64,
    /// How often a process was moved in the half minute after that.
    pub restless_moves: f64,
    /// Until all knew of the dead; none if nobody died.
    pub death_s: Option<f64>,
    /// Processes that computed on nodes that died, and processes that were lost in all: the same number.
    pub processes_on_dead: u64,
    /// See `processes_on_dead`.
    pub processes_lost: u64,
    /// From the end of the partition until everybody knew everybody; none without one.
    pub heal_s: Option<f64>,
    /// How often a node was said to be down that was not, while the network was whole.
    pub wrong_downs: u64,
}

impl Trial {
    /// A cluster without faults.
    pub fn new(nodes: u32, seed: u64) -> Self {
        Trial { nodes: nodes.clamp(2, NODES_MAX), seed, loss: 0.0, dead: 0.0, slow: 0.0, partition_s: 0 }
    }

    /// Goes through all parts.
    pub fn run(&self) -> Report {
        let mut net = Net::new(self);
        let join_s = until(&mut net, Net::all_know_all);
        net.reset_bytes();
        net.run_s(REST_S);
        let (bytes_per_s, bytes_per_s_max) = net.bytes_per_s(REST_S);
        let count = PROCESSES * u64::from(self.nodes);
        for process in 0..count {
            let loaded = (process % u64::from(self.nodes.div_ceil(8))) * 8;
            net.start(loaded as usize, ProcessId(process));
        }
        let balance_s = until(&mut net, |net| net.spread() <= 2);
        let moves = net.moves() as f64 / count as f64;
        net.run_s(REST_S);
        let restless_moves = net.moves() as f64 / count as f64 - moves;
        let (processes_on_dead, death_s) = if self.dead > 0.0 {
            (net.kill(self.dead), until(&mut net, Net::all_know_all))
        } else {
            (0, None)
        };
        let wrong_downs = net.wrong_downs();
        let heal_s = if self.partition_s > 0 {
            net.cut(true);
            net.run_s(self.partition_s);
            net.cut(false);
            until(&mut net, Net::all_know_all)
        } else {
            None
        };
        let processes_lost = count - net.processes();
        Report {
            nodes: self.nodes,
            join_s,
            bytes_per_s,
            bytes_per_s_max,
            balance_s,
            moves,
            restless_moves,
            death_s,
            processes_on_dead,
            processes_lost,
            heal_s,
            wrong_downs,
        }
    }
}

/// How long it takes until something holds.
fn until(net: &mut Net, holds: impl Fn(&Net) -> bool) -> Option<f64> {
    let start = net.now();
    while net.now() - start < PATIENCE_S * 1000 {
        net.tick();
        if net.now().is_multiple_of(200) && holds(net) {
            return Some((net.now() - start) as f64 / 1000.0);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_find_each_other_spread_their_work_and_the_same_seed_gives_the_same_run() {
        let report = Trial::new(24, 1).run();
        assert!(report.join_s.is_some_and(|time| time < 20.0), "{report:?}");
        assert!(report.balance_s.is_some_and(|time| time < 15.0), "{report:?}");
        assert!(report.moves < 1.5 && report.restless_moves < 0.2 && report.wrong_downs == 0, "{report:?}");
        assert!(report.bytes_per_s_max < 3000.0, "{report:?}");
        assert_eq!(report, Trial::new(24, 1).run());
    }

    #[test]
    fn equal_processes_spread_evenly_in_a_few_steps_and_stay() {
        for seed in 1..=20 {
            let mut net = Net::new(&Trial::new(4, seed));
            assert!(until(&mut net, Net::all_know_all).is_some());
            net.run_s(5);
            (0..32).for_each(|process| net.start(0, ProcessId(process)));
            let balance_s = until(&mut net, |net| net.spread() == 0);
            assert!(balance_s.is_some_and(|time| time <= 5.0), "seed {seed}: {balance_s:?}");
            let moves = net.moves();
            assert!((24..=32).contains(&moves), "seed {seed}: {moves}");
            net.run_s(120);
            assert_eq!((net.moves(), net.spread()), (moves, 0), "seed {seed}");
        }
    }

    #[test]
    fn the_dead_are_noticed_and_only_what_computed_there_is_lost() {
        let report = Trial { dead: 0.25, loss: 0.05, ..Trial::new(24, 2) }.run();
        assert!(report.death_s.is_some_and(|time| time < 60.0), "{report:?}");
        assert!(report.processes_on_dead > 0, "{report:?}");
        assert_eq!(report.processes_lost, report.processes_on_dead, "{report:?}");
    }

    #[test]
    fn two_halves_find_each_other_again() {
        let report = Trial { partition_s: 40, ..Trial::new(24, 3) }.run();
        assert!(report.heal_s.is_some_and(|time| time < 120.0), "{report:?}");
        assert_eq!((report.processes_lost, report.wrong_downs), (0, 0), "{report:?}");
    }

    #[test]
    fn slow_nodes_are_not_taken_for_dead() {
        let report = Trial { slow: 0.25, ..Trial::new(24, 4) }.run();
        assert!(report.join_s.is_some() && report.wrong_downs == 0, "{report:?}");
    }
}
