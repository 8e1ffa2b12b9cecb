//! MOSIX's policy, from its published sources (the functions in Kerrighed's scheduler that say of themselves to be
//! MOSIX's, simplified) and its descriptions.
//!
//! Each second each machine takes its second busiest process (the busiest if it is alone) and looks for the machine
//! with the least `stable(i) = load(i) + 1.3 × load of one process there`, all loads being those of a standard processor.
//! If that is less than its own load, the process goes there. Loads of others are their upper averages, its own is the
//! mean one. A machine that is short of memory sends the smallest process that is large enough to where it fits best,
//! before anything else. A process stays for a second at least.
//!
//! Where the sources leave something open it is decided in favour of this policy: it does not send a process where it
//! knows that there is no memory for it, and looks at all machines that it knows.

use minka_cluster::load::{Load, STANDARD_SPEED};

use super::policy::Policy;
use super::rumours::{Rumours, machine, node};
use super::scenario::{Arrival, MACHINES};
use super::world::{Job, World};

/// `stab_factor`, in percent.
const STABILITY_PERCENT: u64 = 130;

const RESIDENCY_S: f64 = 1.0;

#[derive(Debug)]
pub(super) struct Mosix {
    rumours: Rumours,
}

impl Mosix {
    pub(super) fn new(seed: u64) -> Self {
        Mosix { rumours: Rumours::new(seed) }
    }

    /// Who has to leave for memory's sake, and where to.
    fn usher(&self, world: &World, at: usize, movable: &[&Job]) -> Option<(u32, usize)> {
        let short = world.nodes[at].used_mib().checked_sub(u64::from(MACHINES[at].memory_mib) + 1)?;
        let mut by_size = movable.to_vec();
        by_size.sort_by_key(|job| job.arrival.memory_mib);
        let (small, large) =
            by_size.split_at(by_size.partition_point(|job| u64::from(job.arrival.memory_mib) <= short));
        large.iter().chain(small.iter().rev()).find_map(|job| {
            let vector = &self.rumours.peers[at].vector;
            let fitting = vector.iter().filter(|known| known.node != node(at));
            let fitting = fitting.filter(|known| known.info.available_mib >= job.arrival.memory_mib);
            let best = fitting.min_by_key(|known| (known.info.available_mib, known.node))?;
            Some((job.id, machine(best.node)))
        })
    }

    fn balance(&self, at: usize, movable: &[&Job]) -> Option<(u32, usize)> {
        // All share the processor equally, so those that are here longest have the highest average.
        let mut by_use = movable.to_vec();
        by_use.sort_by(|a, b| a.here_since_s.total_cmp(&b.here_since_s));
        let job = by_use.get(1).or_else(|| by_use.first())?;
        let peer = &self.rumours.peers[at];
        let standard =
            |load: Load, speed: u32| u64::from(load.0) * u64::from(STANDARD_SPEED) / u64::from(speed);
        let others = peer.vector.iter().filter(|known| known.node != node(at));
        let others = others.filter(|known| known.info.available_mib >= job.arrival.memory_mib);
        let stable = others.map(|known| {
            let speed = known.info.speed.get();
            let one = standard(Load::TASK, speed) * STABILITY_PERCENT / 100;
            (standard(known.info.load, speed) + one, known.node)
        });
        let (stable, to) = stable.min()?;
        let own = standard(peer.meter.mean(), MACHINES[at].told_speed().get());
        (stable < own).then_some((job.id, machine(to)))
    }
}

impl Policy for Mosix {
    fn place(&mut self, _world: &World, job: &Arrival) -> usize {
        job.home
    }

    fn step(&mut self, world: &mut World, at: usize, now_s: f64) {
        self.rumours.step(world, at, now_s, 0.0);
        let jobs = world.nodes[at].jobs.iter();
        let movable: Vec<&Job> = jobs.filter(|job| now_s - job.here_since_s >= RESIDENCY_S).collect();
        let chosen = self.usher(world, at, &movable).or_else(|| self.balance(at, &movable));
        if let Some((id, to)) = chosen {
            world.transfer(id, at, to);
        }
    }
}
