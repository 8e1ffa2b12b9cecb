//! Memory ushering: a node that runs out of memory sends somebody away, whatever the balance says.
//!
//! A node that swaps is slower than the busiest one that does not. So this comes before balancing, and neither its
//! threshold nor the time that a process must have been here counts.

use super::candidate::{Candidate, Settings};
use super::cost::Room;
use super::ledger::Claim;
use super::select::{Other, Wish};

/// Who should leave and where to, so that at least `reserve_mib` of memory are free again: the smallest process that
/// is large enough, to the node where it leaves the least unused; if none is, the largest that fits anywhere.
pub fn usher(
    settings: &Settings,
    here: &Room,
    reserve_mib: f64,
    candidates: &[Candidate],
    others: &[Other],
) -> Option<Wish> {
    let short_mib = reserve_mib - here.left_mib();
    if short_mib <= 0.0 {
        return None;
    }
    let permitted = |it: &&Candidate| settings.permits(it) && it.demand.memory_mib > 0.0;
    let mut candidates: Vec<&Candidate> = candidates.iter().filter(permitted).collect();
    candidates.sort_by(|a, b| a.demand.memory_mib.total_cmp(&b.demand.memory_mib));
    let enough = candidates.partition_point(|it| it.demand.memory_mib < short_mib);
    let (small, large) = candidates.split_at(enough);
    large.iter().chain(small.iter().rev()).find_map(|it| best_fit(it, short_mib, others))
}

fn best_fit(it: &Candidate, gain: f64, others: &[Other]) -> Option<Wish> {
    let left = |other: &Other| other.room.with(&it.demand).left_mib();
    let fitting = others.iter().filter(|other| other.takes_guests() && left(other) >= 0.0);
    let other = fitting.min_by(|a, b| left(a).total_cmp(&left(b)))?;
    let claim = Claim { process: it.process, demand: it.demand, unknown: false, limit: f64::INFINITY };
    Some(Wish { to: other.node, claim, gain })
}
