//! What may be asked of the daemon, and by whom: users move and trace their own processes, root everybody's, and only
//! root changes how the node takes part in the cluster.
//!
//! The control socket and the HTTP interface ask here, so that the same holds for both. All of it may wait: for a lock,
//! for `/proc`, or, where something is to move, for as long as that takes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::book::{Standing, Target};
use crate::daemon::{Daemon, Follower};
use crate::processes::Identity;
use crate::protocol::{Advice, Answer, Event, Migrated, Node, Process, Refusal, State, Status, Steering};

/// How long an order to move may take. Memory follows after the move, so it does not depend on size.
const MOVE: Duration = Duration::from_secs(60);

/// Events that wait for a slow reader before some are left out.
const EVENTS: usize = 1024;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller(Who);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// A user of this machine; 0 is root.
    User(u32),
    /// Sees everything.
    Observer,
    /// Moves and follows everybody's processes, too.
    Operator,
}

impl Caller {
    /// This user, as the kernel says.
    pub fn new(uid: u32) -> Self {
        Caller(Who::User(uid))
    }

    /// Somebody who may see everything, and change nothing.
    pub fn observer() -> Self {
        Caller(Who::Observer)
    }

    /// Somebody who may also move and follow everybody's processes.
    pub fn operator() -> Self {
        Caller(Who::Operator)
    }

    /// Somebody who may do what root may.
    pub fn administrator() -> Self {
        Caller(Who::User(0))
    }

    /// Who may ask as if they were another user.
    pub(crate) fn is_root(self) -> bool {
        self.0 == Who::User(0)
    }

    /// The user that it is, if it is one.
    pub(crate) fn user(self) -> Option<u32> {
        match self.0 {
            Who::User(uid) => Some(uid),
            Who::Observer | Who::Operator => None,
        }
    }

    fn may_see(self, uid: u32) -> bool {
        self.0 == Who::Observer || self.may_move(uid)
    }

    fn may_move(self, uid: u32) -> bool {
        self.is_root() || self.0 == Who::Operator || self.0 == Who::User(uid)
    }
}

