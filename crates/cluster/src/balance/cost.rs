//! What it costs that processes are where they are.
//!
//! The cost of a node is what its processes lose there in a second, each counted by its weight:
//!
//! ```text
//!   cost = Σ weight × delay + price × n^(used memory / memory)
//!   delay = max(1, tasks / processors) / speed, ten times that while the node swaps
//! ```
//!
//! The second term is the opportunity cost of memory in the form that Amir, Awerbuch, Barak, Borgstrom and Keren give
//! it (n is the number of nodes): memory is dearer the less of it is left, so that large processes still find a place
//! when they come. For the processor the delay itself is used: with processors that are shared it is known exactly what
//! one more task costs the others.

use crate::load::Info;

/// What a node offers, and who shares it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Room {
    /// Processors.
    pub cpus: f64,
    /// Of one processor, in standard processors.
    pub speed: f64,
    /// Runnable tasks.
    pub tasks: f64,
    /// Sum of their weights; see [`weight`].
    pub haste: f64,
    /// Memory that processes can have.
    pub memory_mib: f64,
    /// Memory that they do have.
    pub used_mib: f64,
}

/// What a process wants of the node where it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Processors that it would use if it were alone.
    pub tasks: f64,
    /// Its weight, times `tasks`.
    pub haste: f64,
    /// Its memory.
    pub memory_mib: f64,
}

/// What things cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// How many times longer everything takes on a node that swaps.
    pub swapping: f64,
    /// Of a node's memory: what an empty one costs.
    pub memory: f64,
    /// How many times more a full one costs: the number of nodes.
    pub nodes: f64,
    /// Processor time after which a process counts half.
    pub young_s: f64,
}

impl Prices {
    /// For a cluster of so many nodes.
    pub fn for_nodes(nodes: usize) -> Self {
        Prices { nodes: nodes.clamp(2, 64) as f64, ..Prices::default() }
    }
}

impl Default for Prices {
    fn default() -> Self {
        Prices { swapping: 10.0, memory: 0.5, nodes: 2.0, young_s: 2.0 }
    }
}

/// How much a second of delay matters to a process that has computed for so long: from 1 for a new one towards 0.
///
/// How long a process will still compute is best told by how long it has: half of those that have computed for a
/// second compute for another one, half of those that have for an hour compute for another hour. A second is much to
/// the former and nothing to the latter.
pub fn weight(prices: &Prices, computed_s: f64) -> f64 {
    prices.young_s / (prices.young_s + computed_s.max(0.0))
}

impl Demand {
    /// Of a process that would use so many processors, and has computed for so long.
    pub fn new(prices: &Prices, tasks: f64, computed_s: f64, memory_mib: f64) -> Self {
        Demand { tasks, haste: tasks * weight(prices, computed_s), memory_mib }
    }

    /// For how long it has computed, by its weight.
    pub fn computed_s(&self, prices: &Prices) -> f64 {
        let weight = self.haste / self.tasks;
        if weight > 0.0 && weight < 1.0 { prices.young_s / weight - prices.young_s } else { 0.0 }
    }
}

impl Room {
    /// What a node told of itself.
    pub fn told(info: &Info) -> Self {
        Room {
            cpus: f64::from(info.cpus.max(1)),
            speed: info.speed.relative(),
            tasks: info.running.tasks(),
            haste: info.haste.tasks(),
            memory_mib: f64::from(info.memory_mib),
            used_mib: f64::from(info.memory_mib.saturating_sub(info.available_mib)),
        }
    }

    /// With one more process.
    pub fn with(self, demand: &Demand) -> Self {
        Room {
            tasks: self.tasks + demand.tasks,
            haste: self.haste + demand.haste,
            used_mib: self.used_mib + demand.memory_mib,
            ..self
        }
    }

    /// Without one that is there.
    pub fn without(self, demand: &Demand) -> Self {
        Room {
            tasks: (self.tasks - demand.tasks).max(0.0),
            haste: (self.haste - demand.haste).max(0.0),
            used_mib: (self.used_mib - demand.memory_mib).max(0.0),
            ..self
        }
    }

