//! Starting programs in new namespaces, and what a program that looks after others needs: handles that cannot
//! mean another process, signals as events, terminals.
//!
//! The process that starts one may have many threads, any of which may hold a lock at that moment. So nothing
//! of Rust's runtime may be used between clone and exec: [`Launch`] prepares everything before, and its child
//! makes plain system calls only. What is more than that belongs into the program that is started, which may
//! well be `/proc/self/exe`.
//!
//! ```text
//! parent                                   child
//! clone3(namespaces, PIDFD) ─────────────► waits at the gate (only with a user namespace)
//! writes its user and group maps
//! opens the gate ────────────────────────► session, descriptors, signal mask
//! reads the error pipe                     execve: closes the error pipe, or writes why not
//! ```

mod command;
mod events;
mod fork;
mod process;
mod terminal;

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

pub use self::command::{
    Account, adopt_descriptor, belong_to, keep_descriptor, lead_foreground_group, report_pid,
};
pub(crate) use self::events::block_signals;
pub use self::events::{SignalQueue, wait_readable};
pub use self::fork::{Forked, fork_alone, leave_children_to_kernel, put_at};
pub use self::process::{
    Change, ProcessHandle, next_change, reap_any, set_program_name, signal_group, signal_own_group,
    signal_process,
};
pub use self::terminal::{
    foreground_group, is_own_group_in_foreground, lead_session, own_group, set_foreground_group,
};

use crate::namespace::{self, Namespaces};

