//! A place where a process makes system calls for its tracer, and where nothing happens to it if the tracer dies.
//!
//! Any `syscall` instruction would do for a call. But a tracer may be killed at any moment, and the kernel then lets
//! the task go on from where it is: from the middle of somebody else's function, with registers that mean nothing
//! there. So the calls are made in the padding of the ELF identification at the start of the vDSO, which is
//! executable and never executed:
//!
//! ```text
//!   8    9    10   11   12    13   14   15
//!  ┌────┬────┬────┬────┬────┬────┬────┬────┐
//!  │ 00 │ syscall │ jmp self │ "mk" and 00  │
//!  └────┴────┴────┴────┴────┴────┴────┴────┘
//! ```
//!
//! A task that is abandoned here finishes its call and then goes round in the `jmp`, until somebody who knows its
//! registers comes for it ([`Site::holds`]). For the same reason the calls are followed with system-call stops and
//! not with single steps: the kernel forgets those with the tracer, but would end a step with a deadly SIGTRAP.
//!
//! The eight bytes are zeros before and afterwards. (The vDSO's first page stays a copy of the process's own.)

use crate::faultpoint::{self, Point};
use crate::inject::InjectError;
use crate::memory::Memory;
use crate::ptrace::{Stop, Stopped, Waited};
use minka_image::registers::{NO_SYSCALL, Registers};
use std::io;

/// Offset of the word in the vDSO.
const WORD: u64 = 8;
/// What the word holds while calls are made.
const LAID: [u8; 8] = [0x00, 0x0f, 0x05, 0xeb, 0xfe, b'm', b'k', 0x00];
/// Offsets in it.
const CALL: u64 = 1;
const REST: u64 = 3;
const NAME: u64 = 5;

/// What `/proc` shows for a memfd that was made with [`Site::name`].
pub const MEMFD: &str = "/memfd:mk";

/// The place in one process.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    word: u64,
}

impl Site {
    /// The place in a process whose vDSO's code begins at `vdso`.
    pub fn new(vdso: u64) -> Self {
        Self { word: vdso + WORD }
    }

    /// Address of the string "mk", for calls that need a name.
    pub fn name(&self) -> u64 {
        self.word + NAME
    }

    /// Makes the place. Fails with `Unsupported` where the vDSO has something else there.
    pub fn lay(&self, task: &Stopped, memory: &Memory) -> io::Result<()> {
        let mut found = [0; LAID.len()];
        memory.peek(self.word, &mut found);
        if found != [0; LAID.len()] && found != LAID {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the vDSO has no room for calls"));
        }
        task.poke(self.word, u64::from_le_bytes(LAID))
    }

    /// Takes it away.
    pub fn clear(&self, task: &Stopped) -> io::Result<()> {
        task.poke(self.word, 0)
    }

    /// Whether a thread with this instruction pointer was left here.
    pub fn holds(&self, rip: u64) -> bool {
        (self.word + CALL..=self.word + REST).contains(&rip)
    }

    /// Registers with which a thread waits here.
    pub fn rest(&self, registers: &Registers) -> Registers {
        Registers { rip: self.word + REST, orig_rax: NO_SYSCALL, ..*registers }
    }

    /// Has a task that rests here make a call, and rest again. Returns the kernel's result (−errno on failure).
    /// Signals that could not be blocked go to `held`: the caller has to see that they are delivered.
    pub fn call(
        &self,
        task: Stopped,
        number: u64,
        arguments: [u64; 6],
        held: &mut Vec<i32>,
    ) -> Result<(Stopped, i64), InjectError> {
        let resting = task.registers()?;
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let mut registers = resting;
        (registers.rip, registers.rax, registers.orig_rax) = (self.word + CALL, number, NO_SYSCALL);
        (registers.rdi, registers.rsi, registers.rdx) = (rdi, rsi, rdx);
        (registers.r10, registers.r8, registers.r9) = (r10, r8, r9);
        task.set_registers(&registers)?;
        faultpoint::reach(Point::Injecting);
        let mut running = task.resume_to_syscall()?;
        let mut entered = false;
        loop {
            let (task, stop) = match running.wait()? {
                Waited::Stopped(task, stop) => (task, stop),
                Waited::Gone(end) => return Err(InjectError::Gone(end)),
                Waited::Still(_) => unreachable!("a blocking wait returns only with news"),
            };
            match stop {
                Stop::Syscall if entered => {
                    let result = task.registers()?.rax as i64;
                    task.set_registers(&self.rest(&resting))?;
                    return Ok((task, result));
                }
                Stop::Syscall => entered = true,
                Stop::Signal(libc::SIGSEGV | libc::SIGILL | libc::SIGBUS) => {
                    let rip = task.registers()?.rip;
                    return Err(InjectError::Odd { call: number, rip, stop });
                }
                Stop::Signal(signal) => held.push(signal),
                _ => {}
            }
            running = task.resume_to_syscall()?;
        }
    }
}
