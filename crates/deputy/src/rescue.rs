//! Putting right a process whose deputy was killed.
//!
//! Where a thread of it is tells more than the record: at the site or in the ring it waits for somebody, anywhere else
//! it executes its program and is as good as never moved. The record tells what it waits to go on with, and whether
//! that is still true.

use crate::fault::{Fault, Result, chain};
use crate::kin::Kin;
use crate::parked::{self, ROBUST_HEAD, call};
use crate::record::{Content, Phase, Record};
use crate::tracee::{self, BLOCK_ALL};
use minka_image::family::Fate;
use minka_image::maps::{Backing, Mapping};
use minka_image::process::{Rseq, Thread};
use minka_image::registers::Registers;
use minka_image::restart::{self, Interruption};
use minka_kernel::memory::Memory;
use minka_kernel::procfs::{self, Status};
use minka_kernel::ptrace::Stopped;
use minka_kernel::ring;
use minka_kernel::site::{self, Site};
use minka_kernel::vdso;
use minka_wire::local::Family;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a deputy that has lost its daemon may take to bring its process home.
const ORPHANED_DEPUTY: Duration = Duration::from_secs(60);

/// Restores the process from the record, or ends it where what it computed is lost. Returns why it was ended.
pub(crate) fn rescue(pid: i32, run_dir: &Path, family: Option<Family>) -> Option<String> {
    let record = Record::new(run_dir, pid);
    if let Err(error) = await_tracer(pid, &record) {
        tracing::error!(pid, error = chain(&error), "the process is left alone");
        return None;
    }
    // Without a record the deputy was killed before it changed anything.
    let content = record.read();
    let kin = match content.as_ref().and_then(|content| content.family.clone()) {
        Some(family) => Some(family),
        // Its others may have left it long ago.
        None => family.filter(|family| run_dir.join(family.ledger()).exists()),
    };
    let kin = kin.map(|family| Kin::open(run_dir, &family, pid)).transpose();
    let outcome = kin.and_then(|kin| {
        let decided = kin.as_ref().map(|kin| match kin.has_left() {
            // It had ended before, so the others go on.
            true => kin.fate(),
            false => kin.give_up("its deputy program was killed"),
        });
        let outcome = content.map_or(Ok(()), |content| restore(pid, &content, decided));
        kin.inspect(|kin| kin.leave());
        outcome
    });
    record.clear();
    match outcome {
        Ok(()) | Err(Fault::Gone(_)) => None,
        Err(error) => match parked::end(pid, &error) {
            Fault::Lost(reason) => Some(reason),
            other => Some(other.to_string()),
        },
    }
}

