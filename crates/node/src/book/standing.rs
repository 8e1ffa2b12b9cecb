//! What the balancer has to know of processes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Book, Effect, Record, Target};
use crate::protocol::Process;

/// Where a process of this node is, as far as the balancer cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// At home, and nothing is being done with it.
    Home {
        /// Its user wants it somewhere: it is not for the balancer to move.
        placed: bool,
    },
    /// On its way, or away.
    Elsewhere {
        /// The node where it computes, unless it is on its way.
        at: Option<String>,
        /// Only the balancer wants it there.
        free: bool,
    },
}

/// The standing of everybody who has one.
#[derive(Debug)]
pub(crate) struct Standings {
    /// Minka's own programs.
    pub(crate) helpers: BTreeSet<i32>,
    /// Processes of this node that were ever moved.
    pub(crate) own: BTreeMap<i32, Standing>,
    /// Guests: by their PID here, the home's name, the PID there, and how many calls were forwarded.
    pub(crate) guests: BTreeMap<i32, (String, i32, u64)>,
}

impl Record {
    fn standing(&self) -> Standing {
        let at_rest = self.order.is_none() && !self.is_being_rescued();
        match &self.away_at {
            None if at_rest => Standing::Home { placed: self.wanted.is_some() },
            at => Standing::Elsewhere { at: at.clone().filter(|_| at_rest), free: self.wanted.is_none() },
        }
    }
}

impl Book {
    /// The standing of everybody who has one.
    pub(crate) fn standings(&self) -> Standings {
        let named =
            |(guest, calls): (&Process, u64)| (guest.pid, (guest.home.clone(), guest.home_pid, calls));
        let guests = self.guests.with_calls().map(named);
        Standings {
            helpers: self.helpers.clone(),
            own: self.records.iter().map(|(pid, record)| (*pid, record.standing())).collect(),
            guests: guests.collect(),
        }
    }

    /// That of one process of this node.
    pub(crate) fn standing(&self, pid: i32) -> Option<Standing> {
        self.records.get(&pid).map(Record::standing)
    }

    /// Whether it is one of Minka's own programs.
    pub(crate) fn is_helper(&self, pid: i32) -> bool {
        self.helpers.contains(&pid)
    }

    /// Sends all guests home.
    pub(crate) fn expel_everybody(&mut self) {
        self.expel_all();
    }

    /// Fetches home all processes of this node that are away and not being moved just now; nobody wants them away any
    /// more.
    pub(crate) fn bring_everybody(&mut self) {
        let away = |record: &&Record| record.away_at.is_some() && record.order.is_none();
        let identities: Vec<_> =
            self.records.values().filter(away).map(|record| record.identity.clone()).collect();
        for identity in identities {
            let ticket = self.ticket();
            // Nobody waits for the answer.
            self.migrate(ticket, identity, Target::Home, false);
        }
    }

    /// Sends a guest home, if it is here.
    pub(crate) fn expel_guest(&mut self, home: &str, home_pid: i32) {
        if let Some(id) = self.guests.host_of_guest(home, home_pid) {
            self.effects.push(Effect::Expel(id));
        }
    }

    /// The other nodes are these now. What is at those that are no more comes home, and their guests go.
    pub(crate) fn set_peers(&mut self, peers: &[(String, String)]) {
        let gone = self.peers.replace(peers);
        for record in self.records.values_mut() {
            let placed = match &record.wanted {
                Some(Target::Node(name) | Target::Lent(name)) => gone.contains(name),
                _ => false,
            };
            if placed {
                record.wanted = None;
                record.back_off.due = None;
            }
        }
        for name in gone {
            let there = |record: &&Record| record.away_at.as_ref() == Some(&name) && record.order.is_none();
            let identities: Vec<_> =
                self.records.values().filter(there).map(|record| record.identity.clone()).collect();
            for identity in identities {
                let ticket = self.ticket();
                // Nobody waits for the answer.
                self.migrate(ticket, identity, Target::Home, false);
            }
            self.expel_guests_of(&name);
        }
    }

    /// The other nodes, and where they are reached.
    pub(crate) fn peers(&self) -> Vec<(String, String)> {
        self.peers.iter().map(|peer| (peer.name.clone(), peer.address.clone())).collect()
    }

    /// A node is reached at another address than before.
    pub(crate) fn set_address(&mut self, name: &str, address: String) {
        self.peers.set_address(name, address);
    }

    /// Where a node is reached.
    pub(crate) fn address_of(&self, name: &str) -> Option<&str> {
        self.peers.address(name)
    }
}
