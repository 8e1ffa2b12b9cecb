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

/// Processes that are thought about in one step, at most: those that cost most where they are. Which of a thousand leave
/// first matters little, and thinking about all of them would cost more than it brings.
const CANDIDATES_MAX: usize = 64;

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
    let known = others;
    let mut others: Vec<Other> = others.iter().filter(|other| other.takes_guests()).copied().collect();
    // Who only has memory here is the usher's affair.
    let eligible =
        |it: &&Candidate| it.demand.tasks > 0.0 && settings.permits(it) && settings.has_earned(it, now);
    let mut left: Vec<&Candidate> = candidates.iter().filter(eligible).collect();
    if left.len() > CANDIDATES_MAX {
        left.sort_by_cached_key(|it| std::cmp::Reverse((here.saved(prices, &it.demand) * 1e6) as u64));
        left.truncate(CANDIDATES_MAX);
    }
    let mut wishes = Vec::new();
    while wishes.len() < settings.moves_max {
        let mut best: Option<(usize, usize, Wish)> = None;
        for (position, it) in left.iter().enumerate() {
            let leaving = Leaving::new(settings, prices, &here, it);
            let passes = passes_home(it, &it.demand, known);
            let allowed = |(_, other): &(usize, &Other)| passes || it.home == Some(other.node);
            for (at, other) in others.iter().enumerate().filter(allowed) {
                let better = |wish: &Wish| best.is_none_or(|(_, _, other)| wish.gain > other.gain);
                if let Some(wish) = leaving.judge(prices, other).filter(better) {
                    best = Some((position, at, wish));
                }
            }
        }
        let Some((position, at, wish)) = best else { break };
        let candidate = left.swap_remove(position);
        here = here.without(&candidate.demand);
        others[at].room = others[at].room.with(&candidate.demand);
        wishes.push(wish);
    }
    wishes
}

/// Whether a guest could go on to another node: its memory passes through its home, which may have kept nothing of it. Who
/// is at home can leave anyway.
pub(super) fn passes_home(it: &Candidate, demand: &Demand, others: &[Other]) -> bool {
    let has_room = |other: &Other| other.room.with(demand).left_mib() >= 0.0;
    it.home.is_none_or(|home| others.iter().any(|other| other.node == home && has_room(other)))
}

/// A process that thinks of leaving: what does not depend on where it would go.
struct Leaving<'a> {
    it: &'a Candidate,
    /// What it may cost elsewhere, if it is its home; and what being away from home costs besides.
    limit_home: f64,
    forwarding: f64,
    horizon_s: f64,
}

impl<'a> Leaving<'a> {
    fn new(settings: &Settings, prices: &Prices, here: &Room, it: &'a Candidate) -> Self {
        let forwarding = settings.forwarding(it);
        let saved = here.saved(prices, &it.demand) + if it.home.is_some() { forwarding } else { 0.0 };
        // Moving costs once what else is paid each second.
        let horizon_s = settings.horizon_s(it);
        let moving = it.demand.haste * settings.moving_s(it) / horizon_s;
        Leaving { it, limit_home: saved * (1.0 - settings.gain) - moving, forwarding, horizon_s }
    }

    /// What it brings to go to a node; nothing if it brings too little.
    fn judge(&self, prices: &Prices, to: &Other) -> Option<Wish> {
        let it = self.it;
        let away = if it.home == Some(to.node) { 0.0 } else { self.forwarding };
        let limit = self.limit_home - away;
        // The least that any node can cost is looked at first: most are not worth more thought.
        let with = to.room.with(&it.demand);
        if limit <= 0.0 || with.left_mib() < 0.0 || it.demand.haste * with.delay(prices) >= limit {
            return None;
        }
        let paid = to.room.paid(prices, &it.demand);
        let claim = Claim { process: it.process, demand: it.demand, unknown: false, limit };
        (paid < limit).then_some(Wish { to: to.node, claim, gain: (limit - paid) * self.horizon_s })
    }
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
