//! What an interrupted system call becomes when its thread is stopped in order to be moved.
//!
//! A stop that we cause ourselves interrupts a blocking call as a signal would, but no signal follows: the
//! program must never see it. The kernel leaves one of its internal codes in `rax` (`include/linux/errno.h`):
//!
//! | rax | meaning | what is done |
//! |---|---|---|
//! | −512 ERESTARTSYS, −513 ERESTARTNOINTR, −514 ERESTARTNOHAND | restart the same call | rewind |
//! | −516 ERESTART_RESTARTBLOCK | restart by `restart_syscall`, the time left is kept by the kernel | rewind to call 219, or to the call itself where that is exact |
//! | −4 EINTR of the calls that Linux never restarts by itself | the program would see EINTR | rewind by hand |
//!
//! Measured call by call on Linux 6.18; both kinds of mistake corrupt programs silently.
//!
//! A signal may still come before the thread goes on. Then its handler runs in the middle of the call, which returns
//! EINTR or is made again as the code and the handler's SA_RESTART have it; a thread that was simply put back before its
//! call would wait in it once more, deaf to the signal that was to end the wait. So the code is kept ([`Interruption`]),
//! and the kernel finds the registers as if it had interrupted the call itself ([`interrupted`]).

use crate::registers::{NO_SYSCALL, Registers};
use serde::{Deserialize, Serialize};

/// `restart_syscall(2)`.
pub const RESTART_SYSCALL: u64 = 219;

const EINTR: i64 = -4;
const ERESTARTSYS: i64 = -512;
const ERESTARTNOHAND: i64 = -514;
const ERESTART_RESTARTBLOCK: i64 = -516;

/// Bytes of the `syscall` instruction.
const SYSCALL_LENGTH: u64 = 2;

/// `futex(2)`.
pub const FUTEX: u64 = 202;

/// Calls that return plain EINTR when they are interrupted, whatever the handler's SA_RESTART says
/// (`signal(7)`, and receive calls with SO_RCVTIMEO, which are told apart by their result alone).
const NEVER_RESTARTED: &[u64] = &[
    0,   // read (of a socket with SO_RCVTIMEO)
    19,  // readv (likewise)
    1,   // write (to a socket with SO_SNDTIMEO)
    20,  // writev (likewise)
    45,  // recvfrom (with SO_RCVTIMEO)
    47,  // recvmsg (with SO_RCVTIMEO)
    43,  // accept (with SO_RCVTIMEO)
    288, // accept4 (with SO_RCVTIMEO)
    44,  // sendto (with SO_SNDTIMEO)
    46,  // sendmsg (with SO_SNDTIMEO)
    42,  // connect (with SO_SNDTIMEO)
    65,  // semop
    128, // rt_sigtimedwait
    208, // io_getevents
    220, // semtimedop
    232, // epoll_wait
    281, // epoll_pwait
    426, // io_uring_enter
    441, // epoll_pwait2
];

/// The number of a call as the kernel takes it: the upper half of the register may hold a mark ([`crate::timed`]).
pub fn number(register: u64) -> u64 {
    register & u64::from(u32::MAX)
}

/// `fallocate(2)`: in memory, nothing is left of what it had done when it is interrupted.
const FALLOCATE: u64 = 285;

/// Its modes that shift what lies behind (FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE), which nobody does twice.
const SHIFTS: u32 = 0x08 | 0x20;

/// `ioctl(2)`.
const IOCTL: u64 = 16;

/// What `ioctl` only waits for, or does when the terminal has sent everything: interrupted, nothing has been done
/// (`drivers/tty/tty_io.c`, `tty_ioctl.c`).
const DRAINING: &[u32] = &[
    0x5403,      // TCSETSW
    0x5407,      // TCSETAW
    0x5423,      // TIOCSETD
    0x5427,      // TIOCSBRK
    0x402c_542c, // TCSETSW2
];

/// `tcdrain`: with an argument, TCSBRK sends no break.
const TCSBRK: u32 = 0x5409;

/// Whether Linux itself never restarts this call after a signal.
pub fn is_never_restarted(call: u64, arguments: &[u64; 6]) -> bool {
    let second = arguments[1] as u32;
    match call {
        IOCTL => DRAINING.contains(&second) || (second == TCSBRK && arguments[2] != 0),
        FALLOCATE => second & SHIFTS == 0,
        _ => NEVER_RESTARTED.contains(&call),
    }
}

/// Whose kernel holds the `restart_block` of a call interrupted with ERESTART_RESTARTBLOCK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartOwner {
    /// The kernel below the deputy: the call was made at home, natively or forwarded.
    Home,
    /// The host's kernel: the guest made the call locally.
    Host,
}

