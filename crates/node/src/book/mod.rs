//! The daemon's rules, pure: what is known of each process, and what is to be done next.
//!
//! A [`Book`] has no clock, no socket and no thread. Whatever happens is told to it in a method call, with
//! the time where time matters, and it answers with [`Effect`]s for the daemon to carry out in their order.
//!
//! ```text
//!            migrate                 Arrived at a node
//!   home ─────────────► moving ───────────────────────────► away
//!    ▲                    │ Refused, deputy died              │ │ deputy died: a Rescue ends the process, as by
//!    ├────────────────────┘ (put right by a Rescue)           │ ▼ SIGKILL, unless it had no effect away
//!    │   Arrived at home: by order, or by itself (then it     │ ended (kept with its reason)
//!    └── leaves again after a back-off while it is wanted) ◄──┘
//! ```
//!
//! A process becomes known when it is first ordered to move, and stays known until it ends.

mod family;
mod guests;
mod orders;
mod peers;
mod reports;
mod standing;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use minka_wire::local::{DeputyOrder, Family};

use crate::processes::Identity;
use crate::protocol::{Answer, Event, Process};

pub(crate) use family::Departure;
pub(crate) use guests::HostId;
pub(crate) use standing::{Standing, Standings};

/// Most processes of this node that the daemon takes care of at a time.
pub(crate) const PROCESSES_MAX: usize = 1024;

/// How many ended processes are remembered.
pub(crate) const ENDED_MAX: usize = 256;

/// How many rescuers in a row are started at once.
const RESCUES_AT_ONCE: u32 = 3;

/// How many are started in all for a process that was away; one at home is never given up.
const RESCUES_AWAY: u32 = 6;

/// Pause before the next one, when nothing is lost by waiting; it doubles up to [`BACK_OFF_MAX`].
const RESCUE_PAUSE: Duration = Duration::from_secs(1);

/// Wait before a process that came home by itself leaves again: at first, and at most.
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// A stay of this length on a node shows that it was worth going: the back-off starts over.
const STAY_WORTHWHILE: Duration = Duration::from_secs(10);

/// Names a deputy program, and never another one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DeputyId(u64);

/// Names somebody who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(u64);

/// What the daemon has to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Start a deputy program.
    Spawn(DeputyId),
    /// Give a deputy program an order.
    Order(DeputyId, DeputyOrder),
    /// End a process as by SIGKILL.
    Kill(Identity, String),
    /// Answer somebody who waits.
    Answer(Ticket, Answer),
    /// Tell those who trace a process.
    Publish(i32, Event),
    /// Send a guest to its home.
    Expel(HostId),
    /// Have a process leave again, with those who share memory with it by now.
    Gather(Identity, Target),
}

/// Where a user asked a process to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Home,
    Node(String),
    Best,
    /// Where the balancer puts it, which nobody has asked for: it may be put elsewhere at any time, and when it comes
    /// home it is thought about anew.
    Lent(String),
}

impl Target {
    /// What is remembered of it as its user's wish.
    fn wish(&self) -> Option<Target> {
        (!matches!(self, Target::Lent(_))).then(|| self.clone())
    }
}

/// An order that a deputy has not yet carried out.
#[derive(Debug, Clone)]
struct Outstanding {
    /// What was asked.
    target: Target,
    /// The node that was chosen; `None` for home.
    to: Option<String>,
    at_exec: bool,
    /// Who waits for the outcome; nobody when the book gave the order by itself.
    ticket: Option<Ticket>,
    /// The deputy waits for the next `execve`.
    armed: bool,
    /// The deputy was ending when it was given the order, so a new one has to get it.
    again: bool,
    /// That has happened already; it does not happen twice.
    given_again: bool,
    /// It has been given to all of a family.
    family: Option<Family>,
}

/// A deputy program that runs.
#[derive(Debug, Clone, Copy)]
struct Deputy {
    id: DeputyId,
    /// It was started to put right what a killed one left behind.
    rescuing: bool,
    /// It has said that it ends.
    ended: bool,
}

/// When to leave again, after coming home by itself.
#[derive(Debug, Clone, Copy)]
struct BackOff {
    wait: Duration,
    due: Option<Instant>,
}

/// What is known of a process of this node.
#[derive(Debug, Clone)]
struct Record {
    identity: Identity,
    /// The node where it computes; `None` at home.
    away_at: Option<String>,
    away_since: Option<Instant>,
    moves: u64,
    freeze_us: Option<u64>,
    wanted: Option<Target>,
    reason: Option<String>,
    /// A fault that the deputy reported when it ended; why the process ended, if it did.
    fault: Option<String>,
    deputy: Option<Deputy>,
    order: Option<Outstanding>,
    /// With whom it was moved last, if not alone.
    family: Option<Family>,
    /// It may have to leave with others.
    shares: bool,
    /// It was at an instruction that a host's processor did not know.
    needs_all: bool,
    /// Its deputy has been told to keep nothing of its memory here that its host has.
    gives_back: bool,
    back_off: BackOff,
    rescues: u32,
    /// When the next rescue is tried, after several have failed.
    rescue_due: Option<Instant>,
    watchers: u32,
}

