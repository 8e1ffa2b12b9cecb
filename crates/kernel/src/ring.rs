//! The agent's ring: how a deputy program has the original process make system calls at full speed.
//!
//! The original process has one memfd mapped (`MAP_SHARED`, readable, writable, executable), the deputy program
//! the same one. Its threads run the *agent*, a loop of a few dozen instructions that needs no stack and no other
//! memory: wait for a call in the thread's slot, make it, say so.
//!
//! ```text
//!   0        slot 0: state, done, waiting │ number, 6 arguments │ result
//!   SLOT·k   slot k
//!   CODE     the agent's instructions
//!   DATA     buffers of the calls, one part per slot
//! ```
//!
//! How many slots a ring has is settled when it is made; only what is touched costs memory.
//!
//! A slot belongs to one thread of the original process and serves one call at a time: [`Slot::call`] takes
//! `&mut self`. While a call is under way the deputy program does not touch the slot's data.

use crate::courtesy::processors_to_spare;
use crate::futex;
use crate::shared::{self, Shared};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of one slot.
const SLOT: usize = 128;
/// Most slots of a ring: threads of one process that can be away.
pub const SLOTS_MAX: usize = 512;
/// Where the agent's instructions lie.
const CODE: usize = SLOTS_MAX * SLOT;
/// Where the data parts begin.
const DATA: usize = CODE + 4096;
/// The same, for those who reach the ring through the process's memory.
pub const DATA_OFFSET: u64 = DATA as u64;
/// Bytes of data per slot: the most that one forwarded call carries. Only touched pages cost memory.
pub const DATA_PER_SLOT: usize = 8 << 20;

/// Bytes of a ring with that many slots.
pub const fn length(slots: usize) -> usize {
    DATA + slots * DATA_PER_SLOT
}

const STATE: usize = 0;
const DONE: usize = 4;
const WAITING: usize = 8;
const NUMBER: usize = 16;
const RESULT: usize = 72;

std::arch::global_asm!(
    ".pushsection .rodata.minka_agent, \"a\"",
    ".globl minka_agent_start, minka_agent_take, minka_agent_syscall, minka_agent_end",
    "minka_agent_start:",
    // r12: this thread's slot. Wait until its state is 1.
    "2: cmp dword ptr [r12], 1",
    "je 4f",
    "mov eax, 202", // futex(&state, FUTEX_WAIT, 0, NULL): no time-out, or it would overwrite a restart block
    "mov rdi, r12",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "syscall",
    "jmp 2b",
    "minka_agent_take: 4: mov dword ptr [r12], 0",
    "mov rax, [r12 + 16]",
    "mov rdi, [r12 + 24]",
    "mov rsi, [r12 + 32]",
    "mov rdx, [r12 + 40]",
    "mov r10, [r12 + 48]",
    "mov r8,  [r12 + 56]",
    "mov r9,  [r12 + 64]",
    "minka_agent_syscall: syscall",
    "mov [r12 + 72], rax",
    "mov eax, 1",
    "xchg [r12 + 4], eax", // done = 1, a full barrier
    "cmp dword ptr [r12 + 8], 0",
    "je 2b",
    "mov eax, 202", // futex(&done, FUTEX_WAKE, 1)
    "lea rdi, [r12 + 4]",
    "mov esi, 1",
    "mov edx, 1",
    "syscall",
    "jmp 2b",
    "minka_agent_end:",
    ".popsection",
);

unsafe extern "C" {
    static minka_agent_start: u8;
    static minka_agent_take: u8;
    static minka_agent_syscall: u8;
    static minka_agent_end: u8;
}

fn agent_code() -> &'static [u8] {
    let (start, end) = (&raw const minka_agent_start, &raw const minka_agent_end);
    // SAFETY: both symbols delimit the instructions above, which are in read-only data of this program.
    unsafe { std::slice::from_raw_parts(start, end.offset_from(start) as usize) }
}

/// The ring as the deputy program sees it.
#[derive(Debug)]
pub struct Ring {
    shared: Arc<Shared>,
    address: u64,
    slots: usize,
    ended: Arc<AtomicBool>,
}

impl Ring {
    /// Lays out a ring with that many slots in a memfd that the original process is going to map at `address`.
    pub fn create(memfd: BorrowedFd<'_>, address: u64, slots: usize) -> io::Result<Self> {
        let slots = slots.clamp(1, SLOTS_MAX);
        shared::resize(memfd, length(slots))?;
        let shared = Shared::map(memfd, length(slots))?;
        shared.write(CODE, agent_code());
        Ok(Self { shared: Arc::new(shared), address, slots, ended: Arc::default() })
    }

