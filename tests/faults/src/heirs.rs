//! Processes that write to shared memory under a robust lock: whoever finds that its owner has died finds all that it had
//! written, and nothing else.
//!
//! A round gives each page the number of the round, one page after the other. So in between the first pages have the next
//! number, the others the last one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::machine::map_shared;

const WORDS_PER_PAGE: usize = 512;
const PAGES: usize = 64;

/// Words of the first page, behind the lock.
const COUNT: usize = 64;
const END: usize = 65;
const BROKEN: usize = 66;

/// What they share.
#[derive(Debug, Clone, Copy)]
pub struct Estate {
    lock: *mut libc::pthread_mutex_t,
    words: &'static [AtomicU64],
}

#[allow(unsafe_code, reason = "locks of processes are the C library's")]
impl Estate {
    /// New memory, to be inherited.
    ///
    /// # Panics
    /// When the lock cannot be made.
    pub fn make() -> Self {
        let memory = map_shared((PAGES + 1) * 4);
        let lock = memory.as_mut_ptr().cast::<libc::pthread_mutex_t>();
        // SAFETY: of the same size and aligned alike; what lies behind the lock is only used as atomic words.
        let words = unsafe { std::slice::from_raw_parts(memory.as_ptr().cast::<AtomicU64>(), memory.len()) };
        // SAFETY: all-zero bytes are attributes that are about to be made; the lock has its place to itself.
        let made = unsafe {
            let mut kind: libc::pthread_mutexattr_t = std::mem::zeroed();
            libc::pthread_mutexattr_init(&raw mut kind)
                | libc::pthread_mutexattr_setpshared(&raw mut kind, libc::PTHREAD_PROCESS_SHARED)
                | libc::pthread_mutexattr_setrobust(&raw mut kind, libc::PTHREAD_MUTEX_ROBUST)
                | libc::pthread_mutex_init(lock, &raw const kind)
        };
        assert_eq!(made, 0, "make a robust lock");
        Self { lock, words }
    }

    /// Does a round that takes about this long. False when all are to end.
    ///
    /// # Errors
    /// When the memory is not what it has to be.
    pub fn round(&self, pace: Duration) -> Result<bool, String> {
        // SAFETY: it has been made, and is there as long as the program.
        let is_orphaned = match unsafe { libc::pthread_mutex_lock(self.lock) } {
            0 => false,
            libc::EOWNERDEAD => true,
            error => return Err(format!("lock: error {error}")),
        };
        let count = self.words[COUNT].load(Ordering::Relaxed);
        let done = (0..PAGES).take_while(|page| self.shows(*page) == Some(count + 1)).count();
        let rest = (done..PAGES).find(|page| self.shows(*page) != Some(count));
        if let Some(page) = rest.or_else(|| (done > 0 && !is_orphaned).then_some(0)) {
            self.words[BROKEN].store(1, Ordering::Relaxed);
            let shown: Vec<_> = (0..PAGES).map(|page| self.shows(page)).collect();
            return Err(format!("page {page} after round {count}, orphaned {is_orphaned}: {shown:?}"));
        }
        if is_orphaned {
            // SAFETY: as above, and this thread has it.
            unsafe { libc::pthread_mutex_consistent(self.lock) };
        }
        let goes_on = self.words[END].load(Ordering::Relaxed) == 0;
        if goes_on {
            self.write(done, count + 1, pace);
        }
        // SAFETY: as above.
        unsafe { libc::pthread_mutex_unlock(self.lock) };
        Ok(goes_on)
    }

    fn write(&self, from: usize, count: u64, pace: Duration) {
        for page in from..PAGES {
            let words = self.page(page);
            words.iter().for_each(|word| word.store(count, Ordering::Relaxed));
            spin(pace / PAGES as u32);
        }
        self.words[COUNT].store(count, Ordering::Relaxed);
    }

    fn page(&self, page: usize) -> &[AtomicU64] {
        &self.words[(page + 1) * WORDS_PER_PAGE..(page + 2) * WORDS_PER_PAGE]
    }

    /// The number that a page has, if it has one.
    fn shows(&self, page: usize) -> Option<u64> {
        let words = self.page(page);
        let first = words[0].load(Ordering::Relaxed);
        let last = words[WORDS_PER_PAGE - 1].load(Ordering::Relaxed);
        // Whoever died may have been in the middle of a page.
        (first == last || first == last + 1).then_some(last)
    }

    /// Rounds so far.
    pub fn count(&self) -> u64 {
        self.words[COUNT].load(Ordering::Relaxed)
    }

    /// Whether somebody has found something wrong.
    pub fn is_broken(&self) -> bool {
        self.words[BROKEN].load(Ordering::Relaxed) != 0
    }

    /// All are to end.
    pub fn end(&self) {
        self.words[END].store(1, Ordering::Relaxed);
    }
}

/// Computes for a while, without a system call.
fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}
