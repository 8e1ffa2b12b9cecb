//! Parking: the original process stops computing and runs the agent; and back.
//!
//! ```text
//!  ordinary ──halt, read, map ring──► parked (threads in the agent, calls go through the ring)
//!     ▲                                   │
//!     └── unmap ring, registers, detach ──┘
//! ```

use crate::eligible::{self, Lease, Reason};
use crate::fault::{Fault, Result};
use crate::record::Record;
use crate::tracee::{self, BLOCK_ALL, Halted};
use minka_image::maps::{Backing, Mapping};
use minka_image::process::{Action, AltStack, Borders, Thread, Unfinished};
use minka_image::registers::{NO_SYSCALL, Registers, USER_CS_64};
use minka_image::restart::{self, RestartOwner};
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::inject;
use minka_kernel::memory::Memory;
use minka_kernel::procfs::{self, Stat, Status};
use minka_kernel::ptrace::{Running, Stopped};
use minka_kernel::ring::{self, Ring, Slot};
use minka_kernel::spawn::ProcessHandle;
use minka_kernel::vdso;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// System calls that parking makes, by number (x86-64).
pub(crate) mod call {
    pub(crate) const MMAP: u64 = 9;
    pub(crate) const CLOSE: u64 = 3;
    pub(crate) const LSEEK: u64 = 8;
    pub(crate) const WRITE: u64 = 1;
    pub(crate) const MPROTECT: u64 = 10;
    pub(crate) const MUNMAP: u64 = 11;
    pub(crate) const BRK: u64 = 12;
    pub(crate) const RT_SIGACTION: u64 = 13;
    pub(crate) const RT_SIGPROCMASK: u64 = 14;
    pub(crate) const ACCESS: u64 = 21;
    pub(crate) const MREMAP: u64 = 25;
    pub(crate) const GETITIMER: u64 = 36;
    pub(crate) const SIGALTSTACK: u64 = 131;
    pub(crate) const PRCTL: u64 = 157;
    pub(crate) const SET_TID_ADDRESS: u64 = 218;
    pub(crate) const SET_ROBUST_LIST: u64 = 273;
    pub(crate) const MEMFD_CREATE: u64 = 319;
}

const PR_GET_TID_ADDRESS: u64 = 40;
const PROT_RWX: u64 = 7;
const MAP_SHARED: u64 = 1;
const MFD_CLOEXEC: u64 = 1;

/// A process whose thread is in the agent.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) pid: i32,
    pub(crate) ring: Ring,
    pub(crate) slot: Arc<Mutex<Slot>>,
    pub(crate) memory: Arc<Memory>,
    /// What the program is, apart from its memory.
    pub(crate) thread: Thread,
    pub(crate) actions: Vec<Action>,
    pub(crate) borders: Borders,
    pub(crate) auxv: Vec<u8>,
    /// CPU time used away from home: user and system, microseconds.
    pub(crate) cpu_us: (u64, u64),
    /// SIGSTOPs to be sent again at the end.
    pub(crate) held: Vec<i32>,
    /// Files that it maps shared and that nobody may write to while it is away.
    pub(crate) leases: Arc<Mutex<Vec<Lease>>>,
    /// Address of a `syscall` instruction that is there without the ring.
    site: u64,
    /// What the kernel at home has for the alternate signal stack.
    alt_stack_at_home: AltStack,
}

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
    let io = |what| move |error| Fault::Io(what, error);
    let vdso = vdso::code_range(&procfs::maps(pid).map_err(io("read its maps"))?)
        .ok_or_else(|| Fault::Said("the process has no vDSO".to_owned()))?;
    let memory = Memory::open(pid).map_err(io("open its memory"))?;
    let Halted { task, mask } = match found {
        Found::Free => tracee::halt(tracee::seize(pid)?, &mut held)?,
        // This stop is inside the call, whose result would still overwrite a register: leave it first. The request
        // to stop comes before that, so that the new program does not execute a single instruction.
        Found::AfterExec(task) => tracee::halted(task.resume_to_stop().map_err(Fault::Trace)?, &mut held)?,
    };
    let task = vdso::step_out(task, vdso, &memory).map_err(Fault::Trace)?;
    let still = match examine(pid, &task, mask, memory, vdso) {
        Ok(still) => still,
        Err(error) => {
            task.set_mask(mask).map_err(Fault::Trace)?;
            task.detach(0).map_err(Fault::Trace)?;
            resend(pid, &held);
            return Err(error);
        }
    };
    record.parking(&still.thread, &still.original);
    faultpoint::reach(Point::DeputyStopped);
    let (task, ring) = match map_ring(pid, task, &still, &mut held) {
        Ok(mapped) => mapped,
        Err((None, error)) => return Err(error),
        Err((Some(task), error)) => {
            task.set_registers(&still.original).map_err(Fault::Trace)?;
            task.set_mask(mask).map_err(Fault::Trace)?;
            task.detach(0).map_err(Fault::Trace)?;
            resend(pid, &held);
            return Err(error);
        }
    };
    record.parked(&still.thread, ring.range());
    faultpoint::reach(Point::DeputyMapped);
    let (rip, r12) = ring.entry();
    // No stack: the agent needs none, and a signal frame could never be written to stale memory.
    task.set_registers(&Registers { rip, r12, rsp: 0, orig_rax: NO_SYSCALL, ..still.original })
        .map_err(Fault::Trace)?;
    let running = task.resume(0).map_err(Fault::Trace)?;
    let mut parked = Parked {
        pid,
        slot: Arc::new(Mutex::new(ring.slot())),
        ring,
        memory: Arc::new(still.memory),
        thread: still.thread,
        actions: Vec::new(),
        borders: still.borders,
        auxv: still.auxv,
        cpu_us: (0, 0),
        held,
        leases: Arc::new(Mutex::new(still.leases)),
        site: still.site,
        alt_stack_at_home: AltStack::default(),
    };
    if let Err(error) = parked.ask(&still.status) {
        parked.release(running)?;
        return Err(error);
    }
    record.parked(&parked.thread, parked.ring.range());
    let running = parked.with_mask(running, mask)?;
    faultpoint::reach(Point::DeputyParked);
    Ok((parked, running))
}

