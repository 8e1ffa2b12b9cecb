//! Giving back memory at home that a process does not need there while it is away.
//!
//! A node that is short of memory sends processes away, and gets nothing for it as long as the stopped originals keep
//! theirs. So the host is asked to have everything ([`minka_wire::message::FromHome::GetAll`]); when it has, and has all of
//! it count as written, the original process makes `madvise(MADV_DONTNEED)` for its private anonymous memory. All of that
//! comes with the guest when it comes home.
//!
//! ```text
//!   Kept ──GetAll──► Asked ──HasAll──► Due ──an agent is free──► Given
//!     └────────────────┴── pages come home early, or the guest does ──► Kept, for good
//! ```
//!
//! From *Due* on nothing may come home before it has been given back or left: what the guest has sent ahead does not count
//! as written any more, and would be lost. Both are decided by the deputy's main thread alone.
//!
//! The call needs an agent that is in no other. So no forwarded call is begun meanwhile ([`Gate`]); and if all agents are
//! in one, that of one thread is ended as by a signal that the program ignores, and made again by the guest.

use crate::away::{Away, Step};
use crate::fault::{Fault, Result};
use crate::session::lock;
use minka_image::PAGE;
use minka_image::maps::{Backing, Mapping};
use minka_image::process::Borders;
use minka_image::ranges::Ranges;
use minka_kernel::procfs;
use minka_wire::message::FromHome;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long it is waited for an agent that is free.
const LIMIT: Duration = Duration::from_secs(1);

/// How long a call waits at the gate at most, whatever becomes of whoever has closed it.
const GATE_LIMIT: Duration = Duration::from_secs(2);

/// How often it is looked for one.
const LOOK: Duration = Duration::from_millis(2);

const MADVISE: u64 = 28;
const MADV_DONTNEED: u64 = 4;

/// How far it has got with the memory of a process that is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// All of it is here, as it was when the process left.
    Kept,
    /// The host has been asked to get all of it.
    Asked,
    /// It has all of it; that here is to go by then, or stay.
    Due(Instant),
    /// That here is gone.
    Given,
    /// It stays here, for something has come home since, or nobody could give it back.
    Stays,
}

/// Where calls wait that have not begun, while it is closed.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Returns when it is open.
    pub(crate) fn pass(&self) {
        let closed = lock(&self.closed);
        // Whoever waited in vain makes the call all the same.
        let waited = self.opened.wait_timeout_while(closed, GATE_LIMIT, |closed| *closed);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn close(&self) {
        *lock(&self.closed) = true;
    }

    pub(crate) fn open(&self) {
        *lock(&self.closed) = false;
        self.opened.notify_all();
    }
}

impl Away {
    /// This node is short of memory: the host is to have all of the process's.
    pub(crate) fn ask_for_all(&mut self) -> Result<()> {
        // Of a family all keep everything until they are at home together.
        let is_alone = self.session.shared.kin.is_none();
        if is_alone && self.memory == Memory::Kept && self.bound.is_none() && self.session.has_stream() {
            self.session.say(&FromHome::GetAll)?;
            self.memory = Memory::Asked;
        }
        Ok(())
    }

    /// The host has all of it.
    pub(crate) fn host_has_all(&mut self) -> Result<Step> {
        if self.memory != Memory::Asked {
            return Ok(Step::Stay);
        }
        // From now on the guest cannot be forgotten.
        self.session.commit()?;
        self.memory = Memory::Due(Instant::now() + LIMIT);
        self.session.shared.gate.close();
        self.give_back()
    }

    /// How long the main thread may wait for something to happen, for the memory's sake.
    pub(crate) fn pause_of_memory(&self) -> Option<Duration> {
        matches!(self.memory, Memory::Due(_)).then_some(LOOK)
    }

    /// The memory here stays: pages of the guest's are about to come.
    pub(crate) fn keep(&mut self) {
        if self.memory != Memory::Given {
            self.memory = Memory::Stays;
            self.session.shared.gate.open();
        }
    }

    /// Gives back what is due, if an agent is free for that; otherwise has one of them come out of its call.
    pub(crate) fn give_back(&mut self) -> Result<Step> {
        let Memory::Due(until) = self.memory else { return Ok(Step::Stay) };
        let agents = self.session.shared.agents.all();
        for agent in agents.iter().filter(|agent| !agent.is_ending()) {
            let Some(mut slot) = agent.try_slot() else { continue };
            let pieces = self.to_be_given();
            *lock(&self.session.shared.given_back) = pieces.clone();
            let mut outcome = Ok(Step::Stay);
            let mut bytes = 0;
            for (start, end, ()) in pieces.iter() {
                let arguments = [start, end - start, MADV_DONTNEED, 0, 0, 0];
                let tid = agent.tid;
                let result = slot.call_attended(MADVISE, arguments, || {
                    match self.look_at(tid) {
                        Ok(Step::Stay) => return true,
                        other => outcome = other,
                    }
                    // It may still be there and have to go home: then it makes this call first.
                    matches!(outcome, Ok(Step::Home(_)))
                });
                match result {
                    Ok(0) => bytes += end - start,
                    Ok(error) => {
                        tracing::debug!(start, end, error, "memory at home that cannot be given back")
                    }
                    Err(_) => break,
                }
            }
            tracing::debug!(pid = self.parked.pid, bytes, "memory given back at home");
            self.memory = Memory::Given;
            self.session.shared.gate.open();
            return outcome;
        }
        if Instant::now() > until {
            tracing::debug!(pid = self.parked.pid, "no thread could give memory back at home");
            self.keep();
        } else if let Some(agent) = agents.iter().find(|agent| agent.end_call()) {
            return Ok(self.interrupt(agent.tid));
        }
        Ok(Step::Stay)
    }

