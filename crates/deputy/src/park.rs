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

use crate::eligible::{self, Lease, Reason};
use crate::fault::{Fault, Result};
use crate::kept::Kept;
use crate::parked::{Parked, call, end, resend, whole_ring};
use crate::record::Record;
use crate::tracee::{self, BLOCK_ALL};
use minka_image::maps::Mapping;
use minka_image::process::{AltStack, Borders, Thread, Unfinished};
use minka_image::registers::{NO_SYSCALL, Registers, USER_CS_64};
use minka_image::restart::{self, RestartOwner};
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::inject::InjectError;
use minka_kernel::memory::Memory;
use minka_kernel::procfs::{self, Stat, Status};
use minka_kernel::ptrace::{Running, Stopped};
use minka_kernel::ring::{self, Ring};
use minka_kernel::site::Site;
use minka_kernel::spawn::ProcessHandle;
use minka_kernel::vdso;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const PROT_RWX: u64 = 7;
const MAP_SHARED: u64 = 1;
const MFD_CLOEXEC: u64 = 1;

/// How the process to be parked is found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Computing, and nobody's.
    Free,
    /// In the stop after its `execve`.
    AfterExec(Stopped),
}

/// Brings a process into the agent. If that fails it goes on as if nothing had been.
pub(crate) fn park(pid: i32, found: Found, record: &Record) -> Result<(Parked, Running)> {
    let mut held = Vec::new();
    let task = match found {
        Found::Free => tracee::halt_program(tracee::seize(pid)?)?,
        // This stop is inside the call, whose result would still overwrite a register: leave it first. The request
        // to stop comes before that, so that the new program does not execute a single instruction.
        Found::AfterExec(task) => tracee::program_halted(task.resume_to_stop().map_err(Fault::Trace)?)?,
    };
    let Surroundings { task, mask, maps, memory, vdso } = surroundings(pid, task)?;
    let still = match examine(pid, &task, mask, memory, vdso, &maps) {
        Ok(still) => still,
        Err(error) => {
            task.detach(0).map_err(Fault::Trace)?;
            resend(pid, &held);
            return Err(error);
        }
    };
    record.parking(&still.thread, &still.original);
    faultpoint::reach(Point::DeputyStopped);
    let (task, ring) = map_ring(pid, task, &still, &mut held)?;
    faultpoint::reach(Point::DeputyMapped);
    let (rip, r12) = ring.entry();
    // No stack: the agent needs none, and a signal frame could never be written to stale memory.
    task.set_registers(&Registers { rip, r12, rsp: 0, orig_rax: NO_SYSCALL, ..still.original })
        .and_then(|()| still.site.clear(&task))
        .map_err(Fault::Trace)?;
    let running = task.resume(0).map_err(Fault::Trace)?;
    let kept = Kept::new(&maps, ring.range());
    let mut parked = Parked::new(pid, ring, still.site, still.memory, kept, still.thread, still.leases, held);
    (parked.borders, parked.auxv, parked.maps) = (still.borders, still.auxv, maps);
    if let Err(error) = parked.ask(record) {
        parked.release(running)?;
        return Err(error);
    }
    let running = parked.with_mask(running, mask)?;
    faultpoint::reach(Point::DeputyParked);
    Ok((parked, running))
}

/// A halted process, outside of the vDSO, and what is known of its memory.
struct Surroundings {
    task: Stopped,
    mask: u64,
    maps: Vec<Mapping>,
    memory: Memory,
    vdso: (u64, u64),
}

/// A thread that was stopped inside the vDSO is let run on and stopped again: single steps, which get it out in any
/// case, are deadly for it if we die between two of them.
fn surroundings(pid: i32, halted: Stopped) -> Result<Surroundings> {
    const TRIES: usize = 20;
    /// Longer than any function of the vDSO takes.
    const TIME: Duration = Duration::from_micros(2);
    let (mut task, mut tries) = (halted, 0);
    loop {
        let (maps, memory, vdso) = match look_round(pid) {
            Ok(found) => found,
            Err(error) => {
                task.detach(0).map_err(Fault::Trace)?;
                return Err(error);
            }
        };
        if !vdso::holds(&task, vdso).map_err(Fault::Trace)? {
            let mask = task.mask().map_err(Fault::Trace)?;
            return Ok(Surroundings { task, mask, maps, memory, vdso });
        }
        if tries == TRIES {
            let task = vdso::step_out(task, vdso, &memory).map_err(Fault::Trace)?;
            let mask = task.mask().map_err(Fault::Trace)?;
            return Ok(Surroundings { task, mask, maps, memory, vdso });
        }
        let running = task.resume(0).map_err(Fault::Trace)?;
        let start = Instant::now();
        while start.elapsed() < TIME {
            std::hint::spin_loop();
        }
        task = tracee::halt_program(running)?;
        tries += 1;
    }
}

fn look_round(pid: i32) -> Result<(Vec<Mapping>, Memory, (u64, u64))> {
    let io = |what| move |error| Fault::Io(what, error);
    let maps = procfs::maps(pid).map_err(io("read its maps"))?;
    let vdso = vdso::code_range(&maps).ok_or_else(|| Fault::Said("the process has no vDSO".to_owned()))?;
    Ok((maps, Memory::open(pid).map_err(io("open its memory"))?, vdso))
}

