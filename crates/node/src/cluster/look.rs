//! What a look at this machine comes to: whose load is what, and who may be moved.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use minka_cluster::balance::{Candidate, Demand, Mode, Presence, Prices, ProcessId, Settings};
use minka_cluster::gossip::Millis;
use minka_cluster::load::{Decay, Load, Pace, Usage};
use minka_cluster::node::Sample;
use minka_sample::Process;

use super::Cluster;
use crate::book::{Standing, Standings};
use crate::daemon::Daemon;

/// Whether a process can be moved at all is found out again after so long, and of so many in one step at most.
const ELIGIBLE_MS: Millis = 10_000;
const EXAMINED_MAX: usize = 64;

/// What did not move is left alone for so long.
const REFUSED_MS: Millis = 30_000;

/// A process that came home by itself is left alone for this long, twice as long if it has hardly been away, and so on.
const REST_MS: Millis = 1_000;
const STRIKES_MAX: u32 = 6;

/// A stay of this length was worth the move.
const STAY_WORTHWHILE_MS: Millis = 10_000;

/// Processes of which something is remembered, and for how long after they were last seen.
const FATES_MAX: usize = 4096;
const REMEMBERED_MS: Millis = 600_000;

/// The variable that `mosrun` leaves in the environment of what it starts, for its descendants to inherit.
pub const STARTED_VARIABLE: &str = "MINKA_STARTED";

/// The variable that says that a process and its descendants stay where they are, unless a user moves them.
pub const LOCKED_VARIABLE: &str = "MINKA_LOCKED";

/// The variable that says how fast what is known of a process and its descendants is forgotten: `slow`, `fast` or `never`.
pub const DECAY_VARIABLE: &str = "MINKA_DECAY";

/// So long after a guest has come it counts as what it wants, if it uses less: its memory may still be on its way. And
/// so long after one of Minka's own programs has begun what it does is the move itself, which is over before anybody
/// could have gone because of it.
const NEW_MS: Millis = 2_000;

/// Milliseconds of a clock tick in `/proc` (`USER_HZ`).
const TICK_MS: u64 = 10;

/// What is known of processes from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Of own processes, by PID.
    fates: BTreeMap<i32, Fate>,
    guests: BTreeMap<ProcessId, Guest>,
}

/// What is remembered of an own process.
#[derive(Debug)]
struct Fate {
    start_ticks: u64,
    seen: Millis,
    /// Whether it could be moved, when that was last found out.
    eligible: Option<(Millis, bool)>,
    /// What its environment says, likewise.
    environment: Option<(Millis, Environment)>,
    /// Since when the balancer has had it away.
    away_since: Option<Millis>,
    rest_until: Millis,
    strikes: u32,
    /// Calls that it had made for reading and writing, and what is remembered of them.
    calls: Option<(Millis, u64)>,
    usage: Usage,
}

/// A guest that has come here.
#[derive(Debug, Clone, Copy)]
struct Guest {
    since: Millis,
    /// Processor time that it had used before.
    computed_s: f64,
    /// What its home said that it wants, if its balancer has sent it: then it may be sent on.
    wanted: Option<Demand>,
}

impl Guest {
    /// It came so lately that what it uses does not show yet.
    fn is_new(&self, now: Millis) -> bool {
        now.saturating_sub(self.since) < NEW_MS
    }
}

impl Looks {
    /// A guest has come; what its home has said that it wants, if that has asked before.
    pub(super) fn guest_arrived(&mut self, now: Millis, process: ProcessId, wanted: Option<Demand>) {
        let computed_s = wanted.map_or(0.0, |demand| demand.computed_s(&Prices::default()));
        self.guests.insert(process, Guest { since: now, computed_s, wanted });
    }

    pub(super) fn guest_left(&mut self, process: ProcessId) {
        self.guests.remove(&process);
    }

    /// A process was moved by the balancer: away, or home.
    pub(super) fn moved(&mut self, now: Millis, pid: i32, away: bool) {
        if let Some(fate) = self.fates.get_mut(&pid) {
            fate.away_since = away.then_some(now);
        }
    }

    /// It was to be moved and was not.
    pub(super) fn not_moved(&mut self, now: Millis, pid: i32) {
        if let Some(fate) = self.fates.get_mut(&pid) {
            fate.rest_until = now + REFUSED_MS;
        }
    }

    fn fate(&mut self, now: Millis, process: &Process) -> &mut Fate {
        if self.fates.len() >= FATES_MAX {
            self.fates.retain(|_, fate| now.saturating_sub(fate.seen) < REMEMBERED_MS);
        }
        let fate = self.fates.entry(process.pid).or_insert_with(|| Fate::new(process.start_ticks));
        if fate.start_ticks != process.start_ticks {
            *fate = Fate::new(process.start_ticks);
        }
        fate.seen = now;
        fate
    }
}

