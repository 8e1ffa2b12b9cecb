//! What the walk over a call's arguments asks of the side that walks.

use crate::spec::When;

/// An address outside a program's half of the address space: the kernel refuses it at once.
pub(crate) const BEYOND: u64 = 1 << 63;
/// An address that the kernel takes for a program's, and faults on when it looks: page zero is never mapped.
pub(crate) const UNMAPPED: u64 = 16;
/// Addresses below are in page zero.
pub(crate) const USER_START: u64 = 4096;
/// The end of what a program can address.
pub(crate) const USER_END: u64 = 0x7fff_ffff_f000;

/// Where the address of a block is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patch {
    /// Into an argument.
    Argument(usize),
    /// Into a block met before, at this offset.
    Inside(Location, usize),
}

/// Where a block is, as its carrier counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Location {
    /// Offset of the bytes that travelled, in the carrier's own store.
    pub(crate) content: usize,
    /// Offset in the area, for a carrier that has one.
    pub(crate) area: usize,
    /// Number of bytes that travelled.
    pub(crate) sent: usize,
}

/// A piece of memory that a call refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Its address in the guest.
    pub(crate) guest: u64,
    /// Bytes that travel to the home.
    pub(crate) sent: usize,
    /// Its size; what is not sent is output only.
    pub(crate) room: usize,
    /// Whether the walk looks into it.
    pub(crate) structure: bool,
    /// Whether the kernel may perform the call with a part of it. If not, it takes it whole or faults.
    pub(crate) divisible: bool,
}

/// Bytes of a block that the call may write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Its name in the reply.
    pub(crate) tag: u32,
    /// Its address in the guest.
    pub(crate) guest: u64,
    /// Its offset in the area.
    pub(crate) area: usize,
    /// The guest's room for it.
    pub(crate) most: usize,
    /// When it is written.
    pub(crate) when: When,
    /// How much of it.
    pub(crate) amount: Amount,
}

/// How much of an output is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    /// All.
    Whole,
    /// `head + size × source - skip` bytes.
    Counted { source: Source, size: u32, head: u32, skip: u64 },
}

/// Where the kernel tells how much it wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// In the result.
    Result,
    /// In the 32-bit number at this offset of the area.
    Word(usize),
    /// In the 64-bit number at this offset of the area.
    Long(usize),
}

/// What one side does in the course of a walk.
pub(crate) trait Carrier {
    /// Why it may stop.
    type Stop;

    /// Takes a block on, and writes its address where it belongs. `None`: it cannot be used, and [`UNMAPPED`] was
    /// written.
    fn block(&mut self, patch: Patch, block: &Block) -> Result<Option<Location>, Self::Stop>;
    /// Takes a string of at most this many bytes on.
    fn string(&mut self, patch: Patch, guest: u64, most: usize) -> Result<(), Self::Stop>;
    /// Takes a vector of addresses on, as far as the null address that ends it.
    fn pointers(&mut self, patch: Patch, guest: u64) -> Result<Option<Location>, Self::Stop>;
    /// The first 32 bits of a block before it is taken on.
    fn peek(&mut self, guest: u64) -> u32;
    /// A number in a structure.
    fn load(&self, location: Location, offset: usize) -> u64;
    /// Notes an output.
    fn output(&mut self, output: Output) -> Result<(), Self::Stop>;
    /// Writes an address that needs no block.
    fn point(&mut self, patch: Patch, address: u64);
    /// Writes an address for a buffer of no bytes.
    fn point_nowhere(&mut self, patch: Patch);

    /// Changes a number in a structure that the kernel will see.
    fn store(&mut self, location: Location, offset: usize, number: u64) {
        let _ = (location, offset, number);
    }
    /// Changes an argument that the kernel will see.
    fn argument(&mut self, index: usize, number: u64) {
        let _ = (index, number);
    }

    // What follows only the side of the guest does.

    /// Bytes of the transfer that are behind us.
    fn done(&self) -> u64 {
        0
    }
    /// How many of these bytes can still be taken on.
    fn fits(&self, wanted: usize) -> usize {
        wanted
    }
    /// How many of the messages can be taken on.
    fn messages_that_fit(&mut self, guest: u64, count: usize) -> usize {
        let _ = guest;
        count
    }
    /// How many of these bytes can be written.
    fn writable(&self, guest: u64, length: usize) -> usize {
        let _ = guest;
        length
    }
    /// Notes that only this many bytes are transferred.
    fn capped(&mut self, covered: u64) {
        let _ = covered;
    }
    /// The call is too large to be carried.
    fn too_large(&self) -> Self::Stop;
    /// The call's memory changes while it is read.
    fn unsteady(&self) -> Self::Stop;
}
