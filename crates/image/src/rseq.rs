//! Restartable sequences (`rseq(2)`): where a thread that was stopped inside one goes on.
//!
//! The kernel aborts a sequence on the way back to user mode, by the registers it finds *then*. A thread that
//! is stopped inside a sequence and made to run something else (an injected call, the agent) would have its
//! sequence forgotten and continue in its middle without an abort. So the abort is carried out here, on the
//! saved registers, before anything else is done with the thread.

use crate::registers::Registers;

/// `struct rseq_cs` (`include/uapi/linux/rseq.h`), as read from the thread's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CriticalSection {
    /// Address of the first instruction.
    pub start: u64,
    /// Length, bytes.
    pub length: u64,
    /// Where an aborted sequence goes on.
    pub abort: u64,
}

impl CriticalSection {
    /// Bytes of `struct rseq_cs`.
    pub const SIZE: usize = 32;

    /// From the bytes at the address that the thread's `rseq.rseq_cs` holds:
    /// `{ version: u32, flags: u32, start_ip: u64, post_commit_offset: u64, abort_ip: u64 }`.
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Self { start: word(8), length: word(16), abort: word(24) }
    }

    /// The registers after the abort that the kernel would have made, or `None` outside the sequence.
    pub fn abort(&self, registers: &Registers) -> Option<Registers> {
        let inside = registers.rip.wrapping_sub(self.start) < self.length;
        inside.then_some(Registers { rip: self.abort, ..*registers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_inside_is_aborted() {
        let section = CriticalSection { start: 0x1000, length: 0x20, abort: 0x2000 };
        let rip_after = |rip| section.abort(&Registers { rip, ..Registers::default() }).map(|r| r.rip);
        assert_eq!(rip_after(0x0fff), None);
        assert_eq!(rip_after(0x1000), Some(0x2000));
        assert_eq!(rip_after(0x101f), Some(0x2000));
        assert_eq!(rip_after(0x1020), None);
    }

    #[test]
    fn layout() {
        let mut bytes = [0u8; 32];
        bytes[8] = 1;
        bytes[16] = 2;
        bytes[24] = 3;
        assert_eq!(CriticalSection::from_bytes(&bytes), CriticalSection { start: 1, length: 2, abort: 3 });
    }
}