impl Fate {
    fn new(start_ticks: u64) -> Self {
        Fate {
            start_ticks,
            seen: 0,
            eligible: None,
            environment: None,
            away_since: None,
            rest_until: 0,
            strikes: 0,
            calls: None,
            usage: Usage::new(Pace::Slow),
        }
    }

    /// It computes at home; if it was away, it has come back by itself.
    fn at_home(&mut self, now: Millis) {
        let Some(since) = self.away_since.take() else { return };
        let stay = now.saturating_sub(since);
        self.strikes = if stay >= STAY_WORTHWHILE_MS { 0 } else { (self.strikes + 1).min(STRIKES_MAX) };
        self.rest_until = self.rest_until.max(now + (REST_MS << self.strikes));
    }

    /// Notes how many calls it has made for reading and writing, which would be forwarded.
    fn count_calls(&mut self, now: Millis, decay: &Decay, pace: Pace, calls: Option<u64>) {
        let Some(calls) = calls else { return };
        if let Some((before, earlier)) = self.calls.replace((now, calls)).filter(|(before, _)| *before < now)
        {
            let elapsed = Duration::from_millis(now - before);
            self.usage.set_pace(pace);
            self.usage.observe(decay, elapsed, Duration::ZERO, calls.saturating_sub(earlier));
        }
    }

    fn environment(&mut self, now: Millis, pid: i32) -> Environment {
        match self.environment {
            // An `execve` may have given it another one since.
            Some((at, environment)) if now.saturating_sub(at) < ELIGIBLE_MS => environment,
            _ => {
                let environment = Environment::of(pid);
                self.environment = Some((now, environment));
                environment
            }
        }
    }
}

impl Daemon {
    /// Makes of what `/proc` says what the balancer needs.
    pub(super) fn look(&self, cluster: &Cluster, now: Millis, sample: minka_sample::Sample) -> Sample {
        let standings = self.lock().book.standings();
        let state = &mut *cluster.lock();
        let mut view = View {
            daemon: self,
            cluster,
            settings: state.node.config().settings.clone(),
            decay: state.decay,
            standings,
            now,
            examined: 0,
            gone_tasks: 0.0,
        };
        let seen = sample.processes.iter().filter_map(|process| view.candidate(&mut state.looks, process));
        let mut candidates: Vec<Candidate> = seen.collect();
        candidates.extend(view.unseen(&state.looks, &candidates));
        let load = Load::of_tasks((sample.load.tasks() - view.gone_tasks).max(0.0));
        Sample {
            load,
            used_percent: sample.used_percent,
            io_stall: sample.io_stall,
            memory_mib: sample.memory_mib,
            candidates,
            presence: Presence { minute: 0, idle_s: None },
        }
    }

    /// A guest has come to this node.
    pub(crate) fn guest_arrived(self: &Arc<Self>, home: &str, home_pid: i32) {
        let Some(cluster) = self.cluster() else { return };
        let Some(number) = cluster.settings.number(home) else { return };
        let process = cluster.settings.process(number, home_pid);
        let state = &mut *cluster.lock();
        let wanted = state.node.received(process);
        state.looks.guest_arrived(super::millis(super::now()), process, wanted);
    }

    /// A guest has gone from this node.
    pub(crate) fn guest_left(self: &Arc<Self>, home: &str, home_pid: i32) {
        let Some(cluster) = self.cluster() else { return };
        let Some(number) = cluster.settings.number(home) else { return };
        let process = cluster.settings.process(number, home_pid);
        let state = &mut *cluster.lock();
        state.node.settled(process);
        state.looks.guest_left(process);
    }
}

/// One look.
struct View<'a> {
    daemon: &'a Daemon,
    cluster: &'a Cluster,
    settings: Settings,
    decay: Decay,
    standings: Standings,
    now: Millis,
    examined: usize,
    /// What those had of the processors that have left since, and those that are about moves.
    gone_tasks: f64,
}

