//! What the threads of a host program share of their guest.

use crate::common::CommonFiles;
use crate::extended::Exchange;
use crate::fault::{Fault, Result};
use crate::foretold::Foretold;
use crate::prepare::StandsIn;
use minka_image::origin::Origins;
use minka_image::process::{AltStack, Thread, Unfinished};
use minka_image::ranges::Ranges;
use minka_image::registers::Registers;
use minka_image::restart::{self, Interruption, RestartOwner};
use minka_kernel::memory::Memory;
use minka_kernel::pagemap::Pagemap;
use minka_kernel::process::Bell;
use minka_kernel::procfs::Status;
use minka_kernel::seccomp::Listener;
use minka_kernel::spawn::ProcessHandle;
use minka_kernel::uffd::Userfault;
use minka_syscalls::filter::CHANGES_MAPPINGS;
use minka_syscalls::{Place, marshal};
use minka_wire::local::GuestMemory;
use minka_wire::message::{INTERRUPTED, SIGNALS_SHIFT};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

const SIGKILL: i32 = 9;

/// What the other threads ask of the tracer.
#[derive(Debug)]
pub(crate) enum Request {
    /// Make sure that a thread stops before it executes another instruction, and does the job then; say so.
    Interrupt(i32, mpsc::SyncSender<()>, Option<Job>),
    /// Make sure that a thread stops before it executes another instruction, and stays so until it is recalled.
    Hold(i32, mpsc::SyncSender<()>),
    /// A worker has heard of the call of a thread that was awaited: see to its signals, and say so.
    Heard(i32, mpsc::SyncSender<()>),
    /// Let the call of a thread pass that makes another one, which is known at home already; say when it is there.
    Make {
        /// The notification's name.
        call: u64,
        thread: Box<GuestThread>,
        /// The thread that makes it, as this node counts.
        maker: i32,
        made: mpsc::SyncSender<Made>,
    },
    /// The thread that was to be made did not come.
    NotMade,
    /// Have the guest recalled, for this reason.
    Homeward(String),
    /// Something came from the home.
    Said(minka_wire::message::FromHome),
    /// All of its memory is here.
    Complete(GuestMemory),
    /// None of its pages is at home only.
    HasAll,
    /// So many calls have been forwarded.
    Calls(u64),
    /// The guest cannot be served any more.
    Lost(String),
}

/// What came of making a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// It is there.
    Here,
    /// It is not, and the call is made again: the home is to end the one that it made.
    Unmade,
    /// The same, and the home is told when the guest leaves, which it is about to do.
    Leaving,
}

/// What a thread of the guest is to do when it stops, and who wants to know when it has been done.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) done: mpsc::SyncSender<()>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Give it new memory, whose pages are at home or in a file of its own.
    Supply(NewArea),
    /// Have it make the `mremap` that it has asked for, while nobody else makes one.
    Move([u64; 6]),
}

/// What the guest is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewArea {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) protection: u64,
    /// Whether it may take the place of other memory, as the program demanded.
    pub(crate) replaces: bool,
    /// The guest's descriptor of the file in which its content is here too, and the place in it.
    pub(crate) file: Option<(i32, u64)>,
}

/// Memory that the fault thread is to serve from now on; it says when it does.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) area: NewArea,
    pub(crate) done: mpsc::SyncSender<std::io::Result<()>>,
}

/// Which pages exist at home.
#[derive(Debug, Default)]
pub(crate) struct Present {
    pub(crate) ranges: Ranges<()>,
    /// Whether `ranges` is complete.
    pub(crate) complete: bool,
}

