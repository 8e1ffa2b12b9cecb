//! Signals that are pending for threads that are parked.

use super::{Parked, Resident, call};
use crate::agents::Agent;
use crate::fault::{Fault, Result};
use minka_kernel::ptrace::SIGINFO_SIZE;
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
        let mut slot = agent.slot();
        let data = slot.data_address();
        loop {
            slot.data()[..INFO + SIGINFO_SIZE].fill(0);
            slot.data()[..8].copy_from_slice(&set.to_le_bytes());
            let arguments = [data, data + INFO as u64, data + 8, 8, 0, 0];
            let signal = self.attended(agent, &mut slot, call::RT_SIGTIMEDWAIT, arguments)?;
            if signal <= 0 {
                return Ok(taken);
            }
            taken.push((signal as i32, slot.data()[INFO..INFO + SIGINFO_SIZE].to_vec()));
        }
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
