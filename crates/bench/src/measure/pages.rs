//! `pages`: how fast memory follows a program, against plain TCP.
//!
//! The page stream is timed by the host, from the image's arrival until the last page is in its place, so faults,
//! the scan of the page table and encryption are in it. The TCP stream runs between the same two nodes, from memory
//! of 64 MiB into one block that is used again and again. Moves and TCP streams take turns. The first of each only
//! warms up: a virtual machine pays once for memory that it has never touched.

use super::{Effort, same, tcp, worker};
use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::Stage;
use crate::statistics::{largest, median};

const MIB: usize = 512;
const TURNS: usize = 9;
/// Bytes of a block of the TCP stream.
const BLOCK: usize = 256 << 10;

pub(super) fn pages(stage: &Stage, effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let mut probe = worker(stage, MIB)?;
    let (_serving, mut asking) = tcp(stage)?;
    let [_, expected] = probe.ask_for("walk 1")?;
    let bytes = (MIB << 20) as f64;
    let (mut streams, mut plain) = (Vec::new(), Vec::new());
    for turn in 0..=effort.turns(TURNS) {
        let [plain_us] = asking.ask_for(&format!("pull {MIB} {BLOCK}"))?;
        stage.send_away(&probe)?;
        let memory = stage.memory_of(&probe)?;
        let [_, found] = probe.ask_for("walk 1")?;
        same(found, expected)?;
        probe.bring_home()?;
        if turn > 0 {
            streams.push((memory.streamed_bytes + memory.fetched_bytes) as f64 / memory.stream_us as f64);
            plain.push(bytes / plain_us);
        }
    }
    let (stream, plain_median) = (median(&streams), median(&plain));
    Ok(outcome
        .promised("ratio", stream / plain_median, Goal::at_least(0.4, 0.8))
        .with("stream_mb_s", stream)
        .with("tcp_mb_s", plain_median)
        .with("stream_max_mb_s", largest(&streams))
        .with("tcp_max_mb_s", largest(&plain)))
}
