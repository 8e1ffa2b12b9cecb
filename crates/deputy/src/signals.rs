//! Signals that arrive at home while the program is away.
//!
//! The kernel stops the original process before it delivers one; then it is decided who deals with it. A signal that
//! the program handles is made pending in the guest, and only then may the call that it interrupted return: so a
//! program that signals itself finds its handler run when `kill` returns, as it does natively.

use crate::agents::Agent;
use crate::fault::{Fault, Result};
use crate::parked::Parked;
use crate::session::{Event, Session};
use crate::tracee::{self, Default, default_action};
use minka_image::process::Action;
use minka_kernel::procfs::Status;
use minka_kernel::ptrace::{Running, Stopped};
use minka_wire::local::DeputyReport;
use minka_wire::message::{FromHome, FromHost};
use minka_wire::tidy;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the host may take to put a signal into its guest.
const LIMIT: Duration = Duration::from_secs(5);

/// Where a signal that arrived at home is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// By Linux, at home.
    Native,
    /// Nowhere, as it was ignored when it arrived. Linux is not asked once more: another thread may have installed a
    /// handler since then, which would run in the agent.
    Ignored,
    /// In the guest, by its handler.
    Guest,
    /// At home, after the guest has come back.
    Homeward,
}

/// A call under way may have set a mask for its own time only: a handler would have to run with that mask and
/// return to the other, and only the kernel that made the call can do so. A handler that is used once is taken away
/// by the kernel that calls it, so that has to be the home's.
pub(crate) fn fate(parked: &Parked, tid: i32, signal: i32) -> Fate {
    // A process that cannot be read has been killed; Linux knows what to do with it.
    let Ok(status) = Status::read(parked.pid) else { return Fate::Native };
    let bit = 1u64 << (signal - 1);
    if status.ignored & bit != 0 {
        return Fate::Ignored;
    }
    if status.caught & bit != 0 {
        let is_temporary = |agent: Arc<Agent>| agent.temporary_mask.load(Ordering::SeqCst);
        let temporary = parked.agents.of(tid).is_some_and(is_temporary);
        let once = |action: &Action| i32::from(action.signal) == signal && action.is_used_once();
        let homeward = temporary || parked.actions.iter().any(once);
        return if homeward { Fate::Homeward } else { Fate::Guest };
    }
    match default_action(signal) {
        Default::Ignore => Fate::Ignored,
        // Others will find what it has written.
        Default::Terminate if parked.sole.outlives() => Fate::Homeward,
        Default::Terminate => Fate::Native,
        Default::Core | Default::Stop => Fate::Homeward,
    }
}

/// Has the host make a signal pending in the guest, waits until it is, and lets the original process go on.
/// The inner result is the host's fault, the outer one the process's.
pub(crate) fn to_guest(
    parked: &Parked,
    session: &mut Session,
    task: Stopped,
    signal: i32,
) -> Result<(Running, Result<()>)> {
    let handed_over = hand_over(parked, session, &task, signal);
    let task = match &handed_over {
        Ok(()) => end_call(parked, session, task)?,
        Err(_) => task.resume(0).map_err(Fault::Trace)?,
    };
    Ok((task, handed_over))
}

/// Lets a thread go on that has got a signal in the guest, if it has: the call that it is in, or about to be in, is not
/// to wait. One that need not wait is made all the same, as natively, where the signal would be pending in it.
pub(crate) fn end_call(parked: &Parked, session: &mut Session, task: Stopped) -> Result<Running> {
    let task = match parked.agents.of(task.tid()).filter(|agent| agent.is_to_end_call()) {
        Some(agent) => interrupted_call(parked, session, &agent, task)?,
        None => task,
    };
    task.resume(0).map_err(Fault::Trace)
}

/// Interrupts the call of a stopped agent, which gets its result when it goes on.
pub(crate) fn interrupted_call(
    parked: &Parked,
    session: &mut Session,
    agent: &Agent,
    task: Stopped,
) -> Result<Stopped> {
    let ring = parked.agents.ring();
    let rip = task.registers().map_err(Fault::Trace)?.rip;
    if tracee::end_forwarded_call(&task, ring.after_call())? || !ring.has_call_ahead(agent.index, rip) {
        return Ok(task);
    }
    let mut held = Vec::new();
    let task = tracee::interrupt_in_call(task, ring.after_call(), &mut held)?;
    tracee::end_forwarded_call(&task, ring.after_call())?;
    if let Some(signal) = held.last() {
        session.postponed = Some(format!("signal {signal}"));
        parked.hold(&held);
    }
    Ok(task)
}

fn hand_over(parked: &Parked, session: &mut Session, task: &Stopped, signal: i32) -> Result<()> {
    session.commit()?;
    if let Some(agent) = parked.agents.of(task.tid()) {
        agent.signal();
    }
    let info = task.signal_info().map_err(Fault::Trace)?.to_vec();
    session.say(&FromHome::Signal { tid: task.tid(), signal, info })?;
    let until = Instant::now() + LIMIT;
    loop {
        match session.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Said(FromHost::SignalTaken)) => {
                if let Some(agent) = parked.agents.of(task.tid()) {
                    agent.has_got_signal();
                }
                return Ok(());
            }
            Ok(Event::Said(FromHost::Homeward { reason })) => session.postponed = Some(tidy(&reason)),
            Ok(Event::Said(FromHost::UnknownInstruction)) => {
                session.shared.daemon.report(&DeputyReport::NeedsAll);
            }
            Ok(Event::Precopied(stream)) => session.restore_stream(stream),
            Ok(later @ (Event::Ready(_) | Event::Homeward(_) | Event::Late(_))) => session.later.push(later),
            Ok(later @ Event::Said(FromHost::HasAll)) => session.later.push(later),
            Ok(Event::Said(other)) => {
                return Err(Fault::Said(format!("the host said {} to a signal", other.name())));
            }
            Ok(Event::Lost(reason)) => return Err(Fault::Said(reason)),
            Err(_) => return Err(Fault::Said(format!("the host did not take a signal within {LIMIT:?}"))),
        }
    }
}
