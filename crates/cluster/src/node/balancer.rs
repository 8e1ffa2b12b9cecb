//! What a node is waiting for while it moves processes.

mod here;

use std::collections::BTreeMap;

use super::{Action, Config, Sample, Why};
use crate::NodeId;
use crate::balance::{
    Answer, Candidate, Claim, Demand, Growth, Ledger, Other, Prices, ProcessId, Room, Settings, View, Wish,
    place, usher, wishes,
};
use crate::gossip::{Millis, Vector};
use crate::load::Flags;

/// A claim that is not answered by then is forgotten.
const ANSWER_MS: u64 = 3_000;

/// A move that nobody says anything about any more is forgotten after this.
const MOVE_MS: u64 = 60_000;

/// Programs that wait to be placed, and processes that are being moved, at a time.
const PENDING_MAX: usize = 1024;

/// With less than this part of its memory left, a node keeps nothing of processes that are away: giving it back costs no
/// more than that all of it has to travel when they come home.
const TIGHT: f64 = 0.25;

/// How many nodes are asked at once to take a process or a program, one after the other.
const ASKED_MAX: u8 = 3;

/// What a process waits for.
#[derive(Debug, Clone, Copy)]
enum Pending {
    /// An answer, before it moves.
    Answer { to: NodeId, demand: Demand, why: Why, asked: u8 },
    /// An answer, before it begins.
    Place { to: NodeId, demand: Demand, memory_mib: Option<f64>, asked: u8 },
    /// Its move.
    Move,
}

/// What follows from an answer.
#[derive(Debug, Default)]
pub(super) struct Next {
    pub(super) action: Option<Action>,
    pub(super) ask: Option<(NodeId, Claim)>,
}

#[derive(Debug)]
pub(super) struct Balancer {
    view: View,
    ledger: Ledger,
    /// By process, with the time when it is forgotten.
    pending: BTreeMap<ProcessId, (Millis, Pending)>,
    here: Option<Room>,
    growth: Growth,
    /// Of the last sample.
    candidates: Vec<Candidate>,
    flags: Flags,
}

impl Balancer {
    pub(super) fn new() -> Self {
        Balancer {
            view: View::new(),
            ledger: Ledger::new(),
            pending: BTreeMap::new(),
            here: None,
            growth: Growth::default(),
            candidates: Vec::new(),
            flags: Flags::default(),
        }
    }

    pub(super) fn prices(&self, nodes: usize) -> Prices {
        Prices::for_nodes(nodes)
    }

    /// The node as it is, from its own figures.
    pub(super) fn observe(
        &mut self,
        config: &Config,
        now: Millis,
        sample: &Sample,
        flags: Flags,
        prices: &Prices,
    ) -> Room {
        let [memory_mib, _, available_mib] = sample.memory_mib;
        let known: f64 = sample.candidates.iter().map(|it| it.demand.haste).sum();
        let tasks: f64 = sample.candidates.iter().map(|it| it.demand.tasks).sum();
        // What cannot move counts as if it had computed for long, as most of it has.
        let others = (sample.load.tasks() - tasks).max(0.0) * crate::balance::weight(prices, 60.0);
        let used_mib = memory_mib.saturating_sub(available_mib).saturating_add(config.reserve_mib);
        let room = Room {
            cpus: f64::from(config.cpus.max(1)),
            speed: config.speed.relative(),
            tasks: sample.load.tasks().max(tasks),
            haste: known + others,
            memory_mib: f64::from(memory_mib),
            used_mib: f64::from(used_mib),
        };
        self.growth.observe(now, room.used_mib, &sample.candidates);
        self.here = Some(room);
        self.candidates.clone_from(&sample.candidates);
        self.flags = flags;
        room
    }

    /// Whether so little memory is left that nothing is to be kept here of processes that are away.
    pub(super) fn is_tight(&self) -> bool {
        self.here.is_some_and(|here| {
            let reserve_mib = (here.memory_mib * TIGHT).max(self.growth.lead_mib(here.memory_mib));
            here.left_mib() < reserve_mib
        })
    }

    /// Whether its own processes do not leave by themselves.
    pub(super) fn stays(&self) -> bool {
        self.flags.stays
    }