impl View<'_> {
    /// A process as the balancer sees it; none if it is Minka's own, or does not compute here.
    fn candidate(&mut self, looks: &mut Looks, process: &Process) -> Option<Candidate> {
        if let Some((home, home_pid)) = self.standings.guests.get(&process.pid) {
            let number = self.cluster.settings.number(home)?;
            let name = self.cluster.settings.process(number, *home_pid);
            let guest = looks.guests.get(&name).copied();
            let guest = guest.unwrap_or(Guest { since: self.now, computed_s: 0.0, wanted: None });
            let computed_s = guest.computed_s + process.computed.as_secs_f64();
            let mut candidate = self.described(process, name, computed_s, guest.since);
            if let Some(wanted) = guest.wanted.filter(|_| guest.is_new(self.now)) {
                let tasks = candidate.demand.tasks.max(wanted.tasks);
                let memory_mib = candidate.demand.memory_mib.max(wanted.memory_mib);
                candidate.demand = Demand::new(&Prices::default(), tasks, computed_s, memory_mib);
            }
            return Some(Candidate { home: Some(number), locked: guest.wanted.is_none(), ..candidate });
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
        let name = self.cluster.settings.process(self.cluster.settings.own.number, process.pid);
        let mut candidate = self.described(process, name, process.computed.as_secs_f64(), since);
        let fate = looks.fate(self.now, process);
        fate.at_home(self.now);
        candidate.locked = placed || fate.rest_until > self.now;
        let mut pace = Pace::Slow;
        if self.settings.mode != Mode::None && !candidate.locked {
            let environment = fate.environment(self.now, process.pid);
            (candidate.started, candidate.locked) = (environment.started, environment.locked);
            pace = environment.pace;
        }
        if self.settings.permits(&candidate) && self.settings.has_earned(&candidate, self.now) {
            fate.count_calls(self.now, &self.decay, pace, calls(process.pid));
            candidate.calls_per_s = fate.usage.calls_per_s();
            candidate.locked = !self.is_eligible(process.pid, fate);
        }
        Some(candidate)
    }

    /// Guests that have come and have not shown themselves yet.
    fn unseen(&self, looks: &Looks, seen: &[Candidate]) -> Vec<Candidate> {
        let new = looks.guests.iter().filter(|(_, guest)| guest.is_new(self.now));
        let unseen = new.filter(|(name, _)| seen.iter().all(|candidate| candidate.process != **name));
        let candidate = |(name, guest): (&ProcessId, &Guest)| {
            let (home, _) = super::directory::parts(*name)?;
            Some(Candidate {
                process: *name,
                uid: 0,
                program: String::new(),
                cgroup: String::new(),
                started: false,
                locked: true,
                demand: guest.wanted?,
                computed_s: guest.computed_s,
                here_since: guest.since,
                calls_per_s: 0.0,
                home: Some(home),
            })
        };
        unseen.filter_map(candidate).collect()
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
                let eligible = (self.daemon.eligibility)(pid).is_empty();
                fate.eligible = Some((self.now, eligible));
                eligible
            }
        }
    }
}

/// Calls for reading and writing that a process has made (`/proc/PID/io`); none if that may not be read.
fn calls(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    value("syscr:")?.checked_add(value("syscw:")?)
}

/// What `mosrun` left in the environment of a program, when that began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Environment {
    started: bool,
    locked: bool,
    pace: Pace,
}

impl Environment {
    fn of(pid: i32) -> Self {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let value = |variable: &str| {
            let value = environment.split(|byte| *byte == 0).find_map(|entry| {
                entry.strip_prefix(variable.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
            });
            value.filter(|value| !value.is_empty())
        };
        let pace = match value(DECAY_VARIABLE) {
            Some(b"fast") => Pace::Fast,
            Some(b"never") => Pace::Never,
            _ => Pace::Slow,
        };
        Environment {
            started: value(STARTED_VARIABLE).is_some(),
            locked: value(LOCKED_VARIABLE).is_some(),
            pace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_coming_home_rests_longer_and_longer() {
        let mut fate = Fate::new(7);
        let mut now = 0;
        let mut rests = Vec::new();
        for stay in [100, 100, 100, 20_000, 100] {
            now += 1000;
            fate.away_since = Some(now);
            now += stay;
            fate.at_home(now);
            rests.push(fate.rest_until.saturating_sub(now));
            now = fate.rest_until;
        }
        assert_eq!(rests, [2000, 4000, 8000, 1000, 2000]);
        let before = fate.rest_until;
        fate.at_home(now + 5000);
        assert_eq!(fate.rest_until, before, "it has not been away since");
    }

    #[test]
    fn calls_are_counted_by_the_second_and_forgotten_at_the_process_s_pace() {
        let counted = |pace, counts: &[(Millis, Option<u64>)]| {
            let mut fate = Fate::new(7);
            counts.iter().for_each(|(now, calls)| fate.count_calls(*now, &Decay::default(), pace, *calls));
            fate.usage.calls_per_s()
        };
        assert_eq!(counted(Pace::Slow, &[(1000, Some(50)), (3000, Some(450)), (4000, None)]), 200.0);
        // Two seconds with many calls, and then ten without any.
        let counts: Vec<_> = (1..=13).map(|second| (second * 1000, Some(500.min(second * 250)))).collect();
        let [fast, slow, never] = [Pace::Fast, Pace::Slow, Pace::Never].map(|pace| counted(pace, &counts));
        assert!(fast < slow && slow < never, "{fast} {slow} {never}");
        assert!((never - 250.0 / 12.0).abs() < 1e-9, "{never}");
    }

    #[test]
    fn the_environment_tells_who_was_started_by_mosrun() {
        let mut child = std::process::Command::new("sleep");
        let mut child = child
            .arg("60")
            .env(STARTED_VARIABLE, "1")
            .env(DECAY_VARIABLE, "fast")
            .env(LOCKED_VARIABLE, "")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // It has its environment from its `execve` on, which may come later than `spawn` returns.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let mut found = Environment::default();
        while !found.started && std::time::Instant::now() < deadline {
            found = Environment::of(pid);
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Environment { started: true, locked: false, pace: Pace::Fast });
    }
}
