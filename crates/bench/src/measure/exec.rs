//! `exec`: what it costs to start a program on another node.
//!
//! `true` is started by `minka run --on` another node, and by itself at home, in turns: the difference is
//! everything that Minka adds, from its own tool to the connections and the guest's namespaces.

use super::Effort;
use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::{AWAY, HOME, Stage};
use crate::statistics::{median, smallest};
use std::time::Duration;

const TURNS: usize = 40;

/// So long after a program has ended on another node, the nodes prepare for the next one: what is started at home beside that
/// takes longer, and the difference would look smaller than it is.
const AFTERWARDS: Duration = Duration::from_millis(10);

pub(super) fn exec(stage: &Stage, effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::io("find this program"))?;
    let arguments = ["spawn".into(), program.into_os_string(), stage.name(AWAY)?.into()];
    let mut probe = stage.probe(HOME, arguments)?;
    let (mut placed, mut local) = (Vec::new(), Vec::new());
    // The first of each only fills caches: of files, and of what is known of them.
    for turn in 0..=effort.turns(TURNS) {
        let [placed_us] = probe.ask_for("placed")?;
        std::thread::sleep(AFTERWARDS);
        let [local_us] = probe.ask_for("local")?;
        if turn > 0 {
            placed.push(placed_us / 1e3);
            local.push(local_us / 1e3);
        }
    }
    Ok(outcome
        .promised("extra_ms", median(&placed) - median(&local), Goal::at_most(10.0, 5.0))
        .with("placed_ms", median(&placed))
        .with("local_ms", median(&local))
        .with("placed_min_ms", smallest(&placed)))
}
