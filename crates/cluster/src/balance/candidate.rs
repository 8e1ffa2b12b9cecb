//! Which processes may be moved by the balancer at all.

use std::collections::BTreeSet;

use super::cost::Demand;
use crate::NodeId;
use crate::gossip::Millis;

/// Names a process of this node, or a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u64);

/// Which processes are moved without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Those of all ordinary users, as in openMosix.
    #[default]
    All,
    /// Those that were started by `mosrun`, and their descendants.
    Started,
    /// None.
    None,
}

/// A process as the balancer sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Names it.
    pub process: ProcessId,
    /// Its user.
    pub uid: u32,
    /// The program's name (`comm`).
    pub program: String,
    /// Its control group, as in `/proc/PID/cgroup`.
    pub cgroup: String,
    /// It, or an ancestor, was started by `mosrun`.
    pub started: bool,
    /// It was told to stay where it is (`/proc/PID/lock`), or cannot move.
    pub locked: bool,
    /// What it wants.
    pub demand: Demand,
    /// Processor time that it has used in all, in seconds.
    pub computed_s: f64,
    /// When it was started, or came here.
    pub here_since: Millis,
    /// Forwarded calls a second when it is away from its home; what it would forward, when it is there.
    pub calls_per_s: f64,
    /// Its home; `None` if that is this node.
    pub home: Option<NodeId>,
}

/// Whom the balancer leaves alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exclusions {
    /// Users.
    pub uids: BTreeSet<u32>,
    /// Names of programs.
    pub programs: BTreeSet<String>,
    /// Control groups, each with all below it.
    pub cgroups: BTreeSet<String>,
}

/// How the balancer decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Which processes are moved.
    pub mode: Mode,
    /// Which are not.
    pub exclusions: Exclusions,
    /// The first ordinary user: those below are the system's.
    pub uid_min: u32,
    /// Least time that a process stays where it is.
    pub residency_ms: u64,
    /// Least processor time that a process must have used, or would have if it had been alone.
    pub computed_min_s: f64,
    /// Part of what is saved that has to be left over, or a move is not worth it.
    pub gain: f64,
    /// Most moves in one step.
    pub moves_max: usize,
    /// What moving any process costs, in seconds.
    pub move_s: f64,
    /// Memory that follows in a second, in MiB.
    pub move_mib_s: f64,
    /// Memory that a program is thought to want of which nothing is known, in MiB.
    pub unknown_mib: f64,
    /// Part of a node's memory that has to be left after such a program has come, for it may want much more.
    pub unknown_spare: f64,
    /// What a forwarded call takes longer than one at home, in seconds.
    pub call_s: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mode: Mode::All,
            exclusions: Exclusions::default(),
            uid_min: 1000,
            residency_ms: 1000,
            computed_min_s: 0.2,
            gain: 0.05,
            moves_max: 32,
            move_s: 0.02,
            move_mib_s: 100.0,
            unknown_mib: 64.0,
            unknown_spare: 0.5,
            call_s: 50e-6,
        }
    }
}

impl Settings {
    /// Whether the process may be moved, as far as its owner and the node's are concerned.
    pub fn permits(&self, candidate: &Candidate) -> bool {
        let wanted = match self.mode {
            Mode::All => candidate.uid >= self.uid_min,
            Mode::Started => candidate.started,
            Mode::None => false,
        };
        // A guest has been permitted by its home.
        (wanted || candidate.home.is_some()) && !candidate.locked && !self.exclusions.name(candidate)
    }

    /// Whether it has earned to be moved.
    pub fn has_earned(&self, candidate: &Candidate, now: Millis) -> bool {
        let here_ms = now.saturating_sub(candidate.here_since);
        // Where many share a processor nobody gets much of it, and all the more should leave.
        let wanted_s = candidate.demand.tasks * here_ms as f64 / 1000.0;
        here_ms >= self.residency_ms && candidate.computed_s.max(wanted_s) >= self.computed_min_s
    }

    /// Seconds for which what a decision brings is counted: as long again as it has computed, within reason.
    pub(super) fn horizon_s(&self, candidate: &Candidate) -> f64 {
        candidate.computed_s.clamp(1.0, 60.0)
    }

    /// What it costs to move a process once, in seconds that it stands still or waits for its memory.
    pub(super) fn moving_s(&self, candidate: &Candidate) -> f64 {
        self.move_s + candidate.demand.memory_mib / self.move_mib_s
    }

    /// What a second away from home costs a process more than one at home.
    pub(super) fn forwarding(&self, candidate: &Candidate) -> f64 {
        candidate.demand.haste.max(0.01) * candidate.calls_per_s * self.call_s
    }
}

impl Exclusions {
    fn name(&self, candidate: &Candidate) -> bool {
        let below = |group: &String| {
            let rest = candidate.cgroup.strip_prefix(group.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.uids.contains(&candidate.uid)
            || self.programs.contains(&candidate.program)
            || self.cgroups.iter().any(below)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidate;
    use super::*;

    #[test]
    fn the_mode_says_who_is_moved() {
        let user = candidate(1, 0.0, 10.0);
        let system = Candidate { uid: 0, ..user.clone() };
        let started = Candidate { started: true, ..system.clone() };
        let guest = Candidate { home: NodeId::new(7), ..system.clone() };
        let locked = Candidate { locked: true, ..started.clone() };
        let check = |mode, expected: [bool; 5]| {
            let settings = Settings { mode, ..Settings::default() };
            let found = [&user, &system, &started, &guest, &locked].map(|it| settings.permits(it));
            assert_eq!(found, expected, "{mode:?}");
        };
        check(Mode::All, [true, false, false, true, false]);
        check(Mode::Started, [false, false, true, true, false]);
        check(Mode::None, [false, false, false, true, false]);
    }

    #[test]
    fn users_programs_and_groups_can_be_left_alone() {
        let process =
            Candidate { program: "cc1".to_owned(), cgroup: "/a/bc/d".to_owned(), ..candidate(1, 0.0, 10.0) };
        let check = |exclusions, expected| {
            let settings = Settings { exclusions, ..Settings::default() };
            assert_eq!(settings.permits(&process), expected, "{settings:?}");
        };
        let groups = |group: &str| Exclusions { cgroups: [group.to_owned()].into(), ..Exclusions::default() };
        check(Exclusions { uids: [1000].into(), ..Exclusions::default() }, false);
        check(Exclusions { programs: ["cc1".to_owned()].into(), ..Exclusions::default() }, false);
        check(Exclusions { programs: ["cc".to_owned()].into(), ..Exclusions::default() }, true);
        check(groups("/a/bc"), false);
        check(groups("/a/bc/d/"), false);
        check(groups("/a/b"), true);
    }

    #[test]
    fn a_process_has_to_live_and_compute_before_it_moves() {
        let settings = Settings::default();
        let process = Candidate { here_since: 5_000, ..candidate(1, 0.0, 0.3) };
        assert!(!settings.has_earned(&process, 5_900) && settings.has_earned(&process, 6_000));
        let idle = Demand { tasks: 0.0, ..process.demand };
        assert!(
            !settings.has_earned(&Candidate { computed_s: 0.1, demand: idle, ..process.clone() }, 60_000)
        );
        assert!(settings.has_earned(&Candidate { computed_s: 0.01, ..process }, 60_000));
    }
}
