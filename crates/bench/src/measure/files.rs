//! `read` and `write`: how fast a program away from home uses a file of its home, against plain TCP.
//!
//! The file lies in `/var/tmp` on a real disk's file system, but all of it is in the page cache, so that the
//! figures are those of the way between the nodes and not of the disk; written pages go to the disk when the kernel
//! finds time. The program reads or writes it in order, in blocks of 1 MiB, and of 128 KiB as a further figure. The
//! TCP stream carries as much in the same direction between the same nodes, in turns.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Effort, same, tcp, worker};
use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::{Probe, Stage};
use crate::statistics::median;

const MIB: usize = 256;
const TURNS: usize = 21;
const LARGE: usize = 1 << 20;
const SMALL: usize = 128 << 10;
const GOAL: Goal = Goal::at_least(0.7, 0.8);

/// A file that is removed in the end.
#[derive(Debug)]
struct Sample(PathBuf);

impl Sample {
    fn make() -> Result<Self, BenchError> {
        let large = Path::new("/var/tmp");
        let directory = if large.is_dir() { large.to_owned() } else { std::env::temp_dir() };
        let sample = Sample(directory.join(format!("minka-bench-{}", std::process::id())));
        let fill = || {
            let mut file = BufWriter::with_capacity(LARGE, std::fs::File::create_new(&sample.0)?);
            let mut state = 1u64;
            for _ in 0..(MIB << 20) / 8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                file.write_all(&state.to_le_bytes())?;
            }
            // On the disk before anything is measured, so that it is not being written meanwhile.
            file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
        };
        fill().map_err(BenchError::io("make a file to read and write"))?;
        Ok(sample)
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        // It may never have come to be.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Rates in bytes per microsecond, which are megabytes per second.
#[derive(Debug, Default)]
struct Rates {
    large: Vec<f64>,
    small: Vec<f64>,
    plain: Vec<f64>,
}

impl Rates {
    fn outcome(&self, native: f64, outcome: Outcome) -> Outcome {
        let plain = median(&self.plain);
        outcome
            .promised("ratio", median(&self.large) / plain, GOAL)
            .with("ratio_128k", median(&self.small) / plain)
            .with("file_mb_s", median(&self.large))
            .with("tcp_mb_s", plain)
            .with("at_home_mb_s", native)
    }
}

const BYTES: f64 = (MIB << 20) as f64;

pub(super) fn read(stage: &Stage, effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let sample = Sample::make()?;
    let order = |block: usize| format!("read {} {block}", sample.0.display());
    let mut probe = worker(stage, 1)?;
    let (_serving, mut asking) = tcp(stage)?;
    let expected = [read_once(&mut probe, &order(LARGE))?, read_once(&mut probe, &order(SMALL))?];
    let native = read_once(&mut probe, &order(LARGE))?.0;
    stage.send_away(&probe)?;
    let mut rates = Rates::default();
    for turn in 0..=effort.turns(TURNS) {
        let large = read_once(&mut probe, &order(LARGE))?;
        let [plain] = asking.ask_for(&format!("pull {MIB} {LARGE}"))?;
        let small = read_once(&mut probe, &order(SMALL))?;
        same(large.1, expected[0].1)?;
        same(small.1, expected[1].1)?;
        if turn > 0 {
            rates.large.push(large.0);
            rates.small.push(small.0);
            rates.plain.push(BYTES / plain);
        }
    }
    Ok(rates.outcome(native, outcome))
}

/// The rate, and what the file's end comes to.
fn read_once(probe: &mut Probe, order: &str) -> Result<(f64, f64), BenchError> {
    let [time, bytes, content] = probe.ask_for(order)?;
    same(bytes, BYTES)?;
    Ok((bytes / time, content))
}

pub(super) fn write(stage: &Stage, effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let sample = Sample::make()?;
    let order = |block: usize| format!("write {} {block} {}", sample.0.display(), MIB << 20);
    let mut probe = worker(stage, 1)?;
    let (_serving, mut asking) = tcp(stage)?;
    let mut native = Vec::new();
    for _ in 0..3 {
        let [time] = probe.ask_for(&order(LARGE))?;
        native.push(BYTES / time);
    }
    stage.send_away(&probe)?;
    let mut rates = Rates::default();
    for turn in 0..=effort.turns(TURNS) {
        let [large] = probe.ask_for(&order(LARGE))?;
        let [plain] = asking.ask_for(&format!("push {MIB} {LARGE}"))?;
        let [small] = probe.ask_for(&order(SMALL))?;
        if turn > 0 {
            rates.large.push(BYTES / large);
            rates.small.push(BYTES / small);
            rates.plain.push(BYTES / plain);
        }
    }
    Ok(rates.outcome(median(&native), outcome))
}
