//! A computation whose every step depends on all before it and on much memory: whoever loses a page, a step or does
//! one twice ends up with other numbers.

/// The computation.
#[derive(Debug, Clone)]
pub struct Machine {
    memory: Vec<u64>,
    sum: u64,
    step: u64,
}

/// Threads of a crowd, each of which computes with a machine of its own.
pub const CROWD: u64 = 4;

/// Words that one step changes, all over the memory.
const WORDS_PER_STEP: usize = 24;

impl Machine {
    /// The `number`th machine with that much memory, all of it written.
    pub fn new(kib: usize, number: u64) -> Self {
        let words = kib * 128;
        Self { memory: (0..words as u64).map(mix).collect(), sum: 1 + number, step: 0 }
    }

    /// Computes a step; returns its number, from 1, and its result.
    pub fn step(&mut self) -> (u64, u64) {
        self.step += 1;
        for round in 0..WORDS_PER_STEP as u64 {
            let place = mix(self.sum ^ round) as usize % self.memory.len();
            self.memory[place] = self.memory[place].rotate_left(9) ^ self.sum;
            self.sum = mix(self.sum.wrapping_add(self.memory[place]));
        }
        (self.step, self.sum)
    }

    /// A sum over all of the memory.
    pub fn digest(&self) -> u64 {
        self.memory.iter().fold(self.sum, |sum, word| mix(sum ^ word))
    }
}

/// The finisher of `splitmix64`.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
