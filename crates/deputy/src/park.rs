//! Parking: the original process stops computing and runs the agent; and back.
//!
//! ```text
//!  ordinary ──halt, read──► at the site ──map ring──► parked (threads in the agent, calls go through the ring)
//!     ▲                        │    ▲                   │
//!     └─── registers, detach ──┘    └──── unmap ring ───┘
//! ```
//!
//! From the first time that the process is at the [site](minka_kernel::site) until it gets registers of its own
//! again, it executes nothing of its program, whatever becomes of us: so a rescue can always tell where it was.

use crate::agents::Agents;
use crate::eligible::{self, Lease, Reason};
use crate::ends;
use crate::fault::{Fault, Result};
use crate::kept::Kept;
use crate::kin::Kin;
use crate::parked::{Parked, Parts, call, resend};
use crate::part;
use crate::record::Record;
use crate::rest::{self, Part};
use crate::sole::Sole;
use crate::stopping;
use crate::surroundings::{Surroundings, surroundings};
use crate::timed;
use crate::tracee::{self, BLOCK_ALL, Tasks};
use minka_image::maps::Mapping;
use minka_image::process::{Borders, Thread, Unfinished};
use minka_image::registers::{NO_SYSCALL, Registers, USER_CS_64};
use minka_image::restart::{self, Interruption, RestartOwner};
use minka_image::timed::Waiting;
use minka_image::{PAGE, TASK_SIZE};
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::inject::InjectError;
use minka_kernel::memory::Memory;
use minka_kernel::procfs::{self, Stat, Status};
use minka_kernel::ptrace::{Options, Stopped};
use minka_kernel::ring::{self, Ring};
use minka_kernel::site::Site;
use minka_kernel::spawn::ProcessHandle;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

const PROT_RWX: u64 = 7;
const MAP_SHARED: u64 = 1;
const MFD_CLOEXEC: u64 = 1;

/// How the process to be parked is found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Computing, and nobody's.
    Free,
    /// In the stop after its `execve`, or where it is loaded.
    AfterExec(Stopped),
    /// Some of its threads stand behind calls that have carried a part of their data.
    InCalls(Vec<Part>),
}

/// Brings a process into the agent. If that fails it goes on as if nothing had been.
pub(crate) fn park(pid: i32, found: Found, record: &Record, kin: Option<&Kin>) -> Result<(Parked, Tasks)> {
    let mut held = Vec::new();
    let mut parts = BTreeMap::new();
    let halted = match found {
        Found::Free => Vec::new(),
        // This stop is inside the call, whose result would still overwrite a register: leave it first. The request
        // to stop comes before that, so that the new program does not execute a single instruction.
        Found::AfterExec(task) => {
            vec![tracee::program_halted(task.resume_to_stop().map_err(Fault::Trace)?, true)?]
        }
        Found::InCalls(found) => {
            let stands = |Part { task, ahead, done, .. }| {
                parts.insert(task.tid(), (ahead, done));
                task
            };
            found.into_iter().map(stands).collect()
        }
    };
    let Surroundings { tasks, maps, memory, vdso } = surroundings(pid, halted)?;
    let still = match examine(pid, &tasks, &memory, vdso, &maps, &parts, kin.is_some()) {
        Ok(still) => still,
        Err(error) => {
            let_go(tasks)?;
            return Err(error);
        }
    };
    record.parking(&still.threads, &still.originals, kin.map(Kin::family));
    faultpoint::reach(Point::DeputyStopped);
    let mut tasks = tasks.into_iter();
    let main = tasks.next().ok_or(Fault::Over)?;
    let (main, ring) = match map_ring(pid, main, &still, &memory, &mut held) {
        Ok(mapped) => mapped,
        Err(error) => {
            let_go(tasks.collect())?;
            return Err(error);
        }
    };
    faultpoint::reach(Point::DeputyMapped);
    let kept = Kept::new(&maps, ring.range());
    let agents = Arc::new(Agents::new(ring));
    let masks: BTreeMap<i32, u64> = still.threads.iter().map(|thread| (thread.tid, thread.mask)).collect();
    // What others will see of it has to be at home before its end, too.
    let options = match kin.is_some() || still.sole.outlives() {
        true => tracee::OPTIONS_IN_AGENT_TO_THE_END,
        false => tracee::OPTIONS_IN_AGENT,
    };
    let tasks = enter(&agents, [main].into_iter().chain(tasks), &still, options)?;
    let Still { threads, borders, auxv, site, leases, sole, .. } = still;
    let parts = Parts { agents, threads, memory, maps, kept, borders, auxv, leases, sole, held, site };
    let mut parked = Parked::new(pid, parts);
    // What was pending when the process was stopped it takes before it executes another instruction.
    if let Err(error) = parked.ask(record, kin.is_some()).and_then(|()| parked.take_due_signals()) {
        rest::give_up(parked.release(tasks)?)?;
        return Err(error);
    }
    let tasks = parked.with_masks(tasks, |thread| masks.get(&thread.tid).copied().unwrap_or(thread.mask))?;
    faultpoint::reach(Point::DeputyParked);
    Ok((parked, tasks))
}

