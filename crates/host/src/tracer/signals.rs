//! Signals for which a thread of the guest has stopped.

use super::{Task, Tracer};
use crate::fault::{Fault, Result};
use minka_kernel::procfs::Status;
use minka_kernel::ptrace::Stopped;
use minka_wire::message::FromHost;
use std::sync::atomic::Ordering;

/// Signal numbers that are treated by name.
mod signal {
    pub(super) const ILL: i32 = 4;
    pub(super) const SYNCHRONOUS: [i32; 6] = [4, 5, 7, 8, 11, 31];
}

impl Tracer {
    /// Whether a thread is not to go on when it stops.
    pub(super) fn stays(&self, tid: i32) -> bool {
        self.recalled || self.members.get(&tid).is_some_and(|member| member.held)
    }

    /// Whether a thread has to go on first until somebody has heard of its call, who says so then ([`Request::Heard`]):
    /// what comes is to find that call begun.
    pub(super) fn is_to_be_heard(&self, task: &Stopped) -> Result<bool> {
        let Some(thread) = self.guest.thread(task.tid()) else { return Ok(false) };
        let found = task.registers().map_err(|error| Fault::Io("read the guest's registers", error))?;
        let is_to_be_heard = thread.is_to_be_heard(&found);
        if is_to_be_heard {
            thread.is_awaited.store(true, Ordering::SeqCst);
        }
        Ok(is_to_be_heard)
    }

    pub(super) fn signalled(&mut self, task: Stopped, signal: i32) -> Result<()> {
        let io = |error| Fault::Io("deliver a signal in the guest", error);
        let info = task.signal_info().map_err(io)?;
        if self.is_to_be_heard(&task)? && self.queued.put_off(&info) {
            self.put(Task::Running(task.resume(0).map_err(io)?));
            return Ok(());
        }
        if let Some(original) = self.queued.take(&info) {
            task.set_signal_info(&original).map_err(io)?;
            if let Some(thread) = self.guest.thread(task.tid()) {
                thread.undelivered.fetch_sub(1, Ordering::SeqCst);
                let found = task.registers().map_err(io)?;
                let next = thread.as_a_signal_finds_it(&found);
                if next != found {
                    task.set_registers(&next).map_err(io)?;
                }
            }
            self.put(Task::Running(task.resume(signal).map_err(io)?));
            return Ok(());
        }
        let synchronous = signal::SYNCHRONOUS.contains(&signal);
        let caught = Status::read(self.guest.pid).is_ok_and(|status| status.caught >> (signal - 1) & 1 == 1);
        let once = self.guest.used_once >> (signal - 1) & 1 == 1;
        if synchronous && (!caught || once || signal == signal::ILL) {
            let address = u64::from_le_bytes(info[16..24].try_into().expect("eight bytes"));
            tracing::debug!(signal, address, registers = ?task.registers(), "the guest raised a signal itself");
            // The instruction has not been executed: at home it is tried again, and Linux does the rest.
            self.put(Task::Stopped(task));
            if self.recalled {
                return Ok(());
            }
            if signal == signal::ILL {
                self.say(&FromHost::UnknownInstruction)?;
            }
            return self.say_homeward(&format!("signal {signal} that it raised itself"));
        }
        // Nobody on this node has a say over the guest: only its home's signals count.
        let deliver = if synchronous { signal } else { 0 };
        self.put(Task::Running(task.resume(deliver).map_err(io)?));
        Ok(())
    }
}
