//! One node of a cluster: load, gossip, membership and balancing together, as a state machine.
//!
//! A [`Node`] has no clock, no socket and no thread. Whoever drives it (the daemon, or the simulator) tells it what
//! happens, always with the time, and carries out the [`Action`]s that it returns, in their order:
//!
//! ```text
//!   on_step(now, sample)            once a second ──►┌──────┐──► Send(to, address, datagram)
//!   on_time(now)                when deadline() is ──►│      │──► Move(process, to, why)
//!   on_datagram(now, from, bytes)   as they arrive ──►│ Node │──► Up(peer), Down(node)
//!   place(now, process, …)      a program begins   ──►│      │──► Place(process, Some(to) or None)
//!   settled(now, …), arrived(…)  a move has ended  ──►└──────┘──► SendHome(process)
//! ```
//!
//! Moving takes two datagrams before anything moves: the node asks the one it has chosen ([`Claim`]), which answers by
//! what it is and has promised at that moment ([`Answer`]). What is not answered is asked again, maybe of somebody else,
//! in one of the next steps.
//!
//! Datagrams come by channels that are authenticated elsewhere: `from` is certain. All else is checked here.

mod balancer;
mod contacts;

use std::net::SocketAddr;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::NodeId;
use crate::balance::{
    ANSWER, Answer, CLAIM, Candidate, Claim, Demand, Pool, Presence, ProcessId, Room, Settings,
};
use crate::gossip::datagram::WINDOW;
use crate::gossip::{Datagram, DatagramError, Millis, Vector};
use crate::load::{Devices, Flags, Info, Load, Meter, Speed};
use crate::membership::{Effect, Membership, MembershipError, Peer};
use balancer::Balancer;
use contacts::Contacts;

/// Datagrams of the membership begin with these two bytes, and are the engine's own after them.
const MEMBERSHIP: [u8; 2] = [1, b'M'];

/// How a node is set up.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The node itself.
    pub own: Peer,
    /// Processors.
    pub cpus: u16,
    /// Of one processor.
    pub speed: Speed,
    /// Entries of a window.
    pub window: usize,
    /// How many nodes are remembered.
    pub remembered: usize,
    /// How the balancer decides.
    pub settings: Settings,
    /// How the node takes part.
    pub pool: Pool,
    /// What its owner has said.
    pub flags: Flags,
    /// Memory that is kept free, in MiB.
    pub reserve_mib: u32,
    /// All chance comes from this.
    pub seed: u64,
}

impl Config {
    /// A node as it is when nobody has said anything else.
    pub fn new(own: Peer, seed: u64) -> Self {
        Config {
            own,
            cpus: 1,
            speed: Speed::STANDARD,
            window: crate::gossip::WINDOW_MAX,
            remembered: 4096,
            settings: Settings::default(),
            pool: Pool::Single,
            flags: Flags::default(),
            reserve_mib: 0,
            seed,
        }
    }
}

/// What a node sees of itself once a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Runnable tasks on average since the last sample, guests among them.
    pub load: Load,
    /// Processor time used since, in percent.
    pub used_percent: u8,
    /// Time in which somebody waited for a disk, in percent.
    pub io_stall: u8,
    /// Memory that Linux has, calls free, and calls available, in MiB.
    pub memory_mib: [u32; 3],
    /// All processes that compute here and could do so elsewhere, guests among them.
    pub candidates: Vec<Candidate>,
    /// Who uses the machine.
    pub presence: Presence,
    /// Its accelerators; none if nobody has looked.
    pub devices: Option<[Devices; 4]>,
}

/// Why a process is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It has begun to compute, and earlier runs of its program tell that it is going to.
    Beginning,
    /// It computes faster there, or delays others less.
    Balance,
    /// This node is short of memory.
    Memory,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send a datagram to a node.
    Send(NodeId, SocketAddr, Vec<u8>),
    /// Move a process to a node, which keeps room for it. The outcome is to be told by [`Node::settled`].
    Move(ProcessId, NodeId, Why),
    /// Start a program there, or here if nowhere.
    Place(ProcessId, Option<NodeId>),
    /// Send a guest home: this node takes part no longer.
    SendHome(ProcessId),
    /// Memory is short: keep nothing here of processes that are away and whose hosts have it.
    GiveBack,
    /// A node is up, or has another address now.
    Up(Peer),
    /// A node is down: what computed there has ended.
    Down(NodeId),
}

