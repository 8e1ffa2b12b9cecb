//! The original process under our tracing, as the deputy's main thread handles it.

use crate::fault::{Fault, Result};
use minka_image::registers::NO_SYSCALL;
use minka_kernel::procfs::Status;
use minka_kernel::ptrace::{Options, Running, Stop, Stopped, Waited};
use std::time::{Duration, Instant};

/// Every signal but SIGTRAP, with which single steps end: blocked, the kernel would reset its handler.
pub(crate) const BLOCK_ALL: u64 = !(1 << (libc_signal::TRAP - 1));

/// Signal numbers of x86-64 that are treated by name.
pub(crate) mod libc_signal {
    pub(crate) const QUIT: i32 = 3;
    pub(crate) const ILL: i32 = 4;
    pub(crate) const TRAP: i32 = 5;
    pub(crate) const ABRT: i32 = 6;
    pub(crate) const BUS: i32 = 7;
    pub(crate) const FPE: i32 = 8;
    pub(crate) const KILL: i32 = 9;
    pub(crate) const SEGV: i32 = 11;
    pub(crate) const CHLD: i32 = 17;
    pub(crate) const CONT: i32 = 18;
    pub(crate) const STOP: i32 = 19;
    pub(crate) const TSTP: i32 = 20;
    pub(crate) const TTIN: i32 = 21;
    pub(crate) const TTOU: i32 = 22;
    pub(crate) const URG: i32 = 23;
    pub(crate) const XCPU: i32 = 24;
    pub(crate) const XFSZ: i32 = 25;
    pub(crate) const WINCH: i32 = 28;
    pub(crate) const SYS: i32 = 31;
}

/// How long a process may take to stop. It cannot while it waits in the kernel uninterruptibly (a `vfork` whose
/// child has not called `execve` yet, a disk that does not answer).
const STOP_LIMIT: Duration = Duration::from_millis(1500);

/// Attaches without stopping.
pub(crate) fn seize(pid: i32) -> Result<Running> {
    Running::seize(pid, Options::TRACE_EXEC.and(Options::SYSTEM_CALLS_APART)).map_err(Fault::Trace)
}

/// A task that has been stopped, and the signal mask that it has. A signal that arrived meanwhile is pending again.
#[derive(Debug)]
pub(crate) struct Halted {
    pub(crate) task: Stopped,
    pub(crate) mask: u64,
}

/// Stops a process that runs its program. A signal that arrives first is delivered: then the program stands at the
/// start of its handler, and queued signals keep their order. The same holds for a fault of the program's own making,
/// which the kernel would deliver at the next step, blocked or not.
pub(crate) fn halt_program(task: Running) -> Result<Stopped> {
    task.interrupt().map_err(Fault::Trace)?;
    program_halted(task)
}

/// Waits for such a process to stop that has been told to.
pub(crate) fn program_halted(task: Running) -> Result<Stopped> {
    let deliver = |task: Stopped, signal| task.resume(signal).map_err(Fault::Trace);
    let mut task = wait_for_stop(task, deliver)?.map_err(|_| Fault::CannotStop)?;
    while Status::read(task.tid()).is_ok_and(|status| status.has_raised_a_fault()) {
        // Nothing comes before the signal now, and its stop is answered by another interrupt.
        let running = task.resume(0).map_err(Fault::Trace)?;
        task = wait_for_stop(running, deliver)?.map_err(|_| Fault::CannotStop)?;
    }
    Ok(task)
}

/// Stops the task; signals that arrive first stay pending. SIGSTOP cannot be made pending again; it goes to `held`.
pub(crate) fn halt(task: Running, held: &mut Vec<i32>) -> Result<Halted> {
    let mut mask = None;
    let postponed = |task: Stopped, signal| {
        if mask.is_none() {
            mask = Some(task.mask().map_err(Fault::Trace)?);
        }
        postpone(task, signal, held)
    };
    let task = try_halt(task, postponed)?.map_err(|_| Fault::CannotStop)?;
    let mask = match mask {
        Some(mask) => task.set_mask(mask).map(|()| mask),
        None => task.mask(),
    };
    Ok(Halted { mask: mask.map_err(Fault::Trace)?, task })
}

