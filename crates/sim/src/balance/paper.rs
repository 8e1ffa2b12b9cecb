//! The paper's own policies, which know everything: assignment by opportunity cost (E-PVM), and the same with moves
//! that make the whole cheaper (E-MOSIX).
//!
//! The cost of a machine is n^(used memory / memory) + n^(load / L), with n machines; L is discovered by doubling. A
//! job goes where it adds least. They are here to tell whether the simulation resembles the paper's.

use super::policy::Policy;
use super::scenario::{Arrival, MACHINES};
use super::world::World;

/// A job has to be on a machine for so long before it is moved, as with MOSIX.
const RESIDENCY_S: f64 = 1.0;

#[derive(Debug)]
pub(super) struct OpportunityCost {
    load_max: f64,
    moves: bool,
}

impl OpportunityCost {
    pub(super) fn new(moves: bool) -> Self {
        OpportunityCost { load_max: 1.0, moves }
    }

    fn cost(&self, at: usize, jobs: f64, used_mib: f64) -> f64 {
        let (machine, count) = (&MACHINES[at], MACHINES.len() as f64);
        let load = jobs / machine.speed() / self.load_max;
        count.powf(used_mib / f64::from(machine.memory_mib)) + count.powf(load)
    }

    /// What one more job costs.
    fn marginal(&self, world: &World, at: usize, memory_mib: f64) -> f64 {
        let (jobs, used) = (world.nodes[at].jobs.len() as f64, world.nodes[at].used_mib() as f64);
        self.cost(at, jobs + 1.0, used + memory_mib) - self.cost(at, jobs, used)
    }

    fn discover(&mut self, world: &World) {
        let loads = world.nodes.iter().zip(&MACHINES);
        let most = loads.map(|(node, machine)| node.jobs.len() as f64 / machine.speed()).fold(0.0, f64::max);
        while self.load_max < most {
            self.load_max *= 2.0;
        }
    }
}

impl Policy for OpportunityCost {
    fn place(&mut self, world: &World, job: &Arrival) -> usize {
        self.discover(world);
        let costs = (0..MACHINES.len()).map(|at| (self.marginal(world, at, f64::from(job.memory_mib)), at));
        costs.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(job.home, |(_, at)| at)
    }

    fn step(&mut self, world: &mut World, at: usize, now_s: f64) {
        if !self.moves {
            return;
        }
        self.discover(world);
        let (jobs, used) = (world.nodes[at].jobs.len() as f64, world.nodes[at].used_mib() as f64);
        let movable = world.nodes[at].jobs.iter().filter(|job| now_s - job.here_since_s >= RESIDENCY_S);
        let moves = movable.flat_map(|job| {
            let memory = f64::from(job.arrival.memory_mib);
            let saved = self.cost(at, jobs, used) - self.cost(at, jobs - 1.0, used - memory);
            let others = (0..MACHINES.len()).filter(move |to| *to != at);
            others.map(move |to| (saved, memory, job.id, to))
        });
        let moves = moves.map(|(saved, memory, id, to)| (saved - self.marginal(world, to, memory), id, to));
        if let Some((gain, id, to)) = moves.max_by(|a, b| a.0.total_cmp(&b.0))
            && gain > 1e-9
        {
            world.transfer(id, at, to);
        }
    }
}
