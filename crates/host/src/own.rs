//! Calls that need code of their own on the host.

use crate::calls::{Answer, Worker};
use crate::fault::Result;
use crate::guest::{Guest, GuestThread, lock};
use crate::mapping;
use crate::threads;
use minka_image::maps::{Backing, Mapping};
use minka_image::origin::Origin;
use minka_image::process::Action;
use minka_kernel::procfs::{self, Stat};
use minka_kernel::seccomp::Notification;
use minka_syscalls::Spec;
use minka_wire::message::Special;
use std::sync::Arc;
use std::sync::atomic::Ordering;

mod number {
    pub(super) const RT_SIGACTION: u64 = 13;
    pub(super) const RT_SIGPROCMASK: u64 = 14;
    pub(super) const RT_SIGRETURN: u64 = 15;
    pub(super) const MMAP: u64 = 9;
    pub(super) const MREMAP: u64 = 25;
    pub(super) const MADVISE: u64 = 28;
    pub(super) const CLONE: u64 = 56;
    pub(super) const EXECVE: u64 = 59;
    pub(super) const EXIT: u64 = 60;
    pub(super) const GETRUSAGE: u64 = 98;
    pub(super) const TIMES: u64 = 100;
    pub(super) const SIGALTSTACK: u64 = 131;
    pub(super) const SETRLIMIT: u64 = 160;
    pub(super) const SET_TID_ADDRESS: u64 = 218;
    pub(super) const CLOCK_GETTIME: u64 = 228;
    pub(super) const EXIT_GROUP: u64 = 231;
    pub(super) const SET_ROBUST_LIST: u64 = 273;
    pub(super) const PRLIMIT64: u64 = 302;
    pub(super) const EXECVEAT: u64 = 322;
    pub(super) const CLONE3: u64 = 435;
}

/// A call that both sides have to know of: home first, then natively here.
pub(crate) fn both(worker: &mut Worker<'_>, call: &Notification, spec: &'static Spec) -> Result<Answer> {
    if call.call == number::RT_SIGACTION && installs_handler_for_once(worker.guest, &call.arguments) {
        return Ok(Answer::Homeward("a signal handler that is used once".to_owned()));
    }
    match worker.forward(spec, &call.arguments, 0)? {
        Answer::Result(result) if result >= 0 => {
            if call.call == number::RT_SIGPROCMASK {
                remember_mask(worker, &call.arguments);
            }
            Ok(Answer::Native)
        }
        other => Ok(other),
    }
}

/// The kernel that calls such a handler forgets it. That has to be the home's, or nobody would know there.
fn installs_handler_for_once(guest: &Guest, [signal, action, ..]: &[u64; 6]) -> bool {
    let mut bytes = [0; Action::SIZE];
    *action != 0
        && guest.memory.read(*action, &mut bytes) == bytes.len()
        && Action::from_bytes(*signal as u8, &bytes).is_used_once()
}

/// Limits of memory that the process sets for itself hold for the guest at once.
pub(crate) fn adopt_limit(guest: &Guest, call: &Notification, answer: &Answer) {
    const RLIMIT_DATA: u32 = 2;
    const RLIMIT_STACK: u32 = 3;
    const RLIMIT_AS: u32 = 9;
    let (resource, new) = match (call.call, call.arguments) {
        (number::SETRLIMIT, [resource, new, ..]) => (resource, new),
        (number::PRLIMIT64, [pid, resource, new, ..]) if pid == 0 || pid == guest.home_pid as u64 => {
            (resource, new)
        }
        _ => return,
    };
    let resource = resource as u32;
    if !matches!(answer, Answer::Result(0)) || !matches!(resource, RLIMIT_DATA | RLIMIT_STACK | RLIMIT_AS) {
        return;
    }
    if let Some(soft) = guest.memory.read_u64(new)
        && let Err(error) = minka_kernel::process::set_soft_limit(guest.pid, resource, soft)
    {
        tracing::warn!(resource, soft, %error, "the guest does not have the limit that it set");
    }
}

/// What the home's mask is after `rt_sigprocmask(how, set, …)`.
fn remember_mask(worker: &Worker<'_>, [how, set, ..]: &[u64; 6]) {
    const SIG_BLOCK: u64 = 0;
    const SIG_UNBLOCK: u64 = 1;
    if *set == 0 {
        return;
    }
    let Some(set) = worker.guest.memory.read_u64(*set) else { return };
    let Ok(thread) = worker.thread() else { return };
    let old = thread.home_mask.load(Ordering::SeqCst);
    let new = match *how {
        SIG_BLOCK => old | set,
        SIG_UNBLOCK => old & !set,
        _ => set,
    };
    thread.home_mask.store(new, Ordering::SeqCst);
}

