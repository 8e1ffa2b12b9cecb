//! Calls whose relative time-out Linux counts afresh whenever they are made again: what is left of it.
//!
//! A move interrupts a call, and the program makes it again without knowing. How long it has been waiting is kept by
//! the home, and for as long as the process runs there by itself, in the thread's registers: the kernel takes the
//! number of a call from the lower half of `rax`, and shows whoever traces the thread all of it, for just this call.
//!
//! ```text
//!   rax   0 │ 1001101 │ when it was first made, ms, 24 bits │ number of the call, 32 bits
//! ```

use crate::registers::{NO_SYSCALL, Registers};
use crate::restart::{self, FUTEX};
use std::time::Duration;

/// Where a call has its time-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// Milliseconds (`int`) in this argument; negative means none.
    Milliseconds(usize),
    /// A `struct timespec` at the address in this argument.
    Timespec(usize),
    /// The same, where the kernel writes what is left: it counts afresh only if the program's memory did not change.
    TimespecLeft(usize),
    /// As the last, a `struct timeval`.
    TimevalLeft(usize),
    /// `SO_RCVTIMEO` of the socket in the first argument.
    Receiving,
    /// `SO_SNDTIMEO` of the socket in the first argument, which is being connected.
    Connecting,
}

/// The time-out of a call that Linux would count afresh.
pub fn timeout_of(call: u64) -> Option<Timeout> {
    Some(match call {
        232 | 281 => Timeout::Milliseconds(3), // epoll_wait, epoll_pwait
        441 | 220 => Timeout::Timespec(3),     // epoll_pwait2, semtimedop
        128 => Timeout::Timespec(2),           // rt_sigtimedwait
        271 => Timeout::TimespecLeft(2),       // ppoll
        270 => Timeout::TimespecLeft(4),       // pselect6
        23 => Timeout::TimevalLeft(4),         // select
        // read, readv, recvfrom, recvmsg, accept, accept4
        0 | 19 | 45 | 47 | 43 | 288 => Timeout::Receiving,
        42 => Timeout::Connecting,
        _ => return None,
    })
}

/// A call under way, which will be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub call: u64,
    /// Its arguments, as the program gave them.
    pub arguments: [u64; 6],
    /// The time-out that the program gave, if it is not where another one may be next time.
    pub timeout: Option<Duration>,
    /// When it was first made, nanoseconds on the home's monotonic clock.
    pub since: u64,
}

impl Waiting {
    /// Whether `next` is the same call, made again.
    pub fn is_again(&self, next: &Self) -> bool {
        let same_timeout = self.timeout.is_none() || self.timeout == next.timeout;
        self.call == next.call && self.arguments == next.arguments && same_timeout
    }

    /// What is left of a time-out at this time (nanoseconds, as `since`).
    pub fn left(&self, timeout: Duration, now: u64) -> Duration {
        timeout.saturating_sub(Duration::from_nanos(now.saturating_sub(self.since)))
    }

    /// The registers that make the call again at home, with a mark of when it was first made. Registers that do not
    /// make it are left alone, as is a call whose time-out is counted down in the program's own memory.
    pub fn mark(&self, registers: &Registers) -> Registers {
        let counted_down =
            matches!(timeout_of(self.call), Some(Timeout::TimespecLeft(_) | Timeout::TimevalLeft(_)));
        let makes_it = registers.orig_rax == NO_SYSCALL
            && registers.rax == self.call
            && registers.arguments() == self.arguments;
        if counted_down || !makes_it {
            return *registers;
        }
        // Rounded up, so that the time-out is never too short.
        let since = self.since.div_ceil(NANOSECONDS_PER_MS) & TIME_MASK;
        Registers { rax: registers.rax | MARK << MARK_SHIFT | since << TIME_SHIFT, ..*registers }
    }

