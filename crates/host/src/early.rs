//! The data of a read, put into the guest's memory while the rest of them is still arriving.
//!
//! The guest waits in its call meanwhile, and the buffer is its own: whatever comes of the call, what is written early
//! lies where the call may write. When the whole reply is there it is carried out as always, less what has been done.

use crate::guest::{Guest, lock};
use minka_syscalls::marshal;

const READ: u64 = 0;
const PREAD64: u64 = 17;

/// Fewer bytes are not worth a system call of their own.
const PIECE: usize = 64 << 10;

/// The guest's memory, with the buffer of a read. Whoever writes through it holds the guest's lock for that.
#[derive(Debug)]
pub(crate) struct Early<'a> {
    guest: &'a Guest,
    buffer: u64,
    /// Bytes of the buffer: none of a call that has nothing to be done early.
    room: u64,
    /// Bytes that are in the buffer already.
    done: usize,
}

impl<'a> Early<'a> {
    /// For a call of which `total` bytes have been carried out by earlier requests.
    pub(crate) fn new(guest: &'a Guest, call: u64, arguments: &[u64; 6], total: u64) -> Self {
        let [_, buffer, size, ..] = *arguments;
        let room = if matches!(call, READ | PREAD64) { size.saturating_sub(total) } else { 0 };
        Self { guest, buffer: buffer.wrapping_add(total), room, done: 0 }
    }

    /// The most bytes that can be done early.
    pub(crate) fn room(&self) -> u64 {
        self.room
    }

    /// Takes in the beginning of a reply.
    pub(crate) fn arrived(&mut self, reply: &[u8]) {
        let Some(place) = marshal::sole_output(reply) else { return };
        let data = &reply[place.start..place.end.min(reply.len())];
        if place.len() as u64 > self.room || data.len() < self.done + PIECE {
            return;
        }
        let _writing = lock(&self.guest.writing);
        let written = self.guest.memory.write(self.buffer.wrapping_add(self.done as u64), &data[self.done..]);
        if written < data.len() - self.done {
            // What cannot be written is found out again, and told, when the whole reply is there.
            self.room = 0;
        }
        self.done += written;
    }
}

impl marshal::Memory for Early<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        self.guest.memory.read(address, into)
    }

    fn write(&mut self, address: u64, from: &[u8]) -> usize {
        let done = if address == self.buffer { self.done.min(from.len()) } else { 0 };
        done + self.guest.memory.write(address.wrapping_add(done as u64), &from[done..])
    }
}
