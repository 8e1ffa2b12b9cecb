//! The general registers of one thread.

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Registers in the order of the kernel's `struct user_regs_struct` (`NT_PRSTATUS` of x86-64).
#[repr(C)]
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[allow(missing_docs, reason = "the names are the processor's own")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Number of the system call the thread is in, or all ones.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// The value of `orig_rax` that keeps the kernel from applying its restart logic to written registers.
pub const NO_SYSCALL: u64 = u64::MAX;

/// The code segment of 64-bit user code; 32-bit code runs in 0x23.
pub const USER_CS_64: u64 = 0x33;

impl Registers {
    /// The system call the thread is stopped in, if it is in one.
    pub fn syscall(&self) -> Option<u64> {
        (self.orig_rax as i64 >= 0).then_some(self.orig_rax)
    }

    /// What a thread in a system call, or about to make one, hands to it.
    pub fn arguments(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}