    fn to_be_given(&self) -> Ranges<()> {
        let shared = &self.session.shared;
        // One that cannot be read has just ended.
        let maps = procfs::maps(self.parked.pid).unwrap_or_default();
        to_be_given(&maps, &shared.areas, &shared.from_files, &shared.lent.pieces(), &self.parked.borders)
    }
}

/// Private anonymous memory that went with the image, but for what calls under way work on, and the main thread's stack:
/// there `/proc` finds the command line for everybody who asks.
fn to_be_given(
    maps: &[Mapping],
    areas: &[(u64, u64)],
    from_files: &Ranges<()>,
    lent: &[(u64, u64)],
    borders: &Borders,
) -> Ranges<()> {
    let mut went = Ranges::new();
    areas.iter().for_each(|(start, end)| went.set(*start, *end, ()));
    let mut pieces = Ranges::new();
    let is_own = |it: &&Mapping| !it.shared && matches!(it.backing, Backing::Anonymous | Backing::Heap);
    for mapping in maps.iter().filter(is_own) {
        went.within(mapping.start, mapping.end).into_iter().for_each(|(a, b, ())| pieces.set(a, b, ()));
    }
    from_files.iter().for_each(|(start, end, ())| pieces.clear(start, end));
    let said = [(borders.arg_start, borders.arg_end), (borders.env_start, borders.env_end)];
    for (start, end) in lent.iter().copied().chain(said).filter(|(start, end)| start < end) {
        pieces.clear(start & !(PAGE - 1), end.saturating_add(PAGE - 1) & !(PAGE - 1));
    }
    pieces
}

/// Refuses to send pages that the host has said to have, as what is here of them is nothing.
pub(crate) fn check(given_back: &Mutex<Ranges<()>>, address: u64) -> Result<()> {
    match lock(given_back).get(address) {
        Some(_) => Err(Fault::Said(format!("the host misses a page at {address:#x} that it had"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, backing: Backing) -> Mapping {
        Mapping { start, end, protection: 3, shared: false, offset: 0, device: 0, inode: 0, backing }
    }

    #[test]
    fn only_what_went_away_and_nobody_needs_here_is_given_back() {
        let file = Backing::File { path: "/lib".to_owned(), deleted: false };
        let maps = [
            mapping(0x1000, 0x3000, file.clone()),
            mapping(0x3000, 0x6000, Backing::Heap),
            mapping(0x10000, 0x20000, Backing::Anonymous),
            Mapping { shared: true, ..mapping(0x20000, 0x22000, Backing::Anonymous) },
            mapping(0x30000, 0x32000, Backing::Stack),
            // Mapped since the process left.
            mapping(0x40000, 0x42000, Backing::Anonymous),
        ];
        let areas = [(0x1000, 0x6000), (0x10000, 0x22000), (0x30000, 0x32000)];
        let mut from_files = Ranges::new();
        from_files.set(0x1000, 0x3000, ());
        // A file was mapped here when the process left.
        from_files.set(0x1e000, 0x1f000, ());
        let borders = Borders { arg_start: 0x5010, arg_end: 0x5020, ..Borders::default() };
        let lent = [(0x11ff8, 0x12008)];
        let given: Vec<_> = to_be_given(&maps, &areas, &from_files, &lent, &borders)
            .iter()
            .map(|(start, end, ())| (start, end))
            .collect();
        assert_eq!(given, [(0x3000, 0x5000), (0x10000, 0x11000), (0x13000, 0x1e000), (0x1f000, 0x20000)]);
    }

    #[test]
    fn what_is_given_back_is_not_sent() {
        let mut given = Ranges::new();
        given.set(0x3000, 0x5000, ());
        let given = Mutex::new(given);
        assert!(check(&given, 0x2000).is_ok() && check(&given, 0x5000).is_ok());
        assert!(check(&given, 0x3000).is_err() && check(&given, 0x4000).is_err());
    }

    #[test]
    fn a_closed_gate_holds_calls_up_until_it_is_opened() {
        let gate = Gate::default();
        gate.pass();
        gate.close();
        let began = Instant::now();
        std::thread::scope(|scope| {
            let passed = scope.spawn(|| {
                gate.pass();
                began.elapsed()
            });
            std::thread::sleep(Duration::from_millis(50));
            gate.open();
            let waited = passed.join().expect("it passes");
            assert!(waited >= Duration::from_millis(50) && waited < GATE_LIMIT, "{waited:?}");
        });
    }
}