/// Why a datagram was of no use.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It cannot be read.
    #[error("read a datagram")]
    Datagram(#[from] DatagramError),
    /// It says to come from somebody else than the channel does.
    #[error("believe who sent a datagram")]
    Sender,
    /// The membership cannot use it.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

/// One node.
#[derive(Debug)]
pub struct Node {
    config: Config,
    meter: Meter,
    vector: Vector,
    membership: Membership,
    balancer: Balancer,
    random: Xoshiro256PlusPlus,
    contacts: Contacts,
}

impl Node {
    /// A node that knows nobody yet.
    pub fn new(config: Config) -> Self {
        let own = config.own;
        Node {
            meter: Meter::new(),
            vector: Vector::new(own.node, own.epoch, config.window, config.remembered),
            membership: Membership::new(own, config.seed),
            balancer: Balancer::new(),
            random: Xoshiro256PlusPlus::seed_from_u64(config.seed ^ u64::from(own.node.get())),
            contacts: Contacts::default(),
            config,
        }
    }

    /// How it is set up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How it is set up, to be changed between calls. The node's own name is changed by [`Self::move_to`] alone.
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// What it knows of all nodes.
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    /// Who is up.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Names a node that should be there. It is asked to take this one in whenever it is not up.
    pub fn expect(&mut self, peer: Peer) {
        self.contacts.add(peer);
    }

    /// Names a node that should be there no more. That it is down others tell, or silence.
    pub fn unexpect(&mut self, node: NodeId) {
        self.contacts.forget(node);
    }

    /// Asks somebody to be taken in now, and goes on asking as [`Self::expect`] says.
    pub fn join(&mut self, now: Millis, peer: Peer) -> Vec<Action> {
        self.expect(peer);
        let effects = self.membership.join(now, peer);
        self.actions(effects)
    }

    /// Tells the others that this node leaves. Guests and processes that are away are the caller's affair.
    pub fn leave(&mut self, now: Millis) -> Vec<Action> {
        self.contacts.clear();
        let effects = self.membership.leave(now);
        self.actions(effects)
    }

    /// The node has another address now.
    pub fn move_to(&mut self, now: Millis, address: SocketAddr) -> Vec<Action> {
        let effects = self.membership.move_to(now, address);
        self.config.own = *self.membership.own();
        self.actions(effects)
    }

    /// When [`Self::on_time`] has something to do.
    pub fn deadline(&self) -> Option<Millis> {
        self.membership.deadline()
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Millis) -> Vec<Action> {
        let effects = self.membership.on_time(now);
        self.actions(effects)
    }

    /// A step, once a second: the node looks at itself, tells somebody, and thinks about who should move.
    pub fn on_step(&mut self, now: Millis, sample: &Sample) -> Vec<Action> {
        let mut actions = self.on_time(now);
        let up = self.membership.up();
        if let Some(missing) = self.contacts.next(self.config.own.node, up)
            && self.random.random_range(0..=up.len()) == 0
        {
            let effects = self.membership.join(now, missing);
            actions.extend(self.actions(effects));
        }
        self.meter.observe(sample.load, sample.used_percent);
        let flags = self.config.pool.flags(&sample.presence, self.config.flags);
        let prices = self.balancer.prices(1 + self.membership.up().len());
        let room = self.balancer.observe(&self.config, now, sample, flags, &prices);
        self.vector.refresh(now, self.info(sample, flags, &room));
        self.tell(now, &mut actions);
        if self.balancer.is_tight() {
            actions.push(Action::GiveBack);
        }
        if flags.blocked && !self.config.flags.blocked {
            // The pool has closed; a node that its owner has blocked keeps the guests that it has.
            let guests = sample.candidates.iter().filter(|it| it.home.is_some());
            actions.extend(guests.map(|guest| Action::SendHome(guest.process)));
        }
        actions.extend(self.balancer.expire(now).into_iter().map(|process| Action::Place(process, None)));
        if !flags.stays {
            let wishes = self.balancer.step(&self.config, now, &prices, sample, &self.vector);
            for (to, claim) in wishes {
                self.send(to, &mut actions, |own| claim.write(own));
            }
        }
        actions
    }

    /// A program is about to begin here: it would use `memory_mib` if earlier runs tell. The answer is
    /// [`Action::Place`], at once or, after somebody was asked, from [`Self::on_datagram`]; if nobody answers, from one of
    /// the next steps. Whoever cannot wait for that starts it here.
    pub fn place(&mut self, now: Millis, process: ProcessId, memory_mib: Option<f64>) -> Vec<Action> {
        let mut actions = Vec::new();
        let prices = self.balancer.prices(1 + self.membership.up().len());
        match self.balancer.place(&self.config, now, &prices, process, memory_mib, &self.vector) {
            Some((to, claim)) => self.send(to, &mut actions, |own| claim.write(own)),
            None => actions.push(Action::Place(process, None)),
        }
        actions
    }

    /// A process has begun to compute here whose program's earlier runs tell what it is going to want. If it had better be
    /// elsewhere, [`Action::Move`] follows, from [`Self::on_datagram`].
    pub fn begins(&mut self, now: Millis, candidate: Candidate) -> Vec<Action> {
        let mut actions = Vec::new();
        let prices = self.balancer.prices(1 + self.membership.up().len());
        if self.balancer.stays() {
            return actions;
        }
        if let Some((to, claim)) = self.balancer.begin(&self.config, now, &prices, candidate, &self.vector) {
            self.send(to, &mut actions, |own| claim.write(own));
        }
        actions
    }

    /// A move that was asked for has ended, well or not: from now on the process may be thought about again.
    pub fn settled(&mut self, process: ProcessId) {
        self.balancer.settled(process);
    }

    /// A process of this node has begun of which it is expected that it computes; until the next sample it counts as that.
    pub fn came(&mut self, candidate: Candidate) {
        self.balancer.came(candidate);
    }

    /// A process does not compute here any more: an own one has left or ended, or a guest has gone.
    pub fn gone(&mut self, process: ProcessId) {
        self.balancer.gone(process);
    }

    /// Which own processes are still there is asked of who can tell.
    pub fn keep(&mut self, is_here: impl Fn(ProcessId) -> bool) {
        self.balancer.keep(is_here);
    }

    /// What a process wants that computes here, as far as is known.
    pub fn wants(&self, process: ProcessId) -> Option<Demand> {
        self.balancer.wants(process)
    }

    /// A process of this node that wanted so much does not compute at another node any more.
    pub fn left(&mut self, now: Millis, node: NodeId, demand: &Demand) {
        self.balancer.left(now, node, demand, &self.vector);
    }

    /// A process has come from another node: the next sample will have it.
    pub fn arrived(&mut self, from: NodeId, process: ProcessId) {
        self.balancer.arrived(from, process);
    }

    /// A process has come from wherever it was, where processes have names that no two in the cluster share; what it was
    /// said to want when it was asked for, if the balancer of some node has. `candidate` makes of that what it is here.
    pub fn received(
        &mut self,
        process: ProcessId,
        candidate: impl FnOnce(Demand) -> Candidate,
    ) -> Option<Demand> {
        let demand = self.balancer.received(process)?;
        self.balancer.came(candidate(demand));
        Some(demand)
    }

    /// Takes in a datagram that an authenticated channel says to be from `from`.
    pub fn on_datagram(&mut self, now: Millis, from: NodeId, bytes: &[u8]) -> Result<Vec<Action>, NodeError> {
        let mut actions = Vec::new();
        if let Some(rest) = bytes.strip_prefix(&MEMBERSHIP) {
            let effects = self.membership.on_datagram(now, from, rest)?;
            return Ok(self.actions(effects));
        }
        match bytes.get(1) {
            Some(&WINDOW) => {
                let datagram = Datagram::read(bytes)?;
                expect_sender(from, datagram.sender)?;
                self.vector.merge(now, datagram.entries);
            }
            Some(&CLAIM) => {
                let (sender, claim) = Claim::read(bytes)?;
                expect_sender(from, sender)?;
                let prices = self.balancer.prices(1 + self.membership.up().len());
                let answer = self.balancer.consider(now, &prices, from, &claim);
                self.send(from, &mut actions, |own| answer.write(own));
            }
            Some(&ANSWER) => {
                let (sender, answer) = Answer::read(bytes)?;
                expect_sender(from, sender)?;
                let prices = self.balancer.prices(1 + self.membership.up().len());
                let next = self.balancer.answered(&self.config, now, &prices, from, &answer, &self.vector);
                actions.extend(next.action);
                if let Some((to, claim)) = next.ask {
                    self.send(to, &mut actions, |own| claim.write(own));
                }
            }
            _ => return Err(DatagramError::Unknown.into()),
        }
        Ok(actions)
    }

    /// Tells one other node what is known. (That one may be up although it is said to be down is the membership's affair.)
    fn tell(&mut self, now: Millis, actions: &mut Vec<Action>) {
        let up = self.membership.up();
        if up.is_empty() {
            return;
        }
        let to = up[self.random.random_range(0..up.len())];
        let mut bytes = Vec::new();
        Datagram::write(self.config.own.node, self.vector.window(now), &mut bytes);
        actions.push(Action::Send(to.node, to.address, bytes));
    }

    fn send(&self, to: NodeId, actions: &mut Vec<Action>, write: impl FnOnce(NodeId) -> Vec<u8>) {
        if let Some(peer) = self.membership.find(to) {
            actions.push(Action::Send(to, peer.address, write(self.config.own.node)));
        }
    }

    fn actions(&mut self, effects: Vec<Effect>) -> Vec<Action> {
        let mut actions = Vec::with_capacity(effects.len());
        for effect in effects {
            actions.push(match effect {
                Effect::Send(to, bytes) => {
                    Action::Send(to.node, to.address, [&MEMBERSHIP[..], &bytes].concat())
                }
                Effect::Up(peer) => Action::Up(peer),
                Effect::Down(node) => {
                    self.vector.forget(node);
                    self.balancer.forget(node);
                    Action::Down(node)
                }
            });
        }
        actions
    }

    fn info(&self, sample: &Sample, flags: Flags, room: &Room) -> Info {
        let [memory_mib, free_mib, _] = sample.memory_mib;
        Info {
            load: self.meter.upper(),
            running: sample.load,
            haste: Load::of_tasks(room.haste),
            cpus: self.config.cpus,
            speed: self.config.speed,
            utilisation: self.meter.utilisation(),
            io_stall: sample.io_stall.min(100),
            memory_mib,
            free_mib,
            available_mib: (room.left_mib().max(0.0) as u32).min(memory_mib),
            flags,
            devices: sample.devices,
        }
    }
}

fn expect_sender(from: NodeId, said: NodeId) -> Result<(), NodeError> {
    if from == said { Ok(()) } else { Err(NodeError::Sender) }
}

#[cfg(test)]
mod tests;