impl Daemon {
    /// What the node is and what it is doing.
    pub fn status(&self) -> Status {
        let (away, guests) = self.lock().book.counts();
        Status {
            node: self.settings.node.clone(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            pid: i32::try_from(std::process::id()).unwrap_or(i32::MAX),
            listen: self.settings.listen.clone(),
            uptime_s: self.started.elapsed().as_secs(),
            away,
            guests,
            decay: self.cluster().map(|cluster| cluster.decay()),
            pool: self.cluster().map(|cluster| cluster.pool()),
            part: self.cluster().map(|cluster| cluster.part()),
        }
    }

    /// How many times a process of this node has arrived somewhere since the daemon was started, coming home included.
    pub fn arrivals(&self) -> u64 {
        self.lock().book.arrivals()
    }

    /// The nodes of the cluster, this one first.
    pub fn nodes(&self) -> Vec<Node> {
        let own = self.cluster().and_then(|cluster| cluster.reached_at);
        let own = own.map_or_else(|| self.settings.listen.clone(), |address| address.to_string());
        let mut nodes = self.lock().book.nodes(&own);
        if let Some(cluster) = self.cluster() {
            cluster.describe(&mut nodes);
        }
        nodes
    }

    /// The processes that the node knows; with `all`, also those that have never moved, as far as the caller may see them.
    pub fn processes_for(&self, caller: Caller, all: bool) -> Vec<Process> {
        let mut processes = self.known();
        if all {
            processes.extend(self.strangers(caller));
        }
        for process in &mut processes {
            let asked = process.uid.is_some_and(|uid| caller.may_see(uid));
            if asked && process.state == State::Home {
                process.cantmove = (self.eligibility)(process.pid);
            }
        }
        processes
    }

    /// Why a process cannot move; empty when it can.
    ///
    /// # Errors
    /// When there is none, or it is not the caller's.
    pub fn reasons(&self, caller: Caller, pid: i32) -> Result<Vec<String>, Refusal> {
        self.seen(caller, pid)?;
        Ok((self.eligibility)(pid))
    }

    /// One process, whether it has ever moved or not.
    ///
    /// # Errors
    /// When there is none.
    pub fn process(&self, pid: i32) -> Result<Process, Refusal> {
        let known = self.lock().book.processes();
        let found = known.into_iter().find(|process| process.pid == pid && process.state != State::Ended);
        let identity = self.processes.look(pid);
        let mut process = match (found, &identity) {
            (Some(process), _) => process,
            (None, Some(identity)) => self.lock().book.stranger(identity.clone()),
            (None, None) => return Err(Refusal::NoSuchProcess { pid }),
        };
        process.locked = identity
            .filter(|_| process.state != State::Guest)
            .and_then(|identity| Some(self.cluster()?.is_locked(&identity)));
        Ok(process)
    }

    /// Tells the balancer something about a process.
    ///
    /// # Errors
    /// When the process is not the caller's, or the node takes no part in a cluster.
    pub fn advise(&self, caller: Caller, pid: i32, advice: Advice) -> Result<(), Refusal> {
        let process = self.own(caller, pid)?;
        let cluster = self.cluster().ok_or(Refusal::NotSteered)?;
        cluster.advise(&process, advice);
        Ok(())
    }

    /// Changes how the node takes part in the cluster.
    ///
    /// # Errors
    /// When the caller is not root, or the node takes no part.
    pub fn steer_for(self: &Arc<Self>, caller: Caller, what: Steering) -> Result<(), Refusal> {
        if caller.is_root() { self.steer(what) } else { Err(Refusal::NotRoot) }
    }

    /// A node was heard of at an address: it is looked for there.
    ///
    /// # Errors
    /// When the caller is not root.
    pub fn found_for(
        self: &Arc<Self>,
        caller: Caller,
        node: &str,
        address: SocketAddr,
    ) -> Result<(), Refusal> {
        if !caller.is_root() {
            return Err(Refusal::NotRoot);
        }
        self.found(node, address);
        Ok(())
    }

    /// Moves a process to a node, `home` or `best`, and waits until it is there: the answer is [`Answer::Migrated`], or
    /// [`Answer::Armed`] if it will move at its next `execve`.
    ///
    /// # Errors
    /// When the process is not the caller's, or does not move.
    pub fn migrate(
        self: &Arc<Self>,
        caller: Caller,
        pid: i32,
        to: &str,
        at_exec: bool,
    ) -> Result<Answer, Refusal> {
        let process = self.own(caller, pid)?;
        let target = self.lock().book.target(to)?;
        if self.is_away_with_others(pid, &target) {
            // From one host to another they go by their home.
            self.migrate(caller, pid, "home", false)?;
        }
        let leaves = self.lock().book.would_leave(pid, &target);
        // A program that waits to replace its image is judged when it has done so.
        if leaves && !at_exec {
            let reasons = (self.eligibility)(pid);
            if !reasons.is_empty() {
                return Err(Refusal::CannotMove { pid, reasons });
            }
        }
        let Some(target) = self.placed(pid, target, at_exec) else {
            let at = self.settings.node.clone();
            return Ok(Answer::Migrated(Migrated { pid, at, moved: false, freeze_us: 0, with: Vec::new() }));
        };
        let departure = if leaves && !at_exec { self.departure(caller, pid, &target)? } else { None };
        let (sender, receiver) = sync_channel(1);
        let ticket = self.tell(|state| {
            let ticket = state.book.ticket();
            state.waiters.insert(ticket, sender);
            match departure {
                Some(departure) => state.book.migrate_family(ticket, departure),
                None => state.book.migrate(ticket, process, target, at_exec),
            }
            ticket
        });
        let answer = receiver.recv_timeout(MOVE).map_err(|_| {
            self.tell(|state| {
                state.waiters.remove(&ticket);
                state.book.give_up(ticket);
            });
            Refusal::TimedOut { pid, seconds: MOVE.as_secs() }
        })?;
        if let Answer::Refused(refusal) = answer { Err(refusal) } else { Ok(answer) }
    }

    /// Follows the calls that a process forwards, until the process ends or what is returned is dropped.
    ///
    /// # Errors
    /// When the process is not the caller's, or cannot be followed.
    pub fn follow(self: &Arc<Self>, caller: Caller, pid: i32) -> Result<Following, Refusal> {
        let process = self.own(caller, pid)?;
        let (events, receiver) = sync_channel(EVENTS);
        self.tell(|state| {
            state.book.watch(process.clone())?;
            state.followers.entry(pid).or_default().push(Follower { events, lost: 0 });
            Ok(())
        })?;
        Ok(Following { daemon: Arc::clone(self), process, events: Some(receiver) })
    }

    /// A process that the caller may move and trace.
    pub(crate) fn own(&self, caller: Caller, pid: i32) -> Result<Identity, Refusal> {
        let process = self.processes.look(pid).ok_or(Refusal::NoSuchProcess { pid })?;
        if caller.may_move(process.uid) { Ok(process) } else { Err(Refusal::NotPermitted { pid }) }
    }

    /// A process that the caller may look at.
    fn seen(&self, caller: Caller, pid: i32) -> Result<Identity, Refusal> {
        let process = self.processes.look(pid).ok_or(Refusal::NoSuchProcess { pid })?;
        if caller.may_see(process.uid) { Ok(process) } else { Err(Refusal::NotPermitted { pid }) }
    }

    /// The processes that the daemon knows, under the names that they have now.
    fn known(&self) -> Vec<Process> {
        let known = self.lock().book.processes();
        let here = known.iter().filter(|process| process.uid.is_some() && process.state != State::Ended);
        let looks: Vec<_> = here.filter_map(|process| self.processes.look(process.pid)).collect();
        let book = &mut self.lock().book;
        looks.into_iter().for_each(|process| book.renamed(process));
        book.processes()
    }

    /// The processes of this node that have never been ordered to move, as far as the caller may see them.
    fn strangers(&self, caller: Caller) -> Vec<Process> {
        let mut pids = self.processes.list();
        pids.sort_unstable();
        let own = pids.into_iter().filter_map(|pid| self.seen(caller, pid).ok()).collect::<Vec<_>>();
        let state = self.lock();
        let strangers = own.into_iter().filter(|process| !state.book.knows(process.pid));
        strangers.map(|process| state.book.stranger(process)).collect()
    }

    /// Where `best` is at the moment, if that is to be told by loads; `None` if it is here.
    fn placed(self: &Arc<Self>, pid: i32, target: Target, at_exec: bool) -> Option<Target> {
        let Some(cluster) = self.cluster().filter(|cluster| target == Target::Best && cluster.balances())
        else {
            return Some(target);
        };
        let is_away = matches!(self.lock().book.standing(pid), Some(Standing::Elsewhere { .. }));
        if is_away {
            return Some(target);
        }
        // Of a program that begins nobody knows how much it is going to want.
        let memory_mib = if at_exec { None } else { Some(memory_mib(pid)) };
        self.place(&cluster, pid, memory_mib).map(Target::Lent)
    }
}

/// A process that is being followed, until this is dropped.
#[derive(Debug)]
pub struct Following {
    daemon: Arc<Daemon>,
    process: Identity,
    /// None only while it is being dropped.
    events: Option<Receiver<Event>>,
}

/// What a process that is being followed does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This.
    Event(Event),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Over,
}

