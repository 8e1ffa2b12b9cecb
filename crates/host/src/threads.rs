//! Threads that a guest makes and ends.
//!
//! ```text
//!  guest ──clone──► worker ──MakeThread──► home: a thread, in the agent
//!                     │ ◄──────its id────────┘
//!                     └─► tracer: init numbers the next thread, the call passes ──► guest: a thread with that id
//! ```
//!
//! One at a time: the kernel gives the number to whichever thread is made next. A signal or a stop that comes in between
//! has the kernel begin the call afresh, without a thread; then the one at home is ended again.

use crate::calls::{Answer, Worker};
use crate::ending;
use crate::fault::{Fault, Result};
use crate::guest::{GuestThread, Made, Registrations, Request, lock};
use minka_kernel::seccomp::Notification;
use minka_syscalls::Spec;
use minka_wire::message::{NOT_EXACT, Special};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

/// How long the kernel may take to make a thread. One that it refuses to make never comes.
const LIMIT: Duration = Duration::from_secs(10);

const CLONE3: u64 = 435;

/// `CLONE_*`.
mod flag {
    /// What makes a thread: `VM`, `FS`, `FILES`, `SIGHAND`, `THREAD`, `SYSVSEM`.
    pub(super) const THREAD: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;
    pub(super) const CHILD_CLEARTID: u64 = 0x20_0000;
    /// `SETTLS`, `PARENT_SETTID`, `CHILD_CLEARTID`, `CHILD_SETTID`, `DETACHED` (without effect): words in the guest's
    /// memory and registers, which its own kernel sets.
    pub(super) const LOCAL: u64 = 0x8_0000 | 0x10_0000 | CHILD_CLEARTID | 0x100_0000 | 0x40_0000;
}

/// What a `clone` or `clone3` asks for: its flags, and where the id of the new task is cleared in the end.
fn request(worker: &Worker<'_>, call: &Notification) -> Option<(u64, u64)> {
    let [first, size, _, fourth, ..] = call.arguments;
    if call.call != CLONE3 {
        // The lowest byte is the signal at the end, which a thread does not send.
        return Some((first & !0xff, fourth));
    }
    // struct clone_args { flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    // set_tid_size, cgroup }
    const SET_TID: usize = 8;
    let mut bytes = [0; 88];
    let size = bytes.len().min(usize::try_from(size).ok()?);
    let whole = worker.guest.memory.read(first, &mut bytes[..size]) == size && size >= 64;
    let word = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
    (whole && word(SET_TID) == 0).then(|| (word(0), word(2)))
}

/// Makes a thread. Whatever else a `clone` makes is made at home.
pub(crate) fn make(worker: &mut Worker<'_>, call: &Notification, spec: &'static Spec) -> Result<Answer> {
    let homeward = || Ok(Answer::Homeward(spec.name.to_owned()));
    let Some((flags, child_tid)) = request(worker, call) else { return homeward() };
    if flags & flag::THREAD != flag::THREAD || flags & !(flag::THREAD | flag::LOCAL) != 0 {
        return homeward();
    }
    let _making = lock(&worker.guest.making);
    let home_tid = worker.special(&Special::MakeThread)?;
    if home_tid == NOT_EXACT {
        return Ok(Answer::Homeward("it makes more threads than can be away".to_owned()));
    }
    if home_tid <= 0 {
        return Ok(Answer::Result(home_tid));
    }
    let home_tid = home_tid as i32;
    let thread = GuestThread {
        home_tid,
        tid: 0,
        unfinished: Mutex::default(),
        interrupted: Mutex::default(),
        begins: Mutex::default(),
        part: Mutex::default(),
        foretold: Mutex::default(),
        signals: AtomicU16::default(),
        is_awaited: AtomicBool::default(),
        undelivered: AtomicUsize::default(),
        home_mask: AtomicU64::new(worker.thread()?.home_mask.load(Ordering::SeqCst)),
        registrations: Mutex::new(Registrations {
            tid_address: if flags & flag::CHILD_CLEARTID != 0 { child_tid } else { 0 },
            ..Registrations::default()
        }),
        ending: Mutex::default(),
        cpu_before: 0,
    };
    let (made, done) = mpsc::sync_channel(1);
    worker.guest.ask(Request::Make { call: call.id, thread: Box::new(thread), maker: call.tid, made });
    let made = match done.recv_timeout(LIMIT) {
        Ok(made) => made,
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            return Err(Fault::Said("the tracer has ended".to_owned()));
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            // The program has been told by its kernel why it did not get one.
            worker.guest.ask(Request::NotMade);
            Made::Unmade
        }
    };
    if made == Made::Unmade {
        worker.special(&Special::EndThread { tid: home_tid })?;
    }
    Ok(Answer::Passed)
}

/// Ends a thread, or the process with its last one.
pub(crate) fn exit(worker: &mut Worker<'_>, call: &Notification, spec: &'static Spec) -> Result<Answer> {
    if worker.guest.thread_count() == 1 {
        return worker.forward(spec, &call.arguments, 0);
    }
    if worker.thread()?.home_tid == worker.guest.home_pid {
        return Ok(Answer::Homeward("its main thread ends before the others".to_owned()));
    }
    match worker.forward(spec, &call.arguments, 0)? {
        // What its end does to the program's memory its own kernel does.
        Answer::Result(0) => {
            ending::make_ready(worker.guest, &*worker.thread()?);
            Ok(Answer::Native)
        }
        other => Ok(other),
    }
}
