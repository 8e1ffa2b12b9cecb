//! Handles of processes, and waiting for children.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::events::wait_readable;

/// A process that cannot be mistaken for another one that gets its PID later (a pidfd).
#[derive(Debug)]
pub struct ProcessHandle {
    pid: u32,
    descriptor: OwnedFd,
}

impl ProcessHandle {
    pub(super) fn of_child(pid: u32, descriptor: OwnedFd) -> Self {
        Self { pid, descriptor }
    }

    /// Takes hold of a running process, or of one that ended and has not been waited for. Fails with `ESRCH`
    /// if there is none. The caller must know by other means (its start time) that it still is the one that
    /// was meant.
    pub fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: `pidfd_open` takes no pointers.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened and nothing else knows of it. Descriptor numbers fit into an int.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
        Ok(Self { pid, descriptor })
    }

    /// Its PID as the process counts that opened the handle.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. Fails with `ESRCH` once the process has been waited for.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let no_information = std::ptr::null::<libc::siginfo_t>();
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: a null pointer asks for the information that `kill` would send.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, signal, no_information, 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// A copy of one of its descriptors; needs the right to trace it.
    pub fn descriptor(&self, number: i32) -> io::Result<OwnedFd> {
        // SAFETY: `pidfd_getfd` takes no pointers.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.descriptor.as_raw_fd(), number, 0) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just made and nothing else knows of it. Descriptor numbers fit into an int.
        Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
    }

    /// Waits until the process has ended (no time-out: for ever). Says whether it has. It need not be a
    /// child.
    pub fn wait_for_end(&self, timeout: Option<Duration>) -> io::Result<bool> {
        Ok(wait_readable(&[self.as_fd()], timeout)?[0])
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        // A poll without waiting on an open descriptor fails only for want of memory.
        self.wait_for_end(Some(Duration::ZERO)).unwrap_or(false)
    }

    /// Waits for this child to end and takes its status, after which its PID is free. Fails with `ECHILD` if
    /// it is not a child, or was taken already.
    pub fn reap(&self) -> io::Result<ExitStatus> {
        let id = self.descriptor.as_raw_fd().cast_unsigned();
        // SAFETY: all-zero bytes are a valid `siginfo_t`.
        let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
        loop {
            // SAFETY: `information` outlives the call.
            let result = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut information, libc::WEXITED) };
            if result == 0 {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        // SAFETY: `waitid` succeeded, so the status is there.
        let status = unsafe { information.si_status() };
        let exited = information.si_code == libc::CLD_EXITED;
        let dumped = if information.si_code == libc::CLD_DUMPED { 0x80 } else { 0 };
        Ok(ExitStatus::from_raw(if exited { (status & 0xff) << 8 } else { status | dumped }))
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended and has been waited for.
    Ended(ExitStatus),
    /// It was stopped by this signal.
    Stopped(i32),
}

/// Takes the next change of one child, if there is one.
pub fn next_change(child: u32) -> io::Result<Option<Change>> {
    Ok(wait_now(child.cast_signed(), libc::WUNTRACED)?.map(|(_, change)| change))
}

/// Takes the status of any one child that has ended, with its PID. `None` if none has, or there are none.
pub fn reap_any() -> Option<(u32, ExitStatus)> {
    match wait_now(-1, 0) {
        Ok(Some((pid, Change::Ended(status)))) => Some((pid, status)),
        _ => None,
    }
}

fn wait_now(target: i32, options: i32) -> io::Result<Option<(u32, Change)>> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = unsafe { libc::waitpid(target, &raw mut status, options | libc::WNOHANG) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let status = ExitStatus::from_raw(status);
    let change = status.stopped_signal().map_or(Change::Ended(status), Change::Stopped);
    Ok((pid > 0).then(|| (pid.cast_unsigned(), change)))
}

/// Sends a signal to all processes of a group.
pub fn signal_group(group: u32, signal: i32) -> io::Result<()> {
    // `kill(-1)` would mean every process there is, and 0 the own group.
    if group <= 1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `kill` takes no pointers.
    check(unsafe { libc::kill(-group.cast_signed(), signal) })
}

/// Sends a signal to one process. Its PID must not be free for others: it is a child that has not been waited
/// for.
pub fn signal_process(child: u32, signal: i32) -> io::Result<()> {
    if child == 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `kill` takes no pointers.
    check(unsafe { libc::kill(child.cast_signed(), signal) })
}

/// Sends a signal to all processes of the own group, this one included.
pub fn signal_own_group(signal: i32) -> io::Result<()> {
    // SAFETY: `kill` takes no pointers.
    check(unsafe { libc::kill(0, signal) })
}

/// The name that `ps` and `top` show for this program's first thread; at most 15 bytes of it.
pub fn set_program_name(name: &CStr) {
    // SAFETY: `name` ends in a zero and outlives the call, which cannot fail with a valid pointer.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::Namespaces;
    use crate::spawn::{Launch, SpawnError};

    fn status_of(script: &str) -> ExitStatus {
        Launch::new("/bin/sh", ["sh", "-c", script]).start().unwrap().reap().unwrap()
    }

    #[test]
    fn the_status_of_a_child_is_what_wait_would_say() {
        assert_eq!(status_of("exit 7").code(), Some(7));
        assert_eq!(status_of("kill -TERM $$").signal(), Some(libc::SIGTERM));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Launch::new("/nonesuch/program", ["program"]).start().unwrap_err();
        assert_eq!(error.to_string(), "execute \"/nonesuch/program\"");
        let SpawnError::Execute { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_user_namespace_makes_the_caller_root_and_a_pid_namespace_makes_the_child_first() {
        // Without any privilege, so this fails only where user namespaces are forbidden.
        let script = "test $$ = 1 && test $(id -u):$(id -g) = 0:0";
        let launch = Launch::new("/bin/sh", ["sh", "-c", script]);
        match launch.namespaces(Namespaces::USER | Namespaces::PID).start() {
            Ok(process) => assert_eq!(process.reap().unwrap().code(), Some(0)),
            Err(error) => assert!(error.is_permission_denied(), "{error:?}"),
        }
    }

    #[test]
    fn a_handle_outlives_its_process() {
        let process = Launch::new("/bin/sh", ["sh", "-c", "read line"])
            .standard(idle_input(), null(), null())
            .start()
            .unwrap();
        assert!(!process.has_ended());
        process.signal(libc::SIGKILL).unwrap();
        assert!(process.wait_for_end(Some(Duration::from_secs(10))).unwrap());
        assert_eq!(process.reap().unwrap().signal(), Some(libc::SIGKILL));
        assert_eq!(process.signal(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert_eq!(process.reap().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }

    /// A pipe's reading end whose writing end stays open in this process for as long as it runs.
    fn idle_input() -> OwnedFd {
        let (reader, writer) = io::pipe().unwrap();
        std::mem::forget(writer);
        reader.into()
    }

    fn null() -> OwnedFd {
        std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into()
    }

    #[test]
    fn groups_that_would_mean_everybody_are_refused() {
        for group in [0, 1] {
            assert_eq!(signal_group(group, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
    }
}
