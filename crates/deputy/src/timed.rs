//! Forwarded calls with a time-out that Linux counts afresh: made again after a move, such a call waits only for
//! what is left (see [`minka_image::timed`]).

use crate::agents::Agent;
use crate::fault::Result;
use minka_image::registers::Registers;
use minka_image::restart::Interruption;
use minka_image::timed::{Timeout, Waiting, futex, milliseconds, timeout_of};
use minka_kernel::memory::Memory;
use minka_kernel::process::clocks;
use minka_kernel::ring::{DATA_PER_SLOT, Ended, Slot};
use minka_syscalls::marshal::Placed;
use std::time::Duration;

const EINTR: i64 = -4;
const EAGAIN: i64 = -11;
const EINPROGRESS: i64 = -115;

/// Nanoseconds on the clock that counts.
pub(crate) fn now() -> u64 {
    clocks().0.max(0).cast_unsigned()
}

/// A thread's registers, of which those that are about to wait for a futex are marked (see
/// [`minka_image::timed::futex`]), and how their call was interrupted, if it is not over.
pub(crate) fn mark_futex(
    registers: &Registers,
    interrupted: Option<Interruption>,
    memory: &Memory,
) -> (Registers, Option<Interruption>) {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let mut next = [0; 2];
    memory.peek(registers.rip, &mut next);
    if next != SYSCALL {
        return (*registers, interrupted);
    }
    let marked = futex(registers, now(), |address| {
        let mut time = [0; 16];
        memory.peek(address, &mut time);
        let word = |at: usize| Some(i64::from_le_bytes(*time[at..].first_chunk()?));
        timespec(word(0)?, word(8)?)
    });
    (marked, interrupted.filter(|_| marked.rip == registers.rip))
}

/// Such a call, placed and about to be made.
#[derive(Debug)]
pub(crate) struct Timed {
    waiting: Waiting,
    timeout: Timeout,
    /// It has been made before.
    again: bool,
}

impl Timed {
    /// The call, if it is of that kind. What was known of another one of the thread's is forgotten.
    pub(crate) fn of(agent: &Agent, placed: &Placed, body: &[u8], slot: &mut Slot) -> Option<Self> {
        let known = agent.waiting().take();
        let call = u64::from(placed.number());
        let timeout = timeout_of(call)?;
        let mut arguments = [0; 6];
        for (index, argument) in arguments.iter_mut().enumerate() {
            *argument = u64::from_le_bytes(*body.get(8 + index * 8..)?.first_chunk()?);
        }
        let given = given(timeout, placed.arguments(), slot);
        let first = Waiting { call, arguments, timeout: given, since: now() };
        let known = known.filter(|known| known.is_again(&first));
        let again = known.is_some();
        let waiting = known.map_or(first, |known| Waiting { since: known.since, ..first });
        Some(Self { waiting, timeout, again })
    }

    /// Leaves only what is left of the time-out in the call's arguments and in the slot's data. Some calls do not have
    /// it there: those are waited for, and their result is given if nothing came.
    /// That is done by `call`.
    pub(crate) fn shorten(
        &self,
        arguments: &mut [u64; 6],
        slot: &mut Slot,
        call: impl FnOnce(&mut Slot, u64, [u64; 6]) -> std::result::Result<i64, Ended>,
    ) -> Result<Option<i64>> {
        if !self.again {
            return Ok(None);
        }
        match (self.timeout, self.waiting.timeout) {
            (Timeout::Receiving, _) => self.wait((arguments[0], SO_RCVTIMEO, POLLIN), slot, call),
            (Timeout::Connecting, _) => self.wait((arguments[0], SO_SNDTIMEO, POLLOUT), slot, call),
            (_, None) => Ok(None),
            (Timeout::Milliseconds(argument), Some(given)) => {
                arguments[argument] = milliseconds(self.waiting.left(given, now())) as u64;
                Ok(None)
            }
            (Timeout::Timespec(argument) | Timeout::TimespecLeft(argument), Some(given)) => {
                let left = self.waiting.left(given, now());
                write(slot, arguments[argument], left.as_secs(), left.subsec_nanos());
                Ok(None)
            }
            (Timeout::TimevalLeft(argument), Some(given)) => {
                let left = self.waiting.left(given, now());
                // Rounded up: it must not end early.
                let left = left.saturating_add(Duration::from_nanos(999));
                write(slot, arguments[argument], left.as_secs(), left.subsec_micros());
                Ok(None)
            }
        }
    }

