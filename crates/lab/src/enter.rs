//! Runs one program inside a node, for a caller outside.
//!
//! ```text
//! caller (any number of threads)
//!   │ executes its own program anew, with its terminal, descriptors, environment
//!   ▼
//! enter (this; one thread)         the caller's PID namespace and process group, otherwise inside the node
//!   │ fork
//!   ▼
//! program                          inside the node altogether
//! ```
//!
//! It stays as the program's parent and does a shell's part in job control. If standard input is a terminal
//! and the caller's process group owns it, the program leads a group of its own that gets the terminal, so
//! that it sees its own group's number and Ctrl-C reaches it alone:
//!
//! * The program stops (Ctrl-Z): the terminal goes back, and the caller's whole group is stopped. All but
//!   this process: somebody has to take the program's status if the node is killed now, or the node's PID
//!   namespace could not end.
//! * Somebody continues that group (`fg`, `bg`): the program gets the terminal again, if its caller has it,
//!   and goes on.
//! * The program ends: the terminal goes back.
//!
//! Otherwise the program stays in the caller's group, where all of that happens by itself.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Stdin};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use minka_kernel::namespace::{self, Namespaces};
use minka_kernel::spawn::{self, Change, SignalQueue};

use crate::channel::Channel;
use crate::error::LabError;
use crate::message::ProgramEvent;
use crate::node::NODE_NAMESPACES;
use crate::share;

/// The argument that makes a program the parent of one in a node. Then come two descriptors: the caller's
/// channel and the node's init; how many control groups the node has, and these; whether to enter the lab's user
/// namespace; the working directory; the program and its arguments.
pub(crate) const ROLE: &str = "enter";
/// What stands for "enter the lab's user namespace".
pub(crate) const WITH_USER_NAMESPACE: &str = "user";
/// What stands for "the lab's user namespace is the caller's".
pub(crate) const WITHOUT_USER_NAMESPACE: &str = "same";

