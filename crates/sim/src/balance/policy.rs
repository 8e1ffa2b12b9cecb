//! What decides where a job computes.

use super::scenario::Arrival;
use super::world::World;

/// A way to decide.
pub(super) trait Policy {
    /// Where a job is started that arrives now.
    fn place(&mut self, world: &World, job: &Arrival) -> usize;

    /// Called once a second for each machine, each at another moment of the second; may move its jobs.
    fn step(&mut self, _world: &mut World, _at: usize, _now_s: f64) {}
}

/// PVM's: one machine after the other, and nobody moves.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    next: usize,
}

impl Policy for RoundRobin {
    fn place(&mut self, world: &World, _job: &Arrival) -> usize {
        let at = self.next;
        self.next = (at + 1) % world.nodes.len();
        at
    }
}
