//! The whole image of a process that travels when it moves.

use crate::registers::Registers;
use crate::restart::Interruption;
use serde::{Deserialize, Serialize};

/// An alternate signal stack, the kernel's `stack_t`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AltStack {
    /// Lowest address.
    pub base: u64,
    /// `SS_ONSTACK`, `SS_DISABLE`, `SS_AUTODISARM`.
    pub flags: u32,
    /// Bytes.
    pub size: u64,
}

impl AltStack {
    /// `SS_DISABLE`: there is none.
    pub const DISABLED: u32 = 2;
    /// `SS_ONSTACK`: the thread runs on it at present (reported, never set).
    pub const ON_STACK: u32 = 1;

    /// The kernel's `stack_t`: `{ ss_sp: u64, ss_flags: i32, pad, ss_size: u64 }`.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.base.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.flags.to_le_bytes());
        bytes[16..].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }
}

/// A thread's `rseq(2)` registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rseq {
    /// Address of `struct rseq`.
    pub address: u64,
    /// Registered length, bytes.
    pub length: u32,
    /// Signature before each abort handler.
    pub signature: u32,
}

/// One thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Thread id, as its home's PID namespace counts.
    pub tid: i32,
    /// General registers with which it goes on.
    pub registers: Registers,
    /// Extended state as `NT_X86_XSTATE` gives it (XSAVE, non-compacted).
    pub extended: Vec<u8>,
    /// Blocked signals, bit `n - 1` for signal `n`.
    pub mask: u64,
    /// Alternate signal stack.
    pub alt_stack: AltStack,
    /// Head of the robust futex list and its length, bytes.
    pub robust_list: (u64, u64),
    /// `set_tid_address`.
    pub tid_address: u64,
    /// Restartable sequences, if registered.
    pub rseq: Option<Rseq>,
    /// How the call was interrupted that it is about to make again: what a signal that comes first makes of it.
    pub interrupted: Option<Interruption>,
    /// The call that the home's kernel goes on with when the thread makes `restart_syscall`.
    pub unfinished: Option<Unfinished>,
    /// Signals that are about to be delivered to it: number and the kernel's `siginfo_t`.
    pub pending: Vec<(i32, Vec<u8>)>,
    /// CPU time that it used away from home before, microseconds.
    pub cpu_us: u64,
}

impl Thread {
    /// A thread of which nothing is known but its id; it has nothing registered and blocks no signal.
    pub fn new(tid: i32) -> Self {
        Self {
            tid,
            registers: Registers::default(),
            extended: Vec::new(),
            mask: 0,
            alt_stack: AltStack { flags: AltStack::DISABLED, ..AltStack::default() },
            robust_list: (0, 0),
            tid_address: 0,
            rseq: None,
            interrupted: None,
            unfinished: None,
            pending: Vec::new(),
            cpu_us: 0,
        }
    }
}

/// A call that was interrupted and that its kernel can go on with (ERESTART_RESTARTBLOCK).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Its number.
    pub call: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What happens on a signal: the kernel's `struct sigaction` of x86-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Signal number.
    pub signal: u8,
    /// Handler address, 0 `SIG_DFL`, 1 `SIG_IGN`.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// `sa_restorer`.
    pub restorer: u64,
    /// Signals blocked during the handler.
    pub mask: u64,
}

impl Action {
    /// Bytes of the kernel's structure `{ handler, flags, restorer, mask }`.
    pub const SIZE: usize = 32;

    /// Whether the kernel forgets it when it calls the handler (`SA_RESETHAND`).
    pub fn is_used_once(&self) -> bool {
        const RESETHAND: u64 = 0x8000_0000;
        self.flags & RESETHAND != 0 && self.handler > 1
    }

    /// Whether there is a handler that stays after it has been called.
    pub fn is_caught_for_good(&self) -> bool {
        self.handler > 1 && !self.is_used_once()
    }

    /// From the bytes that `rt_sigaction` wrote.
    pub fn from_bytes(signal: u8, bytes: &[u8; Self::SIZE]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Self { signal, handler: word(0), flags: word(8), restorer: word(16), mask: word(24) }
    }

    /// The bytes that `rt_sigaction` reads.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        for (at, word) in [self.handler, self.flags, self.restorer, self.mask].into_iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// Where an area's pages come from when the guest first touches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The home, page by page.
    Home,
    /// An identical file of the host's own, by its index in the offer, at this offset.
    HostFile {
        /// Index among the files that the home offered.
        file: u32,
        /// Offset in it, bytes.
        offset: u64,
    },
}

/// A part of an object of which several areas show something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Index among [`Image::objects`].
    pub object: u32,
    /// Where it begins there, bytes.
    pub offset: u64,
}

/// One area of memory that the guest must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// `PROT_*` bits 0–2.
    pub protection: u8,
    /// The main thread's stack, which grows down.
    pub stack: bool,
    /// Backed by a file at home: what the guest discards of it is to be read from there again.
    pub file: bool,
    /// Shared memory of the process's own. The guest must not unmap, move, discard or protect it: at home it can be
    /// reached by other means, too, and has to have the content for them.
    pub shared: bool,
    /// The part of an object that it shows, if there is more than one mapping of that.
    pub part: Option<Part>,
    /// Where its pages are.
    pub source: Source,
}

/// The borders that the kernel keeps of an address space, in the order of `struct prctl_mm_map`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "prctl(2), PR_SET_MM_MAP")]
pub struct Borders {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
}

impl Borders {
    /// In the order of `struct prctl_mm_map`.
    pub fn words(&self) -> [u64; 11] {
        [
            self.start_code,
            self.end_code,
            self.start_data,
            self.end_data,
            self.start_brk,
            self.brk,
            self.start_stack,
            self.arg_start,
            self.arg_end,
            self.env_start,
            self.env_end,
        ]
    }
}

/// A process as it travels to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its threads, the leader first.
    pub threads: Vec<Thread>,
    /// Its memory.
    pub areas: Vec<Area>,
    /// Lengths of the objects that are mapped more than once, bytes. Those of a family are the same for all of its members.
    pub objects: Vec<u64>,
    /// What of its memory is locked (mlock(2)), and is to be there.
    pub locked: Vec<(u64, u64)>,
    /// What the home uses of the address space itself: the guest must not map anything there.
    pub reserved: (u64, u64),
    /// The kernel's borders of its address space.
    pub borders: Borders,
    /// The auxiliary vector, `/proc/PID/auxv`.
    pub auxv: Vec<u8>,
    /// Dispositions other than the default.
    pub actions: Vec<Action>,
    /// Soft limits that decide how far its memory may grow: resource number and value.
    pub limits: Vec<(u32, u64)>,
    /// CPU time that the process used away from home before: user and system, microseconds.
    pub cpu_us: (u64, u64),
}

/// A process as it comes back: what a guest may have changed by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// Its threads, the leader first.
    pub threads: Vec<Thread>,
    /// The guest's program break.
    pub brk: u64,
    /// CPU time that the process used away from home so far: user and system, microseconds.
    pub cpu_us: (u64, u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_keep_their_bytes() {
        let bytes: [u8; 32] = std::array::from_fn(|i| i as u8);
        assert_eq!(Action::from_bytes(5, &bytes).to_bytes(), bytes);
    }
}
