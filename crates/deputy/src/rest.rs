//! Finishing, at home, calls that have carried a part of their data before ([`crate::part`]).
//!
//! The thread makes its call for the rest, and its deputy stays to have it return the sum. That is the only thing by
//! which the process is not an ordinary one: whoever asks finds one of its threads traced until the call is over.

use crate::fault::{Fault, Result};
use crate::part;
use crate::tracee;
use minka_image::registers::{NO_SYSCALL, Registers};
use minka_image::restart::returned;
use minka_kernel::memory::Memory;
use minka_kernel::procfs::Status;
use minka_kernel::ptrace::{Options, Running, Stop, Stopped, Waited};
use std::sync::Arc;
use std::time::Duration;

/// How long a thread is waited for that has been told to stop, before it is looked at again.
const PAUSE: Duration = Duration::from_micros(50);

/// A thread that is about to make such a call, or in it.
#[derive(Debug)]
pub(crate) struct Rest {
    task: Running,
    call: Call,
}

#[derive(Debug)]
struct Call {
    /// Before the call, as the program makes it.
    ahead: Registers,
    /// Bytes that it had carried when it was begun here.
    done: u64,
    /// Bytes that it is to carry in all.
    wanted: u64,
    entered: bool,
    memory: Arc<Memory>,
}

/// A thread that stands still, taken out of such a call. As it stands the call has returned what it carried, so that
/// nothing is sent twice whatever comes.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) task: Stopped,
    /// Before the call, as the program makes it.
    pub(crate) ahead: Registers,
    /// Bytes that it has carried.
    pub(crate) done: u64,
    memory: Arc<Memory>,
}

/// Ends such calls at once: they return what they have carried.
pub(crate) fn give_up(rests: Vec<Rest>) -> Result<()> {
    rests.iter().for_each(Rest::cut);
    for rest in rests {
        let mut rest = rest;
        loop {
            rest = match rest.look()? {
                Progress::Waits(rest) => rest,
                Progress::Cut(part) => break part.let_go()?,
                Progress::Over => break,
            };
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// How it is with such a call.
#[derive(Debug)]
pub(crate) enum Progress {
    Waits(Rest),
    /// It is over, and so is our tracing.
    Over,
    /// It has been interrupted by us.
    Cut(Part),
}

impl Rest {
    /// Has a thread that stands behind such a call make it for the rest. If that cannot be prepared it is let go, and
    /// its call has returned what was carried.
    pub(crate) fn begin(
        task: Stopped,
        ahead: Registers,
        done: u64,
        memory: Arc<Memory>,
    ) -> Result<Option<Self>> {
        let read = |address: u64, into: &mut [u8]| memory.read(address, into) == into.len();
        let wanted = part::wanted(ahead.rax, &ahead.arguments(), read);
        let (Some(wanted), Some(next)) = (wanted, part::without(done, &ahead, &memory)) else {
            return task.detach(0).map(|()| None).map_err(Fault::Trace);
        };
        // Without us it would return as if the first part had not been sent.
        let task = task
            .set_options(tracee::OPTIONS.and(Options::EXIT_KILL))
            .and_then(|()| task.set_registers(&next))
            .and_then(|()| task.resume_to_syscall())
            .map_err(Fault::Trace)?;
        Ok(Some(Self { task, call: Call { ahead, done, wanted, entered: false, memory } }))
    }

    /// Ends the call, unless it is over before: that is to be looked for.
    pub(crate) fn cut(&self) {
        // A thread that has ended has news by itself.
        let _ = self.task.interrupt();
    }

    /// Looks what has become of it.
    pub(crate) fn look(self) -> Result<Progress> {
        let Self { mut task, mut call } = self;
        loop {
            let (stopped, stop) = match task.try_wait().map_err(Fault::Trace)? {
                Waited::Still(task) => return Ok(Progress::Waits(Self { task, call })),
                Waited::Gone(_) => return Ok(Progress::Over),
                Waited::Stopped(stopped, stop) => (stopped, stop),
            };
            let next = match stop {
                Stop::Syscall if call.entered => return call.left(stopped),
                Stop::Syscall => {
                    call.entered = true;
                    stopped.resume_to_syscall()
                }
                Stop::Signal(signal) => {
                    // Its handler comes first, and finds a call that has returned.
                    stopped
                        .set_registers(&returned(&call.ahead, call.done as i64))
                        .and_then(|()| stopped.detach(signal))
                        .map_err(Fault::Trace)?;
                    return Ok(Progress::Over);
                }
                Stop::Interrupt if !call.entered => return call.taken_out(stopped),
                Stop::Group(_) => stopped.listen(),
                _ => stopped.resume_to_syscall(),
            };
            task = next.map_err(Fault::Trace)?;
        }
    }
}

impl Call {
    /// The call has left the kernel.
    fn left(mut self, task: Stopped) -> Result<Progress> {
        let found = task.registers().map_err(Fault::Trace)?;
        let result = found.rax as i64;
        self.done = self.done.saturating_add(u64::try_from(result).unwrap_or(0));
        let is_interrupted = matches!(result, -516..=-512) || (result >= 0 && self.done < self.wanted);
        let has_signal = Status::read(task.tid()).is_ok_and(|status| status.is_about_to_take(!0));
        if is_interrupted && !has_signal {
            return self.taken_out(task);
        }
        let Registers { rsi, rdx, .. } = self.ahead;
        let next = Registers { rax: self.done, rsi, rdx, orig_rax: NO_SYSCALL, ..found };
        task.set_registers(&next).and_then(|()| task.detach(0)).map_err(Fault::Trace)?;
        Ok(Progress::Over)
    }

    /// Has the thread stand as if the call had returned, and in a stop of our own asking.
    fn taken_out(self, task: Stopped) -> Result<Progress> {
        let Self { ahead, done, memory, .. } = self;
        task.set_registers(&returned(&ahead, done as i64)).map_err(Fault::Trace)?;
        match task.resume_to_stop().and_then(Running::wait).map_err(Fault::Trace)? {
            Waited::Stopped(task, Stop::Interrupt) => Ok(Progress::Cut(Part { task, ahead, done, memory })),
            Waited::Stopped(task, Stop::Signal(signal)) => {
                task.detach(signal).map(|()| Progress::Over).map_err(Fault::Trace)
            }
            Waited::Stopped(task, _) => task.detach(0).map(|()| Progress::Over).map_err(Fault::Trace),
            Waited::Still(_) | Waited::Gone(_) => Ok(Progress::Over),
        }
    }
}

impl Part {
    /// Has the thread go on with its call after all.
    pub(crate) fn go_on(self) -> Result<Option<Rest>> {
        Rest::begin(self.task, self.ahead, self.done, self.memory)
    }

    /// Lets the thread go: its call has returned what it carried.
    pub(crate) fn let_go(self) -> Result<()> {
        self.task.detach(0).map_err(Fault::Trace)
    }
}
