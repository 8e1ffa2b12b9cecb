//! Sending a stopped guest home: its state, its address space, and the pages that it wrote.

use crate::ending;
use crate::fault::{Fault, Result};
use crate::guest::{Guest, lock};
use crate::own;
use crate::pages;
use crate::prepare::{self, call};
use crate::tracer::Tracer;
use minka_image::maps::{Backing, Mapping};
use minka_image::origin::{Origin, Wanted};
use minka_image::process::{AltStack, Return, Thread};
use minka_image::ranges::Ranges;
use minka_image::registers::Registers;
use minka_image::restart::{self, RestartOwner};
use minka_image::{PAGE, TASK_SIZE};
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::pagemap::{Pagemap, Want};
use minka_kernel::ptrace::{End, Stopped};
use minka_kernel::uffd::Tracking;
use minka_kernel::{procfs, rseq, vdso};
use minka_link::Sender;
use minka_syscalls::Place;
use minka_wire::frame::Header;
use minka_wire::message::{self, FromHost, Leaving, Piece, kind};
use rustix::fs::SeekFrom;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes of pages per frame.
const FRAME: u64 = 256 << 10;

/// Times that changed pages are sent early at most.
const PRECOPY_ROUNDS: usize = 6;
/// With this little left (bytes), the guest may as well be stopped.
const PRECOPY_ENOUGH: u64 = 4 << 20;

const SIGKILL: i32 = 9;

/// Sends everything home. The guest stays stopped: the home says when it is not needed any more. Its main thread is the
/// first of `tasks`.
pub(crate) fn leave(tracer: &mut Tracer, tasks: Vec<Stopped>) -> Result<()> {
    let io = |what| move |error| Fault::Io(what, error);
    faultpoint::reach(Point::HostLeaving);
    tracer.guest.leaving.store(true, Ordering::SeqCst);
    let guest = std::sync::Arc::clone(&tracer.guest);
    let maps = procfs::maps(guest.pid).map_err(io("read the guest's maps"))?;
    let code = guest.stand_in.as_ref().map(|place| place.code).or_else(|| vdso::code_range(&maps));
    let (mut threads, mut left) = (Vec::with_capacity(tasks.len()), Vec::with_capacity(tasks.len()));
    let mut locks = Vec::new();
    for task in tasks {
        let task = match code {
            Some(range) => vdso::step_out(task, range, &guest.memory).map_err(io("step out of the vDSO"))?,
            None => task,
        };
        let (task, mut thread) = leave_thread(&guest, task)?;
        thread.pending = tracer.queued.take_all(task.tid());
        if guest.family.is_some() {
            locks.extend(shared_locks(&guest, task.tid()).into_iter().map(|word| (thread.tid, word)));
        }
        threads.push(thread);
        left.push(task);
    }
    let main = left.into_iter().next().ok_or_else(|| Fault::Said("the guest has no thread".to_owned()))?;
    // The tasks are dropped in their stops: nothing but their end is ever asked of them again.
    let (main, brk) = prepare::lone(main, guest.site, call::BRK, [0; 6])?;
    let wanted = its_own(&guest, lock(&guest.origins).wanted(&maps));
    let state = Return { threads, brk: brk as u64, cpu_us: own::used_away(&guest) };
    let space = wanted.iter().copied().map(Piece::from).collect();
    let unmade = std::mem::take(&mut tracer.unmade);
    let behind = guest.behind.load(Ordering::SeqCst);
    let leaving = FromHost::Leaving(Box::new(Leaving { state, space, unmade, locks, behind }));
    let stream = tracer.stream();
    let stream = &mut lock(&stream);
    for (header, part) in message::frames(kind::FROM_HOST, &message::encode(&leaving)) {
        stream.queue(header, &[IoSlice::new(part)])?;
    }
    send_pages(&guest, stream, &maps)?;
    // The memory of a guest that is killed meanwhile reads as zeros, or as if nothing had been written. One that is
    // still in its stop had all of it.
    main.registers().map_err(|_| Fault::Gone(End::Killed(SIGKILL)))?;
    stream.queue(Header::new(kind::END, 0), &[])?;
    stream.flush()?;
    faultpoint::reach(Point::HostLeft);
    Ok(())
}