/// The registers with which a thread goes on elsewhere, given those found in a stop that *we* caused
/// (an event stop, no signal taken). `owner` tells whose kernel interrupted the call.
///
/// `orig_rax` is always left as [`NO_SYSCALL`].
pub fn rewind(found: &Registers, owner: RestartOwner) -> Registers {
    let mut next = *found;
    next.orig_rax = NO_SYSCALL;
    let Some(call) = found.syscall() else { return next };
    let again = match found.rax as i64 {
        -514..=-512 => Some(call),
        ERESTART_RESTARTBLOCK => Some(restart_block_call(call, owner)),
        EINTR if is_never_restarted(number(call), &found.arguments()) => Some(call),
        _ => None,
    };
    if let Some(call) = again {
        next.rax = call;
        next.rip = found.rip.wrapping_sub(SYSCALL_LENGTH);
    }
    next
}

/// What becomes of an interrupted call when a signal handler runs before it is gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interruption {
    /// It fails with EINTR.
    Ends,
    /// The same, unless the handler was installed with SA_RESTART: then it is made again.
    EndsUnlessRestarted,
    /// It has carried so many bytes, which it returns; without a signal it carries the rest before it returns.
    ReturnsPart(u64),
}

/// How the call was interrupted in which a thread has been found that [`rewind`] takes back to before it. None if it
/// was in no call, or its call is made again whatever comes.
pub fn interruption(found: &Registers) -> Option<Interruption> {
    let call = found.syscall()?;
    match found.rax as i64 {
        ERESTARTSYS => Some(Interruption::EndsUnlessRestarted),
        ERESTARTNOHAND | ERESTART_RESTARTBLOCK => Some(Interruption::Ends),
        EINTR if is_never_restarted(number(call), &found.arguments()) => Some(Interruption::Ends),
        _ => None,
    }
}

/// What the kernel is to find of a thread that is about to make its call again (see [`rewind`]), in a stop that it
/// leaves as after an interruption: without a signal it makes the call again, with one it does what it always does.
/// It does not know of calls that go on with the rest of their data: so those return, which is right if there is a signal.
pub fn interrupted(next: &Registers, how: Interruption) -> Registers {
    let code = match how {
        Interruption::ReturnsPart(done) => return returned(next, done as i64),
        Interruption::EndsUnlessRestarted => ERESTARTSYS,
        Interruption::Ends if number(next.rax) == RESTART_SYSCALL => ERESTART_RESTARTBLOCK,
        Interruption::Ends => ERESTARTNOHAND,
    };
    let rip = next.rip.wrapping_add(SYSCALL_LENGTH);
    Registers { orig_rax: next.rax, rax: code as u64, rip, ..*next }
}

/// The registers with which a thread goes on that was found in such a stop and is not moved: the kernel makes its
/// call again, also if it is one that it never restarts.
pub fn undisturbed(found: &Registers) -> Registers {
    match found.syscall() {
        Some(call) if found.rax as i64 == EINTR && is_never_restarted(number(call), &found.arguments()) => {
            Registers { rax: ERESTARTNOHAND as u64, ..*found }
        }
        _ => *found,
    }
}

/// The registers of a thread for which the call that it is about to make has this result.
pub fn returned(next: &Registers, result: i64) -> Registers {
    let rip = next.rip.wrapping_add(SYSCALL_LENGTH);
    Registers { rax: result as u64, rip, orig_rax: NO_SYSCALL, ..*next }
}

/// The registers with which a thread makes a call again that has just returned.
pub fn again(returned: &Registers, call: u64) -> Registers {
    let rip = returned.rip.wrapping_sub(SYSCALL_LENGTH);
    Registers { rax: call, rip, orig_rax: NO_SYSCALL, ..*returned }
}

