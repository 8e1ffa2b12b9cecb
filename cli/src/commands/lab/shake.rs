//! Moves a program's processes round the nodes of a lab, and keeps count.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use minka_node::client::{Client, ClientError, Outcome};
use minka_node::protocol::{Migrated, Refusal};
use serde::Serialize;

use super::family::Family;

/// Most processes that are moved about at a time; further ones wait until others have ended.
const SHAKEN_MAX: usize = 32;

/// How often new processes are looked for, at least.
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(50);

/// How many steps a process leaves to another one of its family, before it looks whether it still has one.
const LED: u32 = 4;

/// What came of the moves so far.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Tally {
    /// Moves made, coming home included.
    pub(super) moves: u64,
    /// Moves to each node.
    pub(super) arrivals: BTreeMap<String, u64>,
    /// Moves refused, by reason.
    pub(super) refusals: BTreeMap<String, u64>,
    /// Processes that were moved at least once, or that one tried to move.
    pub(super) processes: u64,
    /// All freezes, in microseconds.
    #[serde(skip)]
    freezes_us: Vec<u64>,
    /// Median and greatest freeze, in microseconds; none without a move.
    pub(super) freeze_median_us: Option<u64>,
    /// See above.
    pub(super) freeze_max_us: Option<u64>,
}

impl Tally {
    fn moved(&mut self, migrated: &Migrated) {
        self.moves += 1;
        *self.arrivals.entry(migrated.at.clone()).or_default() += 1;
        self.freezes_us.push(migrated.freeze_us);
    }

    fn refused(&mut self, reason: String) {
        *self.refusals.entry(reason).or_default() += 1;
    }

    /// With the figures that are made from all freezes.
    pub(super) fn summed(&self) -> Self {
        let mut tally = self.clone();
        tally.freezes_us.sort_unstable();
        tally.freeze_median_us = tally.freezes_us.get(tally.freezes_us.len() / 2).copied();
        tally.freeze_max_us = tally.freezes_us.last().copied();
        tally
    }
}

/// What happened to one process, for whoever watches.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// It moved.
    Moved(Migrated),
    /// It was there already.
    Stayed(Migrated),
    /// It did not.
    Refused(String),
}

/// Called with the process's PID, as its node counts, and what happened.
pub(super) type Watcher = Arc<dyn Fn(i32, &Step) + Send + Sync>;

/// Moves processes about until it is dropped.
pub(super) struct Shaker {
    run_dir: PathBuf,
    targets: Vec<String>,
    interval: Duration,
    family: Option<Family>,
    looked: Instant,
    shared: Arc<Shared>,
    watcher: Watcher,
}

