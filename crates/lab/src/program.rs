//! Programs that run in a node.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use minka_kernel::spawn::{keep_descriptor, wait_readable};

use crate::channel::Channel;
use crate::description::{NodeDescription, ProcessIdentity};
use crate::error::LabError;
use crate::message::ProgramEvent;
use crate::{INTERNAL_COMMAND, enter};

/// A program to be run in a node.
///
/// Unless told otherwise it has the caller's working directory, environment, terminal and standard
/// descriptors, and all other descriptors that are open across exec.
#[derive(Debug)]
pub struct Program {
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    standard: [Stdio; 3],
}

impl Program {
    /// The program `name`, looked for in `PATH` if it has no slash.
    pub fn new(name: impl Into<OsString>) -> Self {
        Self {
            arguments: vec![name.into()],
            environment: Vec::new(),
            directory: None,
            standard: [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()],
        }
    }

    /// More arguments.
    pub fn arguments<I: IntoIterator<Item: Into<OsString>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Its working directory, which is looked up in the node.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Its standard input.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.standard[0] = stdin.into();
        self
    }

    /// Its standard output.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.standard[1] = stdout.into();
        self
    }

    /// Its standard error output.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.standard[2] = stderr.into();
        self
    }

    /// Starts it in a node; `helper` is a program that calls [`crate::internal_main`].
    pub(crate) fn start(self, helper: &Path, node: &NodeDescription) -> Result<Running, LabError> {
        let dead = LabError::NodeDead(node.number);
        let Some(init) = node.init.and_then(ProcessIdentity::open).filter(|init| !init.has_ended()) else {
            return Err(dead);
        };
        let failed = |operation| LabError::system(operation);
        let (channel, theirs) = Channel::pair().map_err(failed("talk to a new program"))?;
        let directory = match self.directory {
            Some(directory) => directory,
            None => std::env::current_dir().map_err(failed("find the working directory"))?,
        };
        let entered = init.as_fd().try_clone_to_owned().map_err(failed("duplicate a descriptor"))?;
        let mut command = Command::new(helper);
        command.arg0("minka").args([INTERNAL_COMMAND, enter::ROLE]);
        for descriptor in [theirs.into(), entered] {
            let number = keep_descriptor(&mut command, descriptor);
            command.arg(number.to_string());
        }
        let [stdin, stdout, stderr] = self.standard;
        command
            .arg(node.control_groups.len().to_string())
            .args(&node.control_groups)
            .arg(if shares_user_namespace(init.pid()) {
                enter::WITHOUT_USER_NAMESPACE
            } else {
                enter::WITH_USER_NAMESPACE
            })
            .arg(directory)
            .args(self.arguments)
            .env("MINKA_DIR", node.run_directory())
            .envs(self.environment)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let parent = command.spawn().map_err(LabError::file("execute", helper))?;
        // With it go the other ends of the channel and the pipes.
        drop(command);
        let mut running = Running { node: node.number, parent, channel, pid: 0, pid_in_node: 0 };
        match running.next_event("start a program")? {
            ProgramEvent::Started { pid, pid_in_node } => Ok(Running { pid, pid_in_node, ..running }),
            ProgramEvent::Refused { step, errno } => {
                // It says this last.
                let _ = running.parent.wait();
                let source = io::Error::from_raw_os_error(errno);
                Err(LabError::Program { node: node.number, step, source })
            }
            ProgramEvent::Ended(_) => Err(LabError::Silence { operation: "start a program" }),
        }
    }
}

/// A program that runs in a node. When this is dropped without waiting for it, the program is hung up
/// (SIGHUP).
#[derive(Debug)]
pub struct Running {
    node: u32,
    parent: Child,
    channel: Channel,
    pid: u32,
    pid_in_node: u32,
}

impl Running {
    /// The number of the node in which it was started.
    pub fn node(&self) -> u32 {
        self.node
    }

    /// Its PID as the caller sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its PID as it and all others in its node see it.
    pub fn pid_in_node(&self) -> u32 {
        self.pid_in_node
    }

    /// The writing end of its standard input, if that was [`Stdio::piped`]; can be taken once.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.parent.stdin.take()
    }

    /// The reading end of its standard output, if that was [`Stdio::piped`]; can be taken once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.parent.stdout.take()
    }

    /// The reading end of its standard error output, if that was [`Stdio::piped`]; can be taken once.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.parent.stderr.take()
    }

    /// Waits until it has ended, and returns its status.
    pub fn wait(mut self) -> Result<ExitStatus, LabError> {
        self.parent.stdin = None;
        self.finish()
    }

    /// Waits until it has ended, but not longer than this; `None` if it still runs then.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, LabError> {
        let ready = wait_readable(&[self.channel.as_fd()], Some(timeout));
        if ready.map_err(LabError::system("wait for a program"))?[0] {
            self.finish().map(Some)
        } else {
            Ok(None)
        }
    }

    fn finish(&mut self) -> Result<ExitStatus, LabError> {
        let operation = "wait for a program";
        match self.next_event(operation)? {
            ProgramEvent::Ended(status) => {
                // It says this last.
                let _ = self.parent.wait();
                Ok(ExitStatus::from_raw(status))
            }
            ProgramEvent::Started { .. } | ProgramEvent::Refused { .. } => {
                Err(LabError::Silence { operation })
            }
        }
    }

    fn next_event(&mut self, operation: &'static str) -> Result<ProgramEvent, LabError> {
        match self.channel.receive().map_err(LabError::system(operation))? {
            Some(event) => Ok(event),
            None => {
                let _ = self.parent.wait();
                Err(LabError::Silence { operation })
            }
        }
    }
}

/// Can be read when the program has ended.
impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// The status as a shell gives it: the exit code, or 128 and the number of the signal that ended the program.
pub fn shell_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

fn shares_user_namespace(pid: u32) -> bool {
    let namespace =
        |process: &dyn std::fmt::Display| std::fs::read_link(format!("/proc/{process}/ns/user")).ok();
    namespace(&"self") == namespace(&pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_adds_128_to_signals() {
        assert_eq!(shell_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(shell_code(ExitStatus::from_raw(libc::SIGKILL)), 137);
        assert_eq!(shell_code(ExitStatus::from_raw(libc::SIGSEGV | 0x80)), 139);
    }
}
