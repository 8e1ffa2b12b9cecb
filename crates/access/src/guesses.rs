//! Who has guessed, and how long each has to wait for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So many guesses are free.
pub(crate) const GUESSES_FREE: u32 = 5;

/// No wait is longer, in seconds.
const WAIT_MAX: u64 = 300;

/// More addresses are not remembered.
const ADDRESSES_MAX: usize = 10_000;

/// The guesses of each address.
#[derive(Debug, Default)]
pub struct Guesses {
    addresses: BTreeMap<IpAddr, Guessed>,
}

#[derive(Debug, Clone, Copy)]
struct Guessed {
    count: u32,
    last: Instant,
}

impl Guesses {
    /// Somebody has guessed wrongly: so many seconds it has to wait for that, if any.
    pub fn count(&mut self, from: IpAddr, now: Instant) -> Option<u64> {
        let from = neighbourhood(from);
        let old = Duration::from_secs(WAIT_MAX * 2);
        if self.addresses.len() >= ADDRESSES_MAX {
            self.addresses.retain(|_, guessed| now.duration_since(guessed.last) < old);
            if self.addresses.len() >= ADDRESSES_MAX {
                self.addresses.pop_first();
            }
        }
        let guessed = self.addresses.entry(from).or_insert(Guessed { count: 0, last: now });
        if now.duration_since(guessed.last) >= old {
            guessed.count = 0;
        }
        *guessed = Guessed { count: guessed.count.saturating_add(1), last: now };
        let beyond = guessed.count.checked_sub(GUESSES_FREE + 1)?;
        Some((1_u64 << beyond.min(20)).min(WAIT_MAX))
    }
}

/// Whoever has one address of version 6 has 2⁶⁴ of them.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_guess_as_one_and_old_guesses_are_forgotten() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let address = |last: u16| IpAddr::from([0xfd00, 0, 0, 1, 0, 0, 0, last]);
        for last in 1..=5 {
            assert_eq!(guesses.count(address(last), now), None);
        }
        assert_eq!(guesses.count(address(6), now), Some(1));
        assert_eq!(guesses.count(address(7), now), Some(2));
        assert_eq!(guesses.count(IpAddr::from([0xfd00, 0, 0, 2, 0, 0, 0, 1]), now), None);
        assert_eq!(guesses.count(address(8), now + Duration::from_secs(600)), None);
    }
}
