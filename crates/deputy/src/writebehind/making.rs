//! Making the writes.

use super::WRITE;
use crate::agents::Agent;
use crate::fault::{Fault, Result};
use crate::serve::grants_writes;
use crate::session::{Shared, lock};
use minka_kernel::courtesy::processors_to_spare;
use minka_kernel::ring::Slot;
use minka_link::Channel;
use minka_syscalls::marshal::Write;
use minka_wire::frame::Header;
use minka_wire::message::{ASKS, BEHIND, BEHIND_MAX, ENDS, MessageError, kind};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Whether a request is for closing a descriptor.
pub(crate) fn closes(request: &[u8]) -> bool {
    const CLOSE: u64 = 3;
    request.first_chunk().is_some_and(|number| u64::from_le_bytes(*number) == CLOSE)
}

/// Makes a write whose thread goes on already, and those to the same descriptor that follow at once: what comes while the
/// process writes is written together next. Returns the frame that came after them, if it is there; its body is in `body`.
pub(crate) fn perform(
    shared: &Shared,
    agent: &Agent,
    channel: &mut Channel,
    mut header: Header,
    body: &mut Vec<u8>,
) -> Result<Option<Header>> {
    shared.gate.pass();
    let commit = || if shared.commit() { Ok(()) } else { Err(Fault::Over) };
    let mut slot = agent.slot();
    if let Some(announced) = Write::announced(body)
        && announced.count > TOGETHER
        && shared.write_behind.goes_in_pieces(announced.descriptor)
    {
        commit()?;
        write_in_pieces(shared, agent, channel, &header, &mut slot, announced)?;
        return Ok(None);
    }
    let (mut batch, mut second) = (Batch::default(), false);
    let mut next = None;
    // What is no write has no effect.
    batch.add(channel, &header, body, slot.half(second))?;
    commit()?;
    batch.in_pieces = shared.write_behind.goes_in_pieces(batch.descriptor);
    loop {
        let is_enough = |batch: &Batch| batch.length >= TOGETHER;
        batch.gather(channel, &mut header, body, slot.half(second), &mut next, is_enough)?;
        if let Some(error) = shared.write_behind.failure_of(batch.descriptor) {
            batch.has_ended(shared, Some((error, batch.length)));
            batch.answer(shared, agent, channel, &header)?;
            return Ok(next);
        }
        agent.heed_signals(&header, false);
        let address = slot.half_address(second);
        batch.order(agent, &mut slot, address);
        let (descriptor, in_pieces) = (batch.descriptor, batch.in_pieces);
        let mut following = Batch { descriptor, in_pieces, ..Batch::default() };
        if processors_to_spare() && !shared.recalling.load(Ordering::SeqCst) {
            let done = slot.watch();
            following
                .gather(channel, &mut header, body, slot.half(!second), &mut next, |_| done.is_done())?;
        }
        batch.finish(shared, agent, &mut slot, second)?;
        batch.answer(shared, agent, channel, &header)?;
        if following.writes == 0 {
            return Ok(next);
        }
        (batch, second) = (following, !second);
    }
}

/// Makes a long write while its data are arriving: each piece is written while it is still near the processor.
fn write_in_pieces(
    shared: &Shared,
    agent: &Agent,
    channel: &mut Channel,
    header: &Header,
    slot: &mut Slot,
    announced: Write,
) -> Result<()> {
    let mut whole = Batch { descriptor: announced.descriptor, writes: 1, ..Batch::default() };
    whole.asked = u64::from(header.flags & ASKS != 0);
    let mut left = announced.count;
    let mut failed = shared.write_behind.failure_of(announced.descriptor).map(|error| (error, 0));
    while left > 0 {
        let (length, ends) = receive_piece(channel, header, slot.half(false), left)?;
        left = if ends { 0 } else { left - length };
        if failed.is_none() && length > 0 {
            let piece = Batch { descriptor: announced.descriptor, length, ..Batch::default() };
            agent.heed_signals(header, false);
            let address = slot.half_address(false);
            piece.order(agent, slot, address);
            failed = piece.result(agent, slot, false)?;
        } else if let Some((_, lost)) = &mut failed {
            *lost += length;
        }
    }
    whole.has_ended(shared, failed);
    whole.answer(shared, agent, channel, header)
}

/// Writes that are made together.
#[derive(Debug, Default)]
struct Batch {
    descriptor: i32,
    length: usize,
    /// How many they are.
    writes: u64,
    /// How many results are asked for.
    asked: u64,
    /// Long ones are made in pieces, each by itself.
    in_pieces: bool,
}

impl Batch {
    /// Whether a frame brings another write that belongs to them, and finds room.
    fn takes(&self, frame: &Header, before: &Header, body: &[u8]) -> bool {
        let is_behind = frame.kind == kind::CALL && frame.flags & BEHIND != 0;
        let write = Write::of(body).or_else(|| Write::announced(body));
        let write = write.filter(|write| !self.in_pieces || write.count <= TOGETHER);
        is_behind
            && frame.correlation == before.correlation
            && write
                .is_some_and(|it| it.descriptor == self.descriptor && self.length + it.count <= TOGETHER_MAX)
    }