/// All that the daemon knows.
#[derive(Debug)]
pub(crate) struct Book {
    node: String,
    config: String,
    /// The daemon itself and the programs that it started.
    helpers: BTreeSet<i32>,
    records: BTreeMap<i32, Record>,
    ended: VecDeque<Process>,
    peers: peers::Peers,
    guests: guests::Guests,
    deputies: u64,
    tickets: u64,
    /// How many times processes have arrived somewhere.
    arrivals: u64,
    /// The daemon is ending: nobody leaves and nobody arrives any more.
    ending: bool,
    effects: Vec<Effect>,
}

impl Book {
    /// An empty book of a node: its name, the path of its configuration, its daemon's PID, and the other
    /// nodes with their addresses.
    pub(crate) fn new(node: &str, config: &str, own_pid: i32, peers: &[(String, String)]) -> Self {
        Book {
            node: node.to_owned(),
            config: config.to_owned(),
            helpers: BTreeSet::from([own_pid]),
            records: BTreeMap::new(),
            ended: VecDeque::new(),
            peers: peers::Peers::new(peers),
            guests: guests::Guests::default(),
            deputies: 0,
            tickets: 0,
            arrivals: 0,
            ending: false,
            effects: Vec::new(),
        }
    }

    /// A program that the daemon needs for itself has started.
    pub(crate) fn helper_started(&mut self, pid: i32) {
        self.helpers.insert(pid);
    }

    /// A program that the daemon needed for itself is gone.
    pub(crate) fn helper_gone(&mut self, pid: i32) {
        self.helpers.remove(&pid);
    }

    /// A new ticket.
    pub(crate) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// What is to be done since this was last asked.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`Book::leave_again`] or [`Book::rescue_again`] has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let dues = self.records.values().flat_map(|record| [record.back_off.due, record.rescue_due]);
        dues.flatten().min()
    }

    /// Whether [`Book::unwatched`] has any.
    pub(crate) fn has_unwatched(&self) -> bool {
        self.records.values().any(|record| record.deputy.is_none())
    }

    /// Known processes without a deputy, which may have ended without anyone telling.
    pub(crate) fn unwatched(&self) -> Vec<Identity> {
        let unwatched = self.records.values().filter(|record| record.deputy.is_none());
        unwatched.map(|record| record.identity.clone()).collect()
    }

    /// The process has ended, and its deputy, if it had one, with it.
    pub(crate) fn process_over(&mut self, identity: &Identity) {
        let known = self.records.get(&identity.pid);
        if known.is_some_and(|record| record.identity.start == identity.start && record.deputy.is_none()) {
            self.finish(identity.pid, None);
        }
    }

    fn pid_of(&self, id: DeputyId) -> Option<i32> {
        let mut records = self.records.iter();
        records.find(|(_, record)| record.deputy.is_some_and(|deputy| deputy.id == id)).map(|(pid, _)| *pid)
    }

    fn publish(&mut self, pid: i32, event: Event) {
        if self.records.get(&pid).is_some_and(|record| record.watchers > 0) {
            self.effects.push(Effect::Publish(pid, event));
        }
    }

    fn answer(&mut self, ticket: Option<Ticket>, answer: Answer) {
        if let Some(ticket) = ticket {
            self.effects.push(Effect::Answer(ticket, answer));
        }
    }
}

impl Outstanding {
    fn new(target: Target, to: Option<String>, at_exec: bool, ticket: Option<Ticket>) -> Self {
        Outstanding {
            target,
            to,
            at_exec,
            ticket,
            armed: false,
            again: false,
            given_again: false,
            family: None,
        }
    }
}

impl Record {
    fn new(identity: Identity) -> Self {
        Record {
            identity,
            away_at: None,
            away_since: None,
            moves: 0,
            freeze_us: None,
            wanted: None,
            reason: None,
            fault: None,
            deputy: None,
            order: None,
            family: None,
            shares: false,
            needs_all: false,
            gives_back: false,
            back_off: BackOff { wait: BACK_OFF_FIRST, due: None },
            rescues: 0,
            rescue_due: None,
            watchers: 0,
        }
    }

    /// Plans the next departure of a process that came home by itself, if somebody wants it away.
    fn plan_departure(&mut self, now: Instant) {
        if self.away_since.take().is_some_and(|since| now.duration_since(since) >= STAY_WORTHWHILE) {
            self.back_off.wait = BACK_OFF_FIRST;
        }
        if self.wanted.is_some() {
            self.back_off.due = Some(now + self.back_off.wait);
            self.back_off.wait = (self.back_off.wait * 2).min(BACK_OFF_MAX);
        }
    }
}

#[cfg(test)]
mod tests;