/// The rest.
pub(crate) fn answer(worker: &mut Worker<'_>, call: &Notification, spec: &'static Spec) -> Result<Answer> {
    let arguments = &call.arguments;
    match call.call {
        // All threads but one end in it, and that one gets the main one's id.
        number::EXECVE | number::EXECVEAT if worker.guest.thread_count() > 1 => {
            Ok(Answer::Homeward(format!("{} with several threads", spec.name)))
        }
        // Descriptors of it may be inherited, and what was written is only here.
        number::EXECVE | number::EXECVEAT if !worker.guest.shared.is_empty() => {
            Ok(Answer::Homeward(format!("{} with shared memory", spec.name)))
        }
        // Performed by the original process: it ends, or has a new image, and the tracer at home sees it.
        number::EXECVE | number::EXECVEAT | number::EXIT_GROUP => worker.forward(spec, arguments, 0),
        number::EXIT => threads::exit(worker, call, spec),
        number::CLONE | number::CLONE3 => threads::make(worker, call, spec),
        number::MMAP => mapping::map_file(worker, call),
        number::MREMAP => mapping::move_memory(worker, call),
        number::MADVISE => Ok(discard(worker, arguments[0], arguments[1])),
        number::RT_SIGRETURN => return_from_handler(worker),
        number::SIGALTSTACK => {
            // The guest's kernel keeps it, and may refuse one; on the way home it is asked what it has.
            lock(&worker.thread()?.registrations).alt_stack_changed = true;
            Ok(Answer::Native)
        }
        number::SET_TID_ADDRESS => {
            lock(&worker.thread()?.registrations).tid_address = arguments[0];
            Ok(Answer::Native)
        }
        number::SET_ROBUST_LIST => {
            // The kernel accepts no other length.
            if arguments[1] == 24 {
                lock(&worker.thread()?.registrations).robust_list = arguments[0];
            }
            Ok(Answer::Native)
        }
        number::GETRUSAGE | number::TIMES | number::CLOCK_GETTIME => cpu_time(worker, call, spec),
        _ => Ok(Answer::Homeward(spec.name.to_owned())),
    }
}

/// Memory is discarded: what came from a file of the home's has to be read from that file again, there.
fn discard(worker: &Worker<'_>, start: u64, length: u64) -> Answer {
    let end = start.saturating_add(length);
    // That it is mapped no more nobody has told, as it is nothing to be served.
    let is_native =
        |start, end| procfs::maps(worker.guest.pid).map_or(true, |maps| is_file(&maps, start, end));
    let from_file = |(start, end, origin): (u64, u64, Option<Origin>)| match origin {
        Some(Origin::HostFile(_)) => is_native(start, end),
        Some(Origin::Home(source)) => {
            !lock(&worker.guest.files_at_home).within(source, source + (end - start)).is_empty()
        }
        Some(Origin::Zero) | None => false,
    };
    let pieces = lock(&worker.guest.origins).pieces(start, end);
    if pieces.into_iter().any(from_file) {
        return Answer::Homeward("madvise of memory that is mapped from a file".to_owned());
    }
    Answer::Native
}

/// Whether any of `[start, end)` is mapped from a file.
fn is_file(maps: &[Mapping], start: u64, end: u64) -> bool {
    let is_file = |mapping: &Mapping| matches!(mapping.backing, Backing::File { .. });
    maps.iter().any(|mapping| mapping.start < end && start < mapping.end && is_file(mapping))
}

/// A handler returns and its frame's mask becomes the thread's: the deputy must have it too, or signals that were
/// blocked during the handler would never reach the guest again.
fn return_from_handler(worker: &mut Worker<'_>) -> Result<Answer> {
    let thread = worker.thread()?;
    let Some(stack) = stack_pointer(thread.tid) else {
        return Ok(Answer::Homeward("the return of a signal handler".to_owned()));
    };
    // At the call rsp points to the `struct ucontext` of the frame; its mask lies behind flags (8), link (8),
    // stack_t (24) and struct sigcontext (256): arch/x86/include/asm/sigframe.h.
    const MASK: u64 = 8 + 8 + 24 + 256;
    let Some(mask) = worker.guest.memory.read_u64(stack + MASK) else { return Ok(Answer::Native) };
    if mask != thread.home_mask.load(Ordering::SeqCst) {
        let result = worker.special(&Special::Mask { mask })?;
        if result < 0 {
            return Ok(Answer::Result(result));
        }
        thread.home_mask.store(mask, Ordering::SeqCst);
    }
    Ok(Answer::Native)
}

/// The user stack pointer of a task that is in a system call: `/proc/PID/syscall` gives `number args… sp pc`.
fn stack_pointer(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let field = text.split_ascii_whitespace().nth(7)?;
    u64::from_str_radix(field.strip_prefix("0x")?, 16).ok()
}