/// The robust locks in memory that others have, too, which a thread holds.
fn shared_locks(guest: &Guest, tid: i32) -> Vec<u64> {
    let held = guest.thread(tid).map(|thread| ending::locks(guest, &thread)).unwrap_or_default();
    held.into_iter().filter(|word| guest.shared.get(*word).is_some()).collect()
}

/// What a thread is, apart from memory.
fn leave_thread(guest: &Guest, task: Stopped) -> Result<(Stopped, Thread)> {
    let io = |what| move |error| Fault::Io(what, error);
    let known = guest
        .thread(task.tid())
        .ok_or_else(|| Fault::Said("a thread is there that nobody knows".to_owned()))?;
    let found = task.registers().map_err(io("read the guest's registers"))?;
    let rseq = task.rseq().map_err(io("read the guest's rseq"))?;
    let found = match &rseq {
        Some(rseq) => {
            rseq::abort(&guest.memory, rseq, &found).map_err(io("end its sequence"))?.unwrap_or(found)
        }
        None => found,
    };
    let registers = go_on(&found, lock(&known.unfinished).is_some());
    let registers = match &guest.stand_in {
        Some(place) => place.made.left(place.code.0, &registers, |address| guest.memory.read_u64(address)),
        None => registers,
    };
    let interrupted = known.interruption(&found);
    let unfinished = lock(&known.unfinished).filter(|_| registers.rax == restart::RESTART_SYSCALL);
    let extended = task.extended().map_err(io("read the guest's extended registers"))?;
    let extended = match &guest.exchange {
        Some(exchange) => exchange.leaving(&extended)?,
        None => extended,
    };
    let mask = task.mask().map_err(io("read the guest's signal mask"))?;
    let mut registered = *lock(&known.registrations);
    let mut task = task;
    if registered.alt_stack_changed {
        (task, registered.alt_stack) = alternate_stack(guest, task, guest.site, found.rsp)?;
    }
    let thread = Thread {
        registers,
        extended,
        mask,
        interrupted,
        alt_stack: registered.alt_stack,
        robust_list: (registered.robust_list, 24),
        tid_address: registered.tid_address,
        rseq,
        unfinished,
        cpu_us: known.used_away(),
        ..Thread::new(known.home_tid)
    };
    Ok((task, thread))
}

/// The registers with which the thread goes on at home.
fn go_on(found: &Registers, home_has_it: bool) -> Registers {
    let call = found.syscall().map_or(u64::MAX, restart::number);
    let arguments = found.arguments();
    if call == restart::RESTART_SYSCALL && !home_has_it && found.rax as i64 == -516 {
        // The only local call of that kind: its time is absolute, so it is simply made again.
        let next = restart::rewind(found, RestartOwner::Host);
        return Registers { rax: restart::FUTEX, ..next };
    }
    let here = matches!(minka_syscalls::decide(call, &arguments), Place::Here);
    restart::rewind(found, if here { RestartOwner::Host } else { RestartOwner::Home })
}

/// The pieces outside of what is not the guest's.
pub(crate) fn its_own(guest: &Guest, wanted: Vec<Wanted>) -> Vec<Wanted> {
    let outside = |piece: &Wanted, (start, end)| piece.end <= start || end <= piece.start;
    wanted.into_iter().filter(|piece| guest.not_its_own().all(|range| outside(piece, range))).collect()
}

/// The alternate stack that the guest's kernel has. The answer is written below the thread's stack, beyond the
/// red zone, and what was there is put back.
fn alternate_stack(guest: &Guest, task: Stopped, site: u64, rsp: u64) -> Result<(Stopped, AltStack)> {
    let scratch = rsp.wrapping_sub(1024) & !15;
    let mut saved = [0; 24];
    guest.memory.peek(scratch, &mut saved);
    let (task, result) = prepare::lone(task, site, call::SIGALTSTACK, [0, scratch, 0, 0, 0, 0])?;
    let mut bytes = [0; 24];
    guest.memory.peek(scratch, &mut bytes);
    let restored = guest.memory.poke(scratch, &saved);
    if result != 0 || restored.is_err() {
        return Err(Fault::Build { what: "sigaltstack on the way home".to_owned(), result });
    }
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let flags = word(8) as u32 & !AltStack::ON_STACK;
    Ok((task, AltStack { base: word(0), flags, size: word(16) }))
}