/// Has the threads go on in the agent, the main one among them at the site.
fn enter(
    agents: &Agents,
    tasks: impl Iterator<Item = Stopped>,
    still: &Still,
    options: Options,
) -> Result<Tasks> {
    let tasks: Vec<Stopped> = tasks.collect();
    for (task, original) in tasks.iter().zip(&still.originals) {
        let agent = agents.add(task.tid()).ok_or(Reason::Threads(still.threads.len() as u32))?;
        *agent.waiting() = Waiting::unmark(original, timed::now()).1.filter(|waiting| !is_futex(waiting));
        let (rip, r12) = agents.ring().entry(agent.index);
        // No stack: the agent needs none, and a signal frame could never be written to stale memory.
        task.set_registers(&Registers { rip, r12, rsp: 0, orig_rax: NO_SYSCALL, ..*original })
            .and_then(|()| task.set_mask(BLOCK_ALL))
            .and_then(|()| task.set_options(options))
            .map_err(Fault::Trace)?;
    }
    if let Some(main) = tasks.first() {
        still.site.clear(main).map_err(Fault::Trace)?;
    }
    let mut running = Tasks::default();
    for task in tasks {
        running.put(task.resume(0).map_err(Fault::Trace)?);
    }
    Ok(running)
}

/// Lets a halted process go on as if nothing had been.
pub(crate) fn let_go(tasks: Vec<Stopped>) -> Result<()> {
    for task in tasks {
        let found = task.registers().map_err(Fault::Trace)?;
        let next = restart::undisturbed(&found);
        if next != found {
            task.set_registers(&next).map_err(Fault::Trace)?;
        }
        task.detach(0).map_err(Fault::Trace)?;
    }
    Ok(())
}

/// What is known of the process before anything in it is changed.
struct Still {
    /// The main thread first.
    threads: Vec<Thread>,
    /// Registers to go on with if nothing comes of it, thread by thread.
    originals: Vec<Registers>,
    borders: Borders,
    auxv: Vec<u8>,
    site: Site,
    /// Where the ring is least in the way.
    ring_hint: u64,
    leases: Vec<Lease>,
    sole: Sole,
}

/// The middle of the widest gap of an address space. Nothing can be mapped in the guest where the home has the ring, so
/// it does not lie where the program maps and unmaps.
fn middle_of_widest_gap(maps: &[Mapping]) -> u64 {
    let (mut at, mut widest) = (0, (0, 0));
    for (start, end) in
        maps.iter().map(|mapping| (mapping.start, mapping.end)).chain([(TASK_SIZE, TASK_SIZE)])
    {
        let gap = start.min(TASK_SIZE).saturating_sub(at);
        if gap > widest.1 {
            widest = (at, gap);
        }
        at = at.max(end);
    }
    (widest.0 + widest.1 / 2) & !(PAGE - 1)
}