/// A deputy whose daemon was killed takes its process home by itself: it is not to be disturbed.
fn await_tracer(pid: i32, record: &Record) -> Result<()> {
    let until = Instant::now() + ORPHANED_DEPUTY;
    while record.read().is_some() {
        let tracer = Status::read(pid).map_or(0, |status| status.tracer);
        if tracer == 0 {
            break;
        }
        if Instant::now() > until {
            return Err(Fault::Said(format!("process {tracer} traces it")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A thread that was found at the site or in the agent, and what it goes on with.
struct Waiting<'a> {
    task: Stopped,
    thread: &'a Thread,
    registers: Registers,
}

/// What has been `decided` for its family holds for it, whatever it has done itself.
fn restore(pid: i32, content: &Content, decided: Option<Fate>) -> Result<()> {
    let io = |what| move |error| Fault::Io(what, error);
    let mut tasks = Vec::new();
    tracee::halt_others(pid, &mut tasks)?;
    let maps = procfs::maps(pid).map_err(io("read its maps"))?;
    let vdso = vdso::code_range(&maps).ok_or_else(|| Fault::Said("the process has no vDSO".to_owned()))?;
    let (site, ring) = (Site::new(vdso.0), find_ring(&maps));
    let (mut waiting, mut running) = (Vec::new(), Vec::new());
    for task in tasks {
        let rip = task.registers().map_err(Fault::Trace)?.rip;
        let is_ours = site.holds(rip) || ring.is_some_and(|(start, end)| (start..end).contains(&rip));
        if !is_ours {
            running.push(task);
            continue;
        }
        let state = content.threads.iter().zip(&content.originals);
        let state = state.chain(content.threads.iter().map(|thread| (thread, &thread.registers)));
        let found = state.into_iter().find(|(thread, _)| thread.tid == task.tid());
        let (thread, original) =
            found.ok_or_else(|| Fault::Said(format!("nothing is known of its thread {}", task.tid())))?;
        let registers = match thread.interrupted {
            _ if content.phase == Phase::Parking => *original,
            // Nobody is there to have it go on with the rest.
            Some(how @ Interruption::ReturnsPart(_)) => restart::interrupted(&thread.registers, how),
            _ => thread.registers,
        };
        waiting.push(Waiting { task, thread, registers });
    }
    let is_lost = content.phase == Phase::Committed || decided == Some(Fate::Lost);
    if is_lost && !waiting.is_empty() {
        return Err(Fault::Said("its deputy program was killed while it was away".to_owned()));
    }
    for task in &running {
        // The mask is the first that changes and the last but one that is put back.
        let recorded = content.threads.iter().find(|thread| thread.tid == task.tid());
        if let (Some(thread), BLOCK_ALL) = (recorded, task.mask().map_err(Fault::Trace)?) {
            task.set_mask(thread.mask).map_err(Fault::Trace)?;
        }
    }
    if waiting.is_empty() {
        if let Some(task) = running.first() {
            site.clear(task).map_err(Fault::Trace)?;
        }
    } else {
        let memory = Memory::open(pid).map_err(io("open its memory"))?;
        waiting = undo(pid, waiting, site, ring, &memory, content)?;
        parked::go_on(waiting.iter().map(|one| (&one.task, one.thread, &one.registers)), site)?;
    }
    let mut all = waiting.into_iter().map(|one| one.task).chain(running);
    all.try_for_each(|task| task.detach(0)).map_err(Fault::Trace)
}

/// Takes back what the process has of ours. All of its threads that wait are at the site afterwards.
fn undo<'a>(
    pid: i32,
    waiting: Vec<Waiting<'a>>,
    site: Site,
    ring: Option<(u64, u64)>,
    memory: &Memory,
    content: &Content,
) -> Result<Vec<Waiting<'a>>> {
    for Waiting { task, .. } in &waiting {
        let registers = task.registers().map_err(Fault::Trace)?;
        site.lay(task, memory)
            // Without a stack, so that none is in use as the alternate one.
            .and_then(|()| task.set_registers(&site.rest(&Registers { rsp: 0, ..registers })))
            .and_then(|()| task.set_mask(BLOCK_ALL))
            .map_err(Fault::Trace)?;
    }
    let make = |task, number, arguments| site.call(task, number, arguments, &mut Vec::new());
    let mut done = Vec::with_capacity(waiting.len());
    for Waiting { mut task, thread, registers } in waiting {
        if let (Some((start, _)), Phase::Parked) = (ring, &content.phase) {
            let Thread { robust_list: (head, length), tid_address, alt_stack, .. } = thread;
            let scratch = start + ring::DATA_OFFSET;
            memory.poke(scratch, &alt_stack.to_bytes()).map_err(|error| Fault::Io("use the ring", error))?;
            (task, _) = make(task, call::SET_ROBUST_LIST, [*head, (*length).max(ROBUST_HEAD), 0, 0, 0, 0])?;
            (task, _) = make(task, call::SET_TID_ADDRESS, [*tid_address, 0, 0, 0, 0, 0])?;
            (task, _) = make(task, call::SIGALTSTACK, [scratch, 0, 0, 0, 0, 0])?;
            if let Some(Rseq { address, length, signature }) = thread.rseq {
                // One that is registered already is told so, and stays.
                let arguments = [address, u64::from(length), 0, u64::from(signature), 0, 0];
                (task, _) = make(task, call::RSEQ, arguments)?;
            }
        }
        done.push(Waiting { task, thread, registers });
    }
    let Some(Waiting { mut task, thread, registers }) = done.pop() else { return Ok(done) };
    if let Some((start, end)) = ring {
        (task, _) = make(task, call::MUNMAP, [start, end - start, 0, 0, 0, 0])?;
    }
    for descriptor in memfds(pid) {
        (task, _) = make(task, call::CLOSE, [descriptor, 0, 0, 0, 0, 0])?;
    }
    done.push(Waiting { task, thread, registers });
    Ok(done)
}

/// Where the ring is mapped.
fn find_ring(maps: &[Mapping]) -> Option<(u64, u64)> {
    let is_ring = |mapping: &&Mapping| {
        mapping.shared && matches!(&mapping.backing, Backing::File { path, .. } if path == site::MEMFD)
    };
    maps.iter().find(is_ring).map(|mapping| (mapping.start, mapping.end))
}

/// The ring's memfd, if it had not been closed yet.
fn memfds(pid: i32) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let is_ring = |entry: &std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        target.to_string_lossy().strip_suffix(" (deleted)") == Some(site::MEMFD)
    };
    let numbers = entries.flatten().filter(is_ring);
    numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
