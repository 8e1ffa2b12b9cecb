//! The control socket: what the tools of this node's users ask.
//!
//! Anybody may connect; who they are is what the kernel says of the peer. Users move and trace their own
//! processes, root everybody's. A client has a limit on its lines, its pauses and its number.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

// Not rustix's: that has no value for a peer outside of this PID namespace, whose PID reads 0.
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::{RecvFlags, recv};
use tracing::{debug, warn};

use crate::book::{Standing, Target};
use crate::daemon::{Daemon, Follower};
use crate::lines::{LineError, Lines};
use crate::processes::Identity;
use crate::protocol::{Answer, Event, Message, Migrated, Process, Refusal, Request, State, Status, VERSION};

/// Most clients at a time, and most of one user who is not root.
const CLIENTS_MAX: usize = 64;
const CLIENTS_OF_ONE_MAX: usize = 16;

/// How long a client may be silent between two requests, take for one line, and for reading one answer.
const IDLE: Duration = Duration::from_secs(60);
const LINE: Duration = Duration::from_secs(5);

/// How long a client that is turned away may take to read why.
const BRIEFLY: Duration = Duration::from_millis(10);

/// How long an order to move may take. Memory follows after the move, so it does not depend on size.
const MOVE: Duration = Duration::from_secs(60);

/// Events that wait for a slow reader before some are left out.
const EVENTS: usize = 1024;

/// How often a follower that has nothing to read is looked at, to see whether it has gone.
const LOOK: Duration = Duration::from_secs(1);

/// How many clients each user has.
type Clients = Arc<Mutex<HashMap<u32, usize>>>;

/// A client's place among the others, given back when it goes.
struct Place {
    clients: Clients,
    uid: u32,
}

