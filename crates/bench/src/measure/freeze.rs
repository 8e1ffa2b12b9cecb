//! `freeze`: how long a program stands still when it is moved.
//!
//! The program reads the clock through the vDSO over and over and looks for the longest time between two readings.
//! That is what it sees of the move itself and of everything after it, while its memory follows: its first faults,
//! and the processors being busy with the stream. `noise_ms` is the same without a move, in turns with the others:
//! what the machine itself does to a program.

use std::time::Duration;

use super::{Effort, worker};
use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::{Probe, Stage};
use crate::statistics::{largest, median};

const SMALL_MIB: usize = 64;
const LARGE_MIB: usize = 1024;
const MOVES: usize = 15;

/// How long the program watches the clock: a move with all that follows it takes a part of that.
const WATCH_MS: u64 = 1500;
/// When it is moved.
const BEGIN: Duration = Duration::from_millis(200);

/// What was seen of a program of one size, in milliseconds.
#[derive(Debug, Default)]
struct Seen {
    gaps: Vec<f64>,
    noise: Vec<f64>,
    reported: Vec<f64>,
    homecoming: Vec<f64>,
}

pub(super) fn freeze(stage: &Stage, effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let (mut small_probe, mut large_probe) = (worker(stage, SMALL_MIB)?, worker(stage, LARGE_MIB)?);
    let (mut small, mut large) = (Seen::default(), Seen::default());
    // The first move of each only warms up the machine's free memory.
    for turn in 0..=effort.turns(MOVES) {
        let seen = [watch(stage, &mut small_probe)?, watch(stage, &mut large_probe)?];
        if turn > 0 {
            let [of_small, of_large] = seen;
            small.add(of_small);
            large.add(of_large);
        }
    }
    let noise = [small.noise, large.noise].concat();
    let (small_ms, large_ms) = (median(&small.gaps), median(&large.gaps));
    Ok(outcome
        .with("freeze_ms_64m", small_ms)
        .promised("freeze_ms_1g", large_ms, Goal::at_most(15.0, 4.0))
        .promised("growth", large_ms / small_ms, Goal::at_most(1.5, 1.1))
        .with("noise_ms", median(&noise))
        .with("freeze_max_ms_64m", largest(&small.gaps))
        .with("freeze_max_ms_1g", largest(&large.gaps))
        .with("noise_max_ms", largest(&noise))
        .with("reported_ms_64m", median(&small.reported))
        .with("reported_ms_1g", median(&large.reported))
        .with("homecoming_ms_64m", median(&small.homecoming))
        .with("homecoming_ms_1g", median(&large.homecoming)))
}

/// What one move showed, in microseconds: the gap, the noise, and both moves as their deputy tells of them.
struct Move {
    gap_us: f64,
    noise_us: f64,
    reported_us: u64,
    homecoming_us: u64,
}

impl Seen {
    fn add(&mut self, one: Move) {
        self.gaps.push(one.gap_us / 1e3);
        self.noise.push(one.noise_us / 1e3);
        self.reported.push(one.reported_us as f64 / 1e3);
        self.homecoming.push(one.homecoming_us as f64 / 1e3);
    }
}

fn watch(stage: &Stage, probe: &mut Probe) -> Result<Move, BenchError> {
    let [noise_us, ..] = spin(probe, |_| Ok(()))?;
    let mut reported_us = 0;
    let [gap_us, ..] = spin(probe, |probe| {
        reported_us = stage.send_away(probe)?.freeze_us;
        Ok(())
    })?;
    let homecoming_us = probe.bring_home()?.freeze_us;
    probe.ask("write-all")?;
    Ok(Move { gap_us, noise_us, reported_us, homecoming_us })
}

/// Has the program watch the clock, and does something meanwhile. Returns the gaps, the longest first.
fn spin(
    probe: &mut Probe,
    meanwhile: impl FnOnce(&Probe) -> Result<(), BenchError>,
) -> Result<[f64; 4], BenchError> {
    let order = format!("spin {WATCH_MS}");
    probe.tell(&order)?;
    std::thread::sleep(BEGIN);
    meanwhile(probe)?;
    let gaps = probe.hear(&order)?;
    crate::stage::exactly(&order, gaps)
}
