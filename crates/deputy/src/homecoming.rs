//! Bringing a guest back into its parked process.
//!
//! ```text
//!  signals blocked, call in flight interrupted ──► Recall
//!  pages the guest wrote (early)     ◄────┐
//!  Leaving: state, address space     ◄────┤ stream lane
//!       rearrange the address space       │
//!  the rest of the written pages     ◄────┘
//! ```

mod memory;

use crate::agents::Agent;
use crate::ends;
use crate::fault::{Fault, Result};
use crate::kin::Kin;
use crate::parked::Parked;
use crate::session::{Session, Shared};
use crate::signals::{self, Fate};
use crate::tracee::{self, BLOCK_ALL, Tasks};
use minka_image::family::{Call, Stage};
use minka_image::registers::{NO_SYSCALL, Registers};
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::ptrace::{self, End, Running, SIGINFO_SIZE, Stop, Stopped};
use minka_link::Receiver;
use minka_wire::frame::Header;
use minka_wire::message::{self, FromHome, FromHost, Leaving, MessageError, Unfinished, kind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(crate) use memory::write_pages;
use memory::{check_place, rearrange, write_fitting};

/// Brings the guest of `session` back. Afterwards the states of the parked threads are the guest's, and all signals are
/// blocked. On failure the process is lost, unless the guest can still be forgotten, or the process could not be stopped
/// at home ([`Fault::CannotStop`]): then `tasks` are all there and go on.
pub(crate) fn bring_home(parked: &mut Parked, tasks: &mut Tasks, session: &mut Session) -> Result<()> {
    let mut way = Way::default();
    let outcome = come(parked, tasks, session, &mut way);
    let kin = session.shared.kin.clone();
    match outcome {
        Err(error)
            if (kin.is_some() || parked.sole.outlives())
                && ends::is_its_end(parked.pid, &error, kin.as_deref()) =>
        {
            Err(ends::on_the_way(parked, session, way))
        }
        Err(Fault::Ending) => {
            ends::see_out(parked.pid);
            Err(Fault::Gone(End::Killed(tracee::libc_signal::KILL)))
        }
        outcome => outcome,
    }
}

/// How far a guest has come on its way home, for whoever has to bring the rest of it if its process ends meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// The lane on which its pages come.
    pub(crate) stream: Option<Receiver>,
    /// It stands still, and the others have been told.
    pub(crate) is_still: bool,
    /// Its host has been told that all do.
    pub(crate) has_collected: bool,
    /// What it left with.
    pub(crate) leaving: Option<Box<Leaving>>,
    /// What it is saying with the pages.
    unfinished: Unfinished,
    /// All of its pages are here.
    pub(crate) has_all: bool,
}

impl Way {
    /// What the host has said with the pages, as soon as all of it is there.
    pub(crate) fn said(&mut self, header: &Header, body: &[u8]) -> Result<Option<FromHost>> {
        let whole = self.unfinished.add(header, body)?;
        let said = whole.map(|whole| message::decode(header, &whole, kind::FROM_HOST, "the guest's state"));
        Ok(said.transpose()?)
    }

    fn stream(&mut self) -> Result<&mut Receiver> {
        self.stream.as_mut().ok_or(Fault::Over)
    }
}

fn come(parked: &mut Parked, tasks: &mut Tasks, session: &mut Session, way: &mut Way) -> Result<()> {
    parked.maps.clear();
    interrupt_calls(parked, tasks, session)?;
    faultpoint::reach(Point::DeputyRecalling);
    session.say(&FromHome::Recall)?;
    way.stream = Some(session.take_stream()?);
    receive_until_leaving(parked, tasks, session, way)?;
    faultpoint::reach(Point::DeputyReturning);
    session.commit()?;
    await_writes(parked, session, way)?;
    rearrange(parked, way.leaving.as_deref().ok_or(Fault::Over)?)?;
    receive_pages(parked, way.stream()?, session.shared.patience, session.shared.kin.as_deref())?;
    way.has_all = true;
    let Leaving { state, unmade, .. } = way.leaving.as_deref().cloned().ok_or(Fault::Over)?;
    let is_signal = |(signal, info): &(i32, Vec<u8>)| (1..=64).contains(signal) && info.len() == SIGINFO_SIZE;
    if !state.threads.iter().flat_map(|thread| &thread.pending).all(is_signal) {
        return Err(Fault::Said("the host returned half a signal".to_owned()));
    }
    parked.end_threads(tasks, &unmade)?;
    parked.set_threads(state.threads)?;
    parked.borders.brk = state.brk;
    parked.cpu_us = state.cpu_us;
    if session.shared.kin.is_some() {
        // Should it end from now on, the kernel sees to them.
        parked.put_back_locks()?;
    }
    parked.learn_actions()
}