    /// Takes the mark away from the registers of a thread that was found in a marked call, or right before it, and
    /// says what it told. `now` is as `since`. A call that has been under way for hours may have waited longer.
    pub fn unmark(registers: &Registers, now: u64) -> (Registers, Option<Self>) {
        let mut plain = *registers;
        let number = if registers.orig_rax == NO_SYSCALL { &mut plain.rax } else { &mut plain.orig_rax };
        let call = restart::number(*number);
        if *number >> MARK_SHIFT != MARK || (timeout_of(call).is_none() && call != FUTEX) {
            return (*registers, None);
        }
        let then = *number >> TIME_SHIFT & TIME_MASK;
        *number = call;
        // In the call's restart the kernel puts all of the number back.
        if plain.rax >> MARK_SHIFT == MARK && restart::number(plain.rax) == call {
            plain.rax = call;
        }
        let waited = (now / NANOSECONDS_PER_MS).wrapping_sub(then) & TIME_MASK;
        // The mark may lie a moment ahead, because it was rounded up.
        let waited = if waited == TIME_MASK { 0 } else { waited };
        let since = now.saturating_sub(waited * NANOSECONDS_PER_MS);
        (plain, Some(Self { call, arguments: registers.arguments(), timeout: None, since }))
    }
}

/// Registers that are about to make a `FUTEX_WAIT`, so that it ends by itself at the first move after its time.
///
/// Wherever it is waited for, no part of its time-out can be taken away: that is in the program's own memory. So the
/// call is marked, the mark goes along with the thread, and when the time is over the call has its result. `timeout`
/// reads what is at an address. Other registers are left alone.
pub fn futex(registers: &Registers, now: u64, timeout: impl FnOnce(u64) -> Option<Duration>) -> Registers {
    const PRIVATE: u32 = 128;
    const FUTEX_WAIT: u32 = 0;
    const ETIMEDOUT: i64 = -110;
    const SYSCALL_LENGTH: u64 = 2;
    let (plain, marked) = Waiting::unmark(registers, now);
    let waits = plain.orig_rax == NO_SYSCALL
        && plain.rax == FUTEX
        && plain.rsi as u32 & !PRIVATE == FUTEX_WAIT
        && plain.r10 != 0;
    if !waits {
        return *registers;
    }
    let Some(waiting) = marked else {
        let first = Waiting { call: FUTEX, arguments: plain.arguments(), timeout: None, since: now };
        return first.mark(&plain);
    };
    if timeout(plain.r10).is_some_and(|timeout| waiting.left(timeout, now).is_zero()) {
        let rip = plain.rip.wrapping_add(SYSCALL_LENGTH);
        return Registers { rax: ETIMEDOUT as u64, rip, ..plain };
    }
    *registers
}

const NANOSECONDS_PER_MS: u64 = 1_000_000;
const MARK: u64 = 0b100_1101;
const MARK_SHIFT: u32 = 56;
const TIME_SHIFT: u32 = 32;
const TIME_MASK: u64 = (1 << (MARK_SHIFT - TIME_SHIFT)) - 1;

