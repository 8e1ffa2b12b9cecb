//! Machines that share their processor among their jobs.
//!
//! All jobs of a machine get equal parts of its processor. While they occupy more memory than there is, the machine
//! swaps, and everything on it takes ten times as long. A job that is being moved stands still, and has its place on
//! the machine that it goes to.

use super::scenario::{Arrival, MACHINES};

/// How many times longer everything takes on a machine that swaps: the paper's figure.
const SWAPPING: f64 = 10.0;

/// A job that needs no more than this has ended; far below anything that matters, far above errors of rounding.
const NOTHING_S: f64 = 1e-7;

/// A job in the system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) id: u32,
    pub(super) arrival: Arrival,
    /// Seconds of the fastest machine that it still needs.
    left_s: f64,
    /// Seconds of a processor that it has used, of whatever speed.
    pub(super) used_s: f64,
    /// When it came to the machine where it is.
    pub(super) here_since_s: f64,
    frozen_until_s: f64,
}

/// A machine with its jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// In the order in which they came.
    pub(super) jobs: Vec<Job>,
    now_s: f64,
    /// Job-seconds since somebody last asked, and when that was.
    load_s: f64,
    asked_s: f64,
}

/// All machines.
#[derive(Debug, Clone)]
pub(super) struct World {
    /// As [`MACHINES`] describes them.
    pub(super) nodes: Vec<Node>,
    move_mib_s: f64,
    /// Sum of the slowdowns of the jobs that have ended.
    pub(super) slowdowns: f64,
    pub(super) ended: usize,
    pub(super) moves: usize,
}

impl Node {
    /// Memory that its jobs occupy.
    pub(super) fn used_mib(&self) -> u64 {
        self.jobs.iter().map(|job| u64::from(job.arrival.memory_mib)).sum()
    }

    /// Mean number of jobs since this was last asked.
    pub(super) fn take_load(&mut self) -> f64 {
        let time = self.now_s - self.asked_s;
        let load = if time > 0.0 { self.load_s / time } else { self.jobs.len() as f64 };
        (self.load_s, self.asked_s) = (0.0, self.now_s);
        load
    }
}

impl World {
    /// Idle machines, between which so much memory is moved in a second.
    pub(super) fn new(move_mib_s: f64) -> Self {
        let nodes = vec![Node::default(); MACHINES.len()];
        World { nodes, move_mib_s, slowdowns: 0.0, ended: 0, moves: 0 }
    }

    /// Nobody is left.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.iter().all(|node| node.jobs.is_empty())
    }

    /// Lets time pass on all machines.
    pub(super) fn advance(&mut self, to_s: f64) {
        for at in 0..self.nodes.len() {
            while self.nodes[at].now_s < to_s {
                self.advance_to_next_change(at, to_s);
            }
        }
    }

    /// Lets time pass on one machine until a job ends, one comes to life, or the time is over.
    fn advance_to_next_change(&mut self, at: usize, to_s: f64) {
        let (machine, node) = (&MACHINES[at], &mut self.nodes[at]);
        let now_s = node.now_s;
        let active = |job: &Job| job.frozen_until_s <= now_s;
        let running = node.jobs.iter().filter(|job| active(job)).count();
        let swapping = node.used_mib() > u64::from(machine.memory_mib);
        let share = 1.0 / running.max(1) as f64 / if swapping { SWAPPING } else { 1.0 };
        let rate = machine.speed() * share;
        let change = |job: &Job| if active(job) { now_s + job.left_s / rate } else { job.frozen_until_s };
        let next_s = node.jobs.iter().map(change).fold(to_s, f64::min);
        let time_s = next_s - now_s;
        node.load_s += time_s * node.jobs.len() as f64;
        for job in node.jobs.iter_mut().filter(|job| active(job)) {
            job.left_s -= time_s * rate;
            job.used_s += time_s * share;
            if job.left_s <= NOTHING_S {
                self.slowdowns += (next_s - job.arrival.at_s) / job.arrival.cpu_s;
                self.ended += 1;
            }
        }
        node.jobs.retain(|job| job.left_s > NOTHING_S);
        node.now_s = next_s;
    }

    /// Starts a job on a machine, which has to have been followed up to its arrival.
    pub(super) fn start(&mut self, id: u32, arrival: Arrival, at: usize) {
        self.nodes[at].jobs.push(Job {
            id,
            arrival,
            left_s: arrival.cpu_s,
            used_s: 0.0,
            here_since_s: arrival.at_s,
            frozen_until_s: arrival.at_s,
        });
    }

    /// Moves a job, which stands still while its memory is sent.
    pub(super) fn transfer(&mut self, id: u32, from: usize, to: usize) {
        let Some(position) = self.nodes[from].jobs.iter().position(|job| job.id == id) else { return };
        let mut job = self.nodes[from].jobs.remove(position);
        job.here_since_s = self.nodes[from].now_s;
        job.frozen_until_s = job.here_since_s + f64::from(job.arrival.memory_mib) / self.move_mib_s;
        self.nodes[to].jobs.push(job);
        self.moves += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::MEMORY_MIB;
    use super::*;

    fn job(at_s: f64, cpu_s: f64, memory_mib: u32) -> Arrival {
        Arrival { at_s, home: 0, cpu_s, memory_mib }
    }

    #[test]
    fn jobs_share_a_machine_equally() {
        let mut world = World::new(1e9);
        world.start(0, job(0.0, 1.0, 0), 0);
        world.start(1, job(0.0, 3.0, 0), 0);
        // Both get half until the first has had its second; the other needs two more of its own.
        world.advance(1.9);
        assert_eq!(world.ended, 0);
        world.advance(10.0);
        assert_eq!(world.ended, 2);
        assert!((world.slowdowns - (2.0 + 4.0 / 3.0)).abs() < 1e-6);
        assert!((world.nodes[0].take_load() - 0.6).abs() < 1e-6);
    }

    #[test]
    fn slow_machines_take_longer_and_swapping_ones_much_longer() {
        let check = |at, memory_mib, expected: f64| {
            let mut world = World::new(1e9);
            world.start(0, job(0.0, 1.0, memory_mib), at);
            world.advance(100.0);
            assert!((world.slowdowns - expected).abs() < 1e-5, "{at} {memory_mib}: {}", world.slowdowns);
        };
        check(0, MEMORY_MIB, 1.0);
        check(0, MEMORY_MIB + 1, 10.0);
        check(5, 0, 1.0 / 0.45);
    }

    #[test]
    fn a_job_stands_still_while_it_is_moved() {
        let mut world = World::new(100.0);
        world.start(0, job(0.0, 2.0, 200), 0);
        world.advance(1.0);
        world.transfer(0, 0, 1);
        world.advance(20.0);
        assert_eq!((world.ended, world.moves), (1, 1));
        assert!((world.slowdowns - 2.0).abs() < 1e-6);
    }
}
