//! Minka's policy: the code of [`minka_cluster::balance`], with simulated figures.

use minka_cluster::balance::{
    Candidate, Claim, Demand, Growth, Ledger, Prices, ProcessId, Room, Settings, View, Wish, place, usher,
    wishes,
};
use minka_cluster::load::Flags;

use super::policy::Policy;
use super::rumours::{Rumours, machine, millis, node};
use super::scenario::{Arrival, MACHINES, MEMORY_MIB};
use super::world::{Job, World};

/// How many machines are asked to take a job that starts.
const TRIES_MAX: usize = 4;

/// What a job is thought to need of which nothing is known yet, in percent of the largest machine's memory.
const UNKNOWN_PERCENT: f64 = 3.0;

#[derive(Debug)]
pub(super) struct Ours {
    rumours: Rumours,
    views: Vec<View>,
    ledgers: Vec<Ledger>,
    settings: Settings,
    prices: Prices,
    /// Jobs are placed when they start, and not only moved later.
    places: bool,
}

impl Ours {
    pub(super) fn new(seed: u64, move_mib_s: f64, places: bool) -> Self {
        Ours {
            rumours: Rumours::new(seed),
            views: vec![View::new(); MACHINES.len()],
            ledgers: vec![Ledger::new(); MACHINES.len()],
            settings: Settings {
                move_mib_s,
                unknown_mib: f64::from(MEMORY_MIB) * UNKNOWN_PERCENT / 100.0,
                ..Settings::default()
            },
            prices: Prices::for_nodes(MACHINES.len()),
            places,
        }
    }

    fn demand(&self, job: &Job) -> Demand {
        Demand::new(&self.prices, 1.0, job.used_s, f64::from(job.arrival.memory_mib))
    }

    /// A machine as it knows itself.
    fn room(&self, world: &World, at: usize) -> Room {
        let machine = &MACHINES[at];
        let empty = Room {
            cpus: 1.0,
            speed: machine.told_speed().relative(),
            tasks: 0.0,
            haste: 0.0,
            memory_mib: f64::from(machine.memory_mib),
            used_mib: 0.0,
        };
        world.nodes[at].jobs.iter().fold(empty, |room, job| room.with(&self.demand(job)))
    }

    fn candidate(&self, job: &Job) -> Candidate {
        Candidate {
            process: ProcessId(u64::from(job.id)),
            uid: self.settings.uid_min,
            program: String::new(),
            cgroup: String::new(),
            started: false,
            locked: false,
            demand: self.demand(job),
            computed_s: job.used_s,
            here_since: millis(job.here_since_s),
            calls_per_s: 0.0,
            home: None,
        }
    }

    /// Asks a machine to take a job.
    fn ask(&mut self, world: &World, at: usize, now_s: f64, to: usize, claim: &Claim) -> bool {
        let exact = self.room(world, to);
        let answer =
            self.ledgers[to].consider(millis(now_s), &self.prices, &exact, Flags::default(), node(at), claim);
        self.views[at].hear(millis(now_s), node(to), answer.room);
        if answer.outcome.is_err() {
            return false;
        }
        // It comes at once, and is then among those that are there.
        self.ledgers[to].settle(node(at), claim.process);
        self.views[at].send(node(to), &claim.demand);
        true
    }

    fn carry_out(&mut self, world: &mut World, at: usize, now_s: f64, wish: &Wish) -> bool {
        let (to, id) = (machine(wish.to), wish.claim.process.0 as u32);
        let granted = self.ask(world, at, now_s, to, &wish.claim);
        if granted {
            world.transfer(id, at, to);
        }
        granted
    }
}

impl Policy for Ours {
    fn place(&mut self, world: &World, job: &Arrival) -> usize {
        if !self.places || !self.ledgers[job.home].depart(millis(job.at_s)) {
            return job.home;
        }
        for _ in 0..TRIES_MAX {
            let (now, own) = (millis(job.at_s), node(job.home));
            let others = self.views[job.home].others(now, own, &self.rumours.peers[job.home].vector);
            let here = self.room(world, job.home);
            let process = ProcessId(u64::MAX);
            let better = place(&self.settings, &self.prices, process, &here, None, &others);
            let Some(wish) = better.first() else { break };
            let to = machine(wish.to);
            if self.ask(world, job.home, job.at_s, to, &wish.claim) {
                return to;
            }
        }
        job.home
    }

    fn step(&mut self, world: &mut World, at: usize, now_s: f64) {
        let here = self.room(world, at);
        self.rumours.step(world, at, now_s, here.haste);
        let candidates: Vec<Candidate> = world.nodes[at].jobs.iter().map(|job| self.candidate(job)).collect();
        let now = millis(now_s);
        let others = self.views[at].others(now, node(at), &self.rumours.peers[at].vector);
        let urgent = usher(&self.settings, &here, &Growth::default(), &candidates, &others);
        if urgent.first().is_some_and(|wish| self.carry_out(world, at, now_s, wish)) {
            return;
        }
        for wish in wishes(&self.settings, &self.prices, now, &here, &candidates, &others) {
            self.carry_out(world, at, now_s, &wish);
        }
    }
}
