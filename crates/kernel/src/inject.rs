//! System calls made by a stopped task on our behalf, one instruction at a time.
//!
//! Needs nothing of the task but a `syscall` instruction somewhere in its memory (the vDSO has one). It costs a
//! stop per call (15–40 µs), so it is used only where the faster ways are not there yet: to map the ring at home,
//! to map the workbench in an empty guest, and to unmap either.

use crate::ptrace::{End, Stop, Stopped, Waited};
use minka_image::registers::NO_SYSCALL;
use std::io;

/// Bytes of the `syscall` instruction.
pub const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Why an injected call has no result.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// ptrace or wait failed.
    #[error("trace the task during an injected call")]
    Trace(#[from] io::Error),
    /// The task ended meanwhile.
    #[error("inject a call: the task ended ({0:?})")]
    Gone(End),
    /// The task stopped for a reason that leaves the call undone.
    #[error("inject call {call}: the task stopped at {rip:#x} for {stop:?}")]
    Odd {
        /// The call's number.
        call: u64,
        /// Where.
        rip: u64,
        /// What for.
        stop: Stop,
    },
}

/// Makes `task` perform `call` with `arguments` at the `syscall` instruction at `site`, and restores its
/// registers. Returns the kernel's result (−errno on failure) and the signals that arrived meanwhile and were held
/// back: the caller has to see that they are delivered.
pub fn inject(
    task: Stopped,
    site: u64,
    call: u64,
    arguments: [u64; 6],
    held: &mut Vec<(i32, [u8; crate::ptrace::SIGINFO_SIZE])>,
) -> Result<(Stopped, i64), InjectError> {
    let saved = task.registers()?;
    let [rdi, rsi, rdx, r10, r8, r9] = arguments;
    let mut registers = saved;
    (registers.rip, registers.rax, registers.orig_rax) = (site, call, NO_SYSCALL);
    (registers.rdi, registers.rsi, registers.rdx) = (rdi, rsi, rdx);
    (registers.r10, registers.r8, registers.r9) = (r10, r8, r9);
    task.set_registers(&registers)?;
    let mut running = task.step()?;
    loop {
        let (task, stop) = match running.wait()? {
            Waited::Stopped(task, stop) => (task, stop),
            Waited::Gone(end) => return Err(InjectError::Gone(end)),
            Waited::Still(_) => unreachable!("a blocking wait returns only with news"),
        };
        let now = task.registers()?;
        match stop {
            Stop::Signal(libc::SIGTRAP) if now.rip == site + SYSCALL.len() as u64 => {
                task.set_registers(&saved)?;
                return Ok((task, now.rax as i64));
            }
            Stop::Signal(libc::SIGSEGV | libc::SIGILL | libc::SIGBUS) => {
                return Err(InjectError::Odd { call, rip: now.rip, stop });
            }
            Stop::Signal(signal) => {
                held.push((signal, task.signal_info()?));
                running = task.step()?;
            }
            _ => running = task.step()?,
        }
    }
}