    /// How many slots it has.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Where the original process has it: first address and the one after the last byte.
    pub fn range(&self) -> (u64, u64) {
        (self.address, self.address + length(self.slots) as u64)
    }

    /// Instruction pointer and `r12` with which a thread enters the agent, to work for a slot.
    pub fn entry(&self, slot: usize) -> (u64, u64) {
        (self.address + CODE as u64, self.address + (slot * SLOT) as u64)
    }

    /// Address after the `syscall` instruction that makes the forwarded calls: a thread stopped there with a
    /// restart code in `rax` was interrupted in one.
    pub fn after_call(&self) -> u64 {
        self.address_of(&raw const minka_agent_syscall) + crate::inject::SYSCALL.len() as u64
    }

    /// Whether the stopped thread that works for a slot, with this instruction pointer, has a call to make that it has
    /// not entered yet.
    pub fn has_call_ahead(&self, slot: usize, rip: u64) -> bool {
        let taken = self.address_of(&raw const minka_agent_take)..self.after_call();
        taken.contains(&rip) || self.shared.word(slot * SLOT + STATE).load(Ordering::SeqCst) == 1
    }

    /// Takes a call back that a stopped thread has ahead of it.
    pub fn take_back(&self, slot: usize) {
        self.shared.word(slot * SLOT + STATE).store(0, Ordering::SeqCst);
    }

    /// Where the original process has one of the agent's instructions.
    fn address_of(&self, instruction: *const u8) -> u64 {
        // SAFETY: both symbols lie in the same block of instructions.
        let offset = unsafe { instruction.offset_from(&raw const minka_agent_start) } as u64;
        self.address + CODE as u64 + offset
    }

    /// A slot, to make calls through; as nobody has used it. There is one handle of each: its data are its own.
    ///
    /// # Panics
    /// If the ring has no such slot.
    pub fn slot(&self, index: usize) -> Slot {
        assert!(index < self.slots, "slot {index} of {}", self.slots);
        self.shared.write(index * SLOT, &[0; SLOT]);
        Slot {
            shared: Arc::clone(&self.shared),
            address: self.address,
            index,
            ended: Arc::clone(&self.ended),
            left: Arc::default(),
            uses: 0,
            polls: false,
        }
    }

    /// Says that the original process will not answer any more (it has ended, or replaced its image).
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        (0..self.slots).for_each(|slot| futex::wake(self.shared.word(slot * SLOT + DONE)));
    }
}

/// One thread's slot.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
    address: u64,
    index: usize,
    ended: Arc<AtomicBool>,
    left: Arc<AtomicBool>,
    uses: u64,
    /// The call under way was begun by somebody who is going to poll for its result.
    polls: bool,
}

/// Sees whether a slot's call has been made.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    done: usize,
}

impl Watch {
    /// Whether it has its result.
    pub fn is_done(&self) -> bool {
        self.shared.word(self.done).load(Ordering::SeqCst) != 0
    }
}

/// Tells whoever waits for a slot that its thread is gone.
#[derive(Debug, Clone)]
pub struct Leave {
    shared: Arc<Shared>,
    done: usize,
    left: Arc<AtomicBool>,
}

impl Leave {
    /// The thread has ended.
    pub fn end(&self) {
        self.left.store(true, Ordering::SeqCst);
        futex::wake(self.shared.word(self.done));
    }
}

/// The thread that was to make the call has ended, or replaced its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// And all others with it.
    #[error("make a call at home: the process has ended")]
    Process,
    /// That thread alone.
    #[error("make a call at home: the thread has ended")]
    Thread,
}

impl Slot {
    /// What to tell of the end of this slot's thread.
    pub fn leave(&self) -> Leave {
        Leave { shared: Arc::clone(&self.shared), done: self.at(DONE), left: Arc::clone(&self.left) }
    }

    fn at(&self, offset: usize) -> usize {
        self.index * SLOT + offset
    }

    /// Where this slot's data begin in the ring.
    fn data_offset(&self) -> usize {
        DATA + self.index * DATA_PER_SLOT
    }

    /// The address, in the original process, of the data that [`Slot::data`] shows.
    pub fn data_address(&self) -> u64 {
        self.address + self.data_offset() as u64
    }

    /// The data of the next or last call.
    pub fn data(&mut self) -> &mut [u8] {
        self.uses += 1;
        // SAFETY: `&mut self` means that no call is under way on this slot, so the kernel does not write here; the
        // agent itself never does, and no other slot has this part of the data.
        unsafe { self.shared.slice(self.data_offset(), DATA_PER_SLOT) }
    }

