//! ptrace as a typestate: a seized task is either [`Running`] or [`Stopped`], and only a stopped one has
//! registers.
//!
//! ```text
//!            seize                 wait / try_wait
//!   (free) ────────► Running ──────────────────────► Stopped + Stop
//!                       ▲  │ interrupt                   │
//!                       └──┴────── resume / step ◄───────┤
//!                                                        └──► detach ──► (free)
//! ```
//!
//! All of it has to be done by the thread that seized the task.

mod news;

use crate::check;
use minka_image::process::Rseq;
use minka_image::registers::Registers;
use std::io;

/// What to be told of, and what to do when the tracer ends (`PTRACE_O_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options(u32);

impl Options {
    /// Nothing special.
    pub const NONE: Self = Self(0);
    /// Tell stops at system calls from signals.
    pub const SYSTEM_CALLS_APART: Self = Self(libc::PTRACE_O_TRACESYSGOOD as u32);
    /// Stop at a successful `execve`.
    pub const TRACE_EXEC: Self = Self(libc::PTRACE_O_TRACEEXEC as u32);
    /// Stop at the making of a thread, and trace that too: it begins in a stop.
    pub const TRACE_CLONE: Self = Self(libc::PTRACE_O_TRACECLONE as u32);
    /// Stop at the beginning of its end, when it has everything still (also when it is killed).
    pub const TRACE_EXIT: Self = Self(libc::PTRACE_O_TRACEEXIT as u32);
    /// Kill the task when the tracer ends.
    pub const EXIT_KILL: Self = Self(libc::PTRACE_O_EXITKILL as u32);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Why a task is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is about to take a signal.
    Signal(i32),
    /// Job control: the whole process is stopped by this signal.
    Group(i32),
    /// The stop asked for with [`Running::interrupt`], or the end of a job-control stop.
    Interrupt,
    /// `execve` succeeded.
    Exec,
    /// It has made a thread ([`Stopped::made_thread`]).
    Clone,
    /// It is about to end.
    Exit,
    /// At the entry to a system call or at its exit, in turns.
    Syscall,
    /// Another ptrace event (`PTRACE_EVENT_*`).
    Event(i32),
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// A seized task that runs (or may have stopped without our having looked).
#[derive(Debug)]
pub struct Running {
    tid: i32,
}

/// A seized task in a stop.
#[derive(Debug)]
pub struct Stopped {
    tid: i32,
}

/// What waiting for a task gave.
#[derive(Debug)]
pub enum Waited {
    /// Nothing new.
    Still(Running),
    /// A stop.
    Stopped(Stopped, Stop),
    /// The task is gone.
    Gone(End),
}

fn request(request: u32, tid: i32, address: usize, data: usize) -> io::Result<i64> {
    // SAFETY: each caller passes for its request either plain numbers or pointers to live memory of the size
    // that the request reads or writes; ptrace never keeps a pointer.
    check(unsafe { libc::ptrace(request, tid, address, data) })
}

impl Running {
    /// Attaches to a task without stopping it.
    pub fn seize(tid: i32, options: Options) -> io::Result<Self> {
        request(libc::PTRACE_SEIZE, tid, 0, options.0 as usize)?;
        news::forget(tid);
        Ok(Self { tid })
    }

    /// The task's id.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Asks the task to stop; the stop is then to be waited for.
    pub fn interrupt(&self) -> io::Result<()> {
        request(libc::PTRACE_INTERRUPT, self.tid, 0, 0).map(drop)
    }

    /// Waits until the task stops or ends.
    pub fn wait(self) -> io::Result<Waited> {
        let status = news::wait(self.tid)?;
        Ok(self.told(status))
    }

    /// As [`Running::wait`], without waiting.
    pub fn try_wait(self) -> io::Result<Waited> {
        match news::look(self.tid)? {
            Some(status) => Ok(self.told(status)),
            None => Ok(Waited::Still(self)),
        }
    }

