//! A parked process: what it is, the calls that its agent makes, and the way back to an ordinary one.

use crate::eligible::{Lease, Reason};
use crate::fault::{Fault, Result, chain};
use crate::kept::Kept;
use crate::record::Record;
use crate::tracee::{self, BLOCK_ALL, Halted};
use minka_image::maps::{Backing, Mapping};
use minka_image::process::{Action, AltStack, Borders, Thread};
use minka_image::registers::Registers;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::inject::InjectError;
use minka_kernel::memory::Memory;
use minka_kernel::procfs::Status;
use minka_kernel::ptrace::{self, Running, SIGINFO_SIZE, Stopped};
use minka_kernel::ring::{self, Ring, Slot};
use minka_kernel::site::Site;
use minka_kernel::spawn::ProcessHandle;
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
    pub(crate) const RT_SIGTIMEDWAIT: u64 = 128;
    pub(crate) const PRCTL: u64 = 157;
    pub(crate) const SET_TID_ADDRESS: u64 = 218;
    pub(crate) const SET_ROBUST_LIST: u64 = 273;
    pub(crate) const RT_TGSIGQUEUEINFO: u64 = 297;
    pub(crate) const MEMFD_CREATE: u64 = 319;
}

const PR_GET_TID_ADDRESS: u64 = 40;

/// A process whose thread is in the agent.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) pid: i32,
    pub(crate) ring: Ring,
    pub(crate) slot: Arc<Mutex<Slot>>,
    pub(crate) memory: Arc<Memory>,
    /// Its address space as it was when it was stopped, without the ring; nothing when it may be another by now.
    pub(crate) maps: Vec<Mapping>,
    /// Where no host has a say.
    pub(crate) kept: Kept,
    /// What the program is, apart from its memory.
    pub(crate) thread: Thread,
    pub(crate) actions: Vec<Action>,
    pub(crate) borders: Borders,
    pub(crate) auxv: Vec<u8>,
    /// Signals that were pending in the guest when it left its host: number and `siginfo_t`.
    pub(crate) pending: Vec<(i32, Vec<u8>)>,
    /// CPU time used away from home: user and system, microseconds.
    pub(crate) cpu_us: (u64, u64),
    /// SIGSTOPs to be sent again at the end.
    pub(crate) held: Vec<i32>,
    /// The same, of those that arrived during a call of the agent.
    held_in_calls: Mutex<Vec<i32>>,
    /// Files that it maps shared and that nobody may write to while it is away.
    pub(crate) leases: Arc<Mutex<Vec<Lease>>>,
    /// Where it makes calls without the ring.
    site: Site,
    /// What the kernel at home has for the alternate signal stack.
    alt_stack_at_home: AltStack,
}

impl Parked {
    /// A process that has just been taken into the agent; the rest of what it is it has to be asked.
    #[allow(clippy::too_many_arguments, reason = "all of it is found in one place and kept here")]
    pub(crate) fn new(
        pid: i32,
        ring: Ring,
        site: Site,
        memory: Memory,
        kept: Kept,
        thread: Thread,
        leases: Vec<Lease>,
        held: Vec<i32>,
    ) -> Self {
        Self {
            pid,
            slot: Arc::new(Mutex::new(ring.slot())),
            ring,
            memory: Arc::new(memory),
            maps: Vec::new(),
            kept,
            thread,
            actions: Vec::new(),
            borders: Borders::default(),
            auxv: Vec::new(),
            pending: Vec::new(),
            cpu_us: (0, 0),
            held,
            held_in_calls: Mutex::default(),
            leases: Arc::new(Mutex::new(leases)),
            site,
            alt_stack_at_home: AltStack::default(),
        }
    }

    /// A call by the agent.
    pub(crate) fn call(&self, number: u64, arguments: &[u64]) -> Result<i64> {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        self.attended(&mut slot, number, all)
    }