/// Milliseconds as a call wants them, rounded up: no time-out may end early.
pub fn milliseconds(time: Duration) -> i32 {
    time.as_nanos().div_ceil(u128::from(NANOSECONDS_PER_MS)).try_into().unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOLL_WAIT: u64 = 232;
    const MS: u64 = NANOSECONDS_PER_MS;

    fn waiting(since: u64) -> Waiting {
        Waiting { call: EPOLL_WAIT, arguments: [3, 0x7000, 1, 250, 5, 6], timeout: None, since }
    }

    fn about_to_make(waiting: &Waiting) -> Registers {
        let [rdi, rsi, rdx, r10, r8, r9] = waiting.arguments;
        Registers {
            rax: waiting.call,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            orig_rax: NO_SYSCALL,
            ..Registers::default()
        }
    }

    #[test]
    fn what_is_left_is_never_negative() {
        let waiting = waiting(100 * MS);
        let timeout = Duration::from_millis(250);
        assert_eq!(waiting.left(timeout, 100 * MS), timeout);
        assert_eq!(waiting.left(timeout, 130 * MS), Duration::from_millis(220));
        assert_eq!(waiting.left(timeout, 900 * MS), Duration::ZERO);
        assert_eq!(waiting.left(timeout, 0), timeout);
    }

    #[test]
    fn milliseconds_are_rounded_up() {
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_millis(7)), 7);
        assert_eq!(milliseconds(Duration::MAX), i32::MAX);
    }

    #[test]
    fn only_the_same_call_is_gone_on_with() {
        let first = waiting(0);
        assert!(first.is_again(&waiting(5)));
        assert!(!first.is_again(&Waiting { call: 281, ..first }));
        assert!(!first.is_again(&Waiting { arguments: [4, 0x7000, 1, 250, 5, 6], ..first }));
        let timed = Waiting { timeout: Some(Duration::from_millis(9)), ..first };
        assert!(timed.is_again(&timed) && first.is_again(&timed));
        assert!(!timed.is_again(&Waiting { timeout: Some(Duration::from_millis(8)), ..first }));
    }

    #[test]
    fn a_mark_survives_in_the_call_and_before_it() {
        let now = 77_777_777 * MS;
        let first = waiting(now - 40 * MS);
        let before = about_to_make(&first);
        let marked = first.mark(&before);
        assert_eq!(marked.rax as u32, EPOLL_WAIT as u32);
        assert!(marked.rax as i64 >= 0, "it would not look like a call");
        assert_eq!(Waiting::unmark(&marked, now), (before, Some(first)));
        let inside = Registers { orig_rax: marked.rax, rax: -4i64 as u64, ..before };
        let (plain, found) = Waiting::unmark(&inside, now);
        assert_eq!((plain.orig_rax, plain.rax as i64, found), (EPOLL_WAIT, -4, Some(first)));
    }

    #[test]
    fn a_marked_call_never_seems_to_have_waited_longer() {
        for since in [1, MS - 1, MS, 5 * MS + 1, 20_000_000 * MS + 3] {
            for waited in [0, 1, MS / 2, MS, 3 * MS + 7, (TIME_MASK + 9) * MS] {
                let (first, now) = (waiting(since), since + waited);
                let (_, found) = Waiting::unmark(&first.mark(&about_to_make(&first)), now);
                assert!(now - found.expect("a mark").since <= waited, "{since} {waited}");
            }
        }
    }

    #[test]
    fn a_futex_wait_ends_when_its_time_is_over() {
        let words = [0x5000, 128, 1, 0x6000, 0, 0];
        let first = Waiting { call: FUTEX, arguments: words, timeout: None, since: 0 };
        let before = Registers { rip: 0x1000, ..about_to_make(&first) };
        let timeout = |address| (address == 0x6000).then(|| Duration::from_millis(250));
        let marked = futex(&before, 40 * MS, timeout);
        assert_eq!((marked.rax as u32, marked.rip), (FUTEX as u32, 0x1000));
        assert_eq!(futex(&marked, 289 * MS, timeout), marked);
        let over = futex(&marked, 290 * MS, timeout);
        assert_eq!((over.rax as i64, over.rip, over.orig_rax), (-110, 0x1002, NO_SYSCALL));
        let for_ever = Registers { r10: 0, ..before };
        assert_eq!(futex(&for_ever, 40 * MS, timeout), for_ever);
        let until = Registers { rsi: 128 | 9, ..before };
        assert_eq!(futex(&until, 40 * MS, timeout), until);
    }

    #[test]
    fn other_registers_have_no_mark() {
        let first = waiting(3 * MS);
        let elsewhere = Registers { rdi: 9, ..about_to_make(&first) };
        assert_eq!(first.mark(&elsewhere), elsewhere);
        assert_eq!(Waiting::unmark(&elsewhere, 9 * MS), (elsewhere, None));
        let user = Registers { rax: MARK << MARK_SHIFT | 9, orig_rax: NO_SYSCALL, ..Registers::default() };
        assert_eq!(Waiting::unmark(&user, 9 * MS), (user, None));
        let select = Waiting { call: 23, ..first };
        assert_eq!(select.mark(&about_to_make(&select)), about_to_make(&select));
    }
}
