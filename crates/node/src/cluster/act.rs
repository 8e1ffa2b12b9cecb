//! Carries out what the node has decided.
//!
//! A process is moved by its home. When a guest is to go on from here, its home is asked to see to it:
//!
//! ```text
//!  0     1      2             10
//! ┌─────┬──────┬─────────────┬───────────┐
//! │  1  │ 'R'  │ process     │ to        │      numbers with the highest byte first
//! └─────┴──────┴─────────────┴───────────┘
//! ```
//!
//! The home does so only for a process that computes at whoever asks, and that its user has not placed there.

use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, sync_channel};

use minka_cluster::NodeId;
use minka_cluster::balance::ProcessId;
use minka_cluster::node::{Action, Why};
use tracing::{debug, info, warn};

use super::directory::parts;
use super::{Cluster, Move, millis, now};
use crate::book::{Standing, Target};
use crate::daemon::Daemon;
use crate::processes::Identity;
use crate::protocol::Answer;

const VERSION: u8 = 1;
const REQUEST: u8 = b'R';

/// Asks the home of a guest to move it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    process: ProcessId,
    to: NodeId,
}

impl Request {
    fn write(&self) -> Vec<u8> {
        let (process, to) = (self.process.0.to_be_bytes(), self.to.get().to_be_bytes());
        [&[VERSION, REQUEST], &process[..], &to[..]].concat()
    }

    /// Reads what [`Self::write`] has written; `None` if it is something else.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[VERSION, REQUEST])?;
        let (process, rest) = rest.split_first_chunk()?;
        let to = NodeId::new(u16::from_be_bytes(rest.try_into().ok()?))?;
        Some(Request { process: ProcessId(u64::from_be_bytes(*process)), to })
    }
}

impl Daemon {
    /// Carries out actions in their order.
    pub(super) fn act(self: &Arc<Self>, cluster: &Arc<Cluster>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(to, _, content) => self.send(cluster, to, &content),
                Action::Move(process, to, why) => self.begin_move(cluster, process, to, why),
                Action::Place(process, to) => {
                    if let Some(waiter) = cluster.lock().places.remove(&process) {
                        // Fails only when nobody waits any more.
                        let _ = waiter.try_send(to);
                    }
                }
                Action::SendHome(process) => self.expel(cluster, process),
                Action::GiveBack => self.tell(|state| state.book.give_back()),
                Action::Up(peer) => {
                    info!(node = cluster.directory.name(peer.node).as_deref(), address = %peer.address, "a node is up");
                }
                Action::Down(node) => info!(node = cluster.directory.name(node).as_deref(), "a node is down"),
            }
        }
    }

    fn begin_move(self: &Arc<Self>, cluster: &Arc<Cluster>, process: ProcessId, to: NodeId, why: Why) {
        let Some((home, pid)) = parts(process) else { return };
        let (own, _) = cluster.own();
        if home == own {
            return self.lend(cluster, process, pid, to, why);
        }
        if home == to {
            return self.expel(cluster, process);
        }
        let is_up = cluster.lock().node.membership().find(home).is_some();
        if is_up {
            debug!(%home, pid, %to, ?why, "asking the home of a guest to move it on");
            self.send(cluster, home, &Request { process, to }.write());
        }
    }

    /// A host asks that one of this node's processes be moved on from there.
    pub(super) fn move_on(self: &Arc<Self>, cluster: &Arc<Cluster>, from: NodeId, request: &Request) {
        let (own, _) = cluster.own();
        let Some((home, pid)) = parts(request.process).filter(|(home, _)| *home == own) else {
            return debug!(%from, "a node asks to move what is not from here");
        };
        let standing = self.lock().book.standing(pid);
        if cluster.lock().looks.marks(pid).locked == Some(true) {
            return debug!(%from, pid, "a node asks to move what is to stay");
        }
        let from_name = cluster.directory.name(from);
        match standing {
            Some(Standing::Elsewhere { at: Some(at), free: true })
                if from_name.as_deref() == Some(at.as_str()) =>
            {
                self.lend(cluster, request.process, pid, request.to, Why::Balance);
            }
            standing => debug!(%from, %home, pid, ?standing, "a node asks to move what it may not"),
        }
    }

    /// Moves an own process, as if a user had asked, but so that it may be moved on at any time.
    fn lend(self: &Arc<Self>, cluster: &Arc<Cluster>, process: ProcessId, pid: i32, to: NodeId, why: Why) {
        let Some(identity) = self.processes.look(pid) else {
            return cluster.lock().node.settled(process);
        };
        let (own, _) = cluster.own();
        let Some(name) = cluster.directory.name(to) else { return };
        let target = if to == own { Target::Home } else { Target::Lent(name.to_string()) };
        info!(pid, command = identity.command, to = %name, ?why, "moving");
        let (sender, answer) = sync_channel(1);
        {
            let state = &mut *cluster.lock();
            if let Some(demand) = state.node.wants(process) {
                state.begin.lend(pid, demand, why == Why::Beginning);
            }
            state.moves.push(Move { process, pid, answer });
        }
        self.order(identity, target, sender);
    }

    fn order(
        self: &Arc<Self>,
        identity: Identity,
        target: Target,
        sender: std::sync::mpsc::SyncSender<Answer>,
    ) {
        self.tell(|state| {
            let ticket = state.book.ticket();
            state.waiters.insert(ticket, sender);
            state.book.migrate(ticket, identity, target, false);
        });
    }

    fn expel(self: &Arc<Self>, cluster: &Arc<Cluster>, process: ProcessId) {
        let Some((home, pid)) = parts(process) else { return };
        if let Some(name) = cluster.directory.name(home) {
            info!(home = %name, pid, "sending a guest home");
            self.tell(|state| state.book.expel_guest(&name, pid));
        }
    }

    /// Notes how moves have ended.
    pub(super) fn settle_moves(self: &Arc<Self>, cluster: &Arc<Cluster>) {
        let state = &mut *cluster.lock();
        let time = millis(now());
        let (own, own_name) = cluster.own();
        let mut settled = Vec::new();
        state.moves.retain(|it| {
            let answer = match it.answer.try_recv() {
                Ok(answer) => Some(answer),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => None,
            };
            settled.push((it.process, it.pid, answer));
            false
        });
        for (process, pid, answer) in settled {
            match answer {
                Some(Answer::Migrated(migrated)) => state.looks.moved(time, pid, migrated.at != own_name),
                other => {
                    if let Some(Answer::Refused(refusal)) = other {
                        warn!(pid, node = own.get(), %refusal, "did not move by itself");
                    }
                    state.looks.not_moved(time, pid);
                    state.begin.not_lent(time, pid);
                }
            }
            state.node.settled(process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_and_nothing_else_is_one() {
        let request = Request { process: ProcessId(0x0001_0000_0000_002a), to: NodeId::new(3).unwrap() };
        let bytes = request.write();
        assert_eq!(bytes, [1, b'R', 0, 1, 0, 0, 0, 0, 0, 0x2a, 0, 3]);
        assert_eq!(Request::read(&bytes), Some(request));
        for length in 0..bytes.len() {
            assert_eq!(Request::read(&bytes[..length]), None, "{length}");
        }
        assert_eq!(Request::read(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Request::read(&[1, b'R', 0, 1, 0, 0, 0, 0, 0, 0x2a, 0, 0]), None, "nobody");
    }
}
