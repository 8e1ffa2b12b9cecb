//! Forking without executing anything: for a program that makes others out of itself.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Which of the two processes this is after a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The new one.
    Child,
    /// The one that was there before, and the PID of the new one.
    Parent(u32),
}

/// Forks a program that has one thread only; with more it fails with `EBUSY`, because one of those might hold a lock
/// that nobody would ever release in the child. The child's signals are as a program finds them that is started.
pub fn fork_alone() -> io::Result<Forked> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: there is no other thread, so the child has all of this program's state as it is, and may go on with it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: the default disposition has no handler.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
            super::events::unblock_all_signals();
            Ok(Forked::Child)
        }
        pid => Ok(Forked::Parent(pid.cast_unsigned())),
    }
}

/// Has the kernel take the status of children that end, so that nobody has to wait for them.
pub fn leave_children_to_kernel() -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sigaction`: the default disposition, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_flags = libc::SA_NOCLDWAIT;
    // SAFETY: `action` outlives the call, and the default disposition has no handler.
    let result = unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts a descriptor in the place of another, which is closed; nothing else in this program may use that one any more.
pub fn put_at(descriptor: OwnedFd, number: RawFd) -> io::Result<()> {
    // SAFETY: `dup2` takes no pointers; that `number` is nobody's is the caller's to know, and at worst a descriptor
    // means another file.
    let result = unsafe { libc::dup2(descriptor.as_raw_fd(), number) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_several_threads_is_not_forked() {
        // A test has a thread of its own beside the main one.
        assert_eq!(fork_alone().unwrap_err().raw_os_error(), Some(libc::EBUSY));
    }
}
