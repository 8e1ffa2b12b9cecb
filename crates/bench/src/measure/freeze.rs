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
const MOVES: usize = 11;

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
    let small = watch(stage, SMALL_MIB, effort)?;
    let large = watch(stage, LARGE_MIB, effort)?;
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

fn watch(stage: &Stage, mebibytes: usize, effort: Effort) -> Result<Seen, BenchError> {
    let mut probe = worker(stage, mebibytes)?;
    let mut seen = Seen::default();
    // The first move only warms up the machine's free memory.
    for turn in 0..=effort.turns(MOVES) {
        let [noise, ..] = spin(&mut probe, |_| Ok(()))?;
        let mut reported = 0;
        let [gap, ..] = spin(&mut probe, |probe| {
            reported = stage.send_away(probe)?.freeze_us;
            Ok(())
        })?;
        let homecoming = probe.bring_home()?.freeze_us;
        probe.ask("write-all")?;
        if turn > 0 {
            seen.noise.push(noise / 1e3);
            seen.gaps.push(gap / 1e3);
            seen.reported.push(reported as f64 / 1e3);
            seen.homecoming.push(homecoming as f64 / 1e3);
        }
    }
    Ok(seen)
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