/// The shared state.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Its PID at home, which is also its PID in its own namespace.
    pub(crate) home_pid: i32,
    /// Its PID as this node counts.
    pub(crate) pid: i32,
    /// The process itself, whatever becomes of its PID.
    pub(crate) handle: ProcessHandle,
    /// Address of a `syscall` instruction in it, for calls that it makes on our behalf.
    pub(crate) site: u64,
    pub(crate) memory: Memory,
    pub(crate) uffd: Userfault,
    pub(crate) pagemap: Pagemap,
    pub(crate) origins: Mutex<Origins>,
    /// What the home uses of the address space: first address and the one after the last.
    pub(crate) reserved: (u64, u64),
    /// What it has in place of its home's vDSO, where this kernel provides another one.
    pub(crate) stand_in: Option<StandsIn>,
    /// How its extended registers are exchanged for its home's, where those are others.
    pub(crate) exchange: Option<Exchange>,
    /// What is backed by a file at home, by its address there.
    pub(crate) files_at_home: Mutex<Ranges<()>>,
    /// Shared memory of its own, which is to stay as it is.
    pub(crate) shared: Ranges<()>,
    /// What is locked at home, and here.
    pub(crate) locked: Ranges<()>,
    /// What it shares with others, if there are any.
    pub(crate) family: Option<OwnedFd>,
    /// Memory that the guest has mapped from files since it came: it was not there when the stream began.
    pub(crate) adopted: Mutex<Ranges<()>>,
    /// Held while a file is mapped, at home and here: files that are here too.
    pub(crate) mapping: Mutex<CommonFiles>,
    /// It is about to leave: what it changes goes home already, and no file is mapped there any more.
    pub(crate) bound: AtomicBool,
    /// New memory for the fault thread, and the bell that calls it.
    pub(crate) adoptions: mpsc::Sender<Adoption>,
    pub(crate) fault_bell: Bell,
    pub(crate) present: Mutex<Present>,
    /// Its threads, by their ids as this node counts.
    pub(crate) threads: Mutex<BTreeMap<i32, Arc<GuestThread>>>,
    /// Where the calls arrive that its filter does not allow.
    pub(crate) listener: OnceLock<Listener>,
    /// Whose turn it is to wait for a call: one worker is woken for each.
    pub(crate) turn: Mutex<()>,
    /// Held while a thread is made.
    pub(crate) making: Mutex<()>,
    /// The guest is about to go: no more faults are fetched ahead, no call is begun.
    pub(crate) leaving: AtomicBool,
    /// The home wants to have no pages any more that the guest misses ([`crate::whole`]).
    pub(crate) gets_all: AtomicBool,
    /// The stream of pages has ended.
    pub(crate) streamed: AtomicBool,
    /// Nobody knows any more what of the shared memory was written: all of it goes home.
    pub(crate) all_shared: AtomicBool,
    /// Its pages are being sent early.
    pub(crate) precopying: AtomicBool,
    pub(crate) requests: mpsc::SyncSender<Request>,
    pub(crate) bell: Arc<Bell>,
    /// Pages that were missed.
    pub(crate) faults: AtomicU64,
    /// Bytes that were fetched because of that.
    pub(crate) fetched: AtomicU64,
    /// When the image had arrived.
    pub(crate) began: Instant,
    /// Signals whose handlers are used once, bit `n - 1` for signal `n`: home calls these.
    pub(crate) used_once: u64,
    /// Held while forwarded calls write into the guest's memory, and while it is looked at what has been written.
    pub(crate) writing: Mutex<()>,
    /// CPU time that the process used away from home before it ran here: user and system, microseconds.
    pub(crate) cpu_before: (u64, u64),
    pub(crate) calls: Calls,
    /// Writes that were sent behind their threads' back.
    pub(crate) behind: AtomicU64,
    /// Lanes for calls.
    pub(crate) lanes: AtomicUsize,
}

/// How often the daemon is told how many calls were forwarded, at most, in milliseconds.
const CALLS_TOLD_MS: u64 = 1000;

/// The calls that were forwarded.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    count: AtomicU64,
    told_ms: AtomicU64,
}

impl Calls {
    /// One more, so many milliseconds after the guest began; how many it were, if that is to be told now.
    pub(crate) fn count(&self, now_ms: u64) -> Option<u64> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let told_ms = self.told_ms.load(Ordering::Relaxed);
        let is_due = now_ms >= told_ms + CALLS_TOLD_MS;
        let first =
            || self.told_ms.compare_exchange(told_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (is_due && first()).then_some(count)
    }
}

/// One thread of the guest.
#[derive(Debug)]
pub(crate) struct GuestThread {
    /// Its id at home, which is also its id in the guest's own namespace.
    pub(crate) home_tid: i32,
    /// Its id as this node counts.
    pub(crate) tid: i32,
    /// The call that `restart_syscall` goes on with at home, if the home's kernel holds one.
    pub(crate) unfinished: Mutex<Option<Unfinished>>,
    /// The last call that was interrupted at home, if it was the last that it made.
    pub(crate) interrupted: Mutex<Option<Unfinished>>,
    /// The registers with which it came to make a call again, and how that was interrupted; nothing once it has made
    /// it.
    pub(crate) begins: Mutex<Option<(Registers, Interruption)>>,
    /// The call that has carried a part of its data, so many bytes, if it is the next that the thread makes.
    pub(crate) part: Mutex<Option<(Unfinished, u64)>>,
    /// What its next calls come to, as far as the home has foretold it.
    pub(crate) foretold: Mutex<Foretold>,
    /// How many signals have been made pending for it here, as the home counts them too.
    pub(crate) signals: AtomicU16,
    /// How many of all that were have not been delivered.
    pub(crate) undelivered: AtomicUsize,
    /// The tracer wants to know when a worker has heard of the call that it makes.
    pub(crate) is_awaited: AtomicBool,
    /// The signal mask of its deputy, as far as this side has set it.
    pub(crate) home_mask: AtomicU64,
    /// What only its own calls change: `set_tid_address`, robust list, alternate stack.
    pub(crate) registrations: Mutex<Registrations>,
    /// Where the kernel is going to write for it, once it is about to end ([`crate::ending`]).
    pub(crate) ending: Mutex<Vec<u64>>,
    /// CPU time that it used away from home before it ran here, microseconds.
    pub(crate) cpu_before: u64,
}

