//! Robust locks: what the kernel makes of a lock's word whose owner ends (`handle_futex_death` in `kernel/futex/core.c`).

/// Somebody waits for the lock (`FUTEX_WAITERS`).
const WAITERS: u32 = 0x8000_0000;
/// Its owner has ended (`FUTEX_OWNER_DIED`).
const OWNER_DIED: u32 = 0x4000_0000;
/// Its owner (`FUTEX_TID_MASK`).
const OWNER: u32 = 0x3fff_ffff;

/// What becomes of a word when a thread ends; nothing if that does not hold the lock.
pub fn owner_died(word: u32, tid: i32) -> Option<u32> {
    (i64::from(word & OWNER) == i64::from(tid)).then_some(word & WAITERS | OWNER_DIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owners_end_marks_a_lock() {
        assert_eq!(owner_died(77, 77), Some(0x4000_0000));
        assert_eq!(owner_died(0x8000_0000 | 77, 77), Some(0xc000_0000));
        assert_eq!((owner_died(78, 77), owner_died(0, 77), owner_died(0x4000_0000, 77)), (None, None, None));
    }
}