impl Place {
    fn take(clients: &Clients, uid: u32) -> Option<Self> {
        let mut counts = clients.lock().unwrap_or_else(PoisonError::into_inner);
        let full = counts.values().sum::<usize>() >= CLIENTS_MAX;
        let own = counts.entry(uid).or_insert(0);
        if full || (uid != 0 && *own >= CLIENTS_OF_ONE_MAX) {
            return None;
        }
        *own += 1;
        Some(Place { clients: Arc::clone(clients), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

impl Daemon {
    /// Serves the control socket. Never returns.
    pub(crate) fn serve_control(self: &Arc<Self>, listener: &UnixListener) {
        let clients = Clients::default();
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "failed to accept a client");
                    // Mostly for want of descriptors, which takes a while to mend.
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let uid = match getsockopt(&stream, PeerCredentials) {
                Ok(peer) => peer.uid(),
                Err(error) => {
                    warn!(%error, "failed to find out who a client is");
                    continue;
                }
            };
            let Some(place) = Place::take(&clients, uid) else {
                // It has room for a line, so this does not keep the others waiting.
                let _ = Lines::new(stream).write(&Answer::Refused(Refusal::TooManyClients), BRIEFLY);
                continue;
            };
            let daemon = Arc::clone(self);
            std::thread::spawn(move || {
                let _place = place;
                let error = Client { daemon, lines: Lines::new(stream), uid }.serve();
                debug!(uid, %error, "a client has gone");
            });
        }
    }
}

/// A connected tool.
struct Client {
    daemon: Arc<Daemon>,
    lines: Lines,
    uid: u32,
}

impl Client {
    /// Answers requests until the client goes or breaks the rules; returns why.
    fn serve(mut self) -> LineError {
        loop {
            if let Err(error) = self.serve_one() {
                let detail = match &error {
                    LineError::NotUnderstood(cause) => cause.to_string(),
                    LineError::TooLong | LineError::TooSlow => error.to_string(),
                    _ => return error,
                };
                let _ = self.refuse(Refusal::BadRequest { detail });
                return error;
            }
        }
    }

    fn serve_one(&mut self) -> Result<(), LineError> {
        // The version is read by itself first: another version's body may look quite different.
        let line = self.lines.read_line(IDLE, LINE)?;
        let message: Message<serde_json::Value> =
            serde_json::from_slice(&line).map_err(LineError::NotUnderstood)?;
        if message.version != VERSION {
            return self.refuse(Refusal::Version { version: message.version, supported: VERSION });
        }
        let request = serde_json::from_value(message.body).map_err(LineError::NotUnderstood)?;
        match request {
            Request::Status => self.status(),
            Request::Ps { all } => self.ps(all),
            Request::Migrate { pid, to, at_exec } => {
                let answer = self.migrate(pid, &to, at_exec).unwrap_or_else(Answer::Refused);
                self.send(&answer)
            }
            Request::Trace { pid } => self.trace(pid),
            Request::Nodes => self.nodes(),
            Request::Steer { what } => {
                let steered = if self.uid == 0 { self.daemon.steer(what) } else { Err(Refusal::NotRoot) };
                self.send(&steered.map_or_else(Answer::Refused, |()| Answer::Done))
            }
            Request::Reasons { pid } => {
                let reasons = self.own(pid).map(|_| Answer::Reasons((self.daemon.eligibility)(pid)));
                self.send(&reasons.unwrap_or_else(Answer::Refused))
            }
        }
    }

    fn send(&mut self, answer: &Answer) -> Result<(), LineError> {
        self.lines.write(answer, LINE)
    }

    fn refuse(&mut self, refusal: Refusal) -> Result<(), LineError> {
        self.send(&Answer::Refused(refusal))
    }

    fn may_see(&self, uid: u32) -> bool {
        self.uid == 0 || self.uid == uid
    }

    /// A process that the client may move and trace.
    fn own(&self, pid: i32) -> Result<Identity, Refusal> {
        let process = self.daemon.processes.look(pid).ok_or(Refusal::NoSuchProcess { pid })?;
        if self.may_see(process.uid) { Ok(process) } else { Err(Refusal::NotPermitted { pid }) }
    }

    fn status(&mut self) -> Result<(), LineError> {
        let (away, guests) = self.daemon.lock().book.counts();
        let status = Status {
            node: self.daemon.settings.node.clone(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            pid: i32::try_from(std::process::id()).unwrap_or(i32::MAX),
            listen: self.daemon.settings.listen.clone(),
            uptime_s: self.daemon.started.elapsed().as_secs(),
            away,
            guests,
        };
        self.send(&Answer::Status(status))
    }

    fn nodes(&mut self) -> Result<(), LineError> {
        let mut nodes = self.daemon.lock().book.nodes(&self.daemon.settings.listen);
        if let Some(cluster) = self.daemon.cluster() {
            cluster.describe(&mut nodes);
        }
        for node in nodes {
            self.send(&Answer::Node(node))?;
        }
        self.send(&Answer::End)
    }

    fn ps(&mut self, all: bool) -> Result<(), LineError> {
        let mut processes = self.known();
        if all {
            processes.extend(self.strangers());
        }
        for mut process in processes {
            let asked = process.uid.is_some_and(|uid| self.may_see(uid));
            if asked && process.state == State::Home {
                process.cantmove = (self.daemon.eligibility)(process.pid);
            }
            self.send(&Answer::Process(process))?;
        }
        self.send(&Answer::End)
    }

    /// The processes that the daemon knows, under the names that they have now.
    fn known(&self) -> Vec<Process> {
        let known = self.daemon.lock().book.processes();
        let here = known.iter().filter(|process| process.uid.is_some() && process.state != State::Ended);
        let looks: Vec<_> = here.filter_map(|process| self.daemon.processes.look(process.pid)).collect();
        let book = &mut self.daemon.lock().book;
        looks.into_iter().for_each(|process| book.renamed(process));
        book.processes()
    }

    /// The processes of this node that have never been ordered to move, as far as the client may see them.
    fn strangers(&self) -> Vec<Process> {
        let mut pids = self.daemon.processes.list();
        pids.sort_unstable();
        let own = pids.into_iter().filter_map(|pid| self.own(pid).ok()).collect::<Vec<_>>();
        let state = self.daemon.lock();
        let strangers = own.into_iter().filter(|process| !state.book.knows(process.pid));
        strangers.map(|process| state.book.stranger(process)).collect()
    }

    fn migrate(&self, pid: i32, to: &str, at_exec: bool) -> Result<Answer, Refusal> {
        let process = self.own(pid)?;
        let (target, leaves) = {
            let state = self.daemon.lock();
            let target = state.book.target(to)?;
            let leaves = state.book.would_leave(pid, &target);
            (target, leaves)
        };
        // A program that waits to replace its image is judged when it has done so.
        if leaves && !at_exec {
            let reasons = (self.daemon.eligibility)(pid);
            if !reasons.is_empty() {
                return Err(Refusal::CannotMove { pid, reasons });
            }
        }
        let target = match self.placed(pid, target, at_exec)? {
            Some(target) => target,
            None => {
                let at = self.daemon.settings.node.clone();
                return Ok(Answer::Migrated(Migrated { pid, at, moved: false, freeze_us: 0 }));
            }
        };
        let (sender, receiver) = sync_channel(1);
        let ticket = self.daemon.tell(|state| {
            let ticket = state.book.ticket();
            state.waiters.insert(ticket, sender);
            state.book.migrate(ticket, process, target, at_exec);
            ticket
        });
        receiver.recv_timeout(MOVE).map_err(|_| {
            self.daemon.tell(|state| {
                state.waiters.remove(&ticket);
                state.book.give_up(ticket);
            });
            Refusal::TimedOut { pid, seconds: MOVE.as_secs() }
        })
    }

    /// Where `best` is at the moment, if that is to be told by loads; `None` if it is here.
    fn placed(&self, pid: i32, target: Target, at_exec: bool) -> Result<Option<Target>, Refusal> {
        let Some(cluster) =
            self.daemon.cluster().filter(|cluster| target == Target::Best && cluster.balances())
        else {
            return Ok(Some(target));
        };
        let is_away = matches!(self.daemon.lock().book.standing(pid), Some(Standing::Elsewhere { .. }));
        if is_away {
            return Ok(Some(target));
        }
        // Of a program that begins nobody knows how much it is going to want.
        let memory_mib = if at_exec { None } else { Some(memory_mib(pid)) };
        Ok(self.daemon.place(&cluster, pid, memory_mib).map(Target::Lent))
    }

    fn trace(&mut self, pid: i32) -> Result<(), LineError> {
        let process = match self.own(pid) {
            Ok(process) => process,
            Err(refusal) => return self.refuse(refusal),
        };
        let (events, receiver) = sync_channel(EVENTS);
        let watched = self.daemon.tell(|state| {
            state.book.watch(process.clone())?;
            state.followers.entry(pid).or_default().push(Follower { events, lost: 0 });
            Ok(())
        });
        if let Err(refusal) = watched {
            return self.refuse(refusal);
        }
        let outcome = loop {
            match receiver.recv_timeout(LOOK) {
                Ok(event) => {
                    let last = matches!(event, Event::Ended { .. });
                    if let Err(error) = self.send(&Answer::Event(event)) {
                        break Err(error);
                    }
                    if last {
                        break self.send(&Answer::End);
                    }
                }
                Err(RecvTimeoutError::Timeout) if has_gone(self.lines.stream()) => {
                    break Err(LineError::Closed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break self.send(&Answer::End),
            }
        };
        drop(receiver);
        self.daemon.tell(|state| state.book.unwatch(&process));
        outcome
    }
}

/// Memory that a process uses, in MiB (`/proc/PID/statm`); nothing if it has ended.
fn memory_mib(pid: i32) -> f64 {
    const PAGE_BYTES: f64 = 4096.0;
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = text.split_ascii_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok());
    pages.unwrap_or(0) as f64 * PAGE_BYTES / f64::from(1 << 20)
}

/// Whether the peer has closed its end.
fn has_gone(stream: &UnixStream) -> bool {
    let mut byte = [0u8; 1];
    match recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((count, _)) => count == 0,
        Err(error) => io::Error::from(error).kind() != io::ErrorKind::WouldBlock,
    }
}