/// Has agents go on that have stopped while they make such writes: only this thread traces them. A signal that nobody can block is sent again
/// at the end.
fn attend_writes(parked: &Parked) -> Result<()> {
    for agent in parked.agents.all().iter().filter(|agent| agent.is_calling_at_once()) {
        let signal = ptrace::keep_going(agent.tid).map_err(|_| Fault::Ending)?;
        parked.hold(signal.as_slice());
    }
    Ok(())
}

/// Waits until all writes have been made that the guest takes for made: they came on another lane.
fn await_writes(parked: &Parked, session: &Session, way: &Way) -> Result<()> {
    let Some(leaving) = &way.leaving else { return Ok(()) };
    let all = &session.shared.write_behind;
    let attend = || attend_writes(parked).map(|()| parked.agents.any_busy());
    if all.wait_for(leaving.behind, session.shared.patience, attend)? {
        return Ok(());
    }
    Err(Fault::Said(format!("writes of the program did not come from {}", session.node)))
}

/// Writes the pages that come early, until there are no more for the time being.
pub(crate) fn write_early_pages(shared: &Shared, stream: &mut Receiver) -> Result<()> {
    let mut body = Vec::new();
    loop {
        let header = receive(stream, &mut body, shared.patience)?;
        match header.kind {
            kind::PAGES => {
                check_place(&shared.kept, header.correlation, &body)?;
                // The memory at home is about to change: from now on the guest cannot be forgotten.
                if !shared.commit() {
                    return Err(Fault::Over);
                }
                let write = |at, piece: &[u8]| shared.lent.write_round(&shared.memory, at, piece);
                let written = write_fitting(&shared.sole, shared.pid, header.correlation, &body, write);
                written.map_err(|error| Fault::Io("write a page that came early", error))?;
            }
            kind::PRECOPIED => return Ok(()),
            found => return Err(MessageError::Kind { found, expected: "pages" }.into()),
        }
    }
}

/// A signal arrived before an agent stopped. It goes to the guest, if it is for it: those that wait at home come after
/// it. Or the call has made a thread, which is to be stopped too.
fn arrived(
    parked: &mut Parked,
    tasks: &mut Tasks,
    session: &mut Session,
    task: Stopped,
    stop: Stop,
) -> Result<Running> {
    let Stop::Signal(signal) = stop else {
        let (task, made) = parked.adopt(task)?;
        made.into_iter().for_each(|made| tasks.put(made));
        return Ok(task);
    };
    parked.forget_stop(signal);
    match signals::fate(parked, task.tid(), signal) {
        Fate::Native => task.resume(signal).map_err(Fault::Trace),
        Fate::Ignored => task.resume(0).map_err(Fault::Trace),
        Fate::Homeward => tracee::postpone(task, signal, &mut parked.held),
        Fate::Guest => {
            let (task, handed_over) = signals::to_guest(parked, session, task, signal)?;
            handed_over.map(|()| task)
        }
    }
}