fn examine(
    pid: i32,
    tasks: &[Stopped],
    memory: &Memory,
    vdso: (u64, u64),
    maps: &[Mapping],
    parts: &BTreeMap<i32, (Registers, u64)>,
    is_kin: bool,
) -> Result<Still> {
    let io = |what| move |error| Fault::Io(what, error);
    let status = Status::read(pid).map_err(io("read its status"))?;
    if status.threads as usize != tasks.len() || tasks.len() > ring::SLOTS_MAX {
        return Err(Reason::Threads(status.threads).into());
    }
    // It went on after it had been asked for the first time.
    let sole = if is_kin {
        // What it shares is looked at when all stand still.
        eligible::own_reasons(pid).into_iter().next().map_or_else(|| Ok(Sole::default()), Err)?
    } else {
        let sole = eligible::judge(pid).map_err(|mut reasons| reasons.remove(0))?;
        sole.close_to_others(pid, &[pid])?;
        sole
    };
    let leases = eligible::take_leases(pid, maps)?;
    let (mut threads, mut originals) = (Vec::new(), Vec::new());
    for task in tasks {
        let (thread, original) = examine_thread(pid, task, memory, parts.get(&task.tid()))?;
        threads.push(thread);
        originals.push(original);
    }
    Ok(Still {
        threads,
        originals,
        borders: Stat::read(pid).map_err(io("read its borders"))?.borders,
        auxv: procfs::auxv(pid).map_err(io("read its auxiliary vector"))?,
        site: Site::new(vdso.0),
        ring_hint: middle_of_widest_gap(maps),
        leases,
        sole,
    })
}

/// A thread, and the registers to go on with if nothing comes of it.
fn examine_thread(
    pid: i32,
    task: &Stopped,
    memory: &Memory,
    part: Option<&(Registers, u64)>,
) -> Result<(Thread, Registers)> {
    let io = |what| move |error| Fault::Io(what, error);
    let registers = task.registers().map_err(Fault::Trace)?;
    if registers.cs != USER_CS_64 {
        return Err(Reason::Bits32.into());
    }
    let rseq = task.rseq().map_err(Fault::Trace)?;
    let mut original = registers;
    if let Some(rseq) = &rseq {
        let aborted = minka_kernel::rseq::abort(memory, rseq, &registers);
        original = aborted.map_err(io("end its restartable sequence"))?.unwrap_or(registers);
    }
    let (plain, waiting) = Waiting::unmark(&original, timed::now());
    let part = part.copied().or_else(|| {
        let done = part::carried(pid, &plain, memory)?;
        Some((restart::again(&plain, plain.syscall()?), done))
    });
    let next = part.map_or_else(|| restart::rewind(&plain, RestartOwner::Home), |(ahead, _)| ahead);
    let how = match part {
        Some((_, done)) => Some(Interruption::ReturnsPart(done)),
        None => restart::interruption(&plain),
    };
    // What waits at home counts there; a futex is waited for where the program runs, so its mark goes along.
    let next = waiting.filter(is_futex).map_or(next, |waiting| waiting.mark(&next));
    let (registers, interrupted) = timed::mark_futex(&next, how, memory);
    let thread = Thread {
        registers,
        interrupted,
        extended: task.extended().map_err(Fault::Trace)?,
        mask: task.mask().map_err(Fault::Trace)?,
        robust_list: minka_kernel::process::robust_list(task.tid())
            .map_err(io("read its robust futex list"))?,
        rseq,
        unfinished: unfinished(memory, &plain)?,
        ..Thread::new(task.tid())
    };
    Ok((thread, restart::undisturbed(&original)))
}

fn is_futex(waiting: &Waiting) -> bool {
    waiting.call == restart::FUTEX
}

/// The call that the kernel is going to go on with, if the thread was stopped in one of that kind.
fn unfinished(memory: &Memory, registers: &Registers) -> Result<Option<Unfinished>> {
    let Some(found) = registers.syscall() else { return Ok(None) };
    let next = restart::rewind(registers, RestartOwner::Home);
    if next.rax != restart::RESTART_SYSCALL || next.rip == registers.rip {
        return Ok(None);
    }
    let call = if found == restart::RESTART_SYSCALL { call_before(memory, next.rip) } else { Some(found) };
    let call = call.ok_or_else(|| Fault::Said("it goes on with a call that cannot be told".to_owned()))?;
    Ok(Some(Unfinished { call, arguments: registers.arguments() }))
}

/// The call that a `mov $number, %eax` right before the `syscall` instruction names: how a thread that goes on by
/// `restart_syscall` had come there.
fn call_before(memory: &Memory, rip: u64) -> Option<u64> {
    const MOV_EAX: u8 = 0xb8;
    let mut bytes = [0; 5];
    memory.peek(rip.checked_sub(5)?, &mut bytes);
    let [MOV_EAX, number @ ..] = bytes else { return None };
    let number = u64::from(u32::from_le_bytes(number));
    matches!(number, 7 | 35 | 230).then_some(number)
}

