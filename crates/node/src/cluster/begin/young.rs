//! Processes that have begun lately, each watched until it computes by itself.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minka_cluster::balance::{Calls, Candidate, Demand, Expected, Prices};
use minka_sample::{Process, Sampler, Scope};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::Fanotify;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::super::fates::{Environment, calls};
use super::super::look::unseen;
use super::super::{Cluster, millis, now};
use super::{ProgramId, is_there};
use crate::book::Standing;
use crate::daemon::Daemon;

/// How often those are looked at that have begun, and for how long: then the looks at everybody do.
const PAUSE_MS: u16 = 5;
const YOUTH: Duration = Duration::from_secs(5);

/// Nobody who had better stay is thought about again before this.
const AGAIN: Duration = Duration::from_millis(20);

/// The kernel tells of an `execve` when it begins. If the process has no new image after so long, that has failed.
const IMAGE_LIMIT: Duration = Duration::from_millis(500);

/// Those that are looked at, at most.
const YOUNG_MAX: usize = 64;

/// That a process can be moved is believed for so long, in milliseconds.
const MOVES_MS: u64 = 500;

/// The file that a process executes; none if it has ended, or may not be asked.
pub(super) fn program_of(pid: i32) -> Option<ProgramId> {
    let file = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    let changed_ns = file.ctime().wrapping_mul(1_000_000_000).wrapping_add(file.ctime_nsec());
    Some(ProgramId { device: file.dev(), inode: file.ino(), changed_ns })
}

/// What a process has used of the processors so far, without a file of `/proc` to be read; none if it has ended.
fn computed(pid: i32) -> Option<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

/// A process that has begun to be of a program that is known.
#[derive(Debug)]
struct Young {
    pid: i32,
    begun: Instant,
    /// It has its image, and is counted as one that computes here.
    is_known: bool,
    calls: Calls,
    environment: Option<Environment>,
    /// When it was last thought about.
    considered: Option<Instant>,
}

impl Young {
    fn new(pid: i32) -> Self {
        Young {
            pid,
            begun: Instant::now(),
            is_known: false,
            calls: Calls::default(),
            environment: None,
            considered: None,
        }
    }
}

impl Daemon {
    /// Looks at those that have begun for as long as they are young. Returns when nobody tells of them any more.
    pub(super) fn watch_young(self: &Arc<Self>, cluster: &Arc<Cluster>, ear: &Fanotify) -> nix::Result<()> {
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
        let (pid, age) = (young.pid, young.begun.elapsed());
        if !young.is_known {
            match self.is_expected(cluster, pid) {
                Some(is_expected) => young.is_known = is_expected,
                None => return false,
            }
            return young.is_known || age < IMAGE_LIMIT;
        }
        let Some(computed) = computed(pid).filter(|_| age < YOUTH) else { return false };
        let computes = young.calls.observe(computed, || calls(pid));
        if !computes || young.considered.is_some_and(|at| at.elapsed() < AGAIN) {
            return true;
        }
        young.considered = Some(Instant::now());
        self.consider(cluster, sampler, young)
    }

    /// Whether a process has become one of a program that is expected to compute; none if it has become one of another that is
    /// known, or has ended. From then on it counts as one that computes here.
    fn is_expected(&self, cluster: &Cluster, pid: i32) -> Option<bool> {
        let program = program_of(pid)?;
        let state = &mut *cluster.lock();
        if !state.begin.programs.knows(program) {
            return Some(false);
        }
        let expected = state.begin.programs.expected(program)?;
        let demand = Demand::new(&Prices::default(), 1.0, 0.0, expected.memory_mib);
        let process = cluster.directory.process(cluster.directory.own.number, pid);
        state.node.came(unseen(process, None, demand, 0.0, millis(now())));
        Some(true)
    }

    /// Has the balancer think of a process that computes by itself. Says whether it is to be looked at again.
    fn consider(self: &Arc<Self>, cluster: &Arc<Cluster>, sampler: &mut Sampler, young: &mut Young) -> bool {
        let pid = young.pid;
        let Some(program) = program_of(pid) else { return false };
        let Some(expected) = cluster.lock().begin.programs.expected(program) else { return false };
        let Some(process) = sampler.glance(pid) else { return false };
        if !self.is_free(pid, process.parent) {
            return false;
        }
        let Some(candidate) = self.beginner(cluster, &process, young, expected) else { return false };
        if !self.moves(cluster, &process) {
            return false;
        }
        let actions = {
            let state = &mut *cluster.lock();
            state.node.keep(is_there);
            state.node.begins(millis(now()), candidate)
        };
        self.act(cluster, actions);
        true
    }

    /// Whether it can be moved, by itself.
    fn moves(&self, cluster: &Cluster, process: &Process) -> bool {
        let time = millis(now());
        let known = cluster.lock().looks.fate(time, process).eligible;
        if let Some((_, moves)) = known.filter(|(at, _)| time.saturating_sub(*at) < MOVES_MS) {
            return moves;
        }
        let pid = process.pid;
        let moves = (self.eligibility)(pid).is_empty() && self.relatives(pid).len() == 1;
        cluster.lock().looks.fate(time, process).eligible = Some((time, moves));
        moves
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
        young: &mut Young,
        expected: Expected,
    ) -> Option<Candidate> {
        // It has had its environment for long.
        let new = young.environment.is_none().then(|| Environment::of(process.pid));
        let state = &mut *cluster.lock();
        let time = millis(now());
        let fate = state.looks.fate(time, process);
        if let Some(environment) = new {
            young.environment = Some(fate.begins_with(time, environment));
        }
        let environment = fate.marks.over(young.environment?);
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
}

#[cfg(test)]
mod tests {
    use minka_cluster::balance::ProcessId;

    use super::*;

    #[test]
    fn a_program_is_its_file() {
        let own = i32::try_from(std::process::id()).unwrap();
        let file = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        let program = program_of(own).unwrap();
        assert_eq!((program.device, program.inode), (file.dev(), file.ino()));
        assert!(computed(own).unwrap() > Duration::ZERO);
        let process = |pid: i32| ProcessId(1 << 32 | u64::from(pid.unsigned_abs()));
        assert!(is_there(process(own)));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert!(program_of(gone).is_none() && computed(gone).is_none() && !is_there(process(gone)));
    }
}
