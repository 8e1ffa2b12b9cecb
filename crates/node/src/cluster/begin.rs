//! Programs that begin: those that are known to compute leave as soon as they do.
//!
//! ```text
//!  a look, once a second: a process computes ──► Programs (what to expect of the next run of its file)
//!                                                   │ the first time
//!                                                   ▼
//!  fanotify: its file is opened to be executed ──► young ──► it has read what it needs ──► the balancer ──► moving
//! ```
//!
//! Nobody is asked for leave and nobody waits: the kernel tells of an `execve` when it has begun, and what is told is the
//! file's number and the process's. No program is looked for that was not seen to compute, so a node on which nobody computes
//! hears of nothing. Where the kernel does not tell (only root hears of others), processes are looked at once a second all the
//! same.

mod young;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use minka_cluster::NodeId;
use minka_cluster::balance::{Demand, Expected, ProcessId, ProgramId, Programs};
use minka_cluster::gossip::Millis;
use minka_sample::Process;
use nix::fcntl::AT_FDCWD;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use tracing::{debug, warn};

use super::directory::parts;
use super::fates::{calls, own_time};
use super::{Cluster, millis, now};
use crate::daemon::Daemon;
use young::program_of;

/// Files that are listened to at most: more than programs are remembered, for files are only forgotten all at once.
const FILES_MAX: usize = 128;

/// What is known of programs, and of those that the balancer has away.
#[derive(Debug, Default)]
pub(super) struct Begin {
    programs: Programs,
    /// Programs that have been seen to compute for the first time, and who did.
    fresh: Vec<(ProgramId, i32)>,
    listens: Listens,
    /// Those whose beginnings are heard of.
    heard: BTreeSet<ProgramId>,
    lent: BTreeMap<i32, Lent>,
}

/// Whether the kernel tells of beginnings.
#[derive(Debug, Default)]
enum Listens {
    #[default]
    NotYet,
    To(Arc<Fanotify>),
    /// It does not.
    Cannot,
}

/// An own process that the balancer has away, or on its way.
#[derive(Debug)]
struct Lent {
    demand: Demand,
    /// The program with whose beginning it left.
    program: Option<ProgramId>,
    at: Option<(NodeId, Millis)>,
}

impl Begin {
    /// A process that may be moved has computed for so long here; `is_first` if nothing was learnt of it before.
    pub(super) fn learn(&mut self, now: Millis, process: &Process, is_first: bool) {
        let computed_s = process.computed.as_secs_f64();
        let Some(program) = program_of(process.pid).filter(|_| Programs::computes(computed_s)) else {
            return;
        };
        let calls_per_s = calls(process.pid).unwrap_or(0) as f64 / computed_s;
        let run = Expected { memory_mib: process.memory_mib, calls_per_s };
        self.programs.saw(now, program, is_first, run);
        if !self.heard.contains(&program) && !matches!(self.listens, Listens::Cannot) {
            self.fresh.push((program, process.pid));
        }
    }

    /// An own process is about to be moved by the balancer.
    pub(super) fn lend(&mut self, pid: i32, demand: Demand, begins: bool) {
        let program = || program_of(pid).filter(|_| begins);
        self.lent.entry(pid).or_insert_with(|| Lent { demand, program: program(), at: None });
    }

    /// It was not.
    pub(super) fn not_lent(&mut self, now: Millis, pid: i32) {
        if self.lent.get(&pid).is_some_and(|lent| lent.at.is_none())
            && let Some(program) = self.lent.remove(&pid).and_then(|lent| lent.program)
        {
            self.programs.failed(now, program);
        }
    }
}

/// Where an own process has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival<'a> {
    At(&'a str),
    Home { by_itself: bool },
}

