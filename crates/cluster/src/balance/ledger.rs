//! What a node has promised to others: the room for processes that are on their way.

use super::candidate::ProcessId;
use super::cost::{Demand, Prices, Room};
use crate::NodeId;
use crate::gossip::Millis;
use crate::load::Flags;

/// Most promises at a time.
pub const RESERVATIONS_MAX: usize = 256;

/// A promise that nobody takes up ends after so long.
const KEPT_MS: u64 = 10_000;

/// So long after a process of unknown size began, its size is known.
const MEASURED_MS: u64 = 1_000;

/// Somebody asks whether a process may come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// Names the process, at the node that asks.
    pub process: ProcessId,
    /// What it wants.
    pub demand: Demand,
    /// It is about to begin, and how much memory it will want is a guess.
    pub unknown: bool,
    /// The most that its coming may cost; a process that has to leave its node comes at any cost.
    pub limit: f64,
}

/// Why a process may not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The node takes no guests.
    Closed,
    /// It would not have the memory.
    Memory,
    /// It would cost more than it brings.
    Cost,
    /// Too many are on their way already.
    Busy,
    /// It is a program of unknown size, and the last one that came is not yet measured. A burst of large programs would
    /// otherwise make all nodes swap at once.
    Unmeasured,
}

/// What the node says that was asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// Names the process, at the node that asked.
    pub process: ProcessId,
    /// Whether it may come.
    pub outcome: Result<(), Refused>,
    /// The node as it is, with all that is on its way to it.
    pub room: Room,
}

#[derive(Debug, Clone, Copy)]
struct Reservation {
    from: NodeId,
    process: ProcessId,
    demand: Demand,
    until: Millis,
}

/// A node's promises.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    reservations: Vec<Reservation>,
    /// Somebody of unknown size was let in, and is not measured before this.
    unmeasured_until: Millis,
    /// The same of who was placed elsewhere.
    departed_until: Millis,
}

impl Ledger {
    /// Nothing is promised.
    pub fn new() -> Self {
        Self::default()
    }

    /// The node with all that is on its way to it.
    pub fn room(&self, now: Millis, here: &Room) -> Room {
        let coming = self.reservations.iter().filter(|reservation| reservation.until > now);
        coming.fold(*here, |room, reservation| room.with(&reservation.demand))
    }

    /// Answers a claim, and keeps the room for it if the process may come. `here` is the node as it is.
    pub fn consider(
        &mut self,
        now: Millis,
        prices: &Prices,
        here: &Room,
        flags: Flags,
        from: NodeId,
        claim: &Claim,
    ) -> Answer {
        // Whoever asks again has forgotten that it has asked.
        self.settle(from, claim.process);
        self.reservations.retain(|reservation| reservation.until > now);
        let room = self.room(now, here);
        let outcome = if flags.blocked || flags.leaving {
            Err(Refused::Closed)
        } else if room.with(&claim.demand).left_mib() < 0.0 {
            Err(Refused::Memory)
        } else if room.paid(prices, &claim.demand) > claim.limit {
            Err(Refused::Cost)
        } else if self.reservations.len() >= RESERVATIONS_MAX {
            Err(Refused::Busy)
        } else if claim.unknown && self.unmeasured_until > now {
            Err(Refused::Unmeasured)
        } else {
            if claim.unknown {
                self.unmeasured_until = now + MEASURED_MS;
            }
            let reservation =
                Reservation { from, process: claim.process, demand: claim.demand, until: now + KEPT_MS };
            self.reservations.push(reservation);
            Ok(())
        };
        Answer { process: claim.process, outcome, room }
    }

    /// Whether a program of unknown size may be placed elsewhere now; if so, the next one may not until this one is
    /// measured. A burst of them begins where it is, and who is too many there leaves when it is known how large that is.
    pub fn depart(&mut self, now: Millis) -> bool {
        let may = self.departed_until <= now;
        if may {
            self.departed_until = now + MEASURED_MS;
        }
        may
    }

    /// A process has come, or will not come: from now on the node's own figures tell of it.
    pub fn settle(&mut self, from: NodeId, process: ProcessId) {
        self.reservations.retain(|it| (it.from, it.process) != (from, process));
    }

    /// A process has come, whoever has asked for it; what it was said to want, if anybody has.
    pub fn take(&mut self, process: ProcessId) -> Option<Demand> {
        let position = self.reservations.iter().position(|it| it.process == process)?;
        Some(self.reservations.swap_remove(position).demand)
    }

