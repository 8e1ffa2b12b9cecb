//! A parked process: what it is, the calls that its agent makes, and the way back to an ordinary one.

mod release;
mod signals;

pub(crate) use release::go_on;

use crate::agents::{Agent, Agents};
use crate::eligible::{Lease, Reason};
use crate::fault::{Fault, Result, chain};
use crate::kept::Kept;
use crate::record::Record;
use crate::sole::Sole;
use crate::timed;
use crate::tracee::{self, Tasks};
use minka_image::maps::{Backing, Mapping};
use minka_image::process::{Action, AltStack, Borders, Rseq, Thread};
use minka_image::registers::{NO_SYSCALL, Registers};
use minka_image::restart;
use minka_kernel::memory::Memory;
use minka_kernel::procfs::{self, Status};
use minka_kernel::ptrace::{self, End, Running, Stopped, Waited};
use minka_kernel::ring::{Ring, Slot};
use minka_kernel::site::Site;
use minka_kernel::spawn::ProcessHandle;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    pub(crate) const RSEQ: u64 = 334;
    pub(crate) const CLONE: u64 = 56;
}

const PR_GET_TID_ADDRESS: u64 = 40;

/// A process whose threads are in the agent.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) pid: i32,
    pub(crate) agents: Arc<Agents>,
    /// Its threads, by their ids.
    threads: BTreeMap<i32, Resident>,
    pub(crate) memory: Arc<Memory>,
    /// Its address space as it was when it was stopped, without the ring; nothing when it may be another by now.
    pub(crate) maps: Vec<Mapping>,
    /// Where no host has a say.
    pub(crate) kept: Kept,
    pub(crate) actions: Vec<Action>,
    pub(crate) borders: Borders,
    pub(crate) auxv: Vec<u8>,
    /// CPU time used away from home: user and system, microseconds.
    pub(crate) cpu_us: (u64, u64),
    /// SIGSTOPs to be sent again at the end.
    pub(crate) held: Vec<i32>,
    /// The same, of those that arrived during a call of the agent.
    held_in_calls: Mutex<Vec<i32>>,
    /// Files that it maps shared and that nobody may write to while it is away.
    pub(crate) leases: Arc<Mutex<Vec<Lease>>>,
    /// Shared memory that goes with it.
    pub(crate) sole: Arc<Sole>,
    /// Where it makes calls without the ring.
    site: Site,
}

/// One of its threads.
#[derive(Debug)]
struct Resident {
    /// What the program is there, apart from its memory.
    thread: Thread,
    agent: Arc<Agent>,
    /// What the kernel at home has for the alternate signal stack, and for restartable sequences.
    alt_stack_at_home: AltStack,
    rseq_at_home: Option<Rseq>,
}

impl Resident {
    /// The state with which it goes on by itself, as the kernel is to find it.
    fn as_it_goes_on(&self) -> Thread {
        let mut thread = self.thread.clone();
        if let Some(waiting) = *self.agent.waiting() {
            thread.registers = waiting.mark(&thread.registers);
        }
        if let Some(how) = thread.interrupted {
            thread.registers = restart::interrupted(&thread.registers, how);
        }
        thread
    }
}

/// What there is of a process that is being taken into the agent.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) agents: Arc<Agents>,
    pub(crate) threads: Vec<Thread>,
    pub(crate) memory: Memory,
    pub(crate) maps: Vec<Mapping>,
    pub(crate) kept: Kept,
    pub(crate) borders: Borders,
    pub(crate) auxv: Vec<u8>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) sole: Sole,
    pub(crate) held: Vec<i32>,
    pub(crate) site: Site,
}