    /// What a status of `waitpid` says of the task.
    fn told(self, status: i32) -> Waited {
        if let Some(end) = end_of(status) {
            return Waited::Gone(end);
        }
        let signal = libc::WSTOPSIG(status);
        let stop = match status >> 16 {
            0 if signal == SYSCALL_STOP => Stop::Syscall,
            0 => Stop::Signal(signal),
            libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Stop::Interrupt,
            libc::PTRACE_EVENT_STOP => Stop::Group(signal),
            libc::PTRACE_EVENT_EXEC => Stop::Exec,
            libc::PTRACE_EVENT_CLONE => Stop::Clone,
            libc::PTRACE_EVENT_EXIT => Stop::Exit,
            event => Stop::Event(event),
        };
        Waited::Stopped(Stopped { tid: self.tid }, stop)
    }
}

/// How a task has ended, if that is what a status says.
fn end_of(status: i32) -> Option<End> {
    if libc::WIFEXITED(status) {
        Some(End::Exited(libc::WEXITSTATUS(status)))
    } else {
        libc::WIFSIGNALED(status).then(|| End::Killed(libc::WTERMSIG(status)))
    }
}

/// What a stop at the beginning of a task's end is reported as.
const EXIT_STOP: i32 = libc::PTRACE_EVENT_EXIT << 16 | libc::SIGTRAP << 8 | 0x7f;

/// Whether a task has been found to be in the stop at the beginning of its end, or to have ended. That is left for
/// [`Running::wait`]; one that cannot be asked after is no more.
pub fn is_ending(tid: i32) -> bool {
    news::any(tid, |status| status == EXIT_STOP || end_of(status).is_some()).unwrap_or(true)
}

/// For the tracer of a task that works for it and that nobody waits for at the moment: if it has stopped, lets it go
/// on without the signal that stopped it, which is returned. Fails with `ESRCH` when the task has ended, or is about to;
/// that is left for [`Running::wait`].
pub fn keep_going(tid: i32) -> io::Result<Option<i32>> {
    if is_ending(tid) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    go_on(tid)
}

/// The same, also of a task that is about to end: it does.
pub fn go_on(tid: i32) -> io::Result<Option<i32>> {
    match news::peek(tid)? {
        None => return Ok(None),
        Some(status) if end_of(status).is_some() => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
        Some(_) => {}
    }
    match (Running { tid }).try_wait()? {
        Waited::Stopped(task, stop) => {
            task.resume(0)?;
            Ok(if let Stop::Signal(signal) = stop { Some(signal) } else { None })
        }
        Waited::Still(_) => Ok(None),
        Waited::Gone(_) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// For the tracer of a task that has been killed: takes notice of its end, which the kernel says nothing of to the
/// process's parent before. False as long as it has not ended.
pub fn take_notice_of_end(tid: i32) -> bool {
    !matches!((Running { tid }).try_wait(), Ok(Waited::Still(_) | Waited::Stopped(..)))
}

/// What a stop at a system call is reported as, with [`Options::SYSTEM_CALLS_APART`].
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

/// Largest extended state that is read, in bytes (AMX tile data makes some 11 KiB).
const EXTENDED_MAX: usize = 16 * 1024;

const NT_X86_XSTATE: usize = 0x202;
/// Bytes of extended state where there is no XSAVE.
const FXSAVE_BYTES: usize = 512;
const PTRACE_GETSIGMASK: u32 = 0x420a;
const PTRACE_SETSIGMASK: u32 = 0x420b;
const PTRACE_GET_RSEQ_CONFIGURATION: u32 = 0x420f;

/// Bytes of the kernel's `siginfo_t`.
pub const SIGINFO_SIZE: usize = 128;

/// `siginfo_t::si_code` of a stop by a debug register.
const TRAP_HWBKPT: i32 = 4;

/// The debug register that says what the others are for, and its value for the first one's being an instruction.
const DEBUG_CONTROL: usize = 7;
const BREAK_AT_FIRST: u64 = 1;

impl Stopped {
    /// The task's id.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// The thread that it has just made, in a [`Stop::Clone`]. That one is traced too, with the same options, and
    /// about to stop before its first instruction.
    pub fn made_thread(&self) -> io::Result<Running> {
        let mut tid = 0u64;
        request(libc::PTRACE_GETEVENTMSG, self.tid, 0, (&raw mut tid) as usize)?;
        Ok(Running { tid: tid as i32 })
    }

    /// Lets the task go on, with a signal (0: none). One that has been killed in its stop goes on by itself, towards the stop
    /// at the beginning of its end: that is news, and not passed over.
    pub fn resume(self, signal: i32) -> io::Result<Running> {
        self.go_on(libc::PTRACE_CONT, signal)
    }

    fn go_on(self, how: u32, signal: i32) -> io::Result<Running> {
        if !news::any(self.tid, |_| true)? {
            match request(how, self.tid, 0, signal as usize) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                _ => {}
            }
        }
        Ok(Running { tid: self.tid })
    }

    /// Leaves a task in the stop at the beginning of its end, as if nobody had seen it there yet.
    pub fn leave_ending(self) {
        news::tell_again(self.tid, EXIT_STOP);
    }

    /// Lets the task go on in the kernel, but not in its program: it stops again before its next instruction, as
    /// after [`Running::interrupt`].
    pub fn resume_to_stop(self) -> io::Result<Running> {
        request(libc::PTRACE_INTERRUPT, self.tid, 0, 0)?;
        self.resume(0)
    }

    /// Lets the task go on until it enters or leaves a system call.
    pub fn resume_to_syscall(self) -> io::Result<Running> {
        self.go_on(libc::PTRACE_SYSCALL, 0)
    }

    /// Writes a word of its memory, whatever the protection; a read-only private page becomes the task's own.
    pub fn poke(&self, address: u64, word: u64) -> io::Result<()> {
        request(libc::PTRACE_POKEDATA, self.tid, address as usize, word as usize).map(drop)
    }

    /// Has the task stop with SIGTRAP before it executes the instruction at this address, by the processor's own debug
    /// registers: its memory stays as it is. If the tracer ends before that, nobody stops the signal from killing it.
    pub fn break_at(&self, address: u64) -> io::Result<()> {
        self.set_debug_register(0, address)?;
        self.set_debug_register(DEBUG_CONTROL, BREAK_AT_FIRST)
    }

    /// Takes back [`Stopped::break_at`].
    pub fn clear_break(&self) -> io::Result<()> {
        self.set_debug_register(DEBUG_CONTROL, 0)?;
        self.set_debug_register(0, 0)
    }

    /// Whether the signal that it is stopped for is of [`Stopped::break_at`].
    pub fn is_at_break(&self) -> io::Result<bool> {
        // struct siginfo_t { si_signo: i32, si_errno: i32, si_code: i32, … }
        let info = self.signal_info()?;
        let word = |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        Ok((word(0), word(8)) == (libc::SIGTRAP, TRAP_HWBKPT))
    }

    fn set_debug_register(&self, number: usize, value: u64) -> io::Result<()> {
        let offset = std::mem::offset_of!(libc::user, u_debugreg) + number * 8;
        request(libc::PTRACE_POKEUSER, self.tid, offset, value as usize).map(drop)
    }

    /// Lets the task execute one instruction.
    pub fn step(self) -> io::Result<Running> {
        request(libc::PTRACE_SINGLESTEP, self.tid, 0, 0)?;
        Ok(Running { tid: self.tid })
    }

    /// Leaves a task in its job-control stop, but hears of its end.
    pub fn listen(self) -> io::Result<Running> {
        request(libc::PTRACE_LISTEN, self.tid, 0, 0)?;
        Ok(Running { tid: self.tid })
    }

    /// Lets the task go for good, with a signal (0: none).
    pub fn detach(self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_DETACH, self.tid, 0, signal as usize).map(drop)
    }

    /// Changes the options given at [`Running::seize`].
    pub fn set_options(&self, options: Options) -> io::Result<()> {
        request(libc::PTRACE_SETOPTIONS, self.tid, 0, options.0 as usize).map(drop)
    }

    /// General registers.
    pub fn registers(&self) -> io::Result<Registers> {
        let mut registers = Registers::default();
        let mut vector =
            libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: std::mem::size_of::<Registers>() };
        request(libc::PTRACE_GETREGSET, self.tid, libc::NT_PRSTATUS as usize, (&raw mut vector) as usize)?;
        Ok(registers)
    }

