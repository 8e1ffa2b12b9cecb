//! Writes of which the guest's thread is told that they have been made, and which are sent then ([`crate::granted`]).

use crate::calls::Worker;
use crate::fault::{Fault, Result};
use crate::granted::Turn;
use crate::guest::lock;
use minka_kernel::seccomp::Notification;
use minka_syscalls::marshal::Write;
use minka_wire::frame::Header;
use minka_wire::message::{ASKS, BEHIND, BEHIND_MAX, ENDS, INTERRUPTED, MessageError, TRUE_SHIFT, kind};
use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const WRITE: u64 = 1;

/// So much goes with the call itself, bytes.
const LITTLE: u64 = 32 << 10;
/// More goes in pieces of this size: what is read from the guest is still near the processor when it is encrypted.
const PIECE: u64 = 256 << 10;

impl Worker<'_> {
    /// Answers a write and sends it, if it need not be waited for. False if it has to be forwarded as any other call.
    pub(crate) fn write_behind(&mut self, call: &Notification) -> Result<bool> {
        let [descriptor, address, count, ..] = call.arguments;
        let is_little = |count| (1..=BEHIND_MAX).contains(&count);
        if call.call != WRITE || !is_little(count) || !self.grants.has(descriptor as i32) || !self.is_alone()
        {
            return Ok(false);
        }
        let first = self.take_in(address, if count > LITTLE { count.min(PIECE) } else { count });
        if first < count.min(PIECE) {
            // What the kernel makes of it the usual way tells.
            return Ok(false);
        }
        let Some(asks) = self.turn(descriptor as i32, count)? else { return Ok(false) };
        let thread = self.thread()?;
        let asks = if asks { ASKS } else { 0 };
        let flags = BEHIND | asks | self.signals | lock(&thread.foretold).end() << TRUE_SHIFT;
        let header = Header { flags, ..Header::new(kind::CALL, thread.home_tid as u64) };
        let head = Write::head(descriptor, address, count);
        if count <= LITTLE {
            self.answer_first(call, count)?;
            self.channel.send(header, &[&head, &self.request[..]].map(IoSlice::new))?;
            return Ok(true);
        }
        self.channel.queue(header, &[IoSlice::new(&head)])?;
        let (mut sent, mut piece) = (0, first);
        loop {
            let is_short = piece < (count - sent).min(PIECE);
            let is_last = is_short || sent + piece == count;
            if is_last {
                self.answer_first(call, sent + piece)?;
            }
            let flags = if is_short { ENDS } else { 0 };
            let header = Header { flags, ..Header::new(kind::DATA, thread.home_tid as u64) };
            self.channel.send(header, &[IoSlice::new(&self.request)])?;
            if is_last {
                return Ok(true);
            }
            sent += piece;
            piece = self.take_in(address + sent, (count - sent).min(PIECE));
        }
    }

    /// Whether nothing can overtake what is sent: nobody else makes calls.
    fn is_alone(&self) -> bool {
        let guest = self.guest;
        guest.lanes.load(Ordering::SeqCst) == 1
            && guest.thread_count() == 1
            && guest.family.is_none()
            && !guest.leaving.load(Ordering::SeqCst)
            && self.signals & INTERRUPTED == 0
    }

    /// Waits until a write may go; says whether it asks for a result, or nothing if it is not granted.
    fn turn(&mut self, descriptor: i32, count: u64) -> Result<Option<bool>> {
        loop {
            match self.grants.turn(descriptor, count, Instant::now()) {
                Turn::Goes { asks } => return Ok(Some(asks)),
                Turn::Forwarded => return Ok(None),
                Turn::Waits => self.hear_of_asked()?,
            }
        }
    }

    /// Receives the next result that has been asked for, and not waited for.
    pub(crate) fn hear_of_asked(&mut self) -> Result<()> {
        /// The home is at it: that takes as long as some data do.
        const SPIN: Duration = Duration::from_millis(1);
        let answer = self.channel.recv(&mut self.reply, SPIN)?;
        if answer.kind != kind::RESULT {
            return Err(MessageError::Kind { found: answer.kind, expected: "the result of a write" }.into());
        }
        self.grants.hear_of_asked(answer.flags);
        Ok(())
    }

    /// Reads from the guest's memory; returns how many bytes could be.
    fn take_in(&mut self, address: u64, length: u64) -> u64 {
        self.request.clear();
        self.guest.memory.append(address, length as usize, &mut self.request) as u64
    }

    /// Answers a call before its last data have been sent.
    fn answer_first(&mut self, call: &Notification, result: u64) -> Result<()> {
        // Before the thread can be found outside of the call.
        self.guest.behind.fetch_add(1, Ordering::SeqCst);
        *lock(&self.thread()?.begins) = None;
        // A caller that is gone has been killed; the tracer sees it.
        let answered = self.listener.answer(call.id, result as i64);
        answered.map(drop).map_err(|error| Fault::Io("answer a call", error))
    }
}