/// The call that continues one interrupted with ERESTART_RESTARTBLOCK.
///
/// A futex wait must never continue at home, where its word is stale: FUTEX_WAIT_BITSET and its kin take
/// an absolute time, so the call itself is exact; FUTEX_WAIT with its relative time starts afresh, until its time
/// is over ([`crate::timed::futex`]). What else the host's kernel interrupted starts afresh as well, since its
/// `restart_block` stays behind.
fn restart_block_call(call: u64, owner: RestartOwner) -> u64 {
    match owner {
        _ if number(call) == FUTEX => call,
        RestartOwner::Home => RESTART_SYSCALL,
        RestartOwner::Host => call,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(call: u64, result: i64) -> Registers {
        Registers { orig_rax: call, rax: result as u64, rip: 0x1002, ..Registers::default() }
    }

    fn check(call: u64, result: i64, owner: RestartOwner, rax: u64, rip: u64) {
        let next = rewind(&stopped(call, result), owner);
        assert_eq!(
            (next.rax, next.rip, next.orig_rax),
            (rax, rip, NO_SYSCALL),
            "call {call} result {result}"
        );
    }

    #[test]
    fn restartable_calls_are_made_again() {
        for result in [-512, -513, -514] {
            check(0, result, RestartOwner::Home, 0, 0x1000);
            check(34, result, RestartOwner::Host, 34, 0x1000);
        }
    }

    #[test]
    fn a_signal_has_a_call_return_the_part_that_it_has_carried() {
        let next = Registers { rax: 1, rip: 0x1000, rdx: 9000, orig_rax: NO_SYSCALL, ..Registers::default() };
        let found = interrupted(&next, Interruption::ReturnsPart(4096));
        assert_eq!((found.rax, found.rip, found.rdx, found.orig_rax), (4096, 0x1002, 9000, NO_SYSCALL));
        assert_eq!(again(&found, 1), next);
    }

    #[test]
    fn sleeps_go_on_through_the_restart_block() {
        check(35, -516, RestartOwner::Home, RESTART_SYSCALL, 0x1000);
        check(7, -516, RestartOwner::Home, RESTART_SYSCALL, 0x1000);
        check(35, -516, RestartOwner::Host, 35, 0x1000);
    }

    #[test]
    fn a_futex_never_waits_at_home() {
        check(FUTEX, -516, RestartOwner::Home, FUTEX, 0x1000);
        check(FUTEX, -516, RestartOwner::Host, FUTEX, 0x1000);
    }

    #[test]
    fn calls_that_linux_never_restarts_do_not_show_eintr() {
        check(232, -4, RestartOwner::Home, 232, 0x1000);
        check(128, -4, RestartOwner::Home, 128, 0x1000);
        check(61, -4, RestartOwner::Home, -4i64 as u64, 0x1002);
    }

    #[test]
    fn who_waits_until_a_terminal_has_sent_everything_waits_again() {
        const TCGETS: u64 = 0x5401;
        let drains = |request, argument| is_never_restarted(IOCTL, &[3, request, argument, 0, 0, 0]);
        assert!(drains(u64::from(TCSBRK), 1) && drains(0x5403, 0x7fff_0000));
        // The upper half is nothing to the kernel.
        assert!(drains(1 << 32 | u64::from(TCSBRK), 1));
        // A break may have been sent.
        assert!(!drains(u64::from(TCSBRK), 0) && !drains(TCGETS, 0x7fff_0000));
        let allocates = |mode| is_never_restarted(FALLOCATE, &[3, mode, 0, 4096, 0, 0]);
        assert!(allocates(0) && allocates(1) && !allocates(0x08) && !allocates(0x20));
        let found = Registers { rdi: 3, rsi: u64::from(TCSBRK), rdx: 1, ..stopped(IOCTL, -4) };
        let next = rewind(&found, RestartOwner::Home);
        assert_eq!((next.rax, next.rip), (IOCTL, 0x1000));
        assert_eq!(interruption(&found), Some(Interruption::Ends));
    }

    #[test]
    fn a_mark_in_the_number_changes_nothing() {
        let marked = |call| 0x4d12_3456_0000_0000 | call;
        check(marked(FUTEX), -516, RestartOwner::Home, marked(FUTEX), 0x1000);
        check(marked(232), -4, RestartOwner::Home, marked(232), 0x1000);
    }

    #[test]
    fn only_what_the_kernel_would_show_is_hidden_from_a_thread_that_stays() {
        assert_eq!(undisturbed(&stopped(232, -4)), stopped(232, -514));
        for (call, result) in [(0, -512), (35, -516), (61, -4), (232, 1)] {
            assert_eq!(undisturbed(&stopped(call, result)), stopped(call, result));
        }
    }

    #[test]
    fn a_signal_finds_the_call_as_the_kernel_left_it() {
        for (call, result) in [(0, -512), (34, -514), (35, -516), (RESTART_SYSCALL, -516)] {
            let found = stopped(call, result);
            let how = interruption(&found).expect("it was interrupted");
            let seen = interrupted(&rewind(&found, RestartOwner::Home), how);
            assert_eq!((seen.rax as i64, seen.rip), (result, 0x1002), "call {call} result {result}");
            assert_eq!(rewind(&seen, RestartOwner::Home), rewind(&found, RestartOwner::Home));
        }
    }

    #[test]
    fn what_linux_never_restarts_ends_with_a_handler_and_goes_on_without() {
        let found = stopped(232, -4);
        assert_eq!(interruption(&found), Some(Interruption::Ends));
        let seen = interrupted(&rewind(&found, RestartOwner::Home), Interruption::Ends);
        assert_eq!(seen, stopped(232, -514));
        let local = rewind(&stopped(FUTEX, -516), RestartOwner::Host);
        assert_eq!(interrupted(&local, Interruption::Ends), stopped(FUTEX, -514));
    }

    #[test]
    fn a_call_that_was_not_begun_is_not_interrupted() {
        for found in [stopped(0, -513), stopped(0, 17), stopped(61, -4), stopped(NO_SYSCALL, -512)] {
            assert_eq!(interruption(&found), None, "{found:?}");
        }
    }

    #[test]
    fn user_code_and_finished_calls_are_left_alone() {
        check(0, 17, RestartOwner::Home, 17, 0x1002);
        let user = Registers { orig_rax: NO_SYSCALL, rax: -512i64 as u64, rip: 7, ..Registers::default() };
        assert_eq!(rewind(&user, RestartOwner::Home), user);
    }
}
