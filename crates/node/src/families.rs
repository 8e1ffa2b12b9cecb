//! Families: the memory that their guests share here, and the departure of those of this node.
//!
//! Each guest has a host program of its own, and those of one family have to have the same memory. So the daemon makes it
//! for the first that asks, and gives it to the others: one for all that they share, named by the home and by what that
//! calls the move. It is there as long as one of these programs is.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use minka_wire::local::{FamilyId, HostOrder};
use rustix::fs::{MemfdFlags, memfd_create};
use tracing::{debug, warn};

use crate::ask::Caller;
use crate::book::{Departure, HostId, Target};
use crate::child::{ChildError, PacketSocket};
use crate::daemon::Daemon;
use crate::processes::Identity;
use crate::protocol::Refusal;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FamilyError {
    #[error("make memory for a family")]
    Make(#[source] rustix::io::Errno),
    #[error("give a family its memory")]
    Give(#[from] ChildError),
}

/// The memory of families, by their homes and what these call them.
#[derive(Debug, Default)]
pub(crate) struct Families(Mutex<HashMap<(String, FamilyId), Shared>>);

#[derive(Debug)]
struct Shared {
    memory: OwnedFd,
    hosts: BTreeSet<HostId>,
}

impl Families {
    /// Gives a host program the memory of its guest's family.
    pub(crate) fn give(
        &self,
        id: HostId,
        home: &str,
        family: FamilyId,
        socket: &PacketSocket,
    ) -> Result<(), FamilyError> {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (home.to_owned(), family);
        if !families.contains_key(&name) {
            let memory = memfd_create("minka-family", MemfdFlags::CLOEXEC).map_err(FamilyError::Make)?;
            families.insert(name.clone(), Shared { memory, hosts: BTreeSet::new() });
        }
        if let Some(shared) = families.get_mut(&name) {
            shared.hosts.insert(id);
            socket.send(&HostOrder::Objects, Some(shared.memory.as_fd()))?;
        }
        Ok(())
    }

    /// A host program is gone.
    pub(crate) fn take_back(&self, id: HostId) {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        families.retain(|_, shared| {
            shared.hosts.remove(&id);
            !shared.hosts.is_empty()
        });
    }
}

impl Daemon {
    /// Whether a process is away with others, and wanted at another node.
    pub(crate) fn is_away_with_others(&self, pid: i32, target: &Target) -> bool {
        let state = self.lock();
        match (state.book.away_with_family(pid), target) {
            (None, _) | (_, Target::Home) => false,
            (Some(at), Target::Node(to) | Target::Lent(to)) => at != to,
            (Some(_), Target::Best) => true,
        }
    }

    /// How a process leaves that does so with others, all of whom the caller may move; none if it is alone.
    pub(crate) fn departure(
        &self,
        caller: Caller,
        pid: i32,
        target: &Target,
    ) -> Result<Option<Departure>, Refusal> {
        let relatives = self.relatives(pid);
        if relatives.len() < 2 {
            return Ok(None);
        }
        let members =
            relatives.into_iter().map(|member| self.own(caller, member)).collect::<Result<_, _>>()?;
        // Wherever they are put, nobody but their users moves them on.
        let target = match target {
            Target::Lent(name) => Target::Node(name.clone()),
            other => other.clone(),
        };
        Ok(Some(Departure { pid, members, id: name(), target }))
    }

    /// Has a process leave again, with those who share memory with it by now. Those that it was not with before have to be
    /// its user's.
    pub(crate) fn gather(self: &Arc<Self>, process: Identity, target: Target) {
        let pid = process.pid;
        let before = self.lock().book.relatives(pid);
        let reasons = (self.eligibility)(pid);
        if !reasons.is_empty() {
            return debug!(pid, ?reasons, "does not leave again");
        }
        let mut members = Vec::new();
        for member in self.relatives(pid) {
            let Some(identity) = self.processes.look(member) else { continue };
            let is_known = before.contains(&member) || process.uid == 0 || identity.uid == process.uid;
            if !is_known {
                return debug!(pid, member, "does not leave again with a process of another user");
            }
            members.push(identity);
        }
        self.tell(|state| {
            let ticket = state.book.ticket();
            // Nobody waits for the answer.
            if members.len() < 2 {
                state.book.migrate(ticket, process, target, false);
            } else {
                state.book.migrate_family(ticket, Departure { pid, members, id: name(), target });
            }
        });
    }
}

/// A name for a move.
fn name() -> FamilyId {
    let mut name = FamilyId::default();
    if let Err(error) = minka_kernel::process::random(&mut name) {
        // Two moves would have one ledger; the second finds that it is over.
        warn!(%error, "failed to name a family's move");
    }
    name
}
