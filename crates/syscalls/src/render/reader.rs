//! Finding the pieces of a request again: the walk, with nothing done to them.

use crate::marshal::{Block, Carrier, Location, Malformed, Output, Patch, REQUEST_HEAD, walk};
use crate::spec::Spec;

/// Bytes that were sent.
#[derive(Debug)]
pub(super) struct Input<'b> {
    /// For this argument.
    pub(super) argument: usize,
    /// If for a pointer inside a block: 0 for the argument's own block or, for a block inside that, one more than
    /// the offset of the structure that refers to it; and the offset of the pointer.
    pub(super) inside: Option<(usize, usize)>,
    pub(super) bytes: &'b [u8],
}

/// The pieces of a request, as far as it can be understood.
pub(super) fn read<'b>(spec: &Spec, body: &'b [u8]) -> Vec<Input<'b>> {
    let mut reader = Reader { body, read: REQUEST_HEAD, argument: 0, inputs: Vec::new(), starts: Vec::new() };
    // What comes after something that cannot be understood is not shown.
    let _ = walk(spec, &super::arguments(body), &mut reader);
    reader.inputs
}

struct Reader<'b> {
    body: &'b [u8],
    read: usize,
    argument: usize,
    inputs: Vec<Input<'b>>,
    /// Where blocks begin in the body, and how deep they are, as `Input::inside` counts.
    starts: Vec<(usize, usize)>,
}

impl Reader<'_> {
    fn next(&mut self, length: usize) -> Result<usize, Malformed> {
        let from = self.read;
        let end = from.checked_add(length).filter(|&end| end <= self.body.len());
        self.read = end.ok_or(Malformed::Truncated)?;
        Ok(from)
    }

    fn note(&mut self, patch: Patch, content: usize, sent: usize) {
        let inside = match patch {
            Patch::Argument(argument) => {
                self.argument = argument;
                self.starts.push((content, 0));
                None
            }
            Patch::Inside(location, offset) => {
                let depth = self.starts.iter().rfind(|(start, _)| *start == location.content);
                let depth = depth.map_or(0, |(_, depth)| *depth);
                // The array of a message begins at offset 16 of its header.
                self.starts.push((content, 1 + offset.saturating_sub(16)));
                Some((depth, offset))
            }
        };
        if sent > 0 {
            let bytes = &self.body[content..content + sent];
            self.inputs.push(Input { argument: self.argument, inside, bytes });
        }
    }
}

impl Carrier for Reader<'_> {
    type Stop = Malformed;

    fn block(&mut self, patch: Patch, block: &Block) -> Result<Option<Location>, Malformed> {
        let content = self.next(block.sent)?;
        self.note(patch, content, block.sent);
        Ok(Some(Location { content, area: 0, sent: block.sent }))
    }

    fn string(&mut self, patch: Patch, _: u64, most: usize) -> Result<(), Malformed> {
        let rest = self.body.get(self.read..).unwrap_or_default();
        let length = rest.iter().take(most).position(|&byte| byte == 0).map_or(most, |end| end + 1);
        let content = self.next(length)?;
        self.note(patch, content, length);
        Ok(())
    }

    fn pointers(&mut self, patch: Patch, _: u64) -> Result<Option<Location>, Malformed> {
        let prefix = self.next(4)?;
        let sent = crate::marshal::load(&self.body[..self.read], prefix) as usize;
        let content = self.next(sent)?;
        self.note(patch, content, sent);
        Ok(Some(Location { content, area: 0, sent }))
    }

    fn peek(&mut self, _: u64) -> u32 {
        crate::marshal::load(self.body, self.read) as u32
    }

    fn load(&self, location: Location, offset: usize) -> u64 {
        crate::marshal::load(&self.body[..location.content + location.sent], location.content + offset)
    }

    fn output(&mut self, _: Output) -> Result<(), Malformed> {
        Ok(())
    }

    fn point(&mut self, _: Patch, _: u64) {}

    fn point_nowhere(&mut self, _: Patch) {}

    fn too_large(&self) -> Malformed {
        Malformed::NoRoom
    }

    fn unsteady(&self) -> Malformed {
        Malformed::Misfit
    }
}