impl GuestThread {
    /// A thread that came with the image.
    pub(crate) fn new(tid: i32, thread: &Thread) -> Self {
        Self {
            home_tid: thread.tid,
            tid,
            unfinished: Mutex::new(thread.unfinished),
            interrupted: Mutex::default(),
            begins: Mutex::new(thread.interrupted.map(|how| (thread.registers, how))),
            part: Mutex::new(match thread.interrupted {
                Some(Interruption::ReturnsPart(done)) => Some((call_ahead(&thread.registers), done)),
                _ => None,
            }),
            foretold: Mutex::default(),
            signals: AtomicU16::default(),
            undelivered: AtomicUsize::default(),
            is_awaited: AtomicBool::default(),
            home_mask: AtomicU64::new(thread.mask),
            registrations: Mutex::new(Registrations {
                tid_address: thread.tid_address,
                robust_list: thread.robust_list.0,
                alt_stack: thread.alt_stack,
                alt_stack_changed: false,
            }),
            ending: Mutex::default(),
            cpu_before: thread.cpu_us,
        }
    }

    /// It has made a call: what the home is to be told of the signals before it.
    pub(crate) fn signals_before_call(&self) -> u32 {
        // In this order: a signal that comes in between is counted too late rather than not seen.
        let count = u32::from(self.signals.load(Ordering::SeqCst)) << SIGNALS_SHIFT;
        let waits = self.undelivered.load(Ordering::SeqCst) > 0
            && Status::read(self.tid).is_ok_and(|status| status.is_about_to_take(!0));
        if waits { count | INTERRUPTED } else { count }
    }

    /// How much the call has carried that it makes now, if that is a call which goes on with the rest. No other one does
    /// from now on.
    pub(crate) fn take_part(&self, call: Unfinished) -> u64 {
        lock(&self.part).take().filter(|(part, _)| *part == call).map_or(0, |(_, done)| done)
    }

    /// How the call was interrupted in which it has been found, or before which it stands as it came.
    pub(crate) fn interruption(&self, found: &Registers) -> Option<Interruption> {
        let ahead = call_ahead(&restart::rewind(found, RestartOwner::Home));
        if let Some((_, done)) = lock(&self.part).filter(|(part, _)| *part == ahead) {
            return Some(Interruption::ReturnsPart(done));
        }
        let known = restart::interruption(found).filter(|_| self.has_begun(found));
        known.or_else(|| self.interrupted_before(found))
    }

    /// The registers that the kernel is to see when it delivers a signal to the thread found like this.
    pub(crate) fn as_a_signal_finds_it(&self, found: &Registers) -> Registers {
        let next = restart::rewind(found, RestartOwner::Home);
        match (restart::interruption(found), self.interruption(found)) {
            (_, Some(how @ Interruption::ReturnsPart(_))) => {
                *lock(&self.part) = None;
                restart::interrupted(&next, how)
            }
            (None, Some(how)) => restart::interrupted(&next, how),
            // It was begun elsewhere, and nobody has heard of it here.
            (Some(_), Some(how)) if !self.has_begun(found) => restart::interrupted(&next, how),
            // The handler comes before the call.
            (Some(_), None) => next,
            _ => *found,
        }
    }

    /// Whether it has made a call that may wait, and no worker has heard of it. A signal that comes now has to find the call
    /// begun: a handler that ran before it could not end it, and the program would wait, though it had made the call when
    /// the signal came.
    pub(crate) fn is_to_be_heard(&self, found: &Registers) -> bool {
        let may_wait = |call| {
            let spec = minka_syscalls::lookup(restart::number(call));
            spec.is_some_and(|spec| spec.resolve(&found.arguments()).marks.blocks)
        };
        restart::interruption(found).is_some()
            && self.interruption(found).is_none()
            && found.syscall().is_some_and(may_wait)
    }

    /// Whether the call has been begun in which it has been found. If it is interrupted before anybody has heard of it
    /// (`seccomp_unotify(2)`), the kernel says ERESTARTSYS whatever call it is, and a handler would end it.
    fn has_begun(&self, found: &Registers) -> bool {
        const ERESTARTSYS: i64 = -512;
        let call = found.syscall().map_or(u64::MAX, restart::number);
        let arguments = found.arguments();
        let is_here = matches!(minka_syscalls::decide(call, &arguments), Place::Here)
            && !CHANGES_MAPPINGS.contains(&call);
        found.rax as i64 != ERESTARTSYS
            || is_here
            || *lock(&self.interrupted) == Some(Unfinished { call, arguments })
    }

