//! A page of our own in a guest that is being built, where batches of system calls run at full speed.
//!
//! A stop per injected call costs 15–40 µs, and a program of 120 areas needs hundreds. Here the calls are written
//! as a table into memory shared with the guest, and a loop of a dozen instructions works through it: one stop
//! for all of them. The loop ends with a breakpoint.

use crate::inject::InjectError;
use crate::ptrace::{Stop, Stopped, Waited};
use crate::shared::Shared;
use minka_image::registers::{NO_SYSCALL, Registers};
use std::io;
use std::os::fd::BorrowedFd;

/// Bytes that a workbench takes in the guest.
pub const LENGTH: usize = 256 << 10;
/// Where the loop's instructions lie.
const CODE: usize = 0;
/// Where a lone `syscall` instruction lies, for [`crate::inject::inject`].
const LONE: usize = 128;
/// Where the table begins.
const TABLE: usize = 4096;
/// Bytes of one entry: number, six arguments, result.
const ENTRY: usize = 64;
/// Most calls in one batch.
pub const BATCH_MAX: usize = 1024;
/// Where free data begins.
const DATA: usize = TABLE + BATCH_MAX * ENTRY;
/// Bytes of data that the calls of one batch may point to.
pub const DATA_LENGTH: usize = LENGTH - DATA;

std::arch::global_asm!(
    ".pushsection .rodata.minka_bench, \"a\"",
    ".globl minka_bench_start, minka_bench_end",
    "minka_bench_start:",
    // r12: next entry, r13: entries left
    "2: test r13, r13",
    "jz 3f",
    "mov rax, [r12]",
    "mov rdi, [r12 + 8]",
    "mov rsi, [r12 + 16]",
    "mov rdx, [r12 + 24]",
    "mov r10, [r12 + 32]",
    "mov r8,  [r12 + 40]",
    "mov r9,  [r12 + 48]",
    "syscall",
    "mov [r12 + 56], rax",
    "add r12, 64",
    "dec r13",
    "jmp 2b",
    "3: int3",
    "minka_bench_end:",
    ".popsection",
);

unsafe extern "C" {
    static minka_bench_start: u8;
    static minka_bench_end: u8;
}

fn code() -> &'static [u8] {
    let (start, end) = (&raw const minka_bench_start, &raw const minka_bench_end);
    // SAFETY: both symbols delimit the instructions above, which are in read-only data of this program.
    unsafe { std::slice::from_raw_parts(start, end.offset_from(start) as usize) }
}

/// One system call of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: i64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

impl Call {
    /// A call with up to six arguments.
    pub fn new(number: i64, arguments: &[u64]) -> Self {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        Self { number, arguments: all }
    }
}

/// The workbench as the host program sees it.
#[derive(Debug)]
pub struct Workbench {
    shared: Shared,
    address: u64,
}

impl Workbench {
    /// Lays out a workbench in a memfd that the guest has mapped, or is going to map, at `address`.
    pub fn create(memfd: BorrowedFd<'_>, address: u64) -> io::Result<Self> {
        let shared = Shared::map(memfd, LENGTH)?;
        shared.write(CODE, code());
        shared.write(LONE, &crate::inject::SYSCALL);
        Ok(Self { shared, address })
    }

    /// First address in the guest.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Address of a lone `syscall` instruction.
    pub fn lone_syscall(&self) -> u64 {
        self.address + LONE as u64
    }

    /// Puts bytes where calls can point to; returns their address in the guest.
    ///
    /// # Panics
    /// If they do not fit in [`DATA_LENGTH`].
    pub fn put(&self, offset: usize, bytes: &[u8]) -> u64 {
        assert!(offset + bytes.len() <= DATA_LENGTH, "data outside the workbench");
        self.shared.write(DATA + offset, bytes);
        self.address + (DATA + offset) as u64
    }

    /// Bytes that calls have written, from `offset` in the data.
    pub fn get(&self, offset: usize, into: &mut [u8]) {
        self.shared.read(DATA + offset, into);
    }

    /// Address in the guest of the data at `offset`.
    pub fn data_address(&self, offset: usize) -> u64 {
        self.address + (DATA + offset) as u64
    }

    /// Has the guest make the calls in order; returns their results. Any number of calls: they go in batches.
    pub fn run(&self, mut task: Stopped, calls: &[Call]) -> Result<(Stopped, Vec<i64>), InjectError> {
        let mut results = Vec::with_capacity(calls.len());
        for batch in calls.chunks(BATCH_MAX) {
            task = self.run_batch(task, batch, &mut results, &mut None)?;
        }
        Ok((task, results))
    }

    /// Has the guest make a thread: `clone` with these flags, which let the new one use the same memory. It begins in a
    /// stop (its tracer has asked for that) and executes nothing before it gets registers of its own. Returns the
    /// call's result, and the thread if there is one.
    pub fn make_thread(
        &self,
        task: Stopped,
        flags: u64,
    ) -> Result<(Stopped, i64, Option<Stopped>), InjectError> {
        let (mut results, mut made) = (Vec::new(), None);
        let call = Call::new(libc::SYS_clone, &[flags]);
        let task = self.run_batch(task, &[call], &mut results, &mut made)?;
        Ok((task, results[0], made))
    }

    fn run_batch(
        &self,
        task: Stopped,
        batch: &[Call],
        results: &mut Vec<i64>,
        made: &mut Option<Stopped>,
    ) -> Result<Stopped, InjectError> {
        for (at, call) in batch.iter().enumerate() {
            let mut entry = [0u8; ENTRY];
            entry[..8].copy_from_slice(&call.number.to_le_bytes());
            for (index, argument) in call.arguments.iter().enumerate() {
                entry[8 + index * 8..16 + index * 8].copy_from_slice(&argument.to_le_bytes());
            }
            self.shared.write(TABLE + at * ENTRY, &entry);
        }
        let saved = task.registers()?;
        task.set_registers(&Registers {
            rip: self.address + CODE as u64,
            r12: self.address + TABLE as u64,
            r13: batch.len() as u64,
            orig_rax: NO_SYSCALL,
            ..saved
        })?;
        let mut running = task.resume(0)?;
        let task = loop {
            match running.wait()? {
                Waited::Stopped(task, Stop::Signal(libc::SIGTRAP)) => break task,
                Waited::Stopped(task, stop @ Stop::Signal(libc::SIGSEGV | libc::SIGILL | libc::SIGBUS)) => {
                    let rip = task.registers()?.rip;
                    return Err(InjectError::Odd { call: batch[0].number as u64, rip, stop });
                }
                Waited::Stopped(task, Stop::Clone) => {
                    if let Waited::Stopped(thread, _) = task.made_thread()?.wait()? {
                        *made = Some(thread);
                    }
                    running = task.resume(0)?;
                }
                // Nobody else knows this process yet: anything else is an event stop that we asked for.
                Waited::Stopped(task, _) => running = task.resume(0)?,
                Waited::Gone(end) => return Err(InjectError::Gone(end)),
                Waited::Still(_) => unreachable!("a blocking wait returns only with news"),
            }
        };
        task.set_registers(&saved)?;
        for at in 0..batch.len() {
            let mut result = [0; 8];
            self.shared.read(TABLE + at * ENTRY + 56, &mut result);
            results.push(i64::from_le_bytes(result));
        }
        Ok(task)
    }
}
