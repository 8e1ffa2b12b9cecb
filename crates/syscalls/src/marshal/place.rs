//! The home's first step: laying a request's blocks out in the area and rewriting its pointers.

use super::{Block, Carrier, Location, Malformed, Output, Patch, REQUEST_HEAD, Started};
use super::{alignment, load, store, walk};
use crate::spec::{Kind, Place, Spec};
use smallvec::SmallVec;

/// A call ready to be made.
#[derive(Debug)]
pub struct Placed {
    number: u32,
    arguments: [u64; 6],
    spec: &'static Spec,
    pub(crate) outputs: SmallVec<[Output; 4]>,
}

impl Placed {
    /// The call's number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its arguments; pointers lead into the area, are null, or fault.
    #[must_use]
    pub fn arguments(&self) -> &[u64; 6] {
        &self.arguments
    }

    /// The line of the table that describes it.
    #[must_use]
    pub fn spec(&self) -> &'static Spec {
        self.spec
    }
}

/// Copies the input of a request into `area`, which the process that makes the call sees at `area_address`.
///
/// Only forwarded calls are taken: whatever the body says, the pointers of the call lead into the area or nowhere,
/// and the kernel writes no further than the area.
pub fn place(body: &[u8], area: &mut [u8], area_address: u64) -> Result<Placed, Malformed> {
    place_started(body, area, area_address, Started::default())
}

/// Like [`place`], for a request of which a part has been placed while it arrived.
pub fn place_started(
    body: &[u8],
    area: &mut [u8],
    area_address: u64,
    started: Started,
) -> Result<Placed, Malformed> {
    place_if(Place::is_forwarded, body, area, area_address, started)
}

/// Like [`place`], for the calls that the supervisors have code of their own for. Arguments that the table calls
/// numbers or plain addresses are the guest's: to be checked before the call is made.
pub fn place_own(body: &[u8], area: &mut [u8], area_address: u64) -> Result<Placed, Malformed> {
    place_if(|place| place == Place::Own, body, area, area_address, Started::default())
}

fn place_if(
    accepts: fn(Place) -> bool,
    body: &[u8],
    area: &mut [u8],
    area_address: u64,
    started: Started,
) -> Result<Placed, Malformed> {
    let head: &[u8; REQUEST_HEAD] = body.first_chunk().ok_or(Malformed::Truncated)?;
    let nr = load(head, 0) as u32;
    let args: [u64; 6] = core::array::from_fn(|index| load(head, REQUEST_HEAD - 48 + 8 * index));
    let line = crate::lookup(u64::from(nr)).ok_or(Malformed::Unknown(nr))?;
    let (spec, place) = line.settle(&args);
    let plain = |(kind, address): (Kind, u64)| kind == Kind::Address && address != 0;
    let kinds = spec.arguments.iter().map(|argument| argument.kind);
    if !accepts(place) || spec.marks.absent || (place != Place::Own && kinds.zip(args).any(plain)) {
        return Err(Malformed::NotForwarded(spec.name));
    }
    // What the table does not describe the kernel does not look at; should it, it finds nothing.
    let described = spec.arguments.len();
    let arguments = core::array::from_fn(|index| if index < described { args[index] } else { 0 });
    let placed = Placed { number: nr, arguments, spec, outputs: SmallVec::new() };
    let mut placer = Placer { body, read: REQUEST_HEAD, area, area_address, used: 0, started, placed };
    walk(spec, &args, &mut placer)?;
    if placer.read != body.len() {
        return Err(Malformed::Excess);
    }
    Ok(placer.placed)
}

struct Placer<'p> {
    body: &'p [u8],
    /// How much of the body has been read.
    read: usize,
    area: &'p mut [u8],
    area_address: u64,
    /// How much of the area is taken.
    used: usize,
    started: Started,
    placed: Placed,
}

