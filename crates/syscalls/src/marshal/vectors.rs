//! The walk over `struct iovec`, `struct msghdr` and `struct mmsghdr`.

use super::Memory;
use super::carrier::{Amount, BEYOND, Block, Carrier, Location, Output, Patch, Source, UNMAPPED, USER_END};
use super::walk::{MOST_TRANSFERRED, Walk};
use crate::spec::{Direction, When};

/// The longest array of `struct iovec`, and of `struct mmsghdr`.
const MOST_VECTORS: u64 = 1024;
/// The longest socket address.
const MOST_NAME: u32 = 128;
const VECTOR: usize = 16;
const MESSAGE: usize = 56;
const MULTI_MESSAGE: usize = 64;

impl<C: Carrier> Walk<'_, C> {
    pub(super) fn vector(&mut self, index: usize, counter: u8, direction: Direction) -> Result<(), C::Stop> {
        let (patch, guest) = (Patch::Argument(index), self.arguments[index]);
        let count = self.spec.number_in(&self.arguments, counter).unwrap_or(u64::MAX);
        if count > MOST_VECTORS {
            // The kernel refuses the count before it looks at the array.
            self.carrier.point(patch, BEYOND);
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
            let (base, told) = (self.carrier.load(at, offset), self.carrier.load(at, offset + 8));
            // The kernel cuts a single buffer to what it transfers before it looks where it ends.
            let length =
                if count == 1 && told <= i64::MAX as u64 { told.min(MOST_TRANSFERRED) } else { told };
            if full {
                self.carrier.point(patch, 0);
                self.carrier.store(at, offset + 8, 0);
                continue;
            }
            if length > i64::MAX as u64 || base.saturating_add(length) > USER_END {
                self.carrier.point(patch, BEYOND);
                continue;
            }
            let skipped = skip.min(length);
            skip -= skipped;
            let guest = base + skipped;
            let wanted = (length - skipped).min(MOST_TRANSFERRED - total) as usize;
            if wanted as u64 != told {
                self.carrier.store(at, offset + 8, wanted as u64);
            }
            if wanted == 0 {
                self.carrier.point_nowhere(patch);
                continue;
            }
            if !self.follows(patch, base) {
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
                        self.carrier.point(patch, UNMAPPED);
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
            let block = Block { guest, sent, room, structure: false, divisible: true };
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

    /// The one message of sendmsg or recvmsg.
    pub(super) fn single_message(&mut self, index: usize, direction: Direction) -> Result<(), C::Stop> {
        let (patch, guest, tag) = (Patch::Argument(index), self.arguments[index], (index as u32) << 29);
        let Some(at) = self.take(patch, guest, MESSAGE, both_ways(direction), true)? else { return Ok(()) };
        self.message(at, 0, guest, direction, tag, (Source::Result, When::Success))
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
        if self.follows(name_patch, name) && name_room > i32::MAX as u32 {
            self.carrier.point(name_patch, BEYOND);
        } else if self.follows(name_patch, name) {
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
        if self.follows(control_patch, control) && control_room > i32::MAX as u64 {
            self.carrier.point(control_patch, BEYOND);
        } else if self.follows(control_patch, control) {
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
        if !self.follows(vector_patch, vector) {
            return Ok(());
        }
        if count > MOST_VECTORS {
            self.carrier.point(vector_patch, BEYOND);
            return Ok(());
        }
        let room = count as usize * VECTOR;
        let Some(place) = self.take(vector_patch, vector, room, Direction::In, true)? else { return Ok(()) };
        let single = matches!(source, Source::Result);
        let limit = if received && single { Limit::Cut } else { Limit::Whole };
        self.elements(place, count as usize, &Elements { direction, tag: tag + 8, source, when, limit })
    }

    pub(super) fn messages(
        &mut self,
        index: usize,
        counter: u8,
        direction: Direction,
    ) -> Result<(), C::Stop> {
        let (patch, guest) = (Patch::Argument(index), self.arguments[index]);
        let told = self.spec.number_in(&self.arguments, counter).unwrap_or(0);
        let wanted = told.min(MOST_VECTORS) as usize;
        if wanted == 0 {
            self.carrier.point_nowhere(patch);
            return Ok(());
        }
        let count = self.carrier.messages_that_fit(guest, wanted);
        if count == 0 {
            return Err(self.carrier.too_large());
        }
        if (count as u64) < told {
            // recvmmsg itself knows no limit.
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
}

/// The direction of a structure that is read, and also written if what it describes is.
fn both_ways(direction: Direction) -> Direction {
    if direction.is_written() { Direction::InOut } else { Direction::In }
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

/// How many messages of an array can be read and fit into this much of the area.
pub(crate) fn count_messages(memory: &impl Memory, guest: u64, count: usize, available: usize) -> usize {
    let mut used = count * MULTI_MESSAGE + 2 * 4096;
    for message in 0..count {
        let mut header = [0; MESSAGE];
        let address = guest.saturating_add((message * MULTI_MESSAGE) as u64);
        if memory.read(address, &mut header) < MESSAGE {
            // The kernel stops here with what it has done; if that is nothing, it faults.
            return message.max(1);
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