/// Takes the process to the site and has it map the ring; nothing of its memory and descriptors is different
/// afterwards. If that fails, it goes on.
fn map_ring(
    pid: i32,
    task: Stopped,
    still: &Still,
    memory: &Memory,
    held: &mut Vec<i32>,
) -> Result<(Stopped, Ring)> {
    let site = still.site;
    let (original, mask) = (still.originals[0], still.threads[0].mask);
    let ready = site
        .lay(&task, memory)
        .and_then(|()| task.set_registers(&site.rest(&original)))
        .and_then(|()| task.set_mask(BLOCK_ALL));
    let (task, outcome) = match ready {
        Ok(()) => match make_ring(pid, task, still, held) {
            Ok((task, Ok(ring))) => (task, Ok(ring)),
            // A call that was interrupted is gone on with by the kernel, in a stop that is no call's own.
            Ok((task, Err(error))) => {
                (tracee::halt(task.resume(0).map_err(Fault::Trace)?, held)?, Err(error))
            }
            // The process is somewhere in the middle of a call.
            Err(Fault::Inject(InjectError::Gone(end))) => return Err(Fault::Gone(end)),
            Err(error) => return Err(ends::ended(pid, &error)),
        },
        Err(error) => (task, Err(Fault::Io("prepare a place for its calls", error))),
    };
    match outcome {
        Ok(ring) => Ok((task, ring)),
        Err(error) => {
            let (task, stop) = stopping::take_back(task, pid, held)?;
            task.set_mask(mask)
                .and_then(|()| task.set_registers(&original))
                .and_then(|()| site.clear(&task))
                .and_then(|()| task.detach(stop))
                .map_err(Fault::Trace)?;
            resend(pid, held);
            Err(error)
        }
    }
}

/// Slots for threads that the program may make while it is away.
const SPARE_SLOTS: usize = 64;

/// Makes the ring. The outer error is a process that cannot be said to be where it was.
fn make_ring(pid: i32, task: Stopped, still: &Still, held: &mut Vec<i32>) -> Result<(Stopped, Result<Ring>)> {
    let (site, threads) = (still.site, still.threads.len());
    let (task, fd) = site.call(task, call::MEMFD_CREATE, [site.name(), MFD_CLOEXEC, 0, 0, 0, 0], held)?;
    if fd < 0 {
        return Ok((task, Err(said("make the ring", fd))));
    }
    let memfd = ProcessHandle::open(pid.cast_unsigned()).and_then(|process| process.descriptor(fd as i32));
    let (mut task, mut ring) = (task, Err(Fault::Said("the ring has no size".to_owned())));
    // A program that limits its address space may have room for its own threads alone.
    for slots in [threads.max(SPARE_SLOTS) + threads, threads] {
        (task, ring) = map(task, still, &memfd, fd, slots.min(ring::SLOTS_MAX), held)?;
        if ring.is_ok() {
            break;
        }
    }
    let (task, _) = site.call(task, call::CLOSE, [fd as u64, 0, 0, 0, 0, 0], held)?;
    Ok((task, ring))
}

fn map(
    task: Stopped,
    still: &Still,
    memfd: &std::io::Result<OwnedFd>,
    fd: i64,
    slots: usize,
    held: &mut Vec<i32>,
) -> Result<(Stopped, Result<Ring>)> {
    let (site, length) = (still.site, ring::length(slots));
    let ready = match memfd {
        Ok(memfd) => minka_kernel::shared::resize(memfd.as_fd(), length).map(|()| memfd),
        Err(error) => Err(error.kind().into()),
    };
    let memfd = match ready {
        Ok(memfd) => memfd,
        Err(error) => return Ok((task, Err(Fault::Io("share the ring", error)))),
    };
    let arguments = [still.ring_hint, length as u64, PROT_RWX, MAP_SHARED, fd as u64, 0];
    let (task, address) = site.call(task, call::MMAP, arguments, held)?;
    if address < 0 {
        return Ok((task, Err(said("map the ring", address))));
    }
    match Ring::create(memfd.as_fd(), address as u64, slots) {
        Ok(ring) => Ok((task, Ok(ring))),
        Err(error) => {
            let arguments = [address as u64, length as u64, 0, 0, 0, 0];
            let (task, _) = site.call(task, call::MUNMAP, arguments, held)?;
            Ok((task, Err(Fault::Io("lay out the ring", error))))
        }
    }
}

fn said(what: &'static str, result: i64) -> Fault {
    Fault::Io(what, std::io::Error::from_raw_os_error(-result as i32))
}
