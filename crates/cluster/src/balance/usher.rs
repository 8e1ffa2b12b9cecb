//! Memory ushering: a node that runs out of memory sends somebody away, whatever the balance says.
//!
//! A node that swaps is slower than the busiest one that does not. So this comes before balancing, and neither its
//! threshold nor the time that a process must have been here counts. And it comes before the memory is used up: how fast
//! that goes is followed ([`Growth`]), and what is going to be used while somebody leaves counts as used.

use std::collections::BTreeMap;

use super::candidate::{Candidate, ProcessId, Settings};
use super::cost::{Demand, Room};
use super::ledger::Claim;
use super::select::{Other, Wish, passes_home};
use crate::gossip::Millis;

/// So long it takes, in seconds, until a decision has been taken and whoever leaves grows elsewhere.
const LEAD_S: f64 = 3.0;

/// No more than this part of a node's memory is held for what is going to be used: who loads a large file once does not
/// go on like that.
const LEAD_MAX: f64 = 0.5;

/// How fast a node's memory is being used up, and by whom.
#[derive(Debug, Clone, Default)]
pub struct Growth {
    last: Option<(Millis, f64)>,
    mib_per_s: f64,
    /// What processes had when they were last looked at, and what they take in a second.
    processes: BTreeMap<ProcessId, (f64, f64)>,
}

impl Growth {
    /// Takes in how much is used. What grows faster than before counts at once, what grows slower by half.
    pub fn observe(&mut self, now: Millis, used_mib: f64, candidates: &[Candidate]) {
        let Some((before, earlier)) = self.last.replace((now, used_mib)).filter(|(before, _)| *before < now)
        else {
            return;
        };
        let seconds = (now - before) as f64 / 1000.0;
        let follow = |rate: f64, mib: f64| {
            let new = (mib / seconds).max(0.0);
            if new > rate { new } else { (new + rate) / 2.0 }
        };
        self.mib_per_s = follow(self.mib_per_s, used_mib - earlier);
        let old = std::mem::take(&mut self.processes);
        let known = |it: &Candidate| {
            let mib = it.demand.memory_mib;
            let (earlier, rate) = old.get(&it.process).copied().unwrap_or((mib, 0.0));
            (it.process, (mib, follow(rate, mib - earlier)))
        };
        self.processes = candidates.iter().map(known).collect();
    }

    /// Somebody has come who was expected to: that is no growth.
    pub fn expect(&mut self, memory_mib: f64) {
        if let Some((_, used_mib)) = &mut self.last {
            *used_mib += memory_mib;
        }
    }

    /// What is going to be used before somebody who is sent away now has gone.
    pub fn lead_mib(&self, memory_mib: f64) -> f64 {
        (self.mib_per_s * LEAD_S).min(memory_mib * LEAD_MAX)
    }

    /// What a process is going to use of that.
    fn of(&self, process: ProcessId) -> f64 {
        self.processes.get(&process).map_or(0.0, |(_, rate)| rate * LEAD_S)
    }
}

/// Who should leave and where to. Who is there is short already sends the smallest process that is large enough to the
/// node where it leaves the least unused; if none is, the largest that fits anywhere. Who is only going to be short sends
/// those that grow most, as many as it takes, to where most is left: what they have stays here until they come back, and
/// what they are going to want is there.
pub fn usher(
    settings: &Settings,
    here: &Room,
    growth: &Growth,
    candidates: &[Candidate],
    others: &[Other],
) -> Vec<Wish> {
    let permitted = |it: &&Candidate| settings.permits(it) && it.demand.memory_mib > 0.0;
    let candidates: Vec<&Candidate> = candidates.iter().filter(permitted).collect();
    if here.left_mib() < 0.0 {
        let wish = fitting(-here.left_mib(), candidates, others);
        return wish.into_iter().collect();
    }
    let mut short_mib = growth.lead_mib(here.memory_mib) - here.left_mib();
    let mut growing: Vec<(f64, &Candidate)> =
        candidates.into_iter().map(|it| (growth.of(it.process), it)).filter(|(mib, _)| *mib > 0.0).collect();
    growing.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let mut others = others.to_vec();
    let mut wishes = Vec::new();
    for (mib, it) in growing {
        if short_mib <= 0.0 || wishes.len() >= settings.moves_max {
            break;
        }
        // It is going to want more there at once.
        let demand = Demand { memory_mib: it.demand.memory_mib + mib, ..it.demand };
        if let Some(to) = fit(it, &demand, true, &others) {
            wishes.push(Wish { to: others[to].node, claim: claim(it, demand), gain: short_mib });
            others[to].room = others[to].room.with(&demand);
            short_mib -= mib;
        }
    }
    wishes
}

fn claim(it: &Candidate, demand: Demand) -> Claim {
    Claim { process: it.process, demand, unknown: false, limit: f64::INFINITY }
}

fn fitting(short_mib: f64, mut candidates: Vec<&Candidate>, others: &[Other]) -> Option<Wish> {
    candidates.sort_by(|a, b| a.demand.memory_mib.total_cmp(&b.demand.memory_mib));
    let enough = candidates.partition_point(|it| it.demand.memory_mib < short_mib);
    let (small, large) = candidates.split_at(enough);
    large.iter().chain(small.iter().rev()).find_map(|it| {
        let to = fit(it, &it.demand, false, others)?;
        Some(Wish { to: others[to].node, claim: claim(it, it.demand), gain: short_mib })
    })
}

/// Which of the others takes a process.
fn fit(it: &Candidate, demand: &Demand, growing: bool, others: &[Other]) -> Option<usize> {
    let left = |other: &Other| other.room.with(demand).left_mib();
    if !passes_home(it, demand, others) {
        return None;
    }
    let fitting = others.iter().enumerate().filter(|(_, other)| other.takes_guests() && left(other) >= 0.0);
    let best = if growing {
        fitting.max_by(|(_, a), (_, b)| left(a).total_cmp(&left(b)))
    } else {
        fitting.min_by(|(_, a), (_, b)| left(a).total_cmp(&left(b)))
    };
    best.map(|(at, _)| at)
}