/// Sends what the guest has changed so far, while it runs on, until little is left or it changes as fast as it is
/// sent. Only memory that is at home at the same address: the rest has no place there yet.
pub(crate) fn precopy(guest: &Guest, stream: &mut Sender) -> Result<()> {
    // Whoever is mapping a file at home has done so by now, and nobody begins.
    drop(lock(&guest.mapping));
    let pagemap = open_pagemap(guest)?;
    let mut before = u64::MAX;
    for _ in 0..PRECOPY_ROUNDS {
        let areas: Vec<(u64, u64)> = lock(&guest.origins)
            .pieces(0, TASK_SIZE)
            .into_iter()
            .filter(|(start, _, origin)| *origin == Some(Origin::Home(*start)))
            .flat_map(|(start, end, _)| guest.shared.pieces(start, end))
            // Two who share it may send two ages of one page, the older last.
            .filter(|(_, _, shared)| shared.is_none() || guest.family.is_none())
            .map(|(start, end, _)| (start, end))
            .collect();
        let mut ranges = Vec::new();
        for (start, end) in areas {
            // A forwarded call that is writing at this moment must not write behind our back.
            let _writing = lock(&guest.writing);
            // An area that was unmapped or moved meanwhile has nothing to report.
            let _ = pagemap.scan(start, end, Want::WrittenThenProtect, |a, b| ranges.push((a, b)));
        }
        protect_again(guest, &mut ranges);
        let bytes: u64 = ranges.iter().map(|(start, end)| end - start).sum();
        send_unchanged(guest, stream, &ranges)?;
        stream.flush()?;
        if bytes <= PRECOPY_ENOUGH || bytes > before / 4 * 3 {
            break;
        }
        before = bytes;
    }
    // The home may ask again as soon as it hears that these are all.
    guest.precopying.store(false, Ordering::SeqCst);
    Ok(stream.send(Header::new(kind::PRECOPIED, 0), &[])?)
}

/// Has later writes to pages count that are about to be read, where the kernel has not seen to that. Without such pages
/// nothing goes ahead.
fn protect_again(guest: &Guest, ranges: &mut Vec<(u64, u64)>) {
    match guest.uffd.tracking() {
        Tracking::ByKernel => {}
        // What cannot be protected is another mapping by now, or not ours.
        Tracking::ByFaults => {
            let _writing = lock(&guest.writing);
            *ranges = ending::spare(guest, ranges);
            ranges.retain(|(start, end)| guest.uffd.protect(*start, end - start).is_ok());
        }
        // All marks could be cleared only at once, and with them those of writes that nobody has read.
        Tracking::BySoftDirty => ranges.clear(),
    }
}

/// Sends pages while the guest goes on. What was moved or discarded when they were read is not sent, for at home they
/// would land where other memory comes from; wherever it is now, it counts as written again.
fn send_unchanged(guest: &Guest, stream: &mut Sender, ranges: &[(u64, u64)]) -> Result<()> {
    let mut content = vec![0; FRAME as usize];
    let mut owed = Ranges::new();
    for (start, end) in ranges {
        let mut at = *start;
        while at < *end {
            let next = end.min(&(at + FRAME)).to_owned();
            let content = &mut content[..(next - at) as usize];
            guest.memory.peek(at, content);
            let is_settled = !guest.uffd.is_changing();
            let same = [(at, next, Some(Origin::Home(at)))];
            if is_settled && lock(&guest.origins).pieces(at, next) == same {
                stream.queue(Header::new(kind::PAGES, at), &[IoSlice::new(content)])?;
            } else {
                owed.set(at, next, ());
            }
            at = next;
        }
    }
    if owed.iter().next().is_none() {
        return Ok(());
    }
    let until = Instant::now() + SETTLING;
    while !count_as_written(guest, &owed)? {
        if Instant::now() > until {
            return Err(Fault::Said("the guest's memory does not settle".to_owned()));
        }
        pages::let_change();
    }
    Ok(())
}

/// How long it may take until one change of the guest's address space has been dealt with.
const SETTLING: Duration = Duration::from_secs(5);