/// What the shaker shares with the thread of each process.
#[derive(Debug, Default)]
struct Shared {
    tally: Mutex<Tally>,
    /// The processes that a thread moves about, or that have ended.
    shaken: Mutex<BTreeMap<i32, State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Shaken,
    Ended,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shaken(&self) -> MutexGuard<'_, BTreeMap<i32, State>> {
        self.shaken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shaker {
    /// Moves the program with this PID, and all its descendants, through `targets` in turn, one step every
    /// `interval`. `run_dir` is that of their node's daemon.
    pub(super) fn new(
        pid: u32,
        run_dir: PathBuf,
        targets: Vec<String>,
        interval: Duration,
        watcher: Watcher,
    ) -> Self {
        Shaker {
            run_dir,
            targets,
            interval,
            family: i32::try_from(pid).ok().and_then(Family::of),
            looked: Instant::now(),
            shared: Arc::default(),
            watcher,
        }
    }

    /// How long to wait until [`Shaker::look`] is called again.
    pub(super) fn pause(&self) -> Duration {
        self.interval.min(LOOK_INTERVAL_MAX)
    }

    /// Takes up processes that have begun since the last look.
    pub(super) fn look(&mut self) {
        let Some(family) = &mut self.family else { return };
        self.looked = Instant::now();
        let members = family.look();
        let mut shaken = self.shared.shaken();
        shaken.retain(|pid, state| *state == State::Shaken || members.contains(pid));
        for pid in members {
            let busy = shaken.values().filter(|state| **state == State::Shaken).count();
            if busy >= SHAKEN_MAX || shaken.contains_key(&pid) {
                continue;
            }
            shaken.insert(pid, State::Shaken);
            self.shared.tally().processes += 1;
            let shake = Shake {
                pid,
                run_dir: self.run_dir.clone(),
                targets: self.targets.clone(),
                interval: self.interval,
                shared: Arc::clone(&self.shared),
                watcher: Arc::clone(&self.watcher),
            };
            std::thread::spawn(move || shake.until_the_end());
        }
    }

    /// What came of it so far.
    pub(super) fn tally(&self) -> Tally {
        self.shared.tally().summed()
    }
}

/// Moves one process about.
struct Shake {
    pid: i32,
    run_dir: PathBuf,
    targets: Vec<String>,
    interval: Duration,
    shared: Arc<Shared>,
    watcher: Watcher,
}

impl Shake {
    fn until_the_end(self) {
        let mut next = Instant::now() + self.interval;
        let mut client = None;
        let mut led = 0;
        for target in self.targets.iter().cycle() {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            // A move that took longer than the interval does not make up for it in a burst.
            next = Instant::now() + self.interval;
            if led > 0 {
                led -= 1;
                continue;
            }
            let step = match self.step(&mut client, target) {
                Ok(step) => step,
                Err(ClientError::Refused(Refusal::NoSuchProcess { .. })) => break,
                Err(ClientError::Refused(refusal)) => Step::Refused(reason(&refusal)),
                Err(error) => {
                    client = None;
                    Step::Refused(crate::failure::chain(&error))
                }
            };
            if let Step::Moved(migrated) | Step::Stayed(migrated) = &step
                && migrated.with.iter().any(|other| *other < self.pid)
            {
                // It moves with those that share its memory, and another one of them leads.
                led = LED;
            }
            match &step {
                Step::Moved(migrated) => self.shared.tally().moved(migrated),
                Step::Stayed(_) => {}
                Step::Refused(reason) => self.shared.tally().refused(reason.clone()),
            }
            (self.watcher)(self.pid, &step);
        }
        self.shared.shaken().insert(self.pid, State::Ended);
    }

    fn step(&self, client: &mut Option<Client>, target: &str) -> Result<Step, ClientError> {
        let was_connected = client.is_some();
        match self.ask(client, target) {
            // The daemon closes connections that are idle for long, as between two distant moves.
            Err(ClientError::Talk(_)) if was_connected => {
                *client = None;
                self.ask(client, target)
            }
            outcome => outcome,
        }
    }

    fn ask(&self, client: &mut Option<Client>, target: &str) -> Result<Step, ClientError> {
        let client = match client {
            Some(client) => client,
            None => client.insert(Client::connect(&self.run_dir)?),
        };
        match client.migrate(self.pid, target, false)? {
            Outcome::Migrated(migrated) if !migrated.moved => Ok(Step::Stayed(migrated)),
            Outcome::Migrated(migrated) => Ok(Step::Moved(migrated)),
            Outcome::Armed => Ok(Step::Refused("it waits for an exec".to_owned())),
        }
    }
}

/// A refusal without what differs between processes, so that like ones can be counted together.
fn reason(refusal: &Refusal) -> String {
    match refusal {
        Refusal::CannotMove { reasons, .. } => reasons.join("; "),
        Refusal::NotMoved { reason, .. } => reason.clone(),
        Refusal::Busy { .. } => "it is being moved already".to_owned(),
        Refusal::TimedOut { seconds, .. } => format!("no answer within {seconds} s"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_sums_up_its_freezes() {
        let mut tally = Tally::default();
        assert_eq!(tally.summed().freeze_median_us, None);
        for freeze_us in [5, 1, 9] {
            tally.moved(&Migrated { pid: 1, at: "b".into(), moved: true, freeze_us, with: Vec::new() });
        }
        let summed = tally.summed();
        assert_eq!((summed.moves, summed.freeze_median_us, summed.freeze_max_us), (3, Some(5), Some(9)));
        assert_eq!(summed.arrivals, BTreeMap::from([("b".to_owned(), 3)]));
    }

    #[test]
    fn like_refusals_are_counted_together() {
        let mut tally = Tally::default();
        for pid in [1, 2] {
            tally.refused(reason(&Refusal::CannotMove { pid, reasons: vec!["a".into(), "b".into()] }));
        }
        assert_eq!(tally.refusals, BTreeMap::from([("a; b".to_owned(), 2)]));
    }
}