/// All signal handlers of the parent are forgotten in the child (`linux/sched.h`; libc's constant has too few
/// bits).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Text with a zero byte inside.
    #[error("pass {0:?} to a program: it contains a zero byte")]
    ZeroByte(OsString),
    /// Pipes or descriptors could not be prepared.
    #[error("prepare descriptors for {program:?}")]
    Prepare {
        /// The program that was to be started.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },
    /// The process could not be made.
    #[error("make a process for {program:?} in new namespaces ({namespaces:?})")]
    Clone {
        /// The program that was to be started.
        program: OsString,
        /// The namespaces that were asked for.
        namespaces: Namespaces,
        /// What the system said.
        source: io::Error,
    },
    /// The new user namespace could not be given its user and group.
    #[error("map the own user and group into a new user namespace")]
    Map {
        /// What the system said.
        source: io::Error,
    },
    /// The program could not be executed.
    #[error("execute {program:?}")]
    Execute {
        /// The program that was to be started.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },
}

impl SpawnError {
    /// Whether the system refused to make the namespaces for want of privilege.
    pub fn is_permission_denied(&self) -> bool {
        matches!(self, Self::Clone { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// A program to be started, perhaps in new namespaces.
///
/// Its environment is the caller's. All descriptors but the standard ones and those given to [`Launch::keep`]
/// are closed in it, also those that the caller itself inherited without knowing.
#[derive(Debug)]
pub struct Launch {
    program: OsString,
    arguments: Vec<OsString>,
    namespaces: Namespaces,
    standard: [Option<OwnedFd>; 3],
    kept: Vec<OwnedFd>,
    new_session: bool,
}

impl Launch {
    /// The program at the path `program`, with `arguments` from `argv[0]` on.
    pub fn new<I: IntoIterator<Item: Into<OsString>>>(program: impl Into<OsString>, arguments: I) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            namespaces: Namespaces::empty(),
            standard: [None, None, None],
            kept: Vec::new(),
            new_session: false,
        }
    }

    /// Start it in new namespaces of these kinds. In a new user namespace it is root, and root there is the
    /// caller.
    pub fn namespaces(mut self, namespaces: Namespaces) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// Its standard input, output and error output.
    pub fn standard(mut self, input: OwnedFd, output: OwnedFd, error: OwnedFd) -> Self {
        self.standard = [Some(input), Some(output), Some(error)];
        self
    }

    /// One more argument that names a descriptor, which stays open in it under the same number.
    pub fn keep(mut self, descriptor: OwnedFd) -> Self {
        self.arguments.push(descriptor.as_raw_fd().to_string().into());
        self.kept.push(descriptor);
        self
    }

    /// Start it in a session of its own, without a terminal.
    pub fn new_session(mut self) -> Self {
        self.new_session = true;
        self
    }

    /// Starts it. Returns when it executes, or with the reason why it does not.
    pub fn start(&self) -> Result<ProcessHandle, SpawnError> {
        let image = Image::new(&self.program, &self.arguments)?;
        let prepare = |source| SpawnError::Prepare { program: self.program.clone(), source };
        let mut standard = [-1; 3];
        let mut above = Vec::with_capacity(3);
        for (number, descriptor) in standard.iter_mut().zip(&self.standard) {
            if let Some(descriptor) = descriptor {
                let duplicate = duplicate_above_standard(descriptor).map_err(prepare)?;
                *number = duplicate.as_raw_fd();
                above.push(duplicate);
            }
        }
        let kept: Vec<RawFd> = self.kept.iter().map(AsRawFd::as_raw_fd).collect();
        let (gate, opener) = io::pipe().map_err(prepare)?;
        let (mut report, reporter) = io::pipe().map_err(prepare)?;
        let plan = Plan {
            image: &image,
            standard,
            kept: &kept,
            gate: self.namespaces.contains(Namespaces::USER).then(|| gate.as_raw_fd()),
            // Else the child would wait for its own copy of the opening end.
            opener: opener.as_raw_fd(),
            report: reporter.as_raw_fd(),
            new_session: self.new_session,
        };
        let process = clone_into(&plan, self.namespaces).map_err(|source| SpawnError::Clone {
            program: self.program.clone(),
            namespaces: self.namespaces,
            source,
        })?;
        drop((gate, reporter));
        let started = self.open_gate(&process, opener).and_then(|()| {
            let mut errno = [0; 4];
            match report.read(&mut errno).map_err(prepare)? {
                4 => Err(SpawnError::Execute {
                    program: self.program.clone(),
                    source: io::Error::from_raw_os_error(i32::from_ne_bytes(errno)),
                }),
                _ => Ok(()),
            }
        });
        if let Err(error) = started {
            // It is our child and not yet waited for, so both can only fail if it is gone already.
            let _ = process.signal(libc::SIGKILL);
            let _ = process.reap();
            return Err(error);
        }
        Ok(process)
    }

    fn open_gate(&self, process: &ProcessHandle, mut opener: io::PipeWriter) -> Result<(), SpawnError> {
        if !self.namespaces.contains(Namespaces::USER) {
            return Ok(());
        }
        let user = namespace::effective_user();
        // SAFETY: `getegid` only returns a number.
        let group = unsafe { libc::getegid() };
        let write = |name: &str, text: String| {
            File::options()
                .write(true)
                .open(format!("/proc/{}/{name}", process.pid()))
                .and_then(|mut file| file.write_all(text.as_bytes()))
        };
        write("setgroups", "deny".to_owned())
            .and_then(|()| write("uid_map", format!("0 {user} 1")))
            .and_then(|()| write("gid_map", format!("0 {group} 1")))
            .and_then(|()| opener.write_all(&[1]))
            .map_err(|source| SpawnError::Map { source })
    }
}

/// What `execve` is given. The pointers lead into the texts, which do not move when the image does.
struct Image {
    path: CString,
    _texts: Vec<CString>,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
}

impl Image {
    fn new(program: &OsStr, arguments: &[OsString]) -> Result<Self, SpawnError> {
        let text = |bytes: Vec<u8>| {
            CString::new(bytes).map_err(|error| SpawnError::ZeroByte(OsString::from_vec(error.into_vec())))
        };
        let path = text(program.as_bytes().to_vec())?;
        let mut texts = Vec::new();
        for argument in arguments {
            texts.push(text(argument.as_bytes().to_vec())?);
        }
        for (name, value) in std::env::vars_os() {
            texts.push(text([name.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
        let pointers = |texts: &[CString]| {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        let (of_arguments, of_environment) = texts.split_at(arguments.len());
        let (arguments, environment) = (pointers(of_arguments), pointers(of_environment));
        Ok(Self { path, _texts: texts, arguments, environment })
    }
}

/// All that the child needs, made before it exists. Plain numbers and pointers: nothing to drop, nothing to
/// allocate.
struct Plan<'a> {
    image: &'a Image,
    standard: [RawFd; 3],
    kept: &'a [RawFd],
    gate: Option<RawFd>,
    opener: RawFd,
    report: RawFd,
    new_session: bool,
}

/// Makes the child. Signals are blocked meanwhile, so that no handler of this program runs in it.
fn clone_into(plan: &Plan<'_>, namespaces: Namespaces) -> io::Result<ProcessHandle> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero bytes are a valid `clone_args`: no flags, no pointers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(namespaces.bits()) | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    arguments.pidfd = (&raw mut pidfd).addr() as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    let mask = events::block_all_signals()?;
    // SAFETY: without CLONE_VM the child gets a copy of this memory and goes on with it like after fork;
    // `arguments` has the size that is given, and `pidfd` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    if pid == 0 {
        // SAFETY: this is the new process, with one thread, and `plan` is its own copy.
        unsafe { become_program(plan) }
    }
    let failure = io::Error::last_os_error();
    mask.restore();
    if pid < 0 {
        return Err(failure);
    }
    // SAFETY: the kernel has put a new descriptor here, and nothing else knows of it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(ProcessHandle::of_child(pid as u32, descriptor))
}

/// The child's way from clone to exec: async-signal-safe calls only, no allocation, no lock, no unwinding.
///
/// # Safety
///
/// Only for a process that was just made, by the thread that is its only one, with descriptors of `plan` that
/// are open.
unsafe fn become_program(plan: &Plan<'_>) -> ! {
    // SAFETY: all calls below are async-signal-safe, their pointers lead into `plan` or this frame, and
    // descriptor numbers that are not open give an error that ends the child.
    unsafe {
        if let Some(gate) = plan.gate {
            let mut byte = 0u8;
            libc::close(plan.opener);
            if libc::read(gate, (&raw mut byte).cast(), 1) != 1 {
                libc::_exit(127);
            }
        }
        let prepared = 'prepared: {
            if plan.new_session && libc::setsid() < 0 {
                break 'prepared false;
            }
            for (target, source) in (0..).zip(plan.standard) {
                if source >= 0 && libc::dup2(source, target) < 0 {
                    break 'prepared false;
                }
            }
            // Kernels without the flag (before 5.11) merely leave open what was inherited open.
            libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            for &descriptor in plan.kept {
                if libc::fcntl(descriptor, libc::F_SETFD, 0) < 0 {
                    break 'prepared false;
                }
            }
            true
        };
        if prepared {
            // Rust programs ignore SIGPIPE from their start; what they start should not.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            events::unblock_all_signals();
            let image = plan.image;
            libc::execve(image.path.as_ptr(), image.arguments.as_ptr(), image.environment.as_ptr());
        }
        let errno = *libc::__errno_location();
        libc::write(plan.report, (&raw const errno).cast(), size_of_val(&errno));
        libc::_exit(127)
    }
}

/// A duplicate that is closed on exec and cannot be overwritten while the standard descriptors are put in
/// place.
fn duplicate_above_standard(descriptor: &impl AsFd) -> io::Result<OwnedFd> {
    let number = descriptor.as_fd().as_raw_fd();
    // SAFETY: F_DUPFD_CLOEXEC takes a number and makes a new descriptor.
    let duplicate = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if duplicate < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made and nothing else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}
