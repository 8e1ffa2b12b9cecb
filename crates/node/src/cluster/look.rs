//! What a look at this machine comes to: whose load is what, and who may be moved.

use std::sync::Arc;

use minka_cluster::NodeId;
use minka_cluster::balance::{Candidate, Demand, Mode, Prices, ProcessId, Settings};
use minka_cluster::gossip::Millis;
use minka_cluster::load::{Decay, Devices, Job, Load, Pace};
use minka_cluster::node::Sample;
use minka_sample::Process;
use minka_wire::local::Accelerators;

use super::Cluster;
use super::begin::Begin;
use super::fates::{ELIGIBLE_MS, Fate, Guest, Looks, NEW_MS, calls};
use crate::book::{Standing, Standings};
use crate::daemon::Daemon;

/// Of so many processes at most it is found out in one step whether they can be moved at all.
const EXAMINED_MAX: usize = 64;

/// Milliseconds of a clock tick in `/proc` (`USER_HZ`).
const TICK_MS: u64 = 10;

impl Daemon {
    /// Makes of what `/proc` says what the balancer needs; `resting` are those that only have memory, if that is tight.
    pub(super) fn look(
        &self,
        cluster: &Cluster,
        now: Millis,
        sample: minka_sample::Sample,
        resting: &[Process],
    ) -> Sample {
        let standings = self.lock().book.standings();
        let state = &mut *cluster.lock();
        let mut view = View {
            daemon: self,
            cluster,
            settings: state.node.config().settings.clone(),
            decay: state.decay,
            standings,
            now,
            is_tight: !resting.is_empty(),
            examined: 0,
            gone_tasks: 0.0,
        };
        let seen = sample
            .processes
            .iter()
            .chain(resting)
            .filter_map(|process| view.candidate(&mut state.looks, &mut state.begin, process));
        let mut candidates: Vec<Candidate> = seen.collect();
        candidates.extend(view.unseen(&state.looks, &candidates));
        let load = Load::of_tasks((sample.load.tasks() - view.gone_tasks).max(0.0));
        Sample {
            load,
            used_percent: sample.used_percent,
            io_stall: sample.io_stall,
            memory_mib: sample.memory_mib,
            candidates,
            presence: state.presence,
            devices: self.accelerators().map(devices),
        }
    }

    /// A guest has come to this node.
    pub(crate) fn guest_arrived(self: &Arc<Self>, home: &str, home_pid: i32) {
        let Some(cluster) = self.cluster() else { return };
        let Some(number) = cluster.directory.number(home) else { return };
        let process = cluster.directory.process(number, home_pid);
        let state = &mut *cluster.lock();
        let time = super::millis(super::now());
        let candidate = |wanted: Demand| {
            let computed_s = wanted.computed_s(&Prices::default());
            unseen(process, Some(number), wanted, computed_s, time)
        };
        let wanted = state.node.received(process, candidate);
        state.looks.guest_arrived(time, process, wanted);
    }

    /// A guest has gone from this node.
    pub(crate) fn guest_left(self: &Arc<Self>, home: &str, home_pid: i32) {
        let Some(cluster) = self.cluster() else { return };
        let Some(number) = cluster.directory.number(home) else { return };
        let process = cluster.directory.process(number, home_pid);
        let state = &mut *cluster.lock();
        state.node.settled(process);
        state.node.gone(process);
        state.looks.guest_left(process);
    }
}

/// A process that computes here and has not shown itself yet: a guest, or one of a node's own that has just begun.
pub(super) fn unseen(
    process: ProcessId,
    home: Option<NodeId>,
    wanted: Demand,
    computed_s: f64,
    here_since: Millis,
) -> Candidate {
    Candidate {
        process,
        uid: 0,
        program: String::new(),
        cgroup: String::new(),
        started: false,
        locked: true,
        demand: wanted,
        computed_s,
        here_since,
        calls_per_s: 0.0,
        home,
    }
}

/// Whether a process sleeps again and again, and has computed little, or less than its children: a `make`, or a shell. Where many
/// share a processor they wait for it for long, and yet it is what they start that should leave.
fn waits(process: &Process, computed_min_s: f64) -> bool {
    let has_computed = process.computed.as_secs_f64() >= computed_min_s;
    process.sleeps && (!has_computed || process.children > process.computed)
}

/// A node's accelerators, as it tells the others of them.
fn devices(all: Accelerators) -> [Devices; 4] {
    [all.intel, all.nvidia, all.amd, all.mic].map(|kind| Devices::new(kind.total, kind.free, kind.drained))
}

/// One look.
struct View<'a> {
    daemon: &'a Daemon,
    cluster: &'a Cluster,
    settings: Settings,
    decay: Decay,
    standings: Standings,
    now: Millis,
    /// Memory is so tight that somebody may have to leave who has not earned it.
    is_tight: bool,
    examined: usize,
    /// What those had of the processors that have left since, and those that are about moves.
    gone_tasks: f64,
}