/// Stops the task, and has `arrived` go on with it when a signal arrives first. Gives back a task that does not stop
/// in time.
pub(crate) fn try_halt(
    task: Running,
    arrived: impl FnMut(Stopped, i32) -> Result<Running>,
) -> Result<std::result::Result<Stopped, Running>> {
    task.interrupt().map_err(Fault::Trace)?;
    wait_for_stop(task, arrived)
}

fn wait_for_stop(
    task: Running,
    mut arrived: impl FnMut(Stopped, i32) -> Result<Running>,
) -> Result<std::result::Result<Stopped, Running>> {
    let until = Instant::now() + STOP_LIMIT;
    let mut task = task;
    let mut rounds = 0u32;
    loop {
        task = match task.try_wait().map_err(Fault::Trace)? {
            Waited::Still(task) => {
                if Instant::now() > until {
                    return Ok(Err(task));
                }
                rounds += 1;
                if rounds > 200 {
                    std::thread::sleep(Duration::from_micros(50));
                } else {
                    std::thread::yield_now();
                }
                task
            }
            Waited::Stopped(task, Stop::Interrupt) => return Ok(Ok(task)),
            Waited::Stopped(task, Stop::Signal(signal)) => {
                let task = arrived(task, signal)?;
                // Every stop answers an interrupt that was asked for, so it is asked for again.
                task.interrupt().map_err(Fault::Trace)?;
                task
            }
            Waited::Stopped(task, Stop::Group(signal)) => {
                task.detach(0).map_err(Fault::Trace)?;
                return Err(Fault::Said(format!("the process is stopped (signal {signal})")));
            }
            Waited::Stopped(task, _) => task.resume(0).map_err(Fault::Trace)?,
            Waited::Gone(end) => return Err(Fault::Gone(end)),
        }
    }
}

/// Takes a task that is about to get a signal on without it: the signal is pending again, with all its information.
pub(crate) fn postpone(task: Stopped, signal: i32, held: &mut Vec<i32>) -> Result<Running> {
    task.set_mask(BLOCK_ALL).map_err(Fault::Trace)?;
    if signal == libc_signal::STOP {
        held.push(signal);
        return task.resume(0).map_err(Fault::Trace);
    }
    task.resume(signal).map_err(Fault::Trace)
}

/// If the task was interrupted in a forwarded call of the agent (its instruction pointer is `after_call`), makes
/// the call return its restart code to the agent instead of starting again.
pub(crate) fn end_forwarded_call(task: &Stopped, after_call: u64) -> Result<bool> {
    let registers = task.registers().map_err(Fault::Trace)?;
    let interrupted = registers.rip == after_call
        && registers.syscall().is_some()
        && matches!(registers.rax as i64, -516..=-512);
    if interrupted {
        let returned = minka_image::registers::Registers { orig_rax: NO_SYSCALL, ..registers };
        task.set_registers(&returned).map_err(Fault::Trace)?;
    }
    Ok(interrupted)
}

/// What Linux does with a signal that the program neither catches nor ignores (`signal(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Default {
    Ignore,
    Terminate,
    Core,
    Stop,
}

/// The default action of a signal.
pub(crate) fn default_action(signal: i32) -> Default {
    use libc_signal::*;
    match signal {
        CHLD | CONT | URG | WINCH => Default::Ignore,
        QUIT | ILL | TRAP | ABRT | BUS | FPE | SEGV | XCPU | XFSZ | SYS => Default::Core,
        STOP | TSTP | TTIN | TTOU => Default::Stop,
        KILL => Default::Terminate,
        _ => Default::Terminate,
    }
}