    /// Takes what is there of those that follow, until it is enough, or there is something else, which is left in `next`.
    fn gather(
        &mut self,
        channel: &mut Channel,
        header: &mut Header,
        body: &mut Vec<u8>,
        area: &mut [u8],
        next: &mut Option<Header>,
        is_enough: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        while next.is_none() && !is_enough(self) {
            let Some(received) = channel.try_recv(body)? else { break };
            if self.takes(&received, header, body) {
                *header = received;
                self.add(channel, header, body, area)?;
            } else {
                *next = Some(received);
            }
        }
        Ok(())
    }

    /// Adds one, whose data may be still to come.
    fn add(&mut self, channel: &mut Channel, call: &Header, body: &[u8], area: &mut [u8]) -> Result<()> {
        let wrong = || Fault::Said("the host sent no write where one was due".to_owned());
        let area = area.get_mut(self.length..).ok_or_else(wrong)?;
        let (descriptor, bytes) = match (Write::of(body), Write::announced(body)) {
            (Some(whole), _) => {
                let data = &body[body.len() - whole.count..];
                area.get_mut(..whole.count).ok_or_else(wrong)?.copy_from_slice(data);
                (whole.descriptor, whole.count)
            }
            (None, Some(announced)) if announced.count as u64 <= BEHIND_MAX => {
                (announced.descriptor, receive(channel, call, area, announced.count)?)
            }
            _ => return Err(wrong()),
        };
        (self.descriptor, self.length, self.writes) = (descriptor, self.length + bytes, self.writes + 1);
        self.asked += u64::from(call.flags & ASKS != 0);
        Ok(())
    }

    /// Has the process begin to write them.
    fn order(&self, agent: &Agent, slot: &mut Slot, address: u64) {
        let arguments = [self.descriptor as u64, address, self.length as u64, 0, 0, 0];
        agent.order_at_once(slot, WRITE, arguments);
    }

    /// Waits until it has written them.
    fn finish(&self, shared: &Shared, agent: &Agent, slot: &mut Slot, second: bool) -> Result<()> {
        let failed = self.result(agent, slot, second)?;
        self.has_ended(shared, failed);
        Ok(())
    }

    /// They have been made, or failed with an error, and so many bytes were not written.
    fn has_ended(&self, shared: &Shared, failed: Option<(i64, usize)>) {
        let behind = &shared.write_behind;
        *lock(&behind.made.count) += self.writes;
        behind.made.more.notify_all();
        (0..self.writes).for_each(|_| shared.daemon.count_call());
        lock(&shared.ahead).forget_last();
        if let Some((error, lost)) = failed {
            let (pid, descriptor) = (shared.pid, self.descriptor);
            tracing::error!(pid, descriptor, error, lost, "a write failed that the program takes for made");
            behind.fails(pid, descriptor, error);
        }
    }

    /// Sends the results that were asked for.
    fn answer(&self, shared: &Shared, agent: &Agent, channel: &mut Channel, call: &Header) -> Result<()> {
        for _ in 0..self.asked {
            let flags = if grants_writes(shared, agent) {
                shared.write_behind.after_batch(shared.pid, self.descriptor)
            } else {
                shared.write_behind.forget();
                0
            };
            let header = Header { flags, ..Header::new(kind::RESULT, call.correlation) };
            channel.send(header, &[])?;
        }
        Ok(())
    }

    /// The error that it ended with, and how many bytes were not written.
    fn result(&self, agent: &Agent, slot: &mut Slot, second: bool) -> Result<Option<(i64, usize)>> {
        const EIO: i64 = -5;
        let mut done = 0;
        loop {
            match agent.result_at_once(slot)? {
                // It was stopped before it had begun.
                -516..=-512 => {}
                0 => return Ok(Some((EIO, self.length - done))),
                error @ ..0 => return Ok(Some((error, self.length - done))),
                written => done += written as usize,
            }
            if done >= self.length {
                return Ok(None);
            }
            let rest = Self { length: self.length - done, ..*self };
            let address = slot.half_address(second) + done as u64;
            rest.order(agent, slot, address);
        }
    }
}

/// So many bytes are worth a write of their own: the process is woken for it, and this thread afterwards.
const TOGETHER: usize = 256 << 10;

/// The most bytes that are written together. With what encryption adds to the last data they are less than half a slot.
const TOGETHER_MAX: usize = 3 << 20;

/// Receives the data that follow a write; returns how many bytes have come.
fn receive(channel: &mut Channel, call: &Header, area: &mut [u8], count: usize) -> Result<usize> {
    let mut filled = 0;
    while filled < count {
        let (length, ends) = receive_piece(channel, call, &mut area[filled..], count - filled)?;
        filled += length;
        if ends {
            break;
        }
    }
    Ok(filled)
}

/// Receives one piece of at most so many bytes: returns how many, and whether no more follow. Behind the data there is to be room for
/// what encryption adds.
fn receive_piece(
    channel: &mut Channel,
    call: &Header,
    area: &mut [u8],
    most: usize,
) -> Result<(usize, bool)> {
    /// They are on their way, and it takes some hundred microseconds until there are more of them.
    const SPIN: Duration = Duration::from_micros(300);
    let header = channel.recv_into(area, SPIN)?;
    if header.kind != kind::DATA || header.correlation != call.correlation {
        return Err(MessageError::Kind { found: header.kind, expected: "the data of a write" }.into());
    }
    if header.length as usize > most {
        return Err(Fault::Said("the host sent more of a write than it had announced".to_owned()));
    }
    Ok((header.length as usize, header.flags & ENDS != 0))
}