/// CPU time is what was used at home and here together.
fn cpu_time(worker: &mut Worker<'_>, call: &Notification, spec: &'static Spec) -> Result<Answer> {
    const RUSAGE_CHILDREN: u64 = -1i64 as u64;
    const RUSAGE_THREAD: u64 = 1;
    let answer = worker.forward(spec, &call.arguments, 0)?;
    let Answer::Result(result) = answer else { return Ok(answer) };
    if result < 0 && call.call != number::TIMES {
        return Ok(answer);
    }
    let (user, system) = used_away(worker.guest);
    let thread = worker.thread()?;
    let memory = &worker.guest.memory;
    let _writing = lock(&worker.guest.writing);
    match call.call {
        number::GETRUSAGE if call.arguments[0] == RUSAGE_THREAD => {
            add_timeval(memory, call.arguments[1], thread.used_away());
        }
        number::GETRUSAGE if call.arguments[0] != RUSAGE_CHILDREN => {
            add_timeval(memory, call.arguments[1], user);
            add_timeval(memory, call.arguments[1] + 16, system);
        }
        number::TIMES => {
            add_ticks(memory, call.arguments[0], user);
            add_ticks(memory, call.arguments[0] + 8, system);
        }
        number::CLOCK_GETTIME => match own_clock(worker.guest, &thread, call.arguments[0]) {
            Some(OwnClock::Process) => add_timespec(memory, call.arguments[1], user + system),
            Some(OwnClock::Thread(thread)) => add_timespec(memory, call.arguments[1], thread.used_away()),
            None => {}
        },
        _ => {}
    }
    Ok(answer)
}

/// A CPU clock of the guest's.
enum OwnClock {
    Process,
    Thread(Arc<GuestThread>),
}

/// Which of the guest's CPU clocks a number means, if it is one. The clock of process P is `!P << 3` with the clock's
/// kind in the lowest bits, of which the third says that P is a thread (`include/linux/posix-timers_types.h`); the
/// caller's own may also be meant by 0.
fn own_clock(guest: &Guest, caller: &Arc<GuestThread>, clock: u64) -> Option<OwnClock> {
    const PROCESS_CPUTIME: i32 = 2;
    const THREAD_CPUTIME: i32 = 3;
    const KIND: i32 = 3;
    const DESCRIPTOR: i32 = 3;
    const OF_THREAD: i32 = 4;
    let clock = clock as i32;
    match clock {
        PROCESS_CPUTIME => Some(OwnClock::Process),
        THREAD_CPUTIME => Some(OwnClock::Thread(Arc::clone(caller))),
        0.. => None,
        _ if clock & KIND == DESCRIPTOR => None,
        _ => match !(clock >> 3) {
            0 if clock & OF_THREAD != 0 => Some(OwnClock::Thread(Arc::clone(caller))),
            tid if clock & OF_THREAD != 0 => guest.thread_of_home(tid).map(OwnClock::Thread),
            pid => (pid == 0 || pid == guest.home_pid).then_some(OwnClock::Process),
        },
    }
}

const TICKS_PER_SECOND: u64 = 100;

/// CPU time that the process has used away from home: user and system, microseconds. Their sum is exact; how it
/// is divided the kernel itself knows only by ticks.
pub(crate) fn used_away(guest: &Guest) -> (u64, u64) {
    // A guest that cannot be read has just ended: what it used is not asked for any more.
    let (_, system) = Stat::read(guest.pid).map_or((0, 0), |stat| stat.cpu_ticks);
    let used = minka_kernel::process::cpu_time(guest.pid).unwrap_or_default().as_micros() as u64;
    let system = (system * (1_000_000 / TICKS_PER_SECOND)).min(used);
    (guest.cpu_before.0 + used - system, guest.cpu_before.1 + system)
}

fn add(memory: &minka_kernel::memory::Memory, address: u64, part: u64, per_second: u64) {
    let (Some(seconds), Some(rest)) = (memory.read_u64(address), memory.read_u64(address + 8)) else {
        return;
    };
    let rest = rest + part;
    memory.write(address, &(seconds + rest / per_second).to_le_bytes());
    memory.write(address + 8, &(rest % per_second).to_le_bytes());
}

fn add_timeval(memory: &minka_kernel::memory::Memory, address: u64, microseconds: u64) {
    add(memory, address, microseconds, 1_000_000);
}

fn add_timespec(memory: &minka_kernel::memory::Memory, address: u64, microseconds: u64) {
    add(memory, address, microseconds * 1000, 1_000_000_000);
}

fn add_ticks(memory: &minka_kernel::memory::Memory, address: u64, microseconds: u64) {
    if address != 0
        && let Some(ticks) = memory.read_u64(address)
    {
        memory.write(address, &(ticks + microseconds * TICKS_PER_SECOND / 1_000_000).to_le_bytes());
    }
}
