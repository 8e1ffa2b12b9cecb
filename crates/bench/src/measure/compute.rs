//! `compute` and `home`: what is left of native speed away from home, and after coming back.
//!
//! Two processes of the same program do the same work in turns, one of which is never moved. `compute` only
//! computes, by one thread and by several. `home` does a little of everything: it writes to its memory, reads it, computes, makes system calls
//! and asks for new memory; the process that is compared has been away and back several times.

use super::{Effort, same, worker};
use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::{Probe, Stage};
use crate::statistics::{median, smallest};

const TURNS: usize = 60;
/// A turn of `home` is so short that the machine's own noise needs more of them.
const TURNS_HOME: usize = 400;
const MIB: usize = 8;
/// About 20 ms.
const ROUNDS: u32 = 15_000_000;
const THREADS: u32 = 4;
/// Moves before a process is compared as one that is home again.
const JOURNEYS: usize = 3;

pub(super) fn compute(stage: &Stage, effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let (mut moved, mut native) = (worker(stage, MIB)?, worker(stage, MIB)?);
    stage.send_away(&moved)?;
    let (away, here) =
        take_turns(&mut moved, &mut native, &format!("compute {ROUNDS}"), effort.turns(TURNS))?;
    let order = format!("compute {ROUNDS} {THREADS}");
    let (threads_away, threads_here) = take_turns(&mut moved, &mut native, &order, effort.turns(TURNS))?;
    Ok(outcome
        .promised("ratio", median(&away) / median(&here), Goal::at_most(1.02, 1.0))
        .promised("ratio_4_threads", median(&threads_away) / median(&threads_here), Goal::at_most(1.03, 1.0))
        .with("away_ms", median(&away))
        .with("native_ms", median(&here))
        .with("ratio_of_best", smallest(&away) / smallest(&here)))
}

pub(super) fn home(stage: &Stage, effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let (mut moved, mut native) = (worker(stage, MIB)?, worker(stage, MIB)?);
    for _ in 0..JOURNEYS {
        stage.send_away(&moved)?;
        moved.ask("mixed 1")?;
        moved.bring_home()?;
        native.ask("mixed 1")?;
    }
    let (back, never) = take_turns(&mut moved, &mut native, "mixed 2", effort.turns(TURNS_HOME))?;
    Ok(outcome
        .promised("ratio", median(&back) / median(&never), Goal::at_most(1.01, 1.0))
        .with("back_ms", median(&back))
        .with("never_moved_ms", median(&never))
        .with("ratio_of_best", smallest(&back) / smallest(&never)))
}

/// The times of both, in milliseconds; who begins changes with every turn.
fn take_turns(
    one: &mut Probe,
    other: &mut Probe,
    order: &str,
    turns: usize,
) -> Result<(Vec<f64>, Vec<f64>), BenchError> {
    let mut times = (Vec::new(), Vec::new());
    for turn in 0..turns {
        let ([one_us, found], [other_us, expected]) = if turn % 2 == 0 {
            let first: [f64; 2] = one.ask_for(order)?;
            (first, other.ask_for(order)?)
        } else {
            let first: [f64; 2] = other.ask_for(order)?;
            (one.ask_for(order)?, first)
        };
        same(found, expected)?;
        times.0.push(one_us / 1e3);
        times.1.push(other_us / 1e3);
    }
    Ok(times)
}