/// Signals with which somebody wants to say something to the program. Those are passed on to a program in a
/// group of its own; one in the caller's group gets them directly.
const PASSED_ON: [i32; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

/// How often to look whether the caller has stopped, and how many times; it does so as soon as it gets a
/// processor.
const STOP_INTERVAL: Duration = Duration::from_millis(2);
const STOP_LOOKS_MAX: u32 = 100;

/// Runs until the program has ended.
pub(crate) fn main(mut arguments: impl Iterator<Item = OsString>) -> Result<(), LabError> {
    spawn::set_program_name(c"minka-enter");
    let mut argument = || arguments.next().unwrap_or_default();
    let adopt =
        |number: &OsStr| spawn::adopt_descriptor(number).map_err(LabError::system("take over a descriptor"));
    let caller_process = Caller::find().map_err(LabError::system("find the calling process"))?;
    let caller = Channel::from(adopt(&argument())?);
    let init = adopt(&argument())?;
    let groups = argument().to_str().and_then(|count| count.parse().ok());
    for _ in 0..groups.unwrap_or(0) {
        let group = argument();
        share::join(Path::new(&group)).map_err(LabError::file("join the control group", &group))?;
    }
    let with_user_namespace = argument() == WITH_USER_NAMESPACE;
    let directory = argument();
    let program = argument();
    let own = if with_user_namespace { Namespaces::USER } else { Namespaces::empty() };
    let started = namespace::enter(init.as_fd(), NODE_NAMESPACES | own)
        .map_err(|error| ("enter the node".to_owned(), error))
        .and_then(|()| {
            std::env::set_current_dir(&directory)
                .map_err(|error| (format!("enter the directory {}", directory.display()), error))
        })
        .and_then(|()| {
            Job::start(&program, arguments, caller_process)
                .map_err(|error| (format!("execute {}", program.display()), error))
        });
    let report = |event| caller.send(&event).map_err(LabError::system("report to the caller"));
    match started {
        Ok(job) => {
            report(ProgramEvent::Started { pid: job.pid, pid_in_node: job.pid_in_node })?;
            let status = job.wait(&caller).map_err(LabError::system("wait for a program"))?;
            // A caller that has gone does not want to know.
            let _ = report(ProgramEvent::Ended(status.into_raw()));
            Ok(())
        }
        Err((step, error)) => {
            report(ProgramEvent::Refused { step, errno: error.raw_os_error().unwrap_or(libc::EIO) })
        }
    }
}

/// The process that wants the program run.
#[derive(Debug)]
struct Caller {
    /// Its `/proc/PID/stat`, opened while `/proc` still was the one in which it can be found.
    stat: File,
}

impl Caller {
    fn find() -> io::Result<Self> {
        Ok(Self { stat: File::open(format!("/proc/{}/stat", std::os::unix::process::parent_id()))? })
    }

    fn is_stopped(&self) -> bool {
        let mut stat = [0; 512];
        // Every read from the start shows the present. Longer than the name in parentheses and the state it
        // need not be.
        let length = self.stat.read_at(&mut stat, 0).unwrap_or(0);
        let end_of_name = stat[..length].iter().rposition(|byte| *byte == b')');
        end_of_name.and_then(|end| stat.get(end + 2)) == Some(&b'T')
    }
}

/// A program that runs in the node.
#[derive(Debug)]
struct Job {
    caller: Caller,
    pid: u32,
    pid_in_node: u32,
    signals: SignalQueue,
    /// With which the program has been given the terminal.
    terminal: Option<Stdin>,
}

impl Job {
    fn start(program: &OsStr, arguments: impl Iterator<Item = OsString>, caller: Caller) -> io::Result<Self> {
        let stdin = io::stdin();
        let terminal =
            (stdin.is_terminal() && spawn::is_own_group_in_foreground(stdin.as_fd())).then_some(stdin);
        // Before there is a child, so that nothing of it is missed.
        let signals =
            SignalQueue::new(&[&PASSED_ON[..], &[libc::SIGCHLD, libc::SIGCONT, libc::SIGTSTP]].concat())?;
        let mut command = Command::new(program);
        command.args(arguments);
        signals.unblock_in(&mut command);
        let mut pid_report = spawn::report_pid(&mut command)?;
        if let Some(terminal) = &terminal {
            spawn::lead_foreground_group(&mut command, terminal.as_fd().try_clone_to_owned()?);
        }
        let spawned = command.spawn();
        // With it goes the last writer of the report but the program's.
        drop(command);
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                // It may have got as far as having the terminal.
                if let Some(terminal) = &terminal {
                    let _ = spawn::set_foreground_group(terminal.as_fd(), spawn::own_group());
                }
                return Err(error);
            }
        };
        let mut pid_in_node = [0; 4];
        pid_report.read_exact(&mut pid_in_node)?;
        let pid_in_node = u32::from_ne_bytes(pid_in_node);
        Ok(Self { caller, pid: child.id(), pid_in_node, signals, terminal })
    }

    /// Waits for the program's end, and has it hung up if the caller goes before.
    fn wait(&self, caller: &Channel) -> io::Result<ExitStatus> {
        let mut caller = Some(caller);
        loop {
            let mut awaited = vec![self.signals.as_fd()];
            awaited.extend(caller.map(AsFd::as_fd));
            let ready = spawn::wait_readable(&awaited, None)?;
            if ready.get(1) == Some(&true) {
                caller = None;
                self.hang_up();
            }
            while let Some(signal) = self.signals.next_arrived() {
                match signal {
                    libc::SIGCHLD | libc::SIGTSTP => {}
                    libc::SIGCONT => self.go_on(),
                    other => self.pass_on(other),
                }
            }
            while let Some(change) = spawn::next_change(self.pid)? {
                match change {
                    Change::Ended(status) => {
                        self.take_terminal();
                        return Ok(status);
                    }
                    Change::Stopped(_) => self.stop()?,
                }
            }
        }
    }

    /// The program has stopped: so does its caller, until somebody continues it.
    fn stop(&self) -> io::Result<()> {
        if self.terminal.is_none() {
            return Ok(());
        }
        self.take_terminal();
        spawn::signal_own_group(libc::SIGTSTP)?;
        for _ in 0..STOP_LOOKS_MAX {
            if self.caller.is_stopped() {
                return Ok(());
            }
            std::thread::sleep(STOP_INTERVAL);
        }
        // The kernel does not stop a group that nobody could continue (an orphaned one), and the caller may
        // not want to be stopped, or has been continued already: then the program goes on as well.
        self.go_on();
        Ok(())
    }

    /// The caller goes on: so does the program, with the terminal if the caller has it.
    fn go_on(&self) {
        if let Some(terminal) = &self.terminal {
            if spawn::is_own_group_in_foreground(terminal.as_fd()) {
                let _ = spawn::set_foreground_group(terminal.as_fd(), self.pid);
            }
            let _ = spawn::signal_group(self.pid, libc::SIGCONT);
        }
    }

    /// Takes the terminal back from the program's group, but from no other: the shell may have given it to
    /// somebody else.
    fn take_terminal(&self) {
        if let Some(terminal) = &self.terminal
            && spawn::foreground_group(terminal.as_fd()).is_ok_and(|group| group == self.pid)
        {
            let _ = spawn::set_foreground_group(terminal.as_fd(), spawn::own_group());
        }
    }

    fn pass_on(&self, signal: i32) {
        if self.terminal.is_some() {
            let _ = spawn::signal_group(self.pid, signal);
        }
    }

    /// As the kernel does to a group that nobody can continue any more.
    fn hang_up(&self) {
        for signal in [libc::SIGHUP, libc::SIGCONT] {
            let _ = match self.terminal {
                Some(_) => spawn::signal_group(self.pid, signal),
                None => spawn::signal_process(self.pid, signal),
            };
        }
    }
}