    /// One of the two halves of the data, of which the call under way uses only the other one.
    pub fn half(&mut self, second: bool) -> &mut [u8] {
        const HALF: usize = DATA_PER_SLOT / 2;
        self.uses += 1;
        let offset = self.data_offset() + if second { HALF } else { 0 };
        // SAFETY: nobody but the kernel uses the data of a slot while there is `&mut self`, and it does not use this half of
        // them: whoever orders calls for the other half alone sees to that.
        unsafe { self.shared.slice(offset, HALF) }
    }

    /// The address, in the original process, of the data that [`Slot::half`] shows.
    pub fn half_address(&self, second: bool) -> u64 {
        self.data_address() + if second { DATA_PER_SLOT as u64 / 2 } else { 0 }
    }

    /// Whether the call under way has its result, for somebody who uses the data meanwhile.
    pub fn watch(&self) -> Watch {
        Watch { shared: Arc::clone(&self.shared), done: self.at(DONE) }
    }

    /// A number that is another one as soon as the data may be others.
    pub fn uses(&self) -> u64 {
        self.uses
    }

    /// Has the original process make a call, and waits for its result.
    pub fn call(&mut self, number: u64, arguments: [u64; 6]) -> Result<i64, Ended> {
        self.order(number, arguments);
        self.result()
    }

    /// Waits for the result of a call that has been ordered.
    pub fn result(&mut self) -> Result<i64, Ended> {
        self.poll();
        // The time-out only guards against an end that is announced between the check and the wait.
        self.finish(Duration::from_millis(200), || true)
    }

    /// Has the original process make a call that is waited for later ([`Slot::result`]), or not at all, as its thread
    /// ends in it.
    pub fn order(&mut self, number: u64, arguments: [u64; 6]) {
        self.begin(number, arguments, processors_to_spare());
    }

    /// As [`Slot::call`], for the thread that traces the original process: nobody else sees it stop or end meanwhile,
    /// so `attend` looks after it every few milliseconds, and says whether it still works.
    pub fn call_attended(
        &mut self,
        number: u64,
        arguments: [u64; 6],
        attend: impl FnMut() -> bool,
    ) -> Result<i64, Ended> {
        self.begin(number, arguments, false);
        self.finish(Duration::from_millis(5), attend)
    }

    /// `polls`: whoever waits for the result is going to look for it first, and need not be woken for that long.
    fn begin(&mut self, number: u64, arguments: [u64; 6], polls: bool) {
        self.uses += 1;
        self.polls = polls;
        let mut words = [0u8; 56];
        words[..8].copy_from_slice(&number.to_le_bytes());
        for (at, argument) in arguments.iter().enumerate() {
            words[8 + at * 8..16 + at * 8].copy_from_slice(&argument.to_le_bytes());
        }
        self.shared.write(self.at(NUMBER), &words);
        let word = |offset| self.shared.word(self.at(offset));
        let (state, done, waiting) = (word(STATE), word(DONE), word(WAITING));
        done.store(0, Ordering::SeqCst);
        waiting.store(u32::from(!polls), Ordering::SeqCst);
        state.store(1, Ordering::SeqCst);
        futex::wake(state);
    }

    /// Looks for the result, for as long as it takes the agent to wake and to make a short call.
    fn poll(&mut self) {
        const LIMIT: Duration = Duration::from_micros(30);
        if std::mem::take(&mut self.polls) {
            let done = self.shared.word(self.at(DONE));
            let begun = Instant::now();
            while done.load(Ordering::SeqCst) == 0 && begun.elapsed() < LIMIT {
                std::hint::spin_loop();
            }
            self.shared.word(self.at(WAITING)).store(1, Ordering::SeqCst);
        }
    }

    fn finish(&mut self, interval: Duration, mut attend: impl FnMut() -> bool) -> Result<i64, Ended> {
        let done = self.shared.word(self.at(DONE));
        while done.load(Ordering::SeqCst) == 0 {
            futex::wait(done, 0, Some(interval));
            if done.load(Ordering::SeqCst) != 0 {
                // It may have ended after it made the call.
                break;
            }
            if self.ended.load(Ordering::SeqCst) || !attend() {
                return Err(Ended::Process);
            }
            if self.left.load(Ordering::SeqCst) {
                return Err(Ended::Thread);
            }
        }
        let mut result = [0; 8];
        self.shared.read(self.at(RESULT), &mut result);
        Ok(i64::from_le_bytes(result))
    }
}

const _: () = assert!(RESULT + 8 <= SLOT && NUMBER + 56 == RESULT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_fits_its_place() {
        assert!(!agent_code().is_empty() && CODE + agent_code().len() <= DATA);
    }
}
