//! `many`: a lab of 24 nodes on one machine: until they are up, know each other, and have spread what is begun on one.

use std::time::{Duration, Instant};

use minka_lab::{BalanceMode, LabOptions};
use minka_node::client::Client;

use super::Effort;
use super::balance::{counts, meet};
use super::idle::Used;
use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::Stage;

const NODES: u32 = 24;

/// What each has of a processor: all together a little more than one, so that there is something left for the daemons.
const SHARE: f64 = 0.05;

const PROCESSES: usize = 72;

/// Memory of each process, in MiB.
const MEMORY: &str = "1";

/// What the daemons cost is watched for so long, after they had this time to come to rest.
const SETTLE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(10);

/// How often it is asked who is where, and for how long.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn many(effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let options = LabOptions {
        nodes: NODES,
        cpus: vec![SHARE],
        balance: BalanceMode::All,
        ..LabOptions::named(format!("bench-many-{}", std::process::id()))
    };
    let start = Instant::now();
    let stage = Stage::with(options)?;
    let up_s = start.elapsed().as_secs_f64();
    let met_s = meet(&stage, NODES as usize)?;
    let daemons: Result<Vec<u32>, BenchError> = (1..=NODES).map(|node| stage.daemon(node)).collect();
    let daemons = daemons?;
    std::thread::sleep(SETTLE);
    let look = || daemons.iter().map(|pid| Used::of(*pid)).collect::<Result<Vec<_>, _>>();
    let ran_s = |used: &[Used]| used.iter().map(|used| used.ran_ns).sum::<u64>() as f64 / 1e9;
    let (before, watch) = (look()?, Instant::now());
    std::thread::sleep(WATCHED / if effort == Effort::Full { 1 } else { 5 });
    let (after, watched_s) = (look()?, watch.elapsed().as_secs_f64());
    let cpu_percent = (ran_s(&after) - ran_s(&before)) / watched_s * 100.0;
    let memory_mib: f64 = after.iter().map(|used| used.memory_mib).sum();
    let mut probes = Vec::new();
    for _ in 0..PROCESSES {
        probes.push(stage.probe(1, ["work", MEMORY])?);
    }
    let start = Instant::now();
    for probe in &mut probes {
        // Longer than anybody waits for it.
        probe.tell("spin 600000")?;
    }
    let run_directory = stage.run_directory(1)?;
    let mut balanced_s = None;
    let mut least_and_most = (0, PROCESSES);
    while balanced_s.is_none() && start.elapsed() < LOOK_LIMIT {
        std::thread::sleep(LOOK);
        let counts = counts(&mut Client::connect(&run_directory)?, &probes, NODES as usize)?;
        let bounds = counts.iter().min().copied().zip(counts.iter().max().copied());
        least_and_most = bounds.unwrap_or(least_and_most);
        let (least, most) = least_and_most;
        balanced_s = (most - least <= 2).then(|| start.elapsed().as_secs_f64());
    }
    let known = Client::connect(&run_directory)?.ps(false)?;
    let moves: u64 = known.iter().map(|process| process.moves).sum();
    Ok(outcome
        .promised(
            "balanced_s",
            balanced_s.unwrap_or_else(|| start.elapsed().as_secs_f64()),
            Goal::at_most(30.0, 15.0),
        )
        .with("least", least_and_most.0 as f64)
        .with("most", least_and_most.1 as f64)
        .with("moves", moves as f64)
        .with("up_s", up_s)
        .with("met_s", met_s)
        .with("daemons_cpu_percent", cpu_percent)
        .with("daemons_memory_mib", memory_mib))
}