    /// Writes the general registers.
    pub fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        let mut copy = *registers;
        let mut vector =
            libc::iovec { iov_base: (&raw mut copy).cast(), iov_len: std::mem::size_of::<Registers>() };
        request(libc::PTRACE_SETREGSET, self.tid, libc::NT_PRSTATUS as usize, (&raw mut vector) as usize)
            .map(drop)
    }

    /// Extended state (XSAVE area, non-compacted format; without XSAVE what it begins with).
    pub fn extended(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0u8; EXTENDED_MAX];
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        match request(libc::PTRACE_GETREGSET, self.tid, NT_X86_XSTATE, (&raw mut vector) as usize) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                let set = libc::NT_PRFPREG as usize;
                request(libc::PTRACE_GETREGSET, self.tid, set, (&raw mut vector) as usize)?;
            }
            other => drop(other?),
        }
        bytes.truncate(vector.iov_len);
        Ok(bytes)
    }

    /// Writes the extended state; its length must be this machine's.
    pub fn set_extended(&self, bytes: &[u8]) -> io::Result<()> {
        let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let set = if bytes.len() == FXSAVE_BYTES { libc::NT_PRFPREG as usize } else { NT_X86_XSTATE };
        request(libc::PTRACE_SETREGSET, self.tid, set, (&raw mut vector) as usize).map(drop)
    }

    /// Blocked signals, bit `n - 1` for signal `n`.
    pub fn mask(&self) -> io::Result<u64> {
        let mut mask = 0u64;
        request(PTRACE_GETSIGMASK, self.tid, 8, (&raw mut mask) as usize)?;
        Ok(mask)
    }

    /// Replaces the set of blocked signals.
    pub fn set_mask(&self, mask: u64) -> io::Result<()> {
        request(PTRACE_SETSIGMASK, self.tid, 8, (&raw const mask) as usize).map(drop)
    }

    /// The thread's rseq registration; an address of 0 means none.
    pub fn rseq(&self) -> io::Result<Option<Rseq>> {
        // struct ptrace_rseq_configuration { u64 pointer; u32 size; u32 signature; u32 flags; u32 pad; }
        let mut words = [0u64; 3];
        request(PTRACE_GET_RSEQ_CONFIGURATION, self.tid, 24, words.as_mut_ptr() as usize)?;
        let [address, size_and_signature, _] = words;
        Ok((address != 0).then_some(Rseq {
            address,
            length: size_and_signature as u32,
            signature: (size_and_signature >> 32) as u32,
        }))
    }

    /// The `siginfo_t` of the signal it is stopped for.
    pub fn signal_info(&self) -> io::Result<[u8; SIGINFO_SIZE]> {
        let mut info = [0u8; SIGINFO_SIZE];
        request(libc::PTRACE_GETSIGINFO, self.tid, 0, info.as_mut_ptr() as usize)?;
        Ok(info)
    }

    /// Replaces the `siginfo_t` of the signal it is stopped for.
    pub fn set_signal_info(&self, info: &[u8; SIGINFO_SIZE]) -> io::Result<()> {
        request(libc::PTRACE_SETSIGINFO, self.tid, 0, info.as_ptr() as usize).map(drop)
    }
}
