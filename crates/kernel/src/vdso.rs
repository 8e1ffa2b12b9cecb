//! Getting a thread out of the vDSO before it is moved.
//!
//! A function of the vDSO holds pointers into the kernel's data pages, readings of this machine's clock, and, in a
//! time namespace, comes by another way to them. None of that means anything elsewhere: a thread that is stopped in
//! the middle of one would compute a wrong time, or touch a page that the other side does not have (SIGBUS).
//! So it is stepped to the end of the function first, which takes some dozens of instructions.

use crate::inject::SYSCALL;
use crate::memory::Memory;
use crate::ptrace::{Stop, Stopped, Waited};
use minka_image::maps::{Backing, Mapping};
use std::io;

/// No function of the vDSO takes this many instructions, unless its clock data are just being changed; then it
/// tries again.
const STEPS_MAX: usize = 5000;

/// Signals that an instruction raises itself: blocked, the kernel would kill the process instead.
const SYNCHRONOUS: u64 = 1 << (libc::SIGSEGV - 1)
    | 1 << (libc::SIGBUS - 1)
    | 1 << (libc::SIGILL - 1)
    | 1 << (libc::SIGFPE - 1)
    | 1 << (libc::SIGTRAP - 1);

/// Where the code of the vDSO is.
pub fn code_range(maps: &[Mapping]) -> Option<(u64, u64)> {
    maps.iter().find(|mapping| mapping.backing == Backing::Vdso).map(|mapping| (mapping.start, mapping.end))
}

/// Address of a `syscall` instruction in the vDSO: one that every process has.
pub fn syscall_site(memory: &Memory, range: (u64, u64)) -> io::Result<u64> {
    let mut code = vec![0; (range.1 - range.0) as usize];
    memory.peek(range.0, &mut code);
    let offset = code.windows(SYSCALL.len()).position(|window| window == SYSCALL);
    offset
        .map(|offset| range.0 + offset as u64)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the vDSO holds no syscall instruction"))
}

/// Whether a thread is in the middle of the code in `range`. One that waits in a system call made there is not:
/// nothing is left to be done after it but to return.
pub fn holds(task: &Stopped, range: (u64, u64)) -> io::Result<bool> {
    let registers = task.registers()?;
    Ok((range.0..range.1).contains(&registers.rip) && registers.syscall().is_none())
}

/// Steps `task` until it is out of the code in `range`, or about to make a system call there. Its signal mask is as
/// before. If the tracer dies meanwhile, the kernel ends a task that has been left to itself in a step (SIGTRAP).
pub fn step_out(task: Stopped, range: (u64, u64), memory: &Memory) -> io::Result<Stopped> {
    let inside = |rip: u64| range.0 <= rip && rip < range.1;
    if !holds(&task, range)? {
        return Ok(task);
    }
    let mask = task.mask()?;
    task.set_mask(!SYNCHRONOUS)?;
    let mut task = task;
    for _ in 0..STEPS_MAX {
        let rip = task.registers()?.rip;
        let mut next = [0; 2];
        memory.peek(rip, &mut next);
        if !inside(rip) || next == SYSCALL {
            break;
        }
        match task.step()?.wait()? {
            Waited::Stopped(stopped, Stop::Signal(libc::SIGTRAP)) => task = stopped,
            // It raised a signal, and will raise it again wherever it goes on.
            Waited::Stopped(stopped, Stop::Signal(_)) => {
                task = stopped;
                break;
            }
            // An interrupt that was asked for before.
            Waited::Stopped(stopped, _) => task = stopped,
            Waited::Gone(end) => return Err(io::Error::other(format!("the task ended ({end:?})"))),
            Waited::Still(_) => unreachable!("a blocking wait returns only with news"),
        }
    }
    let task = forget_step(task)?;
    task.set_mask(mask)?;
    Ok(task)
}

/// Only a task that is let go on without another step is not in one any more.
fn forget_step(task: Stopped) -> io::Result<Stopped> {
    let mut running = task.resume_to_stop()?;
    loop {
        running = match running.wait()? {
            Waited::Stopped(task, Stop::Interrupt) => return Ok(task),
            Waited::Stopped(task, _) => task.resume_to_stop()?,
            Waited::Gone(end) => return Err(io::Error::other(format!("the task ended ({end:?})"))),
            Waited::Still(_) => unreachable!("a blocking wait returns only with news"),
        };
    }
}
