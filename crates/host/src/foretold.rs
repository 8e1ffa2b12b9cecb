//! What the home has foretold of a thread's next calls: lookups that fail.
//!
//! It was so when the home answered the call before. Whether the thread looked before or after that it cannot tell as long as
//! it hears nothing: it makes no other call, gets no signal, and shares its memory with nobody. And not for long, for
//! whoever is not patient enough may look at a clock.

use minka_syscalls::foretell::Lookup;
use minka_wire::message::TRUE_MASK;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long it counts.
const LIMIT: Duration = Duration::from_millis(50);

/// What has been foretold, and not asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Foretold {
    next: VecDeque<(Lookup, i64)>,
    until: Option<Instant>,
    /// What signals the thread had got.
    signals: u32,
    /// How much has come true.
    came_true: u32,
}

impl Foretold {
    /// The home has foretold this, to a thread that has got these signals.
    pub(crate) fn hear(&mut self, foretold: Vec<(Lookup, i64)>, signals: u32) {
        let until = Some(Instant::now() + LIMIT);
        *self = Self { next: foretold.into(), until, signals, came_true: 0 };
    }

    /// The result of a call, if it is the next that was foretold.
    pub(crate) fn result(&mut self, request: &[u8], signals: u32) -> Option<i64> {
        let (next, result) = self.next.front()?;
        let counts = signals == self.signals && self.until.is_some_and(|until| Instant::now() < until);
        if !counts || Lookup::of(request).as_ref() != Some(next) {
            self.next.clear();
            return None;
        }
        let result = *result;
        self.next.pop_front();
        self.came_true += 1;
        Some(result)
    }

    /// The thread asks its home for something else: how much of what was foretold has come true, in as many bits as there
    /// are. Nothing of it counts any more.
    pub(crate) fn end(&mut self) -> u32 {
        self.next.clear();
        std::mem::take(&mut self.came_true).min(TRUE_MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Vec<u8> {
        let head = [89, 0x5000, 0x6000, 1023, 0, 0, 0].into_iter().flat_map(u64::to_le_bytes);
        head.chain(path.bytes()).chain([0]).collect()
    }

    fn foretold(paths: &[&str], signals: u32) -> Foretold {
        let told = paths.iter().map(|path| (Lookup::of(&request(path)).expect("a lookup"), -2)).collect();
        let mut foretold = Foretold::default();
        foretold.hear(told, signals);
        foretold
    }

    #[test]
    fn what_comes_in_that_order_is_answered() {
        let mut told = foretold(&["a", "b", "c"], 0);
        assert_eq!([told.result(&request("a"), 0), told.result(&request("b"), 0)], [Some(-2); 2]);
        assert_eq!(told.end(), 2);
        assert_eq!((told.result(&request("c"), 0), told.end()), (None, 0));
    }

    #[test]
    fn anything_else_ends_it() {
        let mut told = foretold(&["a", "b"], 7);
        assert_eq!([told.result(&request("b"), 7), told.result(&request("a"), 7)], [None; 2]);
        let mut told = foretold(&["a"], 7);
        assert_eq!(told.result(&request("a"), 8), None, "a handler may have run");
        let mut told = foretold(&["a"], 7);
        std::thread::sleep(LIMIT);
        assert_eq!(told.result(&request("a"), 7), None, "it is too old");
        assert_eq!(Foretold::default().result(&request("a"), 0), None);
    }
}
