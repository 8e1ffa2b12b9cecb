//! `usher`: processes that together want more memory than the node has on which they are begun.
//!
//! They hardly compute, so the balance of loads would leave all of them where they are. Each grows step by step, holds
//! what it has for a while, and computes from all of it what has to come out. A node's memory is that of a control group,
//! and who exceeds it swaps, if the machine can, or is killed by the kernel.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use minka_lab::{BalanceMode, LabOptions};
use minka_node::client::Client;
use minka_sample::MemoryGroup;

use super::balance::meet;
use super::{Effort, same};
use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::{Stage, exactly};

const NODES: u32 = 3;

/// What each node has, and what the processes want and take in a second, in MiB.
const LIMIT_MIB: u32 = 256;
const PROCESSES: u32 = 8;
const WANTED_MIB: u32 = 44;
const GROWTH_MIB_S: u32 = 4;

/// How long they keep it.
const HELD_S: u32 = 5;

/// How often the nodes' memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn usher(effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let options = LabOptions {
        nodes: NODES,
        memory_mib: vec![LIMIT_MIB],
        balance: BalanceMode::All,
        ..LabOptions::named(format!("bench-usher-{}", std::process::id()))
    };
    let rate = match effort {
        Effort::Full => GROWTH_MIB_S,
        Effort::Quick => 2 * GROWTH_MIB_S,
    };
    let stage = Stage::with(options)?;
    let groups: Result<Vec<Group>, BenchError> = (1..=NODES).map(|node| Group::of(&stage, node)).collect();
    let groups = groups?;
    meet(&stage, NODES as usize)?;
    let mut probes = Vec::new();
    for _ in 0..PROCESSES {
        probes.push(stage.probe(1, ["work", "1"])?);
    }
    let order = format!("grow {WANTED_MIB} {rate} {HELD_S}");
    let start = Instant::now();
    for probe in &mut probes {
        probe.tell(&order)?;
    }
    let seconds = WANTED_MIB / rate + HELD_S;
    let (mut fullest, mut swapped_mib, mut first_s) = (0.0_f64, 0.0_f64, None);
    let run_directory = stage.run_directory(1)?;
    while start.elapsed() < Duration::from_secs(seconds.into()) {
        fullest = groups.iter().map(Group::full).fold(fullest, f64::max);
        swapped_mib = groups.iter().map(Group::swapped_mib).fold(swapped_mib, f64::max);
        if first_s.is_none() && !Client::connect(&run_directory)?.ps(false)?.is_empty() {
            first_s = Some(start.elapsed().as_secs_f64());
        }
        std::thread::sleep(LOOK);
    }
    let (mut killed, mut expected) = (0.0, None);
    for probe in &mut probes {
        match probe.hear(&order) {
            Ok(answer) => {
                let [content] = exactly(&order, answer)?;
                same(content, *expected.get_or_insert(content))?;
            }
            Err(BenchError::ProbeEnded { .. }) => killed += 1.0,
            Err(error) => return Err(error),
        }
    }
    let known = Client::connect(&run_directory)?.ps(false)?;
    let moves: u64 = known.iter().map(|process| process.moves).sum();
    let killed = groups.iter().map(Group::killed).sum::<f64>().max(killed);
    let outcome = outcome
        .promised("killed", killed, Goal::at_most(0.0, 0.0))
        .promised("swapped_mib", swapped_mib, Goal::at_most(0.0, 0.0))
        .with("wanted_mib", f64::from(PROCESSES * WANTED_MIB))
        .with("limit_mib", f64::from(LIMIT_MIB))
        .with("fullest", fullest)
        .with("moves", moves as f64);
    Ok(match first_s {
        Some(first_s) => outcome.with("first_move_s", first_s),
        None => outcome.unknown("first_move_s", "nobody moved"),
    })
}

/// The control group that limits a node's memory.
struct Group {
    directory: PathBuf,
    memory: MemoryGroup,
}

impl Group {
    fn of(stage: &Stage, node: u32) -> Result<Self, BenchError> {
        let groups = stage.control_groups(node)?;
        let found = groups.iter().find_map(|group| Some((group, MemoryGroup::among([group])?)));
        let (directory, memory) = found
            .ok_or_else(|| BenchError::Move("the lab's nodes have no control group for memory".to_owned()))?;
        Ok(Group { directory: directory.clone(), memory })
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    /// A number in a file of lines, such as `oom_kill 3`.
    fn counted(&self, file: &str, name: &str) -> Option<f64> {
        let text = self.read(file);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.trim().parse().ok()
    }

    /// What part of its memory is used; files that the kernel can forget do not count.
    fn full(&self) -> f64 {
        let [all, _, available] = self.memory.of([u32::MAX; 3]);
        1.0 - f64::from(available) / f64::from(all.max(1))
    }

    fn swapped_mib(&self) -> f64 {
        let of_two = self.read("memory.swap.current").trim().parse().ok();
        of_two.or_else(|| self.counted("memory.stat", "total_swap")).unwrap_or(0.0) / f64::from(1 << 20)
    }

    /// Whom the kernel has killed because there was no memory left.
    fn killed(&self) -> f64 {
        let of_two = self.counted("memory.events", "oom_kill");
        of_two.or_else(|| self.counted("memory.oom_control", "oom_kill")).unwrap_or(0.0)
    }
}
