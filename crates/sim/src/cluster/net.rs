//! The nodes, their processes and the network between them.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use minka_cluster::NodeId;
use minka_cluster::balance::{Candidate, Demand, Presence, Prices, ProcessId};
use minka_cluster::gossip::Millis;
use minka_cluster::load::Load;
use minka_cluster::membership::Peer;
use minka_cluster::node::{Action, Config, Node, Sample};
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::Trial;

/// Time goes on in these steps; a datagram takes one.
const TICK_MS: u64 = 20;

/// A node's step.
const STEP_MS: u64 = 1000;

/// What a slow node is late by.
const SLOW_MS: u64 = 340;

/// What a move takes.
const MOVE_MS: u64 = 100;

/// Of a node and of a process.
const MEMORY_MIB: u32 = 16_000;
const PROCESS_MIB: u32 = 50;

/// A process that computes for ever.
#[derive(Debug, Clone, Copy)]
struct Process {
    here_since: Millis,
    computed_s: f64,
}

/// A process on its way.
#[derive(Debug, Clone, Copy)]
struct Moving {
    process: ProcessId,
    from: usize,
    to: usize,
}

struct Datagram {
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

pub(super) struct Net {
    nodes: Vec<Node>,
    alive: Vec<bool>,
    slow: Vec<bool>,
    processes: Vec<BTreeMap<ProcessId, Process>>,
    now: Millis,
    loss: f64,
    cut: bool,
    ever_cut: bool,
    /// By the time at which they happen, each queue in the order in which it was filled.
    datagrams: BTreeMap<Millis, VecDeque<Datagram>>,
    moving: BTreeMap<Millis, Vec<Moving>>,
    random: Xoshiro256PlusPlus,
    sent: Vec<u64>,
    moves: u64,
    wrong_downs: u64,
}

fn node(at: usize) -> NodeId {
    const FIRST: NodeId = match NodeId::new(1) {
        Some(node) => node,
        None => unreachable!(),
    };
    u16::try_from(at + 1).ok().and_then(NodeId::new).unwrap_or(FIRST)
}

fn index(node: NodeId) -> usize {
    usize::from(node.get()) - 1
}

fn peer(at: usize) -> Peer {
    let address = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + at as u32), 4660));
    Peer { node: node(at), address, epoch: 1 }
}