impl Parked {
    /// A process that has just been taken into the agent; the rest of what it is it has to be asked.
    pub(crate) fn new(pid: i32, parts: Parts) -> Self {
        let Parts { agents, threads, memory, maps, kept, borders, auxv, leases, sole, held, site } = parts;
        let resident = |thread: Thread| {
            let agent = agents.of(thread.tid)?;
            let (alt_stack_at_home, rseq_at_home) = (thread.alt_stack, thread.rseq);
            Some((thread.tid, Resident { thread, agent, alt_stack_at_home, rseq_at_home }))
        };
        Self {
            pid,
            threads: threads.into_iter().filter_map(resident).collect(),
            agents,
            memory: Arc::new(memory),
            maps,
            kept,
            actions: Vec::new(),
            borders,
            auxv,
            cpu_us: (0, 0),
            held,
            held_in_calls: Mutex::default(),
            leases: Arc::new(Mutex::new(leases)),
            sole: Arc::new(sole),
            site,
        }
    }

    /// What the program is in each of its threads, its main thread first.
    pub(crate) fn threads(&self) -> Vec<Thread> {
        let mut threads: Vec<Thread> =
            self.threads.values().map(|resident| resident.thread.clone()).collect();
        threads.sort_by_key(|thread| thread.tid != self.pid);
        threads
    }

    /// What the program has become, thread by thread: there must be one state for each thread that is here.
    pub(crate) fn set_threads(&mut self, threads: Vec<Thread>) -> Result<()> {
        let count = threads.len();
        let mut states: BTreeMap<i32, Thread> =
            threads.into_iter().map(|thread| (thread.tid, thread)).collect();
        if count != self.threads.len() || !states.keys().eq(self.threads.keys()) {
            let (found, wanted) = (states.into_keys(), self.threads.keys());
            let (found, wanted) = (found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
            return Err(Fault::Said(format!(
                "the host returned the threads {found:?} instead of {wanted:?}"
            )));
        }
        for (tid, resident) in &mut self.threads {
            if let Some(mut thread) = states.remove(tid) {
                (thread.registers, thread.interrupted) =
                    timed::mark_futex(&thread.registers, thread.interrupted, &self.memory);
                resident.thread = thread;
            }
        }
        Ok(())
    }

    /// Forgets what was about to be delivered to the guest: it has been sent there.
    pub(crate) fn forget_pending(&mut self) {
        self.threads.values_mut().for_each(|resident| resident.thread.pending.clear());
    }

    /// The agent of the main thread, which makes the calls that concern the whole process.
    fn main_agent(&self) -> Result<Arc<Agent>> {
        self.agents.of(self.pid).ok_or(Fault::Over)
    }

    /// A call by the main thread's agent.
    pub(crate) fn call(&self, number: u64, arguments: &[u64]) -> Result<i64> {
        self.call_by(&*self.main_agent()?, number, arguments)
    }

    /// A call by a thread's agent.
    fn call_by(&self, agent: &Agent, number: u64, arguments: &[u64]) -> Result<i64> {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        self.attended(agent, &mut agent.slot(), number, all)
    }

    /// Makes a call for the thread that traces the process, which therefore sees to it that the agent goes on.
    fn attended(&self, agent: &Agent, slot: &mut Slot, number: u64, arguments: [u64; 6]) -> Result<i64> {
        let result = slot.call_attended(number, arguments, || match ptrace::keep_going(agent.tid) {
            Ok(signal) => {
                self.hold(signal.as_slice());
                true
            }
            Err(_) => false,
        });
        Ok(result?)
    }

    /// Keeps signals that could not be made pending, to be sent again at the end.
    pub(crate) fn hold(&self, signals: &[i32]) {
        self.held_in_calls.lock().unwrap_or_else(PoisonError::into_inner).extend(signals);
    }

    /// A signal has arrived: if it has the process go on, what was to stop it is not sent again.
    pub(crate) fn forget_stop(&mut self, arrived: i32) {
        tracee::forget_stop(arrived, &mut self.held);
        let in_calls = self.held_in_calls.get_mut().unwrap_or_else(PoisonError::into_inner);
        tracee::forget_stop(arrived, in_calls);
    }

    /// A call by a thread's agent that writes `N` bytes at the address which `arguments` gets.
    fn call_for<const N: usize>(
        &self,
        agent: &Agent,
        number: u64,
        arguments: impl Fn(u64) -> [u64; 6],
    ) -> Result<(i64, [u8; N])> {
        let mut slot = agent.slot();
        slot.data()[..N].fill(0);
        let address = slot.data_address();
        let result = self.attended(agent, &mut slot, number, arguments(address))?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&slot.data()[..N]);
        Ok((result, bytes))
    }

