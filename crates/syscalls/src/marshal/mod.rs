//! Carrying a call from the guest to the home and its results back.
//!
//! ```text
//!      host                                   home
//! guest memory ──gather──► request body ──place──► area, arguments
//!                                                      │ system call
//! guest memory ◄─scatter── reply ◄──────collect───── area
//! ```
//!
//! There is one algorithm, the walk over a call's [`Spec`](crate::spec::Spec), and each of the steps lends it
//! other hands. The request holds no layout: both ends derive it from the number, the arguments and the bytes
//! themselves, so a hostile host cannot describe one that does not fit them, and a hostile home cannot write
//! anywhere but into the buffers of the guest's own call.
//!
//! # Faults
//!
//! A pointer whose memory cannot be used travels as an address that faults at home too. So the home's kernel
//! finds the very error, in the very order, that it would have found natively (EBADF before EFAULT, say), and
//! before any effect. Input that can be read only in part is the exception: where the kernel would perform a part
//! of the call, or may not look at all of it, the guest goes home. Output is checked before the call as far as [`Memory::writable`] knows; what
//! only the write itself finds out becomes EFAULT (or a smaller count, where a count tells what was written) after
//! the call has had its effect.
//!
//! # Exactness
//!
//! Output that the kernel writes only in part (a field of a structure, padding between control messages) also
//! travels to the home, so that the bytes between come back as they were. Should another thread of the guest
//! change just those bytes during the call, its change is lost. The padding behind the names of directory entries
//! is not worth that: it comes back as some older content of the area.
//!
//! Buffers lie in the area at the same offset within their size class as in the guest, up to a page: direct I/O
//! and whatever else looks at alignment behaves as it would natively.
//!
//! # Layouts
//!
//! All numbers are little-endian.
//!
//! ```text
//! request   u32 number, u32 zero, 6 × u64 argument, then for each block in walk order the bytes that are sent
//! reply     i64 result, u32 count, u32 zero, count × (u32 tag, u32 size), then the bytes of each
//! ```
//!
//! A tag names an output: the argument's index in the upper three bits, its ordinal within the argument below.

mod carrier;
mod collect;
mod early;
mod gather;
mod place;
mod scatter;
mod vectors;
mod walk;

pub use collect::{Reply, collect};
pub use early::{Read, Started, Write, sole_output};
pub use gather::{Capped, Gathered, Reason, Refusal, gather, gather_after};
pub use place::{Placed, place, place_own, place_started};
pub use scatter::{scatter, scatter_after};

pub(crate) use carrier::{Block, Carrier, Location, Output, Patch};
pub(crate) use walk::walk;

/// Size of a request's head in bytes: number and arguments.
pub const REQUEST_HEAD: usize = 56;

/// Size of a reply's head in bytes, before the list of outputs.
pub const REPLY_HEAD: usize = 16;

/// A memory that is not ours: the guest's, by any means the caller has.
pub trait Memory {
    /// Reads from `address` on and returns how many bytes came before the first unreadable one.
    fn read(&self, address: u64, into: &mut [u8]) -> usize;

    /// Like [`Memory::read`], to the end of `out`, for at most `length` bytes.
    fn append(&self, address: u64, length: usize, out: &mut Vec<u8>) -> usize {
        let from = out.len();
        out.resize(from + length, 0);
        let read = self.read(address, &mut out[from..]).min(length);
        out.truncate(from + read);
        read
    }

    /// Writes from `address` on and returns how many bytes were written before the first unwritable one.
    fn write(&mut self, address: u64, from: &[u8]) -> usize;

    /// How many bytes from `address` on, of `length`, a write would accept; without changing anything. Who cannot
    /// know answers `length`: then a bad buffer is found out only after the call.
    fn writable(&self, address: u64, length: usize) -> usize {
        let _ = address;
        length
    }
}

/// Why a message from the other side cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends before what it announces.
    #[error("the message ends too early")]
    Truncated,
    /// It goes on after all it announces.
    #[error("the message holds more than it announces")]
    Excess,
    /// The call is not in the table.
    #[error("call {0} is not in the table")]
    Unknown(u32),
    /// The call must not be performed on behalf of a guest.
    #[error("{0} is not a forwarded call")]
    NotForwarded(&'static str),
    /// The area is too small for it.
    #[error("the area is too small for the call's buffers")]
    NoRoom,
    /// An output is larger than the guest's buffer, or belongs to no buffer.
    #[error("the reply holds output that the call has no room for")]
    Misfit,
}

/// Reads a little-endian number at an offset; what lies beyond the end reads as zero.
pub(crate) fn load(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    let tail = bytes.get(offset..).unwrap_or_default();
    let length = tail.len().min(8);
    number[..length].copy_from_slice(&tail[..length]);
    u64::from_le_bytes(number)
}

/// Writes a little-endian number at an offset, if there is room for it.
fn store(bytes: &mut [u8], offset: usize, number: u64) {
    if let Some(target) = bytes.get_mut(offset..offset.saturating_add(8)) {
        target.copy_from_slice(&number.to_le_bytes());
    }
}

/// A buffer of this many bytes keeps its address modulo this.
fn alignment(room: usize) -> usize {
    if room >= 4096 { 4096 } else { room.checked_ilog2().map_or(1, |bits| 1 << bits) }
}
