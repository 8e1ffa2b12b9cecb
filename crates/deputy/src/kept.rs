//! What of a parked process's address space is not the guest's: the ring, and what the kernel maps by itself.
//!
//! A host says where pages belong, what was mapped and moved, and where buffers are. All of that is only believed
//! outside of these places: with a ring or a vDSO that somebody else writes to, the deputy could not even put the
//! process back.

use minka_image::TASK_SIZE;
use minka_image::maps::Mapping;
use std::sync::Arc;

/// The places. Cheap to copy.
#[derive(Debug, Clone)]
pub(crate) struct Kept(Arc<[(u64, u64)]>);

impl Kept {
    /// Those of a process with these maps and this ring.
    pub(crate) fn new(maps: &[Mapping], ring: (u64, u64)) -> Self {
        let kernel = maps.iter().filter(|mapping| mapping.is_kernel());
        Self(kernel.map(|mapping| (mapping.start, mapping.end)).chain([ring]).collect())
    }

    /// Whether `length` bytes at `start` are user memory with nothing of ours in it. Nothing is nowhere.
    pub(crate) fn allows(&self, start: u64, length: u64) -> bool {
        let end = start.checked_add(length).filter(|end| start < *end && *end <= TASK_SIZE);
        end.is_some_and(|end| self.0.iter().all(|(kept, kept_end)| end <= *kept || *kept_end <= start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_wholly_outside_is_allowed() {
        let kept = Kept::new(&[], (0x5000, 0x7000));
        for (start, length) in [(0x1000, 0x4000), (0x7000, 1), (TASK_SIZE - 1, 1)] {
            assert!(kept.allows(start, length), "{start:#x} {length:#x}");
        }
        let wrong = [
            (0x1000, 0x4001),
            (0x5000, 1),
            (0x6fff, 1),
            (0x6fff, 0x1000),
            (0x1000, 0x10000),
            (0x1000, 0),
            (0x1000, u64::MAX),
            (u64::MAX, 1),
            (u64::MAX, u64::MAX),
            (TASK_SIZE, 1),
        ];
        for (start, length) in wrong {
            assert!(!kept.allows(start, length), "{start:#x} {length:#x}");
        }
    }
}