    /// Learns what happens on which signal: the program may change that while it is away.
    pub(crate) fn learn_actions(&mut self) -> Result<()> {
        let status = Status::read(self.pid).map_err(|error| Fault::Io("read its status", error))?;
        let agent = self.main_agent()?;
        self.actions.clear();
        for signal in (1..=64u8).filter(|signal| (status.caught | status.ignored) >> (signal - 1) & 1 == 1) {
            let arguments = |data| [u64::from(signal), 0, data, 8, 0, 0];
            let (_, bytes) = self.call_for::<{ Action::SIZE }>(&agent, call::RT_SIGACTION, arguments)?;
            self.actions.push(Action::from_bytes(signal, &bytes));
        }
        Ok(())
    }

    /// What only the process itself can tell, and what must not happen to it while it is parked.
    pub(crate) fn ask(&mut self, record: &Record, is_kin: bool) -> Result<()> {
        self.borders.brk = self.call(call::BRK, &[0])? as u64;
        self.learn_actions()?;
        let agent = self.main_agent()?;
        for which in [ITIMER_VIRTUAL, ITIMER_PROF] {
            let (_, timer) =
                self.call_for::<32>(&agent, call::GETITIMER, |data| [which, data, 0, 0, 0, 0])?;
            if timer != [0; 32] {
                return Err(Reason::CpuTimer.into());
            }
        }
        for tid in self.threads.keys().copied().collect::<Vec<_>>() {
            self.ask_thread(tid)?;
        }
        record.parked(&self.threads());
        for agent in self.threads.values().map(|resident| &resident.agent) {
            // Otherwise its end would walk stale memory and wake futexes there. Those who share it wait for that, should it be
            // killed before it goes, or when it is back; what is stale then comes home again.
            if !is_kin {
                self.call_by(agent, call::SET_ROBUST_LIST, &[0, ROBUST_HEAD])?;
            }
            self.call_by(agent, call::SET_TID_ADDRESS, &[0])?;
        }
        Ok(())
    }

