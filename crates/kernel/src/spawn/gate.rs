//! A process that waits before it executes a program, for whoever has something to do with it first.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::fork::{Forked, fork_alone};
use super::process::ProcessHandle;

/// A child that waits. Dropped instead of opened, its gate ends it before it has executed anything.
#[derive(Debug)]
pub struct AtGate {
    process: ProcessHandle,
    opener: PipeWriter,
    report: PipeReader,
}

impl AtGate {
    /// Makes a process that is going to execute what `command` says. Only for a program with one thread, as
    /// [`fork_alone`].
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let (gate, opener) = io::pipe()?;
        let (report, reporter) = io::pipe()?;
        match fork_alone()? {
            Forked::Child => {
                // It would wait for its own copy of the opening end.
                drop((opener, report));
                pass(command, gate, reporter)
            }
            Forked::Parent(pid) => {
                drop((gate, reporter));
                // It is our child and has not been waited for, so it still is the one that was meant.
                Ok(Self { process: ProcessHandle::open(pid)?, opener, report })
            }
        }
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Lets it go on. Returns when it executes its program, or with the reason why it does not.
    pub fn open(mut self) -> io::Result<ProcessHandle> {
        self.opener.write_all(&[1])?;
        let mut errno = [0; 4];
        match self.report.read_exact(&mut errno) {
            Ok(()) => {
                self.process.reap()?;
                Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
            }
            // Closed by `execve`, or with the process: then its status says so.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(self.process),
            Err(error) => Err(error),
        }
    }
}

/// The child's way through the gate.
fn pass(command: &mut Command, mut gate: PipeReader, mut reporter: PipeWriter) -> ! {
    if gate.read_exact(&mut [0]).is_ok() {
        let errno = command.exec().raw_os_error().unwrap_or(libc::EINVAL);
        // Whoever would read it has gone if it cannot be written.
        let _ = reporter.write_all(&errno.to_ne_bytes());
    }
    // SAFETY: it ends this process, without what the parent has to do at its end.
    unsafe { libc::_exit(127) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests have several threads, and this has not: what it says is the exit code of a process of its own.
    fn alone(body: fn() -> io::Result<bool>) -> Option<i32> {
        // SAFETY: the child makes system calls and allocates; no other thread of this test program allocates at its start,
        // for each test has a process of its own.
        match unsafe { libc::fork() } {
            0 => {
                let code = if matches!(body(), Ok(true)) { 0 } else { 1 };
                // SAFETY: as in `pass`.
                unsafe { libc::_exit(code) }
            }
            pid => ProcessHandle::open(pid.cast_unsigned()).unwrap().reap().unwrap().code(),
        }
    }

    fn name_of(pid: u32) -> io::Result<String> {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
    }

    #[test]
    fn a_program_waits_until_its_gate_is_opened() {
        let code = alone(|| {
            let waiting = AtGate::start(Command::new("sleep").arg("0"))?;
            let (pid, before) = (waiting.pid(), name_of(waiting.pid())?);
            let process = waiting.open()?;
            let after = name_of(pid)?;
            Ok(before != "sleep\n" && after == "sleep\n" && process.reap()?.success())
        });
        assert_eq!(code, Some(0));
    }

    #[test]
    fn a_gate_that_nobody_opens_ends_who_waits() {
        let code = alone(|| {
            let waiting = AtGate::start(&mut Command::new("true"))?;
            let process = ProcessHandle::open(waiting.pid())?;
            drop(waiting);
            Ok(process.reap()?.code() == Some(127))
        });
        assert_eq!(code, Some(0));
    }

    #[test]
    fn who_cannot_be_started_says_why() {
        let code = alone(|| {
            let error = AtGate::start(&mut Command::new("/nowhere/to/be/found"))?.open().unwrap_err();
            Ok(error.kind() == io::ErrorKind::NotFound)
        });
        assert_eq!(code, Some(0));
    }

    #[test]
    fn a_program_with_several_threads_gets_no_gate() {
        let error = AtGate::start(&mut Command::new("true")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    }
}