    /// Makes a call for the thread that traces the process, which therefore sees to it that the agent goes on.
    fn attended(&self, slot: &mut Slot, number: u64, arguments: [u64; 6]) -> Result<i64> {
        let result = slot.call_attended(number, arguments, || match ptrace::keep_going(self.pid) {
            Ok(signal) => {
                let mut held = self.held_in_calls.lock().unwrap_or_else(PoisonError::into_inner);
                held.extend(signal);
                true
            }
            Err(_) => false,
        });
        Ok(result?)
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
        let result = self.attended(&mut slot, number, arguments(address))?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&slot.data()[..N]);
        Ok((result, bytes))
    }

    /// Learns what happens on which signal: the program may change that while it is away.
    pub(crate) fn learn_actions(&mut self) -> Result<()> {
        let status = Status::read(self.pid).map_err(|error| Fault::Io("read its status", error))?;
        self.actions.clear();
        for signal in (1..=64u8).filter(|signal| (status.caught | status.ignored) >> (signal - 1) & 1 == 1) {
            let arguments = |data| [u64::from(signal), 0, data, 8, 0, 0];
            let (_, bytes) = self.call_for::<{ Action::SIZE }>(call::RT_SIGACTION, arguments)?;
            self.actions.push(Action::from_bytes(signal, &bytes));
        }
        Ok(())
    }

    /// Makes those signals pending here that were pending in the guest and that its thread blocks (or all of them),
    /// before those of the same numbers that have arrived here since. The process queues them to itself: only so
    /// may they have every origin.
    pub(crate) fn put_back_signals(&mut self, all: bool) -> Result<()> {
        let is_blocked = |signal: i32| self.thread.mask >> (signal - 1) & 1 == 1;
        let (here, there): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|(signal, _)| all || is_blocked(*signal));
        self.pending = there;
        let set = here.iter().fold(0u64, |set, (signal, _)| set | 1 << (signal - 1));
        let newer = if here.is_empty() { Vec::new() } else { self.take_pending(set)? };
        here.iter().chain(&newer).try_for_each(|(signal, info)| self.queue_signal(*signal, info))
    }

    /// Takes the pending signals of a set (bit `n - 1` for signal `n`) away, in the order in which they would have
    /// been delivered.
    fn take_pending(&self, set: u64) -> Result<Vec<(i32, Vec<u8>)>> {
        // The set (8 bytes) and the time to wait (none: 16 bytes), and room for the information behind them.
        const INFO: usize = 32;
        let mut taken = Vec::new();
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let data = slot.data_address();
        loop {
            slot.data()[..INFO + SIGINFO_SIZE].fill(0);
            slot.data()[..8].copy_from_slice(&set.to_le_bytes());
            let arguments = [data, data + INFO as u64, data + 8, 8, 0, 0];
            let signal = self.attended(&mut slot, call::RT_SIGTIMEDWAIT, arguments)?;
            if signal <= 0 {
                return Ok(taken);
            }
            taken.push((signal as i32, slot.data()[INFO..INFO + SIGINFO_SIZE].to_vec()));
        }
    }

    /// Has the process queue a signal to itself, with this `siginfo_t`.
    fn queue_signal(&self, signal: i32, info: &[u8]) -> Result<()> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.data()[..info.len()].copy_from_slice(info);
        let pid = self.pid as u64;
        let arguments = [pid, pid, signal as u64, slot.data_address(), 0, 0];
        match self.attended(&mut slot, call::RT_TGSIGQUEUEINFO, arguments)? {
            0 => Ok(()),
            error => Err(Fault::Io("put back a signal", std::io::Error::from_raw_os_error(-error as i32))),
        }
    }

    /// What only the process itself can tell, and what must not happen to it while it is parked.
    pub(crate) fn ask(&mut self, record: &Record) -> Result<()> {
        self.borders.brk = self.call(call::BRK, &[0])? as u64;
        self.learn_actions()?;
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
        record.parked(&self.thread);
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
    /// If that fails the process has ended: it could not be said what it would go on with.
    pub(crate) fn release(mut self, running: Running) -> Result<()> {
        faultpoint::reach(Point::DeputyReleasing);
        self.put_back(running).map_err(|error| match error {
            Fault::Gone(end) | Fault::Inject(InjectError::Gone(end)) => Fault::Gone(end),
            error => end(self.pid, &error),
        })?;
        faultpoint::reach(Point::DeputyReleased);
        Ok(())
    }

    fn put_back(&mut self, running: Running) -> Result<()> {
        let running = self.with_mask(running, BLOCK_ALL)?;
        self.put_back_signals(true)?;
        self.call(
            call::SET_ROBUST_LIST,
            &[self.thread.robust_list.0, self.thread.robust_list.1.max(ROBUST_HEAD)],
        )?;
        self.call(call::SET_TID_ADDRESS, &[self.thread.tid_address])?;
        if self.thread.alt_stack != self.alt_stack_at_home {
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            let words = self.thread.alt_stack.to_bytes();
            slot.data()[..words.len()].copy_from_slice(&words);
            let data = slot.data_address();
            self.attended(&mut slot, call::SIGALTSTACK, [data, 0, 0, 0, 0, 0])?;
        }
        let Halted { task, .. } = tracee::halt(running, &mut self.held)?;
        self.site.lay(&task, &self.memory).map_err(Fault::Trace)?;
        task.set_registers(&self.site.rest(&task.registers().map_err(Fault::Trace)?))
            .map_err(Fault::Trace)?;
        let (task, _) =
            self.site.call(task, call::MUNMAP, whole_ring(self.ring.range().0), &mut self.held)?;
        go_on(task, self.site, &self.thread, &self.thread.registers)?;
        self.held.append(self.held_in_calls.get_mut().unwrap_or_else(PoisonError::into_inner));
        resend(self.pid, &self.held);
        Ok(())
    }
}