/// Has the pages count as written that were protected at these places, and may be at others by now: what is there, and
/// whatever has been moved. False if that changes at this moment.
fn count_as_written(guest: &Guest, owed: &Ranges<()>) -> Result<bool> {
    let origins = lock(&guest.origins);
    for (start, end, origin) in origins.pieces(0, TASK_SIZE) {
        let Some(Origin::Home(source)) = origin else { continue };
        let is_moved = source != start;
        let there = owed.within(start, end).into_iter().map(|(from, to, ())| (from, to));
        for (from, to) in there.chain(is_moved.then_some((start, end))) {
            match guest.uffd.unprotect(from, to - from) {
                Ok(()) => {}
                // The layout is another already.
                Err(error) if matches!(error.raw_os_error(), Some(EAGAIN | ENOENT)) => return Ok(false),
                Err(error) => return Err(Fault::Io("track the guest's writes", error)),
            }
        }
    }
    Ok(!guest.uffd.is_changing())
}

const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;

fn open_pagemap(guest: &Guest) -> Result<Pagemap> {
    Pagemap::tracked(guest.pid, guest.uffd.tracking())
        .map_err(|error| Fault::Io("open the guest's page table", error))
}

/// The pages that the home does not have: those written since they came from it, and those of new memory.
fn send_pages(guest: &Guest, stream: &mut Sender, maps: &[Mapping]) -> Result<()> {
    let pagemap = open_pagemap(guest)?;
    let mut ranges = Vec::new();
    for mapping in maps.iter().filter(|mapping| !mapping.is_kernel()) {
        if guest.not_its_own().any(|(start, end)| mapping.start >= start && mapping.end <= end) {
            continue;
        }
        let is_file = matches!(mapping.backing, Backing::File { .. }) && !mapping.shared;
        if let Some(memory) = guest.family.as_ref().filter(|_| mapping.shared)
            && guest.all_shared.load(Ordering::SeqCst)
        {
            if mapping.writable() {
                content(memory, mapping, &mut ranges)?;
            }
            continue;
        }
        for (start, end, origin) in lock(&guest.origins).pieces(mapping.start, mapping.end) {
            let want = match origin {
                Some(Origin::HostFile(_)) if is_file => Want::PrivateCopies,
                _ if is_file => {
                    // It was moved here, and the home does not know of what.
                    ranges.push((start, end));
                    continue;
                }
                _ if mapping.shared => Want::WrittenShared,
                _ => Want::Written,
            };
            pagemap
                .scan(start, end, want, |a, b| ranges.push((a, b)))
                .map_err(|error| Fault::Io("look for written pages", error))?;
        }
    }
    faultpoint::reach(Point::HostReading);
    send_ranges(guest, stream, &ranges)
}

/// What there is of the part of a family's memory that a mapping shows.
fn content(memory: &OwnedFd, mapping: &Mapping, ranges: &mut Vec<(u64, u64)>) -> Result<()> {
    let io = |error: rustix::io::Errno| Fault::Io("look what there is of shared memory", error.into());
    let at = |offset: u64| offset - mapping.offset + mapping.start;
    let (mut offset, end) = (mapping.offset, mapping.offset + mapping.length());
    while offset < end {
        let data = match rustix::fs::seek(memory, SeekFrom::Data(offset)) {
            Ok(data) if data < end => data & !(PAGE - 1),
            Ok(_) | Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(io(error)),
        };
        let hole = rustix::fs::seek(memory, SeekFrom::Hole(data)).map_err(io)?;
        offset = hole.next_multiple_of(PAGE).min(end);
        ranges.push((at(data), at(offset)));
    }
    Ok(())
}

fn send_ranges(guest: &Guest, stream: &mut Sender, ranges: &[(u64, u64)]) -> Result<()> {
    let mut content = vec![0; FRAME as usize];
    for (start, end) in ranges {
        let mut at = *start;
        while at < *end {
            let length = (end - at).min(FRAME);
            let content = &mut content[..length as usize];
            guest.memory.peek(at, content);
            stream.queue(Header::new(kind::PAGES, at), &[IoSlice::new(content)])?;
            at += length;
        }
    }
    Ok(())
}
