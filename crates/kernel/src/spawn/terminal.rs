//! Terminals and process groups: who may read the keyboard.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::events;

/// The process group that owns the terminal. 0 if it is of an outer PID namespace; an error if `terminal` is
/// not the controlling terminal of this process.
pub fn foreground_group(terminal: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: `tcgetpgrp` takes no pointers.
    let group = unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) };
    u32::try_from(group).map_err(|_| io::Error::last_os_error())
}

/// Whether `terminal` is the controlling terminal of this process and its group owns it.
pub fn is_own_group_in_foreground(terminal: BorrowedFd<'_>) -> bool {
    foreground_group(terminal).is_ok_and(|group| group == own_group())
}

/// The process group of this process.
pub fn own_group() -> u32 {
    // SAFETY: `getpgrp` only returns a number, which is never negative.
    unsafe { libc::getpgrp() }.cast_unsigned()
}

/// Puts this process at the head of a new session without a terminal. The first one that it opens will be
/// its.
///
/// Fails with `EPERM` if it leads a process group already.
pub fn lead_session() -> io::Result<()> {
    // SAFETY: `setsid` takes no pointers.
    if unsafe { libc::setsid() } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives the terminal to a process group of this session, also from the background. Async-signal-safe.
pub fn set_foreground_group(terminal: BorrowedFd<'_>, group: u32) -> io::Result<()> {
    // From the background this would stop us, unless SIGTTOU is blocked or ignored.
    let mut blocked = events::empty_set();
    let mut before = events::empty_set();
    // SAFETY: both sets are initialised and outlive the calls; `tcsetpgrp` takes no pointers.
    unsafe {
        libc::sigaddset(&raw mut blocked, libc::SIGTTOU);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before);
        let result = libc::tcsetpgrp(terminal.as_raw_fd(), group.cast_signed());
        let error = io::Error::last_os_error();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        if result < 0 { Err(error) } else { Ok(()) }
    }
}