    /// Whom to ask to take whom.
    pub(super) fn step(
        &mut self,
        config: &Config,
        now: Millis,
        prices: &Prices,
        sample: &Sample,
        vector: &Vector,
    ) -> Vec<(NodeId, Claim)> {
        let Some(here) = self.staying_room() else { return Vec::new() };
        let staying = sample.candidates.iter().filter(|it| !self.pending.contains_key(&it.process));
        let staying: Vec<Candidate> = staying.cloned().collect();
        let others = self.others(config, now, vector);
        let urgent = usher(&config.settings, &here, &self.growth, &staying, &others);
        let (why, wishes) = if urgent.is_empty() {
            (Why::Balance, wishes(&config.settings, prices, now, &here, &staying, &others))
        } else {
            (Why::Memory, urgent)
        };
        wishes.into_iter().filter_map(|wish| self.ask(now, wish, why, 0)).collect()
    }

    /// Forgets what nobody has answered; returns the programs that were to be placed.
    pub(super) fn expire(&mut self, now: Millis) -> Vec<ProcessId> {
        let expired = self.pending.extract_if(.., |_, (until, _)| *until <= now);
        let places = expired.filter(|(_, (_, pending))| matches!(pending, Pending::Place { .. }));
        places.map(|(process, _)| process).collect()
    }

    /// A process has begun to compute here, as earlier runs of its program did. Whom to ask to take it; nobody if it is best
    /// here.
    pub(super) fn begin(
        &mut self,
        config: &Config,
        now: Millis,
        prices: &Prices,
        candidate: Candidate,
        vector: &Vector,
    ) -> Option<(NodeId, Claim)> {
        if self.pending.contains_key(&candidate.process) {
            return None;
        }
        self.came(candidate.clone());
        self.ask_begun(config, now, prices, candidate, vector, 0)
    }

    fn ask_begun(
        &mut self,
        config: &Config,
        now: Millis,
        prices: &Prices,
        candidate: Candidate,
        vector: &Vector,
        asked: u8,
    ) -> Option<(NodeId, Claim)> {
        if asked >= ASKED_MAX {
            return None;
        }
        let here = self.staying_room()?;
        let others = self.others(config, now, vector);
        // What it has to earn those have that were before it.
        let settings = Settings { residency_ms: 0, computed_min_s: 0.0, ..config.settings.clone() };
        let wish = wishes(&settings, prices, now, &here, &[candidate], &others).into_iter().next()?;
        self.ask(now, wish, Why::Beginning, asked)
    }

    fn others(&mut self, config: &Config, now: Millis, vector: &Vector) -> Vec<Other> {
        self.view.others(now, config.own.node, vector)
    }

    /// The node without those that are leaving, which are as good as gone.
    fn staying_room(&self) -> Option<Room> {
        let leaving = self.candidates.iter().filter(|it| self.pending.contains_key(&it.process));
        Some(leaving.fold(self.here?, |room, it| room.without(&it.demand)))
    }

    /// Whom else to ask to take a process that somebody has refused.
    fn ask_again(
        &mut self,
        config: &Config,
        now: Millis,
        prices: &Prices,
        process: ProcessId,
        asked: u8,
        vector: &Vector,
    ) -> Option<(NodeId, Claim)> {
        if asked >= ASKED_MAX {
            return None;
        }
        let here = self.staying_room()?;
        let it = self.candidates.iter().find(|it| it.process == process)?.clone();
        let others = self.others(config, now, vector);
        let wish = wishes(&config.settings, prices, now, &here, &[it], &others).into_iter().next()?;
        self.ask(now, wish, Why::Balance, asked)
    }

    fn ask(&mut self, now: Millis, wish: Wish, why: Why, asked: u8) -> Option<(NodeId, Claim)> {
        if self.pending.len() >= PENDING_MAX {
            return None;
        }
        let pending = Pending::Answer { to: wish.to, demand: wish.claim.demand, why, asked: asked + 1 };
        self.pending.insert(wish.claim.process, (now + ANSWER_MS, pending));
        Some((wish.to, wish.claim))
    }

