//! The way back to an ordinary process.

use super::{Parked, ROBUST_HEAD, Resident, call, resend, whole_ring};
use crate::ends;
use crate::fault::{Fault, Result};
use crate::rest::Rest;
use crate::stopping;
use crate::tracee::{self, BLOCK_ALL, OPTIONS, Tasks};
use minka_image::process::{Rseq, Thread};
use minka_image::registers::Registers;
use minka_image::restart::Interruption;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::inject::InjectError;
use minka_kernel::ptrace::Stopped;
use minka_kernel::site::Site;
use std::sync::{Arc, PoisonError};

impl Parked {
    /// Lets the process go on as an ordinary one, with the states of its threads. Nothing of the ring is left.
    /// If that fails the process has ended: it could not be said what it would go on with.
    ///
    /// Gives the threads that have to be attended to until they have finished a call.
    pub(crate) fn release(mut self, tasks: Tasks) -> Result<Vec<Rest>> {
        faultpoint::reach(Point::DeputyReleasing);
        let rests = self.put_back(tasks).map_err(|error| match error {
            Fault::Gone(end) | Fault::Inject(InjectError::Gone(end)) => Fault::Gone(end),
            error => ends::ended(self.pid, &error),
        })?;
        faultpoint::reach(Point::DeputyReleased);
        Ok(rests)
    }

    fn put_back(&mut self, tasks: Tasks) -> Result<Vec<Rest>> {
        let tasks = self.made_ordinary(tasks)?;
        self.put_back_signals(true)?;
        self.put_back_locks()?;
        self.threads.values().try_for_each(|resident| self.put_back_registrations(resident))?;
        let mut halted = self.halt(tasks)?.into_iter();
        let main = halted.next().filter(|task| task.tid() == self.pid).ok_or(Fault::Over)?;
        self.site.lay(&main, &self.memory).map_err(Fault::Trace)?;
        let others: Vec<Stopped> = halted.collect();
        for task in others.iter().chain([&main]) {
            let resting = self.site.rest(&task.registers().map_err(Fault::Trace)?);
            task.set_registers(&resting).map_err(Fault::Trace)?;
        }
        let whole_ring = whole_ring(self.agents.ring());
        let (main, _) = self.site.call(main, call::MUNMAP, whole_ring, &mut self.held)?;
        // It is in a stop of that call's, where the kernel would not go on with another one.
        let main = tracee::halt(main.resume(0).map_err(Fault::Trace)?, &mut self.held)?;
        self.held.append(self.held_in_calls.get_mut().unwrap_or_else(PoisonError::into_inner));
        let (main, stop) = stopping::take_back(main, self.pid, &mut self.held)?;
        let states = std::mem::take(&mut self.threads);
        let ready: Vec<(Stopped, Thread)> = others
            .into_iter()
            .chain([main])
            .filter_map(|task| Some((states.get(&task.tid())?.as_it_goes_on(), task)))
            .map(|(thread, task)| (task, thread))
            .collect();
        go_on(ready.iter().map(|(task, thread)| (task, thread, &thread.registers)), self.site)?;
        let mut rests = Vec::new();
        for (task, _) in ready {
            let signal = if task.tid() == self.pid { stop } else { 0 };
            match states.get(&task.tid()).map(|state| &state.thread) {
                // To one that is to stop now, its call has returned.
                Some(Thread { registers, interrupted: Some(Interruption::ReturnsPart(done)), .. })
                    if signal == 0 =>
                {
                    rests.extend(Rest::begin(task, *registers, *done, Arc::clone(&self.memory))?);
                }
                _ => task.detach(signal).map_err(Fault::Trace)?,
            }
        }
        resend(self.pid, &self.held);
        Ok(rests)
    }

    /// Blocks all signals, and has the kernel tell no more of the threads than of any other process's. Of one that shares memory
    /// the main thread comes last: as long as it would stop on its way out, it is told if the process ends.
    fn made_ordinary(&mut self, tasks: Tasks) -> Result<Tasks> {
        let mut ordinary = Tasks::default();
        for task in self.halt(tasks)?.into_iter().rev() {
            task.set_mask(BLOCK_ALL).and_then(|()| task.set_options(OPTIONS)).map_err(Fault::Trace)?;
            ordinary.put(task.resume(0).map_err(Fault::Trace)?);
        }
        Ok(ordinary)
    }

    /// Tells the kernel at home of the robust locks that the threads hold. From now on it marks them when the process ends.
    pub(crate) fn put_back_locks(&self) -> Result<()> {
        self.threads.values().try_for_each(|Resident { thread, agent, .. }| {
            let (head, length) = thread.robust_list;
            self.call_by(agent, call::SET_ROBUST_LIST, &[head, length.max(ROBUST_HEAD)]).map(drop)
        })
    }

    /// What a thread has registered with its kernel, and what was taken back from the kernel at home.
    fn put_back_registrations(&self, resident: &Resident) -> Result<()> {
        const RSEQ_UNREGISTER: u64 = 1;
        let Resident { thread, agent, alt_stack_at_home, rseq_at_home } = resident;
        self.call_by(agent, call::SET_TID_ADDRESS, &[thread.tid_address])?;
        if thread.alt_stack != *alt_stack_at_home {
            let mut slot = agent.slot();
            let words = thread.alt_stack.to_bytes();
            slot.data()[..words.len()].copy_from_slice(&words);
            let data = slot.data_address();
            self.attended(agent, &mut slot, call::SIGALTSTACK, [data, 0, 0, 0, 0, 0])?;
        }
        if thread.rseq != *rseq_at_home {
            for (rseq, flags) in [(rseq_at_home, RSEQ_UNREGISTER), (&thread.rseq, 0)] {
                if let Some(Rseq { address, length, signature }) = rseq {
                    let arguments = [*address, u64::from(*length), flags, u64::from(*signature)];
                    self.call_by(agent, call::RSEQ, &arguments)?;
                }
            }
        }
        Ok(())
    }
}

/// Gives threads that are stopped at the site what they go on with in their program. The registers come last: a thread
/// that executes its program is one with which nothing is left to be done.
pub(crate) fn go_on<'a>(
    threads: impl Iterator<Item = (&'a Stopped, &'a Thread, &'a Registers)>,
    site: Site,
) -> Result<()> {
    let mut last = None;
    for (task, thread, registers) in threads {
        task.set_extended(&thread.extended)
            .and_then(|()| task.set_mask(thread.mask))
            .and_then(|()| task.set_registers(registers))
            .map_err(Fault::Trace)?;
        last = Some(task);
    }
    last.map_or(Ok(()), |task| site.clear(task)).map_err(Fault::Trace)
}