/// What is known of the process before anything in it is changed.
struct Still {
    thread: Thread,
    /// Registers to go on with if nothing comes of it.
    original: Registers,
    memory: Memory,
    borders: Borders,
    auxv: Vec<u8>,
    site: u64,
    /// Address of an empty string: the last byte of the vDSO's ELF identification.
    name: u64,
    leases: Vec<Lease>,
    status: Status,
}

fn examine(pid: i32, task: &Stopped, mask: u64, memory: Memory, vdso: (u64, u64)) -> Result<Still> {
    let io = |what| move |error| Fault::Io(what, error);
    let registers = task.registers().map_err(Fault::Trace)?;
    if registers.cs != USER_CS_64 {
        return Err(Reason::Bits32.into());
    }
    let status = Status::read(pid).map_err(io("read its status"))?;
    if status.threads != 1 {
        return Err(Reason::Threads(status.threads).into());
    }
    let maps = procfs::maps(pid).map_err(io("read its maps"))?;
    let leases = eligible::take_leases(pid, &maps)?;
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
        site: vdso::syscall_site(&memory, vdso).map_err(io("find a place for its calls"))?,
        name: vdso.0 + 15,
        memory,
        leases,
        status,
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

/// Has the process map the ring; nothing of its memory and descriptors is different afterwards.
fn map_ring(
    pid: i32,
    task: Stopped,
    still: &Still,
    held: &mut Vec<i32>,
) -> std::result::Result<(Stopped, Ring), (Option<Stopped>, Fault)> {
    let mut signals = Vec::new();
    let mut make = |task: Stopped, number: u64, arguments: [u64; 6]| {
        inject::inject(task, still.site, number, arguments, &mut signals)
            .map_err(|error| (None, error.into()))
    };
    if let Err(error) = task.set_mask(BLOCK_ALL) {
        return Err((Some(task), Fault::Trace(error)));
    }
    let (task, fd) = make(task, call::MEMFD_CREATE, [still.name, MFD_CLOEXEC, 0, 0, 0, 0])?;
    if fd < 0 {
        return Err((Some(task), said("make the ring", fd)));
    }
    let length = ring::LENGTH as u64;
    let memfd = ProcessHandle::open(pid.cast_unsigned())
        .and_then(|process| process.descriptor(fd as i32))
        .and_then(|memfd| {
            minka_kernel::shared::resize(memfd.as_fd(), ring::LENGTH)?;
            Ok(memfd)
        });
    let mapped = match &memfd {
        Ok(_) => make(task, call::MMAP, [0, length, PROT_RWX, MAP_SHARED, fd as u64, 0])?,
        Err(_) => (task, -1),
    };
    let (task, address) = mapped;
    let (task, _) = make(task, call::CLOSE, [fd as u64, 0, 0, 0, 0, 0])?;
    held.extend(signals.into_iter().map(|(signal, _)| signal));
    let memfd = match memfd {
        Ok(memfd) => memfd,
        Err(error) => return Err((Some(task), Fault::Io("share the ring", error))),
    };
    if address < 0 {
        return Err((Some(task), said("map the ring", address)));
    }
    match Ring::create(memfd.as_fd(), address as u64) {
        Ok(ring) => Ok((task, ring)),
        Err(error) => Err((Some(task), Fault::Io("lay out the ring", error))),
    }
}

fn said(what: &'static str, result: i64) -> Fault {
    Fault::Io(what, std::io::Error::from_raw_os_error(-result as i32))
}

fn resend(pid: i32, held: &[i32]) {
    for signal in held {
        if let Ok(process) = ProcessHandle::open(pid.cast_unsigned()) {
            // It may have ended meanwhile; then there is nobody to stop.
            let _ = process.signal(*signal);
        }
    }
}

impl Parked {
    /// A call by the agent.
    pub(crate) fn call(&self, number: u64, arguments: &[u64]) -> Result<i64> {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(slot.call(number, all, Duration::ZERO)?)
    }

    /// A call by the agent that writes `N` bytes at the address which `arguments` gets.
    fn call_for<const N: usize>(
        &self,
        number: u64,
        arguments: impl Fn(u64) -> [u64; 6],
    ) -> Result<(i64, [u8; N])> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.data()[..N].fill(0);
        let address = slot.data_address();
        let result = slot.call(number, arguments(address), Duration::ZERO)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&slot.data()[..N]);
        Ok((result, bytes))
    }

    /// What only the process itself can tell, and what must not happen to it while it is parked.
    fn ask(&mut self, status: &Status) -> Result<()> {
        self.borders.brk = self.call(call::BRK, &[0])? as u64;
        for signal in (1..=64u8).filter(|signal| (status.caught | status.ignored) >> (signal - 1) & 1 == 1) {
            let arguments = |data| [u64::from(signal), 0, data, 8, 0, 0];
            let (_, bytes) = self.call_for::<{ Action::SIZE }>(call::RT_SIGACTION, arguments)?;
            self.actions.push(Action::from_bytes(signal, &bytes));
        }
        let (_, stack) = self.call_for::<24>(call::SIGALTSTACK, |data| [0, data, 0, 0, 0, 0])?;
        let word = |at: usize| u64::from_le_bytes(stack[at..at + 8].try_into().expect("eight bytes"));
        let flags = word(8) as u32 & !AltStack::ON_STACK;
        self.thread.alt_stack = AltStack { base: word(0), flags, size: word(16) };
        self.alt_stack_at_home = self.thread.alt_stack;
        let (_, address) = self.call_for::<8>(call::PRCTL, |data| [PR_GET_TID_ADDRESS, data, 0, 0, 0, 0])?;
        self.thread.tid_address = u64::from_le_bytes(address);
        for which in [ITIMER_VIRTUAL, ITIMER_PROF] {
            let (_, timer) = self.call_for::<32>(call::GETITIMER, |data| [which, data, 0, 0, 0, 0])?;
            if timer != [0; 32] {
                return Err(Reason::CpuTimer.into());
            }
        }
        // Otherwise its end would walk stale memory and wake futexes there.
        self.call(call::SET_ROBUST_LIST, &[0, ROBUST_HEAD])?;
        self.call(call::SET_TID_ADDRESS, &[0])?;
        Ok(())
    }

    /// Whether nobody may write to the file behind a shared mapping while the process is away.
    pub(crate) fn is_leased(&self, mapping: &Mapping) -> bool {
        let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(&mapping.backing, Backing::File { path, .. } if leases.iter().any(|lease| lease.path() == path))
    }

    /// Whether somebody wants to write to one of those files.
    pub(crate) fn a_lease_is_breaking(&self) -> bool {
        let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.iter().any(Lease::is_breaking)
    }

    /// Stops the agent's thread for a moment and sets its signal mask.
    pub(crate) fn with_mask(&mut self, running: Running, mask: u64) -> Result<Running> {
        let Halted { task, .. } = tracee::halt(running, &mut self.held)?;
        task.set_mask(mask).map_err(Fault::Trace)?;
        task.resume(0).map_err(Fault::Trace)
    }

    /// Lets the process go on as an ordinary one, with the state in `self.thread`. Nothing of the ring is left.
    pub(crate) fn release(mut self, running: Running) -> Result<()> {
        faultpoint::reach(Point::DeputyReleasing);
        let running = self.with_mask(running, BLOCK_ALL)?;
        self.call(
            call::SET_ROBUST_LIST,
            &[self.thread.robust_list.0, self.thread.robust_list.1.max(ROBUST_HEAD)],
        )?;
        self.call(call::SET_TID_ADDRESS, &[self.thread.tid_address])?;
        if self.thread.alt_stack != self.alt_stack_at_home {
            let AltStack { base, flags, size } = self.thread.alt_stack;
            let words = [base, u64::from(flags), size].map(u64::to_le_bytes).concat();
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.data()[..words.len()].copy_from_slice(&words);
            let data = slot.data_address();
            slot.call(call::SIGALTSTACK, [data, 0, 0, 0, 0, 0], Duration::ZERO)?;
        }
        let Halted { task, .. } = tracee::halt(running, &mut self.held)?;
        let (start, end) = self.ring.range();
        let mut signals = Vec::new();
        let (task, _) =
            inject::inject(task, self.site, call::MUNMAP, [start, end - start, 0, 0, 0, 0], &mut signals)?;
        self.held.extend(signals.into_iter().map(|(signal, _)| signal));
        task.set_registers(&self.thread.registers).map_err(Fault::Trace)?;
        task.set_extended(&self.thread.extended).map_err(Fault::Trace)?;
        task.set_mask(self.thread.mask).map_err(Fault::Trace)?;
        task.detach(0).map_err(Fault::Trace)?;
        resend(self.pid, &self.held);
        faultpoint::reach(Point::DeputyReleased);
        Ok(())
    }
}

const ITIMER_VIRTUAL: u64 = 1;
const ITIMER_PROF: u64 = 2;

/// Length of `struct robust_list_head`, the only one that the kernel accepts.
const ROBUST_HEAD: u64 = 24;