impl Placer<'_> {
    /// The next bytes of the body.
    fn next(&mut self, length: usize) -> Result<usize, Malformed> {
        let end = self.read.checked_add(length).filter(|&end| end <= self.body.len());
        let from = self.read;
        self.read = end.ok_or(Malformed::Truncated)?;
        Ok(from)
    }

    /// Takes room for a block and fills it with `sent` bytes of the body from `content` on.
    fn lay(
        &mut self,
        patch: Patch,
        guest: u64,
        room: usize,
        content: usize,
        sent: usize,
    ) -> Result<usize, Malformed> {
        let here = self.area_address.wrapping_add(self.used as u64);
        let shift = guest.wrapping_sub(here) as usize & (alignment(room) - 1);
        let from = self.used.checked_add(shift).ok_or(Malformed::NoRoom)?;
        let end = from.checked_add(room).ok_or(Malformed::NoRoom)?;
        let block = self.area.get_mut(from..end).ok_or(Malformed::NoRoom)?;
        let bytes = self.body.get(content..content + sent.min(room)).ok_or(Malformed::Truncated)?;
        let there = self.started.of(content, from).min(bytes.len());
        block[there..bytes.len()].copy_from_slice(&bytes[there..]);
        if !bytes.is_empty() {
            block[bytes.len()..].fill(0);
        }
        self.used = end;
        self.point(patch, self.area_address.wrapping_add(from as u64));
        Ok(from)
    }
}

impl Carrier for Placer<'_> {
    type Stop = Malformed;

    fn block(&mut self, patch: Patch, block: &Block) -> Result<Option<Location>, Malformed> {
        let content = self.next(block.sent)?;
        let area = self.lay(patch, block.guest, block.room, content, block.sent)?;
        Ok(Some(Location { content, area, sent: block.sent }))
    }

    fn string(&mut self, patch: Patch, guest: u64, most: usize) -> Result<(), Malformed> {
        let rest = self.body.get(self.read..).unwrap_or_default();
        let length = match rest.iter().take(most).position(|&byte| byte == 0) {
            Some(end) => end + 1,
            None if rest.len() >= most => most,
            None => return Err(Malformed::Truncated),
        };
        let content = self.next(length)?;
        self.lay(patch, guest, length + 1, content, length)?;
        Ok(())
    }

    fn pointers(&mut self, patch: Patch, guest: u64) -> Result<Option<Location>, Malformed> {
        let prefix = self.next(4)?;
        let sent = load(&self.body[..self.read], prefix) as usize;
        let content = self.next(sent)?;
        let ends = self.body[content..self.read].as_chunks::<8>().0.last() == Some(&[0; 8]);
        if !sent.is_multiple_of(8) || !ends {
            return Err(Malformed::Misfit);
        }
        let area = self.lay(patch, guest, sent, content, sent)?;
        Ok(Some(Location { content, area, sent }))
    }

    fn peek(&mut self, _: u64) -> u32 {
        load(self.body, self.read) as u32
    }

    fn load(&self, location: Location, offset: usize) -> u64 {
        let end = (location.content + location.sent).min(self.body.len());
        load(&self.body[..end], location.content + offset)
    }

    fn output(&mut self, output: Output) -> Result<(), Malformed> {
        self.placed.outputs.push(output);
        Ok(())
    }

    fn point(&mut self, patch: Patch, address: u64) {
        match patch {
            Patch::Argument(index) => self.placed.arguments[index] = address,
            Patch::Inside(location, offset) => store(self.area, location.area + offset, address),
        }
    }

    fn point_nowhere(&mut self, patch: Patch) {
        self.point(patch, self.area_address.wrapping_add(self.used as u64));
    }

    fn store(&mut self, location: Location, offset: usize, number: u64) {
        store(self.area, location.area + offset, number);
    }

    fn argument(&mut self, index: usize, number: u64) {
        self.placed.arguments[index] = number;
    }

    fn too_large(&self) -> Malformed {
        Malformed::NoRoom
    }

    fn unsteady(&self) -> Malformed {
        Malformed::Misfit
    }
}
