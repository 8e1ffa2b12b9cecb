//! `balance`: how soon, and how well, work that is started on one node spreads over all of them by itself.
//!
//! Each node of a lab has a part of a processor for programs; the daemons have what is left. When all nodes know each
//! other's load, all processes are begun on the first node, and nobody tells anybody to move. How fast each node is while
//! all of them compute is measured before and after that, for a virtual machine's speed is not the same all the time; the
//! ideal is all work divided by the sum of those speeds, as if it could be cut at will and moved for nothing.

use std::time::{Duration, Instant};

use minka_lab::{BalanceMode, LabOptions};
use minka_node::client::Client;

use super::{Effort, same};
use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::{Probe, Stage, exactly};

/// Four nodes of the same speed, that together have less than two processors.
const EQUAL: [f64; 4] = [0.4, 0.4, 0.4, 0.4];
const PROCESSES: usize = 32;

/// Three nodes that are each twice as fast as the one before, and processes of which some have eight times as much to
/// do as others.
const UNEQUAL: [f64; 3] = [0.25, 0.5, 1.0];
const LENGTHS: [f64; 24] = {
    let mut lengths = [1.0; 24];
    let mut index = 0;
    while index < lengths.len() {
        lengths[index] = [1.0, 2.0, 4.0, 8.0][index % 4];
        index += 1;
    }
    lengths
};

/// How long all of it should ideally take.
const IDEAL: Duration = Duration::from_secs(24);

/// How long each node is measured, roughly, and how many rounds a second a processor of today computes.
const MEASURED_S: f64 = 2.5;
const ROUNDS_PER_S: f64 = 7e8;

/// Memory of each process, in MiB.
const MEMORY: &str = "4";

/// How long nodes may take to find each other.
const MEET_LIMIT: Duration = Duration::from_secs(30);

/// How often the nodes are asked who is where, and for how long at most.
const LOOK: Duration = Duration::from_millis(200);
const LOOK_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn balance(effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let ideal = match effort {
        Effort::Full => IDEAL,
        Effort::Quick => IDEAL / 4,
    };
    let equal = spread("balance", &EQUAL, &[1.0; PROCESSES], ideal)?;
    let unequal = spread("balance-unequal", &UNEQUAL, &LENGTHS, ideal)?;
    Ok(outcome
        .promised("balance_s", equal.balanced_s, Goal::at_most(5.0, 2.0))
        .promised("makespan_ratio", equal.makespan_s / equal.ideal_s, Goal::at_most(1.15, 1.05))
        .promised("unequal_ratio", unequal.makespan_s / unequal.ideal_s, Goal::at_most(1.2, 1.08))
        .with("met_s", equal.met_s)
        .with("ideal_s", equal.ideal_s)
        .with("moves", equal.moves)
        .with("unequal_ideal_s", unequal.ideal_s)
        .with("unequal_moves", unequal.moves))
}

/// What became of it.
struct Spread {
    /// Until all nodes knew each other's load.
    met_s: f64,
    /// Until all nodes had the same number of processes, give or take one.
    balanced_s: f64,
    /// Until the last one had ended.
    makespan_s: f64,
    ideal_s: f64,
    moves: f64,
}

