//! Choosing whom to ask to take whom.

use super::candidate::{Candidate, ProcessId, Settings};
use super::cost::{Demand, Prices, Room};
use super::ledger::Claim;
use crate::NodeId;
use crate::gossip::Millis;
use crate::load::Flags;

/// Another node, as it is known here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Other {
    /// Which one.
    pub node: NodeId,
    /// What it has told.
    pub room: Room,
    /// What it is willing to do.
    pub flags: Flags,
}

impl Other {
    pub(super) fn takes_guests(&self) -> bool {
        !self.flags.blocked && !self.flags.leaving
    }
}

/// A process that should go to a node, if that agrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// Where to.
    pub to: NodeId,
    /// What to ask there.
    pub claim: Claim,
    /// What it brings, in weighted seconds.
    pub gain: f64,
}

/// The moves that bring most, best first; each is judged as if those before it were done already.
pub fn wishes(
    settings: &Settings,
    prices: &Prices,
    now: Millis,
    here: &Room,
    candidates: &[Candidate],
    others: &[Other],
) -> Vec<Wish> {
    let mut here = *here;
    let mut others: Vec<Other> = others.iter().filter(|other| other.takes_guests()).copied().collect();
    let eligible = |it: &&Candidate| settings.permits(it) && settings.has_earned(it, now);
    let mut left: Vec<&Candidate> = candidates.iter().filter(eligible).collect();
    let mut wishes = Vec::new();
    while wishes.len() < settings.moves_max {
        let moves = left.iter().enumerate().flat_map(|(position, candidate)| {
            let (here, others) = (&here, &others);
            let judged = others
                .iter()
                .enumerate()
                .map(move |(at, other)| (at, judge(settings, prices, here, candidate, other)));
            judged.filter_map(move |(at, wish)| wish.map(|wish| (position, at, wish)))
        });
        let Some((position, at, wish)) = moves.max_by(|a, b| a.2.gain.total_cmp(&b.2.gain)) else { break };
        let candidate = left.swap_remove(position);
        here = here.without(&candidate.demand);
        others[at].room = others[at].room.with(&candidate.demand);
        wishes.push(wish);
    }
    wishes
}

/// What it brings to move a process to a node; nothing if it brings too little.
fn judge(settings: &Settings, prices: &Prices, here: &Room, it: &Candidate, to: &Other) -> Option<Wish> {
    if to.room.with(&it.demand).left_mib() < 0.0 {
        return None;
    }
    let forwarding = settings.forwarding(it);
    let saved = here.saved(prices, &it.demand) + if it.home.is_some() { forwarding } else { 0.0 };
    let away = if it.home == Some(to.node) { 0.0 } else { forwarding };
    // Moving costs once what else is paid each second.
    let horizon_s = settings.horizon_s(it);
    let moving = it.demand.haste * settings.moving_s(it) / horizon_s;
    let limit = saved * (1.0 - settings.gain) - away - moving;
    let paid = to.room.paid(prices, &it.demand);
    let claim = Claim { process: it.process, demand: it.demand, unknown: false, limit };
    (paid < limit).then_some(Wish { to: to.node, claim, gain: (limit - paid) * horizon_s })
}

/// Where a program should be started: the nodes that are better than this one, the best first. At `execve` a process
/// is almost empty, so that it costs next to nothing to move it. `memory_mib` is what it will want, if earlier runs of the
/// program tell, and otherwise a guess is made.
pub fn place(
    settings: &Settings,
    prices: &Prices,
    process: ProcessId,
    here: &Room,
    memory_mib: Option<f64>,
    others: &[Other],
) -> Vec<Wish> {
    let demand = Demand::new(prices, 1.0, 0.0, memory_mib.unwrap_or(settings.unknown_mib));
    let moving = demand.haste * settings.move_s;
    // It is not here yet, so what is saved is what it would cost here.
    let limit = here.paid(prices, &demand) * (1.0 - settings.gain) - moving;
    let claim = Claim { process, demand, unknown: memory_mib.is_none(), limit };
    let wish = |other: &Other| {
        let spare_mib = if claim.unknown { other.room.memory_mib * settings.unknown_spare } else { 0.0 };
        let fits = other.takes_guests() && other.room.with(&demand).left_mib() >= spare_mib;
        let gain = limit - other.room.paid(prices, &demand);
        (fits && gain > 0.0).then_some(Wish { to: other.node, claim, gain })
    };
    let mut wishes: Vec<Wish> = others.iter().filter_map(wish).collect();
    wishes.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    wishes.truncate(settings.moves_max);
    wishes
}
