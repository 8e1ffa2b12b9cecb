//! What [`std::process::Command`] cannot do by itself.
//!
//! Each of these runs a few async-signal-safe calls in the child between fork and exec.

use std::ffi::{CString, OsStr};
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::terminal::set_foreground_group;

/// Leaves a descriptor open in the program that `command` starts, under the number that is returned, and in
/// no other that is started at the same time.
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

/// Takes over a descriptor that this program was started with, named by its number in an argument.
///
/// Fails with `EBADF` for numbers that no descriptor was handed over under: one that is not open, a standard
/// one, or one that is closed on exec. Everything that Rust's library opens is closed on exec, and so is what
/// was taken over.
pub fn adopt_descriptor(number: &OsStr) -> io::Result<OwnedFd> {
    let not_handed_over = || io::Error::from_raw_os_error(libc::EBADF);
    let number: RawFd = number.to_str().and_then(|text| text.parse().ok()).ok_or_else(not_handed_over)?;
    // SAFETY: F_GETFD takes no pointers.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if number < 3 || flags != 0 {
        return Err(not_handed_over());
    }
    // SAFETY: F_SETFD takes a number only.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, came through exec and was not taken over before, as it then would be closed on
    // exec.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whom a program belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// Their own group.
    pub gid: u32,
    /// All their groups.
    pub groups: Vec<u32>,
}

/// Lets the program that `command` starts be a user's own, in a session of its own, in a directory that this user may
/// enter, and with an ordinary priority. It gets a hangup when the thread that starts it ends. Without an account it stays whose it is.
pub fn belong_to(command: &mut Command, account: Option<Account>, directory: CString) {
    let become_it = move || {
        let done = |result: libc::c_long| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        // SAFETY: it takes nothing; it fails only for leaders of groups, which a new process is not.
        done(unsafe { libc::setsid() }.into())?;
        // The daemon's priority is not for programs. Refused, it was nicer than that already.
        // SAFETY: it takes numbers only.
        unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, 0) };
        if let Some(Account { uid, gid, groups }) = &account {
            // The bare calls: of the C library's, those would tell all threads, of which only one is left here.
            // SAFETY: pointer and length are those of `groups`.
            done(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
            // SAFETY: these take numbers only.
            done(unsafe { libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) })?;
            // SAFETY: as above.
            done(unsafe { libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) })?;
        }
        // SAFETY: it is text with a zero byte at its end.
        done(unsafe { libc::chdir(directory.as_ptr()) }.into())?;
        // Last, as another user's is forgotten.
        // SAFETY: it takes numbers only.
        done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGHUP) }.into())
    };
    // SAFETY: `become_it` makes a few async-signal-safe calls and allocates nothing.
    unsafe { command.pre_exec(become_it) };
}

/// Lets the program that `command` starts report its PID as it sees it itself: native-endian, four bytes in
/// the returned pipe, written before it executes.
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
pub fn lead_foreground_group(command: &mut Command, terminal: OwnedFd) {
    command.process_group(0);
    // SAFETY: `getpid` and `set_foreground_group` are async-signal-safe and allocate nothing.
    unsafe {
        command.pre_exec(move || set_foreground_group(terminal.as_fd(), libc::getpid().cast_unsigned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_users_program_does_not_get_the_daemons_priority() {
        let started = std::thread::spawn(|| {
            // SAFETY: these take numbers only. Who may not be less nice is nice enough already.
            let own = unsafe {
                libc::setpriority(libc::PRIO_PROCESS, 0, -5);
                libc::getpriority(libc::PRIO_PROCESS, 0)
            };
            let mut command = Command::new("nice");
            belong_to(&mut command, None, c"/".to_owned());
            (own, command.output().unwrap())
        });
        let (own, output) = started.join().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", own.max(0)));
    }

    #[test]
    fn what_was_not_handed_over_cannot_be_taken() {
        let (reader, _writer) = io::pipe().unwrap();
        let own = reader.as_raw_fd().to_string();
        for number in ["0", "2", "-1", "999999", "many", &own] {
            let error = adopt_descriptor(OsStr::new(number)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{number}");
        }
    }

    #[test]
    fn a_kept_descriptor_is_open_in_the_program() {
        let (reader, writer) = io::pipe().unwrap();
        let mut command = Command::new("/bin/sh");
        let number = keep_descriptor(&mut command, writer.into());
        command.args(["-c", &format!("echo hello >/proc/self/fd/{number}")]);
        let status = command.status().unwrap();
        drop(command);
        assert_eq!((status.code(), io::read_to_string(reader).unwrap().as_str()), (Some(0), "hello\n"));
    }

    #[test]
    fn a_program_reports_its_own_pid() {
        let mut command = Command::new("/bin/true");
        let mut reader = report_pid(&mut command).unwrap();
        let mut child = command.spawn().unwrap();
        let mut pid = [0; 4];
        reader.read_exact(&mut pid).unwrap();
        assert_eq!(u32::from_ne_bytes(pid), child.id());
        child.wait().unwrap();
    }
}
