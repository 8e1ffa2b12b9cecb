//! The walk over a call's arguments that gather, place and scatter share.
//!
//! It says which blocks of memory a call has, how large they are, which pointer refers to each, and what of them
//! is output. A [`Carrier`] does with a block what its side has to do. Whatever the walk needs to know it takes from
//! the arguments and from bytes that travel, so that both sides come to the same blocks in the same order.

use super::carrier::{
    Amount, BEYOND, Block, Carrier, Location, Output, Patch, Source, UNMAPPED, USER_END, USER_START,
};
use crate::spec::{Counted, Data, Direction, Format, Kind, Length, Spec, When};

/// The kernel moves no more bytes than this at once.
pub(super) const MOST_TRANSFERRED: u64 = 0x7fff_f000;
/// The longest path or name, with its NUL.
const MOST_STRING: usize = 4096;
/// The longest string the kernel takes in argv and envp, and one more byte.
const MOST_ARGUMENT: usize = 131_073;
/// The kernel looks at no more bits of a set than there can be descriptors.
const MOST_BITS: u64 = 1 << 20;

/// Walks over the arguments of a call. `spec` must be resolved.
pub(crate) fn walk<C: Carrier>(spec: &Spec, arguments: &[u64; 6], carrier: &mut C) -> Result<(), C::Stop> {
    let mut walk = Walk { spec, arguments: *arguments, counters: [None; 6], carrier };
    // Numbers behind pointers before what they count, and what may be cut to the remaining room last.
    for turn in 0..3 {
        for (index, argument) in spec.arguments.iter().enumerate().take(6) {
            if turn_of(spec, argument.kind) == turn {
                walk.argument(index, argument.kind, argument.when)?;
            }
        }
    }
    Ok(())
}

fn turn_of(spec: &Spec, kind: Kind) -> u8 {
    match kind {
        Kind::Data(data) if matches!(data.length, Length::Pointee(_)) => 1,
        Kind::Data(data) if is_divisible(spec, &data) => 2,
        Kind::Vector(..) => 2,
        _ => 0,
    }
}

/// Whether the call may be performed with a part of this buffer.
fn is_divisible(spec: &Spec, data: &Data) -> bool {
    let counted = matches!(data.length, Length::Argument(_) | Length::Returned(_));
    spec.marks.short && counted && data.size == 1 && data.head == 0 && data.most == u32::MAX
}

pub(super) struct Walk<'w, C> {
    pub(super) spec: &'w Spec,
    pub(super) arguments: [u64; 6],
    /// The numbers behind pointer arguments, and where they are in the area.
    counters: [Option<(u32, usize)>; 6],
    pub(super) carrier: &'w mut C,
}