    /// Memory that is left; less than nothing on a node that swaps.
    pub fn left_mib(&self) -> f64 {
        self.memory_mib - self.used_mib
    }

    /// How many times longer than on a free standard processor everything takes.
    pub fn delay(&self, prices: &Prices) -> f64 {
        let shared = (self.tasks / self.cpus).max(1.0) / self.speed;
        if self.left_mib() < 0.0 { shared * prices.swapping } else { shared }
    }

    /// What a second there costs.
    pub fn cost(&self, prices: &Prices) -> f64 {
        let full = self.used_mib / self.memory_mib.max(1.0);
        self.haste * self.delay(prices) + prices.memory * prices.nodes.powf(full)
    }

    /// What one more process there would cost.
    pub fn paid(&self, prices: &Prices, demand: &Demand) -> f64 {
        self.with(demand).cost(prices) - self.cost(prices)
    }

    /// What would be saved if one that is there were not.
    pub fn saved(&self, prices: &Prices, demand: &Demand) -> f64 {
        self.cost(prices) - self.without(demand).cost(prices)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Room =
        Room { cpus: 2.0, speed: 1.0, tasks: 0.0, haste: 0.0, memory_mib: 1000.0, used_mib: 100.0 };

    fn new(memory_mib: f64) -> Demand {
        Demand::new(&Prices::default(), 1.0, 0.0, memory_mib)
    }

    #[test]
    fn a_free_processor_costs_nobody_anything() {
        let prices = Prices { memory: 0.0, ..Prices::default() };
        let one = IDLE.with(&new(0.0));
        assert_eq!((IDLE.paid(&prices, &new(0.0)), one.paid(&prices, &new(0.0))), (1.0, 1.0));
        // The third shares two processors with two others: half as long again for each of the three.
        assert_eq!(one.with(&new(0.0)).paid(&prices, &new(0.0)), 2.5);
    }

    #[test]
    fn fast_processors_and_free_memory_are_preferred() {
        let prices = Prices::default();
        let fast = Room { speed: 2.0, ..IDLE };
        assert!(fast.paid(&prices, &new(10.0)) < IDLE.paid(&prices, &new(10.0)));
        let full = Room { used_mib: 800.0, ..IDLE };
        assert!(IDLE.paid(&prices, &new(10.0)) < full.paid(&prices, &new(10.0)));
        // Even a slow node is better than one that would swap.
        let slow = Room { speed: 0.2, ..IDLE };
        assert!(slow.paid(&prices, &new(300.0)) < full.paid(&prices, &new(300.0)));
    }

    #[test]
    fn the_longer_a_process_has_computed_the_less_a_second_matters() {
        let prices = Prices::default();
        assert_eq!((weight(&prices, 0.0), weight(&prices, 2.0)), (1.0, 0.5));
        assert!(weight(&prices, 3600.0) < 0.001);
        let told =
            [0.0, 2.0, 3600.0].map(|computed| Demand::new(&prices, 0.7, computed, 0.0).computed_s(&prices));
        assert!((told[0], told[1].round(), told[2].round()) == (0.0, 2.0, 3600.0), "{told:?}");
    }

    proptest! {
        #[test]
        fn what_is_paid_for_coming_is_saved_by_leaving(
            tasks in 0.0..50.0, used in 0.0..2000.0, computed in 0.0..1e5, memory in 0.0..500.0
        ) {
            let prices = Prices::for_nodes(6);
            let room = Room { tasks, haste: tasks * 0.3, used_mib: used, ..IDLE };
            let demand = Demand::new(&prices, 1.0, computed, memory);
            let (paid, saved) = (room.paid(&prices, &demand), room.with(&demand).saved(&prices, &demand));
            prop_assert!(paid >= 0.0 && paid.is_finite());
            prop_assert!((paid - saved).abs() <= 1e-9 * (1.0 + room.with(&demand).cost(&prices)), "{paid} {saved}");
        }
    }
}
