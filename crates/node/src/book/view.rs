//! What the book tells the tools.

use super::{Book, DeputyId, ENDED_MAX, Record, Target};
use crate::processes::Identity;
use crate::protocol::{Node, Process, State};

impl Book {
    /// The processes of this node that it knows, its guests, and the ended ones, oldest first.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let known = self.records.values().filter(|record| !record.is_blank());
        let known = known.map(|record| record.view(&self.node));
        known.chain(self.guests.iter().cloned()).chain(self.ended.iter().cloned()).collect()
    }

    /// Whether a process has a record, is a guest here, or belongs to the daemon itself.
    pub(crate) fn knows(&self, pid: i32) -> bool {
        let recorded = self.records.get(&pid).is_some_and(|record| !record.is_blank());
        recorded || self.guests.host_of(pid).is_some() || self.helpers.contains(&pid)
    }

    /// A process that has never been ordered to move, as `ps` shows it.
    pub(crate) fn stranger(&self, identity: Identity) -> Process {
        Record::new(identity).view(&self.node)
    }

    /// The nodes of the cluster, this one first.
    pub(crate) fn nodes(&self, listen: &str) -> Vec<Node> {
        let this = Node {
            name: self.node.clone(),
            address: listen.to_owned(),
            this: true,
            reachable: true,
            guests: 0,
            number: None,
            member: false,
            figures: None,
        };
        let peers = self.peers.iter().map(|peer| Node {
            name: peer.name.clone(),
            address: peer.address.clone(),
            this: false,
            reachable: peer.reachable,
            guests: self
                .records
                .values()
                .filter(|record| record.away_at.as_deref() == Some(&peer.name))
                .count(),
            number: None,
            member: false,
            figures: None,
        });
        std::iter::once(this).chain(peers).collect()
    }

    /// How many processes of this node are away, and how many guests are here.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let away = self.records.values().filter(|record| record.away_at.is_some()).count();
        (away, self.guests.iter().count())
    }

    /// How many times processes of this node have arrived somewhere.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Notes whether a node could be reached.
    pub(crate) fn set_reachable(&mut self, name: &str, reachable: bool) {
        self.peers.set_reachable(name, reachable);
    }

    /// The process that a deputy is for.
    pub(crate) fn process_of(&self, id: DeputyId) -> Option<Identity> {
        self.pid_of(id).and_then(|pid| self.records.get(&pid)).map(|record| record.identity.clone())
    }

    /// Notes under which name a process runs now: an `execve` changes it.
    pub(crate) fn renamed(&mut self, process: Identity) {
        let known = self.records.get_mut(&process.pid);
        if let Some(record) = known.filter(|record| record.identity.start == process.start) {
            record.identity = process;
        }
    }

    pub(super) fn remember(&mut self, record: &Record, reason: Option<String>) {
        let view = record.view(&self.node);
        self.remember_process(Process { state: State::Ended, reason, ..view });
    }

    pub(super) fn remember_process(&mut self, process: Process) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(process);
    }
}

impl Record {
    /// Nothing has happened to it yet: it is only being looked at.
    fn is_blank(&self) -> bool {
        self.moves == 0 && self.order.is_none() && self.reason.is_none() && self.wanted.is_none()
    }

    fn view(&self, node: &str) -> Process {
        let state = match (&self.order, &self.away_at) {
            (Some(order), _) if !order.armed => State::Moving,
            (_, Some(_)) => State::Away,
            (_, None) => State::Home,
        };
        Process {
            pid: self.identity.pid,
            uid: Some(self.identity.uid),
            command: self.identity.command.clone(),
            home: node.to_owned(),
            home_pid: self.identity.pid,
            at: self.away_at.clone().unwrap_or_else(|| node.to_owned()),
            state,
            moves: self.moves,
            wanted: self.wanted.as_ref().map(|target| match target {
                Target::Home => "home".to_owned(),
                Target::Node(name) | Target::Lent(name) => name.clone(),
                Target::Best => "best".to_owned(),
            }),
            freeze_us: self.freeze_us,
            reason: self.reason.clone(),
            cantmove: Vec::new(),
            memory: None,
            locked: None,
        }
    }
}
