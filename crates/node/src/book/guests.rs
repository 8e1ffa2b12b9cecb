//! The guests of other nodes that compute here, each with its host program.

use std::collections::BTreeMap;

use minka_wire::local::HostReport;
use minka_wire::preamble::SessionId;

use super::{Book, Effect, Ticket};
use crate::protocol::{Answer, Migrated, Process, Refusal, State};

/// Most host programs that have not yet said which guest they are for.
pub(crate) const UNREPORTED_MAX: usize = 32;

/// Most host programs in all.
pub(crate) const HOSTS_MAX: usize = 1024;

/// Names a host program, and never another one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostId(u64);

/// The host programs of a node.
#[derive(Debug, Default)]
pub(super) struct Guests {
    hosts: BTreeMap<HostId, Host>,
    count: u64,
}

#[derive(Debug)]
struct Host {
    session: SessionId,
    guest: Option<Process>,
    /// Calls that were forwarded for it here.
    calls: u64,
    ended: bool,
    reason: Option<String>,
    /// Who waits for the guest to have left.
    expelling: Vec<Ticket>,
}

impl Guests {
    pub(super) fn host_of(&self, pid: i32) -> Option<HostId> {
        let mut hosts = self.hosts.iter();
        hosts.find(|(_, host)| host.guest.as_ref().is_some_and(|guest| guest.pid == pid)).map(|(id, _)| *id)
    }

    pub(super) fn host_of_guest(&self, home: &str, home_pid: i32) -> Option<HostId> {
        let is_it = |guest: &Process| guest.home == home && guest.home_pid == home_pid;
        let mut hosts = self.hosts.iter();
        hosts.find(|(_, host)| host.guest.as_ref().is_some_and(is_it)).map(|(id, _)| *id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.hosts.values().filter_map(|host| host.guest.as_ref())
    }

    /// With how many calls were forwarded for each.
    pub(super) fn with_calls(&self) -> impl Iterator<Item = (&Process, u64)> {
        self.hosts.values().filter_map(|host| Some((host.guest.as_ref()?, host.calls)))
    }
}

impl Book {
    /// Admits a new session; `None` when the node is at its limits or the session exists.
    pub(crate) fn admit(&mut self, session: SessionId) -> Option<HostId> {
        let hosts = &mut self.guests.hosts;
        let unreported = hosts.values().filter(|host| host.guest.is_none()).count();
        let known = hosts.values().any(|host| host.session == session);
        if self.ending || known || unreported >= UNREPORTED_MAX || hosts.len() >= HOSTS_MAX {
            return None;
        }
        self.guests.count += 1;
        let id = HostId(self.guests.count);
        let host = Host { session, guest: None, calls: 0, ended: false, reason: None, expelling: Vec::new() };
        self.guests.hosts.insert(id, host);
        Some(id)
    }

    /// The host program that a session belongs to.
    pub(crate) fn host_of_session(&self, session: SessionId) -> Option<HostId> {
        let mut hosts = self.guests.hosts.iter();
        hosts.find(|(_, host)| host.session == session && !host.ended).map(|(id, _)| *id)
    }

    /// Whether a host program has said which guest it is for.
    pub(crate) fn has_guest(&self, id: HostId) -> bool {
        self.guests.hosts.get(&id).is_some_and(|host| host.guest.is_some())
    }

    /// A host program reports.
    pub(crate) fn host_report(&mut self, id: HostId, report: HostReport) {
        let Some(host) = self.guests.hosts.get_mut(&id) else { return };
        match report {
            HostReport::Family { .. } => {}
            HostReport::Guest { home, pid, local_pid, command } => {
                host.guest = Some(Process {
                    pid: local_pid,
                    uid: None,
                    command,
                    home,
                    home_pid: pid,
                    at: self.node.clone(),
                    state: State::Guest,
                    moves: 1,
                    wanted: None,
                    freeze_us: None,
                    reason: None,
                    cantmove: Vec::new(),
                    memory: None,
                    locked: None,
                });
            }
            HostReport::Memory(memory) => {
                if let Some(guest) = &mut host.guest {
                    guest.memory = Some(memory);
                }
            }
            HostReport::Calls(calls) => host.calls = calls,
            HostReport::Ended { reason } => {
                host.ended = true;
                host.reason = reason;
            }
        }
    }

    /// A host program is gone, and reaped. Returns the home and the PID there of its guest, if it had one.
    pub(crate) fn host_gone(&mut self, id: HostId) -> Option<(String, i32)> {
        let host = self.guests.hosts.remove(&id)?;
        let reason = if host.ended { host.reason } else { Some("host program died".to_owned()) };
        let gone = host.guest.as_ref().map(|guest| (guest.home.clone(), guest.home_pid));
        if let Some(guest) = host.guest {
            for ticket in host.expelling {
                let left = Migrated {
                    pid: guest.pid,
                    at: guest.home.clone(),
                    moved: true,
                    freeze_us: 0,
                    with: Vec::new(),
                };
                self.answer(Some(ticket), Answer::Migrated(left));
            }
            if reason.is_some() {
                self.remember_process(Process { state: State::Ended, reason, ..guest });
            }
        }
        gone
    }

    pub(super) fn expel(&mut self, ticket: Ticket, pid: i32, id: HostId) -> Result<(), Refusal> {
        let host = self.guests.hosts.get_mut(&id).ok_or(Refusal::NoSuchProcess { pid })?;
        host.expelling.push(ticket);
        self.effects.push(Effect::Expel(id));
        Ok(())
    }

    /// The guests of a node go home.
    pub(super) fn expel_guests_of(&mut self, home: &str) {
        let of_home = |host: &Host| host.guest.as_ref().is_some_and(|guest| guest.home == home);
        let hosts = self.guests.hosts.iter().filter(|(_, host)| of_home(host));
        self.effects.extend(hosts.map(|(id, _)| Effect::Expel(*id)));
    }

    /// Every guest goes home: the daemon is ending.
    pub(super) fn expel_all(&mut self) {
        self.effects.extend(self.guests.hosts.keys().copied().map(Effect::Expel));
    }
}