    /// Waits for a socket, with what is left of the time-out that is this option of its own, for events.
    fn wait(
        &self,
        (fd, option, events): (u64, u64, u16),
        slot: &mut Slot,
        call: impl FnOnce(&mut Slot, u64, [u64; 6]) -> std::result::Result<i64, Ended>,
    ) -> Result<Option<i64>> {
        const POLL: u64 = 7;
        const GETSOCKOPT: u64 = 55;
        const SOL_SOCKET: u64 = 1;
        // The end of the area, which the call itself may have in use.
        const ROOM: usize = 24;
        const AT: usize = DATA_PER_SLOT - ROOM;
        let mut kept = [0; ROOM];
        kept.copy_from_slice(&slot.data()[AT..]);
        let address = slot.data_address() + AT as u64;
        slot.data()[AT..].fill(0);
        slot.data()[AT + 16] = 16;
        let question = [fd, SOL_SOCKET, option, address, address + 16, 0];
        let known = slot.call(GETSOCKOPT, question)? == 0;
        let given = read(slot, address).and_then(|(seconds, micros)| timeval(seconds, micros));
        let result = match given.filter(|given| known && !given.is_zero()) {
            None => None,
            Some(given) => {
                let left = milliseconds(self.waiting.left(given, now()));
                slot.data()[AT..AT + 4].copy_from_slice(&(fd as u32).to_le_bytes());
                slot.data()[AT + 4..AT + 6].copy_from_slice(&events.to_le_bytes());
                slot.data()[AT + 6..AT + 8].fill(0);
                match call(slot, POLL, [address, 1, left as u64, 0, 0, 0])? {
                    0 if self.timeout == Timeout::Connecting => Some(EINPROGRESS),
                    0 => Some(EAGAIN),
                    ready if ready > 0 => None,
                    _ => Some(EINTR),
                }
            }
        };
        slot.data()[AT..].copy_from_slice(&kept);
        Ok(result)
    }

    /// The call was interrupted, and the thread is going to make it again.
    pub(crate) fn interrupted(self, agent: &Agent) {
        *agent.waiting() = Some(self.waiting);
    }
}

const SO_RCVTIMEO: u64 = 20;
const SO_SNDTIMEO: u64 = 21;
const POLLIN: u16 = 1;
const POLLOUT: u16 = 4;

/// The time-out that the program gave, if it gave one with the call.
fn given(timeout: Timeout, arguments: &[u64; 6], slot: &mut Slot) -> Option<Duration> {
    match timeout {
        Timeout::Milliseconds(argument) => {
            u64::try_from(arguments[argument] as i32).ok().map(Duration::from_millis)
        }
        Timeout::Timespec(argument) | Timeout::TimespecLeft(argument) => {
            let (seconds, nanos) = read(slot, arguments[argument])?;
            timespec(seconds, nanos)
        }
        Timeout::TimevalLeft(argument) => {
            let (seconds, micros) = read(slot, arguments[argument])?;
            timeval(seconds, micros)
        }
        Timeout::Receiving | Timeout::Connecting => None,
    }
}

fn timespec(seconds: i64, nanos: i64) -> Option<Duration> {
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds.try_into().ok()?, nanos))
}

fn timeval(seconds: i64, micros: i64) -> Option<Duration> {
    let micros = u32::try_from(micros).ok().filter(|micros| *micros < 1_000_000)?;
    Some(Duration::new(seconds.try_into().ok()?, micros * 1000))
}

/// Two words at an address in the slot's data.
fn read(slot: &mut Slot, address: u64) -> Option<(i64, i64)> {
    let at = usize::try_from(address.checked_sub(slot.data_address())?).ok()?;
    let bytes = slot.data().get(at..at.checked_add(16)?)?;
    let word = |at: usize| Some(i64::from_le_bytes(*bytes[at..].first_chunk()?));
    Some((word(0)?, word(8)?))
}

fn write(slot: &mut Slot, address: u64, seconds: u64, fraction: u32) {
    let Some(at) = address.checked_sub(slot.data_address()) else { return };
    let Some(bytes) = slot.data().get_mut(at as usize..at as usize + 16) else { return };
    bytes[..8].copy_from_slice(&seconds.to_le_bytes());
    bytes[8..].copy_from_slice(&u64::from(fraction).to_le_bytes());
}
