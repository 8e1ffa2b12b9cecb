//! Measuring how fast this machine's processor is.

use std::hint::black_box;
use std::time::{Duration, Instant};

use minka_cluster::load::Speed;

/// Rounds of the loop; a few milliseconds on any machine of today.
const ROUNDS: u64 = 1_000_000;

/// What the standard processor takes for a round. Any other figure would do as well; this one makes a machine of the
/// year 2000 about 10 000.
const STANDARD_NS: u64 = 10;

/// The best of this many tries counts: whatever else the machine does only makes it slower.
const TRIES: u32 = 5;

/// Measures this machine's processor, for some ten milliseconds: a chain of multiplications and shifts that fits in
/// registers, each of which has to wait for the one before.
pub fn measure_speed() -> Speed {
    let once = |_| {
        let start = Instant::now();
        let mut value = black_box(0x9e37_79b9_7f4a_7c15_u64);
        for _ in 0..ROUNDS {
            value = (value ^ (value >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        black_box(value);
        start.elapsed()
    };
    let best = (0..TRIES).map(once).min().unwrap_or(Duration::MAX);
    let best_ns = u64::try_from(best.as_nanos()).unwrap_or(u64::MAX);
    Speed::measured(ROUNDS * STANDARD_NS, best_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_neither_a_watch_nor_a_miracle() {
        let speed = measure_speed().relative();
        assert!((0.05..100.0).contains(&speed), "{speed}");
    }
}
