//! The host's second step: writing a call's output into the guest's memory.

use super::{Block, Carrier, Location, Malformed, Memory, Output, Patch, REPLY_HEAD, load, walk};
use crate::spec::{Spec, is_error};
use smallvec::SmallVec;

/// Writes the output of a reply into the guest's memory and returns the result for the guest: what the call
/// returned, or a negative error number.
///
/// Only memory that the call itself handed to the kernel is written, whatever the reply says.
pub fn scatter(
    spec: &Spec,
    args: &[u64; 6],
    reply: &[u8],
    memory: &mut impl Memory,
) -> Result<i64, Malformed> {
    scatter_after(spec, args, 0, reply, memory)
}

/// Like [`scatter`], for the reply to a request made by [`gather_after`](super::gather_after) with the same `done`.
pub fn scatter_after(
    spec: &Spec,
    args: &[u64; 6],
    done: u64,
    reply: &[u8],
    memory: &mut impl Memory,
) -> Result<i64, Malformed> {
    let head: &[u8; REPLY_HEAD] = reply.first_chunk().ok_or(Malformed::Truncated)?;
    let (result, count) = (load(head, 0) as i64, load(head, 8) as u32 as usize);
    let outputs = reply.get(REPLY_HEAD..).unwrap_or_default();
    let list = count.checked_mul(8).and_then(|size| outputs.get(..size)).ok_or(Malformed::Truncated)?;
    let spec = spec.resolve(args);
    let mut scatterer = Scatterer {
        memory,
        done,
        result,
        list: list.as_chunks().0,
        bytes: &outputs[list.len()..],
        scratch: SmallVec::new(),
        written: 0,
        faulted: false,
    };
    if count > 0 {
        walk(spec, args, &mut scatterer)?;
    }
    if !scatterer.list.is_empty() {
        return Err(Malformed::Misfit);
    }
    if !scatterer.bytes.is_empty() {
        return Err(Malformed::Excess);
    }
    if !scatterer.faulted || is_error(result) {
        return Ok(result);
    }
    const EFAULT: i64 = 14;
    Ok(if spec.marks.short && scatterer.written > 0 { scatterer.written } else { -EFAULT })
}

struct Scatterer<'s, M> {
    memory: &'s mut M,
    done: u64,
    result: i64,
    /// Tag and size of the outputs not yet written.
    list: &'s [[u8; 8]],
    /// Their bytes.
    bytes: &'s [u8],
    /// The guest's structures that the walk looks into.
    scratch: SmallVec<[u8; 128]>,
    /// Bytes written before the first fault.
    written: i64,
    faulted: bool,
}

impl<M: Memory> Carrier for Scatterer<'_, M> {
    type Stop = Malformed;

    fn block(&mut self, _: Patch, block: &Block) -> Result<Option<Location>, Malformed> {
        let content = self.scratch.len();
        if block.structure {
            self.scratch.resize(content + block.sent, 0);
            if self.memory.read(block.guest, &mut self.scratch[content..]) < block.sent {
                self.scratch.truncate(content);
                return Ok(None);
            }
        }
        Ok(Some(Location { content, area: 0, sent: block.sent }))
    }

    fn string(&mut self, _: Patch, _: u64, _: usize) -> Result<(), Malformed> {
        Ok(())
    }

    fn pointers(&mut self, _: Patch, _: u64) -> Result<Option<Location>, Malformed> {
        Ok(None)
    }

    fn peek(&mut self, guest: u64) -> u32 {
        let mut word = [0; 4];
        if self.memory.read(guest, &mut word) < 4 { 0 } else { u32::from_le_bytes(word) }
    }

    fn load(&self, location: Location, offset: usize) -> u64 {
        let end = (location.content + location.sent).min(self.scratch.len());
        load(&self.scratch[..end], location.content + offset)
    }

    fn output(&mut self, output: Output) -> Result<(), Malformed> {
        let Some((first, list)) = self.list.split_first() else { return Ok(()) };
        let (tag, size) = (load(first, 0) as u32, load(first, 4) as u32 as usize);
        if tag != output.tag {
            return Ok(());
        }
        if size > output.most || !output.when.holds(self.result) {
            return Err(Malformed::Misfit);
        }
        let (bytes, rest) = self.bytes.split_at_checked(size).ok_or(Malformed::Truncated)?;
        (self.list, self.bytes) = (list, rest);
        if !self.faulted {
            let written = self.memory.write(output.guest, bytes);
            self.written = self.written.saturating_add(written as i64);
            self.faulted = written < size;
        }
        Ok(())
    }

    fn point(&mut self, _: Patch, _: u64) {}

    fn point_nowhere(&mut self, _: Patch) {}

    fn done(&self) -> u64 {
        self.done
    }

    fn messages_that_fit(&mut self, _: u64, count: usize) -> usize {
        // Messages beyond the result have no output. At least one, since none means too many.
        usize::try_from(self.result).unwrap_or(0).clamp(1, count)
    }

    fn too_large(&self) -> Malformed {
        Malformed::Misfit
    }

    fn unsteady(&self) -> Malformed {
        Malformed::Misfit
    }
}