impl Daemon {
    /// Listens to what has been learnt of since this was last called.
    pub(super) fn listen(self: &Arc<Self>, cluster: &Arc<Cluster>) {
        let begin = &mut cluster.lock().begin;
        let fresh = std::mem::take(&mut begin.fresh);
        if fresh.is_empty() {
            return;
        }
        if matches!(begin.listens, Listens::NotYet) {
            begin.listens = match self.start_listening(cluster) {
                Ok(ear) => Listens::To(ear),
                Err(error) => {
                    debug!(%error, "the kernel does not tell of programs that begin");
                    Listens::Cannot
                }
            };
        }
        let Listens::To(ear) = &begin.listens else { return };
        for (program, pid) in fresh {
            if begin.heard.len() >= FILES_MAX {
                begin.heard.clear();
                let flushed =
                    ear.mark(MarkFlags::FAN_MARK_FLUSH, MaskFlags::FAN_OPEN_EXEC, AT_FDCWD, None::<&Path>);
                if let Err(error) = flushed {
                    warn!(%error, "failed to listen to fewer programs");
                }
            }
            let file = format!("/proc/{pid}/exe");
            match ear.mark(
                MarkFlags::FAN_MARK_ADD,
                MaskFlags::FAN_OPEN_EXEC,
                AT_FDCWD,
                Some(Path::new(&file)),
            ) {
                Ok(()) => drop(begin.heard.insert(program)),
                Err(error) => debug!(%error, pid, "not told of a program's beginnings"),
            }
        }
    }

    fn start_listening(self: &Arc<Self>, cluster: &Arc<Cluster>) -> nix::Result<Arc<Fanotify>> {
        let init = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let ear = Arc::new(Fanotify::init(init, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC)?);
        let (daemon, cluster, heard) = (Arc::clone(self), Arc::clone(cluster), Arc::clone(&ear));
        std::thread::spawn(move || {
            if let Err(error) = daemon.watch_young(&cluster, &heard) {
                warn!(%error, "not told of programs that begin any more");
            }
        });
        Ok(ear)
    }

    /// A process of this node has arrived somewhere; so many calls were forwarded before.
    pub(crate) fn process_arrived(self: &Arc<Self>, pid: i32, at: Arrival<'_>, calls: u64) {
        let Some(cluster) = self.cluster() else { return };
        let number = match at {
            Arrival::At(name) => cluster.directory.number(name),
            Arrival::Home { .. } => None,
        };
        let number = number.filter(|number| *number != cluster.directory.own.number);
        let process = cluster.directory.process(cluster.directory.own.number, pid);
        let state = &mut *cluster.lock();
        let (decay, settings) = (state.decay, state.node.config().settings.clone());
        let time = millis(now());
        state.looks.arrived(&decay, &settings, time, pid, number.is_some(), calls);
        let Some(lent) = state.begin.lent.get_mut(&pid) else { return };
        if let Some((node, _)) = lent.at.take() {
            state.node.left(time, node, &lent.demand);
        }
        lent.at = number.map(|number| (number, time));
        if number.is_some() {
            return state.node.gone(process);
        }
        let program = state.begin.lent.remove(&pid).and_then(|lent| lent.program);
        if let Some(program) = program.filter(|_| at == Arrival::Home { by_itself: true }) {
            state.begin.programs.failed(time, program);
        }
    }

    /// A process of this node has no deputy any more; so many calls were forwarded since it arrived where it was.
    pub(crate) fn deputy_ended(&self, pid: i32, calls: u64) {
        let Some(cluster) = self.cluster() else { return };
        let state = &mut *cluster.lock();
        let Some(Lent { demand, program, at: Some((node, since)) }) = state.begin.lent.remove(&pid) else {
            return;
        };
        let time = millis(now());
        state.node.left(time, node, &demand);
        if let Some(program) = program {
            let stay_ms = time.saturating_sub(since);
            let own_time = own_time(&state.node.config().settings, stay_ms.max(1), calls);
            state.begin.programs.ended(time, program, stay_ms, calls as f64 / own_time.as_secs_f64());
        }
    }
}

/// Whether a process of this node still has its PID.
fn is_there(process: ProcessId) -> bool {
    let pid = parts(process).and_then(|(_, pid)| rustix::process::Pid::from_raw(pid));
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}
