//! Putting right a process whose deputy was killed.

use crate::fault::{Fault, Result, chain};
use crate::record::{Content, Phase, Record};
use crate::tracee::{self, BLOCK_ALL, Halted};
use minka_kernel::inject;
use minka_kernel::memory::Memory;
use minka_kernel::procfs;
use minka_kernel::ptrace::Stopped;
use minka_kernel::spawn::ProcessHandle;
use minka_kernel::vdso;
use std::path::Path;

/// Restores the process from the record, or ends it where what it computed is lost. Returns why it was ended.
pub(crate) fn rescue(pid: i32, run_dir: &Path) -> Option<String> {
    let record = Record::new(run_dir, pid);
    let reason = match record.read() {
        // The deputy was killed before it changed anything.
        None => None,
        Some(content) if content.phase == Phase::Committed => {
            end(pid, "the deputy program was killed while the process was away")
        }
        Some(content) => match restore(pid, content) {
            Ok(()) => None,
            Err(error) => {
                end(pid, &format!("the deputy program was killed, and a rescue failed: {}", chain(&error)))
            }
        },
    };
    record.clear();
    reason
}

fn end(pid: i32, reason: &str) -> Option<String> {
    if let Ok(process) = ProcessHandle::open(pid.cast_unsigned()) {
        // It may have ended by itself.
        let _ = process.signal(tracee::libc_signal::KILL);
    }
    Some(reason.to_owned())
}

fn restore(pid: i32, content: Content) -> Result<()> {
    let mut held = Vec::new();
    let Halted { task, .. } = tracee::halt(tracee::seize(pid)?, &mut held)?;
    task.set_mask(BLOCK_ALL).map_err(Fault::Trace)?;
    let task = match content.phase {
        Phase::Parked => undo(pid, task, &content)?,
        Phase::Parking | Phase::Committed => task,
    };
    let registers = if content.phase == Phase::Parking { content.original } else { content.thread.registers };
    task.set_registers(&registers).map_err(Fault::Trace)?;
    task.set_extended(&content.thread.extended).map_err(Fault::Trace)?;
    task.set_mask(content.thread.mask).map_err(Fault::Trace)?;
    task.detach(0).map_err(Fault::Trace)
}

/// Takes back what the agent had changed, and the ring itself.
fn undo(pid: i32, task: Stopped, content: &Content) -> Result<Stopped> {
    const SET_ROBUST_LIST: u64 = 273;
    const SET_TID_ADDRESS: u64 = 218;
    const MUNMAP: u64 = 11;
    let io = |what| move |error| Fault::Io(what, error);
    let memory = Memory::open(pid).map_err(io("open its memory"))?;
    let maps = procfs::maps(pid).map_err(io("read its maps"))?;
    let vdso = vdso::code_range(&maps).ok_or_else(|| Fault::Said("the process has no vDSO".to_owned()))?;
    let site = vdso::syscall_site(&memory, vdso).map_err(io("find a place for its calls"))?;
    let (head, length) = content.thread.robust_list;
    let (start, end) = content.ring;
    let mut task = task;
    for (number, arguments) in [
        (SET_ROBUST_LIST, [head, length, 0, 0, 0, 0]),
        (SET_TID_ADDRESS, [content.thread.tid_address, 0, 0, 0, 0, 0]),
        (MUNMAP, [start, end - start, 0, 0, 0, 0]),
    ] {
        (task, _) = inject::inject(task, site, number, arguments, &mut Vec::new())?;
    }
    Ok(task)
}
