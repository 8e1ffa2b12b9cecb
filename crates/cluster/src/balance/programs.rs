//! What earlier runs of a program tell of one that begins: whether it is worth sending away soon.
//!
//! A compiler computes for a fraction of a second. Whoever first looks whether it computes, and then moves it, moves it when
//! it is about to end. But it was not the first one, and those before it tell what to expect. And it begins with reading some
//! hundred files, which would all be asked of its home: the best moment to leave is when it has done that ([`Calls`]).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::gossip::Millis;

/// The file of a program. With the time of its last change: a number passes to another file sometimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgramId {
    /// The device where it lies.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// When that was changed, in nanoseconds.
    pub changed_ns: i64,
}

/// Programs that are remembered; those that were not seen for longest make room.
const PROGRAMS_MAX: usize = 64;

/// A process that has used so much, and would have used so much if it had been alone, is one that computes.
const COMPUTED_S: f64 = 0.1;

/// A stay away that was shorter was not worth going.
const STAY_MS: Millis = 100;

/// How much one run counts against all before it, and how good they have to be.
const ONE_RUN: f64 = 0.2;
const GOOD: f64 = 0.5;

/// Of memory that one run has had less of, so much is forgotten.
const FORGOTTEN: f64 = 0.1;

/// What is expected of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Its memory.
    pub memory_mib: f64,
    /// Calls that are forwarded for it when it is away, in a second of its own time.
    pub calls_per_s: f64,
}

#[derive(Debug, Clone, Copy)]
struct Program {
    expected: Expected,
    /// Those calls were counted when it was away.
    counted: bool,
    /// Near 1 if sending it away has been worth it, near 0 if not.
    worth: f64,
    seen: Millis,
}

/// The programs of a node that are known to compute.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    known: BTreeMap<ProgramId, Program>,
}

impl Programs {
    /// Whether a process that has used so much tells of its program at all.
    pub fn computes(computed_s: f64) -> bool {
        computed_s >= COMPUTED_S
    }

    /// A run at home computes. `is_first` says that nothing was told of it before.
    pub fn saw(&mut self, now: Millis, program: ProgramId, is_first: bool, run: Expected) {
        if !self.known.contains_key(&program) && self.known.len() >= PROGRAMS_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.seen).map(|(program, _)| *program);
            oldest.and_then(|program| self.known.remove(&program));
        }
        let new = Program { expected: run, counted: false, worth: 1.0, seen: now };
        let known = self.known.entry(program).or_insert(new);
        known.seen = now;
        if is_first {
            known.count(true);
        }
        let memory_mib = &mut known.expected.memory_mib;
        *memory_mib = run.memory_mib.max(*memory_mib + FORGOTTEN * (run.memory_mib - *memory_mib));
        if !known.counted {
            known.expected.calls_per_s = known.expected.calls_per_s.max(run.calls_per_s);
        }
    }

    /// What is expected of a run that begins, if it is worth sending it away; where that is not known, or it is known that it
    /// is not, nothing.
    pub fn expected(&self, program: ProgramId) -> Option<Expected> {
        self.known.get(&program).filter(|known| known.worth >= GOOD).map(|known| known.expected)
    }

    /// Whether it is known at all.
    pub fn knows(&self, program: ProgramId) -> bool {
        self.known.contains_key(&program)
    }

    /// A run that was sent away when it began has ended there, after so long; so many calls were forwarded in a second of
    /// its own time.
    pub fn ended(&mut self, now: Millis, program: ProgramId, stay_ms: Millis, calls_per_s: f64) {
        let Some(known) = self.known.get_mut(&program) else { return };
        known.seen = now;
        known.count(stay_ms >= STAY_MS);
        let calls = &mut known.expected.calls_per_s;
        *calls = if known.counted { *calls + ONE_RUN * (calls_per_s - *calls) } else { calls_per_s };
        known.counted = true;
    }

    /// A run that was sent away when it began did not get there, or came home by itself.
    pub fn failed(&mut self, now: Millis, program: ProgramId) {
        let Some(known) = self.known.get_mut(&program) else { return };
        known.seen = now;
        known.count(false);
    }
}

impl Program {
    fn count(&mut self, good: bool) {
        self.worth += ONE_RUN * (f64::from(u8::from(good)) - self.worth);
    }
}

/// How long a process has to compute by itself, in time of the processor, before it is said to. What the kernel tells of that
/// may be a clock tick behind, which is 4 ms mostly.
const SELF_CONTAINED: Duration = Duration::from_millis(6);

/// And how many calls for reading and writing it may make in a second of that: a compiler that writes what it has compiled
/// makes a hundred, one that reads its headers thousands.
const CALLS_PER_S: f64 = 300.0;