    fn interrupted_before(&self, found: &Registers) -> Option<Interruption> {
        let registers = &restart::rewind(found, RestartOwner::Home);
        let place = |registers: &Registers| {
            let Registers { rip, rsp, rax, rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
            [rip, rsp, rax, rdi, rsi, rdx, r10, r8, r9]
        };
        lock(&self.begins).filter(|(begin, _)| place(begin) == place(registers)).map(|(_, how)| how)
    }

    /// CPU time that it has used away from home, microseconds.
    pub(crate) fn used_away(&self) -> u64 {
        // A thread that cannot be asked has just ended: nobody will ask what it used.
        let used = minka_kernel::process::thread_cpu_time(self.tid).unwrap_or_default();
        self.cpu_before + used.as_micros() as u64
    }
}

/// The call that a thread is about to make with these registers.
fn call_ahead(next: &Registers) -> Unfinished {
    Unfinished { call: restart::number(next.rax), arguments: next.arguments() }
}

/// What a thread has registered with the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registrations {
    pub(crate) tid_address: u64,
    pub(crate) robust_list: u64,
    pub(crate) alt_stack: AltStack,
    /// The thread has asked for another one: only its kernel knows whether it got it.
    pub(crate) alt_stack_changed: bool,
}

impl Default for Registrations {
    /// Those of a new thread.
    fn default() -> Self {
        let alt_stack = AltStack { flags: AltStack::DISABLED, ..AltStack::default() };
        Self { tid_address: 0, robust_list: 0, alt_stack, alt_stack_changed: false }
    }
}

impl Guest {
    /// What is mapped in it and not its own: first addresses and those after the last.
    pub(crate) fn not_its_own(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let stand_in = self.stand_in.as_ref().map(|place| (place.start, place.code.1));
        stand_in.into_iter().chain([self.reserved])
    }

    /// A thread, by its id as this node counts.
    pub(crate) fn thread(&self, tid: i32) -> Option<Arc<GuestThread>> {
        lock(&self.threads).get(&tid).cloned()
    }

    /// A thread, by its id at home.
    pub(crate) fn thread_of_home(&self, home_tid: i32) -> Option<Arc<GuestThread>> {
        lock(&self.threads).values().find(|thread| thread.home_tid == home_tid).cloned()
    }

    /// How many threads it has.
    pub(crate) fn thread_count(&self) -> usize {
        lock(&self.threads).len()
    }

    /// Asks the tracer for something.
    pub(crate) fn ask(&self, request: Request) {
        // If the tracer has gone, so has the guest.
        let _ = self.requests.send(request);
        self.bell.ring();
    }

    /// The guest cannot be served any more, so it is of no use to anybody: nothing that it computes from here on can
    /// have an effect. Ending it also ends every wait for it, a page fault that nobody serves among them.
    pub(crate) fn give_up(&self, reason: String) {
        // In this order: whoever sees the end finds the reason.
        // If there are too many requests before it, the end alone has to do.
        let _ = self.requests.try_send(Request::Lost(reason));
        self.bell.ring();
        // It may have ended by itself.
        let _ = self.handle.signal(SIGKILL);
    }

    /// Returns once a thread is bound to stop before its next instruction, and to do a job then.
    pub(crate) fn interrupt(&self, tid: i32, job: Option<Job>) -> Result<()> {
        self.ask_and_wait(|done| Request::Interrupt(tid, done, job))
    }

    /// Returns once a thread is bound to stop before its next instruction, until the guest is recalled.
    pub(crate) fn hold(&self, tid: i32) -> Result<()> {
        self.ask_and_wait(|done| Request::Hold(tid, done))
    }

    /// Returns once the signals that were to come after the beginning of a thread's call are pending.
    pub(crate) fn heard(&self, tid: i32) -> Result<()> {
        self.ask_and_wait(|done| Request::Heard(tid, done))
    }

    fn ask_and_wait(&self, request: impl FnOnce(mpsc::SyncSender<()>) -> Request) -> Result<()> {
        let (done, heard) = mpsc::sync_channel(1);
        self.ask(request(done));
        heard.recv().map_err(|_| Fault::Said("the tracer has ended".to_owned()))
    }
}

/// Locks, whoever panicked before: the data are plain values.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The guest's memory as the marshaller wants it.
#[derive(Debug)]
pub(crate) struct Buffers<'a>(pub(crate) &'a Memory);

impl marshal::Memory for Buffers<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        self.0.read(address, into)
    }

    fn append(&self, address: u64, length: usize, out: &mut Vec<u8>) -> usize {
        self.0.append(address, length, out)
    }

    fn write(&mut self, address: u64, from: &[u8]) -> usize {
        self.0.write(address, from)
    }
}
