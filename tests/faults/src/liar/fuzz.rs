//! Lies that nobody has thought of: frames changed at random, from a seed.

use std::sync::Mutex;

use minka_wire::message::kind;

use super::lane::Frame;
use super::plan::Then;

/// Numbers that look random and come again with their seed (xorshift64*).
#[derive(Debug)]
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 32) as u8).collect()
    }
}

/// One frame in so many is changed.
const ONE_IN: usize = 12;

#[derive(Debug)]
pub(super) struct Fuzz(Mutex<Noise>);

impl Fuzz {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(Noise::new(seed)))
    }

    /// A changed frame. The content of memory is left alone: it is the program's own affair.
    pub(super) fn lie(&self, frame: &Frame) -> Option<(Vec<u8>, Then)> {
        let mut noise = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if noise.below(ONE_IN) > 0 {
            return None;
        }
        let mut changed = frame.clone();
        let (header, body) = (&mut changed.header, &mut changed.body);
        match noise.below(8) {
            0 => header.correlation ^= 1 << noise.below(64),
            1 => header.flags ^= 1 << noise.below(32),
            2 => header.kind ^= 1 << noise.below(16),
            3 => body.truncate(noise.below(body.len() + 1)),
            4 => {
                let length = 1 + noise.below(5_000);
                body.extend(noise.bytes(length));
            }
            5 => return Some(([frame.bytes(), frame.bytes()].concat(), Then::GoOn)),
            _ if header.kind == kind::PAGES || body.is_empty() => return None,
            _ => {
                for _ in 0..=noise.below(4) {
                    let at = noise.below(body.len());
                    body[at] = if noise.below(2) == 0 { noise.next() as u8 } else { 0xff };
                }
            }
        }
        let body = std::mem::take(&mut changed.body);
        Some((changed.with(body).bytes(), Then::GoOn))
    }
}