impl View<'_> {
    /// A process as the balancer sees it; none if it is Minka's own, or does not compute here.
    fn candidate(&mut self, looks: &mut Looks, begin: &mut Begin, process: &Process) -> Option<Candidate> {
        if let Some((home, home_pid, calls)) = self.standings.guests.get(&process.pid) {
            let number = self.cluster.directory.number(home)?;
            let name = self.cluster.directory.process(number, *home_pid);
            let guest = looks.guests.entry(name).or_insert_with(|| Guest::new(self.now, 0.0, None));
            let tasks = process.tasks;
            let wanted = guest.forwarding.observe(&self.decay, self.settings.call_s, self.now, *calls, tasks);
            let guest = guest.clone();
            let process = &Process { tasks: wanted, ..process.clone() };
            let computed_s = guest.computed_s + process.computed.as_secs_f64();
            let mut candidate = self.described(process, name, computed_s, guest.since);
            if let Some(wanted) = guest.wanted.filter(|_| guest.is_new(self.now)) {
                let tasks = candidate.demand.tasks.max(wanted.tasks);
                let memory_mib = candidate.demand.memory_mib.max(wanted.memory_mib);
                candidate.demand = Demand::new(&Prices::default(), tasks, computed_s, memory_mib);
            }
            let calls_per_s = guest.forwarding.per_s();
            let locked = guest.wanted.is_none();
            return Some(Candidate { home: Some(number), locked, calls_per_s, ..candidate });
        }
        let helpers = &self.standings.helpers;
        let since = process.start_ticks.saturating_mul(TICK_MS);
        if helpers.contains(&process.pid) || helpers.contains(&process.parent) {
            if self.now.saturating_sub(since) < NEW_MS {
                self.gone_tasks += process.tasks;
            }
            return None;
        }
        let placed = match self.standings.own.get(&process.pid) {
            Some(Standing::Elsewhere { .. }) => {
                self.gone_tasks += process.tasks;
                return None;
            }
            Some(Standing::Home { placed }) => *placed,
            None => false,
        };
        let name = self.cluster.directory.process(self.cluster.directory.own.number, process.pid);
        let mut candidate = self.described(process, name, process.computed.as_secs_f64(), since);
        let fate = looks.fate(self.now, process);
        fate.at_home(self.now);
        candidate.locked = placed || fate.rest_until > self.now;
        candidate.locked |= waits(process, self.settings.computed_min_s) && !self.is_tight;
        let (mut pace, mut job) = (Pace::Slow, Job::Counted);
        if self.settings.mode != Mode::None && !candidate.locked {
            let environment = fate.marks.over(fate.environment(self.now, process.pid));
            (candidate.started, candidate.locked) = (environment.started, environment.locked);
            (pace, job) = (environment.pace, environment.job);
        }
        if self.settings.permits(&candidate) {
            begin.learn(self.now, process, !std::mem::replace(&mut fate.learnt, true));
        }
        let has_earned = self.is_tight || self.settings.has_earned(&candidate, self.now);
        if self.settings.permits(&candidate) && has_earned {
            fate.count_calls(self.now, &self.decay, pace, calls(process.pid));
            candidate.calls_per_s = job.calls_per_s(fate.usage.calls_per_s());
            candidate.locked = !self.is_eligible(process.pid, fate);
        }
        Some(candidate)
    }

    /// Guests that have come and have not shown themselves yet.
    fn unseen(&self, looks: &Looks, seen: &[Candidate]) -> Vec<Candidate> {
        let new = looks.guests.iter().filter(|(_, guest)| guest.is_new(self.now));
        let others = new.filter(|(name, _)| seen.iter().all(|candidate| candidate.process != **name));
        let candidate = |(name, guest): (&ProcessId, &Guest)| {
            let (home, _) = super::directory::parts(*name)?;
            Some(unseen(*name, Some(home), guest.wanted?, guest.computed_s, guest.since))
        };
        others.filter_map(candidate).collect()
    }

    fn described(&self, process: &Process, name: ProcessId, computed_s: f64, since: Millis) -> Candidate {
        let tasks = process.tasks.min(f64::from(process.threads));
        Candidate {
            process: name,
            uid: process.uid,
            program: process.program.clone(),
            cgroup: process.cgroup.clone(),
            started: false,
            locked: false,
            demand: Demand::new(&Prices::default(), tasks, computed_s, process.memory_mib),
            computed_s,
            here_since: since,
            calls_per_s: 0.0,
            home: None,
        }
    }

    /// Whether it can be moved at all, as far as that is known by now.
    fn is_eligible(&mut self, pid: i32, fate: &mut Fate) -> bool {
        match fate.eligible {
            Some((at, eligible)) if self.now.saturating_sub(at) < ELIGIBLE_MS => eligible,
            _ if self.examined >= EXAMINED_MAX => false,
            _ => {
                self.examined += 1;
                // Those that would have to move together are left where they are.
                let moves = (self.daemon.eligibility)(pid).is_empty();
                let eligible = moves && self.daemon.relatives(pid).len() == 1;
                fate.eligible = Some((self.now, eligible));
                eligible
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use minka_cluster::load::{Pace, Usage};

    use super::*;

    #[test]
    fn who_waits_for_its_children_is_known_by_what_they_have_computed() {
        let process = |sleeps, computed_ms, children_ms| Process {
            pid: 7,
            start_ticks: 1,
            parent: 1,
            uid: 1000,
            program: "make".to_owned(),
            cgroup: String::new(),
            threads: 1,
            memory_mib: 4.0,
            tasks: 0.5,
            computed: Duration::from_millis(computed_ms),
            sleeps,
            children: Duration::from_millis(children_ms),
            usage: Usage::new(Pace::Slow),
        };
        let all = [(true, 300, 900), (true, 20, 0), (true, 300, 200), (false, 300, 900), (false, 20, 0)];
        let found = all.map(|(sleeps, computed, children)| waits(&process(sleeps, computed, children), 0.2));
        assert_eq!(found, [true, true, false, false, false]);
    }
}
