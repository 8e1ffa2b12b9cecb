//! What [`std::process::Command`] cannot do by itself.
//!
//! Each of these runs a few async-signal-safe calls in the child between fork and exec.

use std::io::{self, PipeReader};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::terminal::set_foreground_group;

/// Leaves a descriptor open in the program that `command` starts, under the number that is returned, and in no other that
/// is started at the same time.
pub fn keep_descriptor(command: &mut Command, descriptor: OwnedFd) -> RawFd {
    let number = descriptor.as_raw_fd();
    let keep = move || {
        // SAFETY: F_SETFD takes a number only.
        let result = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: `keep` makes one async-signal-safe call and allocates nothing.
    unsafe { command.pre_exec(keep) };
    number
}

/// Lets the program that `command` starts report its PID as it sees it itself: native-endian, four bytes in the returned
/// pipe. The pipe ends when it executes, or fails to.
pub fn report_pid(command: &mut Command) -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    let report = move || {
        // SAFETY: `getpid` only returns a number.
        let pid = unsafe { libc::getpid() }.to_ne_bytes();
        // SAFETY: pointer and length are those of `pid`.
        let written = unsafe { libc::write(writer.as_raw_fd(), pid.as_ptr().cast(), pid.len()) };
        if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: `report` makes two async-signal-safe calls and allocates nothing.
    unsafe { command.pre_exec(report) };
    Ok(reader)
}

/// Starts the program at the head of a new process group that owns the terminal, as a shell starts a job.
pub fn lead_foreground_group(command: &mut Command, terminal: BorrowedFd<'static>) {
    command.process_group(0);
    // SAFETY: `getpid` and `set_foreground_group` are async-signal-safe and allocate nothing.
    unsafe {
        command.pre_exec(move || set_foreground_group(terminal, libc::getpid().cast_unsigned()));
    }
}
