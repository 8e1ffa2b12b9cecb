//! The cluster and the jobs of the experiment.

use minka_cluster::load::Speed;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// A machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// In thousandths of the fastest machine's.
    speed_permille: u32,
    /// Its memory.
    pub memory_mib: u32,
}

impl Machine {
    /// Beside the fastest machine, which has 1.
    pub fn speed(&self) -> f64 {
        f64::from(self.speed_permille) / 1000.0
    }

    /// As nodes tell it: the fastest machine is the standard.
    pub fn told_speed(&self) -> Speed {
        Speed::measured(u64::from(self.speed_permille), 1000)
    }
}

/// Memory of the largest machine. Only ratios matter; so much that a hundredth of it is many whole units.
pub const MEMORY_MIB: u32 = 65_536;

/// Three, two and one of a kind: processors of 200, 133 and 90 MHz, memories of 64, 32 and 24 units.
pub const MACHINES: [Machine; 6] = [
    Machine { speed_permille: 1000, memory_mib: MEMORY_MIB },
    Machine { speed_permille: 1000, memory_mib: MEMORY_MIB },
    Machine { speed_permille: 1000, memory_mib: MEMORY_MIB },
    Machine { speed_permille: 665, memory_mib: MEMORY_MIB / 2 },
    Machine { speed_permille: 665, memory_mib: MEMORY_MIB / 2 },
    Machine { speed_permille: 450, memory_mib: MEMORY_MIB / 8 * 3 },
];

/// What jobs are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// Jobs arrive for so long, in seconds; a scenario ends when all have ended.
    pub arrivals_s: f64,
    /// Mean time between arrivals, in seconds.
    pub interval_s: f64,
    /// A job takes this over a number from 0 to 1 of seconds on the fastest machine.
    pub cpu_s: f64,
    /// The longest that any takes.
    pub cpu_max_s: f64,
    /// The most memory that any has, in percent of the largest machine's; the least is one percent.
    pub memory_max_percent: f64,
    /// Part of the arrivals that are batches of equal jobs.
    pub batches: f64,
    /// Most jobs in a batch.
    pub batch_max: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Mix {
            arrivals_s: 1_000.0,
            interval_s: 10.0,
            cpu_s: 2.0,
            cpu_max_s: 2_000.0,
            memory_max_percent: 10.0,
            batches: 0.05,
            batch_max: 20,
        }
    }
}

/// A job as it arrives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// When, in seconds.
    pub at_s: f64,
    /// The machine that it is started on.
    pub home: usize,
    /// Seconds on the fastest machine.
    pub cpu_s: f64,
    /// What it occupies from its beginning to its end.
    pub memory_mib: u32,
}

/// The jobs of a scenario, in the order of their arrival.
pub fn arrivals(mix: &Mix, seed: u64) -> Vec<Arrival> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    // Never zero.
    let uniform = |random: &mut Xoshiro256PlusPlus| 1.0 - random.random::<f64>();
    let mut jobs = Vec::new();
    let mut at_s = 0.0;
    loop {
        at_s -= mix.interval_s * uniform(&mut random).ln();
        if at_s >= mix.arrivals_s {
            return jobs;
        }
        let home = random.random_range(0..MACHINES.len());
        let cpu_s = (mix.cpu_s / uniform(&mut random)).min(mix.cpu_max_s);
        let percent = (1.0 / uniform(&mut random)).min(mix.memory_max_percent);
        let memory_mib = (f64::from(MEMORY_MIB) * percent / 100.0) as u32;
        let batch = random.random_bool(mix.batches);
        let count = if batch { random.random_range(1..=mix.batch_max.max(1)) } else { 1 };
        jobs.extend((0..count).map(|_| Arrival { at_s, home, cpu_s, memory_mib }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_jobs() {
        let mix = Mix::default();
        assert_eq!(arrivals(&mix, 7), arrivals(&mix, 7));
        assert_ne!(arrivals(&mix, 7), arrivals(&mix, 8));
    }

    #[test]
    fn jobs_are_as_the_mix_says() {
        let mix = Mix { arrivals_s: 1e6, batches: 0.0, ..Mix::default() };
        let jobs = arrivals(&mix, 1);
        let count = jobs.len() as f64;
        assert!((count / 1e5 - 1.0).abs() < 0.02, "{count}");
        // Half of the jobs take less than twice the least time; the mean is that of the distribution, cut off.
        let short = jobs.iter().filter(|job| job.cpu_s < 4.0).count() as f64;
        assert!((short / count - 0.5).abs() < 0.01);
        let mean = jobs.iter().map(|job| job.cpu_s).sum::<f64>() / count;
        assert!((mean / (2.0 * (1.0 + 1000_f64.ln())) - 1.0).abs() < 0.1, "{mean}");
        assert!(jobs.iter().all(|job| (2.0..=2000.0).contains(&job.cpu_s)));
        assert!(jobs.iter().all(|job| (655..=6554).contains(&job.memory_mib)));
        assert!(jobs.is_sorted_by_key(|job| job.at_s));
    }
}
