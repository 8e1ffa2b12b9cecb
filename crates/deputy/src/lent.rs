//! The pieces of the original process's memory that calls under way work on themselves.
//!
//! A guest's pages may come home while it computes on, each as it was a moment ago. Most of that memory is nobody's
//! meanwhile; but a call that the kernel can go on with later has the program's own buffer (`serve`), and a page from
//! before that call must not be written over what the call has found.

use minka_kernel::memory::Memory;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The pieces, by the threads that make the calls: one each at most.
#[derive(Debug, Default)]
pub(crate) struct Lent(Mutex<BTreeMap<i32, (u64, u64)>>);

impl Lent {
    /// From now on, nothing is written to `length` bytes at `start`.
    pub(crate) fn lend(&self, tid: i32, start: u64, length: u64) {
        self.lock().insert(tid, (start, start.saturating_add(length)));
    }

    /// The thread's call is over.
    pub(crate) fn take_back(&self, tid: i32) {
        self.lock().remove(&tid);
    }

    /// Writes what comes early, but for what is lent.
    pub(crate) fn write_round(&self, memory: &Memory, address: u64, content: &[u8]) -> io::Result<()> {
        let lent = self.lock();
        let mut pieces: Vec<(u64, u64)> = lent.values().copied().collect();
        pieces.sort_unstable();
        let index = |at: u64| (at.saturating_sub(address) as usize).min(content.len());
        let mut written = 0;
        for (start, end) in pieces {
            let (start, end) = (index(start), index(end));
            if written < start {
                memory.poke(address + written as u64, &content[written..start])?;
            }
            written = written.max(end);
        }
        memory.poke(address + written as u64, &content[written..])
    }

    /// All that is lent, as ranges of addresses.
    pub(crate) fn pieces(&self) -> Vec<(u64, u64)> {
        self.lock().values().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, (u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What 16 bytes at `first` bytes into an area become when all of it is written and a part of it is lent.
    fn written(first: usize, lent: &[(usize, usize)]) -> Vec<u8> {
        let area = Box::new([0u8; 32]);
        let start = area.as_ptr().addr();
        let memory = Memory::open(std::process::id().cast_signed()).expect("open our own memory");
        let pieces = Lent::default();
        for (tid, (from, to)) in (1..).zip(lent) {
            pieces.lend(tid, (start + from) as u64, (to - from) as u64);
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
        assert_eq!(written(8, &[]), expected(8, 24, (0, 0)));
        for lent in [(12, 16), (0, 10), (20, 32), (0, 32), (0, 8), (24, 32)] {
            assert_eq!(written(8, &[lent]), expected(8, 24, lent), "{lent:?}");
        }
        let two = written(8, &[(14, 18), (10, 12)]);
        let one: Vec<u8> = expected(8, 24, (14, 18));
        assert_eq!(
            two,
            (0..32).map(|at| if (10..12).contains(&at) { 0 } else { one[at] }).collect::<Vec<u8>>()
        );
        assert_eq!(written(8, &[(10, 20), (12, 14)]), expected(8, 24, (10, 20)));
    }
}
