//! The walk over a call's arguments that gather, place and scatter share.
//!
//! It says which blocks of memory a call has, how large they are, which pointer refers to each, and what of them
//! is output. A [`Carrier`] does with a block what its side has to do. Whatever the walk needs to know it takes from
//! the arguments and from bytes that travel, so that both sides come to the same blocks in the same order.

use super::Memory;
use crate::spec::{Counted, Data, Direction, Format, Kind, Length, Spec, When};

/// An address that faults at home: it is in no process's half of the address space.
pub(crate) const BAD: u64 = 1 << 63;
/// The end of what a program can address.
pub(crate) const USER_END: u64 = 0x7fff_ffff_f000;
/// The kernel moves no more bytes than this at once.
const MOST_TRANSFERRED: u64 = 0x7fff_f000;
/// The longest array of `struct iovec`, and of `struct mmsghdr`.
const MOST_VECTORS: u64 = 1024;
/// The longest path or name, with its NUL.
const MOST_STRING: usize = 4096;
/// The longest string the kernel takes in argv and envp, and one more byte.
const MOST_ARGUMENT: usize = 131_073;
/// The kernel looks at no more bits of a set than there can be descriptors.
const MOST_BITS: u64 = 1 << 20;
/// The longest socket address.
const MOST_NAME: u32 = 128;

const VECTOR: usize = 16;
const MESSAGE: usize = 56;
const MULTI_MESSAGE: usize = 64;

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
    /// What becomes of it when it cannot be read in full.
    pub(crate) lack: Lack,
    /// The address that stands for it when it cannot be used.
    pub(crate) bad: u64,
}