impl<C: Carrier> Walk<'_, C> {
    fn argument(&mut self, index: usize, kind: Kind, when: When) -> Result<(), C::Stop> {
        let patch = Patch::Argument(index);
        let value = self.arguments[index];
        if !kind.is_pointer() || kind == Kind::Address {
            if kind == Kind::Value(Format::Position) && self.carrier.done() > 0 && value != u64::MAX {
                self.carrier.argument(index, value.wrapping_add(self.carrier.done()));
            }
            return Ok(());
        }
        if !self.follows(patch, value) {
            return Ok(());
        }
        match kind {
            Kind::Str => self.carrier.string(patch, value, MOST_STRING),
            Kind::Strings => self.strings(patch, value),
            Kind::Data(data) if is_divisible(self.spec, &data) => self.divisible(index, &data),
            Kind::Data(data) => self.data(index, &data, when),
            Kind::Vector(direction, count) => self.vector(index, count, direction),
            Kind::Message(direction) => self.single_message(index, direction),
            Kind::Messages(direction, count) => self.messages(index, count, direction),
            Kind::Bits(count) => self.bits(index, count),
            Kind::MaskPair => self.mask_pair(patch, value),
            Kind::Counted(counted) => self.counted(index, &counted, when),
            Kind::Value(_) | Kind::Fd | Kind::Address => Ok(()),
        }
    }

    /// Whether an address is to be followed. If not, the home gets one of the same effect.
    pub(super) fn follows(&mut self, patch: Patch, address: u64) -> bool {
        if address > USER_END {
            self.carrier.point(patch, BEYOND);
        } else if address < USER_START {
            self.carrier.point(patch, address);
        }
        (USER_START..=USER_END).contains(&address)
    }

    /// Takes a block of fixed size on.
    pub(super) fn take(
        &mut self,
        patch: Patch,
        guest: u64,
        room: usize,
        direction: Direction,
        structure: bool,
    ) -> Result<Option<Location>, C::Stop> {
        if room == 0 {
            self.carrier.point_nowhere(patch);
            return Ok(None);
        }
        if guest.saturating_add(room as u64) > USER_END {
            self.carrier.point(patch, BEYOND);
            return Ok(None);
        }
        if direction.is_written() && self.carrier.writable(guest, room) == 0 {
            self.carrier.point(patch, UNMAPPED);
            return Ok(None);
        }
        let sent = if direction.is_read() { room } else { 0 };
        // Where the kernel writes, it may look at less than the size that it is told.
        let divisible = direction == Direction::InOut;
        self.carrier.block(patch, &Block { guest, sent, room, structure, divisible })
    }

    fn data(&mut self, index: usize, data: &Data, when: When) -> Result<(), C::Stop> {
        let (patch, guest) = (Patch::Argument(index), self.arguments[index]);
        let size = u64::from(data.size);
        let counted = |source| Amount::Counted { source, size: data.size, head: data.head, skip: 0 };
        let (count, amount) = match data.length {
            Length::Fixed(count) => (Some(u64::from(count)), Amount::Whole),
            Length::Argument(count) => (self.spec.number_in(&self.arguments, count), Amount::Whole),
            Length::Returned(count) => (self.spec.number_in(&self.arguments, count), counted(Source::Result)),
            Length::Exactly(bytes, count) => {
                let exact = self.arguments[usize::from(count)] == u64::from(bytes);
                (exact.then_some(u64::from(bytes)), Amount::Whole)
            }
            Length::Encoded(command) => {
                (Some(self.arguments[usize::from(command)] >> 16 & 0x3fff), Amount::Whole)
            }
            Length::Pointee(count) => match self.counters[usize::from(count)] {
                None => (Some(0), Amount::Whole),
                Some((number, at)) => {
                    let count = i32::try_from(number).ok().map(|_| u64::from(number));
                    (count, counted(Source::Word(at)))
                }
            },
        };
        let Some(count) = count else {
            self.carrier.point(patch, BEYOND);
            return Ok(());
        };
        let bytes = count.saturating_mul(size).saturating_add(u64::from(data.head)).min(u64::from(data.most));
        let Ok(room) = usize::try_from(bytes) else { return Err(self.carrier.too_large()) };
        if self.carrier.fits(room) < room {
            return Err(self.carrier.too_large());
        }
        let is_counter = self.spec.arguments.iter().any(|argument| {
            matches!(argument.kind, Kind::Data(Data { length: Length::Pointee(n), .. }) if usize::from(n) == index)
        });
        let Some(at) = self.take(patch, guest, room, data.direction, is_counter)? else { return Ok(()) };
        if is_counter {
            self.counters[index] = Some((self.carrier.load(at, 0) as u32, at.area));
        }
        if data.direction.is_written() {
            let tag = (index as u32) << 29;
            self.carrier.output(Output { tag, guest, area: at.area, most: room, when, amount })?;
        }
        Ok(())
    }

    /// The buffer of read, write and their kin.
    fn divisible(&mut self, index: usize, data: &Data) -> Result<(), C::Stop> {
        let patch = Patch::Argument(index);
        let (Length::Argument(counter) | Length::Returned(counter)) = data.length else { return Ok(()) };
        let Some(bytes) = self.spec.number_in(&self.arguments, counter) else {
            self.carrier.point(patch, BEYOND);
            return Ok(());
        };
        if self.arguments[index].saturating_add(bytes) > USER_END {
            self.carrier.point(patch, BEYOND);
            return Ok(());
        }
        let skipped = self.carrier.done().min(bytes);
        let guest = self.arguments[index] + skipped;
        let wanted = bytes - skipped;
        let mut room = self.carrier.fits(wanted.min(MOST_TRANSFERRED) as usize);
        if room == 0 && wanted > 0 {
            return Err(self.carrier.too_large());
        }
        if data.direction == Direction::Out && room > 0 {
            room = self.carrier.writable(guest, room).min(room);
            if room == 0 {
                self.carrier.point(patch, UNMAPPED);
                self.carrier.argument(usize::from(counter), wanted);
                return Ok(());
            }
        }
        if (room as u64) < wanted.min(MOST_TRANSFERRED) {
            self.carrier.capped(room as u64);
        }
        if room as u64 != bytes {
            self.carrier.argument(usize::from(counter), room as u64);
        }
        if room == 0 {
            self.carrier.point_nowhere(patch);
            return Ok(());
        }
        let sent = if data.direction.is_read() { room } else { 0 };
        let block = Block { guest, sent, room, structure: false, divisible: true };
        let Some(at) = self.carrier.block(patch, &block)? else { return Ok(()) };
        if data.direction.is_written() {
            let amount = Amount::Counted { source: Source::Result, size: 1, head: 0, skip: 0 };
            let tag = (index as u32) << 29;
            self.carrier.output(Output {
                tag,
                guest,
                area: at.area,
                most: room,
                when: When::Success,
                amount,
            })?;
        }
        Ok(())
    }

    fn bits(&mut self, index: usize, counter: u8) -> Result<(), C::Stop> {
        let (patch, guest) = (Patch::Argument(index), self.arguments[index]);
        let Some(count) = self.spec.number_in(&self.arguments, counter) else {
            self.carrier.point(patch, BEYOND);
            return Ok(());
        };
        if count > MOST_BITS {
            return Err(self.carrier.too_large());
        }
        let room = count.div_ceil(64) as usize * 8;
        if room == 0 {
            self.carrier.point_nowhere(patch);
            return Ok(());
        }
        if self.carrier.writable(guest, room) == 0 {
            self.carrier.point(patch, UNMAPPED);
            return Ok(());
        }
        // The kernel may know that there are fewer descriptors, and look at less.
        let block = Block { guest, sent: room, room, structure: false, divisible: true };
        if let Some(at) = self.carrier.block(patch, &block)? {
            let (tag, most) = ((index as u32) << 29, room);
            let (when, amount) = (When::Success, Amount::Whole);
            self.carrier.output(Output { tag, guest, area: at.area, most, when, amount })?;
        }
        Ok(())
    }

    fn mask_pair(&mut self, patch: Patch, guest: u64) -> Result<(), C::Stop> {
        let Some(at) = self.take(patch, guest, 16, Direction::In, true)? else { return Ok(()) };
        let (mask, size) = (self.carrier.load(at, 0), self.carrier.load(at, 8));
        let patch = Patch::Inside(at, 0);
        if !self.follows(patch, mask) {
            return Ok(());
        }
        if size != 8 {
            self.carrier.point(patch, BEYOND);
            return Ok(());
        }
        self.take(patch, mask, 8, Direction::In, false)?;
        Ok(())
    }

    fn strings(&mut self, patch: Patch, guest: u64) -> Result<(), C::Stop> {
        let Some(at) = self.carrier.pointers(patch, guest)? else { return Ok(()) };
        for offset in (0..at.sent.saturating_sub(8)).step_by(8) {
            let (patch, guest) = (Patch::Inside(at, offset), self.carrier.load(at, offset));
            if self.follows(patch, guest) {
                self.carrier.string(patch, guest, MOST_ARGUMENT)?;
            }
        }
        Ok(())
    }

    fn counted(&mut self, index: usize, counted: &Counted, when: When) -> Result<(), C::Stop> {
        let (patch, guest) = (Patch::Argument(index), self.arguments[index]);
        let first = self.carrier.peek(guest);
        let room = counted.base.saturating_add(first).clamp(counted.least, counted.most) as usize;
        let Some(at) = self.take(patch, guest, room, counted.direction, true)? else { return Ok(()) };
        if self.carrier.load(at, 0) as u32 != first {
            return Err(self.carrier.unsteady());
        }
        if counted.direction.is_written() {
            let (tag, amount) = ((index as u32) << 29, Amount::Whole);
            self.carrier.output(Output { tag, guest, area: at.area, most: room, when, amount })?;
        }
        Ok(())
    }
}
