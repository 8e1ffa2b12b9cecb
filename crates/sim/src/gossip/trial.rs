//! One cluster that gossips.

use minka_cluster::NodeId;
use minka_cluster::gossip::ages::expected;
use minka_cluster::gossip::{Datagram, Millis, Vector};
use minka_cluster::load::{Info, Load};
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// A step, in milliseconds.
const STEP_MS: u64 = 1000;

/// Nodes whose knowledge is looked at.
const OBSERVERS: usize = 200;

/// After how many steps ages are looked at again; less would find nearly the same.
const LOOK_STEPS: u64 = 10;

/// The steps at which nodes die, and at which the others know.
const DEAD: u64 = 30;
const FORGOTTEN: u64 = 40;

/// How many steps a slow node takes for one.
const SLOWNESS: u64 = 4;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// Part of the datagrams that are lost.
    pub loss: f64,
    /// Part of the nodes that die after half a minute; ten seconds later the others know that they are down.
    pub dead: f64,
    /// Part of the nodes that take four times as long for everything.
    pub slow: f64,
    /// For so many seconds at the beginning the network is in two halves.
    pub partition_s: u64,
}

/// A cluster to try.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Nodes; at least two, and no more than there are numbers for.
    pub nodes: u32,
    /// Entries of a window.
    pub window: u32,
    /// What chance begins with.
    pub seed: u64,
    /// How many others a node remembers that is not looked at.
    pub remembered: usize,
    /// What goes wrong.
    pub faults: Faults,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) mean: f64,
    pub(super) max: f64,
    pub(super) bytes_per_s: f64,
    pub(super) unknown: f64,
}

/// Sums over all looks.
#[derive(Debug, Default)]
struct Sums {
    looks: f64,
    mean: f64,
    max: f64,
    unknown: f64,
}

struct Cluster {
    vectors: Vec<Vector>,
    mortal: Vec<usize>,
    alive: Vec<bool>,
    slow: Vec<bool>,
    random: Xoshiro256PlusPlus,
    bytes: u64,
    sent: u64,
}

impl Trial {
    /// A cluster without faults.
    pub fn new(nodes: u32, window: u32, seed: u64) -> Self {
        let nodes = nodes.clamp(2, u32::from(u16::MAX));
        Trial { nodes, window, seed, remembered: 128, faults: Faults::default() }
    }

    /// Lets it gossip until ages no longer depend on how it began, and looks at them.
    pub(super) fn run(&self) -> Measured {
        let mut cluster = self.cluster();
        let spread = expected(self.nodes, self.window).map_or(40.0, |ages| ages.max);
        let delivered = (1.0 - self.faults.loss).max(0.1) * (1.0 - self.faults.slow * 0.75);
        let warm_up = (1.25 * spread / delivered) as u64 + FORGOTTEN + 10 + self.faults.partition_s;
        let looked_at = if self.nodes > 1000 { 200 } else { 2000 };
        let mut sums = Sums::default();
        for step in 0..warm_up + looked_at {
            if step == warm_up {
                (cluster.bytes, cluster.sent) = (0, 0);
            }
            cluster.step(step, &self.faults);
            if step >= warm_up && step % LOOK_STEPS == 0 {
                cluster.look((step + 1) * STEP_MS, &mut sums);
            }
        }
        Measured {
            mean: sums.mean / sums.looks,
            max: sums.max / sums.looks,
            bytes_per_s: cluster.bytes as f64 / cluster.sent.max(1) as f64,
            unknown: sums.unknown / sums.looks,
        }
    }

    fn cluster(&self) -> Cluster {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let count = self.nodes as usize;
        let vector = |at: usize| {
            let capacity = if at < OBSERVERS { count } else { self.remembered };
            Vector::new(node(at), 0, self.window as usize, capacity)
        };
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut random);
        let mut slow = vec![false; count];
        let part = |part: f64| (part * count as f64) as usize;
        order.iter().rev().take(part(self.faults.slow)).for_each(|at| slow[*at] = true);
        order.truncate(part(self.faults.dead).min(count - 2));
        let vectors = (0..count).map(vector).collect();
        Cluster { vectors, mortal: order, alive: vec![true; count], slow, random, bytes: 0, sent: 0 }
    }
}

fn node(at: usize) -> NodeId {
    const FIRST: NodeId = match NodeId::new(1) {
        Some(node) => node,
        None => unreachable!(),
    };
    u16::try_from(at + 1).ok().and_then(NodeId::new).unwrap_or(FIRST)
}

impl Cluster {
    /// All nodes make their step, in the order in which their seconds begin.
    fn step(&mut self, step: u64, faults: &Faults) {
        let count = self.vectors.len();
        let mut datagram = Vec::new();
        if step == DEAD {
            self.mortal.iter().for_each(|at| self.alive[*at] = false);
        }
        if step == FORGOTTEN {
            for vector in &mut self.vectors {
                self.mortal.iter().for_each(|dead| vector.forget(node(*dead)));
            }
        }
        for at in 0..count {
            let phase = STEP_MS * at as u64 / count as u64;
            let tired = self.slow[at] && !(step + at as u64).is_multiple_of(SLOWNESS);
            if !self.alive[at] || tired {
                continue;
            }
            let now = step * STEP_MS + phase;
            self.vectors[at].refresh(now, info(step));
            let to = self.choose(at);
            Datagram::write(node(at), self.vectors[at].window(now), &mut datagram);
            self.bytes += datagram.len() as u64;
            self.sent += 1;
            let cut = step < faults.partition_s && (at < count / 2) != (to < count / 2);
            let lost = faults.loss > 0.0 && self.random.random_bool(faults.loss);
            if cut || lost {
                continue;
            }
            // What a node writes, another can read.
            if let Ok(datagram) = Datagram::read(&datagram) {
                self.vectors[to].merge(now, datagram.entries);
            }
        }
    }

    /// Another node, each as likely as any other that is alive.
    fn choose(&mut self, at: usize) -> usize {
        let count = self.vectors.len();
        loop {
            let to = (at + self.random.random_range(1..count)) % count;
            if self.alive[to] {
                return to;
            }
        }
    }

    /// How old what the observers know of the others is.
    fn look(&self, now: Millis, sums: &mut Sums) {
        let others = self.alive.iter().filter(|alive| **alive).count() - 1;
        for at in (0..OBSERVERS.min(self.vectors.len())).filter(|at| self.alive[*at]) {
            let (mut sum, mut max, mut known) = (0, 0, 0_usize);
            for other in self.vectors[at].iter().filter(|known| known.node != node(at)) {
                let age = other.age_ms(now);
                sum += age;
                max = max.max(age);
                known += 1;
            }
            sums.looks += 1.0;
            sums.mean += sum as f64 / known.max(1) as f64 / STEP_MS as f64;
            sums.max += max as f64 / STEP_MS as f64;
            sums.unknown += (others - known.min(others)) as f64 / others.max(1) as f64;
        }
    }
}

fn info(step: u64) -> Info {
    Info { load: Load((step % 1000) as u32), cpus: 1, ..Info::default() }
}
