//! Signals that are pending for threads that are parked.

use super::{Parked, Resident, call};
use crate::agents::Agent;
use crate::fault::{Fault, Result};
use minka_kernel::ptrace::SIGINFO_SIZE;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Parked {
    /// Makes those signals pending here that were pending in the guest and that its threads block (or all of them),
    /// before those of the same numbers that have arrived here since. Each thread queues them to itself: only so may
    /// they have every origin.
    pub(crate) fn put_back_signals(&mut self, all: bool) -> Result<()> {
        let tids: Vec<i32> = self.threads.keys().copied().collect();
        for tid in tids {
            let Some(resident) = self.threads.get_mut(&tid) else { continue };
            let mask = resident.thread.mask;
            let is_blocked = |signal: i32| mask >> (signal - 1) & 1 == 1;
            let (here, there): (Vec<_>, Vec<_>) = std::mem::take(&mut resident.thread.pending)
                .into_iter()
                .partition(|(signal, _)| all || is_blocked(*signal));
            resident.thread.pending = there;
            let agent = Arc::clone(&resident.agent);
            let set = here.iter().fold(0u64, |set, (signal, _)| set | 1 << (signal - 1));
            let newer = if here.is_empty() { Vec::new() } else { self.take_pending(&agent, set)? };
            let mut queued = here.iter().chain(&newer);
            queued.try_for_each(|(signal, info)| self.queue_signal(&agent, *signal, info))?;
        }
        Ok(())
    }

    /// Takes those signals along that the program is about to handle and that have arrived here: no thread may
    /// execute another instruction before those that it takes.
    pub(crate) fn take_due_signals(&mut self) -> Result<()> {
        let caught = self.actions.iter().filter(|action| action.is_caught_for_good());
        let caught = caught.fold(0u64, |set, action| set | 1 << (action.signal - 1));
        for tid in self.threads.keys().copied().collect::<Vec<_>>() {
            let Some(Resident { thread, agent, .. }) = self.threads.get(&tid) else { continue };
            let due = self.take_pending(agent, caught & !thread.mask)?;
            if !due.is_empty() {
                agent.signal();
            }
            self.threads.entry(tid).and_modify(|resident| resident.thread.pending.extend(due));
        }
        Ok(())
    }

    /// Takes the pending signals of a set (bit `n - 1` for signal `n`) away, in the order in which they would have
    /// been delivered.
    fn take_pending(&self, agent: &Agent, set: u64) -> Result<Vec<(i32, Vec<u8>)>> {
        // The set (8 bytes) and the time to wait (none: 16 bytes), and room for the information behind them.
        const INFO: usize = 32;
        let mut taken = Vec::new();
        let mut due = Due::new(set);
        let mut slot = agent.slot();
        let data = slot.data_address();
        while due.set != 0 {
            let set = due.set;
            slot.data()[..INFO + SIGINFO_SIZE].fill(0);
            slot.data()[..8].copy_from_slice(&set.to_le_bytes());
            let arguments = [data, data + INFO as u64, data + 8, 8, 0, 0];
            let signal = self.attended(agent, &mut slot, call::RT_SIGTIMEDWAIT, arguments)?;
            if signal <= 0 {
                break;
            }
            let info = &slot.data()[INFO..INFO + SIGINFO_SIZE];
            due.took(signal as i32, info);
            taken.push((signal as i32, info.to_vec()));
        }
        Ok(taken)
    }

    /// Has a thread queue a signal to itself, with this `siginfo_t`.
    fn queue_signal(&self, agent: &Agent, signal: i32, info: &[u8]) -> Result<()> {
        let mut slot = agent.slot();
        slot.data()[..info.len()].copy_from_slice(info);
        let arguments = [self.pid as u64, agent.tid as u64, signal as u64, slot.data_address(), 0, 0];
        match self.attended(agent, &mut slot, call::RT_TGSIGQUEUEINFO, arguments)? {
            0 => Ok(()),
            error => Err(Fault::Io("put back a signal", std::io::Error::from_raw_os_error(-error as i32))),
        }
    }
}

/// Which pending signals are still to be taken. A timer is set again by the taking of its signal, and with a short interval
/// it has gone off before the next one is taken; and who sends signals gets room for more. What comes that way arrives as any
/// other signal does, later.
#[derive(Debug)]
struct Due {
    /// Bit `n - 1` for signal `n`.
    set: u64,
    /// Timers whose signals have been taken, by number and signal.
    timers: BTreeSet<(u32, i32)>,
    /// How often each signal has been taken.
    counts: BTreeMap<i32, usize>,
}

impl Due {
    /// Of each number below this one a thread has one at most, and its process another one.
    const FIRST_QUEUED: i32 = 32;
    /// More than are pending at once of a number that can be queued, but for who only sends signals.
    const MOST: usize = 4096;

    fn new(set: u64) -> Self {
        Self { set, timers: BTreeSet::new(), counts: BTreeMap::new() }
    }

    /// One has been taken, with its `siginfo_t`.
    fn took(&mut self, signal: i32, info: &[u8]) {
        const SI_TIMER: i32 = -2;
        let word = |at: usize| {
            info.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))
        };
        let count = self.counts.entry(signal).or_default();
        *count += 1;
        let most = if signal < Self::FIRST_QUEUED { 2 } else { Self::MOST };
        let is_timer = word(8).map(u32::cast_signed) == Some(SI_TIMER);
        let again = is_timer && !self.timers.insert((word(16).unwrap_or(0), signal));
        if again || *count >= most {
            self.set &= !(1 << (signal - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(code: i32, timer: u32) -> Vec<u8> {
        let mut info = vec![0; SIGINFO_SIZE];
        info[8..12].copy_from_slice(&code.to_le_bytes());
        info[16..20].copy_from_slice(&timer.to_le_bytes());
        info
    }

    #[test]
    fn a_timer_that_goes_off_all_the_while_is_left_and_others_are_taken() {
        const SI_TIMER: i32 = -2;
        const SI_QUEUE: i32 = -1;
        let bit = |signal: i32| 1u64 << (signal - 1);
        let mut due = Due::new(bit(14) | bit(34) | bit(35));
        due.took(34, &info(SI_TIMER, 7));
        due.took(34, &info(SI_TIMER, 8));
        due.took(34, &info(SI_QUEUE, 7));
        due.took(34, &info(SI_QUEUE, 7));
        assert_eq!(due.set, bit(14) | bit(34) | bit(35));
        due.took(34, &info(SI_TIMER, 7));
        assert_eq!(due.set, bit(14) | bit(35));
        due.took(14, &info(0x80, 0));
        assert_eq!(due.set, bit(14) | bit(35));
        due.took(14, &info(0x80, 0));
        assert_eq!(due.set, bit(35));
        (0..Due::MOST).for_each(|_| due.took(35, &info(SI_QUEUE, 0)));
        assert_eq!(due.set, 0);
    }
}