/// Begins processes of these lengths on the first of nodes with these parts of a processor.
fn spread(name: &str, shares: &[f64], lengths: &[f64], ideal: Duration) -> Result<Spread, BenchError> {
    let options = LabOptions {
        nodes: shares.len() as u32,
        cpus: shares.to_vec(),
        balance: BalanceMode::All,
        ..LabOptions::named(format!("bench-{name}-{}", std::process::id()))
    };
    let stage = Stage::with(options)?;
    let met_s = meet(&stage, shares.len())?;
    let speed = speeds(&stage, shares)?;
    let unit = speed * ideal.as_secs_f64() / lengths.iter().sum::<f64>();
    let mut probes = Vec::new();
    for _ in lengths {
        probes.push(stage.probe(1, ["work", MEMORY])?);
    }
    let start = Instant::now();
    let rounds: Vec<u64> = lengths.iter().map(|length| (length * unit) as u64).collect();
    for (probe, rounds) in probes.iter_mut().zip(&rounds) {
        probe.tell(&format!("compute {rounds}"))?;
    }
    let run_directory = stage.run_directory(1)?;
    let mut balanced_s = None;
    while balanced_s.is_none() && start.elapsed() < LOOK_LIMIT.min(ideal) {
        std::thread::sleep(LOOK);
        let counts = counts(&mut Client::connect(&run_directory)?, &probes, shares.len())?;
        let level = counts.iter().max().zip(counts.iter().min()).is_some_and(|(max, min)| max - min <= 1);
        balanced_s = level.then(|| start.elapsed().as_secs_f64());
    }
    let mut results: Vec<(u64, f64)> = Vec::new();
    for (probe, rounds) in probes.iter_mut().zip(&rounds) {
        let [_, content] = exactly("compute", probe.hear("compute")?)?;
        results.push((*rounds, content));
    }
    let makespan_s = start.elapsed().as_secs_f64();
    // Whoever has computed the same has to come to the same.
    for (rounds, content) in &results {
        let first = results.iter().find(|(other, _)| other == rounds);
        first.map_or(Ok(()), |(_, expected)| same(*content, *expected))?;
    }
    let known = Client::connect(&run_directory)?.ps(false)?;
    let moves: u64 = known.iter().map(|process| process.moves).sum();
    let speed = (speed + speeds(&stage, shares)?) / 2.0;
    let ideal_s = rounds.iter().sum::<u64>() as f64 / speed;
    let balanced_s = balanced_s.unwrap_or(makespan_s);
    Ok(Spread { met_s, balanced_s, makespan_s, ideal_s, moves: moves as f64 })
}

/// Waits until all nodes know each other's load; returns how long that took from now.
pub(super) fn meet(stage: &Stage, nodes: usize) -> Result<f64, BenchError> {
    let start = Instant::now();
    let knows_all = |node: usize| {
        let known = Client::connect(&stage.run_directory(node as u32)?)?.nodes()?;
        Ok(known.iter().filter(|known| known.member && known.figures.is_some()).count() == nodes)
    };
    loop {
        let knowing: Result<Vec<bool>, BenchError> = (1..=nodes).map(knows_all).collect();
        if knowing?.iter().all(|knows| *knows) {
            return Ok(start.elapsed().as_secs_f64());
        }
        if start.elapsed() > MEET_LIMIT {
            return Err(BenchError::Apart { limit: MEET_LIMIT });
        }
        std::thread::sleep(LOOK);
    }
}

/// Rounds a second that all nodes together compute.
fn speeds(stage: &Stage, shares: &[f64]) -> Result<f64, BenchError> {
    let mut probes = Vec::new();
    for (node, share) in (1..).zip(shares) {
        probes.push((stage.probe(node, ["work", "1"])?, (share * MEASURED_S * ROUNDS_PER_S) as u64));
    }
    for (probe, rounds) in &mut probes {
        probe.tell(&format!("compute {rounds}"))?;
    }
    let mut sum = 0.0;
    for (probe, rounds) in &mut probes {
        let [time_us, _] = exactly("compute", probe.hear("compute")?)?;
        sum += *rounds as f64 / (time_us / 1e6);
    }
    Ok(sum)
}

/// How many of the probes compute on each node.
pub(super) fn counts(client: &mut Client, probes: &[Probe], nodes: usize) -> Result<Vec<usize>, BenchError> {
    let known = client.ps(false)?;
    let mut counts = vec![0; nodes];
    for probe in probes {
        let at = known.iter().find(|process| process.pid == probe.pid()).map(|process| process.at.as_str());
        let node = (1..=nodes).find(|node| at == Some(minka_lab::node_name(*node as u32).as_str()));
        counts[node.unwrap_or(1) - 1] += 1;
    }
    Ok(counts)
}
