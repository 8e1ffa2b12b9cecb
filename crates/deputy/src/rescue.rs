//! Putting right a process whose deputy was killed.
//!
//! Where its thread is tells more than the record: at the site or in the ring it waits for somebody, anywhere else
//! it executes its program and is as good as never moved. The record tells what it waits to go on with, and whether
//! that is still true.

use crate::fault::{Fault, Result};
use crate::parked::{self, ROBUST_HEAD, call};
use crate::record::{Content, Phase, Record};
use crate::tracee::{self, BLOCK_ALL, Halted};
use minka_image::maps::{Backing, Mapping};
use minka_image::process::Thread;
use minka_image::registers::Registers;
use minka_kernel::memory::Memory;
use minka_kernel::procfs;
use minka_kernel::ptrace::Stopped;
use minka_kernel::ring;
use minka_kernel::site::{self, Site};
use minka_kernel::vdso;
use std::path::Path;

/// Restores the process from the record, or ends it where what it computed is lost. Returns why it was ended.
pub(crate) fn rescue(pid: i32, run_dir: &Path) -> Option<String> {
    let record = Record::new(run_dir, pid);
    // Without a record the deputy was killed before it changed anything.
    let outcome = record.read().map_or(Ok(()), |content| restore(pid, &content));
    record.clear();
    match outcome {
        Ok(()) | Err(Fault::Gone(_)) => None,
        Err(error) => match parked::end(pid, &error) {
            Fault::Lost(reason) => Some(reason),
            other => Some(other.to_string()),
        },
    }
}

fn restore(pid: i32, content: &Content) -> Result<()> {
    let io = |what| move |error| Fault::Io(what, error);
    let Halted { task, mask } = tracee::halt(tracee::seize(pid)?, &mut Vec::new())?;
    let maps = procfs::maps(pid).map_err(io("read its maps"))?;
    let vdso = vdso::code_range(&maps).ok_or_else(|| Fault::Said("the process has no vDSO".to_owned()))?;
    let (site, ring) = (Site::new(vdso.0), find_ring(&maps));
    let registers = task.registers().map_err(Fault::Trace)?;
    let in_agent = ring.is_some_and(|(start, end)| (start..end).contains(&registers.rip));
    if !in_agent && !site.holds(registers.rip) {
        // The mask is the first that changes and the last but one that is put back.
        let mask = if mask == BLOCK_ALL { content.thread.mask } else { mask };
        return task
            .set_mask(mask)
            .and_then(|()| site.clear(&task))
            .and_then(|()| task.detach(0))
            .map_err(Fault::Trace);
    }
    if content.phase == Phase::Committed {
        return Err(Fault::Said("its deputy program was killed while it was away".to_owned()));
    }
    let memory = Memory::open(pid).map_err(io("open its memory"))?;
    site.lay(&task, &memory)
        // Without a stack, so that none is in use as the alternate one.
        .and_then(|()| task.set_registers(&site.rest(&Registers { rsp: 0, ..registers })))
        .and_then(|()| task.set_mask(BLOCK_ALL))
        .map_err(Fault::Trace)?;
    let task = undo(pid, task, site, ring, &memory, content)?;
    let registers = if content.phase == Phase::Parking { content.original } else { content.thread.registers };
    parked::go_on(task, site, &content.thread, &registers)
}

/// Takes back what the process has of ours.
fn undo(
    pid: i32,
    task: Stopped,
    site: Site,
    ring: Option<(u64, u64)>,
    memory: &Memory,
    content: &Content,
) -> Result<Stopped> {
    let mut task = task;
    let make = |task, number, arguments| site.call(task, number, arguments, &mut Vec::new());
    if let Some((start, end)) = ring {
        if content.phase == Phase::Parked {
            let Thread { robust_list: (head, length), tid_address, alt_stack, .. } = content.thread;
            let scratch = start + ring::DATA_OFFSET;
            memory.poke(scratch, &alt_stack.to_bytes()).map_err(|error| Fault::Io("use the ring", error))?;
            (task, _) = make(task, call::SET_ROBUST_LIST, [head, length.max(ROBUST_HEAD), 0, 0, 0, 0])?;
            (task, _) = make(task, call::SET_TID_ADDRESS, [tid_address, 0, 0, 0, 0, 0])?;
            (task, _) = make(task, call::SIGALTSTACK, [scratch, 0, 0, 0, 0, 0])?;
        }
        (task, _) = make(task, call::MUNMAP, [start, end - start, 0, 0, 0, 0])?;
    }
    for descriptor in memfds(pid) {
        (task, _) = make(task, call::CLOSE, [descriptor, 0, 0, 0, 0, 0])?;
    }
    Ok(task)
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
