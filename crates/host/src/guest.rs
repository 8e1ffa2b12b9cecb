//! What the threads of a host program share of their guest.

use crate::fault::{Fault, Result};
use minka_image::origin::Origins;
use minka_image::process::Unfinished;
use minka_image::ranges::Ranges;
use minka_kernel::memory::Memory;
use minka_kernel::process::Bell;
use minka_kernel::spawn::ProcessHandle;
use minka_kernel::uffd::Userfault;
use minka_syscalls::marshal;
use minka_wire::local::GuestMemory;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

const SIGKILL: i32 = 9;

/// What the other threads ask of the tracer.
#[derive(Debug)]
pub(crate) enum Request {
    /// Make sure that the thread stops before it executes another instruction, and does the job then; say so.
    Interrupt(mpsc::SyncSender<()>, Option<Job>),
    /// Have the guest recalled, for this reason.
    Homeward(String),
    /// Something came from the home.
    Said(minka_wire::message::FromHome),
    /// All of its memory is here.
    Complete(GuestMemory),
    /// The guest cannot be served any more.
    Lost(String),
}

/// New memory for the guest, whose pages are at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) protection: u64,
}

/// Memory that the fault thread is to serve from now on; it says when it does.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) job: Job,
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
    pub(crate) origins: Mutex<Origins>,
    /// What the home uses of the address space: first address and the one after the last.
    pub(crate) reserved: (u64, u64),
    /// What is backed by a file at home, by its address there.
    pub(crate) files_at_home: Mutex<Ranges<()>>,
    /// New memory for the fault thread, and the bell that calls it.
    pub(crate) adoptions: mpsc::Sender<Adoption>,
    pub(crate) fault_bell: Bell,
    pub(crate) present: Mutex<Present>,
    /// The call that `restart_syscall` goes on with at home, if the home's kernel holds one.
    pub(crate) unfinished: Mutex<Option<Unfinished>>,
    /// The signal mask of the deputy, as far as this side has set it.
    pub(crate) home_mask: AtomicU64,
    /// Thread state that only its own calls change: `set_tid_address`, robust list, alternate stack.
    pub(crate) registrations: Mutex<Registrations>,
    /// The guest is about to go: no more faults are fetched ahead, no call is begun.
    pub(crate) leaving: AtomicBool,
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
}

/// What a thread has registered with the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Registrations {
    pub(crate) tid_address: u64,
    pub(crate) robust_list: u64,
    pub(crate) alt_stack: minka_image::process::AltStack,
    /// The thread has asked for another one: only its kernel knows whether it got it.
    pub(crate) alt_stack_changed: bool,
}

impl Guest {
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

    /// Returns once the guest's thread is bound to stop before its next instruction, and to do a job then.
    pub(crate) fn interrupt(&self, job: Option<Job>) -> Result<()> {
        let (done, interrupted) = mpsc::sync_channel(1);
        self.ask(Request::Interrupt(done, job));
        interrupted.recv().map_err(|_| Fault::Said("the tracer has ended".to_owned()))
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

    fn write(&mut self, address: u64, from: &[u8]) -> usize {
        self.0.write(address, from)
    }
}
