//! What the kernel writes for a thread on its way out.
//!
//! It clears the word by which others know that the thread is there, and marks the robust locks that it held; who waits for
//! either is woken. But a task on its way out gets nothing from a userfaultfd: no page that it misses, and no leave to write
//! to one that is protected. Then the words stay as they are, nobody is told, and who waits for them waits for ever. So
//! their pages are there before, and are not protected any more.

use crate::guest::{Guest, GuestThread, lock};
use minka_image::PAGE;
use minka_image::ranges::Ranges;
use minka_kernel::uffd::Tracking;

/// Gets the pages of those words, and of what leads to them; says where the words are.
pub(crate) fn fetch(guest: &Guest, thread: &GuestThread) -> Vec<u64> {
    let word = lock(&thread.registrations).tid_address & !7;
    let is_there = word != 0 && guest.memory.read_u64(word).is_some();
    is_there.then_some(word).into_iter().chain(locks(guest, thread)).collect()
}

/// The words of the robust locks that a thread holds.
pub(crate) fn locks(guest: &Guest, thread: &GuestThread) -> Vec<u64> {
    /// As many as the kernel looks at (`ROBUST_LIST_LIMIT`).
    const LOCKS_MAX: usize = 2048;
    let word = |address: u64| guest.memory.read_u64(address);
    let head = lock(&thread.registrations).robust_list;
    let mut written = Vec::new();
    let mut visit = |address: u64| {
        let address = address & !7;
        if word(address).is_some() {
            written.push(address);
        }
    };
    // struct robust_list_head { next, futex_offset, list_op_pending }
    let (Some(first), Some(offset)) = (word(head), word(head.wrapping_add(8))) else { return written };
    let pending = word(head.wrapping_add(16)).unwrap_or_default();
    if pending != 0 {
        visit(pending.wrapping_add(offset));
    }
    let mut at = first;
    for _ in 0..LOCKS_MAX {
        // The lowest bit marks a lock that lends its holder priority.
        let entry = at & !1;
        if entry == head || entry == 0 {
            break;
        }
        visit(entry.wrapping_add(offset));
        let Some(next) = word(entry) else { break };
        at = next;
    }
    written
}

/// Makes a thread ready to end, which is about to.
pub(crate) fn make_ready(guest: &Guest, thread: &GuestThread) {
    let written = fetch(guest, thread);
    if guest.uffd.tracking() != Tracking::ByFaults {
        return;
    }
    let _writing = lock(&guest.writing);
    for address in &written {
        // What is not ours is not protected either.
        let _ = guest.uffd.unprotect(address & !(PAGE - 1), PAGE);
    }
    *lock(&thread.ending) = written;
}

/// The parts of these ranges that may be protected: threads on their way out write to the others. To be called, and used,
/// with the lock of [`Guest::writing`].
pub(crate) fn spare(guest: &Guest, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let threads = lock(&guest.threads);
    let written: Vec<u64> = threads.values().flat_map(|thread| lock(&thread.ending).clone()).collect();
    outside(ranges, &written)
}

/// The parts of ranges that lie in other pages than these words.
fn outside(ranges: &[(u64, u64)], words: &[u64]) -> Vec<(u64, u64)> {
    let mut left = Ranges::new();
    ranges.iter().for_each(|(start, end)| left.set(*start, *end, ()));
    for word in words {
        let page = word & !(PAGE - 1);
        left.clear(page, page + PAGE);
    }
    left.iter().map(|(start, end, ())| (start, end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_with_words_of_an_end_are_left_out() {
        let ranges = [(0x1000, 0x5000), (0x8000, 0x9000)];
        assert_eq!(outside(&ranges, &[]), ranges);
        assert_eq!(outside(&ranges, &[0x2ff8, 0x2010, 0x8000]), [(0x1000, 0x2000), (0x3000, 0x5000)]);
        assert_eq!(outside(&ranges, &[0x7000]), ranges);
    }
}
