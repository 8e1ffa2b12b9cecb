//! The memory of a guest that comes home: its pages, and the shape of its address space.

use crate::behind;
use crate::fault::{Fault, Result};
use crate::kept::Kept;
use crate::parked::{Parked, call};
use crate::sole::Sole;
use minka_image::PAGE;
use minka_image::origin::{self, Step, Wanted};
use minka_image::ranges::Ranges;
use minka_kernel::procfs;
use minka_wire::message::Leaving;
use std::io;

/// Writes pages where they belong, as far as there is a place for them.
pub(crate) fn write_pages(parked: &Parked, address: u64, content: &[u8]) -> Result<()> {
    check_place(&parked.kept, address, content)?;
    let write = |at: u64, piece: &[u8]| parked.memory.poke(at, piece);
    let written = write_fitting(&parked.sole, parked.pid, address, content, write);
    written.map_err(|error| Fault::Io("write a page that came home", error))
}

/// Writes pages of a process, but for what lies behind the end of a file that somebody has cut short meanwhile: the kernel
/// would have dropped it.
pub(super) fn write_fitting(
    sole: &Sole,
    pid: i32,
    address: u64,
    content: &[u8],
    write: impl Fn(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let Err(error) = sole.write_fitting(address, content, &write) else { return Ok(()) };
    let maps = procfs::maps(pid)?;
    let mut fitting = Ranges::new();
    let end = address.saturating_add(content.len() as u64);
    fitting.set(address, end, ());
    for (_, (start, end)) in behind::parts_behind(pid, &maps) {
        fitting.clear(start, end);
    }
    let pieces: Vec<_> = fitting.iter().map(|(start, end, ())| (start, end)).collect();
    if pieces == [(address, end)] {
        return Err(error);
    }
    pieces.into_iter().try_for_each(|(start, end)| {
        write(start, &content[(start - address) as usize..(end - address) as usize])
    })
}

/// Whether the guest can have content at this place.
pub(super) fn check_place(kept: &Kept, address: u64, content: &[u8]) -> Result<()> {
    if kept.allows(address, content.len() as u64) {
        return Ok(());
    }
    let length = content.len();
    Err(Fault::Said(format!("the host sent {length} bytes for {address:#x}")))
}

/// Makes the address space what it was in the guest.
pub(super) fn rearrange(parked: &Parked, leaving: &Leaving) -> Result<()> {
    if leaving.state.brk != parked.borders.brk {
        let reached = parked.call(call::BRK, &[leaving.state.brk])?;
        if reached as u64 != leaving.state.brk {
            return Err(Fault::Rearrange { what: format!("brk {:#x}", leaving.state.brk), result: reached });
        }
    }
    let home = procfs::maps(parked.pid).map_err(|error| Fault::Io("read its maps", error))?;
    let wanted: Vec<Wanted> = leaving.space.iter().copied().map(Wanted::from).collect();
    if let Some(piece) = wanted.iter().find(|piece| !is_credible(piece, &parked.kept)) {
        return Err(Fault::Said(format!("the host returned a piece of memory at {:#x}", piece.start)));
    }
    let steps = origin::rearrange(&home, &wanted, &[parked.agents.ring().range()])
        .map_err(|room| Fault::Said(format!("no room for {} bytes while rearranging memory", room.length)))?;
    steps.into_iter().try_for_each(|step| carry_out(parked, step))
}

/// Whether there can be such a piece: whole pages, from memory of the guest's to memory of the guest's.
fn is_credible(piece: &Wanted, kept: &Kept) -> bool {
    let Wanted { start, end, source, .. } = *piece;
    let aligned = [start, end, source.unwrap_or_default()].iter().all(|address| address.is_multiple_of(PAGE));
    let length = end.saturating_sub(start);
    aligned && kept.allows(start, length) && source.is_none_or(|source| kept.allows(source, length))
}

fn carry_out(parked: &Parked, step: Step) -> Result<()> {
    const MAYMOVE_FIXED: u64 = 3;
    const PRIVATE_ANONYMOUS_FIXED_NORESERVE: u64 = 0x02 | 0x20 | 0x10 | 0x4000;
    const NO_DESCRIPTOR: u64 = u64::MAX;
    let (expected, result) = match step {
        Step::Move { from, to, length } => {
            (to as i64, parked.call(call::MREMAP, &[from, length, length, MAYMOVE_FIXED, to])?)
        }
        Step::Unmap { start, length } => (0, parked.call(call::MUNMAP, &[start, length])?),
        Step::Map { start, length, protection } => {
            let flags = PRIVATE_ANONYMOUS_FIXED_NORESERVE;
            let arguments = [start, length, u64::from(protection), flags, NO_DESCRIPTOR, 0];
            (start as i64, parked.call(call::MMAP, &arguments)?)
        }
        Step::Extend { end, length, protection } => {
            let last = end - PAGE;
            if parked.call(call::MREMAP, &[last, PAGE, PAGE + length, 0])? as u64 == last {
                return Ok(());
            }
            return carry_out(parked, Step::Map { start: end, length, protection });
        }
        Step::Protect { start, length, protection } => {
            (0, parked.call(call::MPROTECT, &[start, length, u64::from(protection)])?)
        }
        Step::GrowStack { to } => {
            // Any call that reads a string there makes the kernel grow the stack; what it finds does not matter.
            parked.call(call::ACCESS, &[to, 0])?;
            (0, 0)
        }
    };
    if result == expected { Ok(()) } else { Err(Fault::Rearrange { what: format!("{step:x?}"), result }) }
}
