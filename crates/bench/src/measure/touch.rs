//! `touch`: how little a program notices that its memory is still on the way.
//!
//! The program waits for a word, is moved, gets the word as soon as the move is reported (well under a millisecond
//! later), and goes through all of its memory in order, computing over each page for about 10 µs. That is how the
//! programs of the AMPoM study behave (HPC Challenge on openMosix, 2008), whose bounds these are: it avoided 85 to
//! 99 % of the page faults over the network, and cost 0 to 5 % of the run time.
//!
//! `avoided` is the share of pages that were there before the program came to them: 1 − faults / pages. `extra` is
//! what the walk took longer than the same walk at home right before, as a share of it.

use super::{Effort, same, worker};
use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::Stage;
use crate::statistics::median;

const MIB: usize = 256;
const PAGES: f64 = (MIB * 256) as f64;
const TURNS: usize = 7;
/// How often each page is computed over: about 10 µs of it.
const PASSES: u32 = 15;

pub(super) fn touch(stage: &Stage, effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let mut probe = worker(stage, MIB)?;
    let order = format!("walk {PASSES}");
    let [_, expected] = probe.ask_for(&order)?;
    let (mut avoided, mut extra, mut native, mut fetched) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..=effort.turns(TURNS) {
        let [at_home, _] = probe.ask_for(&order)?;
        stage.send_away(&probe)?;
        let [away, found] = probe.ask_for(&order)?;
        same(found, expected)?;
        let memory = stage.memory_of(&probe)?;
        probe.bring_home()?;
        if turn > 0 {
            avoided.push(1.0 - memory.faults as f64 / PAGES);
            extra.push(away / at_home - 1.0);
            native.push(at_home / PAGES);
            fetched.push(memory.fetched_bytes as f64 / 1e6);
        }
    }
    Ok(outcome
        .promised("avoided", median(&avoided), Goal::at_least(0.85, 0.99))
        .promised("extra", median(&extra), Goal::at_most(0.10, 0.05))
        .with("page_us", median(&native))
        .with("fetched_mb", median(&fetched)))
}
