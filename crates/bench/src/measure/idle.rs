//! `idle`: what the daemons of nodes cost on which nothing happens.

use std::fs;
use std::time::{Duration, Instant};

use minka_lab::{BalanceMode, LabOptions};
use minka_sample::parse;

use super::Effort;
use super::balance::meet;
use crate::error::BenchError;
use crate::figures::{Goal, Outcome};
use crate::stage::Stage;

const NODES: u32 = 3;

/// The nodes have just found each other; so long after that they are at rest.
const SETTLE: Duration = Duration::from_secs(5);

/// How long they are watched.
const WATCHED: Duration = Duration::from_secs(32);

pub(super) fn idle(effort: Effort, outcome: Outcome) -> Result<Outcome, BenchError> {
    let options = LabOptions {
        nodes: NODES,
        balance: BalanceMode::All,
        ..LabOptions::named(format!("bench-idle-{}", std::process::id()))
    };
    let stage = Stage::with(options)?;
    meet(&stage, NODES as usize)?;
    std::thread::sleep(SETTLE);
    let watched = WATCHED / if effort == Effort::Full { 1 } else { 8 };
    let daemons: Result<Vec<u32>, BenchError> = (1..=NODES).map(|node| stage.daemon(node)).collect();
    let daemons = daemons?;
    let look = || daemons.iter().map(|pid| Used::of(*pid)).collect::<Result<Vec<_>, _>>();
    let (before, start) = (look()?, Instant::now());
    std::thread::sleep(watched);
    let (after, seconds) = (look()?, start.elapsed().as_secs_f64());
    let most = |figure: &dyn Fn(&Used, &Used) -> f64| {
        before.iter().zip(&after).map(|(before, after)| figure(before, after)).fold(0.0, f64::max)
    };
    let cpu_percent = most(&|before, after| (after.ran_ns - before.ran_ns) as f64 / seconds / 1e7);
    let memory_mib = most(&|_, after| after.memory_mib);
    let bytes_per_s = most(&|before, after| (after.sent_bytes - before.sent_bytes) as f64 / seconds);
    Ok(outcome
        .promised("cpu_percent", cpu_percent, Goal::at_most(0.3, 0.1))
        .promised("memory_mib", memory_mib, Goal::at_most(40.0, 20.0))
        .with("bytes_per_s", bytes_per_s)
        .with("watched_s", seconds))
}

/// What a daemon has used, and its node has sent.
pub(super) struct Used {
    pub(super) ran_ns: u64,
    pub(super) memory_mib: f64,
    sent_bytes: u64,
}

impl Used {
    pub(super) fn of(pid: u32) -> Result<Self, BenchError> {
        let read = |name: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/{name}"));
            text.map_err(BenchError::io("look at a node's daemon"))
        };
        let tasks =
            fs::read_dir(format!("/proc/{pid}/task")).map_err(BenchError::io("look at a node's daemon"))?;
        let mut ran_ns = 0;
        for task in tasks.filter_map(Result::ok) {
            // A thread may just have ended.
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            ran_ns += parse::schedstat(&text).map_or(0, |(ran_ns, _)| ran_ns);
        }
        let status = read("status")?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        // `Inter-| Receive | Transmit`, two lines of headings; the ninth number is of what was sent.
        let net = read("net/dev")?;
        let sent = net.lines().skip(2).filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            if name.trim() == "lo" {
                None
            } else {
                numbers.split_ascii_whitespace().nth(8)?.parse::<u64>().ok()
            }
        });
        Ok(Used { ran_ns, memory_mib: kib.unwrap_or(0.0) / 1024.0, sent_bytes: sent.sum() })
    }
}
