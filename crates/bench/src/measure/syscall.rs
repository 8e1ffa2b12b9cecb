//! `syscall`: what a forwarded call costs.
//!
//! The program asks for its parent's PID, by a system call each time, which only its home can tell. It is compared
//! with a blocking TCP round trip between the same nodes, with as many bytes each way and its ends on different processors. Both
//! take turns.

use super::{Effort, tcp, worker};
use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::Stage;
use crate::statistics::{median, smallest};

const TURNS: usize = 25;
const CALLS: u32 = 1000;

pub(super) fn syscall(stage: &Stage, effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let mut probe = worker(stage, 1)?;
    let (_serving, mut asking) = tcp(stage)?;
    let [native] = probe.ask_for(&format!("calls {CALLS}"))?;
    stage.send_away(&probe)?;
    let (mut calls, mut trips) = (Vec::new(), Vec::new());
    for _ in 0..=effort.turns(TURNS) {
        let [call] = probe.ask_for(&format!("calls {CALLS}"))?;
        let [trip] = asking.ask_for(&format!("echo {CALLS}"))?;
        calls.push(call / f64::from(CALLS));
        trips.push(trip / f64::from(CALLS));
    }
    let (call, trip) = (median(&calls), median(&trips));
    Ok(outcome
        .promised("ratio", call / trip, Goal::at_most(0.8, 0.6))
        .with("rtt_us", trip)
        .with("call_us", call)
        .with("rtt_min_us", smallest(&trips))
        .with("call_min_us", smallest(&calls))
        .with("native_us", native / f64::from(CALLS)))
}