    /// A node is down, and nothing comes from it any more.
    pub fn forget(&mut self, from: NodeId) {
        self.reservations.retain(|reservation| reservation.from != from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Room =
        Room { cpus: 1.0, speed: 1.0, tasks: 0.0, haste: 0.0, memory_mib: 1000.0, used_mib: 0.0 };

    fn node(id: u16) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn claim(process: u64, memory_mib: f64, limit: f64) -> Claim {
        let demand = Demand { tasks: 1.0, haste: 1.0, memory_mib };
        Claim { process: ProcessId(process), demand, unknown: false, limit }
    }

    fn ask(ledger: &mut Ledger, now: Millis, from: u16, claim: Claim) -> Result<(), Refused> {
        ledger.consider(now, &Prices::default(), &HERE, Flags::default(), node(from), &claim).outcome
    }

    #[test]
    fn an_idle_node_is_not_flooded() {
        let mut ledger = Ledger::new();
        // Forty nodes have all heard that this one is idle; with one process there it is no better than their own.
        let granted = (1..=40).filter(|from| ask(&mut ledger, 0, *from, claim(9, 0.0, 1.5)).is_ok()).count();
        assert_eq!(granted, 1);
        ledger.settle(node(1), ProcessId(9));
        assert_eq!(ask(&mut ledger, 0, 2, claim(9, 0.0, 1.5)), Ok(()));
        ledger.forget(node(2));
        assert_eq!(ask(&mut ledger, 0, 3, claim(9, 0.0, 1.5)), Ok(()));
        let wanted = ledger.take(ProcessId(9)).map(|demand| demand.tasks);
        assert_eq!((wanted, ledger.take(ProcessId(9))), (Some(1.0), None));
    }

    #[test]
    fn promises_end_by_themselves_and_are_not_made_twice() {
        let mut ledger = Ledger::new();
        assert_eq!(ask(&mut ledger, 0, 1, claim(1, 0.0, 1.5)), Ok(()));
        assert_eq!(ask(&mut ledger, 1, 1, claim(1, 0.0, 1.5)), Ok(()));
        assert_eq!(ask(&mut ledger, KEPT_MS, 2, claim(1, 0.0, 1.5)), Err(Refused::Cost));
        assert_eq!(ask(&mut ledger, KEPT_MS + 1, 2, claim(1, 0.0, 1.5)), Ok(()));
    }

    #[test]
    fn memory_is_promised_once_and_a_closed_node_takes_nobody() {
        let mut ledger = Ledger::new();
        assert_eq!(ask(&mut ledger, 0, 1, claim(1, 600.0, f64::INFINITY)), Ok(()));
        assert_eq!(ask(&mut ledger, 0, 2, claim(1, 600.0, f64::INFINITY)), Err(Refused::Memory));
        let closed = Flags { blocked: true, ..Flags::default() };
        let answer = ledger.consider(0, &Prices::default(), &HERE, closed, node(3), &claim(1, 1.0, 1e9));
        assert_eq!((answer.outcome, answer.room.used_mib), (Err(Refused::Closed), 600.0));
    }

    #[test]
    fn programs_of_unknown_size_come_one_at_a_time() {
        let mut ledger = Ledger::new();
        let unknown = |process| Claim { unknown: true, ..claim(process, 1.0, f64::INFINITY) };
        assert_eq!(ask(&mut ledger, 0, 1, unknown(1)), Ok(()));
        assert_eq!(ask(&mut ledger, 999, 2, unknown(1)), Err(Refused::Unmeasured));
        assert_eq!(ask(&mut ledger, 999, 2, claim(1, 1.0, f64::INFINITY)), Ok(()));
        assert_eq!(ask(&mut ledger, 1000, 2, unknown(1)), Ok(()));
        let departures: Vec<_> = [0, 0, 999, 1000, 1999, 2000].map(|now| ledger.depart(now)).into();
        assert_eq!(departures, [true, false, false, true, false, true]);
    }

    #[test]
    fn there_is_a_limit_to_promises() {
        let mut ledger = Ledger::new();
        for process in 0..RESERVATIONS_MAX as u64 {
            assert_eq!(ask(&mut ledger, 0, 1, claim(process, 0.0, f64::INFINITY)), Ok(()));
        }
        assert_eq!(ask(&mut ledger, 0, 1, claim(9999, 0.0, f64::INFINITY)), Err(Refused::Busy));
    }
}