/// Watches a process that has begun, until it computes by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calls {
    /// Since then, in processor time and calls for reading and writing.
    since: Option<(Duration, u64)>,
    computes: bool,
}

impl Calls {
    /// Takes in what it has used of the processor, and how many calls for reading and writing it has made, both in all; the
    /// latter is only asked when it has computed for long enough. Says whether it computes by itself.
    pub fn observe(&mut self, computed: Duration, calls: impl FnOnce() -> Option<u64>) -> bool {
        let time = self.since.map(|(then, _)| computed.saturating_sub(then));
        if time.is_some_and(|time| time < SELF_CONTAINED) {
            return self.computes;
        }
        let Some(calls) = calls() else { return false };
        if let Some((_, before)) = self.since.replace((computed, calls)) {
            let permitted = time.unwrap_or_default().as_secs_f64() * CALLS_PER_S;
            self.computes = calls.saturating_sub(before) as f64 <= permitted;
        }
        self.computes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_read_what_it_needs_computes_by_itself() {
        let mut calls = Calls::default();
        let observed = [(0, 0), (6, 60), (12, 110), (18, 111), (25, 113), (35, 200), (45, 203), (50, 300)];
        let found = observed.map(|(ms, count)| calls.observe(Duration::from_millis(ms), || Some(count)));
        assert_eq!(found, [false, false, false, true, true, false, true, true]);
        assert!(!calls.observe(Duration::from_millis(60), || None), "it has ended");
    }

    const RUN: Expected = Expected { memory_mib: 40.0, calls_per_s: 100.0 };

    fn program(inode: u64) -> ProgramId {
        ProgramId { device: 1, inode, changed_ns: 0 }
    }

    #[test]
    fn a_program_that_has_computed_is_expected_to() {
        let mut programs = Programs::default();
        assert_eq!(programs.expected(program(7)), None);
        programs.saw(1000, program(7), true, RUN);
        assert_eq!(programs.expected(program(7)), Some(RUN));
        programs.saw(2000, program(7), false, Expected { memory_mib: 90.0, calls_per_s: 50.0 });
        programs.saw(3000, program(7), true, Expected { memory_mib: 40.0, calls_per_s: 0.0 });
        assert_eq!(programs.expected(program(7)), Some(Expected { memory_mib: 85.0, calls_per_s: 100.0 }));
        assert_eq!(programs.expected(program(8)), None);
        assert!(Programs::computes(0.1) && !Programs::computes(0.09));
    }

    #[test]
    fn calls_are_believed_once_they_were_counted() {
        let mut programs = Programs::default();
        programs.saw(0, program(7), true, RUN);
        let mut calls = Vec::new();
        for counted in [8000.0, 8000.0, 3000.0] {
            programs.ended(1000, program(7), 500, counted);
            programs.saw(2000, program(7), false, RUN);
            calls.push(programs.expected(program(7)).map(|expected| expected.calls_per_s));
        }
        assert_eq!(calls, [Some(8000.0), Some(8000.0), Some(7000.0)]);
    }

    #[test]
    fn who_comes_home_or_ends_at_once_is_not_sent_any_more() {
        let sent = |outcome: fn(&mut Programs)| {
            let mut programs = Programs::default();
            programs.saw(0, program(7), true, RUN);
            (0..20)
                .take_while(|_| {
                    outcome(&mut programs);
                    programs.expected(program(7)).is_some()
                })
                .count()
        };
        assert_eq!(sent(|programs| programs.failed(1000, program(7))), 3);
        assert_eq!(sent(|programs| programs.ended(1000, program(7), 20, 0.0)), 3);
        assert_eq!(sent(|programs| programs.ended(1000, program(7), 200, 0.0)), 20);
    }

    #[test]
    fn who_computes_after_all_is_tried_again() {
        let mut programs = Programs::default();
        programs.saw(0, program(7), true, RUN);
        (0..4).for_each(|_| programs.failed(1000, program(7)));
        assert_eq!(programs.expected(program(7)), None);
        programs.saw(2000, program(7), true, RUN);
        assert_eq!(programs.expected(program(7)), Some(RUN));
    }

    #[test]
    fn there_is_a_limit_to_what_is_remembered() {
        let mut programs = Programs::default();
        for inode in 0..=PROGRAMS_MAX as u64 {
            programs.saw(inode, program(inode), true, RUN);
        }
        assert_eq!(programs.known.len(), PROGRAMS_MAX);
        assert!(!programs.knows(program(0)) && programs.knows(program(1)));
        programs.ended(9999, program(0), 1000, 1.0);
        programs.failed(9999, program(0));
        assert!(!programs.knows(program(0)), "nothing is learnt of a program that is not remembered");
    }
}