impl Net {
    /// Nodes that have just been started, each of which but the first asks that one to be taken in.
    pub(super) fn new(trial: &Trial) -> Self {
        let count = trial.nodes as usize;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(trial.seed);
        let nodes = (0..count).map(|at| Node::new(Config::new(peer(at), random.random()))).collect();
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut random);
        let mut slow = vec![false; count];
        order.iter().take((trial.slow * count as f64) as usize).for_each(|at| slow[*at] = true);
        let mut net = Net {
            nodes,
            alive: vec![true; count],
            slow,
            processes: vec![BTreeMap::new(); count],
            now: 10_000,
            loss: trial.loss,
            cut: false,
            ever_cut: false,
            datagrams: BTreeMap::new(),
            moving: BTreeMap::new(),
            random,
            sent: vec![0; count],
            moves: 0,
            wrong_downs: 0,
        };
        for at in 1..count {
            let actions = net.nodes[at].join(net.now, peer(0));
            net.carry_out(at, actions);
        }
        net
    }

    pub(super) fn now(&self) -> Millis {
        self.now
    }

    pub(super) fn run_s(&mut self, seconds: u64) {
        for _ in 0..seconds * 1000 / TICK_MS {
            self.tick();
        }
    }

    /// Lets a tick pass.
    pub(super) fn tick(&mut self) {
        self.now += TICK_MS;
        let later = self.datagrams.split_off(&(self.now + 1));
        for datagram in std::mem::replace(&mut self.datagrams, later).into_values().flatten() {
            if self.alive[datagram.to] {
                let from = node(datagram.from);
                // What the membership has no use for any more it says so of.
                let actions = self.nodes[datagram.to].on_datagram(self.now, from, &datagram.bytes);
                self.carry_out(datagram.to, actions.unwrap_or_default());
            }
        }
        let later = self.moving.split_off(&(self.now + 1));
        for moving in std::mem::replace(&mut self.moving, later).into_values().flatten() {
            self.arrive(moving);
        }
        for at in 0..self.nodes.len() {
            self.act(at);
        }
    }

    fn act(&mut self, at: usize) {
        if !self.alive[at] {
            return;
        }
        let late = if self.slow[at] { SLOW_MS } else { 0 };
        let phase = STEP_MS * at as u64 / self.nodes.len() as u64 / TICK_MS * TICK_MS;
        let actions = if self.now % STEP_MS == phase {
            let sample = self.sample(at);
            self.nodes[at].on_step(self.now, &sample)
        } else if self.nodes[at].deadline().is_some_and(|due| due + late <= self.now) {
            self.nodes[at].on_time(self.now)
        } else {
            return;
        };
        self.carry_out(at, actions);
    }

    fn sample(&mut self, at: usize) -> Sample {
        let count = self.processes[at].len();
        let share = 1.0 / count.max(1) as f64;
        let candidates = self.processes[at].iter_mut().map(|(process, it)| {
            it.computed_s += share;
            Candidate {
                process: *process,
                uid: 1000,
                program: String::new(),
                cgroup: String::new(),
                started: false,
                locked: false,
                demand: Demand::new(&Prices::default(), 1.0, it.computed_s, f64::from(PROCESS_MIB)),
                computed_s: it.computed_s,
                here_since: it.here_since,
                calls_per_s: 0.0,
                home: None,
            }
        });
        let candidates = candidates.collect();
        let free_mib = MEMORY_MIB.saturating_sub(PROCESS_MIB * count as u32);
        Sample {
            load: Load::of_tasks(count as f64),
            used_percent: if count > 0 { 100 } else { 0 },
            io_stall: 0,
            memory_mib: [MEMORY_MIB, free_mib, free_mib],
            candidates,
            presence: Presence { minute: 0, idle_s: None },
            devices: None,
        }
    }

    fn carry_out(&mut self, at: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(to, _, bytes) => self.send(at, index(to), bytes),
                Action::Move(process, to, _) => {
                    let moving = Moving { process, from: at, to: index(to) };
                    self.moving.entry(self.now + MOVE_MS).or_default().push(moving);
                }
                Action::Down(down) => {
                    self.wrong_downs += u64::from(self.alive[index(down)] && !self.ever_cut);
                }
                Action::Place(..) | Action::SendHome(_) | Action::GiveBack | Action::Up(_) => {}
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        self.sent[from] += bytes.len() as u64;
        let half = self.nodes.len() / 2;
        let apart = self.cut && (from < half) != (to < half);
        if apart || (self.loss > 0.0 && self.random.random_bool(self.loss)) {
            return;
        }
        let late = if self.slow[to] { SLOW_MS } else { 0 };
        let datagram = Datagram { from, to, bytes };
        self.datagrams.entry(self.now + TICK_MS + late).or_default().push_back(datagram);
    }

    /// A move has ended: well, unless one of the two has died or they cannot reach each other.
    fn arrive(&mut self, moving: Moving) {
        let Moving { process, from, to } = moving;
        let half = self.nodes.len() / 2;
        let apart = self.cut && (from < half) != (to < half);
        if !apart
            && self.alive[from]
            && self.alive[to]
            && let Some(it) = self.processes[from].remove(&process)
        {
            self.processes[to].insert(process, Process { here_since: self.now, ..it });
            self.moves += 1;
        }
        self.nodes[from].settled(process);
        self.nodes[to].arrived(node(from), process);
    }

    pub(super) fn start(&mut self, at: usize, process: ProcessId) {
        let it = Process { here_since: self.now, computed_s: 0.0 };
        self.processes[at].insert(process, it);
    }

    /// Some nodes die, and what computes there with them; returns how many processes that are.
    pub(super) fn kill(&mut self, part: f64) -> u64 {
        let count = self.nodes.len();
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut self.random);
        let mut lost = 0;
        for at in order.into_iter().take(((part * count as f64) as usize).min(count - 1)) {
            self.alive[at] = false;
            lost += std::mem::take(&mut self.processes[at]).len() as u64;
        }
        lost
    }

    /// Cuts the network in two halves, or joins them.
    pub(super) fn cut(&mut self, cut: bool) {
        (self.cut, self.ever_cut) = (cut, true);
    }

    /// Every node that is alive holds exactly those for up that are.
    pub(super) fn all_know_all(&self) -> bool {
        let living = self.alive.iter().filter(|alive| **alive).count();
        let nodes = self.nodes.iter().zip(&self.alive).filter(|(_, alive)| **alive);
        nodes
            .map(|(node, _)| node.membership().up())
            .all(|up| up.len() == living - 1 && up.iter().all(|peer| self.alive[index(peer.node)]))
    }

    /// By how much the numbers of processes of two nodes differ at most.
    pub(super) fn spread(&self) -> usize {
        let counts = self.processes.iter().zip(&self.alive).filter(|(_, alive)| **alive);
        let counts: Vec<usize> = counts.map(|(processes, _)| processes.len()).collect();
        let most = counts.iter().copied().max().unwrap_or(0);
        most - counts.into_iter().min().unwrap_or(0)
    }

    pub(super) fn processes(&self) -> u64 {
        self.processes.iter().map(|processes| processes.len() as u64).sum()
    }

    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    pub(super) fn wrong_downs(&self) -> u64 {
        self.wrong_downs
    }

    pub(super) fn reset_bytes(&mut self) {
        self.sent.fill(0);
    }

    /// What nodes have sent, on average and at most, if that took so many seconds.
    pub(super) fn bytes_per_s(&self, seconds: u64) -> (f64, f64) {
        let sum: u64 = self.sent.iter().sum();
        let most = self.sent.iter().copied().max().unwrap_or(0);
        (sum as f64 / self.sent.len() as f64 / seconds as f64, most as f64 / seconds as f64)
    }
}
