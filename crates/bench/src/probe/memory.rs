//! A probe's memory, and the two ways in which it is looked at.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::since;

/// Words of a page.
const PAGE_WORDS: usize = 512;
const MIB: usize = 1 << 20;

/// Multiplier of a generator with full period (Knuth's MMIX).
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

/// Memory that has been written to, no two pages alike.
#[derive(Debug)]
pub(super) struct Memory {
    words: Vec<u64>,
}

impl Memory {
    pub(super) fn new(mebibytes: usize) -> Self {
        let mut state = 1u64;
        let word = |_| {
            state = state.wrapping_mul(MULTIPLIER).wrapping_add(1);
            state
        };
        Memory { words: (0..mebibytes * MIB / size_of::<u64>()).map(word).collect() }
    }

    /// Changes every page.
    pub(super) fn write(&mut self) {
        for page in self.words.chunks_mut(PAGE_WORDS) {
            page[0] = page[0].wrapping_add(1);
        }
    }

    /// Goes through the pages in order and computes `passes` times over each. Returns the time and what came of
    /// it.
    pub(super) fn walk(&self, passes: u32) -> (f64, f64) {
        let start = Instant::now();
        let mut state = 1u64;
        for page in self.words.chunks(PAGE_WORDS) {
            for _ in 0..passes {
                state = page.iter().fold(state, |state, word| (state ^ word).wrapping_mul(MULTIPLIER));
            }
        }
        (since(start), exact(state))
    }
}

/// Asks for a mebibyte of memory after the other, at this rate a second, keeps them for so many seconds, and computes over
/// all of them. Returns what came of it.
pub(super) fn grow(mebibytes: u32, rate: u32, seconds: u64) -> f64 {
    let mut pieces = Vec::new();
    for _ in 0..mebibytes {
        pieces.push(Memory::new(1));
        std::thread::sleep(Duration::from_secs(1) / rate.max(1));
    }
    std::thread::sleep(Duration::from_secs(seconds));
    exact(pieces.iter().fold(1, |state, piece| (state ^ piece.walk(1).1.to_bits()).wrapping_mul(MULTIPLIER)))
}

/// What of a word a floating-point number can hold.
pub(super) fn exact(word: u64) -> f64 {
    (word >> 12) as f64
}

/// Computes without touching memory. Returns the time and what came of it.
pub(super) fn compute(rounds: u64) -> (f64, f64) {
    let start = Instant::now();
    let state = turn(rounds);
    (since(start), exact(state))
}

fn turn(rounds: u64) -> u64 {
    (0..rounds).fold(1, |state, round| (state ^ black_box(round)).wrapping_mul(MULTIPLIER))
}

/// Reads the clock over and over, and returns the longest times between two readings, longest first.
pub(super) fn spin(time: Duration) -> [f64; GAPS] {
    let mut gaps = [Duration::ZERO; GAPS];
    let start = Instant::now();
    let mut last = start;
    loop {
        // Most of the time is spent outside of the clock's code, as in any program.
        black_box(turn(ROUNDS_BETWEEN));
        let now = Instant::now();
        let gap = now - last;
        if gap > gaps[GAPS - 1] {
            gaps[GAPS - 1] = gap;
            gaps.sort_by(|one, other| other.cmp(one));
        }
        if now - start >= time {
            return gaps.map(|gap| gap.as_secs_f64() * 1e6);
        }
        last = now;
    }
}

/// Computing between two readings of the clock: some 200 ns.
const ROUNDS_BETWEEN: u64 = 150;

/// How many gaps are told.
pub(super) const GAPS: usize = 4;