/// What is known of the process before anything in it is changed.
struct Still {
    thread: Thread,
    /// Registers to go on with if nothing comes of it.
    original: Registers,
    memory: Memory,
    borders: Borders,
    auxv: Vec<u8>,
    site: Site,
    leases: Vec<Lease>,
}

fn examine(
    pid: i32,
    task: &Stopped,
    mask: u64,
    memory: Memory,
    vdso: (u64, u64),
    maps: &[Mapping],
) -> Result<Still> {
    let io = |what| move |error| Fault::Io(what, error);
    let registers = task.registers().map_err(Fault::Trace)?;
    if registers.cs != USER_CS_64 {
        return Err(Reason::Bits32.into());
    }
    let status = Status::read(pid).map_err(io("read its status"))?;
    if status.threads != 1 {
        return Err(Reason::Threads(status.threads).into());
    }
    let leases = eligible::take_leases(pid, maps)?;
    let rseq = task.rseq().map_err(Fault::Trace)?;
    let mut original = registers;
    if let Some(rseq) = &rseq {
        let aborted = minka_kernel::rseq::abort(&memory, rseq, &registers);
        original = aborted.map_err(io("end its restartable sequence"))?.unwrap_or(registers);
    }
    let unfinished = unfinished(&memory, &registers)?;
    let thread = Thread {
        tid: pid,
        registers: restart::rewind(&original, RestartOwner::Home),
        extended: task.extended().map_err(Fault::Trace)?,
        mask,
        alt_stack: AltStack::default(),
        robust_list: minka_kernel::process::robust_list(pid).map_err(io("read its robust futex list"))?,
        tid_address: 0,
        rseq,
        unfinished,
    };
    Ok(Still {
        thread,
        original,
        borders: Stat::read(pid).map_err(io("read its borders"))?.borders,
        auxv: procfs::auxv(pid).map_err(io("read its auxiliary vector"))?,
        site: Site::new(vdso.0),
        memory,
        leases,
    })
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
    let Registers { rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
    Ok(Some(Unfinished { call, arguments: [rdi, rsi, rdx, r10, r8, r9] }))
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
fn map_ring(pid: i32, task: Stopped, still: &Still, held: &mut Vec<i32>) -> Result<(Stopped, Ring)> {
    let site = still.site;
    let ready = site
        .lay(&task, &still.memory)
        .and_then(|()| task.set_registers(&site.rest(&still.original)))
        .and_then(|()| task.set_mask(BLOCK_ALL));
    let (task, outcome) = match ready {
        Ok(()) => match make_ring(pid, task, site, held) {
            Ok((task, outcome)) => (task, outcome),
            // The process is somewhere in the middle of a call.
            Err(Fault::Inject(InjectError::Gone(end))) => return Err(Fault::Gone(end)),
            Err(error) => return Err(end(pid, &error)),
        },
        Err(error) => (task, Err(Fault::Io("prepare a place for its calls", error))),
    };
    match outcome {
        Ok(ring) => Ok((task, ring)),
        Err(error) => {
            task.set_mask(still.thread.mask)
                .and_then(|()| task.set_registers(&still.original))
                .and_then(|()| site.clear(&task))
                .and_then(|()| task.detach(0))
                .map_err(Fault::Trace)?;
            resend(pid, held);
            Err(error)
        }
    }
}

/// Makes the ring. The outer error is a process that cannot be said to be where it was.
fn make_ring(pid: i32, task: Stopped, site: Site, held: &mut Vec<i32>) -> Result<(Stopped, Result<Ring>)> {
    let (task, fd) = site.call(task, call::MEMFD_CREATE, [site.name(), MFD_CLOEXEC, 0, 0, 0, 0], held)?;
    if fd < 0 {
        return Ok((task, Err(said("make the ring", fd))));
    }
    let memfd = ProcessHandle::open(pid.cast_unsigned())
        .and_then(|process| process.descriptor(fd as i32))
        .and_then(|memfd| minka_kernel::shared::resize(memfd.as_fd(), ring::LENGTH).map(|()| memfd));
    let (task, address) = match &memfd {
        Ok(_) => {
            let arguments = [0, ring::LENGTH as u64, PROT_RWX, MAP_SHARED, fd as u64, 0];
            site.call(task, call::MMAP, arguments, held)?
        }
        Err(_) => (task, -1),
    };
    let (task, _) = site.call(task, call::CLOSE, [fd as u64, 0, 0, 0, 0, 0], held)?;
    let ring = match memfd {
        Err(error) => Err(Fault::Io("share the ring", error)),
        Ok(_) if address < 0 => Err(said("map the ring", address)),
        Ok(memfd) => {
            Ring::create(memfd.as_fd(), address as u64).map_err(|error| Fault::Io("lay out the ring", error))
        }
    };
    match ring {
        Err(error) if address > 0 => {
            let (task, _) = site.call(task, call::MUNMAP, whole_ring(address as u64), held)?;
            Ok((task, Err(error)))
        }
        ring => Ok((task, ring)),
    }
}

fn said(what: &'static str, result: i64) -> Fault {
    Fault::Io(what, std::io::Error::from_raw_os_error(-result as i32))
}