    /// Whom to ask first to take a program that begins; nobody if it is best here.
    pub(super) fn place(
        &mut self,
        config: &Config,
        now: Millis,
        prices: &Prices,
        process: ProcessId,
        memory_mib: Option<f64>,
        vector: &Vector,
    ) -> Option<(NodeId, Claim)> {
        self.ask_place(config, now, prices, process, memory_mib, vector, 0)
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different thing, and they are used once")]
    fn ask_place(
        &mut self,
        config: &Config,
        now: Millis,
        prices: &Prices,
        process: ProcessId,
        memory_mib: Option<f64>,
        vector: &Vector,
        asked: u8,
    ) -> Option<(NodeId, Claim)> {
        let here = self.here.filter(|_| asked < ASKED_MAX && self.pending.len() < PENDING_MAX)?;
        let others = self.others(config, now, vector);
        let better = place(&config.settings, prices, process, &here, memory_mib, &others);
        let wish = better.first()?;
        // Who was refused has departed already, as far as this goes.
        if memory_mib.is_none() && asked == 0 && !self.ledger.depart(now) {
            return None;
        }
        let demand = wish.claim.demand;
        let pending = Pending::Place { to: wish.to, demand, memory_mib, asked: asked + 1 };
        self.pending.insert(process, (now + ANSWER_MS, pending));
        Some((wish.to, wish.claim))
    }

    /// Whether somebody else's process may come.
    pub(super) fn consider(&mut self, now: Millis, prices: &Prices, from: NodeId, claim: &Claim) -> Answer {
        const UNKNOWN: Room =
            Room { cpus: 1.0, speed: 1.0, tasks: 0.0, haste: 0.0, memory_mib: 0.0, used_mib: 0.0 };
        // Before it has looked at itself a node has no memory to give.
        let here = self.here.unwrap_or(UNKNOWN);
        // What is going to be used by those who are here is not to be had.
        let used_mib = here.used_mib + self.growth.lead_mib(here.memory_mib);
        let here = Room { used_mib, ..here };
        self.ledger.consider(now, prices, &here, self.flags, from, claim)
    }

    /// Somebody said whether a process may come.
    pub(super) fn answered(
        &mut self,
        config: &Config,
        now: Millis,
        prices: &Prices,
        from: NodeId,
        answer: &Answer,
        vector: &Vector,
    ) -> Next {
        let Some((_, pending)) = self.pending.get(&answer.process).copied() else { return Next::default() };
        let (Pending::Answer { to, demand, .. } | Pending::Place { to, demand, .. }) = pending else {
            return Next::default();
        };
        // Only who was asked can answer.
        if to != from {
            return Next::default();
        }
        self.pending.remove(&answer.process);
        self.view.hear(now, from, answer.room);
        let process = answer.process;
        match (answer.outcome, pending) {
            (Ok(()), Pending::Answer { why, .. }) => {
                self.view.send(from, &demand);
                self.pending.insert(process, (now + MOVE_MS, Pending::Move));
                Next { action: Some(Action::Move(process, from, why)), ask: None }
            }
            (Ok(()), _) => {
                self.view.send(from, &demand);
                Next { action: Some(Action::Place(process, Some(from))), ask: None }
            }
            (Err(_), Pending::Place { memory_mib, asked, .. }) => {
                match self.ask_place(config, now, prices, process, memory_mib, vector, asked) {
                    Some(ask) => Next { action: None, ask: Some(ask) },
                    None => Next { action: Some(Action::Place(process, None)), ask: None },
                }
            }
            (Err(_), Pending::Answer { why: Why::Beginning, asked, .. }) => {
                let begun = self.candidates.iter().find(|it| it.process == process).cloned();
                let ask = |begun| self.ask_begun(config, now, prices, begun, vector, asked);
                Next { action: None, ask: begun.and_then(ask) }
            }
            (Err(_), Pending::Answer { why: Why::Balance, asked, .. }) => {
                Next { action: None, ask: self.ask_again(config, now, prices, process, asked, vector) }
            }
            (Err(_), _) => Next::default(),
        }
    }

    pub(super) fn settled(&mut self, process: ProcessId) {
        self.pending.remove(&process);
    }

    pub(super) fn arrived(&mut self, from: NodeId, process: ProcessId) {
        self.ledger.settle(from, process);
    }

    /// What a process has that was promised room here, now that it has come.
    pub(super) fn received(&mut self, process: ProcessId) -> Option<Demand> {
        let demand = self.ledger.take(process)?;
        self.growth.expect(demand.memory_mib);
        Some(demand)
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.ledger.forget(node);
        for (until, pending) in self.pending.values_mut() {
            // It will not answer any more. How a move there ends is told by whoever makes it.
            if matches!(pending, Pending::Answer { to, .. } | Pending::Place { to, .. } if *to == node) {
                *until = 0;
            }
        }
    }
}
