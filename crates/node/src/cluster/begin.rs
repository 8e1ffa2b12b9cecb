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

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minka_cluster::NodeId;
use minka_cluster::balance::{Calls, Candidate, Demand, Expected, Prices, ProcessId, ProgramId, Programs};
use minka_cluster::gossip::Millis;
use minka_sample::{Process, Sampler, Scope};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use tracing::{debug, warn};

use super::directory::parts;
use super::fates::{Environment, calls, own_time};
use super::{Cluster, millis, now};
use crate::book::Standing;
use crate::daemon::Daemon;

/// How often those are looked at that have begun, and for how long: then the looks at everybody do.
const PAUSE_MS: u16 = 20;
const YOUTH: Duration = Duration::from_secs(5);

/// The kernel tells of an `execve` when it begins. If the process has no new image after so long, that has failed.
const IMAGE_LIMIT: Duration = Duration::from_millis(500);

/// Those that are looked at, at most.
const YOUNG_MAX: usize = 64;

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

/// The file that a process executes; none if it has ended, or may not be asked.
fn program_of(pid: i32) -> Option<ProgramId> {
    let file = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    let changed_ns = file.ctime().wrapping_mul(1_000_000_000).wrapping_add(file.ctime_nsec());
    Some(ProgramId { device: file.dev(), inode: file.ino(), changed_ns })
}

/// A process that has begun to be of a program that is known.
#[derive(Debug)]
struct Young {
    pid: i32,
    begun: Instant,
    calls: Calls,
    environment: Option<Environment>,
}

impl Young {
    fn new(pid: i32) -> Self {
        Young { pid, begun: Instant::now(), calls: Calls::default(), environment: None }
    }
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

    /// Looks at those that have begun for as long as they are young. Returns when nobody tells of them any more.
    fn watch_young(self: &Arc<Self>, cluster: &Arc<Cluster>, ear: &Fanotify) -> nix::Result<()> {
        let mut sampler = Sampler::new(Path::new("/proc"), Scope::Visible);
        let mut young: Vec<Young> = Vec::new();
        loop {
            let pause = if young.is_empty() { PollTimeout::NONE } else { PollTimeout::from(PAUSE_MS) };
            match poll(&mut [PollFd::new(ear.as_fd(), PollFlags::POLLIN)], pause) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => {
                    let events = match ear.read_events() {
                        Err(Errno::EINTR | Errno::EAGAIN) => Vec::new(),
                        events => events?,
                    };
                    // Who is in no namespace of this daemon's has no PID.
                    for pid in events.iter().map(|event| event.pid()).filter(|pid| *pid > 0) {
                        young.retain(|it| it.pid != pid);
                        if young.len() < YOUNG_MAX {
                            young.push(Young::new(pid));
                        }
                    }
                    // It comes with its image.
                    continue;
                }
                Err(error) => return Err(error),
            }
            young.retain_mut(|it| self.attend_to(cluster, &mut sampler, it));
        }
    }

    /// Looks at a process that has begun. Says whether it is to be looked at again.
    fn attend_to(self: &Arc<Self>, cluster: &Arc<Cluster>, sampler: &mut Sampler, young: &mut Young) -> bool {
        let pid = young.pid;
        let Some(program) = program_of(pid) else { return false };
        let age = young.begun.elapsed();
        if !cluster.lock().begin.programs.knows(program) {
            return age < IMAGE_LIMIT;
        }
        let Some(expected) = cluster.lock().begin.programs.expected(program) else { return false };
        let Some(process) = sampler.glance(pid).filter(|_| age < YOUTH) else { return false };
        let Some(calls) = calls(pid) else { return false };
        if !young.calls.observe(process.computed, calls) {
            return true;
        }
        // It has had its environment for long.
        let environment = *young.environment.get_or_insert_with(|| Environment::of(pid));
        if !self.is_free(pid, process.parent) {
            return false;
        }
        let Some(candidate) = self.beginner(cluster, &process, environment, expected) else { return false };
        let moves = (self.eligibility)(pid).is_empty() && self.relatives(pid).len() == 1;
        let actions = {
            let state = &mut *cluster.lock();
            let time = millis(now());
            state.looks.fate(time, &process).eligible = Some((time, moves));
            if !moves {
                return false;
            }
            state.node.keep(is_there);
            state.node.begins(time, candidate)
        };
        self.act(cluster, actions);
        true
    }

    /// It is nobody's but the balancer's.
    fn is_free(&self, pid: i32, parent: i32) -> bool {
        let state = self.lock();
        let at_home = matches!(state.book.standing(pid), None | Some(Standing::Home { placed: false }));
        at_home && ![pid, parent].iter().any(|pid| state.book.is_helper(*pid))
    }

    /// What the balancer is to think of it; none if it is to leave it alone.
    fn beginner(
        &self,
        cluster: &Cluster,
        process: &Process,
        environment: Environment,
        expected: Expected,
    ) -> Option<Candidate> {
        let state = &mut *cluster.lock();
        let time = millis(now());
        let fate = state.looks.fate(time, process);
        let environment = fate.marks.over(fate.begins_with(time, environment));
        let computed_s = process.computed.as_secs_f64();
        let memory_mib = process.memory_mib.max(expected.memory_mib);
        let candidate = Candidate {
            process: cluster.directory.process(cluster.directory.own.number, process.pid),
            uid: process.uid,
            program: process.program.clone(),
            cgroup: process.cgroup.clone(),
            started: environment.started,
            locked: environment.locked || fate.rest_until > time,
            demand: Demand::new(&Prices::default(), 1.0, computed_s, memory_mib),
            computed_s,
            here_since: time,
            calls_per_s: environment.job.calls_per_s(expected.calls_per_s),
            home: None,
        };
        state.node.config().settings.permits(&candidate).then_some(candidate)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_its_file() {
        let own = i32::try_from(std::process::id()).unwrap();
        let file = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        let program = program_of(own).unwrap();
        assert_eq!((program.device, program.inode), (file.dev(), file.ino()));
        let process = |pid: i32| ProcessId(1 << 32 | u64::from(pid.unsigned_abs()));
        assert!(is_there(process(own)));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert!(program_of(gone).is_none() && !is_there(process(gone)));
    }
}