/// What to do with input that cannot be read in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The kernel takes it whole or not at all.
    Fault,
    /// The kernel would perform a part of the call.
    Part,
    /// The kernel may not look at the rest; it is sent with its real size.
    Tolerated,
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

    /// Takes a block on, and writes its address where it belongs. `None`: it cannot be used, and its address was
    /// replaced.
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
    /// Changes a number in a structure that travels.
    fn store(&mut self, location: Location, offset: usize, number: u64) {
        let _ = (location, offset, number);
    }
    /// Changes an argument that travels.
    fn argument(&mut self, index: usize, number: u64) {
        let _ = (index, number);
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

/// The direction of a structure that is read, and also written if what it describes is.
fn both_ways(direction: Direction) -> Direction {
    if direction.is_written() { Direction::InOut } else { Direction::In }
}

/// Whether the call may be performed with a part of this buffer.
fn is_divisible(spec: &Spec, data: &Data) -> bool {
    let counted = matches!(data.length, Length::Argument(_) | Length::Returned(_));
    spec.marks.short && counted && data.size == 1 && data.head == 0 && data.most == u32::MAX
}

struct Walk<'w, C> {
    spec: &'w Spec,
    arguments: [u64; 6],
    /// The numbers behind pointer arguments, and where they are in the area.
    counters: [Option<(u32, usize)>; 6],
    carrier: &'w mut C,
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
        if value == 0 || value >= USER_END {
            self.carrier.point(patch, if value == 0 { 0 } else { BAD });
            return Ok(());
        }
        let tag = (index as u32) << 29;
        match kind {
            Kind::Str => self.carrier.string(patch, value, MOST_STRING),
            Kind::Strings => self.strings(patch, value),
            Kind::Data(data) if is_divisible(self.spec, &data) => self.divisible(index, &data),
            Kind::Data(data) => self.data(index, &data, when),
            Kind::Vector(direction, count) => self.vector(index, count, direction),
            Kind::Message(direction) => {
                let Some(at) = self.take(patch, value, MESSAGE, both_ways(direction), true)? else {
                    return Ok(());
                };
                self.message(at, 0, value, direction, tag, (Source::Result, When::Success))
            }
            Kind::Messages(direction, count) => self.messages(index, count, direction),
            Kind::Bits(count) => self.bits(index, count),
            Kind::MaskPair => self.mask_pair(patch, value),
            Kind::Counted(counted) => self.counted(index, &counted, when),
            Kind::Value(_) | Kind::Fd | Kind::Address => Ok(()),
        }
    }

    /// Takes a block of fixed size on.
    fn take(
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
        let beyond = guest.saturating_add(room as u64) > USER_END;
        if beyond || (direction.is_written() && self.carrier.writable(guest, room) == 0) {
            self.carrier.point(patch, BAD);
            return Ok(None);
        }
        let sent = if direction.is_read() { room } else { 0 };
        self.carrier.block(patch, &Block { guest, sent, room, structure, lack: Lack::Fault, bad: BAD })
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
            self.carrier.point(patch, BAD);
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
            self.carrier.point(patch, BAD);
            return Ok(());
        };
        if self.arguments[index].saturating_add(bytes) > USER_END {
            self.carrier.point(patch, BAD);
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
                self.carrier.point(patch, BAD);
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
        let block = Block { guest, sent, room, structure: false, lack: Lack::Part, bad: BAD };
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

    fn vector(&mut self, index: usize, counter: u8, direction: Direction) -> Result<(), C::Stop> {
        let (patch, guest) = (Patch::Argument(index), self.arguments[index]);
        let count = self.spec.number_in(&self.arguments, counter).unwrap_or(u64::MAX);
        if count > MOST_VECTORS {
            // The kernel refuses the count before it looks at the array.
            self.carrier.point(patch, BAD);
            return Ok(());
        }
        let count = count as usize;
        let Some(at) = self.take(patch, guest, count * VECTOR, Direction::In, true)? else { return Ok(()) };
        let elements = Elements {
            direction,
            tag: (index as u32) << 29,
            source: Source::Result,
            when: When::Success,
            limit: Limit::Resumable,
        };
        self.elements(at, count, &elements)
    }

    /// The buffers that an array of `struct iovec` refers to.
    fn elements(&mut self, at: Location, count: usize, of: &Elements) -> Result<(), C::Stop> {
        let resumable = of.limit == Limit::Resumable;
        let mut skip = if resumable { self.carrier.done() } else { 0 };
        let mut total = 0_u64;
        let mut full = false;
        for element in 0..count {
            let offset = element * VECTOR;
            let patch = Patch::Inside(at, offset);
            let (base, length) = (self.carrier.load(at, offset), self.carrier.load(at, offset + 8));
            if full {
                self.carrier.point(patch, 0);
                self.carrier.store(at, offset + 8, 0);
                continue;
            }
            if length > i64::MAX as u64 || base.saturating_add(length) > USER_END {
                self.carrier.point(patch, BAD);
                continue;
            }
            let skipped = skip.min(length);
            skip -= skipped;
            let guest = base + skipped;
            let wanted = (length - skipped).min(MOST_TRANSFERRED - total) as usize;
            if wanted as u64 != length {
                self.carrier.store(at, offset + 8, wanted as u64);
            }
            if wanted == 0 {
                self.carrier.point_nowhere(patch);
                continue;
            }
            if base == 0 {
                self.carrier.point(patch, 0);
                continue;
            }
            let mut room = self.carrier.fits(wanted);
            if room < wanted && (of.limit == Limit::Whole || total + room as u64 == 0) {
                return Err(self.carrier.too_large());
            }
            if of.direction == Direction::Out && room > 0 {
                room = match self.carrier.writable(guest, room) {
                    // The kernel fills what comes before and stops here.
                    0 => {
                        self.carrier.point(patch, 0);
                        continue;
                    }
                    writable => room.min(writable),
                };
            }
            if room < wanted {
                full = true;
                self.carrier.store(at, offset + 8, room as u64);
                if resumable {
                    self.carrier.capped(total + room as u64);
                }
                if room == 0 {
                    self.carrier.point(patch, 0);
                    continue;
                }
            }
            let sent = if of.direction.is_read() { room } else { 0 };
            let block = Block { guest, sent, room, structure: false, lack: Lack::Part, bad: 0 };
            if let Some(at) = self.carrier.block(patch, &block)?
                && of.direction.is_written()
            {
                let amount = Amount::Counted { source: of.source, size: 1, head: 0, skip: total };
                let tag = of.tag + element as u32;
                self.carrier.output(Output {
                    tag,
                    guest,
                    area: at.area,
                    most: room,
                    when: of.when,
                    amount,
                })?;
            }
            total += room as u64;
        }
        Ok(())
    }

    /// What a `struct msghdr` refers to, and its own outputs.
    fn message(
        &mut self,
        at: Location,
        offset: usize,
        guest: u64,
        direction: Direction,
        tag: u32,
        told: (Source, When),
    ) -> Result<(), C::Stop> {
        let (source, when) = told;
        let received = direction.is_written();
        let output = |tag, guest, area, most, amount| Output { tag, guest, area, most, when, amount };
        let field = |tag, inside: usize, most| {
            output(tag, guest + inside as u64, at.area + offset + inside, most, Amount::Whole)
        };
        let counted = |source| Amount::Counted { source, size: 1, head: 0, skip: 0 };

        let name = self.carrier.load(at, offset);
        let name_patch = Patch::Inside(at, offset);
        let name_room = self.carrier.load(at, offset + 8) as u32;
        if name == 0 || name >= USER_END || name_room > i32::MAX as u32 {
            self.carrier.point(name_patch, if name == 0 { 0 } else { BAD });
        } else {
            let room = name_room.min(MOST_NAME) as usize;
            let way = if received { Direction::Out } else { Direction::In };
            let name_at = self.take(name_patch, name, room, way, false)?;
            if received {
                if let Some(place) = name_at {
                    let amount = counted(Source::Word(at.area + offset + 8));
                    self.carrier.output(output(tag + 3, name, place.area, room, amount))?;
                }
                self.carrier.output(field(tag, 8, 4))?;
            }
        }

        let control = self.carrier.load(at, offset + 32);
        let control_patch = Patch::Inside(at, offset + 32);
        let control_room = self.carrier.load(at, offset + 40);
        if control == 0 || control >= USER_END || control_room > i32::MAX as u64 {
            self.carrier.point(control_patch, if control == 0 { 0 } else { BAD });
        } else {
            let room = control_room as usize;
            if self.carrier.fits(room) < room {
                return Err(self.carrier.too_large());
            }
            // Both ways even when received: the kernel leaves the padding between control messages alone.
            if let Some(place) = self.take(control_patch, control, room, both_ways(direction), false)?
                && received
            {
                let amount = counted(Source::Long(at.area + offset + 40));
                self.carrier.output(output(tag + 4, control, place.area, room, amount))?;
            }
        }
        if received {
            self.carrier.output(field(tag + 1, 40, 12))?;
        }

        let vector = self.carrier.load(at, offset + 16);
        let vector_patch = Patch::Inside(at, offset + 16);
        let count = self.carrier.load(at, offset + 24);
        if vector == 0 || vector >= USER_END || count > MOST_VECTORS {
            self.carrier.point(vector_patch, if vector == 0 { 0 } else { BAD });
            return Ok(());
        }
        let room = count as usize * VECTOR;
        let Some(place) = self.take(vector_patch, vector, room, Direction::In, true)? else { return Ok(()) };
        let single = matches!(source, Source::Result);
        let limit = if received && single { Limit::Cut } else { Limit::Whole };
        self.elements(place, count as usize, &Elements { direction, tag: tag + 8, source, when, limit })
    }

    fn messages(&mut self, index: usize, counter: u8, direction: Direction) -> Result<(), C::Stop> {
        let (patch, guest) = (Patch::Argument(index), self.arguments[index]);
        let wanted = self.spec.number_in(&self.arguments, counter).unwrap_or(0).min(MOST_VECTORS) as usize;
        if wanted == 0 {
            self.carrier.point_nowhere(patch);
            return Ok(());
        }
        let count = self.carrier.messages_that_fit(guest, wanted);
        if count == 0 {
            return Err(self.carrier.too_large());
        }
        if count < wanted {
            self.carrier.argument(usize::from(counter), count as u64);
        }
        let room = count * MULTI_MESSAGE;
        let Some(at) = self.take(patch, guest, room, Direction::InOut, true)? else { return Ok(()) };
        for message in 0..count {
            let offset = message * MULTI_MESSAGE;
            let tag = ((index as u32) << 29) + (message as u32) * 2048;
            let length = at.area + offset + MESSAGE;
            let when = When::Above(message as u32);
            let address = guest + offset as u64;
            self.message(at, offset, address, direction, tag, (Source::Word(length), when))?;
            let (tag, guest) = (tag + 5, address + MESSAGE as u64);
            self.carrier.output(Output { tag, guest, area: length, most: 4, when, amount: Amount::Whole })?;
        }
        Ok(())
    }

    fn bits(&mut self, index: usize, counter: u8) -> Result<(), C::Stop> {
        let (patch, guest) = (Patch::Argument(index), self.arguments[index]);
        let Some(count) = self.spec.number_in(&self.arguments, counter) else {
            self.carrier.point(patch, BAD);
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
        let block = Block { guest, sent: room, room, structure: false, lack: Lack::Tolerated, bad: BAD };
        if let Some(at) = self.carrier.block(patch, &block)? {
            let (tag, most) = ((index as u32) << 29, at.sent);
            let (when, amount) = (When::Success, Amount::Whole);
            self.carrier.output(Output { tag, guest, area: at.area, most, when, amount })?;
        }
        Ok(())
    }

    fn mask_pair(&mut self, patch: Patch, guest: u64) -> Result<(), C::Stop> {
        let Some(at) = self.take(patch, guest, 16, Direction::In, true)? else { return Ok(()) };
        let (mask, size) = (self.carrier.load(at, 0), self.carrier.load(at, 8));
        let patch = Patch::Inside(at, 0);
        if mask == 0 || mask >= USER_END || size != 8 {
            self.carrier.point(patch, if mask == 0 { 0 } else { BAD });
            return Ok(());
        }
        self.take(patch, mask, 8, Direction::In, false)?;
        Ok(())
    }

    fn strings(&mut self, patch: Patch, guest: u64) -> Result<(), C::Stop> {
        let Some(at) = self.carrier.pointers(patch, guest)? else { return Ok(()) };
        for offset in (0..at.sent.saturating_sub(8)).step_by(8) {
            let (patch, guest) = (Patch::Inside(at, offset), self.carrier.load(at, offset));
            if guest >= USER_END {
                self.carrier.point(patch, BAD);
            } else {
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

/// What the buffers of an array of `struct iovec` have in common.
struct Elements {
    direction: Direction,
    tag: u32,
    source: Source,
    when: When,
    limit: Limit,
}

/// What may be done with buffers that are too large together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// Nothing.
    Whole,
    /// A part may be filled.
    Cut,
    /// A part may be carried, and the rest in further transfers.
    Resumable,
}

/// How many messages of an array fit into this much of the area.
pub(crate) fn count_messages(memory: &impl Memory, guest: u64, count: usize, available: usize) -> usize {
    let mut used = count * MULTI_MESSAGE + 2 * 4096;
    for message in 0..count {
        let mut header = [0; MESSAGE];
        let address = guest.saturating_add((message * MULTI_MESSAGE) as u64);
        if memory.read(address, &mut header) < MESSAGE {
            return count;
        }
        let vectors = super::load(&header, 24).min(MOST_VECTORS) as usize;
        let control = super::load(&header, 40);
        let mut array = vec![0; vectors * VECTOR];
        let read = memory.read(super::load(&header, 16), &mut array);
        let mut bytes =
            control.saturating_add(u64::from(MOST_NAME) + 2 * 4096 + 2 * (vectors * VECTOR) as u64);
        for element in array[..read].as_chunks::<VECTOR>().0 {
            let length = super::load(element, 8);
            bytes = bytes
                .saturating_add(length)
                .saturating_add(super::alignment(length.min(4096) as usize) as u64);
        }
        used = used.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
        if used > available {
            return message;
        }
    }
    count
}