    fn ask_thread(&mut self, tid: i32) -> Result<()> {
        let Some(agent) = self.agents.of(tid) else { return Ok(()) };
        let (_, stack) = self.call_for::<24>(&agent, call::SIGALTSTACK, |data| [0, data, 0, 0, 0, 0])?;
        let (_, address) =
            self.call_for::<8>(&agent, call::PRCTL, |data| [PR_GET_TID_ADDRESS, data, 0, 0, 0, 0])?;
        let word = |at: usize| u64::from_le_bytes(stack[at..at + 8].try_into().expect("eight bytes"));
        let flags = word(8) as u32 & !AltStack::ON_STACK;
        if let Some(resident) = self.threads.get_mut(&tid) {
            resident.thread.alt_stack = AltStack { base: word(0), flags, size: word(16) };
            resident.alt_stack_at_home = resident.thread.alt_stack;
            resident.thread.tid_address = u64::from_le_bytes(address);
        }
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

    /// A thread has been made, at the order of another one that is in the stop for it: takes it into the agent.
    pub(crate) fn adopt(&mut self, maker: Stopped) -> Result<(Running, Option<Running>)> {
        let made = maker.made_thread().and_then(Running::wait).map_err(Fault::Trace)?;
        let made = match made {
            Waited::Stopped(made, _) => {
                let tid = made.tid();
                let agent = self.agents.add(tid);
                let agent =
                    agent.ok_or_else(|| Fault::Said("the ring has no room for a thread".to_owned()))?;
                let (rip, r12) = self.agents.ring().entry(agent.index);
                let registers = made.registers().map_err(Fault::Trace)?;
                made.set_registers(&Registers { rip, r12, rsp: 0, orig_rax: NO_SYSCALL, ..registers })
                    .map_err(Fault::Trace)?;
                let thread = Thread::new(tid);
                let alt_stack_at_home = thread.alt_stack;
                self.threads.insert(tid, Resident { thread, agent, alt_stack_at_home, rseq_at_home: None });
                Some(made.resume(0).map_err(Fault::Trace)?)
            }
            Waited::Still(_) | Waited::Gone(_) => None,
        };
        Ok((maker.resume(0).map_err(Fault::Trace)?, made))
    }

    /// Ends threads that the guest does not have, and waits for all that are ending.
    pub(crate) fn end_threads(&mut self, tasks: &mut Tasks, unmade: &[i32]) -> Result<()> {
        let of_guest = |tid: &&i32| **tid != self.pid;
        unmade.iter().filter(of_guest).filter_map(|tid| self.agents.of(*tid)).for_each(|agent| agent.end());
        for tid in tasks.ids(self.pid) {
            if !self.agents.of(tid).is_some_and(|agent| agent.is_ending()) {
                continue;
            }
            let Some(mut task) = tasks.take(tid) else { continue };
            loop {
                task = match task.wait().map_err(Fault::Trace)? {
                    Waited::Gone(end) => break self.thread_ended(tid, end)?,
                    Waited::Stopped(task, _) => task.resume(0).map_err(Fault::Trace)?,
                    Waited::Still(task) => task,
                };
            }
        }
        Ok(())
    }

    /// A thread has ended. If it was the main one the process has: that one is waited for until all others are gone.
    pub(crate) fn thread_ended(&mut self, tid: i32, end: End) -> Result<()> {
        if tid == self.pid {
            return Err(Fault::Gone(end));
        }
        self.threads.remove(&tid);
        self.agents.remove(tid);
        Ok(())
    }

    /// Stops each thread for a moment and sets its signal mask.
    pub(crate) fn with_masks(&mut self, tasks: Tasks, mask: impl Fn(&Thread) -> u64) -> Result<Tasks> {
        let mut masked = Tasks::default();
        for task in self.halt(tasks)? {
            let Some(resident) = self.threads.get(&task.tid()) else { continue };
            task.set_mask(mask(&resident.thread)).map_err(Fault::Trace)?;
            masked.put(task.resume(0).map_err(Fault::Trace)?);
        }
        Ok(masked)
    }

    /// Stops all threads, the main one first.
    fn halt(&mut self, mut tasks: Tasks) -> Result<Vec<Stopped>> {
        let mut halted = Vec::new();
        for tid in tasks.ids(self.pid) {
            let Some(task) = tasks.take(tid) else { continue };
            match tracee::halt(task, &mut self.held) {
                Ok(task) => halted.push(task),
                Err(Fault::Gone(end)) => self.thread_ended(tid, end)?,
                Err(error) => return Err(error),
            }
        }
        halted.sort_by_key(|task| task.tid() != self.pid);
        Ok(halted)
    }
}

const ITIMER_VIRTUAL: u64 = 1;
const ITIMER_PROF: u64 = 2;

/// Length of `struct robust_list_head`, the only one that the kernel accepts.
pub(crate) const ROBUST_HEAD: u64 = 24;

/// What `munmap` is told to take the ring away.
fn whole_ring(ring: &Ring) -> [u64; 6] {
    let (start, end) = ring.range();
    [start, end - start, 0, 0, 0, 0]
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
        let until = Instant::now() + PATIENCE;
        // One that shares memory stops once more on its way out.
        let goes_on = |tid: i32| ptrace::go_on(tid).is_ok();
        let other_is_there = |tid: &i32| *tid != pid && (goes_on(*tid) || !ptrace::take_notice_of_end(*tid));
        while procfs::tasks(pid).is_ok_and(|tasks| tasks.iter().any(other_is_there)) && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        while goes_on(pid) && Instant::now() < until {
            let _ = process.wait_for_end(Some(Duration::from_millis(1)));
        }
        let _ = process.wait_for_end(Some(until.saturating_duration_since(Instant::now())));
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
