//! How old is what nodes know of each other? Gossip among up to ten thousand nodes, against the formulas.
//!
//! Every node makes its step once a second, each at a moment of its own: it looks at itself and sends its window, as a
//! datagram, to one of the others. Datagrams take no time; they may be lost, nodes may die or be slow, and the network
//! may be in two parts for a while. That somebody is dead is told by the membership, which is not part of this.
//!
//! Each of ten thousand nodes would know ten thousand others. What matters for how news spread is the window alone, so
//! only a few nodes, those whose knowledge is looked at, remember everybody; the others remember
//! [`Trial::remembered`] of them, as a real one may be told to.

mod trial;

use std::thread;

use minka_cluster::gossip::ages::{Ages, expected};
use serde::Serialize;

pub use trial::{Faults, Trial};

/// Clusters without faults, and the window that they use; the largest first, which take longest. The formulas are for
/// windows that are small beside the cluster, so there are none here of more than a quarter of it.
const SIZES: [(u32, u32); 8] =
    [(10_000, 32), (3_000, 32), (1_000, 16), (1_000, 32), (256, 32), (256, 16), (64, 16), (32, 8)];

/// One size of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// Nodes.
    pub nodes: u32,
    /// Entries of a window.
    pub window: u32,
    /// Mean age of what a node knows of the others, in steps (seconds).
    pub mean_age: f64,
    /// Mean age of the oldest entry of a node.
    pub max_age: f64,
    /// The same against the formulas; none where these do not hold.
    pub mean_age_ratio: Option<f64>,
    /// The same for the oldest entry.
    pub max_age_ratio: Option<f64>,
    /// What a node sends, in bytes of datagrams a second.
    pub bytes_per_s: f64,
    /// Part of the other nodes that a node knows nothing of.
    pub unknown: f64,
}

/// All sizes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Among all sizes, the ratio of the mean age that is farthest from 1.
    pub mean_age_ratio: f64,
    /// The same of the oldest entry's.
    pub max_age_ratio: f64,
    /// What a node sends in the largest cluster, in bytes a second.
    pub bytes_per_s: f64,
    /// How many times more a node sends in the largest cluster than in the smallest with the same window.
    pub bytes_growth: f64,
    /// Each size.
    pub rows: Vec<Row>,
}

/// The window for which the formulas hold in a cluster of so many nodes: that of real nodes, or a quarter of the cluster.
///
/// The formula for the oldest entry counts for how long it has been waited for, and takes an entry that comes for new. It is up
/// to two steps old then. With 32 of 64 nodes in a window the wait is 9 steps, and those two are a sixth of it; with 16 of
/// them it is 18, and with 32 of 1000 nodes 234.
pub fn window(nodes: u32) -> u32 {
    (nodes / 4).clamp(2, 32)
}

/// Simulates all sizes up to so many nodes, on all processors.
pub fn run(nodes_max: u32, seed: u64) -> Report {
    let sizes: Vec<_> = SIZES.into_iter().filter(|(nodes, _)| *nodes <= nodes_max).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut rows = Vec::new();
        while let Some((nodes, window)) = sizes.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            rows.push(row(&Trial::new(*nodes, *window, seed)));
        }
        rows
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut rows: Vec<Row> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    rows.sort_by_key(|row| (row.window, row.nodes));
    summary(rows)
}

/// Simulates one cluster.
pub fn row(trial: &Trial) -> Row {
    let ages = trial.run();
    let expected = expected(trial.nodes, trial.window);
    let against =
        |measured: f64, formula: fn(&Ages) -> f64| expected.as_ref().map(|it| measured / formula(it));
    Row {
        nodes: trial.nodes,
        window: trial.window,
        mean_age: ages.mean,
        max_age: ages.max,
        mean_age_ratio: against(ages.mean, |ages| ages.mean),
        max_age_ratio: against(ages.max, |ages| ages.max),
        bytes_per_s: ages.bytes_per_s,
        unknown: ages.unknown,
    }
}

fn summary(rows: Vec<Row>) -> Report {
    let farthest = |ratios: &mut dyn Iterator<Item = f64>| {
        ratios.max_by(|a, b| (a.ln().abs()).total_cmp(&b.ln().abs())).unwrap_or(f64::NAN)
    };
    let largest = rows.iter().max_by_key(|row| (row.nodes, row.window));
    let smallest = largest.and_then(|largest| {
        rows.iter().filter(|row| row.window == largest.window).min_by_key(|row| row.nodes)
    });
    let bytes = |row: Option<&Row>| row.map_or(f64::NAN, |row| row.bytes_per_s);
    Report {
        mean_age_ratio: farthest(&mut rows.iter().filter_map(|row| row.mean_age_ratio)),
        max_age_ratio: farthest(&mut rows.iter().filter_map(|row| row.max_age_ratio)),
        bytes_per_s: bytes(largest),
        bytes_growth: bytes(largest) / bytes(smallest),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(faults: Faults) -> Row {
        row(&Trial { faults, ..Trial::new(64, 8, 9) })
    }

    #[test]
    fn the_ages_are_those_of_the_formulas_and_nobody_sends_more_in_a_larger_cluster() {
        let report = run(64, 3);
        let near = |ratio: f64| (0.9..=1.1).contains(&ratio);
        assert!(near(report.mean_age_ratio) && near(report.max_age_ratio), "{report:#?}");
        let larger = row(&Trial::new(128, 16, 3));
        assert_eq!(larger.bytes_per_s, report.bytes_per_s);
        assert_eq!(larger, row(&Trial::new(128, 16, 3)));
    }

    #[test]
    fn the_window_that_is_taken_without_being_asked_for_is_one_for_which_the_formulas_hold() {
        for nodes in [32, 64, 256] {
            let row = row(&Trial::new(nodes, window(nodes), 1));
            let near = |ratio: Option<f64>| ratio.is_some_and(|ratio| (0.9..=1.1).contains(&ratio));
            assert!(near(row.mean_age_ratio) && near(row.max_age_ratio), "{row:?}");
        }
        assert_eq!([2, 100, 10_000].map(window), [2, 25, 32]);
    }

    #[test]
    fn losing_a_third_of_the_datagrams_makes_news_half_as_old_again() {
        let ratio = small(Faults { loss: 1.0 / 3.0, ..Faults::default() }).mean_age
            / small(Faults::default()).mean_age;
        assert!((1.3..1.8).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_dead_are_forgotten_and_slow_nodes_do_not_hold_up_the_others() {
        let dead = small(Faults { dead: 0.3, ..Faults::default() });
        assert!(dead.unknown < 0.001 && dead.max_age < small(Faults::default()).max_age, "{dead:?}");
        // A slow node tells of itself a quarter as often, so what is known of it is four times as old.
        let slow = small(Faults { slow: 0.2, ..Faults::default() });
        let ratio = slow.mean_age / small(Faults::default()).mean_age;
        assert!((1.1..1.8).contains(&ratio), "{slow:?}");
    }

    #[test]
    fn two_halves_that_meet_again_know_each_other_again() {
        let (whole, healed) =
            (small(Faults::default()), small(Faults { partition_s: 100, ..Faults::default() }));
        assert!((healed.mean_age / whole.mean_age - 1.0).abs() < 0.1, "{healed:?} {whole:?}");
        assert!((healed.max_age / whole.max_age - 1.0).abs() < 0.2, "{healed:?} {whole:?}");
    }
}
