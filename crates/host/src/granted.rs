//! Writes that the home has granted: the thread is told that they have been made, and they are sent afterwards.
//!
//! What the home promises with a grant is told at its end (`minka_deputy`'s module `writebehind`). Here it is seen to that a grant is not used
//! for longer than it is good for, and that not more is on its way than the window holds.

use minka_wire::message::{GRANT_TIME, GRANTED, GRANTS_MAX, GRANTS_STAND, WINDOW};
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// So many bytes are worth a result.
const ASKED: u64 = WINDOW / 8;

/// The descriptors that are granted, and what has been written to them without a result.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    until: BTreeMap<i32, Instant>,
    /// The writes of which a result was asked for.
    asked: VecDeque<Asked>,
    /// Bytes that were written since the last of these.
    unasked: u64,
}

/// A write of which a result was asked for.
#[derive(Debug)]
struct Asked {
    descriptor: i32,
    /// Since the one before.
    bytes: u64,
    when: Instant,
}

/// What is to be done with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is granted, and made now.
    Goes {
        /// A result is to be asked for.
        asks: bool,
    },
    /// The next result has to come first.
    Waits,
    /// It is not granted.
    Forwarded,
}

impl Grants {
    /// Whether a descriptor is granted, though not for any time.
    pub(crate) fn has(&self, descriptor: i32) -> bool {
        self.until.contains_key(&descriptor)
    }

    /// What to do with a write of so many bytes.
    pub(crate) fn turn(&mut self, descriptor: i32, bytes: u64, now: Instant) -> Turn {
        let Some(until) = self.until.get(&descriptor).copied() else { return Turn::Forwarded };
        let on_its_way = self.asked.iter().map(|asked| asked.bytes).sum::<u64>() + self.unasked;
        let is_full = on_its_way > 0 && on_its_way + bytes > WINDOW;
        let is_owed = !self.asked.is_empty();
        match until.saturating_duration_since(now) {
            left if is_owed && (is_full || left < GRANT_TIME / 4) => Turn::Waits,
            left if is_full || left.is_zero() => {
                self.until.remove(&descriptor);
                Turn::Forwarded
            }
            left => {
                self.unasked += bytes;
                // One at a time for little ones: nobody hears of it before it is needed.
                let asks = self.unasked >= ASKED || (left < GRANT_TIME / 2 && !is_owed);
                if asks {
                    let bytes = std::mem::take(&mut self.unasked);
                    self.asked.push_back(Asked { descriptor, bytes, when: now });
                }
                Turn::Goes { asks }
            }
        }
    }

    /// How many results have been asked for that have not come: they come before that of any other call.
    pub(crate) fn owed(&self) -> usize {
        self.asked.len()
    }

    /// One of these has come, with these flags.
    pub(crate) fn hear_of_asked(&mut self, flags: u32) {
        self.hear(flags);
        if let Some(Asked { descriptor, when, .. }) = self.asked.pop_front() {
            self.hear_of_write(flags, descriptor, when);
        }
    }

    /// Any result has come, with these flags.
    pub(crate) fn hear(&mut self, flags: u32) {
        if flags & GRANTS_STAND == 0 {
            self.until.clear();
        }
    }

    /// It was that of a write to this descriptor, which was made after this moment.
    pub(crate) fn hear_of_write(&mut self, flags: u32, descriptor: i32, when: Instant) {
        if flags & GRANTED == 0 {
            self.until.remove(&descriptor);
        } else if self.until.len() < GRANTS_MAX || self.until.contains_key(&descriptor) {
            self.until.insert(descriptor, when + GRANT_TIME);
        }
    }

    /// The result of a call has come that was waited for: all writes before it have been made.
    pub(crate) fn all_are_made(&mut self) {
        self.unasked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: u32 = GRANTED | GRANTS_STAND;
    const GOES: Turn = Turn::Goes { asks: false };
    const ASKS: Turn = Turn::Goes { asks: true };

    fn granted(descriptor: i32, now: Instant) -> Grants {
        let mut grants = Grants::default();
        grants.hear(GIVEN);
        grants.hear_of_write(GIVEN, descriptor, now);
        grants
    }

    #[test]
    fn results_are_asked_for_now_and_then_and_waited_for_when_the_window_is_full() {
        let now = Instant::now();
        let mut grants = granted(3, now);
        assert_eq!(grants.turn(4, 1, now), Turn::Forwarded);
        assert_eq!(grants.turn(3, ASKED - 1, now), GOES);
        assert_eq!(grants.turn(3, 1, now), ASKS);
        assert_eq!(grants.turn(3, WINDOW - ASKED, now), ASKS);
        assert_eq!((grants.turn(3, 1, now), grants.owed()), (Turn::Waits, 2));
        grants.hear_of_asked(GIVEN);
        assert_eq!((grants.turn(3, ASKED, now), grants.owed()), (ASKS, 2));
    }

    #[test]
    fn a_write_that_no_window_holds_goes_alone() {
        let now = Instant::now();
        let mut grants = granted(3, now);
        assert_eq!(grants.turn(3, 2 * WINDOW, now), ASKS);
        assert_eq!(grants.turn(3, 1, now), Turn::Waits);
    }

    #[test]
    fn a_grant_is_good_for_some_time_and_renewed_meanwhile() {
        let now = Instant::now();
        assert_eq!(granted(3, now).turn(3, 1, now + GRANT_TIME), Turn::Forwarded);
        let mut grants = granted(3, now);
        let (later, late) = (now + GRANT_TIME * 3 / 5, now + GRANT_TIME);
        assert_eq!((grants.turn(3, 1, later), grants.turn(3, 1, later)), (ASKS, GOES));
        assert_eq!(grants.turn(3, 1, late), Turn::Waits);
        grants.hear_of_asked(GIVEN);
        assert_eq!(grants.turn(3, 1, late), GOES);
    }

    #[test]
    fn however_little_is_written_there_are_few_results_that_nobody_has_heard() {
        let now = Instant::now();
        let mut grants = granted(3, now);
        for step in 0..100_000 {
            let now = now + GRANT_TIME * step / 10_000;
            while grants.turn(3, 1, now) == Turn::Waits {
                grants.hear_of_asked(GIVEN);
            }
            assert!(grants.has(3) && grants.owed() <= 1);
        }
    }

    #[test]
    fn it_stands_as_long_as_the_home_says_so() {
        let now = Instant::now();
        let mut grants = granted(3, now);
        grants.hear(GRANTS_STAND);
        assert_eq!(grants.turn(3, 1, now), GOES);
        grants.hear(0);
        assert_eq!(grants.turn(3, 1, now), Turn::Forwarded);
    }

    #[test]
    fn a_write_that_is_not_granted_ends_that_of_its_descriptor_alone() {
        let now = Instant::now();
        let mut grants = granted(3, now);
        grants.hear_of_write(GIVEN, 4, now);
        grants.hear_of_write(GRANTS_STAND, 3, now);
        assert_eq!((grants.turn(3, 1, now), grants.turn(4, 1, now)), (Turn::Forwarded, GOES));
    }

    #[test]
    fn there_is_a_limit() {
        let now = Instant::now();
        let mut grants = Grants::default();
        (0..100).for_each(|descriptor| grants.hear_of_write(GIVEN, descriptor, now));
        assert_eq!(grants.until.len(), GRANTS_MAX);
    }
}