impl Following {
    /// Waits for what the process does next, for so long at most.
    pub fn next(&self, limit: Duration) -> Next {
        match self.events.as_ref().map(|events| events.recv_timeout(limit)) {
            Some(Ok(event)) => Next::Event(event),
            Some(Err(RecvTimeoutError::Timeout)) => Next::Nothing,
            Some(Err(RecvTimeoutError::Disconnected)) | None => Next::Over,
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // So that the daemon sees that nobody listens any more.
        self.events = None;
        self.daemon.tell(|state| state.book.unwatch(&self.process));
    }
}

/// Memory that a process uses, in MiB (`/proc/PID/statm`); nothing if it has ended.
fn memory_mib(pid: i32) -> f64 {
    const PAGE_BYTES: f64 = 4096.0;
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = text.split_ascii_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok());
    pages.unwrap_or(0) as f64 * PAGE_BYTES / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_may_what_they_are() {
        let check = |caller: Caller, sees: bool, moves: bool, steers: bool| {
            let found = (caller.may_see(7), caller.may_move(7), caller.is_root());
            assert_eq!(found, (sees, moves, steers), "{caller:?}");
        };
        check(Caller::new(7), true, true, false);
        check(Caller::new(8), false, false, false);
        check(Caller::new(0), true, true, true);
        check(Caller::observer(), true, false, false);
        check(Caller::operator(), true, true, false);
        check(Caller::administrator(), true, true, true);
    }
}