/// Blocks all signals and gets the agents out of forwarded calls, those that are in one.
fn interrupt_calls(parked: &mut Parked, tasks: &mut Tasks, session: &mut Session) -> Result<()> {
    let shared = Arc::clone(&session.shared);
    let call = shared.kin.as_ref().map(|kin| kin.called());
    if call == Some(None) {
        // Somebody could not come.
        return Err(Fault::CannotStop);
    }
    let kin = shared.kin.as_ref().zip(call.flatten());
    shared.recalling.store(true, Ordering::SeqCst);
    shared.promises.close();
    let until = Instant::now() + shared.patience;
    // The masks that were replaced, by thread.
    let mut masks = BTreeMap::new();
    // Threads that were stopped outside of a call since then.
    let mut settled = BTreeSet::new();
    loop {
        for tid in tasks.ids(parked.pid) {
            // An agent that has no call any more, and will say so if it gets another one, need not be stopped again.
            if settled.contains(&tid) && !parked.agents.of(tid).is_some_and(|agent| agent.is_busy()) {
                continue;
            }
            match interrupt_call(parked, tasks, session, tid) {
                Ok((mask, idle)) => {
                    masks.entry(tid).or_insert(mask);
                    // A call that was still being made may set the thread's mask after us.
                    if idle {
                        settled.insert(tid);
                    }
                }
                Err(Fault::CannotStop) if kin.is_none_or(|(kin, call)| kin.refuse(call)) => {
                    return cannot_stop(parked, tasks, session, &masks);
                }
                // Too late: the others are on their way.
                Err(Fault::CannotStop) => {}
                Err(error) => return Err(error),
            }
        }
        // An agent may not have been in its call yet; then it is caught the next time.
        for _ in 0..20 {
            if !parked.agents.any_busy() {
                if tasks.ids(parked.pid).iter().all(|tid| settled.contains(tid)) {
                    let all_go = match kin {
                        Some((kin, call)) => all_are_quiet(kin, call, parked, tasks, session)?,
                        None => true,
                    };
                    return if all_go { Ok(()) } else { cannot_stop(parked, tasks, session, &masks) };
                }
                break;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        if Instant::now() > until {
            return Err(Fault::Said("a call at home could not be interrupted".to_owned()));
        }
    }
}

/// Waits until no member of the family is in a call at home. False if one of them cannot come.
fn all_are_quiet(
    kin: &Kin,
    call: Call,
    parked: &mut Parked,
    tasks: &mut Tasks,
    session: &mut Session,
) -> Result<bool> {
    /// How often it is looked.
    const INTERVAL: Duration = Duration::from_micros(200);
    let until = Instant::now() + session.shared.patience;
    kin.arrive(Stage::Quiet);
    loop {
        if let Some(all_go) = kin.go(call) {
            return Ok(all_go);
        }
        end_late_calls(parked, tasks, session)?;
        if ends::is_ending(parked.pid) {
            return Err(Fault::Ending);
        }
        if !kin.fate().is_open() {
            return Err(kin.why());
        }
        if Instant::now() > until {
            kin.too_late(Stage::Quiet);
            return Err(kin.why());
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Ends calls that have begun since then, as those that the guest makes until it hears that it is recalled.
fn end_late_calls(parked: &mut Parked, tasks: &mut Tasks, session: &mut Session) -> Result<()> {
    let mut again = Vec::new();
    while let Some(tid) = session.shared.next_late_call() {
        match interrupt_call(parked, tasks, session, tid) {
            // The call may have set the thread's mask, which is another one now.
            Ok((_, true)) => {}
            // One that cannot be interrupted is waited for.
            Ok((_, false)) | Err(Fault::CannotStop) => again.push(tid),
            Err(error) => return Err(error),
        }
    }
    again.into_iter().for_each(|tid| session.shared.call_is_late(tid));
    Ok(())
}

/// Blocks a thread's signals, and ends the call that its agent is in, or about to be in. Gives the thread's mask, and
/// whether its agent was in no call. A thread that ends meanwhile has no mask.
fn interrupt_call(
    parked: &mut Parked,
    tasks: &mut Tasks,
    session: &mut Session,
    tid: i32,
) -> Result<(u64, bool)> {
    let Some(running) = tasks.take(tid) else { return Ok((BLOCK_ALL, true)) };
    let halted = tracee::try_halt(running, |task, stop| arrived(parked, tasks, session, task, stop));
    let halted = match halted {
        Ok(Ok(task)) => task,
        Ok(Err(running)) => {
            tasks.put(running);
            return Err(Fault::CannotStop);
        }
        Err(Fault::Gone(end)) => return parked.thread_ended(tid, end).map(|()| (BLOCK_ALL, true)),
        Err(error) => return Err(error),
    };
    let agent = parked.agents.of(tid);
    let idle = !agent.as_ref().is_some_and(|agent| agent.is_busy());
    let halted = match agent {
        Some(agent) if agent.is_calling() => signals::interrupted_call(parked, session, &agent, halted)?,
        Some(agent) => {
            if agent.is_calling_at_once() {
                put_off(parked, &agent, &halted)?;
            }
            halted
        }
        None => halted,
    };
    let mask = halted.mask().map_err(Fault::Trace)?;
    halted.set_mask(BLOCK_ALL).map_err(Fault::Trace)?;
    tasks.put(halted.resume(0).map_err(Fault::Trace)?);
    Ok((mask, idle))
}

/// A call that never waits, and that the agent has not begun, is made when the guest is back: signals that come before it
/// have to come before it there.
fn put_off(parked: &Parked, agent: &Agent, halted: &Stopped) -> Result<()> {
    const ERESTARTNOINTR: i64 = -513;
    let ring = parked.agents.ring();
    let registers = halted.registers().map_err(Fault::Trace)?;
    if !ring.has_call_ahead(agent.index, registers.rip) {
        return Ok(());
    }
    ring.take_back(agent.index);
    let returned =
        Registers { rip: ring.after_call(), rax: ERESTARTNOINTR as u64, orig_rax: NO_SYSCALL, ..registers };
    halted.set_registers(&returned).map_err(Fault::Trace)
}

/// A call cannot be interrupted, so the process stays where it is, with the masks that it had.
fn cannot_stop(
    parked: &mut Parked,
    tasks: &mut Tasks,
    session: &mut Session,
    masks: &BTreeMap<i32, u64>,
) -> Result<()> {
    session.shared.recalling.store(false, Ordering::SeqCst);
    session.shared.promises.open();
    let mut left: Vec<(i32, u64)> = masks.iter().map(|(tid, mask)| (*tid, *mask)).collect();
    let until = Instant::now() + session.shared.patience;
    while let Some((tid, mask)) = left.pop() {
        let Some(task) = tasks.take(tid) else { continue };
        let task = match tracee::halt_in_time(task, &mut parked.held)? {
            Ok(halted) => {
                // A call that was being made may have set another one since.
                if halted.mask().map_err(Fault::Trace)? == BLOCK_ALL {
                    halted.set_mask(mask).map_err(Fault::Trace)?;
                }
                halted.resume(0).map_err(Fault::Trace)?
            }
            // It may have begun such a call, too.
            Err(running) if Instant::now() < until => {
                left.insert(0, (tid, mask));
                running
            }
            Err(_) => return Err(Fault::Said("a thread at home could not get its signals back".to_owned())),
        };
        tasks.put(task);
    }
    session.say(&FromHome::GoOn)?;
    Err(Fault::CannotStop)
}

fn receive_until_leaving(
    parked: &mut Parked,
    tasks: &mut Tasks,
    session: &mut Session,
    way: &mut Way,
) -> Result<()> {
    /// How long a call may wait that the guest has made in between.
    const INTERVAL: Duration = Duration::from_millis(1);
    let mut body = Vec::new();
    let mut until = Instant::now() + session.shared.patience;
    loop {
        end_late_calls(parked, tasks, session)?;
        attend_writes(parked)?;
        // The guest stands still, and those of others are waited for.
        let waits = way.is_still && !way.has_collected;
        if let Some(kin) = session.shared.kin.clone() {
            if waits && kin.have_all(Stage::Still) {
                way.has_collected = true;
                session.collect(&kin)?;
                until = Instant::now() + session.shared.patience;
            }
            // From then on it has to come home first.
            if !way.is_still && ends::is_ending(parked.pid) {
                return Err(Fault::Ending);
            }
            if !kin.fate().is_open() {
                return Err(kin.why());
            }
        }
        let Some(header) = way.stream()?.recv_timeout(&mut body, Duration::ZERO, INTERVAL)? else {
            if Instant::now() > until {
                if let Some(kin) = session.shared.kin.as_ref().filter(|_| waits) {
                    kin.too_late(Stage::Still);
                    return Err(kin.why());
                }
                return Err(silent(session.shared.patience));
            }
            continue;
        };
        until = Instant::now() + session.shared.patience;
        match header.kind {
            kind::PAGES => {
                session.commit()?;
                write_pages(parked, header.correlation, &body)?;
            }
            kind::FROM_HOST => match way.said(&header, &body)? {
                None => {}
                Some(FromHost::Leaving(leaving)) => {
                    // It makes no calls any more; the last of them have said so before they were answered.
                    way.leaving = Some(leaving);
                    return end_late_calls(parked, tasks, session);
                }
                Some(FromHost::Failed { reason }) => {
                    return Err(Fault::refused(&session.node, &reason));
                }
                Some(FromHost::Still) if session.shared.kin.is_some() => {
                    way.is_still = true;
                    session.shared.kin.iter().for_each(|kin| kin.arrive(Stage::Still));
                }
                Some(other) => {
                    let (node, name) = (&session.node, other.name());
                    return Err(Fault::Said(format!("{node} sent {name} with the pages")));
                }
            },
            found => return Err(MessageError::Kind { found, expected: "pages or the guest's state" }.into()),
        }
    }
}

fn receive_pages(
    parked: &Parked,
    stream: &mut Receiver,
    patience: Duration,
    kin: Option<&Kin>,
) -> Result<()> {
    /// How often others who wait for this are told that it goes on.
    const SAID: Duration = Duration::from_millis(500);
    let mut body = Vec::new();
    let mut said = Instant::now();
    loop {
        if let Some(kin) = kin.filter(|_| said.elapsed() > SAID) {
            kin.is_at_work();
            said = Instant::now();
        }
        let header = receive(stream, &mut body, patience)?;
        match header.kind {
            kind::PAGES => write_pages(parked, header.correlation, &body)?,
            kind::END => return Ok(()),
            found => return Err(MessageError::Kind { found, expected: "pages" }.into()),
        }
    }
}

pub(crate) fn receive(stream: &mut Receiver, body: &mut Vec<u8>, patience: Duration) -> Result<Header> {
    stream.recv_timeout(body, Duration::ZERO, patience)?.ok_or_else(|| silent(patience))
}

fn silent(patience: Duration) -> Fault {
    Fault::Said(format!("the host sent nothing for {patience:?}"))
}
