//! The piece of the original process's memory that a call under way works on itself.
//!
//! A guest's pages may come home while it computes on, each as it was a moment ago. Most of that memory is nobody's
//! meanwhile; but a call that the kernel can go on with later has the program's own buffer (`serve`), and a page from
//! before that call must not be written over what the call has found.

use minka_kernel::memory::Memory;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// At most one piece: one call is made at a time.
#[derive(Debug, Default)]
pub(crate) struct Lent(Mutex<Option<(u64, u64)>>);

impl Lent {
    /// From now on, nothing is written to `length` bytes at `start`.
    pub(crate) fn lend(&self, start: u64, length: u64) {
        *self.lock() = Some((start, start.saturating_add(length)));
    }

    /// The call is over.
    pub(crate) fn take_back(&self) {
        *self.lock() = None;
    }

    /// Writes what comes early, but for what is lent.
    pub(crate) fn write_round(&self, memory: &Memory, address: u64, content: &[u8]) -> io::Result<()> {
        let lent = self.lock();
        let Some((start, end)) = *lent else { return memory.poke(address, content) };
        let index = |at: u64| (at.saturating_sub(address) as usize).min(content.len());
        let (before, after) = (&content[..index(start)], &content[index(end)..]);
        memory.poke(address, before)?;
        memory.poke(address + index(end) as u64, after)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What 16 bytes at `first` bytes into an area become when all of it is written and a part of it is lent.
    fn written(first: usize, lent: Option<(usize, usize)>) -> Vec<u8> {
        let area = Box::new([0u8; 32]);
        let start = area.as_ptr().addr();
        let memory = Memory::open(std::process::id().cast_signed()).expect("open our own memory");
        let pieces = Lent::default();
        if let Some((from, to)) = lent {
            pieces.lend((start + from) as u64, (to - from) as u64);
        }
        pieces.write_round(&memory, (start + first) as u64, &[1; 16]).expect("write");
        std::hint::black_box(&area).to_vec()
    }

    /// Ones from `first` up to `last`, but not in between.
    fn expected(first: usize, last: usize, (from, to): (usize, usize)) -> Vec<u8> {
        (0..32).map(|at| u8::from((first..last).contains(&at) && !(from..to).contains(&at))).collect()
    }

    #[test]
    fn what_is_lent_is_left_out() {
        assert_eq!(written(8, None), expected(8, 24, (0, 0)));
        for lent in [(12, 16), (0, 10), (20, 32), (0, 32), (0, 8), (24, 32)] {
            assert_eq!(written(8, Some(lent)), expected(8, 24, lent), "{lent:?}");
        }
    }
}