/// Has a process at the site go on in its program. The registers come last: a process that executes its program is
/// one with which nothing is left to be done.
pub(crate) fn go_on(task: Stopped, site: Site, thread: &Thread, registers: &Registers) -> Result<()> {
    task.set_extended(&thread.extended)
        .and_then(|()| task.set_mask(thread.mask))
        .and_then(|()| task.set_registers(registers))
        .and_then(|()| site.clear(&task))
        .and_then(|()| task.detach(0))
        .map_err(Fault::Trace)
}

const ITIMER_VIRTUAL: u64 = 1;
const ITIMER_PROF: u64 = 2;

/// Length of `struct robust_list_head`, the only one that the kernel accepts.
pub(crate) const ROBUST_HEAD: u64 = 24;

/// What `munmap` is told to take the ring away.
pub(crate) fn whole_ring(address: u64) -> [u64; 6] {
    [address, ring::LENGTH as u64, 0, 0, 0, 0]
}

/// Ends a process that can neither be served nor go on: as by SIGKILL, and it is gone when this returns.
pub(crate) fn end(pid: i32, error: &Fault) -> Fault {
    const PATIENCE: Duration = Duration::from_secs(30);
    let reason = chain(error);
    tracing::error!(pid, %reason, "the process is ended");
    if let Ok(process) = ProcessHandle::open(pid.cast_unsigned()) {
        // It may have ended by itself.
        let _ = process.signal(tracee::libc_signal::KILL);
        // Much memory takes its time. Whoever hears of the end from us will look for the process.
        let _ = process.wait_for_end(Some(PATIENCE));
    }
    Fault::Lost(reason)
}

/// Sends the signals again that could not be made pending.
pub(crate) fn resend(pid: i32, held: &[i32]) {
    for signal in held {
        if let Ok(process) = ProcessHandle::open(pid.cast_unsigned()) {
            // It may have ended meanwhile; then there is nobody to stop.
            let _ = process.signal(*signal);
        }
    }
}
