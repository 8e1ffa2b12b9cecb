//! The home's second step: naming what a call wrote into the area.

use super::carrier::{Amount, Source};
use super::{Output, Placed, REPLY_HEAD, load};
use smallvec::SmallVec;

/// The reply to a request: a head of its own, and slices of the area.
#[derive(Debug)]
pub struct Reply<'a> {
    head: SmallVec<[u8; REPLY_HEAD + 6 * 8]>,
    outputs: SmallVec<[&'a [u8]; 6]>,
}

impl Reply<'_> {
    /// The bytes of the reply, piece by piece: its head first, then slices of the area.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(self.head.as_slice()).chain(self.outputs.iter().copied())
    }

    /// Size of the whole reply in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }

    /// Appends the whole reply to `out`.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.size());
        self.parts().for_each(|part| out.extend_from_slice(part));
    }
}

/// Describes what the call wrote, given its raw result (an error number is negative; the kernel's restart codes,
/// -512 to -516, pass as they are).
///
/// `area` is the one the request was placed in.
#[must_use]
pub fn collect<'a>(placed: &Placed, ret: i64, area: &'a [u8]) -> Reply<'a> {
    let mut reply = Reply { head: SmallVec::new(), outputs: SmallVec::new() };
    reply.head.extend_from_slice(&ret.to_le_bytes());
    reply.head.extend_from_slice(&[0; 8]);
    for output in &placed.outputs {
        let written = written(output, ret, area);
        if written > 0
            && let Some(part) = area.get(output.area..output.area + written)
        {
            reply.head.extend_from_slice(&output.tag.to_le_bytes());
            reply.head.extend_from_slice(&(written as u32).to_le_bytes());
            reply.outputs.push(part);
        }
    }
    let count = reply.outputs.len() as u32;
    reply.head[8..12].copy_from_slice(&count.to_le_bytes());
    reply
}

/// How many bytes of an output the call wrote.
pub(crate) fn written(output: &Output, ret: i64, area: &[u8]) -> usize {
    if !output.when.holds(ret) {
        return 0;
    }
    match output.amount {
        Amount::Whole => output.most,
        Amount::Counted { source, size, head, skip } => {
            let count = match source {
                Source::Result => u64::try_from(ret).unwrap_or(0),
                Source::Word(at) => load(area, at) & 0xffff_ffff,
                Source::Long(at) => load(area, at),
            };
            let bytes =
                count.saturating_mul(u64::from(size)).saturating_add(u64::from(head)).saturating_sub(skip);
            usize::try_from(bytes).unwrap_or(usize::MAX).min(output.most)
        }
    }
}
